"""Alarms about the policy: series of numbers in, messages out."""

from types import SimpleNamespace

import pytest

from fairseq_seqvae.tasks.alarms import Alarms
from fairseq_seqvae.tasks.policy_alarms import exploited, policy_rules

SIZE = 4
SOUND = {"reward": 0.3, "ref_kl": 5.0, "distinct": 0.9, "frac_reward_zero_std": 0.1, "critic_ev": 0.4}
CFG = SimpleNamespace(pg_group_size=4)


def feed(*windows, cfg=CFG, bound=20.0):
    """Messages after windows of equal numbers, the sound ones but for those given."""
    alarms = Alarms(policy_rules(cfg, bound), SIZE)
    return [message for values in windows for _ in range(SIZE) for message in alarms.observe(SOUND | values)]


EXPLOITED = {"reward": 0.9, "ref_kl": 40.0, "distinct": 0.5}


def test_sound_numbers_are_passed_over():
    assert feed({}, {}, {"reward": 0.9}, {"distinct": 0.2}, {"ref_kl": 100.0}) == []


def test_an_exploited_reward_is_named_once():
    (message,) = feed({}, EXPLOITED, EXPLOITED)
    assert message.startswith("the reward is perhaps exploited: it rises (to 0.9)") and "40 nats" in message
    assert "--ref-kl-target" in message


@pytest.mark.parametrize("well", [{"reward": 0.2}, {"ref_kl": 19.0}, {"distinct": 0.8}])
def test_one_sign_less_is_no_exploitation(well):
    assert feed({}, EXPLOITED | well) == []


def test_what_was_so_from_the_beginning_is_no_exploitation():
    assert feed(EXPLOITED, EXPLOITED) == []
    assert feed({}, EXPLOITED, bound=0) == []


def test_the_first_window_is_that_of_the_run_not_of_the_process():
    for _ in range(2):
        rule = exploited(20.0)
        assert not rule.is_broken(0.9, 40.0, 0.5)


def test_groups_and_critic():
    messages = feed({"frac_reward_zero_std": 0.6}, {"critic_ev": -0.1})
    assert [message[:23] for message in messages] == ["in 60% of the groups al", "the critic explains not"]
    assert feed({"frac_reward_zero_std": 1.0}, cfg=SimpleNamespace(pg_group_size=1)) == []
