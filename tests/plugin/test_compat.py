"""What repairs fairseq at run time: it acts where it is needed, changes nothing where it is not, and is documented."""

import contextlib
import copy
import importlib.util
import sys
import types
from pathlib import Path

import commands
import numpy as np
import pytest
import torch
from fairseq import options, scoring
from fairseq import utils as fairseq_utils
from fairseq.data import Dictionary, data_utils
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.logging import metrics
from fairseq.scoring import bleu
from omegaconf import DictConfig, OmegaConf
from test_packaging import run_python

import fairseq_seqvae
from fairseq_seqvae import compat
from fairseq_seqvae.compat import launch, repairs, saving, training
from fairseq_seqvae.compat.repairs import REFERENCE, REPAIRS, Repair

fairseq_seqvae.register()

DOCS = Path(__file__).resolve().parents[2] / "docs"
SITE = Path(importlib.util.find_spec("fairseq").origin).parents[1]


def current(repair):
    return getattr(repair.owner(), repair.attribute.split(".")[-1])


def name_of(repair):
    return repair.make.__name__


class TestTable:
    @pytest.mark.parametrize("repair", REPAIRS, ids=name_of)
    def test_what_is_needed_is_applied(self, repair):
        assert name_of(repair) in getattr(current(repair), "repairs", ()) or not repair.needed()

    def test_applying_it_again_changes_nothing(self):
        before = [current(repair) for repair in REPAIRS]
        compat.apply_repairs()
        assert [current(repair) for repair in REPAIRS] == before

    def test_each_repair_stands_in_it_once(self):
        assert len({(name_of(repair), repair.place) for repair in REPAIRS}) == len(REPAIRS)

    @pytest.mark.skipif(
        " ".join(reversed((compat.fairseq_version() or "").split())) != "(ve-fairseq) 0.12.3",
        reason=f"the table names lines of {REFERENCE}",
    )
    @pytest.mark.parametrize("repair", REPAIRS, ids=name_of)
    def test_the_line_that_it_names_is_the_cause(self, repair):
        file, number = repair.line.split(":")
        lines = (SITE / file).read_text(encoding="utf-8").splitlines()
        assert repair.code in lines[int(number) - 1]

    def test_the_page_is_in_step(self):
        written = (DOCS / "repairs.md").read_text(encoding="utf-8")
        assert written == repairs.as_markdown(), "python -m fairseq_seqvae.compat > docs/repairs.md"
        assert all(f"`{repair.place}`" in written for repair in REPAIRS)
        assert all(row.count(" | ") == 4 for row in written.splitlines() if row.startswith("| "))

    @pytest.mark.parametrize("needed", [True, False])
    def test_what_is_not_needed_is_not_replaced(self, monkeypatch, needed):
        module = types.SimpleNamespace(answer=lambda: 1)
        original = module.answer
        monkeypatch.setitem(sys.modules, "some_module", module)
        repair = Repair(lambda original: lambda: 2, "some_module", "answer", *[""] * 5, needed=lambda: needed)
        for _ in range(2):
            repair.apply()
        assert module.answer() == (2 if needed else 1) and (module.answer is original) != needed


UNTOUCHED = """
import importlib, logging, pkgutil, sys
import fairseq
from fairseq import criterions, models, scoring, tasks, trainer, utils
import fairseq_seqvae
from fairseq_seqvae.compat.repairs import REPAIRS

def found():
    attributes = [getattr(repair.owner(), repair.attribute.split(".")[-1]) for repair in REPAIRS]
    return [*attributes, sys.excepthook, logging.getLogger("fairseq").handlers]

def registered():
    registries = tasks.TASK_REGISTRY, models.MODEL_REGISTRY, criterions.CRITERION_REGISTRY, scoring.SCORER_REGISTRY
    return [sorted(name for name in registry if "seqvae" in name or "oracle" in name) for registry in registries]

before = found()
imported = 0
for room in ("core", "metrics", "support", "oracle", "melody", "compat"):
    package = importlib.import_module(f"fairseq_seqvae.{room}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            imported += 1
assert imported > 40, imported
assert found() == before
assert not any(registered())

# The package is imported now, so that fairseq skips its folder when it is given as --user-dir.
import argparse
utils.import_user_module(argparse.Namespace(user_dir=str(fairseq_seqvae.__path__[0])))
fairseq_seqvae.register()
fairseq_seqvae.register()
assert registered() == [
    ["seqvae"],
    ["seqvae", "seqvae_melody", "seqvae_oracle", "seqvae_text"],
    ["seqvae_elbo", "seqvae_pg"],
    ["oracle_nll"],
], registered()
assert len([1 for old, new in zip(before, found()) if old is not new]) >= 20
assert sys.excepthook is before[-2]  # in another program than fairseq's, exceptions are its own
"""


