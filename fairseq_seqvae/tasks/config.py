"""Task ``seqvae``: options, data, and whose turn it is."""

import logging
from dataclasses import dataclass, field
from typing import Optional  # fairseq's parser knows Optional but not `| None`

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II, MISSING

logger = logging.getLogger(__name__)


@dataclass
class SeqVAETaskConfig(FairseqDataclass):
    """Options of ``--task seqvae``."""

    data: str = field(
        default=MISSING,
        metadata={
            "help": "folder written by fairseq-preprocess --only-source; several, separated by colons, are shards"
        },
    )
    max_positions: int = field(default=1024, metadata={"help": "longest sequence, EOS included"})
    fixed_length: int = field(
        default=0, metadata={"help": "all sequences have this many tokens and no EOS; 0: they end with EOS"}
    )
    gen_pretrain_updates: int = field(
        default=2000, metadata={"help": "updates of the generator alone by the ELBO, at the start"}
    )
    disc_pretrain_updates: int = field(default=200, metadata={"help": "updates of the discriminator alone, after that"})
    adv_g_steps: int = field(default=1, metadata={"help": "adversarial part: updates of the generator in a row"})
    adv_d_steps: int = field(default=1, metadata={"help": "adversarial part: updates of the discriminator in a row"})
    disc_lr: Optional[float] = field(
        default=None, metadata={"help": "learning rate of the discriminator (default: that of the generator)"}
    )
    rollout_lag: float = field(
        default=0.8,
        metadata={
            "help": "share that the rollout policy keeps of itself in each adversarial update; the rest is the decoder"
        },
    )
    alarm_window: int = field(
        default=500,
        metadata={
            "help": "warn, once, of a collapsed latent, of a discriminator that wins or loses, of rewards that are all "
            "alike and of samples that repeat where the mean over this many turns of the player says so; 0: never"
        },
    )
    alarm_kl: float = field(
        default=0.1, metadata={"help": "a mean KL below this, in nats a sentence, is a collapsed latent"}
    )
    latent: ChoiceEnum(["mean", "sample", "prior"]) = field(
        default="mean",
        metadata={"help": "generation from sentences: z is the mean of q(z|x), a draw from it, or one from the prior"},
    )
    num_draws: int = field(
        default=100, metadata={"help": "number of sentences of --gen-subset prior and --gen-subset interpolate"}
    )
    interpolate_from: Optional[str] = field(
        default=None, metadata={"help": "--gen-subset interpolate: sentence to start at (default: a draw)"}
    )
    interpolate_to: Optional[str] = field(
        default=None, metadata={"help": "--gen-subset interpolate: sentence to end at (default: a draw)"}
    )
    prompt: ChoiceEnum(["reconstruct", "continue"]) = field(
        default="reconstruct", metadata={"help": "fairseq-interactive: what is done with the lines"}
    )
    seed: int = II("common.seed")
    max_update: int = II("optimization.max_update")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    dataset_impl: Optional[str] = II("dataset.dataset_impl")
