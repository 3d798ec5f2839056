"""What a discriminator knows besides the tokens: counts of n-grams, what a language model says, and both in one."""

import math

import pytest
import torch
from torch import nn

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.informed import InformedDiscriminator
from fairseq_seqvae.core.discriminators.likelihood import TokenLikelihood
from fairseq_seqvae.core.discriminators.ngrams import NgramCounts
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator
from fairseq_seqvae.core.rewards.discriminator import check_scoring, completion_logits
from fairseq_seqvae.core.rollouts.policy import Completions

PAD = 1
TRAIN = [[4, 5, 4, 5], [4, 5], [6], [4, 5]]


def batch(*rows, width=None):
    width = width or max(map(len, rows))
    tokens = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows])
    return tokens, torch.arange(width) >= torch.tensor([len(row) for row in rows]).unsqueeze(1)


def counts(order=2, train=TRAIN):
    return NgramCounts([torch.tensor(row) for row in train], order)


def slow_counts(row, order, train):
    """Counts of the n-grams that end at each token, and of what is before them, by loops; itself is left out once."""
    rest = list(train)
    if row in rest:
        rest.remove(row)
    found = []
    for t in range(len(row)):

        def gram(sequence, end, n):
            return tuple(sequence[i] if i >= 0 else None for i in range(end - n + 1, end + 1))

        def count(wanted, n, first):
            return sum(gram(other, end, n) == wanted for other in rest for end in range(first, len(other)))

        full = [count(gram(row, t, n), n, 0) for n in range(1, order + 1)]
        before = [count(gram(row, t - 1, n), n, 0) if t else len(rest) for n in range(1, order)]
        found.append(full + before)
    return found


class TestNgramCounts:
    def test_by_hand(self):
        full, before = counts().counts(*batch([4, 5, 6]))
        # 4 is there four times, three of them at the start of one of four sentences; 5 always follows 4.
        assert full.tolist() == [[[4, 3], [4, 4], [1, 0]]]
        assert before.tolist() == [[[4], [4], [4]]]

    @pytest.mark.parametrize("row", [[4, 5, 4, 5], [4, 5], [6]])
    def test_a_training_sentence_is_left_out_once(self, row):
        full, before = counts(3).counts(*batch(row))
        assert torch.cat([full, before], dim=2)[0].tolist() == slow_counts(row, 3, TRAIN)

    def test_of_a_sentence_of_the_data_they_are_those_of_one_that_was_held_out(self):
        generator = torch.Generator().manual_seed(1)
        train = [torch.randint(4, 8, (length,), generator=generator).tolist() for length in (3, 5, 4, 6, 5, 4)]
        for i, row in enumerate(train):
            others = counts(3, train[:i] + train[i + 1 :])
            assert torch.equal(others.counts(*batch(row))[0], counts(3, train).counts(*batch(row))[0])

    @pytest.mark.parametrize("order", [1, 2, 4])
    def test_equals_the_loops_whatever_the_padding(self, order):
        generator = torch.Generator().manual_seed(order)
        rows = [torch.randint(4, 7, (length,), generator=generator).tolist() for length in (1, 3, 7, 2)]
        known = counts(order)
        full, before = known.counts(*batch(*rows, *TRAIN[:1], width=9))
        for b, row in enumerate([*rows, TRAIN[0]]):
            found = torch.cat([full, before], dim=2)[b, : len(row)]
            assert found.tolist() == slow_counts(row, order, TRAIN)
        assert known(*batch(*rows)).shape == (4, 7, known.num_features)

    def test_features_are_finite_and_grow_with_the_counts(self):
        features = counts()(*batch([4, 5], [6, 6]))
        assert features.abs().max() <= 2 and features[0, 0, 0] > features[1, 0, 0] > features[1, 1, 1] == -2

    def test_are_no_part_of_checkpoints_and_keep_their_digits(self):
        known = counts().half()
        assert not known.state_dict()
        assert {buffer.dtype for buffer in known.buffers()} == {torch.int64}

    def test_needs_data_and_an_order(self):
        with pytest.raises(ValueError, match="`order` must be at least 1"):
            counts(0)
        with pytest.raises(ValueError, match="must be at least one"):
            counts(train=[])


class Bigrams(nn.Module):
    """A language model: logits of the next token by the one before and the first number of z."""

    eos, pad = 2, PAD

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(9, 9, generator=torch.Generator().manual_seed(3)))

    def teacher_forced(self, previous, z, regularize):
        assert not regularize and not self.training
        return self.table[previous] + z[:, :1, None] * torch.arange(9)


def likelihood():
    return TokenLikelihood(Bigrams(), torch.tensor([0.2]))


