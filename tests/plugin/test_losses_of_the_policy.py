"""`--pg-loss`, `--ppo-reuse`, `--diversity-limit` in whole updates: loops, resume, several processes."""

import math

import commands
import pytest
import torch
from commands import assert_same_training, distributed, json_lines, load_checkpoint, make_training, run
from test_criterions import act, draws_of, evaluate, prepare, rewards_of, slow_log_probs, unpadded

from fairseq_seqvae.core.schedules.turns import GENERATOR_TURN

REUSE = "--pg-loss ppo --ppo-reuse 3 --lr 0.02"


def logged(output, key):
    return [float(line[key]) for line in json_lines(output, "train_inner") if key in line]


def move(training, size=0.1):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in training.model.decoder.parameters():
            parameter.add_(torch.randn(parameter.shape) * size)


def own_log_probs(decoder, trajectory):
    """log p of the tokens of each sequence: lists."""
    rows = unpadded(trajectory.tokens)
    found = [slow_log_probs(decoder, row, trajectory.z[b]) for b, row in enumerate(rows)]
    return [[p[token] for p, token in zip(*both, strict=True)] for both in zip(found, rows, strict=True)]


class TestReuse:
    def test_later_updates_learn_from_the_sequences_of_the_first(self, toy):
        """Turns of the generator are updates 5, 6, 8, 9, ...: with 3 per draw, 5, 6 and 8 share one."""
        training, batch = prepare(toy, REUSE, "--elbo-weight 0 --pg-baseline none --reward-stride 3 --seed 8")
        _, first = evaluate(training, batch, GENERATOR_TURN, update=5)
        training.criterion.after_update([first])
        trajectory = act(training, batch, 5)
        values = rewards_of(training, batch, trajectory, draws_of(training, 5))
        before = own_log_probs(training.model.decoder, trajectory)
        assert first["clipped"] == 0 and first["rewards"] > 0
        move(training)
        other = training.batches()[2]
        assert other["id"].tolist() != batch["id"].tolist()
        loss, log = evaluate(training, other, GENERATOR_TURN, update=8)
        assert "rewards" not in log and "distinct" not in log

        now, lengths = own_log_probs(training.model.decoder, trajectory), trajectory.lengths.tolist()
        width, expected, clipped = max(lengths), 0.0, 0
        for b, length in enumerate(lengths):
            for t in range(length):
                ends = [n for n in range(1, width + 1) if n % 3 == 0 or n in (width, length)]
                # a sequence that has ended keeps earning; its end stands for the multiple of the stride that covers it
                ends = [n for n in ends if n <= length or n > 3 * math.ceil(length / 3)]
                worth = sum(values.rewards[b, min(n, length) - 1].item() for n in ends if n > t)
                ratio = math.exp(now[b][t] - before[b][t])
                expected -= min(ratio * worth, min(max(ratio, 0.8), 1.2) * worth)
                clipped += worth > 0 and ratio > 1.2
        assert clipped > 3 and log["clipped"] == clipped
        assert loss.item() == pytest.approx(expected * len(other["id"]) / len(lengths), rel=1e-3)
        assert "rewards" in evaluate(training, other, GENERATOR_TURN, update=9)[1]

    def test_every_third_turn_of_the_generator_draws(self, toy, tmp_path):
        said = commands.train(toy.folder, tmp_path, REUSE, "--ppo-clip 0.001 --max-update 14 --no-save")
        lines = [line for line in json_lines(said, "train_inner") if "pg_loss" in line]
        assert ["reward" in line for line in lines] == [True, False, False] * 2
        assert [float(line["clip_ratio"]) == 0 for line in lines] == [True, False, False] * 2

    def test_ppo_on_its_own_sequences_is_reinforce(self, toy):
        gradients = []
        for flags in ("--pg-loss ppo", ""):
            training, batch = prepare(toy, flags, "--seed 3")
            training.model.zero_grad(set_to_none=True)
            evaluate(training, batch, GENERATOR_TURN)[0].backward()
            gradients.append(training.model.decoder.output.weight.grad.clone())
        torch.testing.assert_close(*gradients)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "flags", ["", "--pg-group-size 2 --pg-baseline group --ref-kl 0.1 --pg-latent prior", "--memory-efficient-bf16"]
    )
    def test_resume_at_any_update_is_exact(self, toy, tmp_path, flags):
        flags = f"{REUSE} {flags} --save-interval-updates 4 --dropout 0.1"
        whole = commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 13")
        parts = []
        for stop in (6, 7, 9, 10, 12, 13):
            parts.append(commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", stop))
        name = "checkpoint_last.pt"
        assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name)
        for key in ("clip_ratio", "pg_loss"):
            assert logged(whole, key) == [value for part in parts for value in logged(part, key)]
        assert max(logged(whole, "clip_ratio")) > 0

    @pytest.mark.slow
    def test_two_processes_learn_like_one_with_twice_the_batches_and_resume(self, toy, tmp_path):
        flags = f"{REUSE} --dropout 0 --disc-dropout 0 --diversity-limit 1"
        alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2 --max-update 9")
        name = "checkpoint_last.pt"
        both = ""
        for stop in (7, 9):
            command = commands.training_flags(
                toy.folder, tmp_path / "both", flags, f"--max-update {stop}", distributed(2)
            )
            both += run("train", command, processes=2).stdout
        assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)
        assert logged(alone, "clip_ratio") == logged(both, "clip_ratio")

    def test_a_run_that_begins_with_anothers_parameters_draws_its_own(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path / "first", REUSE, "--max-update 6")
        first = tmp_path / "first" / "checkpoint_last.pt"
        plan = "--gen-pretrain-updates 4 --disc-pretrain-updates 2 --max-update 7 --no-save --finetune-from-model"
        said = commands.train(toy.folder, tmp_path / "next", REUSE, plan, first)
        assert len(logged(said, "reward")) == 1


