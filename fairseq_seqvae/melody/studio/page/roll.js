// The piano roll: shows a melody and lets it be edited, by pointer or by keyboard.

import { $, svgElement } from "./draw.js";
import { HIGHEST, LOWEST, pitchName, withLength, withNote, withoutNote } from "./notes.js";

const GUTTER = 34; // pixels for the names of the pitches
const EDGE = 7; // pixels of a note's end that change its length
const FEWEST = 20; // semitones
const BLACK = [1, 3, 6, 8, 10];

export class Roll {
  // `on` has: change(notes), sound(pitch), speak(text)
  constructor(on) {
    this.on = on;
    this.element = $("roll");
    this.element.tabIndex = 0;
    this.element.setAttribute("role", "application");
    this.element.setAttribute("aria-label", "Piano roll. Arrow keys move the cursor, Enter adds or removes a note, plus and minus change its length.");
    this.notes = [];
    this.steps = 64;
    this.bar = 16;
    this.beat = 4;
    this.unit = "sixteenth"; // the name of a step
    this.cursor = { step: 0, pitch: 72 };
    this.usual = 2;
    this.gesture = null;
    this.element.addEventListener("pointerdown", (event) => this.press(event));
    this.element.addEventListener("pointermove", (event) => this.drag(event));
    this.element.addEventListener("pointerup", (event) => this.release(event));
    this.element.addEventListener("pointercancel", () => this.cancel());
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("focus", () => this.draw());
    this.element.addEventListener("blur", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  show(tune, bar, beat, unit) {
    if (this.notes === tune.notes && this.steps === tune.steps) return;
    Object.assign(this, { notes: tune.notes, steps: tune.steps, bar, beat, unit });
    this.gesture = null; // it was about other notes
    this.fit();
    this.draw();
  }

  fit() {
    const pitches = this.notes.length ? this.notes.map((note) => note[0]) : [72];
    const middle = Math.round((Math.max(...pitches) + Math.min(...pitches)) / 2);
    const half = Math.max(FEWEST / 2, Math.ceil((Math.max(...pitches) - Math.min(...pitches)) / 2) + 3);
    this.top = Math.min(HIGHEST, middle + half);
    this.low = Math.max(LOWEST, middle - half);
    this.cursor.pitch = Math.max(this.low, Math.min(this.top, this.cursor.pitch));
    this.cursor.step = Math.min(this.cursor.step, this.steps - 1);
  }

  x(step) {
    return GUTTER + (step / this.steps) * (this.width - GUTTER);
  }

  y(pitch) {
    return (this.top - pitch) * this.height;
  }

  draw() {
    if (this.top === undefined) return;
    this.width = Math.max(200, this.element.clientWidth);
    const tall = Math.max(120, this.element.clientHeight);
    this.height = tall / (this.top - this.low + 1);
    const svg = svgElement("svg", { width: this.width, height: tall, "aria-hidden": "true" });
    const wide = this.width - GUTTER;
    for (let pitch = this.low; pitch <= this.top; pitch += 1) {
      const kind = BLACK.includes(pitch % 12) ? "lane black" : "lane";
      svg.append(svgElement("rect", { x: GUTTER, y: this.y(pitch), width: wide, height: this.height, class: kind }));
      if (pitch % 12 === 0 || pitch % 12 === 7) {
        const text = svgElement("text", { x: GUTTER - 6, y: this.y(pitch) + this.height / 2, class: "name" }, pitchName(pitch));
        svg.append(text);
      }
    }
    for (let step = 0; step <= this.steps; step += this.beat) {
      const kind = step % this.bar ? "beat" : "barline";
      svg.append(svgElement("line", { x1: this.x(step), x2: this.x(step), y1: 0, y2: tall, class: kind }));
    }
    for (const [pitch, start, length] of this.notes) {
      const width = Math.max(2, this.x(start + length) - this.x(start) - 1.5);
      const box = { x: this.x(start) + 0.75, y: this.y(pitch) + 0.5, width, height: Math.max(2, this.height - 1), rx: 3 };
      svg.append(svgElement("rect", { ...box, class: "note" }));
    }
    if (document.activeElement === this.element) {
      const { step, pitch } = this.cursor;
      const box = { x: this.x(step), y: this.y(pitch), width: this.x(step + 1) - this.x(step), height: this.height };
      svg.append(svgElement("rect", { ...box, class: "cursor" }));
    }
    this.head = svgElement("line", { x1: -9, x2: -9, y1: 0, y2: tall, class: "playhead" });
    svg.append(this.head);
    this.element.replaceChildren(svg);
  }

  // Where it sounds, in steps; null: it is silent.
  mark(step) {
    if (!this.head) return;
    const x = step === null ? -9 : this.x(step);
    this.head.setAttribute("x1", x);
    this.head.setAttribute("x2", x);
  }

  place(event) {
    const box = this.element.getBoundingClientRect();
    const x = event.clientX - box.left;
    const step = Math.floor(((x - GUTTER) / (this.width - GUTTER)) * this.steps);
    const pitch = this.top - Math.floor((event.clientY - box.top) / this.height);
    return {
      x,
      step: Math.max(0, Math.min(this.steps - 1, step)),
      pitch: Math.max(this.low, Math.min(this.top, pitch)),
    };
  }

  find(step, pitch) {
    return this.notes.findIndex((note) => note[0] === pitch && note[1] <= step && step < note[1] + note[2]);
  }

  press(event) {
    if (event.button !== 0) return;
    const at = this.place(event);
    if (at.x < GUTTER) return;
    this.element.setPointerCapture(event.pointerId);
    this.cursor = { step: at.step, pitch: at.pitch };
    const index = this.find(at.step, at.pitch);
    const before = this.notes;
    if (index < 0) {
      const start = at.step - (at.step % Math.min(2, this.usual));
      this.change(withNote(this.notes, at.pitch, start, Math.min(this.usual, this.steps - start)));
      // A finger may be about to scroll the page.
      const silent = event.pointerType === "touch";
      if (!silent) this.on.sound(at.pitch);
      this.gesture = { kind: "length", index: this.find(start, at.pitch), at, before, moved: true, silent };
      return;
    }
    const note = this.notes[index];
    const near = this.x(note[1] + note[2]) - at.x < EDGE;
    this.gesture = { kind: near ? "length" : "move", index, at, before, note, moved: false };
  }

  drag(event) {
    const at = this.place(event);
    if (!this.gesture) {
      const index = this.find(at.step, at.pitch);
      const near = index >= 0 && this.x(this.notes[index][1] + this.notes[index][2]) - at.x < EDGE;
      this.element.style.cursor = at.x < GUTTER ? "default" : near ? "ew-resize" : index >= 0 ? "grab" : "crosshair";
      return;
    }
    const { kind, index, before, note } = this.gesture;
    if (at.step === this.gesture.at.step && at.pitch === this.gesture.at.pitch && !this.gesture.dragged) return;
    this.gesture.dragged = true;
    this.gesture.moved = true;
    if (kind === "length") {
      const start = this.notes[index][1];
      this.change(withLength(this.notes, index, at.step - start + 1, this.steps));
      this.usual = this.notes[index][2];
      return;
    }
    const start = Math.max(0, Math.min(this.steps - note[2], note[1] + at.step - this.gesture.at.step));
    if (this.sung !== at.pitch) this.on.sound(at.pitch);
    this.sung = at.pitch;
    this.change(withNote(withoutNote(before, index), at.pitch, start, note[2]));
  }

  release() {
    const gesture = this.gesture;
    this.gesture = null;
    if (!gesture) return;
    if (!gesture.moved) this.change(withoutNote(this.notes, gesture.index));
    if (gesture.silent) this.on.sound(gesture.at.pitch);
    this.on.change(this.notes, gesture.before);
  }

  // A gesture that the system takes over has changed nothing.
  cancel() {
    const gesture = this.gesture;
    this.gesture = null;
    if (gesture) this.change(gesture.before);
  }

  // While a gesture lasts, only the picture changes.
  change(notes) {
    this.notes = notes;
    this.draw();
  }

  edit(notes) {
    const before = this.notes;
    this.change(notes);
    this.on.change(notes, before);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { step, pitch } = this.cursor;
    const stride = event.shiftKey ? 1 : 2;
    const leap = event.shiftKey ? 12 : 1;
    const index = this.find(step, pitch);
    const moves = { ArrowLeft: [-stride, 0], ArrowRight: [stride, 0], ArrowUp: [0, leap], ArrowDown: [0, -leap] };
    if (event.key in moves) {
      this.cursor.step = Math.max(0, Math.min(this.steps - 1, step + moves[event.key][0]));
      this.cursor.pitch = Math.max(LOWEST, Math.min(HIGHEST, pitch + moves[event.key][1]));
      this.top = Math.max(this.top, this.cursor.pitch);
      this.low = Math.min(this.low, this.cursor.pitch);
      this.draw();
    } else if (event.key === "Enter") {
      if (index >= 0) this.edit(withoutNote(this.notes, index));
      else {
        this.edit(withNote(this.notes, pitch, step, Math.min(this.usual, this.steps - step)));
        this.on.sound(pitch);
      }
    } else if (event.key === "Delete" || event.key === "Backspace") {
      if (index >= 0) this.edit(withoutNote(this.notes, index));
    } else if ((event.key === "+" || event.key === "-") && index >= 0) {
      const length = this.notes[index][2] + (event.key === "+" ? 1 : -1);
      this.edit(withLength(this.notes, index, length, this.steps));
      this.usual = this.notes[index][2];
    } else return;
    event.preventDefault();
    this.say();
  }

  say() {
    const { step, pitch } = this.cursor;
    const index = this.find(step, pitch);
    const bar = Math.floor(step / this.bar) + 1;
    const within = step % this.bar;
    const after = within % this.beat;
    const beat = `beat ${Math.floor(within / this.beat) + 1}${after ? ` and ${this.counted(after)}` : ""}`;
    const what = index >= 0 ? `note of ${this.counted(this.notes[index][2])}` : "empty";
    this.on.speak(`${pitchName(pitch)}, bar ${bar}, ${beat}: ${what}`);
  }

  counted(steps) {
    return `${steps} ${this.unit}${steps === 1 ? "" : "s"}`;
  }
}
