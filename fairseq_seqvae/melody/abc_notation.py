"""Tunes in ABC notation, read with abcnotes (the extra `melody`), their repeats written out."""

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from fairseq_seqvae.melody.bars import Measure, lay_out
from fairseq_seqvae.melody.tokens import MAX_STEPS
from fairseq_seqvae.melody.tunes import MusicError, Sound, Voice

# A few characters can ask for very much: |1-99999999 as the numbers of an ending, P:(A999)999 as the order of parts.
# What no tune needs is refused before it is read.
MAX_LINE = 2000  # characters
MAX_TUNE = 50_000  # characters
_MAX_BARS = 1000
_MAX_PLAYED = 10_000  # bars, repeats written out
_MAX_PARTS = 200
_TOO_MUCH = {
    r"[0-9]{5}": "a number of more than 4 digits",
    r"[:|\[][:|\[\]]*(?:[0-9]+[,-])*(?:[3-9][0-9]|[0-9]{3})": "an ending with a number above 29",
    r":{7}": "more than 6 colons in a row",
    r"[/]{7}|[<>]{7}": "more than 6 signs of one kind in a row",
    r"[,']{12}": "more than 11 octave marks in a row",
}
_MIDDLE_C = 60
_MODES = {"minor": "m", "aeolian": "m", "major": "", "ionian": ""}


def _require_abcnotes() -> Any:
    try:
        import abcnotes
    except ImportError as error:
        raise ImportError("ABC files need abcnotes: pip install abcnotes") from error
    return abcnotes


def split_tunes(text: str) -> list[str]:
    """The text of each tune of a file, fields of the file's head included. A file without `X:` is one tune."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    if not re.search(r"^X:", text, re.MULTILINE):
        return [f"X:1\n{text}"] if re.search(r"^K:", text, re.MULTILINE) else []
    return _require_abcnotes().split_tunes(text)


def title_of(text: str) -> str:
    """The first title of a tune's text, or its number."""
    text = text[max(text.find("X:"), 0) :]  # what stands before is the head of the file
    for field in ("T", "X"):
        if match := re.search(rf"^{field}:[ \t]*(\S.*)$", text, re.MULTILINE):
            return match[1].split("%")[0].strip()
    return ""


def read_voices(text: str, source: object) -> list[Voice]:
    """The voices of one tune, each with its repeats written out.

    Args:
        text: of one tune, as `split_tunes` has it.
        source: its name, for messages.

    Raises `MusicError` for a tune that cannot be read. Grace notes, ornaments and chord symbols are counted in the
    remarks, as is whatever else is not read; of a repeat that is ambiguous the likeliest reading is taken.
    """
    abcnotes = _require_abcnotes()
    if len(text) > MAX_TUNE:
        raise MusicError(source, f"a tune of more than {MAX_TUNE} characters")
    head, body, unread = _head_and_body(text)
    _refuse_too_much(source, [*head, *body])
    voices = []
    parts = _split_voices(head, body)
    for number, (name, lines) in parts.items():
        plain = [line for line in head if not line.startswith("V:")]
        voice = _read_voice(abcnotes, "\n".join([*plain, *lines]), source)
        if voice is None:
            continue
        voice.id, voice.name = number, name
        if unread:
            voice.remarks.append(f"{unread} lines after an empty line are not read")
        voices.append(voice)
    return voices


def _head_and_body(text: str) -> tuple[list[str], list[str], int]:
    """The lines up to K:, those of the music, and how many others follow after an empty line."""
    lines = [line.strip() for line in text.split("\n")]
    first = next((number for number, line in enumerate(lines) if line.startswith("K:")), len(lines) - 1)
    head = [line for line in lines[: first + 1] if line]
    body = lines[first + 1 :]
    while body and not body[0]:
        body.pop(0)
    end = next((number for number, line in enumerate(body) if not line), len(body))
    unread = sum(bool(line) and not line.startswith("%") for line in body[end:])
    return head, body[:end], unread


