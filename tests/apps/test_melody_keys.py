"""Melodies moved to a common key."""

import numpy as np
import pytest

from fairseq_seqvae.melody.keys import common_key_shift, in_common_key, transposed
from fairseq_seqvae.melody.tokens import format_line, parse_line
from fairseq_seqvae.melody.windows import Tune


@pytest.mark.parametrize(
    "line, shift",
    [
        ("60 62 64 65 67 69 71 72", 0),  # C major
        ("62 64 66 67 69 71 73 74", -2),  # D major
        ("67 69 71 72 74 76 78 79", 5),  # G major
        ("69 71 72 74 76 77 79 81", 0),  # A minor: its mode is kept
        ("66 68 70 71 73 75 77 78", -6),  # F sharp major: down rather than up
        ("65 67 69 70 72 74 76 77", -5),  # F major
        ("62 . _ 66 _ _ 69 .", -2),  # fits C, F and G after moves; -2 is the smallest
        ("_ . _ _", 0),
    ],
)
def test_the_shift_brings_a_melody_to_the_white_keys(line, shift):
    assert common_key_shift(parse_line(line)) == shift


def test_a_long_note_counts_more_than_a_short_one():
    # F sharp sounds for 6 steps, F for one: G major wins against C major.
    assert common_key_shift(parse_line("60 62 64 65 67 69 71 66 _ _ _ _ _ 67")) == 5


def test_holds_and_offs_stay_where_they_are():
    assert format_line(transposed(parse_line("_ 62 _ . 69"), -2)) == "_ 60 _ . 67"


def test_a_melody_at_the_edge_of_the_range_moves_by_an_octave():
    assert format_line(transposed(parse_line("106 108"), 5)) == "99 101"
    assert format_line(transposed(parse_line("21 23"), -2)) == "31 33"


def test_a_melody_of_the_whole_range_is_refused():
    with pytest.raises(ValueError, match="from pitch 21 to 108 cannot be moved by 2 semitones"):
        transposed(parse_line("21 108"), 2)


def test_a_melody_without_notes_stays(tmp_path):
    silence = np.zeros(4, dtype=np.uint8)
    assert transposed(silence, 3).tolist() == [0, 0, 0, 0]


def test_a_tune_keeps_all_but_its_pitches():
    tune = Tune("x1", "valid", "4/4", "D", 4, parse_line("62 66 69 74"))
    moved = in_common_key(tune)
    assert moved[:5] == tune[:5]
    assert format_line(moved.tokens) == "60 64 67 72"
