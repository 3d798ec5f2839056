"""What users get wrong: a message names what it was and what to do, or the log says how it was handled.

The tables map a misuse to what its message says, a regular expression. Where a misuse is handled instead of refused,
or needs data of its own, there is a test of its own below.
"""

import hashlib
import re
import runpy
import shutil
import sys

import commands
import pytest
import torch
from commands import call, hypotheses, preprocess, texts, toy_sentences

from fairseq_seqvae.melody.__main__ import main as melody
from fairseq_seqvae.models import SeqVAEModel
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.__main__ import main as oracle

PRIOR = "--gen-subset prior --num-draws 3 --sampling --beam 1"
WALK = "--gen-subset interpolate --num-draws 3"
SENTENCES = toy_sentences(40, seed=5)

# --- flags of fairseq-train, by owner

TASK = {
    "--gen-pretrain-updates -1": "--gen-pretrain-updates must be at least 0 but is -1",
    "--disc-pretrain-updates -2": "--disc-pretrain-updates must be at least 0 but is -2",
    "--adv-g-steps 0 --adv-d-steps 0": "--adv-g-steps and --adv-d-steps are both 0: give at least one",
    "--adv-g-steps -1": "--adv-g-steps must be at least 0 but is -1",
    "--adv-d-steps -1": "--adv-d-steps must be at least 0 but is -1",
    "--disc-lr -1": "--disc-lr must be at least 0 but is -1.0",
    "--disc-lr nan": "--disc-lr must be finite but is nan",
    "--rollout-lag 1": r"--rollout-lag must lie in \[0, 1\) but is 1.0 \(0: a copy of the decoder\)",
    "--fixed-length 6": r"--fixed-length 6: \d+ of 40 sequences of split 'valid' have another number of tokens",
    "--fixed-length -1": r"--fixed-length must be at least 0 but is -1 \(0: sequences end with EOS\)",
    "--fixed-length 50 --max-positions 20": "--fixed-length 50 is above --max-positions 20: raise the latter",
    "--max-positions 1": "--max-positions must be at least 2 but is 1",
    "--train-subset prior": "split 'prior' has no sentences, it is drawn by .* give a split of the data",
    "--valid-subset valid,interpolate": "split 'interpolate' has no sentences, it is drawn by .*--valid-subset",
    "--update-freq 0": "--update-freq must be at least 1 but is 0: it is the number of batches",
    "--update-freq 2,-1": "--update-freq must be at least 1 but is 2,-1",
    "--best-checkpoint-metric nope": "--best-checkpoint-metric nope is not among what .* choose one of .*kl, .*loss",
    "--alarm-window -1": r"--alarm-window must be at least 0 but is -1 \(0: off\)",
    "--alarm-kl inf": "--alarm-kl must be finite but is inf",
    "--alarm-kl -1": "--alarm-kl must be at least 0 but is -1",
    "--ddp-backend fully_sharded": "--ddp-backend fully_sharded is not supported.*use pytorch_ddp or legacy_ddp",
}
MODEL = {
    "--dropout 1": r"--dropout must lie in \[0, 1\) but is 1.0",
    "--word-dropout nan": r"--word-dropout must lie in \[0, 1\) but is nan",
    "--embed-dim -3": "--embed-dim must be at least 1 but is -3",
    "--encoder-layers 0": "--encoder-layers must be at least 1 but is 0",
    "--decoder-layers 0": "--decoder-layers must be at least 1 but is 0",
    "--latent-dim -1": r"--latent-dim must be at least 0 but is -1 \(0: a language model, which has no encoder\)",
    "--latent-dim 0 --no-share-embeddings": "--no-share-embeddings needs an encoder, but --latent-dim 0 has none",
    "--discriminator nope": "unknown discriminator 'nope': choose one of .*cnn.* rnn.*or name the file",
    "--discriminator rnn --disc-layers 0": "--disc-layers must be at least 1 but is 0",
    "--disc-module /no/such/file.py": "--disc-module '/no/such/file.py': there is no such file",
    "--module /no/such/file.py": "--module '/no/such/file.py': there is no such file",
    "--module ,": "--module '': there is no such file",
    "--disc-widths one,two": "--disc-widths must be whole numbers of at least 1, .* such as 1,2,3, but is 'one,two'",
    "--disc-widths 1,2,": "--disc-widths must be whole numbers of at least 1, .* but is '1,2,'",
    "--disc-widths 0,1": "--disc-widths must be whole numbers of at least 1, .* but is '0,1'",
    "--disc-widths 1,99999999999": "--disc-widths 1,99999999999 has a width above --max-positions 1024, .*give smaller",
    "--disc-features few": "--disc-features must be whole numbers of at least 1, .* but is 'few'",
    "--disc-widths 1,2 --disc-features 1,2,3": "--disc-features 1,2,3 must be one number, or .* --disc-widths 1,2",
    "--disc-highway-layers -1": r"--disc-highway-layers must be at least 0 but is -1 \(0: none\)",
}
CRITERION = {
    "--kl-anneal linear": "--kl-anneal linear needs --kl-anneal-updates above 0 .it is 0., or use",
    "--kl-anneal cyclical --kl-anneal-updates 9 --kl-cycles 0": "--kl-cycles must be at least 1 but is 0",
    "--kl-anneal cyclical --kl-anneal-updates 9 --kl-ramp 0": r"--kl-ramp must lie in \(0, 1\] but is 0.0",
    "--kl-anneal-updates -1": "--kl-anneal-updates must be at least 0 but is -1",
    "--kl-weight -1": r"--kl-weight must be at least 0 but is -1.0 \(0: off\)",
    "--free-bits nan": "--free-bits must be finite but is nan",
    "--elbo-weight -1": "--elbo-weight must be at least 0 but is -1",
    "--pg-weight inf": "--pg-weight must be finite but is inf",
    "--entropy-weight nan": r"--entropy-weight must be finite but is nan \(0: off\)",
    "--entropy-weight -1 --entropy-floor -1": "--entropy-floor must be at least 0 but is -1",
    "--entropy-floor 1": "--entropy-floor 1.0 needs an --entropy-weight below 0 .it is 0.0.: a bonus on entropy has no",
    "--pg-latent prior --pg-region 0": r"--pg-region must lie in \(0, 1\] but is 0.0 \(1: the whole prior\)",
    "--pg-latent prior --pg-region 1.5": r"--pg-region must lie in \(0, 1\] but is 1.5",
    "--pg-region 0.5": "--pg-region 0.5 is a share of the prior: it needs --pg-latent prior, not posterior",
    "--disc-l2 -1": "--disc-l2 must be at least 0 but is -1",
    "--fake-pool -1": r"--fake-pool must be at least 0 but is -1 \(0: fresh fakes in every update\)",
    "--fake-reuse 0": "--fake-reuse must be at least 1 but is 0",
    "--num-rollouts 0": "--num-rollouts must be at least 1 but is 0",
    "--reward-stride 0": "--reward-stride must be at least 1 but is 0",
    "--rollout-chunk 0": "--rollout-chunk must be at least 1 but is 0",
    "--pg-trajectories data --pg-latent prior": "--pg-trajectories data needs --pg-latent posterior",
    "--disc-label-smoothing 0.5": r"--disc-label-smoothing must lie in \[0, 0.5\) but is 0.5",
    "--discriminator rnn --disc-scoring tables": "RecurrentDiscriminator cannot score by tables: use .* auto",
}
OPTIMIZER = {
    "--optimizer composite": "composite has no group generator and no group discriminator: give an optimizer and an "
    "lr_scheduler under optimizer.groups.generator in the YAML of fairseq-hydra-train, or .* --disc-lr",
    "--optimizer seqvae_adam --adam-betas x": "--adam-betas 'x', .*: name 'x' is not defined; usual are --adam-betas",
    "--optimizer seqvae_adam --adam-betas '(0.9, 2)'": "Invalid beta parameter at index 1: 2; usual are --adam-betas",
    "--optimizer seqvae_adam --adam-eps -1": "--adam-eps -1.0, .*: Invalid epsilon value: -1.0; usual are",
}
# What the parser of fairseq knows to be no value of the flag.
PARSER = {
    "--kl-anneal sometimes": "invalid choice: 'sometimes' .choose from '?constant'?, '?linear",
    "--num-rollouts many": "argument --num-rollouts: invalid int value: 'many'",
    "--optimizer nope": "argument --optimizer: invalid choice: 'nope' .choose from .*seqvae_adam",
    "--source-lang de": "unrecognized arguments: --source-lang de",
}

