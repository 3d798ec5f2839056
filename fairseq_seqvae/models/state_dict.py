"""What a checkpoint holds of a model, and how one fits a model that has other parts."""

import logging
import math
from collections.abc import Callable
from typing import Any

from fairseq.models import BaseFairseqModel

from fairseq_seqvae.core.latents.mixture import GaussianMixturePrior
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.models.companions import REFERENCE
from fairseq_seqvae.models.conditions import Conditions, check_labels
from fairseq_seqvae.models.lagging import LaggingCopy
from fairseq_seqvae.support import checkpoints, eight_bits

logger = logging.getLogger(__name__)

# How the names of the rollout policy's exact parameters begin in a checkpoint of a run in half precision.
EXACT_ROLLOUT = "exact_rollout."
# The same of what a run has found besides parameters.
RUN_STATE = "run_state."
FITTED_PRIOR = "fitted_prior."
# What starts as a copy where a checkpoint does not have it.
_COPIES = {"rollout_decoder": "decoder", "reference_decoder": "decoder", "kept_discriminator": "discriminator"}


class StateDict(BaseFairseqModel):
    """The methods of a model that write and read its state, for fairseq's checkpoints."""

    decoder: Any
    conditions: Conditions | None
    fitted_prior: GaussianMixturePrior | None
    keeps_fitted_prior: bool
    lagging: LaggingCopy | None
    run_state: RunState
    after_restoring: Callable[[RunState], None] | None

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.lagging is not None:
            self.lagging.save_exact(destination, f"{prefix}{EXACT_ROLLOUT}")
        self.run_state.save(destination, f"{prefix}{RUN_STATE}")

    def load_state_dict(self, state_dict: dict, *args: Any, **kwargs: Any) -> Any:
        """As fairseq's; ValueError, instead of torch's list of all tensors, for a model of other options."""
        try:
            return super().load_state_dict(state_dict, *args, **kwargs)
        except RuntimeError as error:
            reasons = str(error).splitlines()[1:]
            raise ValueError(
                f"the checkpoint holds a model of other options ({len(reasons)} differences, the first: "
                f"{reasons[0].strip()}): give the --arch and the sizes that it was trained with, or start in "
                "another --save-dir."
            ) from error

    def upgrade_state_dict_named(self, state_dict: dict, name: str) -> None:
        """Fit a checkpoint to this model: without or with the adversary, whatever it was saved with."""
        super().upgrade_state_dict_named(state_dict, name)
        unpacked = eight_bits.unpack(state_dict)
        state_dict.clear()  # the same dictionary, which fairseq continues with
        state_dict.update(unpacked)
        prefix = f"{name}." if name else ""
        found = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(f"{prefix}{RUN_STATE}")}
        self.run_state.load(found, f"{prefix}{RUN_STATE}")
        if self.after_restoring is not None:
            self.after_restoring(self.run_state)
        exact = {key: state_dict.pop(key) for key in list(state_dict) if key.startswith(f"{prefix}{EXACT_ROLLOUT}")}
        if self.lagging is not None:
            self.lagging.load_exact(exact, f"{prefix}{EXACT_ROLLOUT}")
        if not checkpoints.is_seqvae(state_dict, prefix):
            raise ValueError("the checkpoint holds another model than a SeqVAE: give one of --arch seqvae.")
        self._check_dictionary(state_dict, prefix)
        check_labels(state_dict, prefix, self.conditions)
        self._take_fitted_prior(state_dict, prefix)
        for part in ("discriminator", "rollout_decoder", "reference_decoder", "kept_discriminator", "critic"):
            module = getattr(self, part)
            saved = [key for key in state_dict if key.startswith(f"{prefix}{part}.")]
            if module is None:
                for key in saved:
                    del state_dict[key]
            elif not saved:
                source = _COPIES.get(part)
                start = f"as a copy of the {source}" if source else "from scratch"
                logger.info(f"the checkpoint holds no {part}: it starts {start}")
                if part == "reference_decoder":
                    self.run_state.set(REFERENCE, (math.inf,))  # so it has not been taken yet
                for key, value in module.state_dict().items():
                    if source:
                        value = state_dict[f"{prefix}{source}.{key}"]
                    state_dict[f"{prefix}{part}.{key}"] = value.clone()

    def _take_fitted_prior(self, state_dict: dict, prefix: str) -> None:
        """Make room for the fitted prior of the checkpoint; training, in which it would be outdated, leaves it out."""
        start = f"{prefix}{FITTED_PRIOR}"
        saved = {key.removeprefix(start): value for key, value in state_dict.items() if key.startswith(start)}
        self.fitted_prior = None
        if saved and self.keeps_fitted_prior:
            self.fitted_prior = GaussianMixturePrior.from_state(saved).to(self.get_buffer("dictionary_version").device)
        elif saved:
            logger.info("the fitted prior of the checkpoint is ignored: training moves the encoder; fit it again after")
            for name in saved:
                del state_dict[f"{start}{name}"]

    def _check_dictionary(self, state_dict: dict, prefix: str) -> None:
        weight = state_dict.get(f"{prefix}encoder.embedding.weight")
        own = self.get_buffer("dictionary_version")
        digest = state_dict.setdefault(f"{prefix}dictionary_version", own)
        size = len(self.decoder.dictionary)
        if weight is not None and weight.size(0) != size:
            raise ValueError(
                f"the checkpoint was trained with a dictionary of {weight.size(0)} symbols but the data folder has one "
                f"of {size}: use the data folder (dict.txt) that the model was trained with."
            )
        if int(digest) != int(own):
            raise ValueError(
                "the checkpoint was trained with a dictionary of the same size but of other symbols, or in another "
                "order: use the data folder (dict.txt) that the model was trained with."
            )
