"""The page of the melody studio in a real browser: Chromium, driven by playwright. Skipped where there is none."""

import io
import shutil
import time
from pathlib import Path

import mido
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser: pip install playwright")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(BROWSERS)} is installed")
PATIENCE = 120.0  # seconds; a busy machine is slow
TUNE = [[60, 0, 4], [64, 4, 4], [67, 8, 8], [72, 16, 2], [71, 18, 2], [69, 20, 12], [67, 32, 16], [60, 48, 16]]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--autoplay-policy=user-gesture-required"]
        )
        yield opened
        opened.close()


class Visit:
    """A page that is open, what it said to the console, and every address that it asked for."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(accept_downloads=True, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE * 1000)
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def wait(self, expression):
        """Until an expression of JavaScript is true: asked from here, since the page allows no evaluation itself."""
        begun = time.monotonic()
        while not self.page.evaluate(expression):
            assert time.monotonic() - begun < PATIENCE, (expression, self.complaints)
            time.sleep(0.05)

    def state(self, name):
        return self.page.evaluate(f"studio.store.state.{name}")

    def download(self, button):
        with self.page.expect_download() as found:
            self.page.click(button)
        return found.value.suggested_filename, Path(found.value.path()).read_bytes()


@pytest.fixture
def visit(browser, studio_address):
    made = []

    def open_page(address=studio_address, **options):
        made.append(Visit(browser, address, **options))
        if address.startswith("http"):
            made[-1].page.wait_for_selector("body.ready")
        return made[-1]

    yield open_page
    for one in made:
        assert one.complaints == []
        allowed = (studio_address, "data:", "blob:", "file:")
        assert [url for url in one.requests if not url.startswith(allowed)] == []
        one.context.close()


def midi_notes(content, grid=4):
    """Notes of a MIDI file in steps, *grid* to a quarter note, read with mido alone."""
    midi = mido.MidiFile(file=io.BytesIO(content))
    step, now, sounding, notes = midi.ticks_per_beat // grid, 0, {}, []
    for message in midi.merged_track:
        now += message.time
        if message.type == "note_on" and message.velocity:
            sounding[message.note] = now
        elif message.type in ("note_on", "note_off"):
            start = sounding.pop(message.note)
            notes.append([message.note, start // step, (now - start) // step])
    return notes


def midi_file(tune):
    midi = mido.MidiFile(ticks_per_beat=480)
    track = midi.add_track("tune")
    now = 0
    for pitch, start, length in tune:
        track.append(mido.Message("note_on", note=pitch, velocity=90, time=(start * 120) - now))
        track.append(mido.Message("note_off", note=pitch, time=length * 120))
        now = (start + length) * 120
    file = io.BytesIO()
    midi.save(file=file)
    return file.getvalue()


def open_file(one, tune, name="mine.mid"):
    one.page.set_input_files("#file", {"name": name, "mimeType": "audio/midi", "buffer": midi_file(tune)})
    one.page.wait_for_selector("#file-dialog[open]")
    one.page.click("#file-take")


def test_fills_the_grid_and_plays(visit):
    one = visit()
    before = one.state("cells")
    assert len(before) == 49
    one.page.click("#surprise")
    one.wait("studio.store.state.corners.every((corner) => 'seed' in corner) && studio.store.state.filled")
    assert one.state("cells") != before
    one.page.click('.cell[data-cell="24"]')
    one.wait("studio.player.allowed && studio.player.context.currentTime > 0.2")
    clock = one.page.evaluate("studio.player.context.currentTime")
    one.wait(f"studio.player.context.currentTime > {clock} + 0.2")
    one.wait("document.querySelector('.cell.sounding') !== null")
    assert one.page.evaluate("studio.player.tag.cell") == 24
    one.page.hover('.cell[data-cell="3"]')
    one.wait("studio.player.tag && studio.player.tag.cell === 3")
    one.page.hover("#play")  # leaves the grid: what was chosen goes on
    one.wait("studio.player.playing && studio.player.tag.kind === 'selected' && studio.player.tag.cell === 24")
    one.page.click("#play")
    one.wait("!studio.player.playing")


def test_a_corner_changes_and_one_button_fills(visit):
    one = visit()
    one.page.click("#seeds-top .chip:first-child")
    one.page.click("#seed-random")
    one.wait("!studio.store.state.filled && 'seed' in studio.store.state.corners[0]")
    assert one.page.locator(".cell.stale").count() == 45
    one.page.click("#fill")
    one.wait("studio.store.state.filled")
    assert one.page.locator(".cell.stale").count() == 0
    one.page.click("#undo")
    one.page.click("#undo")
    one.wait("!('seed' in studio.store.state.corners[0]) && studio.store.state.filled")


def test_a_file_goes_in_and_the_same_notes_come_out(visit):
    one = visit()
    open_file(one, TUNE)
    one.wait("studio.store.state.selected.name === 'mine'")
    assert one.state("selected.notes") == TUNE
    name, content = one.download("#save-mid")
    assert name == "mine.mid"
    assert midi_notes(content) == TUNE
    assert one.download("#save-wav")[1][:4] == b"RIFF"
    assert b"K:" in one.download("#save-abc")[1]
    one.page.click("#as-corner button:nth-child(4)")
    one.wait("studio.store.state.corners[3].name === 'mine'")
    one.page.click("#fill")
    one.wait("studio.store.state.filled")
    assert one.state("cells[48]") == TUNE
    name, content = one.download("#grid-zip")
    assert (name, content[:2]) == ("grid.zip", b"PK")


def test_a_file_that_cannot_be_used_gets_a_sentence(visit):
    one = visit()
    one.page.set_input_files("#file", {"name": "a.mid", "mimeType": "audio/midi", "buffer": b"MThd broken"})
    one.wait("document.getElementById('status').textContent.includes('a.mid')")
    assert any("400" in complaint for complaint in one.complaints)  # the browser itself notes the answer
    one.complaints.clear()


def test_the_melody_is_edited_by_clicks(visit):
    one = visit()
    one.page.click("#blank")
    box = one.page.locator("#roll").bounding_box()
    one.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    one.wait("studio.store.state.selected.notes.length === 1")
    ((pitch, start, length),) = one.state("selected.notes")
    assert (start, length) in [(30, 2), (32, 2), (28, 2)] and 21 <= pitch <= 108
    one.page.mouse.click(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    one.wait("studio.store.state.selected.notes.length === 2")
    one.page.locator("#roll rect.note").first.click(position={"x": 3, "y": 3})
    one.wait("studio.store.state.selected.notes.length === 1")
    one.page.click("#rethink")  # the model hears something like it
    one.wait("studio.store.state.selected.name.includes('as the model hears it')")


def test_a_gesture_that_is_broken_off_changes_nothing(visit):
    one = visit()
    notes = "[...document.querySelectorAll('#roll .note')].map((note) => note.outerHTML).join()"
    before, drawn = one.state("selected.notes"), one.page.evaluate(notes)
    one.page.locator("#roll").hover(position={"x": 300, "y": 5})  # above all notes
    one.page.mouse.down()
    assert one.page.evaluate(notes) != drawn
    one.page.dispatch_event("#roll", "pointercancel")
    one.page.mouse.up()
    assert (one.page.evaluate(notes), one.state("selected.notes")) == (drawn, before)


def test_undo_works_while_a_slider_has_the_focus_and_names_do_not_grow(visit):
    one = visit()
    one.page.wait_for_selector("#panel-sliders input")
    roll, names = one.page.locator("#roll"), []
    for turn in range(2):
        roll.press("Enter")
        one.wait("studio.store.state.selected.name.endsWith('(edited)')")
        names.append(one.state("selected.name"))
        slider = one.page.locator("#panel-sliders input").first
        slider.press("ArrowRight")
        one.wait("studio.store.state.selected.name.endsWith('(slid)')")
        if turn == 0:
            slider.press("Control+z")
            one.wait("studio.store.state.selected.name.endsWith('(edited)')")
            one.page.keyboard.press("Control+Shift+z")
            one.wait("studio.store.state.selected.name.endsWith('(slid)')")
    assert names[0] == names[1]


def vary(one):
    open_file(one, TUNE)
    one.page.click("#tab-variations")
    one.page.fill("#distance", "100")
    one.page.fill("#count", "99")
    one.page.click("#vary")
    one.wait("document.querySelectorAll('#results .item').length === 16")  # the most there can be
    assert one.page.input_value("#count") == "16"


def test_sliders_begin_with_the_melody_shown(visit):
    one = visit()
    vary(one)
    for number in (1, 4):
        one.page.click(f"#results .item:nth-child({number}) .tile")
    one.page.click("#tab-sliders")
    one.page.fill("input[data-name=density]", "2")
    one.wait("studio.store.state.selected.name === 'Variation 4 (slid)'")
    one.page.click("#undo")
    one.wait("studio.store.state.selected.name === 'Variation 4'")
    assert one.page.input_value("input[data-name=density]") == "0"
    one.page.click("#undo")
    one.page.fill("input[data-name=range]", "2")
    one.wait("studio.store.state.selected.name === 'Variation 1 (slid)'")
    one.page.fill("input[data-name=range]", "0")
    one.wait("studio.store.state.selected.name === 'Variation 1'")


def test_what_is_undone_does_not_sound(visit):
    one = visit()
    vary(one)
    one.page.click("#results .item:nth-child(1) .tile")
    one.page.click("#results .item:nth-child(2) .tile")
    one.wait("studio.player.playing && studio.player.parts[0].notes === studio.store.state.selected.notes")
    one.page.click("#undo")
    one.wait("studio.store.state.selected.name === 'Variation 1'")
    assert one.page.evaluate(
        "studio.player.playing && studio.player.parts[0].notes === studio.store.state.selected.notes"
    )
    one.page.click("#results .item:nth-child(1) .tile")  # again: it stops
    one.wait("!studio.player.playing")
    one.page.click("#to-tune")
    one.page.click("#tune-play")
    one.wait("studio.player.playing && studio.player.tag.kind === 'tune'")
    one.page.click("#tune-clear")
    assert not one.page.evaluate("studio.player.playing") and one.page.is_disabled("#tune-play")


def test_a_change_of_size_is_undone_at_once(visit):
    one = visit()
    cells = one.state("cells")
    one.page.select_option("#size", "5")
    one.wait("studio.store.state.filled && studio.store.state.cells.length === 25")
    one.page.click("#undo")
    assert one.state("cells") == cells


def test_the_focus_stays_where_work_is_done(visit):
    one = visit()
    where = "document.activeElement.getAttribute('aria-label') || ''"
    one.page.focus("#seeds-bottom .chip >> nth=1")
    one.page.keyboard.press("Enter")
    one.page.click("#seed-random")
    one.wait("studio.store.state.filled === false")
    assert one.page.evaluate(where) == "Corner lower right: Random. Change it"
    for _ in range(3):
        one.page.click("#to-tune")
    one.page.focus("#tune .item:nth-child(2) .tile")
    for left, expected in ((2, "2 of 2"), (1, "1 of 1"), (0, "")):
        one.page.keyboard.press("Delete")
        assert one.page.evaluate("document.querySelectorAll('#tune .item').length") == left
        assert one.page.evaluate(where).startswith(expected)
    assert one.page.evaluate("document.activeElement.id") == "to-tune"


def test_a_phone_can_always_stop(visit):
    one = visit(viewport={"width": 390, "height": 700}, has_touch=True)
    assert not one.page.is_visible("#stop")
    one.page.click('.cell[data-cell="10"]')
    one.wait("studio.player.playing")
    one.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    assert one.page.evaluate("document.querySelector('#stop').getBoundingClientRect().bottom <= innerHeight")
    one.page.click("#stop")
    assert not one.page.evaluate("studio.player.playing") and not one.page.is_visible("#stop")


def test_the_tools_make_melodies(visit):
    one = visit()
    open_file(one, TUNE)
    for tab, button, expected in (("variations", "vary", 6), ("continue", "continue", 3), ("blend", "blend", 7)):
        one.page.click(f"#tab-{tab}")
        if tab == "blend":
            one.page.click("#blend-from")
            one.page.click('.cell[data-cell="48"]')
            one.page.click("#blend-to")
        one.page.click(f"#{button}")
        one.wait(f"document.querySelectorAll('#results .item').length === {expected}")
    one.page.click("#results .item:nth-child(2) button.small")
    one.page.click("#to-tune")
    assert len(one.state("timeline")) == 2
    notes = midi_notes(one.download("#tune-mid")[1])
    assert len(notes) == sum(len(tune["notes"]) for tune in one.state("timeline"))
    one.page.click("#tab-sliders")
    one.page.fill("input[data-name=density]", "2")
    one.wait("studio.store.state.selected.name.endsWith('(slid)')")


class Held:
    """Requests of a page for *path* that are answered when a test says so."""

    def __init__(self, one, path):
        self.one, self.routes = one, []
        one.page.route(f"**/api/{path}", lambda route: self.routes.append(route))

    def wait_for(self, count):
        begun = time.monotonic()
        while len(self.routes) < count:
            assert time.monotonic() - begun < PATIENCE
            self.one.page.wait_for_timeout(20)

    def answer(self, number):
        """Let the page have the answer, and do what it does with it."""
        with self.one.page.expect_response("**/api/*"):
            self.routes[number].continue_()


def test_only_the_last_grid_that_was_asked_for_is_shown(visit):
    one = visit()
    held = Held(one, "grid")
    for count in (1, 2):
        one.page.click("#surprise")
        held.wait_for(count)
    wanted = held.routes[1].request.post_data_json["corners"]
    held.answer(1)
    one.wait("studio.store.state.corners[0].seed !== undefined")
    cells = one.state("cells")
    held.answer(0)
    one.wait("!document.body.classList.contains('busy')")
    assert (one.state("corners"), one.state("cells")) == (wanted, cells)


def test_a_grid_of_the_meter_before_is_left_out(visit):
    one = visit()
    one.wait("document.querySelectorAll('#meter option').length > 1")
    held = Held(one, "grid")
    one.page.click("#surprise")
    held.wait_for(1)
    one.page.select_option("#meter", "6-8")
    one.wait("studio.store.state.model === '6-8'")
    cells, steps = one.state("cells"), one.state("steps")
    held.answer(0)
    one.wait("!document.body.classList.contains('busy')")
    assert one.state("cells") == cells and one.state("corners")[0].get("notes")
    assert all(start + length <= steps for cell in cells for _, start, length in cell)


def test_a_corner_that_changed_since_keeps_its_melody(visit):
    one = visit()
    held = Held(one, "grid")
    one.page.click("#fill")
    held.wait_for(1)
    open_file(one, TUNE)
    one.wait("!document.querySelector('#file-dialog').open")
    one.page.click("#as-corner button >> nth=0")
    one.wait("studio.store.state.filled === false")
    held.answer(0)
    one.wait("!document.body.classList.contains('busy')")
    assert one.state("filled") is False and one.state("corners")[0]["notes"] == TUNE


def test_a_path_is_drawn_and_played(visit):
    one = visit(viewport={"width": 1280, "height": 1200})
    one.page.click("#path-draw")
    box = one.page.locator("#grid").bounding_box()
    width, height = box["width"] / 7, box["height"] / 7
    one.page.mouse.move(box["x"] + width / 2, box["y"] + height / 2)
    one.page.mouse.down()
    for step in range(1, 4):
        one.page.mouse.move(box["x"] + (step + 0.5) * width, box["y"] + height / 2, steps=5)
    one.page.mouse.up()
    assert one.state("path") == [0, 1, 2, 3]
    one.page.click("#path-draw")
    one.page.select_option("#path-bars", "1")
    one.page.click("#path-play")
    one.wait("studio.player.playing && studio.player.tag.kind === 'path' && studio.player.length === 64")


def test_a_link_brings_everything_back(visit, studio_address):
    one = visit()
    open_file(one, TUNE)
    one.page.click("#as-corner button:nth-child(1)")
    one.wait("studio.store.state.corners[0].name === 'mine'")
    one.page.click("#fill")
    one.wait("studio.store.state.filled")
    one.page.click("#to-tune")
    one.page.fill("#tempo", "100")
    one.page.click("#link")
    expected = [one.state(name) for name in ("corners", "cells", "timeline", "tempo", "selected")]
    other = visit(studio_address + one.page.evaluate("location.hash"))
    found = [other.state(name) for name in ("corners", "cells", "timeline", "tempo", "selected")]
    assert found == expected


def test_a_link_that_is_pasted_into_the_open_page_is_followed(visit, studio_address):
    one = visit()
    one.page.select_option("#path-bars", "2")
    one.page.focus("#roll")
    one.page.keyboard.press("Enter")  # edits a corner: the grid is out of date, and stays so
    one.wait("studio.store.state.filled === false")
    one.page.click("#link")
    names = ("corners", "cells", "edits", "selected", "pathBars", "filled")
    expected, link = [one.state(name) for name in names], one.page.evaluate("location.hash")
    other = visit()
    all_meters(other)
    other.page.select_option("#meter", "6-8")
    other.wait("studio.store.state.model === '6-8'")
    before = other.state("cells")
    # The browser tells the page of another address later on: the status says when it has been followed.
    for address, status in (
        (link, "The corners have changed since this grid was filled."),
        ("#broken", "The link is broken"),
    ):
        other.page.evaluate(f"location.hash = '{address}'")
        other.wait(f"document.querySelector('#status').textContent.startsWith({status!r})")
        other.wait("studio.store.state.filled === false && !document.body.classList.contains('busy')")
        assert [other.state(name) for name in names] == expected
    assert other.page.input_value("#path-bars") == "2"
    other.page.click("#undo")
    other.wait("studio.store.state.model === '6-8'")
    assert other.state("cells") == before


@pytest.mark.parametrize("link", ["#x", "#eyJ2IjoxfQ", "#" + "A" * 5000])
def test_a_link_of_nonsense_changes_nothing(visit, studio_address, link):
    one = visit(studio_address + link)
    one.wait("document.querySelector('#status').textContent.startsWith('The link is broken')")
    assert len(one.state("cells")) == 49


def test_the_keyboard_alone_suffices(visit):
    one = visit()
    page = one.page
    page.focus("#grid .cell")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.cell") == "8"
    page.keyboard.press("Enter")
    one.wait("studio.player.playing && studio.player.tag.cell === 8")
    page.keyboard.press("ArrowRight")  # focus plays
    one.wait("studio.player.playing && studio.player.tag.cell === 9")
    page.keyboard.press("Escape")
    one.wait("!studio.player.playing")
    page.focus("#roll")
    before = one.state("selected.notes.length")
    for key in ("ArrowUp",) * 14 + ("ArrowRight", "Enter"):
        page.keyboard.press(key)
    one.wait(f"JSON.stringify(studio.store.state.selected.name).includes('edited') && {before} > 0")
    assert "bar 1" in page.text_content("#spoken")
    page.keyboard.press("Control+z")
    one.wait("!studio.store.state.selected.name.includes('edited')")
    page.focus("#path-draw")
    page.keyboard.press("Enter")
    page.focus('.cell[data-cell="9"]')
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert one.state("path") == [9, 10]
    page.focus("#tab-sliders")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-variations", "aria-selected") == "true"


def test_the_heads_of_the_score_do_not_touch(visit):
    one = visit()
    open_file(one, [[60 + number % 12, number, 1] for number in range(64)])  # sixteenths, many of them with signs
    one.wait("document.querySelectorAll('#score ellipse').length === 64")
    places = one.page.evaluate(
        "[...document.querySelectorAll('#score ellipse')].map((head) => head.getBoundingClientRect())"
        ".map(({ y, left, right }) => [y, left, right])"
    )
    rows = one.page.locator("#score .clef").count()
    gaps = [after[1] - before[2] for before, after in zip(places, places[1:], strict=False) if after[1] > before[1]]
    assert rows > 1 and len(gaps) == 64 - rows and min(gaps) > 0


def test_everything_has_a_name(visit):
    one = visit()
    nameless = one.page.evaluate(
        """[...document.querySelectorAll("button, input, select, [role=img], [role=grid], [role=application]")]
        .filter((e) => e.offsetParent !== null)
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && e.labels.length)))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    assert one.page.locator("[role=gridcell][aria-label]").count() == 49


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_fits_a_phone_and_follows_light_and_dark(visit, width, scheme):
    one = visit(viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert one.page.evaluate("document.documentElement.scrollWidth") <= width
    ground = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, ground[4:-1].split(","))) > 384
    assert light == (scheme == "light")
    one.page.click("#theme")
    assert one.page.evaluate("getComputedStyle(document.body).backgroundColor") != ground


