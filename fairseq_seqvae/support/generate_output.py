"""Reading what `fairseq-generate` and `fairseq-interactive` print. Standard library only."""

import re
from os import PathLike
from typing import NamedTuple

KINDS = {
    "D": "hypotheses, detokenised",
    "H": "hypotheses, as tokens",
    "T": "targets",
    "S": "sources",
}
_SCORED = ("D", "H")


class GeneratedLine(NamedTuple):
    """One sequence of the output. `rank` counts the lines of one `id` from 0, best first (`--nbest`)."""

    id: int
    rank: int
    text: str


def read_generate_output(path: str | PathLike, kind: str = "D") -> list[GeneratedLine]:
    """The lines of one kind (a key of `KINDS`) in order of id, then rank; the file has them in batch order.

    Everything else in the file (log lines, scores, other kinds) is passed over. The text is returned as printed,
    which may be the empty string. Raises `ValueError` if the file has no line of this kind, `OSError` if it cannot
    be read.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)} but is {kind!r}")
    score = r"[^\t]*\t" if kind in _SCORED else ""
    pattern = re.compile(rf"{kind}-([0-9]{{1,18}})\t{score}(.*)")
    lines: list[GeneratedLine] = []
    seen: dict[int, int] = {}
    # No str.splitlines: it would also break a text at U+2028 and the like.
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = pattern.fullmatch(line.rstrip("\n"))
            if match:
                number = int(match[1])
                rank = seen[number] = seen.get(number, -1) + 1
                lines.append(GeneratedLine(number, rank, match[2]))
    if not lines:
        raise ValueError(
            f"{path} has no {kind}- lines ({KINDS[kind]}): expected the output of fairseq-generate without --quiet"
        )
    return sorted(lines)
