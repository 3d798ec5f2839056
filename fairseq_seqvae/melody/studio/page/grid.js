// The grid: tiles that play, a path through them, arrow keys.

import { $, cellColour, htmlElement, miniRoll, svgElement } from "./draw.js";
import { describeMelody } from "./notes.js";

export class Grid {
  // `on` has: choose(cell), hear(cell), leave(), path(cells), isDrawing()
  constructor(on) {
    this.on = on;
    this.element = $("grid");
    this.tiles = [];
    this.side = 0;
    this.focused = 0;
    this.stroke = null;
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.element.addEventListener("pointerdown", (event) => this.press(event));
    this.element.addEventListener("pointermove", (event) => this.drag(event));
    window.addEventListener("pointerup", () => this.release());
    window.addEventListener("pointercancel", () => this.release());
    this.element.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.on.leave());
  }

  show(state) {
    if (state.side !== this.side) this.build(state.side);
    const { cells, cell, edits, filled, path } = state;
    for (let number = 0; number < this.tiles.length; number += 1) {
      const tile = this.tiles[number];
      const notes = edits[number] || cells[number] || [];
      if (tile.shown !== notes) {
        tile.shown = notes;
        tile.button.replaceChildren(miniRoll(notes, state.steps), tile.badge);
        const place = `row ${Math.floor(number / this.side) + 1}, column ${(number % this.side) + 1}`;
        tile.button.setAttribute("aria-label", `${place}: ${describeMelody(notes)}`);
      }
      const corner = this.isCorner(number);
      tile.button.classList.toggle("corner", corner);
      tile.button.classList.toggle("stale", !filled && !corner);
      tile.button.classList.toggle("edited", number in edits);
      tile.button.setAttribute("aria-selected", String(number === cell));
      const turns = path.flatMap((at, turn) => (at === number ? [turn + 1] : []));
      tile.badge.textContent = turns.slice(0, 3).join(" ");
    }
    this.showTrail(path);
    this.element.classList.toggle("drawing", this.on.isDrawing());
  }

  // The path as a line from tile to tile.
  showTrail(path) {
    if (this.trailed === path) return;
    this.trailed = path;
    const points = path.map((at) => `${(at % this.side) + 0.5},${Math.floor(at / this.side) + 0.5}`).join(" ");
    const box = { viewBox: `0 0 ${this.side} ${this.side}`, preserveAspectRatio: "none", class: "trail", "aria-hidden": "true" };
    this.element.querySelector(".trail")?.remove();
    if (path.length > 1) this.element.append(svgElement("svg", box, svgElement("polyline", { points })));
  }

  isCorner(number) {
    const last = this.side - 1;
    const row = Math.floor(number / this.side);
    return (row === 0 || row === last) && (number % this.side === 0 || number % this.side === last);
  }

  build(side) {
    this.side = side;
    this.focused = Math.min(this.focused, side * side - 1);
    this.element.style.setProperty("--side", side);
    this.tiles = [];
    const rows = [];
    for (let row = 0; row < side; row += 1) {
      const line = htmlElement("div", { className: "grid-row", role: "row" });
      for (let column = 0; column < side; column += 1) {
        const number = row * side + column;
        const button = htmlElement("button", { type: "button", className: "cell", role: "gridcell" });
        button.dataset.cell = number;
        button.style.setProperty("--colour", cellColour(row, column, side));
        button.tabIndex = number === this.focused ? 0 : -1;
        button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.enter(number));
        button.addEventListener("focus", () => this.focus(number));
        button.addEventListener("click", (event) => this.click(event, number));
        const badge = htmlElement("span", { className: "badge", "aria-hidden": "true" });
        this.tiles.push({ button, badge, shown: null });
        line.append(button);
      }
      rows.push(line);
    }
    this.element.replaceChildren(...rows);
  }

  focus(number) {
    this.tiles[this.focused].button.tabIndex = -1;
    this.focused = number;
    this.tiles[number].button.tabIndex = 0;
    // A click chooses the melody by itself; focus that came by the keyboard plays it.
    if (this.tiles[number].button.matches(":focus-visible") && !this.on.isDrawing()) this.on.hear(number);
  }

  enter(number) {
    if (!this.stroke && !this.on.isDrawing()) this.on.hear(number);
  }

  click(event, number) {
    if (!this.on.isDrawing()) this.on.choose(number);
    else if (event.detail === 0) this.on.path([number], false); // by Enter or Space
  }

  press(event) {
    if (!this.on.isDrawing()) return;
    event.preventDefault();
    const cell = this.cellAt(event);
    if (cell === null) return;
    this.stroke = [cell];
    this.on.path(this.stroke, true);
  }

  drag(event) {
    if (!this.stroke) return;
    const cell = this.cellAt(event);
    if (cell === null || cell === this.stroke[this.stroke.length - 1]) return;
    this.stroke = [...this.stroke, cell];
    this.on.path(this.stroke, true);
  }

  release() {
    this.stroke = null;
  }

  cellAt(event) {
    const found = document.elementFromPoint(event.clientX, event.clientY);
    const button = found && found.closest(".cell");
    return button ? Number(button.dataset.cell) : null;
  }

  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.side, ArrowDown: this.side };
    const column = this.focused % this.side;
    let to = null;
    if (event.key in steps) {
      to = this.focused + steps[event.key];
      if (event.key === "ArrowLeft" && column === 0) to = null;
      if (event.key === "ArrowRight" && column === this.side - 1) to = null;
    } else if (event.key === "Home") to = this.focused - column;
    else if (event.key === "End") to = this.focused - column + this.side - 1;
    else return;
    event.preventDefault();
    if (to !== null && to >= 0 && to < this.tiles.length) this.tiles[to].button.focus({ focusVisible: true });
  }

  // Which cell sounds, and how far it is (0 to 1); null: none.
  mark(cell, share = 0) {
    if (this.marked !== undefined && this.marked !== cell && this.tiles[this.marked]) {
      this.tiles[this.marked].button.classList.remove("sounding");
    }
    this.marked = cell === null ? undefined : cell;
    if (cell === null || !this.tiles[cell]) return;
    this.tiles[cell].button.classList.add("sounding");
    this.tiles[cell].button.style.setProperty("--share", share.toFixed(3));
  }
}
