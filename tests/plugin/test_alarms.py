"""Alarms: series of numbers in, messages out; then in the task, where the numbers come from a training."""

import math
import re

import commands
import pytest

from fairseq_seqvae.core.schedules.turns import (
    DISCRIMINATOR_TURN,
    GENERATOR_TURN,
)
from fairseq_seqvae.tasks import alarms
from fairseq_seqvae.tasks.alarms import (
    Alarms,
    adversarial_validation_rules,
    breakdown,
    latent_rules,
    non_finite,
    training_rules,
)

SIZE = 10
HEALTHY = {
    "update": 1000,
    "kl": 3.0,
    "kl_weight": 1.0,
    "d_acc_real": 0.8,
    "d_acc_fake": 0.7,
    "reward": 0.4,
    "reward_std": 0.2,
    "distinct": 0.9,
    "_distinct_data": 0.95,
}
ILL = {
    "the latent has collapsed": {"kl": 0.02},
    "the discriminator wins": {"d_acc_real": 1.0, "d_acc_fake": 0.99},
    "the discriminator loses": {"d_acc_real": 0.9, "d_acc_fake": 0.1},
    "the rewards are all alike: mean 0.4": {"reward_std": 0.001},
    "the rewards are all alike: mean 0.002": {"reward": 0.002, "reward_std": 0.02},
    "the rewards are all alike: mean 0.998": {"reward": 0.998, "reward_std": 0.02},
    "the trajectories repeat": {"distinct": 0.3},
}


def make(size=SIZE, kl_weight=1.0, first_update=0, probabilities=True):
    return Alarms(training_rules(0.1, kl_weight, first_update, probabilities), size)


def feed(alarms, *series):
    """All messages of updates whose numbers are the healthy ones but for those given."""
    return [message for values in series for message in alarms.observe(HEALTHY | values)]


def test_rewards_without_a_discriminator_are_flat_where_whole_batches_are():
    def messages(share):
        alarms = Alarms(training_rules(0.1, 1.0, 0, False, has_discriminator=False), SIZE)
        return feed(alarms, *[{"reward": 5.0, "reward_std": 0.0, "frac_reward_zero_std": share}] * SIZE)

    (message,) = messages(0.95)
    assert message.startswith("all samples of a batch get the same reward (mean 5) in 95% of the updates")
    assert not messages(0.5)