def test_importing_the_core_leaves_fairseq_as_it_is_until_the_plugin_is_registered():
    result = run_python("-c", UNTOUCHED)
    assert result.returncode == 0, result.stderr


class TestHelp:
    """`--help` of fairseq's commands also lists the options of what is named beside it."""

    FLAGS = "--task seqvae --arch seqvae --criterion seqvae_pg --optimizer seqvae_adam --help"
    OURS = ("--gen-pretrain-updates", "--latent-dim", "--num-rollouts", "--adam-betas")

    @staticmethod
    def options_in(text):
        return {line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  -")}

    def test_of_the_real_command(self):
        result = commands.run("train", self.FLAGS, as_user=True)  # without a data folder
        assert set(self.OURS) <= self.options_in(result.stdout)
        assert "--max-update" in self.options_in(result.stdout) and "\n  data " in result.stdout
        assert "Traceback" not in result.stdout and "error" not in result.stdout.splitlines()[-1]

    @pytest.mark.parametrize(
        "command, flags, shown",
        [
            ("train", "DATA --task seqvae --arch seqvae --criterion seqvae_elbo -h", ("--latent-dim", "--kl-weight")),
            ("generate", "DATA --task seqvae --help", ("--num-draws", "--beam")),
            ("generate", "--help --task seqvae --scoring oracle_nll", ("--latent", "--oracle-seed")),
            ("interactive", "--task seqvae --help", ("--prompt", "--buffer-size")),
            ("validate", "--task seqvae --help", ("--fixed-length", "--valid-subset")),
        ],
    )
    def test_of_each_command(self, command, flags, shown):
        found = self.options_in(commands.call(command, flags))
        assert set(shown) <= found
        assert "--conv-feature-layers" not in found  # of wav2vec2, which fairseq-generate takes for the architecture

    @pytest.mark.parametrize("command", ["train", "generate", "interactive", "validate"])
    def test_where_nothing_is_named_it_lists_what_is_common(self, command):
        text = commands.call(command, "--help")
        assert {"--task", "--seed", "--user-dir"} <= self.options_in(text)
        assert not self.options_in(text) & {*self.OURS, "--source-lang", "--conv-feature-layers"}

    def test_an_unknown_choice_is_fairseqs_own_error(self):
        with pytest.raises(RuntimeError, match="argument --task: invalid choice: 'none'"):
            commands.call("train", "--task none --help")

    def test_without_help_nothing_is_printed(self, toy):
        assert commands.make_config(toy.folder).task._name == "seqvae"

    def test_a_program_that_modifies_the_parser_still_does(self, capsys):
        def rename(parser):
            parser.prog = "mine"

        with pytest.raises(SystemExit) as end:
            options.parse_args_and_arch(options.get_training_parser(), ["--help"], modify_parser=rename)
        assert end.value.code == 0 and capsys.readouterr().out.startswith("usage: mine ")


class TestOptionsOfGeneration:
    @pytest.fixture
    def cfg(self):
        sections = {
            "common_eval": {"quiet": False, "post_process": None},
            "generation": {"nbest": 2, "keys": "no method"},
            "scoring": {"_name": "bleu"},
            "dataset": {"batch_size": 3},
        }
        cfg = OmegaConf.create(sections)
        OmegaConf.set_struct(cfg, True)
        scoring.build_scorer(cfg.scoring, Dictionary())
        return cfg

    @pytest.fixture
    def looked_up(self, monkeypatch):
        """Names that omegaconf is asked for."""
        names, original = [], DictConfig.__getattr__
        monkeypatch.setattr(DictConfig, "__getattr__", lambda self, name: names.append(name) or original(self, name))
        return names

    def test_are_looked_up_once(self, cfg, looked_up):
        found = cfg.common_eval.quiet, cfg.common_eval.post_process, cfg.generation.nbest
        assert found == (False, None, 2) and not looked_up
        assert cfg.dataset.batch_size == 3 and looked_up == ["dataset", "batch_size"]

    def test_are_those_that_were_set_last(self, cfg):
        cfg.generation.nbest = 3
        assert (cfg.generation.nbest, cfg.generation["nbest"], cfg["generation"].nbest) == (3, 3, 3)
        cfg.generation["nbest"] = 4
        assert (cfg.generation.nbest, OmegaConf.to_container(cfg)["generation"]["nbest"]) == (4, 4)
        cfg.generation = {"nbest": 5}
        assert cfg.generation.nbest == 5

    def test_are_a_configuration_as_before(self, cfg):
        assert isinstance(cfg.generation, DictConfig) and list(cfg.generation.keys()) == ["nbest", "keys"]
        copied = copy.deepcopy(cfg)
        copied.generation.nbest = 7
        assert (copied.generation.nbest, cfg.generation.nbest) == (7, 2) and "'nbest': 2" in str(cfg)
        with pytest.raises(AttributeError, match="nothing"):
            _ = cfg.generation.nothing

    def test_more_sentences_ask_for_no_more_of_them(self, trained, looked_up):
        counts = []
        for draws in (1, 9):
            looked_up.clear()
            commands.generate(
                trained.folder, trained.checkpoint, "--gen-subset prior --sampling --beam 1 --num-draws", draws
            )
            counts.append(len(looked_up))
        assert counts[0] == counts[1] > 0

    @pytest.mark.parametrize("choice", ["bleu", OmegaConf.create({"_name": "bleu"})])
    def test_a_scorer_is_built_of_less(self, choice):
        assert isinstance(scoring.build_scorer(choice, Dictionary()), bleu.Scorer)


class TestLaunch:
    @staticmethod
    def launch(original, monkeypatch, gpus):
        for name, value in (("WORLD_SIZE", "4"), ("RANK", "3")):
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        cfg = types.SimpleNamespace(device_id=1)
        launch.launch_by_torchrun_on_cpus(original)(cfg)
        return vars(cfg)

    def test_without_gpus(self, monkeypatch):
        assert self.launch(pytest.fail, monkeypatch, gpus=0) == {
            "distributed_init_method": "env://",
            "distributed_world_size": 4,
            "distributed_rank": 3,
            "distributed_no_spawn": True,
            "device_id": 0,
        }

    def test_with_gpus_it_is_fairseqs(self, monkeypatch):
        found = self.launch(lambda cfg: setattr(cfg, "device_id", 7), monkeypatch, gpus=2)
        assert found == {"device_id": 7}


class TestClippingOnTheCpu:
    @staticmethod
    def parameters():
        parameters = [torch.nn.Parameter(torch.zeros(3)) for _ in range(3)]
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 4.0])
        return parameters

    @pytest.mark.parametrize("most, scale", [(0, 1), (1, 1 / 5), (9, 1)])
    def test_the_norm_may_lie_on_another_device(self, most, scale):
        def on_a_gpu(parameters, max_norm, aggregate_norm_fn):
            assert max_norm == 0, "fairseq would multiply by what lies on the GPU"
            norm = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
            return types.SimpleNamespace(cpu=lambda: aggregate_norm_fn(norm))

        parameters = self.parameters()
        norm = training.clip_gradients_where_they_are(on_a_gpu)(parameters, most, lambda norm: norm)
        assert float(norm) == 5
        torch.testing.assert_close(parameters[0].grad, torch.tensor([3.0 * scale, 0, 0]))
        torch.testing.assert_close(parameters[1].grad, torch.tensor([0, 0, 4.0 * scale]))

    def test_without_gradients_it_is_fairseqs(self):
        clip = training.clip_gradients_where_they_are(lambda parameters, most, fn: (parameters, most, fn))
        parameter = torch.nn.Parameter(torch.zeros(3))
        found, most, function = clip(parameter, 2.0)
        assert len(found) == 1 and found[0] is parameter and most == 2.0 and function is None

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none")
    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_on_a_machine_with_a_gpu(self, device):
        parameters = self.parameters()
        for p in parameters:
            p.grad = None if p.grad is None else p.grad.to(device)
        parameters = [types.SimpleNamespace(grad=p.grad) for p in parameters]
        assert float(fairseq_utils.clip_grad_norm_(parameters, 1.0)) == 5
        torch.testing.assert_close(parameters[1].grad.cpu(), torch.tensor([0, 0, 4 / 5]))


