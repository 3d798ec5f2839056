// The page: what its buttons do.

import { $, cornerColour, htmlElement, melodyTile, miniRoll } from "./draw.js";
import { Grid } from "./grid.js";
import { Roll } from "./roll.js";
import { Player, SOUND_NAMES } from "./sound.js";
import { Store, hashToState, stateToHash } from "./store.js";
import { FileDialog, SeedDialog } from "./dialogs.js";
import { ask, fetchFile, saveBlob, tell } from "./api.js";
import { cutNotes, describeMelody, isCompound, isMelody, nameAfter, sameMelody } from "./notes.js";
import { midiFile } from "./midi.js";
import { resetSliders, showOutputs, showSliders, showTabs } from "./tools.js";
import { scoreInWords, scoreOf } from "./score.js";

const CORNER_NAMES = ["upper left", "upper right", "lower left", "lower right"];
const SIDES = [3, 5, 7, 9, 11];
const POLL = 400; // milliseconds
const TEMPOS = { "2/4": 100, "3/4": 150, "6/8": 180, "9/8": 180 }; // quarter notes per minute, to begin with
const TEMPO = 160; // of other meters

const arrived = location.hash.slice(1); // the link that led here, before the page writes its own
const kept = $("studio-data") ? JSON.parse($("studio-data").textContent) : null;
const player = new Player();
let model = { name: null, meter: "4/4", bars: 4, steps_per_bar: 16, steps_per_quarter: 4, sliders: [], tunes: [], ready: false };
let models = []; // those that are open
let firsts = {}; // grids that were decoded beforehand, by the name of the model
let results = [];
let drawing = false;
let busy = 0;
let blendEnds = [null, null];
let slid = null; // the melody that the sliders started from
const asked = {}; // how often the model was asked for something, by kind: only the answer to the last question counts

const store = new Store({
  model: null,
  steps: 64,
  corners: [1, 2, 3, 4].map((seed) => ({ seed })),
  side: 7,
  cells: [],
  edits: {},
  filled: false,
  selected: { name: "", notes: [], steps: 64 },
  cell: null,
  timeline: [],
  path: [],
  pathBars: 4,
  tempo: TEMPO,
  loop: true,
  hover: true,
});

// -- saying

let fading = 0;
function say(sentence, kind = "") {
  const status = $("status");
  status.textContent = sentence;
  status.className = `status shown ${kind}`;
  clearTimeout(fading);
  if (kind !== "wait") fading = setTimeout(() => (status.className = "status"), kind === "bad" ? 8000 : 3500);
}

function sayNothing() {
  if ($("status").classList.contains("wait")) $("status").className = "status";
}

function speak(text) {
  $("spoken").textContent = text;
}

// Do something that takes the model's time; what goes wrong is said.
async function working(sentence, action) {
  busy += 1;
  document.body.classList.add("busy");
  const slow = setTimeout(() => say(sentence, "wait"), 250);
  try {
    const result = await action();
    clearTimeout(slow);
    sayNothing();
    return result;
  } catch (error) {
    clearTimeout(slow);
    say(error.message, "bad");
    return null;
  } finally {
    busy -= 1;
    document.body.classList.toggle("busy", busy > 0);
  }
}

// What the model answers; null if that went wrong, or is out of date: another model was chosen, or more of its kind asked.
async function fromModel(sentence, path, body, kind = null) {
  const { name } = model;
  const turn = kind && askAgain(kind);
  const answer = await working(sentence, () => tell(path, { model: name, ...body }));
  return model.name === name && (!kind || turn === asked[kind]) ? answer : null;
}

// What was asked for before is out of date.
function askAgain(kind) {
  asked[kind] = (asked[kind] || 0) + 1;
  return asked[kind];
}

// -- melodies

function steps() {
  return store.state.steps;
}

function melodyOf(cell, state = store.state) {
  return state.edits[cell] || state.cells[cell] || [];
}

function cornerCells(side) {
  return [0, side - 1, side * (side - 1), side * side - 1];
}

function cellName(cell) {
  const side = store.state.side;
  const corner = cornerCells(side).indexOf(cell);
  if (corner >= 0) return cornerName(corner);
  return `Row ${Math.floor(cell / side) + 1}, column ${(cell % side) + 1}`;
}

function cornerName(number) {
  const corner = store.state.corners[number];
  return "seed" in corner ? "Random" : corner.name || "Melody";
}