METERS = {"2/4": (16, 100), "3/4": (12, 150), "6/8": (12, 180), "9/8": (18, 180)}  # steps per bar, tempo


def all_meters(one):
    one.wait("document.querySelectorAll('#meter option').length === 5")


@pytest.mark.parametrize("meter", METERS)
def test_another_meter_has_a_grid_of_its_own(visit, meter):
    one = visit()
    all_meters(one)
    before = one.state("cells")
    bar, tempo = METERS[meter]
    one.page.select_option("#meter", label=meter)
    one.wait(f"studio.store.state.model === '{meter.replace('/', '-')}' && studio.store.state.filled")
    assert [one.state(name) for name in ("steps", "tempo", "cells.length")] == [4 * bar, tempo, 49]
    assert one.page.locator("#roll .barline").count() == 5
    one.page.focus("#roll")
    one.page.keyboard.press("Home")
    for _ in range(3):
        one.page.keyboard.press("Shift+ArrowRight")
    unit = "thirty-seconds" if meter == "2/4" else "sixteenths"
    assert f"bar 1, beat 1 and 3 {unit}:" in one.page.text_content("#spoken")
    assert one.page.locator("#score text.meter").all_text_contents() == meter.split("/")
    name, content = one.download("#save-mid")
    midi = mido.MidiFile(file=io.BytesIO(content))
    signature = next(message for message in midi.merged_track if message.type == "time_signature")
    assert f"{signature.numerator}/{signature.denominator}" == meter
    beats, unit = map(int, meter.split("/"))
    assert midi.length <= 4 * 4 * beats / unit * 60 / tempo + 0.01  # four bars
    one.page.click("#surprise")
    one.wait("studio.store.state.corners.every((corner) => 'seed' in corner)")
    one.page.click("#undo")
    one.page.click("#undo")
    one.wait("studio.store.state.model === '4-4'")
    assert (one.state("cells"), one.state("tempo")) == (before, 160)
    assert one.page.input_value("#meter") == "4-4"
    one.page.click("#redo")
    one.wait(f"studio.store.state.steps === {4 * bar} && document.getElementById('meter').value !== '4-4'")
    one.page.click("#tab-variations")
    one.page.click("#vary")
    one.wait("document.querySelectorAll('#results .item').length === 6")


