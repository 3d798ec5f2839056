"""Convolutional and recurrent discriminators, and their registry."""

import itertools
import types

import numpy as np
import oracles
import pytest
import torch
from torch import nn

from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.registry import build_discriminator, register_discriminator
from fairseq_seqvae.core.discriminators.rnn import RecurrentDiscriminator
from fairseq_seqvae.support.extensions import import_module_file

PAD, VOCAB = 1, 12
WIDTHS, FEATURES = [1, 2, 5], [3, 4, 2]
LENGTHS = [4, 7, 1, 2]
CONFIG = types.SimpleNamespace(
    disc_embed_dim=6,
    disc_widths="1,2,5",
    disc_features="3,4,2",
    disc_highway_layers=1,
    disc_tied_highway=False,
    disc_dropout=0.25,
    disc_hidden_dim=5,
    disc_layers=2,
    max_positions=50,
)


def make(kind, dropout=0.0, highway_layers=1, tied_highway=False):
    torch.manual_seed(0)
    if kind == "cnn":
        network = ConvolutionalDiscriminator(
            vocab_size=VOCAB,
            padding_idx=PAD,
            embed_dim=6,
            widths=WIDTHS,
            features=FEATURES,
            highway_layers=highway_layers,
            tied_highway=tied_highway,
            dropout=dropout,
        )
    else:
        network = RecurrentDiscriminator(
            vocab_size=VOCAB, padding_idx=PAD, embed_dim=6, hidden_dim=5, layers=2, dropout=dropout
        )
    return network.double().eval()