function pointOf(corner) {
  return "seed" in corner ? { seed: corner.seed } : { notes: corner.notes };
}

function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}

function select(tune, cell = null, undoable = true) {
  slid = null;
  resetSliders();
  store.set({ selected: tune, cell }, undoable);
}

// -- playing

function hear(parts, tag) {
  const heard = parts.filter((part) => part.notes.length);
  if (!heard.length) {
    say("There are no notes to play yet.");
    return;
  }
  player.play(parts, tag);
  showPlaying();
}

function hearSelected() {
  hear([store.state.selected], { kind: "selected", cell: store.state.cell });
}

function pathParts(state) {
  const length = Math.min(state.pathBars, model.bars) * model.steps_per_bar;
  return state.path.map((cell, turn) => {
    const start = (turn * length) % steps();
    return { notes: cutNotes(melodyOf(cell, state), start, start + length), steps: length };
  });
}

function toggle(kind, start) {
  if (player.playing && player.tag.kind === kind) player.stop();
  else start();
}

player.onMove = (tag, number, step) => {
  const { state } = store;
  const length = player.parts[number].steps;
  if (tag.kind === "cell" || (tag.kind === "selected" && tag.cell !== null)) grid.mark(tag.cell, step / length);
  else if (tag.kind === "path") grid.mark(state.path[number], step / length);
  else grid.mark(null);
  if (tag.kind === "selected" || (tag.kind === "cell" && tag.cell === state.cell)) roll.mark(step);
  else roll.mark(null);
  $("tune").querySelectorAll(".item").forEach((item, i) => item.classList.toggle("sounding", tag.kind === "tune" && i === number));
};

player.onStop = () => showPlaying();

function showPlaying() {
  const kind = player.playing ? player.tag.kind : null;
  document.body.classList.toggle("playing", kind !== null);
  $("play").setAttribute("aria-label", kind ? "Stop" : "Play");
  $("path-play").textContent = kind === "path" ? "Stop the path" : "Play the path";
  $("tune-play").textContent = kind === "tune" ? "Stop the tune" : "Play the tune";
  if (!kind) {
    grid.mark(null);
    roll.mark(null);
    $("tune").querySelectorAll(".sounding").forEach((item) => item.classList.remove("sounding"));
  }
}

// -- the grid

const grid = new Grid({
  isDrawing: () => drawing,
  choose(cell) {
    const notes = melodyOf(cell);
    if (!notes.length) return;
    if (player.playing && player.tag.kind === "selected" && player.tag.cell === cell) {
      player.stop();
      return;
    }
    if (store.state.cell !== cell || !sameMelody(store.state.selected.notes, notes)) {
      // Looking around is nothing to undo, unless a melody that stands nowhere else is left.
      select({ name: cellName(cell), notes, steps: steps() }, cell, store.state.cell === null);
    }
    hearSelected();
  },
  hear(cell) {
    if (!player.allowed || !store.state.hover || !melodyOf(cell).length) return;
    if (player.playing && !["cell", "selected"].includes(player.tag.kind)) return;
    if (player.playing && player.tag.cell === cell) return;
    hear([{ notes: melodyOf(cell), steps: steps() }], { kind: "cell", cell });
  },
  leave() {
    if (player.playing && player.tag.kind === "cell") player.stop();
  },
  path(cells, whole) {
    store.set({ path: whole ? cells : [...store.state.path, ...cells] }, !whole || cells.length === 1);
  },
});

async function fill(corners = store.state.corners) {
  const { side } = store.state;
  const body = { corners: corners.map(pointOf), rows: side, columns: side };
  const answer = await fromModel("Filling the grid …", "grid", body, "grid");
  if (!answer || store.state.side !== side) return false;
  // A corner shows the melody that it was given, though the model may give it back a little differently.
  const cells = answer.tunes;
  const ends = cornerCells(side);
  answer.corners.forEach((notes, number) => {
    if (notes) cells[ends[number]] = notes;
  });
  store.set({ corners, cells, edits: {}, filled: true, ...chosenAfter(cells) });
  say("The grid is full: hover over it, or move by the arrow keys.");
  return true;
}

// The melody shown is that of the chosen cell, if one is chosen.
function chosenAfter(cells) {
  const { cell } = store.state;
  if (cell === null || !cells[cell]) return {};
  return { selected: { name: cellName(cell), notes: cells[cell], steps: steps() } };
}