# --- flags of fairseq-generate

GENERATION = {
    f"{PRIOR} --prefix-size 2": "--prefix-size 2 needs sentences .* --gen-subset prior has none: choose a split",
    f"{WALK} --prefix-size 2": "--gen-subset interpolate has none: choose a split",
    f"{PRIOR} --score-reference": "--score-reference needs sentences .* --gen-subset prior has none: choose a split",
    "--gen-subset prior --num-draws 0": "--num-draws must be at least 1 but is 0",
    "--gen-subset prior --num-draws -3": "--num-draws must be at least 1 but is -3",
    "--gen-subset interpolate --num-draws 1": "--num-draws 1 is too small for --gen-subset interpolate",
    "--gen-subset test,prior": r"there is no split 'test,prior' in .* \(found: test, train, valid\)",
    f"{WALK} --interpolate-from a": "--interpolate-from and --interpolate-to belong together: give both or none",
    f"{WALK} --interpolate-to a": "--interpolate-from and --interpolate-to belong together: give both or none",
    f"{WALK} --interpolate-from '' --interpolate-to a": "--interpolate-to must not be empty: give two sentences",
    f"{WALK} --max-positions 3 --interpolate-from 'a a a' --interpolate-to a": "--interpolate-from has 4 tokens, more "
    "than --max-positions 3: shorten it",
    f"{PRIOR} --temperature 0": "--temperature must be above 0 but is 0",
    f"{PRIOR} --temperature -1": "--temperature must be above 0 but is -1",
    f"{PRIOR} --temperature nan": "--temperature must be above 0 but is nan",
    "--gen-subset test --beam 2 --temperature 0": "--temperature must be above 0 but is 0.0",
    f"{PRIOR} --sampling-topp 2": r"--sampling-topp must be at most 1 but is 2.0 \(-1: off\)",
    f"{PRIOR} --min-len 300": "--min-len 300 asks for more than the 200 tokens that --max-len-a 0 and --max-len-b 200",
    f"{PRIOR} --max-len-b 0": "than the 0 tokens that --max-len-a 0 and --max-len-b 0 allow: raise --max-len-b",
    "--gen-subset test --beam 0": "--beam must be at least 1 but is 0",
    "--gen-subset test --beam 2 --nbest 0": "--nbest must be at least 1 but is 0",
    f"{PRIOR} --nbest 3": "--sampling requires --nbest to be equal to --beam",
    "--gen-subset test --beam 2 --nbest 3": "--nbest 3 needs --beam 3 or more, but --beam is 2",
    "--gen-subset test --beam 2 --diverse-beam-groups 3": "--beam to be divisible by the number of groups",
    "--gen-subset test --prefix-size -1": r"--prefix-size must be at least 0 but is -1 \(0: off\)",
    f"{PRIOR} --seed -1": "Seed must be between 0 and",
    f"{PRIOR} --scoring oracle_nll --oracle-seed -1": r"--oracle-seed must lie in \[0, 4294967295\] but is -1",
    f"{PRIOR} --scoring oracle_nll --oracle-npz {__file__}": "is no .npz file of plain arrays, as numpy.savez writes",
    f"{PRIOR} --scoring oracle_nll": "hypothesis 1 has '.*', which is no token of the oracle",
}

