"""`--disc-loss`, `--gradient-penalty`, `--disc-spectral-norm` in trainings."""

import commands
import pytest
import torch
from commands import assert_same_training, distributed, json_lines, make_training, run

CRITIC = "--disc-loss wasserstein --gradient-penalty 10 --reward logit --pg-normalize"
KINDS = {"critic": CRITIC, "hinge": "--disc-loss hinge --disc-spectral-norm", "rnn": f"{CRITIC} --discriminator rnn"}
TURN = 3  # the first of the discriminator's


def logged(training, update=TURN, split="train"):
    batch = training.batches(split)[0]
    training.model.train()
    turn = training.task.turn(update)
    return batch, training.criterion(training.model, batch, turn=turn, update_num=update)


def test_the_loss_is_half_the_difference_of_the_scores_and_the_penalty(toy):
    training = make_training(toy.folder, CRITIC, "--disc-dropout 0")
    batch, (loss, count, log) = logged(training)
    training.criterion.cfg.gradient_penalty = 3.0
    other, _, same = logged(training)[1]
    assert float(log["d_penalty"]) > 0 and log["d_penalty"] == same["d_penalty"]
    assert float((loss - other).detach()) == pytest.approx(7 * float(log["d_penalty"]), rel=1e-4)
    assert float(loss.detach()) == pytest.approx(float(log["d_loss"] + 10 * log["d_penalty"]), rel=1e-5)
    fakes = training.criterion.fakes(
        training.model, batch["id"], commands_draws(training), training.task.max_sample_length(batch["target"])
    )
    judge = training.model.discriminator
    real = judge(batch["target"], batch["target"].eq(1)).sum()
    expected = (judge(fakes.tokens, fakes.mask).sum() - real) / 2
    assert float(log["d_loss"]) == pytest.approx(float(expected.detach()), rel=1e-4)


def commands_draws(training):
    from fairseq_seqvae.core.noise import Draws

    return Draws(training.cfg.common.seed, TURN)


def test_where_the_slope_is_penalised_depends_on_update_and_sentence_alone(toy):
    training = make_training(toy.folder, CRITIC, "--disc-dropout 0 --batch-size 12")
    batch = training.batches()[0]
    ids = batch["id"]
    seen = {}
    inner = training.model.discriminator_turn

    def remember(*args, **inputs):
        seen[len(seen)] = dict(zip(ids.tolist(), inputs["shares"].tolist(), strict=True))
        return inner(*args, **inputs)

    training.model.discriminator_turn = remember
    for update in (3, 3, 4):
        logged(training, update)
    assert seen[0] == seen[1] and seen[0] != seen[2] and len(set(seen[0].values())) > 6
    assert all(0 < share < 1 for share in seen[0].values())


@pytest.mark.parametrize("kind", KINDS)
def test_trains_and_says_so(toy, tmp_path, kind):
    said = commands.train(toy.folder, tmp_path, KINDS[kind], "--max-update 8")
    lines = json_lines(said, "train_inner")
    assert any("d_penalty" in line for line in lines) == (kind != "hinge")
    assert any(float(line.get("reward_std", 0)) > 0 for line in lines)
    assert float(json_lines(said, "valid")[-1]["valid_d_acc_real"]) >= 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["", "--memory-efficient-bf16 --store-ema --ema-decay 0.5"])
def test_resume_is_exact(toy, tmp_path, kind, precision):
    flags = f"{KINDS[kind]} {precision} --dropout 0.1"
    commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 11")
    for stop in (4, 6, 11):
        commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", stop)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["critic", "hinge"])
def test_two_processes_train_like_one_with_twice_the_batches(toy, tmp_path, kind):
    flags = f"{KINDS[kind]} --clip-norm 0 --dropout 0 --disc-dropout 0 --max-update 9"
    flags = flags.replace("--pg-normalize", "--pg-normalize --gen-pretrain-updates 3 --disc-pretrain-updates 6")
    commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    run("train", commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2)), processes=2)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)


def test_a_checkpoint_with_normalised_weights_generates(toy, tmp_path):
    commands.train(toy.folder, tmp_path, KINDS["hinge"], "--max-update 6")
    saved = commands.load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
    assert "discriminator.output.parametrizations.weight.original" in saved
    assert commands.texts(commands.generate(toy.folder, tmp_path / "checkpoint_last.pt", "--gen-subset test"))


def test_a_loss_from_a_file_of_the_user(toy, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from fairseq_seqvae.core.discriminators.losses import register_discriminator_loss\n"
        "@register_discriminator_loss('z-squares')\n"
        "def squares(real, fake, label_smoothing=0.0):\n"
        "    return (real - 1) ** 2, (fake + 1) ** 2\n"
    )
    training = make_training(toy.folder, "--disc-loss z-squares --module", file, "--disc-dropout 0")
    _, (loss, _, _) = logged(training)
    assert torch.isfinite(loss)


class TestMessages:
    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--disc-loss wasserstein", "--disc-loss wasserstein needs a bounded slope: give --gradient-penalty 10"),
            (CRITIC.replace("logit", "prob"), "of which --reward prob makes nothing: give --reward logit"),
            (CRITIC.replace("--pg-normalize", ""), "rewards without bounds: give --pg-normalize"),
            ("--disc-loss hinge --disc-label-smoothing 0.1", "hinge has no labels that --disc-label-smoothing 0.1"),
            ("--disc-loss least", "unknown --disc-loss 'least': choose one of cross-entropy, hinge, wasserstein"),
            ("--gradient-penalty -1", "--gradient-penalty must be at least 0 but is -1"),
            ("--disc-spectral-norm --discriminator rnn", "--disc-spectral-norm is for --discriminator cnn, not rnn"),
        ],
    )
    def test_of_options_that_contradict_each_other(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            make_training(toy.folder, flags)

    def test_of_a_discriminator_that_knows_no_embedded_sequences(self):
        from types import SimpleNamespace

        from fairseq_seqvae.tasks.run_checks import check_discriminator

        cfg = SimpleNamespace(disc_scoring="auto", disc_l2=0, gradient_penalty=1.0)
        with pytest.raises(ValueError, match="--gradient-penalty needs a discriminator.*which Linear does not have"):
            check_discriminator(torch.nn.Linear(1, 1), cfg)
