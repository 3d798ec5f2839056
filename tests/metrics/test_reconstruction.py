"""What comes back from the latent: shares, BLEU, likelihood, walks; by hand, of decoders that recite what z says."""

import math
from types import SimpleNamespace

import pytest
import torch
from toys import EOS, PAD, Policy, WholeHistory

from fairseq_seqvae import metrics
from fairseq_seqvae.melody import tokens as melody
from fairseq_seqvae.metrics import reconstruction as figures
from fairseq_seqvae.metrics.reconstruction import Reconstruction
from fairseq_seqvae.metrics.walks import walk_figures

E, P = EOS, PAD
TOKENS = torch.tensor([[3, 4, E, P], [0, 0, 3, E], [E, P, P, P], [3, 4, E, P]])
LENGTHS = torch.tensor([3, 4, 1, 3])
# What the decoder makes of z = 0, 1, 2; the second never ends.
RECITED = [[3, 4, E], [0, 3, 3, 3, 3, 3], [3, E]]
NOTES = torch.tensor([True, False, False, True, False])


class Recital(Policy):
    """Recites the sequence whose number is nearest to column 0 of z; after its end, its last token again and again."""

    def __init__(self, sequences, vocab=5):
        self.sequences, self.vocab = sequences, vocab

    def first_state(self, z):
        return z[:, 0].round().long(), torch.zeros(len(z), dtype=torch.long)

    def step(self, prev_tokens, state):
        number, t = state
        said = [self.sequences[n][min(i, len(self.sequences[n]) - 1)] for n, i in zip(*map(list, state), strict=True)]
        return torch.nn.functional.one_hot(torch.tensor(said), self.vocab).float(), (number, t + 1)

    def read(self, features):
        return features


class Points:
    """A family of posteriors without a variance: nothing of a Gaussian but a mean."""

    def __init__(self, mean):
        self.mean = mean

    def sample(self, noise):
        assert noise.shape == self.mean.shape
        return self.mean


class Line:
    """A prior of one dimension: always 0, with straight walks."""

    dim = 1

    def sample(self, noise):
        return torch.zeros_like(noise)

    def walk(self, start, end, weight):
        return start + weight.unsqueeze(1) * (end - start)


def made(sequences=RECITED, z=(0, 1, 2, 0), tokens=TOKENS, lengths=LENGTHS, notes=NOTES, policy=None):
    posterior = Points(torch.tensor([[float(number)] for number in z]))
    policy = policy or Recital(sequences)
    return Reconstruction(policy, Line(), posterior, tokens, lengths, torch.arange(len(tokens)), 1, notes)


class TestShares:
    @pytest.mark.parametrize(
        "name, expected",
        [
            # 3 of 3, 2 of 4 (0 3 3 3 for 0 0 3 E), 0 of 1, 3 of 3
            ("rec_acc", 8 / 11),
            # 3 4 E for 3 4 E, 3 4 E for 0 0 3 E, 0 3 3 3 for E, 3 E for 3 4 E
            ("rec_acc_other", 4 / 11),
            # 3, 4, E, E in this order are the commonest: 2, 2, 2 and 1 times
            ("rec_acc_constant", 7 / 11),
            # notes are 0 and 3: 1 of 1, 2 of 3, none, 1 of 1
            ("rec_acc_notes", 4 / 5),
            ("rec_acc_notes_other", 2 / 5),
            ("rec_exact", 2 / 4),
            # three different originals, and three different reconstructions
            ("rec_distinct", 1.0),
        ],
    )
    def test_by_hand(self, name, expected):
        assert metrics.RECONSTRUCTION_METRICS[name](made()) == pytest.approx(expected)

    def test_a_decoder_that_ignores_z_reaches_its_floor(self):
        found = made([[3, 4, E]] * 3)
        assert figures.token_accuracy(found) == figures.token_accuracy_of_other(found) == pytest.approx(6 / 11)
        assert figures.distinct_share(found) == pytest.approx(1 / 3)
        assert figures.exact_share(found) == 2 / 4

    def test_a_perfect_decoder(self):
        found = made([[3, 4, E], [0, 0, 3, E], [E]])
        for metric in (figures.token_accuracy, figures.note_accuracy, figures.exact_share, figures.distinct_share):
            assert metric(found) == 1

    def test_a_reconstruction_that_goes_on_is_not_exact(self):
        # Sequences without EOS, of different lengths.
        tokens, lengths = torch.tensor([[3, 4, P], [3, 4, 0]]), torch.tensor([2, 3])
        found = made([[3, 4, 0]], [0, 0], tokens, lengths)
        assert figures.token_accuracy(found) == 1 and figures.exact_share(found) == 0.5

    def test_what_is_not_there_has_no_share(self):
        alone = made(z=[0], tokens=TOKENS[:1], lengths=LENGTHS[:1], notes=None)
        assert figures.token_accuracy_of_other(alone) is None
        assert figures.note_accuracy(alone) is None and figures.note_accuracy_of_other(alone) is None
        assert figures.token_accuracy_of_constant(alone) == 1
        silent = made(z=[2], tokens=TOKENS[2:3], lengths=LENGTHS[2:3])
        assert figures.note_accuracy(silent) is None

    def test_batches_do_not_matter(self, monkeypatch):
        together = made().decoded
        monkeypatch.setattr(figures, "_ROWS_AT_A_TIME", 1)
        assert torch.equal(made().decoded, together)
        assert together.tolist() == [[3, 4, E, P], [0, 3, 3, 3], [3, E, P, P], [3, 4, E, P]]


