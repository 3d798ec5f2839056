"""Diagonal Gaussian, free bits, spherical interpolation."""

import math
from statistics import NormalDist

import oracles
import pytest
import torch

from fairseq_seqvae.core.elbo import free_bits
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, StandardNormal
from fairseq_seqvae.core.latents.walks import slerp


def random_gaussian(batch, dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(batch, dim, generator=generator)
    std = torch.rand(batch, dim, generator=generator) * 2 + 0.05
    return DiagonalGaussian(mean, std)


class TestDiagonalGaussian:
    def test_sample_is_mean_plus_std_times_noise(self):
        posterior = DiagonalGaussian(torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]]))
        assert posterior.sample(torch.tensor([[2.0, -1.0]])).tolist() == [[2.0, -5.0]]

    def test_sample_without_noise_is_the_mean(self):
        posterior = random_gaussian(3, 4)
        torch.testing.assert_close(posterior.sample(torch.zeros(3, 4)), posterior.mean)

    def test_sample_carries_gradient_to_mean_and_std(self):
        mean, std = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
        noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
        DiagonalGaussian(mean, std).sample(noise).sum().backward()
        torch.testing.assert_close(mean.grad, torch.ones(2, 3))
        torch.testing.assert_close(std.grad, noise)

    def test_kl_by_hand(self):
        # A shifted unit Gaussian: mean^2 / 2. A scaled one: (e^2 - 1 - 2) / 2.
        posterior = DiagonalGaussian(torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[1.0, math.e, 1.0]]))
        expected = torch.tensor([[2.0, (math.e**2 - 3) / 2, 0.0]])
        torch.testing.assert_close(posterior.kl(), expected)

    @pytest.mark.parametrize("mean", [0.0, 0.3, -2.5])
    @pytest.mark.parametrize("std", [0.05, 0.7, 1.0, 3.0])
    def test_kl_is_the_integral_of_its_definition(self, mean, std):
        kl = DiagonalGaussian(torch.tensor([[mean]]), torch.tensor([[std]])).kl()
        assert kl.shape == (1, 1)
        assert kl.item() == pytest.approx(oracles.gaussian_kl_by_integration(mean, std), rel=1e-4, abs=1e-6)

    def test_kl_is_the_mean_log_ratio_of_samples(self):
        # Several dimensions at once; torch's own densities are the reference.
        posterior = random_gaussian(1, 3, seed=2)
        q = torch.distributions.Normal(posterior.mean, posterior.std)
        torch.testing.assert_close(
            posterior.kl(), torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
        )

    def test_kl_of_the_prior_is_zero(self):
        assert DiagonalGaussian(torch.zeros(2, 5), torch.ones(2, 5)).kl().abs().max() == 0

    def test_kl_is_never_negative_by_rounding(self):
        std = torch.linspace(1 - 1e-3, 1 + 1e-3, 4001).unsqueeze(0)
        assert DiagonalGaussian(torch.zeros_like(std), std).kl().min() >= 0

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_kl_of_half_precision_is_computed_in_float32(self, dtype):
        mean, std = torch.tensor([[300.0, 0.5]], dtype=dtype), torch.tensor([[1e-3, 0.5]], dtype=dtype)
        kl = DiagonalGaussian(mean, std).kl()
        assert kl.dtype == torch.float32
        # 300^2 / 2 = 45000 and its square is beyond float16.
        torch.testing.assert_close(kl, DiagonalGaussian(mean.float(), std.float()).kl())
        assert torch.isfinite(kl).all()

    def test_kl_gradient_is_mean_and_std_minus_its_inverse(self):
        mean = torch.tensor([[0.5, -1.0]], requires_grad=True)
        std = torch.tensor([[2.0, 0.5]], requires_grad=True)
        DiagonalGaussian(mean, std).kl().sum().backward()
        torch.testing.assert_close(mean.grad, torch.tensor([[0.5, -1.0]]))
        torch.testing.assert_close(std.grad, torch.tensor([[1.5, -1.5]]))

    def test_divergence_from_moments_by_hand(self):
        # Means -1 and 1, both of standard deviation e: the mixture has variance 1 + e^2.
        posterior = DiagonalGaussian(torch.tensor([[-1.0], [1.0]]), torch.full((2, 1), math.e))
        expected = 0.5 * math.log(1 + math.e**2) - 1
        assert posterior.divergence_from_moments().item() == pytest.approx(expected)

    def test_divergence_from_moments_is_the_mean_divergence_from_the_gaussian_of_the_mixtures_moments(self):
        # Moments of the mixture from the mean and the second moment of each row; torch's divergence is the reference.
        posterior = random_gaussian(7, 3, seed=4)
        mean, std = posterior.mean.double(), posterior.std.double()
        second = sum(torch.outer(m, m) + torch.diag(s**2) for m, s in zip(mean, std, strict=True)) / 7
        middle = sum(mean) / 7
        target = torch.distributions.MultivariateNormal(middle, second - torch.outer(middle, middle))
        rows = [
            torch.distributions.kl_divergence(torch.distributions.MultivariateNormal(m, torch.diag(s**2)), target)
            for m, s in zip(mean, std, strict=True)
        ]
        torch.testing.assert_close(posterior.divergence_from_moments(), sum(rows) / 7)

    @pytest.mark.parametrize("shape", [(1, 3), (4, 0)])
    def test_divergence_from_moments_of_one_row_or_of_no_dimension_is_zero(self, shape):
        assert random_gaussian(*shape).divergence_from_moments().item() == pytest.approx(0, abs=1e-6)

    def test_kl_of_a_row_does_not_depend_on_the_batch(self):
        posterior = random_gaussian(5, 4)
        whole = posterior.kl()
        for b in range(5):
            row = DiagonalGaussian(posterior.mean[b : b + 1], posterior.std[b : b + 1]).kl()
            torch.testing.assert_close(row[0], whole[b])


