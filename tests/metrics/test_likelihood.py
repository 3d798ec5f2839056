"""Likelihood bounds against exact integration, mutual information, active units, distinct n-grams."""

import math

import numpy as np
import oracles
import pytest
import torch
from toys import EOS, PAD, VOCAB, Policy, WholeHistory

from fairseq_seqvae import metrics
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.metrics import likelihood

TOKENS = torch.tensor([[3, 4, EOS, PAD], [0, 0, 3, EOS], [EOS, PAD, PAD, PAD]])
LENGTHS = torch.tensor([3, 4, 1])
TEMPERATURES = (1.0, 0.6)
GRID = np.linspace(-9, 9, 3001)


class Leaning(Policy):
    """p(token | previous token, z): logits of a table that z, of one dimension, pushes to one side."""

    def __init__(self):
        generator = torch.Generator().manual_seed(1)
        self.table = torch.randn(VOCAB, VOCAB, generator=generator)
        self.slopes = torch.randn(VOCAB, VOCAB, generator=generator)

    def first_state(self, z):
        return (z,)

    def step(self, prev_tokens, state):
        return self.table[prev_tokens] + state[0] * self.slopes[prev_tokens], state

    def read(self, features):
        return features

    def log_probs(self, tokens, z, temperature):
        """log p_tau(tokens|z) at each of the numbers z."""
        total = np.zeros(len(z))
        for previous, token in zip([EOS, *tokens], tokens, strict=False):
            logits = (self.table[previous].numpy() + np.outer(z, self.slopes[previous].numpy())) / temperature
            total += logits[:, token] - np.log(np.exp(logits).sum(axis=1))
        return total


def density(z, mean=0.0, std=1.0):
    return np.exp(-0.5 * ((z - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))


def integral(values):
    return float(((values[1:] + values[:-1]) / 2 * np.diff(GRID)).sum())


def rows(tokens, lengths):
    return [row[:length] for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True)]


@pytest.fixture
def leaning():
    return Leaning()


@pytest.fixture
def proposal():
    return DiagonalGaussian(torch.tensor([[0.3], [-0.5], [0.0]]), torch.tensor([[0.9], [1.1], [1.0]]))


def held_out(policy, posterior, num_samples, tokens=TOKENS, lengths=LENGTHS, ids=None, **options):
    options = {"temperatures": TEMPERATURES, "seed": 1} | options
    ids = torch.arange(len(tokens)) if ids is None else ids
    return metrics.held_out(policy, posterior, tokens, lengths, ids=ids, num_samples=num_samples, **options)


class TestSequenceLogProbs:
    def test_sum_of_the_logarithms_of_each_token_at_each_temperature(self):
        policy = WholeHistory()
        z = torch.tensor([[1.0], [0.0], [1.0]])
        found = metrics.sequence_log_probs(policy, z, TOKENS, LENGTHS, TEMPERATURES)
        for i, tokens in enumerate(rows(TOKENS, LENGTHS)):
            for j, temperature in enumerate(TEMPERATURES):
                next_probs = policy.next_probs(int(z[i]), temperature)
                expected = sum(math.log(next_probs(tokens[:t])[token]) for t, token in enumerate(tokens))
                assert found[i, j].item() == pytest.approx(expected, abs=1e-5)

    def test_many_rows_are_the_same_as_few(self, leaning):
        tokens, lengths = TOKENS.repeat(100, 1), LENGTHS.repeat(100)
        z = torch.linspace(-2, 2, 300).unsqueeze(1)
        together = metrics.sequence_log_probs(leaning, z, tokens, lengths)
        one = [
            metrics.sequence_log_probs(leaning, z[i : i + 1], tokens[i : i + 1], lengths[i : i + 1]) for i in (7, 299)
        ]
        torch.testing.assert_close(together[[7, 299]], torch.cat(one))

    def test_large_logits_and_impossible_tokens_are_no_trouble(self):
        policy = WholeHistory()
        policy.table = policy.table * 300  # padding stays impossible
        found = metrics.sequence_log_probs(policy, torch.zeros(3, 1), TOKENS, LENGTHS, TEMPERATURES)
        assert found.isfinite().all() and (found <= 0).all()


