"""What all cells of the oracle's card have in common."""

from dataclasses import dataclass

from fairseq_seqvae.oracle import Oracle

PAPER_SEED = 88


@dataclass(frozen=True)
class Settings:
    """What all cells of a card have in common.

    Attributes:
        temperatures: of the decoder, 1 among them
        draws: samples from the prior at each temperature
        curve_draws: samples from each checkpoint that training leaves
        held_out: held-out sequences, the first ones of the test split
        importance_samples: draws of z for each of them
        sizes: sequences of each split; the data of a length are the same for all methods and seeds
        npz: oracle of these arrays; None: one that is drawn
        oracle_seed: its seed; 88 is the paper's
        oracle_scale: factor of its weights
        smoke: a few updates only
    """

    temperatures: tuple[float, ...]
    draws: int = 10_000
    curve_draws: int = 2_000
    held_out: int = 1_000
    importance_samples: int = 64
    sizes: tuple[tuple[str, int], ...] = (("train", 9984), ("valid", 1000), ("test", 10_000))
    npz: str | None = None
    smoke: bool = False
    oracle_seed: int = PAPER_SEED
    oracle_scale: float = 1.0

    def oracle(self) -> Oracle:
        """The oracle."""
        return Oracle.from_npz(self.npz) if self.npz else Oracle.from_seed(self.oracle_seed, scale=self.oracle_scale)

    @property
    def is_papers(self) -> bool:
        """Whether the oracle is that of the paper."""
        return not self.npz and (self.oracle_seed, self.oracle_scale) == (PAPER_SEED, 1)

    @property
    def description(self) -> str:
        """The oracle in words."""
        if self.npz:
            return "another oracle"
        scale = "" if self.oracle_scale == 1 else f", weights times {self.oracle_scale:g}"
        return f"the oracle of seed {self.oracle_seed}{scale}"

    @property
    def oracle_flags(self) -> list[str]:
        """The oracle, for ``python -m fairseq_seqvae.oracle``."""
        if self.npz:
            return ["--npz", self.npz]
        scale = [] if self.oracle_scale == 1 else ["--scale", str(self.oracle_scale)]
        return ["--seed", str(self.oracle_seed), *scale]

    @property
    def oracle_name(self) -> str:
        """The oracle, as the reward ``oracle:NAME`` has it."""
        scale = "" if self.oracle_scale == 1 else f"*{self.oracle_scale}"
        return self.npz or f"{self.oracle_seed}{scale}"
