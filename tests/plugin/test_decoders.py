"""Decoders and encoders by name: each against slow independent versions, as a policy, and in whole trainings."""

import math

import commands
import numpy as np
import pytest
import torch
from commands import train
from test_model import allowed, make_batch, make_model, step_by_step

from fairseq_seqvae.core.networks.lstm import pool
from fairseq_seqvae.core.noise import Draws, Stream, row_keys
from fairseq_seqvae.core.rollouts import rollout
from fairseq_seqvae.core.rollouts.policy import RolloutPlan, Shared, Trajectory

HYBRID = {"encoder": "convolutional", "decoder": "hybrid", "conv_channels": "5,6", "latent_positions": 8}
HIERARCHICAL = {"decoder": "hierarchical", "segment_length": 3, "conductor_dim": 6, "latent_positions": 8}
LOOKBACK = {**HIERARCHICAL, "lookback": "1,2"}
SEGMENTS = {**LOOKBACK, "segment_channels": "6,5"}
RECURRENT_LOOKBACK = {"segment_length": 3, "lookback": "1,2"}
STEPWISE = {"decoder": "stepwise", "latent_positions": 4}
KINDS = {"recurrent": {}, "hybrid": HYBRID, "hierarchical": HIERARCHICAL, "lookback": LOOKBACK}
KINDS |= {"segments": SEGMENTS, "stepwise": STEPWISE, "recurrent_lookback": RECURRENT_LOOKBACK}
VARIANTS = [{}, {"latent_input": True}, {"latent_output": True, "decoder_layers": 2, "decoder_residual": True}]