def abc_file(meter, music, tunes=1):
    lines = [f"X:{n}\nT:Tune {n}\nM:{meter}\nL:1/8\nQ:1/4=120\nK:C\n{music}" for n in range(1, tunes + 1)]
    return "\n\n".join(lines).encode()


@pytest.mark.parametrize(
    "meter, music, expected",
    [
        ("6/8", "CDE FGA | GFE D3 | CDE FGA | G3 C3 |]", [[60, 0, 2], [62, 2, 2], [64, 4, 2]]),
        ("3/4", "C2E2G2 | c2G2E2 | D2F2A2 | C6 |]", [[60, 0, 4], [64, 4, 4], [67, 8, 4]]),
        ("9/8", "CDE FGA GFE | D3 E3 F3 | CDE FGA GFE | C9 |]", [[60, 0, 2], [62, 2, 2], [64, 4, 2]]),
        ("2/4", "C/D/E/F/ G2 | A2 G2 | C/D/E/F/ G2 | C4 |]", [[60, 0, 2], [62, 2, 2], [64, 4, 2]]),
        ("C|", "C2E2 G4 | c4 G4 | C2E2 G4 | C8 |]", [[60, 0, 4], [64, 4, 4], [67, 8, 8]]),
    ],
)
def test_a_file_brings_its_meter(visit, meter, music, expected):
    one = visit()
    all_meters(one)
    file = {"name": "mine.abc", "mimeType": "text/plain", "buffer": abc_file(meter, music)}
    one.page.set_input_files("#file", file)
    one.page.wait_for_selector("#file-dialog[open]")
    changes = "the studio changes to this meter" in one.page.inner_text("#file-remarks")
    assert changes == (meter != "C|")
    one.page.click("#file-take")
    one.wait("studio.store.state.selected.name === 'Tune 1'")
    assert one.state("selected.notes.slice(0, 3)") == expected
    assert one.state("model") == {"C|": "4-4"}.get(meter, meter.replace("/", "-"))
    assert b"M:" + {"C|": "4/4"}.get(meter, meter).encode() in one.download("#save-abc")[1]


