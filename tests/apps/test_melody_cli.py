"""The commands of `python -m fairseq_seqvae.melody`."""

import os
from pathlib import Path

import mido
import pytest

from fairseq_seqvae.melody.__main__ import main
from fairseq_seqvae.melody.midi import read_midi, write_midi
from fairseq_seqvae.melody.samples import read_samples
from fairseq_seqvae.melody.tokens import format_line, parse_line

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


@pytest.mark.parametrize("command", ["windows", "from-midi", "to-midi", "plot"])
def test_help_has_an_example(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"example:\n  python -m fairseq_seqvae.melody {command} " in capsys.readouterr().out
