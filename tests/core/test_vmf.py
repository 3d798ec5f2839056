"""The von Mises-Fisher family against scipy's Bessel functions, closed forms on the sphere and moments of samples."""

import math

import numpy as np
import oracles
import pytest
import torch
from torch.nn import functional as F
from toys import EOS, PAD, VOCAB, Policy

from fairseq_seqvae import metrics
from fairseq_seqvae.core.latents.vmf import AngleMarginal, UniformSphere, VonMisesFisher, VonMisesFisherFamily

SHAPES = [(2, 0.01), (2, 5.0), (3, 1.0), (3, 80.0), (4, 10.0), (32, 0.5), (32, 80.0), (96, 500.0), (8, 20_000.0)]
NOISE = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(3))


def bessel_kl(dim, kappa):
    """Divergence from the uniform distribution, and E[w], by the closed form (Davidson et al. 2018, equation 14)."""
    special = pytest.importorskip("scipy.special")
    order = dim / 2 - 1

    def log_bessel(v):
        return math.log(special.ive(v, kappa)) + kappa

    log_density_at_0 = order * math.log(kappa) - dim / 2 * math.log(2 * math.pi) - log_bessel(order)
    log_surface = math.log(2) + dim / 2 * math.log(math.pi) - special.gammaln(dim / 2)
    cosine = math.exp(log_bessel(order + 1) - log_bessel(order))
    return kappa * cosine + log_density_at_0 + log_surface, cosine


class TestAngleMarginal:
    @pytest.mark.parametrize("dim, kappa", SHAPES)
    def test_divergence_and_mean_are_those_of_bessel_functions(self, dim, kappa):
        marginal = AngleMarginal(dim, kappa)
        kl, cosine = bessel_kl(dim, kappa)
        assert marginal.kl == pytest.approx(kl, rel=1e-7, abs=1e-9)
        assert marginal.mean_cosine == pytest.approx(cosine, rel=1e-9)

    @pytest.mark.parametrize("dim", [2, 3, 50])
    def test_without_concentration_it_is_uniform(self, dim):
        marginal = AngleMarginal(dim, 0.0)
        assert abs(marginal.kl) < 1e-12 and abs(marginal.mean_cosine) < 1e-12

    @pytest.mark.parametrize("kappa", [0.5, 10.0, 300.0])
    def test_in_three_dimensions_the_distribution_is_a_closed_form(self, kappa):
        noise = torch.linspace(-6, 6, 1001, dtype=torch.float64)
        cosine = AngleMarginal(3, kappa).angles(noise).cos()
        # P(w <= c) = (exp(kappa (c - 1)) - exp(-2 kappa)) / (1 - exp(-2 kappa)), written so that small ones stay exact.
        below = torch.expm1(kappa * (cosine + 1)) * math.exp(-2 * kappa) / -math.expm1(-2 * kappa)
        torch.testing.assert_close(below, torch.special.ndtr(noise), rtol=1e-3, atol=1e-12)

    def test_on_a_circle_without_concentration_angles_are_uniform(self):
        noise = torch.linspace(-7, 7, 1001, dtype=torch.float64)
        angle = AngleMarginal(2, 0.0).angles(noise)
        torch.testing.assert_close(angle, math.pi * torch.special.ndtr(-noise), rtol=1e-4, atol=1e-9)

    @pytest.mark.parametrize("dim, kappa", SHAPES)
    def test_quantiles_fall_and_are_angles(self, dim, kappa):
        quantiles = AngleMarginal(dim, kappa).quantiles
        assert (quantiles.diff() <= 0).all() and (quantiles >= 0).all() and (quantiles <= math.pi).all()
        assert AngleMarginal(dim, kappa).angles(torch.tensor([-99.0, 99.0])).tolist() == quantiles[[0, -1]].tolist()

    def test_what_is_no_sphere_or_no_concentration_is_refused(self):
        with pytest.raises(ValueError, match="at least 2 dimensions but has 1"):
            AngleMarginal(1, 1.0)
        with pytest.raises(ValueError, match="`kappa`.*-1"):
            AngleMarginal(3, -1.0)


