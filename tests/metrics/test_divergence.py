"""The divergence of a policy from a reference, against sums over the vocabulary in plain Python."""

import math

import pytest
import torch
from toys import EOS, PAD, VOCAB, WholeHistory

from fairseq_seqvae.metrics import sequence_divergence

TOKENS = torch.tensor([[3, 4, EOS, PAD], [0, 0, 3, EOS], [EOS, PAD, PAD, PAD]])
LENGTHS = torch.tensor([3, 4, 1])
Z = torch.tensor([[0.0], [1.0], [1.0]])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_is_the_sum_over_the_tokens_and_the_vocabulary(temperature):
    policy, reference = WholeHistory(seed=1), WholeHistory(seed=2)
    expected = []
    for row, length, z in zip(TOKENS.tolist(), LENGTHS.tolist(), (0, 1, 1), strict=True):
        total = 0.0
        for t in range(length):
            p, q = policy.next_probs(z, temperature)(row[:t]), reference.next_probs(z)(row[:t])
            total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
        expected.append(total)
    found = sequence_divergence(policy, reference, Z, TOKENS, LENGTHS, temperature)
    assert found.tolist() == pytest.approx(expected, rel=1e-5) and found.dtype == torch.float64


def test_of_a_policy_from_itself_is_nothing():
    assert sequence_divergence(WholeHistory(), WholeHistory(), Z, TOKENS, LENGTHS).tolist() == pytest.approx([0, 0, 0])


def test_the_mean_over_its_draws_is_that_of_whole_sequences():
    """Two tokens long: all pairs, by hand."""
    policy, reference = WholeHistory(seed=1), WholeHistory(seed=2)
    pairs = [(a, b) for a in range(VOCAB) for b in range(VOCAB) if PAD not in (a, b)]
    p, q = policy.next_probs(0), reference.next_probs(0)
    weights = [p([])[a] * p([a])[b] for a, b in pairs]
    whole = sum(w * math.log(w / (q([])[a] * q([a])[b])) for w, (a, b) in zip(weights, pairs, strict=True))
    rows = torch.tensor(pairs)
    found = sequence_divergence(policy, reference, torch.zeros(len(pairs), 1), rows, torch.full((len(pairs),), 2))
    assert float((found * torch.tensor(weights)).sum()) == pytest.approx(whole, rel=1e-5)


def test_a_temperature_must_be_positive():
    with pytest.raises(ValueError, match="`temperature` must be positive but is 0"):
        sequence_divergence(WholeHistory(), WholeHistory(), Z, TOKENS, LENGTHS, 0.0)
