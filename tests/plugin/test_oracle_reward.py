"""A reward that knows more than the data, the true probability of a sequence, makes a better model of the language."""

import commands
import pytest
import torch
from commands import make_training

from fairseq_seqvae.measure import figures
from fairseq_seqvae.oracle import Oracle

LENGTH, VOCABULARY = 6, 20
COMMON = (
    f"--fixed-length {LENGTH} --latent-dim 0 --embed-dim 16 --decoder-hidden-dim 16 --dropout 0.1 --lr 0.01 "
    "--batch-size 64 --pg-latent prior --value final --pg-group-size 2 --reward-weights 6"
)
TAUS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)


def data(folder, oracle):
    """Few sequences to learn from, many to judge by."""
    splits = {"train": 200, "valid": 50, "test": 2000}
    lines = {
        split: [" ".join(map(str, row)) for row in oracle.sample(size, LENGTH, 1, draw).tolist()]
        for draw, (split, size) in enumerate(splits.items())
    }
    (folder / "dict.txt").write_text("".join(f"{number} 1\n" for number in range(VOCABULARY)))
    return commands.preprocess(folder / "data", folder / "dict.txt", **lines)


def curve(training, oracle):
    """Oracle NLL of samples and NLL of held-out data, nats per token, at each temperature."""
    model = training.model.eval()
    held_out = figures.read_split(training.task, "test")
    nll = figures.measure_held_out(model, held_out, TAUS, 1, 1)[0]["nll"]
    tokens = [figures.prior_samples(model, 4000, 1, tau).tokens - 4 for tau in TAUS]
    model.train()
    return [(float(oracle.nll(rows).mean()), held) for rows, held in zip(tokens, nll, strict=True)]


def both(folder, seed, likelihood_updates=60, updates=200):
    """The curve of maximum likelihood and, after that, of the reward."""
    oracle = Oracle.from_seed(3, VOCABULARY, 8, 8)
    oracle.save_npz(folder / "oracle.npz")
    flags = f"{COMMON} --reward-sources oracle:{folder}/oracle.npz --entropy-weight 1 --seed {seed}"
    training = make_training(data(folder, oracle), flags, f"--gen-pretrain-updates {likelihood_updates}")
    batches = training.batches()
    for i in range(likelihood_updates):
        training.update(batches[i % len(batches)])
    before = curve(training, oracle)
    for i in range(updates):
        training.update(batches[i % len(batches)])
    return before, curve(training, oracle)


@pytest.mark.slow
def test_both_numbers_are_better_than_the_curve_of_maximum_likelihood(tmp_path):
    before, after = both(tmp_path, 1)
    quality, coverage = after[0]
    assert quality < before[0][0]
    # Held-out data are more likely than under maximum likelihood at any temperature.
    assert coverage < min(held for _, held in before)
    assert torch.isfinite(torch.tensor(after)).all()
