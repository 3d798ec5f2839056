"""What repairs fairseq at run time: does it where it is needed, and nothing where it is not."""

import types

import pytest
import torch
from fairseq import checkpoint_utils, options
from fairseq.distributed import utils as distributed_utils
from fairseq.file_io import PathManager
from fairseq.models import distributed_fairseq_model
from omegaconf import OmegaConf

from fairseq_seqvae import compat
from fairseq_seqvae.compat import launch, saving

REPLACED = [
    (options, "parse_args_and_arch"),
    (distributed_utils, "call_main"),
    (distributed_utils, "_infer_torch_distributed_launch_init"),
    (distributed_utils, "_broadcast_object_slow"),
    (distributed_fairseq_model, "DistributedDataParallel"),
    (checkpoint_utils, "load_checkpoint_to_cpu"),
    (checkpoint_utils, "load_checkpoint"),
    (PathManager, "copy"),
]


def test_applying_the_shims_again_changes_nothing():
    before = [getattr(*place) for place in REPLACED]
    compat.apply_shims()
    assert [getattr(*place) for place in REPLACED] == before


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


class TestDistributedModels:
    @pytest.mark.parametrize("is_cuda, expected", [(False, (None, None)), (True, ([1], 1))])
    def test_a_gpu_is_named_for_models_on_gpus_alone(self, is_cuda, expected):
        class Wrapper:
            def __init__(self, module, device_ids, output_device, **others):
                self.given = device_ids, output_device
                self.others = others

        module = types.SimpleNamespace(parameters=lambda: [types.SimpleNamespace(is_cuda=is_cuda)])
        wrapped = launch.distribute_on_cpus(Wrapper)(module, device_ids=[1], output_device=1, bucket_cap_mb=3)
        assert wrapped.given == expected and wrapped.others == {"bucket_cap_mb": 3}


class TestGroupsOfTheCompositeOptimizer:
    @staticmethod
    def task_config(*groups, name="composite"):
        root = OmegaConf.create({"task": {}, "optimizer": {"_name": name, "groups": dict.fromkeys(groups, {})}})
        return root.task

    def test_one_for_each_player_that_learns(self):
        compat.refuse_missing_groups(self.task_config("generator"), ("generator",))
        compat.refuse_missing_groups(self.task_config("generator", "discriminator"), ("generator", "discriminator"))
        compat.refuse_missing_groups(self.task_config(name="adam"), ("generator", "discriminator"))

    def test_a_missing_one(self):
        with pytest.raises(ValueError, match="has no group discriminator: .* under optimizer.groups.discriminator in"):
            compat.refuse_missing_groups(self.task_config("generator"), ("generator", "discriminator"))


class TestCopies:
    def test_one_that_is_cut_off_leaves_what_was_there(self, tmp_path):
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


def test_whether_torch_loads_a_thing_is_found_out():
    assert launch.torch_loads({"plain": [1, "values"]})
    assert not launch.torch_loads(distributed_utils._TensorPlaceholder(0)) or torch.__version__ < "2.6"
