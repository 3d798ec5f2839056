"""Tunes written in ABC notation, for people and notation programs; `abc_notation` reads them back."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

from fairseq_seqvae.melody.tunes import Tune, is_compound

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHARPS, _FLATS = "FCGDAEB", "BEADGCF"
_MAJOR_KEYS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F#": 6, "C#": 7}
_MAJOR_KEYS |= {"F": -1, "Bb": -2, "Eb": -3, "Ab": -4, "Db": -5, "Gb": -6, "Cb": -7}
# How many fifths the major key with the same signature lies below the tonic.
_MODES = {"": 0, "m": 3, "mix": 1, "dor": 2, "phr": 4, "lyd": -1, "loc": 5}
_SIGNS = {-2: "__", -1: "_", 0: "=", 1: "^", 2: "^^"}
_BARS_PER_LINE = 4


class _Event(NamedTuple):
    start: int
    stop: int
    pitch: int | None  # None is a rest


def abc_text(tunes: Sequence[Tune]) -> str:
    """The tunes as a tune book, numbered from 1. Read back, they are the same notes on the same grid.

    A tune without a key gets the major key with the fewest accidentals. Bars follow `meters`. Thirds of a beat are
    written as triplets.
    """
    return "\n".join(_tune_text(number, tune) for number, tune in enumerate(tunes, start=1))


def guess_key(pitches: Sequence[int]) -> str:
    """The major key whose scale has most of the notes; of several, the one with the fewest sharps or flats."""
    counts = [sum(pitch % 12 == pitch_class for pitch in pitches) for pitch_class in range(12)]
    keys = sorted(_MAJOR_KEYS.items(), key=lambda item: (abs(item[1]), item[1] < 0))
    return max(keys, key=lambda item: sum(counts[pitch_class] for pitch_class in _signature(item[1]).values()))[0]


def _signature(fifths: int) -> dict[str, int]:
    """Letter -> pitch class in the key with so many sharps, or flats if negative."""
    changed = _SHARPS[:fifths] if fifths > 0 else _FLATS[:-fifths] if fifths else ""
    sign = 1 if fifths > 0 else -1
    return {letter: (pitch + sign * (letter in changed)) % 12 for letter, pitch in _LETTERS.items()}


def _fifths(key: str) -> int | None:
    match = re.fullmatch(r"([A-G][#b]?)(\w*)", key)
    if match is None or match[2] not in _MODES:
        return None
    fifths = (7 * _LETTERS[match[1][0]] + 1) % 12 - 1 + 7 * (match[1].count("#") - match[1].count("b"))
    fifths -= _MODES[match[2]]
    return fifths if -7 <= fifths <= 7 else None


def _tune_text(number: int, tune: Tune) -> str:
    fifths = _fifths(tune.key)
    key = tune.key
    if fifths is None:
        key = guess_key([note.pitch for note in tune.notes])
        fifths = _MAJOR_KEYS[key]
    title = re.sub(r"[\s\x00-\x1f%\\]+", " ", tune.name).strip() or f"Tune {number}"
    lines = [f"X:{number}", f"T:{title}", f"M:{tune.meter[0]}/{tune.meter[1]}", "L:1/8"]
    if tune.tempo:
        lines.append(f"Q:1/4={max(1, round(tune.tempo))}")
    lines.append(f"K:{key}")
    music, meter = "", tune.meter
    sounding = _sounding(tune)
    for count, (bar, current) in enumerate(_bars(tune), start=1):
        if current != meter:
            music += f"[M:{current[0]}/{current[1]}] "
            meter = current
        music += _bar_text(tune, sounding, bar, current, fifths) + (" |\n" if count % _BARS_PER_LINE == 0 else " | ")
    return "\n".join([*lines, music.rstrip().rstrip("|").rstrip() + " |]"]) + "\n"


def _bars(tune: Tune) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The (first step, step after the last) and the meter of each bar."""
    ends = [start for start, _, _ in tune.meters[1:]] + [Fraction(tune.length)]
    for (start, beats, unit), end in zip(tune.meters, ends, strict=True):
        bar = Fraction(4 * tune.steps_per_quarter * beats, unit)
        begin = start
        while begin < end:
            after = min(begin + bar, end)
            # A bar line that the grid does not have goes to the step before.
            if int(after) > int(begin):
                yield (int(begin), int(after)), (beats, unit)
            begin = after


