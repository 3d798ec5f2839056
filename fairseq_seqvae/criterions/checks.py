"""Checks of options, until they are data."""

import math
from typing import Any

from fairseq_seqvae.core.schedules.annealing import kl_weight


def check_weights(cfg: Any, *names: str) -> None:
    """Raise a ValueError that names the flag if one of these options is negative, infinite or not a number."""
    for name in names:
        if not 0 <= getattr(cfg, name) < math.inf:
            raise ValueError(
                f"--{name.replace('_', '-')} must be finite and not negative but is {getattr(cfg, name)}: 0 switches "
                "it off."
            )


def check_elbo_options(cfg: Any) -> None:
    kl_weight(0, cfg.kl_weight, cfg.kl_anneal, cfg.kl_anneal_updates, cfg.kl_cycles, cfg.kl_ramp)
    if cfg.kl_anneal != "constant" and cfg.kl_anneal_updates <= 0:
        raise ValueError(
            f"--kl-anneal {cfg.kl_anneal} needs --kl-anneal-updates above 0 (it is {cfg.kl_anneal_updates}), "
            "or use --kl-anneal constant."
        )
    check_weights(cfg, "kl_weight", "free_bits")


def check_pg_options(cfg: Any) -> None:
    for name in ("num_rollouts", "reward_stride", "rollout_chunk", "fake_reuse"):
        if getattr(cfg, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1 but is {getattr(cfg, name)}.")
    check_weights(cfg, "elbo_weight", "pg_weight", "entropy_floor", "disc_l2", "fake_pool")
    if not 0 <= cfg.disc_label_smoothing < 0.5:
        raise ValueError(f"--disc-label-smoothing must lie in [0, 0.5) but is {cfg.disc_label_smoothing}.")
    if not math.isfinite(cfg.entropy_weight):
        raise ValueError(f"--entropy-weight must be finite but is {cfg.entropy_weight}: 0 switches it off.")
    if cfg.entropy_floor and cfg.entropy_weight >= 0:
        raise ValueError("--entropy-floor needs an --entropy-weight below 0: a bonus on entropy has no floor.")
    if not 0 < cfg.pg_region <= 1:
        raise ValueError(f"--pg-region must lie in (0, 1] but is {cfg.pg_region}: 1 is the whole prior.")
    if cfg.pg_region < 1 and cfg.pg_latent != "prior":
        raise ValueError("--pg-region below 1 is a share of the prior: it needs --pg-latent prior.")
    if cfg.pg_trajectories == "data" and cfg.pg_latent == "prior":
        raise ValueError(
            "--pg-trajectories data needs --pg-latent posterior: a z drawn from the prior says nothing of the "
            "sequences of the data."
        )
