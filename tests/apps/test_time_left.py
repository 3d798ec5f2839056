"""On a machine that is slow or busy, slow tests alone are left out, the quick ones come first, and it is said."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import conftest
import pytest


@pytest.mark.slow
def test_slow_tests_that_find_no_time_are_listed_and_quick_ones_run():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", __file__, "--no-slow-test-after", "1"]
    result = subprocess.run(command, cwd=Path(conftest.__file__).parents[1], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "5 passed, 1 skipped" in result.stdout
    assert "1 slow tests were left out" in result.stdout and "1 of tests/apps/test_time_left.py" in result.stdout


def ordered(names: str, latest: int, workers: int, monkeypatch) -> str:
    """Names of tests, capitals being slow ones, in the order in which they are handed out."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", str(workers))
    items = [SimpleNamespace(name=name, get_closest_marker=lambda _, name=name: name.isupper()) for name in names]
    conftest.pytest_collection_modifyitems(SimpleNamespace(getoption=lambda _: latest), items)
    return "".join(item.name for item in items)


@pytest.mark.parametrize(
    "latest, workers, expected", [(0, 1, "abcdXYZ"), (4, 1, "abcdYZX"), (0, 2, "abXcdYZ"), (4, 2, "abYcdZX")]
)
def test_quick_tests_come_first_in_the_share_of_each_worker(latest, workers, expected, monkeypatch):
    assert ordered("XaYbcZd", latest, workers, monkeypatch) == expected


def test_every_item_has_one_worker():
    for count in range(20):
        for workers in range(1, 5):
            shares = [conftest.share(list(range(count)), worker, workers) for worker in range(workers)]
            assert sum(shares, []) == list(range(count))
