"""What is counted of melodies: scales, intervals, bars that come back."""

import numpy as np

from fairseq_seqvae.melody import statistics

HOLD, OFF = -1, -2


def melodies(*rows):
    return np.array([[{"_": HOLD, ".": OFF}.get(sign, sign) for sign in row] for row in rows])


def test_a_melody_is_in_one_scale_if_a_major_or_natural_minor_one_holds_all_its_notes():
    found = statistics.in_one_scale(
        melodies(
            [60, 62, 64, 65, 67, 69, 71, "_"],  # C major
            [57, 59, 60, 62, 64, 65, 67, "."],  # A natural minor
            [61, 63, 66, 68, 70, "_", "_", "_"],  # the black keys: F sharp major
            [57, 59, 60, 62, 64, 65, 68, "_"],  # A harmonic minor
            [60, 61, 62, "_", "_", "_", "_", "_"],  # three neighbouring semitones
            [60, 72, 84, "_", "_", "_", "_", "_"],  # one pitch in three octaves
            ["_", ".", "_", "_", "_", "_", "_", "_"],  # no note at all
        )
    )
    assert found.tolist() == [True, True, True, False, False, True, False]


def test_intervals_lead_from_a_note_to_the_next_one_of_the_same_melody():
    found = statistics.intervals(melodies([60, "_", 67, ".", 62], [70, "_", "_", "_", "_"], ["_", 50, 50, "_", 43]))
    assert found.tolist() == [7, -5, 0, -7]


def test_intervals_are_counted_by_size_and_direction():
    counts = statistics.interval_counts(melodies([60, 67, 60, 67], [40, 40, 40, 40]))
    assert len(counts) == 217
    assert {index - 108: count for index, count in enumerate(counts) if count} == {7: 2, -7: 1, 0: 3}


def test_a_bar_returns_if_two_bars_with_a_note_are_the_same():
    found = statistics.a_bar_returns(
        melodies(
            [60, "_", 62, "_", 60, "_"],  # first and third
            [60, "_", 60, "_", 62, "_"],  # neighbours
            [60, "_", 60, ".", 62, "_"],  # a hold is no off
            ["_", "_", "_", "_", 60, "_"],  # bars without a note
            [60, "_", 62, 60, "_", 62],  # not at the bar lines
        ),
        2,
    )
    assert found.tolist() == [True, True, False, False, False]


def test_an_unfinished_last_bar_does_not_count():
    assert statistics.a_bar_returns(melodies([60, 62, 60]), 2).tolist() == [False]
    assert statistics.a_bar_returns(melodies([60]), 2).tolist() == [False]


def test_melodies_are_compared_from_their_first_note_on():
    first, second, third, silent = statistics.from_first_note(
        melodies(["_", 60, 64, "."], ["_", 70, 74, "."], ["_", 70, 74, "_"], ["_", "_", ".", "."])
    )
    assert (first == second).all() and (second != third).tolist() == [False, False, False, True]
    assert not np.isin(first[[0, 3]], range(-108, 109)).any()
    assert silent.tolist() == silent.tolist() and silent[0] == first[0] and silent[2] == first[3]
