"""One monophonic melody from, and to, a standard MIDI file. Needs mido (the extra `melody`)."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from os import PathLike
from typing import NamedTuple

import numpy as np

from fairseq_seqvae.melody.tokens import MAX_PITCH, MAX_STEPS, MIN_PITCH, Note, decode_notes, encode_notes
from fairseq_seqvae.support.files import whole_file

_DRUMS = 9  # channel 10 in the counting of manuals
_TICKS_PER_STEP = 120
_MAX_STEPS_PER_QUARTER = (2**15 - 1) // _TICKS_PER_STEP  # the file has 15 bits for ticks a quarter note


class MidiError(ValueError):
    """A file without a usable melody. `reason` is a short one to count by; the message names the file."""

    def __init__(self, path: str | PathLike, reason: str, detail: str = "") -> None:
        super().__init__(f"{path}: {reason}{detail}")
        self.reason = reason


class MidiMelody(NamedTuple):
    """The melody of a MIDI file on the grid.

    notes:     in order, without overlap; times in steps
    length:    steps up to the end of the file
    tempo:     first tempo, quarter notes a minute; None if the file names none
    meters:    (step from which it holds, numerator, denominator), in order; 4/4 from step 0 if the file names none
    track:     the track it was taken from, for people
    losses:    how many notes were left out or changed, by what was done to them
    """

    notes: list[Note]
    length: int
    tempo: float | None
    meters: list[tuple[Fraction, int, int]]
    track: str
    losses: Counter

    def tokens(self) -> np.ndarray:
        """The canonical tokens, uint8 (length,)."""
        return encode_notes(self.notes, self.length)


def _require_mido():
    try:
        import mido
    except ImportError as error:
        raise ImportError("MIDI files need mido: pip install mido") from error
    return mido


def read_midi(path: str | PathLike, track: int | str | None = None, steps_per_quarter: int = 4) -> MidiMelody:
    """Read one melody, quantised to the nearest step.

    The melody is the notes of one channel of one track, drums (channel 10) excepted: `track` is the number of the
    track, from 0, or a part of its name; of all that remain, and by default of all tracks, the one with the most
    onsets is taken, notes struck together counted once. Of notes that begin at the same step the top one is kept, and
    a note ends at the latest where the next begins. Every note is at least one step long.

    Raises `MidiError` for a file that is not MIDI, has no such track or no notes, or has a note outside the range
    21..108 of the format in its melody (no octave is moved); `OSError` if it cannot be read.
    """
    mido = _require_mido()
    with open(path, "rb") as file:
        if file.read(4) != b"MThd":
            raise MidiError(path, "not a MIDI file")
    try:
        midi = mido.MidiFile(path)
    except (OSError, EOFError, ValueError, LookupError, TypeError, mido.KeySignatureError) as error:
        raise MidiError(path, "a broken MIDI file", f" ({error or type(error).__name__})") from None
    if midi.ticks_per_beat <= 0:
        raise MidiError(path, "times in seconds (SMPTE) instead of beats")

    steps_per_tick = Fraction(steps_per_quarter, midi.ticks_per_beat)
    end_tick = max((sum(message.time for message in messages) for messages in midi.tracks), default=0)
    if end_tick * steps_per_tick > MAX_STEPS:
        raise MidiError(path, f"longer than {MAX_STEPS} steps")
    name, events = _choose_line(path, midi, track)
    notes, losses = _quantise(events, steps_per_tick)
    if outside := [note.pitch for note in notes if not MIN_PITCH <= note.pitch <= MAX_PITCH]:
        raise MidiError(path, f"a pitch outside {MIN_PITCH}..{MAX_PITCH}", f" ({outside[0]}, in {name})")
    tempo, meters = _tempo_and_meters(midi, steps_per_tick)
    length = max(notes[-1].end, _round(end_tick * steps_per_tick))
    return MidiMelody(notes, length, tempo, meters, name, losses)


def _round(steps: Fraction) -> int:
    """To the nearest step, halves up (Python's own `round` takes halves to the even step)."""
    return int(steps + Fraction(1, 2))


def _choose_line(path: str | PathLike, midi, track: int | str | None) -> tuple[str, list[tuple[int, int, int]]]:
    """A name for the chosen track and its (start tick, end tick, pitch), in order of time."""
    lines: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    wanted = [number for number, messages in enumerate(midi.tracks) if _is_wanted(track, number, messages.name)]
    if track is not None and not wanted:
        raise MidiError(path, f"no track {track!r}", f" among the {len(midi.tracks)} tracks")
    for number in wanted:
        now = 0
        open_notes: dict[tuple[int, int], int] = {}
        for message in midi.tracks[number]:
            now += message.time
            if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
                continue
            key = (message.channel, message.note)
            line = lines.setdefault((number, message.channel), [])
            if key in open_notes:
                line.append((open_notes.pop(key), now, message.note))
            if message.type == "note_on" and message.velocity > 0:
                open_notes[key] = now
        for (channel, pitch), start in open_notes.items():
            lines[number, channel].append((start, now, pitch))
    best = max(lines, key=lambda key: len({start for start, _, _ in lines[key]}), default=None)
    if best is None or not lines[best]:
        raise MidiError(path, "no notes" + ("" if track is None else f" in track {track!r}"), " besides drums")
    name = midi.tracks[best[0]].name.strip()
    return f"track {best[0]}" + (f" ({name})" if name else ""), sorted(lines[best])


def _is_wanted(track: int | str | None, number: int, name: str) -> bool:
    if isinstance(track, str):
        return track.lower() in name.lower()
    return track is None or track == number


def _quantise(events: list[tuple[int, int, int]], steps_per_tick: Fraction) -> tuple[list[Note], Counter]:
    """Monophonic notes on the grid, and what that did to the notes."""
    losses: Counter = Counter()
    tops: dict[int, tuple[int, int]] = {}  # start step -> pitch, end step
    for start_tick, end_tick, pitch in events:
        exact = start_tick * steps_per_tick
        start = _round(exact)
        if abs(start - exact) > Fraction(1, 4):
            losses["moved by more than a quarter of a step"] += 1
        end = max(start + 1, _round(end_tick * steps_per_tick))
        if start in tops:
            losses["left out below another one"] += 1
        tops[start] = max(tops.get(start, (0, 0)), (pitch, end))
    starts = sorted(tops)
    notes = []
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        pitch, end = tops[start]
        if following is not None and end > following:
            losses["cut short by the next one"] += 1
            end = following
        notes.append(Note(pitch, start, end - start))
    return notes, losses


def _tempo_and_meters(midi, steps_per_tick: Fraction) -> tuple[float | None, list[tuple[Fraction, int, int]]]:
    tempo: tuple[int, float] | None = None  # tick, quarter notes a minute
    meters = {Fraction(0): (4, 4)}
    for messages in midi.tracks:
        now = 0
        for message in messages:
            now += message.time
            if message.type == "set_tempo" and message.tempo > 0 and (tempo is None or now < tempo[0]):
                tempo = now, 60_000_000 / message.tempo
            elif message.type == "time_signature" and message.numerator > 0:
                meters[now * steps_per_tick] = (message.numerator, message.denominator)
    changes: list[tuple[Fraction, int, int]] = []
    for step in sorted(meters):
        if not changes or changes[-1][1:] != meters[step]:  # some programs repeat the meter again and again
            changes.append((step, *meters[step]))
    return tempo and tempo[1], changes


def write_midi(
    tokens: Sequence[int] | np.ndarray,
    path: str | PathLike,
    *,
    tempo: float = 120,
    program: int = 73,
    meter: tuple[int, int] = (4, 4),
    steps_per_quarter: int = 4,
    name: str = "",
) -> None:
    """Write a melody as a MIDI file of one track (type 0); `read_midi` gives the canonical tokens back.

    tempo:    quarter notes a minute, 4 to 1000
    program:  instrument, 0 to 127 as in the file (manuals often count from 1): 73 is the flute, 0 the piano
    meter:    (numerator, denominator), the denominator a power of two; for the bar lines of notation programs
    name:     of the track
    """
    mido = _require_mido()
    if not 4 <= tempo <= 1000:
        raise ValueError(f"`tempo` must be 4 to 1000 quarter notes a minute but is {tempo}")
    if not 0 <= program <= 127:
        raise ValueError(f"`program` must be 0 to 127 but is {program}")
    if not 1 <= steps_per_quarter <= _MAX_STEPS_PER_QUARTER:
        raise ValueError(f"`steps_per_quarter` must be 1 to {_MAX_STEPS_PER_QUARTER} but is {steps_per_quarter}")
    midi = mido.MidiFile(type=0, ticks_per_beat=_TICKS_PER_STEP * steps_per_quarter)
    numerator, denominator = meter
    track = midi.add_track(name or None)
    track.append(mido.MetaMessage("set_tempo", tempo=round(60_000_000 / tempo)))
    track.append(mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))
    track.append(mido.Message("program_change", program=program))
    now = 0
    for note in decode_notes(tokens):
        track.append(mido.Message("note_on", note=note.pitch, velocity=80, time=(note.start - now) * _TICKS_PER_STEP))
        track.append(mido.Message("note_off", note=note.pitch, velocity=0, time=note.length * _TICKS_PER_STEP))
        now = note.end
    # The time up to the end of the track keeps the rest at the end of the melody.
    track.append(mido.MetaMessage("end_of_track", time=(len(tokens) - now) * _TICKS_PER_STEP))
    with whole_file(path) as partial:
        midi.save(partial)
