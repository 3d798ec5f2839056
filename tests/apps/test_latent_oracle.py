"""The oracle with a latent: its samples, the truth by quadrature, our estimators against it, its commands."""

import itertools
import json
import math

import numpy as np
import oracles
import pytest
import torch

from fairseq_seqvae import metrics
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.rollout import sample
from fairseq_seqvae.oracle import LatentOracle, LatentSizes
from fairseq_seqvae.oracle.__main__ import main
from fairseq_seqvae.oracle.latent_check import estimates, proposals
from fairseq_seqvae.oracle.latent_weights import draw_latent_weights
from fairseq_seqvae.oracle.model import estimate
from fairseq_seqvae.oracle.quadrature import Lattice, integrate
from fairseq_seqvae.oracle.score import read_tokens

TINY = LatentSizes(vocab_size=5, embed_dim=3, hidden_dim=4, net_dim=6, net=4.0)
ALL = torch.tensor(list(itertools.product(range(5), repeat=3)))


@pytest.fixture(scope="module")
def small():
    """An oracle of 5 tokens: of length 3 it has 125 sequences."""
    return LatentOracle.from_seed(4, TINY)


@pytest.fixture(scope="module")
def everything(small):
    """The truth about each of the 125 sequences."""
    return small.truth(ALL)


@pytest.fixture(scope="module")
def default():
    return LatentOracle.from_seed(3)


def log_probs_given(weights, tokens, z):
    """log p(x|z) of one sequence for many z (N, 2), (N,), by the equations, in double precision."""
    w = {name: array.astype(float) for name, array in weights.items()}
    f = np.tanh(z @ w["z_to_net"] + w["net_bias"])
    h, c = np.tanh(f @ w["net_to_h"]), f @ w["net_to_c"]
    total = np.zeros(len(z))
    for previous, token in zip([0, *tokens], tokens, strict=False):
        x = w["embedding"][previous] + f @ w["net_to_x"]

        def gate(name, x=x, h=h):
            return x @ w["W" + name] + h @ w["U" + name] + w["b" + name]

        i, forget, o = (1 / (1 + np.exp(-gate(name))) for name in ("i", "f", "og"))
        c = forget * c + i * np.tanh(gate("c"))
        h = o * np.tanh(c)
        logits = h @ w["Wo"] + w["bo"]
        total += logits[:, token] - np.log(np.exp(logits).sum(axis=1))
    return total


def brute_force(weights, sequences, n=20_000):
    """p(x|z) for n random z, (n, sequences)."""
    z = np.random.RandomState(0).normal(size=(n, 2))
    return z, np.exp(np.stack([log_probs_given(weights, row, z) for row in sequences], axis=1))


@pytest.fixture(scope="module")
def monte_carlo():
    return brute_force(draw_latent_weights(4, TINY), ALL.tolist())


class TestWeights:
    def test_are_draws_of_their_seed_with_the_spread_of_each_array(self):
        sizes = LatentSizes(vocab_size=5, embed_dim=3, hidden_dim=4, net_dim=6, net=2.0, output=3.0)
        weights = draw_latent_weights(7, sizes)
        draws = np.random.RandomState(7).normal(size=sum(array.size for array in weights.values()))
        start, found = 0, {}
        for name, array in weights.items():
            found[name] = array.ravel() / draws[start : start + array.size]
            start += array.size
        expected = {"z_to_net": 0.5, "net_bias": 0.5, "embedding": 0.5, "Wo": 3.0, "bo": 1.0}
        expected |= dict.fromkeys(("net_to_h", "net_to_c", "net_to_x"), 2 / math.sqrt(6))
        for name, ratios in found.items():
            assert ratios == pytest.approx(expected.get(name, 0.3), rel=1e-5), name

    @pytest.mark.parametrize(
        "change, message",
        [
            ({"vocab_size": 0}, "`vocab_size` must be at least 1 but is 0"),
            ({"output": -1.0}, "`output` is a standard deviation and must not be negative: -1.0"),
            ({"net": math.nan}, "`net` is a standard deviation"),
        ],
    )
    def test_sizes_are_checked(self, change, message):
        with pytest.raises(ValueError, match=message):
            LatentSizes(**change)

    def test_seed_and_range_of_the_logits_are_checked(self):
        with pytest.raises(ValueError, match="`seed` must be a whole number from 0 to 2.32 - 1 but is -1"):
            LatentOracle.from_seed(-1)
        with pytest.raises(ValueError, match=r"logits of up to \d+ nats are possible but must stay within 75"):
            LatentOracle.from_seed(1, LatentSizes(vocab_size=5, output=100.0))


