"""A run that is stopped and continued ends as one that is not, whatever fairseq forgets by itself."""

import commands
import pytest
import torch
from commands import ELBO, assert_same_training, load_checkpoint

from fairseq_seqvae.compat import resuming

pytestmark = pytest.mark.slow

LAST = "checkpoint_last.pt"
# The toy data are 10 updates per epoch.
NEVER_BETTER = "--lr-scheduler reduce_lr_on_plateau --lr-shrink 0.5 --lr-threshold 0.9"


def train(toy, folder, *flags):
    return commands.train(toy.folder, folder, "--log-interval 1000", *flags, criterion=ELBO)


def whole_and_resumed(toy, tmp_path, flags, *stops, limit="--max-update"):
    """The last checkpoints of two runs to the last of *stops*: one that is not interrupted, one that stops at each."""
    train(toy, tmp_path / "whole", flags, limit, stops[-1])
    for stop in stops:
        train(toy, tmp_path / "resumed", flags, limit, stop)
    return tmp_path / "whole" / LAST, tmp_path / "resumed" / LAST


def rate(checkpoint):
    return load_checkpoint(checkpoint)["last_optimizer_state"]["param_groups"][0]["lr"]


def updates(checkpoint):
    return load_checkpoint(checkpoint)["optimizer_history"][-1]["num_updates"]


class TestLearningRateOnAPlateau:
    """The rate is halved at the end of each epoch but the first."""

    @pytest.mark.parametrize("stops", [(15, 45), (10, 20, 45)], ids=["within epochs", "at their ends"])
    def test_shrinks_as_in_a_run_that_is_not_stopped(self, toy, tmp_path, stops):
        whole, resumed = whole_and_resumed(toy, tmp_path, f"{NEVER_BETTER} --lr-patience 0", *stops)
        assert rate(whole) == pytest.approx(5e-3 / 2**3)
        assert rate(resumed) == rate(whole)
        assert_same_training(whole, resumed, adversarial=False)

    def test_counts_bad_epochs_across_stops(self, toy, tmp_path):
        whole, resumed = whole_and_resumed(toy, tmp_path, f"{NEVER_BETTER} --lr-patience 2", 15, 25, 45)
        assert rate(whole) == pytest.approx(5e-3 / 2)
        assert_same_training(whole, resumed, adversarial=False)

    def test_a_new_schedule_begins_anew(self, toy, tmp_path):
        flags = f"{NEVER_BETTER} --lr-patience 2"
        train(toy, tmp_path, flags, "--max-update 25")
        train(toy, tmp_path, flags, "--max-update 45 --reset-lr-scheduler")
        assert rate(tmp_path / LAST) == pytest.approx(5e-3)


@pytest.mark.parametrize(
    "flags, stops",
    [
        ("--curriculum 2", (4, 14, 24, 34)),
        ("--curriculum 1", (10, 20, 24)),
        ("--store-ema --ema-decay 0.5 --ema-update-freq 4", (6, 11)),
        ("--store-ema --ema-decay 0.5 --ema-update-freq 4 --ema-fp32", (6, 11)),
        ("--memory-efficient-fp16 --fp16-init-scale 4 --fp16-scale-window 3", (7, 14)),
        ("--fp16 --fp16-init-scale 4", (7, 14)),
        ("--fp16 --fp16-init-scale 4 --fp16-scale-window 3", (7, 14)),
        ("--bf16", (7, 14)),
    ],
)
def test_resuming_is_exact(toy, tmp_path, flags, stops):
    whole, resumed = whole_and_resumed(toy, tmp_path, flags, *stops)
    assert_same_training(whole, resumed, adversarial=False)


def test_float32_copies_of_other_parameters_are_not_taken(toy, tmp_path):
    """As where checkpoints were averaged: the parameters of the file count."""
    train(toy, tmp_path, "--bf16 --max-update 3")
    state = load_checkpoint(tmp_path / LAST)
    name = "decoder.output.bias"
    state["model"][name] = torch.full_like(state["model"][name], 0.5)
    torch.save(state, tmp_path / LAST)
    train(toy, tmp_path, "--bf16 --max-update 4 --lr 0")
    assert (load_checkpoint(tmp_path / LAST)["model"][name] == 0.5).all()


@pytest.mark.parametrize("flags", ["--use-bmuf", "--ddp-backend slowmo", ""])
def test_what_cannot_be_exact_is_said(toy, caplog, flags):
    resuming._warn_of_unsaved_averages(commands.make_config(toy.folder, flags))
    assert caplog.text.count(f"{flags}: fairseq does not save its averages over processes") == bool(flags)


def test_patience_counts_across_stops(toy, tmp_path):
    flags = "--patience 3 --validate-interval-updates 4 --save-interval-updates 4 --lr 0 --keep-interval-updates 1"
    train(toy, tmp_path / "whole", flags, "--max-update 60")
    for stop in (6, 60):
        train(toy, tmp_path / "resumed", flags, "--max-update", stop)
    # Nothing moves, so none is better than that at 4; then come 8, 11 (an epoch's end) and 12; with a stop, 6 too.
    assert updates(tmp_path / "whole" / LAST) == 12
    assert updates(tmp_path / "resumed" / LAST) == 11
    said = train(toy, tmp_path / "whole", flags, "--max-update 60")
    assert "nothing is left to do with --patience 3" in said and updates(tmp_path / "whole" / LAST) == 12
    train(toy, tmp_path / "whole", flags.replace("--patience 3", "--patience 5"), "--max-update 60")
    assert updates(tmp_path / "whole" / LAST) == 20


