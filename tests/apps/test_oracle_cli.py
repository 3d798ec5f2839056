"""The commands `python -m fairseq_seqvae.oracle`, and the files that they write and read."""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.__main__ import main
from fairseq_seqvae.oracle.data import sample_splits
from fairseq_seqvae.oracle.score import read_tokens

GENERATED = "INFO | a log line\nS-1\t\nH-1\t-1.0\t0 2 1\nD-1\t-1.0\t0 2 1\nH-0\t-2.0\t2 2 2\nD-0\t-2.0\t2 2 2\n"


def test_splits_are_independent_draws():
    paper = Oracle.from_seed(88)
    splits = sample_splits(paper, {"train": 300, "valid": 300, "test": 300}, 6, seed=1)
    rows = torch.cat([*splits.values(), paper.sample(300, 6, seed=1)])
    assert len(rows.unique(dim=0)) == len(rows)
    alone = sample_splits(paper, {"test": 300}, 6, seed=1)
    assert torch.equal(alone["test"], splits["test"])


def test_weights_are_those_of_the_seed_and_are_not_overwritten(here, capsys):
    command = ["weights", "--seed", "5", "--vocab-size", "7", "--scale", "1.5", "--out", "small.npz"]
    assert main(command) == 0
    written, expected = Oracle.from_npz("small.npz"), Oracle.from_seed(5, vocab_size=7, scale=1.5)
    assert written.vocab_size == 7
    assert all(np.array_equal(written.weights[name], array) for name, array in expected.weights.items())
    assert "small.npz exists already" in fails(capsys, *command)
    assert main([*command, "--force"]) == 0
    assert "nowhere" in fails(capsys, *command[:-1], "nowhere/small.npz")


class TestReading:
    def test_output_of_generate_in_order_of_ids(self, here):
        (here / "out.txt").write_text(GENERATED)
        assert read_tokens("out.txt", 3).tolist() == [[2, 2, 2], [0, 2, 1]]
        assert read_tokens("out.txt", 3, 3, kind="H").tolist() == [[2, 2, 2], [0, 2, 1]]

    def test_token_lines(self, here):
        (here / "lines.txt").write_text("0 1 2\n 2  1 0 \n")
        assert read_tokens("lines.txt", 3).tolist() == [[0, 1, 2], [2, 1, 0]]

    @pytest.mark.parametrize(
        "content, length, message",
        [
            ("", None, "in.txt has no sequences"),
            ("0 1 3\n", None, r"in.txt: line 1 has '3', which is no token of the oracle \(0 .. 2\).*without --quiet"),
            ("0 1 01\n", None, "line 1 has '01'"),
            ("0 1\n1 -1\n", None, "line 2 has '-1'"),
            (GENERATED.replace("0 2 1", "0 <unk> 1"), None, "D-1 has '<unk>'.*--unkpen 1000"),
            (
                "0 1\n0 1 2\n",
                None,
                "1 of 2 sequences do not have the length 2 .*line 2 with 3 tokens.*--fixed-length 2",
            ),
            (GENERATED, 4, r"2 of 2 sequences do not have the length 4 \(the first is D-0 with 3 tokens\)"),
            ("0 1\n\n", None, "length 2 .the first is line 2 with 0 tokens"),
            ("\n", None, "length 1 .the first is line 1 with 0 tokens"),
            ("T-0\t0 1\n", None, "in.txt has no D- lines"),
            ("INFO | only a log\n", None, "line 1 has 'INFO', which is no token"),
        ],
    )
    def test_errors(self, here, content, length, message):
        (here / "in.txt").write_text(content)
        with pytest.raises(ValueError, match=message):
            read_tokens("in.txt", 3, length)