class TestTheDecoder:
    def test_equals_the_equations(self, small):
        z = torch.tensor([[0.3, -1.2], [2.0, 0.0], [-4.0, 5.0]])
        for tokens in ([0, 1, 4], [3], [2, 2, 0, 1]):
            expected = log_probs_given(draw_latent_weights(4, TINY), tokens, z.double().numpy())
            rows = torch.tensor(tokens).expand(3, -1)
            assert small.log_probs(z, rows).tolist() == pytest.approx(expected, abs=1e-5)
            as_policy = metrics.sequence_log_probs(small, z, rows, torch.full((3,), len(tokens)))
            assert as_policy[:, 0].tolist() == pytest.approx(expected, abs=1e-5)

    def test_of_the_default_size_is_the_same_on_both_roads(self, default):
        z, tokens = default.sample_pairs(700, 10, seed=5)
        expected = metrics.sequence_log_probs(default, z, tokens, torch.full((700,), 10))[:, 0]
        torch.testing.assert_close(default.log_probs(z, tokens), expected, atol=2e-4, rtol=0)

    def test_is_a_policy_to_sample_from(self, small):
        keys = Draws(1).keys(Stream.GENERATION, torch.arange(40))
        found = sample(small, torch.zeros(40, 2), keys, max_len=6)
        assert found.tokens.shape == (40, 6) and set(found.tokens.unique().tolist()) == set(range(5))


class TestSamples:
    def test_follow_the_marginal_distribution(self, small, monte_carlo):
        tokens = small.sample(20_000, 3, seed=1)
        numbers = (tokens * torch.tensor([25, 5, 1])).sum(dim=1)
        exact = small.truth(ALL).log_likelihood.exp()
        oracles.assert_frequencies(np.bincount(numbers, minlength=125), exact.tolist())
        assert monte_carlo[1].mean(axis=0).sum() == pytest.approx(1)

    def test_come_from_the_z_that_is_returned_with_them(self, small):
        z, tokens = small.sample_pairs(20_000, 1, seed=2)
        assert torch.cov(z.T).numpy() == pytest.approx(np.eye(2), abs=0.05)
        right = z[:, 0] > 0.5
        expected = log_probs_given(draw_latent_weights(4, TINY), [1], z[right].double().numpy())
        share, p = float((tokens[right] == 1).float().mean()), np.exp(expected).mean()
        assert abs(share - p) < oracles.normal_quantile() * math.sqrt(p * (1 - p) / int(right.sum()))

    def test_are_a_function_of_seed_draw_and_row(self, small):
        z, tokens = small.sample_pairs(200, 8, seed=1)
        again = small.sample_pairs(50, 5, seed=1)
        assert torch.equal(z[:50], again.z) and torch.equal(tokens[:50, :5], again.tokens)
        for other in (small.sample_pairs(200, 8, seed=2), small.sample_pairs(200, 8, seed=1, draw=1)):
            assert not torch.equal(z, other.z) and not torch.equal(tokens, other.tokens)

    @pytest.mark.parametrize("n, length", [(0, 5), (5, 0)])
    def test_sizes_must_be_positive(self, small, n, length):
        with pytest.raises(ValueError, match=f"at least 1 but are {n} and {length}"):
            small.sample(n, length, seed=1)


