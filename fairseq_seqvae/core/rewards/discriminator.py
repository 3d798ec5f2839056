"""Losses of the discriminator, and its logits as rewards.

Everywhere ``logits_real_is_high``: a high logit says that the sequence is real.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

REWARDS = ("prob", "log-prob", "logit")


def reward_from_logits(logits: Tensor, kind: str = "prob") -> Tensor:
    """The reward of sequences with these logits, same shape, float32.

    ``prob`` is the probability of "real" (SeqGAN, SeqVAE), ``log-prob`` its logarithm, ``logit`` the log-odds,
    which keeps its slope where the discriminator is sure.
    """
    logits = logits.float()
    if kind == "prob":
        return torch.sigmoid(logits)
    if kind == "log-prob":
        return F.logsigmoid(logits)
    if kind == "logit":
        return logits
    raise ValueError(f"`kind` must be one of {', '.join(REWARDS)} but is {kind!r}.")
