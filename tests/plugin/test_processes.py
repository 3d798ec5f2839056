"""Training in several processes: that of one with larger batches, bit for bit; mistaken launches are refused."""

import commands
import pytest
import torch
from commands import (
    assert_same_training,
    distributed,
    hydra_flags,
    json_lines,
    load_checkpoint,
    run,
    split_flags,
    training_flags,
)
from omegaconf import OmegaConf

# fairseq seeds dropout alike in all processes, so that only without it one process can do the same.
WITHOUT_DROPOUT = "--dropout 0 --disc-dropout 0"


def without_speed(line: dict) -> dict:
    """What is logged, but for what depends on the clock and on how many processes share the work."""
    return {key: value for key, value in line.items() if key.split("_")[-1] not in ("wps", "ups", "wpb", "wall", "bsz")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend, flags",
    [
        ("pytorch_ddp", "--word-dropout 0.3 --rollout-lag 0.5"),
        ("legacy_ddp", "--fake-pool 40 --fake-reuse 2 --adv-d-steps 3 --pg-normalize --reward logit"),
    ],
)
def test_two_processes_train_like_one_with_twice_the_batches(toy, tmp_path, backend, flags):
    # 11 batches are 6 updates per epoch, in the last of which one process has nothing to do.
    flags = f"{WITHOUT_DROPOUT} {flags} --max-update 14 --save-interval-updates 5"
    alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 2")
    command = training_flags(toy.folder, tmp_path / "both", flags, distributed(2), "--ddp-backend", backend)
    both = run("train", command, processes=2, as_user=backend == "pytorch_ddp").stdout

    saved = {file.name for file in (tmp_path / "alone").iterdir()}
    assert saved == {file.name for file in (tmp_path / "both").iterdir()} >= {"checkpoint_1_5.pt", "checkpoint_2_10.pt"}
    for name in saved:
        assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)
    # Each line once, of both processes together.
    for tag, count in (("train_inner", 14), ("train", 3), ("valid", 5)):
        lines = [without_speed(line) for line in json_lines(both, tag)]
        assert lines == [without_speed(line) for line in json_lines(alone, tag)] and len(lines) == count
    assert both.count("Saved checkpoint") == alone.count("Saved checkpoint") == 5


@pytest.mark.slow
def test_four_processes_resume_exactly(toy, tmp_path):
    # For more than two, the order of a sum of gradients depends on how they are bundled.
    for folder, stops in (("whole", [9]), ("resumed", [6, 9])):
        for stop in stops:
            flags = f"--max-update {stop} --gen-pretrain-updates 3 --disc-pretrain-updates 2"
            run("train", training_flags(toy.folder, tmp_path / folder, flags, distributed(4)), processes=4)
    assert_same_training(*(tmp_path / folder / "checkpoint_last.pt" for folder in ("whole", "resumed")))


@pytest.mark.slow
def test_batches_of_an_update_that_one_process_lacks(toy, tmp_path):
    # 11 batches in updates of 2 x 2: in the third, one process has two of them, the other one and an empty one.
    flags = f"{WITHOUT_DROPOUT} --max-update 5 --gen-pretrain-updates 5"
    alone = commands.train(toy.folder, tmp_path / "alone", flags, "--update-freq 4")
    command = training_flags(toy.folder, tmp_path / "both", flags, distributed(2), "--update-freq 2")
    both = run("train", command, processes=2).stdout
    name = "checkpoint_last.pt"
    one, two = (load_checkpoint(tmp_path / folder / name) for folder in ("alone", "both"))
    # Gradients are added up in another order.
    torch.testing.assert_close(two["model"], one["model"], rtol=1e-5, atol=1e-6)
    sizes = [[line["bsz"] for line in json_lines(output, "train_inner")] for output in (alone, both)]
    assert sizes[0] == sizes[1] and len(sizes[0]) == 5
    assert both.count("--max-update 5 ends before the adversarial part") == 1


@pytest.mark.slow
def test_two_processes_of_hydra(toy, tmp_path):
    # As examples/distributed/README.md gives it. What the file does not name needs a plus: hydra has read the file
    # before fairseq loads the plugin.
    environment = "oc.env" if hasattr(OmegaConf, "has_resolver") else "env"  # the name in omegaconf 2.0
    launch = f"""
        distributed_training.distributed_world_size=2 distributed_training.distributed_backend=gloo
        distributed_training.distributed_init_method=env:// distributed_training.distributed_no_spawn=true
        'distributed_training.distributed_rank=${{{environment}:RANK}}'
    """
    options = "+model.dropout=0 +model.disc_dropout=0 checkpoint.save_interval_updates=5"
    command = hydra_flags(toy.folder, tmp_path / "both", *split_flags(launch, options))
    run("hydra-train", command, processes=2, as_user=True)
    flags = f"{WITHOUT_DROPOUT} --max-update 14 --save-interval-updates 5 --update-freq 2"
    commands.train(toy.folder, tmp_path / "alone", flags)
    for name in ("checkpoint_1_5.pt", "checkpoint_last.pt"):
        assert_same_training(tmp_path / "alone" / name, tmp_path / "both" / name, same_batches=False)


class TestMistakenLaunches:
    def test_processes_that_do_not_know_of_each_other(self, toy, tmp_path, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        with pytest.raises(ValueError, match="2 processes were started, .* add --distributed-world-size 2"):
            commands.train(toy.folder, tmp_path / "ck", "--max-update 1 --distributed-world-size 1")
        assert not list((tmp_path / "ck").glob("*.pt"))

    def test_one_process_of_torchrun_is_no_mistake(self, toy, tmp_path, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "1")
        monkeypatch.setenv("RANK", "0")
        commands.train(toy.folder, tmp_path, "--max-update 1")
        assert load_checkpoint(tmp_path / "checkpoint_last.pt")["optimizer_history"][-1]["num_updates"] == 1

    def test_fairseq_would_start_no_process_at_all(self, toy, tmp_path, monkeypatch):
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        launch = "--distributed-world-size 2 --distributed-init-method tcp://localhost:29501"
        with pytest.raises(ValueError, match="there is none here: nothing would run.* by torchrun"):
            commands.train(toy.folder, tmp_path, "--max-update 1", launch)
