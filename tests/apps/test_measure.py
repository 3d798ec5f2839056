"""`python -m fairseq_seqvae.measure` on checkpoints of fairseq-train."""

import json

import commands
import numpy as np
import pytest
import torch

from fairseq_seqvae import metrics
from fairseq_seqvae.measure import __main__ as command
from fairseq_seqvae.measure import figures
from fairseq_seqvae.measure.sentences import sentences

FEW = "--sequences 12 --importance-samples 3 --temperatures 1,0.5 --seed 5 --cpu"


def run(capsys, trained, *flags) -> str:
    assert command.main(commands.split_flags(trained.folder, "--path", trained.checkpoint, *flags)) == 0
    return capsys.readouterr().out


def fails(capsys, *argv) -> str:
    assert command.main([str(arg) for arg in argv]) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    return error


def test_the_figures_are_means_of_the_values_of_each_sequence(trained, capsys, tmp_path):
    found = json.loads(run(capsys, trained, FEW, "--json --out", tmp_path / "values.npz"))
    values = np.load(tmp_path / "values.npz")
    lines = [line.split() for line in trained.data.test[:12]]
    assert values["lengths"].tolist() == [len(line) + 1 for line in lines]
    assert found["tokens"] == values["lengths"].sum()
    assert values["log_likelihood"].shape == values["elbo"].shape == (12, 2)
    assert values["temperatures"].tolist() == found["temperatures"] == [1.0, 0.5]
    for i in range(2):
        total = -values["log_likelihood"][:, i].sum()
        assert found["nll"][i] == pytest.approx(total / found["tokens"])
        assert found["nll_per_sequence"][i] == pytest.approx(total / 12)
        assert found["elbo_per_sequence"][i] == pytest.approx(values["elbo"][:, i].mean())
        residuals = -values["log_likelihood"][:, i] - values["lengths"] * total / found["tokens"]
        expected = residuals.std(ddof=1) / values["lengths"].mean() / 12**0.5
        assert found["nll_standard_error"][i] == pytest.approx(expected)
    assert found["kl"] == pytest.approx(values["kl"].mean())
    assert 0 < found["mutual_information"] <= min(found["kl"], np.log(12))
    assert 0 < found["active_units"] <= found["latent_dim"] == 6


@pytest.mark.parametrize("fixture", ["trained", "trained_fixed"])
def test_likelihoods_are_those_of_the_model_that_fairseq_runs(fixture, request):
    trained = request.getfixturevalue(fixture)
    model, task = figures.load(trained.checkpoint, trained.folder)
    ids, tokens, lengths, _ = figures.read_split(task, "test", 4)
    sample = task.dataset("test").collater([task.dataset("test")[int(i)] for i in ids])
    with torch.no_grad():
        logits, _ = model(**sample["net_input"])  # z is the mean of the posterior
        z = model.encoder.posterior(tokens, lengths).mean
    target = sample["target"]
    log_probs = logits.log_softmax(dim=2).gather(2, target.unsqueeze(2)).squeeze(2)
    expected = log_probs.masked_fill(target == task.dictionary.pad(), 0).sum(dim=1)[sample["id"].argsort()]
    found = metrics.sequence_log_probs(model.decoder, z, tokens, lengths)
    torch.testing.assert_close(found[:, 0].float(), expected)


@pytest.mark.parametrize("fixture", ["trained", "trained_fixed"])
def test_samples_are_those_of_fairseq_generate(fixture, request):
    trained = request.getfixturevalue(fixture)
    model, task = figures.load(trained.checkpoint, trained.folder)
    samples = figures.prior_samples(model, 20, seed=5, temperature=0.7)
    flags = "--gen-subset prior --num-draws 20 --sampling --beam 1 --unkpen 1000 --temperature 0.7 --seed 5"
    printed = commands.texts(commands.generate(trained.folder, trained.checkpoint, flags))
    own = [task.dictionary.string(row[:n]) for row, n in zip(samples.tokens, samples.lengths, strict=True)]
    assert own == [printed[i][0] for i in range(20)]


