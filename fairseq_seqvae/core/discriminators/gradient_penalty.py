"""A penalty on the slope of a discriminator between real and fake sequences."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Batch = tuple[Tensor, Tensor]  # tokens (B, T), padding mask (B, T)


def gradient_penalty(discriminator: Any, real: Batch, fake: Batch, shares: Tensor) -> Tensor:
    """(|slope| - 1)^2 at a point between each real sequence and a fake one, (B,) float32, with gradient.

    Gulrajani et al. 2017, "Improved training of Wasserstein GANs". Tokens have nothing between them, so the points lie
    between their embeddings, place by place; the shorter sequence is filled up with zero vectors, as padding is. There
    the embeddings learn, too: the slope is measured in units of their root mean square length, or longer embeddings
    would evade the penalty.

    Args:
        discriminator: one with ``embedding``, an ``nn.Embedding``, and ``judge_embedded(embedded (B, T, E),
            padding_mask)``, from which gradients of gradients can be taken
        real: tokens and padding mask of the data
        fake: as many samples, of any width
        shares: (B,) in [0, 1], of the real sequence in each point
    """
    width = max(real[0].size(1), fake[0].size(1))
    embedding = discriminator.embedding
    embedded, masks = [], []
    for tokens, mask in (real, fake):
        missing = width - tokens.size(1)
        vectors = embedding(tokens).masked_fill(mask.unsqueeze(2), 0.0).detach()
        embedded.append(F.pad(vectors, (0, 0, 0, missing)))
        masks.append(F.pad(mask, (0, missing), value=True))
    share = shares.to(embedded[0].dtype).view(-1, 1, 1)
    between = (share * embedded[0] + (1 - share) * embedded[1]).requires_grad_()
    # cuDNN knows no gradients of gradients of recurrent networks.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
        logits = discriminator.judge_embedded(between, masks[0] & masks[1])
        (slope,) = torch.autograd.grad(logits.float().sum(), between, create_graph=True)
    length = embedding.weight.float().square().sum(dim=1).mean().sqrt()
    norm = slope.float().flatten(1).square().sum(dim=1).add(1e-12).sqrt()  # its gradient at 0 would be NaN
    return (norm * length - 1).square()
