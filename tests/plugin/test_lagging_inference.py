"""`--lagging-updates`: what moves in the encoder's turns, when they end, and that a run with them resumes exactly."""

import commands
import pytest
import torch
from commands import ADVERSARIAL, ELBO, assert_same_training, distributed, load_checkpoint, make_training, run
from test_task import snapshot

from fairseq_seqvae.core.schedules.turns import ENCODER_TURN, GENERATOR_PRETRAIN
from fairseq_seqvae.metrics import latent_use

LAGGING = "--lagging-updates 2 --lagging-until 8"
DECAY = "--weight-decay 0.1"
PRECISIONS = {
    "fp32": "",
    "fp16": "--fp16 --fp16-init-scale 4",
    "bf16": "--bf16",
    "memory-efficient-fp16": "--memory-efficient-fp16 --fp16-init-scale 4",
}


def moved_names(before, after):
    return {name for name in before if isinstance(name, str) and not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("criterion", [ELBO, f"{ADVERSARIAL} --gen-pretrain-updates 6"], ids=["elbo", "pg"])
@pytest.mark.parametrize("embeddings", ["", "--no-share-embeddings"])
def test_only_the_encoder_moves_in_its_turns(toy, precision, criterion, embeddings):
    flags = (LAGGING, DECAY, PRECISIONS[precision], embeddings)
    training = make_training(toy.folder, *flags, criterion=criterion)
    shared = [] if embeddings else ["encoder.embedding.weight"]
    for number, batch in enumerate(training.batches()[:6]):
        before = snapshot(training)
        training.update(batch)
        after = snapshot(training)
        moved = moved_names(before["generator"], after["generator"])
        encoder = {name for name in before["generator"] if isinstance(name, str) and name.startswith("encoder.")}
        if number % 3 < 2:
            assert moved == encoder - set(shared)
            parts = {id(p): p.part for p in training.model.parameters()}
            assert set(parts.values()) >= {"encoder", "decoder"}
        else:
            assert moved >= {name for name in before["generator"] if str(name).startswith("decoder.output")} | encoder
        assert not moved_names(before["discriminator"], after["discriminator"])


def test_the_encoder_moves_by_the_gradient_of_the_elbo_clipped_by_its_own_norm(toy):
    flags = "--optimizer sgd --lr 1 --dropout 0 --no-share-embeddings --clip-norm"
    batch = None
    moves = []
    for clip, lagging in (("0", ""), ("0", LAGGING), ("1e-3", LAGGING)):
        training = make_training(toy.folder, flags, clip, lagging, criterion=ELBO)
        batch = training.batches()[0]
        before = snapshot(training)["generator"]
        training.update(batch)
        after = snapshot(training)["generator"]
        names = [name for name in before if str(name).startswith("encoder.")]
        moves.append(torch.cat([(after[name] - before[name]).flatten() for name in names]))
    torch.testing.assert_close(moves[0], moves[1])
    assert float(moves[2].norm()) == pytest.approx(1e-3, rel=1e-2)


class TestTheEnd:
    @pytest.fixture
    def informed(self, monkeypatch):
        """Let validations find these values of the mutual information, one after another."""

        def give(*values):
            left = list(values)
            module = "fairseq_seqvae.criterions.seqvae_elbo.mutual_information"
            monkeypatch.setattr(module, lambda posterior, **unused: left.pop(0))
            return left

        return give

    def turns_of(self, monkeypatch, toy, folder, *flags):
        """Turns of the updates of a run, E for the encoder's, and its output."""
        from fairseq_seqvae.tasks import seqvae

        seen, step = [], seqvae.SeqVAETask.optimizer_step

        def remember(self, optimizer, model, update_num):
            seen.append({ENCODER_TURN: "E", GENERATOR_PRETRAIN: "a"}.get(self.turn(update_num), "other"))
            return step(self, optimizer, model, update_num)

        monkeypatch.setattr(seqvae.SeqVAETask, "optimizer_step", remember)
        said = commands.train(toy.folder, folder, "--max-update 9 --no-save --batch-size 50", *flags, criterion=ELBO)
        monkeypatch.setattr(seqvae.SeqVAETask, "optimizer_step", step)
        return "".join(seen), said

    def test_at_the_latest_where_the_flag_says(self, toy, tmp_path, monkeypatch):
        assert self.turns_of(monkeypatch, toy, tmp_path, LAGGING)[0] == "EEaEEaEEa"
        assert self.turns_of(monkeypatch, toy, tmp_path, "--lagging-updates 1 --lagging-until 4")[0] == "EaEaaaaaa"

    def test_where_the_mutual_information_falls(self, toy, tmp_path, monkeypatch, informed):
        left = informed(0.5, 0.7, 0.6)
        flags = "--lagging-updates 1 --lagging-until 100 --validate-interval-updates 2"
        found, said = self.turns_of(monkeypatch, toy, tmp_path, flags)
        assert found == "EaEaEaaaa" and not left  # after that, validations do not ask for it
        assert said.count("lagging inference ends after update 6: the mutual information") == 1
        assert "fell from 0.700 to 0.600 nats" in said

    def test_not_while_it_rises(self, toy, tmp_path, monkeypatch, informed):
        left = informed(0.5, 0.7, 0.7, 0.8)
        flags = "--lagging-updates 1 --lagging-until 100 --validate-interval-updates 2"
        assert self.turns_of(monkeypatch, toy, tmp_path, flags)[0] == "EaEaEaEaE" and not left

    def test_validations_between_those_of_the_interval_do_not_count(self, toy, tmp_path, monkeypatch, informed):
        # Those of the epochs' ends, after 6 updates, and that of the end.
        left = informed(0.5, 0.7)
        flags = "--lagging-updates 1 --lagging-until 100 --validate-interval-updates 4"
        assert self.turns_of(monkeypatch, toy, tmp_path, flags)[0] == "EaEaEaEaE" and not left


def test_what_validation_measures_is_that_of_its_batches(toy):
    training = make_training(toy.folder, LAGGING, "--validate-interval-updates 1 --dropout 0", criterion=ELBO)
    training.update(training.batches()[0])
    expected, count = 0.0, 0
    model = training.model.eval()
    for batch in training.batches("valid"):
        posterior = model.encoder.posterior(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
        known = latent_use.mutual_information(posterior, ids=batch["id"], seed=3, num_samples=1)
        _, _, log = training.criterion.eval()(model, batch)
        assert float(log["mutual_information"]) == pytest.approx(known * batch["nsentences"])
        expected, count = expected + known, count + 1
    assert count == 2 and expected > 0


def falling(folder):
    """Where the run of this folder ended lagging inference."""
    kept = load_checkpoint(folder / "checkpoint_last.pt")["model"]["run_state.lagging_version"].view(torch.float64)
    return kept[2].item()


# A high weight of the KL makes the mutual information fall soon.
FALLS = "--lagging-updates 1 --lagging-until 100 --kl-weight 20 --validate-interval-updates 2"


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, criterion",
    [
        ("", ELBO),
        ("--memory-efficient-bf16 --store-ema --ema-decay 0.5", f"{ADVERSARIAL} --gen-pretrain-updates 11"),
    ],
    ids=["elbo", "pg"],
)
def test_resume_is_exact_across_the_end(toy, tmp_path, flags, criterion):
    flags = f"{FALLS} {flags} --dropout 0.1"
    commands.train(toy.folder, tmp_path / "whole", flags, "--max-update 14", criterion=criterion)
    for stop in (1, 3, 6, 9, 14):
        commands.train(toy.folder, tmp_path / "parts", flags, "--max-update", stop, criterion=criterion)
    assert falling(tmp_path / "whole") == falling(tmp_path / "parts") <= 9
    name = "checkpoint_last.pt"
    assert_same_training(tmp_path / "whole" / name, tmp_path / "parts" / name, adversarial=criterion != ELBO)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["pytorch_ddp", "legacy_ddp"])
