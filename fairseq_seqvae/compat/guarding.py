"""What a checkpoint may ask fairseq to build."""

import argparse
import ast
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

Function = Callable[..., Any]

# Options that name files of Python: a checkpoint may not choose what is imported.
MODULES = ("module", "disc_module")
# fairseq's criterions that open no file and evaluate no text.
HARMLESS_CRITERIONS = ("cross_entropy", "label_smoothed_cross_entropy")


def check_before_building(original: Function) -> Function:
    """Judge what a checkpoint names before any of it is built.

    fairseq builds whatever task, model and criterion a checkpoint names, and some of them evaluate text of their
    options as Python code. In fairseq's commands only a SeqVAE is built, and a language model of fairseq, none of whose
    options holds a call. Other programs may load what they like.
    """
    from fairseq import checkpoint_utils

    @functools.wraps(original)
    def load_model_ensemble_and_task(
        filenames: list[str], arg_overrides: Any = None, task: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        read = checkpoint_utils.load_checkpoint_to_cpu

        def read_and_judge(path: str, arg_overrides: Any = None, *more: Any, **others: Any) -> Any:
            state = read(path, arg_overrides, *more, **others)
            judge(path, state, task, arg_overrides or {})
            return state

        if kwargs.get("state") is not None:
            judge(filenames[0], kwargs["state"], task, arg_overrides or {})
        checkpoint_utils.load_checkpoint_to_cpu = read_and_judge
        try:
            return original(filenames, arg_overrides, task, *args, **kwargs)
        finally:
            checkpoint_utils.load_checkpoint_to_cpu = read

    return load_model_ensemble_and_task


def judge(path: str, state: dict[str, Any], task: Any, overrides: Mapping[str, Any]) -> None:
    """Refuse the checkpoint *state* of the file *path* if it asks for more than it may.

    Args:
        task: that builds the model; None: the one that the checkpoint names
        overrides: options that the caller gives in place of those in the checkpoint

    Raises:
        ValueError: so it does
    """
    from fairseq.models import ARCH_MODEL_REGISTRY, MODEL_REGISTRY
    from fairseq.tasks import TASK_REGISTRY

    cfg = state.get("cfg")
    if state.get("args") is not None or cfg is None:  # of fairseq before 0.10, which a SeqVAE never was
        args = state.get("args")
        cfg = argparse.Namespace(task=args, model=args, criterion=args)
    names = {part: _name(getattr(cfg, part, None), part) for part in ("task", "model", "criterion")}
    builder = TASK_REGISTRY.get(names["task"]) if task is None else type(task)
    model = ARCH_MODEL_REGISTRY.get(names["model"], MODEL_REGISTRY.get(names["model"]))
    if getattr(builder, "builds_seqvae_only", False):  # and it refuses all other models
        _ignore_modules(cfg.model, overrides)
        if hasattr(model, "check_saved"):
            model.check_saved(path, state)
        if task is None:
            _refuse_other_criterions(path, names["criterion"], cfg)
    elif is_command():
        if getattr(TASK_REGISTRY.get(names["task"]), "builds_seqvae_only", False):
            raise ValueError(
                f"{path} is a checkpoint of the task {names['task']!r}, which this command does not use: give it to "
                "fairseq-generate --task seqvae, fairseq-validate --task seqvae or python -m fairseq_seqvae measure."
            )
        _refuse_other_models(path, names, model, cfg)


def is_command() -> bool:
    """Whether this program is one of fairseq's commands."""
    program = Path(sys.argv[0])
    return program.name.startswith("fairseq-") or program.parent.name == "fairseq_cli"


def _name(node: Any, part: str) -> str | None:
    if isinstance(node, str):
        return node
    for key in ("_name", {"model": "arch"}.get(part, part)):
        if isinstance(name := getattr(node, key, None), str):
            return name
    return None


def _ignore_modules(options: Any, overrides: Mapping[str, Any]) -> None:
    for name in MODULES:
        if getattr(options, name, None) is not None and name not in overrides:
            setattr(options, name, None)


def _refuse_other_criterions(path: str, name: str | None, cfg: Any) -> None:
    from fairseq.criterions import CRITERION_REGISTRY

    owner = getattr(CRITERION_REGISTRY.get(name), "__module__", "fairseq.")
    if name is not None and owner.startswith("fairseq.") and name not in HARMLESS_CRITERIONS:
        raise ValueError(
            f"{path} was trained with --criterion {name}, which could run code of whoever made it: give one that "
            "--criterion seqvae_elbo or seqvae_pg trained."
        )


def _refuse_other_models(path: str, names: Mapping[str, str | None], model: Any, cfg: Any) -> None:
    from fairseq.models import FairseqLanguageModel

    if names["task"] != "language_modeling":
        raise ValueError(
            f"{path} is a checkpoint of the task {names['task']!r}: give one that --task seqvae trained. With this "
            "plugin, fairseq's commands build no other models, except language models."
        )
    if not (isinstance(model, type) and issubclass(model, FairseqLanguageModel)):
        raise ValueError(f"{path} holds the model {names['model']!r}: give a language model of fairseq.")
    for part in (cfg.task, cfg.model):
        for name, text in _texts(part):
            if is_call(text):
                raise ValueError(
                    f"{path} was not loaded, since that could run code of whoever made it: its option {name} is "
                    f"{text[:60]!r}."
                )


def _texts(node: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of all texts in options, at any depth."""
    if isinstance(node, argparse.Namespace):
        node = vars(node)
    if isinstance(node, str):
        yield name, node
    elif isinstance(node, Mapping):
        for key in node:
            yield from _texts(node[key], str(key))
    elif hasattr(node, "__iter__"):
        for item in node:
            yield from _texts(item, name)


def is_call(text: str) -> bool:
    """Whether Python would call something if it evaluated *text*; without a call, evaluation runs no code."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):  # too deep to be looked through
        return True
    return any(isinstance(node, ast.Call) for node in ast.walk(tree))
