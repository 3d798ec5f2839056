"""The oracle card: its baselines and its numbers against direct computation, and the whole command on a tiny oracle."""

import csv
import json
import math
import os
import signal
import subprocess
import time

import commands
import numpy as np
import oracles
import pytest
import torch
import yaml

from fairseq_seqvae.cards import baselines as card_baselines
from fairseq_seqvae.cards import references as card_references
from fairseq_seqvae.cards import report as card_report
from fairseq_seqvae.cards.cells import Cell, Cells
from fairseq_seqvae.cards.mixing import TABLE_WEIGHTS, MixedWithBigrams, fit
from fairseq_seqvae.cards.oracle_measures import said_of_rewards
from fairseq_seqvae.cards.oracle_settings import Settings
from fairseq_seqvae.core.schedules.held_out_judgements import Judgement, JudgementPlan
from fairseq_seqvae.metrics.likelihood import sequence_log_probs
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.score import read_tokens
from fairseq_seqvae.rewards.sources import split_sources
from fairseq_seqvae.runs.steps import flags_from_yaml
from fairseq_seqvae.tasks.watch import VALIDATION_WINDOW

FOLDER = commands.ROOT / "examples" / "oracle"

# Three tokens; 2 is never followed by anything.
TRAIN = torch.tensor([[0, 1, 2], [0, 0, 1], [1, 0, 2], [0, 1, 0]])


class SlowBigramTable:
    """The same by loops over the training sequences."""

    def __init__(self, train, vocab_size, k):
        self.rows, self.vocab_size, self.k = train.tolist(), vocab_size, k

    def prob(self, previous, token):
        pairs = [pair for row in self.rows for pair in zip([None, *row], row, strict=False)]
        tokens = [token for row in self.rows for token in row]
        alone = (tokens.count(token) + 1) / (len(tokens) + self.vocab_size)
        context = sum(before == previous for before, _ in pairs)
        if context + self.k == 0:
            return alone
        return (pairs.count((previous, token)) + self.k * alone) / (context + self.k)

    def sequence_prob(self, tokens):
        return math.prod(self.prob(*pair) for pair in zip([None, *tokens], tokens, strict=False))


class TestBigramTable:
    @pytest.mark.parametrize("k", [0.0, 1.0, 30.0])
    def test_likelihood_of_every_sequence(self, k):
        table, slow = card_baselines.BigramTable.fit(TRAIN, 3, k), SlowBigramTable(TRAIN, 3, k)
        tokens = torch.cartesian_prod(*[torch.arange(3)] * 3)
        probs = [slow.sequence_prob(row) for row in tokens.tolist()]
        assert sum(probs) == pytest.approx(1)
        expected = [-math.log(p) / 3 if p else math.inf for p in probs]
        assert table.nll(tokens).tolist() == pytest.approx(expected)
        assert math.isinf(max(expected)) == (k == 0)

    @pytest.mark.parametrize("k", [0.0, 2.0])
    def test_samples_have_these_probabilities(self, k):
        slow = SlowBigramTable(TRAIN, 3, k)
        samples = card_baselines.BigramTable.fit(TRAIN, 3, k).sample(20_000, 3, seed=1)
        tokens = torch.cartesian_prod(*[torch.arange(3)] * 3)
        counts = [int((samples == row).all(dim=1).sum()) for row in tokens]
        oracles.assert_frequencies(counts, [slow.sequence_prob(row) for row in tokens.tolist()])


