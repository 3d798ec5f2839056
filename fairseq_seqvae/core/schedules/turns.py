"""What depends on the number of the update: the weight of the KL term, and whose turn it is."""

from dataclasses import dataclass
from enum import Enum


class Turn(Enum):
    """Who moves in an update, and how."""

    GENERATOR_PRETRAIN = "generator-pretrain"
    DISCRIMINATOR_PRETRAIN = "discriminator-pretrain"
    GENERATOR = "generator"
    DISCRIMINATOR = "discriminator"

    @property
    def is_discriminator(self) -> bool:
        """True if the discriminator moves and the generator rests."""
        return self in (Turn.DISCRIMINATOR_PRETRAIN, Turn.DISCRIMINATOR)

    @property
    def is_adversarial(self) -> bool:
        """True after both pre-trainings."""
        return self in (Turn.GENERATOR, Turn.DISCRIMINATOR)


@dataclass(frozen=True)
class TurnPlan:
    """Whose turn each update is: a pure function of its number, so that every process and every resumed run agree.

    Attributes:
        gen_pretrain_updates: updates of the generator alone by the ELBO, first
        disc_pretrain_updates: updates of the discriminator alone, next
        adv_g_steps: then, for ever: this many of the generator (ELBO + policy gradient)
        adv_d_steps: and this many of the discriminator
    """

    gen_pretrain_updates: int = 0
    disc_pretrain_updates: int = 0
    adv_g_steps: int = 1
    adv_d_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("gen_pretrain_updates", "disc_pretrain_updates", "adv_g_steps", "adv_d_steps"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"`{name}` must not be negative but is {value}.")
        if self.adv_g_steps + self.adv_d_steps == 0:
            raise ValueError("`adv_g_steps` and `adv_d_steps` are both 0: give at least one of the players a step.")

    @property
    def adversarial_from(self) -> int:
        """Number of the first adversarial update."""
        return self.gen_pretrain_updates + self.disc_pretrain_updates

    def turn(self, update: int) -> Turn:
        """The turn of the update that is about to be made, counted from 0."""
        if update < self.gen_pretrain_updates:
            return Turn.GENERATOR_PRETRAIN
        if update < self.adversarial_from:
            return Turn.DISCRIMINATOR_PRETRAIN
        step = (update - self.adversarial_from) % (self.adv_g_steps + self.adv_d_steps)
        return Turn.GENERATOR if step < self.adv_g_steps else Turn.DISCRIMINATOR

    def discriminator_since(self, update: int) -> int:
        """First of the discriminator's turns in a row that *update*, one of them, stands in: the generator rests since.

        Raises:
            ValueError: the turn is the generator's.
        """
        if not self.turn(update).is_discriminator:
            raise ValueError(f"update {update} is no turn of the discriminator.")
        if update < self.adversarial_from:
            return self.gen_pretrain_updates
        step = (update - self.adversarial_from) % (self.adv_g_steps + self.adv_d_steps)
        return update - step + self.adv_g_steps