# --- Python

PYTHON = {
    "SeqVAEModel.from_pretrained('/no/where', 'x.pt', '.')": "`model_name_or_path` '/no/where' does not exist: give",
    "SeqVAEModel.from_pretrained('/', 'x.pt', '/no/where')": "`data_name_or_path` '/no/where' does not exist: give",
    "SeqVAEModel.from_pretrained('/', 'x.pt', '/')": "No such file or directory: '/x.pt'",
    "hub.sample_prior(0)": "`n` must be a whole number of at least 1 but is 0",
    "hub.sample_prior(2.5)": "`n` must be a whole number of at least 1 but is 2.5",
    "hub.sample_prior(2, temperature=0)": "`temperature` must be positive but is 0: a small one such as 0.1",
    "hub.sample_prior(2, temperature=0, min_len=1)": "`temperature` must be positive but is 0",
    "hub.sample_prior(2, top_p=2)": r"`top_p` must lie in \[0, 1\] but is 2: give 0 to keep all",
    "hub.sample_prior(2, max_len=0)": "`max_len` must be at least 1 but is 0",
    "hub.decode_latent(torch.zeros(3))": r"`z` must have the shape \(B, 6\) but has \(3,\)",
    "hub.decode_latent(torch.zeros(0, 6))": "`z` has no rows: ask for at least one sequence",
    "hub.decode_latent([[0.0] * 6])": r"`z` must be a tensor \(B, 6\) but is a list",
    "hub.decode_latent(torch.zeros(2, 6), prefixes=['a'])": "`prefixes` must have one text for each of the 2 z",
    "hub.encode_latent('a b')": "give a list of texts, not one string",
    "hub.encode_latent([1])": "give a list of texts: 1 is a int",
    "hub.continue_text([])": "the list of texts is empty",
    "hub.continue_text(['a'], latent='x')": "`latent` must be 'mean', 'sample' or 'prior' but is 'x'",
    "hub.reconstruct(['a'], latent='x')": "`latent` must be 'mean' or 'sample' but is 'x'",
    "hub.reconstruct(['a'], beam=0)": "--beam must be at least 1 but is 0",
    "hub.interpolate('a', 'b', n=1)": "`n` must be at least 2, the two ends, but is 1",
    "Oracle.from_seed(-1)": r"`seed` must be a whole number from 0 to 2\^32 - 1 but is -1",
    "Oracle.from_seed(88.5)": r"`seed` must be a whole number from 0 to 2\^32 - 1 but is 88.5",
    "Oracle.from_seed(1, vocab_size=0)": "sizes must be at least 1 but are V 0, E 32, H 32",
    "Oracle.from_npz(__file__)": "is no .npz file of plain arrays, as numpy.savez writes",
    "Oracle({})": "an oracle has the arrays embedding, Wi, .* are missing .found: none.",
    "Oracle.from_seed(1, 9).nll(torch.full((1, 2), 9))": "`tokens` must lie in 0 .. 8 but reach from 9 to 9",
    "Oracle.from_seed(1, 9).sample(0, 3, seed=1)": "`n` and `length` must be at least 1 but are 0 and 3",
}

# --- commands of the package, run in a folder with the files of `files_of_commands`

