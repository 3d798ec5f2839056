"""Walks between held-out sequences: whether they begin and end at these, and how even their steps are."""

import torch
from torch import Tensor

from fairseq_seqvae.metrics.reconstruction import Reconstruction, greedy, share


@torch.no_grad()
def walk_figures(reconstruction: Reconstruction, num_pairs: int = 20, num_points: int = 8) -> dict[str, float]:
    """Figures of greedy walks between the means of the posteriors of pairs of sequences.

    A pair is a sequence and the one half the set further on. Differences are counted place by place, with padding as
    a token, so that a longer sequence differs from a shorter one.

    Args:
        reconstruction: at least two held-out sequences
        num_pairs: most pairs; there are no more than half the sequences
        num_points: points of a walk, both ends included

    Returns:
        ``walk_pairs``, ``walk_points``; ``walk_acc``, the share of the tokens of the two sequences that the ends of
        the walks have at the same place; ``walk_step`` and ``walk_ends``, the mean number of differing tokens between
        neighbours of a walk and between its ends. For melodies also ``walk_acc_notes``, ``walk_step_notes`` and
        ``walk_ends_notes``, of the notes alone.

    Raises:
        ValueError: fewer than two sequences or points, or no pair
    """
    r, half = reconstruction, len(reconstruction.tokens) // 2
    if half < 1 or num_points < 2 or num_pairs < 1:
        raise ValueError(
            f"a walk needs two sequences and at least two points, but there are {len(r.tokens)} sequences, "
            f"{num_pairs} pairs and {num_points} points."
        )
    starts = torch.arange(min(half, num_pairs), device=r.tokens.device)
    ends = starts + half
    weights = torch.linspace(0, 1, num_points, device=r.tokens.device).repeat(len(starts))
    means = r.posterior.mean
    z = r.prior.walk(*(means[rows].repeat_interleave(num_points, dim=0) for rows in (starts, ends)), weights)
    walks = greedy(r.policy, z, r.tokens.size(1)).view(len(starts), num_points, -1)
    given = torch.cat([starts, ends])
    hits = torch.cat([walks[:, 0], walks[:, -1]]) == r.tokens[given]
    figures = {
        "walk_pairs": len(starts),
        "walk_points": num_points,
        "walk_acc": share(hits, r.places[given]),
        "walk_step": _differing(walks[:, 1:], walks[:, :-1]),
        "walk_ends": _differing(walks[:, 0], walks[:, -1]),
    }
    if r.notes is not None and r.note_places is not None:
        figures |= {
            "walk_acc_notes": share(hits, r.note_places[given]),
            "walk_step_notes": _differing(walks[:, 1:], walks[:, :-1], r.notes),
            "walk_ends_notes": _differing(walks[:, 0], walks[:, -1], r.notes),
        }
    return {name: value for name, value in figures.items() if value is not None}


def _differing(first: Tensor, second: Tensor, notes: Tensor | None = None) -> float:
    """Mean number of places at which sequences (..., T) differ; with *notes* (V,), where one of them has a note."""
    differ = first != second
    if notes is not None:
        differ = differ & (notes[first] | notes[second])
    return float(differ.sum(dim=-1).double().mean())
