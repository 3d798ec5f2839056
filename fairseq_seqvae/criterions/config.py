"""Options of the criterions."""

from dataclasses import dataclass, field

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from fairseq_seqvae.core.policy_gradient.reinforce import BASELINES, CREDITS
from fairseq_seqvae.core.rewards.discriminator import REWARDS, SCORINGS
from fairseq_seqvae.core.schedules.annealing import KL_ANNEALS


@dataclass
class SeqVAEElboConfig(FairseqDataclass):
    """Options of ``--criterion seqvae_elbo``."""

    kl_weight: float = field(default=1.0, metadata={"help": "final weight of the KL term"})
    kl_anneal: ChoiceEnum(list(KL_ANNEALS)) = field(
        default="constant", metadata={"help": "how the weight of the KL term gets there"}
    )
    kl_anneal_updates: int = field(
        default=0, metadata={"help": "updates (of both players) until the weight of the KL term is final"}
    )
    kl_cycles: int = field(default=4, metadata={"help": "cyclical annealing: number of cycles"})
    kl_ramp: float = field(default=0.5, metadata={"help": "cyclical annealing: share of a cycle in which it rises"})
    free_bits: float = field(default=0.0, metadata={"help": "KL that costs nothing, in bits (nats / ln 2)"})
    free_bits_mode: ChoiceEnum(["total", "per-dim"]) = field(
        default="total", metadata={"help": "whether the free bits are of the sequence or of each latent dimension"}
    )
    no_valid_samples: bool = field(
        default=False, metadata={"help": "do not sample in validation, which leaves out the metric bigram_jsd"}
    )
    seed: int = II("common.seed")


@dataclass
class SeqVAEPolicyGradientConfig(SeqVAEElboConfig):
    """Options of ``--criterion seqvae_pg``, besides those of ``seqvae_elbo``."""

    elbo_weight: float = field(
        default=1.0, metadata={"help": "weight of the ELBO in the generator's adversarial turns"}
    )
    pg_weight: float = field(default=1.0, metadata={"help": "weight of the policy-gradient loss"})
    entropy_weight: float = field(
        default=0.0,
        metadata={
            "help": "weight of the entropy of the policy (nats, summed over tokens): above 0 a bonus, below 0 a price "
            "that sharpens the policy"
        },
    )
    entropy_floor: float = field(
        default=0.0,
        metadata={"help": "with --entropy-weight below 0: nats a token, mean of a sequence, below which it is free"},
    )
    pg_credit: ChoiceEnum(list(CREDITS)) = field(
        default="to-go",
        metadata={
            "help": "what a token is credited with: the reward of the prefix that ends its segment (step: SeqGAN, "
            "SeqVAE_1), or the sum of the rewards from there on (to-go: SeqVAE_2)"
        },
    )
    reward_stride: int = field(default=1, metadata={"help": "a reward every this many tokens, and at the end"})
    num_rollouts: int = field(default=16, metadata={"help": "completions of each rewarded prefix"})
    reward: ChoiceEnum(list(REWARDS)) = field(
        default="prob", metadata={"help": "reward of a sequence: probability of real, its logarithm, or the log-odds"}
    )
    pg_latent: ChoiceEnum(["posterior", "prior"]) = field(
        default="posterior", metadata={"help": "where the z of a trajectory comes from"}
    )
    pg_region: float = field(
        default=1.0,
        metadata={
            "help": "with --pg-latent prior: the policy gradient acts on this share of the prior only, where the "
            "first latent coordinate is largest; the rest keeps the likelihood's coverage"
        },
    )
    pg_trajectories: ChoiceEnum(["sampled", "data"]) = field(
        default="sampled",
        metadata={"help": "rewarded sequences: sampled by the decoder, or those of the data (completed prefixes)"},
    )
    pg_baseline: ChoiceEnum(list(BASELINES)) = field(
        default="leave-one-out", metadata={"help": "what is subtracted from the returns, at each position"}
    )
    pg_normalize: bool = field(
        default=False, metadata={"help": "divide advantages by their root mean square in the batch"}
    )
    rollout_chunk: int = field(
        default=20480, metadata={"help": "completions that are sampled and scored at a time: bounds the memory"}
    )
    disc_scoring: ChoiceEnum(list(SCORINGS)) = field(
        default="auto",
        metadata={
            "help": "how the discriminator scores completions: as it is (plain), by tables of what each token adds to "
            "its convolutions (tables), or by whichever is faster (auto); the rewards are the same"
        },
    )
    fake_pool: int = field(
        default=0,
        metadata={
            "help": "the discriminator's fakes are drawn from a pool of this many, sampled at once: cheaper where it "
            "has many turns in a row; 0: fresh fakes in every update"
        },
    )
    fake_reuse: int = field(
        default=100,
        metadata={"help": "updates of the discriminator that share a pool, unless the generator moves before"},
    )
    disc_l2: float = field(
        default=0.0, metadata={"help": "L2 penalty (half the squared norm) of the discriminator's output layer"}
    )
    disc_label_smoothing: float = field(
        default=0.0, metadata={"help": "the discriminator's target of real sequences is 1 minus this"}
    )
