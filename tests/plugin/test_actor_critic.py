"""`--pg-baseline critic` and `--value critic` in whole updates."""

import commands
import oracles
import pytest
import torch
from commands import assert_same_training, distributed, json_lines, load_checkpoint, make_training, run
from test_criterions import act, draws_of, evaluate, prepare, rewards_of, slow_log_probs, unpadded

from fairseq_seqvae.core.schedules.turns import DISCRIMINATOR_TURN, GENERATOR_PRETRAIN, GENERATOR_TURN


def logged(output, key):
    return [float(line[key]) for line in json_lines(output, "train_inner") if key in line]


def wake(training):
    """A critic that predicts something."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in training.model.critic.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)


def slow_predictions(model, row, z):
    """What the critic says before each token of one sentence."""
    state, previous, result = model.decoder.start(z.unsqueeze(0)), model.decoder.eos, []
    for token in row:
        features, state = model.decoder.advance(torch.tensor([previous]), state)
        result.append(model.critic(features).item())
        previous = token
    return result


@pytest.mark.parametrize("value", ["final", "critic"])
def test_the_loss_equals_the_loops(toy, value):
    """As the baseline of rewards of whole sequences, or as the value of prefixes without a baseline."""
    flags = f"--value {value} --pg-credit step --reward-stride 2 --critic-weight 0.7 --elbo-weight 0 --pg-baseline"
    training, batch = prepare(toy, flags, "critic" if value == "final" else "none")
    wake(training)
    loss, log = evaluate(training, batch, GENERATOR_TURN)
    trajectory = act(training, batch)
    rewards = rewards_of(training, batch, trajectory, draws_of(training)).rewards
    pg_loss = critic_loss = 0.0
    rows = unpadded(trajectory.tokens)
    scores = [rewards[b, len(row) - 1].item() for b, row in enumerate(rows)]
    predictions = [slow_predictions(training.model, row, trajectory.z[b]) for b, row in enumerate(rows)]
    for b, (row, score, predicted) in enumerate(zip(rows, scores, predictions, strict=True)):
        critic_loss += sum((p - score) ** 2 for p in predicted) / len(row) / 2
        places = oracles.rewarded_positions(len(row), 2)
        for t, log_probs in enumerate(slow_log_probs(training.model.decoder, row, trajectory.z[b])):
            others = [scores[c] - predictions[c][t] for c in range(len(rows)) if c != b and t < len(rows[c])]
            advantage = score - predicted[t] - sum(others) / len(others) if others else 0.0
            if value == "critic":
                end = next(place for place in places if place >= t)
                advantage = score if end == len(row) - 1 else predicted[end + 1]
            pg_loss -= advantage * log_probs[row[t]]
    assert log["pg_loss"].item() == pytest.approx(pg_loss, rel=1e-3, abs=1e-4)
    assert log["critic_loss"].item() == pytest.approx(critic_loss, rel=1e-4)
    assert loss.item() == pytest.approx(pg_loss + 0.7 * critic_loss, rel=1e-3)
    assert log["rewards"] == len(batch["id"])  # of whole sequences only


def test_it_learns_without_changing_the_decoder_and_rests_in_other_turns(toy):
    flags = "--value final --pg-baseline critic --elbo-weight 0 --pg-weight 0 --seed 7"
    training, batch = prepare(toy, flags, batch_size=32)
    model = training.model
    for turn in (GENERATOR_PRETRAIN, DISCRIMINATOR_TURN):
        model.zero_grad(set_to_none=True)
        evaluate(training, batch, turn)[0].backward()
        assert model.critic.weight.grad is None
    losses = []
    for _ in range(30):
        model.zero_grad(set_to_none=True)
        loss, log = evaluate(training, batch, GENERATOR_TURN)
        loss.backward()
        losses.append(log["critic_loss"].item())
        assert not any(p.grad is not None and p.grad.any() for p in model.decoder.parameters())
        with torch.no_grad():
            for parameter in model.critic.parameters():
                parameter -= 0.02 * parameter.grad
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "--value critic --pg-baseline leave-one-out",
        "--value final --pg-baseline critic --pg-loss ppo --ppo-reuse 3 --memory-efficient-bf16",
    ],
)
def test_resume_is_exact(toy, tmp_path, flags):
    flags = f"{flags} --save-interval-updates 4 --dropout 0.1"
    whole = commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 11")
    parts = [commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", n) for n in (6, 7, 11)]
    name = "checkpoint_last.pt"
    assert not commands.differences(*(load_checkpoint(tmp_path / run / name)["model"] for run in ("whole", "parts")))
    found = logged(whole, "critic_ev")
    assert found == [value for part in parts for value in logged(part, "critic_ev")] and len(found) == 4
    assert len(commands.hypotheses(commands.generate(toy.folder, tmp_path / "whole" / name, "--beam 1"))) == 30


@pytest.mark.slow
def test_two_processes_learn_like_one_with_twice_the_batches(toy, tmp_path):
    flags = "--pg-baseline critic --dropout 0 --disc-dropout 0 --max-update 9"
    alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    command = commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2))
    both = run("train", command, processes=2).stdout
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)
    assert logged(alone, "critic_ev") == logged(both, "critic_ev")


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--critic-weight 0", "--critic-weight must be above 0 but is 0"),
        ("--value critic --pg-trajectories data", "--value critic needs --pg-trajectories sampled"),
    ],
)
def test_messages(toy, flags, message):
    with pytest.raises(ValueError, match=message):
        make_training(toy.folder, flags)