class TestHeldOut:
    def test_many_samples_give_the_integral(self, leaning, proposal):
        num_samples = 20_000
        found = held_out(leaning, proposal, num_samples)
        for i, tokens in enumerate(rows(TOKENS, LENGTHS)):
            q = density(GRID, proposal.mean[i].item(), proposal.std[i].item())
            for j, temperature in enumerate(TEMPERATURES):
                joint = np.exp(leaning.log_probs(tokens, GRID, temperature)) * density(GRID)
                exact = integral(joint)
                deviation = math.sqrt((integral(joint**2 / q) / exact**2 - 1) / num_samples)
                assert 0 < deviation < 0.01
                tolerance = oracles.normal_quantile() * deviation
                assert found.bound[i, j].item() == pytest.approx(math.log(exact), abs=tolerance)

    def test_the_bound_rises_to_the_integral_with_the_number_of_samples(self, leaning):
        # Many copies of one sequence with different draws: means of the bound, on average below the integral.
        count, tokens = 4000, TOKENS[:1]
        posterior = DiagonalGaussian(torch.full((count, 1), 1.0), torch.full((count, 1), 1.5))
        exact = math.log(integral(np.exp(leaning.log_probs(rows(tokens, LENGTHS[:1])[0], GRID, 1.0)) * density(GRID)))
        means = []
        for num_samples in (1, 2, 8, 64):
            found = held_out(leaning, posterior, num_samples, tokens.expand(count, -1), LENGTHS[:1].expand(count))
            means.append(found.bound[:, 0].mean().item())
        assert means == sorted(means) and means[-1] <= exact
        assert exact - means[0] > 0.3 and exact - means[-1] < 0.03

    def test_elbo_is_reconstruction_less_divergence(self, leaning, proposal):
        num_samples = 20_000
        found = held_out(leaning, proposal, num_samples)
        for i, tokens in enumerate(rows(TOKENS, LENGTHS)):
            mean, std = proposal.mean[i].item(), proposal.std[i].item()
            q, log_probs = density(GRID, mean, std), leaning.log_probs(tokens, GRID, 1.0)
            expected = integral(q * log_probs)
            deviation = math.sqrt((integral(q * log_probs**2) - expected**2) / num_samples)
            kl = oracles.gaussian_kl_by_integration(mean, std)
            assert found.kl[i].item() == pytest.approx(kl, abs=1e-4)
            assert found.elbo[i, 0].item() == pytest.approx(
                expected - kl, abs=oracles.normal_quantile() * deviation + 1e-4
            )

    def test_batches_do_not_matter(self, leaning, proposal, monkeypatch):
        together = held_out(leaning, proposal, 16)
        monkeypatch.setattr(likelihood, "_ROWS_AT_A_TIME", 1)
        torch.testing.assert_close(held_out(leaning, proposal, 16), together)
        last = DiagonalGaussian(proposal.mean[2:], proposal.std[2:])
        alone = held_out(leaning, last, 16, TOKENS[2:], LENGTHS[2:], torch.tensor([2]))
        torch.testing.assert_close(alone.bound, together.bound[2:])
        other = held_out(leaning, last, 16, TOKENS[2:], LENGTHS[2:], torch.tensor([0]))
        assert not torch.equal(other.bound, alone.bound)

    def test_without_a_latent_space_it_is_exact(self):
        policy = WholeHistory(num_z=1)
        policy.first_state = lambda z: (torch.zeros(len(z), dtype=torch.long),) * 2
        nothing = DiagonalGaussian(torch.empty(3, 0), torch.empty(3, 0))
        found = held_out(policy, nothing, 64)
        exact = metrics.sequence_log_probs(policy, torch.zeros(3, 1), TOKENS, LENGTHS, TEMPERATURES)
        assert torch.equal(found.bound, exact) and torch.equal(found.elbo, exact)
        assert found.kl.tolist() == [0, 0, 0]

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"num_samples": 0}, "`num_samples` must be at least 1 but is 0"),
            ({"temperatures": (1.0, 0.0)}, "`temperatures` must be positive"),
            ({"temperatures": ()}, "at least one"),
        ],
    )
    def test_errors(self, leaning, proposal, options, message):
        with pytest.raises(ValueError, match=message):
            held_out(leaning, proposal, **{"num_samples": 1} | options)