def test_sentences_tell_the_same_as_json(trained, capsys):
    found = json.loads(run(capsys, trained, FEW, "--json --num-draws 30"))
    text = run(capsys, trained, FEW, "--num-draws 30")
    assert f"12 sequences of test, {found['tokens']} tokens, 3 importance samples each" in text
    for i, tau in enumerate(("1", "0.5")):
        assert f"temperature {tau}: NLL {found['nll'][i]:.4f} +- {found['nll_standard_error'][i]:.4f}" in text
        drawn = found["samples"][i]
        assert drawn["samples"] == 30 and 0 < drawn["distinct_bigrams"] <= drawn["bigrams"]
        assert f"{drawn['distinct_sequences']} of 30 samples and {drawn['distinct_bigrams']} of " in text
    assert f"KL {found['kl']:.4f}" in text
    assert f"gives back {found['rec_acc']:.1%} of the tokens ({found['rec_acc_other']:.1%} from another" in text
    assert f"{found['rec_acc_constant']:.1%} by the commonest token" in text and "of the notes" not in text
    assert f"BLEU {found['rec_bleu']:.2f}, {found['rec_distinct']:.3f} different ones" in text
    assert f"is worth {found['rec_nll_gain']:.3f} nats per sequence" in text
    assert "walks between 6 pairs, 8 points each" in text
    assert f"neighbours differ in {found['walk_step']:.1f} tokens, the ends in {found['walk_ends']:.1f} tokens" in text


def test_reconstructions_are_those_of_beam_one(trained, capsys):
    found = json.loads(run(capsys, trained, FEW, "--json"))
    printed = commands.texts(commands.generate(trained.folder, trained.checkpoint, "--gen-subset test --beam 1"))
    originals = [line.split() + ["</s>"] for line in trained.data.test[:12]]
    decoded = [printed[i][0].split() + ["</s>"] for i in range(12)]
    places = sum(map(len, originals))

    def right(outputs):
        pairs = zip(originals, outputs, strict=True)
        return sum(a == b for original, output in pairs for a, b in zip(original, output, strict=False)) / places

    assert found["rec_acc"] == pytest.approx(right(decoded))
    assert found["rec_acc_other"] == pytest.approx(right(decoded[-1:] + decoded[:-1]))
    assert found["rec_acc"] > found["rec_acc_other"] and found["rec_nll_gain"] > 0
    assert found["rec_exact"] == pytest.approx(sum(a == b for a, b in zip(originals, decoded, strict=True)) / 12)
    assert found["walk_acc"] == pytest.approx(found["rec_acc"])  # the ends of 6 walks are the 12 sequences


def test_the_estimate_of_the_mutual_information_tells_when_it_is_at_its_ceiling(trained, capsys):
    found = json.loads(run(capsys, trained, FEW, "--json"))
    assert found["mutual_information_ceiling"] == pytest.approx(np.log(12))
    assert found["mutual_information_bound"] > 0
    limit = f"upper bound without that limit {found['mutual_information_bound']:.4f})"
    for share, told in (
        (0.95, "near ln 12 = 2.48, the most that 12 sequences can show"),
        (0.5, "(at most ln 12 = 2.48"),
    ):
        text = sentences(found | {"mutual_information": share * np.log(12)})
        assert told in text and limit in text


def test_melodies_have_notes(tmp_path):
    lines = [f"6{i % 5} _ . 7{i % 7} _ _" for i in range(40)]
    data = commands.preprocess(tmp_path / "bin", train=lines, valid=lines[:5], test=lines[:9])
    flags = "--fixed-length 6 --max-update 2 --disable-validation"
    commands.train(data, tmp_path / "ck", flags, criterion=commands.ELBO)
    model, task = figures.load(tmp_path / "ck" / "checkpoint_last.pt", data)
    held_out_set = figures.read_split(task, "test")
    found = figures.measure_reconstruction(model, held_out_set, task.dictionary, 1, 3, 4)
    assert 0 <= found["rec_acc_notes"] <= 1 and found["walk_pairs"] == 3 and found["walk_points"] == 4
    told = {"rec_acc_notes", "rec_acc_notes_other", "walk_acc_notes", "walk_step_notes", "walk_ends_notes"}
    assert told <= found.keys()
    base, _ = figures.measure_held_out(model, held_out_set, [1.0], 1, 1)
    text = sentences({"subset": "test", **base, **found})
    assert f"{found['rec_acc_notes']:.1%} of the notes ({found['rec_acc_notes_other']:.1%})" in text
    assert f"tokens ({found['walk_step_notes']:.1f} at notes), the ends" in text
    without = figures.measure_reconstruction(model, held_out_set, task.dictionary, 1, 0, 4)
    assert without == {name: value for name, value in found.items() if not name.startswith("walk")}


