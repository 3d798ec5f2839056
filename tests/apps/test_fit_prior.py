"""`python -m fairseq_seqvae fit-prior`: the mixture it finds, the file it writes, and who draws from it."""

import json
import sys
from types import SimpleNamespace

import commands
import numpy as np
import pytest
import torch
from commands import differences, load_checkpoint, texts

import fairseq_seqvae
from fairseq_seqvae.core.latents.gaussian import DiagonalGaussian
from fairseq_seqvae.export.__main__ import main as export
from fairseq_seqvae.fit_prior import __main__ as command
from fairseq_seqvae.fit_prior import encoding
from fairseq_seqvae.fit_prior.encoding import encode_draws, encode_split
from fairseq_seqvae.fit_prior.mixture import fit, of_exemplars
from fairseq_seqvae.measure import figures
from fairseq_seqvae.measure.__main__ import main as measure

DRAWS = "--gen-subset prior --num-draws 12 --sampling --beam 1"
FITTED = "--prior fitted"
FLAGS_OF_DRAWS = "--temperature 0.8 --seed 3 --unkpen 1000 --min-len 0"


def fails(capsys, *flags) -> str:
    assert command.main(commands.split_flags(*flags)) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1
    return error


@pytest.fixture(scope="module")
def fitted(trained, tmp_path_factory):
    """The trained model's checkpoint with a mixture of 3 components."""
    path = tmp_path_factory.mktemp("fitted") / "checkpoint_last.pt"
    flags = "--components 3 --seed 2 --cpu --out"
    assert command.main(commands.split_flags(trained.folder, "--path", trained.checkpoint, flags, path)) == 0
    return path


class TestFit:
    def points(self, count=4000):
        """Two modes: a third of the points around (-3, 0), the others around (3, 1)."""
        random = np.random.default_rng(1)
        far = random.random(count) < 1 / 3
        centers = np.where(far[:, None], [-3.0, 0.0], [3.0, 1.0])
        return centers + random.normal(size=(count, 2)) * np.where(far[:, None], [0.5, 0.5], [0.2, 1.0])

    @pytest.mark.parametrize("covariance", ["full", "diag"])
    def test_both_modes_of_a_bimodal_posterior_are_found_and_drawn(self, covariance):
        mixture = fit(self.points(), 2, covariance)
        order = mixture.means[:, 0].argsort()
        torch.testing.assert_close(mixture.means[order], torch.tensor([[-3.0, 0.0], [3.0, 1.0]]), rtol=0, atol=0.1)
        torch.testing.assert_close(mixture.weights[order], torch.tensor([1 / 3, 2 / 3]), rtol=0, atol=0.03)
        noise = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
        z = mixture.sample(noise)
        left = z[:, 0] < 0
        assert left.float().mean().item() == pytest.approx(1 / 3, abs=0.04)
        for rows, mean, std in ((left, [-3.0, 0.0], [0.5, 0.5]), (~left, [3.0, 1.0], [0.2, 1.0])):
            torch.testing.assert_close(z[rows].mean(dim=0), torch.tensor(mean), rtol=0, atol=0.1)
            torch.testing.assert_close(z[rows].std(dim=0), torch.tensor(std), rtol=0.1, atol=0)

    def test_the_density_of_one_component_is_that_of_a_normal_distribution(self):
        points = torch.from_numpy(self.points())
        mixture = fit(points.numpy(), 1)
        whole = torch.distributions.MultivariateNormal(points.mean(dim=0), points.T.cov(correction=0))
        torch.testing.assert_close(mixture.log_prob(points), whole.log_prob(points), rtol=1e-4, atol=1e-4)

    def test_points_that_are_all_the_same_stay_finite(self):
        mixture = fit(np.ones((20, 3)), 2)
        z = mixture.sample(torch.randn(50, 4, generator=torch.Generator().manual_seed(1)))
        assert (z - 1).abs().max() < 0.01

    def test_more_components_than_points_are_refused(self):
        with pytest.raises(ValueError, match="--components 5 needs at least as many sequences, but there are 4"):
            fit(self.points(4), 5)

    def test_without_scikit_learn_one_sentence_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
        with pytest.raises(ImportError, match=r"scikit-learn: pip install scikit-learn"):
            fit(self.points(), 2)