def _refuse_too_much(source: object, lines: Iterable[str]) -> None:
    for line in lines:
        if len(line) > MAX_LINE:
            raise MusicError(source, f"a line of more than {MAX_LINE} characters")
        if line.startswith("P:") or "[P:" in line:
            _refuse_many_parts(source, line)
        if line[1:2] == ":" and line[:1].isalpha() and line[0] not in "KLMPQV":
            continue  # words
        music = re.sub(r'"[^"]*"|^[A-Z]:|\[[A-Za-z]:[^\]]*\]', "", line)
        for pattern, what in _TOO_MUCH.items():
            if re.search(pattern, music):
                raise MusicError(source, what)


def _refuse_many_parts(source: object, line: str) -> None:
    times = 1
    for number in re.findall(r"[0-9]+", line):
        times *= max(int(number[:6]), 1)
    if times * len(line) > _MAX_PARTS:
        raise MusicError(source, "an order of parts that is too long")


def _split_voices(head: list[str], body: list[str]) -> dict[str, tuple[str, list[str]]]:
    """The name and the lines of each voice, by its id. Music before the first `V:` belongs to the first voice."""
    names: dict[str, str] = {}
    lines: dict[str, list[str]] = {}
    for line in [*head, *body]:
        for field in [line] if line.startswith("V:") else re.findall(r"\[(V:[^\]]*)\]", line):
            if match := re.match(r"V:\s*(\S+)(.*)", field):
                label = re.search(r"\b(?:name|nm)\s*=\s*(?:\"([^\"]*)\"|(\S+))", match[2])
                names[match[1]] = names.get(match[1]) or (label and (label[1] or label[2]) or "").strip()
    if len(names) < 2:
        only = next(iter(names), "1")
        music = [re.sub(r"\[V:[^\]]*\]", "", line) for line in body if not line.startswith("V:")]
        return {only: (names.get(only, ""), music)}
    current = next(iter(names))
    for line in body:
        if match := re.match(r"V:\s*(\S+)", line):
            current = match[1]
            continue
        pieces = re.split(r"\[V:\s*([^\]\s]+)[^\]]*\]", line)
        lines.setdefault(current, []).append(pieces[0])
        for number, piece in zip(pieces[1::2], pieces[2::2], strict=True):
            current = number
            lines.setdefault(current, []).append(piece)
    return {number: (names.get(number, ""), music) for number, music in lines.items()}


def _read_voice(abcnotes: Any, text: str, source: object) -> Voice | None:
    """The voice of a text that has one; None if it has no bars."""
    try:
        tune = abcnotes.Tune(abc=text, strict=False)
        if len(tune.bars) > _MAX_BARS:
            raise MusicError(source, f"more than {_MAX_BARS} bars")
        repeats = ""
        try:
            bars = tune.expand_repeats()
        except abcnotes.RepeatError as error:
            repeats = str(error)
            bars = tune.expand_repeats(strict=False)
        if len(bars) > _MAX_PLAYED:
            raise MusicError(source, f"more than {_MAX_PLAYED} bars with its repeats")
        return _Reader(abcnotes, tune, source).read(bars, repeats)
    except MusicError:
        raise
    # Of a text that is not ABC, abcnotes raises what it happens to run into.
    except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError, AssertionError) as error:
        raise MusicError(source, "broken ABC", f" ({error or type(error).__name__})") from None
    except RecursionError:
        raise MusicError(source, "broken ABC", " (brackets within brackets)") from None


