"""Tokens as a user wrote them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor


class Texts(NamedTuple):
    """Sequences for a rule, in the order of the rows.

    Attributes:
        texts: symbols separated by blanks, or the text that the subword encoder makes of them
        tokens: numbers of the symbols, without padding and end
        ended: whether the sequence ends with the symbol of the end
    """

    texts: list[str]
    tokens: list[list[int]]
    ended: list[bool]


class Reader:
    """Makes texts of tokens. Several rewards read the same tensor one after the other: it is read once.

    Args:
        dictionary: fairseq's
        decoders: such as the subword encoder's and the tokenizer's, called one after the other

    Attributes:
        batch: (B, T) and its padding mask, the data that the sequences read next belong to
        labels: of the sequences that are scored next, whole or as completions of their prefixes, where they have labels
    """

    def __init__(self, dictionary: Any, decoders: Sequence[Callable[[str], str]] = ()):
        self.symbols: list[str] = dictionary.symbols
        self.eos: int = dictionary.eos()
        self.decoders = tuple(decoders)
        self.batch: tuple[Tensor, Tensor] | None = None
        self.labels: list[str] | None = None
        self._references: tuple[Any, list[str]] = (None, [])
        self._latest: tuple[Tensor, Texts] | None = None

    def read(self, tokens: Tensor, padding_mask: Tensor) -> Texts:
        """The texts of *tokens* (B, T); *padding_mask* (B, T), True = padding."""
        if self._latest is None or self._latest[0] is not tokens:
            lengths = (~padding_mask).sum(dim=1).tolist()
            rows = [row[:length] for row, length in zip(tokens.tolist(), lengths, strict=True)]
            ended = [bool(row) and row[-1] == self.eos for row in rows]
            rows = [row[:-1] if end else row for row, end in zip(rows, ended, strict=True)]
            self._latest = tokens, Texts([self.text(row) for row in rows], rows, ended)
        return self._latest[1]

    def references(self) -> list[str]:
        """The texts of the batch."""
        if self.batch is not None and self._references[0] is not self.batch:
            self._references = self.batch, self.read(*self.batch).texts
        return self._references[1]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of *tokens*, which hold neither padding nor end."""
        text = " ".join([self.symbols[token] for token in tokens])
        for decode in self.decoders:
            text = decode(text)
        return text
