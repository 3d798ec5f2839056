"""The reference policy: when it is taken, what the divergence from it does, and that checkpoints hold it."""

import commands
import oracles
import pytest
import torch
from commands import assert_same_training, distributed, json_lines, load_checkpoint, make_training, run
from test_criterions import (
    act,
    credit,
    draws_of,
    evaluate,
    go_on_earning,
    prepare,
    rewards_of,
    slow_log_probs,
    unpadded,
)

from fairseq_seqvae.core.schedules.turns import DISCRIMINATOR_TURN, GENERATOR_PRETRAIN, GENERATOR_TURN

TARGET = "--ref-kl 0.1 --ref-kl-target 0.5 --ref-kl-horizon 400"


def logged(output, key):
    return [float(line[key]) for line in json_lines(output, "train_inner") if key in line]


def reference_of(path):
    model = load_checkpoint(path)["model"]
    return {name: value for name, value in model.items() if name.startswith("reference_decoder.")}


def decoder_of(path):
    model = load_checkpoint(path)["model"]
    return {f"reference_{name}": value for name, value in model.items() if name.startswith("decoder.")}


def moved(training, batch):
    """Take the reference in an update before, then move the decoder."""
    evaluate(training, batch, GENERATOR_TURN, update=6)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in training.model.decoder.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)


class TestLoss:
    @pytest.mark.parametrize(
        "flags",
        [
            "--reference",
            "--ref-kl 0.3 --pg-weight 0.5",
            "--ref-kl 0.3 --ref-kl-in reward --pg-weight 0.5 --reward-stride 1 --pg-credit step",
            "--ref-kl 2 --ref-kl-in reward --pg-baseline none --pg-normalize",
        ],
    )
    def test_it_equals_the_loops(self, toy, flags):
        training, batch = prepare(toy, flags)
        cfg, model = training.cfg.criterion, training.model
        moved(training, batch)
        loss, log = evaluate(training, batch, GENERATOR_TURN)
        trajectory = act(training, batch)
        rewards = rewards_of(training, batch, trajectory, draws_of(training)).rewards
        rows, lengths = unpadded(trajectory.tokens), trajectory.lengths.tolist()

        kls, own = [], []
        for b, row in enumerate(rows):
            policy = slow_log_probs(model.decoder, row, trajectory.z[b])
            reference = slow_log_probs(model.reference_decoder, row, trajectory.z[b])
            own.append([p[token] for p, token in zip(policy, row, strict=True)])
            kls.append(
                [
                    sum(2.718281828459045**p * (p - q) for p, q in zip(*both, strict=True))
                    for both in zip(policy, reference, strict=True)
                ]
            )
        total_kl = sum(map(sum, kls))
        assert total_kl > 1 and log["ref_kl"].item() == pytest.approx(total_kl, rel=1e-4)

        earned = []
        for row, length in zip(rewards, lengths, strict=True):
            places = oracles.rewarded_positions(length, cfg.reward_stride)
            earned.append(dict(zip(places, row[places].tolist(), strict=True)))
        if cfg.pg_credit == "to-go":
            go_on_earning(earned, lengths, cfg.reward_stride)
        returns = [[credit(row, t, cfg.pg_credit) for t in range(max(lengths))] for row in earned]
        if cfg.ref_kl_in == "reward":
            for b, row in enumerate(kls):
                for t in range(len(row)):
                    returns[b][t] -= cfg.ref_kl * sum(row[t + 1 :])
        advantages = oracles.advantages(returns, lengths, str(cfg.pg_baseline), cfg.pg_normalize)
        pg_loss = -sum(a * p for rows in zip(advantages, own, strict=True) for a, p in zip(*rows, strict=False))
        assert log["pg_loss"].item() == pytest.approx(pg_loss, rel=1e-3, abs=1e-4)
        weight = cfg.ref_kl * (cfg.pg_weight if cfg.ref_kl_in == "reward" else 1)
        expected = log["loss"].item() + cfg.pg_weight * pg_loss + weight * total_kl
        assert loss.item() == pytest.approx(expected, rel=1e-4)

    def test_no_gradient_reaches_the_reference_and_a_weight_pulls_towards_it(self, toy):
        training, batch = prepare(toy, "--ref-kl 5 --elbo-weight 0 --pg-weight 0", batch_size=32)
        moved(training, batch)
        divergences = []
        for _ in range(5):
            training.model.zero_grad(set_to_none=True)
            loss, log = evaluate(training, batch, GENERATOR_TURN)
            (loss / 160).backward()
            divergences.append(log["ref_kl"].item())
            with torch.no_grad():
                for parameter in training.model.decoder.parameters():
                    parameter -= 0.05 * parameter.grad
        assert all(parameter.grad is None for parameter in training.model.reference_decoder.parameters())
        assert divergences[-1] < 0.8 * divergences[0]


