"""Data drawn from an oracle, as text that fairseq-preprocess reads: symbol "17" is token 17."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Protocol

from torch import Tensor

from fairseq_seqvae.support.files import whole_file

# Each split is an independent sample of its own; 0 is that of `Oracle.sample(n, length, seed)` itself.
DRAWS = {"train": 1, "valid": 2, "test": 3}


class Sampler(Protocol):
    """What data are drawn from: an oracle, with or without a latent."""

    def sample(self, n: int, length: int, seed: int, draw: int = 0) -> Tensor:
        """Sequences (n, length)."""


def sample_splits(oracle: Sampler, sizes: Mapping[str, int], length: int, seed: int) -> dict[str, Tensor]:
    """Sequences (size, length) of each split in *sizes*; the size of one split does not change another."""
    return {split: oracle.sample(size, length, seed, DRAWS[split]) for split, size in sizes.items()}


def data_paths(folder: str | PathLike) -> list[Path]:
    """The files that `write_data` writes: one for each split, then the dictionary."""
    return [*(Path(folder, f"{split}.txt") for split in DRAWS), Path(folder, "dict.txt")]


def write_data(splits: Mapping[str, Tensor], vocab_size: int, folder: str | PathLike) -> None:
    """Write one sequence (a row of (N, T)) a line, and dict.txt, into the folder, which is made if needed."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for split, tokens in splits.items():
        _write_lines(Path(folder, f"{split}.txt"), (" ".join(map(str, row)) for row in tokens.tolist()))
    # fairseq keeps the order of a given dictionary: so the index of a token is its number plus 4, the number of
    # fairseq's special symbols, whether the data have it or not. The counts stand for nothing.
    _write_lines(Path(folder, "dict.txt"), (f"{token} 1" for token in range(vocab_size)))


def _write_lines(path: Path, lines) -> None:
    with whole_file(path) as partial, open(partial, "w", encoding="ascii", newline="\n") as file:
        file.writelines(line + "\n" for line in lines)