each_kind = pytest.mark.parametrize("kind", KINDS)
each_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def draw_z(rows, seed=1):
    return torch.randn(rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights_of(module):
    return {name: p.detach().double().numpy() for name, p in module.named_parameters()}


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def channel_norm(x, scale, shift):
    """Of (C, T), by running statistics that have seen no batch yet: mean 0, variance 1."""
    return x / np.sqrt(1 + 1e-5) * scale[:, None] + shift[:, None]


def unroll(weights, z):
    """Features (N, D) of one z: a transposed convolution spreads each position over four places, two steps apart."""
    x = gelu(weights["unrolling.first.weight"] @ z + weights["unrolling.first.bias"]).reshape(6, -1)
    for i in range(2):
        kernel, bias = weights[f"unrolling.layers.{i}.weight"], weights[f"unrolling.layers.{i}.bias"]
        spread = np.zeros((kernel.shape[1], 2 * x.shape[1] + 2))
        for t in range(x.shape[1]):
            spread[:, 2 * t : 2 * t + 4] += np.einsum("i,iok->ok", x[:, t], kernel)
        x = spread[:, 1:-1] + bias[:, None]
        x = gelu(channel_norm(x, weights[f"unrolling.norms.{i}.scale"], weights[f"unrolling.norms.{i}.shift"]))
    return x.T


def lstm_layers(weights, inputs, cells, residual):
    """Outputs (T, H) of stacked layers, one step after the other; *cells* are h_0, c_0, h_1, ..."""
    x = list(inputs)
    for i in range(len(cells) // 2):
        h, c = cells[2 * i], cells[2 * i + 1]
        outputs = []
        for step in x:
            gates = weights[f"layers.{i}.weight_ih_l0"] @ step + weights[f"layers.{i}.bias_ih_l0"]
            gates = gates + weights[f"layers.{i}.weight_hh_l0"] @ h + weights[f"layers.{i}.bias_hh_l0"]
            enter, forget, new, leave = np.split(gates, 4)
            c = c / (1 + np.exp(-forget)) + np.tanh(new) / (1 + np.exp(-enter))
            h = np.tanh(c) / (1 + np.exp(-leave))
            outputs.append(h + step if residual and i > 0 else h)
        x = outputs
    return np.stack(x)


def looked_back(embedded):
    """For each step the embeddings 1 and 2 segments of 3 tokens before the token that it predicts."""
    # Token t is input t + 1. Padding, whose embedding is 0, stands before the first input.
    nothing = np.zeros_like(embedded[0])
    return [
        [embedded[t - distance + 1] if t - distance + 1 >= 0 else nothing for distance in (3, 6)]
        for t in range(len(embedded))
    ]


def slow_logits(decoder, kind, previous, z, variant):
    """Logits (T, V) of one sentence."""
    weights, hidden, residual = weights_of(decoder), decoder.hidden_dim, variant.get("decoder_residual", False)
    embedded = [weights["embedding.weight"][token] for token in previous]
    after = [z] if variant.get("latent_input") else []

    def start(vector):
        initial = weights["initial_state.weight"] @ vector + weights["initial_state.bias"]
        return np.split(initial, len(initial) // hidden)

    if kind == "hybrid":
        table = unroll(weights, z)
        context = [table[t] if t < len(table) else np.zeros(table.shape[1]) for t in range(len(previous))]
        inputs = [np.concatenate([e, c, *after]) for e, c in zip(embedded, context, strict=True)]
        features = lstm_layers(weights, inputs, start(z), residual)
    elif kind in ("hierarchical", "lookback", "segments"):
        state = np.tanh(weights["conductor_state.weight"] @ z + weights["conductor_state.bias"])
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        conductor = {f"layers.0.{name}": weights[f"conductor.{name}"] for name in names}
        vectors = lstm_layers(conductor, [z] * 3, list(np.split(state, 2)), False)
        if kind == "segments":
            vectors = vectors + (weights["shortcut.weight"] @ z + weights["shortcut.bias"]).reshape(3, 6)
        features = []
        back = looked_back(embedded) if kind != "hierarchical" else [[]] * len(previous)
        for begin in range(0, len(previous), 3):
            vector = vectors[min(begin // 3, 2)]
            plan = unroll(weights, vector)[:3] if kind == "segments" else [vector] * 3
            inputs = [
                np.concatenate([embedded[t], plan[t - begin], *back[t], *after])
                for t in range(len(previous))[begin : begin + 3]
            ]
            features.extend(lstm_layers(weights, inputs, start(vector), residual))
        features = np.stack(features)
    elif kind == "stepwise":
        own = [z[t : t + 1] if t < len(z) else np.zeros(1) for t in range(len(previous))]
        inputs = [np.concatenate(both) for both in zip(embedded, own, strict=True)]
        features = lstm_layers(weights, inputs, start(np.zeros(0)), residual)
    else:
        back = looked_back(embedded) if kind == "recurrent_lookback" else [[]] * len(previous)
        inputs = [np.concatenate([e, *earlier, *after]) for e, earlier in zip(embedded, back, strict=True)]
        features = lstm_layers(weights, inputs, start(z), residual)
    if variant.get("latent_output"):
        features = features + weights["latent_output.weight"] @ z
    return features @ weights["output.weight"].T + weights["output.bias"]


@each_kind
@each_variant
class TestEquations:
    def test_teacher_forcing_equals_the_equations_and_the_steps(self, kind, variant):
        if kind == "stepwise":  # reads its part of z at each step as it is
            variant = {name: value for name, value in variant.items() if not name.startswith("latent_")}
        model = make_model(**KINDS[kind], **variant).double().eval()
        decoder = model.decoder
        # The longest sentence is longer than the 8 positions and the 3 segments that z is unrolled to.
        _, _, previous = make_batch(model, [3, 11, 1, 5])
        z = draw_z(4)
        fused = decoder.teacher_forced(previous, z, regularize=False)
        torch.testing.assert_close(step_by_step(decoder, previous, z), fused, rtol=1e-12, atol=1e-12)
        for row, length in enumerate([3, 11, 1, 5]):
            expected = slow_logits(decoder, kind, previous[row].tolist(), z[row].numpy(), variant)
            found = fused[row].detach().numpy()
            np.testing.assert_allclose(found[:length, allowed(model)], expected[:length, allowed(model)], atol=1e-9)


@each_kind
class TestPolicy:
    def test_a_sentence_does_not_depend_on_the_others(self, kind):
        model = make_model(**KINDS[kind]).double().eval()
        _, _, previous = make_batch(model, [3, 7, 2])
        z = draw_z(3)
        together = model.decoder.teacher_forced(previous, z, regularize=False)
        for row, length in enumerate([3, 7, 2]):
            alone = model.decoder.teacher_forced(previous[row : row + 1, :length], z[row : row + 1], regularize=False)
            torch.testing.assert_close(alone[0], together[row, :length])

    def test_completions_are_those_of_each_prefix_alone(self, kind):
        decoder = make_model(**KINDS[kind]).double().eval().decoder
        tokens, lengths, _ = make_batch(SimpleModel(decoder), [6, 3, 8])
        trajectory = Trajectory(tokens, lengths, tokens.eq(decoder.pad), draw_z(3), torch.tensor([4, 9, 2]))
        draws, found, expected = Draws(1, 3), [], []
        for completions in rollout.complete_prefixes(decoder, trajectory, RolloutPlan(2, 2, 9, chunk_rows=5), draws):
            rows, given = completions.rows.tolist(), completions.prefix_lengths.tolist()
            ends = zip(rows, given, completions.tokens, completions.lengths, strict=True)
            found += [(row, prefix, tuple(tokens[:length].tolist())) for row, prefix, tokens, length in ends]
        for row, prefixes in enumerate(([2, 4], [2], [2, 4, 6])):
            for prefix in prefixes:
                for number in range(2):
                    expected.append((row, prefix, self.finish(decoder, trajectory, row, 2 * prefix + number, draws)))
        assert sorted(found) == sorted(expected)

    @staticmethod
    def finish(decoder, trajectory, row, number, draws):
        """Completion *number* (twice the prefix's length, or one more), by teacher forcing over and over."""
        tokens = trajectory.tokens[row, : number // 2].tolist()
        numbers = draws.uniforms(Stream.ROLLOUT, trajectory.ids[row : row + 1], torch.tensor([number]), 9)[0]
        while len(tokens) < 9 and decoder.eos not in tokens:
            previous, z = torch.tensor([[decoder.eos, *tokens]]), trajectory.z[row : row + 1]
            probs = decoder.teacher_forced(previous, z, regularize=False)[0, -1].softmax(dim=0).cumsum(dim=0)
            tokens.append(int(torch.searchsorted(probs, numbers[len(tokens)].double())))
        return tuple(tokens)

    def test_samples_of_a_batch_are_those_of_each_row(self, kind):
        decoder = make_model(**KINDS[kind]).double().eval().decoder
        z, keys = draw_z(5), row_keys(1, 0, Stream.GENERATION, torch.arange(5))
        together = rollout.sample(decoder, z, keys, 12)
        for row in range(5):
            alone = rollout.sample(decoder, z[row : row + 1], keys[row : row + 1], 12)
            assert alone.tokens[0].tolist() == together.tokens[row, : together.lengths[row]].tolist()

    def test_beam_search_reorders_its_rows(self, kind):
        decoder = make_model(**KINDS[kind]).double().eval().decoder
        _, _, previous = make_batch(SimpleModel(decoder), [6, 6, 6])
        z, order = draw_z(3), torch.tensor([2, 0, 0])
        cache = {}
        for t in range(1, 4):
            decoder(previous[:, :t], {"z": [z]}, cache)
        decoder.reorder_incremental_state(cache, order)
        reordered = torch.cat([previous[order, :3], previous[:, 3:4]], dim=1)
        found, _ = decoder(reordered, {"z": [z[order]]}, cache)
        expected = decoder.teacher_forced(reordered, z[order], regularize=False)[:, -1:]
        torch.testing.assert_close(found, expected)


class SimpleModel:
    def __init__(self, decoder):
        self.decoder = decoder


def test_rows_share_a_table_that_is_never_copied():
    table = Shared(torch.arange(3))
    state = (torch.tensor([5, 6, 7]), table)
    some = rollout.select_rows(state, torch.tensor([2, 0]))
    assert some[0].tolist() == [7, 5] and some[1] is table
    both = rollout.join_rows(some, state)
    assert both[0].tolist() == [7, 5, 5, 6, 7] and both[1] is table


class TestAuxiliaryLoss:
    def test_is_what_the_unrolled_features_alone_say(self):
        model = make_model(**HYBRID).double().eval()
        weights, z = weights_of(model.decoder), draw_z(2)
        _, _, previous = make_batch(model, [4, 11])
        found = model.decoder.reconstruct(previous, z, regularize=False).auxiliary_logits.detach().numpy()
        for row in range(2):
            table = np.concatenate([unroll(weights, z[row].numpy()), np.zeros((3, 5))])
            expected = table @ weights["auxiliary_output.weight"].T + weights["auxiliary_output.bias"]
            np.testing.assert_allclose(found[row][:, allowed(model)], expected[:, allowed(model)], atol=1e-9)

    def test_of_segments_says_what_each_vector_alone_says(self):
        model = make_model(**SEGMENTS).double().eval()
        weights, z = weights_of(model.decoder), draw_z(2)
        _, _, previous = make_batch(model, [4, 8])
        found = model.decoder.reconstruct(previous, z, regularize=False).auxiliary_logits.detach().numpy()
        # What a segment reads beside its tokens is the unrolled vector of its own, cut to 3 of 4 steps.
        plans, _ = model.decoder.start(z)[3].value
        expected = plans.detach().numpy().reshape(2, 9, 5)[:, :8] @ weights["auxiliary_output.weight"].T
        expected = expected + weights["auxiliary_output.bias"]
        np.testing.assert_allclose(found[..., allowed(model)], expected[..., allowed(model)], atol=1e-9)

    def test_other_decoders_have_none(self):
        model = make_model()
        _, _, previous = make_batch(model, [4])
        assert model.decoder.reconstruct(previous, torch.zeros(1, 4), regularize=False).auxiliary_logits is None

    def test_its_weight_scales_its_part_of_the_loss(self, toy):
        flags = "--decoder hybrid --encoder convolutional --latent-positions 8 --dropout 0 --auxiliary-weight"
        losses, parts = {}, []
        for weight in (0, 1, 3):
            training = commands.make_training(toy.folder, flags, weight, criterion=commands.ELBO)
            loss, _, log = training.criterion(training.model, training.batches()[0])
            losses[weight] = float(loss)
            parts.append(float(log["auxiliary"]))
        assert parts[0] == parts[1] == parts[2] > 0
        assert losses[1] - losses[0] == pytest.approx(parts[0], rel=1e-4)
        assert losses[3] - losses[0] == pytest.approx(3 * parts[0], rel=1e-4)


def test_the_rollout_policy_has_the_statistics_of_its_decoder(toy):
    training = commands.make_training(toy.folder, WHOLE["hybrid"], "--gen-pretrain-updates 2 --disc-pretrain-updates 0")
    model, optimizer = training.model, training.trainer.optimizer
    for update in range(2):
        training.task.train_step(training.batches()[update], model, training.criterion, optimizer, update)
        training.task.optimizer_step(optimizer, model, update)
        optimizer.zero_grad()
    own, followed = (dict(part.named_buffers()) for part in (model.rollout_decoder, model.decoder))
    moved = [name for name in followed if name.endswith("running_mean")]
    assert len(moved) == 2
    for name in moved:
        assert torch.equal(own[name], followed[name]) and (followed[name] != 0).any()


class TestPooling:
    OUTPUTS = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [50.0, 50.0]], [[2.0, 7.0], [4.0, 1.0], [0.0, 1.0]]])

    def test_mean_by_hand(self):
        found = pool(self.OUTPUTS, torch.tensor([2, 3]), "mean")
        torch.testing.assert_close(found, torch.tensor([[2.0, -3.0], [2.0, 3.0]]))

    def test_maximum_by_hand(self):
        found = pool(self.OUTPUTS, torch.tensor([2, 3]), "max")
        torch.testing.assert_close(found, torch.tensor([[3.0, -2.0], [4.0, 7.0]]))

    def test_unknown_kind(self):
        with pytest.raises(ValueError, match="'mean' or 'max' but is 'sum'"):
            pool(self.OUTPUTS, torch.tensor([2, 3]), "sum")


class TestEncoders:
    OPTIONS = {
        "last": {},
        "mean": {"encoder_pooling": "mean"},
        "max": {"encoder_pooling": "max"},
        "convolutional": {"encoder": "convolutional", "conv_channels": "5,6", "latent_positions": 8},
    }

    @pytest.mark.parametrize("kind", OPTIONS)
    def test_a_posterior_does_not_depend_on_the_batch(self, kind):
        model = make_model(**self.OPTIONS[kind]).double().eval()
        tokens, lengths, _ = make_batch(model, [3, 8, 1])
        together = model.encoder.posterior(tokens, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model.encoder.posterior(tokens[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(alone.mean[0], together.mean[row])
            torch.testing.assert_close(alone.std[0], together.std[row])

    def test_pooled_states_differ_from_the_last_ones(self):
        means = []
        for pooling in ("last", "mean", "max"):
            model = make_model(encoder_pooling=pooling).eval()
            means.append(model.encoder.posterior(*make_batch(model, [6, 4])[:2]).mean)
        assert not torch.allclose(means[0], means[1]) and not torch.allclose(means[1], means[2])

    def test_convolutions_accept_what_they_were_made_for(self):
        model = make_model(**self.OPTIONS["convolutional"])
        tokens, lengths, _ = make_batch(model, [9])
        assert model.encoder.max_positions() == 8
        with pytest.raises(ValueError, match="has 9 tokens, but the convolutions are made for at most 8"):
            model.encoder.posterior(tokens, lengths)

    def test_decoders_generate_no_more_than_z_is_unrolled_to(self):
        assert make_model(**HYBRID).decoder.max_positions() == 8
        assert make_model(**HIERARCHICAL).decoder.max_positions() == 9  # three segments of 3
        fixed = HYBRID | {"latent_positions": 0, "fixed_length": 8}
        assert make_model(**fixed).decoder.max_positions() == make_model().decoder.max_positions()

    def test_positions_are_rounded_up_to_what_convolutions_can_halve(self):
        model = make_model(encoder="convolutional", conv_channels="5,6,7", latent_positions=0, fixed_length=9)
        assert model.encoder.lstm.positions == 16 and model.encoder.lstm.output_dim == 7 * 2

    def test_a_strided_convolution_by_hand(self):
        model = make_model(**self.OPTIONS["convolutional"] | {"conv_channels": "5"}).double().eval()
        summary, weights = model.encoder.lstm, weights_of(model.encoder.lstm)
        x = torch.randn(1, 8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        padded = np.concatenate([np.zeros((1, 6)), x[0, :5].numpy(), np.zeros((4, 6))])  # 5 of 8 steps are given
        columns = [
            np.einsum("oik,ki->o", weights["layers.0.weight"], padded[2 * t : 2 * t + 4]) + weights["layers.0.bias"]
            for t in range(4)
        ]
        normed = channel_norm(np.stack(columns, axis=1), weights["norms.0.scale"], weights["norms.0.shift"])
        found = summary(x, torch.tensor([5]))
        np.testing.assert_allclose(found[0].detach().numpy(), gelu(normed).flatten(), atol=1e-9)


class TestOptions:
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"decoder": "hybrid"}, "needs the length of the longest sequence: give --latent-positions"),
            ({"encoder": "convolutional"}, "needs the length of the longest sequence"),
            ({"decoder": "hierarchical"}, "needs the length of the longest sequence"),
            ({**HIERARCHICAL, "lookback": "1,b"}, "--lookback must be whole numbers .* such as 1,2,4,8, but is '1,b'"),
            ({**HIERARCHICAL, "lookback": "1,3"}, "--lookback 1,3, in segments of 3 tokens, reaches back beyond"),
            ({**HYBRID, "segment_length": 3, "lookback": "1"}, "--lookback 1 is for --decoder recurrent or hier"),
            ({**RECURRENT_LOOKBACK, "fixed_length": 6}, "--lookback 1,2, in segments of 3 tokens, reaches back beyond"),
            ({**HIERARCHICAL, "segment_channels": "8,a"}, "--segment-channels must be whole numbers .* as 128,96, but"),
            ({**HYBRID, "segment_channels": "8"}, "--segment-channels 8 is for --decoder hierarchical, not hybrid"),
            ({"decoder": "hybrid", "latent_positions": 8, "latent_dim": 0}, "--latent-dim 0 leaves no z"),
            ({"latent_output": True, "latent_dim": 0}, "--latent-dim 0 leaves no z"),
            ({"conv_channels": "0,4"}, "--conv-channels must be whole numbers of at least 1"),
            ({"latent_positions": 4, "fixed_length": 9}, "--latent-positions 4 is below --fixed-length 9"),
            ({"encoder": "nothing"}, "unknown --encoder 'nothing': choose one of convolutional, recurrent"),
            ({"decoder": "nothing"}, "unknown --decoder 'nothing': choose one of hierarchical, hybrid, recurrent"),
        ],
    )
    def test_impossible_ones_are_refused(self, options, message):
        with pytest.raises(ValueError, match=message):
            make_model(**options)

    def test_a_file_of_the_user_registers_both(self, toy, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text(
            "from torch import nn\n"
            "from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder\n"
            "from fairseq_seqvae.models.registry import register_decoder, register_encoder\n"
            "class Bag(nn.Module):\n"
            "    def __init__(self, dim):\n"
            "        super().__init__()\n"
            "        self.output_dim = dim\n"
            "    def forward(self, x, lengths):\n"
            "        return x.sum(dim=1)\n"
            "@register_encoder('bag')\n"
            "class FromOptions:\n"
            "    from_options = staticmethod(lambda options, input_dim: Bag(input_dim))\n"
            "@register_decoder('loud')\n"
            "class Loud(SeqVAEDecoder):\n"
            "    pass\n"
        )
        flags = ("--encoder bag --decoder loud --module", file, "--max-update 3")
        train(toy.folder, tmp_path / "ck", *flags, criterion=commands.ELBO)
        checkpoint = commands.load_checkpoint(tmp_path / "ck" / "checkpoint_last.pt")["model"]
        assert not any(name.startswith("encoder.lstm.") for name in checkpoint)


WHOLE = {
    "hybrid": "--encoder convolutional --decoder hybrid --latent-positions 12 --conv-channels 8,12",
    "hierarchical": "--encoder-pooling max --decoder hierarchical --segment-length 4 --latent-positions 12 "
    "--conductor-dim 8 --latent-output",
    "lookback": "--decoder hierarchical --segment-length 4 --latent-positions 12 --conductor-dim 8 --lookback 1,2",
    "recurrent_lookback": "--segment-length 4 --lookback 1,2",
    "segments": "--decoder hierarchical --segment-length 4 --latent-positions 12 --conductor-dim 8 --lookback 1 "
    "--segment-channels 8,6 --auxiliary-weight 0.5",
}


@pytest.mark.parametrize("kind", WHOLE)
class TestWholeTrainings:
    def test_both_players_train_resume_and_generate(self, kind, toy, tmp_path):
        flags = (WHOLE[kind], "--gen-pretrain-updates 2 --disc-pretrain-updates 1")
        train(toy.folder, tmp_path / "whole", *flags, "--max-update 8")
        for stop in (4, 8):
            train(toy.folder, tmp_path / "resumed", *flags, "--max-update", stop)
        checkpoint = tmp_path / "whole" / "checkpoint_last.pt"
        commands.assert_same_training(tmp_path / "resumed" / "checkpoint_last.pt", checkpoint)
        for subset in (
            "prior --num-draws 5 --sampling --beam 1",
            "test --beam 3",
            "interpolate --num-draws 3 --beam 2",
        ):
            output = commands.generate(toy.folder, checkpoint, "--gen-subset", subset)
            assert len(commands.texts(output)) == {"p": 5, "t": len(toy.test), "i": 3}[subset[0]]

    @pytest.mark.parametrize("precision", ["--bf16", "--memory-efficient-fp16", "--fp16 --fp16-init-scale 4"])
    def test_in_half_precision(self, kind, toy, tmp_path, precision):
        output = train(toy.folder, tmp_path, WHOLE[kind], precision, "--max-update 4 --gen-pretrain-updates 2")
        assert math.isfinite(float(commands.json_lines(output, "valid")[-1]["valid_loss"]))


@pytest.mark.parametrize("freezes", [True, False])
def test_fine_tuning_can_keep_the_statistics_of_the_checkpoint(freezes, toy, tmp_path):
    train(toy.folder, tmp_path / "first", WHOLE["hybrid"], "--max-update 4", criterion=commands.ELBO)
    first = tmp_path / "first" / "checkpoint_last.pt"
    flags = (WHOLE["hybrid"], "--max-update 3 --finetune-from-model", first, "--freeze-batch-norm" if freezes else "")
    train(toy.folder, tmp_path / "second", *flags, criterion=commands.ELBO)
    before, after = (
        commands.load_checkpoint(file)["model"] for file in (first, tmp_path / "second" / "checkpoint_last.pt")
    )
    names = [name for name in before if name.endswith(("running_mean", "running_var", ".batches"))]
    assert len(names) == 3 * 2 * 2  # two convolutions of the encoder, two of the decoder
    assert all(torch.equal(before[name], after[name]) == freezes for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WHOLE)
def test_two_processes_learn_what_one_learns_from_twice_the_batches(kind, toy, tmp_path):
    turns = "--max-update 6 --gen-pretrain-updates 2 --disc-pretrain-updates 1"
    flags = (WHOLE[kind], turns, "--dropout 0 --disc-dropout 0")
    train(toy.folder, tmp_path / "one", *flags, "--update-freq 2")
    arguments = commands.training_flags(toy.folder, tmp_path / "two", *flags, commands.distributed(2))
    commands.run("train", *arguments, processes=2)
    files = (tmp_path / name / "checkpoint_last.pt" for name in ("two", "one"))
    commands.assert_same_training(*files, same_batches=False)