class TestDistributedModels:
    @pytest.mark.parametrize("is_cuda, expected", [(False, (None, None)), (True, ([1], 1))])
    def test_a_gpu_is_named_for_models_on_gpus_alone(self, is_cuda, expected):
        class Wrapper:
            def __init__(self, module, device_ids, output_device, **others):
                self.given = device_ids, output_device
                self.others = others

        module = types.SimpleNamespace(parameters=lambda: [types.SimpleNamespace(is_cuda=is_cuda)])
        wrapped = launch.distribute_on_cpus(Wrapper)(module, device_ids=[1], output_device=1, bucket_cap_mb=3)
        one_order = {} if is_cuda else {"find_unused_parameters": True}
        assert wrapped.given == expected and wrapped.others == {"bucket_cap_mb": 3, **one_order}


class TestCopies:
    def test_one_that_is_cut_off_leaves_the_old_file(self, tmp_path):
        def cut_off(src_path, dst_path, overwrite):
            with open(dst_path, "w") as file:
                file.write("half")
            raise KeyboardInterrupt

        (tmp_path / "new").write_text("the new one")
        (tmp_path / "last").write_text("the last one")
        with pytest.raises(KeyboardInterrupt):
            saving.copy_whole_or_not_at_all(cut_off)(str(tmp_path / "new"), str(tmp_path / "last"), overwrite=True)
        assert (tmp_path / "last").read_text() == "the last one"

    def test_whole_ones(self, tmp_path):
        source, target = tmp_path / "new", tmp_path / "last"
        source.write_text("the new one")
        target.write_text("the last one")
        assert PathManager.copy(str(source), str(target), overwrite=True)
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
            "new": "the new one",
            "last": "the new one",
        }


