"""`python -m fairseq_seqvae judge`: a fresh discriminator on held-out data."""

import argparse
import dataclasses
import json

import commands
import pytest
import torch

from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.judge import __main__ as command
from fairseq_seqvae.judge import training
from fairseq_seqvae.judge.arguments import add_judge, judge_plan
from fairseq_seqvae.judge.figures import Room
from fairseq_seqvae.judge.training import Judge, JudgePlan, Sequences, Transposer
from fairseq_seqvae.measure import figures

PAD, VOCAB, LENGTH = 1, 9, 12
QUICK = JudgePlan(widths=(1, 2, 4, 32), features=8, embed_dim=8, batch=32, max_updates=120, interval=10, lr=1e-2)
SAME = Transposer(None, 1)
FEW = "--cpu --max-updates 3 --features 4"


def random_sequences(count, seed, low=2, high=VOCAB):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (count,), generator=generator)
    tokens = torch.randint(low, high, (count, LENGTH), generator=generator)
    return Sequences(tokens.masked_fill(torch.arange(LENGTH) >= lengths.unsqueeze(1), PAD), lengths)


def ascending(sequences):
    """The same symbols in order: no single symbol tells it, a pair does."""
    return sequences._replace(tokens=sequences.tokens.masked_fill(sequences.tokens == PAD, 99).sort(dim=1).values % 98)


def judged(real, fake, held_out, fresh, plan=QUICK):
    judge = training.train_judge(real, fake, VOCAB, PAD, plan, SAME)
    return judge, training.accuracies(judge.model, held_out, fresh)


class TestTheJudge:
    def test_is_blind_where_there_is_no_difference(self):
        _, (real, fake) = judged(*(random_sequences(600, seed) for seed in range(4)))
        assert (real + fake) / 2 == pytest.approx(0.5, abs=0.06)  # four standard errors of 1200 judgements

    def test_sees_what_neither_of_the_single_symbols_shows(self):
        real, fake, held_out, fresh = (random_sequences(600, seed) for seed in range(4))
        _, (real, fake) = judged(ascending(real), fake, ascending(held_out), fresh)
        assert min(real, fake) > 0.95

    def test_is_the_one_that_was_best_on_its_validation_share(self):
        real, fake = random_sequences(300, 0), random_sequences(300, 1, high=7)
        judge = training.train_judge(real, fake, VOCAB, PAD, QUICK, SAME)
        rows = training.validation_rows(300, QUICK.valid_share)
        assert sum(training.accuracies(judge.model, real.rows(rows), fake.rows(rows))) / 2 == judge.valid_accuracy
        assert judge.updates % QUICK.interval == 0 and not judge.model.training

    def test_stops_where_its_accuracy_no_longer_rises(self, monkeypatch):
        asked = []

        def flat(*_):
            asked.append(1)
            return 0.5, 0.5

        monkeypatch.setattr(training, "accuracies", flat)
        judge = training.train_judge(random_sequences(50, 0), random_sequences(50, 1), VOCAB, PAD, QUICK, SAME)
        assert judge.updates == 10 and len(asked) == 1 + QUICK.patience

    def test_is_the_same_with_the_same_seed_and_leaves_the_generator_of_torch_alone(self):
        real, fake = random_sequences(64, 0), random_sequences(64, 1)
        plan = JudgePlan(widths=(2,), features=4, embed_dim=4, max_updates=2)

        def weights(seed):
            judge = training.train_judge(real, fake, VOCAB, PAD, plan, Transposer(None, seed))
            return judge.model.state_dict()

        torch.manual_seed(3)
        first = weights(1)
        drawn = torch.rand(1)
        torch.manual_seed(4)
        second, third = weights(1), weights(2)
        torch.manual_seed(3)
        assert torch.rand(1) == drawn
        assert all(first[name].equal(second[name]) for name in first)
        assert not first["output.weight"].equal(third["output.weight"])

    def test_refuses_fewer_samples_than_sequences(self):
        with pytest.raises(ValueError, match="there are 5 and 4"):
            training.train_judge(random_sequences(5, 0), random_sequences(4, 1), VOCAB, PAD, QUICK, SAME)

    def test_omits_widths_above_the_longest_sequence(self):
        assert QUICK.for_length(12).widths == [1, 2, 4]
        assert JudgePlan(widths=(8, 16)).for_length(3).widths == [8]


