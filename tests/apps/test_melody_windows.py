"""Windows of N bars from a table of tunes."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fairseq_seqvae.melody.keys import in_common_key
from fairseq_seqvae.melody.tokens import format_line, parse_line
from fairseq_seqvae.melody.windows import (
    cut_windows,
    read_tunes,
    resolve_start,
    select_windows,
    tables,
    tune_windows,
    write_splits,
)

EXAMPLE = Path(__file__).parents[2] / "examples" / "melody" / "tunes.tsv"
HEADER = "id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes (pitch:steps, r=rest, _=lead-in)\n"

# (bars, split): number of lines and sha256 of the file, computed from an independent extraction of these windows.
PINNED = {
    (4, "train"): (10985, "bd8e85529760a28a355ef105a8c1acc87327fa4e1fb29085fda53e5d9b826a0b"),
    (4, "valid"): (501, "785e09b062677e1f13c2ec1a1f7b40431dc715e82fcc1e977f97ca3d042186af"),
    (4, "test"): (571, "840b94e32841c819157c0aa366fa0dded164ce7cf7bccb755ced432c0d478d8f"),
    (8, "train"): (10966, "faab773f921ad433348948ca47ee9ebc52aab3e118888b56442a038063f11933"),
    (8, "valid"): (493, "26f2261bffd5afc1e7078e01f83b314044ca2d892be9ee4ff31261ab6ffaff3d"),
    (8, "test"): (550, "0794aa4e16c36a9f5eb6859517de4e3cb37cced4f87fd86cdcba862f5fc90bfb"),
    (16, "train"): (6219, "3c456eba90b198cf34404c172d9810327cd5454f9cad781a5cd95976f1800b78"),
    (16, "valid"): (270, "16df7de8a62d7418dd3e29240e9745c2624ecb911f3b9ed8600f0d9a4a70ad90"),
    (16, "test"): (284, "acdf5a22534861949b3248d1f3e608c7e9b972eb240217ed0cd377015497ff80"),
}


@pytest.fixture(scope="module")
def tunes():
    return read_tunes(EXAMPLE)


def table(tmp_path, *rows):
    path = tmp_path / "tunes.tsv"
    path.write_text(HEADER + "".join(row + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_folder_stands_for_its_tables(tmp_path):
    for name in ("b.tsv", "a.tsv", "c.txt"):
        (tmp_path / name).touch()
    assert tables([tmp_path, "other.tsv"]) == [tmp_path / "a.tsv", tmp_path / "b.tsv", Path("other.tsv")]
    assert [path.name for path in tables([EXAMPLE.parent])] == ["ryans.tsv", "tunes.tsv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no .tsv file: give tables of tunes, or a folder with some"):
        tables([tmp_path / "empty"])


def lines(windows):
    return [format_line(window) for window in windows]


def test_a_tune_becomes_tokens(tmp_path):
    (tune,) = read_tunes(table(tmp_path, "x1\tvalid\t2/4\tD\t8\t_:6 62:2 64:3 r:1 64:4"))
    assert tune[:5] == ("x1", "valid", "2/4", "D", 8)
    assert format_line(tune.tokens) == "_ _ _ _ _ _ 62 _ 64 _ _ . 64 _ _ _"


@pytest.mark.parametrize("bars", [4, 8, 16])
def test_the_windows_of_the_example_tunes(tunes, tmp_path, bars):
    splits, _ = tune_windows(tunes, bars)
    write_splits(splits, tmp_path / "new" / "folder", 16)
    for split in ("train", "valid", "test"):
        data = (tmp_path / "new" / "folder" / f"{split}.txt").read_bytes()
        assert (data.count(b"\n"), hashlib.sha256(data).hexdigest()) == PINNED[bars, split]


def test_no_tune_is_lost(tunes):
    bars = [tune.steps_per_bar for tune in tunes]
    assert (len(bars), bars.count(16), bars.count(12), bars.count(18)) == (1519, 773, 700, 46)
    splits, left_out = tune_windows(tunes, 4)
    possible = sum(max(0, len(tune.tokens) // 16 - 3) for tune in tunes if tune.steps_per_bar == 16)
    assert sum(map(len, splits.values())) + sum(left_out.values()) == possible


def test_windows_begin_at_each_bar_and_lie_within_the_melody():
    tokens = parse_line("60 _ _ 62 _ _ 64 _ _ 65")
    assert lines(cut_windows(tokens, 2, 3)) == ["60 _ _ 62 _ _", "62 _ _ 64 _ _"]
    assert lines(cut_windows(tokens, 3, 3)) == ["60 _ _ 62 _ _ 64 _ _"]
    assert lines(cut_windows(tokens, 4, 3)) == []
    with pytest.raises(ValueError, match=r"`bars` \(0\)"):
        list(cut_windows(tokens, 0, 3))


def test_selected_windows_are_distinct_ordered_and_counted():
    windows = [parse_line(line) for line in ("62 _", "60 _", "_ 60", ". _", "_ _", "62 _", ". 60")]
    kept, left_out = select_windows(windows, "any")
    assert lines(kept) == ["_ 60", ". 60", "60 _", "62 _"]
    assert left_out == {"without a note": 2, "repeated": 1}
    kept, left_out = select_windows(windows, "onset")
    assert lines(kept) == ["60 _", "62 _"]
    assert left_out == {"without a note": 2, "repeated": 1, "not beginning with a note": 2}
    assert all(window.dtype == np.uint8 for window in kept)


def test_auto_wants_an_onset_in_short_windows_only():
    assert [resolve_start("auto", bars) for bars in (1, 4, 5, 16)] == ["onset", "onset", "any", "any"]
    assert resolve_start("any", 1) == "any" and resolve_start("onset", 16) == "onset"
    with pytest.raises(ValueError, match="`start` must be one of auto, onset, any but is 'first'"):
        resolve_start("first", 4)


def test_splits_and_meters_are_kept_apart(tmp_path):
    rows = ("a\ttrain\t4/4\tC\t4\t60:4", "b\ttest\t4/4\tC\t4\t60:4 62:4", "c\ttest\t3/4\tC\t3\t64:3")
    tunes = read_tunes(table(tmp_path, *rows))
    splits, left_out = tune_windows(tunes, 1, 4)
    assert {split: lines(windows) for split, windows in splits.items()} == {
        "train": ["60 _ _ _"],
        "valid": [],
        "test": ["60 _ _ _", "62 _ _ _"],
    }
    assert not left_out
    assert lines(tune_windows(tunes, 1, 3)[0]["test"]) == ["64 _ _"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\ttrain\t4/4\tC\t16", r"tunes\.tsv, line 2: expected 6 columns separated by tabs but found 5"),
        ("a\tdev\t4/4\tC\t4\t60:4", "split must be one of train, valid, test but is 'dev'"),
        ("a\ttrain\t4/4\tC\t4\t60", "note '60' must have the form"),
        ("a\ttrain\t4/4\tC\t4\tc:4", "note 'c:4' must have the form"),
        ("a\ttrain\t4/4\tC\t4\t60:0 60:4", "at least one step"),
        ("a\ttrain\t4/4\tC\t4\t120:4", "outside 21..108"),
        ("a\ttrain\t4/4\tC\t4\t60:5", "the notes last 5 steps, which is no whole number of bars of 4 steps"),
        ("a\ttrain\t4/4\tC\t0\t60:5", "no whole number of bars of 0 steps"),
    ],
)
def test_broken_tables(tmp_path, row, message):
    with pytest.raises(ValueError, match=message):
        read_tunes(table(tmp_path, row))


def test_another_file_is_no_table(tmp_path):
    path = tmp_path / "other.tsv"
    path.write_text("60 _ _\n", encoding="utf-8")
    with pytest.raises(ValueError, match="first line must name the columns id, split, meter, key, steps_per_bar, note"):
        read_tunes(path)


def test_the_dictionary_knows_every_symbol_in_the_form_of_fairseq(tmp_path):
    data = pytest.importorskip("fairseq.data")
    write_splits({split: [] for split in ("train", "valid", "test")}, tmp_path, 16)
    dictionary = data.Dictionary.load(str(tmp_path / "dict.txt"))
    symbols = dictionary.symbols[dictionary.nspecial :]
    assert symbols == ["_", ".", *map(str, range(21, 109))]


def test_held_out_slip_jigs_share_no_window_with_others():
    tables = [EXAMPLE, EXAMPLE.with_name("ryans.tsv")]
    tunes = [in_common_key(tune) for table in tables for tune in read_tunes(table)]
    splits, _ = tune_windows(tunes, 4, 18)
    found = {split: {window.tobytes() for window in windows} for split, windows in splits.items()}
    assert {split: len(windows) for split, windows in found.items()} == {"train": 908, "valid": 66, "test": 96}
    assert (
        not found["train"] & found["valid"]
        and not found["train"] & found["test"]
        and not found["valid"] & found["test"]
    )
