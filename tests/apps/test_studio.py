"""The melody studio with the model that ships, asked over its JSON interface."""

import io
import json
import re
import shutil
import statistics
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mido
import pytest
import torch

from fairseq_seqvae.melody import windows
from fairseq_seqvae.melody.studio import keepsake, package, service, serving, sliding
from fairseq_seqvae.melody.studio.attributes import in_key, register
from fairseq_seqvae.melody.studio.model import StudioModel, open_model, shape_of
from fairseq_seqvae.melody.studio.wire import BusyError
from fairseq_seqvae.melody.studio.worker import Worker
from fairseq_seqvae.melody.tokens import Note, format_line
from fairseq_seqvae.support import eight_bits

SHIPPED = serving.model_paths(None)[0]
ALL_SHIPPED = serving.model_paths(None)
# meter -> steps per bar and per quarter note
GRIDS = {"4/4": (16, 4), "2/4": (16, 8), "3/4": (12, 4), "6/8": (12, 4), "9/8": (18, 4)}
STEPS = 64
# All notes of C major: one transposition alone brings it to the white keys.
WHITE = [[60, 0, 16], [62, 16, 16], [64, 32, 16], [65, 48, 8], [67, 56, 4], [69, 60, 2], [71, 62, 2]]
TUNE = [[60 + 2 * (n % 5), 4 * n, 3 + n % 2] for n in range(16)]


