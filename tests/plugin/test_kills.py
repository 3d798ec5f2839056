"""Training that is killed and started again by the same command ends as if it had not been killed.

The usual tests kill at chosen moments, for which the training halts (tests/halting). The many kills at random moments
are not part of them: `KILLS=30 pytest -s -m heavy tests/plugin/test_kills.py` prints what they cost.
"""

import contextlib
import logging
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import commands
import pytest
import torch
from commands import assert_same_training, distributed, program, training_flags

import fairseq_seqvae

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds child processes by /proc"),
]


HALTING = str(Path(__file__).parents[1] / "halting")


class Plan(NamedTuple):
    """A training, and where its phases end."""

    flags: str
    gen_pretrain: int
    disc_pretrain: int
    max_update: int

    def arguments(self, data, folder, processes: int) -> list[str]:
        turns = f"--gen-pretrain-updates {self.gen_pretrain} --disc-pretrain-updates {self.disc_pretrain}"
        end = f"--max-update {self.max_update} --save-interval-updates 2 --keep-interval-updates 2"
        return training_flags(data, folder, turns, end, self.flags, distributed(processes))

    def phase(self, update: int) -> str:
        if update <= self.gen_pretrain:
            return "ELBO"
        return "discriminator" if update <= self.gen_pretrain + self.disc_pretrain else "adversarial"


class Kill(NamedTuple):
    """What was killed when.

    Attributes:
        phase: of the update that had been logged
        writing: whether a checkpoint was being written or copied
        lost: updates that had been made since the last checkpoint
    """

    phase: str
    writing: bool
    lost: int


def updates_saved(folder: Path) -> int:
    """Of the last checkpoint; every checkpoint in the folder must be whole."""
    for file in folder.glob("checkpoint*.pt"):
        torch.load(file, map_location="cpu", weights_only=True)
    last = folder / "checkpoint_last.pt"
    return commands.load_checkpoint(last)["optimizer_history"][-1]["num_updates"] if last.exists() else 0


class HaltingCommand:
    """The real command in processes of its own, which halts after *update* while it is *doing* something."""

    def __init__(self, arguments: list, processes: int, log: Path, update: int, doing: str):
        self.log, self.halted = log, log.with_suffix(".halted")
        self.halted.unlink(missing_ok=True)
        halt = {"HALT_AT": str(update), "HALT_WHILE": doing, "HALT_FILE": str(self.halted)}
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [*program("train", processes), *arguments, "--user-dir", HALTING],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **commands.ENVIRONMENT, **halt},
            )

    def kill(self) -> None:
        """Where it halts."""
        deadline = time.monotonic() + commands.PATIENCE
        while not self.halted.exists():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)
        launcher = self.process.pid
        tasks = Path(f"/proc/{launcher}/task").iterdir()
        workers = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        for pid in (launcher, *workers):
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=commands.PATIENCE)


