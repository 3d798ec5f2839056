"""When a discriminator is judged on held-out data, and when its reward is used."""

import pytest

from fairseq_seqvae.core.schedules.held_out_judgements import Judgement, JudgementPlan


def test_judgements_come_at_the_first_chance_then_at_intervals_and_before_the_reward_counts():
    plan, last, made = JudgementPlan(interval=4), None, []
    for update in range(3, 20):
        for _ in range(2):  # two batches per update
            if plan.is_due(update, 12, last):
                last = Judgement(update, 0.7)
                made.append(update)
    assert made == [3, 7, 11, 12, 16]


def test_a_judgement_of_a_later_update_belongs_to_another_run():
    assert JudgementPlan(interval=4).is_due(5, 100, Judgement(90, 0.7))


def test_without_an_interval_there_are_none():
    assert not JudgementPlan().is_due(12, 12, None)


@pytest.mark.parametrize(
    "threshold, last, is_open",
    [
        (0.0, None, True),
        (0.0, Judgement(3, 0.1), True),
        (0.55, None, False),
        (0.55, Judgement(3, 0.54), False),
        (0.55, Judgement(3, 0.55), True),
    ],
)
def test_the_reward_is_used_from_the_threshold_on(threshold, last, is_open):
    assert JudgementPlan(4, threshold).is_open(last) is is_open
