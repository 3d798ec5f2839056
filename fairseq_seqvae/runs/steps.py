"""What the run scripts of the examples share: steps that are shown, run once, and skipped when done already."""

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
TRAINING = "train"  # the step whose log has the curves


class StepError(Exception):
    """A step failed; the message says what to do."""


class Interrupted(StepError):
    """The user stopped a step."""


def read_yaml(path: Path, groups: bool = True) -> dict[str, Any]:
    """The mapping in a YAML file, of plain values.

    Args:
        path: the file
        groups: its values must be mappings, not lists of names

    Raises:
        ValueError: the file holds anything else
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no YAML ({' '.join(str(error).split())[:200]}): correct it.") from None

    def fits(value: Any) -> bool:
        names = isinstance(value, list) and all(isinstance(name, str) for name in value)
        return isinstance(value, dict) or (names and not groups)

    if not isinstance(found, dict) or not all(map(fits, found.values())):
        raise ValueError(f"{path} must hold names with options below each, as in examples/names/config/seqvae.yaml.")
    return found


def flags_from_yaml(path: Path, overrides: dict[str, str] | None = None) -> list[str]:
    """The flags of fairseq-train that mean the same as a YAML file for fairseq-hydra-train.

    Args:
        path: groups of options, as in config/seqvae.yaml
        overrides: "group.key" -> value, as on hydra's command line
    """
    import yaml

    config = read_yaml(path)
    for name, value in (overrides or {}).items():
        group, key = name.split(".")
        config[group][key] = yaml.safe_load(value)
    choices = {"task": "task", "model": "arch", "criterion": "criterion", "optimizer": "optimizer"}
    choices["lr_scheduler"] = "lr-scheduler"
    flags = []
    for group, options in config.items():
        for key, value in options.items():
            if key == "_name":
                flags += [f"--{choices[group]}", str(value)]
            elif value == "???" or value is False or value is None or (group, key) == ("task", "data"):
                continue
            elif value is True:
                flags.append(f"--{key.replace('_', '-')}")
            else:
                text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
                flags += [f"--{key.replace('_', '-')}", text]
    return flags


class Steps:
    """Runs commands one after the other in a folder that remembers which of them are done.

    Args:
        folder: where everything goes; a later run with the same commands continues where this one ended
        root: where commands are run; paths below it are shown relative to it
        part_of: steps in another folder, to whose commands and time these are added
    """

    def __init__(self, folder: Path, root: Path, part_of: "Steps | None" = None):
        self.folder = folder
        self.root = root
        self.commands: list[str] = part_of.commands if part_of else []
        self.started: float = part_of.started if part_of else time.monotonic()
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self.bin = Path(sys.executable).parent

    def is_done(self, name: str) -> bool:
        """Whether a step of this name has been finished."""
        return (self.folder / "logs" / f"{slug(name)}.done").exists()

    def run(
        self,
        name: str,
        command: Sequence[object],
        output: Path | None = None,
        training: bool = False,
        inputs: Sequence[Path] = (),
    ) -> None:
        """Run one command unless it is done; its output goes to a log, and to *output* if given.

        Args:
            name: shown, and the name of the log
            command: program and arguments, strings and paths
            output: file for standard output, written as a whole or not at all
            training: show a line of figures now and then; if it is interrupted, the same command continues it
            inputs: files of whose content the result is made

        Raises:
            StepError: the command failed, or the folder was made by another command, or of other files.
        """
        words = [str(word) for word in command]
        shown = " ".join(shlex.quote(self._short(word)) for word in words) + (
            f" > {self._short(output)}" if output else ""
        )
        self.commands.append(shown)
        stamp = self.folder / "logs" / f"{slug(name)}.done"
        log = self.folder / "logs" / f"{slug(name)}.log"
        digest = hashlib.sha256(shown.encode() + b"".join(map(_content, inputs))).hexdigest()
        begun = stamp.with_suffix(".begun")  # what another command has begun cannot be gone on with either
        for earlier in (stamp, begun):
            if earlier.exists() and earlier.read_text() != digest:
                raise StepError(
                    f"{self.folder} holds the results of another command, or of other files, for the step '{name}': "
                    "delete the folder, or choose another one with --out."
                )
        if stamp.exists():
            print(f"[done already] {name}", flush=True)
            return
        print(f"\n[{time.monotonic() - self.started:4.0f} s] {name}\n  $ {shown}", flush=True)
        log.unlink(missing_ok=True)
        if training:
            begun.write_text(digest)
        partial = output.with_name(output.name + ".partial") if output else None
        try:
            code = self._execute(words, log, partial, training)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted: run the same command again, and it continues from '{name}'.") from None
        if code != 0:
            tail = "".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-12:])
            raise StepError(f"the step '{name}' failed with exit status {code}; the end of {log}:\n{tail}")
        if partial and output:
            os.replace(partial, output)
        new_stamp = stamp.with_suffix(".partial")
        new_stamp.write_text(digest)
        os.replace(new_stamp, stamp)

    def _execute(self, words: list[str], log: Path, output: Path | None, training: bool) -> int:
        """Run a command; its exit status. With a file for standard output, warnings go to the log alone."""
        # These models are too small for threads to pay; on a busy machine threads that wait for each other cost much.
        environment = {
            "OMP_NUM_THREADS": "1",
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
        }
        with open(log, "a", encoding="utf-8") as log_file, _opened(output) as sink:
            errors = log_file if output else subprocess.STDOUT
            process = subprocess.Popen(
                words, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=self.root, env=environment
            )
            try:
                for line in process.stdout or ():
                    (sink or log_file).write(line)
                    if training:
                        _show_progress(line)
                return process.wait()
            except KeyboardInterrupt:
                process.terminate()  # it need not have been told by the terminal
                process.wait()
                raise

    def finish(self, results: dict[str, Path]) -> None:
        """Write down the commands and print where the results are."""
        script = self.folder / "commands.sh"
        script.write_text("cd " + shlex.quote(str(self.root)) + "\n" + "\n".join(self.commands) + "\n", encoding="utf-8")
        print(f"\nDone in {time.monotonic() - self.started:.0f} s. The commands above are in {script}.\n")
        width = max(map(len, results))
        for what, path in results.items():
            print(f"  {what:<{width}}  {path}")

    def _short(self, word: str | Path) -> str:
        """Paths below the root relative to it: that is where the commands are run."""
        path = Path(word)
        if path.is_absolute() and path.is_relative_to(self.root):
            return str(path.relative_to(self.root))
        return str(word)


def train(
    steps: Steps,
    example: Path,
    data: Path,
    overrides: dict[str, str],
    smoke: dict[str, str],
    recipe: str = "seqvae",
    start: Path | None = None,
    further: bool = False,
) -> Path:
    """fairseq-train with the options of the example's YAML file *recipe*; the checkpoint it ends with.

    Args:
        start: checkpoint to begin with, of another training
        further: it is not the example's first training, as with *start*: it has a folder and a name of its own
    """
    further = further or start is not None
    checkpoints = steps.folder / (recipe if further else "checkpoints")
    flags = flags_from_yaml(_recipe(example, recipe), {**overrides, **smoke})
    if start:
        flags += ["--finetune-from-model", str(start)]
    steps.run(
        f"{TRAINING} {recipe}" if further else TRAINING,
        ["fairseq-train", data, "--user-dir", PACKAGE, *flags, "--save-dir", checkpoints],
        training=True,
    )
    return checkpoints / "checkpoint_last.pt"


def _recipe(example: Path, name: str) -> Path:
    return example / "config" / f"{name}.yaml"


def generate(steps: Steps, name: str, data: Path, checkpoint: Path, output: Path, *flags: str) -> None:
    """fairseq-generate into a file."""
    command = ["fairseq-generate", data, "--user-dir", PACKAGE, "--task", "seqvae", "--path", checkpoint, "--cpu"]
    steps.run(name, [*command, *flags], output=output)


def plot_curves(steps: Steps, example: Path, smoke: dict[str, str], recipe: str = "seqvae") -> Path:
    """The training curves as a picture, with lines where the player changes."""
    task = read_yaml(_recipe(example, recipe))["task"]
    turns = [key for key in ("gen_pretrain_updates", "disc_pretrain_updates") if key in task]
    ends = list(itertools.accumulate(int(smoke.get(f"task.{key}", task[key])) for key in turns))
    boundaries = ["--boundaries", ",".join(map(str, ends))] if ends else []
    picture = steps.folder / "curves.png"
    log = steps.folder / "logs" / f"{slug(TRAINING)}.log"
    steps.run(
        "draw the training curves",
        [
            sys.executable,
            "-m",
            "fairseq_seqvae.tools.curves",
            log,
            "--out",
            picture,
            *boundaries,
            "--force",
        ],
    )
    return picture


def parse_arguments(
    description: str, default_folder: str, root: Path, recipes: Sequence[str] = ("seqvae",), parts: Sequence[str] = ()
) -> argparse.Namespace:
    """Arguments that all run scripts take; the default folder is below *root*.

    Args:
        recipes: names of YAML files to choose from, the default first
        parts: names of what the script makes one after the other, of which --only chooses; default: all
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--out", type=Path, help=f"folder for everything that is made (default: {default_folder} in the repository)"
    )
    parser.add_argument("--smoke", action="store_true", help="a few updates only, to see that everything runs")
    parser.add_argument("--seed", type=int, default=1, help="seed of training and sampling (default: 1)")
    if len(recipes) > 1:
        parser.add_argument("--recipe", choices=recipes, default=recipes[0], help=f"default: {recipes[0]}")
    if parts:
        parser.add_argument("--only", metavar="NAME,...", help=f"these alone (default: all of {', '.join(parts)})")
    args = parser.parse_args()
    if parts:
        args.only = list(dict.fromkeys(args.only.split(","))) if args.only else list(parts)
        if unknown := [name for name in args.only if name not in parts]:
            parser.error(f"--only: {', '.join(unknown)} is not among {', '.join(parts)}")
    if getattr(args, "recipe", recipes[0]) != recipes[0]:
        default_folder += f"-{args.recipe}"
    folder = args.out or root / (default_folder + ("-smoke" if args.smoke else ""))
    args.out = folder.resolve()
    return args