class TestAlarms:
    def test_healthy_numbers_are_passed_over_in_silence(self):
        assert feed(make(), *[{}] * 50) == []

    @pytest.mark.parametrize("beginning", ILL)
    def test_each_ill_is_named_once_when_its_window_is_full(self, beginning):
        alarms = make()
        assert feed(alarms, *[ILL[beginning]] * (SIZE - 1)) == []
        (message,) = feed(alarms, ILL[beginning])
        assert message.startswith(beginning)
        assert "ry " in message and "--" in message  # what to try, by which flag
        assert feed(alarms, *[ILL[beginning]] * 50) == []

    def test_the_divergence_is_said_with_its_unit(self):
        (message,) = feed(make(), *[{"kl": 0.02}] * SIZE)
        assert "0.02 nats per sentence, below 0.1," in message
        assert "Try --encoder convolutional" in message

    def test_it_is_the_mean_over_the_window_that_counts(self):
        assert feed(make(), *[{"kl": 0.0}, {"kl": 0.3}] * SIZE) == []  # single updates below the bound are no collapse
        assert len(feed(make(), *[{"kl": 0.0}, {"kl": 0.15}] * SIZE)) == 1

    def test_windows_do_not_overlap(self):
        sick, sound = [{"kl": 0.0}] * (SIZE // 2), [{"kl": 1.0}] * (SIZE // 2)
        assert feed(make(), *sound, *sick, *sick, *sick) == feed(make(), *sick, *sick)

    def test_turns_of_the_other_player_do_not_count(self):
        alarms = make()
        generator = {"kl": 0.02, "kl_weight": 1.0, "update": 0}
        discriminator = {"d_acc_real": 1.0, "d_acc_fake": 1.0}
        messages = []
        for _ in range(SIZE):
            messages += alarms.observe(generator) + alarms.observe(discriminator)
        assert [message.split(":")[0] for message in messages] == ["the latent has collapsed", "the discriminator wins"]
        assert alarms.observe({}) == []

    def test_kl_counts_only_at_its_final_weight(self):
        alarms = make(kl_weight=0.5)
        assert feed(alarms, *[{"kl": 0.0, "kl_weight": 0.01 * step} for step in range(50)]) == []
        assert len(feed(alarms, *[{"kl": 0.0, "kl_weight": 0.5}] * SIZE)) == 1

    def test_kl_counts_only_after_the_first_updates(self):
        assert feed(make(first_update=100), *[{"kl": 0.0, "update": step} for step in range(100 + SIZE - 1)]) == []
        assert len(feed(make(first_update=100), *[{"kl": 0.0, "update": step} for step in range(100 + SIZE)])) == 1

    @pytest.mark.parametrize("rewards", [{"reward": -7.0}, {"reward": 0.0}, {"reward": 5.0}])
    def test_other_rewards_than_probabilities_may_be_of_any_size(self, rewards):
        assert feed(make(probabilities=False), *[rewards] * SIZE) == []
        assert len(feed(make(probabilities=False), *[rewards | {"reward_std": 0.0}] * SIZE)) == 1

    def test_repetition_is_measured_against_that_of_the_data(self):
        assert feed(make(), *[{"distinct": 0.3, "_distinct_data": 0.4}] * SIZE) == []

    def test_size_zero_switches_off(self):
        assert feed(make(size=0), *[values for values in ILL.values() for _ in range(50)]) == []

    @pytest.mark.parametrize(
        "beginning, values",
        [
            ("the discriminator is at chance on held-out", {"d_acc_real": 0.45, "d_acc_fake": 0.55}),
            ("samples from the prior repeat", {"distinct": 0.01}),
        ],
    )
    def test_validations(self, beginning, values):
        alarms = Alarms(adversarial_validation_rules(), 3)
        assert feed(alarms, *[{}] * 3, *[values] * 2) == []
        (message,) = feed(alarms, values)
        assert message.startswith(beginning)


class TestOfTheLatentInValidations:
    """By what comes back of held-out sequences; the divergence says nothing about it."""

    UNUSED = {"rec_acc": 0.31, "rec_acc_other": 0.30, "kl": 5.0}

    def make(self, kl_weight=1.0, first_update=0):
        return Alarms(latent_rules(kl_weight, first_update), 3)

    def test_unused_at_any_divergence(self):
        alarms = self.make()
        assert feed(alarms, *[self.UNUSED] * 2) == []
        (message,) = feed(alarms, self.UNUSED)
        assert message.startswith("the latent is hardly used: greedy reconstruction gives back 31.0% of the held-out")
        assert (
            "and 30.0% from another sentence's z" in message
            and "Try --encoder convolutional --decoder hybrid" in message
        )
        assert feed(alarms, *[self.UNUSED] * 9) == []

    @pytest.mark.parametrize("own, other, expected", [(0.36, 0.30, 0), (0.34, 0.30, 1), (0.25, 0.30, 1), (1.0, 0.9, 0)])
    def test_it_must_gain_a_twentieth_of_the_tokens(self, own, other, expected):
        assert len(feed(self.make(), *[{"rec_acc": own, "rec_acc_other": other}] * 3)) == expected

    def test_it_is_the_mean_of_three_validations_that_counts(self):
        good = {"rec_acc": 0.5, "rec_acc_other": 0.3}
        assert feed(self.make(), self.UNUSED, good, self.UNUSED) == []

    def test_counts_late_enough_and_at_the_final_weight_of_the_divergence(self):
        alarms = self.make(kl_weight=0.2, first_update=500)
        early, rising = {"update": 499, "kl_weight": 0.2}, {"update": 500, "kl_weight": 0.1}
        for numbers in (early, rising):
            assert feed(alarms, *[self.UNUSED | numbers] * 9) == []
        assert len(feed(alarms, *[self.UNUSED | {"update": 500, "kl_weight": 0.2}] * 3)) == 1

    def test_validations_that_decode_nothing_do_not_count(self):
        assert feed(self.make(), *[{}] * 9) == []


def test_numbers_that_are_not_finite_are_named():
    assert non_finite({"loss": math.nan, "kl": 1.0, "reward": -math.inf}) == ["loss", "reward"]
    assert non_finite(HEALTHY) == []


@pytest.mark.parametrize(
    "turn, player, rate", [(GENERATOR_TURN, "generator", "--lr"), (DISCRIMINATOR_TURN, "discriminator", "--disc-lr")]
)
def test_a_breakdown_says_whose_turn_it_was_and_what_to_try(turn, player, rate):
    message = breakdown("the loss is NaN", turn, 17)
    assert f"in update 17, a turn of the {player}" in message and "the loss is NaN" in message
    assert f"a lower {rate}," in message and "--clip-norm" in message


@pytest.mark.slow
def test_the_advice_for_an_unused_latent_leads_to_reconstructions_of_an_example(tmp_path):
    """First names, letter by letter: with the flags that the alarm names, letters come back that others lack."""
    folder = commands.ROOT / "examples" / "names" / "data"
    lines = {split: (folder / f"{split}.txt").read_text().splitlines() for split in ("train", "valid")}
    data = commands.preprocess(tmp_path / "data", **lines)
    advice = re.findall(r"--[a-z-]+ [a-z0-9.]+", alarms.USE_THE_LATENT.split(", with")[0])
    assert len(advice) == 4
    sizes = "--embed-dim 32 --decoder-hidden-dim 64 --conv-channels 48,64 --latent-dim 32 --latent-positions 16"
    rest = "--lr 4e-3 --batch-size 128 --max-update 250 --alarm-window 0"
    log = commands.train(data, tmp_path / "ck", *advice, sizes, rest, criterion=commands.ELBO)
    (*_, last) = commands.json_lines(log, "valid")
    assert float(last["valid_rec_acc"]) > 0.6 > 0.4 > float(last["valid_rec_acc_other"])
