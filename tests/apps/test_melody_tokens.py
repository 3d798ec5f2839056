"""The token format: notes to tokens to lines, and back."""

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fairseq_seqvae.melody
from fairseq_seqvae.melody.tokens import (
    VOCAB_SIZE,
    Note,
    begins_with_note,
    canonical,
    decode_notes,
    encode_notes,
    format_line,
    has_notes,
    parse_line,
)


def random_notes(rng: random.Random, length: int) -> list[Note]:
    """Notes in order, some with a rest before them, some not."""
    notes, step = [], 0
    while True:
        start = step + rng.choice((0, 0, 0, 1, 5))
        duration = rng.randint(1, 6)
        if start + duration > length:
            return notes
        notes.append(Note(rng.randint(21, 108), start, duration))
        step = start + duration


def heard(tokens: list[int]) -> list[tuple[int, int] | None]:
    """For every step what sounds: (token, onset step) or None; found by looking back from each step."""
    sounds = []
    for step in range(len(tokens)):
        back = step
        while back > 0 and tokens[back] == 0:
            back -= 1
        sounds.append((tokens[back], back) if tokens[back] > 1 else None)
    return sounds


def test_worked_example():
    # One bar of 4/4: a quarter rest, a quarter C, an eighth rest, an eighth C, a quarter E up to the end.
    notes = [Note(60, 4, 4), Note(60, 10, 2), Note(64, 12, 4)]
    line = "_ _ _ _ 60 _ _ _ . _ 60 _ 64 _ _ _"
    tokens = encode_notes(notes, 16)
    assert tokens.dtype == np.uint8
    assert tokens.tolist() == [0, 0, 0, 0, 41, 0, 0, 0, 1, 0, 41, 0, 45, 0, 0, 0]
    assert format_line(tokens) == line
    assert parse_line(line).tolist() == tokens.tolist()
    assert decode_notes(tokens) == notes


def test_the_lowest_and_the_highest_symbol():
    assert parse_line("21 108").tolist() == [2, 89]
    assert VOCAB_SIZE == 90
    assert format_line([2, 89]) == "21 108"


@pytest.mark.parametrize(
    ("line", "notes"),
    [
        ("", []),
        ("_ _ _", []),
        (". _ .", []),
        ("60", [Note(60, 0, 1)]),
        ("60 60 60", [Note(60, 0, 1), Note(60, 1, 1), Note(60, 2, 1)]),
        ("60 _ _ .", [Note(60, 0, 3)]),
        (". 60 . . _ .", [Note(60, 1, 1)]),
        ("60 . _ _", [Note(60, 0, 1)]),
    ],
)
def test_corners(line, notes):
    assert decode_notes(parse_line(line)) == notes


def test_random_notes_come_back_and_so_do_their_tokens_and_lines():
    rng = random.Random(1)
    for _ in range(300):
        length = rng.randint(0, 64)
        notes = random_notes(rng, length)
        tokens = encode_notes(notes, length)
        assert decode_notes(tokens) == notes
        assert np.array_equal(canonical(tokens), tokens)
        assert np.array_equal(parse_line(format_line(tokens)), tokens)


def test_random_tokens_sound_as_looking_back_says_and_canonical_sounds_the_same():
    rng = random.Random(2)
    for _ in range(300):
        tokens = rng.choices((0, 1, 2, 50, 89), weights=(6, 2, 1, 1, 1), k=rng.randint(0, 40))
        painted: list[tuple[int, int] | None] = [None] * len(tokens)
        for note in decode_notes(tokens):
            painted[note.start : note.end] = [(note.pitch - 19, note.start)] * note.length
        assert painted == heard(tokens)
        made = canonical(tokens).tolist()
        assert heard(made) == heard(tokens)
        # No off could be left out: each one ends a note.
        assert all(heard(made)[step - 1] for step, token in enumerate(made) if token == 1)
        assert 1 not in made[:1]


def test_questions_about_tokens():
    assert has_notes(parse_line(". 60")) and not begins_with_note(parse_line(". 60"))
    assert begins_with_note(parse_line("21 _"))
    assert not has_notes(parse_line(". _")) and not has_notes(parse_line("")) and not begins_with_note(parse_line(""))


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ([Note(20, 0, 1)], "pitch=20.* outside 21..108"),
        ([Note(109, 0, 1)], "outside 21..108"),
        ([Note(60, 0, 0)], "at least one step"),
        ([Note(60, 0, 3), Note(62, 2, 1)], "begins before step 3"),
        ([Note(60, 4, 1), Note(62, 0, 1)], "begins before step 5"),
        ([Note(60, -1, 3)], "begins before step 0"),
        ([Note(60, 6, 3)], "ends at step 9, after the end of the melody of 8 steps"),
    ],
)
def test_impossible_notes(notes, message):
    with pytest.raises(ValueError, match=message):
        encode_notes(notes, 8)


def test_impossible_tokens_and_symbols():
    with pytest.raises(ValueError, match="token 90 at step 1 is outside 0..89"):
        decode_notes([0, 90])
    with pytest.raises(ValueError, match="symbol 'madeupword0001' at step 2 is none of"):
        parse_line("60 _ madeupword0001")
    with pytest.raises(ValueError, match="symbol '109'"):
        parse_line("109")


def test_the_command_runs_without_torch_fairseq_and_the_extras(tmp_path):
    """In a process where their import fails, and the package's own `__init__`, which may import fairseq, is skipped."""
    folder = Path(fairseq_seqvae.melody.__file__).parent.parent
    tunes = tmp_path / "tunes.tsv"
    tunes.write_text("id\tsplit\tmeter\tkey\tsteps_per_bar\tnotes\na\ttrain\t4/4\tC\t16\t60:16\n", encoding="utf-8")
    code = f"""
import runpy, sys, types
for name in ("torch", "fairseq", "mido", "matplotlib"):
    sys.modules[name] = None
sys.modules["fairseq_seqvae"] = types.ModuleType("fairseq_seqvae")
sys.modules["fairseq_seqvae"].__path__ = [{str(folder)!r}]
runpy.run_module("fairseq_seqvae.melody", run_name="__main__", alter_sys=True)
"""
    command = [sys.executable, "-c", code]
    subprocess.run([*command, "windows", tunes, "--bars", "1", "--out", tmp_path], check=True, capture_output=True)
    assert (tmp_path / "train.txt").read_text() == "60" + " _" * 15 + "\n"
    done = subprocess.run(
        [*command, "to-midi", tmp_path / "train.txt", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.endswith("to-midi: error: MIDI files need mido: pip install mido\n")
