// The page: what its buttons do, how it shows its state, how it starts.

import { $, cornerColour, htmlElement } from "./draw.js";
import { SOUND_NAMES } from "./sound.js";
import { hashToState, stateToHash } from "./store.js";
import { ask } from "./api.js";
import { isMelody, sameMelody } from "./notes.js";
import { showOutputs, showTabs } from "./tools.js";
import { CORNER_NAMES, cornerCells, firsts, fromModel, keepFirsts, kept, model, models, player, pointOf, store } from "./session.js";
import { hear, hearSelected, pathParts, toggle } from "./playing.js";
import { rethink, roll, showScore, showSelected } from "./melody.js";
import { addToTune, showTimeline } from "./tune.js";
import { blend, goOn, setBlendEnd, showBlendEnds, vary } from "./ideas.js";
import { drawing, fill, grid, resize, surprise, toggleDrawing } from "./cells.js";
import { adopt, changeModel, fillAnew, shapeOf, showGrid, showMeters, waitForModel } from "./meters.js";
import { asCorner, files, fromScratch, showSeeds } from "./seeds.js";
import { gridTunes, save } from "./saving.js";
import { isDark, setTheme } from "./theme.js";
import { say, sayNothing } from "./status.js";

const SIDES = [3, 5, 7, 9, 11];

const arrived = location.hash.slice(1); // the link that led here, before the page writes its own
const BROKEN_LINK = "The link is broken: it brings nothing back.";

// -- showing what plays

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

player.onChange = () => showPlaying();

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

function showControls(state) {
  $("tempo").value = state.tempo;
  $("tempo-shown").textContent = state.tempo;
  $("loop").setAttribute("aria-pressed", String(state.loop));
  $("undo").disabled = !store.past.length;
  $("redo").disabled = !store.future.length;
  $("path-play").disabled = !state.path.length;
  $("path-bars").value = state.pathBars;
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
  click("stop", () => player.stop());
  click("undo", () => travel("undo"));
  click("redo", () => travel("redo"));
  click("fill", () => fill());
  click("surprise", () => surprise());
  click("path-draw", toggleDrawing);
  click("path-play", () => toggle("path", () => hear(pathParts(store.state), { kind: "path" })));
  click("path-clear", () => {
    if (player.playing && player.tag.kind === "path") player.stop();
    store.set({ path: [] });
  });
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
  click("tune-clear", () => {
    if (player.playing && player.tag.kind === "tune") player.stop();
    store.set({ timeline: [] });
  });
  click("link", copyLink);
  click("theme", () => setTheme(isDark() ? "light" : "dark", true));
  $("tempo").addEventListener("input", () => store.set({ tempo: Number($("tempo").value) }, false));
  $("hover").addEventListener("change", () => store.set({ hover: $("hover").checked }, false));
  $("sound").addEventListener("change", () => (player.sound = $("sound").value));
  $("path-bars").addEventListener("change", () => store.set({ pathBars: Number($("path-bars").value) }, false));
  $("size").addEventListener("change", () => resize(Number($("size").value)));
  $("meter").addEventListener("change", () => changeModel(models.find((one) => one.name === $("meter").value)));
  document.addEventListener("keydown", shortcut);
  window.addEventListener("hashchange", () => restore(location.hash.slice(1), true)); // a link was pasted here
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
    travel(event.shiftKey ? "redo" : "undo");
  } else if (event.key === " " && !typing && !event.target.closest("button, a")) {
    event.preventDefault();
    $("play").click();
  } else if (event.key === "Escape" && !typing) {
    player.stop();
    if (drawing) toggleDrawing();
  }
}

// Undo or redo. What plays goes on as what is shown now.
function travel(way) {
  const before = store.state;
  store[way]();
  const changed = (...names) => names.some((name) => store.state[name] !== before[name]);
  if (!player.playing) return;
  const { kind } = player.tag;
  if (kind === "path" && changed("path", "cells", "edits")) player.stop();
  else if (kind === "tune" && changed("timeline")) player.stop();
  else if (["selected", "cell"].includes(kind) && changed("selected", "cells", "edits")) {
    player.stop();
    if (store.state.selected.notes.length) hearSelected();
  }
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

function fillSelects() {
  const options = (id, pairs) => $(id).replaceChildren(...pairs.map(([value, text]) => htmlElement("option", { value, textContent: text })));
  options("sound", SOUND_NAMES.map((name) => [name, name]));
  options("size", SIDES.map((side) => [side, `${side} × ${side}`]));
  options("path-bars", [[1, "1 bar"], [2, "2 bars"], [4, "4 bars"]]);
  $("as-corner").replaceChildren(
    ...CORNER_NAMES.map((name, number) => {
      const dot = htmlElement("button", { type: "button", className: "dot-button", "aria-label": `Use the melody as corner ${name}`, title: `Corner ${name}` });
      dot.style.setProperty("--colour", cornerColour(number));
      dot.addEventListener("click", () => asCorner(number));
      return dot;
    }),
  );
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
    restore(arrived);
    $("about").textContent = "This page plays by itself: it needs no network and no server.";
    return;
  }
  try {
    keepFirsts(await ask("first"));
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
    await restore(arrived);
    document.body.classList.add("ready");
  } catch (error) {
    say(error.message, "bad");
  }
}

// Bring back what a link holds; `undoable` if something was here before.
async function restore(hash, undoable = false) {
  const found = hash ? hashToState(hash) : null;
  if (!found) {
    if (hash) say(BROKEN_LINK, "bad");
    return;
  }
  const { filled, edits, selected, cell, sources, corners, ...rest } = found;
  const wanted = kept ? model : models.find((one) => one.name === (rest.model === null ? model.name : rest.model));
  if (!wanted) {
    say(`The link is of another model (${rest.model}), which is not open here.`, "bad");
    return;
  }
  const length = wanted.bars * wanted.steps_per_bar;
  const known = [...corners, ...sources].filter((corner) => "notes" in corner).map((corner) => corner.notes);
  if (![...known, ...Object.values(edits)].every((notes) => isMelody(notes, length)) || (kept && rest.side !== store.state.side)) {
    say(BROKEN_LINK, "bad");
    return;
  }
  if (kept) {
    store.set({ ...rest, model: store.state.model, edits, selected, cell }, undoable);
    return;
  }
  player.stop();
  store.set({ ...rest, model: wanted.name, steps: length, corners: sources, sources }, undoable);
  if (!(await fill(sources, false))) return;
  store.set({ corners, cells: await withCorners(corners, sources, edits), edits, selected, cell, filled }, false);
  if (!filled) say("The corners have changed since this grid was filled."); // not that it is full
  if (!undoable) store.past = [];
  showControls(store.state);
}

// The cells, where some corners were chosen after the grid had been filled; what was edited stands in `edits`.
async function withCorners(corners, sources, edits) {
  const cells = [...store.state.cells];
  const ends = cornerCells(store.state.side);
  for (const [number, corner] of corners.entries()) {
    if (edits[ends[number]] || sameMelody(corner, sources[number])) continue;
    const answer = corner.notes ? null : await fromModel("Drawing a melody …", "decode", { points: [pointOf(corner)] });
    cells[ends[number]] = corner.notes || (answer && answer.tunes[0]) || cells[ends[number]];
  }
  return cells;
}

// For those who want to play from the browser's console, and for tests.
globalThis.studio = { player, store };
start();
