"""A tune with its bars, whatever file it came from; and how the voices of a file become tunes on a grid."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from fairseq_seqvae.melody.tokens import MAX_PITCH, MAX_STEPS, MIN_PITCH, Note, decode_notes, encode_notes

MOVED = "moved by more than a quarter of a step"
COVERED = "left out below another one"
CUT = "cut short by the next one"
_BUSY = 8  # notes: with fewer, a few double stops would make a chord track
_MOST_NAMED = 12  # voices in a message
_CHORDAL = Fraction(1, 4)  # of the notes are struck below another one


class MusicError(ValueError):
    """A file, or a tune of it, that cannot be used. `reason` is a short one to count by; the message names the file."""

    def __init__(self, source: object, reason: str, detail: str = "") -> None:
        super().__init__(f"{source}: {reason}{detail}")
        self.reason = reason


class Sound(NamedTuple):
    """A note before it is put on the grid: start and end in quarter notes, MIDI pitch."""

    start: Fraction
    end: Fraction
    pitch: int


@dataclass
class Voice:
    """One voice, part or track of a file.

    id:       what `voice` picks it by: the number of a MIDI track, the id of an ABC voice or a MusicXML part
    name:     for people; may be empty
    sounds:   its notes, in any order; they may overlap
    meters:   (quarter note from which it holds, beats, unit), in order; bars are counted from each entry
    length:   up to the end of the voice, in quarter notes
    tempo:    first tempo, quarter notes per minute; None if the file has none
    key:      as ABC has it, such as `G`, `Em`, `Ddor`, `Bbmix`; empty if the file has none
    remarks:  what of the voice was not read, a sentence each
    """

    id: str
    name: str
    sounds: list[Sound]
    meters: list[tuple[Fraction, int, int]]
    length: Fraction
    tempo: float | None = None
    key: str = ""
    remarks: list[str] = field(default_factory=list)

    @property
    def is_chordal(self) -> bool:
        """Whether a quarter or more of the notes are struck below another one."""
        struck = {round_half_up(24 * sound.start) for sound in self.sounds}
        covered = len(self.sounds) - len(struck)
        return len(self.sounds) >= _BUSY and covered >= _CHORDAL * len(self.sounds)

    def __str__(self) -> str:
        chords = ", mostly chords" if self.is_chordal else ""
        name = f"{self.name}, " if self.name else ""
        return f"{self.id} ({name}{len(self.sounds)} notes{chords})"


class VoicesError(MusicError):
    """A file with several voices, or with chords only, of which one must be named.

    voices:  those to choose from
    likely:  the one that is surely meant, or None: the only one that is not chords, if it lies above the chords
    """

    def __init__(self, source: object, voices: Sequence[Voice]) -> None:
        reason = "several voices" if len(voices) > 1 else "chords, not a melody"
        more = f" and {len(voices) - _MOST_NAMED} more" if len(voices) > _MOST_NAMED else ""
        named = ", ".join(map(str, voices[:_MOST_NAMED]))
        super().__init__(source, reason, f": choose the voice: {named}{more}")
        self.voices = list(voices)
        melodies = [voice for voice in voices if not voice.is_chordal]
        others = [voice for voice in voices if voice.is_chordal]
        self.likely: Voice | None = None
        if len(melodies) == 1 and all(_middle(melodies[0]) > _middle(other) for other in others):
            self.likely = melodies[0]


def _middle(voice: Voice) -> float:
    return sum(sound.pitch for sound in voice.sounds) / len(voice.sounds)


@dataclass
class Tune:
    """One monophonic tune on a grid.

    name:               title, or the name of the file
    symbols:            a token per step, as in `tokens` (0 hold, 1 off, 2..89 onset), canonical
    meter:              (beats, unit), such as (6, 8): the one that holds longest
    steps_per_quarter:  grid
    tempo:              quarter notes per minute; None if unknown
    key:                as ABC has it, such as `G`, `Em`, `Ddor`; empty if unknown
    voice:              the voice of the file that it was taken from, for people; may be empty
    meters:             (step from which it holds, beats, unit), in order, the first from step 0. Bars are counted from
                        each entry, so that an irregular bar may be followed by an entry of the same meter
    remarks:            what of the file was left out or changed, a sentence each
    changes:            how many notes were left out or changed, by what was done to them
    triplets:           how many notes of triplets the grid moved
    """

    name: str
    symbols: list[int]
    meter: tuple[int, int] = (4, 4)
    steps_per_quarter: int = 4
    tempo: float | None = None
    key: str = ""
    voice: str = ""
    meters: list[tuple[Fraction, int, int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    changes: Counter = field(default_factory=Counter)
    triplets: int = 0

    def __post_init__(self) -> None:
        if not self.meters:
            self.meters = [(Fraction(0), *self.meter)]

    @property
    def steps_per_bar(self) -> int:
        """Steps in a bar of `meter`. Raises `ValueError` if the grid is too coarse for it."""
        return bar_steps(self.meter, self.steps_per_quarter)

    @property
    def length(self) -> int:
        """Steps up to the end."""
        return len(self.symbols)

    @property
    def notes(self) -> list[Note]:
        """The notes in order; times in steps."""
        return decode_notes(self.symbols)


def join(tunes: Sequence[Tune], name: str | None = None) -> Tune:
    """Join tunes end to end. The bars of each are counted from its own beginning.

    Args:
        tunes: at least one, all on the same grid
        name: of the result (default: that of the first)

    Raises:
        ValueError: there is none, or their grids differ
    """
    if not tunes or len({tune.steps_per_quarter for tune in tunes}) > 1:
        raise ValueError("tunes to join must be at least one, all with the same steps per quarter note")
    notes: list[Note] = []
    meters: list[tuple[Fraction, int, int]] = []
    end = 0
    for tune in tunes:
        notes += [note._replace(start=note.start + end) for note in tune.notes]
        meters += [(start + end, beats, unit) for start, beats, unit in tune.meters]
        end += tune.length
    first = tunes[0]
    symbols = encode_notes(notes, end).tolist()
    return replace(first, name=first.name if name is None else name, symbols=symbols, meters=meters)


def bar_steps(meter: tuple[int, int], steps_per_quarter: int) -> int:
    """Steps in a bar of `meter`. Raises `ValueError` if that is no whole number."""
    steps = Fraction(4 * steps_per_quarter * meter[0], meter[1])
    if steps.denominator != 1:
        raise ValueError(
            f"a bar of {meter[0]}/{meter[1]} is no whole number of steps at {steps_per_quarter} steps per quarter "
            "note: a finer grid is needed"
        )
    return int(steps)


def is_compound(meter: tuple[int, int]) -> bool:
    """Whether beats are counted in threes: 6/8, 9/8, 12/8, 6/4, but neither 3/4 nor 3/8."""
    return meter[0] % 3 == 0 and meter[0] > 3


def same_meter(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether bars are of the same length and counted alike: 4/4 and 2/2 are, 3/4 and 6/8 are not."""
    return Fraction(*one) == Fraction(*other) and is_compound(one) == is_compound(other)


