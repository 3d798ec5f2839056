"""Self-BLEU: how much the samples of a model are like one another."""

from collections.abc import Sequence


def self_bleu(lines: Sequence[str], hypotheses: int = 500, references: int = 100) -> float | None:
    """Corpus BLEU, 0 to 100, of sentences against others of the same list (Zhu et al. 2018); None for fewer than two.

    Sentence i has the sentences i + 1, i + 2, ... as references, around the end of the list: never itself, though
    another that reads the same counts. Higher is less varied. Numbers compare only where both counts are the same.

    Args:
        lines: tokens separated by blanks
        hypotheses: most sentences that are judged, the first ones
        references: most references of each
    """
    from sacrebleu.metrics import BLEU

    judged, others = min(hypotheses, len(lines)), min(references, len(lines) - 1)
    if others < 1:
        return None
    streams = [[lines[(i + shift) % len(lines)] for i in range(judged)] for shift in range(1, others + 1)]
    return float(BLEU(tokenize="none", force=True).corpus_score(list(lines[:judged]), streams).score)
