"""The model: encoder, decoder step by step and fused, presets, and checkpoints with and without the adversary."""

import itertools
import logging
from dataclasses import fields
from types import SimpleNamespace

import commands
import numpy as np
import oracles
import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import fairseq_seqvae
from fairseq_seqvae import models
from fairseq_seqvae.core import noise
from fairseq_seqvae.core.rollouts.policy import Trajectory
from fairseq_seqvae.models import SeqVAEModel
from fairseq_seqvae.models.config import SeqVAEConfig, SeqVAEMelodyConfig, SeqVAEOracleConfig, SeqVAETextConfig
from fairseq_seqvae.models.seqvae import shift_right

fairseq_seqvae.register()

LETTERS = "abcdefghij"
SMALL = {
    "embed_dim": 6,
    "encoder_hidden_dim": 5,
    "decoder_hidden_dim": 7,
    "latent_dim": 4,
    "dropout": 0.0,
    "disc_embed_dim": 4,
    "disc_widths": "1,2",
    "disc_features": "3",
    "max_positions": 50,
    "fixed_length": 0,
}
DECODERS = [
    dict(zip(("decoder_residual", "latent_input", "share_output_embed", "decoder_layers"), values, strict=True))
    for values in itertools.product([False, True], [False, True], [False, True], [1, 2, 3])
]


def make_dictionary(letters=LETTERS):
    """Filled up to a multiple of 8 with madeupwords, as fairseq-preprocess does it."""
    dictionary = Dictionary()
    for letter in letters:
        dictionary.add_symbol(letter)
    dictionary.pad_to_multiple_(8)
    return dictionary


def make_model(dictionary=None, needs_discriminator=True, config=SeqVAEConfig, seed=0, **options):
    torch.manual_seed(seed)
    defaults = {field.name: field.default for field in fields(config)}
    sizes = SMALL if config is SeqVAEConfig else {"max_positions": 50, "fixed_length": 0}
    cfg = SimpleNamespace(**{**defaults, **sizes, **options})
    task = SimpleNamespace(source_dictionary=dictionary or make_dictionary(), needs_discriminator=needs_discriminator)
    return SeqVAEModel.build_model(cfg, task)


def make_batch(model, lengths, seed=0):
    """Sentences of random letters with EOS: tokens padded on the right, lengths, inputs of the decoder."""
    dictionary = model.decoder.dictionary
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(lengths), max(lengths)), dictionary.pad())
    previous = tokens.clone()
    for row, length in enumerate(lengths):
        letters = torch.randint(dictionary.nspecial, dictionary.nspecial + 10, (length - 1,), generator=generator)
        tokens[row, :length] = torch.cat([letters, torch.tensor([dictionary.eos()])])
        previous[row, :length] = torch.cat([torch.tensor([dictionary.eos()]), letters])
    return tokens, torch.tensor(lengths), previous


def step_by_step(decoder, previous, z):
    """Logits (B, T, V) by one step after the other."""
    state, columns = decoder.start(z), []
    for t in range(previous.size(1)):
        features, state = decoder.advance(previous[:, t], state)
        columns.append(decoder.logits(features))
    return torch.stack(columns, dim=1)


def slow_logits(decoder, previous, z, residual, latent_input, shared):
    """Logits of one sentence, (T, V), in numpy, by the equations of the LSTM."""
    weights = {name: p.detach().double().numpy() for name, p in decoder.named_parameters()}
    hidden = decoder.hidden_dim
    initial = weights["initial_state.weight"] @ z + weights["initial_state.bias"]
    x = [weights["embedding.weight"][token] for token in previous]
    if latent_input:
        x = [np.concatenate([step, z]) for step in x]
    for i in range(len(decoder.layers)):
        h, c = initial[2 * i * hidden : (2 * i + 1) * hidden], initial[(2 * i + 1) * hidden : (2 * i + 2) * hidden]
        outputs = []
        for step in x:
            gates = weights[f"layers.{i}.weight_ih_l0"] @ step + weights[f"layers.{i}.bias_ih_l0"]
            gates = gates + weights[f"layers.{i}.weight_hh_l0"] @ h + weights[f"layers.{i}.bias_hh_l0"]
            enter, forget, new, leave = np.split(gates, 4)
            c = c / (1 + np.exp(-forget)) + np.tanh(new) / (1 + np.exp(-enter))
            h = np.tanh(c) / (1 + np.exp(-leave))
            outputs.append(h + step if residual and i > 0 else h)
        x = outputs
    if shared:
        if "to_embedding.weight" in weights:
            x = [weights["to_embedding.weight"] @ step for step in x]
        return np.stack([weights["embedding.weight"] @ step + weights["output_bias"] for step in x])
    return np.stack([weights["output.weight"] @ step + weights["output.bias"] for step in x])