class Forks:
    """Processes that are forks of this one, which has imported torch and fairseq already; what torchrun sets is set."""

    def __init__(self, arguments: list, processes: int, log: Path):
        log.write_text("")
        fairseq_seqvae.register()  # fairseq skips a --user-dir whose package this process has imported
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = str(free.getsockname()[1])
        context = multiprocessing.get_context("fork")
        self.processes = []
        for rank in range(processes):
            environment = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            environment |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port} | commands.ENVIRONMENT
            self.processes.append(context.Process(target=train_here, args=(arguments, log, environment)))
            self.processes[-1].start()

    def running(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def wait(self) -> bool:
        for process in self.processes:
            process.join(timeout=commands.PATIENCE)
        return all(process.exitcode == 0 for process in self.processes)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join(timeout=commands.PATIENCE)


def train_here(arguments: list, log: Path, environment: dict[str, str]) -> None:
    from fairseq_cli import train

    os.environ.update(environment)
    commands.reset_fairseq()
    with log.open("a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        logging.basicConfig(stream=file, level=logging.INFO, format="%(name)s | %(message)s", force=True)
        sys.argv = ["fairseq-train", *map(str, arguments)]
        train.cli_main()


class KilledTraining:
    """A training in a folder that can be killed at random moments and started again."""

    def __init__(self, plan: Plan, data, folder: Path, processes: int, seed: int = 1):
        self.plan, self.folder, self.processes = plan, folder, processes
        self.arguments = [*plan.arguments(data, folder, processes), "--user-dir", commands.USER_DIR]
        self.log = folder.with_suffix(".log")
        self.random = random.Random(seed)

    def start(self) -> Forks:
        return Forks(self.arguments, self.processes, self.log)

    def updates_logged(self) -> int:
        return max(map(int, re.findall(r'train_inner \| .*"num_updates": "(\d+)"', self.log.read_text())), default=0)

    def stumps(self) -> list[Path]:
        """What fairseq writes, and what the plugin copies, until it is whole."""
        return [*self.folder.glob("*.tmp"), *self.folder.glob(".partial-*")]

    def is_writing(self) -> bool:
        return bool(self.stumps())

    def kill(self, update: int, writing: bool) -> Kill | None:
        """Start it and kill it at a moment after *update*, if *writing* while it writes; None if it ended before."""
        for stump in self.stumps():  # of the last kill; the next writing would overwrite it
            stump.unlink()
        training = self.start()
        while training.running() and self.updates_logged() < update:
            time.sleep(0.002)
        if writing:
            while training.running() and not self.is_writing():
                pass
        else:
            time.sleep(self.random.uniform(0, 0.2))
        if not training.running():
            assert training.wait(), self.log.read_text()[-3000:]
            return None
        training.kill()
        logged = self.updates_logged()
        return Kill(self.plan.phase(logged), self.is_writing(), max(0, logged - updates_saved(self.folder)))

    def finish(self) -> None:
        assert self.start().wait(), self.log.read_text()[-3000:]


TINY = Plan("", gen_pretrain=5, disc_pretrain=4, max_update=14)


@pytest.mark.parametrize(
    "processes, kills",
    [(1, [(3, "updating"), (7, "writing"), (11, "copying")]), (2, [(10, "writing")])],
    ids=["one process", "two processes"],
)
def test_training_survives_kills(toy, tmp_path, processes, kills):
    # Dropout is seeded alike in all processes, which the one that it is compared with cannot do.
    plan = TINY._replace(flags="--dropout 0 --disc-dropout 0" if processes > 1 else "--store-ema --ema-decay 0.9")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    commands.call("train", plan.arguments(toy.folder, whole, 1), f"--update-freq {processes}")
    arguments = plan.arguments(toy.folder, killed, processes)
    for update, doing in kills:
        HaltingCommand(arguments, processes, tmp_path / f"{doing}.log", update, doing).kill()
        stump = {"updating": None, "writing": "checkpoint*.tmp", "copying": ".partial-*"}[doing]
        assert stump is None or list(killed.glob(stump))
        assert 0 <= update - updates_saved(killed) <= 2
    commands.run("train", arguments, processes=processes, as_user=True)
    last = "checkpoint_last.pt"
    assert_same_training(whole / last, killed / last, same_batches=processes == 1)


# What a run can keep besides parameters, each in a kind of run of its own.
KINDS = {
    "critic values": "--value critic --pg-baseline leave-one-out",
    "final values, PPO's reuse, a critic": "--value final --pg-baseline critic --pg-loss ppo --ppo-reuse 3",
    "rewards of a file": "--reward-sources discriminator,RULES:short,length:3",
    "a reference policy with a target": "--ref-kl 0.1 --ref-kl-target 0.5 --ref-kl-horizon 400",
    "groups, reference in the reward": "--ref-kl 0.3 --ref-kl-in reward --pg-group-size 2 --pg-baseline group",
    "a limit on repetition": "--diversity-limit 1 --diversity-memory 40 --lr 0.05",
    "a target of the KL": "--kl-target 4 --kl-target-horizon 50",
    "lagging inference": "--lagging-updates 1 --lagging-until 100 --kl-weight 20 --validate-interval-updates 2 "
    "--gen-pretrain-updates 9",
    "gate, best discriminator": "--disc-gate-interval 1 --disc-gate-sentences 20 --disc-gate 0.5 --disc-keep-best",
    "moving average": "--store-ema --ema-decay 0.9 --ema-update-freq 3",
    "curriculum": "--curriculum 1",
    "plateau": "--lr-scheduler reduce_lr_on_plateau --lr-shrink 0.5 --lr-threshold 0.9 --lr-patience 0",
    "a pool of fakes": "--fake-pool 64 --fake-reuse 3",
    "scheduled sampling": "--scheduled-sampling 0.5 --scheduled-sampling-updates 8",
    "vMF": "--latent-family vmf --vmf-kappa 20",
    "spectral norm": "--disc-loss hinge --reward logit --disc-spectral-norm",
    "bf16": "--bf16",
    "memory-efficient fp16": "--memory-efficient-fp16 --fp16-init-scale 4",
}


def kill_often(plan: Plan, data, folder: Path, processes: int, kills: int) -> None:
    """Kill a training *kills* times, compare its end with that of one that was not killed, print what was lost."""
    whole, killed = (KilledTraining(plan, data, folder / name, processes) for name in ("whole", "killed"))
    whole.finish()
    moments = sorted(killed.random.choices(range(plan.max_update), k=kills))
    found = [killed.kill(update, writing=number % 2 == 1) for number, update in enumerate(moments)]
    killed.finish()
    last = (training.folder / "checkpoint_last.pt" for training in (whole, killed))
    assert_same_training(*last, adversarial=False)  # some kinds have fewer parameters than a run with all players
    made = [kill for kill in found if kill]
    for (phase, writing), count in Counter((kill.phase, kill.writing) for kill in made).items():
        lost = sum(kill.lost for kill in made if (kill.phase, kill.writing) == (phase, writing))
        print(f"| {processes} | {phase} | {'while writing' if writing else 'between'} | {count} | {lost} |", flush=True)


@pytest.mark.heavy
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_training_survives_many_kills(toy, tmp_path, processes):
    print("\n| processes | phase | killed | kills | updates made again |")
    plan = Plan("", gen_pretrain=10, disc_pretrain=10, max_update=30)
    kill_often(plan, toy.folder, tmp_path, processes, int(os.environ.get("KILLS", "30")))


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_survives_kills(toy, tmp_path, kind):
    rules = tmp_path / "rules.py"
    rules.write_text("def short(samples, **kwargs):\n    return [-len(sample.split()) for sample in samples]\n")
    plan = Plan(KINDS[kind].replace("RULES", str(rules)), gen_pretrain=5, disc_pretrain=4, max_update=16)
    kill_often(plan, toy.folder, tmp_path, 1, int(os.environ.get("KILLS", "4")))
