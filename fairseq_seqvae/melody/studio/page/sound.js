// Sound by the browser's own oscillators. Notes are given to the audio clock shortly before they are due.

const AHEAD = 0.14; // seconds
const EVERY = 25; // milliseconds

// Partials (loudness of each multiple of the pitch), attack, decay to `sustain`, release; seconds.
const SOUNDS = {
  Flute: { partials: [1, 0.28, 0.1, 0.03], attack: 0.035, decay: 0.25, sustain: 0.8, release: 0.1 },
  Harp: { partials: [1, 0.5, 0.22, 0.14, 0.07, 0.04], attack: 0.003, decay: 0.9, sustain: 0.02, release: 0.35 },
  Fiddle: { partials: [1, 0.62, 0.5, 0.34, 0.3, 0.18, 0.12, 0.08], attack: 0.05, decay: 0.2, sustain: 0.75, release: 0.09 },
  "Music box": { partials: [1, 0, 0.1, 0.32, 0, 0.08], attack: 0.002, decay: 1.3, sustain: 0.001, release: 0.6 },
};
export const SOUND_NAMES = Object.keys(SOUNDS);

export class Player {
  constructor() {
    this.context = null;
    this.tempo = 160; // quarter notes per minute
    this.stepsPerQuarter = 4;
    this.loop = true;
    this.sound = SOUND_NAMES[0];
    this.onMove = () => {};
    this.onChange = () => {}; // it plays something else, or nothing
    this.tag = null;
    this.parts = [];
    this.waves = new Map();
    this.timer = 0;
    this.marks = [];
  }

  get secondsPerStep() {
    return 60 / (this.tempo * this.stepsPerQuarter);
  }

  get playing() {
    return this.timer !== 0;
  }

  // Whether the browser lets the page sound: only after a click or a key.
  get allowed() {
    return this.context !== null && this.context.state === "running";
  }

  async unlock() {
    if (!this.context) {
      this.context = new AudioContext();
      this.output = this.makeOutput();
    }
    if (this.context.state !== "running") await this.context.resume();
  }

  makeOutput() {
    const context = this.context;
    const input = context.createGain();
    const limiter = context.createDynamicsCompressor();
    const room = context.createConvolver();
    const wet = context.createGain();
    input.gain.value = 0.5;
    wet.gain.value = 0.22;
    room.buffer = this.makeRoom(1.4);
    input.connect(limiter);
    input.connect(room).connect(wet).connect(limiter);
    limiter.connect(context.destination);
    return input;
  }

  // The echo of a small hall: noise that dies away.
  makeRoom(seconds) {
    const rate = this.context.sampleRate;
    const buffer = this.context.createBuffer(2, rate * seconds, rate);
    for (let channel = 0; channel < 2; channel += 1) {
      const data = buffer.getChannelData(channel);
      for (let i = 0; i < data.length; i += 1) data[i] = (Math.random() * 2 - 1) * (1 - i / data.length) ** 3 * 0.4;
    }
    return buffer;
  }

  // Parts, each {notes, steps}, one after another. `tag` says what is playing, for those who ask.
  async play(parts, tag) {
    this.stop(false);
    this.tag = tag;
    this.parts = parts;
    this.timer = -1;
    this.onChange();
    await this.unlock();
    if (this.tag !== tag || this.timer !== -1) return;
    this.length = parts.reduce((sum, part) => sum + part.steps, 0);
    this.step = 0;
    this.due = this.context.currentTime + 0.06;
    this.marks = [];
    this.voices = this.context.createGain();
    this.voices.connect(this.output);
    this.index = new Map();
    let offset = 0;
    for (const part of parts) {
      for (const note of part.notes) this.index.set(offset + note[1], note);
      offset += part.steps;
    }
    this.timer = setInterval(() => this.schedule(), EVERY);
    this.schedule();
    const draw = () => {
      if (!this.playing || this.tag !== tag) return;
      this.showPlace();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  schedule() {
    while (this.due < this.context.currentTime + AHEAD) {
      if (this.step >= this.length) {
        if (!this.loop) {
          if (this.context.currentTime >= this.due) this.stop();
          return;
        }
        this.step = 0;
      }
      const seconds = this.secondsPerStep;
      const note = this.index.get(this.step);
      if (note) this.sing(note[0], this.due, note[2] * seconds);
      this.marks.push([this.due, this.step]);
      this.step += 1;
      this.due += seconds;
    }
  }

  showPlace() {
    const now = this.context.currentTime;
    while (this.marks.length > 1 && this.marks[1][0] <= now) this.marks.shift();
    if (!this.marks.length || this.marks[0][0] > now) return;
    let step = this.marks[0][1] + Math.min(1, (now - this.marks[0][0]) / this.secondsPerStep);
    for (let number = 0; number < this.parts.length; number += 1) {
      if (step < this.parts[number].steps || number === this.parts.length - 1) {
        this.onMove(this.tag, number, step);
        return;
      }
      step -= this.parts[number].steps;
    }
  }

  wave(name) {
    if (!this.waves.has(name)) {
      const partials = SOUNDS[name].partials;
      const imaginary = new Float32Array([0, ...partials]);
      this.waves.set(name, this.context.createPeriodicWave(new Float32Array(imaginary.length), imaginary));
    }
    return this.waves.get(name);
  }

  sing(pitch, when, seconds) {
    const { attack, decay, sustain, release } = SOUNDS[this.sound];
    const oscillator = this.context.createOscillator();
    const gain = this.context.createGain();
    oscillator.setPeriodicWave(this.wave(this.sound));
    oscillator.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    const end = when + Math.max(seconds * 0.96, attack + 0.01);
    gain.gain.setValueAtTime(0, when);
    gain.gain.linearRampToValueAtTime(0.6, when + attack);
    gain.gain.setTargetAtTime(0.6 * sustain, when + attack, decay / 3);
    gain.gain.setTargetAtTime(0, end, release / 4);
    oscillator.connect(gain).connect(this.voices);
    oscillator.start(when);
    oscillator.stop(end + release * 1.5);
  }

  // One short note, for the finger that puts it there.
  async touch(pitch) {
    if (this.playing) return;
    await this.unlock();
    this.voices = this.context.createGain();
    this.voices.connect(this.output);
    this.sing(pitch, this.context.currentTime, 0.25);
  }

  stop(tell = true) {
    if (!this.playing) return;
    if (this.timer !== -1) {
      clearInterval(this.timer);
      const voices = this.voices;
      voices.gain.setTargetAtTime(0, this.context.currentTime, 0.02);
      setTimeout(() => voices.disconnect(), 250);
    }
    this.timer = 0;
    this.tag = null;
    if (tell) this.onChange();
  }
}