def assert_baselines(rows, oracle, text, length, draws, held_out):
    """Rows of the card against what its files and the oracle say."""
    found = {row["name"]: row for row in rows}
    train, valid, test = (read_tokens(text / f"{split}.txt", oracle.vocab_size) for split in ("train", "valid", "test"))
    test = test[:held_out]

    def mean_nll(tokens):
        return oracle.nll(tokens).double().mean().item()

    constants = [mean_nll(torch.full((1, length), token)) for token in range(oracle.vocab_size)]
    assert found["constant token"]["oracle_nll"] == pytest.approx(min(constants), abs=1e-5)
    assert f"token {int(np.argmin(constants))} " in found["constant token"]["what"]
    assert found["constant token"]["distinct_sequences"] == found["constant token"]["distinct_bigrams"] == 1
    assert found["copied training set"]["oracle_nll"] == pytest.approx(mean_nll(train), abs=1e-5)
    assert found["copied training set"]["distinct_sequences"] == len({tuple(row) for row in train.tolist()})
    assert found["oracle"]["held_out_nll"] == pytest.approx(mean_nll(test), abs=1e-5)
    entropy = oracle.entropy_estimate(draws, length, seed=99)
    deviation = math.hypot(entropy.standard_error, found["oracle"]["oracle_nll_standard_error"])
    assert abs(found["oracle"]["oracle_nll"] - entropy.mean) < oracles.normal_quantile() * deviation
    for name in ("constant token", "bigram table", "copied training set"):
        assert found[name]["held_out_nll"] is None
    smoothed = {
        k: SlowBigramTable(train, oracle.vocab_size, k)
        for k in card_baselines.BACK_OFF_WEIGHTS
        if f"k = {k:g}," in found["bigram table, smoothed"]["what"]
    }
    ((_, table),) = smoothed.items()
    few = test[:2].tolist()
    own = card_baselines.BigramTable.fit(train, oracle.vocab_size, table.k)
    assert own.nll(test[:2]).tolist() == pytest.approx([-math.log(table.sequence_prob(row)) / length for row in few])
    assert found["bigram table, smoothed"]["held_out_nll"] == pytest.approx(own.nll(test).mean().item())
    others = [
        card_baselines.BigramTable.fit(train, oracle.vocab_size, k).nll(valid).mean()
        for k in card_baselines.BACK_OFF_WEIGHTS
    ]
    assert own.nll(valid).mean() == min(others)


RECIPES = {file.stem: yaml.safe_load(file.read_text()) for file in (FOLDER / "config").glob("*.yaml")}
WITH_DISCRIMINATOR = [
    name
    for name, recipe in RECIPES.items()
    if recipe.get("criterion", {}).get("_name") == "seqvae_pg"
    and "discriminator" in recipe["criterion"].get("reward_sources", "discriminator")
]


class TestRecipes:
    @pytest.mark.parametrize("name", WITH_DISCRIMINATOR)
    def test_the_alarm_about_held_out_sentences_can_fire(self, name):
        """In the adversarial part there are as many judgements of the discriminator as that alarm waits for."""
        recipe = RECIPES[name]
        plan = JudgementPlan(recipe["criterion"]["disc_gate_interval"])
        first, last, number = recipe["task"]["disc_pretrain_updates"], None, 0
        for update in range(1, recipe["optimization"]["max_update"]):
            if plan.is_due(update, first, last):
                last, number = Judgement(update, 0.5), number + (update >= first)
        assert number >= VALIDATION_WINDOW

    @pytest.mark.parametrize("name", WITH_DISCRIMINATOR)
    def test_the_log_compares_the_reward_with_the_oracle(self, name):
        criterion = RECIPES[name]["criterion"]
        assert (criterion["reward_sources"], criterion["reward_weights"]) == ("discriminator,oracle:88", "1,0")

    def test_those_that_ask_the_oracle_ask_that_of_the_card(self, tmp_path):
        settings = Settings((1.0,), oracle_seed=89, oracle_scale=1.2)
        assert settings.oracle_name == "89*1.2" and Settings((1.0,)).oracle_name == "88"
        assert torch.equal(settings.oracle().output, Oracle.from_seed(89, scale=1.2).output)
        cells = Cells(tmp_path, settings, FOLDER / "config", tmp_path, {"common.cpu": "false"})
        for name, sources in {"seqgan": "discriminator,oracle:89*1.2", "oracle_reward": "oracle:89*1.2"}.items():
            file = FOLDER / "config" / f"{name}.yaml"
            overrides = cells._overrides(name, Cell(name, 64, 7), file)
            flags = flags_from_yaml(file, overrides)
            assert flags[flags.index("--reward-sources") + 1] == sources
            assert flags[flags.index("--seed") + 1] == "7" and "--cpu" not in flags
        assert flags[flags.index("--reward-weights") + 1] == "64"

    def test_commas_in_the_path_of_an_oracle_do_not_separate_rewards(self, tmp_path):
        npz = tmp_path / "a,b.npz"
        Oracle.from_seed(1, 10).save_npz(npz)
        cells = Cells(tmp_path, Settings((1.0,), npz=str(npz)), FOLDER / "config", tmp_path)
        overrides = cells._overrides("seqgan", Cell("seqgan", 20, 1), FOLDER / "config" / "seqgan.yaml")
        assert split_sources(json.loads(overrides["criterion.reward_sources"])) == ["discriminator", f"oracle:{npz}"]

    def test_what_the_log_says_at_last(self, tmp_path):
        def line(**stats):
            return f"2026 | INFO | train_inner | {json.dumps({'epoch': 1, **stats})}"

        rank = "rewards/oracle:88/rank"
        lines = [line(d_acc_held_out="0.9"), "something else", *(line(d_acc_held_out="0.5") for _ in range(2))]
        lines += [line(**{rank: "0.9"}), line(**{rank: "0.2"}, d_acc_held_out="0.8"), line(**{rank: "0.4"})]
        (tmp_path / "log").write_text("\n".join(lines))
        found = said_of_rewards(tmp_path / "log")
        assert found == {"d_acc_held_out": pytest.approx(0.6), "reward_rank": pytest.approx(0.3)}
        (tmp_path / "log").write_text(line(loss="1"))
        assert said_of_rewards(tmp_path / "log") == {}


