"""Data and checkpoints that the tests of the fairseq shell share, made once a session (pytest-xdist: once a worker)."""

import importlib.util
import logging
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

# Of fuzzing. A test's file is overwritten by each example, and how long one takes says nothing on a busy machine.
for name, examples in (("short", 40), ("long", 5000)):
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        derandomize=name == "short",
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
settings.load_profile("short")

NEED_FAIRSEQ = [
    "plugin/test_bad_input.py",
    "plugin/test_checkpoints.py",
    "plugin/test_compat.py",
    "plugin/test_conditions.py",
    "plugin/test_actor_critic.py",
    "plugin/test_criterions.py",
    "plugin/test_disc_loss.py",
    "plugin/test_end_to_end.py",
    "plugin/test_gate.py",
    "apps/test_estimators.py",
    "plugin/test_extensions.py",
    "plugin/test_flags.py",
    "plugin/test_generation.py",
    "plugin/test_groups_of_sequences.py",
    "plugin/test_hostile_checkpoints.py",
    "plugin/test_hub.py",
    "plugin/test_interruptions.py",
    "plugin/test_kills.py",
    "apps/test_compare.py",
    "apps/test_forking.py",
    "plugin/test_kl_target.py",
    "plugin/test_locks.py",
    "plugin/test_lagging_inference.py",
    "plugin/test_latent_families.py",
    "apps/test_fit_prior.py",
    "apps/test_judge.py",
    "apps/test_measure.py",
    "apps/test_studio.py",
    "apps/test_studio_page.py",
    "plugin/test_model.py",
    "plugin/test_oracle_scorer.py",
    "plugin/test_precision.py",
    "plugin/test_losses_of_the_policy.py",
    "plugin/test_processes.py",
    "plugin/test_sampled_inputs.py",
    "plugin/test_reference_policy.py",
    "plugin/test_rewards.py",
    "plugin/test_resume.py",
    "plugin/test_task.py",
    "plugin/test_transposing.py",
]
NO_TIME = "no time left for slow tests"

# The core is tested without fairseq too. A fairseq that is installed but broken must not go unnoticed.
collect_ignore = [] if importlib.util.find_spec("fairseq") else NEED_FAIRSEQ


def pytest_addoption(parser):
    parser.addoption(
        "--no-slow-test-after",
        type=float,
        default=0,
        metavar="TIME",
        help="skip slow tests that would start after TIME, in seconds since 1970: for slow or busy machines",
    )


def pytest_report_header(config):
    return f"fairseq is not installed: ignoring {', '.join(collect_ignore)}" if collect_ignore else None


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(config, items):
    """The quick tests first, as others may find no time left. Which slow one is the last changes with the time."""
    quick = [item for item in items if not item.get_closest_marker("slow")]
    slow = [item for item in items if item.get_closest_marker("slow")]
    first = int(config.getoption("--no-slow-test-after")) % max(1, len(slow))
    kinds = (quick, slow[first:] + slow[:first])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    # pytest-xdist gives each worker a run of neighbours, and lets it take from the end of another's when it has done.
    items[:] = [item for worker in range(workers) for kind in kinds for item in share(kind, worker, workers)]


def share(items: list, worker: int, workers: int) -> list:
    """The run of neighbours among *items* that pytest-xdist gives to a worker, numbered from 0."""
    return items[len(items) * worker // workers : len(items) * (worker + 1) // workers]


def pytest_runtest_setup(item):
    latest = item.config.getoption("--no-slow-test-after")
    if item.get_closest_marker("slow") and 0 < latest < time.time():
        pytest.skip(NO_TIME)


def pytest_terminal_summary(terminalreporter):
    left_out = [report for report in terminalreporter.stats.get("skipped", []) if NO_TIME in str(report.longrepr)]
    if left_out:
        terminalreporter.section("not all was tested", red=True)
        terminalreporter.line(f"{len(left_out)} slow tests were left out, as this machine was slow or busy:")
        for file, tests in Counter(report.nodeid.split("::")[0] for report in left_out).items():
            terminalreporter.line(f"{tests:6} of {file}")


class ToyData(NamedTuple):
    """A preprocessed corpus, and its lines."""

    folder: Path
    train: list[str]
    valid: list[str]
    test: list[str]


class Trained(NamedTuple):
    """A checkpoint and what it was trained on."""

    checkpoint: Path
    data: ToyData

    @property
    def folder(self) -> Path:
        return self.data.folder


def make_toy_data(folder, **lines) -> ToyData:
    import commands

    return ToyData(commands.preprocess(folder, **lines), lines["train"], lines["valid"], lines["test"])


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> ToyData:
    """300, 40 and 30 sentences of 2 to 9 letters."""
    import commands

    lines = {
        "train": commands.toy_sentences(300, seed=1),
        "valid": commands.toy_sentences(40, seed=2),
        "test": commands.toy_sentences(30, seed=3),
    }
    return make_toy_data(tmp_path_factory.mktemp("toy") / "bin", **lines)


@pytest.fixture(scope="session")
def toy_fixed(tmp_path_factory) -> ToyData:
    """200, 20 and 20 sentences of 6 letters each."""
    import commands

    long = [line.split()[:6] for line in commands.toy_sentences(800, seed=4)]
    lines = [" ".join(letters) for letters in long if len(letters) == 6][:240]
    return make_toy_data(
        tmp_path_factory.mktemp("fixed") / "bin", train=lines[:200], valid=lines[200:220], test=lines[220:]
    )


# Little weight on the KL term, so that z says something and sentences are told apart.
WELL_TRAINED = (
    "--lr 2e-2 --decoder-hidden-dim 24 --encoder-hidden-dim 16 --latent-input --dropout 0 --kl-weight 0.01 "
    "--gen-pretrain-updates 250 --disc-pretrain-updates 2 --max-update 255 --log-interval 1000 --disable-validation"
)


@pytest.fixture(scope="session")
def trained(toy, tmp_path_factory) -> Trained:
    """Trained adversarially for a few updates after a longer time by the ELBO."""
    import commands

    folder = tmp_path_factory.mktemp("trained")
    commands.train(toy.folder, folder, WELL_TRAINED)
    return Trained(folder / "checkpoint_last.pt", toy)


@pytest.fixture(scope="session")
def trained_fixed(toy_fixed, tmp_path_factory) -> Trained:
    """The same with --fixed-length 6."""
    import commands

    folder = tmp_path_factory.mktemp("trained-fixed")
    commands.train(
        toy_fixed.folder, folder, WELL_TRAINED, "--fixed-length 6 --gen-pretrain-updates 100 --max-update 105"
    )
    return Trained(folder / "checkpoint_last.pt", toy_fixed)


@pytest.fixture
def tiny():
    """An oracle of 3 tokens."""
    from fairseq_seqvae.oracle import Oracle

    return Oracle.from_seed(5, vocab_size=3, embed_dim=2, hidden_dim=2)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session", autouse=True)
def fork_server(tmp_path_factory):
    """Has a folder, and is stopped at the end."""
    import commands

    commands.QUICK.folder = tmp_path_factory.mktemp("forking")
    yield commands.QUICK
    commands.QUICK.close()


@pytest.fixture
def quick_programs(fork_server):
    """Environment variables with which programs start without the seconds of their imports."""
    return fork_server.environment()


@pytest.fixture(scope="session")
def studio_address():
    """That of a studio that plays the model that ships."""
    import commands

    with commands.running_studio() as address:
        yield address


@pytest.fixture
def what_a_command_changes_in_its_process():
    """A card silences logs and takes SIGTERM for Ctrl-C."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)
    logging.disable(logging.NOTSET)
