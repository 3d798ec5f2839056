"""Tunes from MIDI, ABC and MusicXML files, and written as MIDI, ABC and WAV."""

import io
import random
import sys
import wave
import zipfile
from fractions import Fraction

import mido
import numpy as np
import pytest
from test_melody_tokens import random_notes

from fairseq_seqvae.melody import music
from fairseq_seqvae.melody.abc_writing import guess_key
from fairseq_seqvae.melody.bars import Measure, lay_out
from fairseq_seqvae.melody.music import MusicError, Tune, VoicesError
from fairseq_seqvae.melody.tokens import encode_notes, format_line, parse_line
from fairseq_seqvae.melody.tunes import is_compound, join, same_meter

pytest.importorskip("abcnotes")

HEAD = "X:1\nT:A Tune\nM:4/4\nL:1/4\nK:C\n"


def read_one(text, **options):
    tunes = music.read(text.encode() if isinstance(text, str) else text, **{"name": "a.abc", **options})
    assert len(tunes) == 1
    return tunes[0]


def line(tune):
    return format_line(tune.symbols)


# ABC


def test_abc_worked_example():
    tune = read_one("X:7\nT:The Example\nM:3/4\nL:1/8\nQ:1/4=90\nK:D\nF2 z c' B,/c/ ^G | F6 |]\n")
    # f sharp, a rest, c sharp two octaves up, b below, c sharp, g sharp; then f sharp for a bar.
    assert line(tune) == "66 _ _ _ . _ 85 _ 59 73 68 _ 66 _ _ _ _ _ _ _ _ _ _ _"
    assert (tune.name, tune.meter, tune.steps_per_bar, tune.tempo, tune.key) == ("The Example", (3, 4), 12, 90, "D")
    assert tune.remarks == []


def test_abc_pickup_repeat_endings_and_ties():
    tune = read_one(HEAD + "G | C4 |: D4 |1 E4- :|2 E2 F2- | F4 |]")
    bars = [line(tune)[:0]] + [tune.symbols[step : step + 16] for step in range(0, tune.length, 16)]
    onsets = [[(s + 19, step) for step, s in enumerate(bar) if s > 1] for bar in bars[1:]]
    # Silence up to the pickup, then C, D, E, D again, and E F with F tied to the end. The first E is tied to nothing.
    assert onsets == [[(67, 12)], [(60, 0)], [(62, 0)], [(64, 0)], [(62, 0)], [(64, 0), (65, 8)], []]
    assert tune.meters == [(0, 4, 4)]
    assert tune.remarks == []


def test_abc_says_what_it_does_not_read():
    tune = read_one(HEAD + '"Am"{g}A2 ~[CE]2 | (3ABc z2 A & C4 | D4 |]')
    assert line(tune).startswith("69 _ _ _ _ _ _ _ 64 _ _ _ _ _ _ _ 69 ")
    assert "not read: 1 chord symbols" in tune.remarks
    assert "not read: 1 grace notes" in tune.remarks
    assert "not read: 1 ornaments and other marks" in tune.remarks
    assert "not read: 1 notes of an overlaid voice" in tune.remarks
    assert "1 notes left out below another one" in tune.remarks
    assert any("2 notes of triplets moved" in remark and "12 steps keep them" in remark for remark in tune.remarks)


def test_a_finer_grid_keeps_triplets():
    tune = read_one(HEAD + "(3ABc z2 A |]", steps_per_quarter=12)
    assert [note.start for note in tune.notes] == [0, 8, 16, 48]
    assert tune.remarks == []


def test_bars_are_counted_afresh_after_one_that_does_not_add_up():
    tune = read_one(HEAD + "C4 | D3 | E4 | F4 |]")
    assert tune.meters == [(0, 4, 4), (28, 4, 4)]
    assert tune.remarks == ["bars that do not add up: 1; the counting begins again there"]