async function setCorner(number, corner) {
  let { notes } = corner;
  if (!notes) {
    const answer = await fromModel("Drawing a melody …", "decode", { points: [pointOf(corner)] });
    if (!answer) return;
    [notes] = answer.tunes;
  }
  const { corners, cells, side, edits } = store.state;
  const cell = cornerCells(side)[number];
  const filledCells = cells.length === side * side ? [...cells] : Array.from({ length: side * side }, () => []);
  filledCells[cell] = notes;
  const remaining = Object.fromEntries(Object.entries(edits).filter(([at]) => Number(at) !== cell));
  const changed = corners.map((old, i) => (i === number ? corner : old));
  askAgain("grid");
  store.set({ corners: changed, cells: filledCells, edits: remaining, filled: false });
  select({ name: cornerName(number), notes, steps: steps() }, cell, false);
  if (player.allowed) hearSelected();
  say("Now fill the grid.");
}

function surprise() {
  return fill([0, 1, 2, 3].map(() => ({ seed: randomSeed() })));
}

function seedChip(number) {
  const corner = store.state.corners[number];
  const chip = htmlElement("button", { type: "button", className: "chip" });
  chip.style.setProperty("--colour", cornerColour(number));
  chip.setAttribute("aria-label", `Corner ${CORNER_NAMES[number]}: ${cornerName(number)}. Change it`);
  chip.append(htmlElement("span", { className: "dot" }), htmlElement("span", { textContent: "seed" in corner ? "Random" : corner.name || "Melody" }));
  if (kept) chip.disabled = true;
  else chip.append(htmlElement("span", { className: "more", textContent: "change" }));
  chip.addEventListener("click", () => seeds.open(number, `Corner, ${CORNER_NAMES[number]}`, model.tunes || [], steps()));
  return chip;
}

const files = new FileDialog({
  model: () => model,
  models: () => models,
  listen: (melody) => hear([melody], { kind: "file" }),
  quiet: () => player.playing && player.tag.kind === "file" && player.stop(),
  fail: (sentence) => say(sentence, "bad"),
  async take(melody, target, chosen) {
    if (chosen.name !== model.name) await changeModel(chosen);
    if (target === null) {
      select(melody);
      hearSelected();
    } else setCorner(target, melody);
  },
});

const seeds = new SeedDialog({
  random: (corner) => setCorner(corner, { seed: randomSeed() }),
  file: (corner) => files.choose(corner),
  selected: (corner) => asCorner(corner),
  drawn: () => fromScratch(),
  tune: (corner, tune) => setCorner(corner, { name: tune.name, notes: tune.notes, steps: steps() }),
});

function asCorner(number) {
  const melody = oneLength();
  if (melody) setCorner(number, { name: melody.name || "Melody", notes: melody.notes, steps: steps() });
}

function fromScratch() {
  player.stop();
  select({ name: "My melody", notes: [], steps: steps() });
  $("roll").focus();
  say("Click into the roll to add notes; then use the melody as a corner.");
}

// -- the melody shown

const roll = new Roll({
  speak,
  sound: (pitch) => player.touch(pitch),
  change(notes) {
    const { selected, cell, edits } = store.state;
    if (sameMelody(selected.notes, notes)) return;
    const tune = { ...selected, notes, name: nameAfter(selected.name, "edited") };
    slid = null;
    resetSliders();
    const corner = cell === null ? -1 : cornerCells(store.state.side).indexOf(cell);
    const patch = { selected: tune };
    if (cell !== null && notes.length) patch.edits = { ...edits, [cell]: notes };
    if (corner >= 0 && notes.length) {
      // A corner that was edited is a seed of its own.
      patch.corners = store.state.corners.map((old, i) => (i === corner ? { name: tune.name, notes, steps: steps() } : old));
      patch.filled = false;
      askAgain("grid");
    }
    store.set(patch);
    if (player.playing && player.tag.kind === "selected" && notes.length) hearSelected();
  },
});

// Steps of a beat: a dotted quarter of 6/8, a quarter of 3/4.
function beat() {
  const [beats, unit] = model.meter.split("/").map(Number);
  return ((isCompound(beats) ? 3 : 1) * 4 * model.steps_per_quarter) / unit;
}

// Steps that share a beam: half a bar of 4/4, a dotted quarter of 6/8, or else a quarter.
function beamed() {
  return model.meter === "4/4" || model.meter === "2/2" ? model.steps_per_bar / 2 : Math.max(model.steps_per_quarter, beat());
}

