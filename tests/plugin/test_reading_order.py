"""How far a reader of one update has to jump: changes of file, counted by a profiler hook, loops over time folded."""

import sys
from pathlib import Path

import commands
import pytest

PACKAGE = str(Path(commands.ROOT) / "fairseq_seqvae")
MOST_CHANGES = 75


def calls_of(function) -> dict:
    """Tree of the calls of the package's code: {code: {code: ...}}. What a loop calls again is in it once."""
    tree: dict = {}
    path = [(None, tree)]

    def hook(frame, event, argument):
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return
        if event == "call":
            path.append((code, path[-1][1].setdefault(code, {})))
        elif event == "return" and path[-1][0] is code:
            path.pop()

    sys.setprofile(hook)
    try:
        function()
    finally:
        sys.setprofile(None)
    return tree


def files_read(tree: dict, inside: str | None = None) -> list[str]:
    """Files in the order in which a reader who follows every call has them open, going back to the caller each time."""
    path = []
    for code, calls in tree.items():
        file = code.co_filename[len(PACKAGE) + 1 :]
        path += [file, *files_read(calls, file), *([inside] if inside else [])]
    return [file for i, file in enumerate(path) if i == 0 or file != path[i - 1]]


def test_the_count_folds_loops_and_counts_ways_back():
    def code(file, name):
        return compile("0", f"{PACKAGE}/{file}", "exec").replace(co_name=name)

    tree = {code("a", "f"): {code("b", "g"): {code("b", "h"): {}}, code("c", "i"): {code("b", "h"): {}}}}
    assert files_read(tree) == ["a", "b", "a", "c", "b", "c", "a"]

    def leaf():
        return [max(i, 0) for i in range(3)]

    assert calls_of(leaf) == {}  # nothing of the package


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
    path = files_read(calls_of(one_update))
    assert "criterions/seqvae_pg.py" in path
    assert len(path) - 1 <= most, f"{len(path) - 1} changes of file: {' > '.join(path)}"


def test_the_criterion_of_the_generators_turn_is_one_short_file():
    lines = Path(PACKAGE, "criterions", "seqvae_pg.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 200
