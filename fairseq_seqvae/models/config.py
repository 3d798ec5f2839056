"""Options of the model, and the presets as options with other defaults."""

# mypy: disable-error-code="valid-type"
# (fairseq takes choices from an Enum that is made in the annotation)

import math
from dataclasses import dataclass
from typing import Any, Optional  # fairseq's parser knows Optional but not `| None`

from fairseq.dataclass import ChoiceEnum, FairseqDataclass
from omegaconf import II

from fairseq_seqvae.core.networks.convolutions import STRIDE
from fairseq_seqvae.core.networks.lstm import POOLINGS
from fairseq_seqvae.options import Relation, at_least, between, option, whole_numbers

_SHARE_BELOW_ONE = between(0, 1, high_open=True)


def conv_channels(options: Any) -> list[int]:
    """Channels of the encoder's convolutions, from ``conv_channels``."""
    return whole_numbers(options.conv_channels)


def conv_positions(options: Any) -> int:
    """Positions that the convolutions are made for: ``latent_positions`` or ``fixed_length``, rounded up."""
    unit = STRIDE ** len(conv_channels(options))
    return -(-(options.latent_positions or options.fixed_length) // unit) * unit


def step_positions(options: Any) -> int:
    """Steps that have a latent vector of their own: ``latent_positions`` or ``fixed_length``."""
    return options.latent_positions or options.fixed_length


def num_segments(options: Any) -> int:
    """Segments of the longest sequence, from ``latent_positions`` or ``fixed_length`` and ``segment_length``."""
    return -(-(options.latent_positions or options.fixed_length) // options.segment_length)


def lookback(options: Any) -> list[int]:
    """How many segments back the decoder looks, from ``lookback``."""
    return whole_numbers(options.lookback) if getattr(options, "lookback", None) else []


def segment_channels(options: Any) -> list[int]:
    """Channels that the hierarchical decoder unrolls a segment's vector by, from ``segment_channels``."""
    return whole_numbers(options.segment_channels) if getattr(options, "segment_channels", None) else []


DISC_INPUTS = ("tokens", "ngrams", "likelihood")


def disc_inputs(names: str) -> list[str]:
    """What the discriminator is given, from ``disc_inputs``; an empty list if it is no list of such names."""
    given = names.split(",")
    return given if set(given) <= set(DISC_INPUTS) and len(set(given)) == len(given) else []


def _knows_positions(encoder: str, decoder: str) -> bool:
    return encoder == "convolutional" or decoder in ("hybrid", "hierarchical", "stepwise")


@dataclass
class SeqVAEConfig(FairseqDataclass):
    """Options of ``--arch seqvae``: a small model for a first try on a CPU."""

    embed_dim: int = option(128, "size of the token embeddings", at_least(1), group="Encoder and decoder")
    encoder: str = option("recurrent", "recurrent, convolutional, or a name that a file of --module registers")
    decoder: str = option(
        "recurrent", "recurrent, hybrid, hierarchical, stepwise, or a name that a file of --module registers"
    )
    encoder_hidden_dim: int = option(256, "size of each direction of the encoder", at_least(1))
    encoder_layers: int = option(1, "number of encoder layers", at_least(1))
    encoder_residual: bool = option(False, "add residual connections between the encoder's layers")
    encoder_pooling: ChoiceEnum(list(POOLINGS)) = option(
        "last", "recurrent encoder: the states that z is made of: the last ones, or the mean or maximum of all"
    )
    decoder_hidden_dim: int = option(256, "size of each decoder layer", at_least(1))
    decoder_layers: int = option(1, "number of decoder layers", at_least(1))
    decoder_residual: bool = option(False, "add residual connections between the decoder's layers")
    latent_dim: int = option(
        32, "size of the latent vector z", at_least(0), {0: "a language model, which has no encoder"}
    )
    latent_family: str = option(
        "gaussian",
        "what q(z|x) and the prior are: gaussian, delta (gaussian with a floor under the KL), vmf (on the sphere), or "
        "a name that a file of --module registers",
    )
    mean_norm: float = option(
        0.0,
        "normalise the mean of q(z|x) over the batch to this standard deviation, such as 0.6: the mean KL is then at "
        "least --latent-dim * SCALE^2 / 2 nats",
        at_least(0),
        {0: "off"},
    )
    freeze_batch_norm: bool = option(
        False,
        "fine-tuning: normalise batches by the statistics that the checkpoint brings (convolutions, --mean-norm), "
        "which stay as they are; for few sequences, or ones unlike those of the first training",
    )
    kl_floor: float = option(
        0.0, "with --latent-family delta: least KL of each dimension, in nats", between(0, 10), {0: "none"}
    )
    vmf_kappa: float = option(
        80.0,
        "with --latent-family vmf: concentration of q(z|x), which fixes the KL",
        between(0, 100_000, low_open=True),
    )
    latent_input: bool = option(False, "give z to the decoder at each step, not only as its initial state")
    latent_output: bool = option(False, "add a linear map of z to what the decoder's output is made of")
    label_dim: int = option(16, "with --labels: size of the decoder's embedding of a label", at_least(1))
    conv_channels: str = option(
        "96,160,224",
        "encoder convolutional and decoder hybrid: channels of the encoder's convolutions, separated by commas; each "
        "halves the number of positions, and the decoder has them in reverse",
    )
    latent_positions: int = option(
        0,
        "encoder convolutional, decoders hybrid, hierarchical, stepwise: tokens of the longest sequence, EOS included",
        at_least(0),
        {0: "as many as --fixed-length"},
    )
    segment_length: int = option(
        16,
        "decoder hierarchical: tokens of a segment, such as a bar, which has a vector of its own; --lookback counts "
        "segments",
        at_least(1),
    )
    conductor_dim: int = option(256, "decoder hierarchical: size of the LSTM that makes these vectors", at_least(1))
    segment_channels: Optional[str] = option(
        None,
        "decoder hierarchical: unroll each vector to features of the segment's steps by transposed convolutions with "
        "these channels, such as 128,96, each of which doubles the steps; the steps read the features instead of the "
        "vector, which also gets a linear part of z, and --auxiliary-weight applies; without this flag none",
    )
    lookback: Optional[str] = option(
        None,
        "decoders recurrent and hierarchical: give them the tokens at the same place so many segments before too; "
        "numbers separated by commas, such as 1,2,4,8; without this flag none",
    )
    dropout: float = option(
        0.1,
        "share of numbers set to 0 in training, in embeddings, between layers and before the output",
        _SHARE_BELOW_ONE,
        {0: "off"},
    )
    word_dropout: float = option(
        0.0,
        "share of the decoder's input tokens hidden in training, so that it has to use z",
        _SHARE_BELOW_ONE,
        {0: "off"},
    )
    no_share_embeddings: bool = option(False, "give encoder and decoder separate embeddings")
    share_output_embed: bool = option(False, "use the decoder's embeddings as its output matrix too")
    init_decoder: Optional[str] = option(
        None,
        "start the decoder and its embeddings from this checkpoint, of a SeqVAE or of fairseq's lstm_lm",
        group="Warm start",
    )
    init_encoder: Optional[str] = option(None, "start the encoder and its embeddings from this checkpoint of a SeqVAE")
    init_embeddings: Optional[str] = option(
        None, "start the embeddings from this text file of vectors, as word2vec and GloVe write them"
    )
    init_dictionary: Optional[str] = option(
        None,
        "dict.txt of the data that the checkpoints above were trained on, where it is another one: symbols are then "
        "matched by name",
    )
    module: Optional[str] = option(
        None,
        "Python file that registers parts of your own: encoders, decoders, latent families, discriminators; several "
        "are separated by commas",
        group="Extensions",
    )
    disc_module: Optional[str] = option(None, "another name of --module; both may be given")
    discriminator: str = option("cnn", "cnn, rnn, or a name that a file of --module registers", group="Discriminator")
    disc_embed_dim: int = option(64, "size of the discriminator's embeddings", at_least(1))
    disc_widths: str = option("1,2,3,4,5", "cnn: widths of the convolutions in tokens, separated by commas")
    disc_features: str = option(
        "64", "cnn: number of features, one for all widths or one for each, separated by commas"
    )
    disc_highway_layers: int = option(1, "cnn: number of highway layers", at_least(0), {0: "none"})
    disc_tied_highway: bool = option(
        False, "cnn: use one matrix as transform and gate of a highway layer, which halves the work"
    )
    disc_hidden_dim: int = option(128, "rnn: size of each direction", at_least(1))
    disc_layers: int = option(1, "rnn: number of layers", at_least(1))
    disc_dropout: float = option(
        0.25, "share of numbers set to 0 in training, in the discriminator", _SHARE_BELOW_ONE, {0: "off"}
    )
    disc_spectral_norm: bool = option(
        False,
        "cnn: divide each weight matrix of the discriminator, embeddings aside, by its largest singular value, which "
        "bounds its slope",
    )
    disc_inputs: str = option(
        "tokens",
        "what the discriminator is given, separated by commas: tokens; ngrams, how often the n-grams of a sequence are "
        "in the training data without that sequence itself; likelihood, the log-probabilities of its tokens under a "
        "language model that rests",
    )
    disc_ngrams: int = option(2, "with --disc-inputs ngrams: longest n-grams, in tokens", between(1, 8))
    disc_lm: Optional[str] = option(
        None,
        "with --disc-inputs likelihood: checkpoint of the language model, of --latent-dim 0; without this flag the "
        "decoder as it is when the discriminator starts to learn",
    )
    # owned by the task
    fixed_length: int = II("task.fixed_length")
    max_positions: int = II("task.max_positions")
    labels: Optional[str] = II("task.labels")

    RELATIONS = [
        Relation(
            ("disc_inputs",),
            lambda names: bool(disc_inputs(names)),
            "--disc-inputs must be some of tokens, ngrams, likelihood, separated by commas, but is '{disc_inputs}'.",
        ),
        Relation(
            ("disc_lm", "disc_inputs"),
            lambda path, names: not path or "likelihood" in disc_inputs(names),
            "--disc-lm {disc_lm} needs --disc-inputs with likelihood, not {disc_inputs}.",
        ),
        Relation(
            ("disc_spectral_norm", "discriminator"),
            lambda normalised, discriminator: not normalised or discriminator != "rnn",
            "--disc-spectral-norm is for --discriminator cnn, not {discriminator}: omit it.",
        ),
        Relation(
            ("latent_dim", "no_share_embeddings"),
            lambda latent_dim, separate: latent_dim > 0 or not separate,
            "--no-share-embeddings needs an encoder, but --latent-dim {latent_dim} has none: omit one of the two.",
        ),
        Relation(
            ("latent_dim", "decoder", "latent_output"),
            lambda latent_dim, decoder, latent_output: latent_dim > 0 or (decoder == "recurrent" and not latent_output),
            "--latent-dim {latent_dim} leaves no z for --decoder {decoder} or --latent-output: omit them.",
        ),
        Relation(
            ("conv_channels",),
            lambda channels: bool(whole_numbers(channels)),
            "--conv-channels must be whole numbers of at least 1, separated by commas, such as 96,160,224, but is "
            "'{conv_channels}'.",
        ),
        Relation(
            ("segment_channels",),
            lambda channels: channels is None or bool(whole_numbers(channels)),
            "--segment-channels must be whole numbers of at least 1, separated by commas, such as 128,96, but is "
            "'{segment_channels}'.",
        ),
        Relation(
            ("segment_channels", "decoder"),
            lambda channels, decoder: not channels or decoder not in ("recurrent", "hybrid", "stepwise"),
            "--segment-channels {segment_channels} is for --decoder hierarchical, not {decoder}: omit it.",
        ),
        Relation(
            ("lookback",),
            lambda lookback: lookback is None or bool(whole_numbers(lookback)),
            "--lookback must be whole numbers of at least 1, separated by commas, such as 1,2,4,8, but is "
            "'{lookback}'.",
        ),
        Relation(
            ("lookback", "segment_length", "latent_positions", "fixed_length"),
            lambda lookback, length, positions, fixed: (
                not lookback or max(whole_numbers(lookback)) * length < (positions or fixed or math.inf)
            ),
            "--lookback {lookback}, in segments of {segment_length} tokens, reaches back beyond the longest sequence "
            "(--latent-positions or --fixed-length): omit the largest numbers.",
        ),
        Relation(
            ("lookback", "decoder"),
            lambda lookback, decoder: not lookback or decoder not in ("hybrid", "stepwise"),
            "--lookback {lookback} is for --decoder recurrent or hierarchical, not {decoder}: omit it.",
        ),
        Relation(
            ("encoder", "decoder", "latent_positions", "fixed_length"),
            lambda encoder, decoder, positions, fixed: not _knows_positions(encoder, decoder) or positions or fixed,
            "--encoder {encoder} with --decoder {decoder} needs the length of the longest sequence: give "
            "--latent-positions (EOS included), or --fixed-length if all have the same.",
        ),
        Relation(
            ("decoder", "latent_dim", "latent_positions", "fixed_length"),
            lambda decoder, size, positions, fixed: decoder != "stepwise" or size % (positions or fixed or 1) == 0,
            "--decoder stepwise gives each step an equal part of z: --latent-dim {latent_dim} must be a multiple of "
            "--latent-positions {latent_positions} (or of --fixed-length {fixed_length}).",
        ),
        Relation(
            ("decoder", "latent_input", "latent_output"),
            lambda decoder, given, added: decoder != "stepwise" or not (given or added),
            "--decoder stepwise reads its part of z at each step: omit --latent-input and --latent-output.",
        ),
        Relation(
            ("latent_positions", "fixed_length"),
            lambda positions, fixed: not positions or positions >= fixed,
            "--latent-positions {latent_positions} is below --fixed-length {fixed_length}: omit it.",
        ),
        Relation(
            ("latent_dim", "init_encoder"),
            lambda latent_dim, init: latent_dim > 0 or not init,
            "--init-encoder needs an encoder, but --latent-dim {latent_dim} has none: omit one of the two.",
        ),
        Relation(
            ("init_embeddings", "init_decoder", "init_encoder"),
            lambda vectors, decoder, encoder: not vectors or not (decoder or encoder),
            "--init-embeddings and a checkpoint of --init-decoder or --init-encoder both bring embeddings: omit one.",
        ),
        Relation(
            ("init_dictionary", "init_decoder", "init_encoder"),
            lambda dictionary, decoder, encoder: not dictionary or bool(decoder or encoder),
            "--init-dictionary {init_dictionary} is the dictionary of a checkpoint: give --init-decoder or "
            "--init-encoder too.",
        ),
        Relation(
            ("latent_family", "latent_dim"),
            lambda family, latent_dim: family == "gaussian" or latent_dim > 0,
            "--latent-family {latent_family} needs a latent vector, but --latent-dim {latent_dim} has none: omit one "
            "of the two.",
        ),
        Relation(
            ("latent_family", "latent_dim"),
            lambda family, latent_dim: family != "vmf" or latent_dim >= 2,
            "--latent-family vmf is on a sphere, which needs a --latent-dim of at least 2, not {latent_dim}.",
        ),
        Relation(
            ("mean_norm", "latent_dim"),
            lambda scale, latent_dim: scale == 0 or latent_dim > 0,
            "--mean-norm {mean_norm} needs an encoder, but --latent-dim {latent_dim} has none: omit one of the two.",
        ),
        Relation(
            ("mean_norm", "latent_family"),
            lambda scale, family: scale == 0 or family != "vmf",
            "--mean-norm {mean_norm} has no meaning for --latent-family vmf, whose mean is a direction: omit it.",
        ),
        Relation(
            ("kl_floor", "latent_family"),
            lambda floor, family: floor == 0 or family == "delta",
            "--kl-floor {kl_floor} needs --latent-family delta, not {latent_family}.",
        ),
        Relation(
            ("latent_family", "kl_floor"),
            lambda family, floor: family != "delta" or floor > 0,
            "--latent-family delta needs a --kl-floor above 0, in nats per dimension, such as 0.1.",
        ),
    ]


@dataclass
class ConvolutionalOptions:
    """What options of the model must fulfil where ``--discriminator cnn`` is built: in training, not in generation."""

    RELATIONS = [
        Relation(
            ("disc_widths",),
            lambda widths: bool(whole_numbers(widths)),
            "--disc-widths must be whole numbers of at least 1, separated by commas, such as 1,2,3, but is "
            "'{disc_widths}'.",
        ),
        Relation(
            ("disc_features",),
            lambda features: bool(whole_numbers(features)),
            "--disc-features must be whole numbers of at least 1, separated by commas, such as 100,200,200, but is "
            "'{disc_features}'.",
        ),
        Relation(
            ("disc_widths", "max_positions"),
            lambda widths, longest: max(whole_numbers(widths)) <= longest,
            "--disc-widths {disc_widths} has a width above --max-positions {max_positions}, the longest sequence: give "
            "smaller ones.",
        ),
        Relation(
            ("disc_features", "disc_widths"),
            lambda features, widths: len(whole_numbers(features)) in (1, len(whole_numbers(widths))),
            "--disc-features {disc_features} must be one number, or one for each of --disc-widths {disc_widths}.",
        ),
    ]


@dataclass
class SeqVAEOracleConfig(SeqVAEConfig):
    """``--arch seqvae_oracle``: the sizes of the paper's synthetic experiment."""

    embed_dim: int = 64
    encoder_hidden_dim: int = 64
    encoder_layers: int = 2
    encoder_residual: bool = True
    decoder_hidden_dim: int = 32
    latent_dim: int = 64
    dropout: float = 0.0
    disc_widths: str = "1,2,3,4,5,6,7,8,9,10,15,20"
    disc_features: str = "100,200,200,200,200,100,100,100,100,100,160,160"


@dataclass
class SeqVAEMelodyConfig(SeqVAEConfig):
    """``--arch seqvae_melody``: the sizes of the paper's melody experiment."""

    embed_dim: int = 256
    encoder_hidden_dim: int = 256
    encoder_layers: int = 2
    encoder_residual: bool = True
    decoder_hidden_dim: int = 256
    decoder_layers: int = 2
    decoder_residual: bool = True
    latent_dim: int = 256
    dropout: float = 0.25
    discriminator: str = "rnn"
    disc_hidden_dim: int = 256
    disc_layers: int = 2


@dataclass
class SeqVAETextConfig(SeqVAEConfig):
    """``--arch seqvae_text``: the sizes that papers on text VAEs use (embedding 512, hidden 1024, Z 32)."""

    embed_dim: int = 512
    encoder_hidden_dim: int = 1024
    decoder_hidden_dim: int = 1024
    latent_dim: int = 32
    latent_input: bool = True
    dropout: float = 0.5
    disc_embed_dim: int = 128
    disc_features: str = "128"
