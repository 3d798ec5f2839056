"""Melodies to listen to or to draw, read from what `fairseq-generate` printed or from a file of token lines."""

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairseq_seqvae.melody.tokens import SYMBOLS, has_notes, parse_line
from fairseq_seqvae.support.generate_output import read_generate_output


class Sample(NamedTuple):
    """`number` counts all lines of the file in order, from 0; `label` names the line, e.g. `D-12` or `line 13`."""

    number: int
    label: str
    tokens: np.ndarray


def read_samples(
    path: str | PathLike, kind: str = "D", limit: int | None = None, with_silent: bool = False
) -> tuple[list[Sample], list[str]]:
    """The melodies among the first `limit` lines, and a sentence for each of these lines that is none.

    A line without notes is none either, unless `with_silent`.

    `path` is the output of `fairseq-generate` (its lines of the given kind, in order of id) or a file of token lines
    such as train.txt. Raises `ValueError` if it is neither or has no melody.
    """
    samples, left_out = [], []
    for number, (label, text) in enumerate(_read_texts(path, kind)[:limit]):
        try:
            tokens = parse_line(text)
        except ValueError as error:
            left_out.append(f"{label} is left out: {error}")
            continue
        if has_notes(tokens) or (with_silent and len(tokens)):
            samples.append(Sample(number, label, tokens))
        else:
            left_out.append(f"{label} is left out: it has no notes")
    if not samples:
        raise ValueError(f"{path} has no melodies; {left_out[0]}")
    return samples, left_out


def _read_texts(path: str | PathLike, kind: str) -> list[tuple[str, str]]:
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    first = next((line for line in lines if line.strip()), "")
    if first and set(first.split()) <= set(SYMBOLS):
        return [(f"line {number}", line) for number, line in enumerate(lines, start=1) if line.strip()]
    try:
        generated = read_generate_output(path, kind)
    except ValueError as error:
        raise ValueError(f"{error}, or token lines such as train.txt") from None
    return [(f"{kind}-{line.id}" + (f" rank {line.rank}" if line.rank else ""), line.text) for line in generated]
