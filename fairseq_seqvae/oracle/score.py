"""What an oracle says of sequences in a file: the output of fairseq-generate, or lines of tokens."""

import re
from collections.abc import Sequence
from os import PathLike
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.support.generate_output import KINDS, read_generate_output


class Judge(Protocol):
    """What sequences are judged by: an oracle, with or without a latent."""

    def nll(self, tokens: Tensor) -> Tensor:
        """Negative log-likelihood of each sequence (B, T), nats per token, (B,)."""


class Score(NamedTuple):
    """Oracle NLL of a set of sequences.

    Attributes:
        nll: mean, nats per token
        standard_error: of that mean, over sequences; nan for a single one
        sequences: their number N
        length: tokens of each
        distinct_sequences: how many different ones, at most N
    """

    nll: float
    standard_error: float
    sequences: int
    length: int
    distinct_sequences: int

    def __str__(self) -> str:
        return (
            f"oracle NLL {self.nll:.4f} +- {self.standard_error:.4f} nats per token, {self.sequences} sequences of "
            f"{self.length} tokens, {self.distinct_sequences} of them distinct"
        )


def score(oracle: Judge, tokens: Tensor) -> Score:
    """Oracle NLL of *tokens* (N, T)."""
    mean, standard_error = estimate(oracle.nll(tokens))
    sequences, length = tokens.shape
    return Score(mean, standard_error, sequences, length, len(tokens.unique(dim=0)))


def read_tokens(path: str | PathLike, vocab_size: int, length: int | None = None, kind: str = "D") -> Tensor:
    """Tokens (N, T) of the sequences in a file, in order of their ids or lines; errors as of :func:`parse_tokens`.

    Args:
        path: output of fairseq-generate, recognised by a line such as ``D-12<tab>...``, or one sequence a line
        vocab_size: V; symbols are the numbers 0 .. V-1
        length: T; by default that of the first sequence
        kind: which lines of fairseq-generate's output to take, a key of ``generate_output.KINDS``
    """
    return parse_tokens(_labelled_texts(path, kind), vocab_size, path, length)


def parse_tokens(
    labelled_texts: Sequence[tuple[str, str]], vocab_size: int, source: str | PathLike, length: int | None = None
) -> Tensor:
    """Tokens (N, T) of texts such as "17 0 4999"; labels and *source* say in errors where a text is from.

    Raises:
        ValueError: there is no sequence, a symbol is no token, or the lengths differ.
    """
    numbers = {str(token): token for token in range(vocab_size)}
    sequences = []
    for label, text in labelled_texts:
        symbols = text.split()
        unknown = next((symbol for symbol in symbols if symbol not in numbers), None)
        if unknown is not None:
            advice = (
                "generate with --unkpen 1000, so that no unknown symbol is drawn."
                if unknown == "<unk>"
                else "expected token numbers separated by blanks, or the output of fairseq-generate without --quiet."
            )
            raise ValueError(
                f"{source}: {label} has {unknown!r}, which is no token of the oracle (0 .. {vocab_size - 1}): {advice}"
            )
        sequences.append([numbers[symbol] for symbol in symbols])
    if not sequences:
        raise ValueError(f"{source} has no sequences: expected a line of token numbers for each.")
    # An empty first sequence sets no length, it is an error.
    expected = length or max(1, len(sequences[0]))
    wrong = [number for number, tokens in enumerate(sequences) if len(tokens) != expected]
    if wrong:
        first = wrong[0]
        raise ValueError(
            f"{source}: {len(wrong)} of {len(sequences)} sequences do not have the length {expected} (the first is "
            f"{labelled_texts[first][0]} with {len(sequences[first])} tokens): all must have the same; a model keeps "
            f"to it if trained with --fixed-length {expected}."
        )
    return torch.tensor(sequences)


def _labelled_texts(path: str | PathLike, kind: str) -> list[tuple[str, str]]:
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.rstrip("\n") for line in file]
    if any(re.match(rf"[{''.join(KINDS)}]-\d+\t", line) for line in lines):
        generated = read_generate_output(path, kind)
        return [(f"{kind}-{line.id}" + (f" rank {line.rank}" if line.rank else ""), line.text) for line in generated]
    return [(f"line {number}", line) for number, line in enumerate(lines, start=1)]
