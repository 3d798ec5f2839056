// A melody as notes on a staff, drawn as SVG. One unit is the space between two lines.

import { keyOf, pitchName } from "./notes.js";
import { svgElement } from "./draw.js";

const UNIT = 7; // pixels
const SHARP_STEPS = [0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6]; // letter of each pitch class, from C
const FLAT_STEPS = [0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6];
const NATURAL = [0, 2, 4, 5, 7, 9, 11];
const SHARP_PLACES = [8, 5, 9, 6, 3, 7, 4]; // of key signatures: half spaces above the lowest line
const FLAT_PLACES = [4, 7, 3, 6, 2, 5, 1];
const SHARP_ORDER = [3, 0, 4, 1, 5, 2, 6]; // letters
const LENGTHS = [16, 12, 8, 6, 4, 3, 2, 1.5, 1, 0.5]; // in sixteenths
const DOTTED = [12, 6, 3, 1.5];
const CLEF =
  "M.52 .62C-.15 .62-.2-.42.42-.5C1.3-.6 1.55.98.4 1.05C-.95 1.1-1.3-.3-.62-1.25C-.05-2.05.95-2.75.92-3.95C.9-5.1.2-5.05.02-4.2" +
  "C-.1-3.6.05-2.9.2-2.1L.78 1.75C.95 2.75-.1 2.95-.35 2.35";

function spell(pitch, fifths) {
  const letter = (fifths < 0 ? FLAT_STEPS : SHARP_STEPS)[pitch % 12];
  let octave = Math.floor(pitch / 12) - 1;
  let alter = (pitch % 12) - NATURAL[letter];
  if (fifths >= 6 && pitch % 12 === 5) return { letter: 2, octave, alter: 1 }; // E sharp
  if (fifths <= -6 && pitch % 12 === 11) return { letter: 0, octave: octave + 1, alter: -1 }; // C flat
  if (alter > 1) {
    alter -= 12;
    octave += 1;
  }
  return { letter, octave, alter };
}

function inSignature(letter, fifths) {
  if (fifths > 0) return SHARP_ORDER.slice(0, fifths).includes(letter) ? 1 : 0;
  return [...SHARP_ORDER].reverse().slice(0, -fifths).includes(letter) ? -1 : 0;
}

// Notes and rests of a bar, cut to lengths that can be written: [pitch or null, start, length, tied to the next].
function eventsOf(notes, from, to, beat) {
  const events = [];
  let now = from;
  // In 6/8 what goes on after a beat is tied to it, unless it lasts whole beats.
  const fits = (value) => beat % 3 > 0 || value <= beat || value % beat === 0;
  const write = (pitch, start, end, tiedOn) => {
    for (let at = start; at < end; ) {
      const room = (at - from) % beat ? beat - ((at - from) % beat) : end - at;
      const length = LENGTHS.find((value) => value <= Math.min(end - at, room) && fits(value));
      events.push({ pitch, start: at, length, tied: pitch !== null && (at + length < end || tiedOn) });
      at += length;
    }
  };
  for (const [pitch, start, length] of notes) {
    const end = start + length;
    if (end <= from || start >= to) continue;
    if (start > now) write(null, now, start, false);
    write(pitch, Math.max(start, from), Math.min(end, to), end > to);
    now = Math.min(end, to);
  }
  if (now < to) write(null, now, to, false);
  return events;
}

class Staff {
  constructor(x, y, width) {
    this.group = svgElement("g", { transform: `translate(${x} ${y})` });
    for (let line = 0; line < 5; line += 1) this.line(0, line * UNIT, width, line * UNIT, "staff");
  }

  line(x1, y1, x2, y2, kind = "ink-line") {
    this.group.append(svgElement("line", { x1, y1, x2, y2, class: kind }));
  }

  path(d, kind, x = 0, y = 0, scale = 1) {
    this.group.append(svgElement("path", { d, class: kind, transform: `translate(${x} ${y}) scale(${scale})` }));
  }

  clef(x) {
    this.path(CLEF, "clef", x, 3 * UNIT, UNIT);
    this.group.append(svgElement("circle", { cx: x - 0.12 * UNIT, cy: 5.3 * UNIT, r: 0.3 * UNIT, class: "ink" }));
  }

  y(place) {
    return (4 - place / 2) * UNIT;
  }

  accidental(x, place, alter) {
    const y = this.y(place);
    if (alter > 0) this.path("M-.25-1.2V1.3M.25-1.4V1.1M-.55-.3L.55-.6M-.55.6L.55.3", "sign", x, y, UNIT);
    else if (alter < 0) this.path("M-.3-1.7V.7C.1.5.5.1.4-.2C.3-.5-.1-.4-.3-.1", "sign", x, y, UNIT);
    else this.path("M-.28-1.3V.55L.28.3M.28 1.3V-.55L-.28-.3", "sign", x, y, UNIT);
  }

