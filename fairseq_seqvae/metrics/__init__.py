"""What is measured: likelihood, use of the latent, variety of samples, bigrams."""

from fairseq_seqvae.metrics.bigrams import bigram_counts, jensen_shannon
from fairseq_seqvae.metrics.latent_use import active_units, mutual_information
from fairseq_seqvae.metrics.likelihood import HeldOut, held_out, sequence_log_probs
from fairseq_seqvae.metrics.registry import LATENT_METRICS, SAMPLE_METRICS
from fairseq_seqvae.metrics.variety import count_distinct, distinct_ngrams, distinct_sequences

__all__ = [
    "LATENT_METRICS",
    "SAMPLE_METRICS",
    "HeldOut",
    "active_units",
    "bigram_counts",
    "count_distinct",
    "distinct_ngrams",
    "distinct_sequences",
    "held_out",
    "jensen_shannon",
    "mutual_information",
    "sequence_log_probs",
]
