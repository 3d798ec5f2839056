"""Labels of sentences, from the data to encoder, decoder, discriminator, rewards and generation."""

import re
from types import SimpleNamespace
from typing import NamedTuple

import commands
import pytest
import torch
from commands import ELBO, assert_same_training, call, make_training, texts, train
from test_decoders import KINDS
from test_model import make_batch, make_dictionary, make_model, step_by_step

from fairseq_seqvae.core.conditions import joined
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts import rollout
from fairseq_seqvae.core.rollouts.policy import RolloutPlan, Trajectory
from fairseq_seqvae.core.schedules.turns import GENERATOR_TURN
from fairseq_seqvae.models import SeqVAEModel
from fairseq_seqvae.models.conditions import Conditions

LABELS = "--labels label --label-dim 3"
LAST = "checkpoint_last.pt"


def label_of(line: str) -> str:
    return "early" if line[0] in "abcde" else "late"


class Labelled(NamedTuple):
    """A folder of data with labels, its lines, and a model that has hardly been trained on them."""

    folder: object
    lines: dict
    run: object

    @property
    def checkpoint(self):
        return self.run / LAST


def add_labels(folder, lines, label=label_of):
    commands.preprocess(folder / "label", **{split: [label(line) for line in some] for split, some in lines.items()})


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labelled") / "bin"
    sizes = ("train", 200, 1), ("valid", 30, 2), ("test", 20, 3)
    lines = {split: commands.toy_sentences(count, seed) for split, count, seed in sizes}
    commands.preprocess(folder, **lines)
    add_labels(folder, lines)
    train(folder, folder.parent / "run", LABELS, "--max-update 8 --lr 2e-2")
    return Labelled(folder, lines, folder.parent / "run")


def generate(labelled, *flags):
    return texts(commands.generate(labelled.folder, labelled.checkpoint, *flags))


# -- data --


def test_each_sentence_of_a_batch_has_the_label_of_its_line(labelled):
    training = make_training(labelled.folder, LABELS, criterion=ELBO)
    names, dictionary = training.model.conditions.names, training.task.source_dictionary
    for split in ("train", "valid"):
        seen = 0
        for batch in training.batches(split):
            for row, label in zip(batch["target"], batch["net_input"]["labels"].tolist(), strict=True):
                assert names[label] == label_of(dictionary.string(row))
                seen += 1
        assert seen == len(labelled.lines[split])


def test_the_model_knows_how_often_each_label_occurs(labelled):
    conditions = make_training(labelled.folder, LABELS, criterion=ELBO).model.conditions
    found = dict(zip(conditions.names, conditions.counts_version.tolist(), strict=True))
    expected = [label_of(line) for line in labelled.lines["train"]]
    assert {name: count for name, count in found.items() if count} == {n: expected.count(n) for n in ("early", "late")}


# -- players --


@pytest.mark.parametrize("turn, update", [("generator", 5), ("discriminator", 3)])
def test_every_player_learns_from_the_labels(labelled, turn, update):
    training = make_training(labelled.folder, LABELS, "--pg-latent prior")
    batch, model, task = training.batches()[0], training.model, training.task
    task.train_step(batch, model, training.criterion, training.trainer.optimizer, update)
    label_rows = model.discriminator.embedding.weight.grad
    if turn == "discriminator":
        assert label_rows[len(task.source_dictionary) :].abs().sum() > 0
        return
    for embedding in (model.encoder.label_embedding, model.decoder.label_embedding):
        assert embedding.weight.grad.abs().sum(dim=1).count_nonzero() == 2


def as_task(labels, counts=(3, 0, 1)):
    dictionary = make_dictionary("xyz")
    numbers = torch.zeros(len(dictionary) - dictionary.nspecial, dtype=torch.long)
    numbers[: len(counts)] = torch.tensor(counts)
    return lambda vocabulary: {"labels": labels, "conditions": lambda: Conditions(dictionary, numbers, vocabulary)}


def make_labelled_model(**options):
    """A model of the labels x, y and z, with embeddings of 3 numbers."""
    import test_model

    made = as_task("label")(len(make_dictionary()))
    plain = SimpleNamespace

    class WithLabels(plain):
        def __init__(self, **kwargs):
            super().__init__(**kwargs, **(made if "source_dictionary" in kwargs else {}))

    test_model.SimpleNamespace = WithLabels
    try:
        return make_model(labels="label", label_dim=3, **options)
    finally:
        test_model.SimpleNamespace = plain


