"""What the task checks in the configuration of the whole run; most of it is tested through the commands."""

import pytest

pytest.importorskip("fairseq")
from omegaconf import OmegaConf  # noqa: E402

from fairseq_seqvae.tasks import run_checks  # noqa: E402

BOTH = ("generator", "discriminator")


class TestGroupsOfTheCompositeOptimizer:
    @staticmethod
    def task_config(*groups, name="composite"):
        root = OmegaConf.create({"task": {}, "optimizer": {"_name": name, "groups": dict.fromkeys(groups, {})}})
        return root.task

    def test_one_for_each_player_that_learns(self):
        run_checks.refuse_missing_groups(self.task_config("generator"), ("generator",))
        run_checks.refuse_missing_groups(self.task_config(*BOTH), BOTH)
        run_checks.refuse_missing_groups(self.task_config(name="adam"), BOTH)

    def test_a_missing_one(self):
        with pytest.raises(ValueError, match="has no group discriminator: .* under optimizer.groups.discriminator in"):
            run_checks.refuse_missing_groups(self.task_config("generator"), BOTH)


class TestMetrics:
    @staticmethod
    def task_config(metric):
        return OmegaConf.create({"task": {}, "checkpoint": {"best_checkpoint_metric": metric}}).task

    def test_one_that_is_logged(self):
        run_checks.refuse_unknown_metric(self.task_config("loss"), {"loss": 1.0})

    def test_one_that_is_not(self):
        with pytest.raises(ValueError, match="metric ppl is not among what a validation logs: choose one of kl, loss."):
            run_checks.refuse_unknown_metric(self.task_config("ppl"), ["loss", "kl", "_hidden"])


def test_a_task_made_in_python_has_no_run_to_check():
    class Config:
        data = "."

    run_checks.refuse_lone_process(Config())
    run_checks.prepare_for_two_players(Config())
    run_checks.refuse_no_updates(Config())
    run_checks.refuse_missing_groups(Config(), BOTH)
    run_checks.refuse_unknown_metric(Config(), [])
    assert not run_checks.scores_without_targets(Config())
