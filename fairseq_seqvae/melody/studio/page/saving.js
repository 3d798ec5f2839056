// Files to take away.

import { fetchFile, saveBlob } from "./api.js";
import { midiFile } from "./midi.js";
import { kept, melodyOf, model, steps, store } from "./session.js";
import { say, working } from "./status.js";

export async function save(format, tunes, name) {
  const heard = tunes.filter((tune) => tune.notes.length);
  if (!heard.length) {
    say("There are no notes to save yet.", "bad");
    return;
  }
  if (kept) {
    saveBlob(new Blob([midiFile(heard, store.state.tempo, model.meter, model.steps_per_quarter)], { type: "audio/midi" }), `${name}.mid`);
    return;
  }
  const body = {
    format,
    name,
    tempo: store.state.tempo,
    meter: model.meter,
    steps_per_quarter: model.steps_per_quarter,
    tunes: heard.map((tune) => ({ name: tune.name || "Melody", notes: tune.notes, steps: tune.steps })),
  };
  const file = await working("Writing …", () => fetchFile(body));
  if (file) saveBlob(file.blob, file.name);
}

export function gridTunes() {
  const { side } = store.state;
  return Array.from({ length: side * side }, (_, cell) => ({ name: `Row ${Math.floor(cell / side) + 1} column ${(cell % side) + 1}`, notes: melodyOf(cell), steps: steps() }));
}