class TestMutualInformation:
    def estimate(self, mean, std, copies=1):
        posterior = DiagonalGaussian(torch.tensor(mean).repeat(copies, 1), torch.tensor(std).repeat(copies, 1))
        return metrics.mutual_information(posterior, ids=torch.arange(len(posterior.mean)), seed=1, num_samples=4)

    def test_posteriors_that_are_all_the_same_say_nothing(self):
        assert self.estimate([[0.5, 1.0]] * 5, [[0.3, 2.0]] * 5) == pytest.approx(0, abs=1e-9)

    def test_posteriors_far_apart_tell_all_sequences_apart(self):
        assert self.estimate([[-50.0], [0.0], [50.0]], [[1.0]] * 3) == pytest.approx(math.log(3))

    def test_is_the_divergence_from_the_mean_of_all_posteriors(self):
        # Copies of the two sequences change no mean; each has its own draws.
        means, stds, copies = (-1.0, 0.5), (0.6, 1.1), 1000
        parts = [density(GRID, mean, std) for mean, std in zip(means, stds, strict=True)]
        log_ratios = [np.log(part / np.mean(parts, axis=0)) for part in parts]
        moments = [
            np.mean([integral(part * ratio**power) for part, ratio in zip(parts, log_ratios, strict=True)])
            for power in (1, 2)
        ]
        found = self.estimate([[m] for m in means], [[s] for s in stds], copies)
        # The draws of one sequence spread less than those of both together.
        tolerance = oracles.normal_quantile() * math.sqrt((moments[1] - moments[0] ** 2) / (2 * copies * 4))
        assert found == pytest.approx(moments[0], abs=tolerance)

    def test_its_bound_has_no_ceiling(self):
        mean = torch.linspace(-30, 30, 100).unsqueeze(1)
        posterior = DiagonalGaussian(mean, torch.full_like(mean, 1e-4))
        estimate = metrics.mutual_information(posterior, ids=torch.arange(100), seed=1)
        bound = metrics.mutual_information_bound(posterior)
        assert estimate == pytest.approx(math.log(100))
        # That of a Gaussian with the variance of the means, by the formula of the capacity.
        variance = 60**2 / 12 * 101 / 99
        assert bound == pytest.approx(0.5 * math.log(1 + variance / 1e-8), rel=1e-5) and bound > 2 * math.log(100)

    def test_a_family_without_a_closed_form_has_no_bound(self):
        assert metrics.mutual_information_bound(object()) is None

    def test_no_latent_space_has_none(self):
        posterior = DiagonalGaussian(torch.empty(3, 0), torch.empty(3, 0))
        assert metrics.mutual_information_bound(posterior) == 0
        assert metrics.mutual_information(posterior, ids=torch.arange(3), seed=1) == 0
        assert metrics.active_units(posterior) == 0


class TestActiveUnits:
    def test_units_whose_mean_varies(self):
        # Variances 0, 0.005, 0.02 of two values.
        mean = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.2]])
        posterior = DiagonalGaussian(mean, torch.ones(2, 3))
        assert metrics.active_units(posterior) == 1
        assert metrics.active_units(posterior, threshold=0.001) == 2

    def test_one_sequence_varies_in_nothing(self):
        with pytest.raises(ValueError, match="at least two"):
            metrics.active_units(DiagonalGaussian(torch.zeros(1, 2), torch.ones(1, 2)))


class TestVariety:
    @pytest.mark.parametrize("n, expected", [(1, (4, 8)), (2, (5, 5)), (3, (3, 3)), (4, (1, 1)), (5, (0, 0))])
    def test_ngrams_inside_the_sequences(self, n, expected):
        # 3 4 E, 0 0 3 E and E: the pairs are 3 4, 4 E, 0 0, 0 3, 3 E
        assert metrics.distinct_ngrams(TOKENS, LENGTHS, n) == expected

    def test_repeated_ngrams_count_once(self):
        tokens = torch.tensor([[7, 7, 7, 8]])
        assert metrics.distinct_ngrams(tokens, torch.tensor([4]), 2) == (2, 3)

    def test_sequences_differ_by_their_tokens_not_by_what_is_behind_them(self):
        tokens = torch.tensor([[3, EOS, 0], [3, EOS, 4], [3, EOS, 4], [3, 3, EOS]])
        assert metrics.distinct_sequences(tokens, torch.tensor([2, 2, 3, 3])) == 3

    def test_ngrams_of_no_tokens(self):
        with pytest.raises(ValueError, match="`n` must be at least 1"):
            metrics.distinct_ngrams(TOKENS, LENGTHS, 0)
