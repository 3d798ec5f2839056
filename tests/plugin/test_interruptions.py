"""A full disk, a lost worker, Ctrl-C: no half-written file is left, and a sentence says how to continue."""

import contextlib
import errno
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest

from fairseq_seqvae.melody.__main__ import main as melody
from fairseq_seqvae.support import manners
from fairseq_seqvae.support.files import whole_file


def files_in(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


class TestWholeFile:
    def test_takes_its_place_at_the_end(self, tmp_path):
        target = tmp_path / "a.txt"
        target.write_text("before")
        with whole_file(target) as partial:
            partial.write_text("after")
            assert target.read_text() == "before" and partial.suffix == ".txt"
        assert target.read_text() == "after" and files_in(tmp_path) == ["a.txt"]

    @pytest.mark.parametrize("end", [OSError, KeyboardInterrupt])
    def test_leaves_what_was_there_after_an_exception(self, tmp_path, end):
        target = tmp_path / "a.txt"
        target.write_text("before")
        with pytest.raises(end), whole_file(target) as partial:
            partial.write_text("af")
            raise end
        assert target.read_text() == "before" and files_in(tmp_path) == ["a.txt"]


class TestEndsOfCommands:
    @pytest.fixture
    def hook(self, monkeypatch):
        """Python's own, for a command of fairseq."""
        monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
        monkeypatch.setattr(sys, "argv", ["/some/where/fairseq-train", "data"])

    def end(self, error, capsys):
        sys.excepthook(type(error), error, None)
        return capsys.readouterr().err

    def test_ctrl_c_is_a_sentence(self, hook, capsys):
        manners.explain_ends_of("fairseq-")
        assert self.end(KeyboardInterrupt(), capsys).startswith("interrupted: existing checkpoints are intact, and")

    def test_a_lost_worker_keeps_its_traceback(self, hook, capsys):
        manners.explain_ends_of("fairseq-")
        said = self.end(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), capsys)
        assert said.startswith("RuntimeError: DataLoader worker (pid 7)") and "use fewer --num-workers" in said

    def test_an_unread_pipe_is_no_error(self, hook, monkeypatch, capsys):
        manners.explain_ends_of("fairseq-")
        monkeypatch.setattr(manners, "let_go_of_output", lambda: True)
        assert self.end(BrokenPipeError(errno.EPIPE, "Broken pipe"), capsys) == ""
        monkeypatch.setattr(manners, "let_go_of_output", lambda: False)
        assert "BrokenPipeError" in self.end(BrokenPipeError(errno.EPIPE, "Broken pipe"), capsys)

    def test_other_errors_are_as_before(self, hook, capsys):
        manners.explain_ends_of("fairseq-")
        assert self.end(ValueError("wrong"), capsys) == "ValueError: wrong\n"

    def test_asked_twice_it_explains_once(self, hook):
        manners.explain_ends_of("fairseq-")
        first = sys.excepthook
        manners.explain_ends_of("fairseq-")
        assert sys.excepthook is first is not sys.__excepthook__

    def test_in_other_programs_exceptions_are_theirs(self, hook, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["my-program"])
        manners.explain_ends_of("fairseq-")
        assert sys.excepthook is sys.__excepthook__


