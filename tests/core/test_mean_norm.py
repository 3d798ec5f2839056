"""Batch normalisation of the posterior's mean: the divergence it promises, its running statistics, their precision."""

import copy
import math

import pytest
import torch

from fairseq_seqvae.core.latents.gaussian import GaussianFamily
from fairseq_seqvae.core.latents.mean_norm import MeanNorm


def random_batch(rows=12, dim=5, seed=0):
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))


def test_by_hand():
    norm = MeanNorm(2, 0.5)
    norm.shift.data[:] = torch.tensor([0.0, 3.0])
    # Means 2 and -1, standard deviations 1 and 2.
    found = norm(torch.tensor([[1.0, -3.0], [3.0, 1.0]]))
    torch.testing.assert_close(found, torch.tensor([[-0.5, 2.5], [0.5, 3.5]]))
    assert found.dtype == torch.float32


@pytest.mark.parametrize("scale", [0.5, 0.7])
@pytest.mark.parametrize("size, offset", [(1.0, 0.0), (1e-5, 0.0), (1e-6, 1e-2), (100.0, -50.0)])
def test_the_mean_divergence_of_a_batch_has_the_floor_it_promises(scale, size, offset):
    """Also where the variance of the outputs has sunk so low that the usual epsilon (1e-5) would swallow it."""
    location = size * random_batch() + offset
    norm = MeanNorm(5, scale)
    norm.shift.data[:] = torch.linspace(-1, 1, 5)
    mean = norm(location)
    for spread in (-5.0, 0.0, 0.5413, 5.0):  # softplus(0.5413) = 1, where the spread adds nothing
        kl = GaussianFamily(5).posterior(mean, torch.full_like(mean, spread)).kl().sum(dim=1).mean().item()
        # The variance around the shift is the floor; the shift itself comes on top.
        assert kl >= (5 * scale**2 + 2.5) / 2 * (1 - 1e-4)
    norm.shift.data.zero_()
    assert norm(location).square().sum(dim=1).mean().item() == pytest.approx(5 * scale**2, rel=0.02)


def test_dimensions_that_do_not_vary_stay_finite():
    norm = MeanNorm(3, 0.6)
    location = torch.ones(4, 3, requires_grad=True)
    found = norm(location)
    found.square().sum().backward()
    assert (found == 0).all() and location.grad.isfinite().all()


class TestRunningStatistics:
    def test_they_are_the_mean_of_the_first_batches(self):
        norm = MeanNorm(1, 1.0)
        for values in ([1.0, 3.0], [5.0, 9.0]):  # means 2 and 7, unbiased variances 2 and 8
            norm(torch.tensor(values).unsqueeze(1))
            norm.end_update()
        assert norm.running_mean.item() == 4.5 and norm.running_var.item() == 5.0 and norm.batches.item() == 2

    def test_later_on_a_batch_counts_a_tenth(self):
        norm = MeanNorm(1, 1.0)
        norm.batches.fill_(1000.0)
        norm.running_mean.fill_(10.0)
        norm(torch.tensor([[1.0], [3.0]]))
        norm.end_update()
        assert norm.running_mean.item() == pytest.approx(9.2) and norm.running_var.item() == pytest.approx(1.1)

    def test_they_are_what_evaluation_normalises_by(self):
        norm = MeanNorm(1, 2.0)
        norm(torch.tensor([[1.0], [3.0]]))
        norm.end_update()
        norm.eval()
        # A prefix, encoded alone.
        assert norm(torch.tensor([[4.0]])).item() == pytest.approx(2 * (4 - 2) / math.sqrt(2))
        norm.end_update()
        assert norm.batches.item() == 1

    def test_they_move_at_the_end_of_an_update_only(self):
        norm = MeanNorm(2, 0.6)
        norm(random_batch(dim=2))
        assert norm.running_mean.tolist() == [0, 0] and norm.batches.item() == 0
        norm.end_update()
        before = norm.running_mean.clone()
        norm.end_update()
        assert torch.equal(norm.running_mean, before) and (before != 0).all()

    def test_two_batches_of_one_update_count_as_two_updates(self):
        one, two = MeanNorm(5, 0.6), MeanNorm(5, 0.6)
        for seed in (1, 2):
            one(random_batch(seed=seed)).sum().backward()
            two(random_batch(seed=seed)).sum().backward()
            two.end_update()
        one.end_update()
        assert torch.equal(one.running_mean, two.running_mean) and torch.equal(one.running_var, two.running_var)

    def test_a_batch_that_fills_a_place_does_not_count(self):
        one, two = MeanNorm(5, 0.6), MeanNorm(5, 0.6)
        for norm in (one, two):
            norm(random_batch(seed=1)).sum().backward()
        two(random_batch(seed=2))
        two.forget_batch()
        one.end_update(), two.end_update()
        assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))

    def test_an_update_that_was_given_up_leaves_nothing_behind(self):
        one, two = MeanNorm(5, 0.6), MeanNorm(5, 0.6)
        two(random_batch(seed=7)).sum().backward()
        two.zero_grad()  # as a trainer does before it tries again, after gradients that overflowed
        for norm in (one, two):
            norm(random_batch(seed=1)).sum().backward()
            norm.end_update()
        assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_they_stay_in_float32_in_a_model_of_half_precision(self, dtype):
        norm = MeanNorm(5, 0.6)
        exact = copy.deepcopy(norm)
        model = torch.nn.Sequential(norm).to(dtype)
        assert norm.shift.dtype == dtype and all(b.dtype == torch.float32 for b in norm.buffers())
        for one in (norm, exact):
            one(random_batch(seed=1))
            one.end_update()
        assert all(torch.equal(a, b) for a, b in zip(norm.buffers(), exact.buffers(), strict=True))
        assert model[0](random_batch().to(dtype)).dtype == torch.float32
        loaded = torch.nn.Sequential(MeanNorm(5, 0.6)).half()
        loaded.load_state_dict(model.state_dict())
        assert torch.equal(loaded[0].running_mean, exact.running_mean)


def test_one_sequence_alone_is_refused_in_training():
    with pytest.raises(ValueError, match="over a batch of 1 sequence.*at least 2.*evaluation mode"):
        MeanNorm(5, 0.6)(random_batch(rows=1))


def test_gradient_flows_through_the_statistics():
    """The sum of a normalised batch does not depend on the batch, so that its derivative vanishes."""
    location = random_batch().requires_grad_()
    MeanNorm(5, 0.6)(location).sum().backward()
    assert location.grad.abs().max() < 1e-6


def test_frozen_it_normalises_in_training_as_in_evaluation():
    norm = MeanNorm(5, 0.6)
    norm(random_batch(seed=1))
    norm.end_update()
    expected = norm.eval()(random_batch())
    assert not torch.allclose(norm.train()(random_batch()), expected)
    norm.frozen = True
    assert torch.equal(norm(random_batch()), expected)
