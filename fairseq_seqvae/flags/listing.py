"""All flags of the package, read from the dataclasses that are registered with fairseq."""

from collections.abc import Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field
from enum import Enum
from typing import Any, get_args

from fairseq_seqvae import register
from fairseq_seqvae.options import Option, flag, options_of

_KINDS = {int: "whole number", float: "number", str: "text", bool: "switch"}


@dataclass(frozen=True)
class Flag:
    """One flag, in words.

    Attributes:
        name: as typed
        default: what holds without it
        value: what it takes, with its bound
        text: what it is
    """

    name: str
    default: str
    value: str
    text: str


@dataclass(frozen=True)
class Section:
    """The flags of one dataclass.

    Attributes:
        choice: what brings these flags, such as "--task seqvae"
        note: a sentence about them, or ""
        groups: flags under their headings
        presets: name of a preset -> flag -> its default, where it differs
    """

    choice: str
    note: str
    groups: Mapping[str, list[Flag]]
    presets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def sections() -> list[Section]:
    """All flags, in the order in which a user meets them; imports fairseq."""
    register()
    from fairseq.models import MODEL_DATACLASS_REGISTRY
    from fairseq.registry import REGISTRIES
    from fairseq.tasks import TASK_DATACLASS_REGISTRY

    from fairseq_seqvae.inference.search import GenerationOptions

    def registered(name: str) -> Mapping[str, type]:
        return REGISTRIES[name]["dataclass_registry"]

    checked = _grouped(GenerationOptions)
    return [
        *_of_registry("--task", TASK_DATACLASS_REGISTRY),
        *_of_registry("--arch", MODEL_DATACLASS_REGISTRY),
        *_of_registry("--criterion", registered("criterion")),
        *(
            Section(f"--optimizer {name}", "Takes the flags of fairseq's `--optimizer adam`.", {})
            for name, cls in REGISTRIES["optimizer"]["registry"].items()
            if _is_ours(cls)
        ),
        *_of_registry("--scoring", registered("scoring")),
        Section("fairseq-generate, fairseq-interactive", "Flags of fairseq whose values are checked.", checked),
    ]


def _is_ours(cls: type) -> bool:
    return cls.__module__.split(".")[0] == __name__.split(".")[0]


def _of_registry(chosen_by: str, registry: Mapping[str, type]) -> list[Section]:
    """A section for each dataclass of the package, except presets: these only have other defaults than their base."""
    ours = {name: config for name, config in registry.items() if _is_ours(config)}
    names = {config: name for name, config in ours.items()}
    bases = {config: next((base for base in config.__mro__[1:] if base in names), None) for config in names}
    new = {config: _grouped(config, bases[config]) for config in names}
    return [
        Section(
            f"{chosen_by} {name}",
            f"Takes the flags of `{chosen_by} {names[base]}` too." if (base := bases[config]) else "",
            new[config],
            {names[other]: _differences(other, config) for other in names if bases[other] is config and not new[other]},
        )
        for name, config in ours.items()
        if new[config]
    ]


def _differences(config: type, base: type) -> dict[str, str]:
    """Defaults of *config* that differ from those of *base*."""
    defaults = {current.name: current.default for current, _ in options_of(base)}
    return {
        flag(current.name): _default(current)
        for current, _ in options_of(config)
        if current.default != defaults[current.name]
    }


def _grouped(config: type, base: type | None = None) -> dict[str, list[Flag]]:
    """Flags of *config* that *base* does not have, by heading."""
    inherited = {current.name for current, _ in options_of(base)} if base else set()
    groups: dict[str, list[Flag]] = {}
    heading = ""
    for current, known in options_of(config):
        heading = known.group or heading
        if current.name not in inherited:
            groups.setdefault(heading, []).append(_flag(current, known))
    return groups


def _flag(current: Field, known: Option) -> Flag:
    name = "DATA" if current.name == "data" else flag(current.name)  # the one that fairseq takes without a flag
    return Flag(name, _default(current), _value(current, known), known.help)


def _default(current: Field) -> str:
    if current.default in ("???", NO_DEFAULT):  # omegaconf's word for a value that must be given
        return "required"
    words: dict[Any, str] = {None: "none", False: "off", True: "on"}
    if isinstance(current.default, float):
        return f"{current.default:g}"
    # 0 and False are one key.
    return str(current.default) if type(current.default) is int else words.get(current.default, str(current.default))


def _value(current: Field, known: Option) -> str:
    kind: Any = next((part for part in get_args(current.type) if part is not type(None)), current.type)
    if isinstance(kind, type) and issubclass(kind, Enum):
        names = [str(choice.value) for choice in kind]
        return f"{', '.join(names[:-1])} or {names[-1]}"
    return f"{_KINDS[kind]} {known.bound}" if known.bound else _KINDS[kind]