class TestTheTruth:
    def test_all_sequences_have_the_mass_one(self, everything):
        assert float(everything.log_likelihood.exp().sum()) == pytest.approx(1, abs=1e-5)

    def test_log_likelihood_is_that_of_brute_force(self, everything, monte_carlo):
        p = monte_carlo[1]
        errors = p.std(axis=0, ddof=1) / math.sqrt(len(p))
        deviations = (everything.log_likelihood.exp().numpy() - p.mean(axis=0)) / errors
        assert np.abs(deviations).max() < 5 and np.sqrt((deviations**2).mean()) < 2

    def test_moments_are_those_of_weighted_draws(self, everything, monte_carlo):
        z, p = monte_carlo
        weights = p / p.sum(axis=0)
        mean = weights.T @ z
        for row in (0, 31, 124):
            deviations = z - mean[row]
            expected = (weights[:, row, None] * deviations).T @ deviations
            size = 1 / (weights[:, row] ** 2).sum()  # effective number of draws
            assert everything.mean[row].numpy() == pytest.approx(mean[row], abs=5 / math.sqrt(size))
            assert everything.covariance[row].numpy() == pytest.approx(expected, abs=8 / math.sqrt(size))

    def test_mutual_information_is_that_of_enumeration(self, small, everything, monte_carlo):
        """I(x; z) is the entropy of x less its mean entropy given z, both by sums over the 125 sequences."""
        p = monte_carlo[1]
        given = -(p * np.log(p)).sum(axis=1)
        log_p = everything.log_likelihood.numpy()
        expected = -(np.exp(log_p) * log_p).sum() - given.mean()
        exact = float((everything.log_likelihood.exp() * everything.divergence).sum())
        assert exact > 0.2  # or there would be nothing to see
        assert abs(exact - expected) < 5 * given.std() / math.sqrt(len(given))
        found = estimate(small.truth(small.sample(5000, 3, seed=1)).divergence)
        assert abs(found.mean - exact) < 4 * found.standard_error
        z, tokens = small.sample_pairs(5000, 3, seed=2)
        pairs = estimate(small.log_probs(z, tokens) - small.truth(tokens).log_likelihood)
        assert abs(pairs.mean - exact) < 4 * pairs.standard_error

    def test_without_a_way_from_z_to_x_there_is_no_information(self):
        oracle = LatentOracle.from_seed(4, LatentSizes(5, 3, 4, 6, net=0.0))
        truth = oracle.truth(ALL[:20])
        assert truth.divergence.abs().max() < 1e-5 and truth.mean.abs().max() < 1e-5
        torch.testing.assert_close(truth.covariance, torch.eye(2).double().expand(20, -1, -1), atol=1e-4, rtol=0)
        lengths = torch.full((20,), 3)
        expected = metrics.sequence_log_probs(oracle, torch.zeros(20, 2), ALL[:20], lengths)[:, 0]
        torch.testing.assert_close(truth.log_likelihood, expected, atol=1e-5, rtol=0)

    def test_of_a_gaussian_likelihood_is_the_closed_form(self):
        """log p(x|z) = -|z - m|^2 / (2 s^2): the posterior is N(m / (1 + s^2), s^2 / (1 + s^2)) in each dimension."""
        centres, spreads = torch.tensor([[0.3, -0.7], [2.0, 1.1], [-3.0, 0.0]]).double(), torch.tensor([1.0, 0.2, 0.04])
        spreads = spreads.double()

        def log_probs(z, tokens):
            which = tokens[:, 0]
            return -0.5 * ((z.double() - centres[which]) / spreads[which].unsqueeze(1)).square().sum(dim=1)

        truth = integrate(log_probs, torch.tensor([[0], [1], [2]]), Lattice())
        variances = spreads.square() / (1 + spreads.square())
        log_likelihood = variances.log() - 0.5 * centres.square().sum(dim=1) / (1 + spreads.square())
        torch.testing.assert_close(truth.log_likelihood, log_likelihood, atol=1e-4, rtol=0)
        means = centres / (1 + spreads.square()).unsqueeze(1)
        torch.testing.assert_close(truth.mean, means, atol=1e-4, rtol=0)
        diagonal = truth.covariance.diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(diagonal, variances.unsqueeze(1).expand(-1, 2), atol=0, rtol=2e-3)
        expected = 0.5 * (means.square().sum(dim=1) + 2 * variances - 2) - variances.log()
        torch.testing.assert_close(truth.divergence, expected, atol=2e-3, rtol=0)

    def test_does_not_depend_on_the_other_rows(self, small, everything):
        alone = small.truth(ALL[77:78])
        for found, expected in zip(alone, everything, strict=True):
            torch.testing.assert_close(found[0], expected[77], atol=1e-6, rtol=1e-6)

    def test_of_the_default_oracle_does_not_change_on_a_finer_and_wider_lattice(self, default):
        tokens = default.sample(30, 10, seed=9)
        truth = default.truth(tokens)
        finer = default.truth(tokens, Lattice(step=0.25, reach=7.0, cut=14.0, tolerance=1e-3))
        assert (truth.log_likelihood - finer.log_likelihood).abs().max() < 1e-3
        assert (truth.divergence - finer.divergence).abs().max() < 5e-3
        assert (truth.mean - finer.mean).abs().max() < 1e-2

    def test_that_does_not_settle_is_an_error(self, default):
        tokens = default.sample(3, 10, seed=9)
        message = r"log p\(x\) of 3 sequences, the first of them \[.*\], still changes by up to .* at a step of 0.25"
        with pytest.raises(ValueError, match=message):
            default.truth(tokens, Lattice(tolerance=1e-12, halvings=1))

    @pytest.mark.parametrize("change", [{"step": 0.0}, {"reach": -1.0}, {"cut": 0.0}, {"halvings": 0}])
    def test_a_lattice_checks_itself(self, change):
        with pytest.raises(ValueError, match=f"`{next(iter(change))}` must be"):
            Lattice(**change)

    def test_bad_tokens(self, small):
        with pytest.raises(ValueError, match="must lie in 0 .. 4 but reach from 0 to 5"):
            small.truth(torch.tensor([[0, 5]]))


