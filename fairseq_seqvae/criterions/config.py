"""Options of `--criterion seqvae_pg`."""

# mypy: disable-error-code="valid-type"
# (fairseq takes choices from an Enum that is made in the annotation)

from dataclasses import dataclass
from typing import Optional  # fairseq's parser knows Optional but not `| None`

from fairseq.dataclass import ChoiceEnum

from fairseq_seqvae.core.policy_gradient.reinforce import BASELINES, CREDITS, NORMALIZERS
from fairseq_seqvae.core.rewards.discriminator import REWARDS, SCORINGS
from fairseq_seqvae.core.rollouts.rollout import VALUES
from fairseq_seqvae.criterions.elbo_config import SeqVAEElboConfig
from fairseq_seqvae.options import ANY_NUMBER, Relation, above, at_least, between, option
from fairseq_seqvae.rewards.sources import split_sources, uses_discriminator, weights_fit


@dataclass
class SeqVAEPolicyGradientConfig(SeqVAEElboConfig):
    """Options of ``--criterion seqvae_pg``, besides those of ``seqvae_elbo``."""

    elbo_weight: float = option(
        1.0,
        "weight of the ELBO in the generator's adversarial turns",
        at_least(0),
        {0: "off"},
        group="Policy gradient",
    )
    pg_weight: float = option(1.0, "weight of the policy-gradient loss", at_least(0), {0: "off"})
    entropy_weight: float = option(
        0.0,
        "weight of the policy's entropy, in nats summed over the tokens: above 0 a bonus, below 0 a price, which "
        "sharpens the policy",
        ANY_NUMBER,
        {0: "off"},
    )
    entropy_floor: float = option(
        0.0,
        "with --entropy-weight below 0: mean entropy of a sequence, in nats per token, below which there is no price",
        at_least(0),
        {0: "off"},
    )
    pg_credit: ChoiceEnum(list(CREDITS)) = option(
        "to-go",
        "credit of a token: the reward of the prefix that ends its segment (step: SeqGAN, SeqVAE_1), or the sum of the "
        "rewards from there on (to-go: SeqVAE_2)",
    )
    value: ChoiceEnum(list(VALUES)) = option(
        "final",
        "value of a prefix: the reward of the whole sequence (final), the mean reward of its completions (rollouts; "
        "the paper's way, many times as long), or what a learned critic predicts (critic)",
    )
    reward_stride: int = option(
        1, "unless --value final: tokens from one reward to the next; the end has one too", at_least(1)
    )
    num_rollouts: int = option(16, "with --value rollouts: completions of each rewarded prefix", at_least(1))
    reward_sources: str = option(
        "discriminator",
        "rewards, separated by commas: discriminator, FILE.py:function, or a built-in one as NAME or NAME:ARGUMENT "
        "(bleu, classifier, contains, length, likelihood, melody-begin, melody-highest, melody-key, melody-leaps, "
        "melody-likeness, melody-lowest, melody-motif, melody-range, melody-repeats, melody-returns, melody-tonic, "
        "melody-variety, novelty, oracle, regex); match:REWARD asks for as much of a reward as the data have; without "
        "discriminator none is built, and it has no turns",
    )
    reward_weights: Optional[str] = option(
        None, "weights of the rewards, one number for each of --reward-sources; without this flag 1 each"
    )
    reward_workers: int = option(
        0,
        "processes that call each function FILE.py:function of --reward-sources, for slow ones: each is given a share "
        "of the samples, so what the function says of a sample must not depend on the others",
        at_least(0),
        {0: "the training's own process"},
    )
    reward: ChoiceEnum(list(REWARDS)) = option(
        "prob",
        "reward of the discriminator: the probability that a sequence is real, its logarithm (nats), or the log-odds "
        "(nats)",
    )
    pg_latent: ChoiceEnum(["posterior", "prior"]) = option(
        "posterior", "distribution that the z of a trajectory is drawn from"
    )
    pg_region: float = option(
        1.0,
        "with --pg-latent prior: share of the prior, where the first latent coordinate is largest, that trajectories "
        "are drawn from; what they teach changes samples from the rest, too, since all share the decoder",
        between(0, 1, low_open=True),
        {1: "the whole prior"},
    )
    pg_trajectories: ChoiceEnum(["sampled", "data"]) = option(
        "sampled",
        "rewarded sequences: samples of the decoder, or those of the data (with --value rollouts: and what completes "
        "their prefixes)",
    )
    pg_baseline: ChoiceEnum(list(BASELINES)) = option(
        "leave-one-out", "what is subtracted from the returns at each position"
    )
    pg_normalize: bool = option(False, "divide the advantages by their root mean square in the batch")
    rollout_chunk: int = option(
        20480, "completions that are sampled and scored at a time, which bounds the memory", at_least(1)
    )
    disc_scoring: ChoiceEnum(list(SCORINGS)) = option(
        "auto",
        "how the discriminator scores completions: by its forward pass (plain), by tables of what each token adds to "
        "its convolutions (tables), or by the faster of the two (auto); the rewards are the same",
        group="Turns of the discriminator",
    )
    fake_pool: int = option(
        0,
        "number of samples in the pool that the discriminator's fakes come from: saves time where it has many turns in "
        "a row",
        at_least(0),
        {0: "fresh fakes in every update"},
    )
    fake_reuse: int = option(
        100, "updates of the discriminator that share a pool; a move of the generator ends it sooner", at_least(1)
    )
    disc_real: Optional[str] = option(
        None,
        "split of the data that the discriminator's real sentences are drawn from, such as one that the generator does "
        "not learn; without this flag they are those of the batch",
    )
    disc_l2: float = option(
        0.0,
        "weight of the L2 penalty (half the squared norm) on the discriminator's output layer",
        at_least(0),
        {0: "off"},
    )
    disc_label_smoothing: float = option(
        0.0,
        "share that the discriminator's target for real sequences, 1, is lowered by",
        between(0, 0.5, high_open=True),
        {0: "off"},
    )
    pg_group_size: int = option(
        1,
        "sequences per z, which are a group; losses are means over the members, and rollouts are made for each of them",
        at_least(1),
        group="Groups of sequences",
    )
    pg_normalize_by: ChoiceEnum(list(NORMALIZERS)) = option(
        "batch", "with --pg-normalize: over what the root mean square is taken"
    )
    pg_loss: ChoiceEnum(["reinforce", "ppo", "reinvent"]) = option(
        "reinforce",
        "loss of the policy: REINFORCE, PPO's clipped objective, or REINVENT's, by which log p(y) is drawn to "
        "log p_ref(y) + --reinvent-sigma times the reward of y",
        group="Losses of the policy",
    )
    ppo_clip: float = option(
        0.2,
        "with --pg-loss ppo: largest change of a token's probability that still pays, as a share of it",
        between(0, 1, low_open=True, high_open=True),
    )
    ppo_reuse: int = option(
        1,
        "with --pg-loss ppo: updates of the generator in a row that learn from the sequences of the first of them; "
        "only that one draws, completes and scores",
        at_least(1),
        {1: "each draws its own"},
    )
    reinvent_sigma: float = option(
        20.0, "with --pg-loss reinvent: nats of log-probability that a reward of 1 is worth", above(0)
    )
    critic_weight: float = option(
        1.0,
        "with --value critic or --pg-baseline critic: weight of the critic's loss, half the squared error of the "
        "rewards that it predicts",
        above(0),
    )
    diversity_limit: int = option(
        0,
        "times that a sequence may be drawn before it earns nothing (the least reward of its batch, and at most 0)",
        at_least(0),
        {0: "no limit"},
    )
    diversity_memory: int = option(
        100000,
        "with --diversity-limit: sequences that are remembered, which is part of checkpoints; those not drawn for the "
        "longest time are forgotten first",
        at_least(1),
    )
    reference: bool = option(
        False,
        "keep a reference policy, the decoder as it is before its first adversarial update, and log the divergence "
        "from it; flags that need one imply it",
        group="Reference policy",
    )
    ref_kl: float = option(
        0.0,
        "weight of the divergence of the policy from the reference, KL(policy || reference) in nats, summed over the "
        "tokens of a sequence",
        at_least(0),
        {0: "off"},
    )
    ref_kl_in: ChoiceEnum(["loss", "reward"]) = option(
        "loss",
        "what the divergence of later tokens is to the choice of earlier ones: nothing (loss), or a cost that is taken "
        "from their returns (reward), which makes the gradient that of the whole divergence",
    )
    ref_kl_target: float = option(
        0.0,
        "mean divergence from the reference, in nats per sequence, that a controller holds by the weight, of which "
        "--ref-kl is then the first value",
        at_least(0),
        {0: "off"},
    )
    ref_kl_horizon: int = option(
        10000,
        "sequences in which that controller changes the weight by up to a fifth: more is slower and steadier",
        at_least(1),
    )

    disc_loss: str = option(
        "cross-entropy",
        "how the discriminator learns: cross-entropy, hinge, wasserstein (a critic, whose scores have no bounds), or a "
        "name that a file of --module registers",
    )
    gradient_penalty: float = option(
        0.0,
        "weight of the penalty on the slope of the discriminator between real sequences and samples, such as 10",
        at_least(0),
        {0: "off"},
    )

    disc_gate: float = option(
        0.0,
        "accuracy on held-out sentences and fresh samples, such as 0.55, from which on the discriminator's reward is "
        "used; below it the generator learns by the ELBO alone",
        between(0, 1, high_open=True),
        {0: "always used"},
    )
    disc_gate_interval: int = option(
        0,
        "updates from one judgement of the discriminator on held-out sentences, logged as d_acc_held_out, to the next",
        at_least(0),
        {0: "none"},
    )
    disc_gate_sentences: int = option(
        500, "held-out sentences of such a judgement, the first ones of the validation data", at_least(1)
    )
    disc_keep_best: bool = option(
        False,
        "in such a judgement, go back to the discriminator of the last one if that tells held-out sentences from fresh "
        "samples better: early stopping",
    )

    RELATIONS = [
        Relation(
            ("disc_gate", "disc_gate_interval"),
            lambda gate, interval: gate == 0 or interval > 0,
            "--disc-gate {disc_gate} needs judgements: give --disc-gate-interval, such as 50 (updates).",
        ),
        Relation(
            ("disc_keep_best", "disc_gate_interval"),
            lambda keeps, interval: not keeps or interval > 0,
            "--disc-keep-best needs judgements: give --disc-gate-interval, such as 50 (updates).",
        ),
        Relation(
            ("disc_loss", "gradient_penalty"),
            lambda loss, penalty: loss != "wasserstein" or penalty > 0,
            "--disc-loss wasserstein needs a bounded slope: give --gradient-penalty 10.",
        ),
        Relation(
            ("disc_loss", "disc_label_smoothing"),
            lambda loss, smoothing: loss not in ("hinge", "wasserstein") or smoothing == 0,
            "--disc-loss {disc_loss} has no labels that --disc-label-smoothing {disc_label_smoothing} could smooth: "
            "omit one of the two.",
        ),
        Relation(
            ("disc_loss", "reward"),
            lambda loss, reward: loss != "wasserstein" or reward == "logit",
            "--disc-loss wasserstein gives scores, of which --reward {reward} makes nothing: give --reward logit.",
        ),
        Relation(
            ("disc_loss", "pg_normalize"),
            lambda loss, normalize: loss != "wasserstein" or normalize,
            "--disc-loss wasserstein gives rewards without bounds: give --pg-normalize.",
        ),
        Relation(
            ("disc_gate_interval", "reward_sources"),
            lambda interval, sources: interval == 0 or uses_discriminator(sources),
            "--disc-gate-interval {disc_gate_interval} judges a discriminator, which --reward-sources {reward_sources} "
            "does without: omit one of the two.",
        ),
        Relation(
            ("disc_gate", "ppo_reuse"),
            lambda gate, reuse: gate == 0 or reuse == 1,
            "--disc-gate {disc_gate} cannot take back what --ppo-reuse {ppo_reuse} learns from again: omit one of the "
            "two.",
        ),
        Relation(
            ("reward_sources",),
            lambda sources: all(split_sources(sources)),
            "--reward-sources '{reward_sources}' has an empty entry: give rewards, separated by commas.",
        ),
        Relation(
            ("reward_sources", "reward_weights"),
            weights_fit,
            "--reward-weights {reward_weights} must be numbers, separated by commas, one for each of --reward-sources "
            "{reward_sources}.",
        ),
        Relation(
            ("entropy_floor", "entropy_weight"),
            lambda floor, weight: floor == 0 or weight < 0,
            "--entropy-floor {entropy_floor} needs an --entropy-weight below 0 (it is {entropy_weight}): a bonus on "
            "entropy has no floor.",
        ),
        Relation(
            ("pg_region", "pg_latent"),
            lambda region, latent: region == 1 or latent == "prior",
            "--pg-region {pg_region} is a share of the prior: it needs --pg-latent prior, not {pg_latent}.",
        ),
        Relation(
            ("pg_trajectories", "pg_latent"),
            lambda trajectories, latent: trajectories == "sampled" or latent == "posterior",
            "--pg-trajectories {pg_trajectories} needs --pg-latent posterior: a z drawn from the prior tells nothing "
            "about the sequences of the data.",
        ),
        Relation(
            ("pg_group_size", "pg_trajectories"),
            lambda size, trajectories: size == 1 or trajectories == "sampled",
            "--pg-group-size {pg_group_size} needs --pg-trajectories sampled: the data have one sequence per z.",
        ),
        Relation(
            ("pg_baseline", "pg_group_size"),
            lambda baseline, size: baseline != "group" or size > 1,
            "--pg-baseline group needs --pg-group-size above 1 (it is {pg_group_size}): a sequence alone has no others "
            "to be compared with.",
        ),
        Relation(
            ("pg_normalize_by", "pg_group_size", "pg_normalize"),
            lambda by, size, normalize: by == "batch" or (size > 1 and normalize),
            "--pg-normalize-by group needs --pg-normalize and --pg-group-size above 1 (it is {pg_group_size}).",
        ),
        Relation(
            ("value", "pg_trajectories"),
            lambda value, trajectories: value != "critic" or trajectories == "sampled",
            "--value critic needs --pg-trajectories sampled: a critic predicts what the policy's own sequences earn.",
        ),
        Relation(
            ("ppo_reuse", "pg_loss"),
            lambda reuse, loss: reuse == 1 or loss == "ppo",
            "--ppo-reuse {ppo_reuse} needs --pg-loss ppo, not {pg_loss}: other losses are biased on sequences of an "
            "earlier policy.",
        ),
        Relation(
            ("pg_loss", "pg_trajectories"),
            lambda loss, trajectories: loss == "reinforce" or trajectories == "sampled",
            "--pg-loss {pg_loss} needs --pg-trajectories sampled: the policy has not drawn the data.",
        ),
        Relation(
            ("diversity_limit", "pg_trajectories"),
            lambda limit, trajectories: limit == 0 or trajectories == "sampled",
            "--diversity-limit {diversity_limit} needs --pg-trajectories sampled: the data come back in every epoch.",
        ),
        Relation(
            ("ref_kl_target", "ref_kl"),
            lambda target, weight: target == 0 or weight > 0,
            "--ref-kl-target {ref_kl_target} needs a --ref-kl above 0 (it is {ref_kl}): that is the first weight.",
        ),
        Relation(
            ("ref_kl_in", "ref_kl"),
            lambda place, weight: place == "loss" or weight > 0,
            "--ref-kl-in {ref_kl_in} needs a --ref-kl above 0 (it is {ref_kl}).",
        ),
    ]