class _Reader:
    """Walks through the bars of one tune in the order they are played in."""

    def __init__(self, abcnotes: Any, tune: Any, source: object) -> None:
        self.abcnotes, self.tune, self.source = abcnotes, tune, source
        self.unread: Counter[str] = Counter()
        self._note, self._rest = abcnotes.Note, abcnotes.Rest
        self.meter: tuple[int, int] | None = None
        self.is_free = False

    def read(self, bars: list, repeats: str) -> Voice | None:
        measures: list[Measure] = []
        sounds_of: list[list[tuple[Sound, bool]]] = []
        for bar in bars:
            sounds, length = self._read_bar(bar)
            if length:
                measures.append(Measure(length, self.meter or (4, 4)))
                sounds_of.append(sounds)
        if not measures:
            return None
        if sum(measure.length for measure in measures) > MAX_STEPS:
            raise MusicError(self.source, f"longer than {MAX_STEPS} steps")
        laid = lay_out(measures)
        joined = _join_ties(
            (Sound(start + sound.start, start + sound.end, sound.pitch), is_tied)
            for start, heard in zip(laid.starts, sounds_of, strict=True)
            for sound, is_tied in heard
        )
        first = next(token for token in self.tune.tokens if isinstance(token, (self._note, self._rest)))
        key = self.abcnotes.Key(self.tune.header.get("key", ""))
        return Voice(
            id="",
            name="",
            sounds=joined,
            meters=laid.meters,
            length=laid.length,
            tempo=_tempo(first.time_sig),
            key=key.root.name + _MODES.get(key.mode, key.mode[:3]),
            remarks=self._remarks(laid.irregular, repeats),
        )

    def _read_bar(self, bar: list) -> tuple[list[tuple[Sound, bool]], Fraction]:
        """The notes, each with whether it is tied to the next, and the length, in quarter notes."""
        now = Fraction(0)
        sounds: list[tuple[Sound, bool]] = []
        chord_end: Fraction | None = None
        in_chord = is_overlay = False
        for token in bar:
            if isinstance(token, self.abcnotes.ChordBracket):
                if chord_end is not None:
                    now, chord_end = chord_end, None
                in_chord = token._text == "["
            elif isinstance(token, self.abcnotes.VoiceOverlay):
                is_overlay = True
            elif isinstance(token, (self._note, self._rest)):
                is_note = isinstance(token, self._note)
                if is_overlay or (is_note and token.grace):
                    self.unread["notes of an overlaid voice" if is_overlay else "grace notes"] += is_note
                    continue
                end = now + self._length(token)
                if is_note:
                    sounds.append((Sound(now, end, _MIDDLE_C + token.pitch.abs_value), token.tie))
                if not in_chord:
                    now = end
                elif chord_end is None:
                    chord_end = end
            else:
                self._count(token)
        return sounds, chord_end if chord_end is not None else now

    def _length(self, token: Any) -> Fraction:
        """The length of a note or rest in quarter notes; notes the meter in force."""
        meter = token.time_sig._meter
        self.meter, self.is_free = meter or self.meter, self.is_free or meter is None
        if isinstance(token, self._rest) and token.symbol in "XZ" and meter is not None:
            return Fraction(*token.length) * Fraction(4 * meter[0], meter[1])
        return 4 * Fraction(*token.length) * Fraction(token.time_sig.unit_len).limit_denominator(1024)

    def _count(self, token: Any) -> None:
        for kind, what in (
            ("ChordSymbol", "chord symbols"),
            ("Decoration", "ornaments and other marks"),
            ("Unknown", "characters that are not ABC"),
        ):
            if isinstance(token, getattr(self.abcnotes, kind)):
                self.unread[what] += 1

    def _remarks(self, irregular: int, repeats: str) -> list[str]:
        remarks = [f"not read: {count} {what}" for what, count in self.unread.items() if count]
        if repeats:
            remarks.append(f"repeats in the likeliest order ({repeats})")
        if irregular:
            remarks.append(f"bars that do not add up: {irregular}; the counting begins again there")
        if self.is_free:
            remarks.append("no meter is given: 4/4 is taken" if self.meter is None else "a part has no meter")
        fields = " ".join(f"{name}:{value}" for name, value in self.tune.fields)
        if re.search(r"\b(transpose|octave)=|(treble|bass|alto|tenor)[-+^_]8", fields):
            remarks.append("octave and transposition of the clef are not applied")
        return remarks


def _join_ties(sounds: Iterable[tuple[Sound, bool]]) -> list[Sound]:
    """Notes with those tied to them as one."""
    joined: list[Sound] = []
    tied: dict[int, int] = {}  # pitch -> place in `joined`
    for sound, is_tied in sounds:
        place = tied.pop(sound.pitch, None)
        if place is not None and joined[place].end == sound.start:
            joined[place] = joined[place]._replace(end=sound.end)
        else:
            place = len(joined)
            joined.append(sound)
        if is_tied:
            tied[sound.pitch] = place
    return joined


def _tempo(time_sig: Any) -> float | None:
    """Quarter notes per minute. `Q:120` without a beat counts quarter notes, as most programs have it."""
    beat, number, _ = time_sig._tempo or (None, None, "")
    if not number:
        return None
    tempo = 4.0 * number * beat[0] / beat[1] if beat else float(number)
    return tempo if 4 <= tempo <= 1000 else None
