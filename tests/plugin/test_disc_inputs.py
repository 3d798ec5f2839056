"""`--disc-inputs`: a discriminator that is given counts of n-grams and the likelihood under a language model, too."""

import commands
import pytest
import torch
from commands import assert_same_training, distributed, json_lines, load_checkpoint, make_training, run

from fairseq_seqvae.core.sequences import token_log_probs

# Turns: G G G, D D, then G G D again and again.
BOTH = "--disc-inputs tokens,ngrams,likelihood --disc-ngrams 3"
ALONE = "--disc-inputs ngrams,likelihood"


def features(training):
    return list(training.model.discriminator.features)


def trained_for(toy, updates, *flags):
    training = make_training(toy.folder, *flags)
    batches = training.batches()
    for i in range(updates):
        training.update(batches[i])
    return training


def test_counts_are_of_the_training_data_as_batches_have_them(toy, toy_fixed):
    for data, flags in ((toy, ""), (toy_fixed, "--fixed-length 6")):
        training = make_training(data.folder, ALONE, flags)
        counts, _ = features(training)
        dataset = training.task.dataset("train")
        assert counts.sentences == len(dataset)
        assert counts.tokens == sum(len(dataset.src[i]) for i in range(len(dataset)))
        target = training.batches()[0]["target"]
        rows = counts.counts(target, target.eq(1))[0]
        symbol = target[0, 0]
        everywhere = sum(int((dataset.src[i] == symbol).sum()) for i in range(len(dataset)))
        assert rows[0, 0, 0] == everywhere - int((target[0] == symbol).sum())


def test_the_language_model_is_the_decoder_when_the_discriminator_starts(toy):
    training = trained_for(toy, 3, ALONE)
    start = [p.detach().clone() for p in training.model.decoder.parameters()]
    for batch in training.batches()[3:8]:
        training.update(batch)
    likelihood = features(training)[1]
    assert all(torch.equal(*pair) for pair in zip(start, likelihood.policy.parameters(), strict=True))
    assert not all(torch.equal(*p) for p in zip(start, training.model.decoder.parameters(), strict=True))
    assert training.model.run_state.get("disc_lm") == (3,)
    target = training.batches()[0]["target"]
    mask, z = target.eq(1), torch.zeros(len(target), training.model.prior.dim)
    previous = torch.cat([torch.full_like(target[:, :1], 2), target[:, :-1]], dim=1).masked_fill(mask, 1)
    logits = likelihood.policy.teacher_forced(previous, z, regularize=False)
    assert torch.allclose(likelihood.log_probs(target, mask), token_log_probs(logits, target, mask), atol=1e-5)


def test_a_given_language_model_stays_what_it_is(toy, tmp_path):
    commands.train(
        toy.folder, tmp_path, "--latent-dim 0 --max-update 2 --decoder-hidden-dim 7", criterion=commands.ELBO
    )
    path = tmp_path / "checkpoint_last.pt"
    training = trained_for(toy, 5, f"{ALONE} --disc-lm {path}")
    saved = load_checkpoint(path)["model"]
    policy = features(training)[1].policy
    assert all(torch.equal(p, saved[f"decoder.{name}"]) for name, p in policy.named_parameters())
    with pytest.raises(ValueError, match="--disc-lm .*none.pt"):
        make_training(toy.folder, f"{ALONE} --disc-lm {tmp_path}/none.pt")


def test_what_has_a_latent_is_no_language_model(toy, trained):
    with pytest.raises(ValueError, match="--disc-lm .* is no language model"):
        make_training(toy.folder, f"{ALONE} --disc-lm {trained.checkpoint}")


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            "--disc-inputs tokens,words",
            "--disc-inputs must be some of tokens, ngrams, likelihood, .* is 'tokens,words'",
        ),
        ("--disc-inputs ngrams,ngrams", "--disc-inputs must be some of"),
        ("--disc-lm lm.pt", "--disc-lm lm.pt needs --disc-inputs with likelihood, not tokens"),
        (f"{BOTH} --gradient-penalty 10", "--gradient-penalty needs a discriminator with"),
        (f"{ALONE} --disc-scoring tables", "cannot score by tables"),
        ("--disc-inputs ngrams --disc-ngrams 0", r"--disc-ngrams must lie in \[1, 8\] but is 0"),
    ],
)
def test_bad_input_is_explained(toy, flags, message):
    with pytest.raises(ValueError, match=message):
        make_training(toy.folder, flags)


