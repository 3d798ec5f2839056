"""What the cells of several cards are made by: data that are written and binarised, trainings whose time is counted."""

import json
import os
import resource
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from fairseq_seqvae.cards.files import write_json
from fairseq_seqvae.runs import steps as s

CHECKPOINT = Path("checkpoints", "checkpoint_last.pt")  # of a training, in its folder


def make_data(steps: s.Steps, text: Path, command: str | None, here: Path) -> Path:
    """Write a data set and binarise it; the folder that fairseq-preprocess has written.

    Args:
        steps: in the folder of the data set
        text: has, or is given, train.txt, valid.txt and test.txt, and perhaps dict.txt
        command: of ``python -m fairseq_seqvae``, which writes them; {text} and {here} stand for the folders. None: they
            are there
        here: folder of the recipes
    """
    if command is not None:
        places = {"text": text, "here": here}
        words = [os.path.normpath(word.format(**places)) if "{" in word else word for word in shlex.split(command)]
        steps.run("write the data", [sys.executable, "-m", "fairseq_seqvae", *words])
    data = steps.folder / "data"
    files = {split: text / f"{split}.txt" for split in ("train", "valid", "test")}
    dictionary = ["--srcdict", text / "dict.txt"] if (text / "dict.txt").exists() else []
    splits = [part for split, file in files.items() for part in (f"--{split}pref", file)]
    steps.run(
        "binarise the data",
        ["fairseq-preprocess", "--only-source", *dictionary, "--destdir", data, *splits],
        inputs=list(files.values()),
    )
    return data


def fairseq_train(steps: s.Steps, name: str, data: Path, flags: Sequence[object]) -> Path:
    """Train in the folder of *steps*, unless that is done; its last checkpoint. cpu.json has the CPU seconds.

    An interrupted training continues from its last checkpoint.
    """
    command = ["fairseq-train", data, "--user-dir", s.PACKAGE, *flags, "--save-dir", steps.folder / "checkpoints"]
    run_counted(steps, name, command, training=True)
    return steps.folder / CHECKPOINT


def run_counted(steps: s.Steps, name: str, command: Sequence[object], training: bool = False) -> None:
    """Run a step unless it is done; cpu.json in the folder of *steps* has its CPU seconds."""
    with nullcontext() if steps.is_done(name) else counted(steps.folder / "cpu.json"):
        steps.run(name, command, training=training)  # of one that is done, says so, or that it was another command


@contextmanager
def counted(path: Path) -> Iterator[None]:
    """Add the CPU seconds of the processes that end meanwhile to a file, which also counts how often this was begun."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"seconds": 0.0, "runs": 0}
    found["runs"] += 1
    write_json(path, found)
    try:
        yield
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found["seconds"] += after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        write_json(path, found)
