"""`match:SOURCE`: the reward that closes the gap between samples and data."""

import math
import types

import pytest
import torch

from fairseq_seqvae.rewards import Run
from fairseq_seqvae.rewards.matching import AT_ONCE, MatchingReward, evenly
from fairseq_seqvae.rewards.rule import RewardError
from fairseq_seqvae.rewards.sources import label, load_sources, names_of
from fairseq_seqvae.rewards.texts import Reader

EOS = 1
SYMBOLS = ["<pad>", "</s>", "a", "b", "c"]


def reader():
    dictionary = types.SimpleNamespace(symbols=SYMBOLS, eos=lambda: EOS)
    return Reader(dictionary)


def run_of(*texts):
    tokens = [[SYMBOLS.index(symbol) for symbol in text.split()] for text in texts]
    return Run(None, lambda: iter(texts), training_tokens=lambda: iter(tokens))


def count_a(samples, **kwargs):
    return [float(sample.split().count("a")) for sample in samples]


def matching(*data, rule=count_a):
    return MatchingReward("match:rule", rule, reader(), run_of(*data))


def score(reward, *samples):
    length = max(len(sample.split()) for sample in samples) + 1
    tokens = torch.zeros(len(samples), length, dtype=torch.long)
    for row, sample in zip(tokens, samples, strict=True):
        found = [SYMBOLS.index(symbol) for symbol in sample.split()] + [EOS]
        row[: len(found)] = torch.tensor(found)
    return reward.score(tokens, tokens.eq(0)).tolist()


def test_by_hand():
    # of the data: mean 1, standard deviation 1; of the samples: 3, 1, 0, so 2, 0, -1 in these units
    assert score(matching("a a", "b"), "a a a", "a", "b") == [2 * 0.5, 0, -1 * -1]


def test_samples_like_the_data_earn_nothing_on_the_mean():
    reward = matching("a a", "b", "a a", "b")
    assert score(reward, "a a", "b", "a a", "b") == pytest.approx([1 / 3] * 4)  # each against the other three
    assert score(reward, "a", "a", "a") == [0, 0, 0]


def test_the_gradient_is_that_of_half_the_squared_gap():
    """Expectation over all batches of three, of a policy with one parameter: "a" with probability p, else "b"."""
    reward, p = matching("a", "a", "a", "b"), 0.3
    deviation = math.sqrt(3 / 16)
    expected = 0.0
    for number in range(8):
        batch = ["a" if number >> place & 1 else "b" for place in range(3)]
        slopes = [1 / p if sample == "a" else -1 / (1 - p) for sample in batch]  # of log-probabilities
        likelihood = math.prod(p if sample == "a" else 1 - p for sample in batch)
        expected += likelihood * sum(r * s for r, s in zip(score(reward, *batch), slopes, strict=True)) / 3
    assert expected == pytest.approx((0.75 - p) / deviation**2, rel=1e-5)


def test_what_a_rule_has_no_opinion_of_does_not_count():
    def rule(samples, **kwargs):
        return [None if "c" in sample else float("a" in sample) for sample in samples]

    reward = matching("a", "b", "c", rule=rule)
    found = score(reward, "a", "c", "a", "b")
    assert math.isnan(found[1])
    assert [found[0], *found[2:]] == score(reward, "a", "a", "b")
    assert math.isnan(score(reward, "c")[0])


def test_a_sample_alone_has_nothing_to_be_compared_with():
    assert score(matching("a a", "b"), "a a a") == [0]


def test_the_rule_is_told_of_the_data_what_it_is_told_of_samples():
    told = []

    def rule(samples, tokens, lengths, ended, references, labels):
        told.append((samples, tokens, lengths, ended, labels))
        return count_a(samples)

    score(matching("a b", "c", rule=rule), "a", "b")
    assert told[0] == (["a b", "c"], [[2, 3], [4]], [2, 1], [True, True], None)
    assert told[1][0] == ["a", "b"]


def test_the_data_are_read_once_in_parts():
    sizes = []

    def rule(samples, **kwargs):
        sizes.append(len(samples))
        return count_a(samples)

    reward = matching(*["a", "b"] * 200, rule=rule)
    for _ in range(2):
        score(reward, "a", "b", "b")
    assert sizes == [AT_ONCE, 400 - AT_ONCE, 3, 3]


@pytest.mark.parametrize("answer, said", [("1.5", "says 1.5"), ("None", "says None")])
def test_data_that_are_all_alike_cannot_be_matched(answer, said):
    reward = matching("a", "b", rule=lambda samples, **kwargs: [eval(answer) for _ in samples])
    with pytest.raises(RewardError, match=f"{said} of all training sequences, so there is nothing to match"):
        score(reward, "a", "b")


def test_a_rule_that_fails_on_the_data_is_named():
    with pytest.raises(RewardError, match="the reward 'match:rule' of --reward-sources returned 'x' for the sample"):
        score(matching("a", "b", rule=lambda samples, **kwargs: ["x" for _ in samples]), "a")


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 9, 100])
@pytest.mark.parametrize("most", [4, 5])
def test_evenly(count, most):
    found = evenly(iter(range(count)), most)
    step = 1
    while len(range(0, count, step)) > most:
        step *= 2
    assert found == list(range(0, count, step))


def test_names_of_sources(tmp_path):
    file = tmp_path / "rules.py"
    file.write_text("def count(samples, **kwargs):\n    return [float(len(sample)) for sample in samples]\n")
    sources = ["match:length:3", f"match:{file}:count", f"{file}:count"]
    assert names_of(sources) == ["match:length:3", "match:count", "count"]
    assert label(",".join(sources)) == "match:length:3,match:rules.py:count,rules.py:count"
    loaded = load_sources(",".join(sources), None, run_of("a", "b b"), reader())
    assert [type(loaded.rewards[name]).__name__ for name in loaded.names] == ["MatchingReward"] * 2 + ["RuleReward"]
    with pytest.raises(ValueError, match="'match:discriminator': a discriminator compares samples with the data"):
        load_sources("match:discriminator", None, run_of("a"), reader())
    with pytest.raises(ValueError, match="unknown reward 'lenght'"):
        load_sources("match:lenght:3", None, run_of("a"), reader())