class TestFreeBits:
    def test_total_by_hand(self):
        # 3 nats and 0.5 nats, of which one bit = 0.6931 nats is free.
        kl = torch.tensor([[1.0, 2.0], [0.25, 0.25]])
        torch.testing.assert_close(free_bits(kl, 1.0), torch.tensor([3 - math.log(2), 0.0]))

    def test_per_dim_by_hand(self):
        kl = torch.tensor([[1.0, 2.0, 0.1]])
        torch.testing.assert_close(free_bits(kl, 1.0, mode="per-dim"), torch.tensor([3 - 2 * math.log(2)]))

    @pytest.mark.parametrize("mode", ["total", "per-dim"])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (5, 9)])
    @pytest.mark.parametrize("bits", [0.0, 0.4, 2.0, 100.0])
    def test_equals_the_loop(self, mode, shape, bits):
        kl = random_gaussian(*shape, seed=3).kl()
        result = free_bits(kl, bits, mode=mode)
        assert result.shape == shape[:1] and result.dtype == torch.float32
        torch.testing.assert_close(result, torch.tensor(oracles.free_bits(kl.tolist(), bits, mode)))

    @pytest.mark.parametrize("mode", ["total", "per-dim"])
    def test_zero_bits_is_the_plain_sum(self, mode):
        kl = random_gaussian(4, 3).kl()
        torch.testing.assert_close(free_bits(kl, 0.0, mode=mode), kl.sum(dim=1))

    def test_total_is_the_default_and_never_exceeds_per_dim_of_shared_budget(self):
        kl = random_gaussian(20, 6, seed=4).kl()
        torch.testing.assert_close(free_bits(kl, 3.0), free_bits(kl, 3.0, mode="total"))
        # A budget for the sum is at least as generous when it is not bound to single dimensions.
        assert (free_bits(kl, 3.0, mode="total") <= free_bits(kl, 0.5, mode="per-dim") + 1e-5).all()

    def test_gradient_is_zero_inside_the_budget_and_one_outside(self):
        kl = torch.tensor([[0.1, 0.2], [3.0, 0.2]], requires_grad=True)
        free_bits(kl, 1.0).sum().backward()
        assert kl.grad.tolist() == [[0.0, 0.0], [1.0, 1.0]]
        kl.grad = None
        free_bits(kl, 1.0, mode="per-dim").sum().backward()
        assert kl.grad.tolist() == [[0.0, 0.0], [1.0, 0.0]]

    def test_input_is_not_modified(self):
        kl = random_gaussian(2, 3).kl()
        before = kl.clone()
        free_bits(kl, 5.0, mode="per-dim")
        assert torch.equal(kl, before)

    def test_unknown_mode_is_named(self):
        with pytest.raises(ValueError, match="mode.*sum|sum.*mode"):
            free_bits(torch.ones(1, 1), 1.0, mode="sum")

    def test_negative_bits_are_refused(self):
        with pytest.raises(ValueError, match="bits.*-1"):
            free_bits(torch.ones(1, 1), -1.0)


