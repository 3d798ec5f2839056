"""How often the n-grams of a sequence are in the training data, the sequence itself left out."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from fairseq_seqvae.core.sequences import padding_mask, sequence_codes, stirred

_ROWS_AT_A_TIME = 4096
_START = -1  # stands before the first token as often as an n-gram reaches beyond it


class _Table(NamedTuple):
    """How often something is there: codes (N,) int64, sorted, and counts (N,)."""

    codes: Tensor
    counts: Tensor

    def of(self, codes: Tensor) -> Tensor:
        """Counts of *codes*, same shape."""
        place = torch.searchsorted(self.codes, codes).clamp(max=len(self.codes) - 1)
        return torch.where(self.codes[place] == codes, self.counts[place], 0)


def ngram_codes(tokens: Tensor, order: int) -> Tensor:
    """A number for the n-gram that ends at each token, (B, T) int64: equal for equal ones, and else by rare chance.

    Args:
        tokens: (B, T)
        order: n
    """
    length = tokens.size(1)
    padded = nn.functional.pad(tokens, (order - 1, 0), value=_START)
    codes = torch.full_like(tokens, order)
    for first in range(order):
        codes = stirred(codes, padded[:, first : first + length])
    return codes


class NgramCounts(nn.Module):
    """Features of each token: how common the n-grams that end there are in the training data, and how common that is
    which stands before it.

    A training sentence would look special, since its own n-grams are among those counted: from the counts of a sequence
    that is one, its own are taken (once, if the data have it several times). So these features are of a sentence of the
    data what they would be of one that was held out.

    The counts are no part of a checkpoint: they are those of the data that the training has.

    Args:
        sequences: the training data, (T,) int64 each
        order: largest n
    """

    def __init__(self, sequences: Iterable[Tensor], order: int):
        super().__init__()
        if order < 1:
            raise ValueError(f"`order` must be at least 1 but is {order}.")
        self.order = order
        parts: list[list[Tensor]] = [[] for _ in range(order + 1)]
        self.sentences = self.tokens = 0
        for tokens, mask in _batches(sequences):
            self.sentences, self.tokens = self.sentences + len(tokens), self.tokens + int((~mask).sum())
            for n in range(1, order + 1):
                parts[n].append(ngram_codes(tokens, n)[~mask])
            parts[0].append(sequence_codes(tokens, mask))
        if not self.sentences:
            raise ValueError("`sequences` must be at least one.")
        for n, found in enumerate(parts):
            codes, counts = torch.cat(found).unique(return_counts=True)
            self.register_buffer(f"codes_{n}", codes, persistent=False)
            self.register_buffer(f"counts_{n}", counts, persistent=False)

    @property
    def num_features(self) -> int:
        """Features of each token: of n-grams for n = 1, ..., and of what is before the token for n = 2, ..."""
        return 2 * self.order - 1

    def _table(self, n: int) -> _Table:
        return _Table(self.get_buffer(f"codes_{n}"), self.get_buffer(f"counts_{n}"))

    def counts(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Occurrences of the n-gram that ends at each token, (B, T, N), and of the n - 1 tokens before, (B, T, N - 1).

        For each n from 1, and from 2, to N. The start of a sentence is as common as sentences are.
        """
        is_known = self._table(0).of(sequence_codes(tokens, mask)) > 0
        known = is_known.nonzero().squeeze(1)
        columns = []
        for n in range(1, self.order + 1):
            codes = ngram_codes(tokens, n)
            found = self._table(n).of(codes)
            own = (codes[known].unsqueeze(2) == codes[known].unsqueeze(1)) & ~mask[known].unsqueeze(1)
            columns.append(found.index_add(0, known, -own.sum(dim=2)))
        starts = (self.sentences - is_known.long()).unsqueeze(1)
        before = [torch.cat([starts, column[:, :-1]], dim=1) for column in columns[:-1]]
        none = torch.zeros(*tokens.shape, 0, dtype=torch.long, device=tokens.device)
        return torch.stack(columns, dim=2), torch.stack(before, dim=2) if before else none

    @torch.no_grad()
    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, 2 N - 1), float32, about -2 where nothing was counted and 2 for all there is."""
        found = torch.cat(self.counts(tokens, mask), dim=2)
        largest = torch.tensor(float(self.tokens)).log1p().item()
        return found.clamp(min=0).float().log1p() * (4 / largest) - 2


def _batches(sequences: Iterable[Tensor]) -> Iterable[tuple[Tensor, Tensor]]:
    """Padded batches of non-empty sequences and their masks (B, T), True = padding."""
    some: list[Tensor] = []
    for sequence in sequences:
        if len(sequence):
            some.append(sequence.long())
        if len(some) == _ROWS_AT_A_TIME:
            yield _padded(some)
            some = []
    if some:
        yield _padded(some)


def _padded(sequences: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    tokens = pad_sequence(list(sequences), batch_first=True)
    return tokens, padding_mask(lengths, tokens.size(1))
