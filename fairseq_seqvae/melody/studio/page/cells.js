// The grid at work: its cells play, its corners are chosen, the model fills in what lies between.

import { Grid } from "./grid.js";
import { sameMelody } from "./notes.js";
import { askAgain, cellName, cornerCells, cornerName, fromModel, melodyOf, player, pointOf, randomSeed, steps, store } from "./session.js";
import { hear, hearSelected } from "./playing.js";
import { select } from "./melody.js";
import { say } from "./status.js";

export let drawing = false; // whether the hand draws a path
let interrupted = false; // whether the melody shown was playing before the mouse came over others

export const grid = new Grid({
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
    interrupted = false;
    hearSelected();
  },
  hear(cell) {
    if (!player.allowed || !store.state.hover || !melodyOf(cell).length) return;
    if (player.playing && !["cell", "selected"].includes(player.tag.kind)) return;
    if (player.playing && player.tag.cell === cell) return;
    interrupted = player.playing && (interrupted || player.tag.kind === "selected");
    hear([{ notes: melodyOf(cell), steps: steps() }], { kind: "cell", cell });
  },
  leave() {
    if (!player.playing || player.tag.kind !== "cell") return;
    if (interrupted) hearSelected();
    else player.stop();
    interrupted = false;
  },
  path(cells, whole) {
    store.set({ path: whole ? cells : [...store.state.path, ...cells] }, !whole || cells.length === 1);
  },
});

export async function fill(corners = store.state.corners, undoable = true) {
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
  store.set({ corners, sources: corners, cells, edits: {}, filled: true, ...chosenAfter(cells) }, undoable);
  say("The grid is full: hover over it, or move by the arrow keys.");
  return true;
}

// The melody shown is that of the chosen cell, if one is chosen.
function chosenAfter(cells) {
  const { cell } = store.state;
  if (cell === null || !cells[cell]) return {};
  return { selected: { name: cellName(cell), notes: cells[cell], steps: steps() } };
}

export async function setCorner(number, corner) {
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

export function surprise() {
  return fill([0, 1, 2, 3].map(() => ({ seed: randomSeed() })));
}

export async function resize(side) {
  const { state } = store;
  const { corners } = state;
  const given = cornerCells(state.side).map((cell) => melodyOf(cell));
  const cells = Array.from({ length: side * side }, () => []);
  cornerCells(side).forEach((cell, i) => (cells[cell] = given[i]));
  store.set({ side, cells, edits: {}, path: [], cell: null, filled: false });
  await fill(corners, false); // the change of size can be undone, and this with it
}

export function toggleDrawing() {
  drawing = !drawing;
  store.set({}, false);
  if (drawing) say("Drag over the grid, or move by the arrow keys and press Enter.");
}