class TestVonMisesFisher:
    @pytest.fixture
    def posterior(self):
        location = torch.tensor([[0.3, -1.0, 2.0, 0.1], [-4.0, 0.2, 0.1, 0.3]])
        return VonMisesFisherFamily(4, 6.0).posterior(location)

    def many(self, mean, kappa=6.0):
        return VonMisesFisherFamily(4, kappa).posterior(torch.tensor([mean])).rows(torch.zeros(len(NOISE)).long())

    def test_the_mean_is_the_direction_of_the_location(self, posterior):
        assert posterior.mean.norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
        torch.testing.assert_close(posterior.mean[0] * math.sqrt(5.1), torch.tensor([0.3, -1.0, 2.0, 0.1]))

    @pytest.mark.parametrize("mean", [[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.0, 0, 3, 0], [0.5, -1, 2, 0.1]])
    def test_draws_lie_on_the_sphere_at_the_angle_of_their_first_number(self, mean):
        posterior = self.many(mean)
        z = posterior.sample(NOISE)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))
        cosine = posterior.marginal.angles(NOISE[:, 0]).cos()
        torch.testing.assert_close((z * posterior.mean).sum(dim=1), cosine.float(), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("mean", [[1.0, 0, 0, 0], [-1.0, 0, 0, 0], [0.5, -1, 2, 0.1]])
    def test_moments_of_draws(self, mean):
        posterior = self.many(mean)
        z, direction = posterior.sample(NOISE).double(), posterior.mean[0].double()
        _, cosine = bessel_kl(4, 6.0)
        tolerance = oracles.normal_quantile() / math.sqrt(len(z))  # no coordinate varies by more than 1
        assert (z.mean(dim=0) - cosine * direction).abs().max() < tolerance
        # E[z z'] = (E[w^2] - s) m m' + s I, with s = (1 - E[w^2]) / 3, and E[w^2] = 1 - 3 E[w] / kappa.
        square = 1 - 3 * cosine / 6.0
        rest = (1 - square) / 3
        expected = (square - rest) * torch.outer(direction, direction) + rest * torch.eye(4, dtype=torch.float64)
        assert (z.T @ z / len(z) - expected).abs().max() < tolerance

    def test_the_divergence_is_the_mean_log_ratio_of_draws(self):
        posterior = self.many([0.5, -1, 2, 0.1])
        assert posterior.kl().shape == (len(NOISE), 1) and posterior.kl().dtype == torch.float32
        found = -posterior.log_importance(NOISE).mean().item()
        assert found == pytest.approx(posterior.kl()[0].item(), abs=0.03)

    def test_importance_weights_have_the_mean_1(self):
        weights = self.many([0.5, -1, 2, 0.1], kappa=1.0).log_importance(NOISE).exp()
        assert weights.mean().item() == pytest.approx(1.0, abs=0.01)

    def test_cross_log_probs_differ_from_log_importance_by_a_constant(self, posterior):
        noise = NOISE[:2]
        own = posterior.cross_log_probs(posterior.sample(noise)).diagonal()
        constant = own + posterior.log_importance(noise)
        assert constant.dtype == torch.float64 and constant[0].item() == pytest.approx(constant[1].item(), abs=1e-5)
        other = 6.0 * (posterior.sample(noise)[1] @ posterior.mean[0]).item()
        assert posterior.cross_log_probs(posterior.sample(noise))[1, 0].item() == pytest.approx(other, rel=1e-5)

    def test_gradient_of_draws_is_that_of_their_mean(self):
        # E[<a, z>] = E[w] <a, direction>, whose derivative by the location is that of the direction.
        a = torch.tensor([1.0, -2.0, 0.5, 0.3])
        slopes = []
        for many in (True, False):
            location = torch.tensor([[0.5, -1.0, 2.0, 0.1]], requires_grad=True)
            if many:
                posterior = VonMisesFisherFamily(4, 6.0).posterior(location).rows(torch.zeros(len(NOISE)).long())
                (posterior.sample(NOISE) @ a).mean().backward()
            else:
                (bessel_kl(4, 6.0)[1] * F.normalize(location, dim=1) @ a).sum().backward()
            slopes.append(location.grad)
        torch.testing.assert_close(*slopes, rtol=0, atol=0.01)

    def test_rows_and_parts(self, posterior):
        again = VonMisesFisher.cat([posterior.rows(torch.tensor([0])), posterior.rows(torch.tensor([1]))])
        assert torch.equal(again.mean, posterior.mean) and again.marginal is posterior.marginal
        assert torch.equal(posterior.rows(torch.tensor([1, 0])).mean, posterior.mean[[1, 0]])

    def test_a_draw_of_a_row_does_not_depend_on_the_batch(self, posterior):
        assert torch.equal(posterior.sample(NOISE[:2])[1:], posterior.rows(torch.tensor([1])).sample(NOISE[1:2]))


class TestUniformSphere:
    def test_draws_are_uniform(self):
        z = UniformSphere(4).sample(NOISE)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))
        assert z.mean(dim=0).abs().max() < 0.01 and (z.T @ z / len(z) - torch.eye(4) / 4).abs().max() < 0.01

    def test_the_region_is_the_cap_of_that_mass(self):
        z = UniformSphere(4).region(NOISE, 0.1)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(len(z)))
        everywhere = UniformSphere(4).sample(NOISE)[:, 0]
        border = everywhere.quantile(0.9).item()
        assert z[:, 0].min().item() == pytest.approx(border, abs=0.01)
        assert z[:, 0].mean().item() == pytest.approx(everywhere[everywhere > border].mean().item(), abs=0.01)
        assert z[:, 1:].mean(dim=0).abs().max() < 0.01

    def test_the_whole_region_is_the_prior(self):
        assert torch.equal(UniformSphere(4).region(NOISE, 1.0), UniformSphere(4).sample(NOISE))
        with pytest.raises(ValueError, match="`share`"):
            UniformSphere(4).region(NOISE, 0.0)

    def test_a_walk_goes_along_the_great_circle(self):
        start, end = torch.tensor([[1.0, 0, 0]]), torch.tensor([[0.0, 1, 0]])
        middle = UniformSphere(3).walk(start, end, 1 / 3)
        torch.testing.assert_close(middle, torch.tensor([[math.cos(math.pi / 6), math.sin(math.pi / 6), 0]]))


