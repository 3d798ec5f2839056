"""The layers of the package: what may import what, read from the source without running it."""

import ast
import sys
from pathlib import Path

import pytest

NAME = "fairseq_seqvae"
PACKAGE = Path(__file__).resolve().parent.parent / NAME
# Files beside the core that know fairseq, or that start the others.
SHELL_FILES = {"__init__.py", "__main__.py", "generation.py", "hub.py", "measure.py"}
LIBRARIES = {"torch", "numpy"}

CORE_FILES = sorted(
    [file for file in PACKAGE.glob("*.py") if file.name not in SHELL_FILES]
    + list(PACKAGE.glob("discriminators/*.py"))
    + list(PACKAGE.glob("oracle/*.py"))
)


def module_name(file, root=PACKAGE):
    """Dotted name of a file of the package."""
    parts = [root.name, *file.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source, module, is_package, modules):
    """Dotted names of all modules that `source` imports, at any depth of its code.

    `modules` are the modules of the package: in `from package import name`, the name is one of them or an attribute
    of the package.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join(parents + ([node.module] if node.module else []))
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in modules else base)
    return found


def all_modules():
    return {module_name(file) for file in PACKAGE.rglob("*.py")}


def imports_of(file):
    return imported_modules(
        file.read_text(encoding="utf-8"), module_name(file), file.name == "__init__.py", all_modules()
    )


def files_in(folder):
    return sorted((PACKAGE / folder).rglob("*.py"))


def is_within(module, folder):
    return module == f"{NAME}.{folder}" or module.startswith(f"{NAME}.{folder}.")


def test_the_core_is_where_it_is_looked_for():
    names = {file.stem for file in CORE_FILES}
    assert names >= {
        "latent",
        "sequences",
        "noise",
        "sampling",
        "rollout",
        "adversarial",
        "policy_gradient",
        "schedules",
        "recurrent",
    }


@pytest.mark.parametrize("file", CORE_FILES, ids=module_name)
def test_core_imports_torch_numpy_and_core_alone(file):
    core = {module_name(other) for other in CORE_FILES}
    for module in imports_of(file):
        top = module.split(".")[0]
        if top == NAME:
            assert module in core, f"{file.name} is core and imports {module}, which is not"
        else:
            assert top in LIBRARIES or top in sys.stdlib_module_names, f"{file.name} is core and imports {module}"


@pytest.mark.parametrize(
    "folder, forbidden",
    [
        ("tasks", "criterions"),
        ("criterions", "tasks"),
        ("models", "tasks"),
        ("models", "criterions"),
    ],
)
def test_layers_keep_their_direction(folder, forbidden):
    for file in files_in(folder):
        for module in imports_of(file):
            assert not is_within(module, forbidden), f"{file.relative_to(PACKAGE)} imports {module}"


def test_nothing_in_the_package_imports_its_tests_or_examples():
    for file in PACKAGE.rglob("*.py"):
        tops = {module.split(".")[0] for module in imports_of(file)}
        assert not tops & {"tests", "examples", "scripts", "oracles", "toys"}, file


class TestTheReader:
    """The checks above are worth what their reading of imports is worth."""

    MODULES = {"fairseq_seqvae", "fairseq_seqvae.noise", "fairseq_seqvae.tasks", "fairseq_seqvae.tasks.seqvae"}

    @pytest.mark.parametrize(
        "source, expected",
        [
            ("import os, torch.nn as nn", {"os", "torch.nn"}),
            ("from torch import Tensor", {"torch"}),
            ("from fairseq_seqvae import noise, __version__", {"fairseq_seqvae.noise", "fairseq_seqvae"}),
            ("from fairseq_seqvae.noise import uniform", {"fairseq_seqvae.noise"}),
            ("def f():\n    import fairseq.data", {"fairseq.data"}),
            ("if True:\n    from fairseq_seqvae.tasks import seqvae", {"fairseq_seqvae.tasks.seqvae"}),
            ("from . import noise", {"fairseq_seqvae.noise"}),
            ("from .tasks.seqvae import Task", {"fairseq_seqvae.tasks.seqvae"}),
        ],
    )
    def test_in_a_file_of_the_package(self, source, expected):
        assert imported_modules(source, "fairseq_seqvae.rollout", False, self.MODULES) == expected

    def test_two_dots_lead_one_package_up(self):
        found = imported_modules("from ..noise import uniform", "fairseq_seqvae.tasks.seqvae", False, self.MODULES)
        assert found == {"fairseq_seqvae.noise"}

    def test_one_dot_in_an_init_file_is_its_own_package(self):
        found = imported_modules("from . import seqvae", "fairseq_seqvae.tasks", True, self.MODULES)
        assert found == {"fairseq_seqvae.tasks.seqvae"}
