"""What `melody judge` measures, on melodies worked out by hand."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from fairseq_seqvae.melody import judges
from fairseq_seqvae.melody.__main__ import main
from fairseq_seqvae.melody.copies import longest_common_runs
from fairseq_seqvae.melody.judges import Phrase, judge
from fairseq_seqvae.melody.tokens import parse_line

# Two bars of four quarters, 8 steps each: C C' E (held on) | nothing begins.
HELD = "60 _ 72 _ 64 _ _ _ _ _ . _ _ _ _ _"
# Four bars: C D | C D | G F# (a step) | C D an octave higher.
TUNE = "60 _ _ _ 62 _ _ _ 60 _ _ _ 62 _ _ _ 67 _ _ _ _ _ 66 . 72 _ _ _ 74 _ _ _"


def phrase(line, steps_per_bar=8):
    return Phrase(parse_line(line), steps_per_bar)


@pytest.mark.parametrize(
    "measure, line, expected",
    [
        (judges.empty_bars, HELD, 50),
        (judges.empty_bars, TUNE, 0),
        (judges.empty_bars, "_ _ _ _ _ _ _ _", 100),
        (judges.used_pitches, HELD, 3 / 2),
        (judges.used_pitch_classes, HELD, 2 / 2),
        (judges.used_pitches, TUNE, 2),
        (judges.notes_per_bar, HELD, 3 / 2),
        (judges.notes_per_bar, "60 60 60 60 _ _ _ _ 60 _ _ _ _ _ _ _", 5 / 2),
        (judges.span_per_bar, HELD, 12 / 12 / 2),
        (judges.span_per_bar, TUNE, (2 + 2 + 1 + 2) / 12 / 4),
        (judges.repeated_bars, TUNE, 100 / 3),
        (judges.repeated_bars, HELD, math.nan),
        (judges.repeated_bars, "60 _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ 60 _ _ _ _ _ _ _", 100),
        (judges.silence, HELD, 100 * 6 / 16),
        (judges.silence, TUNE, 100 * 1 / 32),
        # C and D twice, an octave up once more: 3 of 8 each; G and F sharp once: 1 of 8 each.
        (judges.pitch_class_entropy, TUNE, 2 * 3 / 8 * math.log2(8 / 3) + 2 * 1 / 8 * 3),
        (judges.pitch_class_entropy, "60 60 72 48", 0),
        # C, D, F sharp and G are in G major.
        (judges.scale_consistency, TUNE, 100),
        # C, D and E flat are in B flat major, C sharp is not.
        (judges.scale_consistency, "60 61 62 63", 75),
        # Bars 1, 2 and 4 begin notes at steps 0 and 4, bar 3 at 0 and 6: neighbours agree on 8, 6 and 6 steps of 8.
        (judges.groove_consistency, TUNE, 100 * (8 + 6 + 6) / 24),
        (judges.groove_consistency, "60 _ _ _", math.nan),
        (judges.groove_consistency, "60 _ _ _ _ _ _ _ 62 _ _", math.nan),  # the second bar is not whole
    ],
)
def test_worked_examples(measure, line, expected):
    assert measure(phrase(line)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("steps", "expected"), [(1, 100), (2, 100), (3, 100 / 3), (6, 100 / 3), (7, 0)])
def test_qualified_notes_have_a_least_length(steps, expected):
    assert judges.qualified_notes(phrase(HELD), steps) == pytest.approx(expected)  # lengths 2, 2 and 6


def test_a_melody_without_notes_has_only_some_figures():
    silent = {measure.name: measure.of(phrase("_ _ _ . _ _ _ _")) for measure in judges.MEASURES}
    assert {name: value for name, value in silent.items() if not math.isnan(value)} == {
        "EB": 100,
        "UPC": 0,
        "UPC mod 12": 0,
        "UPN": 0,
        "SPB": 0,
        "REST": 100,
    }


def test_offs_in_silence_make_no_difference():
    assert np.array_equal(phrase("_ . . 60 . . _ _").tokens, phrase("_ _ _ 60 . _ _ _").tokens)


def test_histograms_and_their_overlap():
    one, two = phrase("60 _ 62 _ _ _ 61 _", 2), phrase("60 _ _ _ _ _ _ _ 90 _", 2)
    assert judges.length_shares([one], longest=4) == {2: 2 / 3, 4: 1 / 3}
    assert judges.length_shares([two], longest=4) == {2: 1 / 2, 4: 1 / 2}  # 8 steps count as 4
    assert judges.interval_shares([one]) == {-1: 1 / 2, 2: 1 / 2}
    assert judges.interval_shares([two]) == {13: 1}  # 30 semitones count as 13
    assert judges.overlap({1: 0.5, 2: 0.5}, {2: 0.25, 3: 0.75}) == 0.25
    assert math.isnan(judges.overlap({}, {1: 1.0}))


def slow_longest(sequence, others):
    """The longest run of `sequence` that is one of any of the others."""
    runs = {
        tuple(other[start:end])
        for other in others
        for start in range(len(other))
        for end in range(start + 1, len(other) + 1)
    }
    mine = [
        end - start
        for start in range(len(sequence))
        for end in range(start + 1, len(sequence) + 1)
        if tuple(sequence[start:end]) in runs
    ]
    return max(mine, default=0)


def test_longest_common_runs_agree_with_a_slow_search():
    rng = random.Random(7)

    def sequences(count):
        return [[rng.choice("abc") for _ in range(rng.randint(0, 9))] for _ in range(count)]

    for _ in range(60):
        mine, others = sequences(rng.randint(0, 5)), sequences(rng.randint(0, 4))
        assert longest_common_runs(mine, others) == [slow_longest(sequence, others) for sequence in mine]


def test_a_run_does_not_go_on_from_one_melody_to_the_next():
    assert longest_common_runs(["abcd"], ["ab", "cd"]) == [2]


def test_copies_and_duplicates_are_counted():
    train = [parse_line(TUNE), parse_line("60 _ 62 _ 64 _ 66 _")]
    copy, half, own = parse_line(TUNE), parse_line("60 _ 62 _ 64 _ 67 _"), parse_line("30 31")
    verdict = judge([copy, half, half, own], train, 8)
    assert verdict.values["COPY"] == 25
    assert verdict.values["DIST"] == 50
    # Eight notes, three notes twice, none.
    assert verdict.values["RUN"] == (8 + 3 + 3 + 0) / 4 and verdict.values["RUN max"] == 8


def test_means_have_their_standard_errors():
    verdict = judge([parse_line("60 _ _ _"), parse_line("60 60 60 _"), parse_line("_ _ _ _")], [parse_line("60")], 4)
    assert verdict.values["UPN"] == pytest.approx(4 / 3)
    # Deviations of 1, 3, 0 from 4/3: the sum of squares is 42/9, over 2.
    assert verdict.spreads["UPN"] == pytest.approx(math.sqrt(42 / 9 / 2))
    assert verdict.errors["UPN"] == pytest.approx(math.sqrt(42 / 9 / 2 / 3))
    assert verdict.values["QN2"] == pytest.approx((100 + 100 / 3) / 2)  # the silent one has no notes to ask


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with data/, samples.txt and generate.txt, which is the current one."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/train.txt").write_text(f"{TUNE}\n{HELD}\n")
    Path("data/test.txt").write_text(f"{TUNE.replace('66', '65')}\n")
    Path("samples.txt").write_text(f"{TUNE}\n_ _ _ _ _ _ _ _\n60 <unk>\n")
    Path("generate.txt").write_text(f"D-0\t-1.0\t{HELD}\nD-1\t-1.0\t{TUNE}\n")
    return tmp_path


def test_the_table_has_the_real_melodies_beside(here, capsys):
    assert main(["judge", "samples.txt", "generate.txt", "--against", "data", "--meter", "2/4"]) == 0
    printed = capsys.readouterr()
    assert "samples.txt: line 3 is left out: symbol '<unk>' at step 1" in printed.err
    rows = {line.split("  ")[0].strip(): line for line in printed.out.splitlines()}
    assert rows["melodies"].split() == ["melodies", "2", "2", "1"]
    assert rows["EB"].split()[1:6] == ["50.00", "±50.00", "25.00", "±25.00", "0.00"]
    assert rows["COPY"].split()[1:6] == ["50.00", "±50.00", "100.00", "±0.00", "0.00"]
    assert printed.out.endswith("like those of the column `real`.\n")


def test_bars_are_those_that_the_windows_were_cut_by(here, capsys):
    assert main(["judge", "samples.txt", "--against", "data"]) == 0
    assert "16 steps per bar" in capsys.readouterr().out
    Path("data/windows.json").write_text('{"steps_per_bar": 12}')
    for against in ("data", "data/test.txt"):
        assert main(["judge", "samples.txt", "--against", against]) == 0
        assert "12 steps per bar" in capsys.readouterr().out
    assert main(["judge", "samples.txt", "--against", "data", "--meter", "2/4", "--json", "j.json"]) == 0
    assert "8 steps per bar" in capsys.readouterr().out and json.loads(Path("j.json").read_text())["steps_per_bar"] == 8
    for broken in ("{", "[]", '{"steps_per_bar": "12"}', '{"steps_per_bar": true}', '{"steps_per_bar": 0}'):
        Path("data/windows.json").write_text(broken)
        assert main(["judge", "samples.txt", "--against", "data"]) == 2
        assert "windows.json does not say how many steps a bar has" in capsys.readouterr().err


def test_json_and_picture(here):
    assert main(["judge", "samples.txt", "--against", "data", "--json", "a/b.json", "--plot", "a/b.svg"]) == 0
    content = json.loads(Path("a/b.json").read_text())
    assert content["files"]["samples.txt"]["values"]["UPN"] == (8 / 2 + 0) / 2  # bars of 16 steps
    assert content["real"]["file"] == str(Path("data", "test.txt")) and content["real"]["melodies"] == 1
    assert content["real"]["standard_errors"]["UPN"] is None  # of one melody
    assert set(content["measures"]) == set(content["real"]["values"])
    assert content["real"]["intervals"]["2"] == 3 / 7
    assert "</svg>" in Path("a/b.svg").read_text()


def test_one_file_of_real_melodies_is_no_copy_of_itself(here, capsys):
    assert main(["judge", "samples.txt", "--against", "data/train.txt"]) == 0
    rows = {line.split("  ")[0].strip(): line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["COPY"][1:4] == ["50.00", "±50.00", "-"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["samples.txt", "--against", "none"], "--against none must be a folder with train.txt and test.txt"),
        (["samples.txt", "--against", "empty"], "--against empty has no held-out melodies"),
        (["samples.txt", "--against", "data", "--plot", "a.jpg"], "--plot a.jpg must end in .png or .svg"),
        (["samples.txt", "samples.txt", "--against", "data"], "different files"),
        (["samples.txt", "--against", "data", "--json", "samples.txt"], "overwrite with --force"),
        (["data/test.txt", "--against", "samples.txt"], "samples.txt: line 3 is left out"),
        (["samples.txt", "--against", "data", "--meter", "5/16", "--steps-per-quarter", "3"], "a finer grid is needed"),
    ],
)
def test_bad_input_is_one_sentence(here, capsys, argv, message):
    Path("empty").mkdir()
    Path("empty/train.txt").write_text(TUNE)
    Path("empty/test.txt").write_text("")
    assert main(["judge", *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
