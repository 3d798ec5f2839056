"""The documents: links lead somewhere, and the commands, scripts, files and flags that they name exist."""

import re
import subprocess

import commands
import pytest

pytest.importorskip("fairseq")

ROOT = commands.ROOT
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
DOCUMENTS = sorted(ROOT / name for name in LISTED) or sorted(
    file for folder in (".", "docs", "examples", "tests") for file in (ROOT / folder).glob("**/*.md")
)
# Of programs that the documents mention and that are not ours.
FOREIGN_FLAGS = {
    *("--version", "--help", "--no-deps"),  # pip and the like
    *("--standalone", "--nproc_per_node", "--nnodes", "--node_rank", "--master_addr", "--master_port", "--rdzv_id"),
    *("--rdzv_backend", "--rdzv_endpoint", "--max_restarts", "--no-python"),  # torchrun
    *("--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--requeue", "--kill-on-bad-exit"),  # Slurm
    *("--train", "--valid", "--test"),  # of `oracle generate`, made from the names of the splits
    *("--sample-break-mode", "--add-bos-token"),  # fairseq's --task language_modeling and --arch lstm_lm
    *("--decoder-embed-dim", "--decoder-hidden-size", "--decoder-out-embed-dim"),
    *("--hypothesis-profile", "--fix", "--config-dir", "--config-name"),  # pytest, ruff, hydra
}


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower().replace("`", "")))


def links(text: str) -> list[str]:
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_there_are_documents():
    assert len(DOCUMENTS) >= 15 and ROOT / "README.md" in DOCUMENTS


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for link in links(document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if anchor:
            target = target / "README.md" if target.is_dir() else target
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


@pytest.fixture(scope="module")
def known_flags() -> set[str]:
    """Flags of fairseq's parsers with the plugin, and those in the sources of the package and the scripts."""
    from fairseq import options

    import fairseq_seqvae

    fairseq_seqvae.register()
    found = set()
    with commands.captured():
        for make in (
            options.get_training_parser,
            options.get_generation_parser,
            options.get_preprocessing_parser,
            options.get_validation_parser,
            lambda: options.get_generation_parser(interactive=True),
        ):
            found |= {flag for action in make()._actions for flag in action.option_strings}
        configs = commands.make_config("DATA", "--optimizer adam")
    for group in ("task", "model", "criterion", "optimizer", "lr_scheduler"):
        found |= {f"--{key.replace('_', '-')}" for key in configs[group]}
    sources = [*(ROOT / "fairseq_seqvae").rglob("*.py"), *(file for file in (ROOT / "scripts").iterdir())]
    sources += [file for file in (ROOT / "examples").glob("*/*") if not file.suffix]  # scripts
    for file in sources:
        if file.is_file():
            found |= set(re.findall(r"[\"'](--[a-z][\w-]+)[\"']", file.read_text(encoding="utf-8")))
    found |= {"--smoke", "--quick"} | set(re.findall(r"--[a-z-]+", (ROOT / "scripts" / "setup-env").read_text()))
    return (
        found
        | FOREIGN_FLAGS
        | {"--total-num-update", "--warmup-updates"}
        | {"--bpe", "--sentencepiece-model", "--oracle-seed", "--oracle-npz", "--remove-bpe"}
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_flags_exist(document, known_flags):
    text = document.read_text(encoding="utf-8")
    for flag in set(re.findall(r"(?<![\w-])--[a-z][\w-]*[a-z0-9]", text)):
        same = {flag, flag.replace("_", "-"), flag.replace("-", "_")}
        families = any(known.startswith(flag + "-") for known in known_flags)  # such as --memory-efficient-
        assert same & known_flags or families, f"{document.name} names {flag}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_files_exist(document):
    from fairseq_seqvae.__main__ import COMMANDS

    text = document.read_text(encoding="utf-8")
    for module in re.findall(r"python -m fairseq_seqvae\.([\w.]+)", text):
        path = ROOT / "fairseq_seqvae" / module.rstrip(".").replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for command in re.findall(r"python -m fairseq_seqvae ([a-z][a-z-]*)", text):
        assert command in COMMANDS, command
    for path in re.findall(r"(?<![\w/.])((?:scripts|tests|docs|fairseq_seqvae)/[\w./-]*\w)", text):
        assert (ROOT / path).exists() or path.startswith("docs/site"), path
