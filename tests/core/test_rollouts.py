"""Sampling from a policy, completing prefixes, values of prefixes."""

import collections
import math

import numpy as np
import oracles
import pytest
import torch
from toys import EOS, PAD, VOCAB, GroupedMarkov, Script, WholeHistory, Writer

from fairseq_seqvae.core.categorical import pick
from fairseq_seqvae.core.noise import Draws, Stream, row_keys, uniform
from fairseq_seqvae.core.rewards.base import Reward
from fairseq_seqvae.core.rewards.values import prefix_values
from fairseq_seqvae.core.rollouts import completion, sampling
from fairseq_seqvae.core.rollouts.completion import complete_prefixes
from fairseq_seqvae.core.rollouts.policy import RolloutPlan, Trajectory
from fairseq_seqvae.core.rollouts.sampling import SamplingOptions


def make_keys(rows, seed=0):
    return row_keys(seed, 0, Stream.TRAJECTORY, torch.arange(rows))


class OneKeyPerRow:
    """Draws that give all completions of a sequence the same random numbers."""

    def keys(self, stream, ids, numbers):
        return row_keys(0, 0, stream, ids, 0)


class Judge(Reward):
    """A function of tokens and padding mask as a reward."""

    def __init__(self, function):
        self.function = function

    def score(self, tokens, padding_mask):
        return self.function(tokens, padding_mask)


def sample(policy, z, keys, max_len, prefix=None, **options):
    return sampling.sample(policy, z, keys, max_len, SamplingOptions(**options), prefix)


def numbers_as_z(numbers):
    return torch.tensor(numbers, dtype=torch.float32).unsqueeze(1)


def finish(policy, number, prefix, key, max_len):
    """One sequence, token by token: token t is picked with uniform number t of its key."""
    tokens = list(prefix)
    while len(tokens) < max_len and EOS not in tokens:
        logits = policy.next_logits(number, tokens).unsqueeze(0)
        tokens.append(pick(logits, uniform(key.view(1), len(tokens))).item())
    return tokens


def real_tokens(result, row):
    return result.tokens[row, : result.lengths[row]].tolist()


def assert_padded(tokens, lengths):
    """Padding from the length on and only there; an EOS only as the last token."""
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        assert PAD not in row[:length] and set(row[length:]) <= {PAD}
        assert EOS not in row[: length - 1]


def assert_sequences_follow(rows, distribution):
    counts = collections.Counter(tuple(row) for row in rows)
    assert set(counts) <= set(distribution), "a sequence of probability zero was sampled"
    outcomes = sorted(distribution)
    oracles.assert_frequencies([counts[o] for o in outcomes], [distribution[o] for o in outcomes])


