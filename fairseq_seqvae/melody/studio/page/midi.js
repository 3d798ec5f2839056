// A MIDI file of one track, written in the browser: for the page without a server.

const QUARTER = 480; // ticks

function variable(value) {
  const bytes = [value & 127];
  for (let rest = value >> 7; rest > 0; rest >>= 7) bytes.unshift((rest & 127) | 128);
  return bytes;
}

function four(value) {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

// `parts`, each {notes, steps}, one after another; `tempo` in quarter notes per minute, `meter` such as "6/8".
export function midiFile(parts, tempo, meter, stepsPerQuarter) {
  const ticks = QUARTER / stepsPerQuarter; // of a step
  const [beats, unit] = meter.split("/").map(Number);
  const microseconds = Math.round(60000000 / tempo);
  const track = [0, 255, 81, 3, ...four(microseconds).slice(1)];
  track.push(0, 255, 88, 4, beats, Math.round(Math.log2(unit)), 24, 8, 0, 192, 73);
  let offset = 0;
  let now = 0;
  for (const part of parts) {
    for (const [pitch, start, length] of part.notes) {
      track.push(...variable((offset + start - now) * ticks), 144, pitch, 80);
      track.push(...variable(length * ticks), 128, pitch, 0);
      now = offset + start + length;
    }
    offset += part.steps;
  }
  track.push(...variable((offset - now) * ticks), 255, 47, 0);
  const head = [77, 84, 104, 100, ...four(6), 0, 0, 0, 1, QUARTER >> 8, QUARTER & 255];
  return new Uint8Array([...head, 77, 84, 114, 107, ...four(track.length), ...track]);
}