def test_a_file_in_a_meter_that_no_model_knows_is_told_so(visit):
    one = visit()
    all_meters(one)
    file = {"name": "mine.abc", "mimeType": "text/plain", "buffer": abc_file("12/8", "CDE FGA GFE D3 |" * 5)}
    one.page.set_input_files("#file", file)
    one.page.wait_for_selector("#file-dialog[open]")
    words = one.page.inner_text("#file-remarks")
    assert "in 12/8, which no model here knows (there is 4/4, 2/4, 3/4, 6/8, 9/8)" in words
    one.page.click("#file-take")
    one.wait("studio.store.state.selected.name === 'Tune 1' && studio.store.state.model === '4-4'")


def test_a_link_brings_back_its_meter(visit, studio_address):
    one = visit()
    all_meters(one)
    one.page.select_option("#meter", label="6/8")
    one.wait("studio.store.state.model === '6-8'")
    one.page.click("#to-tune")
    one.page.click("#link")
    expected = [one.state(name) for name in ("model", "steps", "cells", "timeline", "tempo")]
    other = visit(studio_address + one.page.evaluate("location.hash"))
    assert [other.state(name) for name in ("model", "steps", "cells", "timeline", "tempo")] == expected
    assert other.page.locator("#score text.meter").all_text_contents() == ["6", "8"]