class TestSample:
    def test_by_hand(self):
        # The first input is EOS; row lengths follow from the script.
        policy = Script({EOS: 3, 3: 4, 4: 0})
        result = sample(policy, torch.zeros(2, 1), make_keys(2), 9)
        assert result.tokens.tolist() == [[3, 4, 0, EOS]] * 2
        assert result.lengths.tolist() == [4, 4]
        assert result.log_probs is None

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("max_len", [1, 2, 4])
    def test_sequences_have_their_probability(self, number, max_len):
        policy, rows = WholeHistory(), 8000
        result = sample(policy, numbers_as_z([number] * rows), make_keys(rows), max_len)
        distribution = oracles.completion_distribution(policy.next_probs(number), (), EOS, max_len)
        assert_sequences_follow([real_tokens(result, row) for row in range(rows)], distribution)

    @pytest.mark.parametrize("vocab, rows", [(2, 20_000), (90, 20_000), (5000, 8000)])
    def test_tokens_of_small_and_large_vocabularies_have_their_probability(self, vocab, rows):
        generator = torch.Generator().manual_seed(1)
        table = 1.5 * torch.randn(2, vocab, generator=generator)
        policy, no_eos = GroupedMarkov(table), vocab
        policy.eos, policy.pad = no_eos, vocab + 1
        result = sample(policy, torch.zeros(rows, 1), make_keys(rows), 3)
        assert result.tokens.shape == (rows, 3) and result.lengths.tolist() == [3] * rows
        tokens = result.tokens.numpy()
        oracles.assert_frequencies(np.bincount(tokens[:, 0], minlength=vocab), policy.probs(no_eos))
        for t in (1, 2):
            for group in (0, 1):
                following = tokens[tokens[:, t - 1] % 2 == group, t]
                oracles.assert_frequencies(np.bincount(following, minlength=vocab), policy.probs(group))

    def test_token_t_takes_uniform_number_t_of_its_row(self):
        policy, numbers = WholeHistory(), [0, 1] * 20
        keys = make_keys(40)
        result = sample(policy, numbers_as_z(numbers), keys, 12)
        for row, number in enumerate(numbers):
            assert real_tokens(result, row) == finish(policy, number, [], keys[row], 12)

    def test_a_row_does_not_depend_on_its_batch(self):
        policy, numbers = WholeHistory(), [0, 1, 1, 0, 1, 0, 0]
        z, keys = numbers_as_z(numbers), make_keys(7)
        whole = sample(policy, z, keys, 10)
        for row in range(7):
            alone = sample(policy, z[row : row + 1], keys[row : row + 1], 10)
            assert alone.tokens.tolist() == [real_tokens(whole, row)]
        order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
        mixed = sample(policy, z[order], keys[order], 10)
        assert torch.equal(mixed.lengths, whole.lengths[order])
        assert torch.equal(mixed.tokens, whole.tokens[order])

    def test_equal_keys_give_equal_rows(self):
        keys = make_keys(1).expand(5)
        result = sample(WholeHistory(), torch.zeros(5, 1), keys, 10)
        assert (result.tokens == result.tokens[0]).all()

    def test_is_as_wide_as_its_longest_row(self):
        result = sample(WholeHistory(eos_bonus=1.0), torch.zeros(6, 1), make_keys(6), 200)
        assert result.tokens.size(1) == result.lengths.max() < 200
        assert_padded(result.tokens, result.lengths)
        assert len(set(result.lengths.tolist())) > 1, "rows of different lengths are wanted here"

    def test_eos_first_gives_length_one(self):
        result = sample(Script({EOS: EOS}), torch.zeros(3, 1), make_keys(3), 5)
        assert result.tokens.tolist() == [[EOS]] * 3 and result.lengths.tolist() == [1, 1, 1]

    def test_no_eos_ends_at_max_len(self):
        result = sample(Script({EOS: 3, 3: 3}), torch.zeros(3, 1), make_keys(3), 5)
        assert result.tokens.tolist() == [[3] * 5] * 3 and result.lengths.tolist() == [5, 5, 5]

    def test_z_of_each_row_is_its_own(self):
        result = sample(Writer(30), numbers_as_z(range(3, 30)), make_keys(27), 2)
        assert result.tokens.tolist() == [[number] * 2 for number in range(3, 30)]

    @pytest.mark.parametrize("rows", [1, 63, 64, 65, 300])
    def test_any_number_of_rows(self, rows):
        z = numbers_as_z([3 + row % 7 for row in range(rows)])
        result = sample(Writer(10), z, make_keys(rows), 2)
        assert result.tokens[:, 1].tolist() == z[:, 0].tolist()

    def test_max_len_below_one_is_refused(self):
        with pytest.raises(ValueError, match="max_len.*0"):
            sample(Writer(5), torch.zeros(1, 1), make_keys(1), 0)

    def test_inputs_are_not_modified(self):
        z, keys, prefix = numbers_as_z([0, 1]), make_keys(2), torch.tensor([[3, PAD], [4, EOS]])
        before = z.clone(), keys.clone(), prefix.clone()
        sample(WholeHistory(), z, keys, 5, prefix=prefix, with_log_probs=True, min_len=2)
        assert all(torch.equal(a, b) for a, b in zip(before, (z, keys, prefix), strict=True))


