// The dialogs: where a corner comes from, and which part of a file to take.

import { $, htmlElement, miniRoll } from "./draw.js";
import { sendFile } from "./api.js";
import { cutNotes, describeMelody, sameMeter } from "./notes.js";

// Which melody a corner shall be. `on` has: random(), file(), selected(), drawn(), tune(tune)
export class SeedDialog {
  constructor(on) {
    this.dialog = $("seed-dialog");
    const choose = (action) => () => {
      this.dialog.close();
      action(this.corner);
    };
    $("seed-random").addEventListener("click", choose(on.random));
    $("seed-file").addEventListener("click", choose(on.file));
    $("seed-selected").addEventListener("click", choose(on.selected));
    $("seed-drawn").addEventListener("click", choose(on.drawn));
    this.on = on;
  }

  open(corner, title, tunes, steps) {
    this.corner = corner;
    $("seed-title").textContent = title;
    $("seed-collection").hidden = !tunes.length;
    if (this.tunes !== tunes) {
      this.tunes = tunes;
      $("seed-list").replaceChildren(
        ...tunes.map((tune) => {
          const button = htmlElement("button", { type: "button", className: "tile" });
          button.append(miniRoll(tune.notes, steps), htmlElement("span", { className: "caption", textContent: tune.name }));
          button.addEventListener("click", () => {
            this.dialog.close();
            this.on.tune(this.corner, tune);
          });
          return button;
        }),
      );
    }
    this.dialog.showModal();
  }
}

// Voice, tune and bars of a file. `on` has: model(), models(), take(melody, target, model), listen(melody), quiet(), fail(sentence)
export class FileDialog {
  constructor(on) {
    this.on = on;
    this.target = null;
    this.dialog = $("file-dialog");
    this.input = $("file");
    this.input.addEventListener("change", () => {
      if (this.input.files.length) this.read(this.input.files[0]);
      this.input.value = "";
    });
    $("file-voice").addEventListener("change", () => this.readVoice());
    $("file-tune").addEventListener("change", () => this.showTune());
    $("file-bar").addEventListener("input", () => this.showBars());
    $("file-play").addEventListener("click", () => on.listen(this.melody));
    $("file-take").addEventListener("click", () => {
      this.dialog.close();
      on.take(this.melody, this.target, this.model);
    });
    this.dialog.addEventListener("close", () => on.quiet());
  }

  // `target`: a corner, or null for the melody shown.
  choose(target) {
    this.target = target;
    this.input.click();
  }

  async read(file) {
    this.file = file;
    this.model = this.on.model();
    this.voice = null;
    try {
      const found = await sendFile(file, null, 4);
      if (file !== this.file) return; // another one was chosen meanwhile
      $("file-voice-field").hidden = !found.voices;
      $("file-title").textContent = file.name;
      if (found.voices) {
        const options = found.voices.map((voice) => {
          const text = `${voice.name || `Voice ${voice.id}`} (${voice.notes} notes${voice.chords ? ", chords" : ""})`;
          return htmlElement("option", { value: voice.id, textContent: text });
        });
        $("file-voice").replaceChildren(...options);
        const melodic = found.voices.find((voice) => !voice.chords) || found.voices[0];
        $("file-voice").value = found.likely || melodic.id;
        await this.readVoice();
      } else await this.showTunes(found.tunes);
    } catch (error) {
      this.on.fail(error.message);
    }
  }

  async readVoice() {
    try {
      const { file } = this;
      const voice = $("file-voice").value;
      this.voice = voice;
      const found = await sendFile(file, voice, 4);
      if (file !== this.file || voice !== this.voice) return;
      if (!found.tunes) throw new Error("this voice cannot be told from another one: name the voices differently");
      await this.showTunes(found.tunes);
    } catch (error) {
      this.on.fail(error.message);
    }
  }

  async showTunes(tunes) {
    this.tunes = { 4: tunes };
    $("file-tune-field").hidden = tunes.length < 2;
    $("file-tune").replaceChildren(...tunes.map((tune, i) => htmlElement("option", { value: i, textContent: tune.name })));
    await this.showTune();
    if (!this.dialog.open) this.dialog.showModal();
  }

  // The model of the tune's meter: the one in use, if it is of this meter, or else the first; null: there is none.
  fitting(meter) {
    return [this.on.model(), ...this.on.models()].find((one) => sameMeter(one.meter, meter)) || null;
  }

  // The tune on the grid of a model.
  async tuneFor(number, model) {
    const steps = model.steps_per_quarter;
    if (!this.tunes[steps]) {
      const found = await sendFile(this.file, this.voice, steps);
      this.tunes[steps] = found.tunes;
    }
    return this.tunes[steps][number] || this.tunes[4][number];
  }

  async showTune() {
    try {
      const number = Number($("file-tune").value) || 0;
      const fitting = this.fitting(this.tunes[4][number].meter);
      const model = fitting || this.on.model();
      this.showBarsOf(await this.tuneFor(number, model), model, fitting !== null);
    } catch (error) {
      this.on.fail(error.message);
    }
  }

  showBarsOf(tune, model, fits) {
    this.model = model;
    const length = this.model.bars * this.model.steps_per_bar;
    const full = tune.starts.filter((start) => start + length <= tune.steps && cutNotes(tune.notes, start, start + length).length);
    this.starts = full.length ? full : [tune.starts[0] || 0];
    this.tune = tune;
    $("file-bar").max = this.starts.length - 1;
    // Phrases begin after a pickup: the first window that begins with a note is the likeliest to be wanted.
    $("file-bar").value = Math.max(0, this.starts.findIndex((start) => tune.notes.some((note) => note[1] === start)));
    $("file-bar-field").hidden = this.starts.length < 2;
    const remarks = [...tune.remarks];
    if (!fits) {
      const known = [...new Set(this.on.models().map((one) => one.meter))].join(", ") || model.meter;
      remarks.unshift(`The tune is in ${tune.meter}, which no model here knows (there is ${known}): its bars are counted as ${model.meter} and will not fit.`);
    } else if (model.name !== this.on.model().name) {
      remarks.unshift(`The tune is in ${tune.meter}: the studio changes to this meter, with a grid of its own.`);
    }
    $("file-remarks").replaceChildren(...remarks.slice(0, 8).map((text) => htmlElement("li", { textContent: text })));
    this.showBars();
  }

  showBars() {
    const length = this.model.bars * this.model.steps_per_bar;
    const start = this.starts[Number($("file-bar").value)];
    const first = this.tune.starts.indexOf(start) + 1;
    const notes = cutNotes(this.tune.notes, start, start + length);
    $("file-bar-field").querySelector("output").textContent = `${first} to ${first + this.model.bars - 1} of ${this.tune.starts.length}`;
    this.melody = { name: this.tune.name.slice(0, 60), notes, steps: length };
    $("file-preview").replaceChildren(miniRoll(notes, length), htmlElement("p", { className: "hint small", textContent: describeMelody(notes) }));
    $("file-take").disabled = !notes.length;
  }
}