def test_six_eight_is_not_three_four():
    jig, waltz = (read_one(f"X:1\nM:{meter}\nL:1/8\nK:G\nGAB cde|G6|]") for meter in ("6/8", "3/4"))
    assert jig.steps_per_bar == waltz.steps_per_bar == 12 and jig.symbols == waltz.symbols
    assert is_compound(jig.meter) and not is_compound(waltz.meter)
    assert not same_meter(jig.meter, waltz.meter)
    assert same_meter((4, 4), (2, 2)) and not same_meter((4, 4), (2, 4))


def test_the_meter_that_holds_longest_counts():
    tune = read_one(HEAD + "C4 | [M:3/4] D3 | E3 | F3 |]")
    assert tune.meter == (3, 4) and tune.meters == [(0, 4, 4), (16, 3, 4)]
    assert tune.remarks == ["the meter changes: 4/4, 3/4"]


TWO_VOICES = HEAD + "V:T name=Tenor\nV:B\nV:T\nc4 | d4 |]\nV:B\n[V:B] C,4 | D,4 | E,4 |]\n"


def test_of_several_voices_one_must_be_named():
    with pytest.raises(VoicesError, match=r"a\.abc: several voices: choose the voice: T \(Tenor, 2 notes\), B \(3 no"):
        read_one(TWO_VOICES)
    assert [note.pitch for note in read_one(TWO_VOICES, voice="ten").notes] == [72, 74]
    tune = read_one(TWO_VOICES, voice="B")
    assert [note.pitch for note in tune.notes] == [48, 50, 52]
    assert tune.remarks == ["not read: voice T (Tenor, 2 notes)"]
    with pytest.raises(MusicError, match="no voice 'alto' with notes; there are: T"):
        read_one(TWO_VOICES, voice="Alto")


def test_of_a_collection_one_broken_tune_is_named_and_the_others_are_read():
    book = "T:none\n\nX:1\nT:One\nK:C\nL:1/4\nC\n\nX:2\nT:Two\nK:H\nC\n\nX:3\nT:Three\nL:1/4\nK:C\nD\n\nwords\n"
    tunes = music.read(book.encode(), name="book.abc")
    assert [tune.name for tune in tunes] == ["One", "Three"]
    assert any("left out: book.abc, Two: broken ABC" in remark for remark in tunes[0].remarks)
    assert "1 lines after an empty line are not read" in tunes[1].remarks
    read, failures = music.read_all(book.encode(), "abc")
    assert (len(read), [failure.reason for failure in failures]) == (2, ["broken ABC"])


@pytest.mark.parametrize(
    "music_lines",
    [
        "|1-99999999 C :|",
        "|: C |1-88 D :|",
        ":" * 40 + " C |",
        "C99999",
        "C/////////// D",
        "C>>>>>>>>>>>> D",
        "A" * 3000,
        "C" + "'" * 300,
        "[P:(A999)999] C4",
        "C | " * 1200,
    ],
)
def test_abc_that_asks_for_too_much_is_refused(music_lines):
    with pytest.raises(MusicError, match="more than|too long|above 29"):
        read_one(HEAD + music_lines)


def test_abc_without_abcnotes_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "abcnotes", None)
    with pytest.raises(ImportError, match="ABC files need abcnotes: pip install abcnotes"):
        read_one(HEAD + "C4|")


# MusicXML


