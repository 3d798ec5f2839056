"""Lagging inference: which updates are the encoder's alone, and when that ends."""

import math

import pytest

from fairseq_seqvae.core.schedules.lagging_inference import LaggingPlan, LaggingState
from fairseq_seqvae.core.schedules.turns import (
    DISCRIMINATOR_PRETRAIN,
    DISCRIMINATOR_TURN,
    ENCODER,
    ENCODER_TURN,
    GENERATOR_PRETRAIN,
    GENERATOR_TURN,
)

PLAN = LaggingPlan(encoder_updates=2, until=8)


def turns(plan, state, count, planned=GENERATOR_PRETRAIN):
    return "".join("E" if plan.turn(n, planned, state) is ENCODER_TURN else "a" for n in range(count))


def test_the_encoder_moves_twice_before_each_update_of_all():
    assert turns(PLAN, LaggingState(), 12) == "EEaEEaEEaaaa"
    assert ENCODER_TURN.moves == {ENCODER} and not ENCODER_TURN.is_adversarial and ENCODER_TURN.player == "generator"


@pytest.mark.parametrize("planned", [DISCRIMINATOR_PRETRAIN, GENERATOR_TURN, DISCRIMINATOR_TURN])
def test_other_turns_stay_as_planned(planned):
    assert all(PLAN.turn(n, planned, LaggingState()) is planned for n in range(12))


def test_it_ends_for_good_where_the_mutual_information_falls():
    state = LaggingState()
    for updates, information in ((2, 0.3), (4, 0.5), (6, 0.49), (8, 0.9)):
        state = PLAN.observe(updates, information, state)
    assert state == LaggingState(8, 0.9, 6)
    assert turns(PLAN, state, 12) == "EEaEEaaaaaaa"


def test_an_equal_mutual_information_has_not_fallen():
    state = PLAN.observe(4, 0.5, PLAN.observe(2, 0.5, LaggingState()))
    assert state.ended_at == math.inf


def test_a_second_validation_after_as_many_updates_does_not_count():
    state = PLAN.observe(2, 0.5, LaggingState())
    assert PLAN.observe(2, 0.1, state) == state


def test_a_new_run_that_begins_with_the_parameters_of_another_begins_again():
    state = PLAN.observe(6, 0.1, PLAN.observe(4, 0.5, LaggingState()))
    assert state.ended_at == 6
    assert PLAN.observe(2, 0.05, state) == LaggingState(2, 0.05, math.inf)
