"""`python -m fairseq_seqvae select`: draws that discriminators find as real as the data."""

import dataclasses
import math

import commands
import pytest
import torch
from commands import load_checkpoint

from fairseq_seqvae.cards.best_of import least_divergence
from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.fit_prior.__main__ import main as fit_prior
from fairseq_seqvae.judge import select as command
from fairseq_seqvae.judge import selection
from fairseq_seqvae.judge.__main__ import main as judge
from fairseq_seqvae.judge.selection import Preferences, SelectionPlan, chances, threshold
from fairseq_seqvae.judge.training import JudgePlan, Sequences, train_judge
from fairseq_seqvae.measure import figures

PAD, VOCAB, LENGTH = 1, 6, 6
QUICK = JudgePlan(widths=(1, 2), features=16, embed_dim=8, dropout=0.0, batch=64, max_updates=200, interval=20, lr=1e-2)


ONE = SelectionPlan(keep=0.1, rounds=1, members=1, judge=QUICK)
FEW = "--cpu --draws 90 --keep 0.5 --max-updates 3 --features 4"


def coins(count, share, seed):
    """Sequences of the symbols 2 and 3, whose share of 3 is *share*."""
    generator = torch.Generator().manual_seed(seed)
    tokens = 2 + (torch.rand(count, LENGTH, generator=generator) < share).long()
    return Sequences(tokens, torch.full((count,), LENGTH))


def rounds(plan, real=None, drawn=None, transposition=None):
    real = coins(3000, 0.7, 1) if real is None else real
    drawn = coins(12_000, 0.5, 2) if drawn is None else drawn
    return list(selection.selection(real, drawn, VOCAB, PAD, plan, transposition)), drawn


class TestTheThreshold:
    @pytest.mark.parametrize("keep", [0.01, 0.1, 0.5, 0.999])
    def test_so_many_are_kept_on_the_mean(self, keep):
        odds = 3 * torch.randn(500, generator=torch.Generator().manual_seed(1))
        c = threshold(odds, keep)
        assert (odds.double() - c).exp().clamp(max=1).mean().item() == pytest.approx(keep, rel=1e-6)

    def test_equal_odds_give_equal_chances(self):
        odds = torch.full((10,), 4.0)
        assert (odds - threshold(odds, 0.25)).exp().tolist() == pytest.approx([0.25] * 10)

    def test_all_are_kept_for_sure(self):
        odds = torch.tensor([-2.0, 0.0, 1.0])
        assert (odds.double() - threshold(odds, 1.0) >= -1e-9).all()


class TestChances:
    def chances(self, features, keep=0.2):
        return chances(torch.zeros(len(features)), features, keep)

    def test_what_is_matched_has_the_mean_0_in_all_that_is_kept(self):
        generator = torch.Generator().manual_seed(1)
        features = torch.randn(5000, 2, generator=generator) + torch.tensor([0.8, -0.3])
        chance = self.chances(features)
        assert chance.mean().item() == pytest.approx(0.2, rel=1e-6) and chance.max() <= 1
        assert ((chance.unsqueeze(1) * features).sum(dim=0) / chance.sum()).abs().max() < 2e-3

    def test_a_rare_thing_becomes_as_common_as_it_is_in_the_data(self):
        rare = torch.arange(10_000) < 300  # 3 % of the draws, 10 % of the data
        chance = self.chances(((rare.double() - 0.1) / 0.3).unsqueeze(1))
        assert (chance[rare].sum() / chance.sum()).item() == pytest.approx(0.1, abs=1e-3)

    def test_what_no_draw_has_comes_as_near_as_it_can(self):
        features = (torch.arange(1000).double() / 1000 - 5).unsqueeze(1)
        chance = self.chances(features)
        assert chance[-150:].min() > 0.9 and chance[:700].max() < 0.1 and chance.isfinite().all()

    def test_the_divergence_of_what_is_kept(self):
        """A tenth of the draws is 0.9 of what is kept: 0.9 ln 9 + 0.1 ln (1 / 9)."""
        chance = torch.tensor([0.81] + [0.01] * 9, dtype=torch.float64)
        assert selection.divergence(chance) == pytest.approx(0.9 * math.log(9) - 0.1 * math.log(9))
        assert selection.divergence(torch.tensor([1.0, 0.0, 0.0, 0.0])) == pytest.approx(math.log(4))
        assert selection.divergence(torch.full((7,), 0.3)) == pytest.approx(0, abs=1e-6)

    def test_equal_draws_have_equal_chances(self):
        assert self.chances(torch.full((50, 1), -1.0)).tolist() == pytest.approx([0.2] * 50)


