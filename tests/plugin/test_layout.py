"""The layout of the package: who may import whom, what the core may not know, how large a function may be.

All of it is read from the source without running it.
"""

import ast
import sys
from pathlib import Path

import pytest

NAME = "fairseq_seqvae"
PACKAGE = Path(__file__).resolve().parents[2] / NAME
FILES = sorted(PACKAGE.rglob("*.py"))

# room -> rooms that it may use, besides itself
ROOMS = {
    "core": set(),
    "options": set(),
    "support": set(),
    "metrics": {"core"},
    "compat": {"support"},
    "optim": set(),
    "oracle": {"core", "metrics", "support"},
    "melody": {"export", "fit_prior", "inference", "support"},  # only the studio needs more than support
    "scoring": {"compat", "options", "oracle"},
    "inference": {"", "core", "options"},
    "models": {"compat", "core", "inference", "options", "support"},
    "rewards": {"core", "inference", "melody", "metrics", "oracle", "support"},
    "criterions": {"compat", "core", "metrics", "options", "rewards", "support"},
    "tasks": {"compat", "core", "inference", "melody", "models", "options", "rewards", "support"},
    "measure": {"", "compat", "core", "inference", "metrics", "support"},
    "judge": {"compat", "core", "measure", "melody", "metrics", "rewards", "support", "tasks"},
    "fit_prior": {"compat", "core", "measure", "support"},
    "estimators": {"", "compat", "core", "oracle", "support"},
    "export": {"support"},
    "runs": set(),  # steps of run scripts: commands, nothing of the package itself
    "cards": {"compat", "core", "judge", "measure", "metrics", "oracle", "rewards", "runs", "support"},
    "tools": {"support"},
    "flags": {"", "inference", "options", "support"},
    "discriminators": {"core"},  # the address that extension files import from
    "": {"compat"},  # __init__.py: the version, and how to register
    "__main__": {"", "compat"},  # finds the commands by name
}
# fairseq imports this file of a --user-dir; so it registers the rooms that tasks do not use themselves.
ENTRY = PACKAGE / "tasks" / "__init__.py"
ENTRY_USES = {"criterions", "models", "optim", "scoring"}

CORE_ROOMS = {
    "sequences": set(),
    "noise": set(),
    "augmentation": set(),
    "categorical": set(),
    "registry": set(),
    "elbo": set(),
    "networks": set(),
    "conditions": set(),
    "latents": {"networks", "registry"},
    "schedules": set(),
    "policy_gradient": {"sequences"},
    # Rewards score what rollouts complete, and rollouts turn scores into values: each knows the other's protocol.
    "rollouts": {"categorical", "noise", "rewards"},
    "rewards": {"conditions", "rollouts"},
    "discriminators": {"networks", "noise", "registry", "rollouts", "sequences"},
}
CORE_LIBRARIES = {"torch"}
# What a core of equations needs of Python: nothing that reaches files, processes, settings or the screen.
CORE_STANDARD_LIBRARY = {
    "abc",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "enum",
    "math",
    "typing",
    "warnings",
}

MOST_ROOT_FILES = 4
MOST_ARGUMENTS = 8
MOST_LINES = 45


def module_name(file, root=PACKAGE):
    """Dotted name of a file of the package."""
    parts = [root.name, *file.relative_to(root).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file) for file in FILES}


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


def imports_of(file):
    return imported_modules(file.read_text(encoding="utf-8"), module_name(file), file.name == "__init__.py", MODULES)


def room_of(module):
    """The folder, or the file at the root, that a module of the package is in; "" is the package itself."""
    return module.split(".")[1] if "." in module else ""


def own_imports(file):
    return {module for module in imports_of(file) if module.split(".")[0] == NAME}


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_room_uses_the_rooms_that_the_table_allows(file):
    room = room_of(module_name(file))
    assert room in ROOMS, f"{file.relative_to(PACKAGE)} is in a room that the table does not know"
    allowed = ROOMS[room] | {room} | (ENTRY_USES if file == ENTRY else set())
    for module in own_imports(file):
        assert room_of(module) in allowed, f"{file.relative_to(PACKAGE)} imports {module}"


def test_every_row_of_the_table_is_used():
    used = {room: set() for room in ROOMS}
    for file in FILES:
        used[room_of(module_name(file))] |= {room_of(module) for module in own_imports(file)}
    rooms = {room_of(module) for module in MODULES}
    assert set(ROOMS) - {"__main__", ""} <= rooms
    for room, allowed in ROOMS.items():
        assert allowed <= used[room], f"{room} does not use {allowed - used[room]}: take it out of the table"


