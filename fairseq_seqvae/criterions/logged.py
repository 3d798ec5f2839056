"""What the criterions log: sums over batches and processes become means. Losses are in nats per sequence."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from fairseq.logging import metrics
from fairseq.logging.meters import safe_round
from torch import Tensor

from fairseq_seqvae.core.discriminators.losses import correct_judgements
from fairseq_seqvae.core.policy_gradient.critic import explained_variance
from fairseq_seqvae.metrics.bigrams import jensen_shannon

Logs = Sequence[Mapping[str, Any]]


def totals(logs: Logs) -> Callable[[str], Any]:
    """A function of a key: its sum over all *logs*, 0 where it is missing."""
    return lambda key: sum(log.get(key, 0) for log in logs)


def log_elbo(logs: Logs) -> None:
    """Log the ELBO and its parts, the variety of samples and their bigrams; perplexity is per token."""
    total = totals(logs)
    weight = float(total("weight"))
    # The trainer asks for a loss in every update; one in which the generator rests has none.
    metrics.log_scalar("loss", float(total("loss")) / weight if weight else None, weight, round=3)
    if weight:
        metrics.log_scalar("rec", float(total("rec")) / weight, weight, round=3)
        metrics.log_scalar("kl", float(total("kl")) / weight, weight, round=3)
        # total("ntokens") counts the tokens of the same batches
        bound = float(total("rec") + total("kl")) / float(total("ntokens"))
        metrics.log_scalar("nats_per_token", bound, total("ntokens"), round=4, priority=60)
        metrics.log_derived("ppl", _perplexity, priority=61)
    if any("auxiliary" in log for log in logs):
        metrics.log_scalar("auxiliary", float(total("auxiliary")) / weight, weight, round=3)
    if any("scheduled_sampling" in log for log in logs):
        metrics.log_scalar("scheduled_sampling", float(total("scheduled_sampling")) / weight, weight, round=4)
    if any("kl_weight" in log for log in logs):
        metrics.log_scalar("kl_weight", total("kl_weight") / weight, weight, round=4)
    if any("mutual_information" in log for log in logs):
        metrics.log_scalar("_mutual_information", float(total("mutual_information")) / weight, weight)
    if any("distinct" in log for log in logs):
        # Shares within batches; those of the data, which alarms compare with, are not shown.
        metrics.log_scalar("distinct", float(total("distinct")) / weight, weight, round=3, priority=63)
        metrics.log_scalar("_distinct_data", float(total("distinct_data")) / weight, weight)
    if any("bigrams_data" in log for log in logs):
        # Counts are added up over batches; names that begin with an underscore are not shown.
        metrics.log_scalar_sum("_bigrams_data", total("bigrams_data").double().cpu())
        metrics.log_scalar_sum("_bigrams_samples", total("bigrams_samples").double().cpu())
        metrics.log_derived("bigram_jsd", _bigram_divergence, priority=62)


def log_reconstruction(logs: Logs) -> None:
    """Log the shares of tokens and of notes that come back from the latent vector of a sequence, and of another one."""
    total = totals(logs)
    for name in ("rec_acc", "rec_acc_notes", "rec_acc_other"):
        if places := float(total(f"{name}_places")):
            metrics.log_scalar(name, float(total(f"{name}_hits")) / places, places, round=4, priority=64)


def log_policy_gradient(logs: Logs) -> None:
    """Log the rewards, the policy's entropy in nats per token, and its divergence from the reference per sequence."""
    total = totals(logs)
    tokens, sequences = float(total("policy_tokens")), float(total("policy_sequences"))
    if not tokens:
        return
    metrics.log_scalar("pg_loss", float(total("pg_loss")) / sequences, sequences, round=4, priority=70)
    metrics.log_scalar("entropy", float(total("entropy")) / tokens, tokens, round=3, priority=73)
    if count := float(total("rewards")):
        mean = float(total("reward")) / count
        spread = max(float(total("reward_squares")) / count - mean**2, 0.0) ** 0.5
        metrics.log_scalar("reward", mean, count, round=4, priority=71)
        metrics.log_scalar("reward_std", spread, count, round=4, priority=72)
    if any("ref_kl" in log for log in logs):
        metrics.log_scalar("ref_kl", float(total("ref_kl")) / sequences, sequences, round=4, priority=73)
        metrics.log_scalar("ref_kl_weight", float(total("ref_kl_weight")) / sequences, sequences, round=5, priority=73)
    if any("clipped" in log for log in logs):
        metrics.log_scalar("clip_ratio", float(total("clipped")) / tokens, tokens, round=4, priority=73)
    if places := float(total("critic_places")):
        names = ("critic_targets", "critic_target_squares", "critic_errors", "critic_error_squares")
        variance = explained_variance(places, *(float(total(name)) for name in names))
        metrics.log_scalar("critic_ev", variance, places, round=4, priority=73)
        metrics.log_scalar("critic_loss", float(total("critic_loss")) / sequences, sequences, round=4, priority=73)
    _log_rewards(logs)


