"""`--disc-gate`, `--disc-keep-best`: judgements of the discriminator on held-out sentences decide what is used."""

import commands
import pytest
import torch
from commands import assert_same_training, distributed, json_lines, load_checkpoint, make_training, run

from fairseq_seqvae.core.noise import Draws, Stream

# Turns: G G G, D D, then G G D again and again. The discriminator has moved before update 4.
EVERY = "--disc-gate-interval 3 --disc-gate-sentences 20"
SHUT, OPEN = f"{EVERY} --disc-gate 0.999", f"{EVERY} --disc-gate 0.001"


def judgements(output):
    """Numbers of the updates before which there was a judgement."""
    lines = [line for line in output.splitlines() if "the discriminator tells" in line]
    return [int(line.split("after update ")[1].split(":")[0]) for line in lines]


def state(model):
    return model.run_state.get("judgement")


def by_hand(training, discriminator, update):
    """Accuracies on the first sentences of the validation data and samples drawn for this update, one by one."""
    task, model, draws = training.task, training.model, Draws(training.cfg.common.seed, update)
    dataset = task.dataset("valid")
    hits = [0.0, 0.0]
    discriminator.eval()
    for i in range(20):
        row = dataset.src[i].unsqueeze(0)
        hits[0] += float(discriminator(row, torch.zeros_like(row, dtype=torch.bool)) > 0)
        noise = draws.normal(Stream.VALIDATION_LATENT, torch.tensor([i]), model.prior.noise_dim)
        from fairseq_seqvae.core.rollouts.rollout import sample

        keys = draws.keys(Stream.VALIDATION_SAMPLE, torch.tensor([i]))
        drawn = sample(model.decoder, model.prior.sample(noise), keys, task.max_sample_length(row))
        hits[1] += float(discriminator(drawn.tokens, drawn.mask) < 0)
    return hits[0] / 20, hits[1] / 20


class TestJudgements:
    def test_are_on_held_out_sentences_and_samples_of_their_own(self, toy):
        training = make_training(toy.folder, EVERY)
        for batch in training.batches()[:4]:
            training.update(batch)
        assert state(training.model) is None  # the discriminator had not moved before update 3
        expected = by_hand(training, training.model.discriminator, 4)
        training.model.train()
        training.update(training.batches()[4])
        assert state(training.model) == (4, pytest.approx(sum(expected) / 2))

    def test_change_nothing_by_themselves(self, toy, tmp_path):
        said = commands.train(toy.folder, tmp_path / "judged", EVERY, "--max-update 14")
        commands.train(toy.folder, tmp_path / "plain", "--max-update 14")
        first, second = (load_checkpoint(tmp_path / n / "checkpoint_last.pt")["model"] for n in ("judged", "plain"))
        assert first.pop("run_state.judgement_version") is not None
        assert not commands.differences(first, second)
        # At the first chance, before the adversarial part, at intervals.
        assert judgements(said) == [4, 5, 8, 11]

    def test_are_logged_in_each_update_after_them(self, toy, tmp_path):
        lines = json_lines(commands.train(toy.folder, tmp_path, OPEN, "--max-update 9"), "train_inner")
        known = [line.get("d_acc_held_out") for line in lines]
        assert known[:4] == [None] * 4 and all(0 < float(value) < 1 for value in known[4:])
        assert known[5] == known[6] == known[7] and {float(line["d_gate"]) for line in lines[4:]} == {1.0}

    def test_see_sentences_transposed_as_in_training(self, toy):
        training = make_training(toy.folder, EVERY)
        seen = []

        class Known:
            def to(self, device):
                return self

            def draw(self, tokens, uniforms):
                seen.append(uniforms)
                return torch.zeros(len(tokens))

            def apply(self, tokens, intervals):
                return tokens + 1

        plain = training.task.held_out_sample(7, Draws(1, 5))
        training.task._transposition = Known()
        transposed = training.task.held_out_sample(7, Draws(1, 5))
        assert transposed["target"].equal(plain["target"] + 1) and len(plain["target"]) == 7
        assert sorted(plain["id"].tolist()) == list(range(7)) and len(set(seen[0].tolist())) == 7


