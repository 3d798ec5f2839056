"""What the sliders of the studio measure, and the directions that they follow."""

import numpy as np
import pytest

from fairseq_seqvae.melody.studio import attributes
from fairseq_seqvae.melody.studio.attributes import Melody
from fairseq_seqvae.melody.tokens import Note, decode_notes, encode_notes


def melody(*notes, bars=1, meter=(4, 4), steps_per_bar=16):
    return Melody([Note(*note) for note in notes], attributes.accents(meter, steps_per_bar), bars)


def test_of_a_melody_worked_out_by_hand():
    tune = melody((60, 0, 4), (64, 4, 4), (67, 8, 8), (66, 16, 2), bars=2)
    assert attributes.density(tune) == 2
    assert attributes.pitch_range(tune) == 7
    assert attributes.register(tune) == (60 + 64 + 67 + 66) / 4
    assert attributes.in_key(tune) == 1  # G major has C, E, G and F sharp
    assert attributes.in_key(melody((60, 0, 1), (61, 1, 1), (62, 2, 1), (63, 3, 1))) == 3 / 4  # no key has more


@pytest.mark.parametrize(
    "meter, weights",
    [
        ((4, 4), [0, -4, -3, -4, -2, -4, -3, -4, -1, -4, -3, -4, -2, -4, -3, -4]),
        ((3, 4), [0, -3, -2, -3, -1, -3, -2, -3, -1, -3, -2, -3]),
        ((6, 8), [0, -3, -2, -3, -2, -3, -1, -3, -2, -3, -2, -3]),
        ((9, 8), [0, -3, -2, -3, -2, -3, -1, -3, -2, -3, -2, -3, -1, -3, -2, -3, -2, -3]),
    ],
)
def test_weights_of_the_steps_of_a_bar(meter, weights):
    accents = attributes.accents(meter, len(weights))
    assert [attributes.beat_weight(step, accents) for step in range(len(weights))] == weights
    assert attributes.beat_weight(3 * len(weights), accents) == 0


def test_bars_are_divided_as_they_are_counted():
    assert attributes.accents((2, 4), 16) == (16, 8, 4, 2, 1)  # eight steps per quarter note
    assert attributes.accents((12, 8), 24) == (24, 12, 6, 2, 1)
    assert attributes.accents((5, 4), 20) == (20, 4, 2, 1)


def test_the_second_beat_of_a_waltz_is_no_syncopation():
    quarters = [(60, step, 4) for step in (0, 4, 8)]
    assert attributes.syncopation(melody(*quarters, meter=(3, 4), steps_per_bar=12)) == 0
    # In 6/8 the second quarter begins on the last eighth of a beat and sounds across the next one.
    assert attributes.syncopation(melody(*quarters, meter=(6, 8), steps_per_bar=12)) == 1 / 3
    eighths = [(60, step, 2) for step in range(0, 12, 2)]
    assert attributes.syncopation(melody(*eighths, meter=(6, 8), steps_per_bar=12)) == 0


def test_a_note_is_syncopated_if_it_sounds_across_a_stronger_step():
    assert attributes.syncopation(melody((60, 0, 4), (60, 4, 4), (60, 8, 8))) == 0
    assert attributes.syncopation(melody((60, 0, 2), (60, 2, 4))) == 1 / 2  # an eighth before the beat, held over it
    assert attributes.syncopation(melody((60, 12, 8), bars=2)) == 1  # over the bar line
    assert attributes.syncopation(melody((60, 2, 2))) == 0  # ends where the beat is
    assert attributes.syncopation(melody((60, 0, 32), bars=2)) == 0  # no bar line is stronger than another


def test_melodies_without_notes_have_no_attributes():
    values = attributes.measure_all([melody((60, 0, 4)), melody()])
    assert values.shape == (2, 5)
    assert values[0].tolist() == [1, 0, 60, 0, 1]
    assert np.isnan(values[1]).all()


def test_melodies_are_moved_into_many_keys_within_the_pitches():
    tokens = encode_notes([Note(60, 0, 4), Note(64, 4, 2)], 16)
    moved = [decode_notes(tokens) for tokens in attributes.spread_over_keys([tokens] * 13, 52, 90)]
    assert sorted(notes[0].pitch - 60 for notes in moved) == list(range(-6, 7))
    assert {notes[1].pitch - notes[0].pitch for notes in moved} == {4}
    kept = attributes.spread_over_keys([tokens] * 13, 60, 64)
    assert all(np.array_equal(tokens, other) for other in kept)


class TestDirections:
    def test_change_their_attribute_and_no_other(self):
        """Attributes that are linear in z: a step along a direction adds one standard deviation to its own alone."""
        rng = np.random.default_rng(0)
        z = rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6))
        weights = rng.normal(size=(6, 3))
        values = z @ weights + [5, 6, 7]
        found = attributes.directions(z, values)
        changes = found.vectors @ weights / values.std(axis=0)
        np.testing.assert_allclose(changes, np.eye(3), atol=1e-8)
        np.testing.assert_allclose(found.std, values.std(axis=0))

    def test_what_goes_along_in_z_goes_along(self):
        """The second dimension follows the first in the data, so it does on the way, too."""
        rng = np.random.default_rng(0)
        first = rng.normal(size=2000)
        z = np.stack([first, 3 * first + 0.01 * rng.normal(size=2000)], axis=1)
        found = attributes.directions(z, first[:, None])
        np.testing.assert_allclose(found.vectors[0], np.array([1, 3]) * first.std(), rtol=0.01)

    def test_an_attribute_that_never_changes_has_none(self):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(200, 4))
        found = attributes.directions(z, np.stack([z[:, 0], np.ones(200)], axis=1))
        assert found.std[1] == 0
        assert not found.vectors[1].any()
        assert found.vectors[0].any()

    def test_melodies_without_notes_are_left_out(self):
        rng = np.random.default_rng(0)
        z = rng.normal(size=(200, 4))
        values = z[:, :1].copy()
        with_silent = attributes.directions(np.concatenate([z, z]), np.concatenate([values, np.full((200, 1), np.nan)]))
        np.testing.assert_allclose(with_silent.vectors, attributes.directions(z, values).vectors)
        with pytest.raises(ValueError, match="at least 100 melodies"):
            attributes.directions(z[:99], values[:99])
