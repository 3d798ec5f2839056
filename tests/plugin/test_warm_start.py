"""Starting a run from another model: what is taken is exactly the other model's, what does not fit is named.

The language models of fairseq are trained by fairseq, and their probabilities come from fairseq's own module.
"""

import argparse
import logging
import pathlib

import commands
import pytest
import torch

pytest.importorskip("fairseq")

LSTM_LM = (
    "--task language_modeling --arch lstm_lm --sample-break-mode eos --tokens-per-sample 64 --criterion cross_entropy "
    "--decoder-embed-dim 8 --decoder-hidden-size 12 --decoder-out-embed-dim 12 --dropout 0.1 --optimizer adam "
    "--lr 0.03 --batch-size 32 --max-update 12 --cpu --seed 7 --num-workers 0 --disable-validation "
    "--no-epoch-checkpoints"
)
SHORT = "--max-update 4 --disable-validation"


@pytest.fixture(scope="module")
def lstm_lm(toy, tmp_path_factory):
    """A function of further flags: path of a language model of fairseq that was trained with them."""
    made = {}

    def make(flags="", data=toy.folder):
        if (flags, data) not in made:
            folder = tmp_path_factory.mktemp("lstm_lm")
            commands.call("train", data, LSTM_LM, flags, "--save-dir", folder)
            made[flags, data] = folder / "checkpoint_last.pt"
            as_fairseq_alone_writes_it(made[flags, data])
        return made[flags, data]

    return make


def as_fairseq_alone_writes_it(path):
    """Put the options of the model into a Namespace, in which fairseq keeps them without the plugin."""
    state = torch.load(path, weights_only=True)
    state["cfg"]["model"] = argparse.Namespace(**state["cfg"]["model"])
    torch.save(state, path)


