"""examples/melody/frontier: what it trains, and what it says of cells that are there."""

import importlib.machinery
import importlib.util
import json

import commands
import pytest
import yaml
from test_examples import config_of_flags

from fairseq_seqvae.runs import steps

MELODY = commands.ROOT / "examples" / "melody"


@pytest.fixture(scope="module")
def frontier():
    loader = importlib.machinery.SourceFileLoader("frontier", str(MELODY / "frontier"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("frontier", loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def plan():
    return yaml.safe_load((MELODY / "frontier.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("recipe", ["bars2", "bars4"])
def test_both_kinds_have_as_many_updates_and_differ_by_the_reward(frontier, plan, recipe):
    found = {}
    for kind, name in (("longer", "seqvae_elbo"), ("reward", "seqvae_pg")):
        flags = steps.flags_from_yaml(MELODY / "config" / f"{recipe}.yaml", frontier.options(plan, f"{kind}-0.4"))
        found[kind] = config_of_flags(flags)
        assert found[kind].criterion._name == name and found[kind].criterion.kl_weight == 0.4
        assert found[kind].criterion.kl_anneal == "constant"
    longer, reward = found.values()
    assert longer.optimization == reward.optimization and longer.lr_scheduler == reward.lr_scheduler
    turns = reward.task.gen_pretrain_updates, reward.task.disc_pretrain_updates
    assert turns == (0, plan["updates"]["discriminator_first"])
    assert reward.optimization.max_update == 2 * plan["updates"]["turns"] + plan["updates"]["discriminator_first"]
    assert reward.criterion.pg_latent == "prior" and reward.model.decoder == longer.model.decoder == "hybrid"


def write_cell(folder, notes, judged, fitted=()):
    folder.mkdir(parents=True)
    measured = {"rec_acc_notes": notes, "rec_acc": 0.9, "rec_exact": 0.5, "kl": 40.0}
    (folder / "measure.json").write_text(json.dumps(measured))
    for name, found in (("judge", judged), ("judge-fitted", fitted)):
        samples = [{"temperature": tau, "accuracy": value, "in_one_scale": 0.7, "runs": []} for tau, value in found]
        (folder / f"{name}.json").write_text(json.dumps({"held_out": {"in_one_scale": 0.9}, "samples": samples}))


def test_the_table_has_the_mean_and_the_range_of_the_seeds(frontier, tmp_path):
    write_cell(tmp_path / "longer-2-1", 0.8, [(1.0, 0.75), (0.5, 0.65)])
    write_cell(tmp_path / "longer-2-2", 0.9, [(1.0, 0.85), (0.5, 0.65)], [(1.0, 0.6)])
    write_cell(tmp_path / "reward-1-1", 0.7, [(1.0, 0.6)])
    write_cell(tmp_path / "another-1-1", 0.7, [(1.0, 0.6)])
    write_cell(tmp_path / "lm-2", 0.7, [(1.0, 0.55)])
    (tmp_path / "lm-2" / "measure.json").unlink()
    (tmp_path / "lm-2" / "judge-fitted.json").unlink()
    selected = {"held_out": {"in_one_scale": 0.9}, "samples": [{"file": "selected.txt", "accuracy": 0.52, "runs": []}]}
    (tmp_path / "lm-2" / "judge-selected.json").write_text(json.dumps(selected))
    (tmp_path / "reward-1-2").mkdir()  # not finished
    found = frontier.summaries(frontier.finished(tmp_path, ["longer-2", "reward-1"]))
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in frontier.markdown(found, "bars2").splitlines()
    ]
    assert lines[0] == [
        *("bars2", "prior", "temperature", "seeds", "notes", "tokens", "whole", "KL, nats", "judge"),
        "in one scale",
    ]
    both = "0.850 (0.800 to 0.900)"
    assert lines[2:] == [
        ["held-out data", "-", "-", "1", "-", "-", "-", "-", "-", "0.900"],
        ["lm", "-", "1", "1", "-", "-", "-", "-", "0.550", "0.700"],
        ["lm", "selected", "1", "1", "-", "-", "-", "-", "0.520", "-"],
        ["longer-2", "N(0, I)", "1", "2", both, "0.900", "0.500", "40.0", "0.800 (0.750 to 0.850)", "0.700"],
        ["longer-2", "N(0, I)", "0.5", "2", both, "0.900", "0.500", "40.0", "0.650", "0.700"],
        ["longer-2", "fitted", "1", "1", "0.900", "0.900", "0.500", "40.0", "0.600", "0.700"],
        ["reward-1", "N(0, I)", "1", "1", "0.700", "0.900", "0.500", "40.0", "0.600", "0.700"],
    ]
    frontier.draw(found, tmp_path / "frontier.png")
    assert (tmp_path / "frontier.png").stat().st_size > 1000


def test_turns_are_those_of_the_command(frontier, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(frontier, "make", lambda args, plan, data, cell, seed: seen.append(plan["updates"]["turns"]))
    monkeypatch.setattr(frontier.s.Steps, "run", lambda self, *words, **more: None)
    monkeypatch.setattr(frontier, "make_language_model", lambda args, data, seed: None)
    monkeypatch.setattr(frontier, "draw", lambda found, path: None)
    (tmp_path / "out").mkdir()
    for turns, expected in ((["--turns", "7"], 7), ([], 300)):
        seen.clear()
        monkeypatch.setattr("sys.argv", ["frontier", "--cells", "reward-1", *turns, "--out", str(tmp_path / "out")])
        assert steps.main(frontier.body, frontier.parse()) == 0
        assert set(seen) == {expected}


def test_each_prior_is_judged_from_the_checkpoint_that_has_it(frontier, plan, tmp_path, monkeypatch):
    commands_run = []
    monkeypatch.setattr(frontier.s.Steps, "run", lambda self, name, words, **more: commands_run.append(words))
    flags = ["--cells", "reward-1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["frontier", *flags])
    args = frontier.parse()
    args.steps = None
    frontier.make(args, plan, tmp_path / "data", "reward-1", 3)
    names = ("checkpoints/checkpoint_last.pt", "fitted.pt", "encoded.pt", "selected.pt")
    trained, *made = (tmp_path / "reward-1-3" / name for name in names)
    fits = [words for words in commands_run if "fit-prior" in words]
    assert [[words[words.index(flag) + 1] for flag in ("--path", "--out")] for words in fits] == [
        [trained, path] for path in made
    ]
    proposing = tmp_path / "lm-3" / "checkpoints" / "checkpoint_last.pt"
    assert ["--exemplars" in words for words in fits] == [False, True, True]
    assert fits[2][fits[2].index("--lines") + 1] == tmp_path / "lm-3" / "selected.txt"
    assert fits[1][fits[1].index("--draws-of") + 1] == proposing
    judges = [words for words in commands_run if "judge" in words]
    assert [[words[words.index(flag) + 1] for flag in ("--prior", "--path")] for words in judges] == [
        ["model", trained],
        *(["fitted", path] for path in made),
    ]
    assert all(commands_run.index(fit) < commands_run.index(used) for fit, used in zip(fits, judges[1:], strict=True))
    assert len({words[words.index("--json") + 1] for words in judges}) == 4


def test_the_language_model_of_each_seed_is_trained_and_judged_first(frontier, tmp_path, monkeypatch):
    commands_run = []
    monkeypatch.setattr(frontier.s.Steps, "run", lambda self, name, words, **more: commands_run.append(list(words)))
    monkeypatch.setattr(frontier, "draw", lambda found, path: None)
    monkeypatch.setattr("sys.argv", ["frontier", "--cells", "start", "--seeds", "1,2", "--out", str(tmp_path)])
    assert steps.main(frontier.body, frontier.parse()) == 0
    trainings = [words for words in commands_run if words[0] == "fairseq-train"]
    folders = [words[words.index("--save-dir") + 1].parent.name for words in trainings]
    assert folders == ["lm-1", "start-1", "lm-2", "start-2"]
    found = config_of_flags(trainings[2][4:-2])
    assert found.model.latent_dim == 0 and found.task.fixed_length == 32 and found.common.seed == 2
    judged = [words for words in commands_run if "judge" in words]
    assert [words[words.index("--path") + 1].parts[-3] for words in judged[:3]] == ["lm-1", "lm-1", "start-1"]
    selecting = next(words for words in commands_run if "select" in words)
    selected = selecting[selecting.index("--out") + 1]
    assert ["--samples" in words for words in judged[:3]] == [False, True, False]
    assert judged[1][judged[1].index("--samples") + 1] == selected
    assert commands_run.index(trainings[0]) < commands_run.index(selecting) < commands_run.index(judged[1])


def test_a_missing_package_is_named_before_the_work(frontier, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(frontier.importlib.util, "find_spec", lambda name: None if name == "sklearn" else name)
    monkeypatch.setattr("sys.argv", ["frontier", "--out", str(tmp_path / "out")])
    assert steps.main(frontier.body, frontier.parse()) == 1
    assert "pip install -c scripts/constraints.txt '.[fit]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_cell_is_named(frontier, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["frontier", "--cells", "reward-7", "--out", str(tmp_path / "out")])
    assert steps.main(frontier.body, frontier.parse()) == 1
    assert "--cells reward-7: expected some of start, longer-0.4," in capsys.readouterr().err
