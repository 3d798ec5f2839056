"""Files that users give and take: MIDI, ABC, MusicXML in; MIDI, ABC, WAV and ZIP out."""

import io
import re
import threading
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from fairseq_seqvae.melody import music
from fairseq_seqvae.melody.studio import wire
from fairseq_seqvae.melody.tokens import encode_notes
from fairseq_seqvae.melody.tunes import Tune, VoicesError, join

MOST_TUNES = 256  # in a file to take
LONGEST_TUNE = 4096  # steps
_MOST_READ = 100  # tunes of a book that is given
_MOST_SECONDS = 600  # of sound
_RATE = 32000  # samples per second
_one_sound = threading.Lock()
_TEMPO = (20, 400)  # quarter notes per minute
_GRIDS = (4, 8)  # steps per quarter note; 8 for 2/4, which the models know in doubled values

WRITERS: dict[str, tuple[str, Callable[[Sequence[Tune], float], bytes]]] = {
    "mid": ("audio/midi", lambda tunes, tempo: music.write_midi(tunes, tempo)),
    "abc": ("text/vnd.abc; charset=utf-8", lambda tunes, tempo: music.write_abc(tunes)),
    "wav": ("audio/wav", lambda tunes, tempo: _sound(tunes, tempo)),
    "zip": ("application/zip", lambda tunes, tempo: _zipped(tunes, tempo)),
}


def read_upload(content: bytes, name: str, voice: str | None = None, grid: str = "4") -> dict[str, Any]:
    """The tunes of a file, or, if it has several voices and none is chosen, the voices.

    Each tune has `notes` and `starts`, the steps at which its bars begin; *grid* is the steps per quarter note, 4 or 8.

    Raises:
        ValueError: the file cannot be used; the sentence names it
    """
    name = wire.text(name, "name") or "file"
    steps = _grid(int(grid) if grid.isdecimal() and len(grid) < 4 else grid)
    try:
        tunes = music.read(content, voice=voice, name=name, steps_per_quarter=steps)
    except VoicesError as error:
        voices = [
            {"id": voice.id, "name": voice.name, "notes": len(voice.sounds), "chords": voice.is_chordal}
            for voice in error.voices[:_MOST_READ]
        ]
        return {"voices": voices, "likely": error.likely.id if error.likely else None}
    return {"tunes": [_described(tune) for tune in tunes[:_MOST_READ]]}


def _described(tune: Tune) -> dict[str, Any]:
    return {
        "name": tune.name,
        "meter": f"{tune.meter[0]}/{tune.meter[1]}",
        "steps_per_bar": tune.steps_per_bar,
        "steps_per_quarter": tune.steps_per_quarter,
        "tempo": tune.tempo,
        "key": tune.key,
        "voice": tune.voice,
        "steps": tune.length,
        "starts": bar_starts(tune),
        "notes": wire.as_lists(tune.notes),
        "remarks": tune.remarks,
    }


def bar_starts(tune: Tune) -> list[int]:
    """The steps at which bars of the tune's meter begin, as far as bar lines fall on the grid."""
    starts: list[int] = []
    ends = [start for start, _, _ in tune.meters[1:]] + [tune.length]
    for (start, beats, unit), end in zip(tune.meters, ends, strict=True):
        width = 4 * tune.steps_per_quarter * beats / unit
        if start.denominator == 1 and width == tune.steps_per_bar:
            starts += range(int(start), min(int(end), tune.length), tune.steps_per_bar)
    return starts


def write_download(body: Any) -> tuple[bytes, str, str]:
    """The bytes, the type and the name of a file of tunes.

    Args:
        body: `format` (mid, abc, wav or zip), `tunes` (each with `notes`, `steps` and perhaps `name`), `tempo`,
            `meter`, `steps_per_quarter` (4 or 8), `name`

    Raises:
        ValueError: a field is wrong
    """
    fields = wire.known_fields(body, "format", "tunes", "tempo", "meter", "steps_per_quarter", "name")
    kind = fields.get("format")
    if not isinstance(kind, str) or kind not in WRITERS:
        raise ValueError(f"`format` must be one of {', '.join(WRITERS)} but is {str(kind)[:40]!r}")
    tempo = wire.number(fields.get("tempo", 120), "tempo", *_TEMPO)
    meter, grid = _meter(fields.get("meter", "4/4")), _grid(fields.get("steps_per_quarter", 4))
    items = wire.listed(fields.get("tunes"), "tunes", 1, MOST_TUNES)
    tunes = [replace(_tune(item, n, meter, tempo), steps_per_quarter=grid) for n, item in enumerate(items, start=1)]
    if kind == "abc" and len(tunes) > 1:  # one tune, as in the other files; the ZIP has a book
        tunes = [join(tunes, wire.text(fields.get("name", "melody"), "name"))]
    seconds = sum(tune.length for tune in tunes) * 60 / (grid * tempo)
    if kind == "wav" and seconds > _MOST_SECONDS:
        raise ValueError(f"the sound would last {seconds:.0f} s, more than {_MOST_SECONDS} s: choose fewer tunes")
    content_type, write = WRITERS[kind]
    return write(tunes, tempo), content_type, f"{_plain(fields.get('name', 'melody'))}.{kind}"


def _tune(item: Any, number: int, meter: tuple[int, int], tempo: float) -> Tune:
    fields = wire.known_fields(item, "notes", "steps", "name")
    steps = wire.whole_number(fields.get("steps"), "steps", 1, LONGEST_TUNE)
    notes = wire.notes(fields.get("notes"), steps)
    name = wire.text(fields.get("name", f"Melody {number}"), "name")
    return Tune(name, encode_notes(notes, steps).tolist(), meter, tempo=tempo)


def _meter(value: Any) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]?)/(1|2|4|8|16)", value) if isinstance(value, str) else None
    if not found:
        raise ValueError(f"`meter` must be a text such as 4/4 or 6/8 but is {str(value)[:40]!r}")
    return int(found[1]), int(found[2])


def _grid(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in _GRIDS:
        raise ValueError(f"`steps_per_quarter` must be 4 or 8 but is {str(value)[:40]!r}")
    return value


def _plain(name: Any) -> str:
    """A name of a file that every system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", wire.text(name, "name")).strip("-").lower()[:60] or "melody"


def _sound(tunes: Sequence[Tune], tempo: float) -> bytes:
    """A WAV file; one is made at a time, since minutes of sound take much memory."""
    with _one_sound:
        return music.write_wav(tunes, tempo, _RATE)


def _zipped(tunes: Sequence[Tune], tempo: float) -> bytes:
    """A MIDI file for each tune, one with all of them, and an ABC book."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, tune in enumerate(tunes, start=1):
            archive.writestr(f"{number:03d}-{_plain(tune.name)}.mid", music.write_midi(tune, tempo))
        archive.writestr("all.mid", music.write_midi(tunes, tempo))
        archive.writestr("all.abc", music.write_abc(tunes))
    return buffer.getvalue()
