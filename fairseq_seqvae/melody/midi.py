"""One monophonic melody from, and to, a standard MIDI file. Needs mido (the extra `melody`)."""

import contextlib
import io
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from os import PathLike
from typing import NamedTuple

import numpy as np

from fairseq_seqvae.melody.tokens import MAX_PITCH, MAX_STEPS, MIN_PITCH, Note, encode_notes
from fairseq_seqvae.melody.tunes import MusicError, Sound, Tune, Voice, count_triplets, quantise, round_half_up
from fairseq_seqvae.support.files import whole_file

_DRUMS = 9  # channel 10 in the counting of manuals
_TICKS_PER_STEP = 120
_MAX_STEPS_PER_QUARTER = (2**15 - 1) // _TICKS_PER_STEP  # the file has 15 bits for ticks a quarter note


class MidiError(MusicError):
    """A MIDI file without a usable melody."""


class MidiMelody(NamedTuple):
    """The melody of a MIDI file on the grid.

    notes:     in order, without overlap; times in steps
    length:    steps up to the end of the file
    tempo:     first tempo, quarter notes per minute; None if the file names none
    meters:    (step from which it holds, numerator, denominator), in order; 4/4 from step 0 if the file names none
    track:     the track it was taken from, for people
    losses:    how many notes were left out or changed, by what was done to them
    triplets:  how many notes of triplets the grid moved
    """

    notes: list[Note]
    length: int
    tempo: float | None
    meters: list[tuple[Fraction, int, int]]
    track: str
    losses: Counter
    triplets: int = 0

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
    track, from 0, or a part of its name; of all that remain the one with the most onsets is taken, notes struck
    together counted once. Without `track`, a track that is mostly chords is taken neither before another one nor alone.
    Of notes that begin at the same step the top one is kept, and a note ends at the latest where the next begins. Every
    note is at least one step long.

    Raises `MidiError` for a file that is not MIDI, has no such track or no notes, or has a note outside the range
    21..108 of the format in its melody (no octave is moved); `OSError` if it cannot be read.
    """
    _require_mido()
    with open(path, "rb") as file:
        midi = _parse(file, path, steps_per_quarter)
    voice = _choose_voice(path, midi, track)
    notes, losses = quantise(voice.sounds, steps_per_quarter)
    name = f"track {voice.id}" + (f" ({voice.name})" if voice.name else "")
    if outside := [note.pitch for note in notes if not MIN_PITCH <= note.pitch <= MAX_PITCH]:
        raise MidiError(path, f"a pitch outside {MIN_PITCH}..{MAX_PITCH}", f" ({outside[0]}, in {name})")
    length = max(notes[-1].end, round_half_up(voice.length * steps_per_quarter))
    meters = [(start * steps_per_quarter, beats, unit) for start, beats, unit in voice.meters]
    triplets = count_triplets(voice.sounds, steps_per_quarter)
    return MidiMelody(notes, length, voice.tempo, meters, name, losses, triplets)


def read_voices(content: bytes, source: object, steps_per_quarter: int = 4) -> list[Voice]:
    """The voices of a MIDI file: each channel of each track that has notes, drums (channel 10) excepted.

    Args:
        content: the file.
        source: its name, for messages.
        steps_per_quarter: grid of the steps that the length is bounded by.

    Raises `MidiError` for a file that is not MIDI or too long.
    """
    midi = _parse(io.BytesIO(content), source, steps_per_quarter)
    found = _voices(midi, range(len(midi.tracks)))
    channels = Counter(number for number, _ in found)
    for (number, channel), voice in found.items():
        if channels[number] > 1:
            voice.id = f"{number}.{channel + 1}"
    return list(found.values())


def _parse(file, source: object, steps_per_quarter: int):
    mido = _require_mido()
    if file.read(4) != b"MThd":
        raise MidiError(source, "not a MIDI file")
    file.seek(0)
    try:
        midi = mido.MidiFile(file=file)
    except (OSError, EOFError, ValueError, LookupError, TypeError, mido.KeySignatureError) as error:
        raise MidiError(source, "a broken MIDI file", f" ({str(error) or type(error).__name__})") from None
    if midi.ticks_per_beat <= 0:
        raise MidiError(source, "times in seconds (SMPTE) instead of beats")
    if _end_tick(midi) * Fraction(steps_per_quarter, midi.ticks_per_beat) > MAX_STEPS:
        raise MidiError(source, f"longer than {MAX_STEPS} steps")
    return midi


def _end_tick(midi) -> int:
    return max((sum(message.time for message in messages) for messages in midi.tracks), default=0)


def _voices(midi, numbers: Sequence[int]) -> dict[tuple[int, int], Voice]:
    """The channels of these tracks that have notes, by number of track and channel."""
    tempo, key, meters = _tempo_key_and_meters(midi)
    length = Fraction(_end_tick(midi), midi.ticks_per_beat)
    voices: dict[tuple[int, int], Voice] = {}
    for number in numbers:
        for channel, events in _channels(midi.tracks[number]).items():
            sounds = [
                Sound(Fraction(start, midi.ticks_per_beat), Fraction(end, midi.ticks_per_beat), pitch)
                for start, end, pitch in sorted(events)
            ]
            name = _readable(midi.tracks[number].name)
            if sounds:
                voices[number, channel] = Voice(str(number), name, sounds, list(meters), length, tempo, key)
    return voices


def _readable(name: str) -> str:
    """A name read as Latin-1, as the standard has it, or as the UTF-8 that most programs write."""
    with contextlib.suppress(UnicodeError):
        name = name.encode("latin-1").decode("utf-8")
    return name.strip()


def _channels(messages) -> dict[int, list[tuple[int, int, int]]]:
    """The (start tick, end tick, pitch) of the notes of each channel of a track, drums excepted."""
    lines: dict[int, list[tuple[int, int, int]]] = {}
    open_notes: dict[tuple[int, int], int] = {}
    now = 0
    for message in messages:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
            continue
        key = (message.channel, message.note)
        line = lines.setdefault(message.channel, [])
        if key in open_notes:
            line.append((open_notes.pop(key), now, message.note))
        if message.type == "note_on" and message.velocity > 0:
            open_notes[key] = now
    for (channel, pitch), start in open_notes.items():
        lines[channel].append((start, now, pitch))
    return lines


def _choose_voice(source: object, midi, track: int | str | None) -> Voice:
    """The voice of the wanted tracks with the most onsets; see `read_midi` for chords."""
    wanted = [number for number, messages in enumerate(midi.tracks) if _is_wanted(track, number, messages.name)]
    if track is not None and not wanted:
        raise MidiError(source, f"no track {track!r}", f" among the {len(midi.tracks)} tracks")
    voices = list(_voices(midi, wanted).values())
    if not voices:
        raise MidiError(source, "no notes" + ("" if track is None else f" in track {track!r}"), " besides drums")
    if track is None:
        melodies = [voice for voice in voices if not voice.is_chordal]
        if not melodies:
            names = ", ".join(f"track {voice}" for voice in voices[:12])
            raise MidiError(source, "chords, not a melody", f": name the track whose top notes to take: {names}")
        voices = melodies
    return max(voices, key=lambda voice: len({sound.start for sound in voice.sounds}))


def _is_wanted(track: int | str | None, number: int, name: str) -> bool:
    if isinstance(track, str):
        return track.lower() in name.lower()
    return track is None or track == number


def _tempo_key_and_meters(midi) -> tuple[float | None, str, list[tuple[Fraction, int, int]]]:
    """Of whatever track: the first tempo, the first key, and the meters with the quarter notes they begin at."""
    tempo: tuple[int, float] | None = None  # tick, quarter notes per minute
    key: tuple[int, str] | None = None
    meters = {Fraction(0): (4, 4)}
    for messages in midi.tracks:
        now = 0
        for message in messages:
            now += message.time
            if message.type == "set_tempo" and message.tempo > 0 and (tempo is None or now < tempo[0]):
                tempo = now, 60_000_000 / message.tempo
            elif message.type == "key_signature" and (key is None or now < key[0]):
                key = now, message.key
            elif message.type == "time_signature" and message.numerator > 0:
                meters[Fraction(now, midi.ticks_per_beat)] = (message.numerator, message.denominator)
    changes: list[tuple[Fraction, int, int]] = []
    for start in sorted(meters):
        if not changes or changes[-1][1:] != meters[start]:  # some programs repeat the meter again and again
            changes.append((start, *meters[start]))
    return tempo and tempo[1], key[1] if key else "", changes


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

    tempo:    quarter notes per minute, 4 to 1000
    program:  instrument, 0 to 127 as in the file (manuals often count from 1): 73 is the flute, 0 the piano
    meter:    (numerator, denominator), the denominator a power of two; for the bar lines of notation programs
    name:     of the track
    """
    tune = Tune(name, list(map(int, tokens)), meter, steps_per_quarter)
    content = midi_bytes([tune], tempo, program)
    with whole_file(path) as partial:
        partial.write_bytes(content)


