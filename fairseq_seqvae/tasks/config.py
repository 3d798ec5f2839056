"""Options of the task ``seqvae``: data, turns of the players, alarms, generation."""

# mypy: disable-error-code="valid-type"
# (fairseq takes choices from an Enum that is made in the annotation)

from dataclasses import dataclass
from typing import Optional  # fairseq's parser knows Optional but not `| None`

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II, MISSING

from fairseq_seqvae.options import Relation, at_least, between, option, whole_numbers


@dataclass
class SeqVAETaskConfig(FairseqDataclass):
    """Options of ``--task seqvae``."""

    data: str = option(
        MISSING,
        "folder written by fairseq-preprocess --only-source; several, separated by colons, are shards",
        group="Data",
    )
    max_positions: int = option(1024, "longest sequence in tokens, EOS included", at_least(2))
    fixed_length: int = option(
        0, "number of tokens of every sequence, which then has no EOS", at_least(0), {0: "sequences end with EOS"}
    )
    labels: Optional[str] = option(
        None,
        "folder inside DATA, written by fairseq-preprocess --only-source from files with one label per sentence, which "
        "encoder, decoder and discriminator then know; without this flag sentences have no labels",
    )
    transpose: Optional[str] = option(
        None,
        "melodies: lowest and highest MIDI pitch, such as 52,90; each update of a training transposes each of its "
        "sentences by a random interval that keeps all onsets within; without this flag no sentence is transposed",
    )
    transpose_by: ChoiceEnum(["semitones", "scale"]) = option(
        "semitones",
        "what the intervals of --transpose are counted in: semitones, or steps along the white keys, which keep "
        "melodies of a common key in their scale",
    )
    gen_pretrain_updates: int = option(
        2000,
        "updates of the generator alone by the ELBO, at the start",
        at_least(0),
        group="Turns of the players (for --criterion seqvae_pg)",
    )
    disc_pretrain_updates: int = option(200, "updates of the discriminator alone, after that", at_least(0))
    adv_g_steps: int = option(1, "adversarial part: updates of the generator in a row", at_least(0))
    adv_d_steps: int = option(1, "adversarial part: updates of the discriminator in a row", at_least(0))
    disc_lr: Optional[float] = option(
        None, "learning rate of the discriminator; without this flag that of the generator", at_least(0)
    )
    rollout_lag: float = option(
        0.8,
        "share of its weights that the rollout policy keeps in each adversarial update of the generator; the rest is "
        "the decoder's",
        between(0, 1, high_open=True),
        {0: "a copy of the decoder"},
    )
    lagging_updates: int = option(
        0,
        "lagging inference: updates of the encoder alone before each update of encoder and decoder, while the "
        "generator is trained by the ELBO alone",
        at_least(0),
        {0: "off"},
        group="Lagging inference",
    )
    lagging_until: int = option(
        0,
        "number of updates of the run after which lagging inference ends; sooner if the mutual information falls from "
        "one validation of --validate-interval-updates to the next",
        at_least(0),
    )
    alarm_window: int = option(
        500,
        "window of the alarms, in updates of one player: warn once if the mean over it shows a collapsed latent, a "
        "discriminator that wins or loses, rewards without spread, or repeated samples",
        at_least(0),
        {0: "off"},
        group="Alarms",
    )
    alarm_kl: float = option(0.1, "mean KL, in nats per sentence, below which the latent has collapsed", at_least(0))
    alarm_ref_kl: float = option(
        20.0,
        "divergence from the reference policy, in nats per sequence, beyond which a rising reward and ever fewer "
        "distinct samples are taken for an exploited reward",
        at_least(0),
        {0: "off"},
    )
    latent: ChoiceEnum(["mean", "sample", "prior"]) = option(
        "mean",
        "generation from sentences: z is the mean of q(z|x), a sample of it, or one of the prior",
        group="Generation",
    )
    prior: ChoiceEnum(["model", "fitted"]) = option(
        "model",
        "generation: draws from the prior are of the model's own, or of the one that python -m fairseq_seqvae "
        "fit-prior has fitted",
    )
    num_draws: int = option(
        100, "number of sentences of --gen-subset prior or interpolate (that one: at least 2)", at_least(1)
    )
    interpolate_from: Optional[str] = option(
        None, "--gen-subset interpolate: first sentence; without this flag a draw from the prior"
    )
    interpolate_to: Optional[str] = option(
        None, "--gen-subset interpolate: last sentence; without this flag a draw from the prior"
    )
    condition: Optional[str] = option(
        None,
        "generation from a model of --labels: the label of all that is generated; without this flag that of each "
        "sentence, and for draws from the prior labels as frequent as in the training data",
    )
    prompt: ChoiceEnum(["reconstruct", "continue"]) = option(
        "reconstruct", "fairseq-interactive: reconstruct the lines, or continue them"
    )
    seed: int = II("common.seed")
    max_update: int = II("optimization.max_update")
    best_checkpoint_metric: str = II("checkpoint.best_checkpoint_metric")
    validate_interval_updates: int = II("dataset.validate_interval_updates")
    dataset_impl: Optional[str] = II("dataset.dataset_impl")

    RELATIONS = [
        Relation(
            ("transpose",),
            lambda pitches: pitches is None or len(whole_numbers(pitches)) == 2,
            "--transpose must be two MIDI pitches, the lowest and the highest, such as 52,90, but is '{transpose}'.",
        ),
        Relation(
            ("transpose",),
            lambda pitches: pitches is None or whole_numbers(pitches) == sorted(whole_numbers(pitches)),
            "--transpose {transpose} has its lowest pitch above its highest: exchange them.",
        ),
        Relation(
            ("transpose", "transpose_by"),
            lambda pitches, by: pitches is not None or by == "semitones",
            "--transpose-by {transpose_by} needs --transpose: the lowest and the highest pitch, such as 52,90.",
        ),
        Relation(
            ("adv_g_steps", "adv_d_steps"),
            lambda generator, discriminator: generator + discriminator > 0,
            "--adv-g-steps and --adv-d-steps are both 0: give at least one of the players a step.",
        ),
        Relation(
            ("lagging_updates", "lagging_until"),
            lambda updates, until: updates == 0 or until > 0,
            "--lagging-updates {lagging_updates} needs --lagging-until: the number of updates after which it ends.",
        ),
        Relation(
            ("fixed_length", "max_positions"),
            lambda fixed, longest: fixed <= longest,
            "--fixed-length {fixed_length} is above --max-positions {max_positions}: raise the latter.",
        ),
        Relation(
            ("interpolate_from", "interpolate_to"),
            lambda start, end: (start is None) == (end is None),
            "--interpolate-from and --interpolate-to belong together: give both or none.",
        ),
        Relation(
            ("interpolate_from", "interpolate_to"),
            lambda start, end: start is None or bool(start.strip() and end.strip()),
            "--interpolate-from and --interpolate-to must not be empty: give two sentences.",
        ),
        # of a split that is drawn; known when it is loaded
        Relation(
            ("num_draws", "gen_subset"),
            lambda draws, subset: subset != "interpolate" or draws >= 2,
            "--num-draws {num_draws} is too small for --gen-subset {gen_subset}: give at least 2.",
        ),
    ]
