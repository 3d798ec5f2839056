"""Checkpoints that are not what they should be, and those made for inference."""

import os
import pickle
import re

import commands
import pytest
import torch
from commands import ELBO, load_checkpoint, room_for, texts

from fairseq_seqvae.export import __main__
from fairseq_seqvae.measure import figures
from fairseq_seqvae.models import SeqVAEModel
from fairseq_seqvae.support import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def short(toy, tmp_path_factory):
    """A checkpoint of seven updates, with a moving average of its parameters."""
    folder = tmp_path_factory.mktemp("short")
    commands.train(toy.folder, folder, "--max-update 7 --store-ema --ema-decay 0.5 --lr 0.05")
    return folder / "checkpoint_last.pt"


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def poison_extra_state(state, trap):
    state["extra_state"]["trap"] = trap
    return state


def poison_options(state, trap):
    state["cfg"]["model"]["dropout"] = trap
    return state


def poison_parameters(state, trap):
    state["model"]["encoder.mean.bias"] = trap
    return state


def nothing_but_poison(state, trap):
    return trap


def model_of_fairseq(state, trap):
    """No foreign class at all: fairseq evaluates a string when it builds this model."""
    state["cfg"]["model"] = {"_name": "wav2vec", "conv_feature_layers": f"__import__('os').system('touch {trap.file}')"}
    state["cfg"]["task"] = {"_name": "audio_pretraining", "task": "audio_pretraining", "data": "."}
    return state


def resume(toy, path, tmp_path):
    commands.train(toy.folder, path.parent, "--max-update 8 --store-ema")


def restore(toy, path, tmp_path):
    commands.train(toy.folder, tmp_path / "new", "--max-update 8 --store-ema --restore-file", path)


def finetune(toy, path, tmp_path):
    commands.train(toy.folder, tmp_path / "new", "--max-update 1 --finetune-from-model", path)


def generate(toy, path, tmp_path):
    commands.generate(toy.folder, path, "--gen-subset prior --num-draws 2 --sampling --beam 1")


def interactive(toy, path, tmp_path):
    commands.interactive(toy.folder, path, ["a b"], tmp_path)


def validate(toy, path, tmp_path):
    commands.call("validate", toy.folder, "--task seqvae --cpu --batch-size 8 --num-workers 0 --path", path)


def from_python(toy, path, tmp_path):
    with commands.captured():
        SeqVAEModel.from_pretrained(path.parent, path.name, toy.folder)


def measured(toy, path, tmp_path):
    figures.load(path, toy.folder)


READERS = [resume, restore, finetune, generate, interactive, validate, from_python, measured]
FOREIGN_CLASS = r"checkpoint_last.pt was not loaded, since that could run code .* contains `(posix|nt).system`"
FOREIGN_MODEL = "--task seqvae needs a SeqVAE, but the model is 'wav2vec': give one of --arch seqvae"
FOREIGN_TASK = "checkpoint_last.pt is a checkpoint of the task 'audio_pretraining': give one that --task seqvae trained"


@pytest.mark.parametrize("found", ["Unsupported global: GLOBAL posix.system was not", "Unsupported class posix.system"])
def test_what_newer_and_older_torch_say_of_code_is_explained(found):
    with pytest.raises(ValueError, match=FOREIGN_CLASS), checkpoints.reading("checkpoint_last.pt"):
        raise RuntimeError(found)


