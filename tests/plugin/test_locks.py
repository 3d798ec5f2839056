"""Two trainings in one folder."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from unittest.mock import Mock

import commands
import pytest
from commands import ELBO

from fairseq_seqvae.support import locks

HOLD = """
import sys
from fairseq_seqvae.support import locks
locks.claim(sys.argv[1])
print("claimed", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def nothing_is_held():
    yield
    locks.release_all()


@pytest.fixture
def holder(tmp_path):
    """Another process that trains in the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        env={**os.environ, "PYTHONPATH": str(commands.ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stdout.readline() == "claimed\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_one_is_told_who_the_first_is(holder, tmp_path):
    with pytest.raises(OSError) as caught:
        locks.claim(tmp_path)
    said = str(caught.value)
    assert f"another training writes into {tmp_path} (process {holder.pid} of " in said
    assert f"on {socket.gethostname()}, since 2" in said and "give another --save-dir" in said
    locks.claim(tmp_path / "none")


def test_the_lock_of_a_killed_process_is_free(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert (tmp_path / locks.NAME).exists()
    locks.claim(tmp_path)
    assert json.loads((tmp_path / locks.NAME).read_text())["process"] == str(os.getpid())
    locks.claim(tmp_path)  # one's own is no obstacle
    locks.release_all()
    assert not list(tmp_path.iterdir())


def test_an_ended_process_leaves_nothing(holder, tmp_path):
    holder.communicate("")
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_says_nothing(holder, tmp_path):
    (tmp_path / locks.NAME).write_text("")
    with pytest.raises(OSError, match="its lock file does not say"):
        locks.claim(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_named(monkeypatch, tmp_path, caplog, number):
    def lockf(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    locks.claim(tmp_path)
    locks.release_all()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"{tmp_path} cannot be locked ({os.strerror(number)}), as on some network disks" in caplog.text
    assert "no other training writes into this --save-dir" in caplog.text and not list(tmp_path.iterdir())


def test_a_training_on_a_disk_without_locks_goes_on(monkeypatch, toy, tmp_path):
    monkeypatch.setattr(fcntl, "lockf", Mock(side_effect=OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))))
    said = commands.train(toy.folder, tmp_path, "--max-update 1 --disable-validation", criterion=ELBO)
    assert said.count("cannot be locked") == 1 and (tmp_path / "checkpoint_last.pt").exists()


@pytest.mark.slow
def test_a_training_claims_its_folder(holder, toy, tmp_path):
    with pytest.raises(OSError, match="another training writes into"):
        commands.train(toy.folder, tmp_path, "--max-update 1", criterion=ELBO)
    assert not list(tmp_path.glob("*.pt"))
    commands.train(toy.folder, tmp_path, "--max-update 1 --no-save", criterion=ELBO)
    commands.train(toy.folder, tmp_path / "other", "--max-update 1", criterion=ELBO)
    assert locks.NAME not in os.listdir(tmp_path / "other")
    flags = "--task seqvae --cpu --batch-size 8 --num-workers 0 --path"
    (tmp_path / "other" / locks.NAME).symlink_to(tmp_path / locks.NAME)
    commands.call("validate", toy.folder, flags, tmp_path / "other" / "checkpoint_last.pt")  # only reads
