"""`--scheduled-sampling` in trainings: against a decoder that goes step by step; resume, processes, messages."""

import math

import commands
import pytest
import torch
from commands import ADVERSARIAL, ELBO, assert_same_training, distributed, json_lines, make_training, run

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.noise import Draws, Stream

SAMPLING = "--scheduled-sampling 0.5 --scheduled-sampling-updates 8"
HALF = "--scheduled-sampling 0.5 --scheduled-sampling-schedule constant --dropout 0"
HYBRID = "--encoder convolutional --decoder hybrid --conv-channels 6,8 --latent-positions 12"


def step_by_step(model, z, tokens, length, keys, share):
    """log p(tokens (T,) | z (1, Z)) where some inputs are samples, one step at a time."""
    decoder, total = model.decoder, 0.0
    of_data = decoder.start(z)
    of_mixture = decoder.start(z)
    choice, chance = (noise.uniforms(some, length)[0].tolist() for some in keys)
    previous = torch.tensor([decoder.eos])
    mixed, replaced = previous, 0
    for step in range(length):
        features, of_data = decoder.advance(previous, of_data)
        probs = decoder.logits(features).softmax(dim=1)[0].double().cumsum(dim=0)
        sampled = int((probs <= chance[step]).sum())
        features, of_mixture = decoder.advance(mixed, of_mixture)
        total += decoder.logits(features).log_softmax(dim=1)[0, tokens[step]].item()
        previous = tokens[step : step + 1]
        mixed = previous
        if step + 1 < length and choice[step + 1] < share:
            mixed, replaced = torch.tensor([sampled]), replaced + 1
    return total, replaced


@pytest.mark.parametrize("criterion, update", [(ELBO, 0), (ADVERSARIAL, 5)], ids=["elbo", "pg"])
@pytest.mark.parametrize("decoder", ["", "--latent-input --share-output-embed"], ids=["plain", "inputs"])
def test_the_loss_is_that_of_two_passes_step_by_step(toy, criterion, update, decoder):
    training = make_training(toy.folder, HALF, decoder, criterion=criterion)
    batch, model = training.batches()[0], training.model
    model.train()
    turn = training.task.turn(update)
    _, _, log = training.criterion(model, batch, turn=turn, update_num=update)
    draws, ids = Draws(training.cfg.common.seed, update), batch["id"]
    net_input = batch["net_input"]
    numbers = draws.normal(Stream.POSTERIOR, ids, model.encoder.noise_dim)
    with torch.no_grad():
        z = model.encoder.draw(net_input["src_tokens"], net_input["src_lengths"], numbers).z
        expected, replaced = 0.0, 0
        for row, (tokens, length) in enumerate(zip(batch["target"], net_input["src_lengths"].tolist(), strict=True)):
            keys = [draws.keys(Stream.SCHEDULED_SAMPLING, ids[row : row + 1], part) for part in (0, 1)]
            said, some = step_by_step(model, z[row : row + 1], tokens, length, keys, 0.5)
            expected, replaced = expected - said, replaced + some
    assert float(log["rec"]) == pytest.approx(expected, rel=1e-5) and replaced > 20
    plain = make_training(toy.folder, "--dropout 0", decoder, criterion=criterion)
    plain.model.load_state_dict(model.state_dict())
    plain.model.train()
    _, _, other = plain.criterion(plain.model, batch, turn=turn, update_num=update)
    assert not math.isclose(float(other["rec"]), float(log["rec"]), rel_tol=1e-4)


def test_the_share_rises_by_the_number_of_the_update(toy, tmp_path):
    said = commands.train(toy.folder, tmp_path, SAMPLING, "--max-update 11", criterion=ELBO)
    shares = [float(line["scheduled_sampling"]) for line in json_lines(said, "train_inner")]
    assert shares == pytest.approx([min(0.5, 0.5 * n / 8) for n in range(11)], abs=1e-3)


def test_validation_reads_the_data(toy):
    sampling, plain = (make_training(toy.folder, flags, criterion=ELBO) for flags in (HALF, "--dropout 0"))
    plain.model.load_state_dict(sampling.model.state_dict())
    found = []
    for training in (sampling, plain):
        training.model.eval()
        found.append(float(training.criterion(training.model, training.batches("valid")[0])[2]["rec"]))
    assert found[0] == found[1]


def test_no_share_is_the_plain_training_bit_for_bit(toy, tmp_path):
    flags = "--max-update 4"
    commands.train(toy.folder, tmp_path / "plain", flags, criterion=ELBO)
    commands.train(toy.folder, tmp_path / "none", flags, "--scheduled-sampling 0", criterion=ELBO)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "plain" / name, tmp_path / "none" / name, adversarial=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, criterion",
    [(HYBRID, ELBO), ("--memory-efficient-bf16 --store-ema --ema-decay 0.5", ADVERSARIAL)],
    ids=["hybrid", "pg"],
)
def test_resume_is_exact(toy, tmp_path, flags, criterion):
    flags = f"{SAMPLING} {flags} --dropout 0.1 --word-dropout 0.1"
    commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 11", criterion=criterion)
    for stop in (3, 6, 11):
        commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", stop, criterion=criterion)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name, adversarial=criterion != ELBO)


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batches(toy, tmp_path):
    flags = f"{SAMPLING} --dropout 0 --max-update 9"
    commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2", criterion=ELBO)
    command = commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2), criterion=ELBO)
    run("train", command, processes=2)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False, adversarial=False)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--scheduled-sampling 1.5", r"--scheduled-sampling must lie in \[0, 1\] but is 1.5"),
        ("--scheduled-sampling 0.5", "--scheduled-sampling 0.5 needs --scheduled-sampling-updates of at least 2"),
    ],
)
def test_of_options_that_contradict_each_other(toy, flags, message):
    with pytest.raises(ValueError, match=message):
        make_training(toy.folder, flags, criterion=ELBO)
