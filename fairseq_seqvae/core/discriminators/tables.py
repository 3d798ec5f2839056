"""Convolutions over embedded tokens by look-up: what each token adds at each place of a window, in a table.

The response of a filter of width w to a window is the sum of w rows of the table (V * w, F) of that width. A table
costs as much as a convolution over V tokens, a look-up far less than a convolution over a token: tables pay where
there are many more tokens than entries of the vocabulary. Where sequences are completions of common prefixes, the
windows that lie inside a prefix are looked up once for all of its completions.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fairseq_seqvae.core.rollouts.policy import Completions

# Responses that are held at a time, as numbers: few enough for the cache of a CPU.
_RESPONSES = 1 << 19


def _table(embedding: Tensor, kernel: Tensor, memory: Tensor) -> Tensor:
    """Rows (V * w, F) in *memory*: row v * w + o is what token v adds at place o, for a *kernel* (F, E, w)."""
    filters, dim, width = kernel.shape
    per_place = kernel.permute(1, 2, 0).reshape(dim, width * filters)
    table = memory[: embedding.size(0) * width * filters].view(-1, width * filters)
    return torch.mm(embedding, per_place, out=table).view(-1, filters)


def _window_responses(table: Tensor, tokens: Tensor, starts: Tensor, width: int) -> Tensor:
    """Responses (R, S, F) to the windows of *tokens* (R, T) that begin at *starts* (R, S)."""
    places = torch.arange(width, device=tokens.device)
    columns = (starts.unsqueeze(2) + places).flatten(1)
    rows = tokens.gather(1, columns).view(-1, width) * width + places
    return F.embedding_bag(rows.int(), table, mode="sum").view(*starts.shape, -1)


def _groups(completions: Completions) -> Iterator[tuple[slice, int, int]]:
    """Rows that follow each other and have one prefix length: the rows, that length, the largest length."""
    prefix_lengths, counts = completions.prefix_lengths.unique_consecutive(return_counts=True)
    counts = counts.tolist()
    longest = [int(part.max()) for part in completions.lengths.split(counts)]
    stop = 0
    for prefix_length, count, length in zip(prefix_lengths.tolist(), counts, longest, strict=True):
        start, stop = stop, stop + count
        yield slice(start, stop), prefix_length, length


def completion_features(
    embedding: Tensor,
    padding_idx: int,
    convolutions: Sequence[tuple[Tensor, Tensor]],
    completions: Completions,
    prefixes: Tensor,
) -> Tensor:
    """Rectified maxima over the windows of each completion, (R, features of all convolutions).

    Windows lie inside the sequence; one that is shorter than the width has a window, filled up with zeros.

    Args:
        embedding: (V, E), the row of *padding_idx* is zero
        convolutions: kernel (F, E, w) and bias (F,) of each width
        completions: of prefixes of *prefixes*
        prefixes: (B, P), the sequences whose prefixes were completed
    """
    groups = list(_groups(completions))
    widest = max(kernel.size(2) for kernel, _ in convolutions)
    tokens = F.pad(completions.tokens, (0, max(0, widest - completions.tokens.size(1))), value=padding_idx)
    longest_prefix = max(prefix_length for _, prefix_length, _ in groups)
    features = embedding.new_empty(tokens.size(0), sum(bias.numel() for _, bias in convolutions))
    # One memory for all tables: filling it costs less than asking for so much again.
    memory = embedding.new_empty(
        embedding.size(0) * max(kernel.size(2) * bias.numel() for kernel, bias in convolutions)
    )
    column = 0
    for kernel, bias in convolutions:
        filters, _, width = kernel.shape
        table = _table(embedding, kernel, memory)
        if longest_prefix >= width:
            starts = torch.arange(longest_prefix - width + 1, device=tokens.device).expand(prefixes.size(0), -1)
            # Column s: the maximum over the windows that begin at or before s.
            inside = _window_responses(table, prefixes, starts, width).cummax(dim=1).values
        for rows, prefix_length, longest in groups:
            # Windows that reach beyond the prefix. A shorter row has its last window several times.
            starts = torch.arange(max(0, prefix_length - width + 1), max(1, longest - width + 1), device=tokens.device)
            step = max(1, _RESPONSES // (starts.numel() * filters))
            for start in range(rows.start, rows.stop, step):
                part = slice(start, min(start + step, rows.stop))
                last = (completions.lengths[part] - width).clamp(min=0).unsqueeze(1)
                found = _window_responses(table, tokens[part], torch.minimum(starts, last), width).amax(dim=1)
                if prefix_length >= width:
                    found = torch.maximum(found, inside[completions.rows[part], prefix_length - width])
                features[part, column : column + filters] = found.add_(bias).relu_()
        column += filters
    return features