class TestTheSelection:
    def test_what_is_kept_is_distributed_as_the_data(self):
        (only,), drawn = rounds(ONE)
        assert len(only.kept) == pytest.approx(1200, abs=150)
        counts = [
            (part == 3).sum(dim=1).bincount(minlength=LENGTH + 1) for part in (drawn.tokens, drawn.tokens[only.kept])
        ]
        before, after = (part / part.sum() for part in counts)
        wanted = torch.distributions.Binomial(LENGTH, torch.tensor(0.7)).log_prob(torch.arange(7.0)).exp()
        assert (before - wanted).abs().sum() / 2 > 0.3
        assert (after - wanted).abs().sum() / 2 < 0.15

    def test_a_second_round_finds_less_than_the_first(self):
        first, second = rounds(SelectionPlan(keep=0.1, rounds=2, members=1, judge=QUICK))[0]
        assert first.accuracy > 0.6 and second.accuracy < first.accuracy - 0.05

    def test_where_there_is_no_difference_no_draw_is_preferred(self):
        (only,), drawn = rounds(SelectionPlan(keep=0.3, rounds=1, members=1, judge=QUICK), drawn=coins(12_000, 0.7, 5))
        share = (drawn.tokens[only.kept] == 3).float().mean().item()
        assert only.accuracy == pytest.approx(0.5, abs=0.06)
        assert share == pytest.approx(0.7, abs=0.03)

    def test_rewards_count_beside_or_without_discriminators(self):
        drawn = coins(12_000, 0.5, 2)
        threes = (drawn.tokens == 3).double().sum(dim=1)
        nothing = torch.zeros(len(threes), 0)
        tilted = Preferences(math.log(3) * threes, nothing)  # odds of 3 to 1 for each symbol
        alone = SelectionPlan(keep=0.05, weight=None)
        found = list(selection.selection(drawn, drawn, VOCAB, PAD, alone, None, tilted))
        assert len(found) == 1 and math.isnan(found[0].accuracy)
        assert (drawn.tokens[found[0].kept] == 3).double().mean().item() == pytest.approx(0.75, abs=0.03)
        both = list(selection.selection(coins(3000, 0.5, 1), drawn, VOCAB, PAD, ONE, None, tilted))
        assert (drawn.tokens[both[0].kept] == 3).double().mean().item() == pytest.approx(0.75, abs=0.06)

    def test_the_weight_of_the_discriminators(self):
        def share(weight):
            ((one,), drawn) = rounds(dataclasses.replace(ONE, keep=0.3, weight=weight))
            return (drawn.tokens[one.kept] == 3).double().mean().item()

        assert share(0.0) == pytest.approx(0.5, abs=0.02)
        assert share(0.0) + 0.03 < share(0.5) < share(1.0) - 0.02

    def test_later_rounds_learn_from_what_is_kept(self, monkeypatch):
        given = []

        def noted(real, fake, *others):
            given.append((real, fake, others[-1].seed))
            return train_judge(real, fake, *others)

        monkeypatch.setattr(selection, "train_judge", noted)
        plan = SelectionPlan(keep=0.1, rounds=2, members=2, judge=QUICK)
        found, drawn = rounds(plan)
        assert len(given) == 4 and len({seed for *_, seed in given}) == 4
        assert min(seed for *_, seed in given) >= 1_000_000  # judges have small ones
        for real, fake, _ in given[:2]:
            assert len(real.tokens) == 3000 and fake.tokens.equal(drawn.tokens[:3000])
        few = found[0].kept
        for real, fake, _ in given[2:]:
            assert len(real.tokens) == len(few) < 3000 and fake.tokens.equal(drawn.tokens[few])

    def test_the_same_with_the_same_seed(self):
        plan = SelectionPlan(rounds=1, members=1, judge=JudgePlan(widths=(1,), features=4, max_updates=5))
        one, again = rounds(plan)[0][0], rounds(plan)[0][0]
        other = rounds(SelectionPlan(rounds=1, members=1, judge=plan.judge, seed=2))[0][0]
        assert one.kept.equal(again.kept) and not one.kept.equal(other.kept)

    def test_real_sequences_are_transposed_as_in_training(self):
        """The data have the lowest pitches, the draws all of them: transposed, they are alike."""
        real = Sequences(torch.full((600, 3), 2), torch.full((600,), 3))
        drawn = Sequences(torch.arange(2400).remainder(4).add(2).unsqueeze(1).expand(-1, 3), torch.full((2400,), 3))
        known = Transposition.of_pitches({2: 60, 3: 61, 4: 62, 5: 63}, VOCAB, 60, 63)
        plan = SelectionPlan(keep=0.5, rounds=1, members=1, judge=QUICK)
        shares = []
        for transposition in (None, known):
            (only,), _ = rounds(plan, real, drawn, transposition)
            shares.append((drawn.tokens[only.kept, 0] == 2).float().mean().item())
        assert shares[0] > 0.45 and shares[1] == pytest.approx(0.25, abs=0.07)


