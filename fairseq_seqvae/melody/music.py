"""Reading and writing tunes: MIDI, ABC and MusicXML in; MIDI, ABC and WAV out.

A file is read by `read`, which says in `Tune.remarks` what of it was not used, or by `read_all`, which also returns
what kept the other tunes of a collection from being read. The writers return the bytes of a file. MIDI needs mido and
ABC needs abcnotes (both are in the extra `melody`); MusicXML and WAV need neither.
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from fairseq_seqvae.melody import abc_notation, abc_writing, midi, musicxml, sound
from fairseq_seqvae.melody.tunes import MusicError, Tune, Voice, VoicesError, choose, make_tune

__all__ = [
    "KINDS",
    "MAX_BYTES",
    "MusicError",
    "Tune",
    "Voice",
    "VoicesError",
    "kind_of",
    "read",
    "read_all",
    "write_abc",
    "write_midi",
    "write_wav",
]

KINDS = {
    "midi": (".mid", ".midi"),
    "abc": (".abc",),
    "musicxml": (".musicxml", ".xml", ".mxl"),
}
MAX_BYTES = 4 * 2**20


def kind_of(name: str | PathLike) -> str | None:
    """The key of `KINDS` that a file's name ends like; None if none does."""
    suffix = Path(name).suffix.lower()
    return next((kind for kind, suffixes in KINDS.items() if suffix in suffixes), None)


def read(
    source: str | PathLike | bytes,
    kind: str | None = None,
    *,
    voice: str | int | None = None,
    steps_per_quarter: int = 4,
    name: str | None = None,
    limit: int | None = None,
) -> list[Tune]:
    """The tunes of a file, at least one, each on a grid and with remarks on what was left out or changed.

    Args:
        source: path of a file, or its bytes.
        kind: a key of `KINDS`; None to tell it from the suffix of the path or of `name`, or else from the content.
        voice: which one to take, by its id (for MIDI the number of the track, from 0) or a part of its name.
        steps_per_quarter: grid.
        name: of the file, for messages and for tunes without a title; by default that of the path.
        limit: only the first so many tunes of a collection.

    Raises `VoicesError`, whose `voices` are those to choose from, if there are several and `voice` does not say which;
    `MusicError` (a `ValueError`) for a file without a usable tune; `ImportError` if a library is missing; `OSError` if
    the file cannot be read. Tunes of a collection that cannot be used are named in the remarks of the first that can.
    """
    tunes, failures = read_all(source, kind, voice=voice, steps_per_quarter=steps_per_quarter, name=name, limit=limit)
    if not tunes:
        raise failures[0]
    tunes[0].remarks += [f"left out: {failure}" for failure in failures]
    return tunes


def read_all(
    source: str | PathLike | bytes,
    kind: str | None = None,
    *,
    voice: str | int | None = None,
    steps_per_quarter: int = 4,
    name: str | None = None,
    limit: int | None = None,
    take_likely: bool = False,
) -> tuple[list[Tune], list[MusicError]]:
    """As `read`, but returns the tunes, of which there may be none, and an error for each tune that cannot be used.

    With `take_likely`, the likely voice of several is taken if there is one, see `VoicesError`.
    """
    label = str(name if name is not None else "the file" if isinstance(source, bytes) else source)
    if steps_per_quarter < 1:
        raise ValueError(f"`steps_per_quarter` must be at least 1 but is {steps_per_quarter}")
    content = source if isinstance(source, bytes) else _content(Path(source))
    if len(content) > MAX_BYTES:
        return [], [MusicError(label, f"more than {MAX_BYTES // 2**20} MiB")]
    kind = kind or kind_of(label) or _sniff(content)
    if kind not in KINDS:
        expected = ", ".join(suffix for suffixes in KINDS.values() for suffix in suffixes)
        return [], [MusicError(label, "neither MIDI, ABC nor MusicXML", f" (expected a file such as {expected})")]
    tunes: list[Tune] = []
    failures: list[MusicError] = []
    parts = _parts(content, kind, label)
    for title, part in parts[:limit]:
        try:
            voices, known_title = _voices(part, kind, title, steps_per_quarter)
            chosen = _choose(title, voices, voice, take_likely)
            tune = make_tune(title, known_title or Path(label).stem, chosen, steps_per_quarter)
            others = [other for other in voices if other is not chosen and other.sounds]
            tune.remarks += [f"not read: voice {other}" for other in others]
            tunes.append(tune)
        except MusicError as error:
            failures.append(error)
    if tunes and limit is not None and len(parts) > limit:
        tunes[0].remarks.append(f"{len(parts) - limit} more tunes of the file are not read")
    if not tunes and not failures:
        failures.append(MusicError(label, "no tunes"))
    return tunes, failures


def _choose(title: str, voices: list[Voice], voice: str | int | None, take_likely: bool) -> Voice:
    try:
        return choose(title, voices, voice)
    except VoicesError as error:
        if error.likely is None or not take_likely:
            raise
        return error.likely


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(MAX_BYTES + 1)


def _sniff(content: bytes) -> str | None:
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"MThd"):
        return "midi"
    if start.startswith((b"PK", b"<?xml", b"<!DOCTYPE", b"<score", b"\xff\xfe<", b"\xfe\xff\x00<")):
        return "musicxml"
    return "abc" if start.startswith((b"X:", b"%abc")) or b"\nK:" in content else None


def _parts(content: bytes, kind: str, label: str) -> list[tuple[str, bytes | str]]:
    """The name for messages and the content of each tune of the file."""
    if kind != "abc":
        return [(label, content)]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    texts = abc_notation.split_tunes(text)
    if len(texts) == 1:
        return [(label, texts[0])]
    return [(f"{label}, {abc_notation.title_of(part) or f'tune {n}'}", part) for n, part in enumerate(texts, start=1)]


def _voices(part: bytes | str, kind: str, label: str, steps_per_quarter: int) -> tuple[list[Voice], str]:
    """The voices of one tune, and its title if it has one."""
    if isinstance(part, str):
        return abc_notation.read_voices(part, label), abc_notation.title_of(part)
    if kind == "midi":
        return midi.read_voices(part, label, steps_per_quarter), ""
    title, voices = musicxml.read_voices(part, label)
    return voices, title


def write_midi(tunes: Tune | Sequence[Tune], tempo: float | None = None, program: int = 73) -> bytes:
    """A MIDI file with one tune, or several of one grid one after another.

    Args:
        tunes: one or more.
        tempo: quarter notes per minute, 4 to 1000; None for the tempo of each tune, 120 where it has none.
        program: instrument, 0 to 127: 0 piano, 40 violin, 73 flute.
    """
    return midi.midi_bytes(_several(tunes), tempo, program)


def write_abc(tunes: Tune | Sequence[Tune]) -> bytes:
    """An ABC file (UTF-8) with one tune, or several as a tune book."""
    return abc_writing.abc_text(_several(tunes)).encode("utf-8")


def write_wav(tunes: Tune | Sequence[Tune], tempo: float | None = None, rate: int = 22050) -> bytes:
    """A WAV file with one tune, or several one after another; at most `sound.MAX_SECONDS` long.

    Args:
        tunes: one or more.
        tempo: quarter notes per minute, 4 to 1000; None for the tempo of each tune, 120 where it has none.
        rate: samples per second, 8000 to 48000.
    """
    return sound.wav_bytes(_several(tunes), tempo, rate)


def _several(tunes: Tune | Sequence[Tune]) -> Sequence[Tune]:
    several = [tunes] if isinstance(tunes, Tune) else tunes
    if not several:
        raise ValueError("there are no tunes to write")
    return several
