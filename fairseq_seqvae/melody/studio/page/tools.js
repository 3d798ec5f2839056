// The tools beside a melody: sliders of its attributes, variations, continuation, blend.

import { $, htmlElement } from "./draw.js";

const TABS = [
  ["sliders", "Sliders"],
  ["variations", "Variations"],
  ["continue", "Continue"],
  ["blend", "Blend"],
];

export function showTabs() {
  const buttons = TABS.map(([name, text], number) => {
    const button = htmlElement("button", { type: "button", id: `tab-${name}`, role: "tab", textContent: text, "aria-controls": `panel-${name}` });
    button.addEventListener("click", () => chooseTab(number));
    button.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.preventDefault();
      chooseTab((number + by + TABS.length) % TABS.length);
      buttons[(number + by + TABS.length) % TABS.length].focus();
    });
    return button;
  });
  $("tabs").replaceChildren(...buttons);
  chooseTab(0);
}

function chooseTab(chosen) {
  TABS.forEach(([name], number) => {
    const tab = $(`tab-${name}`);
    tab.setAttribute("aria-selected", String(number === chosen));
    tab.tabIndex = number === chosen ? 0 : -1;
    $(`panel-${name}`).hidden = number !== chosen;
  });
}

// `change` is called with {name: value} when the hand lets go.
export function showSliders(sliders, change) {
  const panel = $("panel-sliders");
  if (!sliders.length) {
    panel.replaceChildren(htmlElement("p", { className: "hint", textContent: "This model has no sliders: studio-model measures them." }));
    return;
  }
  const values = () => {
    const inputs = [...panel.querySelectorAll("input")].filter((input) => Number(input.value));
    return Object.fromEntries(inputs.map((input) => [input.dataset.name, Number(input.value)]));
  };
  const rows = sliders.map((slider) => {
    const input = htmlElement("input", { type: "range", min: -2, max: 2, step: 0.5, value: 0, "aria-label": `${slider.label}: ${slider.low} to ${slider.high}` });
    input.dataset.name = slider.name;
    input.addEventListener("change", () => change(values()));
    return htmlElement(
      "div",
      { className: "slider" },
      htmlElement("span", { className: "label", textContent: slider.label }),
      htmlElement("span", { className: "end-label", textContent: slider.low }),
      input,
      htmlElement("span", { className: "end-label", textContent: slider.high }),
    );
  });
  panel.replaceChildren(...rows);
}

export function resetSliders() {
  for (const input of $("panel-sliders").querySelectorAll("input")) input.value = 0;
}

// Show the value of every slider that has an output beside it.
export function showOutputs() {
  for (const output of document.querySelectorAll("output[for]")) {
    const input = $(output.htmlFor.value);
    if (!input || input.id === "file-bar" || input.id === "tempo") continue;
    const percent = ["distance", "temperature", "more-temperature"].includes(input.id);
    const show = () => {
      const value = Number(input.value);
      output.textContent = percent ? (value ? (value / 100).toFixed(2) : input.id === "distance" ? "0" : "off") : value;
    };
    input.addEventListener("input", show);
    show();
  }
}
