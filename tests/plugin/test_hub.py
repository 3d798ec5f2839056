"""The interface for Python: texts in, texts out, by the same model, draws and rules as the commands."""

import math

import commands
import oracles
import pytest
import torch

from fairseq_seqvae.inference.hub import SeqVAEHubInterface
from fairseq_seqvae.models import SeqVAEModel


def load(trained) -> SeqVAEHubInterface:
    with commands.captured():
        return SeqVAEModel.from_pretrained(trained.checkpoint.parent, trained.checkpoint.name, trained.folder)


@pytest.fixture(scope="module")
def hub(trained):
    return load(trained)


@pytest.fixture(scope="module")
def hub_fixed(trained_fixed):
    return load(trained_fixed)


def generated(trained, *flags):
    output = commands.texts(commands.generate(trained.folder, trained.checkpoint, *flags))
    return [output[number][0] for number in sorted(output)]


class TestLatent:
    def test_it_is_loaded_for_use(self, hub):
        assert isinstance(hub, SeqVAEHubInterface)
        assert not hub.model.training and hub.model.discriminator is None and hub.latent_dim == 6

    def test_posterior_is_that_of_each_text_alone(self, hub):
        texts = ["a b c d e f", "h", "c d e"]
        together = hub.encode_latent(texts)
        assert together.mean.shape == together.std.shape == (3, 6)
        for row, text in enumerate(texts):
            tokens = torch.tensor([[hub.src_dict.index(s) for s in text.split()] + [hub.src_dict.eos()]])
            alone = hub.model.encoder.posterior(tokens, torch.tensor([tokens.size(1)]))
            torch.testing.assert_close(together.mean[row], alone.mean[0])
            torch.testing.assert_close(together.std[row], alone.std[0])

    def test_posterior_of_fixed_length_is_that_of_training(self, hub_fixed, trained_fixed):
        texts = trained_fixed.data.test[:3]
        found = hub_fixed.encode_latent(texts)
        tokens = torch.tensor([[hub_fixed.src_dict.index(s) for s in text.split()] for text in texts])
        expected = hub_fixed.model.encoder.posterior(tokens, torch.tensor([6, 6, 6]))
        torch.testing.assert_close(found.mean, expected.mean)

    def test_prior_draws_are_normal_and_numbered(self, hub):
        z = hub.sample_latent(2000, seed=4)
        assert z.shape == (2000, 6)
        deviation = oracles.normal_quantile() / math.sqrt(z.numel())
        assert abs(z.mean().item()) < deviation and abs(z.square().mean().item() - 1) < 2 * deviation
        assert torch.equal(hub.sample_latent(5, seed=4), z[:5])
        assert not torch.equal(hub.sample_latent(5, seed=5), z[:5])


class TestTexts:
    def test_draws_of_the_prior_are_those_of_the_command(self, hub, trained):
        found = hub.sample_prior(12, seed=5, min_len=1)
        expected = generated(trained, "--gen-subset prior --num-draws 12 --sampling --beam 1 --min-len 1")
        assert found == expected and len(set(found)) > 6
        assert hub.sample_prior(4, seed=5, min_len=1) == found[:4]
        assert hub.sample_prior(12, seed=6) != found

    def test_options_of_sampling(self, hub):
        short = hub.sample_prior(30, max_len=4, temperature=2.0)
        assert max(len(text.split()) for text in short) == 4
        assert min(len(text.split()) for text in hub.sample_prior(30, min_len=3)) >= 3
        greedy = hub.decode_latent(hub.sample_latent(9), seed=1, top_k=1)
        assert greedy == hub.decode_latent(hub.sample_latent(9), seed=2, temperature=1e-3)

    def test_reconstructions_are_those_of_the_command(self, hub, trained):
        expected = generated(trained, "--gen-subset test --beam 3")
        assert hub.reconstruct(trained.data.test, beam=3) == expected

    def test_reconstruction_by_a_draw(self, hub, trained):
        first, again = (hub.reconstruct(trained.data.test, latent="sample", seed=seed) for seed in (1, 1))
        assert first == again != hub.reconstruct(trained.data.test, latent="sample", seed=2)

    def test_walk_ends_at_the_reconstructions(self, hub):
        ends = ["a b c d", "f g h i j"]
        walk = hub.interpolate(*ends, n=5, beam=3)
        assert [walk[0], walk[4]] == hub.reconstruct(ends, beam=3) and len(walk) == 5
        assert hub.interpolate(*reversed(ends), n=5, beam=3) == walk[::-1]

    @pytest.mark.parametrize("latent", ["mean", "sample", "prior"])
    def test_continuations_begin_with_the_text(self, hub, latent):
        prefixes = ["a b c", "f", "", "h i j a"]
        found = hub.continue_text(prefixes, latent=latent, seed=3)
        assert len(found) == 4
        for prefix, text in zip(prefixes, found, strict=True):
            assert text.split()[: len(prefix.split())] == prefix.split()
        assert found == hub.continue_text(prefixes, latent=latent, seed=3)
        assert found[:2] == hub.continue_text(prefixes[:2], latent=latent, seed=3)

    def test_continuation_of_nothing_is_a_draw(self, hub):
        assert len(hub.continue_text(["", ""], latent="prior")) == 2

    def test_fixed_length(self, hub_fixed, trained_fixed):
        assert {len(text.split()) for text in hub_fixed.sample_prior(9)} == {6}
        texts = trained_fixed.data.test
        assert hub_fixed.reconstruct(texts, beam=3) == generated(trained_fixed, "--gen-subset test --beam 3")
        assert {len(text.split()) for text in hub_fixed.continue_text(["a b", "c"])} == {6}
        assert {len(text.split()) for text in hub_fixed.interpolate(*texts[:2], n=4)} == {6}

    def test_what_fairseq_offers_works_too(self, hub, trained):
        text = "a b c d"
        assert hub.decode(hub.encode(text)) == text
        assert hub.sample([text], beam=3) == hub.reconstruct([text], beam=3)
        (hypotheses,) = hub.generate([hub.encode(text)], beam=2)
        assert len(hypotheses) == 2
        (scored,) = hub.score([text])
        mean = hub.encode_latent([text]).mean
        state, previous = hub.model.decoder.start(mean), hub.model.decoder.eos
        for token, found in zip(hub.encode(text).tolist(), scored["positional_scores"].tolist(), strict=True):
            features, state = hub.model.decoder.advance(torch.tensor([previous]), state)
            expected = oracles.log_softmax(hub.model.decoder.logits(features)[0].tolist())[token]
            assert found == pytest.approx(expected, abs=1e-4)
            previous = token