@pytest.mark.parametrize("kind", KINDS)
class TestDecoders:
    def test_a_label_is_an_embedding_beside_z(self, kind):
        model = make_labelled_model(**KINDS[kind]).double().eval()
        decoder, labels = model.decoder, torch.tensor([2, 0, 1])
        _, _, previous = make_batch(model, [4, 7, 2])
        z = torch.randn(3, 4, dtype=torch.float64)
        found = decoder.teacher_forced(previous, joined(z, labels), regularize=False)
        # joined() is in single precision, which the numbers of z are rounded to.
        code = torch.cat([z.float().double(), decoder.label_embedding.weight[labels]], dim=1)
        decoder.label_embedding = None
        torch.testing.assert_close(found, decoder.teacher_forced(previous, code, regularize=False))

    def test_steps_and_completions_have_the_label(self, kind):
        decoder = make_labelled_model(**KINDS[kind]).double().eval().decoder
        tokens, lengths, previous = make_batch(SimpleNamespace(decoder=decoder), [6, 3, 8])
        code = joined(torch.randn(3, 4), torch.tensor([2, 0, 1]))
        fused = decoder.teacher_forced(previous, code, regularize=False)
        torch.testing.assert_close(step_by_step(decoder, previous, code), fused, rtol=1e-12, atol=1e-12)

        def completed(code):
            trajectory = Trajectory(tokens, lengths, tokens.eq(decoder.pad), code, torch.arange(3))
            found = rollout.complete_prefixes(decoder, trajectory, RolloutPlan(100, 2, 9), Draws(1, 3))
            return {(row, *given) for c in found for row, given in zip(c.rows.tolist(), c.tokens.tolist(), strict=True)}

        with torch.no_grad():
            decoder.label_embedding.weight[1] = 20.0  # of the last row, of whose completions alone some change
        before, after = completed(code), completed(joined(code[:, :4], torch.tensor([2, 0, 0])))
        assert {c for c in before if c[0] < 2} == {c for c in after if c[0] < 2}
        assert {c for c in before if c[0] == 2} != {c for c in after if c[0] == 2}


def test_a_language_model_has_labels_too():
    model = make_labelled_model(latent_dim=0).eval()
    tokens, lengths, previous = make_batch(model, [3, 5])
    logits = [model(tokens, lengths, previous, labels=torch.tensor(two))[0] for two in ([0, 0], [1, 0])]
    assert not torch.equal(logits[0][0], logits[1][0]) and torch.equal(logits[0][1], logits[1][1])


def test_a_posterior_depends_on_the_label():
    model = make_labelled_model().eval()
    tokens, lengths, _ = make_batch(model, [3, 5])
    first, second = (model.encoder.posterior(tokens, lengths, torch.tensor(two)).mean for two in ([0, 0], [1, 0]))
    assert not torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


# -- draws --