class TestSlerp:
    def test_halfway_between_the_axes(self):
        result = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
        torch.testing.assert_close(result, torch.tensor([math.sqrt(0.5), math.sqrt(0.5)]))

    def test_third_of_a_right_angle_with_growing_norm(self):
        result = slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 4.0]), 1 / 3)
        torch.testing.assert_close(result, 2 * torch.tensor([math.cos(math.pi / 6), math.sin(math.pi / 6)]))

    @pytest.mark.parametrize("shape", [(2,), (1, 3), (4, 2), (5, 64), (2, 3, 8)])
    @pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.9, 1.0])
    def test_equals_the_scalar_formula(self, shape, weight):
        generator = torch.Generator().manual_seed(5)
        a, b = torch.randn(shape, generator=generator), 2 * torch.randn(shape, generator=generator)
        result = slerp(a, b, weight)
        assert result.shape == shape
        pairs = zip(a.reshape(-1, shape[-1]).tolist(), b.reshape(-1, shape[-1]).tolist(), strict=True)
        expected = torch.tensor([oracles.slerp(x, y, weight) for x, y in pairs]).reshape(shape)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)

    def test_one_weight_a_row(self):
        generator = torch.Generator().manual_seed(6)
        a, b = torch.randn(4, 3, generator=generator), torch.randn(4, 3, generator=generator)
        weights = torch.tensor([0.0, 0.25, 0.8, 1.0])
        result = slerp(a, b, weights)
        for row in range(4):
            expected = oracles.slerp(a[row].tolist(), b[row].tolist(), weights[row].item())
            torch.testing.assert_close(result[row], torch.tensor(expected), rtol=1e-4, atol=1e-5)

    def test_ends_are_the_two_vectors(self):
        generator = torch.Generator().manual_seed(7)
        a, b = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
        torch.testing.assert_close(slerp(a, b, 0.0), a)
        torch.testing.assert_close(slerp(a, b, 1.0), b)

    def test_norm_goes_linearly(self):
        generator = torch.Generator().manual_seed(8)
        a, b = torch.randn(9, 5, generator=generator), 3 * torch.randn(9, 5, generator=generator)
        for weight in (0.2, 0.5, 0.7):
            expected = (1 - weight) * a.norm(dim=-1) + weight * b.norm(dim=-1)
            torch.testing.assert_close(slerp(a, b, weight).norm(dim=-1), expected)

    def test_swapping_the_ends_reverses_the_path(self):
        generator = torch.Generator().manual_seed(9)
        a, b = torch.randn(9, 5, generator=generator), torch.randn(9, 5, generator=generator)
        torch.testing.assert_close(slerp(a, b, 0.3), slerp(b, a, 0.7), rtol=1e-4, atol=1e-5)

    def test_parallel_vectors_are_interpolated_linearly(self):
        a = torch.tensor([[1.0, 2.0, -2.0], [1.0, 1.0, 1.0]])
        b = torch.stack([3 * a[0], a[1]])
        torch.testing.assert_close(slerp(a, b, 0.25), 0.75 * a + 0.25 * b)

    @pytest.mark.parametrize("angle", [1e-7, 1e-5, 1e-4, 1e-3, 1e-2])
    def test_nearly_parallel_vectors_keep_close_to_the_chord(self, angle):
        a, b = torch.tensor([1.0, 0.0]), torch.tensor([math.cos(angle), math.sin(angle)])
        # The arc leaves the chord by at most angle^2 / 8.
        chord = 0.6 * a + 0.4 * b
        assert (slerp(a, b, 0.4) - chord).abs().max() < angle**2 / 8 + 1e-6

    def test_zero_vectors_are_interpolated_linearly(self):
        zero, b = torch.zeros(3), torch.tensor([2.0, 0.0, -4.0])
        torch.testing.assert_close(slerp(zero, b, 0.25), 0.25 * b)
        torch.testing.assert_close(slerp(b, zero, 0.25), 0.75 * b)
        assert slerp(zero, zero, 0.5).abs().max() == 0

    @pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
    def test_opposite_vectors_stay_finite(self, weight):
        generator = torch.Generator().manual_seed(10)
        a = torch.randn(50, 7, generator=generator)
        assert torch.isfinite(slerp(a, -a, weight)).all()
        assert torch.isfinite(slerp(a, -2 * a, weight)).all()

    def test_ordinary_rows_are_not_touched_by_degenerate_neighbours(self):
        a = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
        b = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        expected = torch.tensor([[math.sqrt(0.5), math.sqrt(0.5)], [0.5, 0.0], [1.5, 1.5]])
        torch.testing.assert_close(slerp(a, b, 0.5), expected)


class TestUpperTail:
    @pytest.mark.parametrize("share", [1.0, 0.5, 0.03, 1e-6])
    def test_is_the_normal_distribution_above_a_quantile(self, share):
        """The quantiles of what comes out are those of the tail: to the k-th of n even quantiles belongs one draw."""
        normal = NormalDist()
        cells = [(i + 0.5) / 1000 for i in range(1000)]
        z = torch.tensor([[normal.inv_cdf(p), -0.25] for p in cells], dtype=torch.float64)
        moved = StandardNormal(1).region(z, share)
        expected = torch.tensor([-normal.inv_cdf((1 - p) * share) for p in cells], dtype=torch.float64)
        torch.testing.assert_close(moved[:, 0], expected, atol=1e-9, rtol=1e-9)
        assert torch.equal(moved[:, 1], z[:, 1])

    def test_far_draws_stay_finite(self):
        assert torch.isfinite(StandardNormal(1).region(torch.tensor([[8.0], [-8.0]]), 0.01)).all()

    @pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
    def test_refuses_what_is_no_share(self, share):
        with pytest.raises(ValueError, match="share"):
            StandardNormal(1).region(torch.zeros(1, 1), share)