def main(body: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    """Run *body* and turn failures into one message."""
    try:
        body(args)
    except (Interrupted, KeyboardInterrupt) as stop:  # within a step, and between two
        print(f"\n{str(stop) or 'interrupted: run the same command again, and it continues from here.'}", file=sys.stderr)
        return 130
    except (StepError, OSError) as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    return 0


def _opened(output: Path | None) -> contextlib.AbstractContextManager:
    return open(output, "w", encoding="utf-8") if output else contextlib.nullcontext()


def _content(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def slug(name: str) -> str:
    """The name of a step as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _show_progress(line: str) -> None:
    """One short line for each line of figures that fairseq logs."""
    found = re.search(r"\| (train_inner|valid) \| (\{.*\})$", line.strip())
    if not found:
        return
    tag, stats = found[1], json.loads(found[2])
    prefix = "valid_" if tag == "valid" else ""
    keys = ["loss", "kl", "rec_acc", "rec_acc_notes", "bigram_jsd", "reward"]
    if tag == "train_inner":  # on held-out data an untrained discriminator is judged too: that would only confuse
        keys += ["d_acc_real", "d_acc_fake"]
    figures = [f"{key} {stats[prefix + key]}" for key in keys if stats.get(prefix + key) not in (None, "None")]
    print(
        f"    {'held-out' if tag == 'valid' else 'update':<8} {stats[prefix + 'num_updates']:>5}  {'  '.join(figures)}",
        flush=True,
    )