function showScore() {
  const { selected } = store.state;
  const box = $("score");
  box.setAttribute("aria-label", scoreInWords(selected.notes));
  const scale = 4 / model.steps_per_quarter; // the score counts in sixteenths
  const notes = selected.notes.map(([pitch, start, length]) => [pitch, start * scale, length * scale]);
  const widths = [model.steps_per_bar, beat(), beamed()].map((width) => width * scale);
  box.replaceChildren(scoreOf(notes, selected.steps * scale, model.meter, ...widths, Math.max(260, box.clientWidth)));
}

async function slideTo(values) {
  const start = slid || oneLength();
  if (!start) return;
  slid = start;
  const body = { points: [{ notes: start.notes, sliders: values }] };
  const answer = await fromModel("Sliding …", "decode", body, "slide");
  if (!answer) return;
  const name = nameAfter(start.name, "slid");
  const moved = Object.keys(values).length > 0;
  store.set({ selected: moved ? { name, notes: answer.tunes[0], steps: steps() } : start, cell: null });
  hearSelected();
}

// The melody shown, as long as the model's: of a longer one the beginning, or the end.
function oneLength(atEnd = false) {
  const { selected } = store.state;
  const start = atEnd ? Math.max(0, selected.steps - steps()) : 0;
  const notes = cutNotes(selected.notes, start, start + steps());
  if (notes.length) return { ...selected, notes, steps: steps() };
  say("There are no notes yet.", "bad");
  return null;
}

async function rethink() {
  const selected = oneLength();
  if (!selected) return;
  const answer = await fromModel("Listening …", "decode", { points: [{ notes: selected.notes }] }, "slide");
  if (!answer) return;
  const [notes] = answer.tunes;
  if (sameMelody(notes, selected.notes)) say("The model gives back exactly this melody.");
  else {
    select({ name: nameAfter(selected.name, "as the model hears it"), notes, steps: steps() });
    hearSelected();
  }
}

function showResults(tunes) {
  results = tunes;
  const list = tunes.map((tune) => {
    const tile = melodyTile(tune, `${tune.name}: ${describeMelody(tune.notes)}. Play`);
    tile.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hoverResult(tune));
    tile.addEventListener("pointerleave", () => player.playing && player.tag.kind === "result" && player.tag.hover && player.stop());
    tile.addEventListener("click", () => {
      select(tune);
      hearSelected();
    });
    const add = htmlElement("button", { type: "button", className: "quiet small", textContent: "+", title: "Add to the tune", "aria-label": `Add ${tune.name} to the tune` });
    add.addEventListener("click", () => addToTune(tune));
    return htmlElement("div", { className: "item", role: "listitem" }, tile, add);
  });
  $("results").replaceChildren(...list);
}

function hoverResult(tune) {
  if (!player.allowed || !store.state.hover || !tune.notes.length) return;
  if (player.playing && player.tag.kind !== "result") return;
  hear([tune], { kind: "result", hover: true });
}

async function vary() {
  const selected = oneLength();
  if (!selected) return;
  const body = {
    point: { notes: selected.notes },
    count: Number($("count").value) || 6,
    distance: Number($("distance").value) / 100,
    temperature: Number($("temperature").value) / 100,
    seed: randomSeed(),
  };
  const answer = await fromModel("Varying …", "variations", body, "results");
  if (answer) showResults(answer.tunes.map((notes, i) => ({ name: `Variation ${i + 1}`, notes, steps: steps() })));
}

async function goOn() {
  const selected = oneLength(true);
  if (!selected) return;
  const bars = Number($("more-bars").value);
  const body = {
    notes: selected.notes,
    bars,
    count: Number($("more-count").value) || 3,
    temperature: Number($("more-temperature").value) / 100,
    seed: randomSeed(),
  };
  const answer = await fromModel("Continuing …", "continue", body, "results");
  if (!answer) return;
  showResults(answer.tunes.map((notes, i) => ({ name: `Continuation ${i + 1}`, notes, steps: bars * model.steps_per_bar })));
}

async function blend() {
  const [from, to] = blendEnds;
  if (!from || !to) {
    say("Choose both ends: show a melody, then press From or To.", "bad");
    return;
  }
  const body = { from: { notes: from.notes }, to: { notes: to.notes }, steps: Number($("blend-steps").value) };
  const answer = await fromModel("Blending …", "blend", body, "results");
  if (answer) showResults(answer.tunes.map((notes, i) => ({ name: `Step ${i + 1} of ${answer.tunes.length}`, notes, steps: steps() })));
}

