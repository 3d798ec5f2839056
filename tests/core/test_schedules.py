"""Weight of the KL term, and whose turn an update is."""

import dataclasses

import oracles
import pytest

from fairseq_seqvae.core.schedules.annealing import kl_weight
from fairseq_seqvae.core.schedules.turns import (
    DISCRIMINATOR_PRETRAIN,
    DISCRIMINATOR_TURN,
    GENERATOR_PRETRAIN,
    GENERATOR_TURN,
    TurnPlan,
)


class TestKlWeight:
    @pytest.mark.parametrize("update", [0, 1, 10**6])
    def test_constant_is_the_weight(self, update):
        assert kl_weight(update, 0.2) == 0.2
        assert kl_weight(update, 0.2, anneal="constant", anneal_updates=100) == 0.2

    @pytest.mark.parametrize(
        "update, expected", [(0, 0.0), (25, 0.05), (50, 0.1), (100, 0.2), (101, 0.2), (10**6, 0.2)]
    )
    def test_linear_by_hand(self, update, expected):
        assert kl_weight(update, 0.2, anneal="linear", anneal_updates=100) == pytest.approx(expected)

    @pytest.mark.parametrize(
        "update, expected",
        [(0, 0), (5, 0.4), (12, 0.96), (13, 1), (24, 1), (25, 0), (30, 0.4), (99, 1), (100, 1), (101, 1)],
    )
    def test_cyclical_by_hand(self, update, expected):
        # Four cycles of 25 updates; the weight rises over the first 12.5 of each.
        weight = kl_weight(update, 1.0, anneal="cyclical", anneal_updates=100, cycles=4, ramp=0.5)
        assert weight == pytest.approx(expected)

    @pytest.mark.parametrize("cycles, ramp", [(1, 1.0), (3, 0.25), (7, 0.9)])
    @pytest.mark.parametrize("anneal_updates", [1, 10, 137])
    def test_cyclical_equals_the_loop(self, cycles, ramp, anneal_updates):
        for update in range(anneal_updates + 5):
            weight = kl_weight(update, 0.3, anneal="cyclical", anneal_updates=anneal_updates, cycles=cycles, ramp=ramp)
            place = update * cycles / anneal_updates
            # At the seam of two cycles rounding may put the slow version on the other side.
            if update and abs(place - round(place)) < 1e-9 and update < anneal_updates:
                assert weight == pytest.approx(0)
            else:
                assert weight == pytest.approx(oracles.cyclical_weight(update, 0.3, anneal_updates, cycles, ramp))

    @pytest.mark.parametrize("anneal", ["linear", "cyclical"])
    def test_is_the_weight_at_once_without_annealing_updates(self, anneal):
        assert kl_weight(0, 0.7, anneal=anneal, anneal_updates=0) == 0.7

    @pytest.mark.parametrize("anneal", ["constant", "linear", "cyclical"])
    def test_stays_between_zero_and_the_weight(self, anneal):
        for update in range(60):
            assert 0 <= kl_weight(update, 0.5, anneal=anneal, anneal_updates=40, cycles=3, ramp=0.7) <= 0.5

    def test_linear_never_falls(self):
        weights = [kl_weight(update, 2.0, anneal="linear", anneal_updates=13) for update in range(30)]
        assert weights == sorted(weights)

    def test_unknown_anneal_is_named(self):
        with pytest.raises(ValueError, match="anneal.*cosine|cosine.*anneal"):
            kl_weight(0, 1.0, anneal="cosine", anneal_updates=10)

    def test_cyclical_needs_a_cycle_and_a_ramp(self):
        with pytest.raises(ValueError, match="cycles.*0"):
            kl_weight(1, 1.0, anneal="cyclical", anneal_updates=10, cycles=0)
        with pytest.raises(ValueError, match="ramp.*0"):
            kl_weight(1, 1.0, anneal="cyclical", anneal_updates=10, ramp=0.0)
        with pytest.raises(ValueError, match="ramp.*1.5"):
            kl_weight(1, 1.0, anneal="cyclical", anneal_updates=10, ramp=1.5)


class TestTurn:
    def test_who_moves_and_when(self):
        turns = (GENERATOR_PRETRAIN, DISCRIMINATOR_PRETRAIN, GENERATOR_TURN, DISCRIMINATOR_TURN)
        generator, discriminator = ["decoder", "encoder"], ["discriminator"]
        moves = [generator, discriminator, ["critic", *generator], discriminator]  # a critic moves where rewards are
        assert [sorted(turn.moves) for turn in turns] == moves
        assert [turn.player for turn in turns] == ["generator", "discriminator"] * 2
        assert [turn.is_adversarial for turn in turns] == [False, False, True, True]


