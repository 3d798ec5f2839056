"""Counter-based random numbers: distribution, independence, and that nothing but the counter matters."""

import functools
import itertools
import math
import statistics

import numpy as np
import oracles
import pytest
import torch
from scipy import stats

from fairseq_seqvae.core.noise import Stream, normal, row_keys, uniform, uniforms

N = 50_000
INT64 = torch.iinfo(torch.int64)

# Families of keys that differ in one argument alone, by neighbouring values: where a weak mixer fails first.
BUILDERS = {
    "id": lambda n: row_keys(1, 2, Stream.PRIOR, torch.arange(n)),
    "rollout": lambda n: row_keys(1, 2, Stream.PRIOR, torch.zeros(n, dtype=torch.long), torch.arange(n)),
    "negative id": lambda n: row_keys(1, 2, Stream.PRIOR, -torch.arange(n)),
    "huge id": lambda n: row_keys(1, 2, Stream.PRIOR, INT64.max - torch.arange(n)),
    "high bits of the id": lambda n: row_keys(1, 2, Stream.PRIOR, torch.arange(n) << 40),
    # One call a key: fewer of them.
    "update": lambda n: torch.cat([row_keys(1, u, Stream.PRIOR, torch.tensor([7])) for u in range(n // 8)]),
    "seed": lambda n: torch.cat([row_keys(s, 3, Stream.PRIOR, torch.tensor([7])) for s in range(n // 8)]),
}

families = pytest.mark.parametrize("family", BUILDERS)


@functools.cache
def keys_of(family):
    return BUILDERS[family](N)


def assert_uniform(draws, cells=256):
    draws = np.asarray(draws, dtype=np.float64)
    assert draws.min() > 0 and draws.max() < 1
    n, z = len(draws), oracles.normal_quantile()
    # A uniform number has the variance 1/12; its squared deviation has the variance 1/80 - 1/144 = 1/180.
    assert abs(draws.mean() - 0.5) < z * math.sqrt(1 / 12 / n)
    assert abs(((draws - 0.5) ** 2).mean() - 1 / 12) < z * math.sqrt(1 / 180 / n)
    oracles.assert_frequencies(np.histogram(draws, bins=cells, range=(0, 1))[0], np.full(cells, 1 / cells))


def assert_independent(first, second, cells=16):
    """No linear correlation, all pairs of cells and all differences equally likely."""
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert abs(np.corrcoef(first, second)[0, 1]) < oracles.normal_quantile() / math.sqrt(len(first))
    pairs = np.histogram2d(first, second, bins=cells, range=[[0, 1], [0, 1]])[0].ravel()
    oracles.assert_frequencies(pairs, np.full(cells * cells, 1 / cells**2))
    # Counters that are mixed too little keep their distance: the differences crowd together.
    differences = np.histogram((first - second) % 1, bins=256, range=(0, 1))[0]
    oracles.assert_frequencies(differences, np.full(256, 1 / 256))


class TestRowKeys:
    def test_are_int64_one_a_row(self):
        keys = row_keys(1, 2, Stream.FAKE, torch.arange(5))
        assert keys.shape == (5,) and keys.dtype == torch.int64

    def test_equal_arguments_give_equal_keys(self):
        ids = torch.tensor([3, 9, 3])
        first, second = row_keys(1, 2, Stream.FAKE, ids), row_keys(1, 2, Stream.FAKE, ids)
        assert torch.equal(first, second)
        assert first[0] == first[2] != first[1]

    def test_depend_on_each_row_alone(self):
        ids, rollouts = torch.tensor([5, -1, 12345678901, 0]), torch.tensor([0, 3, 1, 2])
        keys = row_keys(1, 2, Stream.ROLLOUT, ids, rollouts)
        order = torch.tensor([2, 0, 3, 1])
        assert torch.equal(row_keys(1, 2, Stream.ROLLOUT, ids[order], rollouts[order]), keys[order])
        for row in range(4):
            alone = row_keys(1, 2, Stream.ROLLOUT, ids[row : row + 1], rollouts[row : row + 1])
            assert torch.equal(alone, keys[row : row + 1])

    def test_one_rollout_number_serves_all_rows(self):
        ids = torch.arange(4)
        expected = row_keys(1, 2, Stream.ROLLOUT, ids, torch.full((4,), 3))
        assert torch.equal(row_keys(1, 2, Stream.ROLLOUT, ids, 3), expected)
        assert torch.equal(row_keys(1, 2, Stream.ROLLOUT, ids), row_keys(1, 2, Stream.ROLLOUT, ids, 0))

    def test_never_meet_on_a_grid_of_small_arguments(self):
        ids = torch.arange(-10, 50)
        keys = [
            row_keys(seed, update, stream, ids, rollout)
            for seed, update, stream, rollout in itertools.product(range(4), range(8), Stream, range(4))
        ]
        flat = torch.cat(keys)
        assert flat.unique().numel() == flat.numel()

    def test_arguments_are_not_interchangeable(self):
        def key(seed, update, stream, sentence, rollout):
            return row_keys(seed, update, stream, torch.tensor([sentence]), rollout).item()

        keys = {key(*order) for order in itertools.permutations([0, 1, 2, 3, 4])}
        assert len(keys) == 120

    def test_extreme_arguments_are_accepted(self):
        ids = torch.tensor([INT64.min, INT64.min + 1, -1, 0, 1, INT64.max - 1, INT64.max])
        keys = [row_keys(seed, update, 0, ids) for seed in (0, -1, 2**32, 2**63 - 1) for update in (0, 10**9)]
        flat = torch.cat(keys)
        assert flat.unique().numel() == flat.numel()
        draws = uniforms(flat, 8)
        assert draws.min() > 0 and draws.max() < 1

    def test_inputs_are_not_modified(self):
        ids, rollouts = torch.arange(3), torch.arange(3)
        keys = row_keys(1, 2, 0, ids, rollouts)
        before = keys.clone()
        uniforms(keys, 3)
        normal(keys, 3)
        assert ids.tolist() == rollouts.tolist() == [0, 1, 2] and torch.equal(keys, before)

    def test_streams_have_numbers_of_their_own(self):
        names = {"POSTERIOR", "PRIOR", "TRAJECTORY", "FAKE", "ROLLOUT", "WORD_DROPOUT"}
        assert names <= set(Stream.__members__)
        # An alias of an enum would draw the same numbers twice.
        assert len(Stream.__members__) == len({int(stream) for stream in Stream})


class TestUniform:
    @families
    @pytest.mark.parametrize("step", [0, 1, 1000])
    def test_is_uniform_over_neighbouring_keys(self, family, step):
        draws = uniform(keys_of(family), step)
        assert draws.dtype == torch.float32
        assert_uniform(draws)

    def test_is_uniform_over_the_steps_of_one_key(self):
        assert_uniform(uniforms(row_keys(5, 6, Stream.FAKE, torch.tensor([0])), N)[0])

    def test_low_bits_are_uniform_too(self):
        # The last bits of a float32 in [0.5, 1): a mixer that moves bits in one direction only leaves them poor.
        draws = uniform(row_keys(5, 6, Stream.FAKE, torch.arange(N)), 0).double().numpy()
        oracles.assert_frequencies(np.histogram(draws * 2**12 % 1, bins=64, range=(0, 1))[0], np.full(64, 1 / 64))

    def test_never_reaches_zero_or_one(self):
        lowest, highest = 1.0, 0.0
        # 2^26 numbers: of those that are rounded to float32 carelessly, one in 2^24 or 2^25 is 0 or 1.
        for sentence in range(64):
            draws = uniforms(row_keys(0, 0, Stream.FAKE, torch.tensor([sentence])), 1 << 20)
            lowest, highest = min(lowest, draws.min().item()), max(highest, draws.max().item())
        assert 0 < lowest < 1e-5 and 1 - 1e-5 < highest < 1

    def test_columns_of_uniforms_are_its_steps(self):
        keys = row_keys(1, 2, Stream.FAKE, torch.arange(6))
        expected = torch.stack([uniform(keys, t) for t in range(5)], dim=1)
        assert torch.equal(uniforms(keys, 5), expected)
        assert uniforms(keys, 1).shape == (6, 1)

    def test_depends_on_key_and_step_alone(self):
        keys = row_keys(1, 2, Stream.FAKE, torch.arange(9))
        whole, order = uniform(keys, 4), torch.tensor([8, 0, 3])
        assert torch.equal(uniform(keys[order], 4), whole[order])
        assert torch.equal(uniform(keys, 4), whole)

    @families
    def test_steps_are_independent(self, family):
        draws = uniforms(keys_of(family), 4)
        for near, far in ((0, 1), (1, 2), (0, 3)):
            assert_independent(draws[:, near], draws[:, far], cells=8)

    @families
    def test_neighbouring_keys_are_independent(self, family):
        draws = uniform(keys_of(family), 0)
        assert_independent(draws[:-1:2], draws[1::2], cells=8)
        assert_independent(draws[:-7], draws[7:], cells=8)

    def test_streams_updates_seeds_and_rollouts_are_independent(self):
        ids = torch.arange(N)
        reference = uniform(row_keys(1, 2, Stream.PRIOR, ids), 0)
        others = [row_keys(1, 2, stream, ids) for stream in Stream if stream != Stream.PRIOR]
        others += [row_keys(seed, 2, Stream.PRIOR, ids) for seed in (0, 2, 257)]
        others += [row_keys(1, update, Stream.PRIOR, ids) for update in (0, 1, 3, 258)]
        others += [row_keys(1, 2, Stream.PRIOR, ids, rollout) for rollout in (1, 2, 15)]
        for keys in others:
            assert_independent(reference, uniform(keys, 0))

    def test_key_plus_step_does_not_repeat_a_neighbour(self):
        # Where keys were added to counters, row r at step t would repeat row r + 1 at step t - 1.
        draws = uniforms(row_keys(1, 2, Stream.FAKE, torch.arange(300)), 300)
        same = draws.reshape(-1).unique().numel()
        # 90,000 draws from 2^23 or more values: chance makes about 480 pairs meet, shifted rows nearly all.
        assert same > 90_000 - 1000


class TestNormal:
    def test_moments(self):
        draws = normal(row_keys(1, 2, Stream.PRIOR, torch.arange(N)), 4).double().reshape(-1)
        n, z = len(draws), oracles.normal_quantile()
        # Variances of x, x^2, x^3, x^4: 1, 2, 15, 96.
        for power, (moment, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
            assert abs((draws**power).mean().item() - moment) < z * math.sqrt(variance / n)

    @families
    def test_passes_kolmogorov_smirnov(self, family):
        draws = normal(keys_of(family), 2)
        assert draws.dtype == torch.float32 and draws.shape[1] == 2
        for column in range(2):
            assert stats.kstest(draws[:, column].numpy(), "norm").pvalue > oracles.CHANCE

    def test_tails_are_neither_cut_nor_infinite(self):
        draws = normal(row_keys(1, 2, Stream.PRIOR, torch.arange(1 << 15)), 64)
        assert torch.isfinite(draws).all()
        n = draws.numel()
        for threshold in (3.0, 4.0):
            expected = n * 2 * stats.norm.sf(threshold)
            beyond = int((draws.abs() > threshold).sum())
            assert abs(beyond - expected) < oracles.normal_quantile() * math.sqrt(expected)
        # The largest of 2 million has a median of 5.1; below 4.3 with probability 2e-16.
        assert draws.abs().max() > 4.3

    def test_columns_are_uncorrelated(self):
        draws = normal(row_keys(3, 1, Stream.PRIOR, torch.arange(N)), 5).double().numpy()
        correlation, squares = np.corrcoef(draws.T), np.corrcoef((draws**2).T)
        bound = oracles.normal_quantile() / math.sqrt(N)
        for i, j in itertools.combinations(range(5), 2):
            assert abs(correlation[i, j]) < bound and abs(squares[i, j]) < bound

    def test_is_independent_between_streams(self):
        ids = torch.arange(N)
        draws = [normal(row_keys(1, 2, stream, ids), 1)[:, 0].double().numpy() for stream in Stream]
        correlation = np.corrcoef(np.stack(draws))
        off_diagonal = np.abs(correlation[~np.eye(len(draws), dtype=bool)])
        assert off_diagonal.max() < oracles.normal_quantile() / math.sqrt(N)

    def test_a_number_does_not_depend_on_how_many_are_drawn(self):
        keys = row_keys(1, 2, Stream.PRIOR, torch.arange(6))
        wide = normal(keys, 9)
        for n in (1, 2, 3, 8):
            assert torch.equal(normal(keys, n), wide[:, :n])

    def test_depends_on_the_row_alone(self):
        keys = row_keys(1, 2, Stream.PRIOR, torch.arange(33))
        whole, order = normal(keys, 7), torch.tensor([32, 4, 0, 17, 4])
        assert torch.equal(normal(keys[order], 7), whole[order])
        for row in (0, 15, 32):
            assert torch.equal(normal(keys[row : row + 1], 7)[0], whole[row])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_numbers_do_not_depend_on_the_device():
    ids = torch.tensor([INT64.min, -1, 0, 1, 12345, INT64.max])
    keys, keys_there = (row_keys(1, 2, Stream.PRIOR, place) for place in (ids, ids.cuda()))
    assert torch.equal(keys_there.cpu(), keys)
    assert torch.equal(uniforms(keys_there, 1000).cpu(), uniforms(keys, 1000))
    # The inverse of the normal distribution function may round differently.
    torch.testing.assert_close(normal(keys_there, 1000).cpu(), normal(keys, 1000), rtol=1e-6, atol=1e-6)


class TestTails:
    """The mixing function maps 0 to 0: so a key that cancels the counter gives the least number."""

    GOLDEN = 0x9E3779B97F4A7C15  # what the counter adds in its first step, modulo 2^64

    def test_normal_numbers_reach_beyond_eight_standard_deviations(self):
        key = torch.tensor([-(self.GOLDEN - 2**64)])
        assert normal(key, 1).item() == pytest.approx(statistics.NormalDist().inv_cdf(2.0**-53), rel=1e-6)
        assert uniform(key, 0).item() == 2.0**-24

    def test_neighbouring_numbers_are_as_fine_as_float32(self):
        # Of so many numbers on 2^23 levels, about 15,000 would be equal to another; on 2^52, few after rounding.
        drawn = normal(torch.arange(500), 1000).flatten()
        assert len(drawn) - len(drawn.unique()) < 5000


def test_the_mixing_function_is_that_of_splitmix():
    """The first numbers of SplitMix64 from the state 0, as its reference implementation prints them."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    expected = [((number >> 41) + 0.5) * 2.0**-23 for number in published]
    key = torch.zeros(1, dtype=torch.long)
    assert uniforms(key, 3).tolist() == [expected]
    assert [uniform(key, step).item() for step in range(3)] == expected
