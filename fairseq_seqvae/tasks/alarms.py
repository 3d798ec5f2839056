"""Rules that recognise a training that goes wrong by its numbers, and say what to try.

Nothing here knows a model: an alarm reads what is logged anyway, averages it over a window of updates, and answers with
a sentence for the user, once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fairseq_seqvae.core.schedules.turns import Turn

# A discriminator that is right this often gives all samples the same reward; one at chance gives a random one.
SURE, CHANCE = 0.99, 0.52
# Smallest standard deviation of the rewards, and how close to 0 and 1 their mean may come if they are probabilities.
REWARD_SPREAD, REWARD_MARGIN = 0.01, 0.01
# Largest share of groups whose rewards are all the same.
FLAT_GROUPS = 0.9
# Smallest variety of samples, as a share of that of the data.
VARIETY = 0.5
# A reconstruction from one's own z must be right in so many more of the tokens than one from another sequence's z.
RECONSTRUCTION_GAIN = 0.05
# What leads to a latent that carries the sequence, the most effective first.
# The flags are what a test trains an example with.
USE_THE_LATENT = (
    "Try --encoder convolutional --decoder hybrid --auxiliary-weight 1 --kl-weight 0.2, with --latent-positions (of "
    "the longest sentence) or --fixed-length"
)

LOSSES = ("loss", "pg_loss", "d_loss")
WATCHED = (
    *LOSSES,
    *("rec", "kl", "kl_weight", "entropy", "reward", "reward_std", "frac_reward_zero_std", "ref_kl", "critic_ev"),
    *("d_acc_real", "d_acc_fake", "distinct", "_distinct_data", "rec_acc", "rec_acc_other"),
)


@dataclass(frozen=True)
class Rule:
    """One thing that can go wrong.

    Attributes:
        keys: names of the numbers that it reads
        is_broken: takes their means over a window, in the order of *keys*
        message: what is wrong and what to try; the means fill places such as ``{kl:.2g}``
        counts: whether the numbers of an update count at all
    """

    keys: tuple[str, ...]
    is_broken: Callable[..., bool]
    message: str
    counts: Callable[[Mapping[str, float]], bool] = lambda values: True


@dataclass
class _Window:
    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)


class Alarms:
    """Judges means over windows of numbers. A window is *size* updates that held the numbers; windows do not overlap.

    Args:
        rules: what to watch
        size: number of updates; 0 switches all alarms off
    """

    def __init__(self, rules: Sequence[Rule], size: int):
        self.size = size
        self._windows = [(rule, _Window()) for rule in rules] if size > 0 else []

    def observe(self, values: Mapping[str, float]) -> list[str]:
        """Take the numbers of one update; return the messages of rules that break now for the first time."""
        messages, kept = [], []
        for rule, window in self._windows:
            if all(key in values for key in rule.keys) and rule.counts(values):
                window.count += 1
                for key in rule.keys:
                    window.sums[key] = window.sums.get(key, 0.0) + values[key]
            if window.count == self.size:
                means = {key: total / self.size for key, total in window.sums.items()}
                window = _Window()
                if rule.is_broken(*(means[key] for key in rule.keys)):
                    messages.append(rule.message.format(**means))
                    continue
            kept.append((rule, window))
        self._windows = kept
        return messages


def training_rules(
    kl_bound: float, kl_weight: float, first_update: int, probabilities: bool, has_discriminator: bool = True
) -> list[Rule]:
    """The rules for training.

    Args:
        kl_bound: in nats per sentence; a mean divergence below it is a collapsed latent
        kl_weight: final weight of the KL term; the divergence counts only once the weight has reached it
        first_update: the divergence counts from this update on, since every training begins with almost none
        probabilities: whether rewards are probabilities rather than log-odds or logarithms
        has_discriminator: whether the discriminator is among the rewards
    """

    def is_flat(mean: float, spread: float) -> bool:
        at_an_end = not REWARD_MARGIN < mean < 1 - REWARD_MARGIN
        return spread < REWARD_SPREAD or (probabilities and at_an_end)

    return [
        Rule(
            ("kl", "kl_weight", "update"),
            lambda kl, *_: kl < kl_bound,
            f"the latent has collapsed: the divergence of the posterior is {{kl:.2g}} nats per sentence, below "
            f"{kl_bound:g}, so the decoder hardly uses z. {USE_THE_LATENT}",
            counts=_from(first_update, kl_weight),
        ),
        Rule(
            ("d_acc_real", "d_acc_fake"),
            lambda real, fake: (real + fake) / 2 > SURE,
            "the discriminator wins: it judges {d_acc_real:.1%} of the real and {d_acc_fake:.1%} of the generated "
            "sentences correctly, so all samples get the same reward. Try a lower --disc-lr, fewer --adv-d-steps, more "
            "--disc-dropout, --disc-label-smoothing 0.1, or --reward logit",
        ),
        Rule(
            ("d_acc_real", "d_acc_fake"),
            lambda real, fake: (real + fake) / 2 < CHANCE,
            "the discriminator loses: it judges {d_acc_real:.1%} of the real and {d_acc_fake:.1%} of the generated "
            "sentences correctly, which is chance, so its rewards say nothing. If the samples are not good yet, try "
            "a higher --disc-lr, more --adv-d-steps or --disc-pretrain-updates, or a larger discriminator",
        ),
        Rule(
            ("reward", "reward_std"),
            is_flat,
            "the rewards are all alike: mean {reward:.3g}, standard deviation {reward_std:.2g}, so the policy gradient "
            "is noise. Try --reward logit, --pg-normalize, or a less certain discriminator (--disc-lr, "
            "--adv-d-steps, --disc-dropout); if it is at chance, a stronger one",
        )
        if has_discriminator
        else _flat_rewards(),
        _repeating("the trajectories"),
    ]


def _flat_rewards() -> Rule:
    return Rule(
        ("reward", "frac_reward_zero_std"),
        lambda _, flat: flat > FLAT_GROUPS,
        "all samples of a batch get the same reward (mean {reward:.3g}) in {frac_reward_zero_std:.0%} of the updates, "
        "so the policy gradient is 0. If that is what you wanted, the training is done; if not, try a reward that says "
        "how far a sample is from fulfilling the rule, or a larger --batch-size",
    )


def latent_rules(kl_weight: float, first_update: int) -> list[Rule]:
    """The rules for validations of a model with a latent: whether z does its work, whatever the divergence is.

    Args:
        kl_weight: final weight of the KL term; validations count only once the weight has reached it
        first_update: validations count from this update on
    """
    return [
        Rule(
            ("rec_acc", "rec_acc_other", "kl_weight", "update"),
            lambda own, other, *_: own < other + RECONSTRUCTION_GAIN,
            "the latent is hardly used: greedy reconstruction gives back {rec_acc:.1%} of the held-out tokens, and "
            f"{{rec_acc_other:.1%}} from another sentence's z, so z says next to nothing. {USE_THE_LATENT}",
            counts=_from(first_update, kl_weight),
        )
    ]


def _from(first_update: int, kl_weight: float) -> Callable[[Mapping[str, float]], bool]:
    """Whether numbers are of an update that is late enough and has the final weight of the KL term."""
    # The logged weight was multiplied by the size of the batch and divided again.
    return lambda values: values["update"] >= first_update and values["kl_weight"] >= 0.999 * kl_weight


def adversarial_validation_rules() -> list[Rule]:
    """The rules for validations in the adversarial part."""
    return [
        Rule(
            ("d_acc_real", "d_acc_fake"),
            lambda real, fake: (real + fake) / 2 < CHANCE,
            "the discriminator is at chance on held-out sentences: it judges {d_acc_real:.1%} of them and "
            "{d_acc_fake:.1%} of fresh samples correctly. If it does better in training, it has memorised the training "
            "data, and its rewards lead there: try more --disc-dropout, a smaller discriminator or a lower --disc-lr; "
            "if not, a stronger one",
        ),
        _repeating("samples from the prior"),
    ]


def _repeating(samples: str) -> Rule:
    return Rule(
        ("distinct", "_distinct_data"),
        lambda distinct, of_data: distinct < VARIETY * of_data,
        f"{samples} repeat: {{distinct:.1%}} of a batch are distinct, but {{_distinct_data:.1%}} of the data. Try a "
        "lower --pg-weight or a higher --elbo-weight, --entropy-weight 0.01, --pg-baseline leave-one-out, or return "
        "to an earlier checkpoint",
    )


def non_finite(values: Mapping[str, float]) -> list[str]:
    """Names of the numbers that are NaN or infinite."""
    return [key for key, value in values.items() if not math.isfinite(value)]


def breakdown(problem: str, turn: Turn, update: int) -> str:
    """The sentence about a training that cannot continue: what happened, in whose turn, and what to try.

    Args:
        problem: such as "the loss is NaN"
        turn: the turn in which it happened
        update: number of the update, counted from 1 as in the log
    """
    rate = "--disc-lr" if turn.player == "discriminator" else "--lr"
    return (
        f"in update {update}, a turn of the {turn.player} ({turn.name}): {problem}. Return to the last good "
        f"checkpoint and try a lower {rate}, --clip-norm 1, a warm-up of the learning rate, or --bf16 or float32 "
        "instead of --fp16"
    )