@pytest.mark.parametrize(
    "end, status, message",
    [
        (KeyboardInterrupt(), 130, "to-midi: interrupted: existing files are intact"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.mid"), 2, "error: a.mid: No space left on device"),
    ],
)
def test_commands_end_in_a_sentence(tmp_path, monkeypatch, capsys, end, status, message):
    def write_half(self, content):
        with open(self, "wb") as file:
            file.write(content[: len(content) // 2])
        raise end

    monkeypatch.setattr(Path, "write_bytes", write_half)
    (tmp_path / "notes.txt").write_text("60 _ _ 62\n")
    assert melody(["to-midi", str(tmp_path / "notes.txt"), "--out", str(tmp_path / "out")]) == status
    assert message in capsys.readouterr().err
    assert files_in(tmp_path) == ["notes.txt"]


class TestCheckpoints:
    @pytest.fixture
    def trained(self, toy, tmp_path):
        """A folder with checkpoints of 3 updates."""
        commands.train(toy.folder, tmp_path, "--max-update 3")
        return tmp_path

    def assert_continues(self, toy, folder):
        assert files_in(folder) == ["checkpoint_best.pt", "checkpoint_last.pt"]
        output = commands.train(toy.folder, folder, "--max-update 4")
        assert "checkpoint_last.pt (epoch 1 @ 3 updates)" in output

    def test_full_disk(self, toy, trained, monkeypatch):
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between fairseq's three tries
        message = "no checkpoint could be written to --save-dir .*File too large.: free some space"
        with commands.room_for(20_000), pytest.raises(OSError, match=message):
            commands.train(toy.folder, trained, "--max-update 5")
        self.assert_continues(toy, trained)

    def test_ctrl_c_while_one_is_written(self, toy, trained, monkeypatch):
        import torch

        def save(state, file):
            file.write(b"PK half of a checkpoint")
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(torch, "save", save)
            with pytest.raises(KeyboardInterrupt):
                commands.train(toy.folder, trained, "--max-update 5")
        (trained / "checkpoint_best.pt.tmp").unlink(missing_ok=True)
        self.assert_continues(toy, trained)


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path):
    target = tmp_path / "out.png"
    with pytest.raises(PermissionError) as caught, whole_file(target) as partial:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(partial))
    assert caught.value.filename == str(target) and not list(tmp_path.iterdir())


def test_a_full_disk_leaves_something_to_continue_from(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = str(manners.unwritable_checkpoint(str(tmp_path), full))
    assert "No space left on device" in said and "it starts from scratch, since there is no checkpoint yet" in said
    # The clock has been set back: what was written last seems oldest.
    for age, name in enumerate(("checkpoint_best.pt", "checkpoint1.pt", "checkpoint_2_8.pt", "checkpoint_2_11.pt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    said = str(manners.unwritable_checkpoint(str(tmp_path), full))
    assert (
        "copy checkpoint_2_11.pt, the newest checkpoint there, to checkpoint_last.pt, which does not exist yet" in said
    )
    (tmp_path / "checkpoint_last.pt").touch()
    assert "it continues from the last checkpoint" in str(manners.unwritable_checkpoint(str(tmp_path), full))


@pytest.mark.slow
class TestProcesses:
    """Real commands, in processes of their own."""

    @pytest.fixture(autouse=True)
    def nothing_is_left_running(self):
        self.processes = []
        yield
        for process in self.processes:
            process.kill()

    def start(self, command, *arguments):
        program = Path(sys.executable).parent / f"fairseq-{command}"
        process = subprocess.Popen(
            [program, *commands.split_flags(*arguments), "--user-dir", commands.USER_DIR],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            # What a shell starts in the background ignores Ctrl-C, and so would all that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.processes.append(process)
        return process

    def output_until(self, process, word):
        lines = []
        for line in process.stdout:
            lines.append(line)
            if word in line:
                return lines
        raise AssertionError("".join(lines))

    def test_ctrl_c_in_training(self, toy, tmp_path):
        flags = commands.training_flags(toy.folder, tmp_path, "--max-update 1000000 --save-interval-updates 5")
        process = self.start("train", flags, "--keep-interval-updates 1")
        self.output_until(process, "Saved checkpoint")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=commands.PATIENCE)
        assert process.returncode == -signal.SIGINT
        assert "the same fairseq-train command continues from the last one" in rest and "Traceback" not in rest
        for file in tmp_path.glob("*.pt"):
            assert commands.load_checkpoint(file)["optimizer_history"][-1]["num_updates"] >= 5

    def test_ctrl_c_in_generation(self, trained):
        process = self.start(
            "generate",
            commands.generation_flags(trained.folder, trained.checkpoint),
            "--gen-subset prior --num-draws 1000000 --sampling --beam 1 --batch-size 8",
        )
        self.output_until(process, "D-0")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=commands.PATIENCE)
        assert process.returncode == -signal.SIGINT
        assert "interrupted: " in rest and "Traceback" not in rest

    @pytest.mark.parametrize("command", ["fairseq-generate", "flags"])
    def test_an_unread_pipe(self, trained, tmp_path, command):
        python = Path(sys.executable).parent
        flags = commands.generation_flags(trained.folder, trained.checkpoint)
        words = [python / "fairseq-generate", *flags, "--user-dir", commands.USER_DIR]
        words += ["--gen-subset", "prior", "--num-draws", "3000", "--sampling", "--beam", "1", "--batch-size", "100"]
        if command == "flags":
            words = [sys.executable, "-m", "fairseq_seqvae", "flags"]
        line = f"{shlex.join(map(str, words))} 2> {tmp_path / 'errors'} | head -n 3"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(commands.ROOT),
        }
        subprocess.run(
            ["bash", "-c", line], env=environment, stdout=subprocess.PIPE, timeout=commands.PATIENCE, check=True
        )
        errors = (tmp_path / "errors").read_text()
        assert "Traceback" not in errors and "BrokenPipe" not in errors, errors

    def test_lost_worker(self, toy, tmp_path):
        flags = commands.training_flags(toy.folder, tmp_path, "--max-update 1000000 --save-interval-updates 5")
        process = self.start("train", flags, "--num-workers 1 --keep-interval-updates 1")
        self.output_until(process, "Saved checkpoint")
        deadline = time.monotonic() + commands.PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            # A worker lives for an epoch.
            for worker in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself meanwhile
                    os.kill(int(worker), signal.SIGKILL)
            time.sleep(0.01)
        rest, _ = process.communicate(timeout=commands.PATIENCE)
        assert process.returncode == 1
        assert "DataLoader worker" in rest and "use fewer --num-workers" in rest
        for file in tmp_path.glob("*.pt"):
            assert commands.load_checkpoint(file)["optimizer_history"][-1]["num_updates"] >= 5