class TestPolicyGradient:
    def test_draws_from_the_prior_have_labels_by_the_counts_whatever_the_batch(self, labelled):
        ids = torch.arange(4000)
        conditions = make_training(labelled.folder, LABELS, "--pg-latent prior").model.conditions
        labels = conditions.draw(Draws(3, 9), ids)
        assert torch.equal(conditions.draw(Draws(3, 9), ids[[7, 5]]), labels[[7, 5]])
        share = conditions.counts_version / conditions.counts_version.sum()
        found = labels.bincount(minlength=len(share)) / 4000
        torch.testing.assert_close(found, share, atol=4 * 0.5 / 4000**0.5, rtol=0)
        assert not torch.equal(conditions.draw(Draws(3, 10), ids), labels)
        assert not torch.equal(conditions.draw(Draws(3, 9), ids, Stream.GENERATION_CONDITION), labels)

    @pytest.mark.parametrize("value", ["rollouts", "final"])
    def test_rewards_are_told_the_labels_of_what_they_score(self, labelled, value, tmp_path):
        (tmp_path / "rules.py").write_text(
            "SEEN = []\n"
            "def wanted(samples, labels, **kwargs):\n"
            "    SEEN.append(labels)\n"
            "    return [float(label == 'early') for label in labels]\n"
        )
        rule = f"--reward-sources {tmp_path}/rules.py:wanted --value {value} --pg-latent prior --pg-normalize-by batch"
        training = make_training(labelled.folder, LABELS, rule)
        model, criterion, batch = training.model, training.criterion, training.batches()[0]
        draws = Draws(3, 7)
        labels = model.conditions.draw(draws, batch["id"])
        noise = draws.normal(Stream.TRAJECTORY_LATENT, batch["id"], 6)
        keys = draws.keys(Stream.TRAJECTORY, batch["id"])
        acted = criterion.act(model, batch, noise, keys, 9, labels)
        assert acted.z[:, -1].tolist() == labels.tolist() and torch.equal(acted.z[:, :-1], noise)
        values = criterion.rewards(model, acted, draws, 9)
        early = torch.tensor([model.conditions.names[label] == "early" for label in labels.tolist()])
        assert 0 < early.sum() < len(early)
        # The value of a prefix is the mean over completions of the same label.
        expected = early.float().unsqueeze(1) * values.positions
        torch.testing.assert_close(values.rewards, expected)

    def test_the_posteriors_z_has_the_label_of_its_sentence(self, labelled):
        training = make_training(labelled.folder, LABELS)
        model, batch, seen = training.model, training.batches()[0], []
        inner = training.criterion.act
        training.criterion.act = lambda *args: seen.append(inner(*args)) or seen[0]
        model.train()
        training.criterion(model, batch, turn=GENERATOR_TURN, update_num=7)
        assert seen[0].z[:, -1].tolist() == batch["net_input"]["labels"].tolist()

    def test_fakes_come_with_the_labels_that_they_were_made_of(self, labelled):
        pool = make_training(labelled.folder, LABELS, "--fake-pool 60 --fake-reuse 2")
        ids = torch.arange(40)
        found = pool.criterion.fakes(pool.model.eval(), ids, Draws(3, 3), 9)
        assert found.labels.shape == (40,)
        rows = {(tuple(row), label) for row, label in zip(found.tokens.tolist(), found.labels.tolist(), strict=True)}
        places = torch.arange(60)
        streams = Stream.FAKE_LATENT, Stream.FAKE
        whole = pool.criterion.prior_samples(pool.model, places, Draws(3, 3), *streams, 9)
        width = found.tokens.size(1)
        made = zip(whole.tokens[:, :width].tolist(), whole.labels.tolist(), strict=True)
        assert rows <= {(tuple(row), label) for row, label in made}


def test_without_labels_no_sentence_has_one(toy):
    training = make_training(toy.folder)
    assert training.model.conditions is None and "labels" not in training.batches()[0]["net_input"]


# -- runs --


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--pg-latent prior --value final --disc-gate-interval 2 --fake-pool 20"])
def test_a_run_resumes_exactly(labelled, tmp_path, flags):
    flags = f"{LABELS} {flags} --log-interval 1000"
    train(labelled.folder, tmp_path / "whole", flags, "--max-update 12")
    for stop in (6, 12):
        train(labelled.folder, tmp_path / "resumed", flags, "--max-update", stop)
    assert_same_training(tmp_path / "whole" / LAST, tmp_path / "resumed" / LAST)


@pytest.mark.slow
def test_two_processes_train_like_one_with_twice_the_batches(labelled, tmp_path):
    flags = f"{LABELS} --pg-latent prior --dropout 0 --disc-dropout 0 --max-update 10"
    train(labelled.folder, tmp_path / "alone", flags, "--update-freq 2")
    both = commands.training_flags(labelled.folder, tmp_path / "both", flags, commands.distributed(2))
    commands.run("train", both, "--ddp-backend pytorch_ddp", processes=2)
    assert_same_training(tmp_path / "alone" / LAST, tmp_path / "both" / LAST, same_batches=False)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["--memory-efficient-fp16 --fp16-init-scale 4", "--bf16"])
def test_labels_survive_half_precision(labelled, tmp_path, precision):
    log = train(
        labelled.folder, tmp_path, LABELS, precision, "--max-update 8 --pg-latent prior --ema-decay 0.9 --store-ema"
    )
    losses = [float(line["loss"]) for line in commands.json_lines(log, "train_inner") if "loss" in line]
    assert losses and all(loss < 100 for loss in losses)
    model = commands.load_checkpoint(tmp_path / LAST)["model"]
    assert model["conditions.counts_version"].sum() == 200
    assert (
        len(
            texts(
                commands.generate(labelled.folder, tmp_path / LAST, "--gen-subset prior --num-draws 4 --condition late")
            )
        )
        == 4
    )


@pytest.mark.slow
def test_a_condition_gives_sequences_of_its_label(labelled, tmp_path):
    flags = "--lr 2e-2 --decoder-hidden-dim 24 --encoder-hidden-dim 16 --latent-input --dropout 0 --kl-weight 0.1"
    train(labelled.folder, tmp_path, LABELS, flags, "--max-update 250 --disable-validation", criterion=ELBO)
    for condition in ("early", "late"):
        drawn = commands.generate(
            labelled.folder,
            tmp_path / LAST,
            "--gen-subset prior --num-draws 100 --sampling --beam 1 --condition",
            condition,
        )
        found = [label_of(some[0]) for some in texts(drawn).values() if some[0]]
        assert found.count(condition) >= 0.8 * 100