class TestTheGate:
    def test_decides_whether_the_reward_is_used(self, toy, tmp_path):
        for flags, is_used in ((SHUT, False), (OPEN, True)):
            said = commands.train(toy.folder, tmp_path / str(is_used), flags, "--max-update 9")
            lines = json_lines(said, "train_inner")
            generator_turns = [lines[number] for number in (5, 6, 8)]
            assert all(("reward" in line) == is_used for line in generator_turns)
            assert all("kl" in line for line in generator_turns)
            assert {float(line["d_gate"]) for line in lines[5:]} == {float(is_used)}

    def test_leaves_the_elbo_with_its_weight(self, toy):
        training = make_training(toy.folder, SHUT, "--elbo-weight 3 --dropout 0")
        training.model.run_state.set("judgement", (0, 0.5))
        batch, criterion = training.batches()[0], training.criterion
        training.model.train()
        turn = training.task.plan.turn(5)
        loss, count, _ = criterion(training.model, batch, turn=turn, update_num=5)
        elbo, _, _ = criterion.generator_pretrain(training.model, batch, Draws(training.cfg.common.seed, 5))
        assert count == len(batch["target"]) and loss.item() == pytest.approx(3 * elbo.item())

    def test_tells_when_it_opens_and_when_it_shuts(self, toy, tmp_path, monkeypatch):
        from fairseq_seqvae.criterions.discriminator_turns import DiscriminatorTurns

        left = [0.5, 0.7, 0.6, 0.3]
        monkeypatch.setattr(
            DiscriminatorTurns,
            "_held_out_accuracies",
            lambda *_: torch.full((2,), left.pop(0), dtype=torch.float64),
        )
        said = commands.train(toy.folder, tmp_path, EVERY, "--disc-gate 0.55 --max-update 13")
        told = [line.split("; its reward ")[1] for line in said.splitlines() if "; its reward" in line]
        assert told == [
            "is not used (--disc-gate 0.55)",
            "is used from now on (--disc-gate 0.55)",
            "is used (--disc-gate 0.55)",
            "is not used from now on (--disc-gate 0.55)",
        ]
        used = ["reward" in line for line in json_lines(said, "train_inner")]
        assert [used[number] for number in (5, 6, 8, 9, 11, 12)] == [True] * 4 + [False] * 2

    def test_takes_only_the_discriminators_part_of_several_rewards(self, toy, tmp_path):
        for flags, is_used in ((SHUT, False), (OPEN, True)):
            sources = "--reward-sources discriminator,length:1-3 --reward-weights 2,5 --value final"
            said = commands.train(toy.folder, tmp_path / str(is_used), flags, sources, "--max-update 7")
            line = json_lines(said, "train_inner")[6]
            of_judge, of_length = (float(line[f"rewards/{name}/mean"]) for name in ("discriminator", "length:1-3"))
            assert of_judge > 0 and float(line["d_gate"]) == is_used
            assert float(line["reward"]) == pytest.approx(2 * of_judge * is_used + 5 * of_length, abs=1e-3)

    def test_alarms_where_no_validation_samples(self, toy, tmp_path, monkeypatch):
        from fairseq_seqvae.criterions.discriminator_turns import DiscriminatorTurns

        monkeypatch.setattr(
            DiscriminatorTurns, "_held_out_accuracies", lambda *_: torch.tensor([0.4, 0.6], dtype=torch.float64)
        )
        flags = "--disc-gate-interval 1 --no-valid-samples --alarm-window 3 --max-update 9"
        said = commands.train(toy.folder, tmp_path, flags)
        assert said.count("is at chance on held-out sentences: it judges 40.0% of them and 60.0% of fresh samples") == 1
        assert "after update 7: the discriminator is at chance" in said


