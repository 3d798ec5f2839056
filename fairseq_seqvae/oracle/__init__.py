"""A language whose probabilities are known: a random LSTM to draw data from, and to judge samples by.

Needs torch and numpy only. `python -m fairseq_seqvae.oracle --help` lists the commands.
"""

from fairseq_seqvae.oracle.latent_model import LatentOracle
from fairseq_seqvae.oracle.latent_weights import LatentSizes
from fairseq_seqvae.oracle.model import Estimate, Oracle

__all__ = ["Estimate", "LatentOracle", "LatentSizes", "Oracle"]
