"""Files of JSON that are written as a whole or not at all, and made once; tables as CSV."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairseq_seqvae.support.files import whole_file


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def is_made_with(path: Path, made_with: dict) -> bool:
    """Whether a file that :func:`once` wrote was made with these settings."""
    return json.loads(path.read_text(encoding="utf-8"))["made_with"] == json.loads(json.dumps(made_with))


def once(path: Path, made_with: dict, make: Callable[[], dict]) -> dict:
    """The content of a JSON file, made if it is missing or was made with other settings."""
    if path.exists() and is_made_with(path, made_with):
        return json.loads(path.read_text(encoding="utf-8"))
    content = {**make(), "made_with": made_with}
    write_json(path, content)
    return content


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], first: Sequence[str] = ()) -> None:
    """A CSV file with a line for each of *rows* and a column for each key, those of *first* before the others."""
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(names))
        writer.writeheader()
        writer.writerows(rows)
