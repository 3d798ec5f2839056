// Small pictures of melodies, and the colours of the grid.

const SVG = "http://www.w3.org/2000/svg";
const CORNER_COLOURS = [
  [226, 114, 91],
  [222, 166, 58],
  [74, 141, 196],
  [62, 155, 125],
];
const FEWEST_ROWS = 17; // semitones that a small picture shows at least

export function svgElement(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

export function htmlElement(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key === "role") element.setAttribute(key, value);
    else element[key] = value;
  }
  element.append(...children);
  return element;
}

export function $(id) {
  return document.getElementById(id);
}

// Notes as one shape, as wide as the melody.
export function miniRoll(notes, steps) {
  const pitches = notes.map((note) => note[0]);
  const top = Math.max(...pitches);
  const low = Math.min(...pitches);
  const rows = Math.max(FEWEST_ROWS, top - low + 3);
  const first = (top + low) / 2 + rows / 2;
  const shape = notes.map(([p, s, n]) => `M${s + 0.12} ${(first - p - 0.9).toFixed(1)}h${(n - 0.24).toFixed(2)}v1.8h-${(n - 0.24).toFixed(2)}z`).join("");
  const box = { viewBox: `0 0 ${steps} ${rows}`, preserveAspectRatio: "none", "aria-hidden": "true", class: "mini" };
  return svgElement("svg", box, svgElement("path", { d: notes.length ? shape : "" }));
}

export function cornerColour(number) {
  return `rgb(${CORNER_COLOURS[number].join(" ")})`;
}

// The colour of a place in the grid: a mixture of those of the corners.
export function cellColour(row, column, side) {
  const v = row / (side - 1);
  const u = column / (side - 1);
  const weights = [(1 - v) * (1 - u), (1 - v) * u, v * (1 - u), v * u];
  const mixed = [0, 1, 2].map((c) => Math.round(weights.reduce((sum, w, i) => sum + w * CORNER_COLOURS[i][c], 0)));
  return `rgb(${mixed.join(" ")})`;
}

// A melody that can be heard, chosen and dragged nowhere: a button with a picture.
export function melodyTile(tune, label) {
  const tile = htmlElement("button", { className: "tile", type: "button", "aria-label": label });
  tile.append(miniRoll(tune.notes, tune.steps), htmlElement("span", { className: "caption", textContent: tune.name }));
  return tile;
}