COMMANDS = {
    "melody to-midi none.txt --out new": "none.txt: No such file or directory",
    "melody to-midi text.txt --out new": "text.txt has no D- lines .* expected the output of fairseq-generate",
    "melody to-midi . --out new": r"\.: Is a directory",
    "melody to-midi notes.txt --out text.txt": "text.txt: File exists",
    "melody to-midi notes.txt --out text.txt/new": "text.txt/new: Not a directory",
    "melody to-midi notes.txt --out new --tempo nan": "`tempo` must be 4 to 1000 quarter notes per minute but is nan",
    "melody to-midi notes.txt --out new --program 128": "`program` must be 0 to 127 but is 128",
    "melody to-midi notes.txt --out new --steps-per-quarter 999": "`steps_per_quarter` must be 1 to 273 but is 999",
    "melody to-midi notes.txt --out new --meter 4/5": "'4/5' must be a meter such as 4/4 or 6/8",
    "melody plot notes.txt --out new.gif": "new.gif must end in .png or .svg",
    "melody plot notes.txt --out text.txt --force": "text.txt must end in .png or .svg",
    "melody plot notes.txt --out notes.txt": "notes.txt exists already: choose another name or overwrite with --force",
    "melody windows text.txt --out new": "text.txt is no table of tunes: its first line must name the columns",
    "melody windows long.tsv --out new": "long.tsv, line 2: the notes last more than 100000 steps",
    "melody windows long.tsv --out new --bars 0": "'0' must be a whole number of at least 1",
    "melody from-midi none --out new": "none does not exist",
    "melody from-midi empty --out new": "empty has no .mid or .midi files in it",
    "melody from-midi text.txt --out new": r"(?s)text.txt: not a MIDI file.*none of the 1 files can be used",
    "oracle generate --out text.txt/new --train 1 --valid 1 --test 1": "text.txt/new: Not a directory",
    "oracle generate --out new --length 99999999999999": "this needs more memory than there is: ask for less",
    "oracle generate --out new --seed -1": r"'-1' must be a whole number from 0 to 2\^32 - 1",
    "oracle generate --out new --npz text.txt": "text.txt is no .npz file of plain arrays",
    "oracle nll none.txt": "none.txt: No such file or directory",
    "oracle nll text.txt": "text.txt: line 1 has 'hello', which is no token of the oracle .0 .. 4999.: expected token",
    "oracle nll tokens.txt": "1 of 2 sequences do not have the length 2 .the first is line 2 with 1 tokens.",
    "oracle nll tokens.txt --npz cut.npz": "cut.npz is no .npz file of plain arrays",
    "spm train --input none.txt --vocab-size 9 --prefix new": "cannot read or write 'none.txt': No such file",
    "spm train --input text.txt --vocab-size 0 --prefix new": "--vocab-size must be positive but is 0",
    "spm train --input text.txt --vocab-size 9999 --prefix new": "refused to train with --vocab-size 9999",
    "spm train --input text.txt --vocab-size 9 --prefix none/new": "the folder of --prefix does not exist",
    "spm encode --model text.txt": "'text.txt' is not a sentencepiece model",
    "plot-curves text.txt --out new.png": "'text.txt' has no JSON log lines of fairseq: train with `--log-format json",
    "plot-curves none.txt --out new.png": "cannot read or write 'none.txt': No such file or directory",
    "plot-curves text.txt --out new.gif": "--out must end in .png, .pdf or .svg but is 'new.gif'",
    "plot-curves text.txt --out new.png --boundaries 3": "'3' must be two update numbers, as in 600,700",
    "names/run --out text.txt/new": "Not a directory: '.*text.txt/new",
    "melody/run --seed x": "argument --seed: invalid int value: 'x'",
}


@pytest.fixture(scope="module")
def short(toy, tmp_path_factory):
    """A checkpoint of a few updates."""
    folder = tmp_path_factory.mktemp("short")
    commands.train(toy.folder, folder, "--max-update 7")
    return folder / "checkpoint_last.pt"


@pytest.fixture
def make_data(toy, tmp_path):
    """Preprocesses lines with the dictionary of the toy language."""

    def make(name="bin", **splits):
        return preprocess(tmp_path / name, toy.folder / "dict.txt", **splits)

    return make


def train(data, tmp_path, *flags):
    return commands.train(data, tmp_path / "ck", "--max-update 7", *flags)


def warnings_in(output):
    return "\n".join(line for line in output.splitlines() if line.startswith("WARNING"))


