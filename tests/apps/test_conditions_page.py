"""The page on conditions: its rule is right, and its commands run in their order, but smaller."""

import re
import subprocess

import commands
import pytest

pytest.importorskip("fairseq")

DOCUMENT = commands.ROOT / "docs" / "conditions.md"
RULES = "runs/meter/rules.py"
# What makes it small: what the document says -> what is run.
SMALL = {
    "--max-update 600": "--max-update 6",
    "--disc-pretrain-updates 100": "--disc-pretrain-updates 2",
    "--max-update 300": "--max-update 6",
    "--max-update 100": "--max-update 3",
    "--num-draws 500": "--num-draws 20",
    "--log-interval 20": "--log-interval 1",
    "--batch-size 64": "--batch-size 24",
    "32,48,64": "8,8,8",
}


def blocks(language: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def python_blocks() -> tuple[str, str]:
    """The use of the model, and the file of rules."""
    (rules,) = (block for block in blocks("python") if block.startswith(f"# {RULES}"))
    (use,) = (block for block in blocks("python") if block != rules)
    return use, rules


def test_the_rule_tells_jigs_from_waltzes():
    names: dict = {}
    exec(python_blocks()[1], names)
    jig = "60 _ _ _ 62 _ 64 _ _ _ 62 _ " * 2
    waltz = "60 _ _ _ 62 _ _ _ 64 _ 65 _ " * 2
    assert [names["meter"](tune.strip()) for tune in (jig, waltz)] == ["6/8", "3/4"]
    assert names["in_meter"]([jig, jig, waltz], labels=["6/8", "3/4", "3/4"], tokens=[]) == [1.0, 0.0, 1.0]


@pytest.mark.slow
def test_its_commands_run(tmp_path, quick_programs):
    use, rules = python_blocks()
    (tmp_path / RULES).parent.mkdir(parents=True)
    (tmp_path / RULES).write_text(rules)
    (tmp_path / "examples").symlink_to(commands.ROOT / "examples")
    script = "set -e\n" + "\n".join(blocks("bash"))
    for said, run in SMALL.items():
        assert said in script, f"the document does not say {said!r} any more"
        script = script.replace(said, run)
    show = "\nassert len(waltzes) == len(jigs) == 5 and all(len(tune.split()) == 24 for tune in waltzes)\n"
    (tmp_path / "use.py").write_text(use + show)
    script += "\npython use.py"
    environment = {**quick_programs, "PYTHONPATH": str(commands.ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=commands.PATIENCE
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    drawn = (tmp_path / "runs" / "meter" / "waltzes.txt").read_text()
    assert len(re.findall(r"^D-", drawn, re.MULTILINE)) == 20
    assert "rewards/in_meter" in done.stdout + done.stderr
