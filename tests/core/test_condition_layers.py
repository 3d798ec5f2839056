"""Labels on their way: as the last column of z, as the first token before a discriminator, and drawn at random."""

import pytest
import torch

from fairseq_seqvae.core.conditions import (
    ConditionedPosterior,
    ConditionedPrior,
    draw_labels,
    joined,
    parted,
    with_label,
)
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, StandardNormal
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rewards.conditioned import ConditionedReward
from fairseq_seqvae.core.rollouts.policy import Completions


class Spy(Reward):
    """Remembers what it is asked, and returns the first token of each sequence."""

    bounds = (0.0, 1.0)

    def score(self, tokens, padding_mask):
        self.asked = tokens, padding_mask
        return tokens[:, 0].float()

    def score_completions(self, completions, prefixes):
        self.completions, self.prefixes = completions, prefixes
        return completions.tokens[:, 0].float()


class TestOfZ:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_labels_come_back_exactly_in_any_precision(self, dtype):
        z, labels = torch.randn(4, 3).to(dtype), torch.tensor([0, 1, 2049, 2**20 + 1])
        found, numbers = parted(joined(z, labels))
        assert torch.equal(numbers, labels) and torch.equal(found, z.float())

    def test_of_a_language_model_there_is_the_label_alone(self):
        assert joined(torch.empty(2, 0), torch.tensor([3, 1])).tolist() == [[3.0], [1.0]]


class TestDraws:
    def test_are_the_inverse_of_the_cumulated_counts(self):
        counts = torch.tensor([0, 1, 0, 3, 0])
        uniforms = torch.tensor([1e-7, 0.24, 0.26, 0.5, 1 - 2**-24])
        assert draw_labels(counts, uniforms).tolist() == [1, 1, 3, 3, 3]

    def test_have_the_frequencies_of_the_data(self):
        counts = torch.tensor([600, 300, 100])
        found = draw_labels(counts, (torch.arange(1000) + 0.5) / 1000)
        assert found.bincount().tolist() == [600, 300, 100]


class TestBeforeADiscriminator:
    TOKENS = torch.tensor([[5, 6, 2], [7, 2, 1]])
    MASK = torch.tensor([[False, False, False], [False, False, True]])

    def test_the_label_is_the_first_token_and_no_padding(self):
        tokens, mask = with_label(self.TOKENS, self.MASK, torch.tensor([10, 11]))
        assert tokens.tolist() == [[10, 5, 6, 2], [11, 7, 2, 1]]
        assert mask.tolist() == [[False] * 4, [False, False, False, True]]

    def test_a_reward_sees_whole_sequences_with_their_labels(self):
        spy = Spy()
        reward = ConditionedReward(spy)
        reward.label_tokens = torch.tensor([10, 11])
        assert reward.score(self.TOKENS, self.MASK).tolist() == [10.0, 11.0] and reward.bounds == (0.0, 1.0)
        assert spy.asked[0].tolist() == [[10, 5, 6, 2], [11, 7, 2, 1]]

    def test_a_reward_sees_completions_with_the_labels_of_their_sequences(self):
        spy = Spy()
        reward = ConditionedReward(spy)
        reward.label_tokens = torch.tensor([10, 11])
        tokens = torch.tensor([[7, 8, 2], [5, 2, 1], [5, 9, 2]])
        mask, lengths = tokens == 1, torch.tensor([3, 2, 3])
        completions = Completions(tokens, lengths, mask, torch.tensor([1, 0, 0]), torch.tensor([1, 1, 2]))
        assert reward.score_completions(completions, self.TOKENS).tolist() == [11.0, 10.0, 10.0]
        seen = spy.completions
        assert seen.tokens.tolist() == [[11, 7, 8, 2], [10, 5, 2, 1], [10, 5, 9, 2]]
        assert seen.lengths.tolist() == [4, 3, 4] and seen.prefix_lengths.tolist() == [2, 2, 3]
        assert seen.mask.tolist() == [[False] * 4, [False, False, False, True], [False] * 4]
        assert spy.prefixes.tolist() == [[10, 5, 6, 2], [11, 7, 2, 1]]

    def test_a_reward_that_knows_no_labels_yet_refuses(self):
        with pytest.raises(RuntimeError, match="label_tokens"):
            ConditionedReward(Spy()).score(self.TOKENS, self.MASK)


class TestDistributions:
    def test_draws_and_means_of_a_posterior_have_the_labels_of_their_rows(self):
        mean, std, noise = torch.randn(3, 2), torch.rand(3, 2) + 0.1, torch.randn(3, 2)
        inner = DiagonalGaussian(mean, std)
        posterior = ConditionedPosterior(inner, torch.tensor([4, 0, 2]))
        assert torch.equal(posterior.mean, torch.cat([mean, torch.tensor([[4.0], [0.0], [2.0]])], 1))
        assert torch.equal(posterior.sample(noise)[:, :2], mean + std * noise)
        assert posterior.rows(torch.tensor([2, 0])).mean[:, 2].tolist() == [2.0, 4.0]
        both = ConditionedPosterior.cat([posterior, posterior.rows(torch.tensor([1]))])
        assert both.mean[:, 2].tolist() == [4.0, 0.0, 2.0, 0.0] and both.noise_dim == 2
        assert torch.equal(posterior.kl(), inner.kl())
        assert torch.equal(posterior.log_importance(noise), inner.log_importance(noise))
        assert torch.equal(posterior.cross_log_probs(posterior.mean), inner.cross_log_probs(mean))

    def test_a_walk_changes_its_label_in_the_middle(self):
        prior = ConditionedPrior(StandardNormal(2), torch.tensor([1, 1, 1]))
        assert prior.dim == prior.noise_dim == 2
        assert prior.sample(torch.zeros(3, 2))[:, 2].tolist() == [1.0, 1.0, 1.0]
        start, end = torch.tensor([[1.0, 0.0, 5.0]]).expand(3, -1), torch.tensor([[0.0, 1.0, 7.0]]).expand(3, -1)
        points = prior.walk(start, end, torch.tensor([0.0, 0.5, 1.0]))
        assert points[:, 2].tolist() == [5.0, 7.0, 7.0]
        torch.testing.assert_close(points[[0, 2], :2], torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