class TestOurEstimators:
    """`metrics` on the true decoder, with proposals of the true moments."""

    def test_bounds_lie_below_the_truth_and_approach_it(self, default):
        tokens = default.sample(60, 10, seed=11)
        truth, ids, gaps = default.truth(tokens), torch.arange(60), []
        for num_samples in (1, 8, 512):
            bounds, _ = estimates(default, truth, tokens, ids=ids, seed=1, num_samples=num_samples)
            gap = estimate(truth.log_likelihood - bounds.bound[:, 0])
            gaps.append(gap.mean)
            assert gap.mean > -4 * gap.standard_error
        assert float((truth.log_likelihood - bounds.elbo[:, 0]).mean()) > gap.mean
        assert gaps[0] > gaps[1] > gaps[2] and abs(gaps[2]) < 4 * gap.standard_error + 0.01

    def test_elbo_gap_is_the_divergence_of_the_proposal_from_the_posterior(self, default):
        """Of proposals with the true moments: at least that of the best Gaussian, by its covariance."""
        tokens = default.sample(100, 10, seed=12)
        truth = default.truth(tokens)
        bounds, _ = estimates(default, truth, tokens, ids=torch.arange(100), seed=1, num_samples=200)
        gap = estimate(truth.log_likelihood - bounds.elbo[:, 0])
        diagonal = truth.covariance.diagonal(dim1=1, dim2=2)
        # KL(q || N(mean, covariance)) of q with the same variances and no correlation
        precision = torch.linalg.inv(truth.covariance)
        trace = (precision.diagonal(dim1=1, dim2=2) * diagonal).sum(dim=1)
        expected = 0.5 * (trace - 2 + truth.covariance.logdet() - diagonal.log().sum(dim=1))
        assert float(expected.mean()) == pytest.approx(gap.mean, abs=0.5) and gap.mean > 0

    def test_mutual_information_is_the_exact_one_of_the_proposals(self, small):
        """Against KL(q(z|x) || q(z)) by sums on a lattice, q(z) being the mean over the sequences."""
        truth = small.truth(small.sample(400, 3, seed=3))
        q = proposals(truth)
        found = metrics.mutual_information(q, ids=torch.arange(400), seed=1, num_samples=50)
        places = np.arange(-7, 7.01, 0.1)
        z = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
        mean, std = q.mean.double().numpy(), q.std.double().numpy()
        exponents = ((z[None] - mean[:, None]) / std[:, None]) ** 2
        density = np.exp(-0.5 * exponents.sum(axis=2)) / (2 * math.pi * std.prod(axis=1)[:, None])
        marginal = density.mean(axis=0)
        ratio = np.log(np.maximum(density, 1e-300) / np.maximum(marginal, 1e-300))
        exact = (density * ratio).sum() * 0.01 / len(density)
        assert found == pytest.approx(exact, abs=0.02)

    def test_mutual_information_of_exact_gaussian_posteriors_is_the_closed_form(self):
        """x = z + s e in 2 dimensions: p(z|x) is N(x / (1 + s^2), s^2 / (1 + s^2)), I(x; z) = ln(1 + 1 / s^2)."""
        s, n = 0.2, 2000
        x = math.sqrt(1 + s**2) * torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
        q = DiagonalGaussian(x / (1 + s**2), torch.full((n, 2), s / math.sqrt(1 + s**2)))
        found = metrics.mutual_information(q, ids=torch.arange(n), seed=1)
        # Of z: a variance of 1 per sequence; of the noise: 1 per draw, of which there are 4; bias: e^I / n.
        tolerance = 4 * math.sqrt((1 + 1 / 4) / n) + (1 + 1 / s**2) / n
        assert found == pytest.approx(math.log(1 + 1 / s**2), abs=tolerance)

    @pytest.mark.slow
    def test_mutual_information_estimates_the_true_one(self, default):
        tokens = default.sample(500, 10, seed=13)
        truth = default.truth(tokens)
        found = metrics.mutual_information(proposals(truth), ids=torch.arange(500), seed=1)
        true = estimate(truth.divergence)
        # Proposals without correlation know a little less, and cannot tell apart more than log 500 = 6.2 nats.
        assert 0.85 * true.mean < found < 1.05 * true.mean

    def test_a_proposal_that_is_the_prior_needs_more_samples(self, small):
        tokens = small.sample(300, 3, seed=4)
        truth, prior = small.truth(tokens), DiagonalGaussian(torch.zeros(300, 2), torch.ones(300, 2))
        lengths, ids = torch.full((300,), 3), torch.arange(300)
        found = metrics.held_out(small, prior, tokens, lengths, ids=ids, seed=1, num_samples=500)
        gap = estimate(truth.log_likelihood - found.bound[:, 0])
        assert abs(gap.mean) < 4 * gap.standard_error + 0.01
        # With q = p(z) the ELBO is the mean log p(x|z): it misses the divergence of the prior from the posterior.
        assert float((truth.log_likelihood - found.elbo[:, 0]).mean()) > 0.1