function setBlendEnd(number) {
  const selected = oneLength();
  if (!selected) return;
  blendEnds[number] = selected;
  showBlendEnds();
}

function showBlendEnds() {
  ["blend-from", "blend-to"].forEach((id, number) => {
    const end = blendEnds[number];
    const what = number ? "To" : "From";
    $(id).setAttribute("aria-label", end ? `${what}: ${end.name}. Replace by the melody shown` : `${what}: take the melody shown`);
    $(id).title = "Take the melody shown";
    $(id).replaceChildren(end ? miniRoll(end.notes, end.steps) : "the melody shown");
  });
}

// -- the tune

function addToTune(tune) {
  if (!tune.notes.length) {
    say("There are no notes yet.", "bad");
    return;
  }
  store.set({ timeline: [...store.state.timeline, { ...tune }] });
  say(`Added: ${tune.name}`);
}

function moveInTune(from, to) {
  const { timeline } = store.state;
  if (to < 0 || to >= timeline.length) return;
  const moved = [...timeline];
  moved.splice(to, 0, ...moved.splice(from, 1));
  store.set({ timeline: moved });
  const item = $("tune").children[to];
  if (item) item.querySelector(".tile").focus();
}

function tuneItem(tune, number, count) {
  const tile = melodyTile(tune, `${number + 1} of ${count}, ${tune.name}. Enter shows it, Alt with arrows moves it, Delete removes it`);
  tile.addEventListener("click", () => {
    select({ ...tune });
    hearSelected();
  });
  tile.addEventListener("keydown", (event) => {
    if (event.altKey && event.key === "ArrowLeft") moveInTune(number, number - 1);
    else if (event.altKey && event.key === "ArrowRight") moveInTune(number, number + 1);
    else if (event.key === "Delete") remove();
    else return;
    event.preventDefault();
  });
  const remove = () => store.set({ timeline: store.state.timeline.filter((_, i) => i !== number) });
  const button = (text, label, action) => {
    const made = htmlElement("button", { type: "button", className: "quiet small", textContent: text, "aria-label": `${label} ${tune.name}`, title: label });
    made.addEventListener("click", action);
    return made;
  };
  const item = htmlElement("div", { className: "item", role: "listitem", draggable: true }, tile);
  item.append(
    htmlElement(
      "div",
      { className: "item-actions" },
      button("‹", "Move to the left:", () => moveInTune(number, number - 1)),
      button("×", "Remove", remove),
      button("›", "Move to the right:", () => moveInTune(number, number + 1)),
    ),
  );
  item.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/x-place", String(number)));
  item.addEventListener("dragover", (event) => event.dataTransfer.types.includes("text/x-place") && event.preventDefault());
  item.addEventListener("drop", (event) => {
    if (!event.dataTransfer.types.includes("text/x-place")) return;
    event.preventDefault();
    event.stopPropagation();
    moveInTune(Number(event.dataTransfer.getData("text/x-place")), number);
  });
  return item;
}

// -- files to take away

async function save(format, tunes, name) {
  const heard = tunes.filter((tune) => tune.notes.length);
  if (!heard.length) {
    say("There are no notes to save yet.", "bad");
    return;
  }
  if (kept) {
    saveBlob(new Blob([midiFile(heard, store.state.tempo, model.meter, model.steps_per_quarter)], { type: "audio/midi" }), `${name}.mid`);
    return;
  }
  const body = {
    format,
    name,
    tempo: store.state.tempo,
    meter: model.meter,
    steps_per_quarter: model.steps_per_quarter,
    tunes: heard.map((tune) => ({ name: tune.name || "Melody", notes: tune.notes, steps: tune.steps })),
  };
  const file = await working("Writing …", () => fetchFile(body));
  if (file) saveBlob(file.blob, file.name);
}

function gridTunes() {
  const { side } = store.state;
  return Array.from({ length: side * side }, (_, cell) => ({ name: `Row ${Math.floor(cell / side) + 1} column ${(cell % side) + 1}`, notes: melodyOf(cell), steps: steps() }));
}

// -- showing the state