class TestSampleWithPrefix:
    def test_by_hand(self):
        # Row 0 is free, row 1 starts behind 4, row 2 is over after its EOS.
        policy = Script({EOS: 3, 3: 3, 4: 0})
        prefix = torch.tensor([[PAD, PAD], [4, PAD], [4, EOS]])
        result = sample(policy, torch.zeros(3, 1), make_keys(3), 4, prefix=prefix)
        assert result.tokens.tolist() == [[3, 3, 3, 3], [4, 0, EOS, PAD], [4, EOS, PAD, PAD]]
        assert result.lengths.tolist() == [4, 3, 2]

    def test_rows_go_on_with_the_uniform_numbers_of_their_positions(self):
        policy, numbers = WholeHistory(), [0, 1, 0, 1, 1]
        prefixes = [[], [3], [0, 4], [4, 4, 3], [0, EOS]]
        prefix = torch.tensor([row + [PAD] * (3 - len(row)) for row in prefixes])
        keys = make_keys(5, seed=1)
        result = sample(policy, numbers_as_z(numbers), keys, 9, prefix=prefix)
        for row in range(5):
            assert real_tokens(result, row) == finish(policy, numbers[row], prefixes[row], keys[row], 9)

    def test_what_follows_has_its_probability(self):
        policy, rows, given = WholeHistory(), 8000, (3, 0)
        prefix = torch.tensor([given]).expand(rows, -1)
        result = sample(policy, numbers_as_z([1] * rows), make_keys(rows), 5, prefix=prefix)
        distribution = oracles.completion_distribution(policy.next_probs(1), given, EOS, 5)
        assert_sequences_follow([real_tokens(result, row) for row in range(rows)], distribution)

    def test_a_prefix_of_full_length_is_the_sample(self):
        prefix = torch.tensor([[3, 4, 0], [0, 0, EOS]])
        result = sample(WholeHistory(), torch.zeros(2, 1), make_keys(2), 3, prefix=prefix)
        assert torch.equal(result.tokens, prefix) and result.lengths.tolist() == [3, 3]

    def test_an_empty_prefix_changes_nothing(self):
        z, keys = numbers_as_z([0, 1, 0, 1]), make_keys(4)
        free = sample(WholeHistory(), z, keys, 8)
        for prefix in (torch.full((4, 3), PAD), torch.zeros(4, 0, dtype=torch.long)):
            assert torch.equal(sample(WholeHistory(), z, keys, 8, prefix=prefix).tokens, free.tokens)


class TestSampleOptions:
    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_temperature(self, temperature):
        policy, rows = WholeHistory(), 8000
        result = sample(policy, numbers_as_z([0] * rows), make_keys(rows), 3, temperature=temperature)
        distribution = oracles.completion_distribution(policy.next_probs(0, temperature), (), EOS, 3)
        assert_sequences_follow([real_tokens(result, row) for row in range(rows)], distribution)

    @pytest.mark.parametrize("options", [{"top_k": 1}, {"top_k": 2}, {"top_p": 0.7}, {"top_k": 3, "temperature": 0.5}])
    def test_truncation(self, options):
        policy, rows = WholeHistory(), 8000

        def next_probs(tokens):
            return oracles.truncated_probs(policy.next_logits(1, tokens).tolist(), **options)

        result = sample(policy, numbers_as_z([1] * rows), make_keys(rows), 3, **options)
        distribution = oracles.completion_distribution(next_probs, (), EOS, 3)
        assert_sequences_follow([real_tokens(result, row) for row in range(rows)], distribution)

    @pytest.mark.parametrize("min_len", [1, 3])
    def test_min_len_holds_the_eos_back(self, min_len):
        policy, rows = WholeHistory(eos_bonus=2.0), 8000
        result = sample(policy, numbers_as_z([0] * rows), make_keys(rows), 4, min_len=min_len)
        assert result.lengths.min() == min_len + 1
        distribution = oracles.completion_distribution(policy.next_probs(0, 1.0, min_len), (), EOS, 4)
        assert_sequences_follow([real_tokens(result, row) for row in range(rows)], distribution)

    def test_min_len_beyond_max_len_gives_full_rows_without_eos(self):
        policy = WholeHistory(eos_bonus=9.0)
        result = sample(policy, numbers_as_z([0] * 50), make_keys(50), 4, min_len=9)
        assert result.lengths.tolist() == [4] * 50 and EOS not in result.tokens

    def test_unknown_words_can_be_made_rarer(self):
        policy, rows, unk = WholeHistory(), 8000, 4

        def next_probs(tokens):
            logits = policy.next_logits(0, tokens).tolist()
            logits[unk] -= 1.5
            return oracles.softmax(logits)

        z, keys = numbers_as_z([0] * rows), make_keys(rows)
        result = sample(policy, z, keys, 3, unk=unk, unk_penalty=1.5)
        distribution = oracles.completion_distribution(next_probs, (), EOS, 3)
        assert_sequences_follow([real_tokens(result, row) for row in range(rows)], distribution)

    def test_min_len_does_not_overrule_the_prefix(self):
        prefix = torch.tensor([[3, EOS]])
        result = sample(WholeHistory(), torch.zeros(1, 1), make_keys(1), 6, prefix=prefix, min_len=4)
        assert result.tokens.tolist() == [[3, EOS]]


