"""The examples: their YAML files mean the same to both of fairseq's training commands, their run scripts run."""

import json
import subprocess
import sys
from pathlib import Path

import commands
import pytest

import fairseq_seqvae
from fairseq_seqvae.cards.cells import read_methods
from fairseq_seqvae.cards.latent_recipes import Recipes
from fairseq_seqvae.runs import steps

EXAMPLES = commands.ROOT / "examples"
HEAVY = pytest.mark.heavy  # says little beside the others
CONFIGS = [path for path in sorted(EXAMPLES.glob("*/config/*.yaml")) if path.name != "methods.yaml"]


def config_of_flags(flags: list[str]):
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    fairseq_seqvae.register()
    arguments = ["DATA", "--user-dir", commands.USER_DIR, "--save-dir", "SAVE", *flags]
    with commands.captured():
        namespace = options.parse_args_and_arch(options.get_training_parser(), arguments)
        return convert_namespace_to_omegaconf(namespace)


def config_of_yaml(path: Path):
    from fairseq.dataclass.configs import FairseqConfig  # noqa: F401  (registers the schema)
    from fairseq.dataclass.initialize import add_defaults, hydra_init
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import open_dict

    try:
        from hydra import compose, initialize_config_dir

        version_base = {"version_base": "1.1"}
    except ImportError:  # hydra 1.0, which fairseq 0.12.2 needs
        from hydra.experimental import compose, initialize_config_dir

        version_base = {}

    GlobalHydra.instance().clear()
    with commands.captured():
        hydra_init(path.stem)  # the schema is found by the name of the file
        with initialize_config_dir(str(path.parent), **version_base):
            cfg = compose(path.stem, overrides=["task.data=DATA", "checkpoint.save_dir=SAVE"])
        with open_dict(cfg):
            add_defaults(cfg)
    return cfg


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_the_flags_made_of_a_yaml_file_mean_the_same_as_the_file(path):
    by_flags = config_of_flags(steps.flags_from_yaml(path))
    by_file = config_of_yaml(path)
    for group in ("task", "model", "criterion", "optimizer", "lr_scheduler", "optimization", "dataset", "checkpoint"):
        for key, value in by_file[group].items():
            found = by_flags[group][key]
            # The command line fills in some of what hydra leaves to its defaults.
            if value is None or key in ("batch_size_valid", "max_tokens_valid", "update_epoch_batch_itr"):
                continue
            assert str(found) == str(value), (group, key)


def test_flags_are_made_of_all_kinds_of_values(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "task: {_name: seqvae, data: '???', fixed_length: 6}\n"
        "model: {_name: seqvae_oracle, latent_input: true, encoder_residual: false}\n"
        "optimization: {lr: [0.1, 0.2], max_update: 5}\n"
        "checkpoint: {save_dir: '???'}\n"
    )
    flags = steps.flags_from_yaml(path, {"optimization.max_update": "7"})
    expected = "--task seqvae --fixed-length 6 --arch seqvae_oracle --latent-input --lr 0.1,0.2 --max-update 7"
    assert " ".join(flags) == expected


class TestSteps:
    def test_a_step_is_run_once(self, tmp_path, capsys):
        for _ in range(2):
            run = steps.Steps(tmp_path / "out", commands.ROOT)
            run.run("count", [sys.executable, "-c", "open('count', 'a').write('x')"])
        try:
            assert (commands.ROOT / "count").read_text() == "x"
        finally:
            (commands.ROOT / "count").unlink()
        assert "[done already] count" in capsys.readouterr().out

    def test_another_command_in_the_same_folder_is_refused(self, tmp_path):
        steps.Steps(tmp_path, commands.ROOT).run("step", [sys.executable, "-c", "1"])
        with pytest.raises(steps.StepError, match="another command, .* for the step 'step'.*delete the folder"):
            steps.Steps(tmp_path, commands.ROOT).run("step", [sys.executable, "-c", "2"])

    def test_a_result_of_other_files_is_not_taken(self, tmp_path):
        checkpoint = tmp_path / "checkpoint.pt"
        checkpoint.write_text("one")
        for _ in range(2):
            steps.Steps(tmp_path, commands.ROOT).run("step", [sys.executable, "-c", "1"], inputs=[checkpoint])
        checkpoint.write_text("two")
        with pytest.raises(steps.StepError, match="or of other files, for the step 'step'.*delete the folder"):
            steps.Steps(tmp_path, commands.ROOT).run("step", [sys.executable, "-c", "1"], inputs=[checkpoint])

    def test_a_training_goes_on_by_the_command_that_began_it_alone(self, tmp_path):
        mine = "import pathlib, sys; file = pathlib.Path('{}'); sys.exit(0 if file.exists() else file.touch() or 1)"
        mine = [sys.executable, "-c", mine.format(tmp_path / "begun")]
        with pytest.raises(steps.StepError, match="failed with exit status 1"):
            steps.Steps(tmp_path, commands.ROOT).run("train", mine, training=True)
        with pytest.raises(steps.StepError, match="holds the results of another command"):
            steps.Steps(tmp_path, commands.ROOT).run("train", [sys.executable, "-c", "1"], training=True)
        steps.Steps(tmp_path, commands.ROOT).run("train", mine, training=True)

    def test_a_failure_shows_the_end_of_the_log_and_leaves_no_output(self, tmp_path):
        output = tmp_path / "output"
        program = "import sys; print('half'); sys.exit('what went wrong')"
        with pytest.raises(steps.StepError, match="(?s)'step' failed with exit status 1.*what went wrong"):
            steps.Steps(tmp_path, commands.ROOT).run("step", [sys.executable, "-c", program], output=output)
        assert not output.exists()