def fails(capsys, *argv):
    """The one sentence on standard error of a command that exits with 2."""
    assert main([str(arg) for arg in argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


class TestCommands:
    SMALL = ["--length", "7", "--train", "40", "--valid", "5", "--test", "6"]

    def test_generate_writes_three_splits_and_the_dictionary(self, tiny, here, capsys):
        tiny.save_npz("tiny.npz")
        assert main(["generate", "--npz", "tiny.npz", *self.SMALL, "--out", "new/text"]) == 0
        expected = sample_splits(tiny, {"train": 40, "valid": 5, "test": 6}, 7, seed=1)
        for split, tokens in expected.items():
            assert torch.equal(read_tokens(here / "new/text" / f"{split}.txt", 3), tokens)
        assert (here / "new/text/dict.txt").read_text() == "0 1\n1 1\n2 1\n"
        printed = capsys.readouterr().out
        assert f"valid: oracle NLL {tiny.nll(expected['valid']).double().mean():.4f} +- " in printed
        assert "5 sequences of 7 tokens" in printed

    def test_generate_with_another_data_seed_is_other_data_of_the_same_oracle(self, here):
        for seed in (1, 2):
            assert main(["generate", *self.SMALL, "--data-seed", str(seed), "--out", f"data{seed}"]) == 0
        texts = [(here / f"data{seed}/train.txt").read_text() for seed in (1, 2)]
        assert texts[0] != texts[1]
        assert len((here / "data1/dict.txt").read_text().splitlines()) == 5000

    def test_generate_overwrites_only_when_forced(self, tiny, here, capsys):
        tiny.save_npz("tiny.npz")
        (here / "dict.txt").write_text("mine\n")
        command = ["generate", "--npz", "tiny.npz", *self.SMALL, "--out", "."]
        assert "dict.txt exists already: choose another name or overwrite with --force" in fails(capsys, *command)
        assert not (here / "train.txt").exists() and (here / "dict.txt").read_text() == "mine\n"
        assert main([*command, "--force"]) == 0
        assert (here / "dict.txt").read_text() == "0 1\n1 1\n2 1\n"

    def test_nll_as_sentence_and_as_json(self, tiny, here, capsys):
        tiny.save_npz("tiny.npz")
        (here / "out.txt").write_text(GENERATED + "D-2\t-1.0\t0 2 1\n")
        nlls = tiny.nll(torch.tensor([[2, 2, 2], [0, 2, 1], [0, 2, 1]])).double().numpy()
        assert main(["nll", "out.txt", "--npz", "tiny.npz", "--length", "3", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found.pop("nll") == pytest.approx(np.mean(nlls), abs=1e-6)
        assert found.pop("standard_error") == pytest.approx(np.std(nlls, ddof=1) / math.sqrt(3), abs=1e-6)
        assert found == {
            "file": "out.txt",
            "oracle": "tiny.npz",
            "sequences": 3,
            "length": 3,
            "distinct_sequences": 2,
        }
        assert main(["nll", "out.txt", "--npz", "tiny.npz"]) == 0
        sentence = capsys.readouterr().out
        assert sentence.startswith(f"oracle NLL {np.mean(nlls):.4f} +- ")
        assert sentence.endswith("nats per token, 3 sequences of 3 tokens, 2 of them distinct\n")

    def test_nll_of_one_sequence_has_no_standard_error(self, here, capsys):
        (here / "one.txt").write_text("17 4999 0\n")
        assert main(["nll", "one.txt", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["standard_error"] is None and found["oracle"] == "seed 88"

    def test_bad_input_is_one_sentence(self, here, capsys):
        assert "nowhere.txt: No such file" in fails(capsys, "nll", "nowhere.txt")
        (here / "empty.txt").write_text("")
        assert "empty.txt has no sequences" in fails(capsys, "nll", "empty.txt")
        assert "empty.txt is no .npz file" in fails(capsys, "nll", "empty.txt", "--npz", "empty.txt")

    @pytest.mark.parametrize(
        "argv, message",
        [
            (["generate", "--out", "d", "--length", "0"], "'0' must be a whole number of at least 1"),
            (["generate", "--out", "d", "--seed", "-1"], "'-1' must be a whole number from 0 to"),
            (["nll", "f", "--seed", "1", "--npz", "f"], "not allowed with"),
        ],
    )
    def test_bad_flags(self, capsys, argv, message):
        with pytest.raises(SystemExit):
            main(argv)
        assert message in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("fairseq") is None, reason="fairseq is not installed")
def test_preprocess_keeps_the_token_numbers(here):
    import commands
    from fairseq.data import Dictionary, data_utils

    assert main(["generate", "--length", "4", "--train", "30", "--valid", "5", "--test", "5", "--out", "text"]) == 0
    # Trained on a few tokens only: without the given dictionary their frequency would decide on the order.
    splits = [flag for split in ("train", "valid", "test") for flag in (f"--{split}pref", f"text/{split}.txt")]
    commands.call("preprocess", "--only-source --srcdict text/dict.txt --destdir bin --workers 1", splits)
    dictionary = Dictionary.load("bin/dict.txt")
    assert len(dictionary) == 5004
    assert [dictionary.index(str(token)) for token in (0, 17, 4999)] == [4, 21, 5003]
    tokens = read_tokens("text/train.txt", 5000)
    kept = data_utils.load_indexed_dataset("bin/train", dictionary)
    assert [row.tolist() for row in kept] == [[*row, dictionary.eos()] for row in (tokens + 4).tolist()]


def test_needs_no_fairseq(here):
    (here / "fairseq").mkdir()
    (here / "fairseq/__init__.py").write_text("raise RuntimeError('fairseq was imported')")
    root = str(Path(__file__).resolve().parents[2])
    result = subprocess.run(
        [sys.executable, "-m", "fairseq_seqvae.oracle", "generate", "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(here), root])},
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert result.returncode == 0, result.stderr
    assert "--data-seed" in result.stdout
