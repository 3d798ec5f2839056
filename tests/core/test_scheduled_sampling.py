"""Scheduled sampling: how the share of sampled inputs rises, and which inputs are replaced by what."""

import math

import pytest
import torch

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.rollouts.scheduled_sampling import InputMix, mixed_inputs
from fairseq_seqvae.core.schedules.scheduled_sampling import sampling_share

PAD, VOCAB = 1, 6


class TestTheSchedule:
    def test_linear_by_hand(self):
        assert [sampling_share(n, 0.4, "linear", 10) for n in (0, 5, 10, 50)] == [0.0, 0.2, 0.4, 0.4]

    def test_constant_needs_no_updates(self):
        assert sampling_share(0, 0.3, "constant", 0) == sampling_share(9, 0.3, "constant", 0) == 0.3

    @pytest.mark.parametrize("updates", [2, 20, 1000, 200_000])
    def test_the_inverse_sigmoid_is_that_of_the_paper_and_half_way_in_the_middle(self, updates):
        assert sampling_share(updates // 2, 0.8, "inverse-sigmoid", updates) == pytest.approx(0.4)
        # By bisection: the k with k log k = updates / 2.
        low, high = 1.0, updates + 3.0
        for _ in range(200):
            k = (low + high) / 2
            low, high = (k, high) if k * math.log(k) < updates / 2 else (low, k)
        for update in (0, updates // 3, updates):
            truth = k / (k + math.exp(update / k))
            assert sampling_share(update, 0.8, "inverse-sigmoid", updates) == pytest.approx(0.8 * (1 - truth), rel=1e-6)

    def test_rises_without_overflow(self):
        shares = [sampling_share(n, 1.0, "inverse-sigmoid", 100) for n in (0, 10, 50, 90, 10**6)]
        assert shares == sorted(shares) and shares[0] < 0.1 and shares[-1] == 1.0

    def test_an_unknown_one_is_named(self):
        with pytest.raises(ValueError, match="`schedule` must be one of linear.*'cosine'"):
            sampling_share(1, 0.5, "cosine", 10)


def keys(number, stream):
    return noise.row_keys(3, 0, stream, torch.arange(number))


def mix(share, number):
    return InputMix(share, keys(number, 1), keys(number, 2))


class TestTheMixture:
    inputs = torch.tensor([[2, 3, 4, 5, 3], [2, 5, 4, 1, 1]])

    def mixed(self, share, logits=None):
        features = torch.zeros(2, 5, VOCAB) if logits is None else logits
        return mixed_inputs(self.inputs, features, lambda rows: rows, mix(share, len(self.inputs)), PAD)

    def test_without_a_share_nothing_changes(self):
        assert self.mixed(0.0).equal(self.inputs)

    def test_what_was_expected_at_a_step_is_the_input_of_the_next(self):
        # The decoder is sure: after step t of row r comes the token.
        expected = torch.tensor([[3, 3, 5, 4, 2], [0, 5, 2, 2, 2]])
        logits = torch.nn.functional.one_hot(expected, VOCAB) * 1e4
        assert self.mixed(1.0, logits).tolist() == [[2, 3, 3, 5, 4], [2, 0, 5, 1, 1]]

    def test_equals_the_loop(self):
        generator = torch.Generator().manual_seed(1)
        logits, share = torch.randn(2, 5, VOCAB, generator=generator), 0.5
        found, plan, kept = self.mixed(share, logits), mix(share, 2), []
        for row in range(2):
            for step in range(5):
                own = self.inputs[row, step].item()
                replaced = noise.uniform(plan.choice_keys, step)[row] < share
                if step > 0 and replaced and own != PAD:
                    chance = noise.uniform(plan.token_keys, step - 1)[row].item()
                    weights = [math.exp(x) for x in logits[row, step - 1].tolist()]
                    sums = [sum(weights[: n + 1]) / sum(weights) for n in range(VOCAB)]
                    own = next(n for n in range(VOCAB) if sums[n] > chance)
                kept.append(own)
        assert found.flatten().tolist() == kept and not found.equal(self.inputs)

    def test_the_share_is_met_and_rows_do_not_depend_on_the_batch(self):
        inputs = torch.full((400, 21), 2)
        logits = torch.zeros(400, 21, VOCAB)
        logits[..., 2] = -1e4  # a sample is always something else
        found = mixed_inputs(inputs, logits, lambda rows: rows, mix(0.3, 400), PAD)
        share = (found[:, 1:] != 2).double().mean().item()
        assert share == pytest.approx(0.3, abs=4 * (0.21 / 8000) ** 0.5)
        part = InputMix(0.3, keys(400, 1)[7:9], keys(400, 2)[7:9])
        assert mixed_inputs(inputs[7:9, :9], logits[7:9, :9], lambda rows: rows, part, PAD).equal(found[7:9, :9])