class TestEncode:
    def test_means_and_samples(self, trained):
        model, task = figures.load(trained.checkpoint, trained.folder)
        ids, tokens, lengths, _ = figures.read_split(task, "test", 7)
        posterior = model.encoder.posterior(tokens, lengths)
        means, samples = (encode_split(model, task, "test", 7).points(source) for source in ("means", "samples"))
        np.testing.assert_allclose(means, posterior.mean.detach().numpy(), rtol=1e-5)
        assert samples.shape == (7, 6) and (np.abs(samples - means) > 0).all()
        assert (np.abs(samples - means) < 6 * posterior.std.detach().numpy()).all()


class TestTheFile:
    def test_it_is_the_checkpoint_and_the_mixture(self, trained, fitted):
        before, after = load_checkpoint(trained.checkpoint), load_checkpoint(fitted)
        added = [name for name in after["model"] if name.startswith("fitted_prior.")]
        assert sorted(added) == ["fitted_prior.factors", "fitted_prior.means", "fitted_prior.weights"]
        for name in added:
            del after["model"][name]
        assert not differences(before, after)

    def test_draws_come_from_it_by_the_flag_alone(self, trained, fitted):
        plain = commands.generate(trained.folder, trained.checkpoint, DRAWS)
        assert texts(commands.generate(trained.folder, fitted, DRAWS)) == texts(plain)
        drawn = texts(commands.generate(trained.folder, fitted, DRAWS, FITTED))
        assert len(drawn) == 12 and drawn != texts(plain)
        # The same by other ways: a draw depends on the seed and on its number.
        model, task = figures.load(fitted, trained.folder)
        samples = figures.prior_samples(model, 12, 5, prior="fitted")
        found = [task.dictionary.string(row[:n]) for row, n in zip(samples.tokens, samples.lengths, strict=True)]
        assert found == [drawn[i][0] for i in range(12)]
        hub = fairseq_seqvae.models.SeqVAEModel.from_pretrained(fitted.parent, fitted.name, trained.folder)
        z = hub.sample_latent(2000, prior="fitted")
        means = torch.from_numpy(encode_split(model, task, "train").points())
        torch.testing.assert_close(z.mean(dim=0).double(), means.mean(dim=0), rtol=0, atol=0.1)
        torch.testing.assert_close(z.std(dim=0).double(), means.std(dim=0), rtol=0.1, atol=0)
        assert hub.sample_prior(3, prior="fitted") != hub.sample_prior(3)

    def test_walks_and_sentences(self, trained, fitted):
        walk = "--gen-subset interpolate --num-draws 4 --beam 2"
        of_sentences = "--gen-subset test --latent prior --sampling --beam 1"
        for flags, count in ((walk, 4), (of_sentences, 30)):
            plain = texts(commands.generate(trained.folder, fitted, flags))
            drawn = texts(commands.generate(trained.folder, fitted, flags, FITTED))
            assert len(plain) == len(drawn) == count and plain != drawn

    def test_measure_draws_its_samples_from_it(self, trained, fitted, capsys):
        found = []
        for prior in ("model", "fitted"):
            flags = f"--sequences 5 --importance-samples 2 --num-draws 40 --cpu --json --prior {prior}"
            assert measure(commands.split_flags(trained.folder, "--path", fitted, flags)) == 0
            found.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
        assert found[0]["nll"] == found[1]["nll"] and found[0]["samples"] != found[1]["samples"]

    def test_export_keeps_it_and_half_precision_loads_it(self, trained, fitted, tmp_path):
        assert export([str(fitted), "--out", str(tmp_path / "small.pt")]) == 0
        drawn = texts(commands.generate(trained.folder, fitted, DRAWS, FITTED))
        assert texts(commands.generate(trained.folder, tmp_path / "small.pt", DRAWS, FITTED)) == drawn
        assert len(texts(commands.generate(trained.folder, tmp_path / "small.pt", DRAWS, FITTED, "--fp16"))) == 12

    def test_training_ignores_it_and_says_so(self, trained, fitted, tmp_path):
        flags = f"--gen-pretrain-updates 2 --max-update 2 --finetune-from-model {fitted} --decoder-hidden-dim 24 "
        output = commands.train(trained.folder, tmp_path, flags, "--encoder-hidden-dim 16 --latent-input")
        assert output.count("the fitted prior of the checkpoint is ignored") == 1
        state = load_checkpoint(tmp_path / "checkpoint_last.pt")
        assert not [name for name in state["model"] if name.startswith("fitted_prior.")]

    def test_it_can_be_fitted_again(self, trained, fitted, tmp_path):
        flags = "--components 2 --covariance diag --from samples --split valid --sequences 20 --cpu --out"
        out = tmp_path / "again.pt"
        assert command.main(commands.split_flags(trained.folder, "--path", fitted, flags, out)) == 0
        assert load_checkpoint(out)["model"]["fitted_prior.factors"].shape == (2, 6)
        assert len(texts(commands.generate(trained.folder, out, DRAWS, FITTED))) == 12


