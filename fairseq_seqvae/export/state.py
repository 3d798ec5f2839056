"""Which parts of a checkpoint generation needs."""

from typing import Any

from fairseq_seqvae.support import checkpoints

# Parts of the model, by the beginning of their parameters' names.
TRAINING_ONLY = ("discriminator.", "rollout_decoder.", "exact_rollout.", "reference_decoder.", "critic.", "run_state.")


def inference_state(state: dict[str, Any], ema: bool = False) -> dict[str, Any]:
    """What generation needs of the *state* in a checkpoint of fairseq-train.

    Args:
        ema: take the moving average of the parameters that --store-ema keeps

    Raises:
        ValueError: if the checkpoint is of another model, or has no moving average
    """
    if not checkpoints.is_seqvae(state["model"]):
        raise ValueError(f"the checkpoint is not of a SeqVAE but of {state['cfg']['model']['_name']!r}")
    parameters = state["model"]
    if ema:
        if "ema" not in state["extra_state"]:
            raise ValueError("the checkpoint has no moving average of the parameters: train with --store-ema")
        parameters = state["extra_state"]["ema"]
    return {
        "args": None,
        "cfg": state["cfg"],
        "model": {name: value for name, value in parameters.items() if not name.startswith(TRAINING_ONLY)},
        "criterion": None,
        "task_state": state["task_state"],
        # fairseq looks for these when it loads a model.
        "optimizer_history": state["optimizer_history"][-1:],
        "extra_state": {"train_iterator": state["extra_state"]["train_iterator"]},
    }
