"""The lines of fairseq-generate among log lines."""

import pytest

from fairseq_seqvae.support.generate_output import GeneratedLine, read_generate_output

OUTPUT = """\
2024-05-01 12:00:00 | INFO | fairseq_cli.generate | {'_name': None}
S-10\tthe source
T-10\tthe target
H-10\t-0.5\tten , first
D-10\t-0.5\tten, first
P-10\t-0.1000 -0.9000
H-10\t-0.7\tten , second
D-10\t-0.7\tten, second
WARNING: D-3 is mentioned by a log line
S-2
T-2\ttwo
H-2\t-inf\t62 _ . 64
D-2\t-inf\t62 _ . 64
P-2\t-1.0
2024-05-01 12:00:01 | INFO | Generate test with beam=5: BLEU = 1.0
"""


@pytest.fixture
def output(tmp_path):
    path = tmp_path / "generate-test.txt"
    path.write_text(OUTPUT, encoding="utf-8")
    return path


def test_hypotheses_come_in_order_of_id_then_rank(output):
    assert read_generate_output(output) == [
        GeneratedLine(id=2, rank=0, text="62 _ . 64"),
        GeneratedLine(id=10, rank=0, text="ten, first"),
        GeneratedLine(id=10, rank=1, text="ten, second"),
    ]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [("H", ["62 _ . 64", "ten , first", "ten , second"]), ("T", ["two", "the target"]), ("S", ["the source"])],
)
def test_other_kinds(output, kind, texts):
    assert [line.text for line in read_generate_output(output, kind)] == texts


def test_an_empty_hypothesis_is_an_empty_text(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("D-0\t-1.5\t\nT-0\t\n", encoding="utf-8")
    assert read_generate_output(path) == [GeneratedLine(0, 0, "")]
    assert read_generate_output(path, "T") == [GeneratedLine(0, 0, "")]


def test_line_ends_of_windows_and_unusual_characters_in_a_text(tmp_path):
    path = tmp_path / "out.txt"
    path.write_bytes("D-0\t-1\ta\u2028b\tc\r\nD-1\t-1\t\u6625\r\n".encode())
    assert [line.text for line in read_generate_output(path)] == ["a\u2028b\tc", "\u6625"]


def test_a_file_without_such_lines_is_an_error(output, tmp_path):
    path = tmp_path / "train.log"
    path.write_text("epoch 1\nD-x\t0\tno number\n D-1\t0\tindented\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.log has no D- lines .*expected the output of fairseq-generate"):
        read_generate_output(path)
    path.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="has no T- lines"):
        read_generate_output(path, "T")
    with pytest.raises(ValueError, match="`kind` must be one of D, H, T, S but is 'P'"):
        read_generate_output(output, "P")
    with pytest.raises(FileNotFoundError):
        read_generate_output(tmp_path / "missing.txt")
