"""The voices of a MusicXML score (.musicxml, .xml, or zipped .mxl), repeats written out. Standard library only.

A score may come from a stranger: entities are refused, nothing outside the file is fetched, and what a zip unpacks to,
how deep elements lie and how many there are is bounded.
"""

import io
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from xml.parsers import expat

from fairseq_seqvae.melody.bars import Bars, Measure, lay_out
from fairseq_seqvae.melody.tokens import MAX_STEPS
from fairseq_seqvae.melody.tunes import MusicError, Sound, Voice

MAX_XML = 8 * 2**20  # bytes
_MAX_CONTAINER = 2**16
_MAX_ELEMENTS = 600_000
_MAX_DEPTH = 50
_MAX_PLAYED = 10_000  # measures, repeats written out
_MAX_SOUNDS = 4 * MAX_STEPS  # the same
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_TONICS = ["Cb", "Gb", "Db", "Ab", "Eb", "Bb", "F", "C", "G", "D", "A", "E", "B", "F#", "C#", "G#", "D#", "A#"]
# Mode: how many fifths its tonic lies above that of the major key with the same signature; its name in ABC.
_MODES = {
    "major": (0, ""),
    "ionian": (0, ""),
    "minor": (3, "m"),
    "aeolian": (3, "m"),
    "mixolydian": (1, "mix"),
    "dorian": (2, "dor"),
    "phrygian": (4, "phr"),
    "lydian": (-1, "lyd"),
    "locrian": (5, "loc"),
}


def read_voices(content: bytes, source: object) -> tuple[str, list[Voice]]:
    """The title and the voices of a score: those of each part, repeats written out.

    Args:
        content: the file, zipped or not.
        source: its name, for messages.

    Raises `MusicError` for a file that is not MusicXML, is too large, or declares entities.
    """
    if content[:2] == b"PK":
        content = _unzip(content, source)
    score = parse_xml(content, source)
    if score.tag != "score-partwise":
        raise MusicError(source, "not MusicXML by parts", f": its outer element is <{score.tag[:40]}>")
    title = (score.findtext("work/work-title") or score.findtext("movement-title") or "").strip()
    names = {part.get("id", ""): part.findtext("part-name") or "" for part in score.iter("score-part")}
    voices: list[Voice] = []
    try:
        for number, part in enumerate(score.findall("part"), start=1):
            number_or_id = part.get("id") or str(number)
            voices += _Part(source, number_or_id, names.get(number_or_id, "").strip()).read(part)
    except (ValueError, ArithmeticError) as error:
        if isinstance(error, MusicError):
            raise
        raise MusicError(source, "broken MusicXML", f" ({error})") from None
    return title, voices


def parse_xml(content: bytes, source: object) -> ElementTree.Element:
    """The outer element of an XML text from a stranger; `MusicError` for what is broken, too large or has entities."""
    if len(content) > MAX_XML:
        raise MusicError(source, f"more than {MAX_XML // 2**20} MiB of XML")
    builder = ElementTree.TreeBuilder()
    seen = depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal seen, depth
        seen, depth = seen + 1, depth + 1
        if seen > _MAX_ELEMENTS or depth > _MAX_DEPTH:
            raise MusicError(source, "more elements, or deeper ones, than a score needs")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def entity(*_: object) -> None:
        raise MusicError(source, "XML that declares entities")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = parser.UnparsedEntityDeclHandler = entity
    try:
        parser.Parse(content, True)
        return builder.close()
    except MusicError:
        raise
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise MusicError(source, "broken XML", f" ({error or type(error).__name__})") from None


