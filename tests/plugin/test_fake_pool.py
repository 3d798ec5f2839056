"""Fakes of the discriminator's turns, fresh and from a pool."""

import types

import pytest
import torch
from torch import nn

pytest.importorskip("fairseq")
from fairseq.data import Dictionary  # noqa: E402

from fairseq_seqvae.core.latents.gaussian import StandardNormal  # noqa: E402
from fairseq_seqvae.core.noise import Draws, Stream  # noqa: E402
from fairseq_seqvae.core.schedules.turns import TurnPlan  # noqa: E402
from fairseq_seqvae.criterions.config import SeqVAEPolicyGradientConfig  # noqa: E402
from fairseq_seqvae.criterions.seqvae_pg import SeqVAEPolicyGradientCriterion  # noqa: E402
from fairseq_seqvae.models.config import SeqVAEConfig  # noqa: E402
from fairseq_seqvae.models.decoders.recurrent import SeqVAEDecoder  # noqa: E402

LATENT, MAX_LEN = 3, 9
IDS = torch.tensor([5, 0, 17, 8])


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    dictionary = Dictionary()
    for symbol in "abcdefgh":
        dictionary.add_symbol(symbol)
    embedding = nn.Embedding(len(dictionary), 4, dictionary.pad())
    options = SeqVAEConfig(decoder_hidden_dim=5, latent_dim=LATENT, dropout=0.0, fixed_length=0, max_positions=99)
    decoder = SeqVAEDecoder(dictionary, embedding, options)
    with torch.no_grad():
        decoder.output.weight.mul_(8)
    prior = StandardNormal(LATENT)
    return types.SimpleNamespace(decoder=decoder, prior=prior, dictionary=dictionary, conditions=None)


def criterion(model, plan=(2, 100, 1, 5), **values):
    task = types.SimpleNamespace(plan=TurnPlan(*plan), target_dictionary=model.dictionary)
    return SeqVAEPolicyGradientCriterion(SeqVAEPolicyGradientConfig(seed=1, **values), task)


def rows(samples):
    return [tokens[:length].tolist() for tokens, length in zip(samples.tokens, samples.lengths.tolist(), strict=True)]


def test_without_a_pool_every_update_has_fresh_fakes(model):
    fresh = criterion(model)
    first, again, other = (rows(fresh.fakes(model, IDS, Draws(1, update), MAX_LEN)) for update in (3, 3, 4))
    assert first == again != other


def test_a_pool_is_sampled_once_for_the_updates_that_share_it(model, monkeypatch):
    shared = criterion(model, fake_pool=6, fake_reuse=4)
    calls = []
    original = shared.prior_samples
    monkeypatch.setattr(
        shared, "prior_samples", lambda *args: calls.append((args[1].tolist(), args[2].update)) or original(*args)
    )
    for update in range(2, 13):
        shared.fakes(model, IDS, Draws(1, update), MAX_LEN)
    assert calls == [(list(range(6)), first) for first in (2, 6, 10)]


def test_a_pool_ends_when_the_generator_moves(model, monkeypatch):
    shared = criterion(model, plan=(0, 3, 1, 2), fake_pool=6, fake_reuse=100)
    firsts = []
    original = shared.prior_samples
    monkeypatch.setattr(shared, "prior_samples", lambda *args: firsts.append(args[2].update) or original(*args))
    for update in (0, 1, 2, 4, 5, 7, 8):
        shared.fakes(model, IDS, Draws(1, update), MAX_LEN)
    assert firsts == [0, 4, 7]


def test_fakes_come_from_the_pool_and_all_of_it_is_used(model):
    shared = criterion(model, fake_pool=6, fake_reuse=100)
    pool = [
        row
        for row in rows(
            shared.prior_samples(model, torch.arange(6), Draws(1, 2), Stream.FAKE_LATENT, Stream.FAKE, MAX_LEN)
        )
    ]
    drawn = rows(shared.fakes(model, torch.arange(300), Draws(1, 40), MAX_LEN))
    assert {tuple(row) for row in drawn} == {tuple(row) for row in pool}
    assert rows(shared.fakes(model, torch.arange(300), Draws(1, 41), MAX_LEN)) != drawn


def test_a_run_that_is_resumed_and_one_of_several_processes_draw_the_same(model):
    options = {"fake_pool": 6, "fake_reuse": 4}
    whole = criterion(model, **options)
    one = [rows(whole.fakes(model, IDS, Draws(1, update), MAX_LEN)) for update in range(2, 9)]
    resumed = criterion(model, **options)
    assert [rows(resumed.fakes(model, IDS, Draws(1, update), MAX_LEN)) for update in range(5, 9)] == one[3:]
    parts = [criterion(model, **options) for _ in range(2)]
    for update in range(2, 9):
        halves = [
            rows(part.fakes(model, ids, Draws(1, update), MAX_LEN))
            for part, ids in zip(parts, IDS.split(2), strict=True)
        ]
        assert halves[0] + halves[1] == one[update - 2]


def test_fakes_are_as_wide_as_the_longest(model):
    shared = criterion(model, fake_pool=50)
    for update in range(2, 12):
        samples = shared.fakes(model, IDS, Draws(1, update), MAX_LEN)
        assert samples.tokens.size(1) == samples.lengths.max()


@pytest.mark.parametrize("option, value", [("fake_pool", -1), ("fake_reuse", 0)])
def test_sizes_out_of_range_are_refused(model, option, value):
    with pytest.raises(ValueError, match=f"--{option.replace('_', '-')}.*{value}"):
        criterion(model, **{option: value})
