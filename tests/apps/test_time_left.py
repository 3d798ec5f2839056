"""On a machine that is slow or busy, tests are left out in the right order, and not in silence."""

import subprocess
import sys
from pathlib import Path

import conftest
import pytest

TESTS = Path(conftest.__file__).parent


def run_pytest(*arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *map(str, arguments)]
    return subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True)


@pytest.mark.slow
def test_tests_that_find_no_time_are_listed_and_most_of_them_are_a_failure():
    result = run_pytest(TESTS / "plugin" / "test_kills.py", "--no-test-after", 1)
    assert result.returncode == 1, result.stdout
    assert "2 tests were left out" in result.stdout and "2 of tests/plugin/test_kills.py" in result.stdout


def test_quick_tests_come_first_in_the_share_of_each_worker():
    quick, slow = list(range(10)), list("abcde")
    order = [item for worker in range(2) for kind in (quick, slow) for item in conftest.share(kind, worker, 2)]
    assert order == [0, 1, 2, 3, 4, "a", "b", 5, 6, 7, 8, 9, "c", "d", "e"]


def test_every_item_has_one_worker():
    for count in range(20):
        for workers in range(1, 5):
            shares = [conftest.share(list(range(count)), worker, workers) for worker in range(workers)]
            assert sum(shares, []) == list(range(count))
