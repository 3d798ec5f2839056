"""Training teaches: by the policy gradient alone on a toy language with known rules, by the ELBO on real names."""

import math
import random
from collections import Counter
from pathlib import Path

import commands
import pytest

NAMES = Path(__file__).resolve().parents[2] / "examples" / "names" / "data"
NUM_SAMPLES = 1000


def digit_sentence(rng: random.Random) -> str:
    """6 to 10 digits, each 1 or 3 above the one before it (mod 10)."""
    digits = [rng.randrange(10)]
    for _ in range(rng.randint(5, 9)):
        digits.append((digits[-1] + rng.choice([1, 3])) % 10)
    return " ".join(map(str, digits))


def is_valid(sentence: str) -> bool:
    symbols = sentence.split()
    if not 6 <= len(symbols) <= 10 or not all(s.isdigit() for s in symbols):
        return False
    return all((int(b) - int(a)) % 10 in (1, 3) for a, b in zip(symbols, symbols[1:], strict=False))


def prior_samples(data: Path, checkpoint: Path) -> list[str]:
    output = commands.generate(
        data, checkpoint, f"--gen-subset prior --num-draws {NUM_SAMPLES} --sampling --beam 1 --seed 5"
    )
    samples = [found[0] for found in commands.texts(output).values()]
    assert len(samples) == NUM_SAMPLES
    return samples


@pytest.fixture(scope="module")
def digits(tmp_path_factory) -> Path:
    rng = random.Random(1)
    lines = {split: [digit_sentence(rng) for _ in range(n)] for split, n in (("train", 1000), ("valid", 50))}
    assert all(map(is_valid, lines["train"]))
    return commands.preprocess(tmp_path_factory.mktemp("digits") / "bin", **lines)


@pytest.mark.slow
@pytest.mark.parametrize("credit", ["step", "to-go"])
def test_the_policy_gradient_alone_teaches_the_rules_of_a_language(digits, tmp_path, credit):
    # The ELBO has no weight in the adversarial part: only the discriminator's judgement can raise the share.
    commands.train(
        digits,
        tmp_path,
        "--embed-dim 16 --encoder-hidden-dim 16 --decoder-hidden-dim 32 --latent-dim 4 --dropout 0",
        "--disc-embed-dim 16 --disc-widths 1,2,3 --disc-features 32",
        "--lr 2e-3 --disc-lr 3e-3 --batch-size 64 --log-interval 100 --disable-validation",
        "--gen-pretrain-updates 120 --disc-pretrain-updates 45 --max-update 485 --save-interval-updates 165",
        "--adv-g-steps 1 --adv-d-steps 1 --num-rollouts 4 --reward-stride 1 --elbo-weight 0",
        f"--pg-credit {credit}",
    )
    before = prior_samples(digits, next(tmp_path.glob("checkpoint_*_165.pt")))
    after = prior_samples(digits, tmp_path / "checkpoint_last.pt")
    share_before, share_after = (sum(map(is_valid, samples)) / NUM_SAMPLES for samples in (before, after))
    # The standard error of a share is at most 0.016, so that of a difference at most 0.023.
    assert share_after > share_before + 0.15, (share_before, share_after)
    # A policy that repeats one good sentence would score, too.
    assert len(set(after)) > NUM_SAMPLES / 2


@pytest.mark.slow
def test_held_out_names_cost_fewer_nats_than_the_entropy_of_their_letters(tmp_path):
    lines = {split: (NAMES / f"{split}.txt").read_text().splitlines() for split in ("train", "valid")}
    data = commands.preprocess(tmp_path / "bin", **lines)
    output = commands.train(
        data,
        tmp_path / "checkpoints",
        "--embed-dim 32 --encoder-hidden-dim 32 --decoder-hidden-dim 64 --latent-dim 8 --dropout 0",
        "--lr 5e-3 --batch-size 64 --log-interval 100 --max-update 250",
        criterion=commands.ELBO,
    )
    symbols = Counter(symbol for line in lines["valid"] for symbol in [*line.split(), "EOS"])
    total = sum(symbols.values())
    unigram_entropy = -sum(n / total * math.log(n / total) for n in symbols.values())
    # The ELBO is a bound: the true cost is lower still.
    bound = float(commands.json_lines(output, "valid")[-1]["valid_nats_per_token"])
    assert bound < unigram_entropy - 0.1, (bound, unigram_entropy)