class TestData:
    @pytest.mark.parametrize("split", ["train", "valid", "test"])
    def test_empty_file(self, make_data, short, tmp_path, split):
        data = make_data(**{"train": SENTENCES, "valid": SENTENCES, "test": SENTENCES, split: []})
        with pytest.raises(ValueError, match=f"split '{split}' in .* holds no sentence: was the text file empty"):
            if split == "test":
                commands.generate(data, short, "--gen-subset test")
            else:
                train(data, tmp_path)

    def test_empty_lines_are_skipped_and_told(self, make_data, short, tmp_path):
        data = make_data(train=["a b", "", "c d", ""] * 10, valid=["a", "", "c"], test=["a b", "", "c"])
        log = warnings_in(train(data, tmp_path))
        assert "20 empty lines of split 'train' are skipped (the first is line 2)" in log
        assert "1 empty lines of split 'valid' are skipped (the first is line 2)" in log
        output = commands.generate(data, short, "--gen-subset test --beam 2")
        assert "1 empty lines of split 'test' are skipped" in warnings_in(output)
        assert sorted(texts(output)) == [0, 2]

    def test_nothing_but_empty_lines(self, make_data, tmp_path):
        data = make_data(train=["", ""], valid=["a"])
        with pytest.raises(ValueError, match="split 'train' in .* holds empty lines only"):
            train(data, tmp_path)

    def test_long_lines_of_training_are_skipped_and_told(self, make_data, tmp_path):
        data = make_data(train=[*SENTENCES, " ".join("a" * 40)], valid=SENTENCES)
        log = warnings_in(train(data, tmp_path, "--max-positions 12"))
        assert "1 samples have invalid sizes and will be skipped" in log and "first few sample ids=[40]" in log

    def test_training_of_long_lines_only(self, make_data, tmp_path):
        data = make_data(train=[" ".join("a" * 40)] * 9, valid=SENTENCES)
        with pytest.raises(Exception, match="The dataset is empty"):
            train(data, tmp_path, "--max-positions 12")

    def test_long_lines_elsewhere_are_refused(self, make_data, short, tmp_path):
        long = [*SENTENCES[:5], " ".join("a" * 1100)]
        data = make_data(train=SENTENCES, valid=long, test=long)
        message = "Size of sample #5 is invalid .* skip this example with --skip-invalid-size-inputs-valid-test"
        with pytest.raises(Exception, match=message):
            train(data, tmp_path)
        with pytest.raises(Exception, match=message):
            commands.generate(data, short, "--gen-subset test")
        output = commands.generate(data, short, "--gen-subset test --skip-invalid-size-inputs-valid-test")
        assert sorted(texts(output)) == [0, 1, 2, 3, 4]

    def test_missing_dictionary(self, tmp_path):
        with pytest.raises(
            FileNotFoundError, match="there is no dictionary .*nowhere/dict.txt: make the folder by fairse"
        ):
            train(tmp_path / "nowhere", tmp_path)

    @pytest.mark.parametrize("split", ["valid", "train"])
    def test_missing_split(self, make_data, tmp_path, split):
        splits = {"train": SENTENCES, "valid": SENTENCES}
        del splits[split]
        data = make_data(**splits)
        other = next(iter(splits))
        message = rf"there is no split '{split}' in .* \(found: {other}\): write it with .*--{split}pref"
        with pytest.raises(FileNotFoundError, match=message):
            train(data, tmp_path)

    def test_missing_split_of_generation(self, toy, short):
        message = r"there is no split 'dev' in .* \(found: test, train, valid\)"
        with pytest.raises(FileNotFoundError, match=message):
            commands.generate(toy.folder, short, "--gen-subset dev")

    SPOILT = {
        "train.bin cut short": lambda data: data[: len(data) // 2],
        "train.idx cut short": lambda data: data[:20],
        "train.idx half": lambda data: data[: len(data) // 2],
        "train.idx of another program": lambda data: b"hello" * 50,
    }

    @pytest.mark.parametrize("case", SPOILT)
    def test_damaged_split(self, toy, tmp_path, case):
        shutil.copytree(toy.folder, tmp_path / "bin")
        file = tmp_path / "bin" / case.split()[0]
        file.write_bytes(self.SPOILT[case](file.read_bytes()))
        with pytest.raises(ValueError, match="split 'train' in .* cannot be read .* write it again with fairseq"):
            train(tmp_path / "bin", tmp_path)

    def test_data_of_two_languages(self, tmp_path):
        for language in ("de", "en"):
            commands.write_lines(tmp_path / f"text.{language}", SENTENCES)
        pair = ("--source-lang de --target-lang en --trainpref", tmp_path / "text", "--validpref", tmp_path / "text")
        call("preprocess", *pair, "--destdir", tmp_path / "bin")
        with pytest.raises(FileNotFoundError, match="dictionaries of languages: preprocess without --source-lang"):
            train(tmp_path / "bin", tmp_path)

    def test_unknown_symbols_are_told(self, toy, short, tmp_path):
        lines = ["a b", "x y a", "q"]
        for limit in ("", "--buffer-size 3 --batch-size 3"):
            output = commands.interactive(toy.folder, short, lines, tmp_path, limit)
            log = warnings_in(output)
            assert "2 of 3 symbols are not in the dictionary (<unk>)" in log
            assert "1 of 1 symbols are not in the dictionary (<unk>)" in log
            assert log.count("symbols are not in the dictionary") == 2
            assert len(texts(output)) == 3


class TestDictionaries:
    OTHERS = {
        "more symbols": (
            ["a b c d e f g h i j k l m n o p q r s t"],
            "trained with a dictionary of 16 symbols but the data folder has one of 24: use the data folder",
        ),
        "other symbols": (
            ["a b c d e f g h i z"],
            "trained with a dictionary of the same size but of other symbols, or in another order: use the data folder",
        ),
    }

    @pytest.mark.parametrize("case", OTHERS)
    def test_checkpoint_of_another_dictionary(self, short, tmp_path, case):
        lines, message = self.OTHERS[case]
        data = preprocess(tmp_path / "bin", train=lines, valid=lines, test=lines)
        with pytest.raises(ValueError, match=message):
            commands.generate(data, short, PRIOR)
        with pytest.raises(ValueError, match=message):
            call("validate", data, "--task seqvae --cpu --batch-size 8 --num-workers 0 --path", short)
        (tmp_path / "ck").mkdir()
        shutil.copy(short, tmp_path / "ck")
        with pytest.raises(ValueError, match=message):
            train(data, tmp_path)
        with pytest.raises(ValueError, match=message):
            commands.train(data, tmp_path / "new", "--finetune-from-model", short, "--max-update 1")

    FILES = {
        "no symbols": ("", "the dictionary .*dict.txt has no symbols: write it again with fairseq-preprocess"),
        "a symbol twice": ("a 1\na 1\n", "Duplicate word found when loading Dictionary: 'a'"),
        "not a dictionary": ("hello\n", "Incorrect dictionary format, expected '<token> <cnt>"),
        "fewer symbols than the data": ("a 1\n", "tokens beyond the 5 symbols of its dictionary: .* binarise the text"),
    }

    @pytest.mark.parametrize("case", FILES)
    def test_damaged_dictionary(self, toy, tmp_path, case):
        content, message = self.FILES[case]
        shutil.copytree(toy.folder, tmp_path / "bin")
        (tmp_path / "bin" / "dict.txt").write_text(content)
        with pytest.raises((ValueError, RuntimeError), match=message):
            train(tmp_path / "bin", tmp_path)


NO_CHECKPOINTS = {
    "cut short": "checkpoint_last.pt is damaged, or no checkpoint",
    "empty": "checkpoint_last.pt is damaged, or no checkpoint",
    "text": "checkpoint_last.pt is no checkpoint of fairseq",
    "other arrays": "checkpoint_last.pt is no checkpoint of fairseq .* give a file that fairseq-train wrote",
    "language model": "needs a SeqVAE, but|holds another model than a SeqVAE|of the task 'language_modeling'",
}


@pytest.fixture(scope="module")
def no_checkpoints(toy, short, tmp_path_factory):
    """A folder for each kind, with a checkpoint_last.pt."""
    folder = tmp_path_factory.mktemp("files")
    for kind in NO_CHECKPOINTS:
        (folder / kind).mkdir()
    (folder / "cut short" / "checkpoint_last.pt").write_bytes(short.read_bytes()[:5000])
    (folder / "empty" / "checkpoint_last.pt").touch()
    (folder / "text" / "checkpoint_last.pt").write_text("hello")
    torch.save({"weights": torch.zeros(3)}, folder / "other arrays" / "checkpoint_last.pt")
    flags = (
        "--arch transformer_lm --decoder-embed-dim 8 --decoder-layers 1 --decoder-attention-heads 1 "
        "--tokens-per-sample 16 --batch-size 8 --max-update 1 --optimizer adam --cpu --num-workers 0 "
        "--no-epoch-checkpoints"
    )
    call("train", toy.folder, "--task language_modeling", flags, "--save-dir", folder / "language model")
    return folder


class TestCheckpoints:
    """Files that are none of this model, by each way in."""

    @pytest.mark.parametrize("way", ["generate", "resume", "finetune", "python"])
    @pytest.mark.parametrize("kind", NO_CHECKPOINTS)
    def test_that_are_none(self, toy, no_checkpoints, tmp_path, kind, way):
        checkpoint = no_checkpoints / kind / "checkpoint_last.pt"
        with pytest.raises(ValueError, match=NO_CHECKPOINTS[kind]):
            if way == "generate":
                commands.generate(toy.folder, checkpoint, PRIOR)
            elif way == "resume":
                shutil.copytree(checkpoint.parent, tmp_path / "ck")
                train(toy.folder, tmp_path)
            elif way == "finetune":
                train(toy.folder, tmp_path, "--finetune-from-model", checkpoint)
            else:
                SeqVAEModel.from_pretrained(checkpoint.parent, checkpoint.name, toy.folder)

    @pytest.mark.parametrize(
        "flags, message",
        {
            "--decoder-hidden-dim 20": "holds a model of other options .* give the --arch and the sizes that it was",
            "--disc-widths 1,2": "holds a model of other options .*the first: .*discriminator.convolutions.2.weight",
            "--criterion seqvae_elbo": "Criterion does not match; please reset the optimizer .--reset-optimizer",
            "--optimizer sgd": "Optimizer does not match; please reset the optimizer .--reset-optimizer",
        }.items(),
    )
    def test_resumed_with_other_options(self, toy, short, tmp_path, flags, message):
        shutil.copytree(short.parent, tmp_path / "ck")
        # The flags of seqvae_pg are unknown to seqvae_elbo.
        criterion = flags if "--criterion" in flags else commands.ADVERSARIAL
        with pytest.raises((ValueError, AssertionError), match=message):
            commands.train(toy.folder, tmp_path / "ck", "--max-update 9", flags, criterion=criterion)

    def test_missing(self, toy, tmp_path):
        with pytest.raises(OSError, match="Model file not found: .*none.pt"):
            commands.generate(toy.folder, tmp_path / "none.pt", PRIOR)
        with pytest.raises(ValueError, match="--finetune-from-model .*none.pt does not exist"):
            train(toy.folder, tmp_path, "--finetune-from-model", tmp_path / "none.pt")


class TestTraining:
    @pytest.mark.parametrize("flags, begin", [("--gen-pretrain-updates 100", 102), ("--disc-pretrain-updates 4", 7)])
    def test_plan_that_never_gets_adversarial_is_told(self, toy, tmp_path, flags, begin):
        log = warnings_in(train(toy.folder, tmp_path, flags))
        assert f"--max-update 7 ends before the adversarial part, which begins at update {begin} " in log

    def test_metric_that_is_never_logged_costs_no_epoch(self, toy, tmp_path):
        with pytest.raises(ValueError, match="--best-checkpoint-metric bleu is not among what a validation logs"):
            commands.make_training(toy.folder, "--best-checkpoint-metric bleu")

    @pytest.mark.parametrize("flags", [commands.ADVERSARIAL, commands.ELBO])
    def test_metrics_that_are_accepted_are_those_that_a_validation_logs(self, toy, tmp_path, flags):
        log = commands.json_lines(commands.train(toy.folder, tmp_path, "--max-update 6", criterion=flags), "valid")[-1]
        of_fairseq = {"epoch", "valid_wps", "valid_wpb", "valid_bsz", "valid_num_updates"}
        found = {name.removeprefix("valid_") for name in log.keys() - of_fairseq}
        criterion = commands.make_training(toy.folder, criterion=flags).criterion
        # The letters of the toy language are no notes.
        assert found == set(criterion.validation_metrics(has_latent=True))
        assert found == set(criterion.VALIDATION_METRICS) - {"rec_acc_notes"}
        assert len(found) == (11 if flags == commands.ADVERSARIAL else 9)

    @pytest.mark.parametrize(
        "flags",
        [
            "--best-checkpoint-metric rec_acc --no-valid-reconstruction",
            "--best-checkpoint-metric rec_acc --latent-dim 0",
            "--best-checkpoint-metric rec_acc_notes",
            "--best-checkpoint-metric distinct --no-valid-samples",
        ],
    )
    def test_metric_that_other_flags_or_the_data_omit_costs_no_epoch(self, toy, flags):
        with pytest.raises(ValueError, match=f"{flags.split()[1]} is not among what a validation logs"):
            commands.make_training(toy.folder, flags)

    def test_shards_of_other_dictionaries(self, toy, tmp_path):
        other = preprocess(tmp_path / "other", train=["b a", "b"], valid=["a"])
        with pytest.raises(
            ValueError, match="other/dict.txt has other symbols than .*: preprocess all shards with --srcdict"
        ):
            train(f"{toy.folder}:{other}", tmp_path)

    def test_plan_that_gets_adversarial_is_not(self, toy, tmp_path):
        assert "adversarial part" not in warnings_in(train(toy.folder, tmp_path, "--disc-pretrain-updates 3"))

    @pytest.mark.parametrize("flags", [*TASK, *MODEL, *CRITERION, *OPTIMIZER])
    def test_impossible_options(self, toy, tmp_path, flags):
        with pytest.raises(ValueError, match={**TASK, **MODEL, **CRITERION, **OPTIMIZER}[flags]):
            train(toy.folder, tmp_path, flags)

    @pytest.mark.parametrize("flags", PARSER)
    def test_what_the_parser_refuses(self, toy, tmp_path, flags):
        with pytest.raises(RuntimeError, match=PARSER[flags]):
            train(toy.folder, tmp_path, flags)

    def test_folder_that_cannot_be_made(self, toy, tmp_path):
        (tmp_path / "ck").write_text("a file")
        with pytest.raises(OSError, match="no checkpoint could be written to --save-dir .*ck.* .* choose another"):
            train(toy.folder, tmp_path)

    @pytest.mark.parametrize(
        "source, error", {"def f(:": "SyntaxError: invalid syntax", "1/0": "ZeroDivisionError"}.items()
    )
    def test_broken_module(self, toy, tmp_path, source, error):
        (tmp_path / "broken.py").write_text(source)
        for _ in range(2):  # the second import fails like the first
            with pytest.raises(ValueError, match=f"--disc-module .*broken.py' cannot be imported .{error}"):
                train(toy.folder, tmp_path, "--disc-module", tmp_path / "broken.py")

    def test_module_that_registers_nothing(self, toy, tmp_path):
        (tmp_path / "empty.py").write_text("")
        with pytest.raises(ValueError, match="unknown discriminator 'mine'"):
            train(toy.folder, tmp_path, "--discriminator mine --disc-module", tmp_path / "empty.py")

    def test_penalty_on_a_layer_that_is_not_there(self, toy, tmp_path):
        (tmp_path / "headless.py").write_text(
            "import torch\n"
            "from fairseq_seqvae.discriminators import register_discriminator\n"
            "@register_discriminator('headless')\n"
            "class Headless(torch.nn.Module):\n"
            "    @classmethod\n"
            "    def from_config(cls, cfg, vocab_size, padding_idx):\n"
            "        return cls()\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.bias = torch.nn.Parameter(torch.zeros(1))\n"
            "    def forward(self, tokens, padding_mask):\n"
            "        return self.bias.expand(len(tokens))\n"
        )
        flags = ("--discriminator headless --disc-l2 0.1 --disc-module", tmp_path / "headless.py")
        with pytest.raises(ValueError, match="--disc-l2 penalises the module `output` .*name its last layer so"):
            train(toy.folder, tmp_path, *flags)

    def test_width_beyond_the_data_is_told(self, toy, tmp_path):
        log = warnings_in(train(toy.folder, tmp_path, "--disc-widths 1,30"))
        assert "--disc-widths: the width 30 is above the longest training sequence (10 tokens)" in log
        assert "--disc-widths" not in warnings_in(train(toy.folder, tmp_path / "other", "--disc-widths 1,10"))


class TestGeneration:
    @pytest.mark.parametrize("flags", GENERATION)
    def test_impossible_options(self, toy, short, flags):
        with pytest.raises((ValueError, AssertionError, FileNotFoundError), match=GENERATION[flags]):
            commands.generate(toy.folder, short, flags)

    def test_unknown_symbols_of_a_walk_are_told(self, toy, short):
        flags = "--interpolate-from 'a x' --interpolate-to 'y b' --batch-size 1"
        log = warnings_in(commands.generate(toy.folder, short, WALK, flags))
        assert log.count("--interpolate-from: 1 of 2 symbols are not in the dictionary (<unk>): a <unk>") == 1
        assert log.count("--interpolate-to: 1 of 2 symbols are not in the dictionary (<unk>): <unk> b") == 1

    def test_walk_of_another_length(self, trained_fixed):
        flags = "--interpolate-from 'a b c d e f' --interpolate-to 'a b'"
        with pytest.raises(ValueError, match="--interpolate-to has 2 tokens: the model knows sequences of 6 only"):
            commands.generate(trained_fixed.folder, trained_fixed.checkpoint, WALK, flags)

    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--gen-subset test --latent sample", "--latent sample needs one model, but --path names several"),
            (
                "--gen-subset interpolate --num-draws 3 --interpolate-from a --interpolate-to b",
                "walking between sentences needs one model, but --path names several",
            ),
        ],
    )
    def test_several_checkpoints_where_one_is_needed(self, toy, short, flags, message):
        with pytest.raises(ValueError, match=message):
            commands.generate(toy.folder, f"{short}:{short}", flags)

    @pytest.mark.parametrize("options", ["--sampling --beam 1", "--beam 2"])
    def test_prefix_longer_than_the_sentence_is_the_sentence(self, toy, short, options):
        output = hypotheses(commands.generate(toy.folder, short, "--gen-subset test --prefix-size 50", options))
        assert {number: group[0].text for number, group in output.items()} == dict(enumerate(toy.test))

    def test_length_is_that_of_the_checkpoint(self, trained_fixed, toy, short):
        flags = "--gen-subset prior --num-draws 5 --sampling --beam 1 --fixed-length"
        output = texts(commands.generate(trained_fixed.folder, trained_fixed.checkpoint, flags, 3))
        assert {len(text.split()) for (text,) in output.values()} == {6}
        assert (
            len({len(text.split()) for (text,) in texts(commands.generate(toy.folder, short, flags, 3)).values()}) > 1
        )

    def test_sentences_of_other_lengths_for_a_model_of_fixed_length(self, trained_fixed, make_data, tmp_path):
        data = preprocess(
            tmp_path / "other", trained_fixed.folder / "dict.txt", train=["a"], valid=["a"], test=["a b c d e f", "a b"]
        )
        message = "--fixed-length 6: 1 of 2 sequences of split '{}' have another number .* is line 2 with 2"
        with pytest.raises(ValueError, match=message.format("test")):
            commands.generate(data, trained_fixed.checkpoint, "--gen-subset test")
        lines = ["a b c d e f", "a b"]
        with pytest.raises(ValueError, match=message.format("input")):
            flags = "--buffer-size 2 --batch-size 2"
            commands.interactive(trained_fixed.folder, trained_fixed.checkpoint, lines, tmp_path, flags)


