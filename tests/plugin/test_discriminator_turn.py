"""What the model hands to the discriminator in its turn."""

import types

import pytest
import torch

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator

pytest.importorskip("fairseq")
from fairseq_seqvae.models.seqvae import SeqVAEModel  # noqa: E402

PAD, VOCAB = 1, 12


def batch(lengths, seed):
    tokens = torch.randint(2, VOCAB, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(max(lengths)) >= torch.tensor(lengths).unsqueeze(1)
    return tokens.masked_fill(mask, PAD), mask


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
@pytest.mark.parametrize("real_lengths, fake_lengths", [([4, 4], [4, 4]), ([2, 7, 1], [3]), ([1], [5, 9])])
def test_real_and_fake_sequences_of_any_width_get_the_logits_of_their_own(kind, real_lengths, fake_lengths):
    torch.manual_seed(0)
    if kind == "cnn":
        discriminator = ConvolutionalDiscriminator(VOCAB, PAD, 6, [1, 3], [4, 5])
    else:
        discriminator = RecurrentDiscriminator(VOCAB, PAD, 6, 5)
    model = types.SimpleNamespace(
        discriminator=discriminator.eval(), decoder=types.SimpleNamespace(pad=PAD), _untouched=lambda player: 0.0
    )
    real, fake = batch(real_lengths, 1), batch(fake_lengths, 2)
    logits_real, logits_fake, penalty = SeqVAEModel.discriminator_turn(model, *real, *fake)
    assert penalty is None
    torch.testing.assert_close(logits_real, discriminator(*real))
    torch.testing.assert_close(logits_fake, discriminator(*fake))