def score(measures, parts="", attributes=""):
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 4.0 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">
<score-partwise><work><work-title>A Score</work-title></work>
<part-list><score-part id="P1"><part-name>Flute</part-name></score-part></part-list>
<part id="P1"><measure number="1">
<attributes><divisions>2</divisions><key><fifths>-1</fifths><mode>minor</mode></key><time><beats>2</beats><beat-type>4</beat-type></time>
{attributes}</attributes><sound tempo="72"/>{measures}</measure></part>
{parts}</score-partwise>"""


def xml_note(step, octave, duration, *extra):
    return (
        f"<note><pitch><step>{step}</step><octave>{octave}</octave></pitch><duration>{duration}</duration>"
        f"{''.join(extra)}</note>"
    )


NEXT = "</measure><measure>"


def test_musicxml_worked_example():
    text = score(
        xml_note("C", 5, 1)
        + "<note><rest/><duration>1</duration></note>"
        + xml_note("A", 4, 2, '<tie type="start"/>')
        + NEXT
        + xml_note("A", 4, 2, '<tie type="stop"/>')
        + xml_note("F", 4, 2).replace("</step>", "</step><alter>1</alter>")
    )
    tune = read_one(text, name="a.musicxml")
    assert line(tune) == "72 _ . _ 69 _ _ _ _ _ _ _ 66 _ _ _"
    assert (tune.name, tune.meter, tune.steps_per_bar, tune.tempo, tune.key) == ("A Score", (2, 4), 8, 72, "Dm")
    assert tune.voice == "P1 (Flute)" and tune.remarks == []
    assert read_one(text.replace("UTF-8", "UTF-16").encode("utf-16"), name="upload").symbols == tune.symbols


def test_musicxml_repeats_and_endings():
    start = '<barline location="left"><repeat direction="forward"/></barline>'
    first = '<barline location="left"><ending number="1" type="start"/></barline>'
    back = '<barline location="right"><ending number="1" type="stop"/><repeat direction="backward"/></barline>'
    second = '<barline location="left"><ending number="2" type="start"/></barline>'
    stop = '<barline location="right"><ending number="2" type="discontinue"/></barline>'
    again = '<barline location="right"><repeat direction="backward"/></barline>'
    letters = [xml_note(letter, 4, 4) for letter in "CDEFGAB"]
    c, d, e, f, g, a, b = letters
    measures = [c, start + d, first + e + back, second + f + stop, start + g + again, a, b]
    tune = read_one(score(NEXT.join(measures)), kind="musicxml")
    names = {60: "C", 62: "D", 64: "E", 65: "F", 67: "G", 69: "A", 71: "B"}
    assert "".join(names[note.pitch] for note in tune.notes) == "CDEDFGGAB"


@pytest.mark.parametrize(
    "numbers, played",
    [(("1, 2", "3"), "CDCDCE"), (("1", "2, 3, 4"), "CDCECECE"), (("1,3", "2,4"), "CDCECDCE")],
)
def test_musicxml_endings_for_several_turns(numbers, played):
    def ending(number, is_repeated):
        repeat = '<repeat direction="backward"/>' if is_repeated else ""
        return (
            f'<barline><ending number="{number}" type="start"/></barline>'
            + "{}"
            + f'<barline><ending number="{number}" type="stop"/>{repeat}</barline>'
        )

    c, d, e = (xml_note(letter, 4, 4) for letter in "CDE")
    first, last = ending(numbers[0], True).format(d), ending(numbers[1], "4" in numbers[1]).format(e)
    tune = read_one(score(NEXT.join([c, first, last])), kind="musicxml")
    assert "".join({60: "C", 62: "D", 64: "E"}[note.pitch] for note in tune.notes) == played


def test_musicxml_voices_chords_and_transposing_instruments():
    two = (
        xml_note("C", 5, 4, "<voice>1</voice>")
        + "<backup><duration>4</duration></backup>"
        + xml_note("C", 3, 2, "<voice>2</voice>")
        + xml_note("E", 3, 2, "<voice>2</voice>")
    )
    with pytest.raises(VoicesError) as caught:
        read_one(score(two), kind="musicxml")
    assert [voice.id for voice in caught.value.voices] == ["P1.1", "P1.2"]
    assert [note.pitch for note in read_one(score(two), kind="musicxml", voice="P1.2").notes] == [48, 52]
    chord = xml_note("C", 4, 2) + xml_note("E", 4, 2).replace("<note>", "<note><chord/>") + xml_note("D", 4, 2)
    clarinet = "<transpose><chromatic>-2</chromatic></transpose>"
    tune = read_one(score(chord, attributes=clarinet), kind="musicxml")
    assert [(note.pitch, note.start) for note in tune.notes] == [(62, 0), (60, 4)]
    assert tune.remarks == ["1 notes left out below another one"]


def zipped(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_xml", ".xml"), content)
    return file.getvalue()


def repeated(notes, times):
    """A measure of a chord, and a sign to play it again."""
    chord = xml_note("C", 4, 1) + xml_note("E", 4, 1).replace("<note>", "<note><chord/>") * (notes - 1)
    return f'{chord}<barline><repeat direction="backward" times="{times}"/></barline>'


CONTAINER = '<container><rootfiles><rootfile full-path="score.xml"/></rootfiles></container>'


def test_musicxml_in_a_zip():
    text = score(xml_note("C", 5, 4))
    file = zipped(**{"META-INF__container_xml": CONTAINER, "score_xml": text})
    assert [note.pitch for note in read_one(file, name="a.mxl").notes] == [72]


@pytest.mark.parametrize(
    "content, message",
    [
        (zipped(**{"META-INF__container_xml": CONTAINER, "score_xml": b" " * 2**24}), "unpacks to more than"),
        (zipped(**{"META-INF__container_xml": " " * 2**20}), "unpacks to more than"),
        (zipped(**{"META-INF__container_xml": CONTAINER}), "a broken .mxl file"),
        (b"PK\3\4 and no more", "a broken .mxl file"),
        (b'<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY c "&b;&b;">]><a>&c;</a>', "declares entities"),
        (b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "declares entities"),
        (b"<a>" * 60, "deeper ones, than a score needs"),
        (score(NEXT * 10_001).encode(), "more than 10000 measures"),
        (score(repeated(5_000, times=99)).encode(), "more than 400000 notes with its repeats"),
        (b"<?xml version='1.0'?><a>", "broken XML"),
        (b"<?xml version='1.0'?><opus/>", "outer element is <opus>"),
        (score("<note><pitch><step>H</step><octave>1</octave></pitch><duration>1</duration></note>").encode(), "'H'"),
        (score(xml_note("C", 4, "1e99")).encode(), "'1e99' as duration"),
        (score(xml_note("C", 4, "9" * 15)).encode(), "a duration of"),
        (score("").encode(), "no notes"),
        (score(xml_note("C", 0, 4)).encode(), r"a pitch outside 21\.\.108 \(12\)"),
        (b"text", "neither MIDI, ABC nor MusicXML"),
        (b" " * (music.MAX_BYTES + 1), "more than 4 MiB"),
    ],
)
def test_hostile_and_broken_uploads_get_a_sentence(content, message):
    kind = "musicxml" if content[:2] == b"PK" or content[:1] == b"<" else None
    with pytest.raises(MusicError, match=message):
        music.read(content, kind)


# MIDI


def midi_file(*tracks):
    midi = mido.MidiFile(type=1, ticks_per_beat=96)
    for name, *notes in tracks:
        track, now = midi.add_track(name), 0
        events = [(start, 1, pitch) for pitch, start, _ in notes] + [(end, 0, pitch) for pitch, _, end in notes]
        for tick, is_on, pitch in sorted(events):
            track.append(mido.Message("note_on", note=pitch, velocity=64 * is_on, time=tick - now))
            now = tick
    file = io.BytesIO()
    midi.save(file=file)
    return file.getvalue()


MELODY = ("Melody", *((72 + number, 48 * number, 48 * number + 48) for number in range(8)))
CHORDS = ("Piano", *((48 + pitch, 24 * place, 24 * place + 24) for place in range(16) for pitch in (0, 4, 7)))


def test_a_busy_chord_track_is_not_taken_unless_named():
    with pytest.raises(VoicesError, match=r"1 \(Piano, 48 notes, mostly chords\)") as caught:
        music.read(midi_file(MELODY, CHORDS))
    assert caught.value.likely is not None and caught.value.likely.id == "0"
    with pytest.raises(VoicesError, match="chords, not a melody: choose the voice: 0"):
        music.read(midi_file(CHORDS))
    tune = read_one(midi_file(CHORDS), voice=0, name="c.mid")
    assert {note.pitch for note in tune.notes} == {55} and tune.remarks == ["32 notes left out below another one"]
    low = ("Bass", *((pitch - 48, start, end) for pitch, start, end in MELODY[1:]))
    with pytest.raises(VoicesError) as caught:
        music.read(midi_file(low, CHORDS))
    assert caught.value.likely is None  # a bass below chords: the tune may be on top of these


# Writing


def random_tune(rng, steps_per_quarter=4, meter=(4, 4), key=""):
    length = rng.randint(1, 5) * 4 * steps_per_quarter * meter[0] // meter[1] + rng.choice((0, 0, 3))
    notes = random_notes(rng, length)
    return Tune("A Tune", encode_notes(notes, length).tolist(), meter, steps_per_quarter, key=key)


@pytest.mark.parametrize("steps_per_quarter", [4, 3, 6, 12])
def test_what_is_written_reads_back_as_the_same_notes(steps_per_quarter):
    rng = random.Random(steps_per_quarter)
    tried = 0
    while tried < 25:
        tune = random_tune(
            rng, steps_per_quarter, rng.choice([(4, 4), (6, 8), (3, 4)]), rng.choice(["", "Ebm", "Edor", "C#"])
        )
        if not tune.notes:
            continue
        tried += 1
        for write, name in ((music.write_abc, "a.abc"), (music.write_midi, "a.mid")):
            again = music.read(write(tune), name=name, steps_per_quarter=steps_per_quarter)[0]
            assert again.symbols == tune.symbols, write(tune)
            assert again.meter == tune.meter and again.remarks == []


@pytest.mark.parametrize(
    "meter, bar, expected",
    [
        ((4, 4), "60 _ 62 _ 64 _ 65 _ 67 _ 69 _ 71 _ 72 _", "CDEF GABc"),
        ((3, 4), "60 _ 62 _ 64 _ 65 _ 67 _ 69 _", "CD EF GA"),
        ((2, 4), "60 62 64 65 67 _ 69 _", "C/2D/2E/2F/2 GA"),
        ((6, 8), "60 _ 62 _ 64 _ 65 _ 67 _ 69 _", "CDE FGA"),
        ((9, 8), "60 _ 62 _ 64 _ 65 _ 67 _ 69 _ 71 _ _ _ _ _", "CDE FGA B3"),
        ((6, 8), "60 _ 62 _ _ _ _ _ 67 _ 69 _", "CD3GA"),  # nothing begins on the second beat
    ],
)
def test_abc_has_a_blank_where_a_beam_ends(meter, bar, expected):
    assert music.write_abc(Tune("", parse_line(bar).tolist(), meter)).decode().splitlines()[-1] == f"{expected} |]"


def test_tunes_are_joined():
    held, silent = parse_line("60 _ _ _ 62 _ _ _").tolist(), parse_line("_ _ 64 _").tolist()
    one = join([Tune("a", held, (2, 4), key="G"), Tune("b", silent, (1, 4))], "both")
    assert format_line(one.symbols) == "60 _ _ _ 62 _ _ _ . _ 64 _"  # the second begins with silence
    assert (one.name, one.key, one.meters) == ("both", "G", [(0, 2, 4), (8, 1, 4)])
    assert join([one]).symbols == one.symbols and join([one]).name == "both"
    with pytest.raises(ValueError, match="the same steps per quarter note"):
        join([Tune("", held), Tune("", held, steps_per_quarter=8)])
    with pytest.raises(ValueError, match="at least one"):
        join([])


def test_abc_is_written_as_a_musician_would():
    jig = Tune("Jig\n% of mine", parse_line("66 _ _ _ 67 _ 65 _ 66 _ . _ 81 _ _ _ _ _ 50 _ _ _ _ _").tolist(), (6, 8))
    assert music.write_abc(jig).decode() == "X:1\nT:Jig of mine\nM:6/8\nL:1/8\nK:G\nF2G =F^Fz | a3 D,3 |]\n"
    reel = Tune("", parse_line("60 _ _ _ _ _ 62 _ _ _").tolist(), key="F", tempo=180)
    assert (
        music.write_abc([reel, reel]).decode().split("\n\n")[1]
        == "X:2\nT:Tune 2\nM:4/4\nL:1/8\nQ:1/4=180\nK:F\nC3D2 |]\n"
    )
    triplets = Tune("t", parse_line("72 _ 74 _ 76 _ 77 _ _ 79 _ _").tolist(), (2, 4), steps_per_quarter=6)
    assert "(3:2:3cde fg |]" in music.write_abc(triplets).decode()


def test_the_key_is_guessed_by_its_scale():
    assert guess_key([62, 64, 66, 67, 69, 71, 73]) == "D"
    assert guess_key([60]) == "C" and guess_key([65, 67, 69, 70, 72]) == "F"


def test_several_tunes_follow_one_another():
    one = Tune("one", parse_line("60 _ _ _ . _ _ _").tolist(), (2, 4), tempo=100, key="G")
    two = Tune("two", parse_line("_ _ 62 _ _ _ _ _").tolist(), (2, 4), tempo=100, key="G")
    joined = read_one(music.write_midi([one, two]), name="a.mid")
    assert line(joined) == "60 _ _ _ . _ _ _ _ _ 62 _ _ _ _ _"
    assert joined.tempo == pytest.approx(100) and joined.meters == [(0, 2, 4)] and joined.key == "G"
    assert [tune.name for tune in music.read(music.write_abc([one, two]))] == ["one", "two"]
    with pytest.raises(ValueError, match="no tunes to write"):
        music.write_abc([])


def loudness(wav):
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2**15, file.getframerate()


def test_wav_has_the_pitch_and_the_silence_of_the_tune():
    tune = Tune("a", parse_line("69 _ _ _ . _ _ _").tolist())
    sound, rate = loudness(music.write_wav(tune, tempo=60, rate=16000))
    assert rate == 16000 and len(sound) == pytest.approx(2.06 * 16000, abs=2)
    spectrum = np.abs(np.fft.rfft(sound[:16000]))
    assert np.argmax(spectrum) == 440  # one second: a bin per Hz
    assert np.abs(sound).max() < 0.9 and np.abs(sound[:16000]).max() > 0.2
    assert not sound[int(1.07 * 16000) :].any()
    twice, _ = loudness(music.write_wav([tune, tune], tempo=60, rate=16000))
    assert len(twice) == len(sound) + 2 * 16000
    assert np.array_equal(twice[2 * 16000 :], sound)


def test_sound_that_is_too_long_or_too_slow_is_refused():
    tune = Tune("a", parse_line("69" + " _" * 20_000).tolist())
    with pytest.raises(ValueError, match="would last 2500 s, more than 1200 s"):
        music.write_wav(tune, tempo=120)
    with pytest.raises(ValueError, match="`tempo` must be 4 to 1000"):
        music.write_wav(tune, tempo=1)
    with pytest.raises(ValueError, match="`rate` must be 8000 to 48000"):
        music.write_wav(tune, rate=100)


# Bars


def measures(*lengths, meter=(4, 4)):
    return [Measure(Fraction(length), meter) for length in lengths]


@pytest.mark.parametrize(
    "lengths, starts, bars_from, irregular",
    [
        ([4, 4], [0, 4], [0], 0),
        ([1, 4, 3], [3, 4, 8], [0], 0),  # pickup, and its complement at the end
        ([1, 4, 3, 1, 4], [3, 4, 8, 11, 12], [0], 0),  # the complement before a repeat
        ([4, 3, 4], [0, 4, 7], [0, 7], 1),  # a bar that is too short
        ([4, 5, 4], [0, 4, 9], [0, 9], 1),  # and one that is too long
        ([4, 8, 4], [0, 4, 12], [0], 0),  # rests of two bars
        ([2], [0], [0], 0),
    ],
)
def test_bars_are_laid_out(lengths, starts, bars_from, irregular):
    bars = lay_out(measures(*lengths))
    assert bars.starts == starts
    assert [start for start, _, _ in bars.meters] == bars_from
    assert bars.irregular == irregular and bars.length == starts[-1] + lengths[-1]