class TestTurnPlan:
    def test_by_hand(self):
        plan = TurnPlan(gen_pretrain_updates=2, disc_pretrain_updates=1, adv_g_steps=1, adv_d_steps=2)
        names = [plan.turn(update).name for update in range(9)]
        assert names == [
            "generator-pretrain",
            "generator-pretrain",
            "discriminator-pretrain",
            *["generator", "discriminator", "discriminator"] * 2,
        ]

    @pytest.mark.parametrize(
        "numbers",
        [(0, 0, 1, 1), (3, 0, 1, 1), (0, 4, 2, 1), (5, 7, 1, 5), (1, 1, 3, 0), (2, 3, 0, 1), (10, 0, 4, 3)],
    )
    def test_equals_the_list_written_down(self, numbers):
        plan = TurnPlan(*numbers)
        assert [plan.turn(update).name for update in range(60)] == oracles.turn_names(*numbers, updates=60)

    def test_counts_are_exact(self):
        plan = TurnPlan(gen_pretrain_updates=40, disc_pretrain_updates=30, adv_g_steps=2, adv_d_steps=5)
        turns = [plan.turn(update) for update in range(70 + 10 * 7)]
        counts = {turn: turns.count(turn) for turn in set(turns)}
        assert counts == {
            GENERATOR_PRETRAIN: 40,
            DISCRIMINATOR_PRETRAIN: 30,
            GENERATOR_TURN: 20,
            DISCRIMINATOR_TURN: 50,
        }

    def test_is_a_pure_function_of_the_update(self):
        plan = TurnPlan(3, 2, 1, 2)
        forwards = [plan.turn(update) for update in range(30)]
        backwards = [plan.turn(update) for update in reversed(range(30))]
        assert forwards == backwards[::-1]
        # A run that is resumed builds the plan anew.
        assert TurnPlan(3, 2, 1, 2) == plan and TurnPlan(3, 2, 1, 2).turn(17) == forwards[17]

    def test_one_step_each_is_the_default(self):
        plan = TurnPlan(gen_pretrain_updates=1, disc_pretrain_updates=0)
        assert [plan.turn(update).name for update in (1, 2, 3)] == ["generator", "discriminator", "generator"]

    def test_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            TurnPlan(1, 1).adv_g_steps = 3

    @pytest.mark.parametrize("name", ["gen_pretrain_updates", "disc_pretrain_updates", "adv_g_steps", "adv_d_steps"])
    def test_negative_numbers_are_refused(self, name):
        numbers = {"gen_pretrain_updates": 1, "disc_pretrain_updates": 1, "adv_g_steps": 1, "adv_d_steps": 1, name: -3}
        with pytest.raises(ValueError, match=f"{name}.*-3"):
            TurnPlan(**numbers)

    def test_an_adversarial_round_needs_a_step(self):
        with pytest.raises(ValueError, match="adv_g_steps.*adv_d_steps"):
            TurnPlan(1, 1, adv_g_steps=0, adv_d_steps=0)


class TestDiscriminatorSince:
    @pytest.mark.parametrize("plan", [(3, 4, 2, 3), (0, 5, 1, 1), (2, 0, 3, 2), (0, 0, 1, 4), (1, 2, 0, 3)])
    def test_the_generator_rests_from_there_on_and_moves_before(self, plan):
        turns = TurnPlan(*plan)
        for update in range(40):
            if turns.turn(update).player == "generator":
                with pytest.raises(ValueError, match=f"update {update} "):
                    turns.generator_rests_since(update)
                continue
            since = turns.generator_rests_since(update)
            assert 0 <= since <= update
            assert all(turns.turn(u).player == "discriminator" for u in range(since, update + 1))
            if plan[2]:
                assert since == 0 or turns.turn(since - 1).player == "generator"

    def test_by_hand(self):
        # Three of the generator, two of the discriminator, then G D D G D D ...
        plan = TurnPlan(3, 2, 1, 2)
        assert [plan.generator_rests_since(update) for update in (3, 4, 6, 7, 9, 10)] == [3, 3, 6, 6, 9, 9]


class TestDiscriminatorHasMoved:
    @pytest.mark.parametrize(
        "plan", [(3, 4, 2, 3), (0, 5, 1, 1), (2, 0, 3, 2), (0, 0, 1, 4), (1, 2, 0, 3), (2, 0, 1, 0)]
    )
    def test_equals_a_look_at_every_update(self, plan):
        turns = TurnPlan(*plan)
        for updates in range(30):
            moved = any(turns.turn(update).player == "discriminator" for update in range(updates))
            assert turns.discriminator_has_moved(updates) == moved
