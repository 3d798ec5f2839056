"""Melodies from and to MIDI files, one file and whole folders."""

import random
import sys
from collections import Counter
from fractions import Fraction

import mido
import numpy as np
import pytest
from test_melody_tokens import random_notes

from fairseq_seqvae.melody.folders import Cut, melody_windows, split_by_name
from fairseq_seqvae.melody.midi import MidiError, read_midi, write_midi
from fairseq_seqvae.melody.midi_folder import find_files, folder_windows
from fairseq_seqvae.melody.tokens import Note, encode_notes, format_line, parse_line

QUARTER = 96  # ticks


def write_tracks(path, *tracks, ticks=QUARTER):
    """A MIDI file; a track is a list of (tick, message), in any order."""
    midi = mido.MidiFile(type=1, ticks_per_beat=ticks)
    for events in tracks:
        track, now = midi.add_track(), 0
        for tick, message in sorted(events, key=lambda event: event[0]):
            track.append(message.copy(time=tick - now))
            now = tick
    midi.save(path)
    return path


def note(pitch, start, end, channel=0):
    """A note from and to a tick."""
    return [
        (start, mido.Message("note_on", note=pitch, velocity=64, channel=channel)),
        (end, mido.Message("note_on", note=pitch, velocity=0, channel=channel)),
    ]


def meta(tick, kind, **values):
    return [(tick, mido.MetaMessage(kind, **values))]


def scale(bars, channel=0, first=60):
    """A quarter note on each beat of so many bars of 4/4."""
    return [
        event
        for beat in range(4 * bars)
        for event in note(first + beat % 12, beat * QUARTER, (beat + 1) * QUARTER, channel)
    ]


# One file


def test_worked_example(tmp_path):
    # A dotted quarter, an eighth rest, and, a little late, a half note.
    path = write_tracks(tmp_path / "a.mid", note(67, 0, 144) + note(72, 200, 380))
    melody = read_midi(path)
    assert melody.notes == [Note(67, 0, 6), Note(72, 8, 8)]
    assert melody.length == 16
    assert format_line(melody.tokens()) == "67 _ _ _ _ _ . _ 72 _ _ _ _ _ _ _"
    assert melody.losses == {"moved by more than a quarter of a step": 1}
    assert (melody.tempo, melody.meters, melody.track) == (None, [(0, 4, 4)], "track 0")


def test_canonical_melodies_survive_the_way_through_a_file(tmp_path):
    rng = random.Random(3)
    path = tmp_path / "a.mid"
    for steps_per_quarter in (4, 4, 4, 3, 12):
        for _ in range(20):
            length = rng.randint(8, 64)
            notes = random_notes(rng, length) or [Note(60, 0, 1)]
            tokens = encode_notes(notes, length)
            write_midi(tokens, path, steps_per_quarter=steps_per_quarter)
            melody = read_midi(path, steps_per_quarter=steps_per_quarter)
            assert np.array_equal(melody.tokens(), tokens)
            assert not melody.losses


def test_tempo_meter_instrument_and_name_stand_in_the_file(tmp_path):
    write_midi(parse_line("60 _ _"), tmp_path / "a.mid", tempo=90, program=40, meter=(6, 8), name="D-3")
    midi = mido.MidiFile(tmp_path / "a.mid")
    assert (midi.type, len(midi.tracks), midi.tracks[0].name) == (0, 1, "D-3")
    assert [message.program for message in midi.tracks[0] if message.type == "program_change"] == [40]
    assert midi.length == pytest.approx(3 / 4 * 60 / 90)
    melody = read_midi(tmp_path / "a.mid")
    assert melody.tempo == pytest.approx(90, rel=1e-5)
    assert melody.meters == [(0, 6, 8)]
    assert melody.track == "track 0 (D-3)"


def test_halves_of_a_step_go_up_and_no_note_vanishes(tmp_path):
    # 24 ticks a step: 12 and 36 are the halves; the last note is 4 ticks long.
    path = write_tracks(tmp_path / "a.mid", note(60, 12, 36) + note(62, 36, 60) + note(64, 96, 100))
    assert read_midi(path).notes == [Note(60, 1, 1), Note(62, 2, 1), Note(64, 4, 1)]


def test_the_top_note_is_kept_and_the_next_note_ends_the_one_before(tmp_path):
    chord = note(60, 0, 96) + note(67, 0, 48) + note(64, 2, 96)
    path = write_tracks(tmp_path / "a.mid", chord + note(62, 24, 48))
    melody = read_midi(path)
    assert melody.notes == [Note(67, 0, 1), Note(62, 1, 1)]
    assert melody.losses == {"left out below another one": 2, "cut short by the next one": 1}


