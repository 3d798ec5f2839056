"""Whether a sequence is a copy of the training data."""

from typing import Any

from fairseq_seqvae.rewards.registry import Rule, Run, register_reward, without_argument


@register_reward("novelty")
def novelty(argument: str, run: Run) -> Rule:
    """1 for a sample that is not in the training data, 0 for a copy."""
    without_argument("novelty", argument)
    known: set[int] = set()

    def rule(samples: list[str], **kwargs: Any) -> list[float]:
        if not known:  # read when they are needed first
            known.update(hash(text) for text in run.training_texts())
        return [float(hash(sample) not in known) for sample in samples]

    return rule