class Uneven(torch.nn.Module):
    """A decoder of three tokens, which begin at index 2, whose next token depends on the one before."""

    eos, pad, unk, fixed_length = 0, 1, 1, 3

    def __init__(self):
        super().__init__()
        self.table = torch.randn(5, 5, generator=torch.Generator().manual_seed(2))
        self.table[:, :2] = -1e4

    def start(self, z):
        return (z,)

    def advance(self, prev, state):
        return prev.float().unsqueeze(1), state

    def logits(self, features):
        return self.table[features[:, 0].long()]

    def teacher_forced(self, previous, z, regularize):
        return self.table[previous]


class TestMixedWithBigrams:
    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    def test_each_token_is_drawn_from_one_of_both(self, weight):
        slow, policy = SlowBigramTable(TRAIN, 3, 2.0), Uneven()
        mixed = MixedWithBigrams(policy, card_baselines.BigramTable.fit(TRAIN, 3, 2.0), weight, first=2)
        for row in ([0, 1, 2], [2, 2, 0]):
            expected = 0.0
            for before, token in zip([None, *row], row, strict=False):
                own = policy.table[0 if before is None else before + 2].softmax(dim=0)[token + 2].item()
                expected += math.log((1 - weight) * own + weight * slow.prob(before, token))
            tokens = torch.tensor([row]) + 2
            found = sequence_log_probs(mixed, torch.zeros(1, 0), tokens, torch.tensor([3]))
            assert found.item() == pytest.approx(expected, abs=1e-5)

    def test_the_weight_is_that_of_which_the_validation_split_is_most_likely(self):
        policy, valid = Uneven(), torch.tensor([[0, 1, 0], [0, 1, 2], [1, 0, 2]])
        mixed = fit(policy, TRAIN, valid, 3, 2)
        lengths = torch.full((3,), 3)

        def likelihood(policy):
            return sequence_log_probs(policy, torch.zeros(3, 0), valid + 2, lengths).sum().item()

        best = likelihood(mixed)
        others = [
            likelihood(MixedWithBigrams(policy, card_baselines.BigramTable.fit(TRAIN, 3, k), weight, 2))
            for k in card_baselines.BACK_OFF_WEIGHTS
            for weight in TABLE_WEIGHTS
        ]
        assert best == pytest.approx(max(others), abs=1e-4) and best > likelihood(policy)

    def test_probabilities_after_each_token_and_the_start(self):
        slow, table = SlowBigramTable(TRAIN, 3, 3.0), card_baselines.BigramTable.fit(TRAIN, 3, 3.0)
        found = table.probs(torch.tensor([3, 0, 2]))
        expected = [[slow.prob(before, token) for token in range(3)] for before in (None, 0, 2)]
        assert found.flatten().tolist() == pytest.approx(sum(expected, []), abs=1e-6)