class TestSampleLogProbs:
    def teacher_forced(self, policy, numbers, result, temperature=1.0):
        """The log-probabilities of the sampled tokens, by loops."""
        rows = []
        for row, number in enumerate(numbers):
            tokens = real_tokens(result, row)
            row_log_probs = [
                oracles.log_softmax((policy.next_logits(number, tokens[:t]) / temperature).tolist())[token]
                for t, token in enumerate(tokens)
            ]
            rows.append(row_log_probs + [0.0] * (result.tokens.size(1) - len(tokens)))
        return torch.tensor(rows)

    @pytest.mark.parametrize("rows, max_len", [(1, 1), (1, 12), (30, 1), (30, 12)])
    def test_are_those_of_a_teacher_forced_pass(self, rows, max_len):
        policy, numbers = WholeHistory(), [row % 2 for row in range(rows)]
        result = sample(policy, numbers_as_z(numbers), make_keys(rows), max_len, with_log_probs=True)
        assert result.log_probs.shape == result.tokens.shape and result.log_probs.dtype == torch.float32
        torch.testing.assert_close(result.log_probs, self.teacher_forced(policy, numbers, result))

    def test_are_exactly_zero_at_padding(self):
        policy = WholeHistory(eos_bonus=1.0)
        result = sample(policy, numbers_as_z([0] * 20), make_keys(20), 30, with_log_probs=True)
        padding = result.tokens == PAD
        assert padding.any() and result.log_probs[padding].abs().max() == 0

    def test_cover_the_tokens_of_a_prefix(self):
        policy, numbers = WholeHistory(), [0, 1, 1]
        prefix = torch.tensor([[3, 0], [4, PAD], [0, EOS]])
        result = sample(policy, numbers_as_z(numbers), make_keys(3), 6, prefix=prefix, with_log_probs=True)
        torch.testing.assert_close(result.log_probs, self.teacher_forced(policy, numbers, result))

    def test_are_taken_at_the_temperature_and_before_truncation(self):
        policy, numbers = WholeHistory(), [0, 1] * 5
        result = sample(policy, numbers_as_z(numbers), make_keys(10), 6, temperature=0.5, top_k=2, with_log_probs=True)
        torch.testing.assert_close(result.log_probs, self.teacher_forced(policy, numbers, result, temperature=0.5))

    @pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 2}, {"top_p": 0.8}])
    def test_asking_for_them_does_not_change_the_sample(self, options):
        z, keys = numbers_as_z([0, 1] * 50), make_keys(100)
        plain = sample(WholeHistory(), z, keys, 10, **options)
        scored = sample(WholeHistory(), z, keys, 10, with_log_probs=True, **options)
        assert torch.equal(plain.tokens, scored.tokens)


SEQUENCES = [[3, 0, 4, 4, EOS], [0, EOS], [4, 3, 3, 0, 0, 3], [EOS], [3, 3, EOS], [0, 4, 0, 4]]
NUMBERS = [0, 1, 1, 0, 0, 1]
MAX_LEN = 7
DRAWS = Draws(0)


def batch_of(sequences, width=None):
    lengths = torch.tensor([len(row) for row in sequences])
    width = width or int(lengths.max())
    return torch.tensor([row + [PAD] * (width - len(row)) for row in sequences]), lengths


def trajectory_of(sequences, numbers, ids=None, width=None):
    tokens, lengths = batch_of(sequences, width)
    ids = torch.arange(len(sequences)) if ids is None else torch.tensor(ids)
    return Trajectory(tokens, lengths, numbers_as_z(numbers), ids)


def plan_of(**options):
    return RolloutPlan(**{"num_rollouts": 3, "stride": 2, "max_len": MAX_LEN, "chunk_rows": 1000, **options})


def complete(policy, sequences=SEQUENCES, numbers=NUMBERS, *, ids=None, draws=DRAWS, width=None, **options):
    """All completions as a dictionary: (row, prefix length) -> list of completed sequences, in their order."""
    plan = plan_of(**options)
    found = collections.defaultdict(list)
    for chunk in complete_prefixes(policy, trajectory_of(sequences, numbers, ids, width), plan, draws):
        size = chunk.lengths.numel()
        assert chunk.tokens.shape == (size, plan.max_len) and size > 0
        assert chunk.rows.shape == chunk.prefix_lengths.shape == (size,)
        assert size <= plan.chunk_rows
        assert_padded(chunk.tokens, chunk.lengths)
        for row, length, completed, prefix_length in zip(
            chunk.rows.tolist(),
            chunk.lengths.tolist(),
            chunk.tokens.tolist(),
            chunk.prefix_lengths.tolist(),
            strict=True,
        ):
            found[row, prefix_length].append(completed[:length])
    return dict(found)


