"""What the tests of the fairseq shell share: a toy language, and fairseq's commands here or in a process of their own.

The commands are the real ones. In this process they save the seconds that a new one needs for its imports; what fairseq
keeps between calls (metrics, the best validation loss so far, the count of early stopping) is reset each time.

Wherever flags are taken, a string is split as a shell does it ("--lr 0.1 --cpu"), and numbers and paths are taken as
they are.
"""

import contextlib
import importlib
import io
import json
import logging
import math
import os
import random
import re
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch

import fairseq_seqvae

ROOT = Path(__file__).resolve().parents[1]
USER_DIR = str(ROOT / "fairseq_seqvae")
SYMBOLS = "abcdefghij"

# A model that trains in no time. Dropout is on, so that resuming has random numbers to get right.
TINY_MODEL = (
    "--arch seqvae --embed-dim 8 --encoder-hidden-dim 10 --decoder-hidden-dim 12 --latent-dim 6 --disc-embed-dim 6 "
    "--disc-widths 1,2,3 --disc-features 5"
)
TINY_TRAINING = (
    "--optimizer adam --lr 5e-3 --batch-size 32 --clip-norm 5 --log-format json --log-interval 1 --cpu --seed 3 "
    "--num-workers 0"
)
# All four turns within the first 8 updates: G G G, D D, then G G D again and again.
ADVERSARIAL = (
    "--criterion seqvae_pg --value rollouts --num-rollouts 2 --reward-stride 2 --gen-pretrain-updates 3 "
    "--disc-pretrain-updates 2 --adv-g-steps 2 --adv-d-steps 1"
)
ELBO = "--criterion seqvae_elbo"
# Seconds after which a command hangs, on any machine.
PATIENCE = 3600
# Of commands in processes of their own.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def distributed(processes: int) -> str:
    """The flags that fairseq needs in processes started by torchrun, on CPUs."""
    return f"--distributed-backend gloo --distributed-world-size {processes}" if processes > 1 else ""


def split_flags(*flags) -> list[str]:
    words: list[str] = []
    for flag in flags:
        if isinstance(flag, list):  # split before
            words += flag
        else:
            words += shlex.split(flag) if isinstance(flag, str) else [str(flag)]
    return words


def value_of(flags: list[str], flag: str) -> str:
    """What stands after *flag*."""
    return flags[flags.index(flag) + 1]


# --- the toy language -------------------------------------------------------------------------------------------------


def toy_sentence(rng: random.Random) -> str:
    """Letters in a circle: from any of them on, one or two ahead, 2 to 9 of them."""
    place = rng.randrange(len(SYMBOLS))
    letters = []
    for _ in range(rng.randint(2, 9)):
        letters.append(SYMBOLS[place])
        place = (place + rng.choice((1, 1, 2))) % len(SYMBOLS)
    return " ".join(letters)