def test_no_file_imports_itself_by_way_of_others():
    graph = {module_name(file): own_imports(file) & MODULES for file in FILES}

    def visit(module, path):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in sorted(graph[module] - {module}):
                visit(other, [*path, module])
            done.add(module)

    done = set()
    for module in sorted(graph):
        visit(module, [])


def test_few_files_stand_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_ROOT_FILES


CORE_FILES = sorted((PACKAGE / "core").rglob("*.py"))


class TestTheCore:
    @pytest.mark.parametrize("file", CORE_FILES, ids=module_name)
    def test_imports_torch_and_a_little_of_python(self, file):
        for module in imports_of(file):
            top = module.split(".")[0]
            assert top in CORE_LIBRARIES | CORE_STANDARD_LIBRARY | {NAME}, f"{file.name} imports {module}"
            if top not in (NAME, *CORE_LIBRARIES):
                assert top in sys.stdlib_module_names

    @pytest.mark.parametrize("file", CORE_FILES, ids=module_name)
    def test_its_rooms_use_what_the_table_allows(self, file):
        parts = module_name(file).split(".")[2:]
        if not parts:
            return
        for module in own_imports(file):
            other = module.split(".")[2:3] or [""]
            assert other[0] in CORE_ROOMS[parts[0]] | {parts[0], ""}, f"{'.'.join(parts)} imports {module}"

    @pytest.mark.parametrize("file", CORE_FILES, ids=module_name)
    def test_names_no_flag_reads_no_config_touches_no_file(self, file):
        source = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert "--" not in node.value, f"{file.name}:{node.lineno} names a flag"
            name = getattr(node, "id", None) or getattr(node, "arg", None) or ""
            assert name not in ("cfg", "config", "args", "open", "print"), f"{file.name}:{node.lineno} uses {name}"


def functions():
    for file in FILES:
        source = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield file, node, source.splitlines()


def code_lines(node, lines):
    """Lines of a function that are neither blank, comment nor docstring."""
    skipped = set()
    for part in ast.walk(node):
        body = getattr(part, "body", None)
        if isinstance(part, (ast.FunctionDef, ast.ClassDef)) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                skipped |= set(range(body[0].lineno, body[0].end_lineno + 1))
    numbers = [n for n in range(node.lineno, node.end_lineno + 1) if n not in skipped]
    return sum(bool(text := lines[n - 1].strip()) and not text.startswith("#") for n in numbers)


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES}))
def test_functions_are_small(room):
    large = []
    for file, node, lines in functions():
        if room_of(module_name(file)) != room:
            continue
        arguments = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in arguments if name not in ("self", "cls")])
        size = code_lines(node, lines)
        if count > MOST_ARGUMENTS or size > MOST_LINES:
            large.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}: {count} arguments, {size} lines")
    assert not large, "\n".join(large)


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES}))
def test_public_arguments_are_annotated(room):
    bare = []
    for file, node, _ in functions():
        if room_of(module_name(file)) != room or (node.name.startswith("_") and node.name != "__init__"):
            continue
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            if argument.arg not in ("self", "cls") and argument.annotation is None:
                bare.append(f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}({argument.arg})")
    assert not bare, "\n".join(bare)


def test_nothing_in_the_package_imports_its_tests_or_examples():
    for file in FILES:
        tops = {module.split(".")[0] for module in imports_of(file)}
        assert not tops & {"tests", "examples", "scripts", "oracles", "toys"}, file


def test_files_of_tests_differ_in_their_names():
    # pytest imports them by their name alone, and cannot import a second one.
    tests = PACKAGE.parent / "tests"
    names = [file.name for file in tests.rglob("test_*.py") if not (file.parent / "__init__.py").exists()]
    assert len(names) > 100
    assert sorted(set(names)) == sorted(names)


def test_no_file_changes_where_python_looks_for_modules():
    """Neither the package nor the run scripts of the examples; a test may."""
    root = PACKAGE.parent
    scripts = [file for file in (root / "examples").rglob("*") if file.is_file() and file.suffix in ("", ".py")]
    for file in [*FILES, *scripts, *(file for file in (root / "scripts").iterdir() if file.is_file())]:
        assert "sys.path" not in file.read_text(encoding="utf-8"), file


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

    def test_lines_of_code_leave_out_docstrings_comments_and_blank_lines(self):
        lines = 'def f(x):\n    """Two\n    lines."""\n\n    # why\n    return x\n'.splitlines()
        assert code_lines(ast.parse("\n".join(lines)).body[0], lines) == 2
