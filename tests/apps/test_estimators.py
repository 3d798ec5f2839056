"""`python -m fairseq_seqvae estimators`: noisy vectors whose truth is known, and the command."""

import json

import pytest
import torch

from fairseq_seqvae.estimators import __main__ as command
from fairseq_seqvae.estimators.statistics import Sketch, judge


def noisy(truth, deviation, count, seed):
    generator = torch.Generator().manual_seed(seed)
    return truth + deviation * torch.randn(count, len(truth), generator=generator)


class TestJudge:
    def test_by_hand(self):
        # The inner products of different estimates are 1 each: the truth has length 1. Each has power 2.
        estimates = torch.cat([torch.ones(3, 1), torch.eye(3)], dim=1)
        found = judge({"one": estimates}, {"one": 2.0})["one"]
        assert found.estimates == 3
        assert found.error == pytest.approx(1.0) and found.cosine == pytest.approx(0.5**0.5)
        assert found.signal == pytest.approx(0.5)

    def test_errors_are_those_of_the_noise(self):
        truth = torch.linspace(-1, 1, 40)
        estimates = {"good": noisy(truth, 0.5, 400, 1), "bad": noisy(truth, 3.0, 400, 2)}
        found = judge(estimates, {"good": 1.0, "bad": 0.1})
        power = float(truth.square().sum())
        for name, deviation in (("good", 0.5), ("bad", 3.0)):
            assert found[name].error == pytest.approx(40 * deviation**2 / power, rel=0.1)
            assert found[name].cosine == pytest.approx((1 + found[name].error) ** -0.5, rel=0.1)
        assert found["good"].signal / found["bad"].signal == pytest.approx(36 / 10, rel=0.2)

    def test_a_biased_kind_is_judged_by_the_others(self):
        truth = torch.tensor([1.0, 0.0, 0.0])
        estimates = {"fair": noisy(truth, 0.1, 200, 3), "tilted": noisy(torch.tensor([1.0, 1.0, 0.0]), 0.0, 200, 4)}
        found = judge(estimates, {"fair": 1.0, "tilted": 1.0}, frozenset({"tilted"}))
        assert found["tilted"].error == pytest.approx(1.0, rel=0.05)
        assert found["tilted"].cosine == pytest.approx(0.5**0.5, rel=0.05)
        assert found["fair"].error == pytest.approx(0.03, rel=0.2)

    def test_pure_noise_is_not_taken_for_signal(self):
        # Different estimates are at right angles or opposed.
        with pytest.raises(ValueError, match="cannot be told from 0"):
            judge({"noise": torch.tensor([[1.0, 0.0], [-1.0, 0.1]])}, {"noise": 1.0})


class TestSketch:
    def test_inner_products_are_kept(self):
        a, b = noisy(torch.zeros(300_000), 1.0, 2, 5)
        sketch = Sketch(300_000, 1 << 14)
        small = sketch(a), sketch(a + b)
        assert small[0].shape == (1 << 14,)
        expected = float(a @ (a + b))
        assert float(small[0] @ small[1]) == pytest.approx(expected, rel=0.05)

    def test_few_numbers_stay_as_they_are(self):
        vector = torch.arange(5.0)
        assert torch.equal(Sketch(5)(vector), vector)


class TestCommand:
    FLAGS = "--length 5 --vocab-size 30 --batch-size 8 --seconds 1 --gen-updates 2 --disc-updates 3"

    @pytest.mark.slow
    def test_it_prints_a_row_per_estimator_and_writes_the_figures(self, tmp_path, capsys):
        file = tmp_path / "figures.json"
        assert command.main([*self.FLAGS.split(), "--json", str(file)]) == 0
        said = capsys.readouterr().out
        figures = json.loads(file.read_text())
        assert list(figures["rows"]) == list(command.ROWS) and figures["shape"]["length"] == 5
        for name, row in figures["rows"].items():
            assert f"{name:28} {row['estimates']:4}" in said
            assert row["estimates"] >= 4 and row["seconds"] > 0 and row["error"] > 0
        assert command.main([*self.FLAGS.split(), "--json", str(file)]) == 2
        assert "exists already" in capsys.readouterr().err

    def test_no_length_is_refused(self, capsys):
        with pytest.raises(SystemExit):
            command.main(["--length", "0"])
        assert "must be a whole number of at least 1" in capsys.readouterr().err
