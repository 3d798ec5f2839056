"""`--pg-region`: how much what it teaches stays within the region. It does not: both sides are measured."""

import pytest
import torch
from commands import make_training

from fairseq_seqvae.core.noise import normal, row_keys
from fairseq_seqvae.core.rollouts.policy import SamplingOptions
from fairseq_seqvae.core.rollouts.rollout import sample


def surprise(model, side):
    """Mean of -log p(token) of samples whose z lies on one side of the median of the first coordinate, nats."""
    ids = torch.arange(600)
    noise = normal(row_keys(1, 0, 0, ids), model.prior.noise_dim)
    noise[:, 0] = side * noise[:, 0].abs()
    keys = row_keys(2, 0, 0, ids)
    model.eval()
    drawn = sample(model.decoder, model.prior.sample(noise), keys, 10, SamplingOptions(with_log_probs=True))
    return float(-drawn.log_probs.sum() / drawn.lengths.sum())


@pytest.mark.slow
def test_the_other_side_is_sharpened_too(toy):
    training = make_training(
        toy.folder,
        "--pg-latent prior --pg-region 0.5 --pg-weight 0 --entropy-weight -1 --value final --adv-d-steps 0",
        "--gen-pretrain-updates 20 --disc-pretrain-updates 0 --adv-g-steps 1 --lr 0.01 --latent-dim 2 --latent-input",
    )
    batches = training.batches()
    for i in range(20):
        training.update(batches[i % len(batches)])
    before = {side: surprise(training.model, side) for side in (1, -1)}
    training.model.train()
    for i in range(30):
        training.update(batches[i % len(batches)])
    fall = {side: before[side] - surprise(training.model, side) for side in (1, -1)}
    assert fall[1] > 0.15
    assert fall[-1] > 0.5 * fall[1]
