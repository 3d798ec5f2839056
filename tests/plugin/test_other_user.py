"""The package as another user has it, who can read everything, write nothing but one folder, and has no home."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import pytest
from commands import ELBO

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("setpriv") is None,
        reason="only root can become another user",
    ),
]
NOBODY = 65534
# The Python in use may lie in the home of root, where nobody else can read.
BECOME = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --inh-caps=+dac_read_search "
BECOME += "--ambient-caps=+dac_read_search"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A copy of the package that nobody can write to."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(commands.USER_DIR, folder / "fairseq_seqvae", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def as_nobody(installed, tmp_path):
    """Run a command as another user, whose folder is `tmp_path / "own"`, and who stands in the root folder."""
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, NOBODY, NOBODY)
    environment = {key: value for key, value in os.environ.items() if key not in ("USER", "LOGNAME", "HOME")}
    environment |= {"HOME": "/nonexistent", "TMPDIR": str(own), "PYTHONPATH": str(installed), **commands.ENVIRONMENT}

    def run(*words):
        words = commands.split_flags(BECOME, *words)
        done = subprocess.run(
            words, cwd="/", env=environment, capture_output=True, text=True, timeout=commands.PATIENCE
        )
        return done.returncode, done.stdout + done.stderr

    return run


def program(name):
    return Path(sys.executable).parent / f"fairseq-{name}"


def test_trains_generates_measures_and_exports(as_nobody, installed, toy, tmp_path):
    plugin = ("--user-dir", installed / "fairseq_seqvae")
    own, before = tmp_path / "own", sorted(installed.rglob("*"))
    training = commands.training_flags(toy.folder, own / "ck", "--max-update 2", criterion=ELBO)
    status, said = as_nobody(program("train"), training, *plugin)
    assert status == 0, said[-3000:]
    checkpoint = own / "ck" / "checkpoint_last.pt"
    assert checkpoint.stat().st_uid == NOBODY
    drawing = "--gen-subset prior --sampling --beam 1 --num-draws 3"
    status, said = as_nobody(program("generate"), commands.generation_flags(toy.folder, checkpoint), drawing, *plugin)
    assert status == 0 and len(commands.hypotheses(said)) == 3, said[-3000:]
    export = (sys.executable, "-m", "fairseq_seqvae", "export", checkpoint, "--out")
    measure = sys.executable, "-m", "fairseq_seqvae", "measure", toy.folder, "--path", checkpoint, "--cpu"
    status, said = as_nobody(*measure, "--importance-samples 2 --walks 0")
    assert status == 0 and "nats per token" in said, said[-3000:]
    status, said = as_nobody(*export, own / "small.pt")
    assert status == 0 and (own / "small.pt").exists(), said
    status, said = as_nobody(*export, tmp_path / "small.pt")
    assert status and f"{tmp_path / 'small.pt'}: Permission denied" in said and "Traceback" not in said
    assert sorted(installed.rglob("*")) == before


def test_a_default_folder_that_cannot_be_made_is_named(as_nobody, installed, toy):
    words = commands.training_flags(toy.folder, "checkpoints", "--max-update 2", criterion=ELBO)
    status, said = as_nobody(program("train"), words, "--user-dir", installed / "fairseq_seqvae")
    assert status and "no checkpoint could be written to --save-dir checkpoints (Permission denied)" in said