let linkTimer = 0;
store.listeners.push((state, before) => {
  const changed = (...names) => names.some((name) => state[name] !== before[name]);
  if (state.model !== model.name) adopt(models.find((one) => one.name === state.model) || model); // undone, or redone
  player.tempo = state.tempo;
  player.loop = state.loop;
  grid.show(state);
  if (changed("corners") || !$("seeds-top").children.length) showSeeds();
  if (changed("selected")) showSelected();
  if (changed("timeline")) showTimeline();
  showControls(state);
  clearTimeout(linkTimer);
  linkTimer = setTimeout(() => history.replaceState(null, "", `#${stateToHash(state)}`), 400);
});

function showSeeds() {
  $("seeds-top").replaceChildren(seedChip(0), seedChip(1));
  $("seeds-bottom").replaceChildren(seedChip(2), seedChip(3));
}

function showSelected() {
  const { selected } = store.state;
  roll.show(selected, model.steps_per_bar, beat());
  $("melody-name").textContent = selected.name;
  showScore();
}

function showTimeline() {
  const { timeline } = store.state;
  $("tune").replaceChildren(...timeline.map((tune, i) => tuneItem(tune, i, timeline.length)));
  const bars = timeline.reduce((sum, tune) => sum + tune.steps, 0) / model.steps_per_bar;
  $("tune-hint").textContent = timeline.length ? `${Math.round(bars)} bars` : "Line melodies up into a longer tune.";
}

function showControls(state) {
  $("tempo").value = state.tempo;
  $("tempo-shown").textContent = state.tempo;
  $("loop").setAttribute("aria-pressed", String(state.loop));
  $("undo").disabled = !store.past.length;
  $("redo").disabled = !store.future.length;
  $("path-play").disabled = !state.path.length;
  $("path-clear").disabled = !state.path.length;
  $("path-draw").setAttribute("aria-pressed", String(drawing));
  $("size").value = state.side;
  $("fill").classList.toggle("calling", !state.filled && !kept);
  for (const id of ["tune-play", "tune-clear", "tune-mid", "tune-wav", "tune-abc"]) $(id).disabled = !state.timeline.length;
}

// -- starting

function connect() {
  const click = (id, action) => $(id).addEventListener("click", action);
  click("play", () => (player.playing ? player.stop() : hearSelected()));
  click("loop", () => store.set({ loop: !store.state.loop }, false));
  click("undo", () => store.undo());
  click("redo", () => store.redo());
  click("fill", () => fill());
  click("surprise", () => surprise());
  click("path-draw", () => {
    drawing = !drawing;
    store.set({}, false);
    if (drawing) say("Drag over the grid, or move by the arrow keys and press Enter.");
  });
  click("path-play", () => toggle("path", () => hear(pathParts(store.state), { kind: "path" })));
  click("path-clear", () => store.set({ path: [] }));
  click("grid-zip", () => save("zip", gridTunes(), "grid"));
  click("grid-mid", () => save("mid", gridTunes(), "grid"));
  click("open", () => files.choose(null));
  click("blank", fromScratch);
  click("rethink", rethink);
  click("to-tune", () => addToTune(store.state.selected));
  for (const format of ["mid", "wav", "abc"]) {
    click(`save-${format}`, () => save(format, [store.state.selected], store.state.selected.name || "melody"));
    click(`tune-${format}`, () => save(format, store.state.timeline, "tune"));
  }
  click("vary", vary);
  click("continue", goOn);
  click("blend", blend);
  click("blend-from", () => setBlendEnd(0));
  click("blend-to", () => setBlendEnd(1));
  click("tune-play", () => toggle("tune", () => hear(store.state.timeline, { kind: "tune" })));
  click("tune-clear", () => store.set({ timeline: [] }));
  click("link", copyLink);
  click("theme", () => setTheme(isDark() ? "light" : "dark", true));
  $("tempo").addEventListener("input", () => store.set({ tempo: Number($("tempo").value) }, false));
  $("hover").addEventListener("change", () => store.set({ hover: $("hover").checked }, false));
  $("sound").addEventListener("change", () => (player.sound = $("sound").value));
  $("path-bars").addEventListener("change", () => store.set({ pathBars: Number($("path-bars").value) }, false));
  $("size").addEventListener("change", () => resize(Number($("size").value)));
  $("meter").addEventListener("change", () => changeModel(models.find((one) => one.name === $("meter").value)));
  document.addEventListener("keydown", shortcut);
  document.addEventListener("dragover", (event) => event.dataTransfer.types.includes("Files") && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!event.dataTransfer.files.length || kept) return;
    event.preventDefault();
    files.target = null;
    files.read(event.dataTransfer.files[0]);
  });
  new ResizeObserver(() => showScore()).observe($("score"));
}

