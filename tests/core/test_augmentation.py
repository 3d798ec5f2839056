"""Transposition of sequences of pitches by random intervals."""

from collections import Counter

import pytest
import torch

from fairseq_seqvae.core.augmentation import Transposition

HOLD, REST, PAD = 0, 1, 9
# Tokens 2 .. 7 are the pitches 60 .. 65, in another order; 8 is an obstacle, 9 padding.
PITCHES = {2: 63, 3: 60, 4: 65, 5: 61, 6: 64, 7: 62}
TOKENS = {pitch: token for token, pitch in PITCHES.items()}
VOCAB = 10


def melody(*pitches_and_signs):
    return [TOKENS.get(sign, {"_": HOLD, ".": REST, "#": PAD, "?": 8}.get(sign)) for sign in pitches_and_signs]


def transposition(low=60, high=65, pitches=PITCHES):
    return Transposition.of_pitches(pitches, VOCAB, low, high, obstacles=(8,))


def all_results(line, known, count=997):
    """How often each transposition of a line comes when the uniform number goes through (0, 1) evenly."""
    tokens = torch.tensor([line]).repeat(count, 1)
    uniforms = (torch.arange(count) + 0.5) / count
    return Counter(map(tuple, known.apply(tokens, known.draw(tokens, uniforms)).tolist()))


class TestByHand:
    def test_all_intervals_that_keep_the_range_are_equally_frequent(self):
        found = all_results(melody(61, "_", 63, ".", 62, "#"), transposition())
        expected = [melody(61 + i, "_", 63 + i, ".", 62 + i, "#") for i in (-1, 0, 1, 2)]
        assert found.keys() == set(map(tuple, expected))
        assert all(abs(count - 997 / 4) <= 1 for count in found.values())

    def test_the_widest_melody_stays(self):
        line = melody(60, 65, "_")
        assert set(all_results(line, transposition())) == {tuple(line)}

    def test_a_narrower_range_than_the_dictionary(self):
        found = all_results(melody(62, 63), transposition(61, 64))
        assert found.keys() == {tuple(melody(62 + i, 63 + i)) for i in (-1, 0, 1)}

    def test_a_melody_outside_the_range_stays(self):
        line = melody(60, 62, "_")
        assert set(all_results(line, transposition(61, 65))) == {tuple(line)}

    def test_never_onto_a_pitch_without_a_token(self):
        without_62 = {token: pitch for token, pitch in PITCHES.items() if pitch != 62}
        found = all_results(melody(60, "_"), transposition(pitches=without_62))
        assert found.keys() == {tuple(melody(pitch, "_")) for pitch in (60, 61, 63, 64, 65)}

    def test_an_obstacle_keeps_its_melody_as_it_is(self):
        line = melody(62, "?", 63)
        assert set(all_results(line, transposition())) == {tuple(line)}

    def test_what_has_no_pitch_stays(self):
        line = melody("_", ".", "_", "#")
        assert set(all_results(line, transposition())) == {tuple(line)}

    def test_one_pitch_alone(self):
        known = transposition(62, 62)
        assert set(all_results(melody(62, "_"), known)) == {tuple(melody(62, "_"))}
        assert set(all_results(melody(63), known)) == {tuple(melody(63))}

    def test_a_range_upside_down(self):
        with pytest.raises(ValueError, match=r"`low` must not be above `high` \(60\) but is 61"):
            transposition(61, 60)


class TestAlongAScale:
    """Tokens 0 .. 24 are the pitches 60 .. 84; the scale is C major."""

    WHITE = [0, 2, 4, 5, 7, 9, 11]

    def results(self, line, low=60, high=84, count=997):
        known = Transposition.of_pitches({p - 60: p for p in range(60, 85)}, 25, low, high, scale=self.WHITE)
        tokens = torch.tensor([[pitch - 60 for pitch in line]]).repeat(count, 1)
        moved = known.apply(tokens, known.draw(tokens, (torch.arange(count) + 0.5) / count))
        return {tuple(60 + token for token in row) for row in moved.tolist()}

    def test_white_keys_stay_white(self):
        # C E G in C major; then on each degree up to the one whose fifth is the highest pitch.
        white = [60, 62, 64, 65, 67, 69, 71, 72, 74, 76, 77, 79, 81, 83, 84]
        assert self.results([60, 64, 67]) == {tuple(white[i : i + 5 : 2]) for i in range(11)}

    def test_a_black_key_stays_a_semitone_above_its_white_one(self):
        # F# G: degrees 3 (and a semitone) and 4. One step down it is E# = F, then F; two steps up A#, B.
        found = self.results([66, 67], 64, 72)
        assert found == {(65, 65), (66, 67), (68, 69), (70, 71), (72, 72)}

    def test_the_chromatic_scale_is_that_of_semitones(self):
        pitches = {p - 60: p for p in range(60, 85)}
        one = Transposition.of_pitches(pitches, 25, 62, 80)
        other = Transposition.of_pitches(pitches, 25, 62, 80, scale=range(12))
        assert torch.equal(one.table, other.table) and one.unison == other.unison == 18


def test_rows_are_transposed_by_intervals_of_their_own_and_all_inputs_by_the_same():
    known = transposition()
    tokens = torch.tensor([melody(60, 61), melody(65, 64), melody(62, "#")])
    rows = known.draw(tokens, torch.tensor([0.99, 0.01, 0.5]))
    assert known.apply(tokens, rows).tolist() == [melody(64, 65), melody(61, 60), melody(63, "#")]
    shifted = torch.tensor([melody("#", 60), melody("#", 65), melody("#", 62)])
    assert known.apply(shifted, rows).tolist() == [melody("#", 64), melody("#", 61), melody("#", 63)]


def test_random_melodies_agree_with_a_loop():
    generator = torch.Generator().manual_seed(4)
    known = transposition(61, 65)
    tokens = torch.randint(0, VOCAB, (400, 3), generator=generator)
    uniforms = torch.rand(400, generator=generator)
    found = known.apply(tokens, known.draw(tokens, uniforms)).tolist()
    for row, uniform, result in zip(tokens.tolist(), uniforms.tolist(), found, strict=True):
        pitches = [PITCHES[token] for token in row if token in PITCHES]
        choices = [i for i in range(-9, 10) if all(61 <= pitch <= 65 and 61 <= pitch + i <= 65 for pitch in pitches)]
        if not pitches or 8 in row or not choices:
            assert result == row
        else:
            interval = choices[int(uniform * len(choices))]
            assert result == [TOKENS[PITCHES[token] + interval] if token in PITCHES else token for token in row]


def test_inputs_are_not_modified():
    tokens = torch.tensor([melody(61)])
    known = transposition()
    known.apply(tokens, known.draw(tokens, torch.tensor([0.9])))
    assert tokens.tolist() == [melody(61)]