def _unzip(content: bytes, source: object) -> bytes:
    """The score inside a .mxl file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            container = parse_xml(_member(archive, "META-INF/container.xml", _MAX_CONTAINER, source), source)
            root = next((found for found in container.iter("rootfile")), None)
            name = root.get("full-path", "") if root is not None else ""
            return _member(archive, name, MAX_XML, source)
    except MusicError:
        raise
    # What zipfile raises for a file that is damaged, encrypted or packed in a way it does not know.
    except (zipfile.BadZipFile, zlib.error, EOFError, LookupError, RuntimeError, OSError, ValueError) as error:
        raise MusicError(source, "a broken .mxl file", f" ({error or type(error).__name__})") from None


def _member(archive: zipfile.ZipFile, name: str, most: int, source: object) -> bytes:
    # The size that the archive states is not to be trusted.
    with archive.open(name) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise MusicError(source, f"a .mxl file that unpacks to more than {most} bytes")
    return content


@dataclass
class _MeasureRead:
    """One measure as written: notes by voice with their ties, and the signs at its bar lines."""

    measure: Measure
    notes: dict[str, list[tuple[Sound, bool, bool]]] = field(default_factory=dict)  # sound, tied to, tied from
    is_repeat_start: bool = False
    repeat_times: int = 0  # at its end; 0 for none
    endings: set[int] | None = None  # numbers of the ending that begins here
    is_ending_end: bool = False


class _Part:
    """Reads one part from its first measure to its last."""

    def __init__(self, source: object, identity: str, name: str) -> None:
        self.source, self.identity, self.name = source, identity, name
        self.divisions, self.transpose, self.meter = Fraction(1), 0, (4, 4)
        self.tempo: float | None = None
        self.key = ""
        self.unread: Counter[str] = Counter()

    def read(self, part: ElementTree.Element) -> list[Voice]:
        measures = part.findall("measure")
        if len(measures) > _MAX_PLAYED:
            raise MusicError(self.source, f"more than {_MAX_PLAYED} measures")
        written = [self._read_measure(measure) for measure in measures]
        order = _playing_order(self.source, written)
        played = [index for index in order if written[index].measure.length]
        if not played:
            return []
        sizes = [sum(map(len, measure.notes.values())) for measure in written]
        if sum(sizes[index] for index in played) > _MAX_SOUNDS:
            raise MusicError(self.source, f"more than {_MAX_SOUNDS} notes with its repeats")
        bars = lay_out([written[index].measure for index in played])
        if bars.length > MAX_STEPS:
            raise MusicError(self.source, f"longer than {MAX_STEPS} steps")
        ids = list(dict.fromkeys(voice for index in played for voice in written[index].notes))
        remarks = [f"not read: {count} {what}" for what, count in self.unread.items() if count]
        if bars.irregular:
            remarks.append(f"bars that do not add up: {bars.irregular}; the counting begins again there")
        return [self._voice(identity, len(ids) > 1, written, played, bars, remarks) for identity in ids]

    def _voice(self, identity: str, is_one_of_several: bool, written: list, played: list, bars: Bars, remarks: list):
        sounds: list[Sound] = []
        last: dict[int, int] = {}  # pitch -> place of its last sound, if that is tied on
        for index, start in zip(played, bars.starts, strict=True):
            for sound, is_tied_to, is_tied_from in written[index].notes.get(identity, ()):
                moved = Sound(start + sound.start, start + sound.end, sound.pitch)
                place = last.pop(sound.pitch, None)
                if is_tied_to and place is not None and sounds[place].end == moved.start:
                    sounds[place] = sounds[place]._replace(end=moved.end)
                else:
                    place = len(sounds)
                    sounds.append(moved)
                if is_tied_from:
                    last[sound.pitch] = place
        return Voice(
            id=f"{self.identity}.{identity}" if is_one_of_several else self.identity,
            name=f"{self.name}, voice {identity}".lstrip(", ") if is_one_of_several else self.name,
            sounds=sounds,
            meters=list(bars.meters),
            length=bars.length,
            tempo=self.tempo,
            key=self.key,
            remarks=list(remarks),
        )

    def _read_measure(self, measure: ElementTree.Element) -> _MeasureRead:
        now = latest = last_start = Fraction(0)
        read = _MeasureRead(Measure(Fraction(0), self.meter))
        for element in measure:
            if element.tag == "attributes":
                self._read_attributes(element)
            elif element.tag in ("backup", "forward"):
                step = self._duration(element)
                now = max(now - step, Fraction(0)) if element.tag == "backup" else now + step
            elif element.tag == "note":
                if element.find("grace") is not None or element.find("cue") is not None:
                    self.unread["grace notes and cue notes"] += 1
                    continue
                is_chord = element.find("chord") is not None
                start = last_start if is_chord else now
                end = start + self._duration(element)
                self._read_note(element, read, start, end)
                last_start, now = start, max(now, end) if is_chord else end
            elif element.tag == "barline":
                _read_barline(element, read)
            else:
                self._read_direction(element)
            latest = max(latest, now)
        read.measure = Measure(latest, self.meter)
        return read

    def _duration(self, element: ElementTree.Element) -> Fraction:
        duration = Fraction(_number(element.findtext("duration"), "duration")) / self.divisions
        if not 0 <= duration <= MAX_STEPS:
            raise ValueError(f"a duration of {float(duration):g} quarter notes")
        return duration

    def _read_note(self, element: ElementTree.Element, read: _MeasureRead, start: Fraction, end: Fraction) -> None:
        pitch = element.find("pitch")
        if pitch is None:
            self.unread["notes without a pitch"] += element.find("unpitched") is not None
            return
        name = (pitch.findtext("step") or "").strip()
        if name not in _STEPS:
            raise ValueError(f"a note with the step {name!r}")
        alter = _number(pitch.findtext("alter") or "0", "alter")
        octave = int(_number(pitch.findtext("octave"), "octave"))
        number = 12 * (octave + 1) + _STEPS[name] + round(alter) + self.transpose
        self.unread["quarter tones, moved to the next semitone"] += alter != round(alter)
        ties = {tie.get("type") for tie in element.findall("tie")}
        voice = (element.findtext("voice") or "1").strip()
        read.notes.setdefault(voice, []).append((Sound(start, end, number), "stop" in ties, "start" in ties))

    def _read_attributes(self, element: ElementTree.Element) -> None:
        if (divisions := element.findtext("divisions")) is not None:
            self.divisions = Fraction(_number(divisions, "divisions"))
            if self.divisions <= 0:
                raise ValueError(f"divisions of {divisions.strip()}")
        if (key := element.find("key")) is not None and not self.key:
            self.key = _key(key)
        if (time := element.find("time")) is not None and time.find("beats") is not None:
            beats = sum(int(_number(part, "beats")) for part in (time.findtext("beats") or "").split("+"))
            unit = int(_number(time.findtext("beat-type"), "beat-type"))
            if not (1 <= beats <= 99 and unit in (1, 2, 4, 8, 16, 32, 64)):
                raise ValueError(f"a meter of {beats}/{unit}")
            self.meter = (beats, unit)
        if (transpose := element.find("transpose")) is not None:
            octaves = _number(transpose.findtext("octave-change") or "0", "octave-change")
            self.transpose = round(_number(transpose.findtext("chromatic") or "0", "chromatic") + 12 * octaves)

    def _read_direction(self, element: ElementTree.Element) -> None:
        """The first tempo; jumps and chord symbols are only counted."""
        if element.tag == "harmony":
            self.unread["chord symbols"] += 1
        for sound in element.iter("sound"):
            if (tempo := sound.get("tempo")) and self.tempo is None and 4 <= _number(tempo, "tempo") <= 1000:
                self.tempo = float(_number(tempo, "tempo"))
            if set(sound.attrib) & {"dacapo", "dalsegno", "tocoda", "fine"}:
                self.unread["jumps (da capo, dal segno, coda, fine)"] += 1


def _number(text: str | None, what: str) -> Fraction:
    text = (text or "").strip()
    try:
        if len(text) > 20 or "e" in text.lower() or "/" in text:
            raise ValueError
        return Fraction(text)
    except ValueError:
        raise ValueError(f"{text[:20]!r} as {what}") from None


def _key(element: ElementTree.Element) -> str:
    """A key as ABC has it; empty for one without fifths or of an unknown mode."""
    fifths = element.findtext("fifths")
    mode = _MODES.get((element.findtext("mode") or "major").strip().lower())
    if fifths is None or mode is None or not -7 <= _number(fifths, "fifths") <= 7:
        return ""
    place = 7 + int(_number(fifths, "fifths")) + mode[0]
    return _TONICS[place] + mode[1] if 0 <= place < len(_TONICS) else ""


def _read_barline(element: ElementTree.Element, read: _MeasureRead) -> None:
    repeat, ending = element.find("repeat"), element.find("ending")
    if repeat is not None:
        if repeat.get("direction") == "forward":
            read.is_repeat_start = True
        else:
            times = repeat.get("times", "2")
            read.repeat_times = int(times) if times.isdecimal() and 1 <= len(times) <= 2 else 2
    if ending is not None:
        if ending.get("type") == "start":
            numbers = ending.get("number", "").replace(",", " ").split()
            read.endings = {int(number) for number in numbers if number.isdecimal() and len(number) < 3}
        else:
            read.is_ending_end = True


def _playing_order(source: object, measures: list[_MeasureRead]) -> list[int]:
    """The places of the measures in the order they are played in: repeats and endings, but no jumps."""
    order: list[int] = []
    index = start = 0
    turn = 1
    ending: set[int] = set()  # the numbers of the one that is being played
    while index < len(measures):
        measure = measures[index]
        if measure.is_repeat_start and index != start:
            start, turn = index, 1
        if measure.endings and turn not in measure.endings and (after := _after_ending(measures, index)) is not None:
            index = after
            continue
        ending = measure.endings or ending
        order.append(index)
        if len(order) > _MAX_PLAYED:
            raise MusicError(source, f"more than {_MAX_PLAYED} measures with its repeats")
        if measure.repeat_times and turn < max(measure.repeat_times, _last_turn(measures, index), *ending, 0):
            index, turn, ending = start, turn + 1, set()
            continue
        # The last turn ends with the repeat sign, or with the last ending if that has none.
        if measure.repeat_times or (measure.is_ending_end and turn > 1):
            start, turn = index + 1, 1
        if measure.is_ending_end:
            ending = set()
        index += 1
    return order


def _after_ending(measures: list[_MeasureRead], index: int) -> int | None:
    """The measure after the ending that begins at `index`; None if it has no end."""
    for later in range(index, len(measures)):
        if measures[later].is_ending_end:
            return later + 1
    return None


def _last_turn(measures: list[_MeasureRead], index: int) -> int:
    """The highest number of the endings that follow one another up to and after the repeat at `index`."""
    last = 0
    for measure in measures[index + 1 :]:
        if not measure.endings:
            break
        last = max(last, *measure.endings)
        if not measure.is_ending_end:
            break
    return last
