"""Gaussian posteriors with a floor under their divergence."""

import math

import oracles
import pytest
import torch

from fairseq_seqvae.core.latents.delta import DeltaFamily, largest_std

FLOORS = [1e-4, 0.05, 0.5, 3.0, 10.0]
VALUES = torch.tensor([-1000.0, -30.0, -3.0, 0.0, 3.0, 30.0, 1000.0])


@pytest.mark.parametrize("floor", FLOORS)
def test_at_the_largest_standard_deviation_the_divergence_is_the_floor(floor):
    std = largest_std(floor)
    assert 0 < std < 1
    assert (std * std - 1) / 2 - math.log(std) == pytest.approx(floor, rel=1e-9, abs=1e-12)


def test_by_hand_and_by_integration():
    # std 1/2: log 2 + (1/4 - 1) / 2
    assert largest_std(math.log(2) - 0.375) == pytest.approx(0.5, rel=1e-12)
    assert oracles.gaussian_kl_by_integration(0.0, largest_std(0.5)) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("floor", FLOORS)
def test_no_mean_and_no_spread_go_below_the_floor(floor):
    location, spread = torch.meshgrid(VALUES, VALUES, indexing="ij")
    posterior = DeltaFamily(7, floor).posterior(location, spread)
    kl = posterior.kl()
    assert kl.shape == (7, 7) and kl.isfinite().all()
    # What is left is rounding in float32, of a difference of numbers up to 10.
    assert kl.min().item() >= floor - 1e-6
    assert torch.equal(posterior.mean, location)
    # It is reached: a mean of 0 and a large spread.
    assert kl[3, -1].item() == pytest.approx(floor, rel=1e-3, abs=1e-5)


def test_both_outputs_carry_gradient():
    location, spread = torch.zeros(1, 3, requires_grad=True), torch.zeros(1, 3, requires_grad=True)
    DeltaFamily(3, 0.1).posterior(location, spread).sample(torch.ones(1, 3)).sum().backward()
    assert (location.grad == 1).all() and (spread.grad > 0).all()


@pytest.mark.parametrize("floor", [0.0, -1.0, float("nan")])
def test_a_floor_that_is_none_is_refused(floor):
    with pytest.raises(ValueError, match="`floor` must be above 0"):
        DeltaFamily(3, floor)
