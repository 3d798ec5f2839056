"""Further rules of melody that Jaques et al. 2017 ("Sequence Tutor", table 1) report.

As in :mod:`fairseq_seqvae.rewards.melody`, each gives 1 to a melody that fulfils it, and 0 to one without notes.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from fairseq_seqvae.rewards.melody import BAR, KEYS, in_key, melody_rule, parse_key
from fairseq_seqvae.rewards.registry import Rule, Run, register_reward, whole_number, without_argument


@register_reward("melody-begin")
def begins_on_the_tonic(argument: str, run: Run) -> Rule:
    """1 if the first note is the tonic of the key *argument*, in any octave, else 0.

    Without a key, those come into question that have most of the notes, and the best of them counts.
    """
    given = (parse_key(argument),) if argument else None

    def score(notes: list) -> float:
        most = max(in_key(notes, key) for key in KEYS)
        keys = given or [key for key in KEYS if in_key(notes, key) == most]
        return float(any(notes[0].pitch % 12 == tonic for tonic, _ in keys))

    return melody_rule(score)


@register_reward("melody-variety")
def moves_in_each_bar(argument: str, run: Run) -> Rule:
    """Share of the notes that begin in a bar with at least three different pitches; *argument*: steps of a bar.

    That is what the paper calls notes in a motif; whether one comes back is :func:`.melody.brings_a_motif_back`.
    """
    steps = whole_number("melody-variety", argument, BAR)

    def score(notes: list) -> float:
        pitches: dict[int, set[int]] = {}
        for note in notes:
            pitches.setdefault(note.start // steps, set()).add(note.pitch)
        return sum(len(pitches[note.start // steps]) >= 3 for note in notes) / len(notes)

    return melody_rule(score)


def _once(name: str, argument: str, extreme: Callable[[Iterable[int]], int]) -> Rule:
    """1 if the extreme pitch is sounded once, else 0."""
    without_argument(name, argument)

    def score(notes: list) -> float:
        counts = Counter(note.pitch for note in notes)
        return float(counts[extreme(counts)] == 1)

    return melody_rule(score)


@register_reward("melody-highest")
def has_one_highest_note(argument: str, run: Run) -> Rule:
    """1 if the highest pitch occurs once, else 0."""
    return _once("melody-highest", argument, max)


@register_reward("melody-lowest")
def has_one_lowest_note(argument: str, run: Run) -> Rule:
    """1 if the lowest pitch occurs once, else 0."""
    return _once("melody-lowest", argument, min)