def test_the_track_with_most_onsets_is_taken_drums_excepted(tmp_path):
    melody = note(72, 0, 24) + note(74, 24, 48) + note(76, 48, 72) + meta(0, "track_name", name="Flute")
    chords = [event for pitch in (48, 52, 55, 60) for start in (0, 48) for event in note(pitch, start, start + 48, 1)]
    drums = [event for step in range(8) for event in note(40, 12 * step, 12 * step + 6, 9)]
    path = write_tracks(tmp_path / "a.mid", meta(0, "set_tempo", tempo=400_000), chords, melody, drums)
    assert read_midi(path).track == "track 2 (Flute)"
    assert [n.pitch for n in read_midi(path).notes] == [72, 74, 76]
    assert [n.pitch for n in read_midi(path, track=1).notes] == [60, 60]
    assert [n.pitch for n in read_midi(path, track="flu").notes] == [72, 74, 76]
    assert read_midi(path).tempo == 150
    with pytest.raises(MidiError, match=r"a\.mid: no track 'oboe' among the 4 tracks"):
        read_midi(path, track="oboe")
    with pytest.raises(MidiError, match="no track 4"):
        read_midi(path, track=4)
    with pytest.raises(MidiError, match="no notes in track 3 besides drums"):
        read_midi(path, track=3)


def test_the_first_tempo_counts_in_whatever_track_it_stands(tmp_path):
    late, early = meta(96, "set_tempo", tempo=300_000), meta(0, "set_tempo", tempo=600_000)
    assert read_midi(write_tracks(tmp_path / "a.mid", late, early + late, note(60, 0, 96))).tempo == 100


def test_channels_of_one_track_are_separate_lines(tmp_path):
    path = write_tracks(tmp_path / "a.mid", note(40, 0, 96, 1) + note(72, 0, 48, 0) + note(74, 48, 96, 0))
    assert [n.pitch for n in read_midi(path).notes] == [72, 74]


def test_a_note_struck_again_or_never_ended(tmp_path):
    on = mido.Message("note_on", note=60, velocity=64)
    path = write_tracks(tmp_path / "a.mid", [(0, on), (48, on), *meta(96, "end_of_track")])
    assert read_midi(path).notes == [Note(60, 0, 2), Note(60, 2, 2)]


def broken(tmp_path, name):
    path = tmp_path / name
    if name == "text.mid":
        path.write_text("62 _ 64 _", encoding="ascii")
    elif name == "empty.mid":
        path.write_bytes(b"")
    elif name == "torn.mid":
        write_midi(parse_line("60 _ 62 _"), path)
        path.write_bytes(path.read_bytes()[:-12])
    elif name == "silent.mid":
        write_midi(parse_line("_ _ . _"), path)
    elif name == "low.mid":
        write_tracks(path, scale(1, first=20))
    elif name == "long.mid":
        write_tracks(path, note(60, 0, QUARTER * 30_000))
    elif name == "smpte.mid":
        write_midi(parse_line("60 _ 62 _"), path)
        data = bytearray(path.read_bytes())
        data[12:14] = b"\xe7\x28"
        path.write_bytes(data)
    return path


BROKEN = {
    "text.mid": "not a MIDI file",
    "empty.mid": "not a MIDI file",
    "torn.mid": "a broken MIDI file",
    "silent.mid": "no notes",
    "low.mid": "a pitch outside 21..108",
    "long.mid": "longer than 100000 steps",
    "smpte.mid": "times in seconds (SMPTE) instead of beats",
}


@pytest.mark.parametrize(("name", "reason"), BROKEN.items())
def test_unusable_files(tmp_path, name, reason):
    path = broken(tmp_path, name)
    with pytest.raises(MidiError) as caught:
        read_midi(path)
    assert caught.value.reason == reason
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_impossible_settings(tmp_path):
    for settings, message in [({"tempo": 3}, "`tempo` must be 4"), ({"program": 128}, "`program` must be 0 to 127")]:
        with pytest.raises(ValueError, match=message):
            write_midi(parse_line("60"), tmp_path / "a.mid", **settings)
    assert not (tmp_path / "a.mid").exists()


def test_without_mido_one_sentence_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(ImportError, match=r"pip install mido"):
        write_midi(parse_line("60"), tmp_path / "a.mid")
    with pytest.raises(ImportError, match=r"pip install mido"):
        read_midi(tmp_path / "a.mid")


# Folders


def test_silent_bars_around_the_music_are_left_off_and_the_last_bar_is_completed(tmp_path):
    bar = 4 * QUARTER
    path = write_tracks(tmp_path / "a.mid", note(60, 2 * bar + 288, 3 * bar + 96) + meta(9 * bar, "end_of_track"))
    windows, unused = melody_windows(read_midi(path), 2, 16, 4)
    assert unused == 0
    assert [format_line(window) for window in windows] == ["_ " * 12 + "60 _ _ _ _ _ _ _ ." + " _" * 11]
    assert len(melody_windows(read_midi(path), 1, 16, 4)[0]) == 2