function shortcut(event) {
  const typing = event.target.closest("input, select, textarea, dialog[open]");
  const writing = event.target.closest("input[type=number], dialog[open]"); // what has an undo of its own, or no use for ours
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z" && !writing) {
    event.preventDefault();
    if (event.shiftKey) store.redo();
    else store.undo();
  } else if (event.key === " " && !typing && !event.target.closest("button, a")) {
    event.preventDefault();
    $("play").click();
  } else if (event.key === "Escape" && !typing) {
    player.stop();
    if (drawing) $("path-draw").click();
  }
}

async function resize(side) {
  const { state } = store;
  const corners = cornerCells(state.side).map((cell) => melodyOf(cell));
  const cells = Array.from({ length: side * side }, () => []);
  cornerCells(side).forEach((cell, i) => (cells[cell] = corners[i]));
  store.set({ side, cells, edits: {}, path: [], cell: null, filled: false });
  await fill();
}

async function copyLink() {
  clearTimeout(linkTimer);
  history.replaceState(null, "", `#${stateToHash(store.state)}`);
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied: it brings back all of this.");
  } catch {
    say("The link stands in the address bar: it brings back all of this.");
  }
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function setTheme(theme, remember) {
  if (theme) document.documentElement.dataset.theme = theme;
  $("theme").textContent = isDark() ? "Light" : "Dark";
  try {
    if (remember) localStorage.setItem("theme", theme);
  } catch {
    // a page from a file may have no storage
  }
}

function fillSelects() {
  const options = (id, pairs) => $(id).replaceChildren(...pairs.map(([value, text]) => htmlElement("option", { value, textContent: text })));
  options("sound", SOUND_NAMES.map((name) => [name, name]));
  options("size", SIDES.map((side) => [side, `${side} × ${side}`]));
  options("path-bars", [[1, "1 bar"], [2, "2 bars"], [4, "4 bars"]]);
  $("path-bars").value = "4";
  $("as-corner").replaceChildren(
    ...CORNER_NAMES.map((name, number) => {
      const dot = htmlElement("button", { type: "button", className: "dot-button", "aria-label": `Use the melody as corner ${name}`, title: `Corner ${name}` });
      dot.style.setProperty("--colour", cornerColour(number));
      dot.addEventListener("click", () => asCorner(number));
      return dot;
    }),
  );
}

function showGrid(given, undoable = false) {
  const count = model.bars * model.steps_per_bar;
  store.set(
    {
      model: model.name,
      steps: count,
      corners: given.corners.map((corner) => ({ ...corner, steps: count })),
      side: given.rows,
      cells: given.tunes,
      edits: {},
      path: [],
      timeline: [],
      filled: true,
      cell: 0,
      selected: { name: given.corners[0].name || "Melody", notes: given.tunes[0], steps: count },
      tempo: TEMPOS[model.meter] || TEMPO,
    },
    undoable,
  );
}

function shapeOf(first) {
  const [beats, unit] = first.meter.split("/").map(Number);
  const quarter = first.steps_per_quarter || 4;
  return { meter: first.meter, bars: first.bars, steps_per_quarter: quarter, steps_per_bar: (beats * 4 * quarter) / unit };
}

// What follows is asked of this model. The state stays as it is.
function adopt(chosen) {
  player.stop();
  model = chosen;
  player.stepsPerQuarter = model.steps_per_quarter;
  blendEnds = [null, null];
  showBlendEnds();
  showResults([]);
  if (model.ready) {
    $("about").textContent = aboutModel(model);
    showSliders(model.sliders, slideTo);
    $("meter").value = model.name;
  }
}

// Another meter: its own grid takes the place of this one, until that is undone.
async function changeModel(chosen) {
  const first = firsts[chosen.name];
  adopt(chosen);
  if (first) {
    showGrid(first.grid, true);
    say(`Now in ${model.meter}. Undo brings back what was there.`);
  } else await fillAnew();
}

