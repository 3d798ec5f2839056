"""Numbers that tell that a training goes wrong, and what to try.

Knows nothing of models: it is fed with what is logged anyway, averages it over a window of updates, and answers with
sentences for the user, each of them once.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fairseq_seqvae.core.schedules.turns import Turn

# A discriminator that is right this often says the same of every sample; one at chance says nothing.
SURE, CHANCE = 0.99, 0.52
# Least standard deviation of the rewards, and how close to 0 and 1 probabilities may come on average.
REWARD_SPREAD, REWARD_MARGIN = 0.01, 0.01
# Share of the data's own variety that samples must have.
VARIETY = 0.5

LOSSES = ("loss", "pg_loss", "d_loss")
WATCHED = (
    *LOSSES,
    *("rec", "kl", "kl_weight", "entropy", "reward", "reward_std"),
    *("d_acc_real", "d_acc_fake", "distinct", "_distinct_data"),
)


@dataclass(frozen=True)
class Rule:
    """One thing that can go wrong.

    Attributes:
        keys: the numbers that it looks at
        is_broken: of their means over a window, in the order of *keys*
        message: what is wrong and what to try; the means fill in places such as ``{kl:.2g}``
        counts: whether numbers of one update count at all
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
    """Judges means over windows of numbers; a window ends after *size* updates that held the numbers, the next begins.

    Args:
        rules: what to watch
        size: number of updates; 0 switches the alarms off
    """

    def __init__(self, rules: Sequence[Rule], size: int):
        self.size = size
        self._windows = [(rule, _Window()) for rule in rules] if size > 0 else []

    def observe(self, values: Mapping[str, float]) -> list[str]:
        """Take the numbers of one update; the messages of rules that are found broken for the first time."""
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


def training_rules(kl_bound: float, kl_weight: float, first_update: int, probabilities: bool) -> list[Rule]:
    """What is watched in training.

    Args:
        kl_bound: nats a sentence; a mean divergence below it is a collapsed latent
        kl_weight: final weight of the KL term: the divergence counts only where the weight has come there
        first_update: the divergence counts from here on, since every training begins with almost none
        probabilities: whether rewards are probabilities (and not log-odds or logarithms)
    """

    def is_flat(mean: float, spread: float) -> bool:
        at_an_end = not REWARD_MARGIN < mean < 1 - REWARD_MARGIN
        return spread < REWARD_SPREAD or (probabilities and at_an_end)

    return [
        Rule(
            ("kl", "kl_weight", "update"),
            lambda kl, *_: kl < kl_bound,
            f"the latent has collapsed: the divergence of the posterior is {{kl:.2g}} nats a sentence, below "
            f"{kl_bound:g}, so the decoder hardly uses z. Try --kl-anneal linear, --free-bits 8, --word-dropout 0.3, "
            "--latent-input or a lower --kl-weight",
            # What is logged was multiplied by the size of the batch and divided again.
            counts=lambda values: values["update"] >= first_update and values["kl_weight"] >= 0.999 * kl_weight,
        ),
        Rule(
            ("d_acc_real", "d_acc_fake"),
            lambda real, fake: (real + fake) / 2 > SURE,
            "the discriminator wins: it judges {d_acc_real:.1%} of the real and {d_acc_fake:.1%} of the generated "
            "sentences rightly, so all samples earn alike. Try a lower --disc-lr, fewer --adv-d-steps, more "
            "--disc-dropout, --disc-label-smoothing 0.1, or --reward logit",
        ),
        Rule(
            ("d_acc_real", "d_acc_fake"),
            lambda real, fake: (real + fake) / 2 < CHANCE,
            "the discriminator loses: it judges {d_acc_real:.1%} of the real and {d_acc_fake:.1%} of the generated "
            "sentences rightly, which is chance, so its rewards say nothing. If the samples are not yet good, try a "
            "higher --disc-lr, more --adv-d-steps or --disc-pretrain-updates, or a larger discriminator",
        ),
        Rule(
            ("reward", "reward_std"),
            is_flat,
            "the rewards are all alike: mean {reward:.3g}, standard deviation {reward_std:.2g}, so the policy gradient "
            "is noise. Try --reward logit, --pg-normalize, or a discriminator that is less sure (--disc-lr, "
            "--adv-d-steps, --disc-dropout) or, if it is at chance, a stronger one",
        ),
        _repeating("the trajectories"),
    ]


def validation_rules() -> list[Rule]:
    """What is watched in the validations of adversarial training."""
    return [
        Rule(
            ("d_acc_real", "d_acc_fake"),
            lambda real, fake: (real + fake) / 2 < CHANCE,
            "the discriminator is at chance on held-out sentences: it judges {d_acc_real:.1%} of them and "
            "{d_acc_fake:.1%} of fresh samples rightly. If it does better in training, it has learnt the training data "
            "by heart, and its rewards lead there: try more --disc-dropout, a smaller discriminator or a lower "
            "--disc-lr; if not, a stronger one",
        ),
        _repeating("samples from the prior"),
    ]


def _repeating(samples: str) -> Rule:
    return Rule(
        ("distinct", "_distinct_data"),
        lambda distinct, of_data: distinct < VARIETY * of_data,
        f"{samples} repeat: {{distinct:.1%}} of a batch are distinct, but {{_distinct_data:.1%}} of the data. Try a "
        "lower --pg-weight or a higher --elbo-weight, --entropy-weight 0.01, --pg-baseline leave-one-out, or go back "
        "to an earlier checkpoint",
    )


def non_finite(values: Mapping[str, float]) -> list[str]:
    """Names of the numbers that are NaN or infinite."""
    return [key for key, value in values.items() if not math.isfinite(value)]


def breakdown(problem: str, turn: Turn, update: int) -> str:
    """The sentence about a training that cannot go on: what happened in whose turn, and what to try.

    Args:
        problem: such as "the loss is NaN"
        update: number of the update, counted from 1 as it is logged
    """
    rate = "--disc-lr" if turn.player == "discriminator" else "--lr"
    return (
        f"in update {update}, a turn of the {turn.player} ({turn.name}): {problem}. Go back to the last good "
        f"checkpoint and try a lower {rate}, --clip-norm 1, a warm-up of the learning rate, or --bf16 or float32 "
        "instead of --fp16"
    )
