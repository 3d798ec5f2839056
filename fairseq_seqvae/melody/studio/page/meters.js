// The models, one per meter: which is in use, and the grid that each begins with.

import { $, htmlElement } from "./draw.js";
import { ask } from "./api.js";
import { showSliders } from "./tools.js";
import { firstTempo, firsts, keepModels, model, models, player, store, useModel } from "./session.js";
import { forgetIdeas } from "./ideas.js";
import { slideTo } from "./melody.js";
import { fill } from "./cells.js";
import { say } from "./status.js";

const POLL = 400; // milliseconds

// What follows is asked of this model. The state stays as it is.
export function adopt(chosen) {
  player.stop();
  useModel(chosen);
  forgetIdeas();
  if (model.ready) {
    $("about").textContent = aboutModel(model);
    showSliders(model.sliders, slideTo);
    $("meter").value = model.name;
  }
}

// Another meter: its own grid takes the place of this one, until that is undone.
export async function changeModel(chosen) {
  const first = firsts[chosen.name];
  adopt(chosen);
  if (first) {
    showGrid(first.grid, true);
    say(`Now in ${model.meter}. Undo brings back what was there.`);
  } else await fillAnew();
}

export async function fillAnew() {
  const count = model.bars * model.steps_per_bar;
  const corners = [0, 1, 2, 3].map((i) => {
    const tune = model.tunes[Math.floor((i * model.tunes.length) / 4)];
    return tune ? { name: tune.name, notes: tune.notes, steps: count } : { seed: i + 1 };
  });
  const { side } = store.state;
  const cells = Array.from({ length: side * side }, () => []);
  store.set({ model: model.name, steps: count, corners, cells, edits: {}, path: [], timeline: [], cell: 0, filled: false, tempo: firstTempo() });
  await fill(corners, false);
}

export function showGrid(given, undoable = false) {
  const count = model.bars * model.steps_per_bar;
  const corners = given.corners.map((corner) => ({ ...corner, steps: count }));
  store.set(
    {
      model: model.name,
      steps: count,
      corners,
      sources: corners,
      side: given.rows,
      cells: given.tunes,
      edits: {},
      path: [],
      timeline: [],
      filled: true,
      cell: 0,
      selected: { name: given.corners[0].name || "Melody", notes: given.tunes[0], steps: count },
      tempo: firstTempo(),
    },
    undoable,
  );
}

export function shapeOf(first) {
  const [beats, unit] = first.meter.split("/").map(Number);
  const quarter = first.steps_per_quarter || 4;
  return { meter: first.meter, bars: first.bars, steps_per_quarter: quarter, steps_per_bar: (beats * 4 * quarter) / unit };
}

export function showMeters() {
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
  const trained = card.training_melodies ? `, trained on ${card.training_melodies.toLocaleString("en")} melodies` : "";
  return `A SeqVAE of ${one.bars} bars in ${one.meter}, ${one.dim} numbers per melody${trained}.${back}`;
}

// Until the model of this name is open (null: the first of all); the others come to the menu when they are.
export async function waitForModel(name) {
  for (;;) {
    const found = (await ask("models")).models;
    const bad = found.find((one) => one.error);
    if (bad) throw new Error(bad.error);
    keepModels(found.filter((one) => one.ready));
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
    keepModels(found.filter((one) => one.ready));
    showMeters();
    if (models.length < found.length && !found.some((one) => one.error)) setTimeout(waitForOthers, POLL);
  } catch (error) {
    say(error.message, "bad");
  }
}
