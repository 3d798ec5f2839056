"""How fairseq reads its command line."""

import argparse
import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]
ModifyParser = Callable[[argparse.ArgumentParser], None]


def no_tpu() -> bool:
    """Whether torch's package for TPUs is missing."""
    return importlib.util.find_spec("torch_xla") is None


def keep_bf16_off_tpus(original: Function) -> Function:
    """Take back the TPU that `--bf16` and `--memory-efficient-bf16` switch on."""

    @functools.wraps(original)
    def parse_args_and_arch(*args: Any, **kwargs: Any) -> Any:
        parsed = original(*args, **kwargs)
        namespace = parsed[0] if isinstance(parsed, tuple) else parsed
        if getattr(namespace, "bf16", False):
            namespace.tpu = False
        return parsed

    return parse_args_and_arch


def show_chosen_options(original: Function) -> Function:
    """Let `--help` also show the options of the task, model, criterion and so on that are named beside it.

    fairseq adds these after its first look at the command line, which already ends at `--help`. So it gets the command
    line without `--help`, and the help is printed when it has added them. It calls `modify_parser` before and after.
    """

    @functools.wraps(original)
    def parse_args_and_arch(
        parser: argparse.ArgumentParser,
        input_args: list[str] | None = None,
        parse_known: bool = False,
        suppress_defaults: bool = False,
        modify_parser: ModifyParser | None = None,
    ) -> Any:
        words = sys.argv[1:] if input_args is None else input_args
        others = [word for word in words if word not in ("-h", "--help")]
        if len(others) == len(words):
            return original(parser, input_args, parse_known, suppress_defaults, modify_parser)
        calls = 0

        def collect_then_print(parser: argparse.ArgumentParser) -> None:
            nonlocal calls
            calls += 1
            if modify_parser is not None:
                modify_parser(parser)
            if calls > 1:
                parser.print_help()
                parser.exit()
            _collect_chosen(parser)

        return original(parser, others, modify_parser=collect_then_print)

    return parse_args_and_arch


def _collect_chosen(parser: argparse.ArgumentParser) -> None:
    """Let whatever is added to *parser* from now on stand at the end of its help, under a title."""
    chosen = parser.add_argument_group(
        "options of what is chosen",
        "by --task, --criterion, --optimizer, --lr-scheduler, --scoring and so on, given beside --help; those of "
        "--arch are below",
    )
    parser.add_argument = chosen.add_argument  # type: ignore[method-assign]
    for action in parser._actions:
        # Where none is given: fairseq-train fails for lack of an architecture and fairseq-validate for lack of a task;
        # the others show those of wav2vec2 and of translation, which are not what anybody here has chosen.
        if action.dest in ("arch", "task"):
            action.default = argparse.SUPPRESS