# -- generation --


class TestGeneration:
    PRIOR = "--gen-subset prior --num-draws 12 --sampling --beam 1"

    def test_draws_of_a_condition_are_those_of_the_interface_for_python(self, labelled):
        with commands.captured():
            hub = SeqVAEModel.from_pretrained(labelled.run, LAST, labelled.folder)
        for condition in (None, "early", "late"):
            flag = [] if condition is None else ["--condition", condition]
            drawn = generate(labelled, self.PRIOR, "--max-len-b 9", *flag)
            expected = hub.sample_prior(12, seed=5, condition=condition, max_len=9, min_len=1)
            assert [drawn[n][0] for n in range(12)] == expected
        mixed = hub.sample_prior(12, seed=5, condition=["early", "late"] * 6, max_len=9)
        alone = [hub.sample_prior(12, seed=5, condition=label, max_len=9) for label in ("early", "late")]
        assert mixed == [alone[n % 2][n] for n in range(12)] and alone[0] != alone[1]

    def test_without_a_condition_sentences_keep_their_labels(self, labelled):
        with commands.captured():
            hub = SeqVAEModel.from_pretrained(labelled.run, LAST, labelled.folder)
        lines = labelled.lines["test"]
        own = [label_of(line) for line in lines]
        plain = generate(labelled, "--gen-subset test --beam 2")
        assert [plain[n][0] for n in range(20)] == hub.reconstruct(lines, beam=2, labels=own)
        late = generate(labelled, "--gen-subset test --beam 2 --condition late")
        assert [late[n][0] for n in range(20)] == hub.reconstruct(lines, beam=2, labels=own, condition="late")

    def test_a_split_without_labels_needs_a_condition(self, labelled, tmp_path):
        import shutil

        folder = shutil.copytree(labelled.folder, tmp_path / "bin")
        for suffix in ("bin", "idx"):
            (folder / "label" / f"test.{suffix}").unlink()
        flags = "--gen-subset test --beam 2"
        with pytest.raises(FileNotFoundError, match="--labels label: there is no split 'test'.*--testpref"):
            commands.generate(folder, labelled.checkpoint, flags)
        assert len(texts(commands.generate(folder, labelled.checkpoint, flags, "--condition late"))) == 20

    def test_walks_prompts_and_scores(self, labelled, tmp_path):
        walk = "--gen-subset interpolate --num-draws 3 --beam 2 --condition early"
        assert len(generate(labelled, walk)) == 3
        assert len(generate(labelled, walk, '--interpolate-from "a b c" --interpolate-to "b c d"')) == 3
        assert len(generate(labelled, "--gen-subset test --prefix-size 2 --sampling --beam 1 --latent sample")) == 20
        assert len(generate(labelled, "--gen-subset test --score-reference")) == 20
        lines, flags = ["a b c"], "--beam 2 --condition late"
        assert len(texts(commands.interactive(labelled.folder, labelled.checkpoint, lines, tmp_path, flags))) == 1
        with pytest.raises(ValueError, match="give --condition with one of"):
            commands.interactive(labelled.folder, labelled.checkpoint, lines, tmp_path, "--beam 2")

    def test_the_interface_for_python_asks_for_what_is_missing(self, labelled):
        with commands.captured():
            hub = SeqVAEModel.from_pretrained(labelled.run, LAST, labelled.folder)
        with pytest.raises(
            ValueError, match=r"`labels` of the texts are missing: the model knows (early, late|late, early)\."
        ):
            hub.reconstruct(["a b c"])
        with pytest.raises(ValueError, match="`condition` 'x' is no label of this model: give one of"):
            hub.sample_prior(2, condition="x")
        with pytest.raises(ValueError, match="`condition` must be one label, or one for each of 3, but has 2"):
            hub.sample_prior(3, condition=["early", "late"])
        assert len(hub.interpolate("a b", "g h", n=3, labels=["early", "late"])) == 3
        assert len(hub.continue_text(["a b"], condition="late", max_len=9)) == 1
        assert hub.encode_latent(["a b"], "early").mean.shape == (1, 6)

    def test_measure_knows_the_labels(self, labelled):
        from fairseq_seqvae.measure import figures

        with commands.captured():
            model, task = figures.load(labelled.checkpoint, labelled.folder)
            held_out = figures.read_split(task, "test")
        found, arrays = figures.measure_held_out(model, held_out, [1.0], 4, 1)
        assert found["latent_dim"] == 6 and arrays["elbo"].shape[0] == 20
        others = held_out._replace(labels=held_out.labels.roll(1))
        assert figures.measure_held_out(model, others, [1.0], 4, 1)[0]["nll"] != found["nll"]
        assert "walk_acc" in figures.measure_reconstruction(model, held_out, task.dictionary, 1, 2, 3)
        assert figures.prior_samples(model, 5, 1).tokens.size(0) == 5


