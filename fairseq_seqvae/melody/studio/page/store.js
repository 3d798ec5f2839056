// The state of the page: what it is now, how to undo, and how it goes into the link.

import { isMelody } from "./notes.js";

export const MOST_PIECES = 256; // of a tune
const MOST_UNDO = 100;
const LONGEST = 1024; // steps of a melody of a link
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

export class Store {
  constructor(initial) {
    this.state = initial;
    this.past = [];
    this.future = [];
    this.listeners = [];
  }

  // Change some fields; `undoable` changes can be taken back.
  set(patch, undoable = true) {
    if (undoable) {
      this.past.push(this.state);
      if (this.past.length > MOST_UNDO) this.past.shift();
      this.future = [];
    }
    const before = this.state;
    this.state = { ...before, ...patch };
    this.tell(before);
  }

  tell(before) {
    for (const listener of this.listeners) listener(this.state, before);
  }

  undo() {
    this.step(this.past, this.future);
  }

  redo() {
    this.step(this.future, this.past);
  }

  // Tempo, sound and the like stay as they are; but each meter has its own tempo.
  step(from, to) {
    if (!from.length) return;
    const before = this.state;
    to.push(before);
    const { loop, sound, hover, pathBars } = before;
    const found = from.pop();
    const { tempo } = found.model === before.model ? before : found;
    this.state = { ...found, tempo, loop, sound, hover, pathBars };
    this.tell(before);
  }
}

function digits(value) {
  return DIGITS[value >> 6] + DIGITS[value & 63];
}

function packNotes(notes) {
  return notes.map((note) => note.map(digits).join("")).join("");
}

function unpackNotes(text, steps = LONGEST) {
  const values = [];
  for (let i = 0; i + 1 < text.length; i += 2) values.push(DIGITS.indexOf(text[i]) * 64 + DIGITS.indexOf(text[i + 1]));
  const notes = [];
  for (let i = 0; i + 2 < values.length; i += 3) notes.push(values.slice(i, i + 3));
  if (!isMelody(notes, steps)) throw new Error("no melody");
  return notes;
}

function packTune(tune) {
  return [tune.name, packNotes(tune.notes), tune.steps];
}

function unpackTune([name, text, steps]) {
  if (!Number.isInteger(steps) || steps < 1 || steps > LONGEST) throw new Error("no length");
  return { name: String(name).slice(0, 80), notes: unpackNotes(String(text), steps), steps };
}

function packCorner(corner) {
  return "seed" in corner ? corner.seed : packTune(corner);
}

function unpackCorner(packed) {
  return Array.isArray(packed) ? unpackTune(packed) : { seed: Math.abs(Math.trunc(Number(packed))) % 2 ** 32 };
}

export function stateToHash(state) {
  const packed = {
    v: 1,
    m: state.model,
    c: state.corners.map(packCorner),
    g: state.filled ? undefined : state.sources.map(packCorner),
    n: state.side,
    f: state.filled ? 1 : 0,
    e: Object.entries(state.edits).map(([cell, notes]) => [Number(cell), packNotes(notes)]),
    s: packTune(state.selected),
    k: state.cell,
    t: state.timeline.map(packTune),
    p: state.path,
    b: state.tempo,
    l: state.loop ? 1 : 0,
    w: state.pathBars,
  };
  const bytes = new TextEncoder().encode(JSON.stringify(packed));
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// The fields of a link, or null if it is none of ours.
export function hashToState(hash) {
  try {
    const text = atob(hash.replaceAll("-", "+").replaceAll("_", "/"));
    const packed = JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (char) => char.charCodeAt(0))));
    const sources = packed.g || packed.c;
    if (packed.v !== 1 || packed.c.length !== 4 || sources.length !== 4) return null;
    const side = Number.isInteger(packed.n) && packed.n >= 2 && packed.n <= 15 ? packed.n : 7;
    const isCell = (cell) => Number.isInteger(cell) && cell >= 0 && cell < side * side;
    return {
      model: typeof packed.m === "string" ? packed.m : null,
      corners: packed.c.map(unpackCorner),
      sources: sources.map(unpackCorner),
      side,
      filled: packed.f === 1,
      edits: Object.fromEntries(packed.e.filter(([c]) => isCell(c)).map(([c, notes]) => [c, unpackNotes(notes)])),
      selected: unpackTune(packed.s),
      cell: isCell(packed.k) ? packed.k : null,
      timeline: packed.t.slice(0, MOST_PIECES).map(unpackTune),
      path: packed.p.filter(isCell).slice(0, 256),
      tempo: Math.max(60, Math.min(280, Number(packed.b) || 160)),
      loop: packed.l === 1,
      pathBars: [1, 2, 4].includes(packed.w) ? packed.w : 4,
    };
  } catch {
    return null;
  }
}
