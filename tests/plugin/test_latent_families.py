"""Latent families and normalised means in fairseq's commands: training, resuming, generation, measuring, refusals."""

import json
import math

import commands
import pytest
import torch
from commands import ELBO, assert_same_training, distributed, load_checkpoint, make_training, run, training_flags

import fairseq_seqvae
from fairseq_seqvae.measure.__main__ import main as measure

FAMILIES = {
    "gaussian": "--latent-family gaussian",
    "delta": "--latent-family delta --kl-floor 0.2",
    "vmf": "--latent-family vmf --vmf-kappa 20",
    "mean-norm": "--mean-norm 0.6",
    "delta, mean-norm": "--latent-family delta --kl-floor 0.2 --mean-norm 0.6",
}
SAMPLING = "--sampling --beam 1"


@pytest.fixture(scope="module")
def trained_family(toy, tmp_path_factory):
    """name -> folder with checkpoints after updates 6 and 12 of an adversarial training."""
    folders = {}

    def train(name):
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp("family")
            commands.train(
                toy.folder, folders[name], FAMILIES[name], "--max-update 12 --save-interval-updates 6 --store-ema"
            )
        return folders[name]

    return train


@pytest.mark.parametrize("name", FAMILIES)
def test_a_resumed_training_ends_like_one_that_was_not_stopped(toy, trained_family, tmp_path, name):
    whole = trained_family(name)
    (tmp_path / "checkpoint_last.pt").write_bytes((whole / "checkpoint_1_6.pt").read_bytes())
    commands.train(toy.folder, tmp_path, FAMILIES[name], "--max-update 12 --save-interval-updates 6 --store-ema")
    assert_same_training(whole / "checkpoint_last.pt", tmp_path / "checkpoint_last.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["delta", "vmf", "mean-norm"])
def test_generation_and_measuring(toy, trained_family, capsys, name):
    checkpoint = trained_family(name) / "checkpoint_last.pt"
    ways = {
        f"--gen-subset prior --num-draws 5 {SAMPLING}": 5,
        "--gen-subset test --beam 2": 30,
        f"--gen-subset test --latent sample {SAMPLING}": 30,
        "--gen-subset interpolate --num-draws 4 --beam 2": 4,
        "--gen-subset interpolate --num-draws 4 --beam 2 --interpolate-from 'a b c' --interpolate-to 'f g'": 4,
        f"--gen-subset test --prefix-size 1 {SAMPLING}": 30,
    }
    for flags, count in ways.items():
        assert len(commands.texts(commands.generate(toy.folder, checkpoint, flags))) == count
    flags = "--gen-subset test --importance-samples 8 --num-draws 10 --cpu --json"
    assert measure([str(toy.folder), "--path", str(checkpoint), *flags.split()]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert all(math.isfinite(figures[key]) for key in ("kl", "mutual_information")) and figures["latent_dim"] == 6
    if "delta" in name:
        assert figures["kl"] >= 6 * 0.2
    if name == "vmf":
        # The closed form, by scipy: kappa 20 in 6 dimensions.
        assert figures["kl"] == pytest.approx(4.0235, abs=1e-3)


def test_without_options_a_family_is_gaussian(toy, trained_family):
    """As in checkpoints of revisions that had no families."""
    path = trained_family("gaussian") / "checkpoint_last.pt"
    state = load_checkpoint(path)
    flags = "--gen-subset test --beam 1"
    before = commands.texts(commands.generate(toy.folder, path, flags))
    for option in ("latent_family", "mean_norm", "kl_floor", "vmf_kappa"):
        del state["cfg"]["model"][option]
    torch.save(state, path.parent / "older.pt")
    assert commands.texts(commands.generate(toy.folder, path.parent / "older.pt", flags)) == before


def test_the_divergence_of_a_training_batch_has_the_floor_of_a_normalised_mean(toy):
    training = make_training(toy.folder, "--mean-norm 0.7", criterion=ELBO)
    for batch in training.batches()[:4]:
        log = training.update(batch)
        assert log["kl"] >= 6 * 0.7**2 / 2


def test_statistics_are_in_the_checkpoint_and_in_the_moving_average(trained_family):
    state = load_checkpoint(trained_family("mean-norm") / "checkpoint_last.pt")
    for parameters in (state["model"], state["extra_state"]["ema"]):
        assert parameters["encoder.mean_norm.running_mean"].abs().min() > 0
        assert (parameters["encoder.mean_norm.running_var"] != 1).all()
    # 12 updates: 3 of the generator, 2 of the discriminator, then two of three.
    assert state["model"]["encoder.mean_norm.batches"].item() == 8
    assert "encoder.raw_std.weight" not in load_checkpoint(trained_family("vmf") / "checkpoint_last.pt")["model"]


@pytest.mark.parametrize("precision", ["--memory-efficient-fp16", "--memory-efficient-bf16"])
@pytest.mark.parametrize("name", ["vmf", "delta, mean-norm"])
def test_half_precision_resumes_exactly(toy, tmp_path, precision, name):
    flags = f"{FAMILIES[name]} {precision} --fp16-init-scale 4 --save-interval-updates 4 --max-update"
    commands.train(toy.folder, tmp_path / "whole", flags, 8)
    commands.train(toy.folder, tmp_path / "parts", flags, 4)
    commands.train(toy.folder, tmp_path / "parts", flags, 8)
    assert_same_training(*(tmp_path / part / "checkpoint_last.pt" for part in ("whole", "parts")))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vmf", "mean-norm"])
def test_two_processes_train_like_one_with_twice_the_batches(toy, tmp_path, name):
    # The last update of an epoch has a batch for one of the processes only.
    flags = f"--dropout 0 --disc-dropout 0 {FAMILIES[name]} --max-update 14"
    commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    run("train", training_flags(toy.folder, tmp_path / "both", flags, distributed(2)), processes=2)
    last = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / last, tmp_path / "both" / last, same_batches=False)


@pytest.mark.parametrize(
    "flags, sentence",
    [
        ("--kl-floor 0.1", "--kl-floor 0.1 needs --latent-family delta, not gaussian"),
        ("--latent-family delta", "--latent-family delta needs a --kl-floor above 0"),
        ("--latent-family vmf --latent-dim 1", "--latent-dim of at least 2, not 1"),
        ("--latent-family vmf --latent-dim 0", "--latent-family vmf needs a latent vector"),
        ("--latent-family vmf --mean-norm 0.6", "--mean-norm 0.6 has no meaning for --latent-family vmf"),
        ("--mean-norm 0.6 --latent-dim 0", "--mean-norm 0.6 needs an encoder"),
        ("--mean-norm -1", "--mean-norm must be at least 0 but is -1"),
        ("--latent-family cauchy", "unknown --latent-family 'cauchy': choose one of delta, gaussian, vmf"),
        ("--vmf-kappa 0", "--vmf-kappa must lie in (0, 100000] but is 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(toy, flags, sentence):
    with pytest.raises(ValueError) as error:
        make_training(toy.folder, flags, criterion=ELBO)
    assert sentence in str(error.value)


def test_a_last_batch_of_one_sentence_is_refused_with_what_to_do(toy):
    training = make_training(toy.folder, "--mean-norm 0.6", "--batch-size 1", criterion=ELBO)
    net_input = training.batches()[0]["net_input"]
    source = net_input["src_tokens"], net_input["src_lengths"]
    with pytest.raises(ValueError, match="over a batch of 1 sequence: train with batches of at least 2"):
        training.model.encoder.posterior(*source)
    training.model.eval()
    assert training.model.encoder.posterior(*source).mean.shape == (1, 6)


@pytest.mark.slow
def test_a_family_of_ones_own(toy, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian, GaussianFamily\n"
        "from fairseq_seqvae.core.latents.registry import register_latent_family\n"
        "@register_latent_family('narrow')\n"
        "class Narrow(GaussianFamily):\n"
        "    has_spread = False\n"
        "    @classmethod\n"
        "    def from_config(cls, options):\n"
        "        return cls(options.latent_dim)\n"
        "    def posterior(self, location, spread):\n"
        "        return DiagonalGaussian(location, location * 0 + 0.1)\n"
    )
    flags = ("--latent-family narrow --module", tmp_path / "mine.py", "--max-update 2")
    commands.train(toy.folder, tmp_path / "ck", *flags, criterion=ELBO)
    # Known in this process by now. A checkpoint alone makes nobody import a file that it names.
    checkpoint = tmp_path / "ck" / "checkpoint_last.pt"
    assert len(commands.texts(commands.generate(toy.folder, checkpoint, "--gen-subset test --beam 1"))) == 30
    result = run("generate", commands.generation_flags(toy.folder, checkpoint), check=False)
    assert result.returncode != 0 and "unknown --latent-family 'narrow'" in result.stdout


def test_from_python(trained_family, toy):
    folder = trained_family("vmf")
    hub = fairseq_seqvae.models.SeqVAEModel.from_pretrained(folder, "checkpoint_last.pt", toy.folder)
    z = hub.sample_latent(4)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(hub.encode_latent(["a b c"]).mean.norm(dim=1), torch.ones(1))
    assert len(hub.sample_prior(3)) == 3 and len(hub.reconstruct(["a b c"], latent="sample")) == 1
    assert len(hub.interpolate("a b c", "d e f", 3)) == 3