async function fillAnew() {
  const count = model.bars * model.steps_per_bar;
  const corners = [0, 1, 2, 3].map((i) => {
    const tune = model.tunes[Math.floor((i * model.tunes.length) / 4)];
    return tune ? { name: tune.name, notes: tune.notes, steps: count } : { seed: i + 1 };
  });
  const { side } = store.state;
  const tempo = TEMPOS[model.meter] || TEMPO;
  const cells = Array.from({ length: side * side }, () => []);
  store.set({ model: model.name, steps: count, corners, cells, edits: {}, path: [], timeline: [], cell: 0, filled: false, tempo });
  await fill(corners);
}

function showMeters() {
  $("meter-field").hidden = models.length < 2;
  $("meter").replaceChildren(...models.map((one) => htmlElement("option", { value: one.name, textContent: meterName(one) })));
  $("meter").value = model.name;
}

// Two models of one meter are told apart by their names.
function meterName(one) {
  return models.filter((other) => other.meter === one.meter).length > 1 ? `${one.meter} (${one.name})` : one.meter;
}

function aboutModel(one) {
  const card = one.card || {};
  const back = card.reconstruction ? ` It gives back ${(100 * card.reconstruction.notes).toFixed(1)} % of the notes of melodies that it has not seen.` : "";
  const trained = card.training_melodies ? ` trained on ${card.training_melodies.toLocaleString("en")} melodies` : "";
  return `A SeqVAE of ${one.bars} bars in ${one.meter}, ${one.dim} numbers per melody${trained}.${back}`;
}

// Until the model of this name is open (null: the first of all); the others come to the menu when they are.
async function waitForModel(name) {
  for (;;) {
    const found = (await ask("models")).models;
    const bad = found.find((one) => one.error);
    if (bad) throw new Error(bad.error);
    models = found.filter((one) => one.ready);
    const wanted = models.find((one) => one.name === (name || found[0].name));
    if (wanted) {
      if (models.length < found.length) setTimeout(waitForOthers, POLL);
      return wanted;
    }
    say("The model is warming up …", "wait");
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

async function waitForOthers() {
  try {
    const found = (await ask("models")).models;
    models = found.filter((one) => one.ready);
    showMeters();
    if (models.length < found.length && !found.some((one) => one.error)) setTimeout(waitForOthers, POLL);
  } catch (error) {
    say(error.message, "bad");
  }
}

async function start() {
  document.body.classList.toggle("kept", kept !== null);
  let remembered = null;
  try {
    remembered = localStorage.getItem("theme");
  } catch {
    // a page from a file may have no storage
  }
  setTheme(["light", "dark"].includes(remembered) ? remembered : null, false);
  fillSelects();
  showTabs();
  showOutputs();
  showBlendEnds();
  connect();
  showPlaying();
  if (kept) {
    adopt({ ...model, ...shapeOf(kept) });
    showGrid(kept.grid);
    restore();
    $("about").textContent = "This page plays by itself: it needs no network and no server.";
    return;
  }
  try {
    firsts = await ask("first");
    const linked = arrived ? hashToState(arrived) : null;
    const name = linked && firsts[linked.model] ? linked.model : Object.keys(firsts)[0] || null;
    if (name) {
      adopt({ ...model, name, ...shapeOf(firsts[name]) });
      showGrid(firsts[name].grid);
    }
    adopt(await waitForModel(name));
    sayNothing();
    showMeters();
    if (!name) await fillAnew();
    await restore();
    document.body.classList.add("ready");
  } catch (error) {
    say(error.message, "bad");
  }
}

// Bring back what the link holds.
async function restore() {
  const found = arrived ? hashToState(arrived) : null;
  if (!found) return;
  if (kept) {
    const { timeline, path, tempo, loop } = found;
    store.set({ timeline, path, tempo, loop }, false);
    return;
  }
  const { filled, edits, selected, cell, ...rest } = found;
  const wanted = models.find((one) => one.name === rest.model);
  if (rest.model !== null && !wanted) {
    say(`The link is of another model (${rest.model}), which is not open here.`, "bad");
    return;
  }
  const known = [...rest.corners.filter((corner) => "notes" in corner).map((corner) => corner.notes), ...Object.values(edits)];
  if (!known.every((notes) => isMelody(notes, steps()))) return;
  store.set({ ...rest, model: model.name }, false);
  await fill(rest.corners);
  store.set({ edits, selected, cell, filled }, false);
  store.past = [];
  showControls(store.state);
}

// For those who want to play from the browser's console, and for tests.
globalThis.studio = { player, store };
start();