def round_half_up(steps: Fraction) -> int:
    """To the nearest step, halves up (Python's own `round` takes halves to the even step)."""
    return int(steps + Fraction(1, 2))


def quantise(sounds: Iterable[Sound], steps_per_quarter: int) -> tuple[list[Note], Counter]:
    """Monophonic notes on the grid, and what that did to the notes.

    Starts and ends go to the nearest step. Of notes that begin at the same step the top one is kept, and a note ends at
    the latest where the next begins. Every note is at least one step long.
    """
    losses: Counter = Counter()
    tops: dict[int, tuple[int, int]] = {}  # start step -> pitch, end step
    for sound in sounds:
        exact = sound.start * steps_per_quarter
        start = round_half_up(exact)
        if abs(start - exact) > Fraction(1, 4):
            losses[MOVED] += 1
        end = max(start + 1, round_half_up(sound.end * steps_per_quarter))
        if start in tops:
            losses[COVERED] += 1
        tops[start] = max(tops.get(start, (0, 0)), (sound.pitch, end))
    starts = sorted(tops)
    notes = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        pitch, end = tops[start]
        if following is not None and end > following:
            losses[CUT] += 1
            end = following
        notes.append(Note(pitch, start, end - start))
    return notes, losses


def count_triplets(sounds: Iterable[Sound], steps_per_quarter: int) -> int:
    """How many notes begin on a third of a quarter or of an eighth, which the grid does not have."""
    if steps_per_quarter % 3 == 0:
        return 0
    sixths = (6 * sound.start for sound in sounds)
    return sum(round(start) % 3 > 0 and abs(start - round(start)) < Fraction(1, 16) for start in sixths)


