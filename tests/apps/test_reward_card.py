"""The card of rewards: best-of-n and rows on examples worked out by hand, and the whole command with one rule."""

import csv
import dataclasses
import itertools
import json
import math
import shutil
import subprocess

import commands
import numpy as np
import pytest
import yaml
from commands import value_of

from fairseq_seqvae.cards import reward_card
from fairseq_seqvae.cards import reward_report as report
from fairseq_seqvae.cards.best_of import Scores, draws_needed, least_divergence, usual_bound
from fairseq_seqvae.cards.reward_recipes import BASE, Recipes

FOLDER = commands.ROOT / "examples" / "rewards"
RECIPES = Recipes.read(FOLDER / "recipes")


pytestmark = pytest.mark.usefixtures("what_a_command_changes_in_its_process")


class TestBestOf:
    def test_against_all_triples(self):
        """Scores 0, 1, 2 with chances 1/2, 1/3, 1/6."""
        chances = {0: 1 / 2, 1: 1 / 3, 2: 1 / 6}
        scores = Scores.of([0, 0, 0, 1, 1, 2])
        expected = dict.fromkeys(chances, 0.0)
        for triple in itertools.product(chances, repeat=3):
            expected[max(triple)] += math.prod(chances[score] for score in triple)
        assert scores.best_of(3).tolist() == pytest.approx(list(expected.values()))
        assert scores.share_met(1, 3) == pytest.approx(expected[1] + expected[2])
        divergence = sum(p * math.log(p / chances[score]) for score, p in expected.items())
        assert scores.divergence(3) == pytest.approx(divergence)
        # A sequence of score 2 becomes more likely, two of score 0 less.
        shift = -(math.log(expected[2] * 6) + 2 * math.log(expected[0] * 2)) / 3
        assert scores.shift_of_nll(3, [2, 0, 0]) == pytest.approx(shift)

    def test_one_draw_is_the_model(self):
        scores = Scores.of([0.0, 0.5, 1.0])
        assert scores.divergence(1) == pytest.approx(0) and scores.shift_of_nll(1, [0.5]) == pytest.approx(0)

    def test_a_score_that_was_never_drawn_has_no_likelihood(self):
        assert Scores.of([0.0, 1.0]).shift_of_nll(2, [0.0, 0.3]) is None

    def test_without_equal_scores_the_usual_bound_is_reached(self):
        scores = Scores.of(np.arange(200_000))
        assert scores.divergence(8) == pytest.approx(usual_bound(8), abs=1e-3)

    def test_by_a_yes_or_no_nothing_is_below_it(self):
        """One draw of five is right; of four draws one is with 1 - 0.8^4 = 0.5904."""
        scores = Scores.of([0, 0, 0, 0, 1])
        assert draws_needed(0.2, 0.5904) == pytest.approx(4)
        by_hand = 0.5904 * math.log(0.5904 / 0.2) + 0.4096 * math.log(0.4096 / 0.8)
        assert scores.divergence(4) == pytest.approx(by_hand) == least_divergence(0.2, 0.5904)
        assert by_hand < usual_bound(4)

    @pytest.mark.parametrize("one, wanted", [(0.0, 0.5), (1.0, 1.0), (0.2, 0.1), (0.2, 1.0)])
    def test_what_cannot_be_had_by_drawing_has_no_number(self, one, wanted):
        assert draws_needed(one, wanted) is None


