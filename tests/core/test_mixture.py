"""A mixture of Gaussians as a prior: draws, density, precision."""

import math

import oracles
import pytest
import torch

from fairseq_seqvae.core.latents.mixture import GaussianMixturePrior
from fairseq_seqvae.core.noise import Draws, Stream

WEIGHTS = torch.tensor([0.3, 0.7])
MEANS = torch.tensor([[-2.0, 1.0], [1.0, 0.5]])
FULL = torch.tensor([[[0.5, 0.0], [0.3, 0.2]], [[1.0, 0.0], [-0.8, 0.6]]])
DIAGONAL = torch.tensor([[0.5, 0.2], [1.0, 0.6]])


def noise(count, size=3):
    return Draws(4).normal(Stream.FITTED_PRIOR, torch.arange(count), size)


@pytest.fixture(params=["full", "diag"])
def mixture(request):
    return GaussianMixturePrior(WEIGHTS, MEANS, FULL if request.param == "full" else DIAGONAL)


def covariances(mixture):
    return [torch.diag(f * f) if f.dim() == 1 else f @ f.T for f in mixture.factors]


def test_moments_of_draws_are_those_of_the_mixture(mixture):
    count = 100_000
    z = mixture.sample(noise(count))
    mean = WEIGHTS @ MEANS
    offsets = MEANS - mean
    parts = zip(WEIGHTS, covariances(mixture), offsets, strict=True)
    covariance = sum(w * (c + torch.outer(o, o)) for w, c, o in parts)
    tolerance = oracles.normal_quantile() * covariance.diagonal().max().item() / math.sqrt(count)
    assert z.shape == (count, 2)
    assert (z.mean(dim=0) - mean).abs().max() < tolerance
    assert (z.T.cov() - covariance).abs().max() < 4 * tolerance


def test_by_hand(mixture):
    # Below the quantile 0.3 of the first number is the first component.
    z = mixture.sample(torch.tensor([[-0.6, 2.0, 0.0], [-0.5, 0.0, 0.0]]))
    first = [-1.0, 1.6] if mixture.factors.dim() == 3 else [-1.0, 1.0]
    torch.testing.assert_close(z, torch.tensor([first, [1.0, 0.5]]))


def test_log_density_is_that_of_torch(mixture):
    z = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    parts = [
        torch.distributions.MultivariateNormal(m.double(), c.double()).log_prob(z.double())
        for m, c in zip(MEANS, covariances(mixture), strict=True)
    ]
    expected = (torch.stack(parts, dim=1) + WEIGHTS.double().log()).logsumexp(dim=1)
    torch.testing.assert_close(mixture.log_prob(z), expected, rtol=1e-5, atol=1e-5)


def test_a_draw_does_not_depend_on_how_many_there_are(mixture):
    together = mixture.sample(noise(50))
    assert all(torch.equal(together[i : i + 1], mixture.sample(noise(50)[i : i + 1])) for i in range(50))


def test_half_precision_changes_nothing_but_the_type_that_noise_has(mixture):
    exact = mixture.sample(noise(20))
    torch.nn.Sequential(mixture).half()
    assert mixture.means.dtype == torch.float32
    assert torch.equal(mixture.sample(noise(20)), exact) and mixture.sample(noise(20).half()).dtype == torch.float16


def test_it_is_made_again_from_its_state(mixture):
    again = GaussianMixturePrior.from_state(mixture.state_dict())
    assert (again.dim, again.noise_dim) == (2, 3)
    assert torch.equal(again.sample(noise(5)), mixture.sample(noise(5)))


def test_walks_and_regions(mixture):
    start, end = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(mixture.walk(start, end, 0.5), torch.full((1, 2), math.sqrt(0.5)))
    with pytest.raises(ValueError, match="no region"):
        mixture.region(noise(2), 0.5)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit together"):
        GaussianMixturePrior(WEIGHTS, MEANS, FULL[:1])