class TestPoison:
    """A file that would make another, `sprung`, if anything in it were run."""

    @pytest.fixture
    def sprung(self, tmp_path):
        return tmp_path / "sprung"

    @staticmethod
    def poisoned(short, sprung, poison):
        path = sprung.parent / "ck" / "checkpoint_last.pt"
        path.parent.mkdir()
        torch.save(poison(load_checkpoint(short), Trap(sprung)), path)
        return path

    @pytest.mark.parametrize(
        "poison, read, message",
        [
            *((poison_extra_state, read, FOREIGN_CLASS) for read in READERS),
            (poison_options, generate, FOREIGN_CLASS),
            (poison_parameters, generate, FOREIGN_CLASS),
            (nothing_but_poison, generate, FOREIGN_CLASS),
            # fairseq-validate takes task and model from the checkpoint and is not asked about.
            (model_of_fairseq, generate, FOREIGN_MODEL),
            (model_of_fairseq, interactive, FOREIGN_MODEL),
            (model_of_fairseq, from_python, FOREIGN_TASK),
            (model_of_fairseq, measured, FOREIGN_TASK),
        ],
    )
    def test_no_command_runs_it(self, toy, short, tmp_path, sprung, poison, read, message):
        path = self.poisoned(short, sprung, poison)
        with pytest.raises(ValueError, match=message):
            read(toy, path, tmp_path)
        assert not sprung.exists()

    @pytest.mark.parametrize("poison", [poison_extra_state, poison_parameters, nothing_but_poison])
    def test_export_does_not(self, short, tmp_path, sprung, poison, capsys):
        path = self.poisoned(short, sprung, poison)
        assert __main__.main([str(path), "--out", str(tmp_path / "out.pt")]) == 2
        assert re.search(FOREIGN_CLASS, capsys.readouterr().err)
        assert not sprung.exists() and not (tmp_path / "out.pt").exists()

    def test_a_pickle_without_torch(self, toy, tmp_path, sprung):
        path = tmp_path / "checkpoint_last.pt"
        path.write_bytes(pickle.dumps(Trap(sprung)))
        with pytest.raises(ValueError, match="checkpoint_last.pt (was not loaded|is damaged)"):
            generate(toy, path, tmp_path)
        assert not sprung.exists()

    def test_torch_before_2_6_is_told_to_load_safely(self, toy, short, tmp_path, sprung, monkeypatch):
        load = torch.load

        def load_of_old(*args, **kwargs):
            # Since 1.13 torch reads this variable; it trusted files where it was not set.
            return load(*args, **{"weights_only": os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == "1", **kwargs})

        monkeypatch.setattr(torch, "load", load_of_old)
        with pytest.raises(ValueError, match=FOREIGN_CLASS):
            generate(toy, self.poisoned(short, sprung, poison_extra_state), tmp_path)
        assert not sprung.exists() and "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ

    def test_who_trusts_files_of_other_programs_need_not_trust_these(self, toy, short, tmp_path, sprung, monkeypatch):
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        with pytest.raises(ValueError, match=FOREIGN_CLASS):
            generate(toy, self.poisoned(short, sprung, poison_extra_state), tmp_path)
        assert not sprung.exists() and os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] == "1"

    @pytest.mark.parametrize("poison", [nothing_but_poison, model_of_fairseq])
    def test_the_traps_work(self, short, tmp_path, sprung, poison):
        state = torch.load(self.poisoned(short, sprung, poison), weights_only=False)
        if poison is model_of_fairseq:
            eval(state["cfg"]["model"]["conv_feature_layers"])
        assert sprung.exists()


def checkpoints_read(path):
    with checkpoints.reading(path):
        torch.load(path, map_location="cpu", weights_only=True)


@pytest.mark.parametrize(
    "names, newest",
    [
        ("checkpoint_last checkpoint_9_90 checkpoint9", "checkpoint_last"),
        ("checkpoint_9_90 checkpoint_10_91 checkpoint_2_100", "checkpoint_10_91"),
        ("checkpoint9 checkpoint_9_90 checkpoint_best", "checkpoint9"),
        ("checkpoint_best checkpoint.best_loss_2.5", "checkpoint_best"),  # by time
    ],
)
def test_checkpoints_are_ordered_by_update_whatever_the_clock_said(tmp_path, names, newest):
    for age, name in enumerate(names.split()):
        (tmp_path / f"{name}.pt").touch()
        seconds = 1000 + age * (1 if "best" not in newest else -1)
        os.utime(tmp_path / f"{name}.pt", (seconds, seconds))
    assert max(tmp_path.iterdir(), key=checkpoints.age).stem == newest


