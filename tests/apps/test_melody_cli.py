"""The commands of `python -m fairseq_seqvae.melody`."""

import importlib.util
import json
import os
import wave
from pathlib import Path

import mido
import pytest

from fairseq_seqvae.melody.__main__ import main
from fairseq_seqvae.melody.midi import read_midi, write_midi
from fairseq_seqvae.melody.samples import read_samples
from fairseq_seqvae.melody.tokens import format_line, parse_line

needs_abc = pytest.mark.skipif(importlib.util.find_spec("abcnotes") is None, reason="needs abcnotes")

BAR = "60 _ _ _ 62 _ _ _ 64 _ _ _ 65 _ _ _"
OUTPUT = f"""\
INFO | a log line
T-1\t21 _ _ 22
D-1\t-1.0\t72 _ _ _ . _ _ _
D-0\t-2.0\t{BAR}
D-0\t-2.5\t. _ _ _
D-2\t-3.0\t60 _ <unk> _
"""
TUNES = "id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes\n" + "".join(
    f"{name}\t{split}\t4/4\tC\t16\t{notes}\n"
    for name, split, notes in [("a", "train", "60:16 62:16 r:16"), ("b", "valid", "64:16"), ("c", "test", "62:16")]
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with tunes.tsv and generate.txt, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("tunes.tsv").write_text(TUNES, encoding="utf-8")
    Path("generate.txt").write_text(OUTPUT, encoding="utf-8")
    return tmp_path


def fails(capsys, *argv):
    """The one sentence on standard error of a command that exits with 2."""
    assert main([str(arg) for arg in argv]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_windows(here, capsys):
    with open("tunes.tsv", "a", encoding="utf-8") as file:
        file.write("d\ttrain\t6/8\tC\t12\t60:12\ne\ttrain\t4/4\tC\t16\t\n")
    assert main(["windows", "tunes.tsv", "--bars", "1", "--out", "new/lines"]) == 0
    hold = " _" * 15
    assert Path("new/lines/train.txt").read_text() == f"60{hold}\n62{hold}\n"
    assert Path("new/lines/valid.txt").read_text() == f"64{hold}\n"
    assert Path("new/lines/test.txt").read_text() == f"62{hold}\n"
    out = capsys.readouterr().out
    assert "tunes: 3 (train 1, valid 1, test 1)\n" in out
    assert "tunes left out: 1 of 12 steps per bar, 1 shorter than 1 bars\n" in out
    assert "windows: 4 (train 2, valid 1, test 1)\n" in out
    assert "windows left out: 1 without a note\n" in out
    assert "of the test windows, 1 are in train as well\n" in out


def test_windows_of_another_meter_or_too_long(here, capsys):
    assert "nothing is written" in fails(capsys, "windows", "tunes.tsv", "--out", "d", "--steps-per-bar", "12")
    assert "try fewer --bars" in fails(capsys, "windows", "tunes.tsv", "--out", "d", "--bars", "9")
    assert not Path("d").exists()


def test_from_midi(here, capsys):
    Path("midi").mkdir()
    for number in range(5):
        write_midi(parse_line(f"{60 + number}" + " _" * 31), f"midi/{number}.mid")
    Path("midi/bad.mid").write_text("text", encoding="ascii")
    assert main(["from-midi", "midi", "--bars", "2", "--out", "lines"]) == 0
    texts = [Path("lines", f"{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")]
    assert [len(lines) for lines in texts] == [3, 1, 1]
    assert sorted(sum(texts, [])) == [f"{60 + number}" + " _" * 31 for number in range(5)]
    printed = capsys.readouterr()
    assert "files: 5 (train 3, valid 1, test 1)\nfiles left out: 1 not a MIDI file\n" in printed.out
    assert "left out: midi/bad.mid: not a MIDI file\n" in printed.err.replace(os.sep, "/")


def test_from_midi_takes_a_track_by_number_or_name(here, capsys):
    midi = mido.MidiFile()
    for name, pitch in (("Voice", 70), ("Bass", 40)):
        track = midi.add_track(name)
        for bar in range(3):
            track.append(mido.Message("note_on", note=pitch + bar, velocity=64))
            track.append(mido.Message("note_off", note=pitch + bar, time=4 * 480))
    midi.save("a.mid")
    for track, first in (("1", "40"), ("bass", "40"), ("0", "70")):
        assert main(["from-midi", "a.mid", "--bars", "1", "--out", "d", "--track", track, "--force"]) == 0
        lines = "".join(Path(f"d/{split}.txt").read_text() for split in ("train", "valid", "test"))
        assert min(lines.split("\n")[:3])[:2] == first
    capsys.readouterr()
    assert main(["from-midi", "a.mid", "--bars", "1", "--out", "e", "--track", "2"]) == 2
    reason, sentence = capsys.readouterr().err.splitlines()
    assert reason == "left out: a.mid: no track 2 among the 2 tracks"
    assert sentence.endswith("from-midi: error: none of the 1 files can be used")


def write_abc(path, *tunes):
    """A tune book of (title, meter, music) with eighths as the unit."""
    parts = (f"X:{n}\nT:{title}\nM:{meter}\nL:1/8\nK:C\n{music}\n" for n, (title, meter, music) in enumerate(tunes))
    Path(path).write_text("\n".join(parts), encoding="utf-8")


def read_lines(folder):
    texts = (Path(folder, f"{split}.txt").read_text().splitlines() for split in ("train", "valid", "test"))
    return [line for text in texts for line in text]


REELS = [(f"Reel {letter}", "4/4", f"{letter}8|{letter.lower()}8|]") for letter in "CDEFGAB"]
JIGS = [(f"Jig {letter}", "6/8", f"{letter}6|{letter.lower()}6|]") for letter in "CDE"]
WALTZES = [("Waltz", "3/4", "G6|g6|]")]


@needs_abc
def test_from_takes_files_of_all_kinds(here, capsys):
    Path("music").mkdir()
    write_abc("music/book.abc", *REELS[:3])
    write_midi(parse_line(f"{BAR} {BAR}"), "music/a.mid")
    note = "<note><pitch><step>C</step><octave>6</octave></pitch><duration>4</duration></note>"
    Path("music/b.musicxml").write_text(
        f"<score-partwise><part id='P'><measure>{note}</measure><measure>{note}</measure></part></score-partwise>"
    )
    Path("music/readme.txt").write_text("not music")
    assert main(["from", "music", "--bars", "2", "--out", "lines"]) == 0
    found = read_lines("lines")
    assert {line.split()[0] for line in found} == {"60", "62", "64", "84"} and len(found) == 5
    assert "60" + " _" * 15 + " 72" + " _" * 15 in found
    assert "tunes: 5 (train " in capsys.readouterr().out


@needs_abc
def test_music_in_other_meters_has_one_sentence_that_names_the_flag(here, capsys):
    write_abc("book.abc", *REELS, *JIGS, *WALTZES)
    assert main(["from", "book.abc", "--bars", "2", "--out", "reels"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "tunes left out: 4 of another meter\n" in printed.out
    hint = "(6/8 3, 3/4 1): --steps-per-bar 12 takes 4 of them, --meter 6/8 takes 3 of them\n"
    assert printed.out.count("--steps-per-bar") == 1 and f"4 tunes in another meter {hint}" in printed.out
    assert main(["from", "book.abc", "--bars", "2", "--steps-per-bar", "12", "--out", "both"]) == 0
    assert "counted differently (6/8 3, 3/4 1): --meter 6/8 takes one kind\n" in capsys.readouterr().out
    assert len(read_lines("both")) == 4
    assert main(["from", "book.abc", "--bars", "2", "--meter", "6/8", "--out", "jigs"]) == 0
    assert "(4/4 7, 3/4 1): --meter 4/4 takes 7 of them\n" in capsys.readouterr().out
    assert {line.split()[0] for line in read_lines("jigs")} == {"60", "62", "64"}
    assert json.loads(Path("jigs/windows.json").read_text()) == {"steps_per_bar": 12}
    error = fails(capsys, "from", "book.abc", "--bars", "2", "--meter", "9/8", "--out", "none")
    assert "none of the 11 tunes can be used; 11 tunes in another meter" in error


@needs_abc
def test_each_reason_has_a_few_lines_only(here, capsys):
    write_abc("book.abc", *REELS, *((f"Low {number}", "4/4", "C,,,,,8|C8|]") for number in range(6)))
    assert main(["from", "book.abc", "--bars", "2", "--out", "lines"]) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 4 and error.count("a pitch outside 21..108 (0)") == 3
    assert error.endswith("left out: a pitch outside 21..108: 3 tunes more\n")


@needs_abc
def test_triplets_name_the_finer_grid(here, capsys):
    write_abc("book.abc", *REELS, ("Triplets", "4/4", "(3CDEF6|G8|]"))
    assert main(["from", "book.abc", "--bars", "2", "--out", "a"]) == 0
    assert "2 notes of triplets moved: --steps-per-quarter 12 keeps them\n" in capsys.readouterr().out
    assert main(["from", "book.abc", "--bars", "2", "--steps-per-quarter", "12", "--out", "b"]) == 0
    assert "triplets" not in capsys.readouterr().out
    assert any(line.startswith("60 _ _ _ 62 _ _ _ 64 _ _ _ 65 _") for line in read_lines("b"))
    write_midi(parse_line("60 _ _ _ 62 _ _ _ 64 _ _ _" + " _" * 500), "c.mid", steps_per_quarter=12)
    assert main(["from-midi", "c.mid", "--bars", "1", "--start", "any", "--out", "c"]) == 2
    assert "2 notes of triplets moved: --steps-per-quarter 12 keeps them" in capsys.readouterr().out


@needs_abc
def test_a_voice_is_named_or_the_file_is_left_out(here, capsys):
    voices = "V:1 name=High\nc8|d8|e8|f8|]\nV:2 name=Low\nC,8|D,8|E,8|F,8|]"
    write_abc("book.abc", ("Duet", "4/4", voices))
    error = f"{main(['from', 'book.abc', '--bars', '1', '--out', 'd'])} {capsys.readouterr().err}"
    assert error.startswith(
        "2 left out: book.abc: several voices: choose the voice: 1 (High, 4 notes), 2 (Low, 4 notes)"
    )
    assert "none of the 1 tunes can be used; of tunes with several voices or with chords, --voice says which" in error
    assert main(["from", "book.abc", "--bars", "1", "--voice", "low", "--out", "d"]) == 0
    assert {line.split()[0] for line in read_lines("d")} == {"48", "50", "52", "53"}
    assert "in 1 tune: not read: other voices\n" in capsys.readouterr().out


def write_two_tracks(path):
    """A melody of eight quarters, and triads that are struck twice as often."""
    midi = mido.MidiFile()
    for name, chord, length, count in (("Tune", (72,), 480, 8), ("Chords", (48, 52, 55), 240, 16)):
        track = midi.add_track(name)
        for number in range(count):
            track.extend(mido.Message("note_on", note=pitch + number % 5, velocity=64) for pitch in chord)
            for place, pitch in enumerate(chord):
                track.append(mido.Message("note_off", note=pitch + number % 5, time=0 if place else length))
    midi.save(path)


@pytest.mark.parametrize("command", ["from", "from-midi"])
def test_a_busy_chord_track_is_not_taken_unless_named(here, capsys, command):
    if command == "from":
        pytest.importorskip("abcnotes")
    write_two_tracks("a.mid")
    flag = {"from": "--voice", "from-midi": "--track"}[command]
    options = ["--bars", "1", "--start", "any"]
    Path("b.mid").write_bytes(Path("a.mid").read_bytes())
    write_midi(parse_line(f"{BAR} {BAR}"), "c.mid")
    assert main([command, ".", *options, "--out", "d"]) == 0
    assert min(int(symbol) for line in read_lines("d") for symbol in line.split() if symbol.isdecimal()) == 60
    assert main([command, "a.mid", "b.mid", "c.mid", *options, flag, "chords", "--out", "e"]) == 0
    assert {line.split()[0] for line in read_lines("e")} <= {"55", "56", "57", "58", "59"}


def test_splits_that_would_be_empty_get_windows_of_train(here, capsys):
    write_midi(parse_line(" ".join(f"{pitch}" + " _" * 15 for pitch in range(60, 90))), "a.mid")
    assert main(["from-midi", "a.mid", "--bars", "1", "--out", "d"]) == 0
    texts = [Path("d", f"{split}.txt").read_text().splitlines() for split in ("train", "valid", "test")]
    assert [len(lines) for lines in texts] == [28, 1, 1]
    assert len({line for lines in texts for line in lines}) == 30
    out = capsys.readouterr().out
    assert "valid was empty: it gets 1 window of train, from the same tunes, so its figures flatter\n" in out
    write_midi(parse_line(BAR), "b.mid")
    assert "the valid and the test split would be empty" in fails(
        capsys, "from-midi", "b.mid", "--bars", "1", "--out", "e"
    )
    assert not Path("e").exists()


def test_windows_of_one_meter(here, capsys):
    with open("tunes.tsv", "a", encoding="utf-8") as file:
        for name, meter in (("j", "6/8"), ("w", "3/4")):
            file.write(
                "".join(f"{name}{s}\t{s}\t{meter}\tC\t12\t{60 + len(s)}:12\n" for s in ("train", "valid", "test"))
            )
    assert main(["windows", "tunes.tsv", "--bars", "1", "--meter", "6/8", "--out", "d"]) == 0
    assert "tunes left out: 6 of another meter\n" in capsys.readouterr().out
    assert [line.count(" ") for line in read_lines("d")] == [11] * 3


def test_a_walk_is_one_file(here, capsys):
    Path("walk.txt").write_text(f"{BAR}\n62 _ _ _\n", encoding="ascii")
    assert main(["to-midi", "walk.txt", "--joined", "--out", "new/walk.mid"]) == 0
    assert format_line(read_midi("new/walk.mid").tokens()) == f"{BAR} 62 _ _ _"
    assert capsys.readouterr().out == f"{Path('new/walk.mid')}: 2 melodies, 5 notes, 20 steps\n"
    assert main(["to-wav", "walk.txt", "--joined", "--tempo", "60", "--rate", "8000", "--out", "walk.wav"]) == 0
    with wave.open("walk.wav") as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(5, abs=0.1)  # 20 steps of a quarter second
    assert "must end in .mid" in fails(capsys, "to-midi", "walk.txt", "--joined", "--out", "walk")


def test_to_wav_writes_a_file_for_each(here):
    assert main(["to-wav", "generate.txt", "--out", "wav"]) == 0
    assert sorted(path.name for path in Path("wav").iterdir()) == ["sample-000.wav", "sample-002.wav"]


def test_to_abc_writes_a_tune_book(here, capsys):
    assert main(["to-abc", "generate.txt", "--out", "book.abc", "--meter", "2/4"]) == 0
    assert Path("book.abc").read_text().startswith("X:1\nT:D-0\nM:2/4\nL:1/8\nK:C\nC2 D2 | E2 F2 |]\n\nX:2\nT:D-1\n")
    assert capsys.readouterr().out == "book.abc: 2 melodies, 5 notes, 24 steps\n"
    assert "book.abc exists already" in fails(capsys, "to-abc", "generate.txt", "--out", "book.abc")
    assert main(["to-abc", "generate.txt", "--out", "walk.abc", "--joined", "--meter", "2/4"]) == 0
    assert Path("walk.abc").read_text() == "X:1\nT:walk\nM:2/4\nL:1/8\nK:C\nC2 D2 | E2 F2 | c2 z2 |]\n"


def test_to_midi_writes_the_melodies_in_order_and_names_the_others(here, capsys):
    assert main(["to-midi", "generate.txt", "--out", "midi", "--tempo", "180", "--program", "40"]) == 0
    assert sorted(path.name for path in Path("midi").iterdir()) == ["sample-000.mid", "sample-002.mid"]
    melody = read_midi("midi/sample-000.mid")
    assert format_line(melody.tokens()) == BAR
    assert melody.tempo == pytest.approx(180, rel=1e-5)
    assert format_line(read_midi("midi/sample-002.mid").tokens()) == "72 _ _ _ . _ _ _"
    printed = capsys.readouterr()
    assert "D-0, 4 notes, 16 steps" in printed.out
    assert "D-0 rank 1 is left out: it has no notes\n" in printed.err
    assert "D-2 is left out: symbol '<unk>' at step 2" in printed.err


def test_to_midi_with_limit_targets_and_meter(here):
    assert main(["to-midi", "generate.txt", "--out", "a", "--limit", "1"]) == 0
    assert [path.name for path in Path("a").iterdir()] == ["sample-000.mid"]
    assert main(["to-midi", "generate.txt", "--out", "b", "--targets", "--meter", "6/8"]) == 0
    assert format_line(read_midi("b/sample-000.mid").tokens()) == "21 _ _ 22"
    assert read_midi("b/sample-000.mid").meters == [(0, 6, 8)]


def test_training_lines_can_be_heard_too(here):
    Path("train.txt").write_text(f"{BAR}\n\n62 _\n", encoding="ascii")
    samples, left_out = read_samples("train.txt")
    assert [(sample.number, sample.label, format_line(sample.tokens)) for sample in samples] == [
        (0, "line 1", BAR),
        (1, "line 3", "62 _"),
    ]
    assert left_out == []
    assert main(["to-midi", "train.txt", "--out", "midi"]) == 0


@pytest.mark.parametrize("kind", ["samples", "interpolation"])
def test_plot(here, capsys, kind):
    assert main(["plot", "generate.txt", "--out", "new/a.svg", "--kind", kind, "--title", "My title"]) == 0
    text = Path("new/a.svg").read_text(encoding="utf-8")
    assert "<!-- My title -->" in text
    assert ("<!-- D-1 -->" in text) == (kind == "samples")
    assert capsys.readouterr().out == "new/a.svg: 2 melodies\n"


def test_a_silent_melody_leaves_a_gap_in_an_interpolation(here, capsys):
    Path("walk.txt").write_text(f"{BAR}\n{BAR}\n_ _ _\n{BAR}\n{BAR}\n", encoding="ascii")
    assert main(["plot", "walk.txt", "--out", "a.svg", "--kind", "interpolation"]) == 0
    text = Path("a.svg").read_text(encoding="utf-8")
    places = ("0.00", "0.25", "0.50", "0.75", "1.00")
    assert [place for place in places if f"<!-- {place} -->" not in text] == ["0.50"]
    assert capsys.readouterr().err == "line 3 is left out: it has no notes\n"


def test_the_meter_sets_the_bar_lines(here):
    Path("bar.txt").write_text(f"{BAR}\n", encoding="ascii")  # 16 steps: one bar of 4/4, or more than one of 6/8
    for meter, bars in (("4/4", 1), ("6/8", 2), ("1/4", 4)):
        assert main(["plot", "bar.txt", "--out", "a.svg", "--meter", meter, "--force"]) == 0
        text = Path("a.svg").read_text(encoding="utf-8")
        assert [bar for bar in range(1, 6) if f"<!-- {bar} -->" in text] == list(range(1, bars + 1))


def test_a_plot_has_eight_samples_by_default_but_a_whole_interpolation(here, capsys):
    Path("many.txt").write_text(f"{BAR}\n" * 10, encoding="ascii")
    assert main(["plot", "many.txt", "--out", "a.png"]) == 0
    assert main(["plot", "many.txt", "--out", "b.png", "--kind", "interpolation", "--meter", "6/8"]) == 0
    assert main(["plot", "many.txt", "--out", "c.png", "--limit", "9"]) == 0
    assert capsys.readouterr().out == "a.png: 8 melodies\nb.png: 10 melodies\nc.png: 9 melodies\n"


@pytest.mark.parametrize(
    ("argv", "existing"),
    [
        (["windows", "tunes.tsv", "--bars", "1", "--out", "d"], "d/valid.txt"),
        (["from-midi", "a.mid", "--bars", "1", "--out", "d"], "d/test.txt"),
        (["to-midi", "generate.txt", "--out", "d"], "d/sample-002.mid"),
        (["plot", "generate.txt", "--out", "d/a.png"], "d/a.png"),
    ],
)
def test_existing_files_are_overwritten_with_force_only(here, capsys, argv, existing):
    write_midi(parse_line(f"{BAR} 62 {BAR[3:]} 64 {BAR[3:]}"), "a.mid")
    Path("d").mkdir()
    Path(existing).write_text("mine", encoding="ascii")
    error = fails(capsys, *argv)
    assert Path(existing).name in error and "--force" in error
    assert [path.read_text(encoding="ascii") for path in Path("d").iterdir()] == ["mine"]
    assert main([*argv, "--force"]) == 0
    assert Path(existing).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["windows", "missing.tsv", "--out", "d"], "missing.tsv: No such file or directory"),
        (["windows", "generate.txt", "--out", "d"], "is no table of tunes"),
        (["from-midi", "missing", "--out", "d"], "missing does not exist"),
        (["from-midi", "empty", "--out", "d"], "has no .mid or .midi files"),
        (["from", "missing", "--out", "d"], "missing does not exist"),
        (["from", "empty", "--out", "d"], "has no MIDI, ABC or MusicXML files"),
        (["from", "tunes.tsv", "--out", "d"], "its name must end in .mid, .midi, .abc, .musicxml, .xml, .mxl"),
        (["from", "empty", "--out", "d", "--meter", "5/16", "--steps-per-quarter", "3"], "has no MIDI"),
        (["to-wav", "generate.txt", "--out", "d", "--limit", "1", "--tempo", "2"], "`tempo` must be"),
        (["to-midi", "tunes.tsv", "--out", "d"], "tunes.tsv has no D- lines"),
        (["to-midi", "silent.txt", "--out", "d"], "silent.txt has no melodies; line 1 is left out: it has no notes"),
        (["to-midi", "generate.txt", "--out", "d", "--limit", "1", "--tempo", "1"], "`tempo` must be"),
        (["plot", "generate.txt", "--out", "a.jpg", "--limit", "1"], "a.jpg must end in .png or .svg"),
        (["plot", "generate.txt", "--out", "a.png", "--meter", "4/16", "--steps-per-quarter", "3"], "whole number"),
    ],
)
def test_bad_input_is_one_sentence(here, capsys, argv, message):
    Path("empty").mkdir()
    Path("silent.txt").write_text("_ _\n", encoding="ascii")
    assert message in fails(capsys, *argv)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sing"],
        ["windows", "tunes.tsv"],
        ["windows", "tunes.tsv", "--out", "d", "--bars", "0"],
        ["plot", "generate.txt", "--out", "a.png", "--meter", "4/5"],
    ],
)
def test_bad_options_exit_with_2(here, argv):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