  head(x, place, length) {
    const y = this.y(place);
    for (let ledger = -2; ledger >= place; ledger -= 2) this.line(x - UNIT, this.y(ledger), x + UNIT, this.y(ledger), "staff");
    for (let ledger = 10; ledger <= place; ledger += 2) this.line(x - UNIT, this.y(ledger), x + UNIT, this.y(ledger), "staff");
    const open = length >= 8;
    const shape = { cx: x, cy: y, rx: UNIT * (open ? 0.56 : 0.62), ry: UNIT * 0.43, transform: `rotate(-22 ${x} ${y})` };
    this.group.append(svgElement("ellipse", { ...shape, class: open ? "open" : "ink" }));
    if (DOTTED.includes(length)) this.dot(x + UNIT * 1.15, place % 2 ? y : y - UNIT / 2);
  }

  dot(x, y) {
    this.group.append(svgElement("circle", { cx: x, cy: y, r: 0.2 * UNIT, class: "ink" }));
  }

  rest(x, length) {
    const plain = LENGTHS.find((value) => value <= length && !DOTTED.includes(value));
    const y = 2 * UNIT;
    if (plain >= 8) {
      const top = plain === 16 ? y - UNIT : y - UNIT / 2;
      this.group.append(svgElement("rect", { x: x - 0.7 * UNIT, y: top, width: 1.4 * UNIT, height: UNIT / 2, class: "ink" }));
    } else if (plain === 4) {
      this.path("M-.25-1.4L.35-.6C-.1-.2-.1.05.4.7C-.2.5-.5.85-.05 1.4", "rest", x, y, UNIT);
    } else {
      this.path("M-.45-.5C-.35-.1.25-.15.5-.55L0 1.1", "rest", x, y, UNIT);
      this.group.append(svgElement("circle", { cx: x - 0.4 * UNIT, cy: y - 0.55 * UNIT, r: 0.24 * UNIT, class: "ink" }));
      if (plain <= 1) {
        this.path("M-.55.4C-.45.8.1.75.3.3", "rest", x, y, UNIT);
        this.group.append(svgElement("circle", { cx: x - 0.52 * UNIT, cy: y + 0.35 * UNIT, r: 0.24 * UNIT, class: "ink" }));
      }
    }
    if (plain !== length) this.dot(x + UNIT * 1.1, y - UNIT / 2);
  }

  // Notes that share a beam, or one with its flags.
  stems(group) {
    const places = group.map((note) => note.place);
    const far = Math.max(...places) - 4 >= 4 - Math.min(...places) ? -1 : 1; // -1: the stems go down
    const up = far > 0;
    const side = up ? 0.56 * UNIT : -0.56 * UNIT;
    const reach = up ? Math.min(...group.map((n) => this.y(n.place))) - 3 * UNIT : Math.max(...group.map((n) => this.y(n.place))) + 3 * UNIT;
    const end = up ? Math.min(reach, 2 * UNIT) : Math.max(reach, 2 * UNIT);
    for (const note of group) this.line(note.x + side, this.y(note.place), note.x + side, end, "stem");
    const flags = (note) => (note.length < 1 ? 3 : note.length < 2 ? 2 : note.length < 4 ? 1 : 0);
    if (group.length === 1) {
      const [note] = group;
      for (let flag = 0; flag < flags(note); flag += 1) {
        const y = end + (up ? flag : -flag) * UNIT * 0.85;
        const sign = up ? 1 : -1;
        this.path(`M0 0C.1 ${0.7 * sign} 1.1 ${0.9 * sign} .75 ${2.2 * sign}`, "rest", note.x + side, y, UNIT);
      }
      return up;
    }
    const height = UNIT * 0.48;
    const bar = (x1, x2, level) => {
      const y = end + (up ? level : -level) * UNIT * 0.78 - (up ? 0 : height);
      this.group.append(svgElement("rect", { x: x1, y, width: x2 - x1, height, class: "ink" }));
    };
    bar(group[0].x + side - 0.6, group[group.length - 1].x + side + 0.6, 0);
    for (const level of [1, 2]) {
      group.forEach((note, number) => {
        if (flags(note) <= level) return;
        const next = group[number + 1];
        if (next && flags(next) > level) bar(note.x + side - 0.6, next.x + side + 0.6, level);
        else if (!(number > 0 && flags(group[number - 1]) > level)) {
          const stub = next ? 1 : -1;
          const x = note.x + side;
          bar(Math.min(x, x + stub * UNIT), Math.max(x, x + stub * UNIT), level);
        }
      });
    }
    return up;
  }

  tie(x1, x2, place, up) {
    const y = this.y(place) + (up ? 1 : -1) * UNIT * 0.75;
    const bow = (up ? 1 : -1) * UNIT * 0.9;
    this.path(`M${x1} ${y}Q${(x1 + x2) / 2} ${y + bow} ${x2} ${y}`, "tie");
  }
}

