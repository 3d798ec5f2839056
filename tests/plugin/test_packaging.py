"""What users meet before any training: the folder for `--user-dir`, versions, a missing or broken fairseq."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "fairseq_seqvae"

# Put on PYTHONPATH as sitecustomize.py, which Python imports at its start.
BLOCK_FAIRSEQ = """
import sys

class NoFairseq:
    def find_spec(self, name, path=None, target=None):
        if name == "fairseq" or name.startswith("fairseq."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoFairseq())
"""


def run_python(*arguments, path=None):
    """Run Python on this checkout in a process of its own; `path` comes first in its search path."""
    search_path = os.pathsep.join(str(folder) for folder in (path, ROOT) if folder is not None)
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": search_path},
        cwd=path or ROOT,
        capture_output=True,
        text=True,
        timeout=3600,
    )


def fake_fairseq(folder, source):
    (folder / "fairseq").mkdir()
    (folder / "fairseq" / "__init__.py").write_text(source)
    return folder


def assert_one_sentence(stderr):
    assert stderr.count("\n") == 1, stderr
    assert stderr.endswith(".\n")
    assert "Traceback" not in stderr


def test_prints_the_user_dir_and_nothing_else():
    pytest.importorskip("fairseq")
    result = run_python("-m", "fairseq_seqvae")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{PACKAGE}\n"


def test_fairseq_imports_the_printed_folder_as_user_dir():
    pytest.importorskip("fairseq")
    # In this order fairseq imports the package; the package then imports fairseq, which is there already.
    result = run_python(
        "-c",
        "import argparse\n"
        "from fairseq import utils\n"
        f"utils.import_user_module(argparse.Namespace(user_dir={str(PACKAGE)!r}))\n"
        "import fairseq_seqvae\n"
        "assert fairseq_seqvae.compat.fairseq_problem() is None\n"
        "assert fairseq_seqvae.tasks and fairseq_seqvae.models and fairseq_seqvae.criterions\n",
    )
    assert result.returncode == 0, result.stderr


def test_at_start_the_plugin_imports_nothing_that_fairseq_does_not():
    pytest.importorskip("fairseq")
    result = run_python(
        "-c",
        "import sys, fairseq\n"
        "before = set(sys.modules)\n"
        "import fairseq_seqvae\n"
        "fairseq_seqvae.register()\n"
        "print(*sorted(set(sys.modules) - before))",
    )
    assert result.returncode == 0, result.stderr
    added = result.stdout.split()
    assert "fairseq_seqvae.tasks.seqvae" in added
    # What reads MIDI, draws or splits into subwords waits until it is used, and so do the applications.
    others = {name.split(".")[0] for name in added} - {"fairseq_seqvae", "fairseq", "torch"} - sys.stdlib_module_names
    assert not {name for name in others if not name.startswith("_cython")}
    rooms = {name.split(".")[1] for name in added if name.startswith("fairseq_seqvae.")}
    assert not rooms & {"melody", "cards", "measure", "export"}


def test_the_folder_and_versions_are_printed_without_the_plugin_itself():
    pytest.importorskip("fairseq")
    result = run_python("-X", "importtime", "-m", "fairseq_seqvae")
    loaded = set(re.findall(r"\| +fairseq_seqvae\.(\w+)", result.stderr))
    assert result.returncode == 0 and "compat" in loaded and loaded <= {"compat", "support", "options"}


def test_missing_fairseq_still_prints_the_folder_but_says_so_and_fails(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK_FAIRSEQ)
    result = run_python("-m", "fairseq_seqvae", path=tmp_path)
    assert result.returncode == 1
    assert result.stdout == f"{PACKAGE}\n"
    assert_one_sentence(result.stderr)
    assert result.stderr.startswith("fairseq is not installed: ")
    assert "pip install" in result.stderr


def test_versions_are_printed_without_fairseq(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK_FAIRSEQ)
    result = run_python("-m", "fairseq_seqvae", "--version", path=tmp_path)
    assert result.returncode == 1
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == ["fairseq-seqvae", "fairseq", "torch", "numpy", "python"]
    assert result.stdout.splitlines()[-1] == "python {}.{}.{}".format(*sys.version_info[:3])


def test_core_is_usable_without_fairseq(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK_FAIRSEQ)
    result = run_python("-c", "import fairseq_seqvae, fairseq_seqvae.core.latents", path=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def test_old_fairseq_on_new_python_is_named_as_the_cause(tmp_path):
    fake_fairseq(
        tmp_path, "raise ValueError(\"mutable default <class 'Config'> for field common is not allowed:\\nuse x\")"
    )
    result = run_python("-m", "fairseq_seqvae", path=tmp_path)
    assert result.returncode == 1
    assert result.stdout == f"{PACKAGE}\n"
    assert_one_sentence(result.stderr)
    assert "ValueError: mutable default <class 'Config'>" in result.stderr
    assert "fairseq 0.12.2 needs Python 3.10 or older" in result.stderr


def test_module_that_fairseq_lacks_is_named(tmp_path):
    result = run_python("-m", "fairseq_seqvae", path=fake_fairseq(tmp_path, "import no_such_module"))
    assert result.returncode == 1
    assert_one_sentence(result.stderr)
    assert "install the module `no_such_module`" in result.stderr


def test_numpy_2_is_named_as_the_likely_cause(tmp_path):
    fake_fairseq(tmp_path, "raise AttributeError('module numpy has no attribute compat')")
    (tmp_path / "numpy-2.2.6.dist-info").mkdir()
    (tmp_path / "numpy-2.2.6.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.2.6\n")
    result = run_python("-m", "fairseq_seqvae", path=tmp_path)
    assert result.returncode == 1
    assert_one_sentence(result.stderr)
    assert "numpy 2.2.6 (AttributeError: module numpy has no attribute compat)" in result.stderr
    assert "numpy 2 and later are not supported" in result.stderr


def test_unforeseen_failure_names_what_works(tmp_path):
    result = run_python("-m", "fairseq_seqvae", path=fake_fairseq(tmp_path, "raise RuntimeError('out of luck')"))
    assert result.returncode == 1
    assert_one_sentence(result.stderr)
    assert "RuntimeError: out of luck" in result.stderr
    assert "known to work are" in result.stderr


def test_setup_reads_the_version_of_the_package():
    pytest.importorskip("setuptools")
    import fairseq_seqvae

    result = run_python("setup.py", "--version")
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == fairseq_seqvae.__version__


def test_constraints_are_exact_and_cover_the_requirements():
    pinned = {}
    for line in (ROOT / "scripts" / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = re.fullmatch(r"([\w.-]+)==([\w.]+)", line).groups()
            assert pinned.setdefault(name.lower(), version) == version
    for name in (
        "ve-fairseq",
        "torch",
        "numpy",
        "hydra-core",
        "sacrebleu",
        "sentencepiece",
        "mido",
        "matplotlib",
        "pytest",
    ):
        assert name in pinned


def test_the_model_cannot_be_imported_without_fairseq_and_says_why(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK_FAIRSEQ)
    result = run_python("-c", "from fairseq_seqvae.models import SeqVAEModel", path=tmp_path)
    assert result.stderr.splitlines()[-1].startswith("ImportError: fairseq is not installed: run `pip install")


def test_commands_of_the_package_do_not_wait_for_fairseq(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK_FAIRSEQ)
    result = run_python("-m", "fairseq_seqvae.melody", "--help", path=tmp_path)
    assert result.returncode == 0 and "to-midi" in result.stdout, result.stderr


@pytest.mark.slow
def test_a_wheel_has_the_page_and_the_model_of_the_studio(tmp_path):
    sources = tmp_path / "sources"
    shutil.copytree(PACKAGE, sources / "fairseq_seqvae", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "README.md", "LICENSE", "NOTICE", "MANIFEST.in", "CHANGELOG.md"):
        shutil.copy(ROOT / name, sources)
    result = run_python("setup.py", "-q", "bdist_wheel", "--dist-dir", str(tmp_path), path=sources)
    assert result.returncode == 0, result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    studio = PACKAGE / "melody" / "studio"
    for file in [*(studio / "page").iterdir(), *(studio / "model").glob("*/*")]:
        assert f"fairseq_seqvae/melody/studio/{file.relative_to(studio)}" in names