class TestRecipes:
    def test_the_narrowest_option_wins(self, tmp_path):
        recipe = {"model": {"_name": "seqvae", "a": 1, "b": 1, "c": 1, "d": 1, "e": 1}, "common": {}, "task": {}}
        recipe |= {"criterion": {"_name": "seqvae_elbo"}, "optimization": {}}
        numbers = {f"model.{name}": 2 for name in "bcde"}
        files = {"own": recipe, "models": {"m": {"recipe": "own", "options": numbers}}}
        numbers = {f"model.{name}": 4 for name in "de"}
        files["rules"] = {
            "r": {"what": "", "model": "m", "sources": ["{here}/r.py:f", "regex:a,b"], "options": numbers}
        }
        shared = {"model.c": 3, "model.d": 3, "criterion._name": "seqvae_pg"}
        files["policies"] = {"shared": shared, "policies": {"p": {"what": "", "options": {"model.e": 5}}}}
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        recipes = Recipes.read(tmp_path)
        flags = recipes.policy_flags("r", "p", seed=7, smoke=False)
        assert [value_of(flags, f"--{name}") for name in "abcde"] == list("12345")
        assert value_of(flags, "--seed") == "7" and value_of(flags, "--criterion") == "seqvae_pg"
        assert value_of(flags, "--reward-sources") == f"{tmp_path}/r.py:f,regex:a\\,b"
        base = recipes.base_flags("m", seed=7, smoke=True)
        assert value_of(base, "--criterion") == "seqvae_elbo" and value_of(base, "--c") == "2"
        assert value_of(base, "--max-update") == "6"

    def test_a_policy_of_selected_draws_knows_of_no_rewards(self):
        flags = RECIPES.policy_flags("she", "selected", seed=7, smoke=False)
        assert value_of(flags, "--criterion") == "seqvae_elbo" and "--reward-sources" not in flags
        assert not any(flag.startswith(("--ref", "--value")) for flag in flags)
        assert value_of(flags, "--lr") == "0.0005" and value_of(flags, "--seed") == "7"
        assert not RECIPES.selection_flags("she", "nats-1", seed=7, smoke=False)

    def test_what_is_selected_by(self):
        flags = RECIPES.selection_flags("melody", "selected", seed=7, smoke=False)
        assert value_of(flags, "--reward-weights") == "9,9,9,9,9" and value_of(flags, "--draws") == "300000"
        rules = {"r": dataclasses.replace(RECIPES.rules["she"], sources=("regex:a,b", "match:bleu"))}
        flags = dataclasses.replace(RECIPES, rules=rules).selection_flags("r", "selected", seed=7, smoke=True)
        assert value_of(flags, "--reward-sources") == "regex:a\\,b,match:bleu"
        assert value_of(flags, "--reward-weights") == "9,1" and value_of(flags, "--draws") == "400"

    @pytest.mark.parametrize(
        "selection", [{"draws": 9, "weight": 1}, {"draws": 9, "keep": 0.1, "weight": 1, "rounds": 2}, 9, None]
    )
    def test_a_selection_has_three_numbers(self, tmp_path, selection):
        shutil.copytree(FOLDER / "recipes", tmp_path, dirs_exist_ok=True)
        policies = yaml.safe_load((tmp_path / "policies.yaml").read_text())
        policies["policies"]["selected"]["select"] = selection
        (tmp_path / "policies.yaml").write_text(yaml.safe_dump(policies))
        with pytest.raises(ValueError, match="`select` of the policy 'selected' needs draws, keep, weight"):
            Recipes.read(tmp_path)

    def test_a_folder_without_recipes_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"has no models.yaml, rules.yaml, policies.yaml: give a folder such as"):
            Recipes.read(tmp_path)

    @pytest.mark.parametrize(
        "change, said", [({"model": "x"}, "needs the model 'x'"), ({"policies": ["x"]}, "has no policy x")]
    )
    def test_what_a_rule_refers_to_must_be_there(self, tmp_path, change, said):
        shutil.copytree(FOLDER / "recipes", tmp_path, dirs_exist_ok=True)
        rules = yaml.safe_load((tmp_path / "rules.yaml").read_text())
        (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"seven": rules["seven"] | change}))
        with pytest.raises(ValueError, match=said):
            Recipes.read(tmp_path)


def numbers(share, divergence, **more):
    """What is measured of 100 samples."""
    found = {"share": share, "score": share, "sources": {"rule": share}, "divergence": divergence, "copies": 0.02}
    found |= {"nll_per_sequence": 40.0, "distinct_sequences": 90, "samples": 100, "bigrams": 400}
    return {**found, "distinct_bigrams": 100, "draw_seconds": 0.5, **more}


def cells_of(seed, share=0.8, divergence=1.2):
    best_of = [numbers(0.2, 0.0, n=1), numbers(0.5904, 0.365, n=4, nll_per_sequence=None)]
    base = {"best_of": best_of, "temperatures": [numbers(0.3, 5.0, temperature=0.5)]}
    policy = numbers(share, divergence, train_seconds=100.0, resumed=False)
    return [{"rule": "r", "policy": name, "seed": seed, **own} for name, own in ((BASE, base), ("p", policy))]


def card_of(cells):
    block = {"rule": "r", "what": "what is right", "model": "m", **report.summarise(cells)}
    return {"protocol": ["How."], "left_out": [], "rules": [block], "policies": {"p": "a policy"}}