class TestReferences:
    def cells(self, **held_out):
        return [
            {"method": method, "seed": seed, "points": [{"temperature": 1.0, "oracle_nll": 9.0, "held_out_nll": value}]}
            for method, values in held_out.items()
            for seed, value in enumerate(values, 1)
        ]

    def test_the_best_maximum_likelihood_is_that_of_the_lowest_held_out_nll(self):
        cells = self.cells(ml=[7.6, 7.7], ml_large=[7.5, 7.6], seqgan=[7.0, 7.0])
        assert card_references.best_likelihood(cells, ["ml", "ml_large", "ml_bigrams"]) == "ml_large"
        assert card_references.best_likelihood(cells, ["ml_bigrams"]) is None
        # One that lacks seeds leaves the others without anything to be compared with.
        assert card_references.best_likelihood(self.cells(ml=[7.6, 7.7], ml_large=[7.5]), ["ml", "ml_large"]) == "ml"

    def test_the_line_of_mixed_temperatures_reaches_from_one_end_to_the_other(self):
        sequences = {
            "temperatures": np.array([1.0, 0.8, 0.5]),
            "log_likelihood": -np.full((4, 3), 140.0),
            "oracle_nll": np.array([[9.0], [8.0], [7.0]]),
            "lengths": np.full(4, 20),
        }
        points = [
            {"temperature": t, "oracle_nll": q, "held_out_nll": h}
            for t, q, h in ((1, 9, 7), (0.8, 8, 7.4), (0.5, 7, 8))
        ]
        line = card_references.mixed_curve(sequences, points)
        assert sorted(point["oracle_nll"] for point in line) == pytest.approx([7, 7.2, 7.6, 8, 8.4, 8.8, 9])
        assert card_references.value_at(line, 9.0) == 7 and card_references.value_at(line, 7.0) == 8
        assert card_references.value_at(line, 8.0) == pytest.approx(7.0)  # all parts are as likely
        assert card_references.mixed_curve({**sequences, "temperatures": np.array([1.0, 1.5, 2.0])}, points) == []