class TestTheValidationShare:
    def test_is_blocks_of_neighbours(self):
        rows = training.validation_rows(10_000, 0.1)
        assert rows.sum() == 1000
        assert set(rows.view(-1, 50).sum(dim=1).tolist()) == {0, 50}

    @pytest.mark.parametrize("count", [2, 3, 11, 60, 499])
    def test_is_neither_nothing_nor_all(self, count):
        assert 0 < training.validation_rows(count, 0.1).sum() < count


class TestTransposition:
    known = Transposition.of_pitches({2: 60, 3: 61, 4: 62, 5: 63}, VOCAB, 60, 63)

    def test_is_another_one_in_another_epoch_and_the_same_in_the_same(self):
        tokens, ids = torch.tensor([[2, 3]]).repeat(60, 1), torch.arange(60)
        first, again, other = (Transposer(self.known, 1)(tokens, ids, turn) for turn in (1, 1, 2))
        assert first.equal(again) and not first.equal(other)
        assert {tuple(row) for row in first.tolist()} == {(2, 3), (3, 4), (4, 5)}

    def test_reaches_what_the_judge_learns_from(self):
        """Real sequences have the lowest pitches, samples all of them: transposed, they are alike."""
        real, fake = (Sequences(torch.full((400, 3), 2), torch.full((400,), 3)) for _ in range(2))
        fake = fake._replace(tokens=torch.arange(400).remainder(4).add(2).unsqueeze(1).expand(-1, 3))
        plain = training.train_judge(real, fake, VOCAB, PAD, QUICK, SAME)
        transposed = training.train_judge(real, fake, VOCAB, PAD, QUICK, Transposer(self.known, 1))
        assert plain.valid_accuracy > 0.8 > transposed.valid_accuracy


