"""The discriminators that the package ships, built from the model's options."""

import types

import pytest
import torch

pytest.importorskip("fairseq")
from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator  # noqa: E402
from fairseq_seqvae.core.discriminators.registry import DISCRIMINATORS, build_discriminator  # noqa: E402
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator  # noqa: E402
from fairseq_seqvae.models import discriminators  # noqa: E402, F401  (registers)

VOCAB, PAD = 12, 1
OPTIONS = {
    "disc_embed_dim": 6,
    "disc_widths": "1,2,5",
    "disc_features": "3,4,2",
    "disc_highway_layers": 1,
    "disc_tied_highway": False,
    "disc_dropout": 0.25,
    "disc_hidden_dim": 5,
    "disc_layers": 2,
    "max_positions": 50,
}


def build(name, **options):
    return build_discriminator(name, types.SimpleNamespace(**OPTIONS | options), VOCAB, PAD)


@pytest.mark.parametrize("name, cls", [("cnn", ConvolutionalDiscriminator), ("rnn", RecurrentDiscriminator)])
def test_they_are_registered(name, cls):
    network = build(name)
    assert type(network) is cls
    tokens = torch.randint(2, VOCAB, (4, 7))
    assert network(tokens, torch.zeros(4, 7, dtype=torch.bool)).shape == (4,)


def test_the_options_reach_the_network():
    cnn = build("cnn", disc_features="7", disc_highway_layers=2, disc_tied_highway=True, disc_dropout=0.5)
    assert [c.out_channels for c in cnn.convolutions] == [7, 7, 7] and cnn.widths == [1, 2, 5]
    assert len(cnn.highway) == 2 and cnn.highway[0].gate is None and cnn.dropout.p == 0.5
    rnn = build("rnn", disc_hidden_dim=9)
    assert rnn.lstm.output_dim == 18 and len(rnn.lstm.forward_layers) == 2 and rnn.embedding.embedding_dim == 6


@pytest.mark.parametrize(
    "options, message",
    [
        ({"disc_widths": "1,two"}, "--disc-widths.*two"),
        ({"disc_widths": "1,60"}, "--disc-widths 1,60 has a width above --max-positions 50"),
    ],
)
def test_bad_options_name_the_flag(options, message):
    with pytest.raises(ValueError, match=message):
        build("cnn", **options)


def test_an_unknown_name_lists_the_known_ones():
    assert {"cnn", "rnn"} <= set(DISCRIMINATORS)
    with pytest.raises(ValueError, match="transformer.*cnn.*rnn"):
        build("transformer")
