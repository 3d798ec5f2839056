"""The built-in rewards, each against examples worked out by hand."""

import pytest
import torch

from fairseq_seqvae.oracle import Oracle, weights
from fairseq_seqvae.rewards import REWARDS, Run

RUN = Run(dictionary=None, training_texts=lambda: ["a b", "c"])


def judge(source, *samples, **given):
    """What the reward `NAME` or `NAME:ARGUMENT` says of samples."""
    name, _, argument = source.partition(":")
    return REWARDS[name](argument, RUN)(list(samples), **given)


class TestLength:
    def test_exactly(self):
        assert judge("length:3", "a b c", "a b", "a", "", "a b c d e f") == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4]

    def test_in_a_range(self):
        assert judge("length:2-3", "a", "a b", "a b c", "a b c d e") == [1 / 2, 1, 1, 1 / 3]

    def test_at_most_and_at_least(self):
        assert judge("length:<=2", "", "a b", "a b c") == [1, 1, 1 / 2]
        assert judge("length:>=2", "", "a b", "a b c") == [1 / 3, 1, 1]

    @pytest.mark.parametrize("argument", ["", "seven", "-3", ">=2-4", ">=<=3", "3.5"])
    def test_other_arguments_are_explained(self, argument):
        with pytest.raises(ValueError, match="give a number of words: length:7"):
            judge(f"length:{argument}")

    def test_a_range_has_an_order(self):
        with pytest.raises(ValueError, match="length:8-4 ends before it begins"):
            judge("length:8-4")


class TestPatterns:
    def test_regex_is_searched_anywhere(self):
        assert judge(r"regex:\bno\b.*\?$", "no ?", "is it no good ?", "know ?", "no .") == [1, 1, 0, 0]

    def test_contains_looks_at_whole_words(self):
        assert judge("contains:a love", "in a love .", "a love", "a lover", "a b love", "") == [1, 1, 0, 0, 0]

    def test_arguments_are_needed(self):
        for source, message in {
            "regex:": "give a regular expression",
            "regex:(": "'\\(' is no regular expression",
            "contains: ": "give a word",
        }.items():
            with pytest.raises(ValueError, match=message):
                judge(source)


def test_novelty_knows_the_training_data():
    assert judge("novelty", "a b", "b a", "c", "") == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="novelty takes no argument, but is given 'x'"):
        judge("novelty:x")


class TestOracle:
    def test_mean_log_probability_of_the_tokens_of_that_oracle(self):
        twice = Oracle(weights.checked_weights({k: 2 * v for k, v in weights.draw_weights(88).items()}))
        for source, oracle in {"oracle:88": Oracle.from_seed(88), "oracle:88*2": twice}.items():
            expected = [-oracle.nll(torch.tensor([row])).item() for row in ([3, 4999, 0], [7])]
            assert judge(source, "3 4999 0", "7") == pytest.approx(expected, abs=1e-5)

    def test_of_a_file(self, tmp_path):
        small = Oracle.from_seed(7, 5, 3, 3)
        small.save_npz(tmp_path / "small.npz")
        expected = -small.nll(torch.tensor([[4, 1]])).item()
        assert judge(f"oracle:{tmp_path}/small.npz", "4 1", "5 1") == pytest.approx([expected, -30])

    def test_what_the_oracle_cannot_have_drawn_is_worse_than_all_that_it_can(self):
        assert judge("oracle:88", "<unk> 1", "", "5000 1", "-1") == [-30] * 4

    def test_bad_arguments_are_explained(self, tmp_path):
        for source, message in {
            "oracle": "give the seed of the oracle, such as oracle:88",
            f"oracle:{tmp_path}/none.npz": "there is no file .*none.npz",
        }.items():
            with pytest.raises(ValueError, match=message):
                judge(source)


class TestBleu:
    REFERENCES = ["the cat sat on the mat .", "a dog sat here", "no"]

    def test_by_hand(self):
        # 5 of 5 words, 3 of 4 pairs, 1 of 3 triples, no 4 of 2: smoothed to 1 / (2 * 2); reference lengths 7, 4, 1.
        expected = (1 * 3 / 4 * 1 / 3 * 1 / 4) ** (1 / 4)
        assert judge("bleu", "a dog sat on mat", references=self.REFERENCES) == [pytest.approx(expected)]

    def test_it_is_that_of_sacrebleu(self):
        sacrebleu = pytest.importorskip("sacrebleu")
        samples = ["the cat sat on the mat .", "the the the the", "dog", "no", "x y z", "sat on the mat here", ""]
        expected = [sacrebleu.sentence_bleu(sample, self.REFERENCES, tokenize="none").score / 100 for sample in samples]
        assert judge("bleu", *samples, references=self.REFERENCES) == pytest.approx(expected)