def test_trains_validates_and_generates(toy, tmp_path):
    said = commands.train(toy.folder, tmp_path, f"{BOTH} --discriminator rnn --disc-l2 0.1", "--max-update 8")
    assert float(json_lines(said, "valid")[-1]["valid_d_acc_real"]) >= 0
    name = tmp_path / "checkpoint_last.pt"
    saved = load_checkpoint(name)["model"]
    assert any(key.startswith("discriminator.features.1.policy.") for key in saved)
    assert not any("codes" in key for key in saved)
    assert len(commands.hypotheses(commands.generate(toy.folder, name, "--beam 1"))) == 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [BOTH, f"{ALONE} --disc-keep-best --disc-gate-interval 2 --memory-efficient-bf16 --store-ema --ema-decay 0.5"],
)
def test_resume_is_exact(toy, tmp_path, flags):
    flags = f"{flags} --dropout 0.1"
    commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 11")
    for stop in (2, 4, 6, 11):
        commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", stop)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name)
    first, second = (load_checkpoint(tmp_path / run / name)["model"] for run in ("whole", "parts"))
    assert not commands.differences(first, second)


@pytest.mark.slow
def test_two_processes_learn_like_one_with_twice_the_batches(toy, tmp_path):
    flags = f"{BOTH} --dropout 0 --disc-dropout 0 --max-update 9"
    commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    run("train", commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2)), processes=2)
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)


def test_another_run_that_starts_from_its_parameters_takes_its_own_language_model(toy, tmp_path):
    commands.train(toy.folder, tmp_path / "first", ALONE, "--max-update 8")
    start = tmp_path / "first" / "checkpoint_last.pt"
    commands.train(
        toy.folder, tmp_path / "second", ALONE, f"--finetune-from-model {start} --gen-pretrain-updates 0 --max-update 1"
    )
    saved = load_checkpoint(tmp_path / "second" / "checkpoint_last.pt")["model"]
    name = "output.weight"
    assert torch.equal(saved[f"discriminator.features.1.policy.{name}"], saved[f"decoder.{name}"])


class TestRealSentencesOfAnotherSplit:
    def seen(self, training, batch, update):
        """The real sentences of a turn of the discriminator, and the fakes."""
        found = {}
        inner = training.model.discriminator_turn

        def remember(real_tokens, **inputs):
            found["real"], found["fake"] = real_tokens.tolist(), inputs["fake_tokens"].tolist()
            return inner(real_tokens, **inputs)

        training.model.discriminator_turn = remember
        turn = training.task.turn(update)
        _, count, _ = training.criterion(training.model.train(), batch, turn=turn, update_num=update)
        training.model.discriminator_turn = inner
        assert count == len(batch["id"]) == len(found["real"])
        return found

    def test_are_drawn_from_that_split_by_update_and_sentence(self, toy):
        training = make_training(toy.folder, "--disc-real valid")
        batch = training.batches()[0]
        training.task.load_dataset("valid")
        dataset = training.task.dataset("valid")
        known = {tuple(dataset.src[i].tolist()) for i in range(len(dataset))}
        first, again, later = (self.seen(training, batch, update) for update in (3, 3, 4))
        rows = [tuple(token for token in row if token != 1) for row in first["real"]]
        assert set(rows) <= known and len(set(rows)) > len(rows) / 3
        assert first == again and first["real"] != later["real"]

    def test_leave_the_fakes_alone(self, toy):
        plain, other = make_training(toy.folder), make_training(toy.folder, "--disc-real valid")
        fakes = [self.seen(training, training.batches()[0], 3)["fake"] for training in (plain, other)]
        assert fakes[0] == fakes[1]

    def test_a_split_that_is_not_there_is_refused(self, toy):
        training = make_training(toy.folder, "--disc-real none")
        with pytest.raises(FileNotFoundError, match="there is no split 'none'"):
            self.seen(training, training.batches()[0], 3)
