"""`--pg-group-size`: several sequences per z, in a whole update."""

import commands
import oracles
import pytest
import torch
from commands import make_training
from test_criterions import credit, draws_of, evaluate, go_on_earning, prepare, rewards_of, slow_log_probs, unpadded

from fairseq_seqvae.core.noise import Stream
from fairseq_seqvae.core.schedules.turns import GENERATOR_TURN

SIZE = 3


def act(training, batch, size=SIZE):
    streams = Stream.TRAJECTORY_LATENT, Stream.TRAJECTORY
    numbers = draws_of(training).noise_and_keys(*streams, batch["id"], 6, size)
    return training.criterion.act(training.model, batch, *numbers, training.task.max_sample_length(batch["target"]))


def test_members_share_their_z_and_are_drawn_apart(toy):
    training, batch = prepare(toy, f"--pg-group-size {SIZE}")
    single, _ = prepare(toy)
    trajectory, alone = act(training, batch), act(single, batch, 1)
    count = len(batch["id"])
    assert trajectory.ids.tolist() == [i for i in batch["id"].tolist() for _ in range(SIZE)]
    assert torch.equal(trajectory.z[::SIZE], alone.z) and torch.equal(trajectory.z[1::SIZE], alone.z)
    rows = unpadded(trajectory.tokens)
    assert rows[::SIZE] == unpadded(alone.tokens)  # the first member is the one that there is without groups
    assert sum(rows[b * SIZE] != rows[b * SIZE + 1] for b in range(count)) > count / 2


@pytest.mark.parametrize(
    "flags",
    [
        "--pg-baseline group --reward-stride 2",
        "--pg-baseline group --pg-credit step --pg-normalize",
        "--pg-baseline group --pg-normalize --pg-normalize-by group",
        "--pg-baseline leave-one-out --entropy-weight 0.3",
    ],
)
def test_the_loss_equals_the_loops(toy, flags):
    training, batch = prepare(toy, f"--pg-group-size {SIZE}", flags)
    cfg = training.cfg.criterion
    loss, log = evaluate(training, batch, GENERATOR_TURN)
    trajectory = act(training, batch)
    rewards = rewards_of(training, batch, trajectory, draws_of(training)).rewards
    rows, lengths = unpadded(trajectory.tokens), trajectory.lengths.tolist()
    width = max(lengths)
    earned = []
    for row, length in zip(rewards, lengths, strict=True):
        places = oracles.rewarded_positions(length, cfg.reward_stride)
        earned.append(dict(zip(places, row[places].tolist(), strict=True)))
    if cfg.pg_credit == "to-go":
        go_on_earning(earned, lengths, cfg.reward_stride)
    returns = [[credit(row, t, cfg.pg_credit) for t in range(width)] for row in earned]
    ends = [n for n in range(1, width + 1) if n % cfg.reward_stride == 0 or n == width]
    for b, length in enumerate(lengths if cfg.pg_baseline == "group" else ()):
        last = rewards[b, length - 1].item()
        for t in range(length, width):
            returns[b][t] = last * (sum(n > t for n in ends) if cfg.pg_credit == "to-go" else 1)
    if cfg.pg_baseline == "group":
        advantages = []
        for b, length in enumerate(lengths):
            first = b // SIZE * SIZE
            others = [c for c in range(first, first + SIZE) if c != b]
            baseline = [sum(returns[c][t] for c in others) / len(others) for t in range(width)]
            advantages.append([returns[b][t] - baseline[t] if t < length else 0.0 for t in range(width)])
        together = SIZE if cfg.pg_normalize_by == "group" else len(rows)
        for first in range(0, len(rows), together) if cfg.pg_normalize else ():
            members = range(first, first + together)
            squares = [advantages[b][t] ** 2 for b in members for t in range(lengths[b])]
            scale = (sum(squares) / len(squares)) ** 0.5
            for b in members:
                advantages[b] = [value / scale for value in advantages[b]]
    else:
        advantages = oracles.advantages(returns, lengths, str(cfg.pg_baseline), cfg.pg_normalize)
    pg_loss = entropy = 0.0
    for b, row in enumerate(rows):
        for t, log_probs in enumerate(slow_log_probs(training.model.decoder, row, trajectory.z[b])):
            pg_loss -= advantages[b][t] * log_probs[row[t]] / SIZE
            entropy += oracles.entropy([2.718281828459045**p for p in log_probs]) / SIZE
    assert log["pg_loss"].item() / SIZE == pytest.approx(pg_loss, rel=1e-3, abs=1e-4)
    assert log["policy_sequences"] == len(rows)
    expected = log["loss"].item() + pg_loss - cfg.entropy_weight * entropy
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert log["groups"] == len(batch["id"]) and log["zero_std_groups"] == 0
    assert log["rewards"] == sum(len(oracles.rewarded_positions(length, cfg.reward_stride)) for length in lengths)
    assert log["distinct"] <= len(batch["id"])


def test_groups_without_spread_are_logged_as_a_share(toy, tmp_path):
    """A judge that sees nothing gives all sequences the same reward."""
    flags = f"--pg-group-size {SIZE} --pg-baseline group --max-update 7 --no-save"
    said = commands.train(toy.folder, tmp_path, flags)
    spread = [line["frac_reward_zero_std"] for line in commands.json_lines(said, "train_inner") if "reward" in line]
    assert [float(share) for share in spread] == [0.0, 0.0]
    training, batch = prepare(toy, f"--pg-group-size {SIZE} --pg-baseline group --seed 9")
    with torch.no_grad():
        training.model.discriminator.output.weight.zero_()
    log = evaluate(training, batch, GENERATOR_TURN)[1]
    assert log["zero_std_groups"] == log["groups"] == len(batch["id"])
    assert log["pg_loss"].item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--pg-group-size 0", "--pg-group-size must be at least 1 but is 0"),
        ("--pg-baseline group", r"--pg-baseline group needs --pg-group-size above 1 \(it is 1\)"),
        ("--pg-group-size 2 --pg-normalize-by group", "--pg-normalize-by group needs --pg-normalize and"),
        ("--pg-group-size 2 --pg-trajectories data", "--pg-group-size 2 needs --pg-trajectories sampled"),
    ],
)
def test_messages(toy, flags, message):
    with pytest.raises(ValueError, match=message):
        make_training(toy.folder, flags)