@pytest.fixture(scope="module")
def hub(toy, short):
    return SeqVAEModel.from_pretrained(short.parent, short.name, toy.folder)


@pytest.mark.parametrize("expression", PYTHON)
def test_python(hub, expression):
    with pytest.raises((ValueError, TypeError, OSError), match=PYTHON[expression]):
        eval(expression, {**globals(), "hub": hub})


@pytest.fixture(scope="module")
def files_of_commands(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    (folder / "text.txt").write_text("hello\n")
    (folder / "notes.txt").write_text("60 _ _ 62\n")
    (folder / "tokens.txt").write_text("1 2\n3\n")
    header = "id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes\n"
    (folder / "long.tsv").write_text(f"{header}a\ttrain\t4/4\tC\t16\tr:999999999999\n")
    Oracle.from_seed(1, 9, 4, 4).save_npz(folder / "cut.npz")
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:900])
    (folder / "empty").mkdir()
    return folder


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_end_in_a_sentence(files_of_commands, monkeypatch, capfd, line):
    monkeypatch.chdir(files_of_commands)
    before = contents(files_of_commands)
    program, *arguments = line.split()
    try:
        if program in ("melody", "oracle"):
            status = {"melody": melody, "oracle": oracle}[program](arguments)
        else:
            folder = commands.ROOT / ("examples" if "/" in program else "scripts")
            monkeypatch.setattr(sys, "argv", [program, *arguments])
            monkeypatch.setattr(sys, "path", sys.path[:])
            runpy.run_path(str(folder / program), run_name="__main__")
    except SystemExit as stop:
        status = stop.code
    assert status in (1, 2)
    *_, said = capfd.readouterr()
    assert re.search(COMMANDS[line], said) and "Traceback" not in said
    assert contents(files_of_commands) == before


