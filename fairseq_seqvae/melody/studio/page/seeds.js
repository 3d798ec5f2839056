// Where a melody comes from: a corner's seed, a file, notes drawn by hand.

import { $, cornerColour, htmlElement } from "./draw.js";
import { FileDialog, SeedDialog } from "./dialogs.js";
import { CORNER_NAMES, cornerName, kept, model, models, player, randomSeed, steps, store } from "./session.js";
import { hear, hearSelected } from "./playing.js";
import { oneLength, select } from "./melody.js";
import { setCorner } from "./cells.js";
import { changeModel } from "./meters.js";
import { say } from "./status.js";

export const files = new FileDialog({
  model: () => model,
  models: () => models,
  listen: (melody) => hear([melody], { kind: "file" }),
  quiet: () => player.playing && player.tag.kind === "file" && player.stop(),
  fail: (sentence) => say(sentence, "bad"),
  async take(melody, target, chosen) {
    if (chosen.name !== model.name) await changeModel(chosen);
    if (target === null) {
      select(melody);
      hearSelected();
    } else setCorner(target, melody);
  },
});

const seeds = new SeedDialog({
  random: (corner) => setCorner(corner, { seed: randomSeed() }),
  file: (corner) => files.choose(corner),
  selected: (corner) => asCorner(corner),
  drawn: () => fromScratch(),
  tune: (corner, tune) => setCorner(corner, { name: tune.name, notes: tune.notes, steps: steps() }),
});

export function showSeeds() {
  const focused = chips().indexOf(document.activeElement);
  $("seeds-top").replaceChildren(seedChip(0), seedChip(1));
  $("seeds-bottom").replaceChildren(seedChip(2), seedChip(3));
  if (focused >= 0) chips()[focused].focus();
}

function chips() {
  return [...$("seeds-top").children, ...$("seeds-bottom").children];
}

function seedChip(number) {
  const corner = store.state.corners[number];
  const chip = htmlElement("button", { type: "button", className: "chip" });
  chip.style.setProperty("--colour", cornerColour(number));
  chip.setAttribute("aria-label", `Corner ${CORNER_NAMES[number]}: ${cornerName(number)}. Change it`);
  chip.append(htmlElement("span", { className: "dot" }), htmlElement("span", { textContent: "seed" in corner ? "Random" : corner.name || "Melody" }));
  if (kept) chip.disabled = true;
  else chip.append(htmlElement("span", { className: "more", textContent: "change" }));
  chip.addEventListener("click", () => seeds.open(number, `Corner, ${CORNER_NAMES[number]}`, model.tunes || [], steps()));
  return chip;
}

export function asCorner(number) {
  const melody = oneLength();
  if (melody) setCorner(number, { name: melody.name || "Melody", notes: melody.notes, steps: steps() });
}

export function fromScratch() {
  player.stop();
  select({ name: "My melody", notes: [], steps: steps() });
  $("roll").focus();
  say("Click into the roll to add notes; then use the melody as a corner.");
}
