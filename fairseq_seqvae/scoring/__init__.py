"""The scorer ``oracle_nll``."""

from fairseq_seqvae import compat

compat.require_fairseq()

from fairseq_seqvae.scoring.oracle_nll import OracleNllScorer  # noqa: E402

__all__ = ["OracleNllScorer"]
