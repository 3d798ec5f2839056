"""The pool of fakes: many updates of the discriminator draw from sequences that were sampled at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from fairseq_seqvae.core import noise
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.rollouts.policy import Samples


class FakePool:
    """Fakes of the discriminator, kept for several updates.

    The pool is that of the first of the updates that share it. All of them lie between two moves of the generator,
    its random numbers are those of that first update and of the places in the pool, and which fake a sentence
    gets depends on the seed, the update and the sentence. So a resumed run makes the same pool again, and several
    processes make the same one: each spends the whole time for it, but none depends on the batches of the others.

    Args:
        size: sequences in the pool
        reuse: updates that share a pool, unless the generator moves before
    """

    def __init__(self, size: int, reuse: int):
        self.size = size
        self.reuse = reuse
        self._kept: tuple[tuple[int, int], Samples] | None = None

    def fakes(
        self,
        sample: Callable[[Tensor, Draws, int], Samples],
        ids: Tensor,
        draws: Draws,
        rests_since: int,
        max_len: int,
    ) -> Samples:
        """One fake for each of *ids* (B,).

        Args:
            sample: (ids (R,), draws, max_len) -> R samples of the generator
            draws: random numbers of this update
            rests_since: first update since which the generator has not moved
            max_len: longest sample, in tokens
        """
        first = draws.update - (draws.update - rests_since) % self.reuse
        if self._kept is None or self._kept[0] != (first, max_len):
            places = torch.arange(self.size, device=ids.device)
            self._kept = (first, max_len), sample(places, Draws(draws.seed, first), max_len)
        pool = self._kept[1]
        chance = noise.uniform(draws.keys(Stream.FAKE_CHOICE, ids), 0)
        chosen = (chance.double() * self.size).long()
        lengths = pool.lengths[chosen]
        width = int(lengths.max())
        labels = None if pool.labels is None else pool.labels[chosen]
        return Samples(pool.tokens[chosen, :width], lengths, pool.mask[chosen, :width], labels=labels)
