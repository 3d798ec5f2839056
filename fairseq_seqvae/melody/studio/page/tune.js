// The tune: melodies in a line.

import { $, htmlElement, melodyTile } from "./draw.js";
import { model, store } from "./session.js";
import { MOST_PIECES } from "./store.js";
import { chooseMelody } from "./melody.js";
import { say } from "./status.js";

export function addToTune(tune) {
  if (!tune.notes.length) {
    say("There are no notes yet.", "bad");
    return;
  }
  if (store.state.timeline.length >= MOST_PIECES) {
    say(`A tune has at most ${MOST_PIECES} melodies.`, "bad");
    return;
  }
  store.set({ timeline: [...store.state.timeline, { ...tune }] });
  say(`Added: ${tune.name}`);
}

function moveInTune(from, to) {
  const { timeline } = store.state;
  if (to < 0 || to >= timeline.length) return;
  const moved = [...timeline];
  moved.splice(to, 0, ...moved.splice(from, 1));
  store.set({ timeline: moved });
  const item = $("tune").children[to];
  if (item) item.querySelector(".tile").focus();
}

function tuneItem(tune, number, count) {
  const tile = melodyTile(tune, `${number + 1} of ${count}, ${tune.name}. Enter shows it, Alt with arrows moves it, Delete removes it`);
  tile.addEventListener("click", () => chooseMelody(tune));
  tile.addEventListener("keydown", (event) => {
    if (event.altKey && event.key === "ArrowLeft") moveInTune(number, number - 1);
    else if (event.altKey && event.key === "ArrowRight") moveInTune(number, number + 1);
    else if (event.key === "Delete") remove();
    else return;
    event.preventDefault();
  });
  const remove = () => {
    store.set({ timeline: store.state.timeline.filter((_, i) => i !== number) });
    const next = $("tune").children[Math.min(number, count - 2)];
    (next ? next.querySelector(".tile") : $("to-tune")).focus();
  };
  const button = (text, label, action) => {
    const made = htmlElement("button", { type: "button", className: "quiet small", textContent: text, "aria-label": `${label} ${tune.name}`, title: label });
    made.addEventListener("click", action);
    return made;
  };
  const item = htmlElement("div", { className: "item", role: "listitem", draggable: true }, tile);
  item.append(
    htmlElement(
      "div",
      { className: "item-actions" },
      button("‹", "Move to the left:", () => moveInTune(number, number - 1)),
      button("×", "Remove", remove),
      button("›", "Move to the right:", () => moveInTune(number, number + 1)),
    ),
  );
  item.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/x-place", String(number)));
  item.addEventListener("dragover", (event) => event.dataTransfer.types.includes("text/x-place") && event.preventDefault());
  item.addEventListener("drop", (event) => {
    if (!event.dataTransfer.types.includes("text/x-place")) return;
    event.preventDefault();
    event.stopPropagation();
    moveInTune(Number(event.dataTransfer.getData("text/x-place")), number);
  });
  return item;
}

export function showTimeline() {
  const { timeline } = store.state;
  $("tune").replaceChildren(...timeline.map((tune, i) => tuneItem(tune, i, timeline.length)));
  const bars = timeline.reduce((sum, tune) => sum + tune.steps, 0) / model.steps_per_bar;
  $("tune-hint").textContent = timeline.length ? `${Math.round(bars)} bars` : "Line melodies up into a longer tune.";
}