class TestReport:
    def test_interval_is_of_students_distribution(self):
        assert card_report.spread([]) is None
        assert card_report.spread([2.0]) == (2.0, None, 1)
        mean, half_width, seeds = card_report.spread([1.0, 2.0, 3.0])
        # The 97.5 % point at two degrees of freedom is 4.3027.
        assert (mean, seeds) == (2.0, 3) and half_width == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)

    @pytest.mark.parametrize(
        "quality, expected", [(9.0, 7.0), (8.5, 7.25), (8.4, 7.3), (8.0, 7.9), (7.9, None), (9.1, None)]
    )
    def test_held_out_nll_at_a_quality_lies_on_the_curve(self, quality, expected):
        curve = [(9.0, 7.0), (8.0, 7.9), (8.4, 7.3), (8.5, 7.25)]  # in any order
        points = [{"oracle_nll": x, "held_out_nll": y} for x, y in curve]
        found = card_references.value_at(points, quality)
        assert found == (None if expected is None else pytest.approx(expected))

    def test_between_temperatures_a_convex_curve_is_not_replaced_by_its_chords(self):
        xs = np.linspace(7, 10, 6)
        points = [{"oracle_nll": x, "held_out_nll": 7 + (10 - x) ** 2 / 9, "share": 2 * x} for x in xs]
        for x in np.linspace(7.5, 9.9, 7):
            exact, chord = 7 + (10 - x) ** 2 / 9, np.interp(x, xs, [point["held_out_nll"] for point in points])
            assert abs(card_references.value_at(points, x) - exact) < 0.5 * abs(chord - exact) + 1e-9
            assert card_references.value_at(points, x, "share") == pytest.approx(2 * x)
        assert card_references.value_at(points[:1], 7.0) == 7 + 1

    @pytest.mark.parametrize(
        "values, expected",
        [
            ([5, 4, 3], 2),
            ([3], 0),
            ([5, 5], None),
            ([3, 5, 2], 2),
            ([2, 5, 2], 0),
            ([5, 3, 4, 2], 1),
            ([5, 3, 4], None),
        ],
    )
    def test_quality_is_reached_where_the_mean_of_what_follows_stays_there(self, values, expected):
        curve = [{"oracle_nll": float(value), "seconds": i} for i, value in enumerate(values)]
        found = card_report.first_to_reach(curve, 3.0)
        assert (found and found["seconds"]) == expected

    def test_mixture_of_temperatures(self):
        probs = np.array([[0.2, 0.4], [0.3, 0.01]])  # of two held-out sequences at temperatures 1 and 0.5
        sequences = {
            "temperatures": np.array([1.0, 0.5]),
            "log_likelihood": np.log(probs),
            "oracle_nll": np.array([[9.0, 7.0], [4.0, 6.0]]),
            "lengths": np.array([2, 3]),
        }
        found = card_references.temperature_mixture(sequences, 0.3)
        held_out = -(math.log(0.3 * 0.4 + 0.7 * 0.2) + math.log(0.3 * 0.01 + 0.7 * 0.3)) / 5
        assert found == {
            "sharp_temperature": 0.5,
            "weight": 0.3,
            "oracle_nll": pytest.approx(0.3 * 5 + 0.7 * 8),
            "held_out_nll": pytest.approx(held_out),
        }

    @pytest.mark.parametrize("taus", [[1.0], [1.0, 1.5]])
    def test_without_a_sharp_temperature_nothing_is_mixed(self, taus):
        assert card_report.mixtures({1: {"temperatures": np.array(taus)}}, {1: []}) == []

    def test_mixtures_lie_within_the_temperatures_that_they_mix(self):
        rng = np.random.default_rng(1)
        sequences = {
            "temperatures": np.array([1.0, 0.5]),
            "log_likelihood": -rng.normal(150, 5, (100, 2)),
            "oracle_nll": rng.normal(9, 1, (2, 10_000)).astype(np.float32) - np.float32([[0], [2]]),
            "lengths": np.full(100, 20),
        }
        means = sequences["oracle_nll"].astype(np.float64).mean(axis=1)
        curve = [{"oracle_nll": float(mean), "held_out_nll": 7.5} for mean in means]
        rows = card_report.mixtures({1: sequences}, {1: curve})
        assert len(rows) == 5 and all(row["gap"].seeds == 1 for row in rows)

    def test_gaps_are_means_over_the_seeds_that_have_both(self):
        def cell(method, seed, points):
            points = [
                {"temperature": tau, "oracle_nll": x, "held_out_nll": y, "distinct_sequences": 1, "distinct_bigrams": 1}
                | {"oracle_nll_standard_error": 0, "held_out_nll_standard_error": 0, "samples": 1, "bigrams": 1}
                for tau, x, y in points
            ]
            rest = {"kl": 0, "mutual_information": 0, "active_units": 0, "train_seconds": 60, "length": 8}
            curve = [{"oracle_nll": 9.0 - i, "seconds": 10.0 * i + seed} for i in range(7)]
            return {"method": method, "seed": seed, "points": points, "curve": curve, **rest}

        cells = [
            cell("ml", 1, [(1, 9, 7), (0.5, 7, 9)]),
            cell("ml", 2, [(1, 9, 7.2), (0.5, 7, 9.2)]),
            cell("new", 1, [(1, 8, 7.5), (0.5, 6, 9)]),
            cell("new", 2, [(1, 8.5, 7.5), (0.5, 7.5, 8.7)]),
            cell("new", 3, [(1, 8, 7), (0.5, 7, 8)]),
        ]
        likelihood, new = card_report.summarise(cells, target=5.0)
        assert likelihood["points"][0]["gap"] is None
        assert new["points"][0]["gap"].mean == pytest.approx(((7.5 - 8.0) + (7.5 - 7.7)) / 2)
        assert new["points"][0]["gap"].seeds == 2
        assert new["points"][1]["gap"] == pytest.approx((8.7 - 8.7, None, 1))
        assert card_report.gap(new["points"][1]["gap"], 3) == "+0.000 (n = 1)"
        assert card_report.gap(new["points"][0]["gap"], 2) == "-0.350 ± 1.906"
        assert new["points"][0]["ml_distinct_bigrams"].mean == pytest.approx(1)
        assert new["points"][1]["oracle_nll"].mean == pytest.approx((6 + 7.5 + 7) / 3)
        assert new["last_evaluations_oracle_nll"].mean == pytest.approx(5.0)  # of 7, 6, 5, 4, 3
        assert new["seconds_to_target"] == pytest.approx(card_report.spread([41.0, 42.0, 43.0]))


