"""The policy's part of the generator's turn: from rewarded sequences to a loss, and what keeps the policy honest."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae import options
from fairseq_seqvae.core.policy_gradient import groups, reference, reinforce
from fairseq_seqvae.core.rollouts.policy import Trajectory
from fairseq_seqvae.core.rollouts.rollout import PrefixValues
from fairseq_seqvae.criterions import logged
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig
from fairseq_seqvae.criterions.seqvae_elbo import Model, SeqVAEElboCriterion

# What the run state holds: the weight of the divergence, and the update in which the reference was taken.
REF_KL = "ref_kl"


class Experience(NamedTuple):
    """Sequences that are rewarded, and their rewards.

    Attributes:
        trajectory: R sequences, those of a group one after the other
        values: of their prefixes
    """

    trajectory: Trajectory
    values: PrefixValues


class PolicyTurns(SeqVAEElboCriterion):
    """A criterion that trains the decoder as a policy, too."""

    def __init__(self, cfg: SeqVAEPolicyGradientConfig, task: Any):
        super().__init__(cfg, task)
        options.check(cfg, SeqVAEPolicyGradientConfig)
        self.credit = reinforce.Credit(
            stride=cfg.reward_stride,
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

    @property
    def needs_reference(self) -> bool:
        """Whether the model has to keep a reference policy."""
        return self.cfg.reference or self.cfg.ref_kl > 0

    def log_groups(self, experience: Experience) -> dict[str, Any]:
        """How many groups there are, and how many of them have no spread in what whole sequences earn."""
        (trajectory, values), size = experience, self.cfg.pg_group_size
        final = values.rewards.gather(1, (trajectory.lengths - 1).unsqueeze(1)).squeeze(1)
        return {"zero_std_groups": groups.count_without_spread(final, size), "groups": len(final) // size}

    # -- the reference policy --

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
        total = logged.totals(logs)
        if self.adaptive is not None and any("ref_kl" in log for log in logs):
            sentences = float(total("nsentences"))
            divergence = sum(float(log["ref_kl"]) for log in logs) / sentences
            weight = self.adaptive.step(self.ref_kl_weight(), divergence, sentences * self.cfg.pg_group_size)
            self.run_state.set(REF_KL, (weight, *(self.run_state.get("reference") or ())))
