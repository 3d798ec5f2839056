"""Several rewards as one, and rewards of whole sequences alone; examples worked out by hand."""

import math

import pytest
import torch

from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rewards.ranks import rank_correlation
from fairseq_seqvae.core.rewards.weighted import Weighted, WeightedRewards
from fairseq_seqvae.core.rollouts.policy import Completions, Trajectory
from fairseq_seqvae.core.rollouts.rollout import final_values
from fairseq_seqvae.core.schedules.turns import GENERATOR_PRETRAIN, GENERATOR_TURN, TurnPlan

TOKENS = torch.tensor([[5, 6, 2], [5, 2, 1], [7, 7, 7]])
MASK = TOKENS == 1


class Fixed(Reward):
    """Always the same scores."""

    def __init__(self, *scores, may_abstain=False, needs_discriminator=False, bounds=None):
        self.scores = torch.tensor(scores)
        self.may_abstain, self.needs_discriminator, self.bounds = may_abstain, needs_discriminator, bounds

    def score(self, tokens, padding_mask):
        return self.scores[: len(tokens)]


PICKY = Fixed(math.nan, 3.0, math.nan, may_abstain=True)


def test_the_sum_leaves_out_where_one_abstains():
    both = WeightedRewards([Weighted("a", Fixed(1.0, 2.0, 4.0), 0.5), Weighted("b", PICKY, -1.0)])
    assert both.score(TOKENS, MASK).tolist() == [0.5, -2.0, 2.0]
    completions = Completions(TOKENS, torch.tensor([3, 2, 3]), MASK, torch.arange(3), torch.ones(3))
    assert both.score_completions(completions, TOKENS).tolist() == [0.5, -2.0, 2.0]


def test_nan_of_a_reward_that_may_not_abstain_is_not_hidden():
    assert WeightedRewards([Weighted("a", Fixed(math.nan, 1.0, 1.0))]).score(TOKENS, MASK).isnan().tolist()[0]


def test_statistics_are_of_the_whole_sequences_that_were_scored_last():
    both = WeightedRewards([Weighted("a", Fixed(1.0, 2.0, 4.0), 0.5), Weighted("b", PICKY, 0.0)])
    both.score(TOKENS, MASK)
    both.score_completions(Completions(TOKENS[:1], torch.tensor([3]), MASK[:1], torch.arange(1), torch.ones(1)), TOKENS)
    found = {name: float(value) for name, value in both.statistics().items()}
    assert found == {
        **{"rewards/a/sum": 7, "rewards/a/squares": 21, "rewards/a/count": 3},
        **{"rewards/b/sum": 3, "rewards/b/squares": 9, "rewards/b/count": 1},
        # a alone counts, so it agrees with the sum; one score has no order
        **{"rewards/a/rank": 3, "rewards/a/rank_count": 3, "rewards/b/rank": 0, "rewards/b/rank_count": 0},
    }


def test_a_reward_of_weight_0_is_asked_about_whole_sequences_only():
    asked = []

    class Watched(Fixed):
        def score(self, tokens, padding_mask):
            asked.append(len(tokens))
            return super().score(tokens, padding_mask)

    both = WeightedRewards([Weighted("a", Fixed(1.0, 2.0, 4.0)), Weighted("b", Watched(3.0, 2.0, 1.0), 0.0)])
    completions = Completions(TOKENS, torch.tensor([3, 2, 3]), MASK, torch.arange(3), torch.ones(3))
    assert both.score(TOKENS, MASK).tolist() == both.score_completions(completions, TOKENS).tolist() == [1, 2, 4]
    assert asked == [3]
    assert float(both.statistics()["rewards/b/rank"]) == -3  # the opposite order, of three sequences


class TestRankCorrelation:
    def test_by_hand(self):
        # Ranks 1 2 3 4 and 2 1 4 3: 1 - 6 * (1 + 1 + 1 + 1) / (4 * 15)
        first, second = torch.tensor([-9.0, 0.0, 1.0, 50.0]), torch.tensor([0.2, 0.1, 0.9, 0.8])
        correlation, count = rank_correlation(first, second, torch.ones(4, dtype=torch.bool))
        assert float(correlation) == pytest.approx(0.6) and float(count) == 4

    def test_ties_have_their_mean_rank(self):
        # Ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2
        correlation, _ = rank_correlation(
            torch.tensor([5.0, 5.0, 7.0]), torch.tensor([1.0, 2.0, 3.0]), torch.ones(3, dtype=torch.bool)
        )
        assert float(correlation) == pytest.approx(1.5 / 3**0.5)

    def test_of_the_sequences_that_count(self):
        counted = torch.tensor([True, False, True, True])
        scores = torch.tensor([1.0, 0.0, 2.0, 3.0]), torch.tensor([1.0, 99.0, 2.0, 3.0])
        assert [float(part) for part in rank_correlation(*scores, counted)] == pytest.approx([1, 3])

    def test_of_scores_that_are_all_alike_there_is_none(self):
        scores = torch.ones(3), torch.tensor([1.0, 2.0, 3.0])
        assert [float(part) for part in rank_correlation(*scores, torch.ones(3, dtype=torch.bool))] == [0, 0]


def test_what_it_needs_and_its_bounds():
    judge = Fixed(0.0, needs_discriminator=True, bounds=(0.0, 1.0))
    assert WeightedRewards([Weighted("d", judge)]).bounds == (0.0, 1.0)
    assert WeightedRewards([Weighted("d", judge, 2.0)]).bounds is None
    two = WeightedRewards([Weighted("d", judge), Weighted("e", PICKY)])
    assert two.bounds is None and two.needs_discriminator
    assert not WeightedRewards([Weighted("e", PICKY)]).needs_discriminator
    for parts in ([], [Weighted("a", PICKY), Weighted("a", judge)]):
        with pytest.raises(ValueError, match="rewards of different names, at least one"):
            WeightedRewards(parts)


def test_final_values_stand_at_the_last_tokens():
    trajectory = Trajectory(TOKENS, torch.tensor([3, 2, 3]), MASK, torch.zeros(3, 1), torch.arange(3))
    values = final_values(Fixed(1.0, -2.0, 0.0), trajectory)
    assert values.rewards.tolist() == [[0, 0, 1], [0, -2, 0], [0, 0, 0]]
    assert values.positions.tolist() == [[False, False, True], [False, True, False], [False, False, True]]


def test_a_plan_without_a_discriminator_is_all_the_generators():
    plan = TurnPlan(2, 3, 0, 5).without_discriminator()
    assert [plan.turn(update) for update in range(6)] == [GENERATOR_PRETRAIN] * 2 + [GENERATOR_TURN] * 4
    assert not plan.discriminator_has_moved(1000)
