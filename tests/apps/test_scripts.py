"""The stand-alone tools of `scripts/`: what they write, and how they refuse."""

import json
import os
import random
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fairseq_seqvae.estimators import __main__ as estimators
from fairseq_seqvae.tools import curves, spm

ROOT = Path(__file__).resolve().parents[2]
PNG_MAGIC = b"\x89PNG"


def run_script(name, *arguments, stdin=None):
    """Run a script of `scripts/` with this Python, however long a busy machine takes; `stdin` and output are bytes."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)],
        input=stdin,
        capture_output=True,
    )


def assert_refuses(result, *words):
    stderr = result.stderr.decode()
    assert result.returncode == 1, stderr
    assert "Traceback" not in stderr
    assert stderr.count("\n") == 1, stderr
    for word in words:
        assert word in stderr


# -- plot-curves


@pytest.fixture(scope="module")
def plot_curves():
    """The functions of the command `curves`."""
    return vars(curves)


def log_lines(updates=range(10, 110, 10), **values):
    """Lines as fairseq writes them: numbers as strings, a prefix on some, training and validation mixed."""
    lines = ["2026-01-01 10:00:00 | INFO | fairseq_cli.train | {'_name': None, 'common': {'seed': 1}}"]
    for update in updates:
        train = {"epoch": 1, "update": 0.5, "loss": f"{50 - update / 10:.3f}", "num_updates": str(update), **values}
        lines.append(f"2026-01-01 10:00:00 | INFO | train_inner | {json.dumps(train)}")
        valid = {"epoch": 1, "valid_loss": f"{52 - update / 10:.3f}", "valid_num_updates": str(update)}
        lines.append(f"[2026-01-01 10:00:00,000][valid][INFO] - {json.dumps(valid)}")
    return lines


def write_log(path, lines):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_log_lines_are_read_with_and_without_prefixes(plot_curves, tmp_path):
    lines = log_lines([10, 20], kl="3.5")
    lines.append(json.dumps({"loss": "47.000", "num_updates": "30", "kl": None, "reward": float("nan")}))
    log = plot_curves["read_log"](write_log(tmp_path / "run.json", lines), "valid")
    assert log.series("train", "loss") == ([10, 20, 30], [49.0, 48.0, 47.0])
    assert log.series("valid", "loss") == ([10, 20], [51.0, 50.0])
    assert log.series("train", "kl") == ([10, 20], [3.5, 3.5])
    assert log.series("train", "reward") == ([], [])


def test_update_logged_twice_counts_once_with_its_last_value(plot_curves, tmp_path):
    lines = [
        json.dumps({"loss": loss, "num_updates": update}) for loss, update in (("9", "10"), ("8", "20"), ("7", "10"))
    ]
    log = plot_curves["read_log"](write_log(tmp_path / "run.json", lines), "valid")
    assert log.series("train", "loss") == ([10, 20], [7.0, 8.0])


def test_ends_of_epochs_serve_where_nothing_was_logged_within(plot_curves, tmp_path):
    epoch = json.dumps({"epoch": 1, "train_loss": "30.5", "train_num_updates": "60"})
    inner = json.dumps({"epoch": 1, "loss": "33", "num_updates": "50"})
    read_log = plot_curves["read_log"]
    assert read_log(write_log(tmp_path / "a.json", [epoch]), "valid").series("train", "loss") == ([60], [30.5])
    assert read_log(write_log(tmp_path / "b.json", [epoch, inner]), "valid").series("train", "loss") == ([50], [33.0])


def test_moving_mean_does_not_lag_at_the_start(plot_curves):
    assert plot_curves["moving_mean"]([8.0, 4.0, 0.0, 2.0, 4.0], 3) == [8.0, 4.0, 2.0, 2.0, 3.0]
    assert plot_curves["moving_mean"]([8.0, 4.0], 1) == [8.0, 4.0]


def test_line_is_interrupted_where_the_value_was_not_logged(plot_curves):
    updates, values = plot_curves["with_gaps"]([10, 20, 30, 100, 110, 130], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    assert updates == [10, 20, 30, 100, 100, 110, 130]
    assert [index for index, value in enumerate(values) if value != value] == [3]
    assert plot_curves["with_gaps"]([10], [6.0]) == ([10], [6.0])


def test_panels_without_values_are_left_out(plot_curves, tmp_path):
    pytest.importorskip("matplotlib")
    read_log, draw = plot_curves["read_log"], plot_curves["draw"]
    plain = read_log(write_log(tmp_path / "plain.json", log_lines()), "valid")
    full = read_log(
        write_log(tmp_path / "full.json", log_lines(kl="1", reward="0.3", d_acc_fake="0.8", entropy="2")), "valid"
    )
    full.splits["valid"][100] |= {"rec_acc": 0.4, "rec_acc_other": 0.3}
    assert [axes.get_title(loc="left") for axes in draw([plain], None, None, None).axes] == ["Loss"]
    titles = [axes.get_title(loc="left") for axes in draw([plain, full], (30, 60), None, "both").axes]
    assert [title.split()[0] for title in titles] == ["Loss", "KL", "Reconstruction", "Reward", "Accuracy", "Entropy"]


def test_turns_that_did_not_happen_are_not_shaded(plot_curves):
    names = [name for *_, name in plot_curves["turn_spans"]((600, 600), 1000)]
    assert names == ["pre-training", "adversarial training"]
    assert [name for *_, name in plot_curves["turn_spans"]((600, 700), 500)] == ["pre-training"]


def test_plot_curves_writes_a_picture_once(tmp_path):
    pytest.importorskip("matplotlib")
    log, out = write_log(tmp_path / "run.json", log_lines(kl="1", reward="0.3")), tmp_path / "curves.png"
    result = run_script("plot-curves", log, "--out", out, "--boundaries", "30,60")
    assert result.returncode == 0, result.stderr
    assert out.read_bytes().startswith(PNG_MAGIC)
    assert_refuses(run_script("plot-curves", log, "--out", out), "curves.png' exists", "--force")
    out.write_bytes(b"")
    assert run_script("plot-curves", log, "--out", out, "--force").returncode == 0
    assert out.read_bytes().startswith(PNG_MAGIC)


def test_plot_curves_refuses_bad_arguments(tmp_path):
    log = write_log(tmp_path / "run.json", log_lines())
    other = write_log(tmp_path / "other.log", ["epoch 1 | loss 3", '{"a": "b"}', "{'not': 'json'}"])
    out = tmp_path / "out.png"
    assert_refuses(run_script("plot-curves", tmp_path / "none.json", "--out", out), "none.json", "No such file")
    assert_refuses(run_script("plot-curves", log, other, "--out", out), "other.log", "--log-format json")
    assert_refuses(run_script("plot-curves", log, "--out", tmp_path / "out.txt"), ".png, .pdf or .svg")
    assert_refuses(run_script("plot-curves", log, "--out", tmp_path / "no" / "out.png"), "folder of --out")
    result = run_script("plot-curves", log, "--out", out, "--boundaries", "700,600")
    assert result.returncode == 2 and b"two update numbers" in result.stderr
    assert not out.exists()


# -- spm


@pytest.fixture(scope="module")
def sentencepiece_model(tmp_path_factory):
    pytest.importorskip("sentencepiece")
    prefix = tmp_path_factory.mktemp("spm") / "with,comma"
    sentences = ROOT / "examples" / "austen" / "data" / "train.txt"
    result = run_script("spm", "train", "--input", sentences, "--vocab-size", "300", "--prefix", prefix)
    assert result.returncode == 0, result.stderr
    return Path(f"{prefix}.model")


def test_spm_gives_the_vocabulary_asked_for(sentencepiece_model):
    vocabulary = sentencepiece_model.with_suffix(".vocab").read_text(encoding="utf-8").splitlines()
    assert len(vocabulary) == 300
    assert all(len(line.split("\t")) == 2 for line in vocabulary)


def test_spm_decodes_what_it_encoded_line_by_line(sentencepiece_model):
    text = b"i never saw anything half so beautiful !\n\nwell , well .\n"
    encoded = run_script("spm", "encode", "--model", sentencepiece_model, stdin=text)
    assert encoded.returncode == 0, encoded.stderr
    lines = encoded.stdout.decode().split("\n")
    assert len(lines) == 4 and lines[1] == "" and lines[3] == ""
    assert len(lines[0].split(" ")) > 8  # more pieces than words
    assert run_script("spm", "decode", "--model", sentencepiece_model, stdin=encoded.stdout).stdout == text


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_sentencepiece_model_is_refused_or_splits(sentencepiece_model, tmp_path, seed):
    rng, content = random.Random(seed), sentencepiece_model.read_bytes()
    kind, place = seed % 3, rng.randrange(len(content)) if seed else 0
    damaged = {
        0: content[:place],
        1: content[:place] + rng.randbytes(9) + content[place + 9 :],
        2: rng.randbytes(place),
    }
    file = tmp_path / "damaged.model"
    file.write_bytes(damaged[kind])
    try:
        model = spm.load_model(file)
    except ValueError as error:
        assert str(error) == f"'{file}' is not a sentencepiece model"
    else:
        assert isinstance(model.decode(model.encode("a name")), str)


def test_spm_refuses_what_it_cannot_do(sentencepiece_model, tmp_path):
    sentences, prefix = write_log(tmp_path / "text.txt", ["one two three", "three two one"]), tmp_path / "new"
    train = ("spm", "train", "--input")
    existing = sentencepiece_model.with_suffix("")
    assert_refuses(run_script(*train, sentences, "--vocab-size", "20", "--prefix", existing), "exists", "--force")
    assert_refuses(run_script(*train, sentences, "--vocab-size", "9999", "--prefix", prefix), "9999", "too high")
    assert_refuses(run_script(*train, tmp_path / "none.txt", "--vocab-size", "20", "--prefix", prefix), "none.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    assert_refuses(run_script(*train, tmp_path / "empty.txt", "--vocab-size", "20", "--prefix", prefix), "has no text")
    assert_refuses(run_script("spm", "encode", "--model", sentences, stdin=b"one\n"), "not a sentencepiece model")
    assert_refuses(run_script("spm", "encode", "--model", sentencepiece_model, stdin=b"caf\xe9\n"), "not UTF-8")
    assert not list(tmp_path.glob("new*"))


# -- setup-env


def run_setup_env(*arguments, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX")}
    return subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup-env"), *arguments],
        env={**kept, **environment},
        capture_output=True,
        timeout=3600,
    )


def test_setup_env_explains_itself_without_installing():
    result = run_setup_env("--help")
    assert result.returncode == 0
    assert b"SEQVAE_VENV" in result.stdout


def test_setup_env_refuses_what_it_does_not_know(tmp_path):
    assert_refuses(run_setup_env("everything", SEQVAE_VENV=str(tmp_path / "venv")), "unknown argument 'everything'")
    result = run_setup_env(SEQVAE_VENV=str(tmp_path / "venv"), SEQVAE_PYTHON="no-such-python")
    assert_refuses(result, "SEQVAE_PYTHON='no-such-python'", "3.10, 3.11 or 3.12")
    assert not (tmp_path / "venv" / "bin").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="not in a virtual environment")
def test_setup_env_takes_an_active_environment_that_has_all():
    pytest.importorskip("fairseq")
    inherited = {name: value for name, value in os.environ.items() if name not in ("SEQVAE_VENV", "CONDA_PREFIX")}
    # Found wherever the tests import it from; and if it is not, nothing must be installed.
    environment = {**inherited, "VIRTUAL_ENV": sys.prefix, "PYTHONPATH": str(ROOT), "SEQVAE_PYTHON": "no-such-python"}
    command = ["bash", str(ROOT / "scripts" / "setup-env")]
    result = subprocess.run(command, env=environment, capture_output=True, timeout=3600)
    assert (result.returncode, result.stdout.decode().strip()) == (0, sys.prefix), result.stderr.decode()


# -- bench


@pytest.mark.slow
def test_the_benchmark_writes_what_it_measured(tmp_path):
    pytest.importorskip("fairseq")
    file = tmp_path / "results.json"
    result = run_script("bench", "--quick", "--json", file)
    assert result.returncode == 0, result.stderr.decode()
    rows = json.loads(file.read_text())
    assert {"generator-turn-T20", "pick-V5000", "disc-scoring", "disc-update-B32"} <= {row["name"] for row in rows}
    for row in rows:
        assert row["ratio"] == pytest.approx(row["reference_s"] / row["median_s"])


@pytest.mark.slow
def test_the_benchmark_compares_estimators_at_equal_signal(tmp_path):
    pytest.importorskip("fairseq")
    file = tmp_path / "results.json"
    small = "--length 20 --vocab-size 20 --batch-size 4 --disc-updates 2 --seconds 0 --every 2 --repeats 1"
    result = run_script("bench", "--signal", *small.split(), "--json", file)
    assert result.returncode == 0, result.stderr.decode()
    rows = json.loads(file.read_text())
    assert [row["name"] for row in rows] == [f"signal: {name}" for name in estimators.ROWS]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["reference_s"] / row["median_s"])
    # Of the paper's own estimator, which is the measure of the signal, the ratio is that of the times.
    line = next(line for line in result.stdout.decode().splitlines() if line.startswith(next(iter(estimators.ROWS))))
    *_, same, equal = line.split()
    assert float(same) == float(equal) == pytest.approx(rows[0]["ratio"], abs=0.06)


@pytest.mark.slow
def test_the_benchmark_refuses_sequences_that_the_naive_way_cannot_score():
    pytest.importorskip("fairseq")
    small = "--length 5 --vocab-size 20 --batch-size 4 --disc-updates 0"
    result = run_script("bench", "--signal", *small.split())
    assert_refuses(result, "--length 5", "give a greater one")


def test_the_benchmark_refuses_a_folder_that_does_not_exist(tmp_path):
    assert_refuses(run_script("bench", "--json", tmp_path / "none" / "results.json"), "--json", "none")


# -- precisions


@pytest.mark.skipif(torch.cuda.is_available(), reason="says something only without a CUDA device")
def test_precisions_are_compared_on_a_gpu_unless_told_otherwise():
    assert_refuses(run_script("precisions"), "no GPU", "--cpu")


# -- soak


@pytest.mark.slow
def test_memory_does_not_grow_in_a_short_training(tmp_path):
    pytest.importorskip("fairseq")
    pytest.importorskip("psutil")
    result = run_script("soak", "--minutes", "0.3", "--out", tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    assert b"updates in" in result.stdout
    header, *rows = (tmp_path / "memory.csv").read_text().splitlines()
    assert header == "seconds,rss_mib" and len(rows) > 5
    assert (tmp_path / "memory.png").read_bytes().startswith(PNG_MAGIC)


def test_memory_that_grows_is_told_from_memory_that_does_not(tmp_path):
    soak = runpy.run_path(str(ROOT / "scripts" / "soak"))
    grows = [soak["Sample"](second, 400 + 0.5 * second) for second in range(40)]
    assert soak["slope"](soak["after_warm_up"](grows)) == pytest.approx(0.5)
    settles = [soak["Sample"](second, min(400, 100 * second)) for second in range(40)]
    assert soak["slope"](soak["after_warm_up"](settles)) == pytest.approx(0)
    with pytest.raises(soak["SoakError"], match="only 2 samples after the warm-up"):
        soak["after_warm_up"](grows[:3])
