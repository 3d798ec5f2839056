"""Labels of windows: by meter and by mode, in the order of the windows."""

import numpy as np
import pytest

from fairseq_seqvae.melody.__main__ import main
from fairseq_seqvae.melody.labels import labelled_windows, meter_of, mode_of
from fairseq_seqvae.melody.windows import Tune


def tune(meter="6/8", key="G", split="train", tokens=(50, 0, 51, 0)):
    return Tune("t1", split, meter, key, 2, np.array(tokens, dtype=np.uint8))


@pytest.mark.parametrize(
    "key, mode",
    [
        *(("G", "major"), ("Bb", "major"), ("Gm", "minor"), ("F#m", "minor"), ("AMin", "minor"), ("Ador", "dorian")),
        *(
            ("ADor", "dorian"),
            ("Adorian", "dorian"),
            ("Amix", "mixolydian"),
            ("Glydian", "lydian"),
            ("Dphr", "phrygian"),
        ),
    ],
)
def test_modes(key, mode):
    assert mode_of(tune(key=key)) == mode


@pytest.mark.parametrize("key", ["", "H", "Gfoo", "none"])
def test_a_key_that_is_none_is_refused(key):
    with pytest.raises(ValueError, match="tune t1 has the key .*, which is not written as in ABC"):
        mode_of(tune(key=key))


def test_meters_are_numbers():
    assert [meter_of(tune(meter)) for meter in ("6/8", "C", "C|")] == ["6/8", "4/4", "2/2"]


def test_windows_keep_their_labels_and_those_of_two_labels_are_left_out():
    tunes = [
        tune("6/8", tokens=(50, 0, 60, 0, 50, 0)),  # windows of a bar: 50, 60, 50 again
        tune("3/4", tokens=(60, 0, 40, 0)),  # 60 is in both meters
        tune("3/4", split="test", tokens=(50, 0)),
        Tune("t2", "train", "4/4", "G", 3, np.array([70, 0, 0], dtype=np.uint8)),  # another number of steps
    ]
    found = labelled_windows(tunes, "meter", bars=1, steps_per_bar=2)
    assert [window.tolist() for window in found.windows["train"]] == [[40, 0], [50, 0]]
    assert found.labels == {"train": ["3/4", "6/8"], "valid": [], "test": ["3/4"]}
    assert found.left_out["of several labels"] == 1 and found.left_out["repeated"] == 1


def test_the_command_writes_a_label_per_line_and_overwrites_none(tmp_path, capsys):
    rows = ["id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes"]
    for number, (meter, pitch) in enumerate([("6/8", 60), ("3/4", 62), ("6/8", 64)]):
        for split in ("train", "valid", "test"):
            rows.append(f"t{number}{split}\t{split}\t{meter}\tG\t12\t{pitch}:6 {pitch + 1}:6")
    table = tmp_path / "tunes.tsv"
    table.write_text("\n".join(rows) + "\n")
    command = [
        "windows",
        str(table),
        "--bars",
        "1",
        "--steps-per-bar",
        "12",
        "--labels",
        "meter",
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    for split in ("train", "valid", "test"):
        lines = (tmp_path / f"{split}.txt").read_text().splitlines()
        labels = (tmp_path / f"{split}.label.txt").read_text().splitlines()
        assert {line.split()[0]: label for line, label in zip(lines, labels, strict=True)} == {
            **{"60": "6/8", "62": "3/4", "64": "6/8"}
        }
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").unlink()
    (tmp_path / "dict.txt").unlink()
    assert main(command) == 2
    assert "train.label.txt" in capsys.readouterr().err
