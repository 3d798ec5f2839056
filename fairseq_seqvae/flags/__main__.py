"""`python -m fairseq_seqvae.flags`: all flags of the package, with defaults and bounds.

`fairseq-train ... --help` lists them too, among fairseq's own.
"""

import argparse
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence

from fairseq_seqvae.flags.listing import Flag, Section, sections
from fairseq_seqvae.support.command_line import report

_PROG = "python -m fairseq_seqvae flags"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 after one sentence about bad input on standard error."""
    parser = argparse.ArgumentParser(prog=_PROG, description="Print all flags of the package.")
    parser.add_argument("--markdown", action="store_true", help="print a page of Markdown")
    return report(_PROG, _run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    print(as_markdown(sections()) if args.markdown else as_text(sections(), shutil.get_terminal_size().columns))


def as_text(listed: Sequence[Section], width: int = 100) -> str:
    """The list for a terminal of *width* columns."""
    wrap = textwrap.TextWrapper(max(width, 40), initial_indent=" " * 6, subsequent_indent=" " * 6).wrap
    lines: list[str] = []
    for section in listed:
        lines += [section.choice, "=" * len(section.choice), *([section.note] if section.note else []), ""]
        for heading, flags in section.groups.items():
            lines += [f"{heading}:"] if heading else []
            for one in flags:
                lines += [f"  {one.name}: {one.value}, default {one.default}", *wrap(one.text)]
                changed = {name: defaults.get(one.name) for name, defaults in section.presets.items()}
                differing = [f"{name} {default}" for name, default in changed.items() if default is not None]
                lines += wrap(f"[default of {', '.join(differing)}]") if differing else []
            lines.append("")
    return "\n".join(lines[:-1])


def as_markdown(listed: Sequence[Section]) -> str:
    """The page `docs/flags.md`."""
    lines = [
        "# Flags",
        "",
        "The flags that the package adds to fairseq's commands, made by `python -m fairseq_seqvae flags --markdown`.",
    ]
    for section in listed:
        lines += ["", f"## {_code(section.choice) if section.choice.startswith('--') else section.choice}"]
        lines += ["", section.note] if section.note else []
        for heading, flags in section.groups.items():
            lines += ["", f"### {heading}"] if heading else []
            lines += ["", *_table(("Flag", "Default", "Value", "Meaning"), map(_row, flags))]
        if section.presets:
            lines += ["", "### Presets", "", "Defaults that differ:", "", *_presets(section)]
    return "\n".join(lines)


def _row(one: Flag) -> tuple[str, ...]:
    return _code(one.name), _code(one.default), one.value, one.text


def _presets(section: Section) -> list[str]:
    """A table of the defaults that differ between presets."""
    base = section.choice.split()[-1]
    rows = []
    for one in (one for flags in section.groups.values() for one in flags):
        if any(one.name in changed for changed in section.presets.values()):
            values = [changed.get(one.name, one.default) for changed in section.presets.values()]
            rows.append([_code(one.name), *map(_code, (one.default, *values))])
    return _table(("Flag", *map(_code, (base, *section.presets))), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = (header, ["---"] * len(header), *rows)
    return [f"| {' | '.join(map(_escaped, cells))} |" for cells in lines]


def _escaped(text: str) -> str:
    return text.replace("|", r"\|")


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    sys.exit(main())