def _log_rewards(logs: Logs) -> None:
    """Log what each reward said of the whole sequences, and how often all of a group got the same total."""
    total = totals(logs)
    start, end = "rewards/", "/sum"
    for name in [key[len(start) : -len(end)] for key in logs[0] if key.startswith(start) and key.endswith(end)]:
        if count := float(total(f"rewards/{name}/count")):
            mean = float(total(f"rewards/{name}/sum")) / count
            spread = max(float(total(f"rewards/{name}/squares")) / count - mean**2, 0.0) ** 0.5
            metrics.log_scalar(f"rewards/{name}/mean", mean, count, round=4, priority=76)
            metrics.log_scalar(f"rewards/{name}/std", spread, count, round=4, priority=77)
        if number := float(total(f"rewards/{name}/rank_count")):
            metrics.log_scalar(f"rewards/{name}/rank", float(total(f"rewards/{name}/rank")) / number, number, round=3)
    if groups := float(total("groups")):
        share = float(total("zero_std_groups")) / groups
        metrics.log_scalar("frac_reward_zero_std", share, groups, round=3, priority=72)


def log_discriminator(logs: Logs) -> None:
    """Log the discriminator's loss and its accuracy on real and on generated sequences."""
    total = totals(logs)
    if any("d_loss" in log for log in logs):
        sentences = float(total("nsentences"))
        metrics.log_scalar("d_loss", float(total("d_loss")) / sentences, sentences, round=4, priority=74)
    if any("d_penalty" in log for log in logs):
        sentences = float(total("nsentences"))
        metrics.log_scalar("d_penalty", float(total("d_penalty")) / sentences, sentences, round=4, priority=74)
    if any("d_acc_held_out" in log for log in logs):
        sentences = float(total("nsentences"))
        for name in ("d_acc_held_out", "d_gate"):
            metrics.log_scalar(name, float(total(name)) / sentences, sentences, round=3, priority=76)
    for kind in ("real", "fake"):
        if count := float(total(f"d_num_{kind}")):
            correct = float(total(f"d_correct_{kind}"))
            metrics.log_scalar(f"d_acc_{kind}", correct / count, count, round=3, priority=75)


def reconstructions(decoded: Tensor, target: Tensor, mask: Tensor, notes: Tensor | None) -> dict[str, Any]:
    """What is logged of a batch that was decoded from its latent vectors: how many places are right, of how many.

    The latent vector of another sequence is that of the one before in the batch; a batch of one has none.

    Args:
        decoded: (B, T)
        target: (B, T), the originals
        mask: (B, T), True = padding
        notes: (V,) bool, tokens that are notes; None if *target* are no melodies
    """
    places, hits = ~mask, decoded == target
    others = places if len(target) > 1 else torch.zeros_like(places)
    counted = {"rec_acc": (hits, places), "rec_acc_other": (decoded.roll(1, dims=0) == target, others)}
    if notes is not None:
        counted["rec_acc_notes"] = hits, places & notes.to(target.device)[target]
    log = {f"{name}_hits": (right & where).sum() for name, (right, where) in counted.items()}
    return log | {f"{name}_places": where.sum() for name, (_, where) in counted.items()}


def judgements(logits_real: Tensor, logits_fake: Tensor, loss: str = "cross-entropy") -> dict[str, Any]:
    """What is logged of the logits of real (B,) and of generated (B',) sequences, of a discriminator with this loss."""
    correct_real, correct_fake = correct_judgements(logits_real, logits_fake, loss)
    return {
        "d_correct_real": correct_real,
        "d_correct_fake": correct_fake,
        "d_num_real": logits_real.numel(),
        "d_num_fake": logits_fake.numel(),
    }


def _bigram_divergence(meters: Mapping[str, Any]) -> float | None:
    """Jensen-Shannon divergence between the bigrams of the data and of the samples of all batches so far, nats."""
    counts = meters["_bigrams_data"].sum, meters["_bigrams_samples"].sum
    return safe_round(jensen_shannon(*counts).item(), 4) if torch.is_tensor(counts[0]) else None


def _perplexity(meters: Mapping[str, Any]) -> float | None:
    average = meters["nats_per_token"].avg
    return safe_round(math.exp(min(float(average), 50.0)), 2) if average is not None else None
