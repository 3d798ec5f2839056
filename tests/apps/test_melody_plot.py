"""Pictures of piano rolls: files of the right kind that show the notes."""

import struct
import sys

import pytest
from matplotlib import image

from fairseq_seqvae.melody.plot import plot_interpolation, plot_samples
from fairseq_seqvae.melody.tokens import parse_line

MELODY = parse_line("60 _ _ _ 64 _ 65 _ 67 _ _ _ . _ _ _")
BLUE = (0x33, 0x65, 0x8A)


def size(path):
    """Width and height in the header of a PNG."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


def blue_columns(path):
    """For each column of pixels whether a note is drawn in it."""
    pixels = (image.imread(path)[:, :, :3] * 255).round()
    return (abs(pixels - BLUE).max(axis=2) < 2).any(axis=0)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("draw", [plot_samples, plot_interpolation])
def test_pictures_grow_with_the_number_of_melodies(tmp_path, draw, count):
    draw([MELODY] * count, tmp_path / "a.png", title="Title")
    draw([MELODY] * (count + 2), tmp_path / "b.png", title="Title")
    assert size(tmp_path / "a.png")[1] < size(tmp_path / "b.png")[1] < 4000


def test_notes_are_drawn_where_they_sound(tmp_path):
    # A bar with one note in its third quarter: the note's columns are those of its place.
    plot_samples([parse_line("_ _ _ _ _ _ _ _ 60 _ _ _ . _ _ _")], tmp_path / "a.png")
    note = blue_columns(tmp_path / "a.png").nonzero()[0]
    plot_samples([parse_line("60" + " _" * 15)], tmp_path / "b.png")
    whole = blue_columns(tmp_path / "b.png").nonzero()[0]
    bar = whole[-1] - whole[0]
    assert (note[0] - whole[0]) / bar == pytest.approx(0.5, abs=0.01)
    assert (note[-1] - whole[0]) / bar == pytest.approx(0.75, abs=0.01)


def test_repeated_notes_stay_apart(tmp_path):
    plot_samples([parse_line("60 _ _ _ 60 _ _ _ 60 _ _ _ 60 _ _ _")], tmp_path / "a.png")
    drawn = blue_columns(tmp_path / "a.png").astype(int)
    assert (abs(drawn[1:] - drawn[:-1]).sum()) == 8


def test_svg_with_labels_is_the_same_each_time_but_for_ids(tmp_path):
    plot_samples([MELODY, MELODY], tmp_path / "a.svg", labels=["D-1", "D-2"], title="Two melodies")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text.startswith("<?xml") and "#33658a" in text
    assert "<!-- D-2 -->" in text and "<!-- Two melodies -->" in text
    assert "dc:date" not in text


def test_an_interpolation_says_how_far_it_is(tmp_path):
    plot_interpolation([MELODY] * 5, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert [label for label in ("0.00", "0.25", "0.50", "0.75", "1.00") if f"<!-- {label} -->" not in text] == []


def test_unequal_lengths_and_a_silent_melody_among_others(tmp_path):
    plot_samples([MELODY, parse_line("_ _"), parse_line("108"), parse_line("")], tmp_path / "a.png", steps_per_bar=12)
    assert size(tmp_path / "a.png")[0] > 400


@pytest.mark.parametrize(
    ("melodies", "name", "message"),
    [
        ([MELODY], "a.pdf", r"a\.pdf must end in \.png or \.svg"),
        ([], "a.png", "a picture holds 1 to 64 melodies, not 0"),
        ([MELODY] * 65, "a.png", "1 to 64 melodies, not 65"),
        ([parse_line("_ .")], "a.png", "there are no notes to draw"),
    ],
)
def test_what_cannot_be_drawn(tmp_path, melodies, name, message):
    with pytest.raises(ValueError, match=message):
        plot_samples(melodies, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install matplotlib"):
        plot_samples([MELODY], tmp_path / "a.png")
