"""The optimizer `seqvae_adam` against the formula and against fairseq's `adam`."""

import math

import pytest
import torch
from omegaconf import OmegaConf

pytest.importorskip("fairseq")
from fairseq.optim.adam import FairseqAdam, FairseqAdamConfig  # noqa: E402

from fairseq_seqvae.optim import SeqVAEAdam  # noqa: E402

LR, BETAS, EPS, DECAY = 0.02, (0.8, 0.95), 1e-8, 0.1


def config(**values):
    defaults = {"lr": [LR], "adam_betas": "(0.8, 0.95)", "adam_eps": EPS, "weight_decay": DECAY, "tpu": False}
    return OmegaConf.merge(OmegaConf.structured(FairseqAdamConfig), {**defaults, **values})


def parameters():
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 2)]
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def steps(optimizer, params, numbers):
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for p in params:
            p.grad = torch.randn(p.shape, generator=generator)
        optimizer.step()


def test_by_the_formula():
    parameter = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = SeqVAEAdam(config(), [parameter])
    x, m, v = 2.0, 0.0, 0.0
    for step, gradient in enumerate([0.5, -1.0, 3.0], start=1):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        m = BETAS[0] * m + (1 - BETAS[0]) * gradient
        v = BETAS[1] * v + (1 - BETAS[1]) * gradient**2
        x -= LR * DECAY * x
        x -= LR * (m / (1 - BETAS[0] ** step)) / (math.sqrt(v / (1 - BETAS[1] ** step)) + EPS)
        assert parameter.item() == pytest.approx(x, rel=1e-6)


def test_moves_as_the_adam_of_fairseq():
    ours, theirs = parameters(), parameters()
    steps(SeqVAEAdam(config(), ours), ours, range(20))
    steps(FairseqAdam(config(), theirs), theirs, range(20))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_torch_that_does_not_fuse_moves_the_same(monkeypatch):
    def unfused(params, fused=False, **options):
        if fused:
            raise RuntimeError("`fused=True` requires all the params to be CUDA")
        return adamw(params, **options)

    adamw = torch.optim.AdamW
    fused, plain = parameters(), parameters()
    steps(SeqVAEAdam(config(), fused), fused, range(5))
    monkeypatch.setattr(torch.optim, "AdamW", unfused)
    steps(SeqVAEAdam(config(), plain), plain, range(5))
    torch.testing.assert_close(plain, fused)


def test_parameters_without_gradient_rest():
    params = parameters()
    optimizer = SeqVAEAdam(config(), params)
    steps(optimizer, params, [0])
    before = params[0].clone()
    params[0].grad = None
    optimizer.step()
    assert torch.equal(params[0], before)


@pytest.mark.parametrize(
    "first, second", [(SeqVAEAdam, SeqVAEAdam), (FairseqAdam, SeqVAEAdam), (SeqVAEAdam, FairseqAdam)]
)
def test_continues_from_a_checkpoint_also_of_the_other(first, second):
    params, whole = parameters(), parameters()
    steps(SeqVAEAdam(config(), whole), whole, range(10))
    optimizer = first(config(), params)
    steps(optimizer, params, range(5))
    resumed = second(config(), params)
    resumed.load_state_dict(optimizer.state_dict(), resumed.optimizer_config)
    steps(resumed, params, range(5, 10))
    torch.testing.assert_close(params, whole, rtol=1e-5, atol=1e-6)