class TestWhenItIsTaken:
    def test_before_the_first_adversarial_update_and_never_again(self, toy, tmp_path):
        flags = "--reference --save-interval-updates 1 --max-update"
        said = commands.train(toy.folder, tmp_path, flags, 9)
        # G G G, D D, then G G D: the first adversarial update is the sixth, and the decoder rests in the two before.
        divergences = logged(said, "ref_kl")
        assert len(divergences) == 3 and divergences[0] == 0 and min(divergences[1:]) > 0
        assert logged(said, "ref_kl_weight") == [0, 0, 0]
        decoders = {n: decoder_of(path) for n, path in saved(tmp_path).items()}
        references = {n: reference_of(path) for n, path in saved(tmp_path).items()}
        assert not commands.differences(references[6], decoders[5]) and len(decoders[5]) > 5
        assert not commands.differences(references[9], references[6])
        assert commands.differences(references[9], decoders[9])

    def test_other_turns_neither_take_it_nor_log_it(self, toy):
        training, batch = prepare(toy, "--ref-kl 0.1 --seed 4")
        for turn in (GENERATOR_PRETRAIN, DISCRIMINATOR_TURN):
            assert "ref_kl" not in evaluate(training, batch, turn)[1]
        assert training.model.run_state.get("reference") is None

    @pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model"])
    def test_a_run_that_begins_with_another_ones_parameters(self, toy, tmp_path, flag):
        commands.train(toy.folder, tmp_path / "first", "--reference --max-update 9")
        first = tmp_path / "first" / "checkpoint_last.pt"
        reset = "--reset-optimizer --reset-dataloader --reset-meters --reset-lr-scheduler"
        plan = "--gen-pretrain-updates 0 --disc-pretrain-updates 0 --reference --max-update 2"
        commands.train(toy.folder, tmp_path / "next", plan, reset if flag == "--restore-file" else "", flag, first)
        found = reference_of(tmp_path / "next" / "checkpoint_last.pt")
        assert not commands.differences(found, decoder_of(first))
        assert commands.differences(found, reference_of(first))

    def test_a_run_that_continues_one_without(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path, "--max-update 7")
        before = decoder_of(tmp_path / "checkpoint_last.pt")
        said = commands.train(toy.folder, tmp_path, TARGET, "--max-update 10")
        assert "the checkpoint holds no reference_decoder" in said
        assert not commands.differences(reference_of(tmp_path / "checkpoint_last.pt"), before)
        # and one without that continues it forgets it
        commands.train(toy.folder, tmp_path, "--max-update 11")
        assert not reference_of(tmp_path / "checkpoint_last.pt")
        before = decoder_of(tmp_path / "checkpoint_last.pt")
        said = commands.train(toy.folder, tmp_path, TARGET, "--max-update 13")
        assert not commands.differences(reference_of(tmp_path / "checkpoint_last.pt"), before)
        assert logged(said, "ref_kl_weight")[0] == 0.1


def saved(folder):
    """Checkpoints by the number of updates."""
    found = {}
    for path in folder.glob("checkpoint_*_*.pt"):
        found[int(path.stem.split("_")[2])] = path
    return found


class TestWeight:
    def test_it_moves_as_the_equation_says(self, toy, tmp_path):
        said = commands.train(toy.folder, tmp_path, TARGET, "--lr 0.02 --max-update 14 --no-save")
        kls, weights = logged(said, "ref_kl"), logged(said, "ref_kl_weight")
        sizes = [float(line["bsz"]) for line in json_lines(said, "train_inner") if "ref_kl" in line]
        expected = [0.1]
        for kl, size in zip(kls, sizes, strict=True):
            error = min(max(kl / 0.5 - 1, -0.2), 0.2)
            expected.append(expected[-1] * (1 + error * size / 400))
        assert weights == pytest.approx(expected[:-1], abs=2e-5) and weights[-1] != 0.1

    def test_without_a_target_it_stays(self, toy, tmp_path):
        said = commands.train(toy.folder, tmp_path, "--ref-kl 0.25 --max-update 9 --no-save")
        assert logged(said, "ref_kl_weight") == [0.25] * 3


@pytest.mark.slow
class TestCheckpoints:
    @pytest.mark.parametrize(
        "flags",
        [
            "",
            "--ref-kl-in reward --pg-group-size 2 --pg-baseline group",
            "--store-ema --ema-decay 0.5 --ema-fp32",
            "--memory-efficient-fp16 --fp16-init-scale 4",
            "--memory-efficient-bf16",
        ],
    )
    def test_resume_is_exact(self, toy, tmp_path, flags):
        flags = f"{TARGET} {flags} --save-interval-updates 4 --dropout 0.1"
        whole = commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 11")
        parts = [commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", n) for n in (6, 7, 11)]
        name = "checkpoint_last.pt"
        assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name)
        for key in ("ref_kl", "ref_kl_weight"):
            assert logged(whole, key) == [value for part in parts for value in logged(part, key)]
        assert logged(whole, "ref_kl")[0] == pytest.approx(0, abs=1e-4) and logged(whole, "ref_kl")[-1] > 0

    def test_two_processes_learn_like_one_with_twice_the_batches(self, toy, tmp_path):
        flags = f"{TARGET} --dropout 0 --disc-dropout 0 --max-update 9 --pg-group-size 2 --pg-baseline group"
        alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
        command = commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2))
        both = run("train", command, processes=2).stdout
        name = "checkpoint_last.pt"
        assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)
        assert logged(alone, "ref_kl_weight") == logged(both, "ref_kl_weight")

    def test_generation_validation_and_export_leave_it_out(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path, TARGET, "--max-update 7")
        checkpoint = tmp_path / "checkpoint_last.pt"
        said = commands.generate(toy.folder, checkpoint, "--beam 1 --batch-size 30")
        assert len(commands.hypotheses(said)) == 30
        flags = "--task seqvae --cpu --batch-size 8 --num-workers 0 --path"
        assert "loss" in commands.call("validate", toy.folder, flags, checkpoint)
        from fairseq_seqvae.export.state import inference_state

        assert not any("reference" in name for name in inference_state(load_checkpoint(checkpoint))["model"])


class TestMessages:
    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--ref-kl -1", "--ref-kl must be at least 0 but is -1"),
            ("--ref-kl-target 2", "--ref-kl-target 2.0 needs a --ref-kl above 0"),
            ("--ref-kl-in reward", "--ref-kl-in reward needs a --ref-kl above 0"),
            ("--ref-kl 1 --ref-kl-horizon 0", "--ref-kl-horizon must be at least 1 but is 0"),
        ],
    )
    def test_of_options_that_contradict_each_other(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            make_training(toy.folder, flags)
