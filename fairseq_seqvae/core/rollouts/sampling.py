"""Ancestral sampling: all rows advance together, and finished rows leave the batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fairseq_seqvae.core import noise, sequences
from fairseq_seqvae.core.categorical import check_temperature, pick
from fairseq_seqvae.core.rollouts.policy import Policy, Samples, choose, drops_finished_rows


@dataclass(frozen=True)
class SamplingOptions:
    """How tokens are drawn.

    Attributes:
        temperature, top_k, top_p: see :func:`fairseq_seqvae.core.categorical.pick`; top_k 1 is greedy decoding
        min_len: no EOS among the first *min_len* tokens, prefix included
        unk: token whose log-probability is lowered by *unk_penalty* nats
        unk_penalty: see *unk*
        with_log_probs: also return the log-probability of each token
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.0
    min_len: int = 0
    unk: int | None = None
    unk_penalty: float = 0.0
    with_log_probs: bool = False

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    @property
    def adjusts_logits(self) -> bool:
        """Whether whole rows of logits have to be at hand, and not only what was chosen from them."""
        return self.min_len > 0 or self.unk_penalty != 0.0 or self.with_log_probs


PLAIN = SamplingOptions()


@torch.no_grad()
def sample(
    policy: Policy,
    z: Tensor,
    keys: Tensor,
    max_len: int,
    options: SamplingOptions = PLAIN,
    prefix: Tensor | None = None,
) -> Samples:
    """Sample one sequence per row. Token t of row r is drawn with ``noise.uniform(keys[r], t)``.

    Args:
        policy: see :class:`Policy`
        z: (B, Z)
        keys: (B,), from :func:`noise.row_keys`
        max_len: a row ends with its EOS, which counts, or at this length
        options: see :class:`SamplingOptions`
        prefix: (B, P), tokens to begin with, padded; an EOS in it ends the row
    """
    if max_len < 1:
        raise ValueError(f"`max_len` must be at least 1 but is {max_len}.")
    num_rows = z.size(0)
    if num_rows < 1:
        raise ValueError("`z` has no rows: ask for at least one sequence.")
    tokens = torch.full((num_rows, max_len), policy.pad, dtype=torch.long, device=z.device)
    log_probs = torch.zeros(num_rows, max_len, device=z.device) if options.with_log_probs else None
    rows = torch.arange(num_rows, device=z.device)
    state = policy.start(z)
    prev = rows.new_full((num_rows,), policy.eos)
    for t in range(max_len):
        features, state = policy.advance(prev, state)
        prev, logits = _draw(policy, features, noise.uniform(keys, t), t, options)
        if prefix is not None and t < prefix.size(1):
            given = prefix[rows, t]
            prev = torch.where(given == policy.pad, prev, given)
        tokens[rows, t] = prev
        if log_probs is not None:
            log_probs[rows, t] = torch.log_softmax(logits, dim=1).gather(1, prev.unsqueeze(1)).squeeze(1)
        if drops_finished_rows(z.device):
            live = (prev != policy.eos).nonzero().squeeze(1)
            if live.numel() == 0:
                break
            if live.numel() < rows.numel():
                rows, keys, prev = rows[live], keys[live], prev[live]
                state = tuple(s[live] for s in state)
    return _trimmed(policy, tokens[:, : t + 1], log_probs)


def _draw(
    policy: Policy, features: Tensor, uniform: Tensor, t: int, options: SamplingOptions
) -> tuple[Tensor, Tensor | None]:
    """Tokens (R,) of step *t*, and the logits (R, V) that they were drawn from where options adjust these."""
    if not options.adjusts_logits:
        truncation = {"temperature": options.temperature, "top_k": options.top_k, "top_p": options.top_p}
        return choose(policy, features, uniform, **truncation), None
    logits = policy.logits(features).float() / options.temperature
    if t < options.min_len:
        logits[:, policy.eos] = -torch.inf
    if options.unk is not None:
        logits[:, options.unk] -= options.unk_penalty
    return pick(logits, uniform, top_k=options.top_k, top_p=options.top_p), logits


def _trimmed(policy: Policy, tokens: Tensor, log_probs: Tensor | None) -> Samples:
    """Samples as wide as the longest of them, padded after their EOS."""
    tokens, lengths = sequences.cut_after_eos(tokens, policy.eos, policy.pad)
    if not drops_finished_rows(tokens.device) or lengths.max() < tokens.size(1):
        tokens = tokens[:, : int(lengths.max())]
    if log_probs is not None:
        log_probs = log_probs[:, : tokens.size(1)].masked_fill(sequences.padding_mask(lengths, tokens.size(1)), 0.0)
    return Samples(tokens, lengths, log_probs)
