"""Rules about the policy: a reward that is exploited, groups that teach nothing, a critic that explains nothing."""

from typing import Any

from fairseq_seqvae.tasks.alarms import Rule

# Largest share of groups without spread.
FLAT_GROUPS = 0.5
# An exploited reward has lowered the share of distinct samples to less than this share of what it was at first.
DISTINCT_LEFT = 0.8


def policy_rules(criterion_cfg: Any, ref_kl_bound: float) -> list[Rule]:
    """The rules for the configuration of an adversarial criterion; none for another one.

    Args:
        ref_kl_bound: divergence from the reference, in nats per sequence, beyond which a reward may be exploited
    """
    rules = [exploited(ref_kl_bound), useless_critic()] if ref_kl_bound else [useless_critic()]
    if getattr(criterion_cfg, "pg_group_size", 1) > 1:
        rules.append(flat_groups())
    return rules


def exploited(ref_kl_bound: float) -> Rule:
    """The reward rises, the policy is far from the reference, and its samples become alike, since the first window."""
    first: list[tuple[float, float]] = []

    def is_exploited(reward: float, ref_kl: float, distinct: float) -> bool:
        if not first:
            first.append((reward, distinct))
        return reward > first[0][0] and ref_kl > ref_kl_bound and distinct < DISTINCT_LEFT * first[0][1]

    return Rule(
        ("reward", "ref_kl", "distinct"),
        is_exploited,
        "the reward is perhaps exploited: it rises (to {reward:.3g}) while samples become alike ({distinct:.1%} of a "
        f"batch are distinct) and the policy is {{ref_kl:.3g}} nats per sequence from the reference, beyond "
        f"{ref_kl_bound:g} (--alarm-ref-kl). Look at samples; if they are not what you want, try a higher --ref-kl, "
        "--ref-kl-target, --diversity-limit, or another reward beside this one",
    )


def flat_groups() -> Rule:
    """Most groups have members that all earn the same."""
    return Rule(
        ("frac_reward_zero_std",),
        lambda share: share > FLAT_GROUPS,
        "in {frac_reward_zero_std:.0%} of the groups all members earn the same, so these teach nothing. Try a larger "
        "--pg-group-size, --pg-baseline leave-one-out, or a reward that says how far a sample is from what is wanted",
    )


def useless_critic() -> Rule:
    """The critic explains nothing of the rewards."""
    return Rule(
        ("critic_ev",),
        lambda explained: explained <= 0,
        "the critic explains nothing of the rewards: the variance that it explains is {critic_ev:.2f}, so it is no "
        "better than a constant. Try a higher --critic-weight, or --pg-baseline leave-one-out instead",
    )
