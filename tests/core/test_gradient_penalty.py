"""The penalty on the slope of a discriminator, and weights of which no singular value is above 1."""

import pytest
import torch
from torch import nn

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.gradient_penalty import gradient_penalty
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator
from fairseq_seqvae.core.networks.spectral import SpectralNorm, normalise_spectrally

PAD, VOCAB = 1, 9


def batch(lengths, seed):
    tokens = torch.randint(2, VOCAB, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return tokens.masked_fill(mask, PAD), mask


def build(kind):
    torch.manual_seed(5)
    if kind == "cnn":
        return ConvolutionalDiscriminator(VOCAB, PAD, 4, [1, 3], [5, 4], dropout=0.0).double()
    return RecurrentDiscriminator(VOCAB, PAD, 4, 3).double()


class Linear(nn.Module):
    """Its slope is the same everywhere: weight * 2 / 3 at each place of a sequence of three."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 2, PAD)
        self.weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def judge_embedded(self, embedded, mask):
        inside = (~mask).unsqueeze(2)
        return 2 * ((embedded * inside).sum(dim=1) @ self.weight) / 3


def length(embedding):
    """Root mean square length of the vectors of all tokens, padding with its zeros included."""
    return (sum(float(row @ row) for row in embedding.weight.detach()) / len(embedding.weight)) ** 0.5


class TestThePenalty:
    def test_by_hand(self):
        critic = Linear()
        found = gradient_penalty(critic, batch([3, 2], 1), batch([3, 2], 2), torch.tensor([0.3, 0.7]))
        for penalty, places in zip(found.tolist(), (3, 2), strict=True):
            slope = 2 / 3 * 5 * places**0.5
            assert penalty == pytest.approx((slope * length(critic.embedding) - 1) ** 2, rel=1e-5)

    @pytest.mark.parametrize("kind", ["cnn", "rnn"])
    def test_is_that_of_finite_differences(self, kind):
        critic = build(kind)
        real, fake, shares = batch([5, 2, 4], 1), batch([3, 3, 1], 2), torch.tensor([0.25, 0.5, 1.0]).double()
        found = gradient_penalty(critic, real, fake, shares)
        for row, (n, m) in enumerate(((5, 3), (2, 3), (4, 1))):
            long = max(n, m)
            points = torch.zeros(1, long, 4).double()
            points[0, :n] += shares[row] * critic.embedding(real[0][row, :n])
            points[0, :m] += (1 - shares[row]) * critic.embedding(fake[0][row, :m])
            points, mask, squares, step = points.detach(), torch.zeros(1, long).bool(), 0.0, 1e-6
            for place in range(long):
                for dim in range(4):
                    moved = [points.clone(), points.clone()]
                    for points_moved, sign in zip(moved, (1, -1), strict=True):
                        points_moved[0, place, dim] += sign * step
                    rise = critic.judge_embedded(moved[0], mask) - critic.judge_embedded(moved[1], mask)
                    squares += (float(rise.detach()) / (2 * step)) ** 2
            expected = (squares**0.5 * length(critic.embedding) - 1) ** 2
            assert found[row].item() == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("kind", ["cnn", "rnn"])
    def test_its_gradient_moves_the_weights_towards_a_slope_of_one(self, kind):
        critic = build(kind)
        real, fake, shares = batch([5, 2, 4], 1), batch([3, 3, 1], 2), torch.tensor([0.2, 0.5, 0.9]).double()
        optimizer = torch.optim.Adam(critic.parameters(), lr=0.02)
        values = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = gradient_penalty(critic, real, fake, shares).mean()
            loss.backward()
            optimizer.step()
            values.append(float(loss.detach()))
        assert values[-1] < 0.1 * values[0]

    def test_is_the_same_for_longer_embeddings_of_a_flatter_critic(self):
        critic, arguments = Linear(), (batch([3, 2], 1), batch([3, 3], 2), torch.tensor([0.5, 0.5]))
        before = gradient_penalty(critic, *arguments)
        with torch.no_grad():
            critic.embedding.weight.mul_(10)
            critic.weight.div_(10)
        torch.testing.assert_close(gradient_penalty(critic, *arguments), before)

    def test_does_not_depend_on_padding(self):
        critic = build("cnn")
        real, fake, shares = batch([5, 2], 1), batch([3, 3], 2), torch.tensor([0.2, 0.5])
        wide = nn.functional.pad(real[0], (0, 4), value=PAD), nn.functional.pad(real[1], (0, 4), value=True)
        found = gradient_penalty(critic, wide, fake, shares)
        torch.testing.assert_close(found, gradient_penalty(critic, real, fake, shares))

    def test_a_critic_without_slope_gives_no_nan(self):
        critic = Linear()
        nn.init.zeros_(critic.weight)
        found = gradient_penalty(critic, batch([3], 1), batch([3], 2), torch.tensor([0.5]))
        found.sum().backward()
        assert found.item() == pytest.approx(1, abs=1e-4) and critic.weight.grad.isfinite().all()


class TestSpectralNormalisation:
    def test_the_largest_singular_value_is_one(self):
        critic = build("cnn").float()
        before = critic.convolutions[1].weight.detach().clone()
        normalise_spectrally(critic)
        layers = [m for m in critic.modules() if isinstance(m, (nn.Linear, nn.Conv1d))]
        assert len(layers) == 5  # two widths, gate and transform of the highway, output
        for layer in layers:
            assert torch.linalg.svdvals(layer.weight.flatten(1))[0].item() == pytest.approx(1, rel=1e-2)
        expected = before / torch.linalg.svdvals(before.flatten(1))[0]
        torch.testing.assert_close(critic.convolutions[1].weight, expected, rtol=1e-2, atol=1e-3)

    def test_follows_a_weight_by_one_step_per_update_in_which_it_was_trained(self):
        torch.manual_seed(1)
        weight = torch.randn(6, 4)
        norm, target = SpectralNorm(weight), torch.randn(6, 4)
        largest = torch.linalg.svdvals(target)[0]
        norm.eval()(target)
        before = norm.left.clone()
        norm.end_update()
        assert norm.left.equal(before)
        norm.train()
        for _ in range(3):
            norm(target)
        norm.end_update()
        first = norm.left.clone()
        expected = nn.functional.normalize(target @ (target.t() @ before), dim=0)
        torch.testing.assert_close(first, expected)
        norm.end_update()
        assert norm.left.equal(first)  # once
        for _ in range(200):
            norm(target)
            norm.end_update()
        torch.testing.assert_close(norm(target), target / largest, rtol=1e-4, atol=1e-5)

    def test_its_gradient_is_that_of_the_quotient(self):
        torch.manual_seed(2)
        weight = torch.randn(3, 2, dtype=torch.float32)
        norm = SpectralNorm(weight)

        def function(w):
            return (norm(w) * torch.arange(6.0).view(3, 2)).sum()

        leaf = weight.clone().requires_grad_()
        function(leaf).backward()
        for row in range(3):
            for column in range(2):
                step = torch.zeros(3, 2)
                step[row, column] = 1e-2
                slope = (function(weight + step) - function(weight - step)) / 2e-2
                assert leaf.grad[row, column].item() == pytest.approx(float(slope), abs=1e-2)

    def test_scores_by_tables_are_those_of_the_forward_pass(self):
        from fairseq_seqvae.core.rollouts.policy import Completions

        critic = build("cnn").float().eval()
        normalise_spectrally(critic)
        tokens, mask = batch([4, 4, 3], 3)
        completions = Completions(
            tokens=tokens,
            lengths=(~mask).sum(dim=1),
            mask=mask,
            rows=torch.arange(3),
            prefix_lengths=torch.ones(3).long(),
        )
        torch.testing.assert_close(critic.logits_by_tables(completions, tokens), critic(tokens, mask))

    def test_half_precision_keeps_the_vectors_exact(self):
        critic = build("cnn").float()
        normalise_spectrally(critic)
        layer = critic.convolutions[0]
        before = layer.parametrizations.weight[0].left.clone()
        critic.half()
        assert layer.weight.dtype == torch.float16 and layer.parametrizations.weight[0].left.equal(before)