class TestBleu:
    def test_by_hand(self):
        pytest.importorskip("sacrebleu")
        # 5 of 6 tokens, 4 of 5 pairs, 3 of 4 triples, 2 of 3 quadruples: the fourth root of their product, 1 / 3.
        tokens = torch.tensor([[10, 11, 12, 13, 14, 15, E]])
        found = made([[10, 11, 12, 13, 14, 16, E]], [0], tokens, torch.tensor([7]), None)
        found.policy.vocab = 17
        assert figures.bleu(found) == pytest.approx(100 * (1 / 3) ** 0.25, abs=1e-6)

    def test_of_the_same_sequences(self):
        pytest.importorskip("sacrebleu")
        tokens = torch.tensor([[3, 4, 3, 3, 0, E], [3, E, P, P, P, P]])
        found = made([[3, 4, 3, 3, 0, E], [3, E]], [0, 1], tokens, torch.tensor([6, 2]))
        assert figures.bleu(found) == pytest.approx(100)


class TestLikelihoodGain:
    def test_is_the_mean_gain_of_the_sequences(self, monkeypatch):
        # The posterior names table 1 for all, the prior table 0.
        policy = WholeHistory()
        found = made(z=[1, 1, 1, 1], policy=policy)
        rows = [row[:length] for row, length in zip(TOKENS.tolist(), LENGTHS.tolist(), strict=True)]
        totals = [
            sum(math.log(policy.next_probs(number)(row[:t])[token]) for row in rows for t, token in enumerate(row))
            for number in (0, 1)
        ]
        expected = (totals[1] - totals[0]) / 4
        assert figures.likelihood_gain(found) == pytest.approx(expected, abs=1e-5)
        monkeypatch.setattr(figures, "_ROWS_AT_A_TIME", 1)
        assert figures.likelihood_gain(found) == pytest.approx(expected, abs=1e-5)

    def test_is_nothing_where_z_is_ignored(self):
        found = made(z=[1, 1, 1, 1], policy=WholeHistory())
        found.policy.table[1] = found.policy.table[0]
        assert figures.likelihood_gain(found) == 0


class TestWalks:
    SEQUENCES = [[3, 4, E], [0, 0, 3, E], [E], [3, 4, E]]

    def test_by_hand(self):
        # The pairs are 0 and 2, 1 and 3; the third original is 3 E but what comes back is E.
        tokens, lengths = TOKENS.clone(), torch.tensor([3, 4, 2, 3])
        tokens[2, :2] = torch.tensor([3, E])
        notes = torch.tensor([False, False, False, True, True])
        found = walk_figures(made(self.SEQUENCES, range(4), tokens, lengths, notes), num_points=3)
        assert found == {
            "walk_pairs": 2,
            "walk_points": 3,
            "walk_acc": pytest.approx((3 + 0 + 4 + 3) / 12),
            # 34E_ to 003E 4, to E___ 4; 003E to E___ 4, to 34E_ 3
            "walk_step": pytest.approx(15 / 4),
            "walk_ends": pytest.approx((3 + 4) / 2),
            "walk_acc_notes": pytest.approx(5 / 6),
            "walk_step_notes": pytest.approx((3 + 1 + 1 + 2) / 4),
            "walk_ends_notes": pytest.approx((2 + 3) / 2),
        }

    def test_a_decoder_that_ignores_z_does_not_move(self):
        found = walk_figures(made([[3, 4, E]] * 4, range(4), notes=None), num_points=5)
        assert found["walk_step"] == found["walk_ends"] == 0 and "walk_step_notes" not in found

    def test_no_more_pairs_than_asked_for(self):
        assert walk_figures(made(self.SEQUENCES, range(4)), num_pairs=1)["walk_pairs"] == 1

    @pytest.mark.parametrize("count, options", [(1, {}), (4, {"num_points": 1}), (4, {"num_pairs": 0})])
    def test_errors(self, count, options):
        few = made(self.SEQUENCES, range(count), TOKENS[:count], LENGTHS[:count])
        with pytest.raises(ValueError, match="a walk needs two sequences and at least two points"):
            walk_figures(few, **options)


SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


class TestNotes:
    def notes(self, *symbols):
        found = metrics.note_tokens(SimpleNamespace(symbols=[*SPECIAL, *symbols], nspecial=4))
        return None if found is None else [s for s, is_note in zip([*SPECIAL, *symbols], found, strict=True) if is_note]

    def test_pitches_of_the_melody_format_are_notes(self):
        assert self.notes(*melody.SYMBOLS) == list(melody.SYMBOLS[2:])
        assert self.notes("_", "72", ".", "21", "108") == ["72", "21", "108"]
        assert self.notes("60", "_") == ["60"]

    def test_symbols_that_fill_up_a_dictionary_do_not_matter(self):
        assert self.notes("_", "60", "madeupword0000") == ["60"]

    @pytest.mark.parametrize(
        "symbols", [[], ["_"], ["_", "."], ["60", "62"], ["a", "b"], ["_", "60", "a"], ["_", "20"], ["_", "109", "60"]]
    )
    def test_other_dictionaries_have_none(self, symbols):
        assert self.notes(*symbols) is None