function drawBar(staff, bar, x, width, context) {
  const { fifths, beam, memory } = context;
  const altered = new Map();
  const scale = (width - 2.4 * UNIT) / (bar.to - bar.from);
  let group = [];
  const finish = () => {
    if (!group.length) return;
    const up = staff.stems(group);
    for (const note of group) if (note.tied) memory.push({ ...note, up });
    group = [];
  };
  for (const event of bar.events) {
    const at = x + 1.9 * UNIT + (event.start - bar.from) * scale;
    const beamed = Math.floor((event.start - bar.from) / beam);
    if (event.pitch === null || event.length >= 4 || !group.length || group[0].beam !== beamed) finish();
    if (event.pitch === null) {
      staff.rest(at + 0.2 * UNIT, event.length);
      continue;
    }
    const { letter, octave, alter } = spell(event.pitch, fifths);
    const place = (octave - 4) * 7 + letter - 2; // half spaces above the lowest line, E4
    const known = altered.has(place) ? altered.get(place) : inSignature(letter, fifths);
    const open = memory.findIndex((note) => note.until === event.start && note.place === place);
    if (open >= 0) {
      const [note] = memory.splice(open, 1);
      if (note.staff === staff) staff.tie(note.x + 0.5 * UNIT, at - 0.5 * UNIT, place, note.up);
    } else if (known !== alter) {
      staff.accidental(at - 1.35 * UNIT, place, alter);
      altered.set(place, alter);
    }
    staff.head(at, place, event.length);
    const note = { x: at, place, length: event.length, tied: event.tied, until: event.start + event.length, staff };
    if (event.length < 16) group.push({ ...note, beam: beamed });
    else if (event.tied) memory.push({ ...note, up: true });
    if (event.length >= 4) finish();
  }
  finish();
}

// Pixels that a bar needs: neighbours must not touch, nor signs stand on the note before.
function leastWidth({ from, to, events }, fifths) {
  const hasSign = (pitch) => {
    const { letter, alter } = spell(pitch, fifths);
    return alter !== inSignature(letter, fifths);
  };
  let scale = 0; // pixels per step
  events.slice(1).forEach(({ pitch, start }, number) => {
    const room = pitch !== null && hasSign(pitch) ? 2.4 : 1.5;
    scale = Math.max(scale, (room * UNIT) / (start - events[number].start));
  });
  return Math.max(17 * UNIT, 2.4 * UNIT + scale * (to - from));
}

// The picture of a melody; `meter` such as "6/8"; steps per bar, per beat, and steps that share a beam.
export function scoreOf(notes, steps, meter, bar, beat, beam, width) {
  const fifths = keyOf(notes);
  const bars = [];
  for (let from = 0; from < steps; from += bar) {
    const to = Math.min(from + bar, steps);
    bars.push({ from, to, events: eventsOf(notes, from, to, beat) });
  }
  const head = (4.6 + Math.abs(fifths) * 1.05) * UNIT;
  const least = Math.max(...bars.map((one) => leastWidth(one, fifths)));
  const each = Math.max(1, Math.min(bars.length, 4, Math.floor((width - head - 4 * UNIT) / least)));
  const pitches = notes.map((note) => note[0]);
  const above = Math.max(3.5, (Math.max(72, ...pitches) - 77) * 0.3 + 3) * UNIT;
  const below = Math.max(3, (64 - Math.min(72, ...pitches)) * 0.32 + 3) * UNIT;
  const system = above + 4 * UNIT + below;
  const rows = Math.ceil(bars.length / each);
  const svg = svgElement("svg", { width, height: rows * system, viewBox: `0 0 ${width} ${rows * system}`, "aria-hidden": "true" });
  const memory = [];
  for (let row = 0; row < rows; row += 1) {
    const staff = new Staff(0, row * system + above, width);
    staff.clef(1.7 * UNIT);
    const places = fifths > 0 ? SHARP_PLACES : FLAT_PLACES;
    for (let sign = 0; sign < Math.abs(fifths); sign += 1) {
      staff.accidental((4 + sign * 1.05) * UNIT, places[sign], Math.sign(fifths));
    }
    let left = head;
    if (row === 0) {
      meter.split("/").forEach((text, line) => {
        const place = { x: head + 0.6 * UNIT, y: (line * 2 + 1.83) * UNIT, class: "meter" };
        staff.group.append(svgElement("text", place, text));
      });
      left += 2.2 * UNIT;
    }
    const inRow = bars.slice(row * each, (row + 1) * each);
    const wide = (width - left) / each;
    inRow.forEach((one, number) => {
      drawBar(staff, one, left + number * wide, wide, { fifths, beam, memory });
      const end = left + (number + 1) * wide;
      staff.line(end - 0.5, 0, end - 0.5, 4 * UNIT, "ink-line");
    });
    svg.append(staff.group);
  }
  return svg;
}

export function scoreInWords(notes) {
  return notes.length ? `Score: ${notes.map((note) => pitchName(note[0])).join(", ")}` : "Score: empty";
}
