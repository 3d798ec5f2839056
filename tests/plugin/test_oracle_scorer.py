"""The scorer `--scoring oracle_nll` of fairseq-generate."""

import re
from types import SimpleNamespace

import commands
import pytest
import torch
from fairseq.scoring import SCORER_REGISTRY

from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.__main__ import main
from fairseq_seqvae.oracle.score import read_tokens
from fairseq_seqvae.scoring import OracleNllScorer


def make_scorer(*hypotheses, seed=88, npz=None):
    assert "oracle_nll" in SCORER_REGISTRY
    scorer = OracleNllScorer(SimpleNamespace(oracle_seed=seed, oracle_npz=npz))
    for text in hypotheses:
        scorer.add_string("the target plays no part", text)
    return scorer


def test_scores_hypotheses_by_the_oracle_of_the_seed():
    scorer = make_scorer("17 4999 0", "0 0 0", seed=7)
    expected = Oracle.from_seed(7).nll(torch.tensor([[17, 4999, 0], [0, 0, 0]])).mean().item()
    assert scorer.score() == pytest.approx(expected, abs=1e-5)
    assert scorer.result_string().startswith(f"oracle NLL {expected:.4f} +- ")


@pytest.mark.parametrize(
    "hypotheses, message",
    [
        ([], "--scoring oracle_nll has no sequences"),
        (["1 2", "1 a"], "hypothesis 2 has 'a', which is no token of the oracle"),
        (["1 2", "1"], "1 of 2 sequences do not have the length 2 .*hypothesis 2 with 1"),
    ],
)
def test_what_is_no_sequence_of_the_oracle_is_named(hypotheses, message):
    with pytest.raises(ValueError, match=message):
        make_scorer(*hypotheses).result_string()


@pytest.mark.parametrize("subset", ["prior --num-draws 20", "test --latent prior"])
def test_generate_prints_what_the_command_says_of_its_output(tmp_path, capsys, subset):
    npz, text, data = tmp_path / "tiny.npz", tmp_path / "text", tmp_path / "data"
    Oracle.from_seed(5, vocab_size=9, embed_dim=4, hidden_dim=4).save_npz(npz)
    sizes = "--length 6 --train 64 --valid 8 --test 20"
    assert main(["generate", "--npz", str(npz), *sizes.split(), "--out", str(text)]) == 0
    splits = {split: (text / f"{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")}
    commands.preprocess(data, dictionary=text / "dict.txt", **splits)
    commands.train(data, tmp_path, "--fixed-length 6 --max-update 2 --disable-validation", criterion=commands.ELBO)
    flags = f"--gen-subset {subset} --sampling --beam 1 --unkpen 1000"
    output = commands.generate(data, tmp_path / "checkpoint_last.pt", flags, "--scoring oracle_nll --oracle-npz", npz)
    (tmp_path / "out.txt").write_text(output)
    capsys.readouterr()
    assert main(["nll", str(tmp_path / "out.txt"), "--npz", str(npz)]) == 0
    said = capsys.readouterr().out.strip()
    assert re.search(r"^Generate \w+ with beam=1: (.*)$", output, re.MULTILINE)[1] == said
    assert read_tokens(tmp_path / "out.txt", 9, 6).shape == (20, 6)
    # Draws have no text of their own, and are the same without the scorer.
    targets = commands.lines_of_kind(output, "T")
    assert all(targets.values()) == (subset.startswith("test"))
    assert commands.texts(output) == commands.texts(commands.generate(data, tmp_path / "checkpoint_last.pt", flags))
