// Melodies, the path and the tune are heard.

import { cutNotes } from "./notes.js";
import { melodyOf, model, player, steps, store } from "./session.js";
import { say } from "./status.js";

export function hear(parts, tag) {
  const heard = parts.filter((part) => part.notes.length);
  if (!heard.length) {
    say("There are no notes to play yet.");
    return;
  }
  player.play(parts, tag);
}

export function hearSelected() {
  hear([store.state.selected], { kind: "selected", cell: store.state.cell });
}

export function pathParts(state) {
  const length = Math.min(state.pathBars, model.bars) * model.steps_per_bar;
  return state.path.map((cell, turn) => {
    const start = (turn * length) % steps();
    return { notes: cutNotes(melodyOf(cell, state), start, start + length), steps: length };
  });
}

export function toggle(kind, start) {
  if (player.playing && player.tag.kind === kind) player.stop();
  else start();
}
