"""Checkpoints of tensors and plain values alone that were made to do harm."""

import logging
import math

import commands
import pytest
import torch
from commands import ELBO, load_checkpoint
from fairseq.data import Dictionary

from fairseq_seqvae.compat import guarding
from fairseq_seqvae.models import SeqVAEModel
from fairseq_seqvae.models.dictionaries import PrintableDictionary
from fairseq_seqvae.support import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def good(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    commands.train(toy.folder, folder, "--max-update 2", criterion=ELBO)
    return folder / "checkpoint_last.pt"


@pytest.fixture
def made(good, tmp_path):
    """Writes a checkpoint with nodes of its configuration replaced or changed."""

    def make(change):
        state = load_checkpoint(good)
        change(state)
        torch.save(state, tmp_path / "made.pt")
        return tmp_path / "made.pt"

    return make


def setting(part, **options):
    return lambda state: state["cfg"][part].update(options)


def validate(toy, path):
    commands.call("validate", toy.folder, "--task seqvae --cpu --batch-size 8 --num-workers 0 --path", path)


def eval_lm(toy, path):
    commands.call("eval-lm", toy.folder, "--cpu --gen-subset valid --num-workers 0 --path", path)


def generate(toy, path):
    commands.generate(toy.folder, path, "--gen-subset prior --num-draws 2 --sampling --beam 1")


def from_python(toy, path, **options):
    with commands.captured():
        return SeqVAEModel.from_pretrained(path.parent, path.name, toy.folder, **options)


class TestText:
    """fairseq evaluates some options of its models, tasks and criterions as code."""

    @pytest.fixture
    def sprung(self, tmp_path):
        return tmp_path / "sprung"

    @pytest.fixture
    def code(self, sprung):
        return f"__import__('pathlib').Path('{sprung}').touch()"

    def test_the_trap_works(self, code, sprung):
        eval(code)
        assert sprung.exists()

    def wav2vec(self, code):
        def change(state):
            state["cfg"]["model"] = {"_name": "wav2vec", "conv_feature_layers": code}
            state["cfg"]["task"] = {"_name": "audio_pretraining", "data": "."}

        return change

    @pytest.mark.parametrize("read", [validate, eval_lm])
    def test_other_models_are_not_built(self, toy, made, code, sprung, read):
        with pytest.raises(ValueError, match="made.pt is a checkpoint of the task 'audio_pretraining': give one that"):
            read(toy, made(self.wav2vec(code)))
        assert not sprung.exists()

    def test_a_seqvae_is_nothing_for_eval_lm(self, toy, good):
        with pytest.raises(ValueError, match="task 'seqvae', which this command does not use: give it to fairseq-gen"):
            eval_lm(toy, good)

    def test_criterions_of_fairseq_are_not_built(self, toy, made, code, sprung):
        def change(state):
            state["cfg"]["criterion"] = {"_name": "ctc", "wer_args": code}

        path = made(change)
        with pytest.raises(ValueError, match="made.pt was trained with --criterion ctc, which could run code of who"):
            validate(toy, path)
        assert not sprung.exists()
        generate(toy, path)  # builds no criterion

    def test_harmless_criterions_of_fairseq_are(self, toy, tmp_path):
        criterion = "--criterion label_smoothed_cross_entropy --label-smoothing 0.1"
        commands.train(toy.folder, tmp_path, "--max-update 2", criterion=criterion)
        validate(toy, tmp_path / "checkpoint_last.pt")

    def test_a_language_model_whose_options_hold_a_call(self, toy, made, code, sprung):
        def change(state):
            state["cfg"]["task"] = {"_name": "language_modeling", "data": str(toy.folder)}
            state["cfg"]["model"] = {"_name": "fconv_lm", "arch": "fconv_lm", "decoder_layers": code}

        path = made(change)
        with pytest.raises(ValueError, match="could run code of whoever made it: its option decoder_layers is .__im"):
            eval_lm(toy, path)
        assert not sprung.exists()

    def test_language_models_of_fairseq_are_read(self, toy, tmp_path, trained):
        flags = "--task language_modeling --arch lstm_lm --decoder-embed-dim 4 --decoder-hidden-size 4 "
        flags += "--decoder-out-embed-dim 4 --criterion cross_entropy --optimizer adam --lr 0.01 --batch-size 8 "
        flags += "--sample-break-mode eos --max-update 1 --cpu --save-dir"
        commands.call("train", toy.folder, flags, tmp_path)
        path = tmp_path / "checkpoint_last.pt"
        eval_lm(toy, path)
        commands.generate(toy.folder, trained.checkpoint, "--gen-subset test --beam 2 --lm-weight 0.1 --lm-path", path)
        with pytest.raises(ValueError, match="--task seqvae needs a SeqVAE, but the model is 'lstm_lm'"):
            generate(toy, path)

    @pytest.mark.parametrize(
        "text, runs",
        [
            ("__import__('os').system('true')", True),
            (" [f() for x in [1]]", True),
            ("[(512, 10, 5)] + [(512, 3, 2)] * 4", False),
            ("True", False),
            ("some/folder", False),
            ("import os", False),
            ("", False),
        ],
    )
    def test_what_a_call_is(self, text, runs):
        assert guarding.is_call(text) == runs

    @pytest.mark.parametrize("option", ["module", "disc_module"])
    @pytest.mark.parametrize("read", [validate, generate, from_python])
    def test_files_of_python_are_not_imported(self, toy, made, tmp_path, sprung, code, option, read):
        (tmp_path / "evil.py").write_text(code + "\n")
        read(toy, made(setting("model", **{option: str(tmp_path / "evil.py")})))
        assert not sprung.exists()


class TestAddresses:
    @pytest.fixture(autouse=True)
    def no_net(self, monkeypatch):
        import socket

        def refuse(*args, **kwargs):
            raise AssertionError("it reached for the net")

        monkeypatch.setattr(socket.socket, "connect", refuse)

    @pytest.mark.parametrize(
        "part, options, named",
        [
            ("bpe", {"_name": "sentencepiece", "sentencepiece_model": "http://127.0.0.1:9/m"}, "sentencepiece_model"),
            ("bpe", {"_name": "fastbpe", "bpe_codes": "s3://bucket/codes"}, "bpe_codes"),
            ("bpe", {"_name": "gpt2"}, "gpt2_encoder_json"),
            ("bpe", {"_name": "bert"}, "bpe_vocab_file"),
        ],
    )
    def test_are_refused(self, toy, made, part, options, named):
        with pytest.raises(ValueError, match=f"the checkpoint's {part} .* would fetch {named} .* give it yourself"):
            from_python(toy, made(lambda state: state["cfg"].update({part: options})))

    def test_a_local_file_is_not_an_address(self, toy, made):
        path = made(
            lambda state: state["cfg"].update(bpe={"_name": "sentencepiece", "sentencepiece_model": "none.model"})
        )
        with pytest.raises(OSError, match="none.model not found"):
            from_python(toy, path)

    def test_what_the_caller_gives_counts(self, toy, made):
        path = made(
            lambda state: state["cfg"].update(bpe={"_name": "sentencepiece", "sentencepiece_model": "http://a/b"})
        )
        with pytest.raises(OSError, match="none.model not found"):
            from_python(toy, path, sentencepiece_model="none.model")


class TestSizes:
    @pytest.mark.parametrize("read", [generate, validate, from_python])
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"embed_dim": 10**9}, "made.pt is damaged, .*: --embed-dim is 1000000000, where a model of only"),
            ({"decoder_hidden_dim": 10**5}, "--decoder-hidden-dim is 100000, where a model of only"),
            ({"encoder_layers": 10**9}, "--encoder-layers is 1000000000, where"),
            ({"conv_channels": "1000000,1000000"}, "--conv-channels is 1000000,1000000, where"),
            ({"fixed_length": 10**9}, "--fixed-length is 1000000000, where at most 1048576 tokens can be"),
            ({"embed_dim": "8"}, "--embed-dim is '8', where only a value of type int can be"),
            ({"latent_dim": [6]}, r"--latent-dim is \[6\], where only"),
            ({"embed_dim": 8.5}, "--embed-dim is 8.5, where only a value of type int"),
            ({"latent_input": "yes"}, "--latent-input is 'yes', where only a value of type bool"),
            ({"encoder": 3}, "--encoder is 3, where only a value of type str"),
        ],
    )
    def test_impossible_options(self, toy, made, read, options, message):
        with pytest.raises(ValueError, match=message):
            read(toy, made(setting("model", **options)))

    @pytest.mark.parametrize("longest", [10**9, -1, "9", 2.5])
    def test_impossible_lengths(self, toy, made, longest):
        with pytest.raises(ValueError, match="its longest sequence is .*, where at most 1048576 tokens can be"):
            validate(toy, made(lambda state: state["task_state"].update(longest=longest)))

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    @pytest.mark.parametrize("read", [generate, validate, from_python])
    def test_parameters_that_are_not_finite(self, toy, made, read, value):
        path = made(lambda state: state["model"]["decoder.output.bias"].fill_(value))
        with pytest.raises(
            ValueError, match="made.pt holds a broken model: its parameter decoder.output.bias is NaN or"
        ):
            read(toy, path)

    def test_parameters_that_are_no_tensors(self, toy, made):
        with pytest.raises(ValueError, match="its parameter decoder.output.bias is no tensor"):
            generate(toy, made(lambda state: state["model"].update({"decoder.output.bias": [1.0]})))