# -- mistakes --


def broken(labelled, tmp_path, labels):
    """The data with other labels of their training lines."""
    folder = tmp_path / "bin"
    commands.preprocess(folder, **labelled.lines)
    add_labels(folder, labelled.lines)
    text = commands.write_lines(tmp_path / "labels", labels)
    flags = ["--srcdict", folder / "label" / "dict.txt", "--trainpref", text, "--destdir", folder / "again"]
    call("preprocess", "--only-source --workers 1", *flags)
    for suffix in ("bin", "idx"):
        (folder / "again" / f"train.{suffix}").replace(folder / "label" / f"train.{suffix}")
    return folder


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda own: own[:-1], "has 200 sentences but 199 labels: both files need the same lines"),
        (lambda own: ["early late", *own[1:]], "line 1 of split 'train'.*has 2 labels.*such as reel_minor"),
        (lambda own: [own[0], "", *own[2:]], "line 2 of split 'train'.*has 0 labels"),
        (
            lambda own: [*own[:2], "other", *own[3:]],
            "line 3 of split 'train'.*a label that the training data do not have",
        ),
    ],
    ids=["fewer", "two", "none", "unknown"],
)
def test_lines_that_do_not_fit_are_refused(labelled, tmp_path, change, message):
    folder = broken(labelled, tmp_path, change([label_of(line) for line in labelled.lines["train"]]))
    with pytest.raises(ValueError, match=f"--labels label: .*{message}"):
        make_training(folder, LABELS, criterion=ELBO)


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--labels kind", "--labels kind: there is no dictionary of labels .*: make it by fairseq-preprocess"),
        ("--labels ../bin", "--labels must be the name of a folder inside DATA"),
        (f"{LABELS} --label-dim 0", "--label-dim must be at least 1 but is 0"),
    ],
)
def test_a_folder_that_is_not_there_is_refused(labelled, flags, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_training(labelled.folder, flags, criterion=ELBO)


def test_counts_of_ngrams_know_no_labels(labelled):
    with pytest.raises(ValueError, match="--disc-inputs ngrams knows no labels: omit it, or --labels label"):
        make_training(labelled.folder, LABELS, "--disc-inputs ngrams")


def test_a_real_sentence_of_another_split_has_its_label(labelled):
    training = make_training(labelled.folder, LABELS, "--gen-pretrain-updates 0 --disc-real valid")
    training.update(training.batches()[0])
    assert training.trainer.get_num_updates() == 1


def test_a_condition_needs_a_model_that_knows_it(labelled, toy, tmp_path):
    with pytest.raises(ValueError, match="--condition 'x' is no label of this model: give one of"):
        generate(labelled, "--gen-subset prior --num-draws 2 --beam 1 --condition x")
    train(toy.folder, tmp_path, "--max-update 1", criterion=ELBO)
    with pytest.raises(ValueError, match="--condition late needs a model that was trained with --labels"):
        commands.generate(toy.folder, tmp_path / LAST, "--gen-subset prior --num-draws 2 --beam 1 --condition late")


def test_a_run_keeps_its_labels(labelled, tmp_path):
    train(labelled.folder, tmp_path / "without", "--max-update 1", criterion=ELBO)
    with pytest.raises(ValueError, match="was trained without labels"):
        train(labelled.folder, tmp_path / "without", LABELS, "--max-update 2", criterion=ELBO)
    with pytest.raises(ValueError, match="was trained with labels: give the same --labels"):
        train(labelled.folder, labelled.run, "--max-update 9")
    folder = tmp_path / "bin"
    commands.preprocess(folder, **labelled.lines)
    add_labels(folder, labelled.lines, lambda line: {"early": "late", "late": "early"}[label_of(line)])
    names = [
        re.findall(r"^\w+", (f / "label" / "dict.txt").read_text(), re.MULTILINE)[:2] for f in (folder, labelled.folder)
    ]
    assert names[0] == names[1][::-1]
    with pytest.raises(ValueError, match="was trained with other labels, or with these in another order"):
        commands.generate(folder, labelled.checkpoint, "--gen-subset prior --num-draws 2 --beam 1")