def test_two_processes_agree_with_one_with_twice_the_batches(toy, tmp_path, backend):
    # Where clipping acts on gradients as large as these, processes differ in the last bit, also without turns.
    flags = f"{FALLS} --clip-norm 0 --dropout 0 --disc-dropout 0 --max-update 14 --gen-pretrain-updates 11"
    commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    command = commands.training_flags(toy.folder, tmp_path / "both", flags, distributed(2), "--ddp-backend", backend)
    run("train", command, processes=2)
    assert falling(tmp_path / "alone") <= 9
    name = "checkpoint_last.pt"
    alone, both = tmp_path / "alone" / name, tmp_path / "both" / name
    assert_same_training(alone, both, same_batches=False)


class TestMessages:
    @pytest.mark.parametrize(
        "flags, message",
        [
            ("--lagging-updates -1", "--lagging-updates must be at least 0 but is -1"),
            ("--lagging-updates 3", "--lagging-updates 3 needs --lagging-until: the number of updates"),
            (f"{LAGGING} --latent-dim 0", "--lagging-updates 2 needs a latent vector, but --latent-dim 0 has none"),
        ],
    )
    def test_of_options_that_contradict_each_other(self, toy, flags, message):
        with pytest.raises(ValueError, match=message):
            make_training(toy.folder, flags, criterion=ELBO)
