"""The policy's part of the generator's turn: from rewarded sequences to a loss, and what keeps the policy honest."""

from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from fairseq_seqvae import options
from fairseq_seqvae.core import sequences
from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.core.policy_gradient import critic, diversity, groups, ppo, reference, reinforce, reinvent
from fairseq_seqvae.core.rollouts.policy import Trajectory
from fairseq_seqvae.core.rollouts.rollout import PrefixValues, reward_positions
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.experience import SEEN, Experience, ExperiencePool
from fairseq_seqvae.criterions.seqvae_elbo import Model, SeqVAEElboCriterion
from fairseq_seqvae.support.processes import of_all

# What the run state holds: the weight of the divergence, and the update in which the reference was taken.
REF_KL = "ref_kl"

# A stride above every length.
ONLY_THE_END = 1 << 30


def final_scores(trajectory: Trajectory, values: PrefixValues) -> Tensor:
    """What whole sequences have earned, (R,)."""
    return values.rewards.gather(1, (trajectory.lengths - 1).unsqueeze(1)).squeeze(1)


class PolicyTurns(SeqVAEElboCriterion):
    """A criterion that trains the decoder as a policy, too."""

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        options.check(cfg, SeqVAEPolicyGradientConfig)
        self.credit = reinforce.Credit(
            # A reward at the end alone is that of the only prefix, and nothing is earned after it.
            stride=cfg.reward_stride if cfg.value != "final" else ONLY_THE_END,
            credit=str(cfg.pg_credit),
            baseline=str(cfg.pg_baseline),
            normalize=cfg.pg_normalize,
            normalize_by=str(cfg.pg_normalize_by),
            group_size=cfg.pg_group_size,
            entropy_weight=cfg.entropy_weight,
            entropy_floor=cfg.entropy_floor,
        )
        self.adaptive: reference.AdaptiveCoefficient | None = None
        if cfg.ref_kl_target:
            self.adaptive = reference.AdaptiveCoefficient(cfg.ref_kl, cfg.ref_kl_target, cfg.ref_kl_horizon)
        self.experience_pool = ExperiencePool(cfg.ppo_reuse) if cfg.ppo_reuse > 1 else None
        self.seen: diversity.SeenSequences | None = None
        if cfg.diversity_limit:
            self.seen = diversity.SeenSequences(cfg.diversity_limit, cfg.diversity_memory)
        self.remembers = self.experience_pool is not None or self.seen is not None
        self._sequences: list[list[int]] = []  # numbers of those that each batch of this update has drawn
        self._update = 0  # number of the generator's last turn
        self._drawn_at = 0  # number of the last one that has drawn sequences

    @property
    def needs_reference(self) -> bool:
        """Whether the model has to keep a reference policy."""
        return self.cfg.reference or self.cfg.ref_kl > 0 or self.cfg.pg_loss == "reinvent"

    @property
    def needs_critic(self) -> bool:
        """Whether the model has to have a critic."""
        return self.cfg.value == "critic" or self.cfg.pg_baseline == "critic"

    def labels_to_act(self, model: Model, sample: dict[str, Any], draws: Draws) -> Tensor:
        """Labels (B,) of what the policy draws: those of the batch with its z, random ones with a z of the prior."""
        if self.cfg.pg_latent == "prior":
            return model.conditions.draw(draws, sample["id"])
        return sample["net_input"]["labels"]

    # -- the critic --

    def criticized(
        self, experience: Experience, predicted: Tensor
    ) -> tuple[Experience, Tensor | None, Tensor, dict[str, Any]]:
        """Experience with the critic's values of prefixes, its baseline (R, T), its loss, and what is logged of it.

        Args:
            experience: what is learned from
            predicted: (R, T), by the critic, with gradient
        """
        trajectory, values, scores, expected = experience.trajectory, experience.values, experience.scores, None
        if values is not None:
            scores, stride = final_scores(trajectory, values), self.credit.stride
            if self.cfg.value == "critic":
                positions = reward_positions(trajectory.lengths, predicted.size(1), stride)
                filled = critic.prefix_predictions(predicted, scores, positions, trajectory.lengths)
                values = PrefixValues(filled, positions)
                experience = experience._replace(values=values)
            if self.cfg.pg_baseline == "critic":
                how = self.credit.credit, stride
                expected = critic.expected_returns(predicted, values.positions, trajectory.mask, *how)
        if scores is None:
            raise RuntimeError("experience has neither values nor scores.")
        loss = critic.critic_loss(predicted, scores, trajectory.mask).sum()
        log = critic.explained(predicted, scores, trajectory.mask) | {"critic_loss": loss.detach()}
        return experience, expected, loss, log

    # -- what is learned from --

    def reused(self, model: Model, update: int) -> Experience | None:
        """Experience of an update before, which this one learns from again; None: it has to draw."""
        embedding = model.decoder.embedding.weight
        self._update, is_first_batch = update, embedding.grad is None
        if is_first_batch:
            self._sequences = []
        if self.experience_pool is None:
            return None
        self.experience_pool.begin(is_first_batch)
        return self.experience_pool.find(self.run_state, update, self.task.plan, embedding.device)

    def forget_batch(self) -> None:
        """The last batch does not count: it only fills the place of one that this process lacks."""
        if self.experience_pool is not None:
            self.experience_pool.forget_batch()
        self._sequences = self._sequences[:-1]

    def filtered(self, seen: diversity.SeenSequences, trajectory: Trajectory, values: PrefixValues) -> PrefixValues:
        """Values without those of sequences that were seen too often."""
        if not self.run_state.keeps(SEEN):  # a run begins, or continues
            known = self.run_state.get(SEEN)
            is_own = known is not None and self.task.plan.adversarial_from <= known[0] < self._update
            seen.restore(known[1:] if known is not None and is_own else ())
            self.run_state.keep(SEEN, lambda: (self._drawn_at, *seen.numbers()))
        self._drawn_at = self._update
        numbers = diversity.sequence_numbers(trajectory.tokens, trajectory.mask)
        self._sequences.append(numbers.tolist())
        rows = seen.too_often(numbers)
        return PrefixValues(diversity.without_reward(*values, rows), values.positions)

    def log_groups(self, trajectory: Trajectory, values: PrefixValues) -> dict[str, Any]:
        """How many groups there are, and how many of them have no spread in what whole sequences earn."""
        final, size = final_scores(trajectory, values), self.cfg.pg_group_size
        return {"zero_std_groups": groups.count_without_spread(final, size), "groups": len(final) // size}

    # -- other losses than REINFORCE --

    def other_loss(
        self, model: Model, experience: Experience, advantages: Tensor, log_probs: Tensor
    ) -> tuple[Tensor, dict[str, Any]]:
        """The loss of each sequence, (R,), by `--pg-loss`, and what is logged of it.

        Args:
            experience: what is learned from
            advantages: (R, T)
            log_probs: (R, T), with gradient
        """
        trajectory, values = experience.trajectory, experience.values
        if self.cfg.pg_loss == "ppo":
            behaviour = log_probs.detach() if experience.log_probs is None else experience.log_probs
            if values is not None and self.experience_pool is not None:
                self.experience_pool.add(trajectory, final_scores(trajectory, values), advantages, behaviour)
            loss, clipped = ppo.clipped_loss(log_probs, behaviour, advantages, self.cfg.ppo_clip)
            return loss, {"clipped": clipped}
        if values is None:
            raise RuntimeError("experience of an update before serves --pg-loss ppo only.")
        logits = model.reference_logits(trajectory)
        expected = sequences.token_log_probs(logits, trajectory.tokens, trajectory.mask)
        scores = final_scores(trajectory, values)
        return reinvent.reinvent_loss(log_probs, expected, scores, self.cfg.reinvent_sigma), {}

    # -- the reference policy --

    def reference_terms(
        self, model: Model, trajectory: Trajectory, logits: Tensor, update: int
    ) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """Weighed divergence from the reference, what it costs the returns (R, T) if it is in them, and the log.

        Args:
            logits: (R, T, V), of the policy for *trajectory*
            update: number of the update
        """
        divergence = self.reference_divergence(model, trajectory, logits, update)
        weight, cost = self.ref_kl_weight(), None
        log = {"ref_kl": divergence.detach().sum(), "ref_kl_weight": weight * len(divergence)}
        loss = weight * divergence.sum()
        if self.cfg.ref_kl_in == "reward":
            # Both halves of one gradient have one weight.
            loss = self.cfg.pg_weight * loss
            cost = weight * reference.cost_of_later_tokens(divergence.detach())
        return loss, cost, log

    def reference_divergence(self, model: Model, trajectory: Trajectory, logits: Tensor, update: int) -> Tensor:
        """Divergence from the reference in each token, (R, T), with gradient if it has a weight."""
        model.keep_reference(update, self.task.plan.adversarial_from)
        with torch.set_grad_enabled(self.cfg.ref_kl > 0):
            return reference.token_divergence(logits, model.reference_logits(trajectory), trajectory.mask)

    def ref_kl_weight(self) -> float:
        """Weight of the divergence from the reference in this update."""
        known, taken = self.run_state.get(REF_KL), self.run_state.get("reference")
        # What was found for another reference does not count.
        has_begun = self.adaptive is not None and known is not None and known[1:] == taken
        return known[0] if has_begun and known is not None else self.cfg.ref_kl

    def after_update(self, logs: logged.Logs) -> None:
        """Learn from what all processes have logged of one update."""
        super().after_update(logs)
        if not any("policy_tokens" in log for log in logs):
            return
        if self.experience_pool is not None:
            self.experience_pool.end_update(self.run_state, self._update)
        if self.seen is not None:
            # One process would have the first batches of all processes first, then the second ones.
            batches = zip_longest(*of_all(self._sequences), fillvalue=())
            self.seen.add(number for batch in batches for share in batch for number in share)
        total = logged.totals(logs)
        if self.adaptive is not None and any("ref_kl" in log for log in logs):
            count = float(total("policy_sequences"))
            divergence = sum(float(log["ref_kl"]) for log in logs) / count
            weight = self.adaptive.step(self.ref_kl_weight(), divergence, count)
            self.run_state.set(REF_KL, (weight, *(self.run_state.get("reference") or ())))

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Log means, see :mod:`fairseq_seqvae.criterions.logged`."""
        super().reduce_metrics(logging_outputs)
        logged.log_policy_gradient(logging_outputs)
        logged.log_discriminator(logging_outputs)
