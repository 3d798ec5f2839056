// What all of the page works with: the player, the models, the state of the melodies.

import { $ } from "./draw.js";
import { Player } from "./sound.js";
import { Store } from "./store.js";
import { tell } from "./api.js";
import { working } from "./status.js";

export const CORNER_NAMES = ["upper left", "upper right", "lower left", "lower right"];
const TEMPOS = { "2/4": 100, "3/4": 150, "6/8": 180, "9/8": 180 }; // quarter notes per minute, to begin with
const TEMPO = 160; // of other meters

export const kept = $("studio-data") ? JSON.parse($("studio-data").textContent) : null;
export const player = new Player();
export let model = { name: null, meter: "4/4", bars: 4, steps_per_bar: 16, steps_per_quarter: 4, sliders: [], tunes: [], ready: false };
export let models = []; // those that are open
export let firsts = {}; // grids that were decoded beforehand, by the name of the model
const asked = {}; // how often the model was asked for something, by kind: only the answer to the last question counts

export const store = new Store({
  model: null,
  steps: 64,
  corners: [1, 2, 3, 4].map((seed) => ({ seed })),
  sources: [1, 2, 3, 4].map((seed) => ({ seed })), // the corners that the grid was filled between
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

// What follows is asked of this model.
export function useModel(chosen) {
  model = chosen;
  player.stepsPerQuarter = model.steps_per_quarter;
}

export function keepModels(found) {
  models = found;
}

export function keepFirsts(found) {
  firsts = found;
}

export function firstTempo() {
  return TEMPOS[model.meter] || TEMPO;
}

// What the model answers; null if that went wrong, or is out of date: another model was chosen, or more of its kind asked.
export async function fromModel(sentence, path, body, kind = null) {
  const { name } = model;
  const turn = kind && askAgain(kind);
  const answer = await working(sentence, () => tell(path, { model: name, ...body }));
  return model.name === name && (!kind || turn === asked[kind]) ? answer : null;
}

// What was asked for before is out of date.
export function askAgain(kind) {
  asked[kind] = (asked[kind] || 0) + 1;
  return asked[kind];
}

export function steps() {
  return store.state.steps;
}

export function melodyOf(cell, state = store.state) {
  return state.edits[cell] || state.cells[cell] || [];
}

export function cornerCells(side) {
  return [0, side - 1, side * (side - 1), side * side - 1];
}

export function cellName(cell) {
  const side = store.state.side;
  const corner = cornerCells(side).indexOf(cell);
  if (corner >= 0) return cornerName(corner);
  return `Row ${Math.floor(cell / side) + 1}, column ${(cell % side) + 1}`;
}

export function cornerName(number) {
  const corner = store.state.corners[number];
  return "seed" in corner ? "Random" : corner.name || "Melody";
}

export function pointOf(corner) {
  return "seed" in corner ? { seed: corner.seed } : { notes: corner.notes };
}

export function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0];
}