def test_only_bars_of_the_wanted_meter_are_used(tmp_path):
    # A bar of 3/4, then two of 4/4, then 6/8: the bars of 4/4 begin at step 12.
    signs = meta(0, "time_signature", numerator=3, denominator=4)
    signs += meta(3 * QUARTER, "time_signature", numerator=4, denominator=4)
    signs += meta(11 * QUARTER, "time_signature", numerator=6, denominator=8)
    melody = read_midi(write_tracks(tmp_path / "a.mid", signs, scale(4)))
    assert melody.meters == [(0, 3, 4), (12, 4, 4), (44, 6, 8)]
    assert all(isinstance(step, Fraction) for step, _, _ in melody.meters)
    tokens = melody.tokens()
    windows, unused = melody_windows(melody, 1, 16, 4)
    assert [window.tolist() for window in windows] == [tokens[12:28].tolist(), tokens[28:44].tolist()]
    assert unused == 3 + 5
    windows, _ = melody_windows(melody, 2, 16, 4)
    assert [window.tolist() for window in windows] == [tokens[12:44].tolist()]
    windows, unused = melody_windows(melody, 1, 12, 4)
    assert len(windows) == 1 + 2  # 6/8 has twelve steps, too; its second bar is completed
    assert unused == 8
    assert melody_windows(melody, 3, 16, 4) == ([], 16)


def test_a_bar_cut_short_by_a_change_of_meter_is_not_used(tmp_path):
    # 4/4 for a bar and a half, with a note held over the change, then 6/8.
    signs = meta(0, "time_signature", numerator=4, denominator=4)
    signs += meta(6 * QUARTER, "time_signature", numerator=6, denominator=8)
    notes = note(60, 0, 5 * QUARTER) + note(62, 5 * QUARTER, 9 * QUARTER) + note(64, 9 * QUARTER, 12 * QUARTER)
    melody = read_midi(write_tracks(tmp_path / "a.mid", signs, notes))
    windows, _ = melody_windows(melody, 1, 16, 4)
    assert [format_line(window) for window in windows] == ["60" + " _" * 15]


def test_a_repeated_meter_is_no_change(tmp_path):
    signs = [event for bar in range(4) for event in meta(bar * 384, "time_signature", numerator=4, denominator=4)]
    melody = read_midi(write_tracks(tmp_path / "a.mid", signs, scale(4)))
    assert melody.meters == [(0, 4, 4)]
    assert len(melody_windows(melody, 4, 16, 4)[0]) == 1


def test_a_folder_is_split_by_file_and_every_loss_is_counted(tmp_path):
    good = tmp_path / "good"
    (good / "deeper").mkdir(parents=True)
    for number in range(12):
        write_tracks(good / f"tune{number}.mid", scale(3, first=25 + 5 * number))
    write_tracks(good / "deeper" / "TUNE.MIDI", scale(1))
    (good / "notes.txt").write_text("no MIDI", encoding="ascii")
    for name in BROKEN:
        broken(good, name)
    splits, account = folder_windows([good], Cut(2))
    assert sum(account.files.values()) == 12
    assert all(account.files[split] >= 1 for split in ("train", "valid", "test"))
    assert account.kept_notes == 12 * 12
    assert account.reasons == Counter([*BROKEN.values(), "no 2 bars of 16 steps on end"])
    assert len(account.left_out) == len(BROKEN) + 1
    assert {split: len(windows) for split, windows in splits.items()} == {k: 2 * v for k, v in account.files.items()}
    assert not account.windows


def test_windows_left_out_are_counted(tmp_path):
    write_tracks(tmp_path / "a.mid", scale(6))  # the scale of twelve notes comes again after three bars
    splits, account = folder_windows([tmp_path / "a.mid"], Cut(1))
    assert len(splits["train"]) == 3
    assert account.windows == {"repeated": 3}
    write_tracks(tmp_path / "a.mid", note(60, 4 * QUARTER, 9 * QUARTER))
    _, account = folder_windows([tmp_path], Cut(1))
    assert account.windows == {"without a note": 1}
    _, account = folder_windows([write_tracks(tmp_path / "b.mid", note(60, 0, 96) + note(62, 480, 500))], Cut(1))
    assert account.windows == {"not beginning with a note": 1}


def test_the_split_of_a_name_does_not_depend_on_the_other_names():
    names = [f"tune {number}.mid" for number in range(2000)]
    splits = split_by_name(names)
    counts = Counter(splits.values())
    # Standard deviation of a binomial count with p = 0.05, n = 2000: 9.7.
    assert abs(counts["valid"] - 100) < 40 and abs(counts["test"] - 100) < 40
    half = split_by_name(names[::2])
    assert all(splits[name] == split for name, split in half.items())
    assert split_by_name(reversed(names)) == splits


@pytest.mark.parametrize("number", range(1, 8))
def test_few_files_still_fill_the_splits(number):
    for seed in range(50):
        counts = Counter(split_by_name(f"{seed}-{index}.mid" for index in range(number)).values())
        assert counts["train"] >= 1
        assert len(counts) == min(number, 3)


def test_finding_files(tmp_path):
    with pytest.raises(ValueError, match=r"has no \.mid or \.midi files"):
        find_files([tmp_path])
    with pytest.raises(ValueError, match="missing.mid does not exist"):
        find_files([tmp_path / "missing.mid"])
    with pytest.raises(ValueError, match="no MIDI files were named"):
        find_files([])
    for name in ("b.MID", "a.midi", "c.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_files([tmp_path, tmp_path / "a.midi"])] == ["a.midi", "b.MID"]
    assert [path.name for path in find_files([tmp_path / "c.txt"])] == ["c.txt"]
