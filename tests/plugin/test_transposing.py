"""`--transpose`: what training sees of melodies, and that nothing else of a run changes."""

import random

import commands
import pytest
import torch
from commands import ELBO, assert_same_training, distributed, make_training, run, training_flags

from fairseq_seqvae.core.noise import Draws
from fairseq_seqvae.core.schedules.turns import DISCRIMINATOR_TURN, GENERATOR_TURN
from fairseq_seqvae.tasks.transposing import transposed

STEPS = 6
WITHOUT_DROPOUT = "--dropout 0 --disc-dropout 0"
FIXED = f"--fixed-length {STEPS} {WITHOUT_DROPOUT}"
TRANSPOSE = "--transpose 58,72"


def melodies(count, seed, steps=STEPS):
    rng = random.Random(seed)
    signs = ["_", "_", ".", *map(str, range(60, 70))]
    return [" ".join(["64", *rng.choices(signs, k=(steps or rng.randint(2, 8)) - 1)]) for _ in range(count)]


def binarise(folder, steps, symbols=range(58, 73)):
    dictionary = commands.write_lines(folder / "symbols.txt", [f"{symbol} 1" for symbol in ("_", ".", *symbols)])
    splits = {"train": melodies(200, 1, steps), "valid": melodies(20, 2, steps), "test": melodies(20, 3, steps)}
    return commands.preprocess(folder / "bin", dictionary, **splits)


