"""How long the runs are that sequences have in common with others."""

from collections.abc import Hashable, Sequence

import numpy as np


def longest_common_runs(sequences: Sequence[Sequence[Hashable]], others: Sequence[Sequence[Hashable]]) -> list[int]:
    """For each sequence the length of its longest run of successive items that is a run of one of the `others`.

    Runs of n + 1 items can only begin where runs of n items in common begin: only these places are kept from one n to
    the next.
    """
    number: dict[Hashable, int] = {}
    items = [number.setdefault(item, len(number)) for sequence in (*sequences, *others) for item in sequence]
    codes = np.array(items, dtype=np.int64)
    sizes = np.array([len(sequence) for sequence in (*sequences, *others)], dtype=np.int64)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    ends = np.cumsum(sizes)[owner]
    is_mine = owner < len(sequences)
    longest = np.zeros(len(sequences), dtype=np.int64)
    places, runs, length = np.arange(len(codes)), codes, 1
    while len(places):
        mine = is_mine[places]
        in_common = np.intersect1d(runs[mine], runs[~mine])
        kept = np.isin(runs, in_common)
        places, runs = places[kept], runs[kept]
        longest[owner[places[is_mine[places]]]] = length
        has_next = places + length < ends[places]
        places = places[has_next]
        # Runs that are one item longer get new numbers, which stay small.
        _, runs = np.unique(runs[has_next] * len(number) + codes[places + length], return_inverse=True)
        length += 1
    return longest.tolist()