class TestTheBest:
    def spoil(self, training):
        with torch.no_grad():
            for parameter in training.model.discriminator.parameters():
                parameter.zero_()

    @pytest.mark.parametrize("precision", ["", "--fp16 --fp16-init-scale 4", "--memory-efficient-bf16"])
    def test_comes_back_where_the_present_one_is_worse(self, toy, precision):
        training = make_training(toy.folder, "--disc-gate-interval 2 --disc-keep-best", precision)
        batches = training.batches()
        for batch in batches[:5]:
            training.update(batch)
        model = training.model
        good = {name: value.clone() for name, value in model.kept_discriminator.state_dict().items()}
        criterion = training.criterion
        criterion._held_out_accuracies = lambda judge, *_: torch.full(
            (2,), 0.9 if judge is model.kept_discriminator else 0.4, dtype=torch.float64
        )
        self.spoil(training)
        training.update(batches[5])  # a generator's turn, after a judgement
        assert all(value.equal(good[name]) for name, value in model.discriminator.state_dict().items())
        assert state(model) == (5, pytest.approx(0.9))
        training.update(batches[6])
        training.update(batches[7])  # the discriminator goes on from there, also in float32 copies
        for name, value in model.discriminator.state_dict().items():
            assert (value.float() - good[name].float()).abs().max() < 0.1, name

    def test_follows_the_present_one_where_that_is_no_worse(self, toy):
        training = make_training(toy.folder, f"{EVERY} --disc-keep-best")
        for batch in training.batches()[:4]:
            training.update(batch)
        training.criterion._held_out_accuracies = lambda *_: torch.full((2,), 0.6, dtype=torch.float64)
        self.spoil(training)
        training.update(training.batches()[4])
        assert all(not p.any() for p in training.model.kept_discriminator.parameters())
        assert not any(p.requires_grad for p in training.model.kept_discriminator.parameters())

    def test_is_part_of_training_only(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path, EVERY, "--disc-keep-best --max-update 7")
        saved = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
        assert any(name.startswith("kept_discriminator.") for name in saved)
        assert commands.texts(commands.generate(toy.folder, tmp_path / "checkpoint_last.pt", "--gen-subset test"))
        # Without the flag it is left out, with it again it starts from the discriminator.
        commands.train(toy.folder, tmp_path, "--max-update 8")
        assert not any(n.startswith("kept") for n in load_checkpoint(tmp_path / "checkpoint_last.pt")["model"])
        said = commands.train(toy.folder, tmp_path, EVERY, "--disc-keep-best --max-update 9")
        assert "holds no kept_discriminator: it starts as a copy of the discriminator" in said


ALL = f"{EVERY} --disc-gate 0.5 --disc-keep-best --dropout 0.1"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["", "--memory-efficient-bf16 --store-ema --ema-decay 0.5"])
def test_resume_is_exact(toy, tmp_path, precision):
    commands.train(toy.folder, tmp_path / "whole", ALL, precision, "--max-update 15")
    for stop in (4, 5, 9, 12, 15):
        commands.train(toy.folder, tmp_path / "parts", ALL, precision, "--max-update", stop)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name)


@pytest.mark.slow
def test_two_processes_agree_with_one_with_twice_the_batches(toy, tmp_path):
    flags = f"{EVERY} --disc-gate 0.5 --disc-keep-best --clip-norm 0 --dropout 0 --disc-dropout 0 --max-update 12"
    alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    both = run("train", commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2)), processes=2)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)
    assert judgements(alone) == judgements(both.stdout) == [4, 5, 8, 11]


class TestMessages:
    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--disc-gate 0.55", "--disc-gate 0.55 needs judgements: give --disc-gate-interval"),
            ("--disc-keep-best", "--disc-keep-best needs judgements: give --disc-gate-interval"),
            (
                f"{EVERY} --reward-sources length:1-3",
                "--disc-gate-interval 3 judges a discriminator, which",
            ),
            (f"{OPEN} --pg-loss ppo --ppo-reuse 2", "--disc-gate 0.001 cannot take back what --ppo-reuse 2 learns"),
            (f"{EVERY} --disc-gate 1.5", r"--disc-gate must lie in \[0, 1\) but is 1.5"),
        ],
    )
    def test_of_options_that_contradict_each_other(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            make_training(toy.folder, flags)