class TestReinvent:
    def test_the_loss_equals_the_loops(self, toy):
        training, batch = prepare(toy, "--pg-loss reinvent --reinvent-sigma 8 --elbo-weight 0 --reward-stride 100")
        evaluate(training, batch, GENERATOR_TURN, update=6)
        move(training)
        loss, log = evaluate(training, batch, GENERATOR_TURN)
        trajectory = act(training, batch)
        rewards = rewards_of(training, batch, trajectory, draws_of(training)).rewards
        policy = own_log_probs(training.model.decoder, trajectory)
        reference = own_log_probs(training.model.reference_decoder, trajectory)
        expected = 0.0
        for b, length in enumerate(trajectory.lengths.tolist()):
            expected += (sum(reference[b]) + 8 * rewards[b, length - 1].item() - sum(policy[b])) ** 2
        assert loss.item() == log["pg_loss"].item() == pytest.approx(expected, rel=1e-3)
        assert log["ref_kl"] > 0


class TestDiversity:
    def test_a_sequence_that_was_drawn_too_often_earns_nothing(self, toy):
        training, batch = prepare(toy, "--diversity-limit 1 --pg-baseline none --seed 6")
        logs = []
        for update in (5, 5):  # the same draws again
            log = evaluate(training, batch, GENERATOR_TURN, update)[1]
            training.criterion.after_update([log])
            logs.append(log)
        assert logs[0]["reward"] > 0 and logs[1]["reward"] == 0
        assert logs[1]["pg_loss"].item() == 0

    @pytest.mark.slow
    def test_resume_is_exact_and_the_memory_is_bounded(self, toy, tmp_path):
        flags = "--diversity-limit 1 --diversity-memory 40 --save-interval-updates 4 --lr 0.05"
        commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 12")
        for stop in (6, 7, 11, 12):
            commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", stop)
        name = "checkpoint_last.pt"
        assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name)
        kept = load_checkpoint(tmp_path / "whole" / name)["model"]["run_state.seen_sequences_version"]
        assert kept.numel() == 1 + 2 * 40


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--ppo-reuse 2", "--ppo-reuse 2 needs --pg-loss ppo, not reinforce"),
        ("--pg-loss ppo --ppo-clip 1", r"--ppo-clip must lie in \(0, 1\) but is 1"),
        ("--pg-loss reinvent --reinvent-sigma 0", "--reinvent-sigma must be above 0 but is 0"),
        ("--pg-loss reinvent --pg-trajectories data", "--pg-loss reinvent needs --pg-trajectories sampled"),
        ("--diversity-limit 1 --pg-trajectories data", "--diversity-limit 1 needs --pg-trajectories sampled"),
    ],
)
def test_messages(toy, flags, message):
    with pytest.raises(ValueError, match=message):
        make_training(toy.folder, flags)