@pytest.mark.parametrize("command", ["windows", "from", "from-midi", "to-midi", "to-abc", "to-wav", "plot", "judge"])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  python -m fairseq_seqvae.melody {command} " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["from", "from-midi"])
def test_files_in_a_common_key(here, command):
    # D major, and the same in E flat: both become C major.
    for number, moved in enumerate((2, 3, 3)):
        pitches = [pitch + moved for pitch in (60, 64, 65, 67, 71, 72 + number, 74, 76)]
        write_midi(parse_line(" ".join(f"{pitch} _ _ _" for pitch in pitches)), f"{number}.mid")
    assert main([command, "0.mid", "1.mid", "2.mid", "--bars", "1", "--common-key", "--out", "d"]) == 0
    assert set(read_lines("d")) >= {"60 _ _ _ 64 _ _ _ 65 _ _ _ 67 _ _ _"}
    assert all(line.split()[0] in ("60", "71") for line in read_lines("d"))


def test_windows_of_two_tables_in_a_common_key(tmp_path):
    header = "id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes\n"
    (tmp_path / "a.tsv").write_text(header + "a1\ttrain\t2/4\tD\t4\t62:1 66:1 69:1 73:1\n")
    (tmp_path / "b.tsv").write_text(header + "b1\ttest\t2/4\tG\t4\t67:1 71:1 72:1 78:1\n")
    out = tmp_path / "out"
    tables = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    assert (
        main(["windows", *map(str, tables), "--bars", "1", "--steps-per-bar", "4", "--common-key", "--out", str(out)])
        == 0
    )
    assert (out / "train.txt").read_text() == "60 64 67 71\n"
    assert (out / "test.txt").read_text() == "72 76 77 83\n"