class TestCompletePrefixes:
    def test_by_hand(self):
        # Behind 3 comes 4, behind 4 the end; behind 0 come zeros up to the limit.
        policy = Script({3: 4, 4: EOS, 0: 0})
        found = complete(policy, [[0, 3, 3, 0, EOS], [4, EOS]], [0, 0], num_rollouts=2, stride=1, max_len=6)
        assert found == {
            (0, 1): [[0, 0, 0, 0, 0, 0]] * 2,
            (0, 2): [[0, 3, 4, EOS]] * 2,
            (0, 3): [[0, 3, 3, 4, EOS]] * 2,
            (0, 4): [[0, 3, 3, 0, 0, 0]] * 2,
            (1, 1): [[4, EOS]] * 2,
        }

    @pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 100])
    @pytest.mark.parametrize("num_rollouts", [1, 3])
    @pytest.mark.parametrize("chunk_rows", [1, 2, 5, 1000])
    def test_every_proper_checkpoint_has_exactly_k_completions(self, stride, num_rollouts, chunk_rows):
        found = complete(WholeHistory(), stride=stride, num_rollouts=num_rollouts, chunk_rows=chunk_rows)
        expected = {
            (row, prefix_length): num_rollouts
            for row, tokens in enumerate(SEQUENCES)
            for prefix_length in oracles.checkpoints(len(tokens), stride)
        }
        assert {place: len(completions) for place, completions in found.items()} == expected

    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_prefixes_are_kept_and_continued_within_the_limit(self, stride):
        for (row, prefix_length), completions in complete(WholeHistory(), stride=stride, num_rollouts=20).items():
            for completed in completions:
                assert completed[:prefix_length] == SEQUENCES[row][:prefix_length]
                assert prefix_length < len(completed) <= MAX_LEN
                assert completed[-1] == EOS or len(completed) == MAX_LEN

    @pytest.mark.parametrize("stride", [1, 2, 3])
    @pytest.mark.parametrize("chunk_rows", [2, 1000])
    def test_tokens_take_the_uniform_numbers_of_their_positions(self, stride, chunk_rows):
        policy, ids = WholeHistory(), torch.arange(len(SEQUENCES))
        found = complete(policy, stride=stride, num_rollouts=2, chunk_rows=chunk_rows, draws=OneKeyPerRow())
        keys = OneKeyPerRow().keys(Stream.ROLLOUT, ids, None)
        for (row, prefix_length), completions in found.items():
            expected = finish(policy, NUMBERS[row], SEQUENCES[row][:prefix_length], keys[row], MAX_LEN)
            assert completions == [expected] * 2

    def test_completions_have_their_probability(self):
        policy, rollouts = WholeHistory(), 3000
        found = complete(policy, stride=2, num_rollouts=rollouts, max_len=6)
        assert len(found) == 6
        for (row, prefix_length), completions in found.items():
            prefix = SEQUENCES[row][:prefix_length]
            distribution = oracles.completion_distribution(policy.next_probs(NUMBERS[row]), prefix, EOS, 6)
            assert_sequences_follow(completions, distribution)

    def test_completions_of_other_prefixes_and_rows_are_independent(self):
        # The same sequence twice: pairs of first completed tokens must follow the product of their distributions.
        policy = WholeHistory()
        found = complete(policy, [[3, 3, 3], [3, 3, 3]], [0, 0], stride=1, num_rollouts=5000, max_len=3)
        first = [completed[1] for completed in found[0, 1]]
        next_probs = policy.next_probs(0)
        for place, given in (((0, 2), (3, 3)), ((1, 1), (3,)), ((1, 2), (3, 3))):
            other = [completed[len(given)] for completed in found[place]]
            pairs = collections.Counter(zip(first, other, strict=True))
            probs = {(a, b): p * q for a, p in enumerate(next_probs((3,))) for b, q in enumerate(next_probs(given))}
            oracles.assert_frequencies([pairs[pair] for pair in probs], list(probs.values()))

    def test_completions_of_one_prefix_are_independent(self):
        policy = WholeHistory()
        found = complete(policy, [[3, 3]], [0], stride=1, num_rollouts=8000, max_len=2)
        tokens = [completed[1] for completed in found[0, 1]]
        pairs = collections.Counter(zip(tokens[::2], tokens[1::2], strict=True))
        probs = policy.next_probs(0)((3,))
        outcomes = [(a, b) for a in range(VOCAB) for b in range(VOCAB)]
        oracles.assert_frequencies([pairs[o] for o in outcomes], [probs[a] * probs[b] for a, b in outcomes])

    @pytest.mark.parametrize("chunk_rows", [1, 4, 1000])
    def test_no_key_is_asked_for_twice(self, chunk_rows):
        asked = []

        class Recording:
            def keys(self, stream, ids, numbers):
                asked.extend(zip(ids.tolist(), numbers.tolist(), strict=True))
                return DRAWS.keys(stream, ids, numbers)

        found = complete(WholeHistory(), stride=1, num_rollouts=4, chunk_rows=chunk_rows, draws=Recording())
        assert len(asked) == sum(len(completions) for completions in found.values())
        assert len(set(asked)) == len(asked)

    @pytest.mark.parametrize("stride", [1, 3])
    def test_chunks_do_not_matter(self, stride):
        whole = complete(WholeHistory(), stride=stride, num_rollouts=5)
        for chunk_rows in (1, 2, 3, 7, 16, 31):
            assert complete(WholeHistory(), stride=stride, num_rollouts=5, chunk_rows=chunk_rows) == whole

    def test_the_batch_does_not_matter(self):
        whole = complete(WholeHistory(), stride=1)
        for row, tokens in enumerate(SEQUENCES):
            alone = complete(WholeHistory(), [tokens], [NUMBERS[row]], ids=[row], stride=1)
            assert alone == {(0, i): whole[row, i] for i in oracles.checkpoints(len(tokens), 1)}
        order = [4, 2, 0, 5, 1, 3]
        mixed = complete(
            WholeHistory(), [SEQUENCES[i] for i in order], [NUMBERS[i] for i in order], ids=order, stride=1
        )
        assert {(order[row], i): completions for (row, i), completions in mixed.items()} == whole

    def test_padding_does_not_matter(self):
        assert complete(WholeHistory(), width=MAX_LEN, stride=1) == complete(WholeHistory(), stride=1)

    def test_large_chunks_of_many_rows(self):
        # More than one block of rows at every step.
        numbers = [3 + row % 5 for row in range(90)]
        sequences = [[number] * (2 + row % 4) for row, number in enumerate(numbers)]
        found = complete(Writer(8), sequences, numbers, stride=1, num_rollouts=4, max_len=6, chunk_rows=5000)
        for (row, _), completions in found.items():
            assert completions == [[numbers[row]] * 6] * 4

    def test_nothing_to_complete_yields_nothing(self):
        assert complete(WholeHistory(), [[EOS], [3]], [0, 1], stride=1) == {}
        assert complete(WholeHistory(), stride=6) == {}

    def test_a_full_length_sequence_is_completed_up_to_its_last_token(self):
        found = complete(Script({3: 3}), [[3, 3, 3]], [0], stride=1, num_rollouts=1, max_len=3)
        assert found == {(0, 1): [[3, 3, 3]], (0, 2): [[3, 3, 3]]}

    def test_completions_that_end_at_once(self):
        found = complete(Script({}), stride=1, num_rollouts=2)
        for (row, prefix_length), completions in found.items():
            assert completions == [SEQUENCES[row][:prefix_length] + [EOS]] * 2

    def test_inputs_are_not_modified(self):
        trajectory = trajectory_of(SEQUENCES, NUMBERS)
        before = [part.clone() for part in trajectory]
        list(complete_prefixes(WholeHistory(), trajectory, plan_of(stride=1, chunk_rows=10), DRAWS))
        assert all(torch.equal(a, b) for a, b in zip(trajectory, before, strict=True))

    @pytest.mark.parametrize("name", ["num_rollouts", "stride", "max_len", "chunk_rows"])
    def test_numbers_below_one_are_refused(self, name):
        with pytest.raises(ValueError, match=f"{name}.*0"):
            complete(WholeHistory(), **{name: 0})

    def test_max_len_must_hold_the_sequences(self):
        with pytest.raises(ValueError, match="max_len.*6.*5"):
            complete(WholeHistory(), max_len=5)


