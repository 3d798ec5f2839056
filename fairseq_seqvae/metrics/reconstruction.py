"""Whether z does its work: what the decoder makes of the latent vector of a held-out sequence.

A divergence from the prior says how much q(z|x) could tell. These figures say how much of it arrives: sequences are
decoded greedily from the mean of their posterior and compared with the originals, place by place. Each share has a
floor beside it that its own z is not needed for: the z of another sequence, or the commonest token of each place.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import Policy, SamplingOptions
from fairseq_seqvae.core.rollouts.rollout import sample
from fairseq_seqvae.core.sequences import padding_mask
from fairseq_seqvae.metrics.likelihood import sequence_log_probs
from fairseq_seqvae.metrics.registry import register_reconstruction_metric
from fairseq_seqvae.metrics.variety import distinct_sequences

_GREEDY = SamplingOptions(top_k=1)
_ROWS_AT_A_TIME = 1024


@torch.no_grad()
def greedy(policy: Policy, z: Tensor, max_len: int) -> Tensor:
    """The likeliest token at each step, (B, *max_len*), padded after the EOS.

    Args:
        policy: see :class:`Policy`
        z: (B, Z)
        max_len: a sequence ends with its EOS, or at this length
    """
    parts = []
    for rows in z.split(_ROWS_AT_A_TIME):
        keys = torch.zeros(len(rows), dtype=torch.long, device=z.device)  # of random numbers that decide nothing
        tokens = sample(policy, rows, keys, max_len, _GREEDY).tokens
        parts.append(F.pad(tokens, (0, max_len - tokens.size(1)), value=policy.pad))
    return torch.cat(parts)


def share(hits: Tensor, places: Tensor) -> float | None:
    """Share of the *places* (B, T) bool that are *hits* (B, T) too; None if there are no places."""
    count = int(places.sum())
    return int((hits & places).sum()) / count if count else None


@dataclass(frozen=True)
class Reconstruction:
    """Held-out sequences, and what a model makes of them; what its metrics share is computed once.

    Attributes:
        policy: the decoder, see :class:`Policy`
        prior: p(z), with ``dim`` and ``sample(noise)``
        posterior: q(z|x) of each sequence, with ``mean`` (B, Z) and ``sample(noise)``
        tokens: (B, T), padded on the right
        lengths: (B,), EOS included where sequences end with one
        ids: (B,), numbers of the sequences, which key random numbers
        seed: of these
        notes: (V,) bool, tokens that count as notes, on the device of *tokens*; None if they are no melodies
    """

    policy: Policy
    prior: Any
    posterior: Any
    tokens: Tensor
    lengths: Tensor
    ids: Tensor
    seed: int = 1
    notes: Tensor | None = None

    @cached_property
    def places(self) -> Tensor:
        """Where the sequences have tokens, (B, T) bool."""
        return ~padding_mask(self.lengths, self.tokens.size(1))

    @cached_property
    def note_places(self) -> Tensor | None:
        """Where the sequences have notes, (B, T) bool."""
        return None if self.notes is None else self.notes[self.tokens] & self.places

    @cached_property
    def decoded(self) -> Tensor:
        """Greedy sequences from the mean of each posterior, (B, T), cut off at the length T of the longest original."""
        return greedy(self.policy, self.posterior.mean, self.tokens.size(1))

    @cached_property
    def hits(self) -> Tensor:
        """Where *decoded* is as the original, (B, T) bool; says nothing outside *places*."""
        return self.decoded == self.tokens

    @cached_property
    def hits_of_other(self) -> Tensor:
        """The same for what was decoded from the posterior of the sequence before, (B, T) bool."""
        return self.decoded.roll(1, dims=0) == self.tokens

    def lengths_decoded(self) -> Tensor:
        """Lengths of *decoded*, EOS included, (B,)."""
        return (self.decoded != self.policy.pad).sum(dim=1)


@register_reconstruction_metric("rec_acc")
def token_accuracy(reconstruction: Reconstruction) -> float | None:
    """Share of the original tokens that the reconstructions have at the same place."""
    return share(reconstruction.hits, reconstruction.places)


@register_reconstruction_metric("rec_acc_other")
def token_accuracy_of_other(reconstruction: Reconstruction) -> float | None:
    """The same, decoded from the posterior of another sequence, as a floor. None if there is only one sequence."""
    if len(reconstruction.tokens) < 2:
        return None
    return share(reconstruction.hits_of_other, reconstruction.places)


@register_reconstruction_metric("rec_acc_constant")
def token_accuracy_of_constant(reconstruction: Reconstruction) -> float | None:
    """Share of the original tokens that are the commonest one of their place: what needs no model."""
    columns = zip(reconstruction.tokens.unbind(dim=1), reconstruction.places.unbind(dim=1), strict=True)
    most = sum(int(tokens[places].bincount().max()) for tokens, places in columns if places.any())
    count = int(reconstruction.places.sum())
    return most / count if count else None


@register_reconstruction_metric("rec_acc_notes")
def note_accuracy(reconstruction: Reconstruction) -> float | None:
    """Share of the original notes that the reconstructions have at the same place. None if they are no melodies."""
    places = reconstruction.note_places
    return None if places is None else share(reconstruction.hits, places)


@register_reconstruction_metric("rec_acc_notes_other")
def note_accuracy_of_other(reconstruction: Reconstruction) -> float | None:
    """The same, decoded from another sequence's posterior."""
    places = reconstruction.note_places
    return None if places is None or len(places) < 2 else share(reconstruction.hits_of_other, places)