def choose(source: object, voices: Sequence[Voice], wanted: str | int | None) -> Voice:
    """The voice whose id is `wanted` or whose name contains it; without `wanted`, the only one.

    Raises `VoicesError` if that leaves several, or if the only one is mostly chords and was not asked for;
    `MusicError` if there is none.
    """
    heard = [voice for voice in voices if voice.sounds]
    if not heard:
        raise MusicError(source, "no notes")
    if wanted is None:
        if len(heard) > 1 or heard[0].is_chordal:
            raise VoicesError(source, heard)
        return heard[0]
    text = str(wanted).strip().lower()
    found = [voice for voice in heard if voice.id.lower() == text]
    found = found or [voice for voice in heard if text and text in voice.name.lower()]
    if not found:
        raise MusicError(
            source, f"no voice {text!r}", f" with notes; there are: {', '.join(map(str, heard[:_MOST_NAMED]))}"
        )
    if len(found) > 1:
        raise VoicesError(source, found)
    return found[0]


def make_tune(source: object, name: str, voice: Voice, steps_per_quarter: int = 4) -> Tune:
    """The tune of a voice on the grid.

    Raises `MusicError` for a tune that is too long, has a note outside the range 21..108 of the format (no octave is
    moved), or whose bars are no whole number of steps.
    """
    if voice.length * steps_per_quarter > MAX_STEPS:
        raise MusicError(source, f"longer than {MAX_STEPS} steps")
    if outside := [sound.pitch for sound in voice.sounds if not MIN_PITCH <= sound.pitch <= MAX_PITCH]:
        raise MusicError(source, f"a pitch outside {MIN_PITCH}..{MAX_PITCH}", f" ({outside[0]})")
    notes, changes = quantise(voice.sounds, steps_per_quarter)
    length = max(notes[-1].end, round_half_up(voice.length * steps_per_quarter))
    meters = [(start * steps_per_quarter, beats, unit) for start, beats, unit in voice.meters]
    meter = _longest(meters, length)
    try:
        bar_steps(meter, steps_per_quarter)
    except ValueError as error:
        raise MusicError(source, "a grid too coarse for the meter", f": {error}") from None
    remarks = [*voice.remarks]
    triplets = count_triplets(voice.sounds, steps_per_quarter)
    if triplets:
        remarks.append(
            f"{triplets} notes of triplets moved to the grid of {steps_per_quarter} steps per quarter note; "
            f"{12 if steps_per_quarter % 2 == 0 else 3 * steps_per_quarter} steps keep them"
        )
    remarks += [f"{count} notes {what}" for what, count in changes.items() if what != MOVED or not triplets]
    kinds = list(dict.fromkeys(f"{beats}/{unit}" for _, beats, unit in meters))
    if len(kinds) > 1:
        remarks.append(f"the meter changes: {', '.join(kinds)}")
    return Tune(
        name=name,
        symbols=encode_notes(notes, length).tolist(),
        meter=meter,
        steps_per_quarter=steps_per_quarter,
        tempo=voice.tempo,
        key=voice.key,
        voice=f"{voice.id} ({voice.name})" if voice.name else voice.id,
        meters=meters,
        remarks=remarks,
        changes=changes,
        triplets=triplets,
    )


def _longest(meters: Sequence[tuple[Fraction, int, int]], length: int) -> tuple[int, int]:
    """The meter that holds for most steps, the first of them if several do."""
    held: dict[tuple[int, int], Fraction] = {}
    ends = [start for start, _, _ in meters[1:]] + [Fraction(length)]
    for (start, beats, unit), end in zip(meters, ends, strict=True):
        held[beats, unit] = held.get((beats, unit), Fraction(0)) + max(end - start, Fraction(0))
    return max(held, key=lambda meter: held[meter])
