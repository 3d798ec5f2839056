"""Training windows from a folder of MIDI files, with an account of all that was left out."""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np

from fairseq_seqvae.melody.folders import Account, Collector, Cut
from fairseq_seqvae.melody.midi import MidiError, read_midi

_SUFFIXES = (".mid", ".midi")


def find_files(paths: Iterable[str | PathLike]) -> list[Path]:
    """The files named, and the .mid and .midi files in the folders named and below. `ValueError` if there is none."""
    found: set[Path] = set()
    for path in map(Path, paths):
        if path.is_dir():
            inside = [file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file()]
            if not inside:
                raise ValueError(f"{path} has no .mid or .midi files in it")
            found.update(inside)
        elif path.exists():
            found.add(path)
        else:
            raise ValueError(f"{path} does not exist")
    if not found:
        raise ValueError("no MIDI files were named")
    return sorted(found)


def folder_windows(
    paths: Iterable[str | PathLike], cut: Cut, track: int | str | None = None
) -> tuple[dict[str, list[np.ndarray]], Account]:
    """The windows of each split, split by file, and the account."""
    collector = Collector(cut)
    for path in find_files(paths):
        try:
            melody = read_midi(path, track, cut.steps_per_quarter)
        except MidiError as error:
            collector.account.leave_out(path, error.reason, str(error))
            continue
        if collector.add(path, path.name, path, melody, melody.losses):
            collector.account.triplets += melody.triplets
    return collector.splits(), collector.account