def _beamed(meter: tuple[int, int], quarter: int) -> Fraction:
    """Steps that share a beam: half a bar of 4/4, three eighths where these are the beats, or else a quarter."""
    if meter in ((4, 4), (2, 2)):
        return Fraction(2 * quarter)
    return Fraction(12 * quarter, meter[1]) if is_compound(meter) else Fraction(quarter)


def _bar_text(
    tune: Tune, sounding: Sequence[int | None], bar: tuple[int, int], meter: tuple[int, int], fifths: int
) -> str:
    """The notes of one bar, with a blank where a beam ends; `z` is silence, `-` a note that continues."""
    signature = _signature(fifths)
    altered: dict[str, int] = {}
    quarter, beamed = tune.steps_per_quarter, _beamed(meter, tune.steps_per_quarter)
    beats: list[str] = []
    for begin, end in _beats(tune, bar):
        written = list(_events(tune.symbols, sounding, begin, end))
        is_triplet = any(not _is_binary(Fraction(start - begin, quarter)) for start, _, _ in written)
        text = f"(3:2:{len(written)}" if is_triplet else ""
        for start, stop, pitch in written:
            name = "z" if pitch is None else _spell(pitch, signature, altered, fifths)
            length = Fraction(2 * (stop - start), quarter) * (Fraction(3, 2) if is_triplet else 1)
            goes_on = pitch is not None and stop < tune.length and tune.symbols[stop] == 0
            if start > begin and (start - bar[0]) % beamed == 0 and not is_triplet:
                text += " "
            text += name + _length(length) + ("-" if goes_on else "")
        beats.append(text)
    return " ".join(beats)


def _beats(tune: Tune, bar: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The bar in pieces: a quarter with triplets is one of its own, what lies between is whole."""
    begin = bar[0]
    for start in range(bar[0], bar[1], tune.steps_per_quarter):
        end = min(start + tune.steps_per_quarter, bar[1])
        inside = range(start + 1, end)
        marks = [step for step in inside if tune.symbols[step]]
        if any(not _is_binary(Fraction(step - start, tune.steps_per_quarter)) for step in marks):
            if start > begin:
                yield begin, start
            yield start, end
            begin = end
    if begin < bar[1]:
        yield begin, bar[1]


def _is_binary(place: Fraction) -> bool:
    return place.denominator & (place.denominator - 1) == 0


def _sounding(tune: Tune) -> list[int | None]:
    """The pitch that sounds at each step; None for silence."""
    pitches: list[int | None] = [None] * tune.length
    for note in tune.notes:
        pitches[note.start : note.end] = [note.pitch] * note.length
    return pitches


def _events(symbols: Sequence[int], sounding: Sequence[int | None], begin: int, end: int) -> Iterator[_Event]:
    """What fills these steps: notes and rests, cut at their bounds."""
    starts = [begin, *(step for step in range(begin + 1, end) if symbols[step])]
    for start, stop in zip(starts, [*starts[1:], end], strict=True):
        yield _Event(start, stop, sounding[start])


def _spell(pitch: int, signature: dict[str, int], altered: dict[str, int], fifths: int) -> str:
    """A note's name, with a sign if it is neither in the key nor altered so in this bar; keeps `altered`.

    An alteration counts for the letter in every octave, as abcnotes has it; to be safe with programs that see it
    otherwise, a letter that was altered is always signed.
    """
    pitch_class = pitch % 12
    letter = next((name for name, value in signature.items() if value == pitch_class), None)
    if letter is None:
        order = (0, 1, -1) if fifths >= 0 else (0, -1, 1)
        letter = next(n for alter in order for n, value in _LETTERS.items() if (value + alter) % 12 == pitch_class)
    alter = (pitch_class - _LETTERS[letter] + 6) % 12 - 6
    sign = ""
    if letter in altered or signature[letter] != pitch_class:
        sign = _SIGNS[alter]
        altered[letter] = alter
    octave = (pitch - alter - _LETTERS[letter]) // 12 - 5
    if octave >= 1:
        return sign + letter.lower() + "'" * (octave - 1)
    return sign + letter + "," * -octave


def _length(length: Fraction) -> str:
    if length == 1:
        return ""
    if length.denominator == 1:
        return str(length)
    return f"{'' if length.numerator == 1 else length.numerator}/{length.denominator}"
