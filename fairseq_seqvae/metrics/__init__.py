"""What is measured: likelihood, use of the latent, reconstruction, walks, variety of samples, bigrams."""

from fairseq_seqvae.metrics.bigrams import bigram_counts, jensen_shannon
from fairseq_seqvae.metrics.divergence import sequence_divergence
from fairseq_seqvae.metrics.latent_use import active_units, mutual_information, mutual_information_bound
from fairseq_seqvae.metrics.likelihood import HeldOut, held_out, sequence_log_probs
from fairseq_seqvae.metrics.notes import note_tokens
from fairseq_seqvae.metrics.reconstruction import Reconstruction
from fairseq_seqvae.metrics.registry import LATENT_METRICS, RECONSTRUCTION_METRICS, SAMPLE_METRICS
from fairseq_seqvae.metrics.variety import count_distinct, distinct_ngrams, distinct_sequences
from fairseq_seqvae.metrics.walks import walk_figures

__all__ = [
    "LATENT_METRICS",
    "RECONSTRUCTION_METRICS",
    "SAMPLE_METRICS",
    "HeldOut",
    "Reconstruction",
    "active_units",
    "bigram_counts",
    "count_distinct",
    "distinct_ngrams",
    "distinct_sequences",
    "held_out",
    "jensen_shannon",
    "mutual_information",
    "mutual_information_bound",
    "note_tokens",
    "sequence_divergence",
    "sequence_log_probs",
    "walk_figures",
]
