"""Options of `--criterion seqvae_elbo`."""

# mypy: disable-error-code="valid-type"
# (fairseq takes choices from an Enum that is made in the annotation)

from dataclasses import dataclass

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from fairseq_seqvae.core.schedules.annealing import KL_ANNEALS
from fairseq_seqvae.core.schedules.scheduled_sampling import SAMPLING_SCHEDULES
from fairseq_seqvae.options import Relation, at_least, between, option


@dataclass
class SeqVAEElboConfig(FairseqDataclass):
    """Options of ``--criterion seqvae_elbo``."""

    kl_weight: float = option(1.0, "final weight of the KL term", at_least(0), {0: "off"}, group="ELBO")
    kl_anneal: ChoiceEnum(list(KL_ANNEALS)) = option("constant", "how the weight of the KL term rises to --kl-weight")
    kl_anneal_updates: int = option(
        0, "updates, of both players, until the weight of the KL term is final", at_least(0)
    )
    kl_cycles: int = option(4, "cyclical annealing: number of cycles", at_least(1))
    kl_ramp: float = option(
        0.5, "cyclical annealing: share of a cycle in which the weight rises", between(0, 1, low_open=True)
    )
    kl_target: float = option(
        0.0,
        "mean KL in nats per sentence that a controller holds by the weight of the KL term, of which --kl-weight is "
        "then the upper bound",
        at_least(0),
        {0: "off"},
    )
    kl_target_horizon: int = option(
        200,
        "updates of the generator in which that controller makes up for an error: more is slower and steadier",
        at_least(1),
    )
    free_bits: float = option(
        0.0, "KL that costs nothing, in bits (1 bit = 0.693 nats); see --free-bits-mode", at_least(0), {0: "off"}
    )
    free_bits_mode: ChoiceEnum(["total", "per-dim"]) = option(
        "total", "whether --free-bits counts for the whole latent vector or for each of its dimensions"
    )
    auxiliary_weight: float = option(
        0.2,
        "weight of the auxiliary loss, of a decoder that has one: what its convolutions alone say of the tokens "
        "(--decoder hybrid)",
        at_least(0),
        {0: "off"},
    )
    scheduled_sampling: float = option(
        0.0,
        "final share of the decoder's inputs in training that are samples of its own instead of the data",
        between(0, 1),
        {0: "off"},
    )
    scheduled_sampling_schedule: ChoiceEnum(list(SAMPLING_SCHEDULES)) = option(
        "linear", "how that share rises: linear, inverse-sigmoid, or constant from the start"
    )
    scheduled_sampling_updates: int = option(
        0,
        "updates, of both players, until that share is final (linear); half of them until it is half (both)",
        at_least(0),
    )
    no_valid_samples: bool = option(
        False, "draw no samples in validation, which omits the metrics bigram_jsd, distinct, d_acc_real and d_acc_fake"
    )
    no_valid_reconstruction: bool = option(
        False,
        "decode nothing in validation to compare it with the data, which omits the metrics rec_acc, rec_acc_notes and "
        "rec_acc_other",
    )
    seed: int = II("common.seed")

    RELATIONS = [
        Relation(
            ("kl_target", "kl_anneal"),
            lambda target, anneal: target == 0 or anneal == "constant",
            "--kl-target {kl_target} sets the weight of the KL term itself: use --kl-anneal constant, not {kl_anneal}.",
        ),
        Relation(
            ("kl_target", "kl_weight"),
            lambda target, weight: target == 0 or weight > 0,
            "--kl-target {kl_target} needs a --kl-weight above 0 (it is {kl_weight}): that is the largest weight.",
        ),
        Relation(
            ("kl_target", "free_bits"),
            lambda target, bits: target == 0 or bits == 0,
            "--kl-target {kl_target} and --free-bits {free_bits} both set a level of the KL: give one of them.",
        ),
        Relation(
            ("scheduled_sampling", "scheduled_sampling_schedule", "scheduled_sampling_updates"),
            lambda share, schedule, updates: share == 0 or schedule == "constant" or updates >= 2,
            "--scheduled-sampling {scheduled_sampling} needs --scheduled-sampling-updates of at least 2 (it is "
            "{scheduled_sampling_updates}), or use --scheduled-sampling-schedule constant.",
        ),
        Relation(
            ("kl_anneal", "kl_anneal_updates"),
            lambda anneal, updates: anneal == "constant" or updates > 0,
            "--kl-anneal {kl_anneal} needs --kl-anneal-updates above 0 (it is {kl_anneal_updates}), or use --kl-anneal "
            "constant.",
        ),
    ]
