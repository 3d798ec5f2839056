"""Telling dictionaries apart, and finding the symbols of one in another."""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fairseq.data import Dictionary, data_utils
from torch import Tensor

# Control characters, ends of lines, and marks that turn the direction of a text: a terminal acts on them.
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
    for code in (*range(32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


class PrintableDictionary(Dictionary):
    """fairseq's dictionary, whose symbols are printed without control characters: these are escaped as in ``\\x1b``."""

    def string(
        self,
        tensor: Any,
        bpe_symbol: str | None = None,
        escape_unk: bool = False,
        extra_symbols_to_ignore: Any = None,
        unk_string: str | None = None,
        include_eos: bool = False,
        separator: str = " ",
    ) -> str:
        """The text of tokens (T,), or of several rows (B, T) on lines of their own; arguments as fairseq's."""
        if torch.is_tensor(tensor) and tensor.dim() == 2:
            options: Any = (bpe_symbol, escape_unk, extra_symbols_to_ignore, unk_string, include_eos, separator)
            return "\n".join(self.string(row, *options) for row in tensor)
        # As numbers, not as tensors one by one, which take ten times as long to compare and to look up.
        tokens = tensor.tolist() if torch.is_tensor(tensor) else [int(token) for token in tensor]
        omitted = {self.bos(), *(extra_symbols_to_ignore or ())}
        if not include_eos:
            omitted.add(self.eos())
        unknown = self.unk_string(escape_unk) if unk_string is None else unk_string
        words = [unknown if token == self.unk_index else self[token] for token in tokens if token not in omitted]
        text = data_utils.post_process(separator.join(words), bpe_symbol)
        return text if text.isprintable() else text.translate(_ESCAPES)


def dictionary_digest(dictionary: Any) -> int:
    """A number that tells dictionaries apart, from their symbols in their order."""
    return zlib.crc32("\n".join(dictionary.symbols).encode()) & 0x7FFFFFFF


def is_filler(symbol: str) -> bool:
    """Whether fairseq-preprocess made *symbol* up, to fill the dictionary up to a multiple of 8."""
    return symbol.startswith("madeupword")


def read_dictionary(path: str, flag: str) -> Dictionary:
    """The dictionary in the file *path*, a dict.txt.

    Raises:
        ValueError: there is no such file, or it is no dictionary; the message begins with *flag*, which named the file
    """
    if not Path(path).is_file():
        raise ValueError(f"{flag} {path}: there is no such file; give the dict.txt of a data folder.")
    try:
        return Dictionary.load(path)
    except (ValueError, RuntimeError) as error:  # the first also of bytes that are no text
        raise ValueError(f"{flag} {path} is no dictionary ({error}): give the dict.txt of a data folder.") from error


class SameSymbols(NamedTuple):
    """The symbols that two dictionaries have in common.

    Attributes:
        own: (N,), their numbers in the one
        other: (N,), their numbers in the other
    """

    own: Tensor
    other: Tensor

    @classmethod
    def by_name(cls, own: list[str], other: list[str]) -> "SameSymbols":
        """Match the symbols of two dictionaries, each in the order of its numbers."""
        places = {symbol: number for number, symbol in enumerate(other)}
        pairs = [(number, places[symbol]) for number, symbol in enumerate(own) if symbol in places]
        numbers = torch.tensor(pairs, dtype=torch.long).view(-1, 2)
        return cls(numbers[:, 0], numbers[:, 1])

    def rows(self, own: Tensor, other: Tensor) -> Tensor:
        """A copy of *own* (V, ...) with the rows of *other* (V', ...) for the symbols that both have."""
        rows = own.detach().clone()
        rows[self.own] = other[self.other].to(rows.dtype)
        return rows