@pytest.fixture(scope="module")
def language_model(trained, tmp_path_factory):
    """A language model of the same data."""
    folder = tmp_path_factory.mktemp("language-model")
    commands.train(trained.folder, folder, "--latent-dim 0 --max-update 6", criterion=commands.ELBO)
    return folder / "checkpoint_last.pt"


class TestExemplars:
    def test_a_draw_is_the_posterior_of_one_of_them(self):
        posteriors = DiagonalGaussian(torch.tensor([[-5.0, 0.0], [5.0, 1.0]]), torch.tensor([[0.1, 1.0], [0.3, 0.01]]))
        z = of_exemplars(posteriors).sample(torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)))
        left = z[:, 0] < 0
        assert left.float().mean().item() == pytest.approx(0.5, abs=0.03)
        for rows, mean, std in zip((left, ~left), *posteriors, strict=True):
            torch.testing.assert_close(z[rows].mean(dim=0), mean, rtol=0, atol=0.1)
            torch.testing.assert_close(z[rows].std(dim=0), std, rtol=0.1, atol=0)

    def test_those_of_a_language_model_are_its_draws_encoded(self, trained, language_model, tmp_path, capsys):
        out = tmp_path / "fitted.pt"
        flags = "--exemplars --sequences 40 --temperature 0.8 --seed 3 --cpu --path"
        given = (trained.folder, flags, trained.checkpoint, "--draws-of", language_model, "--out", out)
        assert command.main(commands.split_flags(*given)) == 0
        drawn = texts(commands.generate(trained.folder, language_model, DRAWS.replace("12", "40"), FLAGS_OF_DRAWS))
        hub = fairseq_seqvae.models.SeqVAEModel.from_pretrained(
            trained.checkpoint.parent, trained.checkpoint.name, trained.folder
        )
        lines = [drawn[i][0] for i in range(40) if drawn[i][0]]
        assert f"of {len(lines)} draws of {language_model}" in capsys.readouterr().out
        posteriors = hub.encode_latent(lines)
        state = load_checkpoint(out)["model"]
        torch.testing.assert_close(state["fitted_prior.means"], posteriors.mean)
        torch.testing.assert_close(state["fitted_prior.factors"], posteriors.std)
        assert len(texts(commands.generate(trained.folder, out, DRAWS, FITTED))) == 12

    def test_those_of_a_split_and_a_mixture_fitted_to_draws(self, trained, language_model, tmp_path):
        out = tmp_path / "fitted.pt"
        for flags, count in (
            ("--exemplars --split test --sequences 7", 7),
            (f"--components 2 --draws-of {language_model} --sequences 30", 2),
        ):
            given = (trained.folder, "--path", trained.checkpoint, flags, "--cpu --force --out", out)
            assert command.main(commands.split_flags(*given)) == 0
            assert len(load_checkpoint(out)["model"]["fitted_prior.means"]) == count

    def test_draws_without_an_end_or_too_long_for_the_encoder_are_left_out(self, trained, tmp_path):
        flags = "--encoder convolutional --decoder hybrid --latent-positions 12 --conv-channels 8,12"
        models = []
        for options in (flags, "--latent-dim 0"):
            folder = tmp_path / options.split()[0]
            commands.train(trained.folder, folder, options, "--max-update 1", criterion=commands.ELBO)
            models.append(figures.load(folder / "checkpoint_last.pt", trained.folder)[0])
        drawn = figures.prior_samples(models[1], 60, 2)
        encoded = encode_draws(*models, 60, 2)
        assert 2 <= len(encoded.ids) < 60
        kept = set(encoded.ids.tolist())
        for i, (tokens, length) in enumerate(zip(drawn.tokens, drawn.lengths.tolist(), strict=True)):
            assert (i in kept) == (tokens[length - 1] == models[1].decoder.eos and 2 <= length <= 12)

    @pytest.mark.parametrize("fixed_length, kept", [(0, [0, 3]), (3, [0, 1])])
    def test_only_whole_draws_are_encoded(self, fixed_length, kept, trained, monkeypatch):
        model, task = figures.load(trained.checkpoint, trained.folder)
        eos, pad = task.dictionary.eos(), task.dictionary.pad()
        tokens = torch.tensor([[5, 6, eos], [5, 6, 7], [eos, pad, pad], [5, eos, pad]])
        drawn = figures.Samples(tokens, torch.tensor([3, 3, 1, 2]), tokens == pad)
        monkeypatch.setattr(encoding, "prior_samples", lambda *given: drawn)
        monkeypatch.setattr(model.decoder, "fixed_length", fixed_length)
        encoded = encode_draws(model, model, 4, 1)
        assert encoded.ids.tolist() == kept
        alone = model.encoder.posterior(tokens[kept[1:], : drawn.lengths[kept[1]]], drawn.lengths[kept[1:]])
        torch.testing.assert_close(encoded.posteriors.mean[1:], alone.mean)


