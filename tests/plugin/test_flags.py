"""The flags of the package: what each must say of itself, that none has changed, and the command that lists them."""

import argparse
import re
from pathlib import Path

import pytest
from fairseq.dataclass.utils import gen_parser_from_dataclass
from fairseq.models import MODEL_DATACLASS_REGISTRY
from fairseq.registry import REGISTRIES
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import OmegaConf

import fairseq_seqvae
from fairseq_seqvae import options
from fairseq_seqvae.flags.__main__ import as_text, main
from fairseq_seqvae.flags.listing import sections
from fairseq_seqvae.inference.search import GenerationOptions
from fairseq_seqvae.models.config import ConvolutionalOptions

fairseq_seqvae.register()

PRESETS = ["seqvae_oracle", "seqvae_melody", "seqvae_text"]
CONFIGS = {
    "task": TASK_DATACLASS_REGISTRY["seqvae"],
    "seqvae": MODEL_DATACLASS_REGISTRY["seqvae"],
    **{name: MODEL_DATACLASS_REGISTRY[name] for name in PRESETS},
    **{name: REGISTRIES["criterion"]["dataclass_registry"][name] for name in ("seqvae_elbo", "seqvae_pg")},
    "oracle_nll": REGISTRIES["scoring"]["dataclass_registry"]["oracle_nll"],
}
CHECKED = {**CONFIGS, "generation": GenerationOptions, "cnn": ConvolutionalOptions}
# Names in relations that are no fields: what `check` is given besides, flags of fairseq, options of the model.
FOREIGN = {"fixed_length", "gen_subset", "score_reference", "disc_widths", "disc_features", "max_positions"}

# Flags and defaults that scripts and checkpoints of users rely on. A line may be added, none may change.
ELBO = {
    "--kl-weight": 1.0,
    "--kl-anneal": "constant",
    "--kl-anneal-updates": 0,
    "--kl-cycles": 4,
    "--kl-ramp": 0.5,
    "--kl-target": 0.0,
    "--kl-target-horizon": 200,
    "--free-bits": 0.0,
    "--free-bits-mode": "total",
    "--scheduled-sampling": 0.0,
    "--scheduled-sampling-schedule": "linear",
    "--scheduled-sampling-updates": 0,
    "--no-valid-samples": False,
    "--no-valid-reconstruction": False,
}
MODEL = {
    "--embed-dim": 128,
    "--encoder-hidden-dim": 256,
    "--encoder-layers": 1,
    "--encoder-residual": False,
    "--decoder-hidden-dim": 256,
    "--decoder-layers": 1,
    "--decoder-residual": False,
    "--latent-dim": 32,
    "--latent-family": "gaussian",
    "--mean-norm": 0.0,
    "--kl-floor": 0.0,
    "--vmf-kappa": 80.0,
    "--latent-input": False,
    "--dropout": 0.1,
    "--word-dropout": 0.0,
    "--no-share-embeddings": False,
    "--share-output-embed": False,
    "--discriminator": "cnn",
    "--disc-module": None,
    "--disc-embed-dim": 64,
    "--disc-widths": "1,2,3,4,5",
    "--disc-features": "64",
    "--disc-highway-layers": 1,
    "--disc-tied-highway": False,
    "--disc-hidden-dim": 128,
    "--disc-layers": 1,
    "--disc-dropout": 0.25,
    "--disc-spectral-norm": False,
    "--disc-inputs": "tokens",
    "--disc-ngrams": 2,
    "--disc-lm": None,
}
PROMISED = {
    "task": {
        "data": "???",
        "--max-positions": 1024,
        "--fixed-length": 0,
        "--transpose": None,
        "--gen-pretrain-updates": 2000,
        "--disc-pretrain-updates": 200,
        "--adv-g-steps": 1,
        "--adv-d-steps": 1,
        "--disc-lr": None,
        "--rollout-lag": 0.8,
        "--lagging-updates": 0,
        "--lagging-until": 0,
        "--alarm-window": 500,
        "--alarm-kl": 0.1,
        "--alarm-ref-kl": 20.0,
        "--latent": "mean",
        "--prior": "model",
        "--num-draws": 100,
        "--interpolate-from": None,
        "--interpolate-to": None,
        "--prompt": "reconstruct",
    },
    "seqvae": MODEL,
    "seqvae_oracle": MODEL
    | {
        "--embed-dim": 64,
        "--encoder-hidden-dim": 64,
        "--encoder-layers": 2,
        "--encoder-residual": True,
        "--decoder-hidden-dim": 32,
        "--latent-dim": 64,
        "--dropout": 0.0,
        "--disc-widths": "1,2,3,4,5,6,7,8,9,10,15,20",
        "--disc-features": "100,200,200,200,200,100,100,100,100,100,160,160",
    },
    "seqvae_melody": MODEL
    | {
        "--embed-dim": 256,
        "--encoder-layers": 2,
        "--encoder-residual": True,
        "--decoder-layers": 2,
        "--decoder-residual": True,
        "--latent-dim": 256,
        "--dropout": 0.25,
        "--discriminator": "rnn",
        "--disc-hidden-dim": 256,
        "--disc-layers": 2,
    },
    "seqvae_text": MODEL
    | {
        "--embed-dim": 512,
        "--encoder-hidden-dim": 1024,
        "--decoder-hidden-dim": 1024,
        "--latent-input": True,
        "--dropout": 0.5,
        "--disc-embed-dim": 128,
        "--disc-features": "128",
    },
    "seqvae_elbo": ELBO,
    "seqvae_pg": ELBO
    | {
        "--elbo-weight": 1.0,
        "--pg-weight": 1.0,
        "--entropy-weight": 0.0,
        "--entropy-floor": 0.0,
        "--pg-credit": "to-go",
        "--reward-stride": 1,
        "--num-rollouts": 16,
        "--reward": "prob",
        "--pg-latent": "posterior",
        "--pg-region": 1.0,
        "--pg-trajectories": "sampled",
        "--pg-baseline": "leave-one-out",
        "--pg-normalize": False,
        "--rollout-chunk": 20480,
        "--disc-scoring": "auto",
        "--fake-pool": 0,
        "--fake-reuse": 100,
        "--disc-real": None,
        "--disc-l2": 0.0,
        "--disc-label-smoothing": 0.0,
        "--pg-group-size": 1,
        "--pg-normalize-by": "batch",
        "--pg-loss": "reinforce",
        "--ppo-clip": 0.2,
        "--ppo-reuse": 1,
        "--reinvent-sigma": 20.0,
        "--critic-weight": 1.0,
        "--diversity-limit": 0,
        "--diversity-memory": 100000,
        "--reference": False,
        "--ref-kl": 0.0,
        "--ref-kl-in": "loss",
        "--ref-kl-target": 0.0,
        "--ref-kl-horizon": 10000,
        "--value": "final",
        "--reward-sources": "discriminator",
        "--reward-weights": None,
        "--reward-workers": 0,
        "--disc-loss": "cross-entropy",
        "--gradient-penalty": 0.0,
        "--disc-gate": 0.0,
        "--disc-gate-interval": 0,
        "--disc-gate-sentences": 500,
        "--disc-keep-best": False,
    },
    "oracle_nll": {"--oracle-seed": 88, "--oracle-npz": None},
}