def melody(*notes, steps=16):
    """A line of `steps` steps from (step, pitch) pairs."""
    line = ["_"] * steps
    for step, pitch in notes:
        line[step] = str(pitch)
    return " ".join(line)


def scale(*pitches):
    """Notes of two steps each."""
    return melody(*((2 * i, pitch) for i, pitch in enumerate(pitches)), steps=2 * len(pitches))


C, D, E, F, FIS, G, A, B = 60, 62, 64, 65, 66, 67, 69, 71
MELODY_RULES = [name for name in REWARDS if name.startswith("melody-")]


class TestMelody:
    @pytest.mark.parametrize("name", MELODY_RULES)
    def test_without_notes_nothing_is_fulfilled(self, name):
        assert judge(name, "_ _ _", ". .", "") == [0, 0, 0]

    @pytest.mark.parametrize("name", MELODY_RULES)
    def test_one_pitch_is_a_melody(self, name):
        found = judge(name, scale(C), scale(C, C, C), f"_ . _ {C}")
        assert all(0 <= number <= 1 for number in found)

    def test_there_are_twelve(self):
        assert len(MELODY_RULES) == 12

    def test_key(self):
        chromatic = scale(*range(60, 72))
        assert judge("melody-key", scale(C, D, E, F, G, A, B), scale(G, A, B, D + 12, FIS), chromatic) == [1, 1, 7 / 12]
        # In C major all but F sharp; in G major all but F.
        assert judge("melody-key:C", scale(C, FIS, G, B)) == [3 / 4]
        assert judge("melody-key:G", scale(C, F, G, B)) == [3 / 4]
        assert judge("melody-key:Am", scale(A, C, E, 68)) == [3 / 4]  # G sharp is not in the natural minor scale
        assert judge("melody-key:Bb", scale(58, 63, 65, 64)) == [3 / 4]

    @pytest.mark.parametrize("key", ["H", "c", "C##", "Amin", "1"])
    def test_keys_have_names(self, key):
        for rule in ("melody-key", "melody-tonic"):
            with pytest.raises(ValueError, match=f"'{key}' is no key"):
                judge(f"{rule}:{key}")

    def test_tonic(self):
        whole = (C, D, E, F, G, A, B)
        # All white keys: C major or A minor.
        assert judge("melody-tonic", scale(*whole, C + 12), scale(*whole), scale(A, *whole, A)) == [1, 1 / 2, 1]
        assert judge("melody-tonic", scale(D, *whole, E)) == [0]
        # C and A are tonics, but of different keys.
        assert judge("melody-tonic", scale(*whole, A)) == [1 / 2]
        assert judge("melody-tonic:D", scale(D, E, D), scale(D, E, E), scale(E, D, E)) == [1, 1 / 2, 0]

    def test_repeats(self):
        assert judge("melody-repeats", scale(C, C, C, C, D), scale(C, C, C, C, C, C, D, C)) == [1, 1 - 2 / 8]
        assert judge("melody-repeats:1", scale(C, C, D, D, D)) == [1 - 3 / 5]
        # A hold or a rest between them changes nothing.
        assert judge("melody-repeats:1", "60 . . 60 _ 62") == [pytest.approx(2 / 3)]
        with pytest.raises(ValueError, match="melody-repeats:0 needs a whole number of at least 1"):
            judge("melody-repeats:0")

    def test_leaps(self):
        assert judge("melody-leaps", scale(C, D, E), scale(C, G, A)) == [1, 1]  # a fifth is none
        assert judge("melody-leaps", scale(C), scale(C, C)) == [1, 1]
        assert judge("melody-leaps", scale(C, A, G), scale(C, A, B), scale(C, A), scale(A, C, C, D)) == [1, 0, 0, 1]
        assert judge("melody-leaps", scale(C, A, B, C, D)) == [1 / 2]  # up a sixth and on; down a seventh and back

    def test_motif(self):
        motif = (C, D, E, D)
        assert judge("melody-motif", scale(*motif, *motif), scale(*motif, G, *motif, A)) == [1, 8 / 10]
        assert judge("melody-motif", scale(*motif, F, G, A, B)) == [0]
        # Too few pitches; in another rhythm; with notes in common.
        assert judge("melody-motif", scale(C, D, C, D, C, D, C, D)) == [0]
        slow = melody((0, C), (2, D), (4, E), (6, D), (8, C), (9, D), (10, E), (11, D))
        assert judge("melody-motif", slow) == [0]
        assert judge("melody-motif:3", scale(C, D, E, G, C, D, E)) == [6 / 7]
        assert judge("melody-motif:3", scale(C, D, E)) == [0]

    def test_likeness(self):
        bar, half, other = "60 _ 62 _ 64 _ 65 _", "60 _ 62 _ 67 _ 69 _", "72 71 70 . _ _ _ _"
        assert judge("melody-likeness:8", f"{bar} {other} {bar}", f"{bar} {bar} {bar}") == [1 / 2, 1]
        # two notes of four are the same: the square counts
        assert judge("melody-likeness:8", f"{bar} {half}") == [1 / 4]
        # three notes and none at the fourth place
        assert judge("melody-likeness:8", f"{bar} 60 _ 62 _ 64 _ _ _") == [(3 / 4) ** 2]
        # the most similar of the earlier ones counts; a bar without notes is none
        assert judge("melody-likeness:8", f"{half} {bar} _ _ _ _ _ _ _ _ {bar}") == [(1 / 4 + 0 + 1) / 3]
        assert judge("melody-likeness:8", bar, "_ _ . _") == [0, 0]
        assert judge("melody-likeness", f"{bar} {other} {bar} {other}") == [1]

    def test_returns(self):
        bar, held, other = "60 _ 62 _ 64 _ 65 _", "60 _ 62 _ 64 _ 65 .", "60 62 60 62 60 62 60 62"
        assert judge("melody-returns:8", f"{bar} {other} {bar}", f"{bar} {bar} {bar}") == [1 / 2, 1]
        # almost the same is not the same; a bar of two pitches may come back without being counted
        assert judge("melody-returns:8", f"{bar} {held} {held}", f"{other} {other} {bar}") == [1 / 2, 0]
        # what is left after the last whole bar does not count
        assert judge("melody-returns:8", f"{bar} {bar} 60 62", bar, "60 62") == [1, 0, 0]
        assert judge("melody-returns", f"{bar} {other} {bar} {other}") == [1]

    def test_range(self):
        assert judge("melody-range", scale(C, C + 19), scale(C, C + 22, D), scale(C)) == [1, 1 / 4, 1]
        assert judge("melody-range:12", scale(C, C + 13)) == [1 / 2]

    def test_symbols_that_are_no_melody_are_holds(self):
        assert judge("melody-range:1", "60 <unk> 62", "<unk>") == [1 / 2, 0]