def allowed(model):
    """Symbols that are outputs."""
    forbidden = {"<s>", "<pad>"}
    return [
        i
        for i, symbol in enumerate(model.decoder.dictionary.symbols)
        if symbol not in forbidden and not symbol.startswith("madeupword")
    ]


class TestDecoder:
    @pytest.mark.parametrize("options", DECODERS, ids=str)
    def test_teacher_forcing_equals_the_equations_and_the_steps(self, options):
        model = make_model(**options).double().eval()
        decoder = model.decoder
        _, _, previous = make_batch(model, [3, 8, 1, 5])
        z = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        fused = decoder.teacher_forced(previous, z, regularize=False)
        torch.testing.assert_close(step_by_step(decoder, previous, z), fused, rtol=1e-12, atol=1e-12)
        for row in range(4):
            expected = slow_logits(
                decoder,
                previous[row].tolist(),
                z[row].numpy(),
                options["decoder_residual"],
                options["latent_input"],
                options["share_output_embed"],
            )
            found = fused[row].detach().numpy()
            np.testing.assert_allclose(found[:, allowed(model)], expected[:, allowed(model)], atol=1e-10)

    def test_shared_output_of_equal_size_needs_no_map(self):
        model = make_model(share_output_embed=True, embed_dim=7).double().eval()
        assert model.decoder.to_embedding is None
        _, _, previous = make_batch(model, [6])
        z = torch.randn(1, 4, dtype=torch.float64)
        expected = slow_logits(model.decoder, previous[0].tolist(), z[0].numpy(), False, False, True)
        found = model.decoder.teacher_forced(previous, z, regularize=False)[0].detach().numpy()
        np.testing.assert_allclose(found[:, allowed(model)], expected[:, allowed(model)], atol=1e-10)

    @pytest.mark.parametrize("options", [DECODERS[0], DECODERS[-1]], ids=str)
    def test_fairseqs_incremental_decoding_equals_the_whole(self, options):
        model = make_model(**options).double().eval()
        _, _, previous = make_batch(model, [6, 6, 6])
        encoder_out = {"z": [torch.randn(3, 4, dtype=torch.float64)]}
        whole, _ = model.decoder(previous, encoder_out)
        state = {}
        for t in range(6):
            logits, _ = model.decoder(previous[:, : t + 1], encoder_out, incremental_state=state)
            assert logits.shape == (3, 1, len(model.decoder.dictionary))
            torch.testing.assert_close(logits[:, 0], whole[:, t], rtol=1e-12, atol=1e-12)

    def test_incremental_decoding_can_begin_with_several_tokens(self):
        model = make_model(decoder_layers=2).double().eval()
        _, _, previous = make_batch(model, [6, 6])
        encoder_out = {"z": [torch.randn(2, 4, dtype=torch.float64)]}
        whole, _ = model.decoder(previous, encoder_out)
        state = {}
        for t in range(3, 6):
            logits, _ = model.decoder(previous[:, : t + 1], encoder_out, incremental_state=state)
            torch.testing.assert_close(logits[:, 0], whole[:, t], rtol=1e-12, atol=1e-12)

    def test_incremental_state_follows_the_beams(self):
        model = make_model(latent_input=True, decoder_layers=2).double().eval()
        _, _, previous = make_batch(model, [6, 6, 6])
        z = torch.randn(3, 4, dtype=torch.float64)
        order = torch.tensor([2, 0, 0])
        state = {}
        for t in range(3):
            model.decoder(previous[:, : t + 1], {"z": [z]}, incremental_state=state)
        model.decoder.reorder_incremental_state_scripting(state, order)
        encoder_out = model.encoder.reorder_encoder_out({"z": [z]}, order)
        logits, _ = model.decoder(previous[order][:, :4], encoder_out, incremental_state=state)
        expected, _ = model.decoder(previous[order], {"z": [z[order]]})
        torch.testing.assert_close(logits[:, 0], expected[:, 3], rtol=1e-12, atol=1e-12)

    def test_log_probs_do_not_depend_on_padding_or_batch(self):
        model = make_model(decoder_layers=2, decoder_residual=True, latent_input=True).double().eval()
        lengths = [3, 8, 1, 5]
        _, _, previous = make_batch(model, lengths)
        z = torch.randn(4, 4, dtype=torch.float64)
        together = model.decoder.teacher_forced(previous, z, regularize=False).log_softmax(-1)
        for row, length in enumerate(lengths):
            alone = model.decoder.teacher_forced(previous[row : row + 1, :length], z[row : row + 1], False)
            torch.testing.assert_close(together[row, :length], alone[0].log_softmax(-1), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("shared", [False, True])
    @pytest.mark.parametrize("fixed_length", [0, 5])
    def test_symbols_that_are_no_outputs_have_probability_zero(self, dtype, shared, fixed_length):
        model = make_model(share_output_embed=shared, fixed_length=fixed_length).to(dtype).eval()
        _, _, previous = make_batch(model, [5, 5])
        logits = model.decoder.teacher_forced(previous, torch.zeros(2, 4), regularize=False)
        assert logits.dtype == dtype and logits.isfinite().all()
        probs = logits.float().softmax(-1)
        possible = [i for i in allowed(model) if not (fixed_length and i == model.decoder.eos)]
        impossible = [i for i in range(len(model.decoder.dictionary)) if i not in possible]
        assert len(impossible) == 2 + 2 + bool(fixed_length)  # <s>, <pad>, two madeupwords, perhaps </s>
        assert (probs[..., impossible] == 0).all() and (probs[..., possible] > 0).all()

    def test_fixed_length_ends_beam_search_after_the_last_token_for_nothing(self):
        model = make_model(fixed_length=4).eval()
        _, _, previous = make_batch(model, [6])
        state = {}
        for t in range(5):
            logits, _ = model.decoder(previous[:, : t + 1], {"z": [torch.zeros(1, 4)]}, incremental_state=state)
            eos = logits.log_softmax(-1)[0, 0, model.decoder.eos]
            assert (eos == 0) if t == 4 else (eos < -1000)


class TestRegularisation:
    ROWS, STEPS = 200, 21

    def hidden(self, model, share=None, regularize=True, keys=None):
        """Which inputs were hidden, (B, T), from what the embedding saw."""
        dictionary = model.decoder.dictionary
        previous = torch.full((self.ROWS, self.STEPS), dictionary.index("c"))
        previous[:, 0] = dictionary.eos()
        seen = []
        handle = model.decoder.embedding.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
        if keys is None:
            keys = noise.row_keys(1, 2, 3, torch.arange(self.ROWS))
        model.decoder.teacher_forced(previous, torch.zeros(self.ROWS, 4), regularize, keys)
        handle.remove()
        changed = seen[0] != previous
        assert (seen[0][changed] == dictionary.unk()).all()
        return changed

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_word_dropout_hides_the_stated_share(self, share):
        hidden = self.hidden(make_model(word_dropout=share).train())
        assert not hidden[:, 0].any()  # the start symbol
        count = self.ROWS * (self.STEPS - 1)
        deviation = oracles.normal_quantile() * (share * (1 - share) / count) ** 0.5
        assert abs(hidden[:, 1:].float().mean().item() - share) < deviation
        # Neither whole rows nor whole columns.
        assert hidden[:, 1:].any(dim=0).all() and not hidden[:, 1:].all(dim=0).any()

    def test_word_dropout_never_acts_in_evaluation_or_on_a_policy(self):
        model = make_model(word_dropout=0.9)
        assert not self.hidden(model.eval()).any()
        assert not self.hidden(model.train(), regularize=False).any()

    def test_word_dropout_is_a_function_of_the_keys(self):
        model = make_model(word_dropout=0.5).train()
        keys = noise.row_keys(1, 2, 3, torch.arange(self.ROWS))
        first, again = self.hidden(model, keys=keys), self.hidden(model, keys=keys.flip(0))
        assert torch.equal(first, again.flip(0))
        assert not torch.equal(first[0], first[1])

    def test_word_dropout_without_keys_is_refused(self):
        model = make_model(word_dropout=0.5).train()
        with pytest.raises(ValueError, match="word dropout needs `keys`"):
            model.decoder.teacher_forced(torch.full((1, 2), 5), torch.zeros(1, 4), regularize=True)

    def test_dropout_acts_in_training_and_not_on_a_policy(self):
        model = make_model(dropout=0.5, decoder_layers=2)
        _, _, previous = make_batch(model, [5, 5])
        z = torch.randn(2, 4)
        calm = model.eval().decoder.teacher_forced(previous, z, regularize=True)
        model.train()
        assert torch.equal(model.decoder.teacher_forced(previous, z, regularize=False), calm)
        first, second = (model.decoder.teacher_forced(previous, z, regularize=True) for _ in range(2))
        assert not torch.equal(first, calm) and not torch.equal(first, second)

    def test_encoder_has_dropout_in_training_only(self):
        model = make_model(dropout=0.5)
        tokens, lengths, _ = make_batch(model, [5, 5])
        model.eval()
        assert torch.equal(*(model.encoder.posterior(tokens, lengths).mean for _ in range(2)))
        model.train()
        assert not torch.equal(*(model.encoder.posterior(tokens, lengths).mean for _ in range(2)))

    @pytest.mark.parametrize("name", ["dropout", "word_dropout", "disc_dropout"])
    @pytest.mark.parametrize("value", [1.0, -0.1])
    def test_impossible_dropout_is_refused(self, name, value):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must lie in .0, 1. but is {value}"):
            make_model(**{name: value})


class TestEncoder:
    LENGTHS = [3, 8, 1, 5]

    @pytest.mark.parametrize("layers, residual", [(1, False), (2, False), (3, True)])
    def test_posterior_equals_the_equations(self, layers, residual):
        model = make_model(encoder_layers=layers, encoder_residual=residual).double().eval()
        tokens, lengths, _ = make_batch(model, self.LENGTHS)
        posterior = model.encoder.posterior(tokens, lengths)
        weights = {name: p.detach().numpy() for name, p in model.encoder.named_parameters()}

        def layer(side, i, x):
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            return oracles.lstm(x, *(weights[f"lstm.{side}_layers.{i}.{name}"] for name in names))

        for row, length in enumerate(self.LENGTHS):
            x = weights["embedding.weight"][tokens[row, :length].numpy()]
            for i in range(layers):
                outputs = np.concatenate([layer("forward", i, x), layer("backward", i, x[::-1])[::-1]], axis=1)
                x = outputs + x if residual and i > 0 else outputs
            final = np.concatenate([x[-1, :5], x[0, 5:]])
            mean = weights["mean.weight"] @ final + weights["mean.bias"]
            raw = weights["raw_std.weight"] @ final + weights["raw_std.bias"]
            np.testing.assert_allclose(posterior.mean[row].detach().numpy(), mean, atol=1e-5)
            np.testing.assert_allclose(posterior.std[row].detach().numpy(), np.log1p(np.exp(raw)) + 1e-4, atol=1e-5)

    @pytest.mark.parametrize("width", [8, 12])
    def test_posterior_does_not_depend_on_padding_or_batch(self, width):
        model = make_model(encoder_layers=2, encoder_residual=True).double().eval()
        tokens, lengths, _ = make_batch(model, self.LENGTHS)
        padded = torch.nn.functional.pad(tokens, (0, width - 8), value=model.decoder.pad)
        together = model.encoder.posterior(padded, lengths)
        for row, length in enumerate(self.LENGTHS):
            alone = model.encoder.posterior(tokens[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(together.mean[row], alone.mean[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(together.std[row], alone.std[0], rtol=0, atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_posterior_is_kept_in_float32(self, dtype):
        model = make_model().to(dtype).eval()
        tokens, lengths, _ = make_batch(model, self.LENGTHS)
        posterior = model.encoder.posterior(tokens, lengths)
        assert posterior.mean.dtype == posterior.std.dtype == torch.float32
        # softplus underflows here, and the divergence must not become infinite
        torch.nn.init.constant_(model.encoder.raw_std.bias, -500.0)
        assert model.encoder.posterior(tokens, lengths).kl().isfinite().all()


class TestForward:
    def test_without_mode_it_is_fairseqs_forward_with_the_mean(self):
        model = make_model().eval()
        tokens, lengths, previous = make_batch(model, [4, 6])
        logits, extra = model(tokens, lengths, previous)
        mean = model.encoder.posterior(tokens, lengths).mean
        torch.testing.assert_close(logits, step_by_step(model.decoder, previous, mean))
        assert isinstance(extra, dict)
        z = torch.randn(2, 4)
        torch.testing.assert_close(model(tokens, lengths, previous, z=z)[0], step_by_step(model.decoder, previous, z))

    def test_unknown_mode_is_refused(self):
        model = make_model()
        with pytest.raises(ValueError, match="`mode` must be None, 'generator' or 'discriminator' but is 'critic'"):
            model(*make_batch(model, [4]), mode="critic")

    def test_generator_mode_draws_z_with_the_given_noise(self):
        model = make_model().eval()
        tokens, lengths, previous = make_batch(model, [4, 6])
        draws = torch.randn(2, 4)
        output = model(tokens, lengths, previous, mode="generator", noise=draws)
        z = output.posterior.mean + output.posterior.std * draws
        torch.testing.assert_close(output.logits, step_by_step(model.decoder, previous, z))
        assert output.policy_logits is None

    @pytest.mark.parametrize("regularization", [{}, {"word_dropout": 0.5}])
    def test_a_policy_is_scored_without_dropout(self, regularization):
        """Probabilities are those that its sequences were drawn with, whatever regularises the reconstruction."""
        model = make_model(dropout=0.5, decoder_layers=2, **regularization).train()
        tokens, lengths, previous = make_batch(model, [4, 6])
        mask, z = tokens == model.decoder.pad, torch.randn(2, 4)
        trajectory = Trajectory(tokens, lengths, mask, z, torch.arange(2))
        inputs = {"noise": torch.randn(2, 4), "word_dropout_keys": torch.arange(2), "trajectory": trajectory}
        output = model(tokens, lengths, previous, mode="generator", **inputs)
        model.eval()
        torch.testing.assert_close(output.policy_logits, step_by_step(model.decoder, previous, z))
        assert not torch.allclose(output.logits, model(tokens, lengths, previous)[0])


class TestPlayers:
    @pytest.mark.parametrize("own_embeddings", [False, True])
    def test_every_parameter_belongs_to_a_player(self, own_embeddings):
        model = make_model(no_share_embeddings=own_embeddings)
        assert (model.encoder.embedding is model.decoder.embedding) != own_embeddings
        for name, parameter in model.named_parameters():
            player = "discriminator" if name.startswith("discriminator.") else "generator"
            assert parameter.param_group == player, name
            assert parameter.requires_grad != name.startswith("rollout_decoder."), name

    def test_rollout_policy_starts_as_the_decoder_and_is_no_part_of_it(self):
        model = make_model()
        before = {name: p.clone() for name, p in model.rollout_decoder.named_parameters()}
        for name, p in model.decoder.named_parameters():
            assert torch.equal(before[name], p)
            with torch.no_grad():
                p.add_(1.0)
        for name, p in model.rollout_decoder.named_parameters():
            assert torch.equal(before[name], p)

    def test_rollout_policy_lags(self):
        model = make_model()
        expected = {name: p.double().clone() for name, p in model.rollout_decoder.named_parameters()}
        for step in range(3):
            for number, p in enumerate(model.decoder.parameters()):
                p.data.add_(0.1 * (step + number + 1))
            model.lagging.follow(model.decoder, 0.8)
            for name, p in model.decoder.named_parameters():
                expected[name] = 0.8 * expected[name] + 0.2 * p.double()
        for name, p in model.rollout_decoder.named_parameters():
            torch.testing.assert_close(p.double(), expected[name], rtol=1e-6, atol=1e-7)
        model.lagging.follow(model.decoder, 0.0)
        for p, q in zip(model.rollout_decoder.parameters(), model.decoder.parameters(), strict=True):
            assert torch.equal(p, q)

    def test_without_need_there_is_no_adversary(self):
        model = make_model(needs_discriminator=False)
        assert model.discriminator is None and model.rollout_decoder is None
        assert not any(name.startswith(("discriminator", "rollout")) for name in model.state_dict())

    def test_drop_adversary_leaves_the_generator(self):
        model = make_model()
        generator = {k: v for k, v in model.state_dict().items() if not k.startswith(("discriminator.", "rollout_"))}
        model.drop_adversary()
        assert model.state_dict().keys() == generator.keys()
        assert {p.param_group for p in model.parameters()} == {"generator"}


class TestCheckpoints:
    def generator_of(self, state):
        return {k: v for k, v in state.items() if not k.startswith(("discriminator.", "rollout_decoder."))}

    def test_with_adversary_into_without(self):
        full, bare = make_model(seed=1), make_model(seed=2, needs_discriminator=False)
        bare.load_state_dict(full.state_dict(), strict=True)
        expected = self.generator_of(full.state_dict())
        assert bare.state_dict().keys() == expected.keys()
        assert all(torch.equal(bare.state_dict()[k], v) for k, v in expected.items())

    def test_without_adversary_into_with(self, caplog):
        bare, full = make_model(seed=1, needs_discriminator=False), make_model(seed=2)
        discriminator = {k: v.clone() for k, v in full.discriminator.state_dict().items()}
        with caplog.at_level(logging.INFO):
            full.load_state_dict(bare.state_dict(), strict=True)
        assert "holds no discriminator: it starts from scratch" in caplog.text
        assert "holds no rollout_decoder: it starts as a copy of the decoder" in caplog.text
        for key, value in bare.state_dict().items():
            assert torch.equal(full.state_dict()[key], value), key
        for key, value in discriminator.items():
            assert torch.equal(full.discriminator.state_dict()[key], value), key
        for p, q in zip(full.rollout_decoder.parameters(), bare.decoder.parameters(), strict=True):
            assert torch.equal(p, q) and p is not q

    def test_with_into_with_keeps_all(self):
        first, second = make_model(seed=1), make_model(seed=2)
        with torch.no_grad():
            for p in first.rollout_decoder.parameters():
                p.mul_(0.5)
        second.load_state_dict(first.state_dict(), strict=True)
        assert all(torch.equal(second.state_dict()[k], v) for k, v in first.state_dict().items())

    def test_dictionary_of_another_size_is_refused(self):
        model = make_model()
        other = make_model(make_dictionary("abcdefghijklmnopqrst"))
        with pytest.raises(ValueError, match="dictionary of 24 symbols but the data folder has one of 16"):
            model.load_state_dict(other.state_dict())

    @pytest.mark.parametrize("letters", ["abcdefghiz", "bacdefghij"], ids=["other symbol", "other order"])
    def test_dictionary_of_equal_size_but_other_symbols_is_refused(self, letters):
        model, other = make_model(), make_model(make_dictionary(letters))
        with pytest.raises(ValueError, match="same size but of other symbols, or in another order: use the data"):
            model.load_state_dict(other.state_dict())

    def test_dictionary_is_known_across_processes_by_its_symbols(self):
        # zlib.crc32 of the symbols, one per line: checkpoints contain it.
        import zlib

        symbols = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, "madeupword0000", "madeupword0001"]
        assert int(make_model().dictionary_version) == zlib.crc32("\n".join(symbols).encode()) & 0x7FFFFFFF


class TestPresets:
    """The sizes that the presets state."""

    def sizes(self, model):
        decoder, encoder = model.decoder, model.encoder
        return {
            "embed": encoder.embedding.embedding_dim,
            "encoder": (len(encoder.lstm.forward_layers), encoder.lstm.forward_layers[0].hidden_size),
            "encoder_residual": encoder.lstm.residual,
            "decoder": (len(decoder.layers), decoder.layers[0].hidden_size),
            "decoder_residual": decoder.residual,
            "z": encoder.latent_dim,
            "z_input": decoder.layers[0].input_size - decoder.embedding.embedding_dim,
            "dropout": decoder.dropout,
        }

    def test_oracle(self):
        model = make_model(config=SeqVAEOracleConfig)
        assert self.sizes(model) == {
            "embed": 64,
            "encoder": (2, 64),
            "encoder_residual": True,
            "decoder": (1, 32),
            "decoder_residual": False,
            "z": 64,
            "z_input": 0,
            "dropout": 0.0,
        }
        widths = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20]
        features = [100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160]
        found = [(c.kernel_size[0], c.out_channels) for c in model.discriminator.convolutions]
        assert found == list(zip(widths, features, strict=True))
        assert model.discriminator.output.in_features == 1720

    def test_melody(self):
        model = make_model(config=SeqVAEMelodyConfig)
        assert self.sizes(model) == {
            "embed": 256,
            "encoder": (2, 256),
            "encoder_residual": True,
            "decoder": (2, 256),
            "decoder_residual": True,
            "z": 256,
            "z_input": 0,
            "dropout": 0.25,
        }
        layers = model.discriminator.lstm.forward_layers
        assert (len(layers), layers[0].hidden_size) == (2, 256)

    def test_text(self):
        model = make_model(config=SeqVAETextConfig)
        assert self.sizes(model) == {
            "embed": 512,
            "encoder": (1, 1024),
            "encoder_residual": False,
            "decoder": (1, 1024),
            "decoder_residual": False,
            "z": 32,
            "z_input": 32,
            "dropout": 0.5,
        }
        assert [c.out_channels for c in model.discriminator.convolutions] == [128] * 5

    def test_names_are_registered(self):
        from fairseq.models import ARCH_MODEL_REGISTRY

        for name in ("seqvae", "seqvae_oracle", "seqvae_melody", "seqvae_text"):
            assert issubclass(ARCH_MODEL_REGISTRY[name], models.SeqVAEModel)

    @pytest.mark.parametrize(
        "preset, expected",
        [
            ("seqvae_oracle", {"embed_dim": 64, "decoder_hidden_dim": 32, "encoder_residual": True, "dropout": 0.0}),
            ("seqvae_melody", {"discriminator": "rnn", "decoder_layers": 2, "latent_dim": 256, "disc_layers": 2}),
            ("seqvae_text", {"embed_dim": 512, "latent_input": True, "disc_features": "128", "decoder_layers": 1}),
        ],
    )
    def test_command_line_takes_presets_and_what_differs_from_them(self, preset, expected):
        def parse(flags):
            arguments = commands.split_flags("DATA --task seqvae --criterion seqvae_elbo --arch", preset, flags)
            with commands.captured():
                namespace = options.parse_args_and_arch(options.get_training_parser(), arguments)
                return convert_namespace_to_omegaconf(namespace).model

        model = parse("")
        assert {name: model[name] for name in expected} == expected
        model = parse("--disc-embed-dim 7")
        assert {name: model[name] for name in expected} == expected and model.disc_embed_dim == 7


def shift(tokens, first, pad, lengths):
    mask = torch.arange(tokens.size(1)) >= lengths.unsqueeze(1)
    return shift_right(tokens, mask, first, pad)


class TestShiftRight:
    def test_by_hand(self):
        tokens = torch.tensor([[5, 6, 2, 1], [7, 2, 1, 1], [5, 6, 7, 5]])
        shifted = shift(tokens, 2, 1, torch.tensor([3, 2, 4]))
        assert shifted.tolist() == [[2, 5, 6, 1], [2, 7, 1, 1], [2, 5, 6, 7]]

    @pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 5), (6, 9)])
    def test_equals_the_loop(self, shape):
        tokens, lengths = torch.randint(2, 9, shape), torch.randint(1, shape[1] + 1, shape[:1])
        shifted = shift(tokens, 0, 1, lengths)
        assert shifted.dtype == tokens.dtype
        assert shifted.tolist() == oracles.shift_right(tokens.tolist(), 0, 1, lengths.tolist())

    def test_last_token_is_never_an_input(self):
        tokens = torch.tensor([[5, 6, 9]])
        assert 9 not in shift(tokens, 2, 1, torch.tensor([3])).tolist()[0]

    def test_tokens_after_the_end_are_not_shown(self):
        garbage = torch.tensor([[5, 6, 8, 8]])
        assert shift(garbage, 2, 1, torch.tensor([2])).tolist() == [[2, 5, 1, 1]]

    def test_input_is_not_modified(self):
        tokens = torch.tensor([[5, 6, 7]])
        shift(tokens, 2, 1, torch.tensor([2]))
        assert tokens.tolist() == [[5, 6, 7]]