def parser_of(config):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    gen_parser_from_dataclass(parser, config())
    return parser


@pytest.mark.parametrize("name", CONFIGS)
class TestOfEachConfig:
    def test_flags_and_defaults_are_as_promised(self, name):
        found = {(a.option_strings or [a.dest])[0]: a.default for a in parser_of(CONFIGS[name])._actions}
        assert {flag: found.get(flag, "missing") for flag in PROMISED[name]} == PROMISED[name]
        assert all(type(found[flag]) is type(default) for flag, default in PROMISED[name].items())

    def test_flags_reach_the_config_in_their_types(self, name):
        """By fairseq's parser, and by the nodes of omegaconf that hydra fills."""
        config = CONFIGS[name]
        numbers = [f.name for f, known in options.options_of(config) if known.bound and type(f.default) is int]
        words = [word for option in numbers for word in (options.flag(option), "7")]
        parsed = parser_of(config).parse_args([*(["folder"] if name == "task" else []), *words])
        node = OmegaConf.merge(OmegaConf.structured(config), {option: "7" for option in numbers})
        assert numbers
        assert all(getattr(parsed, option) == 7 == node[option] for option in numbers)

    def test_every_option_says_what_it_is(self, name):
        """So presets, whose help texts fairseq cannot find, must not add options."""
        config = CONFIGS[name]
        ours = {current.name for current, _ in options.options_of(config)}
        fields = config.__dataclass_fields__.values()
        assert ours == {f.name for f in fields if f.name != "_name" and not str(f.default).startswith("${")}
        for current, known in options.options_of(config):
            assert len(known.text) > 10 and not known.text.endswith("."), current.name
            assert "--" + current.name not in known.text  # flags have hyphens

    def test_every_number_has_a_bound_or_says_that_it_has_none(self, name):
        for current, known in options.options_of(CONFIGS[name]):
            is_number = any(str(kind) in str(current.type) for kind in ("int", "float"))
            assert is_number == (known.bound is not None), current.name

    def test_defaults_fulfil_bounds_and_relations(self, name):
        options.check(CONFIGS[name](), CONFIGS[name], gen_subset="interpolate")

    def test_special_values_are_values(self, name):
        for current, known in options.options_of(CONFIGS[name]):
            assert all(value in known.bound for value in known.special), current.name