class TestTheCommand:
    def run(self, capsys, trained, *flags):
        assert command.main(commands.split_flags(trained.folder, "--path", trained.checkpoint, FEW, *flags)) == 0
        return capsys.readouterr().out

    def fails(self, capsys, trained, *flags):
        assert command.main(commands.split_flags(trained.folder, "--path", trained.checkpoint, FEW, *flags)) == 2
        error = capsys.readouterr().err
        assert error.count("error: ") == 1
        return error

    def test_writes_the_figures_of_each_seed_and_their_means(self, trained, capsys, tmp_path):
        out = tmp_path / "judge.json"
        text = self.run(capsys, trained, "--sequences 20 --seeds 1,2 --temperatures 1,0.5 --json", out)
        found = json.loads(out.read_text())
        assert [row["temperature"] for row in found["samples"]] == [1.0, 0.5]
        for row in found["samples"]:
            assert [run["seed"] for run in row["runs"]] == [1, 2]
            for name in ("accuracy", "distinct", "copies"):
                assert row[name] == pytest.approx(sum(run[name] for run in row["runs"]) / 2)
            for run in row["runs"]:
                assert run["accuracy"] == pytest.approx((run["accuracy_real"] + run["accuracy_fake"]) / 2)
        assert found["held_out"]["sequences"] == 20
        assert "in_one_scale" not in found["held_out"]
        lines = text.splitlines()
        assert sum(line.startswith("| samples, temperature") for line in lines) == 2
        assert text.count(f" after 3 updates, learned from {len(trained.data.train)} samples") == 4
        assert f"{found['samples'][1]['accuracy']:.3f}" in next(line for line in lines if "temperature 0.5 |" in line)

    def test_flags_say_what_judge_there_is(self):
        parser = argparse.ArgumentParser()
        add_judge(parser)
        assert judge_plan(parser.parse_args([])) == dataclasses.replace(JudgePlan(), widths=[1, 2, 4, 8, 16, 32])
        flags = "--widths 3,2 --features 5 --dropout 0.1 --lr 0.01 --max-updates 7 --patience 9"
        found = judge_plan(parser.parse_args(flags.split()))
        assert found == JudgePlan([2, 3], features=5, dropout=0.1, lr=0.01, max_updates=7, patience=9)

    @pytest.mark.parametrize("accuracy, warns", [(0.59, True), (0.61, False)])
    def test_says_where_a_judge_may_have_stopped_too_soon(self, trained, capsys, monkeypatch, accuracy, warns):
        def judge(*given):
            return training.train_judge(*given)._replace(valid_accuracy=accuracy)

        monkeypatch.setattr("fairseq_seqvae.judge.figures.train_judge", judge)
        assert ("--patience 24 --max-updates 1500" in self.run(capsys, trained, "--sequences 20")) == warns

    def test_counts_copies_of_training_sequences(self, trained, capsys, tmp_path):
        self.run(capsys, trained, "--json", tmp_path / "judge.json")
        found = json.loads((tmp_path / "judge.json").read_text())
        known = set(trained.data.train)
        assert found["held_out"]["copies"] == pytest.approx(
            sum(line in known for line in trained.data.test) / len(trained.data.test)
        )
        assert found["held_out"]["distinct"] == pytest.approx(len(set(trained.data.test)) / len(trained.data.test))

    def test_judges_other_samples_than_the_judge_has_learned_from(self, trained, monkeypatch):
        model, task = figures.load(trained.checkpoint, trained.folder)
        room = Room(model, task, "test", 15, 30)
        seen = {}

        def remember(real, fake, *_):
            seen.update(real=real, fake=fake)
            return Judge(torch.nn.Identity(), 1, 0.5)

        def judge(_, real, fake):
            seen.update(held_out=real, fresh=fake)
            return 1.0, 0.5

        monkeypatch.setattr("fairseq_seqvae.judge.figures.train_judge", remember)
        monkeypatch.setattr("fairseq_seqvae.judge.figures.accuracies", judge)
        row = room.sampled_row(1.0, [3], "model", QUICK)
        assert row["accuracy"] == 0.75
        assert row["accuracy_standard_error"] == pytest.approx((0.5 * 0.5 / 15) ** 0.5 / 2)
        drawn = figures.prior_samples(model, 45, 3)
        assert seen["fake"].tokens.equal(drawn.tokens[:30]) and seen["fresh"].tokens.equal(drawn.tokens[30:])
        for name, lines in (("held_out", trained.data.test[:15]), ("real", trained.data.train[:30])):
            rows = zip(*seen[name], strict=True)
            assert [task.dictionary.string(row[:length]) for row, length in rows] == lines

    def test_refuses_to_overwrite_before_any_work(self, trained, capsys, tmp_path):
        (tmp_path / "judge.json").write_text("mine")
        assert "exists already" in self.fails(capsys, trained, "--json", tmp_path / "judge.json")
        assert "no folder" in self.fails(capsys, trained, "--json", tmp_path / "none" / "judge.json")
        assert (tmp_path / "judge.json").read_text() == "mine"

    def test_says_that_there_is_no_fitted_prior(self, trained, capsys):
        assert "--prior fitted" in self.fails(capsys, trained, "--prior fitted")


class TestMelodies:
    """Statistics of tunes, with a dictionary of melodies."""

    class Task:
        class dictionary:  # noqa: N801
            symbols = ("<s>", "<pad>", "</s>", "<unk>", "_", "60", "62", "70")

    def room(self, bar):
        room = Room.__new__(Room)
        room.task, room.bar = self.Task, bar
        room.pitch_of = torch.tensor([-1, -2, -3, -4, -5, 60, 62, 70]).numpy()
        room.all_training = Sequences(torch.tensor([[5, 4, 6, 4], [6, 4, 6, 4]]), torch.tensor([4, 4]))
        return room

    def test_of_two_tunes(self):
        tunes = Sequences(torch.tensor([[5, 4, 6, 4], [5, 7, 5, 7], [5, 4, 5, 4]]), torch.tensor([4, 4, 4]))
        found = self.room(bar=2).statistics(tunes)
        assert found["copies"] == pytest.approx(1 / 3) and found["transposed_copies"] == pytest.approx(2 / 3)
        assert found["distinct"] == 1.0
        assert found["leaps"] == pytest.approx(3 / 5)  # 2; 10, -10, 10; 0
        assert found["bar_returns"] == pytest.approx(2 / 3)
        assert found["in_one_scale"] == 1.0  # C, D, B flat: F major
        assert found["interval_divergence"] > 0.1
        assert "bar_returns" not in self.room(bar=3).statistics(tunes)

    def test_of_the_training_data_themselves(self):
        room = self.room(bar=2)
        found = room.statistics(room.all_training)
        assert found["copies"] == found["transposed_copies"] == 1.0
        assert found["interval_divergence"] == pytest.approx(0, abs=1e-12)
