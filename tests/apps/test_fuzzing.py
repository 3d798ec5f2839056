"""Whatever a file or a flag holds: a result that keeps its promises, or a ValueError; nothing else.

Some dozens of examples for each by default; `pytest tests/test_fuzzing.py --hypothesis-profile long` tries thousands.
"""

import argparse
import importlib.util
import io
import json
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_seqvae.melody import music
from fairseq_seqvae.melody.commands.shared import meter
from fairseq_seqvae.melody.midi import read_midi, write_midi
from fairseq_seqvae.melody.samples import read_samples
from fairseq_seqvae.melody.tokens import MAX_STEPS, SYMBOLS, decode_notes, encode_notes, format_line, parse_line
from fairseq_seqvae.melody.windows import read_tunes
from fairseq_seqvae.options import whole_numbers
from fairseq_seqvae.oracle import Oracle
from fairseq_seqvae.oracle.score import read_tokens
from fairseq_seqvae.oracle.weights import draw_weights, read_weights
from fairseq_seqvae.support import command_line
from fairseq_seqvae.support.generate_output import KINDS, read_generate_output
from fairseq_seqvae.tools import curves

PLOT_CURVES = vars(curves)


def attempt(read, *arguments):
    """What is read, or None after a ValueError, the one exception for bad input."""
    try:
        return read(*arguments)
    except (ValueError, argparse.ArgumentTypeError):
        return None


@pytest.fixture
def file(tmp_path):
    return tmp_path / "file"


# --- what is tried: anything, and what looks like the format


def lines_of(*words: str):
    """Bytes of a file of lines of these words, other text and separators."""
    word = st.sampled_from(words) | st.text(max_size=4) | st.integers().map(str)
    line = st.lists(word, max_size=8).flatmap(
        lambda parts: st.sampled_from([" ", "\t", ""]).map(lambda s: s.join(parts))
    )
    return st.lists(line, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))