@pytest.mark.parametrize("name", CHECKED)
def test_relations_know_their_options_and_name_their_flags(name):
    config = CHECKED[name]
    known = {current.name for current, _ in options.options_of(config)} | FOREIGN
    for relation in options.relations_of(config):
        assert set(relation.names) <= known, relation
        placeholders = set(re.findall(r"\{(\w+)\}", relation.sentence))
        assert placeholders <= set(relation.names), relation
        named = set(re.findall(r"--[a-z][a-z0-9-]*", relation.sentence))
        assert named and named <= {options.flag(option) for option in relation.names}, relation
        assert relation.sentence.endswith(".")


@pytest.mark.parametrize("name", PRESETS)
def test_the_discriminators_of_presets_can_be_built(name):
    cfg = OmegaConf.merge(OmegaConf.structured(CONFIGS[name]), {"max_positions": 1024})
    options.check(cfg, ConvolutionalOptions)


def test_flags_mentioned_in_help_texts_exist():
    known = {one.name for section in sections() for flags in section.groups.values() for one in flags}
    known |= {"--gen-subset", "--sampling", "--only-source", "--criterion", "--task", "--arch"}  # of fairseq
    known |= {"--validate-interval-updates"}
    for section in sections():
        for one in (one for flags in section.groups.values() for one in flags):
            assert set(re.findall(r"--[a-z][a-z0-9-]*", one.text)) <= known, one.name


class TestTheCommand:
    def test_the_page_of_the_documents_is_up_to_date(self, capsys):
        assert main(["--markdown"]) == 0
        page = Path(__file__).resolve().parents[2] / "docs" / "flags.md"
        assert page.read_text(encoding="utf-8") == capsys.readouterr().out, (
            "write it again: python -m fairseq_seqvae.flags --markdown > docs/flags.md"
        )

    def test_every_flag_is_listed_once_with_default_and_bound(self, capsys):
        assert main([]) == 0
        said = capsys.readouterr().out
        for name in set(PROMISED) - set(PRESETS) - {"seqvae_elbo"}:
            for flag in PROMISED[name].keys() - {"data"}:
                assert len(re.findall(rf"^  {flag}: .*, default ", said, re.MULTILINE)) == 1, flag
        assert "  --latent-dim: whole number at least 0, default 32\n" in said
        assert "  --entropy-weight: number of any size, default 0\n" in said
        assert "  --kl-anneal: constant, linear or cyclical, default constant\n" in said
        assert "  --pg-normalize: switch, default off\n" in said
        assert "  --disc-lr: number at least 0, default none\n" in said
        assert "  DATA: text, default required\n" in said

    def test_sections_are_what_users_choose_by(self):
        assert [section.choice for section in sections()] == [
            "--task seqvae",
            "--arch seqvae",
            "--criterion seqvae_elbo",
            "--criterion seqvae_pg",
            "--optimizer seqvae_adam",
            "--scoring oracle_nll",
            "fairseq-generate, fairseq-interactive",
        ]

    def test_presets_are_shown_by_their_defaults(self):
        (model,) = (section for section in sections() if section.choice == "--arch seqvae")
        assert list(model.presets) == PRESETS
        for name in PRESETS:
            differing = {flag for flag, default in PROMISED[name].items() if default != MODEL[flag]}
            assert set(model.presets[name]) == differing
        assert model.presets["seqvae_text"]["--latent-input"] == "on"
        assert model.presets["seqvae_oracle"]["--dropout"] == "0"

    def test_what_belongs_to_one_criterion_is_listed_with_it(self):
        (pg,) = (section for section in sections() if section.choice == "--criterion seqvae_pg")
        names = {one.name for flags in pg.groups.values() for one in flags}
        assert names == PROMISED["seqvae_pg"].keys() - ELBO.keys()
        assert "--criterion seqvae_elbo" in pg.note

    @pytest.mark.parametrize("width", [40, 100])
    def test_texts_fit_the_terminal(self, width):
        texts = [line for line in as_text(sections(), width).splitlines() if line.startswith("      ")]
        assert texts and max(map(len, texts)) <= width