class TestFixedLength:
    def test_other_lengths_are_refused(self, hub_fixed):
        message = "'a b' has 2 tokens: the model knows sequences of 6 only"
        for call in (hub_fixed.encode_latent, hub_fixed.reconstruct):
            with pytest.raises(ValueError, match=message):
                call(["a b c d e f", "a b"])
        with pytest.raises(ValueError, match=message):
            hub_fixed.interpolate("a b", "a b c d e f")

    def test_prefixes(self, hub_fixed):
        with pytest.raises(ValueError, match="a prefix has 7 tokens: the model knows sequences of 6 only"):
            hub_fixed.continue_text(["a b c d e f g"])
        with pytest.raises(ValueError, match="a prefix is empty, .*: give latent='prior'"):
            hub_fixed.continue_text(["", "a"])
        for prefixes in (["", "a"], ["", ""]):
            found = hub_fixed.continue_text(prefixes, latent="prior")
            assert [len(text.split()) for text in found] == [6, 6] and found[1].startswith(prefixes[1])
        assert hub_fixed.continue_text(["a b c d e f"]) == ["a b c d e f"]


def test_unknown_symbols_are_told(hub, caplog):
    hub.encode_latent(["a b", "a q"])
    assert [record.message for record in caplog.records] == [
        "1 of 2 symbols are not in the dictionary (<unk>): a <unk>"
    ]


class TestErrors:
    def test_one_text_is_no_list(self, hub):
        with pytest.raises(TypeError, match="list of texts, not one string"):
            hub.encode_latent("a b c")
        with pytest.raises(TypeError, match="list of texts, not one string"):
            hub.continue_text("a b c")

    def test_no_text(self, hub):
        with pytest.raises(ValueError, match="list of texts is empty"):
            hub.reconstruct([])

    def test_shape_of_z(self, hub):
        with pytest.raises(ValueError, match=r"`z` must have the shape \(B, 6\) but has \(2, 5\)"):
            hub.decode_latent(torch.zeros(2, 5))
        with pytest.raises(ValueError, match=r"`z` must have the shape \(B, 6\) but has \(6,\)"):
            hub.decode_latent(torch.zeros(6))

    def test_prefixes_for_each_z(self, hub):
        with pytest.raises(ValueError, match="one text for each of the 2 z but has 1"):
            hub.decode_latent(torch.zeros(2, 6), prefixes=["a"])

    def test_unknown_latent(self, hub):
        with pytest.raises(ValueError, match="'mean' or 'sample' but is 'median'"):
            hub.reconstruct(["a"], latent="median")
        with pytest.raises(ValueError, match="'mean', 'sample' or 'prior' but is 'median'"):
            hub.continue_text(["a"], latent="median")

    def test_too_few_points(self, hub):
        with pytest.raises(ValueError, match="`n` must be at least 2, the two ends, but is 1"):
            hub.interpolate("a", "b", n=1)

    @pytest.mark.parametrize("options", [{"temperature": 0.0}, {"top_k": -1}, {"top_p": 1.5}, {"max_len": 0}])
    def test_impossible_sampling(self, hub, options):
        with pytest.raises(ValueError, match="`" + next(iter(options)) + "` must"):
            hub.sample_prior(2, **options)