def make_batch(lengths=LENGTHS, width=None, seed=0):
    width = width or max(lengths)
    tokens = torch.randint(2, VOCAB, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(width) >= torch.tensor(lengths).unsqueeze(1)
    return tokens.masked_fill(mask, PAD), mask


both = pytest.mark.parametrize("kind", ["cnn", "rnn"])


class TestEveryDiscriminator:
    @both
    @pytest.mark.parametrize("lengths", [[1], [6], [1, 1, 1], LENGTHS])
    def test_gives_one_logit_a_sequence(self, kind, lengths):
        logits = make(kind)(*make_batch(lengths))
        assert logits.shape == (len(lengths),) and torch.isfinite(logits).all()

    @both
    @pytest.mark.parametrize("extra", [1, 3, 20])
    def test_more_padding_changes_nothing(self, kind, extra):
        network, (tokens, mask) = make(kind), make_batch()
        wide_tokens, wide_mask = make_batch(width=7 + extra)
        wide_tokens[:, :7] = tokens
        torch.testing.assert_close(network(wide_tokens, wide_mask), network(tokens, mask), rtol=0, atol=1e-12)

    @both
    def test_sequences_as_long_as_there_are_rows_may_be_padded_too(self, kind):
        network, (tokens, mask) = make(kind), make_batch([4] * 4)
        wide_tokens, wide_mask = make_batch([4] * 4, width=9)
        wide_tokens[:, :4] = tokens
        torch.testing.assert_close(network(wide_tokens, wide_mask), network(tokens, mask))

    @both
    def test_tokens_under_the_mask_do_not_matter(self, kind):
        network, (tokens, mask) = make(kind), make_batch()
        for garbage in (0, 5, VOCAB - 1):
            dirty = tokens.masked_fill(mask, garbage)
            torch.testing.assert_close(network(dirty, mask), network(tokens, mask), rtol=0, atol=0)

    @both
    def test_rows_do_not_depend_on_each_other(self, kind):
        network, (tokens, mask) = make(kind), make_batch()
        whole = network(tokens, mask)
        for row, length in enumerate(LENGTHS):
            alone = network(tokens[row : row + 1, :length], mask[row : row + 1, :length])
            torch.testing.assert_close(alone[0], whole[row], rtol=0, atol=1e-12)
        order = torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(network(tokens[order], mask[order]), whole[order], rtol=0, atol=1e-12)

    @both
    def test_every_real_token_can_matter(self, kind):
        # Over many changes: the maximum over time hides some of them.
        network, (tokens, mask) = make(kind), make_batch()
        before = network(tokens, mask)
        for row, length in enumerate(LENGTHS):
            for place in range(length):
                changes = []
                for token in range(2, VOCAB):
                    changed = tokens.clone()
                    changed[row, place] = token
                    after = network(changed, mask)
                    changes.append((after - before)[row].abs().item())
                    others = torch.arange(len(LENGTHS)) != row
                    torch.testing.assert_close(after[others], before[others], rtol=0, atol=1e-12)
                assert max(changes) > 1e-9, f"token {place} of row {row}"

    @both
    def test_dropout_is_off_in_evaluation_and_on_in_training(self, kind):
        network, (tokens, mask) = make(kind, dropout=0.5), make_batch()
        torch.testing.assert_close(network(tokens, mask), make(kind)(tokens, mask))
        assert torch.equal(network(tokens, mask), network(tokens, mask))
        network.train()
        torch.manual_seed(1)
        assert not torch.equal(network(tokens, mask), network(tokens, mask))

    @both
    def test_gradient_reaches_every_parameter(self, kind):
        network = make(kind)
        tokens, mask = make_batch([7] * 60, seed=2)
        network(tokens, mask).square().sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name

    @both
    def test_the_embedding_of_padding_is_zero_and_stays_zero(self, kind):
        network, (tokens, mask) = make(kind), make_batch()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        network(tokens, mask).sum().backward()
        optimizer.step()
        assert network.embedding.weight[PAD].abs().sum() == 0

    @both
    def test_inputs_are_not_modified(self, kind):
        tokens, mask = make_batch()
        before = tokens.clone(), mask.clone()
        make(kind)(tokens, mask)
        assert torch.equal(tokens, before[0]) and torch.equal(mask, before[1])

    @both
    def test_learns_to_tell_two_kinds_of_sequences_apart(self, kind):
        network = make(kind).train()
        tokens, mask = make_batch([6] * 40, seed=3)
        real = tokens.clone()
        real[:, 2:4] = torch.tensor([5, 7])
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        losses = []
        for _ in range(30):
            # A high logit says "real".
            loss = nn.functional.softplus(-network(real, mask)).mean(dim=0)
            loss = loss + nn.functional.softplus(network(tokens, mask)).mean(dim=0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 2
        assert network(real, mask).mean() > network(tokens, mask).mean()

    @both
    def test_works_in_half_precision(self, kind):
        network = make(kind).bfloat16()
        tokens, mask = make_batch()
        logits = network(tokens, mask)
        assert logits.shape == (4,) and torch.isfinite(logits).all()


class TestConvolutionalDiscriminator:
    def slow_logit(self, network, tokens):
        """One sequence of real tokens, by loops over windows."""
        embedded = network.embedding.weight.detach().numpy()[tokens]
        pooled = []
        for convolution in network.convolutions:
            kernel, bias = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
            # Rectifying before or after the maximum is the same.
            pooled.append(np.maximum(oracles.convolution_max(embedded, kernel, bias), 0))
        hidden = np.concatenate(pooled)
        for highway in network.highway:
            transformed = self.linear(highway.transform, hidden)
            gate = transformed if highway.gate is None else self.linear(highway.gate, hidden)
            gate = 1 / (1 + np.exp(-gate))
            hidden = gate * np.maximum(transformed, 0) + (1 - gate) * hidden
        return self.linear(network.output, hidden)[0]

    def linear(self, layer, x):
        return layer.weight.detach().numpy() @ x + layer.bias.detach().numpy()

    @pytest.mark.parametrize("highway_layers, tied", [(0, False), (1, False), (2, False), (2, True)])
    @pytest.mark.parametrize("lengths", [[1], [2, 1], LENGTHS, [9, 5, 6]])
    def test_equals_the_loop_over_windows(self, highway_layers, tied, lengths):
        network = make("cnn", highway_layers=highway_layers, tied_highway=tied)
        tokens, mask = make_batch(lengths, seed=4)
        expected = [self.slow_logit(network, tokens[row, :length].numpy()) for row, length in enumerate(lengths)]
        np.testing.assert_allclose(network(tokens, mask).detach().numpy(), expected, atol=1e-12)

    def test_windows_do_not_reach_into_the_padding(self):
        """By hand: with one kernel of negative weights, any window with padding in it would win the maximum."""
        network = ConvolutionalDiscriminator(4, PAD, 1, [2], [1], highway_layers=0, dropout=0.0).eval()
        with torch.no_grad():
            network.embedding.weight.copy_(torch.tensor([[0.0], [0.0], [1.0], [2.0]]))
            network.convolutions[0].weight.fill_(-1.0)
            network.convolutions[0].bias.fill_(10.0)
            network.output.weight.fill_(1.0)
            network.output.bias.zero_()
        tokens = torch.tensor([[3, 3, 3, PAD], [3, 2, 3, 3], [3, PAD, PAD, PAD]])
        # Windows: 10 - 4; the best of 10 - 3, 10 - 3, 10 - 4; a single token filled up with zero: 10 - 2.
        logits = network(tokens, tokens == PAD)
        torch.testing.assert_close(logits, torch.tensor([6.0, 7.0, 8.0]))

    @pytest.mark.parametrize("length", [1, 3, 4])
    def test_widths_beyond_the_sequence(self, length):
        network = make("cnn")
        tokens, mask = make_batch([length], seed=5)
        expected = self.slow_logit(network, tokens[0].numpy())
        assert network(tokens, mask).item() == pytest.approx(expected, abs=1e-12)

    def test_order_matters_beyond_width_one(self):
        network = make("cnn")
        tokens = torch.tensor([[3, 4, 5, 6, 7, 8]])
        mask = torch.zeros(1, 6, dtype=torch.bool)
        assert (network(tokens, mask) - network(tokens.flip(1), mask)).abs() > 1e-9

    @pytest.mark.parametrize("widths, features", [([1, 2], [3]), ([], []), ([0, 1], [2, 2]), ([1], [0])])
    def test_widths_and_features_must_agree(self, widths, features):
        with pytest.raises(ValueError, match="widths.*features"):
            ConvolutionalDiscriminator(VOCAB, PAD, 4, widths, features, highway_layers=1, dropout=0.0)


class TestRecurrentDiscriminator:
    def test_reads_both_directions(self):
        """The last forward state alone would hardly see the first tokens of a long row, and the other way round."""
        network = make("rnn")
        tokens, mask = make_batch([60], seed=6)
        before = network(tokens, mask)
        for place in (0, 59):
            changed = tokens.clone()
            changed[0, place] = 2 if tokens[0, place] != 2 else 3
            assert (network(changed, mask) - before).abs().item() > 1e-4


class TestRegistry:
    counter = itertools.count()

    def name(self):
        """Names are for ever, so each test takes one of its own."""
        return f"test-{next(self.counter)}"

    def test_a_registered_class_is_built_from_its_config(self):
        name = self.name()

        @register_discriminator(name)
        class Constant(nn.Module):
            def __init__(self, value, vocab_size, padding_idx):
                super().__init__()
                self.arguments = value, vocab_size, padding_idx

            @classmethod
            def from_config(cls, cfg, vocab_size, padding_idx):
                return cls(cfg.value, vocab_size, padding_idx)

        network = build_discriminator(name, types.SimpleNamespace(value=7), 40, 3)
        assert type(network) is Constant and network.arguments == (7, 40, 3)

    def test_registering_gives_the_class_back(self):
        class Mine(nn.Module):
            @classmethod
            def from_config(cls, cfg, vocab_size, padding_idx):
                return cls()

        assert register_discriminator(self.name())(Mine) is Mine

    def test_unknown_name_lists_the_known_ones(self):
        with pytest.raises(ValueError, match="unknown discriminator 'transformer'"):
            build_discriminator("transformer", CONFIG, VOCAB, PAD)

    def test_a_name_is_given_only_once(self):
        name = self.name()

        class First(nn.Module):
            @classmethod
            def from_config(cls, cfg, vocab_size, padding_idx):
                return cls()

        class Second(First):
            pass

        register_discriminator(name)(First)
        with pytest.raises(ValueError, match=f"{name}.*First"):
            register_discriminator(name)(Second)
        assert type(build_discriminator(name, CONFIG, VOCAB, PAD)) is First

    def test_a_file_of_ones_own_is_imported_once(self, tmp_path):
        name, file = self.name(), tmp_path / "own.py"
        file.write_text(
            "from torch import nn\n"
            "from fairseq_seqvae.discriminators import register_discriminator\n"
            f"@register_discriminator({name!r})\n"
            "class Own(nn.Module):\n"
            "    @classmethod\n"
            "    def from_config(cls, cfg, vocab_size, padding_idx):\n"
            "        return cls()\n"
        )
        import_module_file(str(file), "--module")
        import_module_file(str(file), "--module")
        assert type(build_discriminator(name, CONFIG, VOCAB, PAD)).__name__ == "Own"

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="--module .*nowhere.py"):
            import_module_file(str(tmp_path / "nowhere.py"), "--module")
