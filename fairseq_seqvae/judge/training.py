"""A discriminator that is trained from scratch to tell sequences of a model from those of the data."""

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fairseq_seqvae.core.augmentation import Transposition
from fairseq_seqvae.core.discriminators.cnn import ConvolutionalDiscriminator
from fairseq_seqvae.core.discriminators.losses import correct_judgements, discriminator_loss
from fairseq_seqvae.core.noise import Draws, Stream
from fairseq_seqvae.core.sequences import padding_mask

_ROWS_AT_A_TIME = 512
# Neighbours in a file often come from one source, such as windows of one tune: a validation share that is made of
# single lines would be recognised. It is made of blocks of so many lines.
_BLOCK = 50


@dataclass(frozen=True)
class JudgePlan:
    """How a judge is built and trained.

    Attributes:
        widths: of the convolutions, in tokens; those above the longest sequence are omitted
        features: of each width
        embed_dim: size of the embeddings
        dropout: probability, before the output layer
        lr: learning rate of Adam
        batch: real sequences per update, and as many samples
        max_updates: most updates
        interval: updates from one validation to the next
        patience: validations without a better accuracy, after which the training ends
        valid_share: share of the training data that it is validated on
    """

    widths: Sequence[int] = (1, 2, 4, 8, 16, 32)
    features: int = 64
    embed_dim: int = 32
    dropout: float = 0.3
    lr: float = 1e-3
    batch: int = 96
    max_updates: int = 600
    interval: int = 25
    patience: int = 6
    valid_share: float = 0.1

    def for_length(self, longest: int) -> "JudgePlan":
        """The plan without widths above *longest*, but with at least one."""
        fitting = [width for width in self.widths if width <= longest]
        return dataclasses.replace(self, widths=fitting or [min(self.widths)])


class Sequences(NamedTuple):
    """Sequences to be judged: tokens (N, T), padded on the right; lengths (N,), EOS included."""

    tokens: Tensor
    lengths: Tensor

    def rows(self, chosen: Tensor) -> "Sequences":
        """Those of the given numbers, or of a mask."""
        return Sequences(self.tokens[chosen], self.lengths[chosen])


class Judge(NamedTuple):
    """A trained judge.

    Attributes:
        model: tokens and padding mask -> logits, in evaluation mode; a high logit says "real"
        updates: number of the update after which it was best
        valid_accuracy: its accuracy then, on the validation share and samples of its own
    """

    model: nn.Module
    updates: int
    valid_accuracy: float


class Transposer:
    """Transposes real sequences as the training of their model did; does nothing without a transposition."""

    def __init__(self, transposition: Transposition | None, seed: int):
        self.transposition = transposition
        self.seed = seed

    def __call__(self, tokens: Tensor, ids: Tensor, turn: int) -> Tensor:
        """*tokens* (B, T) by an interval for each of *ids* (B,), another one in each *turn*."""
        if self.transposition is None:
            return tokens
        known = self.transposition.to(tokens.device)
        uniforms = Draws(self.seed, turn).uniforms(Stream.TRANSPOSITION, ids, 0, 1).squeeze(dim=1)
        return known.apply(tokens, known.draw(tokens, uniforms))


def validation_rows(count: int, share: float) -> Tensor:
    """Which of *count* sequences validate, (N,) bool: blocks of neighbours, evenly spread, about *share* of all."""
    block = min(_BLOCK, max(1, round(count * share)))
    number = torch.arange(count) // block
    found: Tensor = ((number + 1) * share).floor() > (number * share).floor()
    if not found.any():
        found[-block:] = True
    return found


@torch.no_grad()
def logits_of(model: nn.Module, sequences: Sequences) -> Tensor:
    """Logits (N,) of a judge in evaluation mode."""
    parts = zip(*(part.split(_ROWS_AT_A_TIME) for part in sequences), strict=True)
    return torch.cat([model(tokens, padding_mask(lengths, tokens.size(1))) for tokens, lengths in parts])


def accuracies(model: nn.Module, real: Sequences, fake: Sequences) -> tuple[float, float]:
    """Shares of real and of generated sequences that are judged correctly; a logit of 0 counts half."""
    correct_real, correct_fake = correct_judgements(logits_of(model, real), logits_of(model, fake))
    return float(correct_real) / len(real.tokens), float(correct_fake) / len(fake.tokens)


def train_judge(
    real: Sequences, fake: Sequences, vocab_size: int, pad: int, plan: JudgePlan, transpose: Transposer
) -> Judge:
    """Train a judge from scratch until its accuracy on its own validation share stops rising, and keep the best.

    Args:
        real: training data
        fake: at least as many samples
        vocab_size: V
        pad: the padding token
        transpose: applied to real sequences; its seed is that of everything else

    Raises:
        ValueError: there are fewer than two real sequences, or fewer samples than these
    """
    if len(real.tokens) < 2 or len(fake.tokens) < len(real.tokens):
        raise ValueError(
            f"a judge needs at least two real sequences and as many samples, but there are {len(real.tokens)} and "
            f"{len(fake.tokens)}."
        )
    plan = plan.for_length(max(real.tokens.size(1), fake.tokens.size(1)))
    device = real.tokens.device
    validates = validation_rows(len(real.tokens), plan.valid_share).to(device)
    ids = torch.arange(len(real.tokens), device=device)
    valid = real.rows(validates)._replace(tokens=transpose(real.tokens[validates], ids[validates], 0))
    fake_parts = fake.rows(ids[validates]), fake.rows(ids[~validates])
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(transpose.seed)
        widths, features = list(plan.widths), [plan.features] * len(plan.widths)
        model = ConvolutionalDiscriminator(vocab_size, pad, plan.embed_dim, widths, features, dropout=plan.dropout)
        model = model.to(device)
        batches = _batches(real, ids[~validates], fake_parts[1], plan, transpose)
        return _train(model, batches, (valid, fake_parts[0]), plan)


def _batches(
    real: Sequences, ids: Tensor, fake: Sequences, plan: JudgePlan, transpose: Transposer
) -> Iterator[tuple[Sequences, Sequences]]:
    """Without end: as many real sequences as samples, each of which comes once before any comes again."""
    epoch = 0
    while True:
        epoch += 1
        orders = torch.randperm(len(ids)), torch.randperm(len(fake.tokens))
        for one, other in zip(*(order.split(plan.batch) for order in orders), strict=False):
            chosen = ids[one.to(ids.device)]
            rows = real.rows(chosen)
            yield rows._replace(tokens=transpose(rows.tokens, chosen, epoch)), fake.rows(other.to(ids.device))


def _train(
    model: nn.Module,
    batches: Iterator[tuple[Sequences, Sequences]],
    valid: tuple[Sequences, Sequences],
    plan: JudgePlan,
) -> Judge:
    optimizer = torch.optim.Adam(model.parameters(), lr=plan.lr)
    best: Judge | None = None
    since = 0
    for update in range(1, plan.max_updates + 1):
        model.train()
        logits = [model(part.tokens, padding_mask(part.lengths, part.tokens.size(1))) for part in next(batches)]
        loss_real, loss_fake = discriminator_loss(*logits)
        optimizer.zero_grad()
        (loss_real.mean() + loss_fake.mean()).backward()
        optimizer.step()
        if update % plan.interval and update < plan.max_updates:
            continue
        model.eval()
        accuracy = sum(accuracies(model, *valid)) / 2
        since += 1
        if best is None or accuracy > best.valid_accuracy:
            best, since = Judge(copy.deepcopy(model), update, accuracy), 0
        if since >= plan.patience:
            break
    assert best is not None
    return best