@pytest.fixture(scope="module")
def tunes(tmp_path_factory):
    """Melodies of 6 steps, from pitch 60 to 69; the dictionary has 58 to 72."""
    return binarise(tmp_path_factory.mktemp("tunes"), STEPS)


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The same in different lengths."""
    return binarise(tmp_path_factory.mktemp("lines"), 0)


@pytest.fixture
def seen(monkeypatch):
    """What training gives to the criterion, batch by batch."""
    batches = []

    def remember(training):
        forward = type(training.criterion).forward

        def forward_and_remember(self, model, sample, *args, **kwargs):
            batches.append((model.training, sample))
            return forward(self, model, sample, *args, **kwargs)

        monkeypatch.setattr(type(training.criterion), "forward", forward_and_remember)
        return batches

    return remember


def symbols_of(training, tokens):
    return [[training.task.dictionary[token] for token in row] for row in tokens.tolist()]


def interval(before, after):
    """By how much a row of symbols was transposed; an AssertionError if it was not."""
    assert [s for s in before if not s.isdigit()] == [s for s in after if not s.isdigit()]
    moves = {int(b) - int(a) for a, b in zip(before, after, strict=True) if a.isdigit()}
    assert len(moves) == 1
    return moves.pop()


@pytest.mark.parametrize("data", ["tunes", "lines"])
def test_the_three_inputs_of_a_training_are_the_same_melody(request, seen, data):
    folder = request.getfixturevalue(data)
    training = make_training(folder, TRANSPOSE, FIXED if data == "tunes" else WITHOUT_DROPOUT)
    seen = seen(training)
    batch = training.batches()[0]
    for _ in range(8):  # turns of both players
        training.update(batch)
    eos, pad = training.task.dictionary.eos(), training.task.dictionary.pad()
    intervals = []
    for is_training, sample in seen:
        assert is_training and torch.equal(sample["id"], batch["id"])
        net_input = sample["net_input"]
        assert torch.equal(net_input["src_tokens"], sample["target"])
        previous = net_input["prev_output_tokens"]
        assert (previous[:, 0] == eos).all()
        inputs, outputs = previous[:, 1:], sample["target"][:, :-1]
        kept = inputs.ne(pad)
        assert torch.equal(inputs[kept], outputs[kept])
        rows = zip(symbols_of(training, batch["target"]), symbols_of(training, sample["target"]), strict=True)
        intervals.append([interval(before, after) for before, after in rows])
        notes = [int(s) for row in symbols_of(training, sample["target"]) for s in row if s.isdigit()]
        assert min(notes) >= 58 and max(notes) <= 72
    assert len(set(map(tuple, intervals))) == 8  # other ones in each update
    assert len(set(intervals[0])) > 3  # and for each sentence


def test_each_interval_is_equally_frequent(tunes):
    training = make_training(tunes, TRANSPOSE, FIXED, criterion=ELBO)
    row = torch.tensor([training.task.dictionary.index(symbol) for symbol in ("61", "_", "66", ".", "61", "_")])
    count = 12_000
    tokens = row.repeat(count, 1)
    sample = {"id": torch.arange(count), "target": tokens}
    sample["net_input"] = {"src_tokens": tokens, "prev_output_tokens": tokens}
    result = transposed(sample, training.task._transposition, Draws(3, 17))
    first = [int(training.task.dictionary[token]) for token in result["target"][:, 0].tolist()]
    expected = count / 10  # from 58 to 67
    frequencies = [first.count(pitch) for pitch in range(58, 68)]
    assert sum(frequencies) == count
    # The 99.99 % quantile of chi-square with 9 degrees of freedom.
    assert sum((f - expected) ** 2 / expected for f in frequencies) < 33.7


def test_along_the_scale_white_keys_stay_white(tunes, seen):
    training = make_training(tunes, TRANSPOSE, "--transpose-by scale", FIXED, criterion=ELBO)
    seen = seen(training)
    batch = training.batches()[0]
    for _ in range(8):
        training.trainer.train_step([batch])
    white = {str(pitch) for pitch in range(58, 73) if pitch % 12 in (0, 2, 4, 5, 7, 9, 11)}
    before = symbols_of(training, batch["target"])
    moved = 0
    for _, sample in seen:
        for row, given in zip(symbols_of(training, sample["target"]), before, strict=True):
            moved += row != given
            assert all(new in white for new, old in zip(row, given, strict=True) if old in white)
    assert moved > len(before)


def test_validation_and_generation_are_not_transposed(tunes, seen, tmp_path):
    training = make_training(tunes, TRANSPOSE, FIXED, criterion=ELBO)
    seen = seen(training)
    batch = training.batches("valid")[0]
    training.trainer.valid_step(batch)
    ((is_training, sample),) = seen
    assert not is_training and torch.equal(sample["target"], batch["target"])

    outputs = []
    commands.train(tunes, tmp_path, "--max-update 2", FIXED, criterion=ELBO)
    for flags in ("", TRANSPOSE):
        said = commands.generate(tunes, tmp_path / "checkpoint_last.pt", "--beam 1 --batch-size 20", flags)
        outputs.append([line for line in said.splitlines() if line[:2] in ("S-", "T-", "H-")])
    assert outputs[0] == outputs[1] and len(outputs[0]) == 60


@pytest.mark.parametrize(
    "turn, update", [(GENERATOR_TURN, 5), (DISCRIMINATOR_TURN, 7)], ids=["generator", "discriminator"]
)
def test_a_turn_is_that_of_a_batch_transposed_beforehand(tunes, turn, update):
    """So trajectories, rollouts and rewards know nothing of it; even their random numbers are the same."""
    training = make_training(tunes, TRANSPOSE, FIXED)
    batch, task, trainer = training.batches()[0], training.task, training.trainer
    by_hand = transposed(batch, task._transposition, Draws(3, update))
    assert not torch.equal(by_hand["target"], batch["target"])
    gradients = []
    trainer.optimizer  # noqa: B018  (fairseq makes it when it is first asked for)
    for known, sample in ((task._transposition, batch), (None, by_hand)):
        task._transposition = known
        training.model.zero_grad()
        task.train_step(sample, training.model, training.criterion, trainer.optimizer, update)
        gradients.append({name: p.grad.clone() for name, p in training.model.named_parameters() if p.grad is not None})
    assert not commands.differences(*gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients[0].values())


def test_rewards_of_samples_from_the_prior_are_those_without_transposition(tunes):
    logs = []
    for flags in ("", TRANSPOSE):
        training = make_training(tunes, flags, FIXED, "--pg-latent prior")
        batch = training.batches()[0]
        trainer = training.trainer
        _, _, log = training.task.train_step(batch, training.model, training.criterion, trainer.optimizer, 5)
        logs.append({key: log[key] for key in ("reward", "reward_squares", "pg_loss", "entropy", "rec")})
    assert logs[0].pop("rec") != logs[1].pop("rec")
    assert not commands.differences(*logs)


@pytest.mark.slow
def test_resume_is_exact(tunes, tmp_path):
    flags = f"--fixed-length {STEPS} {TRANSPOSE} --save-interval-updates 3"
    commands.train(tunes, tmp_path / "whole", flags, "--max-update 12")
    for stop in (4, 10, 12):
        commands.train(tunes, tmp_path / "parts", flags, "--max-update", stop)
    assert_same_training(tmp_path / "whole" / "checkpoint_last.pt", tmp_path / "parts" / "checkpoint_last.pt")


@pytest.mark.slow
def test_two_processes_transpose_like_one_with_twice_the_batches(tunes, tmp_path):
    # 7 batches are 4 updates per epoch, in the last of which one process has nothing to do.
    flags = f"{FIXED} {TRANSPOSE} --max-update 9"
    commands.train(tunes, tmp_path / "alone", flags, "--update-freq 2")
    run("train", training_flags(tunes, tmp_path / "both", flags, distributed(2)), processes=2)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)


class TestMessages:
    @pytest.mark.parametrize("pitches", ["52", "52,x", "52,60,90", "", "52.5,90", "-3,90"])
    def test_what_is_no_pair_of_pitches(self, tunes, pitches):
        with pytest.raises(
            ValueError, match=f"--transpose must be two MIDI pitches, .* such as 52,90, but is '{pitches}'"
        ):
            make_training(tunes, f"--transpose={pitches}", FIXED)

    def test_a_range_upside_down(self, tunes):
        with pytest.raises(ValueError, match="--transpose 90,52 has its lowest pitch above its highest: exchange them"):
            make_training(tunes, "--transpose 90,52", FIXED)

    def test_steps_of_a_scale_without_pitches(self, tunes):
        with pytest.raises(ValueError, match="--transpose-by scale needs --transpose: the lowest and the highest"):
            make_training(tunes, "--transpose-by scale", FIXED)

    def test_pitches_that_no_melody_has(self, tunes):
        with pytest.raises(ValueError, match="--transpose 20,90 goes beyond .*: stay within 21,108"):
            make_training(tunes, "--transpose 20,90", FIXED)

    def test_data_that_are_no_melodies(self, toy):
        with pytest.raises(
            ValueError, match="--transpose 52,90 is for melodies, but the dictionary has the symbol 'a'"
        ):
            make_training(toy.folder, "--transpose 52,90")

    @pytest.mark.parametrize("pitches, missing", [("58,72", ""), ("56,73", ", but never onto 56, 57, 73, which the")])
    def test_pitches_that_the_dictionary_lacks_are_named(self, tunes, tmp_path, pitches, missing):
        said = commands.train(tunes, tmp_path, "--max-update 1", FIXED, "--transpose", pitches, criterion=ELBO)
        low, high = pitches.split(",")
        assert said.count(f"training sentences are transposed within the pitches {low} to {high}{missing}") == 1
        assert ("never onto" in said) == bool(missing)