class TestRulesOfTheTable:
    def test_the_first_note_is_the_tonic(self):
        whole = (C, D, E, F, G, A, B)
        # The notes are those of C major and of A minor alone.
        assert judge("melody-begin", scale(*whole, D), scale(A, *whole), scale(D, *whole)) == [1, 1, 0]
        assert judge("melody-begin:D", scale(D, E), scale(D + 12, E), scale(E, D)) == [1, 1, 0]

    def test_a_bar_has_three_pitches(self):
        # Two bars of 16 steps: four notes of three pitches, then two of two; the last pitch of a bar starts within it.
        two_bars = melody((0, C), (4, D), (8, E), (15, C), (16, C), (24, D), steps=32)
        assert judge("melody-variety", two_bars) == [4 / 6]
        assert judge("melody-variety:8", two_bars) == [0]
        assert judge("melody-variety:32", two_bars) == [1]
        with pytest.raises(ValueError, match="melody-variety:x needs a whole number"):
            judge("melody-variety:x")

    def test_extremes_are_reached_once(self):
        samples = scale(C, D, E, D, C), scale(C, E, D, E), scale(C)
        assert judge("melody-highest", *samples) == [1, 0, 1]
        assert judge("melody-lowest", *samples) == [0, 1, 1]
        with pytest.raises(ValueError, match="melody-lowest takes no argument, but is given '2'"):
            judge("melody-lowest:2")
