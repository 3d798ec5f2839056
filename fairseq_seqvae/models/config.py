"""Options of the model, and the presets as options with other defaults."""

from dataclasses import dataclass, field
from typing import Optional  # fairseq's parser knows Optional but not `| None`

from fairseq.dataclass import FairseqDataclass
from omegaconf import II


@dataclass
class SeqVAEConfig(FairseqDataclass):
    """Options of ``--arch seqvae``: a small model for a first try on a CPU."""

    embed_dim: int = field(default=128, metadata={"help": "size of the token embeddings"})
    encoder_hidden_dim: int = field(default=256, metadata={"help": "size of each direction of the encoder"})
    encoder_layers: int = field(default=1, metadata={"help": "number of encoder layers"})
    encoder_residual: bool = field(
        default=False, metadata={"help": "residual connections between the encoder's layers"}
    )
    decoder_hidden_dim: int = field(default=256, metadata={"help": "size of a decoder layer"})
    decoder_layers: int = field(default=1, metadata={"help": "number of decoder layers"})
    decoder_residual: bool = field(
        default=False, metadata={"help": "residual connections between the decoder's layers"}
    )
    latent_dim: int = field(
        default=32, metadata={"help": "size of the latent vector z; 0: a language model, without encoder"}
    )
    latent_input: bool = field(
        default=False, metadata={"help": "give z to the decoder at each step, besides as its initial state"}
    )
    dropout: float = field(
        default=0.1, metadata={"help": "dropout of embeddings, between layers and before the output"}
    )
    word_dropout: float = field(
        default=0.0,
        metadata={"help": "probability of hiding an input token of the decoder in training: makes it use z"},
    )
    no_share_embeddings: bool = field(
        default=False, metadata={"help": "encoder and decoder have embeddings of their own"}
    )
    share_output_embed: bool = field(
        default=False, metadata={"help": "use the decoder's embeddings as its output matrix too"}
    )
    discriminator: str = field(
        default="cnn", metadata={"help": "cnn, rnn, or a name that the file given by --disc-module registers"}
    )
    disc_module: Optional[str] = field(
        default=None, metadata={"help": "Python file that registers a discriminator of one's own"}
    )
    disc_embed_dim: int = field(default=64, metadata={"help": "size of the discriminator's embeddings"})
    disc_widths: str = field(
        default="1,2,3,4,5", metadata={"help": "cnn: widths of the convolutions, separated by commas"}
    )
    disc_features: str = field(
        default="64", metadata={"help": "cnn: number of features, one for all widths or one for each, by commas"}
    )
    disc_highway_layers: int = field(default=1, metadata={"help": "cnn: number of highway layers"})
    disc_tied_highway: bool = field(
        default=False, metadata={"help": "cnn: one matrix is transform and gate of a highway layer: half of the work"}
    )
    disc_hidden_dim: int = field(default=128, metadata={"help": "rnn: size of each direction"})
    disc_layers: int = field(default=1, metadata={"help": "rnn: number of layers"})
    disc_dropout: float = field(default=0.25, metadata={"help": "dropout of the discriminator"})
    # owned by the task
    fixed_length: int = II("task.fixed_length")
    max_positions: int = II("task.max_positions")


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
