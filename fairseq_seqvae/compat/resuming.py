"""What fairseq forgets between a checkpoint and the run that continues it."""

import argparse
import functools
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

from fairseq_seqvae.support.manners import repeated_batches

logger = logging.getLogger(__name__)

Function = Callable[..., Any]

# Where checkpoints hold what is added here, in their `extra_state`.
KEPT = "kept_for_resuming"
# What fairseq's loss scaler counts; its scale is saved.
SCALER_COUNTS = ("_iter", "_last_overflow_iter", "_last_rescale_iter", "_overflows_since_rescale")
EARLY_STOP_COUNTS = ("best", "num_runs")
PLATEAU_COUNTS = ("num_bad_epochs", "cooldown_counter")


def plain(value: Any) -> Any:
    """*value* with a dict in place of each argparse.Namespace, at any depth."""
    if isinstance(value, argparse.Namespace):
        return plain(vars(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(item) for item in value)
    return value


# -- the whole trainer --


def save_what_is_forgotten(original: Function) -> Function:
    """Save options as plain values, and the counters that belong to no object with a state of its own."""

    @functools.wraps(original)
    def state_dict(self: Any) -> dict[str, Any]:
        state = original(self)
        state["cfg"] = plain(state["cfg"])
        kept: dict[str, Any] = {"processes": self.data_parallel_world_size}
        if self.cfg.ema.store_ema:
            kept["ema_update_freq_counter"] = self.ema.update_freq_counter
        if self.cfg.checkpoint.patience > 0:
            kept["early_stop"] = {name: getattr(_early_stop(), name, None) for name in EARLY_STOP_COUNTS}
        state["extra_state"][KEPT] = kept
        return state

    return state_dict


def restore_what_is_forgotten(original: Function) -> Function:
    """Restore what :func:`save_what_is_forgotten` saved, and make the step that ends an epoch."""

    @functools.wraps(original)
    def load_checkpoint(
        self: Any,
        filename: str,
        reset_optimizer: bool = False,
        reset_lr_scheduler: bool = False,
        optimizer_overrides: Any = None,
        reset_meters: bool = False,
    ) -> Any:
        extra = original(self, filename, reset_optimizer, reset_lr_scheduler, optimizer_overrides, reset_meters)
        if extra is None or self.get_num_updates() == 0:  # a new run, maybe with the parameters of another
            return extra
        kept, place = extra.get(KEPT, {}), extra["train_iterator"]
        _warn_of_unsaved_averages(self.cfg)
        if self.cfg.ema.store_ema:
            self.ema.update_freq_counter = kept.get("ema_update_freq_counter", 0)
        if not reset_meters:
            _restore_early_stop(self.cfg, kept)
        if place["iterations_in_epoch"] == 0 and not (reset_lr_scheduler or reset_optimizer):
            # fairseq saves an epoch's last checkpoint before it tells the schedule how the validation went.
            self.lr_step(place["epoch"] - 1, extra.get("val_loss"))
        _keep_place(place, kept.get("processes"), self.data_parallel_world_size)
        return extra

    return load_checkpoint


def _warn_of_unsaved_averages(cfg: Any) -> None:
    """Say where a run cannot continue exactly: fairseq does not save the averages of these ways to train."""
    slowmo = cfg.distributed_training.ddp_backend == "slowmo"
    if cfg.optimization.use_bmuf or slowmo:
        logger.warning(
            f"{'--ddp-backend slowmo' if slowmo else '--use-bmuf'}: fairseq does not save its averages over processes, "
            "so this run does not end exactly as one that was not stopped"
        )


def _early_stop() -> Any:
    """fairseq's function that counts validations for `--patience`, as its attributes."""
    train = sys.modules.get("fairseq_cli.train") or sys.modules["__main__"]
    return getattr(train, "should_stop_early", argparse.Namespace())


def _restore_early_stop(cfg: Any, kept: Mapping[str, Any]) -> None:
    counts = {name: kept.get("early_stop", {}).get(name) for name in EARLY_STOP_COUNTS}
    if cfg.checkpoint.patience <= 0 or None in counts.values():
        return
    vars(_early_stop()).update(counts)
    if counts["num_runs"] >= cfg.checkpoint.patience:
        logger.info(
            f"the run has already ended, since {counts['num_runs']} validations in a row brought no improvement: "
            f"nothing is left to do with --patience {cfg.checkpoint.patience}"
        )
        cfg.optimization.max_epoch = -1  # which every epoch is beyond; 0 means no limit


def _keep_place(place: dict[str, Any], before: int | None, now: int) -> None:
    """Count the batches of an epoch for another number of processes; say so where some come again."""
    if before is None or before == now or place["iterations_in_epoch"] == 0:
        return
    seen = place["iterations_in_epoch"] * before
    place["iterations_in_epoch"] = seen // now
    logger.info(
        f"the checkpoint is of {before} processes, this run of {now}: each continues after {seen // now} batches"
    )
    if seen % now:
        logger.warning(repeated_batches(seen % now, seen, before, now))


# -- objects with a state of their own --


def save_plateau(original: Function) -> Function:
    """Save how many validations in a row brought no improvement, for `--lr-patience`."""

    @functools.wraps(original)
    def state_dict(self: Any) -> dict[str, Any]:
        return original(self) | {name: getattr(self.lr_scheduler, name) for name in PLATEAU_COUNTS}

    return state_dict


def restore_plateau(original: Function) -> Function:
    """Restore what :func:`save_plateau` saved."""

    @functools.wraps(original)
    def load_state_dict(self: Any, state_dict: dict[str, Any]) -> None:
        original(self, state_dict)
        for name in PLATEAU_COUNTS:
            if name in state_dict:
                setattr(self.lr_scheduler, name, state_dict[name])

    return load_state_dict


def save_loss_scaler(original: Function) -> Function:
    """Save what the loss scaler counts, which decides when the scale grows; of `--amp`, the scale too."""

    @functools.wraps(original)
    def state_dict(self: Any) -> dict[str, Any]:
        state = original(self)
        if self.scaler is None:  # of bfloat16
            return state
        if hasattr(self.scaler, "state_dict"):  # torch's
            return state | {"scaler": self.scaler.state_dict()}
        return state | {"scaler": {name: getattr(self.scaler, name) for name in SCALER_COUNTS}}

    return state_dict


def restore_loss_scaler(original: Function) -> Function:
    """Restore what :func:`save_loss_scaler` saved."""

    @functools.wraps(original)
    def load_state_dict(self: Any, state_dict: dict[str, Any], optimizer_overrides: Any = None) -> None:
        original(self, state_dict, optimizer_overrides)
        saved = state_dict.get("scaler")
        if not saved or self.scaler is None:
            return
        if hasattr(self.scaler, "load_state_dict"):
            if "scale" in saved:
                self.scaler.load_state_dict(saved)
        elif "scale" not in saved:
            vars(self.scaler).update(saved)

    return load_state_dict


def save_float32_copies(original: Function) -> Function:
    """Save the float32 copies of half-precision parameters, which training moves."""

    @functools.wraps(original)
    def state_dict(self: Any) -> dict[str, Any]:
        state = original(self)
        if isinstance(self.fp32_params, list):
            state["fp32_params"] = [copy.data for copy in self.fp32_params]
        return state

    return state_dict


def restore_float32_copies(original: Function) -> Function:
    """Take the copies that round to the parameters; where they do not, the parameters of the checkpoint count."""

    @functools.wraps(original)
    def load_state_dict(self: Any, state_dict: dict[str, Any], optimizer_overrides: Any = None) -> None:
        original(self, state_dict, optimizer_overrides)
        if not isinstance(self.fp32_params, list):
            return
        saved = state_dict.get("fp32_params", [])
        taken = 0
        for copy, parameter, exact in zip(self.fp32_params, self.fp16_params, saved, strict=False):
            if exact.shape == parameter.shape and exact.to(parameter).equal(parameter.data):
                copy.data.copy_(exact)
                taken += 1
        if taken < len(self.fp32_params):
            logger.warning(
                f"the checkpoint holds only {taken} of {len(self.fp32_params)} float32 copies of the parameters: the "
                "others begin with rounded ones, so this run does not end exactly as one that was not stopped"
            )

    return load_state_dict


# -- the place in the data --


def shuffle_as_asked(original: Function) -> Function:
    """Let each epoch be shuffled or not as it asks, also where the loader of the first one is used again."""

    @functools.wraps(original)
    def get_iterator_for_epoch(
        self: Any, epoch: int, shuffle: bool, fix_batches_to_gpus: bool = False, offset: int = 0
    ) -> Any:
        if getattr(self, "dataloader", None) is not None:
            self.epoch_batch_sampler.shuffle = shuffle
        return original(self, epoch, shuffle, fix_batches_to_gpus=fix_batches_to_gpus, offset=offset)

    return get_iterator_for_epoch