def run_example(environment: dict[str, str], example: str, folder: Path, *arguments: str) -> str:
    return run_script(environment, f"{example}/run", folder, *arguments)


def run_script(environment: dict[str, str], script: str, folder: Path, *arguments: str) -> str:
    """What a run script of the examples prints, with --smoke."""
    result = subprocess.run(
        ["python", EXAMPLES / script, "--smoke", "--out", folder, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=environment,
        timeout=commands.PATIENCE,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.slow
def test_the_text_example_runs_and_a_second_time_does_nothing(tmp_path, quick_programs):
    first = run_example(quick_programs, "names", tmp_path)
    new = [line for line in (tmp_path / "new.txt").read_text().splitlines() if line.startswith("D-")]
    assert len(new) == 100
    for name in ("reconstructed", "interpolated", "continued"):
        assert "D-" in (tmp_path / f"{name}.txt").read_text()
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert "fairseq-train" in (tmp_path / "commands.sh").read_text()
    assert "done already" not in first
    assert run_example(quick_programs, "names", tmp_path).count("[done already]") == 7


@pytest.mark.heavy
@pytest.mark.slow
def test_the_systems_are_trained_and_measured_with_one_budget(tmp_path, quick_programs):
    shown = run_script(quick_programs, "rewards/systems", tmp_path)
    figures = json.loads((tmp_path / "systems-1.json").read_text())
    names = [
        "base",
        "elbo",
        "elbo-kl",
        "scheduled",
        "bleu",
        "bleu-critic",
        "bleu-actor",
        "discriminator",
        "wasserstein",
        "elbo-falling",
        "elbo-kl-falling",
        "discriminator-falling",
    ]
    assert list(figures) == names
    for name, row in figures.items():
        # Each begins with the model that was trained first, and what is printed is what is written.
        assert name == "base" or row["NLL"] != figures["base"]["NLL"]
        assert f"| {name} | {' | '.join(f'{value:.3f}' for value in row.values())} |" in shown
        assert 0.3 < row["judge"] <= 1 and 0 <= row["copies"] < row["distinct"] <= 1 and 0 < row["given back"] < 1
    logs = "".join(log.read_text() for log in tmp_path.glob("*-1/logs/train-*.log"))
    assert logs.count(str(tmp_path / "base-1" / "checkpoints" / "checkpoint_last.pt")) >= 11
    for name in names[-3:]:
        (log,) = (tmp_path / f"{name}-1" / "logs").glob("train-*.log")
        assert "'_name': 'polynomial_decay'" in log.read_text()


def test_a_run_script_makes_the_parts_that_it_is_asked_for(monkeypatch, capsys, tmp_path):
    def chosen(*arguments):
        monkeypatch.setattr(sys, "argv", ["script", *arguments])
        return steps.parse_arguments("a script", "runs", tmp_path, parts=("a", "b", "c")).only

    assert chosen() == ["a", "b", "c"]
    assert chosen("--only", "c,a,c") == ["c", "a"]
    with pytest.raises(SystemExit):
        chosen("--only", "a,d")
    assert "--only: d is not among a, b, c" in capsys.readouterr().err


@pytest.mark.slow
def test_the_reward_that_knows_is_trained_and_measured_beside_maximum_likelihood(tmp_path, quick_programs):
    shown = run_script(quick_programs, "oracle/true_reward", tmp_path)
    rows = json.loads((tmp_path / "results-1.json").read_text())
    assert [(row["model"], row["temperature"]) for row in rows] == [
        ("ml", 1),
        ("ml", 0.9),
        ("policy", 1),
        ("policy", 0.9),
    ]
    assert len({row["held-out NLL"] for row in rows}) == 4
    for row in rows:
        assert 2 < row["held-out NLL"] < 4 and 1 < row["oracle NLL"] < 6  # 20 tokens, nearly untrained: log 20 is 3
        assert f"| {row['model']} | {row['temperature']:.3f} | {row['oracle NLL']:.3f} |" in shown
    log = "".join(log.read_text() for log in (tmp_path / "policy-1" / "logs").glob("train-*.log"))
    assert "oracle.npz/mean" in log and "checkpoint_best.pt/mean" in log and '"ref_kl_weight": "1"' in log


@pytest.mark.heavy
@pytest.mark.slow
def test_one_command_makes_a_model_of_the_studio(tmp_path, quick_programs):
    pytest.importorskip("sklearn")
    from fairseq_seqvae.melody.studio.model import open_model

    command = ["python", EXAMPLES / "melody" / "ship"]
    reels, models = tmp_path / "reels", tmp_path / "models"
    for meter in ("4/4", "6/8", "3/4"):
        trained = reels if meter == "4/4" else tmp_path / "jigs"
        words = [*command, meter, "--smoke", "--out", trained, "--models", models]
        subprocess.run(words, env=quick_programs, check=True, timeout=commands.PATIENCE)
    # The rewards go on from the language model; what is selected of its draws is the prior.
    begun = (reels / "logs" / "train-bars4-lm-returns.log").read_text()
    assert "bars4_lm/checkpoint_last.pt" in begun and "match:melody-returns" in begun
    lines = (reels / "selected.txt").read_text().splitlines()
    prior = commands.load_checkpoint(models / "4-4" / "model.pt")["model"]["fitted_prior.means"]
    assert 20 < len(lines) == len(prior) and open_model(models / "4-4").shape[:3] == ("4/4", 4, 16)
    jig, waltz = open_model(models / "6-8"), open_model(models / "3-4")
    assert [model.shape[:3] for model in (jig, waltz)] == [("6/8", 4, 12), ("3/4", 4, 12)]
    assert not (models / "3-4" / "model.pt").exists()
    assert jig.decode(jig.draw(1)) == waltz.decode(jig.draw(1))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["bars16", "slipjigs", *(pytest.param(r, marks=HEAVY) for r in ("bars2", "jigs"))])
def test_the_melody_example_runs_with_windows_of_other_lengths(recipe, tmp_path, quick_programs):
    pytest.importorskip("mido")
    run_example(quick_programs, "melody", tmp_path, "--recipe", recipe)
    back = [line for line in (tmp_path / "reconstruction.txt").read_text().splitlines() if line.startswith("D-")]
    assert len(back) == len((tmp_path / "few" / "test.txt").read_text().splitlines())
    assert "greedy reconstruction gives back" in (tmp_path / "measure.txt").read_text()
    commands_given = (tmp_path / "commands.sh").read_text().splitlines()
    (draws,) = (line for line in commands_given if "--gen-subset prior" in line)
    for further, flags in (("bars16_returns", "bars16_returns/checkpoint_last.pt"), ("bars2_lm", "with_prior.pt")):
        assert (tmp_path / further / "checkpoint_last.pt").exists() == further.startswith(f"{recipe}_")
        assert (flags in draws) == further.startswith(f"{recipe}_")
    assert ("--prior fitted" in draws) == (recipe == "bars2")


LAUGHS = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"a: [", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
        (b"[" * 3000, "is no YAML"),
        (b"a: !!python/object/apply:os.mkdir [made]", "is no YAML .*could not determine a constructor"),
        (LAUGHS.encode(), "must hold names with options below each"),
        (b"", "must hold names with options below each"),
        (b"task: 3", "must hold names with options below each"),
        (b"- task", "must hold names with options below each"),
    ],
)
def test_a_recipe_that_is_none_gets_a_sentence(here, content, message):
    for file in ("recipe.yaml", "methods.yaml", "base.yaml", "data_sets.yaml"):
        (here / file).write_bytes(content)
    for read, path in ((steps.flags_from_yaml, here / "recipe.yaml"), (read_methods, here), (Recipes.read, here)):
        with pytest.raises(ValueError, match=message):
            read(path)
    assert not (here / "made").exists()
