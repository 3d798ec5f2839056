// What the page says, and that it waits.

import { $ } from "./draw.js";

let fading = 0;
let busy = 0;

export function say(sentence, kind = "") {
  const status = $("status");
  status.textContent = sentence;
  status.className = `status shown ${kind}`;
  clearTimeout(fading);
  if (kind !== "wait") fading = setTimeout(() => (status.className = "status"), kind === "bad" ? 8000 : 3500);
}

export function sayNothing() {
  if ($("status").classList.contains("wait")) $("status").className = "status";
}

export function speak(text) {
  $("spoken").textContent = text;
}

// Do something that takes the model's time; what goes wrong is said.
export async function working(sentence, action) {
  busy += 1;
  document.body.classList.add("busy");
  const slow = setTimeout(() => say(sentence, "wait"), 250);
  try {
    const result = await action();
    clearTimeout(slow);
    sayNothing();
    return result;
  } catch (error) {
    clearTimeout(slow);
    say(error.message, "bad");
    return null;
  } finally {
    busy -= 1;
    document.body.classList.toggle("busy", busy > 0);
  }
}