class OnACircle(Policy):
    """p(token | previous token, z): logits of a table that z, of two dimensions, pushes about."""

    def __init__(self):
        self.table, self.slopes, self.others = torch.randn(3, VOCAB, VOCAB, generator=torch.Generator().manual_seed(1))

    def first_state(self, z):
        return (z,)

    def step(self, prev_tokens, state):
        z = state[0]
        pushed = z[:, :1] * self.slopes[prev_tokens] + z[:, 1:] * self.others[prev_tokens]
        return self.table[prev_tokens] + 2 * pushed, state

    def read(self, features):
        return features

    def likelihood(self, tokens, angles):
        total = np.ones(len(angles))
        for previous, token in zip([EOS, *tokens], tokens, strict=False):
            tables = self.table[previous], self.slopes[previous], self.others[previous]
            table, slopes, others = (t.double().numpy() for t in tables)
            pushed = np.outer(np.cos(angles), slopes) + np.outer(np.sin(angles), others)
            odds = np.exp(table + 2 * pushed)
            total *= odds[:, token] / odds.sum(axis=1)
        return total


class TestMetrics:
    TOKENS = torch.tensor([[3, 4, EOS, PAD], [0, 0, 3, EOS]])
    LENGTHS = torch.tensor([3, 4])

    def test_many_samples_give_the_integral_over_the_circle(self):
        policy, posterior = OnACircle(), VonMisesFisherFamily(2, 1.5).posterior(torch.tensor([[1.0, 0.5], [-1.0, 1.0]]))
        found = metrics.held_out(
            policy, posterior, self.TOKENS, self.LENGTHS, ids=torch.arange(2), seed=1, num_samples=20_000
        )
        angles = np.arange(20_000) / 20_000 * 2 * math.pi
        for i, (tokens, length) in enumerate(zip(self.TOKENS.tolist(), self.LENGTHS.tolist(), strict=True)):
            values = policy.likelihood(tokens[:length], angles)
            mean = posterior.mean[i].double().numpy()
            density = np.exp(1.5 * (mean[0] * np.cos(angles) + mean[1] * np.sin(angles)))
            density /= density.mean()  # against the uniform distribution
            deviation = math.sqrt(((values**2 / density).mean() / values.mean() ** 2 - 1) / 20_000)
            assert 0 < deviation < 0.04
            tolerance = oracles.normal_quantile() * deviation
            assert found.bound[i, 0].item() == pytest.approx(math.log(values.mean()), abs=tolerance)
        assert found.kl.tolist() == pytest.approx([bessel_kl(2, 1.5)[0]] * 2, rel=1e-6)
        assert (found.elbo < found.bound).all()

    def test_distant_directions_share_no_information_and_equal_ones_have_none(self):
        family, ids = VonMisesFisherFamily(4, 500.0), torch.arange(4)
        apart = metrics.mutual_information(family.posterior(torch.eye(4)), ids=ids, seed=1)
        assert apart == pytest.approx(math.log(4), abs=1e-6)
        same = metrics.mutual_information(family.posterior(torch.ones(4, 4)), ids=ids, seed=1)
        assert same == pytest.approx(0.0, abs=1e-6)
        assert metrics.active_units(family.posterior(torch.eye(4)), ids=ids, seed=1) == 4