class TestControlCharacters:
    def test_are_printed_as_escapes(self, tmp_path):
        symbols = ["a", "\x1b[2J", "\x07", "\x9b", "\u202e", "é", "\u200d"]
        (tmp_path / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")
        dictionary = PrintableDictionary.load(str(tmp_path / "dict.txt"))
        tokens = torch.tensor([dictionary.index(symbol) for symbol in symbols])
        shown = "a \\x1b[2J \\x07 \\x9b \\u202e é \u200d"
        assert dictionary.string(tokens) == shown
        assert dictionary.string(torch.stack([tokens, tokens])) == f"{shown}\n{shown}"

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"bpe_symbol": "@@ "},
            {"bpe_symbol": "sentencepiece", "escape_unk": True},
            {"extra_symbols_to_ignore": {5}, "include_eos": True, "separator": "-"},
            {"unk_string": "?"},
        ],
    )
    def test_all_else_is_as_fairseq_prints_it(self, options):
        ours, theirs = PrintableDictionary(), Dictionary()
        for dictionary in (ours, theirs):
            for symbol in ("a@@", "b", "\u2581c"):
                dictionary.add_symbol(symbol)
        tokens = [0, 4, 5, 6, 3, 1, 99, 2, 4, 2]
        for given in (tokens, torch.tensor(tokens), torch.tensor(tokens, dtype=torch.int)):
            assert ours.string(given, **options) == theirs.string(torch.tensor(tokens), **options)
        assert ours.string(torch.tensor([], dtype=torch.long), **options) == ""

    def test_of_the_data_do_not_reach_the_terminal(self, toy, tmp_path):
        data = commands.preprocess(
            tmp_path / "bin", train=["a \x1b[31m b"] * 8, valid=["a \x1b[31m"], test=["\x1b[31m a"]
        )
        commands.train(data, tmp_path / "ck", "--max-update 1", criterion=ELBO)
        output = commands.generate(data, tmp_path / "ck" / "checkpoint_last.pt", "--gen-subset test --beam 1")
        assert "\x1b" not in output and "T-0\t\\x1b[31m a" in output


@pytest.mark.parametrize(
    "version, warns", [("2.5.1", True), ("2.9.1+cpu", True), ("2.10.0", False), ("2.13.0+cpu", False)]
)
def test_an_old_torch_is_warned_of_once(caplog, version, warns):
    caplog.set_level(logging.WARNING)
    checkpoints._warn_of_old_torch.cache_clear()
    for _ in range(2):
        checkpoints._warn_of_old_torch(version)
    checkpoints._warn_of_old_torch.cache_clear()
    assert caplog.text.count(f"torch {version} has known holes") == warns