@pytest.fixture(scope="module")
def seqvae(toy, tmp_path_factory):
    """A function of further flags: path of a SeqVAE that was trained with them by the ELBO."""
    made = {}

    def make(flags="", data=toy.folder):
        if (flags, data) not in made:
            folder = tmp_path_factory.mktemp("seqvae")
            commands.train(
                data, folder, "--max-update 12 --lr 0.02 --disable-validation", flags, criterion=commands.ELBO
            )
            made[flags, data] = folder / "checkpoint_last.pt"
        return made[flags, data]

    return make


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Data with another dictionary: other frequencies, so another order; no j, but a k."""
    lines = [line.replace("a", "k").replace("j", "d") for line in commands.toy_sentences(200, seed=8)]
    return commands.preprocess(tmp_path_factory.mktemp("other") / "bin", train=lines, valid=lines[:20], test=lines[:20])


def start(data, *flags):
    """The model of a training with these flags before its first update, in evaluation mode."""
    from fairseq import tasks, utils

    cfg = commands.make_config(data, *flags)
    utils.set_torch_seed(cfg.common.seed)
    return tasks.setup_task(cfg.task).build_model(cfg.model).eval()


def logged(caplog, data, *flags):
    with caplog.at_level(logging.INFO):
        start(data, *flags)
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("--init")]


def sentences(dictionary):
    """Inputs that begin with the end symbol, as those of both kinds of models do."""
    return [
        torch.tensor([dictionary.eos(), *map(dictionary.index, line.split())])
        for line in ("a b c", "j a c d e f", "e", "h j a b d f g i j")
    ]


def possible(dictionary):
    """Symbols that our decoder can produce."""
    return [
        n
        for n, symbol in enumerate(dictionary.symbols)
        if n not in (dictionary.bos(), dictionary.pad()) and not symbol.startswith("madeupword")
    ]


def fairseq_model(path):
    """The language model of fairseq in this checkpoint."""
    from fairseq import tasks

    state = torch.load(path, weights_only=False)
    cfg = state["cfg"]
    task = tasks.setup_task(argparse.Namespace(**{**vars(cfg["model"]), "task": "language_modeling"}))
    model = task.build_model(cfg["model"]).eval()
    model.load_state_dict(state["model"])
    return model


def fairseq_log_probs(model, tokens):
    """(T, V') of fairseq's model, among the symbols that ours can produce."""
    logits, _ = model(tokens.unsqueeze(0))
    return logits[0][:, possible(model.decoder.dictionary)].double().log_softmax(dim=1)


def own_log_probs(decoder, tokens, z):
    """(T, V') of our decoder, of a batch and, what must be the same, step by step."""
    kept = possible(decoder.dictionary)
    at_once = decoder.teacher_forced(tokens.unsqueeze(0), z, regularize=False)[0][:, kept].double().log_softmax(dim=1)
    state, steps = decoder.start(z), []
    for token in tokens:
        features, state = decoder.advance(token.view(1), state)
        steps.append(decoder.logits(features)[0, kept].double().log_softmax(dim=0))
    torch.testing.assert_close(torch.stack(steps), at_once, atol=1e-5, rtol=0)
    return at_once


def parameters_of(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


class TestADecoderFromTheLanguageModelOfFairseq:
    @pytest.mark.parametrize(
        "theirs, ours",
        [
            ("", ""),
            ("", "--latent-input"),
            ("--decoder-layers 2 --decoder-out-embed-dim 10", "--decoder-layers 2"),
            ("--share-decoder-input-output-embed --decoder-out-embed-dim 8", "--share-output-embed"),
            ("--share-decoder-input-output-embed --decoder-out-embed-dim 8", "--no-share-embeddings"),
            (
                "--share-decoder-input-output-embed --decoder-out-embed-dim 8 --decoder-hidden-size 8",
                "--share-output-embed --decoder-hidden-dim 8",
            ),
            (
                "--share-decoder-input-output-embed --decoder-out-embed-dim 8 --decoder-hidden-size 8",
                "--decoder-hidden-dim 8 --latent-dim 0",
            ),
            ("--residuals", "--decoder-residual"),  # of one layer: nothing is added up
        ],
    )
    def test_is_that_model_at_z_0(self, toy, lstm_lm, theirs, ours):
        path = lstm_lm(theirs)
        source, model = fairseq_model(path), start(toy.folder, ours, "--init-decoder", path)
        z = torch.zeros(1, model.encoder.latent_dim)
        for decoder in (model.decoder, model.rollout_decoder):
            for tokens in sentences(decoder.dictionary):
                expected = fairseq_log_probs(source, tokens)
                assert expected.std() > 0.3  # it has learned something
                torch.testing.assert_close(own_log_probs(decoder, tokens, z), expected, atol=1e-5, rtol=0)

    def test_depends_on_z_from_the_beginning(self, toy, lstm_lm):
        model = start(toy.folder, "--latent-input --init-decoder", lstm_lm())
        tokens = sentences(model.decoder.dictionary)[0]
        first, second = (own_log_probs(model.decoder, tokens, torch.full((1, 6), x)) for x in (0.0, 1.0))
        assert not torch.allclose(first, second, atol=1e-3)

    def test_leaves_what_belongs_to_z_and_to_the_encoder_as_it_is_without(self, toy, lstm_lm):
        fresh = start(toy.folder, "--latent-input --no-share-embeddings")
        model = start(toy.folder, "--latent-input --no-share-embeddings --init-decoder", lstm_lm())
        assert torch.equal(model.decoder.initial_state.weight, fresh.decoder.initial_state.weight)
        assert torch.equal(model.decoder.layers[0].weight_ih_l0[:, 8:], fresh.decoder.layers[0].weight_ih_l0[:, 8:])
        for part in ("encoder", "discriminator"):
            assert not commands.differences(parameters_of(getattr(fresh, part)), parameters_of(getattr(model, part)))

    def test_matches_symbols_by_name(self, toy, other, lstm_lm):
        path = lstm_lm(data=other)
        model = start(toy.folder, "--init-decoder", path, "--init-dictionary", other / "dict.txt")
        fresh = start(toy.folder)
        theirs = torch.load(path, weights_only=False)["model"]
        specials = ["<s>", "<pad>", "</s>", "<unk>"]  # before the lines of a dict.txt
        places = specials + [line.split()[0] for line in (other / "dict.txt").read_text().splitlines()]
        numbers = model.decoder.dictionary
        assert [numbers.index(s) for s in "bcdefghi"] != [places.index(s) for s in "bcdefghi"]
        for own, start_value, given in (
            (model.decoder.embedding.weight, fresh.decoder.embedding.weight, theirs["decoder.embed_tokens.weight"]),
            (model.decoder.output.weight, fresh.decoder.output.weight, theirs["decoder.fc_out.weight"]),
            (model.decoder.output.bias, fresh.decoder.output.bias, theirs["decoder.fc_out.bias"]),
        ):
            for symbol in ["</s>", "<unk>", *"bcdefghi"]:
                assert torch.equal(own[numbers.index(symbol)], given[places.index(symbol)])
            for symbol in "aj":
                assert torch.equal(own[numbers.index(symbol)], start_value[numbers.index(symbol)])

    def test_says_what_was_taken(self, toy, lstm_lm, caplog):
        path = lstm_lm()
        (line,) = logged(caplog, toy.folder, "--latent-input --init-decoder", path)
        assert line == (
            f"--init-decoder {path}: taken: embeddings (the encoder shares them), 1 LSTM layer, the initial state at z "
            "= 0, output; starts afresh: the map from z to the initial state, what the first layer reads besides the "
            "embedding (z); symbols were matched by their number, since the checkpoint does not know them"
        )

    @pytest.mark.parametrize(
        "theirs, ours, message",
        [
            ("", "--embed-dim 9", "it needs --embed-dim 8, but --embed-dim is 9"),
            ("", "--decoder-hidden-dim 13", "it needs --decoder-hidden-dim 12, but --decoder-hidden-dim is 13"),
            ("", "--decoder-layers 2", "it needs --decoder-layers 1, but --decoder-layers is 2"),
            ("", "--share-output-embed", "--share-output-embed has none: omit this flag"),
            ("--decoder-layers 2 --residuals", "--decoder-layers 2", "trained with --residuals.*train it without"),
            (
                "--decoder-layers 2 --decoder-out-embed-dim 10",
                "--decoder-layers 2 --decoder-residual",
                "trained without --decoder-residual: omit this flag",
            ),
            (
                "--criterion adaptive_loss --adaptive-softmax-cutoff 6,8 --ddp-backend legacy_ddp",
                "",
                "adaptive softmax: train it with --criterion cross_entropy",
            ),
        ],
    )
    def test_that_does_not_fit_is_refused(self, toy, lstm_lm, theirs, ours, message):
        with pytest.raises(ValueError, match=f"^--init-decoder .*{message}"):
            start(toy.folder, ours, "--init-decoder", lstm_lm(theirs))


class TestADecoderFromASeqVAE:
    @pytest.mark.parametrize("ours", ["", "--latent-input", "--latent-dim 3"])
    def test_without_a_latent_is_that_language_model_at_z_0(self, toy, seqvae, ours):
        path = seqvae("--latent-dim 0 --decoder-layers 2 --decoder-residual")
        theirs = commands.load_checkpoint(path)["model"]
        source = start(toy.folder, "--latent-dim 0 --decoder-layers 2 --decoder-residual")
        source.load_state_dict(theirs)
        model = start(toy.folder, "--decoder-layers 2 --decoder-residual", ours, "--init-decoder", path)
        for tokens in sentences(model.decoder.dictionary):
            expected = own_log_probs(source.decoder, tokens, torch.zeros(1, 0))
            z = torch.zeros(1, model.encoder.latent_dim)
            torch.testing.assert_close(own_log_probs(model.decoder, tokens, z), expected, atol=1e-5, rtol=0)

    def test_of_the_same_sizes_is_that_decoder(self, toy, seqvae):
        path = seqvae("--latent-input")
        model = start(toy.folder, "--latent-input --init-decoder", path)
        theirs = commands.load_checkpoint(path)["model"]
        for name, value in model.decoder.state_dict().items():
            assert torch.equal(value, theirs[f"decoder.{name}"]), name
        for name, value in model.rollout_decoder.state_dict().items():
            assert torch.equal(value, theirs[f"decoder.{name}"]), name

    def test_of_another_dictionary_needs_that_dictionary(self, toy, other, seqvae):
        path = seqvae(data=other)
        with pytest.raises(ValueError, match="another dictionary.*by --init-dictionary"):
            start(toy.folder, "--init-decoder", path)
        with pytest.raises(ValueError, match="--init-dictionary .* is another one"):
            start(toy.folder, "--init-decoder", path, "--init-dictionary", toy.folder / "dict.txt")
        model = start(toy.folder, "--init-decoder", path, "--init-dictionary", other / "dict.txt")
        theirs = start(other)
        theirs.load_state_dict(commands.load_checkpoint(path)["model"], strict=False)
        for symbol in "bcdefghi":
            own = model.decoder.embedding.weight[model.decoder.dictionary.index(symbol)]
            given = theirs.decoder.embedding.weight[theirs.decoder.dictionary.index(symbol)]
            assert torch.equal(own, given)

    def test_of_the_same_dictionary_does_not_need_the_one_that_is_given(self, toy, other, seqvae):
        model = start(toy.folder, "--init-decoder", seqvae(), "--init-dictionary", other / "dict.txt")
        theirs = commands.load_checkpoint(seqvae())["model"]
        assert torch.equal(model.decoder.embedding.weight, theirs["decoder.embedding.weight"])


class TestAnEncoderFromASeqVAE:
    AUTOENCODER = "--kl-weight 0"

    def test_gives_the_same_posterior_and_a_fresh_decoder(self, toy, seqvae):
        path = seqvae(self.AUTOENCODER)
        source = start(toy.folder)
        source.load_state_dict(commands.load_checkpoint(path)["model"])
        model, fresh = start(toy.folder, "--init-encoder", path), start(toy.folder)
        tokens = torch.stack([row[:4] for row in sentences(model.decoder.dictionary) if len(row) >= 4])
        lengths = torch.full((len(tokens),), 4)
        expected, found = (m.encoder.posterior(tokens, lengths) for m in (source, model))
        assert torch.equal(found.mean, expected.mean) and torch.equal(found.std, expected.std)
        assert not torch.equal(fresh.encoder.posterior(tokens, lengths).mean, expected.mean)
        own, begun = parameters_of(model.decoder), parameters_of(fresh.decoder)
        assert commands.differences(own, begun) == [".embedding.weight"]
        assert not commands.differences(own, parameters_of(model.rollout_decoder))

    def test_with_embeddings_of_its_own_leaves_those_of_the_decoder(self, toy, seqvae):
        model = start(toy.folder, "--no-share-embeddings --init-encoder", seqvae(self.AUTOENCODER))
        fresh = start(toy.folder, "--no-share-embeddings")
        assert not commands.differences(parameters_of(model.decoder), parameters_of(fresh.decoder))

    def test_says_what_was_taken(self, toy, seqvae, caplog):
        path = seqvae(self.AUTOENCODER)
        (line,) = logged(caplog, toy.folder, "--init-encoder", path)
        assert line == (
            f"--init-encoder {path}: taken: embeddings (the decoder shares them), 1 LSTM layer, mean of q(z|x), "
            "standard deviation of q(z|x)"
        )

    @pytest.mark.parametrize(
        "theirs, ours, message",
        [
            ("", "--latent-dim 7", "it needs --latent-dim 6, but --latent-dim is 7"),
            ("", "--encoder-hidden-dim 11", "it needs --encoder-hidden-dim 10, but --encoder-hidden-dim is 11"),
            ("", "--encoder-layers 2", "it needs --encoder-layers 1, but --encoder-layers is 2"),
            ("--latent-dim 0", "", "language model .*has no encoder"),
        ],
    )
    def test_that_does_not_fit_is_refused(self, toy, seqvae, theirs, ours, message):
        with pytest.raises(ValueError, match=f"^--init-encoder .*{message}"):
            start(toy.folder, ours, "--init-encoder", seqvae(theirs))

    def test_and_a_decoder_need_embeddings_of_their_own_if_these_differ(self, toy, seqvae):
        first, second = seqvae(self.AUTOENCODER), seqvae("--latent-dim 0")
        with pytest.raises(ValueError, match="bring different embeddings.*add --no-share-embeddings"):
            start(toy.folder, "--init-encoder", first, "--init-decoder", second)
        model = start(toy.folder, "--no-share-embeddings --init-encoder", first, "--init-decoder", second)
        for part, path in (("encoder", first), ("decoder", second)):
            theirs = commands.load_checkpoint(path)["model"][f"{part}.embedding.weight"]
            assert torch.equal(getattr(model, part).embedding.weight, theirs)

    def test_and_the_decoder_may_come_from_one_model(self, toy, seqvae):
        path = seqvae(self.AUTOENCODER)
        model = start(toy.folder, "--init-encoder", path, "--init-decoder", path)
        theirs = commands.load_checkpoint(path)["model"]
        for name, value in model.state_dict().items():
            if name.startswith(("encoder", "decoder")):
                assert torch.equal(value, theirs[name]), name


class TestVectors:
    FLAGS = "--embed-dim 3 --init-embeddings"

    def write(self, folder, *lines):
        return commands.write_lines(folder / "vectors.txt", list(lines))

    @pytest.mark.parametrize("header", [[], ["4 3"]])
    @pytest.mark.parametrize("separate", ["", "--no-share-embeddings"])
    def test_are_taken_by_symbol(self, toy, tmp_path, header, separate):
        path = self.write(tmp_path, *header, "c 1 2.5 -3", "zebra x 2 3", "a\t4e-1 5 6 ", "c 9 9 9")
        model, fresh = start(toy.folder, separate, self.FLAGS, path), start(toy.folder, separate, "--embed-dim 3")
        numbers = model.decoder.dictionary
        for part in ("encoder", "decoder", "rollout_decoder"):
            expected = getattr(fresh, part).embedding.weight.detach().clone()
            expected[numbers.index("a")] = torch.tensor([0.4, 5, 6])
            expected[numbers.index("c")] = torch.tensor([1, 2.5, -3])
            assert torch.equal(getattr(model, part).embedding.weight, expected)

    def test_of_symbols_with_blanks_are_skipped(self, toy, tmp_path):
        path = self.write(tmp_path, ". . . 1 2 3", "a 4 5 6")
        model = start(toy.folder, self.FLAGS, path)
        assert model.decoder.embedding.weight[model.decoder.dictionary.index("a")].tolist() == [4, 5, 6]

    def test_how_many_symbols_were_found_is_logged(self, toy, tmp_path, caplog):
        path = self.write(tmp_path, "a 1 2 3", "zebra 1 2 3", "c 1 2 3")
        (line,) = logged(caplog, toy.folder, self.FLAGS, path)
        # 10 letters, </s> and <unk>
        assert line == (
            f"--init-embeddings {path}: taken: embeddings of 2 of 12 symbols, the others start afresh; lines of the "
            "file that are not used: 1"
        )

    @pytest.mark.parametrize(
        "lines, message",
        [
            (["a 1 2"], "line 1: its vectors have 2 numbers, but --embed-dim is 3: give --embed-dim 2"),
            (["9 4", "a 1 2 3 4"], "its vectors have 4 numbers, but --embed-dim is 3"),
            (["a 1 2 3", "b 1 2 3 4"], "line 2: its vectors have 4 numbers"),
            (["a 1 2 3", "b 1 x 3"], "line 2: a symbol and 3 numbers were expected, but it is 'b 1 x 3'"),
            (["a 1 2 3", "b"], "line 2: a symbol and 3 numbers were expected, but it is 'b'"),
            (["a 1 nan 3"], "line 1: the vector of 'a' has a number that is not finite"),
            (["3 3", "a 1 2 3"], "announces 3 vectors in its first line but holds 1"),
            (["zebra 1 2 3"], "has no symbol of the dictionary"),
            ([], "has no symbol of the dictionary"),
        ],
    )
    def test_of_a_bad_file_are_refused(self, toy, tmp_path, lines, message):
        with pytest.raises(ValueError, match=f"^--init-embeddings .*{message}"):
            start(toy.folder, self.FLAGS, self.write(tmp_path, *lines))

    def test_in_the_binary_form_are_refused(self, toy, tmp_path):
        (tmp_path / "vectors.bin").write_bytes(b"2 3\na \xff\xfe\x9a\xbf\n")
        with pytest.raises(ValueError, match="no text in UTF-8: give the text form"):
            start(toy.folder, self.FLAGS, tmp_path / "vectors.bin")


class TestFiles:
    @pytest.mark.parametrize("flag", ["--init-decoder", "--init-encoder", "--init-embeddings"])
    def test_that_are_missing_are_named_with_their_flag(self, toy, flag):
        with pytest.raises(ValueError, match=f"^{flag} nowhere: there is no such file"):
            start(toy.folder, flag, "nowhere")

    def test_of_other_models_are_refused(self, toy, tmp_path, lstm_lm):
        with pytest.raises(ValueError, match="^--init-encoder .*another model: give a checkpoint of --arch seqvae.$"):
            start(toy.folder, "--init-encoder", lstm_lm())
        torch.save({"model": {"weight": torch.zeros(2)}, "cfg": None}, tmp_path / "other.pt")
        with pytest.raises(ValueError, match="^--init-decoder .*another model.*or of fairseq's lstm_lm"):
            start(toy.folder, "--init-decoder", tmp_path / "other.pt")

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
    def test_that_are_no_checkpoints_are_refused(self, toy, tmp_path, content):
        (tmp_path / "file.pt").write_bytes(content)
        with pytest.raises(ValueError, match="^--init-decoder .*no checkpoint"):
            start(toy.folder, "--init-decoder", tmp_path / "file.pt")

    def test_with_anything_but_options_beside_tensors_are_not_loaded(self, toy, tmp_path, lstm_lm):
        class Trap:
            def __reduce__(self):
                return pathlib.Path.touch, (tmp_path / "sprung",)

        state = torch.load(lstm_lm(), weights_only=False)
        assert isinstance(state["cfg"]["model"], argparse.Namespace)
        state["cfg"]["model"].trap = Trap()
        torch.save(state, tmp_path / "trap.pt")
        with pytest.raises(ValueError, match="^--init-decoder .*could run code"):
            start(toy.folder, "--init-decoder", tmp_path / "trap.pt")
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--latent-dim 0 --init-encoder x", "--init-encoder needs an encoder, but --latent-dim 0 has none"),
            ("--init-embeddings x --init-decoder y", "both bring embeddings: omit one"),
            ("--init-dictionary x", "give --init-decoder or --init-encoder too"),
            ("--init-decoder x --finetune-from-model y", "--finetune-from-model .* --init-decoder: omit one"),
        ],
    )
    def test_flags_that_contradict_each_other_are_refused(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            start(toy.folder, flags)


@pytest.fixture
def language_model(seqvae, tmp_path):
    """A copy of a language model's checkpoint, to be deleted."""
    copy = tmp_path / "language-model.pt"
    copy.write_bytes(seqvae("--latent-dim 0").read_bytes())
    return copy


class TestARunThatContinues:
    def test_ends_as_if_it_had_not_been_stopped_without_the_file(self, toy, tmp_path, language_model):
        flags = ["--latent-input --init-decoder", language_model]
        commands.train(toy.folder, tmp_path / "whole", *flags, "--max-update 12")
        commands.train(toy.folder, tmp_path / "halves", *flags, "--max-update 6")
        language_model.unlink()
        output = commands.train(toy.folder, tmp_path / "halves", *flags, "--max-update 12")
        last = tmp_path / "halves" / "checkpoint_last.pt"
        assert f"--init-decoder: not read, since the run continues from {last}" in output
        commands.assert_same_training(tmp_path / "whole" / "checkpoint_last.pt", last)

    def test_from_a_checkpoint_that_is_named_does_not_read_the_file(self, toy, tmp_path, seqvae, language_model):
        language_model.unlink()
        output = commands.train(
            *(toy.folder, tmp_path / "run", "--reset-optimizer --reset-dataloader --reset-meters", SHORT),
            *("--restore-file", seqvae(), "--init-decoder", language_model),
            criterion=commands.ELBO,
        )
        assert f"not read, since the run continues from {seqvae()}" in output

    def test_is_used_without_the_file(self, toy, tmp_path, language_model):
        from fairseq_seqvae.models import SeqVAEModel

        commands.train(toy.folder, tmp_path, SHORT, "--init-decoder", language_model)
        language_model.unlink()
        output = commands.generate(toy.folder, tmp_path / "checkpoint_last.pt", "--gen-subset test --beam 2")
        assert len(commands.hypotheses(output)) == len(toy.test)
        hub = SeqVAEModel.from_pretrained(tmp_path, "checkpoint_last.pt", str(toy.folder))
        assert len(hub.sample_prior(3)) == 3


class TestPrecision:
    @pytest.mark.parametrize("flag", ["--bf16", "--memory-efficient-bf16"])
    def test_half_precision_starts_from_the_rounded_parameters(self, toy, tmp_path, seqvae, flag):
        path = seqvae("--latent-input")
        training = commands.make_training(toy.folder, flag, "--latent-input --init-decoder", path)
        theirs = commands.load_checkpoint(path)["model"]
        for name, value in training.trainer.model.decoder.state_dict().items():
            assert torch.equal(value, theirs[f"decoder.{name}"].bfloat16()), name
        commands.train(toy.folder, tmp_path, SHORT, flag, "--latent-input --init-decoder", path)

    def test_a_checkpoint_in_half_precision_starts_a_run_in_full(self, toy, tmp_path, seqvae):
        state = commands.load_checkpoint(seqvae())
        for name, value in state["model"].items():
            state["model"][name] = value.half() if value.is_floating_point() else value
        path, theirs = tmp_path / "half.pt", state["model"]
        torch.save(state, path)
        model = start(toy.folder, "--init-decoder", path, "--init-encoder", path)
        for name, value in model.state_dict().items():
            if name.startswith(("encoder", "decoder")):
                assert value.dtype == torch.float32 and torch.equal(value, theirs[name].float())


@pytest.mark.slow
def test_several_processes_start_alike_and_one_of_them_says_so(toy, tmp_path, seqvae):
    path = seqvae("--latent-dim 0")
    # fairseq seeds dropout alike in all processes, so that only without it one process can do the same
    flags = ("--max-update 4", "--dropout 0 --disc-dropout 0 --ddp-backend legacy_ddp --init-decoder", path)
    arguments = commands.training_flags(toy.folder, tmp_path / "two", *flags, "--batch-size 16")
    output = commands.run("train", arguments, commands.distributed(2), processes=2).stdout
    assert output.count("taken: embeddings") == 1
    commands.train(toy.folder, tmp_path / "one", *flags, "--batch-size 16 --update-freq 2")
    commands.assert_same_training(
        tmp_path / "one" / "checkpoint_last.pt", tmp_path / "two" / "checkpoint_last.pt", same_batches=False
    )
