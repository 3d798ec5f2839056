"""The tutorial on rewards: its code is taken from the document, and its commands run in their order, but smaller."""

import re
import subprocess

import commands
import pytest

pytest.importorskip("fairseq")

DOCUMENT = commands.ROOT / "docs" / "your-own-reward.md"
# What makes it small: what the document says -> what is run.
SMALL = {
    "--max-update 900": "--max-update 60",
    "--kl-anneal-updates 400": "--kl-anneal-updates 30",
    "--max-update 500": "--max-update 40",
    "--lr 1e-3": "--lr 3e-3",
    "--pg-weight 2": "--pg-weight 8",
    "--num-draws 1000": "--num-draws 100",
    "--log-interval 50": "--log-interval 20",
    "--embed-dim 128": "--embed-dim 32",
    "--decoder-hidden-dim 256": "--decoder-hidden-dim 64",
}


def blocks(language: str) -> list[str]:
    text = DOCUMENT.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_rules_do_what_the_text_says():
    (code,) = blocks("python")
    names: dict = {}
    exec(code, names)
    samples = ["she was very happy to see him .", "a b c d e f g h , i", "", "no !"]
    assert names["seven"](samples, tokens=[]) == [1, 0, 0, 0]
    assert names["close"](samples, tokens=[]) == [1, 1 / 3, 1 / 8, 1 / 7]


@pytest.mark.slow
def test_its_commands_run(tmp_path, quick_programs):
    (code,) = blocks("python")
    (tmp_path / "runs" / "seven").mkdir(parents=True)
    (tmp_path / "runs" / "seven" / "rules.py").write_text(code)
    (tmp_path / "examples").symlink_to(commands.ROOT / "examples")
    script = "set -e\n" + "\n".join(blocks("bash"))
    for said, run in SMALL.items():
        assert said in script, f"the document does not say {said!r} any more"
        script = script.replace(said, run)
    environment = {**quick_programs, "PYTHONPATH": str(commands.ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=commands.PATIENCE
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = re.findall(r"^(elbo|policy): ([\d.]+)% of seven words, ([\d.]+)% distinct$", done.stdout, re.MULTILINE)
    assert [name for name, _, _ in found] == ["elbo", "policy"]
    logged = [float(x) for x in re.findall(r'"rewards/close/mean": "([\d.]+)"', done.stdout + done.stderr)]
    assert len(logged) >= 2 and logged[1] > logged[0] + 0.02, logged
