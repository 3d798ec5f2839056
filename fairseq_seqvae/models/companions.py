"""What a model in training holds besides encoder, decoder and discriminator: copies of these, and a critic."""

from typing import Any

import torch
from torch import nn

from fairseq_seqvae.core.discriminators.likelihood import TokenLikelihood
from fairseq_seqvae.core.schedules.run_state import RunState
from fairseq_seqvae.core.schedules.turns import CRITIC, DECODER, DISCRIMINATOR
from fairseq_seqvae.models.lagging import LaggingCopy, copy_parameters, frozen_copy

# The other player besides DISCRIMINATOR, as fairseq's optimizer `composite` and `SeqVAEModel.forward` name it.
GENERATOR = "generator"
# Of the run state: number of the update in which the reference was taken.
REFERENCE = "reference"
# The same of the discriminator's language model.
LANGUAGE_MODEL = "disc_lm"


def tag(module: nn.Module | None, part: str) -> None:
    """Tag all parameters with their part of the model and their player."""
    for parameter in module.parameters() if module is not None else ():
        tagged: Any = parameter
        tagged.part = part
        tagged.param_group = DISCRIMINATOR if part == DISCRIMINATOR else GENERATOR


class Companions:
    """The methods of a model for its rollout policy, reference, critic and kept discriminator; each may be missing."""

    decoder: Any
    discriminator: Any
    kept_discriminator: Any
    rollout_decoder: Any
    reference_decoder: Any
    critic: Any
    lagging: LaggingCopy | None
    run_state: RunState

    def drop_adversary(self) -> None:
        """Leave out what only adversarial training needs."""
        self.drop_discriminator()
        self.rollout_decoder = self.lagging = self.reference_decoder = self.critic = None

    def drop_discriminator(self) -> None:
        """Leave out the discriminator, of a training whose rewards do without."""
        self.discriminator = self.kept_discriminator = None

    def add_kept_discriminator(self) -> None:
        """Hold a copy of the discriminator, too, which is part of checkpoints; the criterion says what it is worth."""
        self.kept_discriminator = frozen_copy(self.discriminator)
        tag(self.kept_discriminator, DISCRIMINATOR)

    @torch.no_grad()
    def keep_discriminator(self) -> None:
        """Let that copy be the discriminator as it is now."""
        copy_parameters(self.discriminator, self.kept_discriminator)

    @torch.no_grad()
    def restore_discriminator(self) -> None:
        """Let the discriminator be as that copy is."""
        copy_parameters(self.kept_discriminator, self.discriminator)

    def add_reference(self) -> None:
        """Hold a reference policy, too: a frozen copy of the decoder that :meth:`keep_reference` takes."""
        self.reference_decoder = frozen_copy(self.decoder)
        tag(self.reference_decoder, DECODER)

    def add_critic(self) -> None:
        """Have a critic, too: it predicts the reward of a sequence from the decoder's features, at first 0."""
        self.critic = nn.Linear(self.decoder.hidden_dim, 1)
        nn.init.zeros_(self.critic.weight)
        nn.init.zeros_(self.critic.bias)
        tag(self.critic, CRITIC)

    def keep_reference(self, update: int, since: int) -> None:
        """Let the reference be the decoder as it is now, unless there is one of this run already.

        Args:
            update: number of the update that is being made
            since: of the first adversarial update; a reference that was taken before it, or not before *update*, is
                that of another run, which this one began with the parameters of
        """
        if self._takes_now(REFERENCE, update, since):
            copy_parameters(self.decoder, self.reference_decoder)

    def keep_language_model(self, update: int, since: int) -> None:
        """Let the language model of the discriminator, if it has the decoder's, be the decoder as it is now.

        Args:
            update: see :meth:`keep_reference`
            since: of the first update of the discriminator
        """
        judges = [part for part in (self.discriminator, self.kept_discriminator) if part is not None]
        parts = [part for judge in judges for part in judge.modules() if isinstance(part, TokenLikelihood)]
        own = [part for part in parts if part.of_start]
        if own and self._takes_now(LANGUAGE_MODEL, update, since):
            for part in own:
                copy_parameters(self.decoder, part.policy)

    def _takes_now(self, name: str, update: int, since: int) -> bool:
        """Whether the copy *name* of the decoder is still to be taken in this run; if so, it is noted."""
        taken = self.run_state.get(name)
        if taken is not None and since <= taken[0] < update:
            return False
        self.run_state.set(name, (update,))
        return True
