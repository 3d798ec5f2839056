"""A language model mixed, token by token, with a bigram table of its training data: a stronger maximum likelihood."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fairseq_seqvae.cards.baselines import BACK_OFF_WEIGHTS, BigramTable
from fairseq_seqvae.core.discriminators.likelihood import TokenLikelihood
from fairseq_seqvae.core.rollouts.policy import State

TABLE_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


class MixedWithBigrams(nn.Module):
    """The policy with probabilities (1 - w) p(token | all before) + w p(token | the one before).

    Args:
        policy: a decoder of fairseq's indices, as a module
        table: of the oracle's tokens, which begin at the index *first*
        weight: w
        first: number of the symbols that stand before them in the dictionary
    """

    def __init__(self, policy: Any, table: BigramTable, weight: float, first: int):
        super().__init__()
        self.policy, self.weight = policy, weight
        self.eos, self.pad, self.unk, self.fixed_length = policy.eos, policy.pad, policy.unk, policy.fixed_length
        before = torch.arange(table.vocab_size + 1)
        probs = torch.zeros(table.vocab_size + 1, first + table.vocab_size)
        probs[:, first:] = table.probs(before)
        rows = torch.full((first + table.vocab_size,), table.vocab_size)  # what is no token is the start
        rows[first:] = torch.arange(table.vocab_size)
        self.register_buffer("probs", probs, persistent=False)
        self.register_buffer("rows", rows, persistent=False)

    def start(self, z: Tensor) -> State:
        """State before the first token, for z (R, Z)."""
        return self.policy.start(z)

    def advance(self, prev_tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Consume one token per row, (R,); features (R, H + 1), of which the last is the row of the table."""
        features, state = self.policy.advance(prev_tokens, state)
        row = self.get_buffer("rows")[prev_tokens].to(features.dtype).unsqueeze(1)
        return torch.cat([features, row], dim=1), state

    def logits(self, features: Tensor) -> Tensor:
        """Log-probabilities (R, V) of the next token."""
        own = self.policy.logits(features[:, :-1]).softmax(dim=1)
        table = self.get_buffer("probs")[features[:, -1].long()]
        return torch.lerp(own, table, self.weight).clamp(min=1e-30).log()


@torch.no_grad()
def fit(policy: Any, train: Tensor, valid: Tensor, vocab_size: int, first: int) -> MixedWithBigrams:
    """Mix with the back-off and the weight of which the validation split is most likely.

    Args:
        policy: decoder of a model without latent vector
        train: (N, T), the oracle's tokens
        valid: (M, T)
        vocab_size: of the oracle
        first: see :class:`MixedWithBigrams`
    """
    nothing = torch.zeros_like(valid, dtype=torch.bool)
    own = TokenLikelihood(policy, torch.zeros(0)).log_probs(valid + first, nothing).double().exp()

    def choices() -> Iterable[tuple[float, float, float]]:
        for k in BACK_OFF_WEIGHTS:
            table = BigramTable.fit(train, vocab_size, k).token_probs(valid)
            for weight in TABLE_WEIGHTS:
                yield float(torch.lerp(own, table, weight).log().sum()), k, weight

    _, k, weight = max(choices())
    return MixedWithBigrams(policy, BigramTable.fit(train, vocab_size, k), weight, first)
