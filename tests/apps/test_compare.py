"""`python -m fairseq_seqvae compare` on a checkpoint of fairseq-train and data of the oracle with a latent."""

import json

import commands
import numpy as np
import pytest

from fairseq_seqvae.cards import compare
from fairseq_seqvae.measure import __main__ as measure
from fairseq_seqvae.oracle import LatentOracle
from fairseq_seqvae.oracle.__main__ import main as oracle_main

FEW = "--sequences 20 --importance-samples 8 --seed 5 --cpu"


@pytest.fixture(scope="module")
def latent(tmp_path_factory):
    """Folder of binarised data and a checkpoint of a few updates on them."""
    folder = tmp_path_factory.mktemp("latent")
    sizes = ["--train", "200", "--valid", "20", "--test", "30"]
    assert oracle_main(["latent-generate", *sizes, "--out", str(folder / "text")]) == 0
    lines = {split: (folder / f"text/{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")}
    data = commands.preprocess(folder / "bin", folder / "text/dict.txt", **lines)
    flags = "--fixed-length 10 --max-update 5 --disable-validation"
    commands.train(data, folder / "out", flags, criterion=commands.ELBO)
    return data, folder / "out/checkpoint_last.pt"


def run(capsys, latent, *flags) -> str:
    assert compare.main(commands.split_flags(latent[0], "--path", latent[1], FEW, *flags)) == 0
    return capsys.readouterr().out


def test_gaps_are_those_of_the_measured_values_from_the_truth(latent, capsys, tmp_path):
    capsys.readouterr()
    found = json.loads(run(capsys, latent, "--json"))
    out = tmp_path / "values.npz"
    assert measure.main(commands.split_flags(latent[0], "--path", latent[1], FEW, "--out", out, "--json")) == 0
    measured, values = json.loads(capsys.readouterr().out), np.load(out)
    oracle = LatentOracle.from_seed(3)
    truth = oracle.truth(oracle.sample(20, 10, seed=1, draw=3))
    log_p = truth.log_likelihood.numpy()
    for name, key in (("bound", "log_likelihood"), ("elbo", "elbo")):
        gaps = log_p - values[key][:, 0]
        assert found[f"{name}_gap"] == pytest.approx(gaps.mean(), abs=1e-6)
        assert found[f"{name}_gap_standard_error"] == pytest.approx(gaps.std(ddof=1) / 20**0.5, abs=1e-6)
    information = float(truth.divergence.mean())
    assert found["truth"]["mutual_information"] == pytest.approx(information)
    assert found["kl_share"] == pytest.approx(measured["kl"] / information)
    assert found["mutual_information_share"] == pytest.approx(measured["mutual_information"] / information)
    assert found["found"]["nll"] == measured["nll"]
    # The model has seen next to nothing, the true decoder is the truth.
    assert found["elbo_gap"] >= found["bound_gap"] - 0.01 > abs(found["estimators"]["bound_gap"])
    assert found["estimators"]["elbo_gap"] > -0.5


def test_sentences_tell_the_same_as_json(latent, capsys):
    found = json.loads(run(capsys, latent, "--json"))
    sentences = run(capsys, latent)
    assert sentences.startswith("20 sequences of test, nats per sequence; 8 importance samples each\n")
    assert f"model: bound {found['bound_gap']:.3f} +- {found['bound_gap_standard_error']:.3f} below" in sentences
    assert f"{found['mutual_information_share']:.2f} of it" in sentences


def test_data_of_another_language_are_one_sentence(trained_fixed, capsys):
    flags = commands.split_flags(trained_fixed.folder, "--path", trained_fixed.checkpoint, FEW)
    assert compare.main(flags) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and "which is no token of the oracle (0 .. 999)" in error
