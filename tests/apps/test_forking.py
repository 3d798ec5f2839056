"""Programs in forks of one process behave as programs of their own (tests/forking)."""

import os
import signal
import subprocess
import sys

import commands
import pytest

pytestmark = pytest.mark.slow

SAYS = """
import os, subprocess, sys
print(sys.argv[1:], os.getcwd(), os.environ["COLOUR"], sys.stdin.read())
print("and this", file=sys.stderr)
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout.strip())
sys.exit(int(sys.argv[1]))
"""


def result_of(words, environment, **kwargs):
    done = subprocess.run(words, env=environment | {"COLOUR": "red"}, capture_output=True, text=True, **kwargs)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("kind", ["-c", "-m", "a file"])
def test_it_is_as_if_they_had_been_started(kind, code, quick_programs, tmp_path):
    (tmp_path / "says.py").write_text(SAYS)
    words = {"-c": ["-c", SAYS], "-m": ["-m", "says"], "a file": ["says.py"]}[kind]
    found, expected = (
        result_of([python, *words, str(code), "a b"], environment, cwd=tmp_path, input="stop")
        for python, environment in (("python", quick_programs), (sys.executable, {**os.environ}))
    )
    assert found == expected and found[0] == code and "['" + str(code) in found[1] and "\n42\n" in found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signals_reach_them(number, quick_programs):
    program = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
    process = subprocess.Popen(
        ["python", "-c", program], env=quick_programs, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    own = int(process.stdout.readline())
    assert own != process.pid
    if number == signal.SIGKILL:  # which no stand-in can hand on
        os.kill(own, number)
    else:
        process.send_signal(number)
    assert process.wait(timeout=commands.PATIENCE) == -number
    with pytest.raises(ProcessLookupError):
        os.kill(own, 0)


def test_fairseq_has_not_been_set_up_before(quick_programs, toy, tmp_path):
    flags = commands.training_flags(toy.folder, tmp_path, "--max-update 2", "--user-dir", commands.USER_DIR)
    code, said, errors = result_of(["fairseq-train", *flags], quick_programs)
    assert code == 0, errors
    assert "| INFO | fairseq_cli.train | " in said and "| INFO |" not in errors