@register_reconstruction_metric("rec_exact")
def exact_share(reconstruction: Reconstruction) -> float:
    """Share of the sequences whose reconstruction is the original."""
    right = (reconstruction.hits | ~reconstruction.places).all(dim=1)
    return float((right & (reconstruction.lengths_decoded() == reconstruction.lengths)).double().mean())


@register_reconstruction_metric("rec_bleu")
def bleu(reconstruction: Reconstruction) -> float:
    """Corpus BLEU of the reconstructions, 0 to 100, by sacrebleu on the tokens as they are, without EOS."""
    from sacrebleu import corpus_bleu

    def lines(tokens: Tensor, lengths: Tensor) -> list[str]:
        rows = zip(tokens.tolist(), lengths.tolist(), strict=True)
        return [" ".join(str(token) for token in row[:n] if token != reconstruction.policy.eos) for row, n in rows]

    found = lines(reconstruction.decoded, reconstruction.lengths_decoded())
    originals = lines(reconstruction.tokens, reconstruction.lengths)
    return float(corpus_bleu(found, [originals], tokenize="none", force=True).score)


@register_reconstruction_metric("rec_distinct")
def distinct_share(reconstruction: Reconstruction) -> float:
    """How many different reconstructions there are per different original; 1 / B if z is ignored."""
    found = distinct_sequences(reconstruction.decoded, reconstruction.lengths_decoded())
    return found / distinct_sequences(reconstruction.tokens, reconstruction.lengths)


@register_reconstruction_metric("rec_nll_gain")
@torch.no_grad()
def likelihood_gain(reconstruction: Reconstruction) -> float:
    """Mean of log p(x|z) with z ~ q(z|x), less that with z ~ p(z), nats per sequence: what z is worth to the decoder.

    One draw of each per sequence. 0 if the decoder ignores z.
    """
    r, draws = reconstruction, Draws(reconstruction.seed)

    def log_likelihood(distribution: Any, stream: Stream) -> Tensor:
        # `dim` is also how many normal numbers a draw takes.
        z = distribution.sample(draws.normal(stream, r.ids, r.prior.dim))
        parts = zip(*(whole.split(_ROWS_AT_A_TIME) for whole in (z, r.tokens, r.lengths)), strict=True)
        return torch.cat([sequence_log_probs(r.policy, *some) for some in parts])

    own = log_likelihood(r.posterior, Stream.RECONSTRUCTION_POSTERIOR)
    return float((own - log_likelihood(r.prior, Stream.RECONSTRUCTION_PRIOR)).mean())
