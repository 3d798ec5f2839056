"""Scorer ``oracle_nll``: how likely the hypotheses of fairseq-generate are under an oracle."""

from dataclasses import dataclass
from typing import Optional  # fairseq's parser knows Optional but not `| None`

from fairseq.dataclass import FairseqDataclass
from fairseq.scoring import BaseScorer, register_scorer

from fairseq_seqvae.options import between, check, option
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.score import parse_tokens, score


@dataclass
class OracleNllConfig(FairseqDataclass):
    """Options of ``--scoring oracle_nll``."""

    oracle_seed: int = option(88, "seed that an oracle of 5000 tokens is drawn from", between(0, 2**32 - 1))
    oracle_npz: Optional[str] = option(None, "file with the arrays of another oracle, instead of a seed")


@register_scorer("oracle_nll", dataclass=OracleNllConfig)
class OracleNllScorer(BaseScorer):
    """Mean oracle NLL of the best hypothesis of each sentence, in nats per token; targets are ignored."""

    ignores_targets = True

    def __init__(self, cfg: OracleNllConfig):
        check(cfg, OracleNllConfig)
        super().__init__(cfg)
        self.oracle = Oracle.from_npz(cfg.oracle_npz) if cfg.oracle_npz else Oracle.from_seed(cfg.oracle_seed)

    def score(self) -> float:
        """The mean, in nats per token."""
        return self._score().nll

    def result_string(self) -> str:
        """The score with its standard error and the number of sequences."""
        return str(self._score())

    def _score(self):
        labelled = [(f"hypothesis {number}", text) for number, text in enumerate(self.pred, start=1)]
        return score(self.oracle, parse_tokens(labelled, self.oracle.vocab_size, "--scoring oracle_nll"))
