"""What depends on the number of the update alone: the weight of the KL term, and which parts move."""

from fairseq_seqvae.core.schedules.annealing import KL_ANNEALS, kl_weight
from fairseq_seqvae.core.schedules.turns import Turn, TurnPlan

__all__ = ["KL_ANNEALS", "Turn", "TurnPlan", "kl_weight"]
