"""The controller of the KL weight, and the numbers that checkpoints keep of a run."""

import math

import pytest
import torch

from fairseq_seqvae.core.schedules.kl_control import KLControl, KLController
from fairseq_seqvae.core.schedules.run_state import RunState


class TestKLController:
    def test_first_steps_by_hand(self):
        controller = KLController(target=2.0, max_weight=1.0, horizon=10)
        state = controller.start()
        assert state.weight == pytest.approx(0.1)
        state = controller.step(state, 2 * math.e)  # an error of 1
        assert state.integral == pytest.approx(math.log(0.1) + 0.1)
        assert state.weight == pytest.approx(0.1 * math.exp(1.1))
        state = controller.step(state, 2.0)  # none: what the integral has learned remains
        assert state.weight == pytest.approx(0.1 * math.exp(0.1))
        state = controller.step(state, 2 / math.e)
        assert state.weight == pytest.approx(0.1 * math.exp(-1.0))

    @pytest.mark.parametrize("kl", [0.0, 1e-30, 2 * math.exp(-2.5)])
    def test_an_error_counts_up_to_a_factor_of_e_squared(self, kl):
        controller = KLController(target=2.0, max_weight=1.0, horizon=10)
        assert controller.step(controller.start(), kl).weight == pytest.approx(0.1 * math.exp(-2.2))
        assert controller.step(controller.start(), 4 / max(kl, 1e-300)).weight == pytest.approx(0.1 * math.exp(2.2))

    @pytest.mark.parametrize("max_weight", [1.0, 0.3, 4.0])
    def test_the_weight_stays_within_its_bounds_and_comes_back_at_once(self, max_weight):
        controller = KLController(target=2.0, max_weight=max_weight, horizon=10)
        state = controller.start()
        for kl, bound in ((0.1, 1e-4 * max_weight), (1000.0, max_weight)):
            for _ in range(500):
                state = controller.step(state, kl)
                assert 1e-4 * max_weight * (1 - 1e-9) <= state.weight <= max_weight * (1 + 1e-9)
            assert state.weight == pytest.approx(bound)
            # No wind-up: a single error of the other sign moves it away from the bound.
            moved = controller.step(state, 2.0 * math.exp(1 if kl < 2 else -1))
            assert abs(math.log(moved.weight / bound)) == pytest.approx(1.1)

    @pytest.mark.parametrize("target", [0.5, 2.0, 80.0])
    @pytest.mark.parametrize("slope", [0.3, 1.0, 2.0])
    @pytest.mark.parametrize("lag", [20, 200])
    def test_a_sluggish_kl_reaches_the_target(self, target, slope, lag):
        """log KL follows log target - slope * log(weight / 0.03), which it would reach without lag."""
        controller = KLController(target, 1.0, 200)
        state, log_kl = controller.start(), math.log(1e-2)
        found = []
        for _ in range(6000):
            state = controller.step(state, math.exp(log_kl))
            log_kl += (math.log(target) - slope * math.log(state.weight / 0.03) - log_kl) / lag
            found.append(math.exp(log_kl))
        assert min(found[-1000:]) > 0.99 * target and max(found[-1000:]) < 1.01 * target

    @pytest.mark.parametrize("name", ["target", "max_weight", "horizon"])
    @pytest.mark.parametrize("value", [0, -1, math.nan])
    def test_numbers_that_are_not_above_zero(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be above 0 but is {value}"):
            KLController(**{"target": 1.0, "max_weight": 1.0, "horizon": 10} | {name: value})


class TestRunState:
    def saved(self, **values):
        state, found = RunState(), {}
        for name, numbers in values.items():
            state.set(name, numbers)
        state.save(found, "of.")
        return found

    def test_bits_come_back(self):
        numbers = (0.1, -0.0, math.inf, 5e-324, math.pi, 2.0**60 + 1)
        found = self.saved(first=numbers, second=(1,))
        assert found.keys() == {"of.first_version", "of.second_version"}
        assert all(value.dtype == torch.int64 for value in found.values())
        state = RunState()
        state.load(found, "of.")
        assert state.get("first") == numbers and math.copysign(1, state.get("first")[1]) == -1
        assert state.get("second") == (1.0,) and state.get("third") is None

    def test_loading_forgets_what_is_not_there(self):
        state = RunState()
        state.set("first", (1.0,))
        state.load(self.saved(second=(2.0,)), "of.")
        assert state.get("first") is None and state.get("second") == (2.0,)

    def test_nothing_is_saved_of_a_run_that_has_found_nothing(self):
        assert self.saved() == {}


def test_the_state_fits_the_numbers_of_a_run():
    controller = KLController(2.0, 1.0, 10)
    state = RunState()
    state.set("kl", controller.step(controller.start(), 3.0))
    assert KLControl(*state.get("kl")) == controller.step(controller.start(), 3.0)
