"""Scoring completed prefixes: tables against the plain network."""

import pytest
import torch
from torch import nn
from toys import EOS, PAD, VOCAB, Script, WholeHistory

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator
from fairseq_seqvae.core.discriminators.scoring import completion_logits
from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.core.rewards.discriminator import DiscriminatorReward
from fairseq_seqvae.core.rewards.values import prefix_values
from fairseq_seqvae.core.rollouts.completion import complete_prefixes
from fairseq_seqvae.core.rollouts.policy import Completions, RolloutPlan, Trajectory


def network(widths=(1, 2, 3, 7), features=(3, 2, 4, 2), highway_layers=1, tied=False, vocab=VOCAB, seed=0):
    torch.manual_seed(seed)
    built = ConvolutionalDiscriminator(vocab, PAD, 6, list(widths), list(features), highway_layers, tied, dropout=0.5)
    nn.init.normal_(built.output.weight, std=sum(features) ** -0.5)
    return built.eval()


def plain(discriminator, completions):
    """The forward pass of the network, one sequence at a time and without its padding."""
    rows = zip(completions.tokens, completions.lengths.tolist(), strict=True)
    return torch.cat(
        [discriminator(row[:length].unsqueeze(0), torch.zeros(1, length, dtype=torch.bool)) for row, length in rows]
    )