def test_a_language_model_reconstructs_nothing(toy, tmp_path, capsys):
    commands.train(toy.folder, tmp_path, "--latent-dim 0 --max-update 2 --disable-validation", criterion=commands.ELBO)
    argv = commands.split_flags(toy.folder, "--path", tmp_path / "checkpoint_last.pt", FEW)
    assert command.main(argv) == 0
    text = capsys.readouterr().out
    assert "KL 0.0000, mutual information 0.0000" in text and "reconstruction" not in text and "walks" not in text


@pytest.mark.parametrize("flag, least", [("--walks -1", 0), ("--walk-points 1", 2)])
def test_bad_numbers_of_walks(flag, least, capsys):
    with pytest.raises(SystemExit):
        command.main(["DATA", "--path", "CHECKPOINT", *flag.split()])
    error = capsys.readouterr().err
    assert f"must be a whole number of at least {least}" in error or "expected one argument" in error


def test_bad_input_is_one_sentence(trained, capsys, tmp_path):
    assert "there is no checkpoint nowhere.pt" in fails(capsys, trained.folder, "--path", "nowhere.pt")
    assert "there is no dictionary" in fails(capsys, tmp_path, "--path", trained.checkpoint)
    split = ["--path", trained.checkpoint, "--gen-subset", "tset"]
    assert "there is no split 'tset'" in fails(capsys, trained.folder, *split)
    (tmp_path / "there.npz").touch()
    out = ["--path", trained.checkpoint, "--out", tmp_path / "there.npz"]
    assert "there.npz exists already" in fails(capsys, trained.folder, *out)


def test_what_cannot_be_written_whole_leaves_what_was_there(trained, capsys, tmp_path):
    out = tmp_path / "values.npz"
    out.write_text("mine")
    with commands.room_for(500):
        flags = commands.split_flags(FEW, "--force --out", out)
        assert "File too large" in fails(capsys, trained.folder, "--path", trained.checkpoint, *flags)
    assert out.read_text() == "mine" and [file.name for file in tmp_path.iterdir()] == ["values.npz"]


@pytest.mark.parametrize("temperatures", ["0", "1,1", "warm", "", "-1", "inf", "nan"])
def test_bad_temperatures(temperatures, capsys):
    with pytest.raises(SystemExit):
        command.main(["DATA", "--path", "CHECKPOINT", f"--temperatures={temperatures}"])
    assert "must be different positive numbers" in capsys.readouterr().err


def test_a_file_of_yours_adds_metrics(trained, capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fairseq_seqvae.metrics.registry import *\n"
        "@register_latent_metric('widest')\n"
        "def widest(posterior, **unused):\n"
        "    return float(posterior.std.max())\n"
        "@register_reconstruction_metric('first_right')\n"
        "def first_right(reconstruction):\n"
        "    return float((reconstruction.decoded == reconstruction.tokens)[:, 0].double().mean())\n"
        "@register_reconstruction_metric('nowhere')\n"
        "def nowhere(reconstruction):\n"
        "    return None\n"
        "@register_sample_metric('longest')\n"
        "def longest(tokens, lengths):\n"
        "    return int(lengths.max())\n"
    )
    try:
        found = json.loads(run(capsys, trained, FEW, "--json --num-draws 5 --module", file))
        told = run(capsys, trained, FEW, "--num-draws 5 --module", file)
    finally:
        metrics.LATENT_METRICS._known.pop("widest", None)
        metrics.SAMPLE_METRICS._known.pop("longest", None)
        for name in ("first_right", "nowhere"):
            metrics.RECONSTRUCTION_METRICS._known.pop(name, None)
    assert 0 < found["widest"] < 10 and found["samples"][0]["longest"] >= 1
    assert f"widest {found['widest']:.4g}" in told
    assert 0 <= found["first_right"] <= 1 and "nowhere" not in found
    assert f"first_right {found['first_right']:.4g}" in told
    assert f"temperature 1: longest {found['samples'][0]['longest']}" in told