class TestRefusals:
    @pytest.mark.parametrize(
        "flags, sentence",
        [
            ("--exemplars --components 3", "--components is for a mixture that is fitted, but --exemplars fits none"),
            ("--exemplars --from means", "--from is for a mixture that is fitted"),
            ("--temperature 0.5", "--temperature is that of --draws-of"),
            ("--draws-of any.pt --split train", "each of --split, --draws-of says what is encoded"),
            ("--draws-of any.pt --lines any.txt", "each of --draws-of, --lines says what is encoded"),
            ("--draws-of missing.pt", "there is no checkpoint missing.pt"),
        ],
    )
    def test_flags_that_leave_each_other_nothing(self, flags, sentence, trained, tmp_path, capsys):
        given = (trained.folder, "--path", trained.checkpoint, flags, "--cpu --out", tmp_path / "never.pt")
        assert sentence in fails(capsys, *given)

    def test_draws_that_the_encoder_cannot_read(self, trained, language_model, tmp_path, capsys):
        few = ("--path", trained.checkpoint, "--draws-of", language_model, "--sequences 1 --exemplars --cpu --out")
        assert f"--draws-of {language_model}: " in fails(capsys, trained.folder, *few, tmp_path / "never.pt")
        model, _ = figures.load(trained.checkpoint, trained.folder)
        with pytest.raises(ValueError, match="--fixed-length 5 there, 0 here"):
            encode_draws(model, SimpleNamespace(decoder=SimpleNamespace(fixed_length=5)), 10, 1)
        any_length = SimpleNamespace(decoder=SimpleNamespace(fixed_length=0), conditions="known")
        with pytest.raises(
            ValueError, match=r"the encoder needs labels \(--labels\), which draws and lines do not have"
        ):
            encode_draws(any_length, any_length, 10, 1)

    def test_the_flag_without_a_mixture(self, trained):
        with pytest.raises(ValueError, match="no fitted prior.*fairseq_seqvae fit-prior DATA --path CHECKPOINT --out"):
            commands.generate(trained.folder, trained.checkpoint, DRAWS, FITTED)
        hub = fairseq_seqvae.models.SeqVAEModel.from_pretrained(
            trained.checkpoint.parent, trained.checkpoint.name, trained.folder
        )
        with pytest.raises(ValueError, match="no fitted prior"):
            hub.sample_prior(2, prior="fitted")
        with pytest.raises(ValueError, match="'model' or 'fitted' but is 'mine'"):
            hub.sample_prior(2, prior="mine")

    def test_a_folder_that_is_missing(self, trained, tmp_path, capsys):
        out = tmp_path / "missing" / "fitted.pt"
        assert "make it first" in fails(capsys, trained.folder, "--path", trained.checkpoint, "--out", out)

    def test_a_file_that_exists(self, trained, fitted, capsys):
        assert "exists already" in fails(capsys, trained.folder, "--path", trained.checkpoint, "--out", fitted)

    def test_models_of_another_latent_space(self, toy, tmp_path, capsys):
        for flags, sentence in (
            ("--latent-family vmf", "needs Gaussian posteriors, but the prior of this model is a UniformSphere"),
            ("--latent-dim 0", "no latent vector (--latent-dim 0)"),
        ):
            folder = tmp_path / flags.replace(" ", "")
            commands.train(toy.folder, folder, flags, "--max-update 1", criterion=commands.ELBO)
            path = folder / "checkpoint_last.pt"
            assert sentence in fails(capsys, toy.folder, "--path", path, "--cpu --out", tmp_path / "never.pt")
        assert not (tmp_path / "never.pt").exists()