class TestBatches:
    @staticmethod
    def cut(batch_by_size, indices, **limits):
        return [list(batch) for batch in batch_by_size(indices, lambda index: 1, **limits)]

    @pytest.mark.parametrize("kind", [np.asarray, list, iter])
    def test_the_last_one_is_kept_whatever_its_size(self, kind):
        by_eights = {"max_sentences": 8, "required_batch_size_multiple": 8}
        found = self.cut(data_utils.batch_by_size, kind([9, 5, 1, 0, 2, 8, 7, 6, 4, 3]), **by_eights)
        assert found == [[9, 5, 1, 0, 2, 8, 7, 6], [4, 3]]
        assert self.cut(data_utils.batch_by_size, kind(range(8)), **by_eights) == [list(range(8))]
        assert self.cut(data_utils.batch_by_size, kind([]), **by_eights) == []

    def test_batches_of_fixed_shapes_are_fairseqs(self):
        given = []
        kept = training.keep_last_batch(lambda *args: given.append(args) or "batches")
        assert kept([3, 1], len, fixed_shapes=[(2, 2)]) == "batches"
        assert given == [([3, 1], len, None, None, None, 1, [(2, 2)])]

    def test_whether_fairseq_drops_it_is_found_out(self, monkeypatch):
        assert not training.drops_last_batch()
        monkeypatch.setattr(data_utils, "batch_by_size", lambda indices, **limits: [indices[:8]])
        assert training.drops_last_batch()


class TestMetrics:
    def test_names_of_aggregations_that_ended_are_forgotten(self):
        metrics.reset()
        with metrics.aggregate("train"):
            for _ in range(3):
                with metrics.aggregate() as inner, metrics.aggregate(new_root=True) as root:
                    metrics.log_scalar("loss", 2.0)
                assert root["loss"].avg == 2.0 and "loss" not in inner
                metrics.log_scalar("loss", 3.0)
            assert set(metrics._active_aggregators_cnt) == {"default", "train"}
        assert set(metrics._active_aggregators_cnt) == {"default"}
        assert metrics.get_smoothed_value("train", "loss") == 3.0
        metrics.reset()

    def test_whether_fairseq_remembers_them_is_found_out(self, monkeypatch):
        @contextlib.contextmanager
        def aggregate():
            metrics._active_aggregators_cnt["a name"] = 0
            yield

        assert not training.remembers_ended_metrics()
        monkeypatch.setattr(metrics, "_active_aggregators_cnt", {})
        monkeypatch.setattr(metrics, "aggregate", aggregate)
        assert training.remembers_ended_metrics()


def test_whether_torch_loads_a_thing_is_found_out():
    assert launch.torch_loads({"plain": [1, "values"]})
    assert not launch.torch_loads(distributed_utils._TensorPlaceholder(0)) or torch.__version__ < "2.6"