@st.composite
def damaged(draw, *originals: bytes):
    """One of the originals with some bytes replaced, removed or put in."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 4)))
        content[start:stop] = draw(st.binary(max_size=4))
    return bytes(content)


def midi_bytes(line: str) -> bytes:
    import mido

    track = mido.MidiTrack()
    for note in decode_notes(parse_line(line)):
        track += [
            mido.Message("note_on", note=note.pitch, time=7, channel=note.pitch % 16),
            mido.Message("note_off", note=note.pitch, time=120 * note.length, channel=note.pitch % 16),
        ]
    track += [
        mido.MetaMessage("track_name", name="x"),
        mido.MetaMessage("set_tempo", tempo=500000),
        mido.MetaMessage("time_signature", numerator=6, denominator=8),
        mido.MetaMessage("key_signature", key="Cm"),
        mido.Message("sysex", data=(1, 2, 3)),
    ]
    buffer = io.BytesIO()
    mido.MidiFile(tracks=[track, track]).save(file=buffer)
    return buffer.getvalue()


def npz_bytes(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


HAS_ABC = importlib.util.find_spec("abcnotes") is not None
HAS_MIDO = importlib.util.find_spec("mido") is not None
MIDI = [midi_bytes("60 _ . 62"), midi_bytes("60 _ _ _ 61 . 108 _ 21")] if HAS_MIDO else [b"MThd"]
ORACLE = npz_bytes(**draw_weights(1, 5, 2, 2))
TUNES = b"id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes\na\ttrain\t4/4\tC\t4\t_:2 60:1 r:1\n"

ABC = b"""X:1
T:A
M:6/8
L:1/8
P:AB
K:Edor
P:A
|: "Em"E2B {g}B>A (3Bcd | [EG]2 z _B,/^c'/ [M:3/4] d2- :|
P:B
[V:1] d6 |1 Z :|2 x3 & C2 |]
"""
ABC_WORDS = ("C", "^c'/2", "|:", ":|", "|1", "[2", "(3", "z", "-", "[CE]", "{g}", "V:2", "[M:3/4]", "K:Ebm", "&", ">")
MUSICXML = b"""<?xml version="1.0"?><!DOCTYPE score-partwise><score-partwise><part id="P"><measure><attributes>
<divisions>2</divisions><key><fifths>1</fifths></key><time><beats>3</beats><beat-type>4</beat-type></time></attributes>
<barline><repeat direction="forward"/></barline><note><pitch><step>C</step><alter>1</alter><octave>4</octave></pitch>
<duration>3</duration><tie type="start"/></note><note><chord/><pitch><step>E</step><octave>4</octave></pitch>
<duration>3</duration></note><backup><duration>1</duration></backup><forward><duration>1</duration></forward>
<barline><ending number="1" type="start"/></barline></measure><measure><note><rest/><duration>6</duration></note>
<barline><ending number="1" type="stop"/><repeat direction="backward"/></barline></measure></part></score-partwise>"""


def zipped(score: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("META-INF/container.xml", '<container><rootfile full-path="a.xml"/></container>')
        archive.writestr("a.xml", score)
    return buffer.getvalue()


# --- readers of files


@pytest.mark.skipif(not HAS_MIDO, reason="needs mido")
@given(content=st.binary() | st.binary().map(b"MThd".__add__) | damaged(*MIDI))
def test_midi(file, content):
    file.write_bytes(content)
    if melody := attempt(read_midi, file):
        assert 0 < melody.length <= MAX_STEPS + 1
        tokens = melody.tokens()
        assert decode_notes(tokens) == melody.notes
        write_midi(tokens, file)
        assert read_midi(file).tokens().tolist() == tokens.tolist()


@pytest.mark.skipif(not HAS_ABC, reason="needs abcnotes")
@given(content=lines_of(*ABC_WORDS).map(b"X:1\nK:C\n".__add__) | damaged(ABC))
def test_abc(content):
    try_music(content, "abc")


@given(content=st.binary() | damaged(MUSICXML, zipped(MUSICXML)))
def test_musicxml(content):
    try_music(content, "musicxml")


def try_music(content, kind):
    """Tunes that read back as they were written, or errors of the kind for bad input."""
    tunes, failures = music.read_all(content, kind)
    assert tunes or failures
    for tune in tunes:
        assert encode_notes(tune.notes, tune.length).tolist() == tune.symbols
        assert 0 < tune.length <= MAX_STEPS + 1 and tune.steps_per_bar > 0 and tune.meters[0][0] == 0
        if HAS_ABC and tune.length < 300:
            written = music.write_abc(tune)
            again = music.read(written, "abc", voice="1")[0]
            assert [note.pitch for note in again.notes] == [note.pitch for note in tune.notes]


@given(content=st.binary() | lines_of(*SYMBOLS[:9], "D-3\t-0.5\t60 _") | damaged(b"D-3\t-0.5\t60 _ .\nD-4\t-1\t62\n"))
def test_samples(file, content):
    file.write_bytes(content)
    if read := attempt(read_samples, file):
        samples, _ = read
        assert len({sample.number for sample in samples}) == len(samples) > 0
        assert all(decode_notes(sample.tokens) for sample in samples)


@given(content=st.binary() | lines_of("D-3", "H-3", "\t", "-0.5", "T-0") | damaged(b"D-3\t-0.5\tx\nT-3\tx\n"))
@pytest.mark.parametrize("kind", KINDS)
def test_generate_output(file, content, kind):
    file.write_bytes(content)
    if lines := attempt(read_generate_output, file, kind):
        assert lines == sorted(lines) and len({line[:2] for line in lines}) == len(lines) > 0
        # Printed again, they are read as the same.
        score = "0\t" if kind in ("D", "H") else ""
        printed = "".join(f"{kind}-{line.id}\t{score}{line.text}\n" for line in lines)
        file.write_text(printed, encoding="utf-8")
        assert read_generate_output(file, kind) == lines


@given(
    content=st.binary() | damaged(TUNES) | lines_of("60:4", "r:2", "_:99999999999", "train", "16").map(TUNES.__add__)
)
def test_tunes(file, content):
    file.write_bytes(content)
    for tune in attempt(read_tunes, file) or ():
        assert len(tune.tokens) <= MAX_STEPS and len(tune.tokens) % tune.steps_per_bar == 0


@given(content=st.binary() | lines_of("0", "1", "8", "D-1\t0\t3 4") | damaged(b"1 2 3\n4 5 6\n", b"D-1\t0\t3 4\n"))
def test_tokens_of_an_oracle(file, content):
    file.write_bytes(content)
    if (tokens := attempt(read_tokens, file, 9)) is not None:
        assert tokens.dim() == 2 and tokens.min() >= 0 and tokens.max() < 9
        file.write_text("".join(" ".join(map(str, row)) + "\n" for row in tokens.tolist()))
        assert read_tokens(file, vocab_size=9).tolist() == tokens.tolist()


@given(content=st.binary() | damaged(ORACLE, npz_bytes(embedding=np.zeros((2, 3)), Wo=np.zeros(0))))
def test_arrays_of_an_oracle(file, content):
    file.write_bytes(content)
    attempt(read_weights, file)
    if oracle := attempt(Oracle.from_npz, file):
        oracle.save_npz(file)
        again = Oracle.from_npz(file).weights
        assert all(np.array_equal(again[name], array) for name, array in oracle.weights.items())


# --- readers of lines and flags


@given(line=st.text() | st.lists(st.sampled_from(SYMBOLS)).map(" ".join))
def test_melody_lines(line):
    if (tokens := attempt(parse_line, line)) is not None:
        assert format_line(tokens).split() == line.split()
        assert decode_notes(encode_notes(decode_notes(tokens), len(tokens))) == decode_notes(tokens)


@given(text=st.text() | st.lists(st.integers().map(str)).map(",".join))
def test_lists_of_numbers(text):
    if numbers := whole_numbers(text):
        assert len(numbers) == text.count(",") + 1 and min(numbers) >= 1


@given(text=st.text() | st.integers().map(str) | st.from_regex(r"\d+/\d+"))
@pytest.mark.parametrize("read", [command_line.positive, command_line.seed, meter, PLOT_CURVES["parse_boundaries"]])
def test_arguments(read, text):
    result = attempt(read, text)
    assert not isinstance(result, int) or result == read(str(result))


@given(
    line=st.text()
    | st.recursive(
        st.none() | st.floats() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    ).map(lambda value: "INFO | {" + json.dumps({"num_updates": value})[1:])
    | st.integers(1, 99999).map(lambda depth: '{"a": ' + "[" * depth)
    | st.integers(300, 5000).map(lambda digits: '{"num_updates": ' + "9" * digits + "}")
)
def test_logs(line):
    numbers = PLOT_CURVES["parse_line"](line)
    assert numbers is None or all(math.isfinite(number) for number in numbers.values())


@pytest.fixture(scope="module")
def task():
    pytest.importorskip("fairseq")
    from fairseq.data import Dictionary

    from fairseq_seqvae.tasks.config import SeqVAETaskConfig
    from fairseq_seqvae.tasks.seqvae import SeqVAETask

    dictionary = Dictionary()
    for symbol in "abc":
        dictionary.add_symbol(symbol)
    cfg = SeqVAETaskConfig(data="", max_positions=9, seed=1, max_update=0, dataset_impl=None)
    return lambda text: SeqVAETask(
        argparse.Namespace(**{**vars(cfg), "interpolate_from": text, "interpolate_to": text}), dictionary
    )


@given(text=st.text() | st.lists(st.sampled_from("abc")).map(" ".join))
def test_ends_of_a_walk(task, text):
    made = attempt(task, text)
    if made and (tokens := attempt(made._encode_end, "interpolate_from")) is not None:
        assert len(tokens) <= 9 and tokens[-1] == made.dictionary.eos()
        known = [symbol if symbol in "abc" else "<unk>" for symbol in text.split()]
        assert made.dictionary.string(tokens).split() == known
