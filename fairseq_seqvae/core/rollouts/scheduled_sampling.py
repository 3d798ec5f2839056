"""Inputs of a decoder in training, of which some are its own samples instead of the data (Bengio et al. 2015).

There, the decoder runs step by step and each sample depends on those before it. Here it is two passes over all steps
at once, as in Mihaylova, Martins 2019 and Duckworth et al. 2019 ("parallel scheduled sampling"): the first reads the
data and draws the token that would follow each prefix of it; the second reads the mixture.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.categorical import pick_in_blocks


class InputMix(NamedTuple):
    """How inputs are mixed.

    Attributes:
        share: of the inputs that are samples
        choice_keys: (B,), keys of the random numbers that say which inputs these are
        token_keys: (B,), of those that draw the samples
    """

    share: float
    choice_keys: Tensor
    token_keys: Tensor


@torch.no_grad()
def mixed_inputs(
    inputs: Tensor, features: Tensor, logits_of: Callable[[Tensor], Tensor], mix: InputMix, pad: int
) -> Tensor:
    """*inputs* (B, T) with a share of them drawn from what the decoder expected there.

    Neither the first input, which says nothing of the data, nor padding is replaced. The random numbers of an input
    depend on its sentence and its place alone.

    Args:
        inputs: the first one of each sequence, then all its tokens but the last; padded on the right
        features: (B, T, D), that the decoder has made of them
        logits_of: of features (R, D), those of the next token (R, V)
        mix: see :class:`InputMix`
        pad: the padding token
    """
    length = inputs.size(1)
    uniform = noise.uniforms(mix.token_keys, length)
    sampled = pick_in_blocks(logits_of, features.flatten(0, 1), uniform.flatten()).view_as(inputs)
    # What is drawn at a step is the input of the next one.
    sampled = torch.cat([inputs[:, :1], sampled[:, :-1]], dim=1)
    replaced = noise.uniforms(mix.choice_keys, length) < mix.share
    replaced[:, 0] = False
    return torch.where(replaced & (inputs != pad), sampled, inputs)