@pytest.mark.parametrize("meter, seconds", [("4/4", 16 * 60 / 160), ("6/8", 12 * 60 / 180), ("2/4", 8 * 60 / 100)])
def test_the_exported_page_plays_from_a_file(visit, tmp_path, meter, seconds):
    from fairseq_seqvae.melody.__main__ import main

    file = tmp_path / "page.html"
    assert main(["studio", "--export", str(file), "--meter", meter]) == 0
    one = visit(file.as_uri())
    assert one.page.locator("#score text.meter").all_text_contents() == meter.split("/")
    assert one.page.evaluate("studio.store.state.steps * studio.player.secondsPerStep") == pytest.approx(seconds)
    assert one.page.locator(".cell svg").count() == 49
    one.page.click('.cell[data-cell="10"]')
    one.wait("studio.player.allowed && studio.player.context.currentTime > 0.3")
    grid = 8 if meter == "2/4" else 4
    assert midi_notes(one.download("#save-mid")[1], grid) == one.state("cells[10]")
    assert not one.page.is_visible("#fill") and one.page.is_visible("#hover")
    one.page.click("#to-tune")
    assert len(midi_notes(one.download("#tune-mid")[1])) == len(one.state("cells[10]"))
    one.page.focus("#roll")
    one.page.keyboard.press("Enter")
    one.page.click("#link")
    other = visit(file.as_uri() + one.page.evaluate("location.hash"))
    assert list(other.state("edits")) == ["10"] and other.state("edits") == one.state("edits")
    assert [url for url in one.requests if not url.startswith(("file:", "blob:", "data:"))] == []
