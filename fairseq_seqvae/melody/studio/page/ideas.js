// What the model proposes beside the melody shown: variations, continuations, steps from one melody to another.

import { $, htmlElement, melodyTile, miniRoll } from "./draw.js";
import { describeMelody } from "./notes.js";
import { fromModel, model, player, randomSeed, steps, store } from "./session.js";
import { hear } from "./playing.js";
import { chooseMelody, oneLength } from "./melody.js";
import { addToTune } from "./tune.js";
import { say } from "./status.js";

let blendEnds = [null, null];

// A whole number within the bounds of its field, which shows it then.
function numberIn(id) {
  const { min, max, defaultValue } = $(id);
  const value = Math.round(Number($(id).value)) || Number(defaultValue);
  $(id).value = Math.max(Number(min), Math.min(Number(max), value));
  return Number($(id).value);
}

export async function vary() {
  const selected = oneLength();
  if (!selected) return;
  const body = {
    point: { notes: selected.notes },
    count: numberIn("count"),
    distance: Number($("distance").value) / 100,
    temperature: Number($("temperature").value) / 100,
    seed: randomSeed(),
  };
  const answer = await fromModel("Varying …", "variations", body, "results");
  if (answer) showResults(answer.tunes.map((notes, i) => ({ name: `Variation ${i + 1}`, notes, steps: steps() })));
}

export async function goOn() {
  const selected = oneLength(true);
  if (!selected) return;
  const bars = Number($("more-bars").value);
  const body = {
    notes: selected.notes,
    bars,
    count: numberIn("more-count"),
    temperature: Number($("more-temperature").value) / 100,
    seed: randomSeed(),
  };
  const answer = await fromModel("Continuing …", "continue", body, "results");
  if (!answer) return;
  showResults(answer.tunes.map((notes, i) => ({ name: `Continuation ${i + 1}`, notes, steps: bars * model.steps_per_bar })));
}

export async function blend() {
  const [from, to] = blendEnds;
  if (!from || !to) {
    say("Choose both ends: show a melody, then press From or To.", "bad");
    return;
  }
  const body = { from: { notes: from.notes }, to: { notes: to.notes }, steps: Number($("blend-steps").value) };
  const answer = await fromModel("Blending …", "blend", body, "results");
  if (!answer) return;
  showResults(answer.tunes.map((notes, i) => ({ name: `Step ${i + 1} of ${answer.tunes.length}`, notes, steps: steps() })));
  const moved = Math.abs(answer.shift);
  if (moved) say(`The second melody is ${moved} semitone${moved > 1 ? "s" : ""} ${answer.shift > 0 ? "higher" : "lower"} here, in the key of the first.`);
}

export function setBlendEnd(number) {
  const selected = oneLength();
  if (!selected) return;
  blendEnds[number] = selected;
  showBlendEnds();
}

export function showBlendEnds() {
  ["blend-from", "blend-to"].forEach((id, number) => {
    const end = blendEnds[number];
    const what = number ? "To" : "From";
    $(id).setAttribute("aria-label", end ? `${what}: ${end.name}. Replace by the melody shown` : `${what}: take the melody shown`);
    $(id).title = "Take the melody shown";
    $(id).replaceChildren(end ? miniRoll(end.notes, end.steps) : "the melody shown");
  });
}

function showResults(tunes) {
  const list = tunes.map((tune) => {
    const tile = melodyTile(tune, `${tune.name}: ${describeMelody(tune.notes)}. Play`);
    tile.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hoverResult(tune));
    tile.addEventListener("pointerleave", () => player.playing && player.tag.kind === "result" && player.tag.hover && player.stop());
    tile.addEventListener("click", () => chooseMelody(tune));
    const add = htmlElement("button", { type: "button", className: "quiet small", textContent: "+", title: "Add to the tune", "aria-label": `Add ${tune.name} to the tune` });
    add.addEventListener("click", () => addToTune(tune));
    return htmlElement("div", { className: "item", role: "listitem" }, tile, add);
  });
  $("results").replaceChildren(...list);
}

function hoverResult(tune) {
  if (!player.allowed || !store.state.hover || !tune.notes.length) return;
  if (player.playing && player.tag.kind !== "result") return;
  hear([tune], { kind: "result", hover: true });
}

// Of another model, or meter.
export function forgetIdeas() {
  blendEnds = [null, null];
  showBlendEnds();
  showResults([]);
}