def call(address, path, body=None, kind="application/json"):
    """Status, type and body of an answer; bytes are sent as a file."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"Content-Type": kind} if data is not None else {})
    try:
        with urllib.request.urlopen(request, timeout=3600) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(address, path, body=None):
    status, _, found = call(address, f"api/{path}", body)
    assert status == 200, found
    return json.loads(found)


def refusal(address, path, body=None, kind="application/json"):
    status, _, found = call(address, f"api/{path}", body, kind)
    assert 400 <= status < 500, (status, found)
    return json.loads(found)["error"]


def upload(address, content, name, **options):
    query = urllib.parse.urlencode({"name": name, **options})
    return f"read?{query}", content, "application/octet-stream"


def is_melody(notes, steps=STEPS):
    free = 0
    for pitch, start, length in notes:
        assert 21 <= pitch <= 108 and start >= free and length >= 1
        free = start + length
    return notes and free <= steps


@pytest.fixture(scope="module")
def model() -> StudioModel:
    return open_model(SHIPPED)


@pytest.fixture(scope="module", autouse=True)
def ready(studio_address):
    while not all(found["ready"] for found in ask(studio_address, "models")["models"]):
        time.sleep(0.2)


class TestTheShippedModels:
    def test_all_of_them_are_small(self):
        assert sum(file.stat().st_size for file in serving.SHIPPED.rglob("*")) <= 5_000_000
        assert [path.name for path in ALL_SHIPPED] == ["4-4", "2-4", "3-4", "6-8", "9-8"]

    def test_they_tell_nothing_of_the_machine_that_trained_them(self):
        for weights in serving.SHIPPED.glob("*/model.pt"):
            state = torch.load(weights, map_location="cpu", weights_only=True)
            assert "/" not in state["cfg"]["task"]["data"]
            assert state["cfg"] == package.without_folders(state["cfg"])

    def test_a_prior_of_exemplars_has_8_bits_per_number(self):
        state = {"weights": torch.full((50,), 1 / 50), "means": torch.randn(50, 30), "factors": torch.rand(50, 30) / 9}
        packed = package._packed_prior(state)
        assert packed["fitted_prior.means"].dtype == packed["fitted_prior.factors"].dtype == torch.int8
        found = eight_bits.unpack(packed)
        for name in ("means", "factors"):
            off = (found[f"fitted_prior.{name}"] - state[name]).abs()
            assert (off <= state[name].abs().amax(dim=1, keepdim=True) / 253).all()
        full = package._packed_prior({**state, "factors": torch.rand(50, 30, 30)})
        assert {value.dtype for value in full.values()} == {torch.float16}

    def test_absolute_paths_of_options_are_cut(self):
        options = {"a": "/home/anna/data:/srv/more", "b": ["/x/y.pt", 3], "c": {"d": "rules/a.py:name"}}
        cut = {"a": "data:more", "b": ["y.pt", 3], "c": {"d": "rules/a.py:name"}}
        assert package.without_folders(options) == cut

    @pytest.mark.parametrize("folder", ALL_SHIPPED, ids=lambda folder: folder.name)
    def test_each_has_its_card(self, folder):
        card = json.loads((folder / "card.json").read_text())
        assert card["meter"] == folder.name.replace("-", "/")
        assert 0.8 < card["reconstruction"]["notes"] <= 1
        assert "public domain" in card["origin"]

    def test_are_described(self, studio_address):
        found = ask(studio_address, "models")["models"]
        assert {one["meter"]: (one["steps_per_bar"], one["steps_per_quarter"]) for one in found} == GRIDS
        assert found[0]["meter"] == "4/4"
        for one in found:
            assert one["bars"] == 4
            assert [slider["name"] for slider in one["sliders"]] == [
                "density", "range", "register", "syncopation", "in_key"
            ]  # fmt: skip
            assert len(one["tunes"]) >= 20
            assert all(is_melody(tune["notes"], 4 * one["steps_per_bar"]) for tune in one["tunes"])

    def test_play_before_they_are_opened(self, studio_address):
        firsts = ask(studio_address, "first")
        assert list(firsts) == [path.name for path in ALL_SHIPPED]
        for first in firsts.values():
            steps = first["bars"] * GRIDS[first["meter"]][0]
            assert len(first["grid"]["tunes"]) == first["grid"]["rows"] * first["grid"]["columns"]
            assert all(is_melody(tune, steps) for tune in first["grid"]["tunes"])

    @pytest.mark.parametrize("name", [path.name for path in ALL_SHIPPED])
    def test_each_gives_its_tunes_back_and_goes_on(self, studio_address, name):
        model = next(one for one in ask(studio_address, "models")["models"] if one["name"] == name)
        bar = model["steps_per_bar"]
        known = model["tunes"][0]["notes"]
        (tune,) = ask(studio_address, "decode", {"model": name, "points": [{"notes": known}]})["tunes"]
        assert sum(note in known for note in tune) / len(known) > 0.7
        (more,) = ask(studio_address, "continue", {"model": name, "notes": known, "bars": 3, "count": 1})["tunes"]
        assert is_melody(more, 3 * bar)
        assert any(start >= 2 * bar for _, start, _ in more)
        moved = [{"notes": known, "sliders": {"register": 1}}]
        (higher,) = ask(studio_address, "decode", {"model": name, "points": moved})["tunes"]
        assert sum(note[0] for note in higher) / len(higher) > sum(note[0] for note in known) / len(known)

    def test_draws_of_a_meter_have_its_rhythm(self):
        """A waltz has a note on its third beat, a jig on the second of its two, in the middle of the bar."""

        def share(name, step):
            one = open_model(serving.SHIPPED / name)
            melodies = one.decode(one.draw(1, 60))
            bars = [bar for melody in melodies for bar in {n.start // 12 for n in melody if n.start % 12 == step}]
            return len(bars) / (4 * len(melodies))

        assert share("3-4", 8) > share("6-8", 8) + 0.1
        assert share("6-8", 6) > share("3-4", 6) + 0.3


class TestAnswers:
    def test_a_melody_is_encoded_and_decoded(self, studio_address):
        known = ask(studio_address, "models")["models"][0]["tunes"][0]["notes"]
        found = ask(studio_address, "decode", {"points": [{"notes": known}]})
        same = [note for note in found["tunes"][0] if note in known]
        assert len(same) / len(known) > 0.5
        (z,) = found["z"]
        assert ask(studio_address, "decode", {"points": [{"z": z}]})["tunes"] == found["tunes"]

    def test_the_corners_of_a_grid_are_its_seeds(self, studio_address):
        corners = [{"seed": 1}, {"seed": 2}, {"notes": TUNE}, {"seed": 4}]
        tunes = ask(studio_address, "grid", {"corners": corners, "rows": 3, "columns": 4})["tunes"]
        assert len(tunes) == 12
        assert all(is_melody(tune) for tune in tunes)
        alone = ask(studio_address, "decode", {"points": corners})["tunes"]
        # The model has one key, and the grid that of the melody given as notes, a fourth below it.
        moved = [alone[n] if n == 2 else [[pitch - 5, *rest] for pitch, *rest in alone[n]] for n in range(4)]
        assert [tunes[0], tunes[3], tunes[8], tunes[11]] == moved

    def test_a_grid_between_equal_corners_is_one_melody(self, studio_address):
        tunes = ask(studio_address, "grid", {"corners": [{"seed": 5}] * 4, "rows": 3, "columns": 3})["tunes"]
        assert all(tune == tunes[0] for tune in tunes)

    def test_a_blend_has_its_ends(self, studio_address):
        tunes = ask(studio_address, "blend", {"from": {"seed": 1}, "to": {"seed": 2}, "steps": 5})["tunes"]
        alone = ask(studio_address, "decode", {"points": [{"seed": 1}, {"seed": 2}]})["tunes"]
        assert [tunes[0], tunes[-1]] == alone
        assert len(tunes) == 5

    def test_the_ends_of_a_blend_are_the_melodies_given(self, studio_address):
        # The model has one key: the second melody, a whole tone higher, is moved to that of the first.
        higher = [[pitch + 2, *rest] for pitch, *rest in WHITE]
        body = {"from": {"notes": WHITE}, "to": {"notes": higher}, "steps": 3}
        found = ask(studio_address, "blend", body)
        assert (found["tunes"][0], found["tunes"][-1], found["shift"]) == (WHITE, WHITE, -2)
        slid = ask(studio_address, "blend", {**body, "from": {"notes": WHITE, "sliders": {"register": 2}}})
        assert slid["tunes"][0] != WHITE and slid["tunes"][-1] == WHITE

    def test_variations_go_away_from_the_melody(self, studio_address):
        def vary(**options):
            return ask(studio_address, "variations", {"point": {"seed": 3}, "count": 4, "seed": 7, **options})["tunes"]

        original = ask(studio_address, "decode", {"points": [{"seed": 3}]})["tunes"][0]
        assert vary(distance=0) == [original] * 4
        assert len({json.dumps(tune) for tune in vary(distance=1)}) == 4
        assert vary(distance=0.4) == vary(distance=0.4)
        hot = vary(distance=0, temperature=1)
        assert any(tune != original for tune in hot)
        assert hot == vary(distance=0, temperature=1)

    def test_a_continuation_has_as_many_bars_as_asked_for(self, studio_address):
        found = ask(studio_address, "continue", {"notes": TUNE, "bars": 6, "count": 2})
        assert found["bars"] == 6
        assert len(found["tunes"]) == 2
        for tune in found["tunes"]:
            assert is_melody(tune, 6 * 16)
            assert any(start >= 5 * 16 - 16 for _, start, _ in tune)

    @pytest.mark.parametrize(
        "path, body, words",
        [
            ("decode", [], "expected an object"),
            ("decode", {}, "`points` must be a list of 1 to 64 items"),
            ("decode", {"points": [{"seed": 1}] * 65}, "a list of 65"),
            ("decode", {"points": [{}]}, "one of the fields seed, notes and z"),
            ("decode", {"points": [{"seed": 1, "z": []}]}, "2 of them"),
            ("decode", {"points": [{"seed": -1}]}, "`seed` must be a whole number"),
            ("decode", {"points": [{"seed": True}]}, "`seed` must be a whole number"),
            ("decode", {"points": [{"notes": []}]}, "`notes` must be a list of 1 to 64 items"),
            ("decode", {"points": [{"notes": [[60, 0, 65]]}]}, "`length` must be"),
            ("decode", {"points": [{"notes": [[60, 0, 4], [62, 2, 4]]}]}, "before step 4"),
            ("decode", {"points": [{"notes": [[60, 60, 8]]}]}, "after the end"),
            ("decode", {"points": [{"notes": [[5, 0, 4]]}]}, "`pitch` must be a whole number from 21 to 108"),
            ("decode", {"points": [{"z": [1]}]}, "`z` must be a list of"),
            ("decode", {"points": [{"seed": 1, "sliders": {"speed": 1}}]}, "no slider 'speed'"),
            ("decode", {"points": [{"seed": 1, "sliders": {"density": 9}}]}, "from -4 to 4 but is 9"),
            ("decode", {"points": [{"seed": 1}], "model": "x"}, "there is no model 'x'"),
            ("decode", {"points": [{"seed": 1}], "extra": 1}, "no field 'extra'"),
            ("grid", {"corners": [{"seed": 1}] * 3}, "`corners` must be a list of 4"),
            ("grid", {"corners": [{"seed": 1}] * 4, "rows": 1000}, "`rows` must be"),
            ("blend", {"from": {"seed": 1}}, "`from` and `to`"),
            ("variations", {"point": {"seed": 1}, "temperature": 1e9}, "`temperature` must be"),
            ("continue", {"notes": TUNE, "bars": 1000}, "`bars` must be"),
            ("write", {"format": "exe", "tunes": []}, "mid, abc, wav, zip"),
            ("write", {"format": "mid", "tunes": []}, "`tunes` must be"),
            ("write", {"format": "mid", "tunes": [{"notes": TUNE, "steps": 64}], "tempo": 0}, "`tempo` must be"),
            ("write", {"format": "mid", "tunes": [{"notes": TUNE, "steps": 64}], "meter": "4/5"}, "`meter` must be"),
        ],
    )
    def test_what_is_wrong_is_said(self, studio_address, path, body, words):
        assert words in refusal(studio_address, path, body)


class TestFiles:
    def write(self, address, kind, tunes, **fields):
        body = {"format": kind, "tunes": tunes, **fields}
        status, headers, found = call(address, "api/write", body)
        assert status == 200, found
        return headers, found

    def test_a_midi_file_reads_back_the_same_notes(self, studio_address):
        headers, content = self.write(
            studio_address, "mid", [{"notes": TUNE, "steps": STEPS}], tempo=90, name="My tune/../1"
        )
        assert headers["Content-Disposition"] == 'attachment; filename="my-tune-1.mid"'
        midi = mido.MidiFile(file=io.BytesIO(content))
        now, sounding, notes = 0, {}, []
        for message in midi.merged_track:
            now += message.time
            if message.type == "note_on" and message.velocity:
                sounding[message.note] = now
            elif message.type in ("note_on", "note_off"):
                start = sounding.pop(message.note)
                step = midi.ticks_per_beat // 4
                notes.append([message.note, start // step, (now - start) // step])
        assert notes == TUNE
        (tune,) = self.read(studio_address, content, "a.mid")["tunes"]
        assert (tune["notes"], tune["steps"], tune["meter"], tune["tempo"]) == (TUNE, STEPS, "4/4", pytest.approx(90))
        assert tune["starts"] == [0, 16, 32, 48]

    def read(self, address, content, name, **options):
        path, body, kind = upload(address, content, name, **options)
        status, _, found = call(address, f"api/{path}", body, kind)
        assert status == 200, found
        return json.loads(found)

    def test_abc_wav_and_zip(self, studio_address):
        pytest.importorskip("abcnotes")
        tunes = [{"name": "One", "notes": TUNE, "steps": STEPS}, {"name": "Two", "notes": TUNE[:8], "steps": 32}]
        _, abc = self.write(studio_address, "abc", tunes, name="My tune")
        (tune,) = self.read(studio_address, abc, "a.abc")["tunes"]
        later = [[pitch, STEPS + start, length] for pitch, start, length in TUNE[:8]]
        assert (tune["notes"], tune["name"]) == (TUNE + later, "My tune")
        _, wav = self.write(studio_address, "wav", tunes, tempo=240)
        assert wav[:4] == b"RIFF" and len(wav) > 32000 * 2 * 6
        headers, content = self.write(studio_address, "zip", tunes)
        assert headers["Content-Type"] == "application/zip"
        names = zipfile.ZipFile(io.BytesIO(content)).namelist()
        assert names == ["001-one.mid", "002-two.mid", "all.mid", "all.abc"]

    def test_music_in_2_4_has_a_finer_grid(self, studio_address):
        """A bar of 16 steps: its sixteenths are two steps long, as in the doubled values that the model knows."""
        tunes = [{"notes": [[60, 0, 4], [62, 4, 2], [64, 6, 2], [65, 8, 8], [67, 16, 16]], "steps": 32}]
        _, content = self.write(studio_address, "mid", tunes, meter="2/4", steps_per_quarter=8, tempo=100)
        midi = mido.MidiFile(file=io.BytesIO(content))
        assert midi.length == pytest.approx(4 * 60 / 100)  # two bars of two quarter notes
        (tune,) = self.read(studio_address, content, "a.mid", steps_per_quarter="8")["tunes"]
        assert (tune["meter"], tune["steps_per_bar"], tune["notes"]) == ("2/4", 16, tunes[0]["notes"])
        (tune,) = self.read(studio_address, content, "a.mid")["tunes"]
        assert tune["steps_per_bar"] == 8
        assert "4 or 8" in refusal(studio_address, *upload(studio_address, content, "a.mid", steps_per_quarter="5"))
        for grid in (3, 8.0, True, "8", None):
            body = {"format": "mid", "tunes": tunes, "steps_per_quarter": grid}
            assert "4 or 8" in refusal(studio_address, "write", body)

    def test_sound_has_a_longest(self, studio_address):
        tunes = [{"notes": TUNE, "steps": 4096}] * 3
        assert "more than 600 s" in refusal(studio_address, "write", {"format": "wav", "tunes": tunes, "tempo": 60})

    def test_a_file_with_several_voices_asks_which(self, studio_address):
        midi = mido.MidiFile(ticks_per_beat=480)
        for number, pitch in enumerate((60, 72)):
            track = midi.add_track(f"Voice {number}")
            for step in range(8):
                track.append(mido.Message("note_on", note=pitch + step, velocity=80, channel=number))
                track.append(mido.Message("note_off", note=pitch + step, time=240, channel=number))
        file = io.BytesIO()
        midi.save(file=file)
        found = self.read(studio_address, file.getvalue(), "two.mid")
        assert [voice["name"] for voice in found["voices"]] == ["Voice 0", "Voice 1"]
        chosen = found["voices"][1]["id"]
        (tune,) = self.read(studio_address, file.getvalue(), "two.mid", voice=chosen)["tunes"]
        assert [note[0] for note in tune["notes"]] == list(range(72, 80))

    @pytest.mark.parametrize("name", ["a.mid", "a.abc", "a.xml", "a.mxl", "a.png", "a"])
    @pytest.mark.parametrize("kind", ["empty", "random", "cut off", "bomb", "entities"])
    def test_hostile_files_get_a_sentence(self, studio_address, name, kind):
        content = {
            "empty": b"",
            "random": bytes(range(256)) * 20,
            "cut off": b"MThd\x00\x00\x00\x06\x00\x01\x00\x02\x01\xe0MTrk\x00\x00\xff\xff\x00\x90",
            "bomb": self.bomb(),
            "entities": b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><s>&b;</s>',
        }[kind]
        error = refusal(studio_address, *upload(studio_address, content, name))
        assert error and "Traceback" not in error

    @staticmethod
    def bomb():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("META-INF/container.xml", b"<container/>")
            archive.writestr("score.xml", b" " * 50_000_000)
        return file.getvalue()


def test_fifty_requests_at_once(studio_address):
    """None fails; the middle one waits for less than all of them one after another."""

    def one(seed):
        begun = time.perf_counter()
        (tune,) = ask(studio_address, "decode", {"points": [{"seed": seed}]})["tunes"]
        return tune, time.perf_counter() - begun

    one(1)
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(50)))
    assert all(is_melody(tune) for tune, _ in answers)
    assert answers[1][0] == one(1)[0]
    assert statistics.median(seconds for _, seconds in answers) < 60


class TestSliders:
    @pytest.mark.parametrize("name, measure", [("register", register), ("density", lambda melody: len(melody.notes))])
    def test_move_what_they_are_named_after(self, model, name, measure):
        def measured(value):
            found = []
            for seed in range(3):
                z = sliding.slide(model, model.draw(seed), {name: value})
                found.append(measure(model.shape.melody(model.decode(z)[0])))
            return sum(found) / len(found)

        low, middle, high = measured(-1.5), measured(0), measured(1.5)
        assert low < middle < high

    def test_stay_in_key(self, model):
        z = model.draw(9)
        strict = model.shape.melody(model.decode(sliding.slide(model, z, {"in_key": 2.0}))[0])
        free = model.shape.melody(model.decode(sliding.slide(model, z, {"in_key": -2.0}))[0])
        assert in_key(free) <= in_key(strict)

    def test_in_the_middle_nothing_changes(self, model):
        z = model.draw(1)
        assert torch.equal(sliding.slide(model, z, {"density": 0.0}), z)


class TestAModelOfOneKey:
    """The model that ships, taken as one that knows the white keys alone."""

    @pytest.fixture
    def asked(self):
        model = open_model(SHIPPED)
        model.common_key = True
        return service.Service({"4/4": Worker(lambda: model)})

    @staticmethod
    def moved(notes, by):
        return [[pitch + by, start, length] for pitch, start, length in notes]

    def test_a_melody_keeps_its_own_key(self, asked):
        for by in (-3, 2, 5):
            points = [{"notes": WHITE}, {"notes": self.moved(WHITE, by)}]
            plain, other = asked.decode({"points": points})["tunes"]
            assert other == self.moved(plain, by)
            plain, other = (asked.continuation({"notes": p["notes"], "temperature": 0})["tunes"][0] for p in points)
            assert other == self.moved(plain, by)
            plain, other = (asked.variations({"point": p})["tunes"] for p in points)
            assert other == [self.moved(tune, by) for tune in plain]

    def test_a_grid_is_in_the_key_of_its_first_melody(self, asked):
        corners = [{"seed": 1}, {"notes": self.moved(WHITE, 2)}, {"notes": WHITE}, {"seed": 2}]
        found = asked.grid({"corners": corners, "rows": 2, "columns": 2})
        assert found["corners"] == [None, self.moved(WHITE, 2), self.moved(WHITE, 2), None]
        drawn = asked.decode({"points": [{"seed": 1}]})["tunes"][0]
        assert found["tunes"][0] == self.moved(drawn, 2)


class TestTheWorker:
    class Fake:
        """Decodes a number to a note of that pitch, and counts the batches."""

        def __init__(self):
            self.batches = []

        def decode(self, z):
            self.batches.append(len(z))
            return [[Note(int(row[0]), 0, 1)] for row in z]

    def test_what_waits_is_decoded_together(self):
        fake = self.Fake()
        worker = Worker(lambda: time.sleep(0.3) or fake)
        with ThreadPoolExecutor(20) as pool:
            found = list(pool.map(lambda n: worker.decode(torch.full((2, 1), 30.0 + n)), range(20)))
        assert [[melody[0].pitch for melody in melodies] for melodies in found] == [[30 + n] * 2 for n in range(20)]
        assert len(fake.batches) < 20
        assert sum(fake.batches) == 40

    def test_an_error_goes_to_the_one_who_asked(self):
        worker = Worker(self.Fake)
        with pytest.raises(ZeroDivisionError):
            worker.call(lambda model: 1 / 0)
        assert worker.decode(torch.full((1, 1), 40.0))[0][0].pitch == 40

    def test_a_model_that_cannot_be_opened_is_an_error_of_every_request(self):
        worker = Worker(lambda: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                worker.decode(torch.zeros(1, 1))

    def test_patience_ends(self):
        worker = Worker(lambda: time.sleep(1) or self.Fake(), patience=0.05)
        with pytest.raises(BusyError, match="did not answer within 0.05 seconds"):
            worker.decode(torch.zeros(1, 1))


class TestModels:
    def test_shapes(self):
        assert shape_of(64) == ("4/4", 4, 16, 4)
        assert shape_of(36) == ("3/4", 3, 12, 4)
        assert shape_of(24, "6/8") == ("6/8", 2, 12, 4)
        assert shape_of(18) == ("9/8", 1, 18, 4)
        assert shape_of(64, "2/4", 8) == ("2/4", 4, 16, 8)
        assert shape_of(64, "2/4") == ("2/4", 8, 8, 4)
        for steps, meter in ((62, None), (20, "4/4")):
            with pytest.raises(ValueError, match="no whole number of bars"):
                shape_of(steps, meter)

    def test_a_checkpoint_of_sentences_is_refused(self, trained, trained_fixed, tmp_path):
        with pytest.raises(ValueError, match="melodies of any length"):
            open_model(trained.checkpoint)
        with pytest.raises(ValueError, match="no model of melodies"):
            open_model(trained_fixed.checkpoint)
        with pytest.raises(FileNotFoundError, match="has no card.json"):
            open_model(tmp_path)
        (tmp_path / "x.pt").write_bytes(b"no checkpoint")
        with pytest.raises(ValueError, match="damaged, or no checkpoint"):
            open_model(tmp_path / "x.pt")

    def test_weights_of_another_folder(self, tmp_path):
        """2/4 has the weights of 4/4, and draws of its own."""
        waltz = shutil.copytree(serving.SHIPPED / "2-4", tmp_path / "2-4")
        with pytest.raises(FileNotFoundError, match="4-4 is no model of the studio, for it has no model.pt"):
            open_model(waltz)
        shutil.copytree(SHIPPED, tmp_path / "4-4")
        own, theirs = open_model(waltz), open_model(SHIPPED)
        assert own.decode(theirs.draw(1)) == theirs.decode(theirs.draw(1))
        assert not torch.allclose(own.draw(1), theirs.draw(1))
        card = json.loads((waltz / "card.json").read_text())
        (waltz / "card.json").write_text(json.dumps({**card, "weights_of": "../4-4"}))
        with pytest.raises(ValueError, match="it must be the name of a folder beside"):
            open_model(waltz)

    def test_the_meter_to_begin_with(self):
        assert [path.name for path in serving.model_paths(None, "6/8")] == ["6-8", "4-4", "2-4", "3-4", "9-8"]
        with pytest.raises(ValueError, match="no model is in --meter 5/4: there is 2/4, 3/4, 4/4, 6/8, 9/8"):
            serving.model_paths(None, "5/4")

    def test_a_checkpoint_plays_without_a_folder_of_its_own(self, tmp_path, model):
        """The dictionary is that of all melodies, if none lies beside it."""
        checkpoint = tmp_path / "model.pt"
        checkpoint.write_bytes((SHIPPED / "model.pt").read_bytes())
        alone = open_model(checkpoint)
        assert alone.decode(alone.draw(1)) == model.decode(model.draw(1))
        assert not alone.sliders

    @staticmethod
    def few_tunes(tmp_path):
        import commands

        tunes = windows.read_tunes(Path(commands.ROOT) / "examples" / "melody" / "tunes.tsv")
        cut = windows.tune_windows(tunes[:100], 4)[0]["train"][:130]
        lines = [format_line(window) for window in cut]
        return commands.preprocess(
            tmp_path / "data", SHIPPED / "dict.txt", train=lines, valid=lines[:4], test=lines[:9]
        )

    @pytest.mark.slow
    def test_a_folder_is_made_by_one_command(self, tmp_path, monkeypatch, capsys):
        from fairseq_seqvae.melody.__main__ import main

        data = self.few_tunes(tmp_path)
        monkeypatch.setattr(package, "_SLID", 1)
        out = tmp_path / "folder"
        command = ["studio-model", str(SHIPPED / "model.pt"), "--data", str(data), "--out", str(out), "--meter", "4/4"]
        assert main(command) == 0
        assert "9 held-out melodies" in capsys.readouterr().out
        card = json.loads((out / "card.json").read_text())
        assert (card["training_melodies"], card["held_out_melodies"]) == (130, 9)
        again = open_model(out)
        assert set(again.sliders) <= {"density", "range", "register", "syncopation", "in_key"}
        assert len(again.collection) == 9
        assert main(command) == 2  # nothing is overwritten
        assert "--force" in capsys.readouterr().err
        command[command.index(str(out))] = str(tmp_path / "other")
        command += ["--weights-of", "folder", "--steps-per-quarter", "8"]
        command[command.index("4/4")] = "2/4"
        assert main(command) == 0
        assert not (tmp_path / "other" / "model.pt").exists()
        other = open_model(tmp_path / "other")
        assert other.shape == ("2/4", 4, 16, 8)
        assert other.decode(again.draw(1)) == again.decode(again.draw(1))

    @pytest.mark.slow
    def test_weights_of_another_training_are_refused(self, tmp_path, capsys):
        from fairseq_seqvae.melody.__main__ import main

        shutil.copytree(SHIPPED, tmp_path / "4-4")
        state = torch.load(SHIPPED / "model.pt", weights_only=True)
        state["model"]["decoder.output.bias"] += 1
        torch.save(state, tmp_path / "x.pt")
        command = ["studio-model", str(tmp_path / "x.pt"), "--data", str(self.few_tunes(tmp_path))]
        assert main([*command, "--out", str(tmp_path / "2-4"), "--weights-of", "4-4"]) == 2
        assert "has not the weights of" in capsys.readouterr().err


class TestTheKeptPage:
    def test_has_all_in_one_file(self, tmp_path, capsys):
        from fairseq_seqvae.melody.__main__ import main

        page = tmp_path / "page.html"
        assert main(["studio", "--export", str(page)]) == 0
        text = page.read_text()
        assert not re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="(?!data:)', text)
        assert "import {" not in text and '<link rel="stylesheet"' not in text
        assert len(text) < 400_000
        assert main(["studio", "--export", str(page)]) == 2
        assert "--force" in capsys.readouterr().err

    def test_the_one_of_the_examples_is_what_the_command_writes(self):
        data = next(iter(serving.first_grids([SHIPPED]).values()))
        kept = Path(__file__).parents[2] / "examples" / "melody" / "page.html"
        assert kept.read_text(encoding="utf-8") == keepsake.write_page(data), (
            "write it again: python -m fairseq_seqvae.melody studio --export examples/melody/page.html --force"
        )

    def test_modules_stand_after_those_that_they_need(self, tmp_path):
        (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport const a = b;\n')
        (tmp_path / "b.js").write_text('import { c } from "./c.js";\nexport function b() {}\n')
        (tmp_path / "c.js").write_text("export class c {}\n")
        assert keepsake.modules_in_order("a.js", tmp_path) == ["c.js", "b.js", "a.js"]
        assert "import" not in keepsake.bundle("a.js", tmp_path) and "export" not in keepsake.bundle("a.js", tmp_path)
        (tmp_path / "c.js").write_text('import { a } from "./a.js";\n')
        with pytest.raises(ValueError, match="a.js -> b.js -> c.js -> a.js"):
            keepsake.bundle("a.js", tmp_path)

    def test_data_cannot_end_the_script(self):
        data = {"meter": "4/4", "bars": 1, "grid": {"corners": [{"name": "</script><script>alert(1)</script>"}]}}
        assert "</script><script>alert" not in keepsake.write_page(data)


def test_a_continuation_keeps_to_the_melody_before_it(model):
    given = [Note(*note) for note in TUNE]
    (tune,) = service.continued(model, given, 2, 1, (0.0, 1))
    assert all(note.start >= 0 and note.end <= 32 for note in tune)
