// The melody shown: its roll, its score, what the model makes of it.

import { $ } from "./draw.js";
import { Roll } from "./roll.js";
import { cutNotes, isCompound, nameAfter, sameMelody } from "./notes.js";
import { scoreInWords, scoreOf } from "./score.js";
import { resetSliders } from "./tools.js";
import { askAgain, cornerCells, fromModel, kept, model, player, steps, store } from "./session.js";
import { hearSelected } from "./playing.js";
import { say, speak } from "./status.js";

let slid = { from: null, to: null }; // the melody that the sliders started from, and what they made of it

export function select(tune, cell = null, undoable = true) {
  store.set({ selected: tune, cell }, undoable);
}

export const roll = new Roll({
  speak,
  sound: (pitch) => player.touch(pitch),
  change(notes) {
    const { selected, cell, edits } = store.state;
    if (sameMelody(selected.notes, notes)) return;
    const tune = { ...selected, notes, name: nameAfter(selected.name, "edited") };
    const corner = kept || cell === null ? -1 : cornerCells(store.state.side).indexOf(cell);
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

// Show a melody and play it. The one that plays already is stopped.
export function chooseMelody(tune) {
  const { selected } = store.state;
  const sounds = player.playing && player.tag.kind === "selected";
  if (sounds && selected.name === tune.name && sameMelody(selected.notes, tune.notes)) {
    player.stop();
    return;
  }
  select(tune);
  hearSelected();
}

// Steps of a beat: a dotted quarter of 6/8, a quarter of 3/4.
function beat() {
  const [beats, unit] = model.meter.split("/").map(Number);
  return ((isCompound(beats) ? 3 : 1) * 4 * model.steps_per_quarter) / unit;
}

// Steps that share a beam: half a bar of 4/4, a dotted quarter of 6/8, or else a quarter.
function beamed() {
  return model.meter === "4/4" || model.meter === "2/2" ? model.steps_per_bar / 2 : Math.max(model.steps_per_quarter, beat());
}

export function showScore() {
  const { selected } = store.state;
  const box = $("score");
  box.setAttribute("aria-label", scoreInWords(selected.notes));
  const scale = 4 / model.steps_per_quarter; // the score counts in sixteenths
  const notes = selected.notes.map(([pitch, start, length]) => [pitch, start * scale, length * scale]);
  const widths = [model.steps_per_bar, beat(), beamed()].map((width) => width * scale);
  box.replaceChildren(scoreOf(notes, selected.steps * scale, model.meter, ...widths, Math.max(260, box.clientWidth)));
}

export function showSelected() {
  const { selected } = store.state;
  if (selected !== slid.to) {
    slid = { from: null, to: null };
    resetSliders();
  }
  roll.show(selected, model.steps_per_bar, beat(), model.steps_per_quarter === 8 ? "thirty-second" : "sixteenth");
  $("melody-name").textContent = selected.name;
  showScore();
}

export async function slideTo(values) {
  const { selected } = store.state;
  const from = selected === slid.to ? slid.from : selected;
  const start = oneLength(false, from);
  if (!start) return;
  const answer = await fromModel("Sliding …", "decode", { points: [{ notes: start.notes, sliders: values }] }, "slide");
  if (!answer || store.state.selected !== selected) return;
  const moved = { name: nameAfter(from.name, "slid"), notes: answer.tunes[0], steps: steps() };
  slid = { from, to: Object.keys(values).length ? moved : from };
  store.set({ selected: slid.to, cell: null });
  hearSelected();
}

// A melody, as long as the model's: of a longer one the beginning, or the end.
export function oneLength(atEnd = false, selected = store.state.selected) {
  const start = atEnd ? Math.max(0, selected.steps - steps()) : 0;
  const notes = cutNotes(selected.notes, start, start + steps());
  if (notes.length) {
    if (selected.steps > steps()) say(`The model hears the ${atEnd ? "last" : "first"} ${model.bars} bars alone.`);
    return { ...selected, notes, steps: steps() };
  }
  say("There are no notes yet.", "bad");
  return null;
}

export async function rethink() {
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