def contents(folder):
    """Name and digest of each file."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


class TestFilesOfOthers:
    def test_data_is_not_overwritten(self, toy):
        before = contents(toy.folder)
        with pytest.raises(FileExistsError, match="dict.txt"):
            preprocess(toy.folder, train=SENTENCES)
        assert contents(toy.folder) | {"preprocess.log": ""} == before | {"preprocess.log": ""}

    def test_reading_commands_leave_data_and_checkpoints_alone(self, toy, short, tmp_path):
        before = contents(toy.folder), contents(short.parent)
        commands.generate(toy.folder, short, PRIOR)
        commands.generate(toy.folder, short, "--gen-subset test --beam 2 --results-path", tmp_path)
        commands.interactive(toy.folder, short, ["a b"], tmp_path)
        call("validate", toy.folder, "--task seqvae --cpu --batch-size 8 --num-workers 0 --path", short)
        commands.train(toy.folder, tmp_path / "new", "--max-update 1 --finetune-from-model", short)
        assert (contents(toy.folder), contents(short.parent)) == before

    def test_training_goes_on_where_it_was_instead_of_anew(self, toy, short, tmp_path):
        shutil.copytree(short.parent, tmp_path / "ck")
        output = commands.train(toy.folder, tmp_path / "ck", "--max-update 8")
        assert "checkpoint_last.pt (epoch 1 @ 7 updates)" in output
        last = commands.load_checkpoint(tmp_path / "ck" / "checkpoint_last.pt")
        assert last["optimizer_history"][-1]["num_updates"] == 8
