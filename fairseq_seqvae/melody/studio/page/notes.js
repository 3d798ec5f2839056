// Melodies: lists of [pitch, start, length], in order, without overlap; times in steps, four to a quarter note.

export const LOWEST = 21;
export const HIGHEST = 108;
const SHARP_NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
const MAJOR = [0, 2, 4, 5, 7, 9, 11];
// Sharps (or flats, below 0) of the major key on each pitch class.
const FIFTHS = [0, -5, 2, -3, 4, -1, 6, 1, -4, 3, -2, 5];

export function pitchName(pitch) {
  return SHARP_NAMES[pitch % 12] + (Math.floor(pitch / 12) - 1);
}

// What a stranger's link or file holds is used only if it is a melody of so many steps.
export function isMelody(notes, steps) {
  let free = 0;
  if (!Array.isArray(notes)) return false;
  for (const note of notes) {
    if (!Array.isArray(note) || note.length !== 3 || !note.every(Number.isInteger)) return false;
    const [pitch, start, length] = note;
    if (pitch < LOWEST || pitch > HIGHEST || start < free || length < 1 || start + length > steps) return false;
    free = start + length;
  }
  return true;
}

// Whether beats are counted in threes: 6/8 and 9/8, but not 3/4.
export function isCompound(beats) {
  return beats % 3 === 0 && beats > 3;
}

// Whether bars are of one length and counted alike: 4/4 and 2/2 are, 3/4 and 6/8 are not.
export function sameMeter(one, other) {
  const [beats, unit] = one.split("/").map(Number);
  const [otherBeats, otherUnit] = other.split("/").map(Number);
  return beats * otherUnit === otherBeats * unit && isCompound(beats) === isCompound(otherBeats);
}

export function sameMelody(a, b) {
  return a === b || JSON.stringify(a) === JSON.stringify(b);
}

// The part from `start` to `end`; a note that sounds on from before is silent there.
export function cutNotes(notes, start, end) {
  return notes
    .filter((note) => note[1] >= start && note[1] < end)
    .map(([pitch, from, length]) => [pitch, from - start, Math.min(length, end - from)]);
}

export function moveNotes(notes, by) {
  return notes.map(([pitch, start, length]) => [pitch, start + by, length]);
}

// One note more; whatever it covers makes room.
export function withNote(notes, pitch, start, length) {
  const end = start + length;
  const kept = [];
  for (const note of notes) {
    if (note[1] >= start && note[1] < end) continue;
    if (note[1] < start && note[1] + note[2] > start) kept.push([note[0], note[1], start - note[1]]);
    else kept.push(note);
  }
  return [...kept, [pitch, start, length]].sort((a, b) => a[1] - b[1]);
}

export function withoutNote(notes, index) {
  return notes.filter((_, number) => number !== index);
}

// The note ends at the latest where the next begins, or at the end.
export function withLength(notes, index, length, steps) {
  const next = index + 1 < notes.length ? notes[index + 1][1] : steps;
  const [pitch, start] = notes[index];
  const most = next - start;
  return notes.map((note, number) => (number === index ? [pitch, start, Math.max(1, Math.min(length, most))] : note));
}

// Sharps (above 0) or flats of the major key that has most of the notes; of equals, the one with the fewest signs.
export function keyOf(notes) {
  let best = 0;
  let most = -1;
  for (const tonic of [0, 7, 5, 2, 10, 9, 3, 4, 8, 11, 1, 6]) {
    const inside = notes.filter(([pitch]) => MAJOR.includes((pitch - tonic + 120) % 12)).length;
    if (inside > most) [best, most] = [FIFTHS[tonic], inside];
  }
  return best;
}

// The name of a melody that something was done to, of which it says the last: names must not grow without end.
export function nameAfter(name, what) {
  const own = name.replace(/ \((edited|slid|as the model hears it)\)$/, "") || "Melody";
  return `${own.slice(0, 80)} (${what})`;
}

export function describeMelody(notes) {
  if (!notes.length) return "no notes yet";
  const pitches = notes.map((note) => note[0]);
  return `${notes.length} notes, ${pitchName(Math.min(...pitches))} to ${pitchName(Math.max(...pitches))}`;
}