class TestCard:
    def test_numbers_of_a_row(self):
        found = report.derived(numbers(0.5904, 0.7), 0.2)
        assert found["draws"] == pytest.approx(4) and found["bound"] == pytest.approx(math.log(4) - 3 / 4)
        assert found["least"] == pytest.approx(0.5904 * math.log(2.952) + 0.4096 * math.log(0.512))
        assert (found["distinct"], found["bigrams"], found["train"]) == (0.9, 0.25, 0)

    def test_a_share_below_that_of_single_draws_costs_nothing_that_could_be_compared(self):
        found = report.derived(numbers(0.1, 0.7), 0.2)
        assert found["least"] is None and found["draws"] is None and found["bound"] is None

    def test_rows_are_means_over_seeds_the_policies_first(self):
        found = report.summarise([*cells_of(1), *cells_of(2, share=0.9), cells_of(3)[1]])
        assert [row["name"] for row in found["rows"]] == ["p", "best of 1", "best of 4", "temperature 0.5"]
        # Seed 3 has no row of its model before the rewards.
        assert found["rows"][0]["seeds"] == [1, 2] and found["rows"][0]["share"].mean == pytest.approx(0.85)
        assert found["rows"][2]["nll"] is None and found["one"].mean == pytest.approx(0.2)

    def test_says_how_far_a_policy_is_from_the_least_divergence(self):
        text = report.markdown(card_of(cells_of(1)))
        # 0.8 ln 4 + 0.2 ln 0.25; n = ln 0.2 / ln 0.8 = 7.21: ln 7.21 - 6.21 / 7.21
        assert (
            "- p: 80.0% at 1.20 nats; the least for this share is 0.83 (+0.37), best-of-n by the usual bound 1.11."
            in text
        )
        assert (
            "| **p** | 1 | 80.0 | 1.20 | 0.83 | 1.11 | 7.2 | 0.800 | 40.00 | 90.0 | 25.0 | 2.0 | 100 | 0.50 |" in text
        )
        assert "mean of each reward" not in text and "- Rows of a single seed" in text

    def test_several_rewards_have_a_table(self):
        base, policy = cells_of(1)
        for row in (policy, *base["best_of"], *base["temperatures"]):
            row["sources"] = {"one": 0.25, "two": 0.75}
        assert "| **p** | 0.250 | 0.750 |" in report.markdown(card_of([base, policy]))

    def test_csv_has_a_line_for_each_row_and_seed(self, tmp_path):
        report.write_csv(tmp_path / "card.csv", [*cells_of(1), *cells_of(2)])
        with open(tmp_path / "card.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["name"] for row in rows] == ["best of 1", "best of 4", "temperature 0.5", "p"] * 2
        assert rows[3]["divergence"] == "1.2" and rows[3]["mean of rule"] == "0.8"

    def test_figure_has_a_line_for_each_kind_and_the_least_divergence(self):
        (axes,) = report.draw(card_of(cells_of(1))["rules"]).axes
        lines = {line.get_label(): line.get_xydata() for line in axes.lines if len(line.get_xydata())}
        least = lines["least divergence (best of n, exactly)"]
        assert all(x == pytest.approx(least_divergence(0.2, y / 100)) for x, y in least)
        containers = {each.get_label() for each in axes.containers}
        assert containers == {"trained", "best of n", "temperature"}


def in_this_process(monkeypatch):
    """Steps run fairseq's commands here: quicker than new processes. Returns the list of the commands."""
    seen = []

    def execute(self, words, log, output, training):
        seen.append(words)
        log.write_text("")
        if words[0].startswith("fairseq-"):
            words = [word for word in words if word not in ("--user-dir", commands.USER_DIR)]
            commands.call(words[0].removeprefix("fairseq-"), words[1:])
            return 0
        return subprocess.run(words, cwd=self.root, stdout=subprocess.DEVNULL, check=False).returncode

    monkeypatch.setattr("fairseq_seqvae.runs.steps.Steps._execute", execute)
    return seen


@pytest.fixture
def small(tmp_path):
    """Recipes of a small model of a toy language."""
    config = tmp_path / "config"
    shutil.copytree(FOLDER / "recipes", config)
    text = tmp_path / "text"
    text.mkdir()
    for split, count in (("train", 200), ("valid", 10), ("test", 10)):
        lines = [" ".join("abcdefgh"[(i + j) % 8] for j in range(2 + i % 5)) for i in range(count)]
        (text / f"{split}.txt").write_text("\n".join(lines) + "\n")
    sizes = {"model.embed_dim": 8, "model.encoder_hidden_dim": 8, "model.decoder_hidden_dim": 12}
    model = yaml.safe_load((config / "models.yaml").read_text())["austen-lm"]
    models = {"toy": {"recipe": "austen", "options": model["options"] | sizes}}
    models["toy"]["data"] = {"name": "toy", "folder": str(text)}
    (config / "models.yaml").write_text(yaml.safe_dump(models))
    rules = {"a": {"what": "has an a", "model": "toy", "sources": ["contains:a", "match:length:3"]}}
    (config / "rules.yaml").write_text(yaml.safe_dump(rules))
    policies = yaml.safe_load((config / "policies.yaml").read_text())
    selected = policies["policies"]["selected"] | {"select": {"draws": 10, "keep": 0.3, "weight": 9}}
    policies["policies"] = {"kl-1": {"what": "near", "options": {"criterion.ref_kl": 1.0}}, "selected": selected}
    (config / "policies.yaml").write_text(yaml.safe_dump(policies))
    return config


@pytest.mark.slow
def test_a_card_is_complete_and_goes_on_and_refuses_other_recipes(tmp_path, small, monkeypatch, capsys):
    seen = in_this_process(monkeypatch)
    out = tmp_path / "out"
    flags = ["--config", str(small), "--out", str(out), "--smoke", "--policies"]

    def run(policies):
        seen.clear()
        return reward_card.main([*flags, policies], root=commands.ROOT)

    # Interrupted in the training of the policy.
    train = commands.call

    def stopped(command, *words):
        if sum(each[0] == "fairseq-train" for each in seen) == 2:
            raise KeyboardInterrupt
        return train(command, *words)

    monkeypatch.setattr(commands, "call", stopped)
    assert run("base,kl-1") == 130
    monkeypatch.setattr(commands, "call", train)
    assert run("base,kl-1") == 0
    assert sum(words[0] == "fairseq-train" for words in seen) == 1
    found = json.loads((out / "card.json").read_text())
    base, policy = found["cells"]
    assert [row["n"] for row in base["best_of"]] == [1, 4] and base["best_of"][0]["divergence"] == pytest.approx(0)
    assert policy["resumed"] and policy["samples"] == 40 and 0 < policy["divergence"] < 5
    # The first of four draws is among the four.
    first, four = base["best_of"]
    assert first["score"] <= four["score"] and four["share"] == pytest.approx(1 - (1 - first["share"]) ** 4)
    text = (out / "card.md").read_text()
    for part in text.split("\n\n"):
        assert len({line.count(" | ") for line in part.splitlines() if line.startswith("|")}) <= 1
    assert (out / "share_divergence.png").read_bytes().startswith(b"\x89PNG")

    capsys.readouterr()
    assert run("base,kl-1") == 0
    assert not seen and "measuring" not in capsys.readouterr().out
    assert json.loads((out / "card.json").read_text()) == found

    assert run("selected") == 0
    # From other data than the model before; measured beside it.
    assert "select" in seen[0] and [words[0] for words in seen[1:]] == ["fairseq-preprocess", "fairseq-train"]
    lines = (out / "a/train/selected-1/selected/train.txt").read_text().splitlines()
    assert 60 < len(lines) < 180 and seen[2][1] == str(out / "a/train/selected-1/selected/data")
    learned = json.loads((out / "card.json").read_text())["cells"][2]
    assert learned["policy"] == "selected" and 0 < learned["divergence"] < 5
    spent = [json.loads((out / "a/train/selected-1" / name).read_text()) for name in ("cpu.json", "selected/cpu.json")]
    assert learned["train_seconds"] == round(sum(one["seconds"] for one in spent), 1) and not learned["resumed"]
    assert run("selected") == 0 and not seen

    policies = yaml.safe_load((small / "policies.yaml").read_text())
    policies["policies"]["kl-1"]["options"]["criterion.ref_kl"] = 2.0
    (small / "policies.yaml").write_text(yaml.safe_dump(policies))
    assert run("base,kl-1") == 1
    assert "holds the results of another command" in capsys.readouterr().err and not seen
    assert run("base") == 0
    assert "Not shown, made by other settings or recipes: a-kl-1-1." in (out / "card.md").read_text()

    # A model that is there already: nothing is trained by likelihood, nothing binarised.
    models = yaml.safe_load((small / "models.yaml").read_text())
    models["toy"]["data"] = {"name": "toy", "binarised": str(out / "data/toy/data")}
    models["toy"]["checkpoint"] = str(out / "models/toy-{seed}/checkpoints/checkpoint_last.pt")
    (small / "models.yaml").write_text(yaml.safe_dump(models))
    flags[3] = str(tmp_path / "other")
    assert run("base") == 0 and not seen
    other = json.loads((tmp_path / "other/card.json").read_text())["cells"][0]
    assert other["best_of"][1]["score"] == base["best_of"][1]["score"]


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--rules", "seven,magic"], "--rules: magic is none of seven"),
        (["--policies", "magic"], "--policies: magic is none of base, "),
        (["--seeds", "0"], "'0' must be a whole number of at least 1"),
    ],
)
def test_unknown_names_are_refused(flags, said, capsys):
    with pytest.raises(SystemExit) as stop:
        reward_card.main(flags, config=FOLDER / "recipes")
    assert stop.value.code == 2 and said in capsys.readouterr().err