def completions_of(policy, lengths, max_len, num_rollouts=3, stride=1, chunk_rows=10_000, seed=0):
    """Random sequences and all chunks of completions of their prefixes."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.tensor([0, 3, 4])[torch.randint(3, (len(lengths), max(lengths)), generator=generator)]
    lengths = torch.tensor(lengths)
    tokens = tokens.masked_fill(torch.arange(tokens.size(1)) >= lengths.unsqueeze(1), PAD)
    ids = torch.arange(len(lengths))
    trajectory = Trajectory(tokens, lengths, (ids % 2).float().unsqueeze(1), ids)
    chunks = complete_prefixes(policy, trajectory, RolloutPlan(num_rollouts, stride, max_len, chunk_rows), Draws(seed))
    return tokens, list(chunks)


def assert_tables_equal_plain(discriminator, tokens, chunks):
    assert chunks
    for chunk in chunks:
        with torch.no_grad():
            expected = plain(discriminator, chunk)
        found = completion_logits(discriminator, chunk, tokens, "tables")
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            completion_logits(discriminator, chunk, tokens, "plain"), expected, rtol=1e-5, atol=1e-5
        )


class TestTables:
    @pytest.mark.parametrize("lengths, max_len", [([2], 2), ([4], 9), ([9, 1, 5, 7], 9), ([3] * 20, 12)])
    @pytest.mark.parametrize("num_rollouts, stride", [(1, 1), (4, 1), (2, 3)])
    @pytest.mark.parametrize("eos_bonus", [-30.0, 0.0, 2.0, 30.0])
    def test_equal_the_network(self, lengths, max_len, num_rollouts, stride, eos_bonus):
        # From sequences that never end to such that end at once.
        policy = WholeHistory(eos_bonus=eos_bonus)
        tokens, chunks = completions_of(policy, lengths, max_len, num_rollouts, stride)
        if max(lengths) <= stride:
            assert not chunks  # no prefix to complete, nothing to score
        else:
            assert_tables_equal_plain(network(), tokens, chunks)

    @pytest.mark.parametrize("widths", [[1], [2], [30], [5, 1, 12], [4, 4]])
    def test_equal_the_network_at_widths_beyond_the_sequence_and_in_any_order(self, widths):
        tokens, chunks = completions_of(WholeHistory(), [6, 2, 8], 8)
        assert_tables_equal_plain(network(widths, [2] * len(widths)), tokens, chunks)

    @pytest.mark.parametrize("highway_layers, tied", [(0, False), (2, False), (1, True)])
    @pytest.mark.parametrize("chunk_rows", [1, 7])
    def test_equal_the_network_in_chunks(self, highway_layers, tied, chunk_rows):
        tokens, chunks = completions_of(WholeHistory(), [6, 2, 8], 8, chunk_rows=chunk_rows)
        assert len(chunks) > 1
        assert_tables_equal_plain(network(highway_layers=highway_layers, tied=tied), tokens, chunks)

    def test_equal_the_network_at_a_large_vocabulary_in_many_blocks(self):
        generator = torch.Generator().manual_seed(0)
        rows = torch.arange(40).repeat_interleave(50)
        completed = torch.randint(2, 900, (40, 20), generator=generator)[rows]
        prefix_lengths = torch.full_like(rows, 12)
        completed[:, 12:] = torch.randint(2, 900, (2000, 8), generator=generator)
        chunk = Completions(completed, torch.full_like(rows, 20), rows, prefix_lengths)
        discriminator = network([2, 10, 20], [200, 100, 160], vocab=900)
        assert_tables_equal_plain(discriminator, completed[::50], [chunk])

    def test_values_of_prefixes_are_the_same(self):
        discriminator = network()
        tokens = torch.tensor([[3, 4, 0, 0], [0, EOS, PAD, PAD], [EOS, PAD, PAD, PAD]])
        values = {}
        for scoring in ("plain", "tables"):
            trajectory = Trajectory(tokens, (tokens != PAD).sum(dim=1), torch.zeros(3, 1), torch.arange(3))
            reward = DiscriminatorReward(discriminator, "logit", scoring)
            values[scoring] = prefix_values(WholeHistory(), reward, trajectory, RolloutPlan(5, 1, 9), Draws(0))
        torch.testing.assert_close(values["tables"], values["plain"], rtol=1e-5, atol=1e-5)
        assert values["plain"].count_nonzero() == 7

    def test_carry_no_gradient_and_change_no_input(self):
        tokens, (chunk,) = completions_of(WholeHistory(), [6, 2, 8], 8)
        before = [part.clone() for part in (*chunk, tokens)]
        discriminator = network()
        weights = [p.clone() for p in discriminator.parameters()]
        assert not completion_logits(discriminator, chunk, tokens, "tables").requires_grad
        assert all(torch.equal(a, b) for a, b in zip(before, (*chunk, tokens), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(weights, discriminator.parameters(), strict=True))


class TestChoice:
    @pytest.fixture
    def calls(self, monkeypatch):
        found = []
        original = ConvolutionalDiscriminator.logits_by_tables

        def recording(self, *args):
            found.append(1)
            return original(self, *args)

        monkeypatch.setattr(ConvolutionalDiscriminator, "logits_by_tables", recording)
        return found

    @pytest.mark.parametrize(
        "vocab, num_tokens, expected",
        [(5, 100, False), (5, 10_000, True), (5000, 15_000, False), (5000, 30_000, True), (10**8, 10**9, False)],
    )
    def test_tables_pay_for_many_tokens_of_a_vocabulary_that_is_not_too_large(self, vocab, num_tokens, expected):
        discriminator = network()
        # Only the shape of the embedding counts, so no memory for it is needed.
        discriminator.embedding.weight = nn.Parameter(torch.zeros(1, 1).expand(vocab, 6), requires_grad=False)
        assert discriminator.tables_pay(num_tokens) == expected

    @pytest.mark.parametrize("pay", [False, True])
    def test_tables_are_built_only_where_they_pay(self, calls, monkeypatch, pay):
        tokens, (chunk,) = completions_of(WholeHistory(), [6, 2, 8], 8)
        asked = []
        monkeypatch.setattr(
            ConvolutionalDiscriminator, "tables_pay", lambda self, num_tokens: asked.append(num_tokens) or pay
        )
        completion_logits(network(), chunk, tokens)
        assert bool(calls) == pay and asked == [chunk.tokens.numel()]

    def test_double_precision_is_scored_by_the_network(self, calls):
        tokens, (chunk,) = completions_of(WholeHistory(), [6, 2, 8], 8)
        assert completion_logits(network().double(), chunk, tokens).dtype == torch.float64 and not calls
        assert network().tables_pay(10**6) and not network().double().tables_pay(10**6)

    def test_the_switch_is_obeyed(self, calls):
        tokens, (chunk,) = completions_of(WholeHistory(), [6, 2, 8], 8)
        completion_logits(network(), chunk, tokens, "plain")
        assert not calls
        completion_logits(network(vocab=100_000), chunk, tokens, "tables")
        assert calls

    def test_a_discriminator_without_tables_is_scored_by_its_forward_pass(self):
        torch.manual_seed(0)
        recurrent = RecurrentDiscriminator(VOCAB, PAD, 6, 5).eval()
        tokens, (chunk,) = completions_of(Script({}), [6, 2, 8], 8)
        with torch.no_grad():
            torch.testing.assert_close(completion_logits(recurrent, chunk, tokens), plain(recurrent, chunk))
        with pytest.raises(ValueError, match="RecurrentDiscriminator cannot score by tables: `scoring`"):
            completion_logits(recurrent, chunk, tokens, "tables")

    def test_an_unknown_way_is_refused(self):
        tokens, (chunk,) = completions_of(Script({}), [3], 8)
        with pytest.raises(ValueError, match="scoring.*plain.*'fast'"):
            completion_logits(network(), chunk, tokens, "fast")
