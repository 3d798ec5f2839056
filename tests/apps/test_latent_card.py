"""The card of latents: recipes and numbers on hand-made cells, and the whole command with two methods."""

import csv
import json
import math
import re
import shutil
import subprocess
import sys

import commands
import pytest
import yaml
from commands import value_of

from fairseq_seqvae.cards import latent_card, making
from fairseq_seqvae.cards import latent_report as report
from fairseq_seqvae.cards.latent_recipes import Recipes, resolve
from fairseq_seqvae.cards.self_bleu import self_bleu
from fairseq_seqvae.cards.spreads import Spread
from fairseq_seqvae.core.latents.delta import largest_std
from fairseq_seqvae.oracle.__main__ import main as oracle_main
from fairseq_seqvae.runs.steps import StepError

FOLDER = commands.ROOT / "examples" / "latents"
RECIPES = Recipes.read(FOLDER / "recipes")


pytestmark = pytest.mark.usefixtures("what_a_command_changes_in_its_process")


class TestRecipes:
    @pytest.mark.parametrize(
        "value, expected",
        [("75%", 150), ("160%", 320), ("0.1%", "0.1%"), ("1%", 2), (0.5, 0.5), ("52,90", "52,90"), (True, True)],
    )
    def test_shares_are_of_the_updates(self, value, expected):
        assert resolve(value, 200) == expected

    def test_a_share_is_at_least_one_update(self):
        assert resolve("5%", 2) == 1

    def test_the_narrowest_option_wins(self, tmp_path):
        files = {
            "base": {"model": {"_name": "seqvae", "a": 1, "b": 1, "c": 1, "d": 1}, "common": {"seed": 1}},
            "data_sets": {"text": {"updates": 100, "options": {"model.b": 2, "model.c": 2, "model.d": 2}}},
            "methods": {"lm": {"stages": [{}]}, "vae": {"stages": [{"model.c": 3, "model.d": 3, "model.e": "50%"}]}},
        }
        files["data_sets"]["text"]["methods"] = {"vae": {"model.d": 4}}
        for name, content in files.items():
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
        (flags,) = Recipes.read(tmp_path).stages("vae", "text", updates=100, seed=7)
        assert [value_of(flags, f"--{name}") for name in ("a", "b", "c", "d", "e", "seed")] == list("1234") + [
            "50",
            "7",
        ]

    def test_an_example_has_its_own_options(self):
        (own,) = RECIPES.stages("recipe_07", "melody-2", updates=100, seed=7)
        example = yaml.safe_load((commands.ROOT / "examples/melody/config/bars2_long.yaml").read_text())
        assert value_of(own, "--kl-weight") == "0.7" and value_of(own, "--seed") == "7"
        assert value_of(own, "--batch-size") == str(example["dataset"]["batch_size"])
        assert value_of(own, "--max-update") == str(example["optimization"]["max_update"])
        assert value_of(own, "--conv-channels") == example["model"]["conv_channels"]

    def test_the_schedule_of_an_example_is_shortened_as_a_whole(self):
        (own,) = RECIPES.stages("recipe", "austen", updates=12, seed=1, shorter=12)
        # The example: 1200 updates, 900 of them by the ELBO and 100 of the discriminator, with 400 of annealing.
        assert [
            int(value_of(own, flag))
            for flag in (
                "--max-update",
                "--gen-pretrain-updates",
                "--disc-pretrain-updates",
                "--kl-anneal-updates",
                "--adv-d-steps",
            )
        ] == [12, 9, 1, 4, 1]

    def test_the_oracle_has_no_example(self):
        assert not RECIPES.applies("recipe", "latent-oracle") and RECIPES.applies("recipe", "austen")

    @pytest.mark.parametrize("name", [name for name in RECIPES.data_sets if name.startswith("melody")])
    def test_melodies_are_those_that_the_example_trains_on(self, name):
        words = RECIPES.data_sets[name]["command"].split()
        assert "--common-key" in words and words[2].endswith("/melody")
        assert f"fixed_length: {16 * int(words[words.index('--bars') + 1])}" in RECIPES.example(name).read_text()

    def test_a_folder_without_recipes_is_named(self, tmp_path):
        with pytest.raises(ValueError, match="has no base.yaml, data_sets.yaml, methods.yaml: give a folder such as"):
            Recipes.read(tmp_path)

    @pytest.mark.parametrize("method", [name for name in RECIPES.methods if name.endswith("_pg")])
    def test_a_twin_moves_the_generator_as_often(self, method):
        twin = RECIPES.methods[method]["twin"]
        (own,), (other,) = (RECIPES.stages(name, "austen", 1000, 1) for name in (method, twin))
        generator, discriminator, all_turns = (
            int(value_of(own, flag)) for flag in ("--gen-pretrain-updates", "--disc-pretrain-updates", "--max-update")
        )
        in_turn = all_turns - generator - discriminator
        assert in_turn % 2 == 0 and generator + in_turn // 2 == int(value_of(other, "--max-update")) == 1000
        assert int(value_of(own, "--kl-anneal-updates")) == int(value_of(other, "--kl-anneal-updates")) < generator

    def test_lagging_inference_moves_all_parts_as_often(self):
        (flags,) = RECIPES.stages("lagging", "austen", 1000, 1)
        of_encoder, until = int(value_of(flags, "--lagging-updates")), int(value_of(flags, "--lagging-until"))
        assert until // (of_encoder + 1) + int(value_of(flags, "--max-update")) - until == 1000

    def test_the_hierarchical_decoder_is_for_melodies(self):
        assert [name for name in RECIPES.data_sets if RECIPES.applies("hierarchical", name)] == [
            "melody-2",
            "melody-4",
            "melody-16",
        ]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Binarised data of the oracle with a latent, and a folder for trainings."""
    folder = tmp_path_factory.mktemp("small")
    sizes = ["--train", "260", "--valid", "8", "--test", "8"]
    assert oracle_main(["latent-generate", *sizes, "--out", str(folder / "text")]) == 0
    lines = {split: (folder / f"text/{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")}
    return commands.preprocess(folder / "bin", folder / "text/dict.txt", **lines), folder


@pytest.mark.slow
@pytest.mark.parametrize("method", list(RECIPES.methods))
def test_fairseq_train_takes_the_flags_of_every_method(small, method):
    data, folder = small
    data_set = "latent-oracle" if RECIPES.applies(method, "latent-oracle") else "melody-2"
    checkpoint = None
    for number, flags in enumerate(RECIPES.stages(method, data_set, updates=4, seed=1)):
        save_dir = folder / f"{method}-{number}"
        start = [RECIPES.methods[method]["start"], checkpoint] if checkpoint else []
        if data_set == "melody-2":  # what these data need
            flags = [word for word in flags if word not in ("--transpose", "52,90")]
            flags += ["--fixed-length", "10", "--segment-length", "5"]
        commands.call("train", data, flags, *start, "--save-dir", save_dir)
        checkpoint = save_dir / "checkpoint_last.pt"
        state = commands.load_checkpoint(checkpoint)
        assert state["optimizer_history"][-1]["num_updates"] == int(value_of(flags, "--max-update"))


def cell(method, seed, nll, **more):
    """A cell with a latent of 4 units, of 2 sequences."""
    found = {"data_set": "text", "method": method, "seed": seed, "nll_per_sequence": nll, "latent_dim": 4}
    found |= {"kl": 2.0, "elbo_per_sequence": -nll - 0.5, "mutual_information": 1.5, "mutual_information_bound": 1.8}
    found |= {"mutual_information_ceiling": math.log(100), "active_units": 3, "rec_acc": 0.4, "rec_bleu": 20.0}
    found |= {"rec_distinct": 0.5, "reverse_nll": math.log(30), "self_bleu": 40.0, "bigrams": 200}
    found |= {"distinct_bigrams": 50, "cpu_seconds": 60.0, "resumed": False, "log_likelihood": [-nll - 1, -nll + 1]}
    return {**found, **more}


def language_model(seed, nll, **more):
    return cell("lm", seed, nll, latent_dim=0, kl=0.0, mutual_information=0.0, active_units=0, **more)


def real(seed):
    kept = ("data_set", "method", "seed", "reverse_nll", "self_bleu", "bigrams", "distinct_bigrams")
    return {name: value for name, value in cell("real", seed, 0.0).items() if name in kept}


class TestNumbersOfARow:
    def test_of_a_model_with_a_latent(self):
        found = report.derived(cell("new", 1, 35.0, cpu_seconds=90.0), language_model(1, 36.0), cell("vae", 1, 36.5))
        assert found["gap"] == pytest.approx(-1.0) and found["time"] == pytest.approx(1.5)
        # ELBO = -reconstruction - KL: 35.5 = 33.5 + 2
        assert found["reconstruction"] == pytest.approx(33.5)
        assert found["reverse_perplexity"] == pytest.approx(30.0) and found["distinct_bigrams"] == 0.25
        assert (found["accuracy"], found["bleu"], found["different"]) == (0.4, 20.0, 0.5)
        assert found["kl_share"] is None

    @pytest.mark.parametrize(("own", "its"), [(90.0, 0.0), (0.0, 60.0), (0.0, 0.0)])
    def test_times_too_short_to_be_measured_are_not_compared(self, own, its):
        found = report.derived(cell("new", 1, 35.0, cpu_seconds=own), None, cell("vae", 1, 36.5, cpu_seconds=its))
        assert found["time"] is None

    def test_melodies_are_judged_by_their_notes(self):
        assert report.derived(cell("new", 1, 35.0, rec_acc_notes=0.1), None, None)["accuracy"] == 0.1

    def test_a_language_model_has_no_latent_and_no_distance_from_itself(self):
        lm = language_model(1, 36.0)
        found = report.derived(lm, lm, None)
        assert found["nll"] == 36.0 and found["gap"] is None and found["time"] is None
        for key in ("kl", "information", "active", "accuracy", "bleu", "different", "reconstruction"):
            assert found[key] is None

    def test_real_sentences_have_only_the_numbers_of_samples(self):
        found = report.derived(real(1), language_model(1, 36.0), cell("vae", 1, 36.0))
        assert {key for key, value in found.items() if value is not None} == {
            "reverse_perplexity",
            "self_bleu",
            "distinct_bigrams",
        }

    def test_error_of_a_gap_is_that_of_the_differences(self):
        own, other = {"log_likelihood": [-3.0, -5.0, -4.0]}, {"log_likelihood": [-4.0, -4.0, -4.0]}
        assert report.paired_error(own, other) == pytest.approx(1 / math.sqrt(3))  # of 1, -1, 0
        assert report.paired_error(own, {"log_likelihood": [-4.0]}) is None
        assert report.paired_error(own, {}) is None


class TestSummaries:
    def test_a_gap_is_a_mean_over_the_seeds_that_have_both(self):
        cells = [language_model(1, 36.0), language_model(2, 37.0)]
        cells += [cell("vae", seed, nll) for seed, nll in ((1, 35.0), (2, 37.0), (3, 20.0))]
        lm, vae = report.summarise(cells)
        assert lm["gap"] is None and vae["seeds"] == [1, 2, 3]
        # Differences -1 and 0: the 97.5 % point at one degree of freedom is 12.7062.
        assert vae["gap"].mean == -0.5 and vae["gap"].seeds == 2
        assert vae["gap"].half_width == pytest.approx(12.7062 * math.sqrt(0.5) / math.sqrt(2), abs=1e-3)
        assert vae["nll"].mean == pytest.approx(92 / 3) and vae["gap_error"] is None
        assert vae["time"] == Spread(1.0, 0.0, 3)

    def test_an_estimate_near_its_ceiling_is_marked(self):
        low, high = (cell("vae", 1, 35.0, mutual_information=share * math.log(100)) for share in (0.89, 0.91))
        assert [report.summarise([each])[0]["near_ceiling"] for each in (low, high)] == [False, True]

    def test_twins_are_compared_seed_by_seed(self):
        cells = [cell("vae", seed, 36.0, mutual_information=seed) for seed in (1, 2, 3)]
        cells += [cell("vae_pg", seed, 36.5, mutual_information=seed + 0.5 * seed) for seed in (2, 3)]
        (row,) = report.twins(cells, {"vae_pg": "vae", "hybrid_pg": "hybrid"})
        assert row["seeds"] == [2, 3]
        assert row["nll"].mean == pytest.approx(0.5) and row["information"].mean == pytest.approx(1.25)


def card_of(cells):
    block = {"data_set": "text", "truth": None, "methods": report.summarise(cells)}
    block["twins"] = report.twins(cells, {"vae_pg": "vae"})
    block["held_out"] = latent_card._of_held_out(cells)
    return {"protocol": ["How."], "left_out": [], "data_sets": [block], "methods": {"vae": "plain"}}


class TestCard:
    def test_inconvenient_findings_come_first(self):
        cells = [
            real(1),
            language_model(1, 36.0, reverse_nll=math.log(20)),
            cell("vae", 1, 36.5, mutual_information=0.05),
        ]
        cells += [cell("good", 1, 35.5, reverse_nll=math.log(19)), cell("vae_pg", 1, 36.0, resumed=True)]
        text = report.markdown(card_of(cells))
        lines = [line for line in text[text.index("## text") :].splitlines()[2:] if line.startswith("- ")]
        assert lines[0] == "- Higher NLL than the language model, 1 of 3 methods: vae (+0.50 (s.e. 0.00))."
        assert lines[1] == "- Latent unused (MI below 0.1 nats): vae."
        assert lines[2] == (
            "- Higher reverse perplexity than the language model's samples (20.00), 2 of 3 methods: vae (30.00), "
            "vae_pg (30.00)."
        )
        assert lines[3].startswith("- vae_pg less vae (1 seed): MI +1.450, NLL -0.500")
        assert lines[3].endswith("One seed does not tell a gain from chance.")
        assert lines[4].startswith("- Rows of a single seed") and lines[5].startswith("- *: training was interrupted")
        assert "| **vae_pg** | 1 | 36.00 | +0.00 (s.e. 0.00) |" in text and "| 1.00* |" in text

    def test_draws_stand_beside_held_out_data(self):
        judged = {"draws_accuracy": 0.88, "draws_in_one_scale": 0.67, "held_out_in_one_scale": 0.912, "rec_exact": 0.7}
        text = report.markdown(card_of([cell("vae", 1, 36.0, rec_acc_notes=0.9, **judged)]))
        assert "- Of the held-out sequences themselves: 91.2% wholly in one scale.\n" in text
        rows = [line for line in text.splitlines() if " judge " in line or line.startswith("| **vae** | 1 | 0.900")]
        assert rows[0].startswith("| reconstruction, samples, time | seeds | greedy accuracy | of all tokens | whole |")
        assert "a bar returns" not in rows[0]  # of no row
        assert rows[1].startswith("| **vae** | 1 | 0.900 | 0.400 | 0.700 | 20.0 | 0.500 | 0.880 | 0.670 |")

    def test_without_a_language_model_there_is_no_distance(self):
        text = report.markdown(card_of([cell("vae", 1, 36.0)]))
        assert "- No distance from the language model: lm is missing" in text
        assert "| **vae** | 1 | 36.00 | 34.50 |" in text and "gap to LM |" not in text

    def test_a_language_model_alone_is_compared_with_nothing(self):
        (line,) = report.findings(card_of([language_model(1, 36.0)])["data_sets"][0])
        assert line.startswith("- Rows of a single seed")

    @pytest.mark.parametrize(
        "change, expected",
        [
            (Spread(0.5, 0.6, 3), "The interval of the MI includes 0."),
            (Spread(0.5, 0.4, 3), "The MI is higher than the twin's."),
            (Spread(-0.5, 0.4, 3), "The MI is lower than the twin's."),
            (Spread(0.5, None, 1), "One seed does not tell a gain from chance."),
        ],
    )
    def test_a_gain_is_one_only_beyond_its_interval(self, change, expected):
        assert report._verdict(change) == expected

    def test_csv_has_a_line_for_each_cell(self, tmp_path):
        cells = [real(1), language_model(1, 36.0), cell("vae", 1, 35.0), cell("vae", 2, 35.0)]
        report.write_csv(tmp_path / "card.csv", cells)
        with open(tmp_path / "card.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["method"], row["seed"]) for row in rows] == [
            ("real", "1"),
            ("lm", "1"),
            ("vae", "1"),
            ("vae", "2"),
        ]
        assert [row["gap"] for row in rows] == ["", "", "-1.0", ""] and "log_likelihood" not in rows[0]

    def test_figure_has_a_point_for_each_method_with_a_latent(self):
        cells = [real(1), language_model(1, 36.0), cell("vae", 1, 35.0), cell("new", 1, 34.0, mutual_information=3.0)]
        (axes,) = report.draw(card_of(cells)["data_sets"]).axes
        points = {tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xydata()) == 1}
        assert points == {(1.5, 35.0), (3.0, 34.0)}
        (level,) = {y for line in axes.lines if len(line.get_xydata()) == 2 for _, y in line.get_xydata()}
        assert level == 36.0

    def test_frontier_has_a_point_for_each_method_that_was_judged(self):
        cells = [language_model(1, 36.0, draws_accuracy=0.6), cell("vae", 1, 35.0, draws_accuracy=0.9)]
        cells.append(cell("new", 1, 34.0, rec_acc_notes=0.8, draws_accuracy=0.7))
        (axes,) = report.draw_frontier(card_of(cells)["data_sets"]).axes
        points = {tuple(line.get_xydata()[0]) for line in axes.lines if len(line.get_xydata()) == 1}
        assert points == {(0.4, 0.9), (0.8, 0.7)}


class TestSelfBleu:
    def test_sentences_that_repeat_each_other_have_100(self):
        assert self_bleu(["a b c d e"] * 4) == pytest.approx(100)

    def test_a_sentence_is_never_its_own_reference(self):
        lines = [" ".join(f"{letter}{i}" for i in range(8)) for letter in "abcdef"]
        assert self_bleu(lines) < 5

    def test_only_as_many_references_as_asked_for(self):
        lines = ["a b c d e", "f g h i j", "a b c d e", "k l m n o"]
        near, far = (self_bleu(lines, hypotheses=1, references=count) for count in (1, 2))
        assert near < 10 and far == pytest.approx(100)

    def test_one_sentence_has_none(self):
        assert self_bleu(["a b"]) is None


@pytest.mark.parametrize("method", ["matched", "matched_pg", "matched_unrewarded"])
def test_posteriors_of_matched_are_together_as_wide_as_the_prior(method):
    (stage,) = RECIPES.methods[method]["stages"]
    variance = stage["model.mean_norm"] ** 2 + largest_std(stage["model.kl_floor"]) ** 2
    assert variance == pytest.approx(1, abs=1e-3)


def test_cpu_time_of_processes_adds_up_over_starts(tmp_path):
    path = tmp_path / "cpu.json"
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    for runs in (1, 2):
        with making.counted(path):
            assert json.loads(path.read_text())["runs"] == runs  # known before a process could be killed
            subprocess.run([sys.executable, "-c", burn], check=True)
        assert json.loads(path.read_text())["seconds"] >= 0.2 * runs


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


@pytest.mark.slow
def test_a_card_is_complete_and_goes_on_and_refuses_other_recipes(tmp_path, monkeypatch, capsys):
    seen = in_this_process(monkeypatch)
    config, out = tmp_path / "config", tmp_path / "out"
    shutil.copytree(FOLDER / "recipes", config)
    flags = ["--config", str(config), "--out", str(out), "--smoke", "--data-sets", "latent-oracle", "--methods"]

    def run(methods):
        seen.clear()
        return latent_card.main([*flags, methods], root=commands.ROOT)

    # Interrupted in the second training of the first method.
    train = commands.call

    def stopped(command, *words):
        if sum(each[0] == "fairseq-train" for each in seen) == 2:
            raise KeyboardInterrupt
        return train(command, *words)

    monkeypatch.setattr(commands, "call", stopped)
    assert run("lm") == 130
    monkeypatch.setattr(commands, "call", train)
    assert run("lm,vae") == 0
    trainings = [words for words in seen if words[0] == "fairseq-train"]
    assert len(trainings) == 3  # of the samples of lm, of vae, of its samples
    found = json.loads((out / "card.json").read_text())
    lm, vae = found["cells"]
    assert lm["method"] == "lm" and vae["true_mutual_information"] > 0 and vae["bound_gap"] > 0
    assert vae["sequences"] == 30 and vae["samples"] == 200 and vae["importance_samples"] == 4
    assert vae["resumed"] is False
    (block,) = found["data_sets"]
    gap = vae["nll_per_sequence"] - lm["nll_per_sequence"]
    assert block["methods"][1]["gap"]["mean"] == pytest.approx(gap)
    text = (out / "card.md").read_text()
    for part in text.split("\n\n"):
        assert len({line.count(" | ") for line in part.splitlines() if line.startswith("|")}) <= 1
    assert "Updates of the generator: 10 on latent-oracle" in text
    for name in ("nll_information", "frontier"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert 0 <= vae["draws_accuracy"] <= 1 and vae["held_out_distinct"] == 1.0 and vae["walk_pairs"] == 15
    samples = (out / "latent-oracle/measure/vae-1/samples/samples.txt").read_text().splitlines()
    assert len(samples) == 200 and all(len(line.split()) == 10 for line in samples)

    capsys.readouterr()
    assert run("lm,vae") == 0
    assert not seen and "measuring" not in capsys.readouterr().out
    assert json.loads((out / "card.json").read_text()) == found

    trained = len(list(out.glob("*/measure/*/samples/reverse")))
    flags[-1:-1] = ["--no-reverse"]
    flags[flags.index(str(out))] = str(tmp_path / "quick")
    assert run("real,vae") == 0
    (quick,) = json.loads((tmp_path / "quick/card.json").read_text())["cells"]
    assert trained == 2 and not list((tmp_path / "quick").glob("*/measure/*/samples/reverse"))
    assert "reverse_nll" not in quick and quick["draws_accuracy"] == vae["draws_accuracy"]
    flags.remove("--no-reverse")
    flags[flags.index(str(tmp_path / "quick"))] = str(out)

    methods = (config / "methods.yaml").read_text()
    (config / "methods.yaml").write_text(
        re.sub(r"(?m)^  stages: \[\{\}\]$", "  stages: [{model.dropout: 0.5}]", methods)
    )
    assert run("lm,vae") == 1
    assert "holds the results of another command" in capsys.readouterr().err and not seen
    assert run("lm") == 0
    assert "Not shown, made by other settings or recipes: latent-oracle-vae-1." in (out / "card.md").read_text()


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--methods", "vae,magic"], "--methods: magic is none of real, lm, vae"),
        (["--data-set", "yahoo"], "--data-sets: yahoo is none of latent-oracle, austen"),
        (["--seeds", "0"], "'0' must be a whole number of at least 1"),
    ],
)
def test_unknown_names_are_refused(flags, said, capsys):
    with pytest.raises(SystemExit) as stop:
        latent_card.main(flags, config=FOLDER / "recipes")
    assert stop.value.code == 2 and said in capsys.readouterr().err


def test_a_step_that_fails_is_told_and_the_others_are_made(monkeypatch, capsys):
    from fairseq_seqvae.cards.command import make_each

    made, reports = [], []

    def make(each):
        if each == ("b", 1):
            raise StepError("no luck")
        made.append(each)

    assert make_each([("a", 1), ("b", 1), ("c", 1)], make, lambda: reports.append(1)) == ["b-1"]
    assert made == [("a", 1), ("c", 1)] and len(reports) == 2 and "error: no luck" in capsys.readouterr().err
