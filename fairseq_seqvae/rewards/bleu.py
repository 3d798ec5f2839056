"""BLEU against the data of the batch (Papineni et al. 2002)."""

from collections import Counter
from typing import Any

from fairseq_seqvae.rewards.registry import Rule, Run, register_reward, without_argument

ORDER = 4


@register_reward("bleu")
def bleu(argument: str, run: Run) -> Rule:
    """Sentence BLEU of each sample, 0 to 1, with all data of the batch as references.

    It is what ``sacrebleu.sentence_bleu(sample, references, tokenize="none")`` gives, divided by 100; only the counts
    of the references are made once per batch instead of once per sample.
    """
    without_argument("bleu", argument)

    def rule(samples: list[str], references: list[str], **kwargs: Any) -> list[float]:
        most: Counter = Counter()
        for reference in references:
            most |= ngrams(reference.split())
        lengths = sorted({len(reference.split()) for reference in references})
        distinct = {sample: _score(sample.split(), most, lengths) for sample in set(samples)}
        return [distinct[sample] for sample in samples]

    return rule


def ngrams(words: list[str]) -> Counter:
    """How often each sequence of 1 to 4 words occurs in *words*."""
    return Counter(tuple(words[i : i + n]) for n in range(1, ORDER + 1) for i in range(len(words) - n + 1))


def _score(words: list[str], most: Counter, lengths: list[int]) -> float:
    from sacrebleu.metrics import BLEU

    correct, total = [0] * ORDER, [0] * ORDER
    for gram, count in ngrams(words).items():
        total[len(gram) - 1] += count
        correct[len(gram) - 1] += min(count, most[gram])
    closest = min(lengths, key=lambda length: (abs(length - len(words)), length))
    found = BLEU.compute_bleu(correct, total, len(words), closest, smooth_method="exp", effective_order=True)
    return float(found.score) / 100