class TestDamage:
    @pytest.mark.parametrize("size", [0, 3, 1000, 100_000])
    def test_a_stump_is_named_and_what_can_take_its_place(self, toy, short, tmp_path, size):
        (tmp_path / "checkpoint_1_5.pt").write_bytes(short.read_bytes())
        (tmp_path / "checkpoint_last.pt").write_bytes(short.read_bytes()[:size])
        with pytest.raises(ValueError, match="checkpoint_last.pt is damaged.* newest .* is checkpoint_1_5.pt; copy"):
            resume(toy, tmp_path / "checkpoint_last.pt", tmp_path)

    def test_alone_it_is_not_to_be_deleted(self, tmp_path):
        (tmp_path / "checkpoint_last.pt").touch()
        with pytest.raises(ValueError, match="checkpoint_last.pt is damaged.* away to start from scratch, or give"):
            checkpoints_read(tmp_path / "checkpoint_last.pt")

    @pytest.mark.parametrize(
        "error",
        [
            OSError(24, "Too many open files"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        ],
    )
    def test_a_machine_that_cannot_read_it_does_not_make_it_damaged(self, error):
        with pytest.raises(type(error), match=re.escape(str(error))), checkpoints.reading("checkpoint_last.pt"):
            raise error

    def test_a_folder_is_no_damaged_file(self, toy, short, tmp_path):
        message = "is a folder: give a file of it, such as checkpoint_best.pt"
        for read in (generate, finetune, restore):
            with pytest.raises(ValueError, match=message):
                read(toy, short.parent, tmp_path)
        with pytest.raises(ValueError, match=message), commands.captured():
            SeqVAEModel.from_pretrained(short.parent.parent, short.parent.name, toy.folder)

    @pytest.mark.parametrize("content", [{"weights": 1}, [1, 2], torch.zeros(3)], ids=["dict", "list", "tensor"])
    def test_files_of_other_programs(self, toy, tmp_path, content):
        torch.save(content, tmp_path / "other.pt")
        for read in (restore, generate):
            with pytest.raises(ValueError, match="other.pt is (no checkpoint of fairseq|damaged, or no checkpoint)"):
                read(toy, tmp_path / "other.pt", tmp_path)

    def test_parameters_of_another_model(self, toy, short, tmp_path):
        state = load_checkpoint(short)
        state["model"] = {"encoder.embed_tokens.weight": torch.zeros(20, 8)}
        torch.save(state, tmp_path / "other.pt")
        for read in (generate, finetune):
            with pytest.raises(ValueError, match="the checkpoint holds another model than a SeqVAE: give one of"):
                read(toy, tmp_path / "other.pt", tmp_path)

    def test_another_criterion_continues_only_with_a_new_optimizer(self, toy, short, tmp_path):
        flags = ("--lr 0 --max-update 8 --restore-file", short)
        with pytest.raises(AssertionError, match="Criterion does not match; please reset the optimizer"):
            commands.train(toy.folder, tmp_path / "ck", *flags, criterion=ELBO)
        commands.train(toy.folder, tmp_path / "ck", *flags, "--reset-optimizer", criterion=ELBO)
        before, after = load_checkpoint(short)["model"], load_checkpoint(tmp_path / "ck/checkpoint_last.pt")["model"]
        assert all(torch.equal(after[name], before[name]) for name in after)


class TestNothingStartsFromScratchUnasked:
    def test_a_mistyped_file_to_restore(self, toy, short, tmp_path):
        (tmp_path / "checkpoint_last.pt").write_bytes(short.read_bytes())
        with pytest.raises(FileNotFoundError, match="--restore-file none.pt does not exist: give a checkpoint, or"):
            commands.train(toy.folder, tmp_path, "--restore-file none.pt --max-update 2")
        assert (tmp_path / "checkpoint_last.pt").read_bytes() == short.read_bytes()

    def test_a_command_that_names_its_own_checkpoint(self, toy, tmp_path):
        last = tmp_path / "checkpoint_last.pt"
        for stop in (1, 2):
            commands.train(toy.folder, tmp_path, "--max-update", stop, "--restore-file", last)
        assert load_checkpoint(last)["optimizer_history"][-1]["num_updates"] == 2
        last.rename(tmp_path / "checkpoint_old.pt")
        with pytest.raises(FileNotFoundError, match="--restore-file .*checkpoint_last.pt does not exist"):
            commands.train(toy.folder, tmp_path, "--max-update 1 --restore-file", last)

    @pytest.mark.parametrize("kind", ["--no-save-optimizer-state", "exported"])
    def test_a_checkpoint_without_the_state_of_the_optimizer(self, toy, short, tmp_path, kind):
        last = tmp_path / "checkpoint_last.pt"
        if kind == "exported":
            assert __main__.main([str(short), "--out", str(last)]) == 0
        else:
            commands.train(toy.folder, tmp_path, "--max-update 7", kind)
        before = last.read_bytes()
        with pytest.raises(ValueError, match="last.pt holds parameters after 7 updates but no state of the optimizer"):
            commands.train(toy.folder, tmp_path, "--max-update 9")
        assert last.read_bytes() == before
        commands.train(toy.folder, tmp_path, "--max-update 2 --reset-optimizer")
        assert load_checkpoint(last)["optimizer_history"][-1]["num_updates"] == 2


class TestAverageThatBeginsLater:
    """`--store-ema` from a checkpoint without a moving average."""

    def test_resumed(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path, "--max-update 7")
        before = load_checkpoint(tmp_path / "checkpoint_last.pt")["model"]
        output = commands.train(toy.folder, tmp_path, "--max-update 8 --store-ema --ema-decay 0.75")
        assert "the checkpoint holds no moving average: it begins as a copy of the parameters" in output
        state = load_checkpoint(tmp_path / "checkpoint_last.pt")
        for name, average in state["extra_state"]["ema"].items():
            if average.is_floating_point():
                torch.testing.assert_close(average, 0.75 * before[name] + 0.25 * state["model"][name])

    def test_fine_tuned_with_a_new_discriminator(self, toy, tmp_path):
        commands.train(toy.folder, tmp_path / "vae", "--max-update 4", criterion=ELBO)
        vae = tmp_path / "vae" / "checkpoint_last.pt"
        flags = "--max-update 1 --store-ema --ema-decay 0.75 --finetune-from-model"
        commands.train(toy.folder, tmp_path / "pg", flags, vae)
        before, state = load_checkpoint(vae)["model"], load_checkpoint(tmp_path / "pg" / "checkpoint_last.pt")
        average = state["extra_state"]["ema"]
        assert average.keys() == state["model"].keys()
        name = "decoder.output.bias"
        torch.testing.assert_close(average[name], 0.75 * before[name] + 0.25 * state["model"][name])
        # Nothing has moved the discriminator yet: its average is the one that training began with.
        assert torch.equal(average["discriminator.output.bias"], state["model"]["discriminator.output.bias"])


def test_a_finished_run_is_left_as_it_is(toy, short, tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(short.read_bytes())
    output = commands.train(toy.folder, tmp_path, "--max-update 7 --store-ema")
    assert "the run has already made 7 updates: nothing is left to do until --max-update 7" in output
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint_last.pt"]
    assert (tmp_path / "checkpoint_last.pt").read_bytes() == short.read_bytes()
    commands.train(toy.folder, tmp_path, "--max-update 8 --store-ema")
    assert load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 8


def test_mean_of_two_checkpoints(toy, tmp_path):
    """What fairseq's scripts/average_checkpoints.py does, which the package does not contain."""
    commands.train(toy.folder, tmp_path, "--max-update 7 --save-interval-updates 6 --lr 0.05")
    first, second = (load_checkpoint(tmp_path / name) for name in ("checkpoint_1_6.pt", "checkpoint_last.pt"))
    mean = {}
    for name, value in first["model"].items():
        total = value + second["model"][name]
        mean[name] = total / 2 if total.is_floating_point() else total // 2
    torch.save({**first, "model": mean}, tmp_path / "mean.pt")
    output = commands.generate(toy.folder, tmp_path / "mean.pt", "--gen-subset test --beam 2")
    assert len(texts(output)) == len(toy.test)


class TestExport:
    def export(self, checkpoint, out, *flags):
        assert __main__.main([str(checkpoint), "--out", str(out), *flags]) == 0
        return out

    def test_what_only_training_needs_is_left_out(self, short, tmp_path):
        before = load_checkpoint(short)
        state = torch.load(self.export(short, tmp_path / "model.pt"), weights_only=True)
        assert "last_optimizer_state" not in state and "ema" not in state["extra_state"]
        assert not any("discriminator" in name or "rollout" in name for name in state["model"])
        for name, value in before["model"].items():
            if not name.startswith(("discriminator.", "rollout_decoder.")):
                assert torch.equal(state["model"][name], value)
        assert (tmp_path / "model.pt").stat().st_size < short.stat().st_size / 3
        assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]

    def test_it_generates_what_the_checkpoint_generates(self, toy, short, tmp_path):
        exported = self.export(short, tmp_path / "model.pt")
        for flags in ("--gen-subset test --beam 2", "--gen-subset prior --num-draws 9 --sampling --beam 1"):
            outputs = [commands.generate(toy.folder, path, flags) for path in (short, exported)]
            assert texts(outputs[0]) == texts(outputs[1])
        outputs = [commands.interactive(toy.folder, path, ["a b c"], tmp_path) for path in (short, exported)]
        assert texts(outputs[0]) == texts(outputs[1])
        with commands.captured():
            hubs = [SeqVAEModel.from_pretrained(p.parent, p.name, toy.folder) for p in (short, exported)]
        assert hubs[0].sample_prior(5) == hubs[1].sample_prior(5)
        validate(toy, exported, tmp_path)
        finetune(toy, exported, tmp_path)

    def test_moving_average(self, toy, short, tmp_path):
        state = load_checkpoint(self.export(short, tmp_path / "model.pt", "--ema"))
        average = load_checkpoint(short)["extra_state"]["ema"]
        name = "decoder.output.bias"
        assert not torch.equal(state["model"][name], load_checkpoint(short)["model"][name])
        assert all(torch.equal(value, average[name]) for name, value in state["model"].items())
        generate(toy, tmp_path / "model.pt", tmp_path)

    def test_nothing_is_overwritten_unless_asked_for(self, short, tmp_path, capsys):
        out = tmp_path / "model.pt"
        out.write_text("mine")
        assert __main__.main([str(short), "--out", str(out)]) == 2
        assert "model.pt exists already: choose another name or overwrite with --force" in capsys.readouterr().err
        assert out.read_text() == "mine"
        self.export(short, out, "--force")

    def test_what_cannot_be_written_whole_leaves_what_was_there(self, short, tmp_path, capsys):
        out = tmp_path / "model.pt"
        out.write_text("mine")
        with room_for(2000):
            assert __main__.main([str(short), "--out", str(out), "--force"]) == 2
        assert "File too large" in capsys.readouterr().err
        assert out.read_text() == "mine" and [file.name for file in tmp_path.iterdir()] == ["model.pt"]

    def test_missing_folder(self, short, tmp_path, capsys):
        assert __main__.main([str(short), "--out", str(tmp_path / "none" / "model.pt")]) == 2
        assert (
            f"there is no folder {tmp_path / 'none'} to write model.pt into: make it first" in capsys.readouterr().err
        )

    @pytest.mark.parametrize(
        "make, message",
        [
            (lambda state: {**state, "model": {}}, "the checkpoint is not of a SeqVAE but of 'seqvae'"),
            (lambda state: {"weights": 1}, "is no checkpoint of fairseq .KeyError: 'model'.: give a file"),
            (
                lambda state: {**state, "extra_state": {"train_iterator": {}}},
                "has no moving average of the parameters: train with --store-ema",
            ),
        ],
    )
    def test_what_is_no_such_checkpoint(self, short, tmp_path, capsys, make, message):
        torch.save(make(load_checkpoint(short)), tmp_path / "other.pt")
        assert __main__.main([str(tmp_path / "other.pt"), "--out", str(tmp_path / "model.pt"), "--ema"]) == 2
        assert re.search(message, capsys.readouterr().err)

    def test_missing_file(self, tmp_path, capsys):
        assert __main__.main([str(tmp_path / "none.pt"), "--out", str(tmp_path / "model.pt")]) == 2
        assert "none.pt: No such file or directory" in capsys.readouterr().err
