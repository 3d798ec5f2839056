"""Batch normalisation of channels: by the batch where a loss on data asks for it, by running statistics elsewhere."""

import numpy as np
import pytest
import torch

from fairseq_seqvae.core.networks.batch_moments import ChannelNorm
from fairseq_seqvae.core.networks.convolutions import Unrolling


def random_batch(rows=6, channels=3, steps=4, seed=0):
    return torch.randn(rows, channels, steps, generator=torch.Generator().manual_seed(seed)) * 3 + 2


def shifted_norm():
    norm = ChannelNorm(3)
    norm.scale.data[:] = torch.tensor([1.0, 2.0, -1.0])
    norm.shift.data[:] = torch.tensor([0.0, 5.0, 1.0])
    return norm


def test_by_batch_each_channel_has_the_moments_of_its_parameters():
    found = shifted_norm()(random_batch(), by_batch=True).detach().numpy()
    x = random_batch().numpy()
    for channel, (scale, shift) in enumerate([(1, 0), (2, 5), (-1, 1)]):
        column = x[:, channel]
        expected = (column - column.mean()) / np.sqrt(column.var() + 1e-5) * scale + shift
        np.testing.assert_allclose(found[:, channel], expected, rtol=1e-4, atol=1e-5)


def test_elsewhere_rows_do_not_depend_on_each_other():
    norm = shifted_norm()
    norm(random_batch(seed=1), by_batch=True)
    norm.end_update()
    together = norm(random_batch(), by_batch=False)
    alone = norm(random_batch()[2:3], by_batch=False)
    torch.testing.assert_close(alone[0], together[2])
    x = random_batch(seed=1).numpy()
    mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2), ddof=1)
    expected = (random_batch().numpy()[2] - mean[:, None]) / np.sqrt(var + 1e-5)[:, None]
    np.testing.assert_allclose(alone[0, 0].detach().numpy(), expected[0], rtol=1e-4, atol=1e-5)


def test_what_acts_leaves_no_statistics():
    unrolling = Unrolling(4, [5, 3], 8).train()
    unrolling(torch.randn(6, 4))
    for norm in unrolling.norms:
        norm.end_update()
        assert norm.batches.item() == 0
    unrolling(torch.randn(6, 4), by_batch=True)
    for norm in unrolling.norms:
        norm.end_update()
        assert norm.batches.item() == 1 and not torch.equal(norm.running_var, torch.ones_like(norm.running_var))


def test_one_position_has_no_variance():
    with pytest.raises(ValueError, match="over a batch of 1 position"):
        ChannelNorm(3)(random_batch(rows=1, steps=1), by_batch=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_normalised_in_float32(dtype):
    exact, half = shifted_norm(), shifted_norm().to(dtype)
    x = random_batch().to(dtype)
    for norm, given in ((exact, x.float()), (half, x)):
        norm(given, by_batch=True)
        norm.end_update()
    assert torch.equal(exact.running_mean, half.running_mean) and torch.equal(exact.running_var, half.running_var)
    found = half(x, by_batch=False)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), exact(x.float(), by_batch=False), rtol=2e-2, atol=2e-2)


class TestFrozen:
    def trained(self):
        norm = shifted_norm()
        norm(random_batch(seed=1), by_batch=True)
        norm.end_update()
        return norm

    def test_training_normalises_as_evaluation_does(self):
        norm = self.trained()
        expected = norm(random_batch(), by_batch=False)
        assert not torch.allclose(norm(random_batch(), by_batch=True), expected)
        norm.frozen = True
        torch.testing.assert_close(norm(random_batch(), by_batch=True), expected, rtol=0, atol=0)

    def test_the_statistics_stay(self):
        norm = self.trained()
        norm.frozen = True
        before = [part.clone() for part in (norm.running_mean, norm.running_var, norm.batches)]
        norm(random_batch(), by_batch=True)
        norm.end_update()
        after = [norm.running_mean, norm.running_var, norm.batches]
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))

    def test_without_statistics_it_is_refused(self):
        norm = shifted_norm()
        norm.frozen = True
        with pytest.raises(ValueError, match="have seen no batch yet: begin from a trained checkpoint"):
            norm(random_batch(), by_batch=True)
