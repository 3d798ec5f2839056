// Light or dark.

import { $ } from "./draw.js";

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

export function setTheme(theme, remember) {
  if (theme) document.documentElement.dataset.theme = theme;
  $("theme").textContent = isDark() ? "Light" : "Dark";
  try {
    if (remember) localStorage.setItem("theme", theme);
  } catch {
    // a page from a file may have no storage
  }
}