def midi_bytes(tunes: Sequence[Tune], tempo: float | None = None, program: int = 73) -> bytes:
    """A MIDI file of one track (type 0) with the tunes one after another; it is named after the first.

    Args:
        tunes: of one grid. Those with a `key` that MIDI knows (major and minor) have it in the file.
        tempo: quarter notes per minute, 4 to 1000; None for the tempo of each tune, 120 where it has none.
        program: instrument, 0 to 127 as in the file: 73 is the flute, 0 the piano.
    """
    mido = _require_mido()
    if not 0 <= program <= 127:
        raise ValueError(f"`program` must be 0 to 127 but is {program}")
    grid = tunes[0].steps_per_quarter
    if not 1 <= grid <= _MAX_STEPS_PER_QUARTER:
        raise ValueError(f"`steps_per_quarter` must be 1 to {_MAX_STEPS_PER_QUARTER} but is {grid}")
    if any(tune.steps_per_quarter != grid for tune in tunes):
        raise ValueError("the tunes must have the same steps per quarter note")
    midi = mido.MidiFile(type=0, ticks_per_beat=_TICKS_PER_STEP * grid, charset="utf-8")
    track = midi.add_track(tunes[0].name or None)
    rest = 0
    before: tuple | None = None
    for tune in tunes:
        pace = tempo or tune.tempo or 120
        if not 4 <= pace <= 1000:
            raise ValueError(f"`tempo` must be 4 to 1000 quarter notes per minute but is {pace}")
        signs = (pace, tune.meter, tune.key)
        if signs != before:
            for message in _signs(mido, *signs):
                track.append(message.copy(time=rest * _TICKS_PER_STEP))
                rest = 0
        if before is None:
            track.append(mido.Message("program_change", program=program))
        before = signs
        rest = _append_notes(mido, track, tune, rest)
    # The time up to the end of the track keeps the rest at the end of the melody.
    track.append(mido.MetaMessage("end_of_track", time=rest * _TICKS_PER_STEP))
    file = io.BytesIO()
    midi.save(file=file)
    return file.getvalue()


def _signs(mido, tempo: float, meter: tuple[int, int], key: str) -> list:
    messages = [
        mido.MetaMessage("set_tempo", tempo=round(60_000_000 / tempo)),
        mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1]),
    ]
    try:
        return [*messages, mido.MetaMessage("key_signature", key=key)] if key else messages
    except ValueError:  # a mode that MIDI has no sign for
        return messages


def _append_notes(mido, track, tune: Tune, rest: int) -> int:
    """Append the notes of a tune that begins `rest` steps after the last event; the rest at its end."""
    now = -rest
    for note in tune.notes:
        track.append(mido.Message("note_on", note=note.pitch, velocity=80, time=(note.start - now) * _TICKS_PER_STEP))
        track.append(mido.Message("note_off", note=note.pitch, velocity=0, time=note.length * _TICKS_PER_STEP))
        now = note.end
    return tune.length - now