def fails(capsys, *argv):
    assert main([str(arg) for arg in argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


class TestCommands:
    SMALL = ["--train", "30", "--valid", "5", "--test", "12"]

    def test_generate_writes_three_splits_and_the_dictionary(self, default, here, capsys):
        assert main(["latent-generate", *self.SMALL, "--out", "text"]) == 0
        for number, (split, size) in enumerate((("train", 30), ("valid", 5), ("test", 12)), start=1):
            found = read_tokens(f"text/{split}.txt", 1000, 10)
            assert torch.equal(found, default.sample(size, 10, seed=1, draw=number))
        assert (here / "text/dict.txt").read_text().splitlines() == [f"{token} 1" for token in range(1000)]
        assert "text/train.txt" in capsys.readouterr().out
        error = fails(capsys, "latent-generate", "--out", "text")
        assert "exists already: choose another name or overwrite with --force" in error

    def test_nll_and_truth_tell_the_means(self, default, here, capsys):
        assert main(["latent-generate", *self.SMALL, "--out", "text"]) == 0
        capsys.readouterr()
        truth = default.truth(default.sample(12, 10, seed=1, draw=3))
        assert main(["latent-nll", "text/test.txt", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        nll = -float(truth.log_likelihood.mean())
        assert found["nll"] == pytest.approx(nll / 10, abs=1e-5) and found["sequences"] == 12
        assert found["file"] == "text/test.txt" and found["oracle_seed"] == 3
        assert main(["latent-truth", "text/test.txt", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["nll_per_sequence"] == pytest.approx(nll, abs=1e-4)
        assert found["mutual_information"] == pytest.approx(float(truth.divergence.mean()), abs=1e-4)
        error = float(truth.divergence.std()) / math.sqrt(12)
        assert found["mutual_information_standard_error"] == pytest.approx(error, rel=1e-3)
        assert main(["latent-truth", "text/test.txt", "--sequences", "2"]) == 0
        sentences = capsys.readouterr().out
        assert sentences.startswith("2 sequences of 10 tokens: -log p(x) ")
        assert main(["latent-nll", "text/test.txt"]) == 0
        assert f"oracle NLL {nll / 10:.4f} +- " in capsys.readouterr().out

    def test_one_sequence_has_no_standard_error(self, here, capsys):
        (here / "one.txt").write_text("17 999 0\n")
        assert main(["latent-truth", "one.txt", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["mutual_information_standard_error"] is None

    def test_another_seed_is_another_oracle(self, here, capsys):
        (here / "one.txt").write_text("17 999 0\n")
        found = []
        for seed in ("3", "4"):
            assert main(["latent-nll", "one.txt", "--json", "--oracle-seed", seed]) == 0
            found.append(json.loads(capsys.readouterr().out)["nll"])
        assert found[0] != found[1]

    def test_bad_input_is_one_sentence(self, here, capsys):
        (here / "bad.txt").write_text("1000 1\n")
        assert "line 1 has '1000', which is no token of the oracle (0 .. 999)" in fails(capsys, "latent-nll", "bad.txt")
        assert "nowhere.txt: No such file" in fails(capsys, "latent-truth", "nowhere.txt")