class TestTokenLikelihood:
    def test_log_probabilities_token_by_token(self):
        part, rows = likelihood(), ([4, 5, 2], [6])
        found = part.log_probs(*batch(*rows))
        for b, row in enumerate(rows):
            for t, (previous, token) in enumerate(zip([2, *row], row, strict=False)):
                weights = [math.exp(part.policy.table[previous, v].item() + 0.2 * v) for v in range(9)]
                assert found[b, t].item() == pytest.approx(math.log(weights[token] / sum(weights)), abs=1e-5)
        assert found[1, 1:].tolist() == [0, 0]

    def test_rows_do_not_depend_on_the_others(self):
        tokens, mask = batch(*[[4, 5, 6, 7, 4]] * 3, [8, 2], *[[5, 4]] * 5)
        part = likelihood()
        alone = torch.cat([part.log_probs(tokens[i : i + 1], mask[i : i + 1]) for i in range(len(tokens))])
        assert torch.allclose(part.log_probs(tokens, mask), alone)

    def test_it_rests(self):
        judge = InformedDiscriminator(None, [likelihood()]).train()
        assert not judge.features[0].training and judge.per_token.training
        judge(*batch([4, 5])).sum().backward()
        assert judge.features[0].policy.table.grad is None
        assert not judge.features[0].policy.table.requires_grad


def make(reader, dropout=0.0):
    torch.manual_seed(0)
    made = {
        "cnn": lambda: ConvolutionalDiscriminator(9, PAD, 4, [1, 2], [3, 3], dropout=dropout),
        "rnn": lambda: RecurrentDiscriminator(9, PAD, 4, 3, dropout=dropout),
        None: lambda: None,
    }[reader]()
    return InformedDiscriminator(made, [counts(), likelihood()], hidden_dim=5, dropout=dropout).eval()


class TestInformedDiscriminator:
    @pytest.mark.parametrize("reader", ["cnn", "rnn", None])
    def test_adds_what_the_reader_says_and_what_the_features_say(self, reader):
        judge, rows = make(reader), batch([4, 5, 6], [7])
        alone = InformedDiscriminator(None, list(judge.features), hidden_dim=5).eval()
        alone.load_state_dict({k: v for k, v in judge.state_dict().items() if not k.startswith("reader.")})
        expected = alone(*rows) + (0 if reader is None else judge.reader(*rows))
        assert torch.allclose(judge(*rows), expected)

    @pytest.mark.parametrize("reader", ["cnn", None])
    def test_padding_changes_nothing(self, reader):
        judge, rows = make(reader), ([4, 5, 6], [7], [4, 5, 4, 5])
        alone = torch.cat([judge(*batch(row)) for row in rows])
        assert torch.allclose(judge(*batch(*rows, width=8)), alone, atol=1e-6)

    def test_scores_completions_as_its_reader_can(self):
        completed, prefixes = batch([4, 5, 6], [4, 5, 2], [7, 4, 4]), torch.tensor([[4, 5, 6], [7, 4, 4]])
        lengths = (~completed[1]).sum(dim=1)
        completions = Completions(
            *completed[:1], lengths, completed[1], torch.tensor([0, 0, 1]), torch.tensor([1, 1, 2])
        )
        judge = make("cnn")
        assert check_scoring(judge, "tables")
        tables, plain = (completion_logits(judge, completions, prefixes, how) for how in ("tables", "plain"))
        assert torch.allclose(tables, plain, atol=1e-6)
        assert torch.equal(plain, judge(*completed))
        for reader in ("rnn", None):
            with pytest.raises(ValueError, match="cannot score by tables"):
                check_scoring(make(reader), "tables")
            assert torch.equal(completion_logits(make(reader), completions, prefixes), make(reader)(*completed))

    def test_its_output_is_the_last_layer_of_both(self):
        judge = make("cnn")
        assert {*judge.output.parameters()} == {*judge.verdict.parameters(), *judge.reader.output.parameters()}

    def test_the_slope_between_sequences_is_not_defined(self):
        assert not hasattr(make("cnn"), "judge_embedded")

    def test_learns_what_counts_tell(self):
        """Real sentences have bigrams of the data, the others the same symbols in another order."""
        torch.manual_seed(1)
        data = [[4, 5, 6, 7], [6, 7, 4, 5], [5, 6, 7, 4], [7, 4, 5, 6]] * 3
        judge = InformedDiscriminator(None, [counts(2, data)], hidden_dim=8)
        real, fake = batch(*data[:4], [4, 5, 6, 4]), batch([4, 6, 5, 7], [7, 5, 4, 6], [5, 7, 6, 4], [6, 4, 7, 5])
        optimizer = torch.optim.Adam(judge.parameters(), lr=0.02)
        for _ in range(60):
            loss = nn.functional.softplus(-judge(*real)).mean() + nn.functional.softplus(judge(*fake)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert (judge(*batch([5, 6, 7, 4], [6, 7, 4, 5])) > 0).all()
        assert (judge(*batch([7, 6, 5, 4], [4, 7, 6, 5])) < 0).all()