def test_the_dynamic_scale_of_amp_is_kept(toy, monkeypatch, tmp_path):
    scaler, autocast = torch.amp.GradScaler, torch.autocast
    from fairseq_seqvae.tasks import run_checks

    monkeypatch.setattr(run_checks, "uses_gpu", lambda common: True)
    monkeypatch.setattr(torch.cuda.amp, "GradScaler", lambda **o: scaler("cpu", **o | {"growth_interval": 5}))
    monkeypatch.setattr(
        torch, "autocast", lambda device, enabled=True: autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
    )
    with torch.backends.mkldnn.flags(enabled=False):
        whole, resumed = whole_and_resumed(toy, tmp_path, "--amp --fp16-init-scale 4", 7, 14)
    assert_same_training(whole, resumed, adversarial=False)


class TestOptionsWithoutADataclass:
    """fairseq keeps them in an argparse.Namespace, also in checkpoints."""

    @pytest.mark.parametrize(
        "flags",
        [
            *(f"--optimizer {name}" for name in ("sgd", "adagrad", "adadelta", "adafactor", "adamax")),
            "--optimizer adam --lr-scheduler manual",
            "--optimizer nag --lr-scheduler step --lr-deacy-period 5",
            "--optimizer seqvae_adam --lr-scheduler polynomial_decay --total-num-update 20",
            "--lr-scheduler inverse_sqrt --warmup-updates 3",
            "--lr-scheduler cosine --warmup-updates 3",
            "--lr-scheduler triangular --max-lr 0.01",
            "--lr-scheduler tri_stage --phase-ratio [0.1,0.4,0.5]",
            "--lr-scheduler reduce_lr_on_plateau",
        ],
    )
    def test_trains_resumes_and_generates(self, toy, tmp_path, flags):
        train(toy, tmp_path, flags, "--max-update 4")
        torch.load(tmp_path / LAST, weights_only=True)
        output = train(toy, tmp_path, flags, "--max-update 6")
        assert "(epoch 1 @ 4 updates)" in output and updates(tmp_path / LAST) == 6
        said = commands.generate(toy.folder, tmp_path / LAST, "--gen-subset test --beam 1")
        assert len(commands.texts(said)) == len(toy.test)

    def test_files_that_were_written_with_one_are_read(self, toy, tmp_path):
        from argparse import Namespace

        train(toy, tmp_path, "--optimizer sgd --max-update 4")
        state = load_checkpoint(tmp_path / LAST)
        state["cfg"]["optimizer"] = Namespace(_name="sgd", lr=[0.1], momentum=0.0)
        torch.save(state, tmp_path / LAST)
        train(toy, tmp_path, "--optimizer sgd --max-update 6")
        said = commands.generate(toy.folder, tmp_path / LAST, "--gen-subset test --beam 1")
        assert len(commands.texts(said)) == len(toy.test)


class TestAnotherNumberOfProcesses:
    """Within an epoch, whose batches are dealt out to the processes in turn."""

    @staticmethod
    def continued(seen, before, now):
        place = {"epoch": 2, "iterations_in_epoch": seen}
        resuming._keep_place(place, before, now)
        return place["iterations_in_epoch"]

    @pytest.mark.parametrize(
        "seen, before, now, after", [(6, 1, 2, 3), (3, 2, 1, 6), (4, 3, 6, 2), (5, 2, 2, 5), (0, 2, 4, 0)]
    )
    def test_the_place_in_the_data_is_kept(self, caplog, seen, before, now, after):
        assert self.continued(seen, before, now) == after
        assert "come again" not in caplog.text

    def test_an_earlier_checkpoint_does_not_say(self):
        assert self.continued(5, None, 2) == 5

    def test_what_cannot_be_kept_is_said(self, caplog):
        assert self.continued(5, 3, 4) == 3
        assert "3 of the 15 batches that this epoch has trained on come again" in caplog.text
        assert "to continue exactly, use 3 until the epoch ends" in caplog.text

    def test_two_processes_continue_what_one_began(self, toy, tmp_path):
        flags = "--log-interval 1000 --dropout 0 --max-update"
        commands.train(toy.folder, tmp_path / "alone", flags, 8, "--update-freq 2", criterion=ELBO)
        commands.train(toy.folder, tmp_path / "both", flags, 4, "--update-freq 2", criterion=ELBO)
        command = commands.training_flags(
            toy.folder, tmp_path / "both", flags, 8, commands.distributed(2), criterion=ELBO
        )
        output = commands.run("train", command, processes=2).stdout
        assert "the checkpoint is of 1 processes, this run of 2: each continues after 4 batches" in output
        paths = (tmp_path / name / LAST for name in ("alone", "both"))
        assert_same_training(*paths, same_batches=False, adversarial=False)
