"""`--kl-target`: the KL meets it, and a run with it resumes exactly, in every precision and number of processes."""

import math
from statistics import mean

import commands
import pytest
import torch
from commands import ELBO, assert_same_training, distributed, json_lines, load_checkpoint, make_training, run

TARGET = "--kl-target 4 --kl-target-horizon 50"
CRITERIONS = {"elbo": ELBO, "pg": commands.ADVERSARIAL}


def weights(output):
    return [float(line["kl_weight"]) for line in json_lines(output, "train_inner") if "kl_weight" in line]


@pytest.mark.slow
@pytest.mark.parametrize("target", [2.5, 5.0])
def test_the_kl_meets_the_target(toy, tmp_path, target):
    flags = "--lr 2e-2 --decoder-hidden-dim 24 --encoder-hidden-dim 16 --latent-input --dropout 0 --max-update 500"
    flags += f" --no-save --disable-validation --kl-target-horizon 30 --kl-target {target}"
    said = commands.train(toy.folder, tmp_path, flags, criterion=ELBO)
    kls = [float(line["kl"]) for line in json_lines(said, "train_inner")]
    assert mean(kls[-100:]) == pytest.approx(target, rel=0.1)
    assert len(weights(said)) == 500 and max(weights(said)) <= 1 and len(set(weights(said))) > 300


def test_the_weight_that_is_logged_is_the_one_in_the_loss(toy):
    training = make_training(toy.folder, TARGET, "--dropout 0 --batch-size 300", criterion=ELBO)
    (batch,) = training.batches()
    seen = []
    for update in range(3):
        _, count, log = training.task.train_step(
            batch, training.model, training.criterion, training.trainer.optimizer, update
        )
        weight = log["kl_weight"] / count
        assert float(log["loss"]) == pytest.approx(float(log["rec"] + weight * log["kl"]), rel=1e-5)
        seen.append(weight)
        training.task.reduce_metrics([log], training.criterion.train())
        # By hand: the same batch and the same parameters, so the integral grows by the same error each time.
        error = max(math.log(float(log["kl"]) / count / 4), -2)
        expected = 0.1 * math.exp(error + (update + 1) * error / 50)
        assert training.criterion.kl_weight(update + 1) == pytest.approx(expected, rel=1e-2)
    assert seen[0] == pytest.approx(0.1) and len(set(seen)) == 3


def test_validation_does_not_move_the_controller_and_counts_the_whole_kl(toy):
    training = make_training(toy.folder, TARGET, criterion=ELBO)
    training.update(training.batches()[0])
    before = training.criterion.kl_weight(1)
    training.trainer.valid_step(training.batches("valid")[0])
    assert training.criterion.kl_weight(1) == before != 0.1


def test_turns_of_the_discriminator_do_not_move_the_controller(toy):
    training = make_training(toy.folder, TARGET)
    seen = []
    for batch in training.batches()[:8]:
        training.update(batch)
        seen.append(training.criterion.kl_weight(0))
    # G G G, D D, then G G D
    changes = [before != after for before, after in zip([0.1, *seen], seen, strict=False)]
    assert changes == [True, True, True, False, False, True, True, False]


def test_an_overflow_does_not_move_the_controller(toy):
    training = make_training(toy.folder, TARGET, "--fp16 --fp16-init-scale 4", criterion=ELBO)
    first, second = training.batches()[:2]
    training.update(first)
    before = training.criterion.kl_weight(1)
    hook = training.model.decoder.output.bias.register_hook(lambda gradient: gradient * math.inf)
    training.update(second)
    hook.remove()
    assert training.criterion.kl_weight(1) == before
    training.update(second)
    assert training.criterion.kl_weight(1) != before


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, criterion",
    [
        ("", "elbo"),
        ("--store-ema --ema-decay 0.5 --ema-fp32", "pg"),
        ("--memory-efficient-bf16 --store-ema --ema-decay 0.5", "elbo"),
        ("--memory-efficient-fp16 --fp16-init-scale 4", "pg"),
    ],
)
def test_resume_is_exact(toy, tmp_path, flags, criterion):
    flags = f"{TARGET} {flags} --save-interval-updates 4 --dropout 0.1"
    train = dict(criterion=CRITERIONS[criterion])
    whole = commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 11", **train)
    parts = [commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", n, **train) for n in (3, 10, 11)]
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name, adversarial=criterion == "pg")
    assert weights(whole) == [weight for part in parts for weight in weights(part)]
    kept = load_checkpoint(tmp_path / "whole" / name)["model"]["run_state.kl_control_version"]
    assert kept.dtype == torch.int64 and kept.view(torch.float64)[1] != 0.1


@pytest.mark.slow
def test_two_processes_control_like_one_with_twice_the_batches(toy, tmp_path):
    flags = f"{TARGET} --dropout 0 --disc-dropout 0 --max-update 9"
    alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    command = commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2))
    both = run("train", command, processes=2).stdout
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)
    assert weights(alone) == weights(both) and len(set(weights(both))) > 4


@pytest.fixture(scope="module")
def controlled(toy, tmp_path_factory):
    """A checkpoint of three updates with a target, and with a moving average of its parameters."""
    folder = tmp_path_factory.mktemp("controlled")
    commands.train(toy.folder, folder, TARGET, "--max-update 3 --store-ema", criterion=ELBO)
    return folder / "checkpoint_last.pt"


@pytest.mark.slow
class TestCheckpoints:
    def test_generation_and_validation_load_it(self, toy, controlled):
        said = commands.generate(toy.folder, controlled, "--beam 1 --batch-size 30")
        assert len(commands.hypotheses(said)) == 30
        flags = "--task seqvae --cpu --batch-size 8 --num-workers 0 --path"
        assert "loss" in commands.call("validate", toy.folder, flags, controlled)

    def test_a_run_without_a_target_continues_it(self, toy, controlled, tmp_path):
        flags = "--max-update 4 --restore-file"
        said = commands.train(toy.folder, tmp_path, flags, controlled, criterion=ELBO)
        assert weights(said) == [1.0]

    def test_a_run_with_a_target_continues_one_without(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path, "--max-update 2", criterion=ELBO)
        state = load_checkpoint(tmp_path / "checkpoint_last.pt")
        assert not any("run_state" in name for name in state["model"])
        said = commands.train(toy.folder, tmp_path, TARGET, "--max-update 4", criterion=ELBO)
        assert weights(said)[0] == 0.1 != weights(said)[1]


class TestMessages:
    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--kl-target -1", "--kl-target must be at least 0 but is -1"),
            ("--kl-target 4 --kl-target-horizon 0", "--kl-target-horizon must be at least 1 but is 0"),
            ("--kl-target 4 --kl-weight 0", "--kl-target 4.0 needs a --kl-weight above 0"),
            ("--kl-target 4 --free-bits 2", "--kl-target 4.0 and --free-bits 2.0 both set"),
            ("--kl-target 4 --latent-dim 0", "--kl-target 4.0 needs a latent vector, but --latent-dim 0 has none"),
            (
                "--kl-target 4 --kl-anneal linear --kl-anneal-updates 9",
                "--kl-target 4.0 sets the weight .*: use --kl-anneal constant, not linear",
            ),
        ],
    )
    def test_of_options_that_contradict_each_other(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            make_training(toy.folder, flags, criterion=ELBO)
