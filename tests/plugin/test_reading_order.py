"""How far a reader of one update has to jump: changes of file, counted by a profiler hook, loops over time folded."""

import sys
from pathlib import Path

import commands
import pytest

PACKAGE = str(Path(commands.ROOT) / "fairseq_seqvae")
MOST_CHANGES = 75


def files_entered(function) -> list[str]:
    """Files of the package in the order in which their code runs: at each call, and at each return to the caller."""
    visited = []

    def hook(frame, event, argument):
        if event == "call":
            place = frame
        elif event == "return":
            place = frame.f_back
        else:
            return
        while place is not None and not place.f_code.co_filename.startswith(PACKAGE):
            place = place.f_back
        if place is not None:
            visited.append(place.f_code.co_filename[len(PACKAGE) + 1 :])

    sys.setprofile(hook)
    try:
        function()
    finally:
        sys.setprofile(None)
    return visited


def without_repeats(visited: list[str]) -> list[str]:
    """The list with neighbours that are equal, and then loops, counted once: A B A B A C becomes A B A C."""
    path = [file for i, file in enumerate(visited) if i == 0 or file != visited[i - 1]]
    for period in range(2, 25):
        folded, i = [], 0
        while i < len(path):
            block = path[i : i + period]
            folded += block
            i += period
            while len(block) == period and path[i : i + period] == block:
                i += period
        path = [file for i, file in enumerate(folded) if i == 0 or file != folded[i - 1]]
    return path


def test_loops_are_folded():
    assert without_repeats(list("AABABABAC")) == list("ABAC")
    assert without_repeats(list("AXYXYXYXZA")) == list("AXYXZA")
    assert without_repeats(list("ABCABCD")) == list("ABCD")


@pytest.mark.parametrize("update, most", [(5, MOST_CHANGES), (7, MOST_CHANGES)], ids=["generator", "discriminator"])
def test_one_update_changes_file_seldom(toy, update, most):
    """From the task's training step to the optimizer's, as fairseq's trainer calls them."""
    training = commands.make_training(toy.folder)
    batches = training.batches()
    task, trainer = training.task, training.trainer

    def one_update():
        task.train_step(batches[0], training.model, training.criterion, trainer.optimizer, update)
        task.optimizer_step(trainer.optimizer, training.model, update)

    one_update()  # what is made once is made now
    path = without_repeats(files_entered(one_update))
    assert "criterions/seqvae_pg.py" in path
    assert len(path) - 1 <= most, f"{len(path) - 1} changes of file: {' > '.join(path)}"


def test_the_criterion_of_the_generators_turn_is_one_short_file():
    lines = Path(PACKAGE, "criterions", "seqvae_pg.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
