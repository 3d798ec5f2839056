"""Reading vectors of words from text files, as word2vec and GloVe write them."""

import math
import re
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple


class Vectors(NamedTuple):
    """What a file of vectors holds.

    Attributes:
        found: vectors of the symbols that were asked for
        others: number of further lines
    """

    found: dict[str, list[float]]
    others: int


def read_vectors(path: str, dim: int, wanted: Container[str], flag: str, dim_flag: str) -> Vectors:
    """The vectors of the *wanted* symbols in the text file *path*.

    A line holds a symbol and its *dim* numbers, separated by blanks or tabs. The first line may hold the number of
    vectors and their size instead. Of several lines of one symbol the first counts. The numbers of other symbols are
    counted but not read.

    Args:
        flag: that named the file; messages begin with it
        dim_flag: that says *dim*

    Raises:
        ValueError: there is no such file, it is no such text, its vectors have another size, or it ends too early
    """
    if not Path(path).is_file():
        raise ValueError(f"{flag} {path}: there is no such file.")
    found: dict[str, list[float]] = {}
    promised, count = None, 0
    try:
        with open(path, encoding="utf-8", newline="\n") as lines:  # some vectors are of strange line ends
            for number, line in enumerate(lines, start=1):
                fields = re.split(r"[ \t]+", line.strip(" \t\r\n"))
                if number == 1 and len(fields) == 2 and all(re.fullmatch(r"[0-9]+", field) for field in fields):
                    promised = int(fields[0])
                    _check_size(int(fields[1]), dim, f"{flag} {path}", dim_flag)
                elif fields != [""]:
                    count += 1
                    if len(fields) == dim + 1 and fields[0] not in wanted:
                        continue  # of millions of lines; to read their numbers would take minutes
                    symbol, vector = _parse(fields, dim, f"{flag} {path}, line {number}", dim_flag)
                    if symbol in wanted:
                        found.setdefault(symbol, vector)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{flag} {path} is no text in UTF-8: give the text form of the vectors, not the binary one."
        ) from error
    if promised is not None and promised != count:
        raise ValueError(
            f"{flag} {path} announces {promised} vectors in its first line but holds {count}: it is damaged, or that "
            "line is to be removed."
        )
    return Vectors(found, count - len(found))


def _check_size(size: int, dim: int, place: str, dim_flag: str) -> None:
    if size != dim:
        raise ValueError(
            f"{place}: its vectors have {size} numbers, but {dim_flag} is {dim}: give {dim_flag} {size}, or other "
            "vectors."
        )


def _parse(fields: list[str], dim: int, place: str, dim_flag: str) -> tuple[str, list[float]]:
    """Symbol and vector of a line; a symbol may contain blanks."""
    if len(fields) > 1 and all(_is_number(field) for field in fields[1:]):
        _check_size(len(fields) - 1, dim, place, dim_flag)
    numbers = [float(field) for field in fields[-dim:] if _is_number(field)]
    if len(fields) <= dim or len(numbers) < dim:
        raise ValueError(f"{place}: a symbol and {dim} numbers were expected, but it is '{' '.join(fields)[:60]}'.")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{place}: the vector of '{fields[0]}' has a number that is not finite.")
    return " ".join(fields[:-dim]), numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
