"""What users get wrong: a message names what it was and what to do, or the log says how it was handled."""

import hashlib
import shutil

import commands
import pytest
from commands import call, hypotheses, preprocess, texts, toy_sentences

PRIOR = "--gen-subset prior --num-draws 3 --sampling --beam 1"
SENTENCES = toy_sentences(40, seed=5)


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


def chain(error):
    """Texts of an exception and of those behind it, as the traceback shows them."""
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__


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
        # The trainer puts a message of its own in front.
        (tmp_path / "ck").mkdir()
        shutil.copy(short, tmp_path / "ck")
        with pytest.raises(Exception, match="Cannot load model parameters") as resumed:
            train(data, tmp_path)
        assert any(message in text for text in chain(resumed.value))
        with pytest.raises(Exception, match="Cannot load model parameters") as started:
            commands.train(data, tmp_path / "new", "--finetune-from-model", short, "--max-update 1")
        assert any(message in text for text in chain(started.value))


class TestTraining:
    @pytest.mark.parametrize("flags, begin", [("--gen-pretrain-updates 100", 102), ("--disc-pretrain-updates 4", 7)])
    def test_plan_that_never_gets_adversarial_is_told(self, toy, tmp_path, flags, begin):
        log = warnings_in(train(toy.folder, tmp_path, flags))
        assert f"--max-update 7 ends before the adversarial part, which begins at update {begin} " in log

    def test_plan_that_gets_adversarial_is_not(self, toy, tmp_path):
        assert "adversarial part" not in warnings_in(train(toy.folder, tmp_path, "--disc-pretrain-updates 3"))

    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--adv-g-steps 0 --adv-d-steps 0", "`adv_g_steps` and `adv_d_steps` are both 0: give at least one"),
            ("--gen-pretrain-updates -1", "`gen_pretrain_updates` must not be negative but is -1"),
            ("--disc-pretrain-updates -2", "`disc_pretrain_updates` must not be negative but is -2"),
            ("--adv-g-steps -1", "`adv_g_steps` must not be negative but is -1"),
            ("--adv-d-steps -1", "`adv_d_steps` must not be negative but is -1"),
            ("--num-rollouts 0", "--num-rollouts must be at least 1 but is 0"),
            ("--reward-stride 0", "--reward-stride must be at least 1 but is 0"),
            ("--rollout-chunk 0", "--rollout-chunk must be at least 1 but is 0"),
            ("--pg-trajectories data --pg-latent prior", "--pg-trajectories data needs --pg-latent posterior"),
            ("--kl-anneal linear", "--kl-anneal linear needs --kl-anneal-updates above 0 .it is 0., or use"),
            ("--kl-anneal cyclical --kl-anneal-updates 9 --kl-cycles 0", "`cycles` must be at least 1 but is 0"),
            ("--kl-anneal cyclical --kl-anneal-updates 9 --kl-ramp 0", r"`ramp` must lie in \(0, 1\] but is 0"),
            ("--kl-weight -1", "--kl-weight must not be negative but is -1"),
            ("--free-bits -1", "--free-bits must not be negative but is -1"),
            ("--elbo-weight -1", "--elbo-weight must not be negative but is -1"),
            ("--pg-weight -1", "--pg-weight must not be negative but is -1"),
            ("--disc-l2 -1", "--disc-l2 must not be negative but is -1"),
            ("--disc-label-smoothing 0.5", r"--disc-label-smoothing must lie in \[0, 0.5\) but is 0.5"),
            ("--rollout-lag 1", r"--rollout-lag must lie in \[0, 1\) but is 1.0"),
            ("--disc-lr -1", "--disc-lr must not be negative but is -1"),
            ("--discriminator nope", "unknown discriminator 'nope': choose one of .*cnn.* rnn.*or name the file"),
            ("--disc-module /no/such/file.py", "--disc-module '/no/such/file.py': there is no such file"),
            (
                "--disc-widths one,two",
                "--disc-widths must be numbers separated by commas, such as 1,2,3, but is 'one,two'",
            ),
            ("--disc-features few", "--disc-features must be numbers separated by commas, .* but is 'few'"),
            ("--disc-widths 0,1", r"`widths` \[0, 1\] .* must be lists of equal length, of positive numbers"),
            ("--disc-widths 1,2 --disc-features 1,2,3", r"`widths` \[1, 2\] and `features` \[1, 2, 3\] must be lists"),
            (
                "--fixed-length 6",
                r"--fixed-length 6: \d+ of 40 sequences of split 'valid' have another number of tokens",
            ),
            ("--fixed-length 50 --max-positions 20", "--fixed-length 50 is above --max-positions 20: raise the latter"),
            ("--max-positions 1", "--max-positions must be at least 2"),
            (
                "--ddp-backend fully_sharded",
                "--ddp-backend fully_sharded is not supported.*use pytorch_ddp or legacy_ddp",
            ),
            # A network without layers or of no size.
            ("--encoder-layers 0", "--encoder-layers must be at least 1 but is 0"),
            ("--decoder-layers 0", "--decoder-layers must be at least 1 but is 0"),
            ("--latent-dim 0", "--latent-dim must be at least 1 but is 0"),
        ],
    )
    def test_impossible_options(self, toy, tmp_path, flags, message):
        with pytest.raises(ValueError, match=message):
            train(toy.folder, tmp_path, flags)

    def test_choices_are_named(self, toy, tmp_path):
        with pytest.raises(RuntimeError, match="invalid choice: 'sometimes' .choose from '?constant'?, '?linear"):
            train(toy.folder, tmp_path, "--kl-anneal sometimes")

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
    @pytest.mark.parametrize(
        "flags, message",
        [
            (
                f"{PRIOR} --prefix-size 2",
                "--prefix-size 2 needs sentences .* --gen-subset prior has none: choose a split",
            ),
            ("--gen-subset interpolate --prefix-size 2", "--gen-subset interpolate has none: choose a split"),
            ("--gen-subset prior --num-draws 0", "--num-draws 0 is too small for --gen-subset prior"),
            ("--gen-subset prior --num-draws -3", "--num-draws -3 is too small for --gen-subset prior"),
            ("--gen-subset interpolate --num-draws 1", "--num-draws 1 is too small for --gen-subset interpolate"),
            (
                "--gen-subset interpolate --interpolate-from a",
                "--interpolate-from and --interpolate-to belong together",
            ),
            ("--gen-subset interpolate --interpolate-to a", "--interpolate-from and --interpolate-to belong together"),
            (f"{PRIOR} --temperature 0", "--temperature must be positive but is 0"),
            (f"{PRIOR} --temperature -1", "--temperature must be positive but is -1"),
            (f"{PRIOR} --sampling-topp 2", "--sampling-topp must be at most 1 but is 2"),
            ("--gen-subset test --beam 2 --temperature 0", "--temperature must be greater than 0"),
            (f"{PRIOR} --nbest 3", "--sampling requires --nbest to be equal to --beam"),
            ("--gen-subset test --beam 2 --nbest 3", "--nbest 3 needs --beam 3 or more, but --beam is 2"),
        ],
    )
    def test_impossible_options(self, toy, short, flags, message):
        with pytest.raises((ValueError, AssertionError), match=message):
            commands.generate(toy.folder, short, flags)

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

    def test_missing_checkpoint(self, toy, tmp_path):
        with pytest.raises(OSError, match="Model file not found: .*none.pt"):
            commands.generate(toy.folder, tmp_path / "none.pt", PRIOR)


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