def values_of(policy, score, sequences=SEQUENCES, numbers=NUMBERS, *, ids=None, draws=DRAWS, width=None, **options):
    def checked_score(tokens, padding_mask):
        assert tokens.dim() == 2 and len(tokens) > 0 and padding_mask.dtype == torch.bool
        assert torch.equal(padding_mask, tokens == PAD)
        return score(tokens, padding_mask)

    trajectory = trajectory_of(sequences, numbers, ids, width)
    return prefix_values(policy, Judge(checked_score), trajectory, plan_of(**options), draws)


def weigh(tokens):
    """A score that tells sequences apart: it depends on every token and its place."""
    return sum(math.sin(7.0 * token + 3.0 * t) for t, token in enumerate(tokens))


def weigh_batch(tokens, padding_mask):
    rows = zip(tokens.tolist(), (~padding_mask).sum(dim=1).tolist(), strict=True)
    return torch.tensor([weigh(row[:length]) for row, length in rows])


class TestFinishedRowsThatStay:
    """On a GPU finished rows stay in the batch, since to find them it would have to wait. Nothing else may change."""

    @pytest.fixture
    def keep_finished_rows(self, monkeypatch):
        return lambda: [
            monkeypatch.setattr(module, "drops_finished_rows", lambda device: False)
            for module in (sampling, completion)
        ]

    @pytest.mark.parametrize("eos_bonus", [-9.0, 0.0, 2.0, 30.0])
    @pytest.mark.parametrize("options", [{}, {"with_log_probs": True}, {"min_len": 2}])
    def test_samples_are_the_same(self, keep_finished_rows, eos_bonus, options):
        policy, z, keys = WholeHistory(eos_bonus=eos_bonus), numbers_as_z([0, 1] * 20), make_keys(40)
        prefix = torch.tensor([[PAD, PAD], [3, EOS], [4, PAD], [0, 0]] * 10)
        dropped = sample(policy, z, keys, 9, prefix=prefix, **options)
        keep_finished_rows()
        kept = sample(policy, z, keys, 9, prefix=prefix, **options)
        assert torch.equal(kept.tokens, dropped.tokens) and torch.equal(kept.lengths, dropped.lengths)
        if options.get("with_log_probs"):
            assert torch.equal(kept.log_probs, dropped.log_probs)

    @pytest.mark.parametrize("eos_bonus", [-9.0, 0.0, 2.0, 30.0])
    @pytest.mark.parametrize("chunk_rows", [1, 7, 1000])
    def test_completions_and_values_are_the_same(self, keep_finished_rows, eos_bonus, chunk_rows):
        policy, options = WholeHistory(eos_bonus=eos_bonus), {"stride": 1, "chunk_rows": chunk_rows}
        completions, values = complete(policy, **options), values_of(policy, weigh_batch, **options)
        keep_finished_rows()
        assert complete(policy, **options) == completions
        assert torch.equal(values_of(policy, weigh_batch, **options), values)