def toy_sentences(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [toy_sentence(rng) for _ in range(count)]


def write_lines(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def preprocess(destination: Path, dictionary: Path | None = None, **splits) -> Path:
    """Run fairseq-preprocess on lists of lines, in this process; `dictionary` is a dict.txt to use."""
    flags = ["--only-source", "--destdir", destination, "--workers", "1"]
    for split, lines in splits.items():
        flags += [f"--{split}pref", write_lines(destination.parent / f"{destination.name}-text" / split, lines)]
    if dictionary is not None:
        flags += ["--srcdict", dictionary]
    call("preprocess", *flags)
    return destination


# --- commands ---------------------------------------------------------------------------------------------------------


def reset_fairseq() -> None:
    """Forget what fairseq's commands remember in their process."""
    from fairseq import checkpoint_utils
    from fairseq.logging import metrics
    from fairseq_cli import train

    metrics.reset()
    for function, names in (
        (checkpoint_utils.save_checkpoint, ("best",)),
        (train.should_stop_early, ("best", "num_runs")),
    ):
        for name in names:
            if hasattr(function, name):
                delattr(function, name)
    torch.manual_seed(0)


@contextlib.contextmanager
def captured():
    """All that is printed or logged, at level INFO and above, as a StringIO; shown if an exception comes out."""
    buffer = io.StringIO()
    handler = logging.StreamHandler(buffer)
    handler.setFormatter(logging.Formatter("%(levelname)s | %(name)s | %(message)s"))
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    # Instead of pytest's: to write fairseq's long messages several times takes a third of the time of a command.
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(buffer), contextlib.redirect_stderr(buffer), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fairseq's, hydra's and torch's own
            yield buffer
    except BaseException:
        print(buffer.getvalue()[-5000:])
        raise
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def call(command: str, *arguments) -> str:
    """Run fairseq-<command> in this process; its output. The plugin is given where the command knows it."""
    arguments = split_flags(*arguments)
    if command != "preprocess":
        arguments += ["--user-dir", USER_DIR]
        fairseq_seqvae.register()  # fairseq skips a --user-dir whose package this process has imported
    module = importlib.import_module(f"fairseq_cli.{command.replace('-', '_')}")
    reset_fairseq()
    with captured() as output, mock.patch.object(sys, "argv", [f"fairseq-{command}", *arguments]):
        try:
            module.cli_main()
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(output.getvalue()[-3000:]) from stop
        finally:
            close_log_files(getattr(module, "logger", None))
    return output.getvalue()


def close_log_files(logger: logging.Logger | None) -> None:
    """fairseq-preprocess leaves a handler behind, which would write all later logs into the folder of its data."""
    for handler in list(logger.handlers) if logger else ():
        if isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
            handler.close()


def train(data, save_dir, *flags, criterion=ADVERSARIAL) -> str:
    """Train the tiny model in this process; later flags win. Adversarial, unless `criterion` is given."""
    return call("train", training_flags(data, save_dir, *flags, criterion=criterion))


def training_flags(data, save_dir, *flags, criterion=ADVERSARIAL) -> list[str]:
    flags = (TINY_MODEL, TINY_TRAINING, criterion, "--no-epoch-checkpoints", *flags)
    return split_flags(data, "--task seqvae --save-dir", save_dir, *flags)


def hydra_flags(data, save_dir: Path, *overrides: str) -> list[str]:
    """Of fairseq-hydra-train, for the training that `training_flags` describes, of 14 updates."""
    config = f"""
    common: {{user_dir: {USER_DIR}, seed: 3, cpu: true, log_format: json, log_interval: 1}}
    task:
      _name: seqvae
      data: {data}
      gen_pretrain_updates: 3
      disc_pretrain_updates: 2
      adv_g_steps: 2
      adv_d_steps: 1
    model:
      _name: seqvae
      embed_dim: 8
      encoder_hidden_dim: 10
      decoder_hidden_dim: 12
      latent_dim: 6
      disc_embed_dim: 6
      disc_widths: "1,2,3"
      disc_features: "5"
    criterion: {{_name: seqvae_pg, value: rollouts, num_rollouts: 2, reward_stride: 2}}
    optimizer: {{_name: adam}}
    lr_scheduler: {{_name: fixed}}
    optimization: {{lr: [0.005], clip_norm: 5, max_update: 14}}
    dataset: {{batch_size: 32}}
    checkpoint: {{save_dir: {save_dir}, no_epoch_checkpoints: true}}
    hydra: {{run: {{dir: {save_dir}}}, output_subdir: null}}
    """
    write_lines(save_dir / "config" / "toy.yaml", textwrap.dedent(config).strip().splitlines())
    return ["--config-dir", str(save_dir / "config"), "--config-name", "toy", *overrides]


def generate(data, checkpoint, *flags) -> str:
    return call("generate", generation_flags(data, checkpoint), *flags)


def interactive(data, checkpoint, lines: list[str], folder: Path, *flags) -> str:
    prompts = write_lines(folder / "prompts", lines)
    return call("interactive", generation_flags(data, checkpoint), "--input", prompts, *flags)


def generation_flags(data, checkpoint) -> list[str]:
    return split_flags(data, "--task seqvae --cpu --seed 5 --num-workers 0 --path", checkpoint)


def program(command: str, processes: int = 1) -> list:
    """The beginning of a command line that runs fairseq-<command>, by torchrun if in several processes."""
    folder = Path(sys.executable).parent
    launcher = [folder / "torchrun", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return [*launcher, folder / f"fairseq-{command}"]


def run(command: str, *arguments, check=True, processes=1, as_user=False, **environment) -> subprocess.CompletedProcess:
    """Run the program fairseq-<command> in processes of its own; stdout and stderr together, in `stdout`.

    They are forks, for whose imports nobody waits, unless they are to be started as a user starts them.
    """
    arguments = split_flags(*arguments)
    if command not in ("preprocess", "hydra-train"):
        arguments += ["--user-dir", USER_DIR]
    if not as_user:
        result = run_forks(command, arguments, processes, environment)
    else:
        result = subprocess.run(
            [*program(command, processes), *arguments],
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=PATIENCE,
        )
    if check:
        assert result.returncode == 0, result.stdout[-5000:]
    return result


def run_forks(command: str, arguments: list, processes: int, environment: dict) -> subprocess.CompletedProcess:
    """Run fairseq-<command> in one or several processes, with the variables that torchrun sets."""
    environment = QUICK.environment() | environment
    if processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        started = [
            subprocess.Popen(
                [f"fairseq-{command}", *arguments],
                env=environment | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for rank in range(processes)
        ]
        deadline = time.monotonic() + PATIENCE
        while None in (codes := [process.poll() for process in started]) and not any(codes):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for process in started:  # those that wait for one that failed
            process.terminate()
            process.wait()
        log.seek(0)
        return subprocess.CompletedProcess(arguments, next(filter(None, codes), 0), log.read())


class QuickPrograms:
    """A fork server that is started when it is needed for the first time."""

    def __init__(self):
        self.folder: Path | None = None  # for its files
        self._stack = contextlib.ExitStack()
        self._programs: Path | None = None

    def environment(self) -> dict[str, str]:
        """Those of this process, with programs that start without the seconds of their imports."""
        if self._programs is None:
            self._programs = self._stack.enter_context(fork_server(self.folder))
        return {**os.environ, **ENVIRONMENT, "PATH": f"{self._programs}{os.pathsep}{os.environ['PATH']}"}

    def close(self) -> None:
        self._programs = None
        self._stack.close()


QUICK = QuickPrograms()  # its folder is set by conftest.py


@contextlib.contextmanager
def fork_server(folder: Path):
    """A folder of `python` and fairseq's programs that run in forks of one process, see tests/forking.

    Where processes cannot be forked so, it is the folder of the programs themselves.
    """
    real = Path(sys.executable).parent
    if not sys.platform.startswith("linux"):
        yield real
        return
    address, client = str(folder / "socket"), (ROOT / "tests" / "forking" / "client.py").read_text()
    client = client.replace("@socket of the server@", address).replace("@folder of the programs@", str(real))
    for name in ("python", *(program.name for program in real.glob("fairseq-*"))):
        stand_in = folder / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(f"#!{sys.executable} -IS\n{client}")
        stand_in.chmod(0o755)
    command = [sys.executable, ROOT / "tests" / "forking" / "server.py", address]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT}
    )
    try:
        assert server.stdout.readline() == "ready\n"
        yield folder / "bin"
    finally:
        # The end of its input would not do: forks of this process, such as a data loader's, hold the other end, too.
        server.terminate()
        server.wait()
        server.stdin.close()


@contextlib.contextmanager
def running_studio(*flags):
    """The address of a melody studio in a process of its own."""
    command = [sys.executable, "-m", "fairseq_seqvae.melody", "studio", "--port", "0", "--no-browser", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def room_for(size: int):
    """As if the disk had room for so many bytes: no file that is written meanwhile can become larger."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- reading the output -----------------------------------------------------------------------------------------------


class Hypothesis(NamedTuple):
    score: float  # bits
    text: str
    token_scores: list[float]  # bits
    detokenised: str


def hypotheses(output: str) -> dict[int, list[Hypothesis]]:
    """What fairseq-generate or fairseq-interactive printed, by number of the sentence, best first."""
    found: dict[int, list[Hypothesis]] = {}
    pattern = r"^H-(\d+)\t(\S+)\t(.*)\nD-\1\t\S+\t(.*)\nP-\1\t(.*)$"
    for number, score, text, detokenised, token_scores in re.findall(pattern, output, re.MULTILINE):
        scores = [float(s) for s in token_scores.split()]
        found.setdefault(int(number), []).append(Hypothesis(float(score), text, scores, detokenised))
    return found


def texts(output: str) -> dict[int, list[str]]:
    return {number: [h.text for h in group] for number, group in hypotheses(output).items()}


def lines_of_kind(output: str, kind: str) -> dict[int, str]:
    """S- or T- lines."""
    return {int(n): text for n, text in re.findall(rf"^{kind}-(\d+)\t(.*)$", output, re.MULTILINE)}


def json_lines(output: str, tag: str) -> list[dict]:
    """Lines that training logs with --log-format json, of `train_inner`, `train` or a validation split."""
    return [json.loads(line) for line in re.findall(rf"\| {tag} \| (\{{.*\}})$", output, re.MULTILINE)]


# --- below the command line -------------------------------------------------------------------------------------------


def make_config(data, *flags, criterion=ADVERSARIAL):
    """fairseq's configuration of a training, as fairseq-train would make it of these flags."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    fairseq_seqvae.register()
    arguments = split_flags(training_flags(data, "never-written", *flags, criterion=criterion), "--user-dir", USER_DIR)
    with captured():
        namespace = options.parse_args_and_arch(options.get_training_parser(), arguments)
        return convert_namespace_to_omegaconf(namespace)


class Training(NamedTuple):
    cfg: object
    task: object
    model: object
    criterion: object
    trainer: object

    def batches(self, split="train") -> list[dict]:
        """All batches of a split, always the same ones in the same order."""
        iterator = self.task.get_batch_iterator(
            self.task.dataset(split), max_sentences=self.cfg.dataset.batch_size, max_positions=self.task.max_positions()
        )
        return list(iterator.next_epoch_itr(shuffle=False))

    def update(self, batch) -> dict | None:
        """One update on one batch; what it logs."""
        return self.trainer.train_step([batch])


def make_training(data, *flags, criterion=ADVERSARIAL) -> Training:
    """Everything that fairseq-train builds of these flags, with the data loaded, before its first update."""
    from fairseq import tasks, utils
    from fairseq.trainer import Trainer

    reset_fairseq()
    cfg = make_config(data, *flags, criterion=criterion)
    utils.set_torch_seed(cfg.common.seed)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    criterion = task.build_criterion(cfg.criterion)
    for split in ("valid", "train"):
        task.load_dataset(split)
    return Training(cfg, task, model, criterion, Trainer(cfg, task, model, criterion))


def load_checkpoint(path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=False)


def differences(a, b, path=""):
    """Where two nested states differ; tensors must be equal bit for bit."""
    if torch.is_tensor(a) or torch.is_tensor(b):
        return [] if torch.equal(a, b) and a.dtype == b.dtype else [path]
    if isinstance(a, dict):
        found = [f"{path}.{key}" for key in a.keys() ^ b.keys()]
        return found + [d for key in a.keys() & b.keys() for d in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [path]
        return [d for n, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{path}[{n}]")]
    return [] if a == b or a != a else [path]


def assert_same_training(first, second, same_batches=True, adversarial=True):
    """Two checkpoints hold the same parameters and the same state of optimizer, scheduler and data.

    Several processes count batches of their own (not `same_batches`).
    """
    first, second = load_checkpoint(first), load_checkpoint(second)
    for state in (first, second):
        least = (40, 20) if adversarial else (15, 10)
        assert len(state["model"]) > least[0] and len(state["last_optimizer_state"]["state"]) > least[1]
    assert not differences(first["model"], second["model"])
    assert not differences(*(state["extra_state"].get("ema", {}) for state in (first, second)))
    assert not differences(first["last_optimizer_state"], second["last_optimizer_state"])
    assert not differences(first["optimizer_history"][-1], second["optimizer_history"][-1])
    if same_batches:
        assert not differences(first["extra_state"]["train_iterator"], second["extra_state"]["train_iterator"])
    assert not differences(first["task_state"], second["task_state"])
    for key in ("best", "val_loss"):
        assert math.isclose(first["extra_state"][key], second["extra_state"][key])