def card(folder, environment, *flags):
    command = [
        FOLDER / "card",
        "--smoke",
        "--out",
        folder,
        "--methods",
        "ml,seqvae_1",
        "--temperatures",
        "1,0.5",
        *flags,
    ]
    return subprocess.Popen(
        ["python", *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", env=environment
    )


def finished(process) -> str:
    output, _ = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 0, output[-5000:]
    return output


@pytest.mark.slow
def test_the_card_goes_on_after_an_interruption_and_is_complete(tmp_path, quick_programs):
    process = card(tmp_path, quick_programs)
    checkpoints = tmp_path / "T8" / "train" / "ml-1" / "checkpoints"
    while not (checkpoints / "checkpoint_last.pt").exists():
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=commands.PATIENCE)
    assert process.returncode == 130 and "run the same command again, and it continues" in output
    logs = tmp_path / "T8" / "train" / "ml-1" / "logs"
    was_training = not (logs / "train-ml-t-8-seed-1.done").exists()

    first = finished(card(tmp_path, quick_programs))
    assert "[done already] binarise the data" in first
    if was_training:  # else it was too fast to be hit
        assert "Loaded checkpoint" in (logs / "train-ml-t-8-seed-1.log").read_text()
    assert not list(checkpoints.glob("checkpoint_*_*.pt")) and (checkpoints / "checkpoint_best.pt").exists()

    found = json.loads((tmp_path / "card.json").read_text())
    (block,) = found["lengths"]
    assert [summary["method"] for summary in block["methods"]] == ["ml", "seqvae_1"]
    oracle = Oracle.from_npz(tmp_path / "oracle.npz")
    assert_baselines(block["baselines"], oracle, tmp_path / "T8" / "text", 8, draws=500, held_out=100)
    likelihood, seqvae = found["cells"]
    samples = tmp_path / "T8" / "measure" / "ml-1" / "samples.txt"
    expected = oracle.nll(read_tokens(samples, oracle.vocab_size, 8)).double().mean().item()
    assert likelihood["points"][0]["oracle_nll"] == pytest.approx(expected, abs=1e-6)
    assert likelihood["kl"] == likelihood["latent_dim"] == 0 and seqvae["kl"] > 0
    assert likelihood["points"][1]["oracle_nll"] < likelihood["points"][0]["oracle_nll"]
    stages = [point["stage"] for point in seqvae["curve"]]
    assert list(dict.fromkeys(stages)) == ["vae", "seqvae_1"] and min(map(stages.count, stages)) >= 2
    seconds = [point["seconds"] for point in seqvae["curve"]]
    assert seconds == sorted(seconds) and seconds[-1] == pytest.approx(seqvae["train_seconds"])

    with open(tmp_path / "card.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 + 5
    assert float(rows[0]["oracle_nll"]) == likelihood["points"][0]["oracle_nll"]
    tables = (tmp_path / "card.md").read_text()
    for block in tables.split("\n\n"):
        widths = {line.count(" | ") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1, block
    assert f"**seqvae_1** | 1 | {seqvae['points'][0]['oracle_nll']:.3f} (s.e. " in tables
    for name in ("quality_coverage", "learning"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (tmp_path / f"{name}.svg").read_text()

    assert "fairseq-train" in (tmp_path / "commands.sh").read_text()

    # Another command adds to the card of the folder.
    more = finished(card(tmp_path, quick_programs, "--methods", "vae"))
    assert "train vae" in more and "measuring vae" in more
    wider = json.loads((tmp_path / "card.json").read_text())
    assert {cell["method"] for cell in wider["cells"]} == {"ml", "vae", "seqvae_1"}
    assert [cell for cell in wider["cells"] if cell["method"] != "vae"] == found["cells"]
    found = wider

    # What was made of a stage that has been trained anew since is no longer shown.
    vae = tmp_path / "T8" / "train" / "vae-1" / "checkpoints" / "checkpoint_best.pt"
    times = vae.stat().st_atime_ns, vae.stat().st_mtime_ns
    os.utime(vae)
    finished(card(tmp_path, quick_programs, "--methods", "ml"))
    assert {cell["method"] for cell in json.loads((tmp_path / "card.json").read_text())["cells"]} == {"ml"}
    finished(card(tmp_path, quick_programs))  # has seen that its content is still the same
    assert {cell["method"] for cell in json.loads((tmp_path / "card.json").read_text())["cells"]} == {"ml", "seqvae_1"}
    os.utime(vae, ns=times)

    again = finished(card(tmp_path, quick_programs))
    assert "  $ " not in again and "measuring" not in again and "scoring" not in again
    assert json.loads((tmp_path / "card.json").read_text()) == found