class TestPrefixValues:
    def test_by_hand(self):
        # The score is the length. Behind 3 comes 4, then the end; zeros go on up to the limit.
        values = values_of(
            Script({3: 4, 4: EOS, 0: 0}),
            lambda tokens, padding_mask: (~padding_mask).sum(dim=1).float(),
            [[0, 3, 3, 0, EOS], [4, EOS]],
            [0, 0],
            stride=1,
            max_len=6,
        )
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, torch.tensor([[6.0, 4, 5, 6, 5], [2, 2, 0, 0, 0]]))

    @pytest.mark.parametrize("stride", [1, 2, 3, 50])
    @pytest.mark.parametrize("num_rollouts", [1, 5])
    @pytest.mark.parametrize("chunk_rows", [1, 6, 1000])
    def test_a_score_of_the_row_comes_back_at_every_checkpoint(self, stride, num_rollouts, chunk_rows):
        # The first token names the row, z makes the policy write that name: a value in a wrong place shows.
        rows = 9
        names = [10 + row for row in range(rows)]
        lengths = [5, 1, 4, 6, 2, 6, 3, 1, 5]
        sequences = [[name] + [3] * (length - 1) for name, length in zip(names, lengths, strict=True)]

        def first_and_last(tokens, padding_mask):
            last = tokens.gather(1, (~padding_mask).sum(dim=1, keepdim=True) - 1).squeeze(1)
            return 1000.0 * tokens[:, 0] + last

        values = values_of(
            Writer(30),
            first_and_last,
            sequences,
            names,
            stride=stride,
            num_rollouts=num_rollouts,
            chunk_rows=chunk_rows,
            max_len=8,
        )
        expected = torch.zeros(rows, 6)
        for row, (name, length) in enumerate(zip(names, lengths, strict=True)):
            for prefix_length in oracles.checkpoints(length, stride):
                expected[row, prefix_length - 1] = 1001.0 * name
            expected[row, length - 1] = 1000.0 * name + sequences[row][-1]
        torch.testing.assert_close(values, expected)

    @pytest.mark.parametrize("stride", [1, 2, 3, 50])
    def test_equals_the_loop(self, stride):
        policy, ids = WholeHistory(), torch.arange(len(SEQUENCES))
        keys = OneKeyPerRow().keys(Stream.ROLLOUT, ids, None)
        values = values_of(policy, weigh_batch, draws=OneKeyPerRow(), stride=stride)
        expected = torch.zeros(len(SEQUENCES), 6)
        for row, tokens in enumerate(SEQUENCES):
            for prefix_length in oracles.checkpoints(len(tokens), stride):
                completed = finish(policy, NUMBERS[row], tokens[:prefix_length], keys[row], MAX_LEN)
                expected[row, prefix_length - 1] = weigh(completed)
            expected[row, len(tokens) - 1] = weigh(tokens)
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5)

    def test_estimates_the_expected_score(self):
        policy, rollouts = WholeHistory(), 3000
        values = values_of(policy, weigh_batch, num_rollouts=rollouts, max_len=6)
        for row, tokens in enumerate(SEQUENCES):
            for prefix_length in oracles.checkpoints(len(tokens), 2):
                distribution = oracles.completion_distribution(
                    policy.next_probs(NUMBERS[row]), tokens[:prefix_length], EOS, 6
                )
                mean = sum(prob * weigh(outcome) for outcome, prob in distribution.items())
                square = sum(prob * weigh(outcome) ** 2 for outcome, prob in distribution.items())
                error = oracles.normal_quantile() * math.sqrt((square - mean**2) / rollouts)
                assert abs(values[row, prefix_length - 1].item() - mean) < error

    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_only_rewarded_positions_have_values(self, stride):
        values = values_of(WholeHistory(), lambda tokens, padding_mask: torch.ones(len(tokens)), stride=stride)
        for row, tokens in enumerate(SEQUENCES):
            rewarded = oracles.rewarded_positions(len(tokens), stride)
            assert values[row].nonzero().flatten().tolist() == rewarded
            torch.testing.assert_close(values[row, rewarded], torch.ones(len(rewarded)))

    def test_the_whole_sequence_is_scored_as_it_is(self):
        # A sequence that was cut at the limit is not completed, and its own tokens are what counts.
        values = values_of(Writer(10), weigh_batch, [[3, 4, 0], [4, EOS]], [7, 8], stride=10)
        torch.testing.assert_close(values, torch.tensor([[0.0, 0.0, weigh([3, 4, 0])], [0.0, weigh([4, EOS]), 0.0]]))

    def test_equal_rollouts_give_their_common_score(self):
        values = values_of(Script({3: 4, 4: 0, 0: EOS}), weigh_batch, [[3, 3]], [0], stride=1, num_rollouts=7)
        torch.testing.assert_close(values, torch.tensor([[weigh([3, 4, 0, EOS]), weigh([3, 3])]]))

    def test_chunks_do_not_matter(self):
        whole = values_of(WholeHistory(), weigh_batch, stride=1, num_rollouts=4)
        for chunk_rows in (1, 2, 3, 7, 16, 31):
            values = values_of(WholeHistory(), weigh_batch, stride=1, num_rollouts=4, chunk_rows=chunk_rows)
            assert torch.equal(values, whole)

    def test_batch_and_padding_do_not_matter(self):
        whole = values_of(WholeHistory(), weigh_batch, stride=1)
        wide = values_of(WholeHistory(), weigh_batch, stride=1, width=MAX_LEN)
        assert torch.equal(wide[:, :6], whole) and wide[:, 6:].abs().max() == 0
        for row, tokens in enumerate(SEQUENCES):
            alone = values_of(WholeHistory(), weigh_batch, [tokens], [NUMBERS[row]], ids=[row], stride=1)
            assert torch.equal(alone[0], whole[row, : len(tokens)])

    def test_single_token_rows_have_their_own_score(self):
        values = values_of(WholeHistory(), weigh_batch, [[EOS], [3]], [0, 1], stride=1)
        torch.testing.assert_close(values, torch.tensor([[weigh([EOS])], [weigh([3])]]))

    def test_half_precision_scores_are_averaged_in_float32(self):
        values = values_of(
            WholeHistory(), lambda *batch: weigh_batch(*batch).half(), stride=1, num_rollouts=50, max_len=7
        )
        exact = values_of(WholeHistory(), weigh_batch, stride=1, num_rollouts=50, max_len=7)
        assert values.dtype == torch.float32
        # Scores below 8 are rounded by at most 2^-9 each.
        assert (values - exact).abs().max() <= 2.0**-9

    def test_no_gradient_flows_into_the_score(self):
        weight = torch.ones(1, requires_grad=True)
        values = values_of(WholeHistory(), lambda *batch: weigh_batch(*batch) * weight, stride=1)
        assert not values.requires_grad and weight.grad is None