class TestTheCommand:
    def run(self, capsys, trained, out, *flags):
        given = (trained.folder, "--path", trained.checkpoint, FEW, "--out", out, *flags)
        assert command.main(commands.split_flags(*given)) == 0
        return capsys.readouterr().out

    def fails(self, capsys, trained, *flags):
        assert command.main(commands.split_flags(trained.folder, "--path", trained.checkpoint, FEW, *flags)) == 2
        error = capsys.readouterr().err
        assert error.count("error: ") == 1
        return error

    def test_writes_some_of_the_draws_of_the_checkpoint(self, trained, tmp_path, capsys):
        out = tmp_path / "draws.txt"
        told = self.run(capsys, trained, out, "--seed 3")
        assert [line.split(":")[0] for line in told.splitlines()] == ["round 1", "round 2", str(out)]
        model, task = figures.load(trained.checkpoint, trained.folder)
        drawn = figures.prior_samples(model, 90, 3)
        all_lines = [task.dictionary.string(row[:n]) for row, n in zip(drawn.tokens, drawn.lengths, strict=True)]
        lines = out.read_text().splitlines()
        assert f"{out}: {len(lines)} draws of {trained.checkpoint}" in told
        assert 20 < len(lines) < 70 and all(lines)
        rest = iter(all_lines)
        assert all(line in rest for line in lines)  # in their order

    def test_other_commands_read_the_file(self, trained, tmp_path, capsys):
        out, fitted = tmp_path / "draws.txt", tmp_path / "fitted.pt"
        self.run(capsys, trained, out)
        known = (trained.folder, "--path", trained.checkpoint, "--cpu")
        assert fit_prior(commands.split_flags(*known, "--exemplars --lines", out, "--out", fitted)) == 0
        lines = out.read_text().splitlines()
        assert len(load_checkpoint(fitted)["model"]["fitted_prior.means"]) == len(lines)
        capsys.readouterr()
        assert judge(commands.split_flags(*known, "--sequences 10 --max-updates 3 --samples", out)) == 0
        assert f"| samples of {out} |" in capsys.readouterr().out

    def test_rewards_of_the_user(self, trained, tmp_path, capsys, monkeypatch):
        """Without a discriminator none is trained; what is matched is as common as in the data."""
        monkeypatch.setattr(selection, "train_judge", None)
        (tmp_path / "rules.py").write_text(
            "def begins(samples, **kwargs):\n    return [None if not s else float(s[0] in 'abcde') for s in samples]\n"
        )
        shares = {}
        for source in ("match:{}:begins", "{}:begins"):
            out = tmp_path / f"{source[:5]}.txt"
            flags = "--draws 3000 --keep 0.3 --reward-sources", source.format(tmp_path / "rules.py")
            told = self.run(capsys, trained, out, *flags, *(["--reward-weights 9"] if source[0] == "{" else []))
            assert told.splitlines()[0].startswith("round 1: ") and "right" not in told
            lines = out.read_text().splitlines()
            shares[source[0]] = sum(line[0] in "abcde" for line in lines) / len(lines)
            assert f"begins: {self.share(trained.data.train):.4g} of the training data, " in told
            of_all = float(told.split(" of all draws")[0].split()[-1])
            found = float(told.split("their divergence from all is ")[1].split()[0])
            # No policy reaches this share at less.
            assert found == pytest.approx(least_divergence(of_all, min(0.9999, shares[source[0]])), abs=0.03)
        assert shares["m"] == pytest.approx(self.share(trained.data.train), abs=0.05)
        assert shares["{"] > 0.99

    def test_a_rule_is_told_what_training_tells_it(self, trained, tmp_path, capsys):
        (tmp_path / "rules.py").write_text(
            "def told(samples, tokens, lengths, ended, references, labels, **kwargs):\n"
            "    assert len(samples) == len(tokens) == len(lengths) == len(ended) and labels is None\n"
            "    assert [len(sample.split()) for sample in samples] == lengths and len(references) > 10\n"
            "    return [len(set(references)) + length / 100 for length in lengths]\n"
        )
        told = self.run(capsys, trained, tmp_path / "a.txt", f"--reward-sources {tmp_path / 'rules.py'}:told,bleu")
        references = trained.data.train[:: max(1, len(trained.data.train) // 64)]
        found = next(line for line in told.splitlines() if line.startswith("told: "))
        assert int(float(found.split()[1])) == len(set(references))
        assert "bleu: " in told

    def share(self, lines):
        return sum(line[0] in "abcde" for line in lines) / len(lines)

    @pytest.mark.parametrize(
        "flags, sentence",
        [
            ("--reward-sources match:discriminator", "a discriminator compares samples with the data already"),
            ("--reward-sources match:length:3 --reward-weights 2", "the weight of match:length:3 is found, not given"),
            ("--reward-sources discriminator --reward-weights 1,2", "give a number for each of --reward-sources"),
            ("--reward-sources length:3,length:3", "has 'length:3' twice"),
            ("--reward-sources nothing", "--reward-sources 'nothing': unknown reward 'nothing'"),
            ("--reward-sources match:length:>=1", "says 1 of all training sequences, so there is nothing to match"),
        ],
    )
    def test_rewards_that_will_not_do_are_refused_before_the_draws(
        self, flags, sentence, trained, tmp_path, capsys, monkeypatch
    ):
        monkeypatch.setattr(figures, "prior_samples", None)
        assert sentence in self.fails(capsys, trained, flags, "--out", tmp_path / "never.txt")
        assert not (tmp_path / "never.txt").exists()

    @pytest.mark.parametrize("flags", ["--keep 0", "--keep 1.5", "--keep nan", "--rounds 0", "--discriminators x"])
    def test_flags_out_of_bounds(self, flags, trained, tmp_path, capsys):
        with pytest.raises(SystemExit):
            self.run(capsys, trained, tmp_path / "never.txt", flags)
        assert "must be a" in capsys.readouterr().err

    def test_what_cannot_be_written_is_said_before_the_work(self, trained, tmp_path, capsys):
        assert "make it first" in self.fails(capsys, trained, "--out", tmp_path / "missing" / "draws.txt")
        (tmp_path / "draws.txt").write_text("mine\n")
        assert "exists already" in self.fails(capsys, trained, "--out", tmp_path / "draws.txt")
        assert (tmp_path / "draws.txt").read_text() == "mine\n"

    def test_too_few_draws_to_learn_from(self, trained, tmp_path, capsys):
        sentence = self.fails(capsys, trained, "--draws 3 --keep 0.01 --seed 2 --out", tmp_path / "never.txt")
        assert "give more --draws, or a larger --keep" in sentence
        assert not (tmp_path / "never.txt").exists()


class TestLinesOfAFile:
    def write(self, tmp_path, *lines):
        path = tmp_path / "lines.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def test_are_read_as_the_data_are(self, trained, tmp_path):
        _, task = figures.load(trained.checkpoint, trained.folder)
        ids, tokens, lengths, _ = figures.read_split(task, "test", 5)
        lines = [task.dictionary.string(row[:n]) for row, n in zip(tokens, lengths, strict=True)]
        read = figures.read_lines(self.write(tmp_path, "", *lines), task)
        assert read.ids.tolist() == [1, 2, 3, 4, 5]
        assert read.lengths.equal(lengths) and read.tokens.equal(tokens[:, : read.tokens.size(1)])

    def test_are_refused_with_their_number(self, trained, tmp_path):
        model, task = figures.load(trained.checkpoint, trained.folder)
        known = task.dictionary[task.dictionary.nspecial]
        with pytest.raises(ValueError, match=r"lines.txt, line 2: the symbol 'never-seen' is not in the dictionary"):
            figures.read_lines(self.write(tmp_path, known, f"{known} never-seen"), task)
        with pytest.raises(ValueError, match=r"lines.txt has no line with symbols"):
            figures.read_lines(self.write(tmp_path, "", " "), task)
        (tmp_path / "binary.pt").write_bytes(b"a b\n\xff\xfe")
        with pytest.raises(ValueError, match=r"binary.pt is not UTF-8 \(byte 4\): give lines of symbols"):
            figures.read_lines(tmp_path / "binary.pt", task)
        task.fixed_length = 2
        with pytest.raises(ValueError, match=r"lines.txt, line 1 has 3 symbols: the model knows sequences of 2 only"):
            figures.read_lines(self.write(tmp_path, f"{known} {known} {known}"), task)

    def test_that_the_encoder_cannot_read(self, trained, tmp_path, capsys, caplog):
        _, task = figures.load(trained.checkpoint, trained.folder)
        known = task.dictionary[task.dictionary.nspecial]
        lines, too_long = [known, f"{known} {known}"], " ".join([known] * 2000)
        fitted = {}
        for name, some in {"with": [lines[0], too_long, lines[1]], "without": lines}.items():
            flags = ("--exemplars --cpu --lines", self.write(tmp_path, *some), "--out", tmp_path / f"{name}.pt")
            assert fit_prior(commands.split_flags(trained.folder, "--path", trained.checkpoint, *flags)) == 0
            fitted[name] = load_checkpoint(tmp_path / f"{name}.pt")["model"]["fitted_prior.means"]
        assert len(fitted["with"]) == 2 and fitted["with"].equal(fitted["without"])
        (told,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert "lines.txt: 1 of 3 lines have more than the " in told
        assert "encoder reads, the first of them line 2 with 2001; they are left out." in told
        flags = ("--exemplars --cpu --lines", self.write(tmp_path, known, too_long), "--out", tmp_path / "never.pt")
        assert fit_prior(commands.split_flags(trained.folder, "--path", trained.checkpoint, *flags)) == 2
        assert "line 2 with 2001: give lines that are shorter" in capsys.readouterr().err

    def test_that_are_hardly_more_than_what_they_are_compared_with(self, trained, tmp_path, capsys):
        _, task = figures.load(trained.checkpoint, trained.folder)
        path = self.write(tmp_path, *[task.dictionary[task.dictionary.nspecial]] * 11)
        flags = (trained.folder, "--path", trained.checkpoint, "--cpu --sequences 10 --samples", path)
        assert judge(commands.split_flags(*flags)) == 2
        assert "has 11 lines, but 10 are compared with held-out sequences" in capsys.readouterr().err
        assert judge(commands.split_flags(*flags, "--prior fitted")) == 2
        assert "omit them or --samples" in capsys.readouterr().err
