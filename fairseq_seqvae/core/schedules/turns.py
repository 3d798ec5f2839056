"""Turns: which parts of the model move in an update."""

from dataclasses import dataclass, replace

# Parts of the model, by the tag of their parameters, and the two players that they make up.
ENCODER, DECODER, DISCRIMINATOR = "encoder", "decoder", "discriminator"
CRITIC = "critic"  # predicts what the decoder will earn; it moves where there are rewards
GENERATOR_PARTS = frozenset({ENCODER, DECODER})
DISCRIMINATOR_PARTS = frozenset({DISCRIMINATOR})


@dataclass(frozen=True)
class Turn:
    """What one update does.

    Attributes:
        name: as in messages
        moves: the parts that move; all others rest
        is_adversarial: whether both pre-trainings are over
    """

    name: str
    moves: frozenset[str]
    is_adversarial: bool = False

    @property
    def player(self) -> str:
        """``discriminator`` or ``generator``, for messages."""
        return "discriminator" if DISCRIMINATOR in self.moves else "generator"


GENERATOR_PRETRAIN = Turn("generator-pretrain", GENERATOR_PARTS)
ENCODER_TURN = Turn("encoder", frozenset({ENCODER}))
DISCRIMINATOR_PRETRAIN = Turn("discriminator-pretrain", DISCRIMINATOR_PARTS)
GENERATOR_TURN = Turn("generator", GENERATOR_PARTS | {CRITIC}, is_adversarial=True)
DISCRIMINATOR_TURN = Turn("discriminator", DISCRIMINATOR_PARTS, is_adversarial=True)
# Their loss is the ELBO alone.
ELBO_TURNS = (GENERATOR_PRETRAIN, ENCODER_TURN)


@dataclass(frozen=True)
class TurnPlan:
    """The turn of each update: a pure function of its number, so that every process and every resumed run agree.

    Attributes:
        gen_pretrain_updates: first come so many updates of the generator alone, by the ELBO
        disc_pretrain_updates: then so many of the discriminator alone
        adv_g_steps: then, again and again: so many of the generator (ELBO + policy gradient)
        adv_d_steps: and so many of the discriminator
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

    def without_discriminator(self) -> "TurnPlan":
        """The plan of a training that has no discriminator: every update is the generator's."""
        return replace(self, disc_pretrain_updates=0, adv_g_steps=1, adv_d_steps=0)

    @property
    def adversarial_from(self) -> int:
        """Number of the first adversarial update."""
        return self.gen_pretrain_updates + self.disc_pretrain_updates

    def turn(self, update: int) -> Turn:
        """The turn of the update that is about to be made, counted from 0."""
        if update < self.gen_pretrain_updates:
            return GENERATOR_PRETRAIN
        if update < self.adversarial_from:
            return DISCRIMINATOR_PRETRAIN
        step = (update - self.adversarial_from) % (self.adv_g_steps + self.adv_d_steps)
        return GENERATOR_TURN if step < self.adv_g_steps else DISCRIMINATOR_TURN

    def generator_rests_since(self, update: int) -> int:
        """First of the discriminator's turns in a row that *update* belongs to: the generator has rested since then.

        Raises:
            ValueError: the turn is the generator's.
        """
        if DISCRIMINATOR not in self.turn(update).moves:
            raise ValueError(f"update {update} is no turn of the discriminator.")
        if update < self.adversarial_from:
            return self.gen_pretrain_updates
        step = (update - self.adversarial_from) % (self.adv_g_steps + self.adv_d_steps)
        return update - step + self.adv_g_steps

    def generator_turns_before(self, update: int) -> int:
        """How many adversarial turns the generator has had before *update*."""
        rounds, step = divmod(max(update - self.adversarial_from, 0), self.adv_g_steps + self.adv_d_steps)
        return rounds * self.adv_g_steps + min(step, self.adv_g_steps)

    def discriminator_has_moved(self, updates: int) -> bool:
        """Whether the discriminator has had a turn among the first *updates* updates."""
        return any(DISCRIMINATOR in self.turn(update).moves for update in self._first_turns() if update < updates)

    def _first_turns(self) -> tuple[int, ...]:
        """Numbers of updates among which the discriminator's first turn is, if it ever has one."""
        return self.gen_pretrain_updates, self.adversarial_from + self.adv_g_steps
