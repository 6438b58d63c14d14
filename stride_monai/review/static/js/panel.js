// The cell in hand: what it is, what the model says, and one button and key for each class.

import { confirmModel, giveLabel, removeBox, settings } from "./doing.js";
import { $, el, fill, kbd } from "./dom.js";
import { dot, numberOf } from "./gallery.js";
import { colorOf, currentCell, on, readLabel, state } from "./state.js";
import { label, t } from "./texts.js";

export function startPanel() {
  on("current slide cells", draw);
  on("cell", (id) => { if (id === state.current) draw(); });
  document.addEventListener("language", draw);
}

// Labels by their keys: classes by number, then the two that are no class.
export function labelKeys() {
  const { classes, not_a_lesion: none, cannot_tell: unsure } = state.session;
  return [...classes.map((known, at) => [String(at + 1), known.label]), ["x", none], ["u", unsure]];
}

function draw() {
  const cell = currentCell();
  if (!cell) return fill($("cell"), el("p", { class: "quietly" }, t("choose_a_cell")));
  fill($("cell"), head(cell), cell.model && probabilities(cell), buttons(cell), others(cell), more(cell));
}

function head(cell) {
  const [x0, y0, x1, y1] = cell.box;
  const um = (pixels) => (pixels * state.slide.mpp).toFixed(0);
  return [
    el("div", { class: "cell-head" },
      el("h2", {}, cell.drawn ? t("drawn_cell") : t("cell_number", { number: numberOf(cell) })),
      el("span", { class: "facts" }, t("size", { width: um(x1 - x0), height: um(y1 - y0) }))),
    cell.model && el("p", { class: "facts" }, t("model_score", { score: (100 * cell.model.score).toFixed(0) })),
  ];
}

function probabilities(cell) {
  return el("dl", { class: "bars", "aria-label": t("model_probabilities") },
    Object.entries(cell.model.probabilities).flatMap(([name, share]) => [
      el("dt", {}, label(name)),
      el("span", { class: "bar-track", "aria-hidden": "true" }, el("span", { style: { width: `${100 * share}%`, background: colorOf(name) } })),
      el("dd", {}, `${(100 * share).toFixed(0)} %`),
    ]));
}

function buttons(cell) {
  const mine = readLabel(cell);
  const made = labelKeys().map(([key, name]) =>
    el("button", {
      type: "button", "data-key": `label-${name}`, "aria-pressed": String(mine === name), "aria-keyshortcuts": key.toUpperCase(),
      disabled: cell.taken, onclick: () => giveLabel(name),
    }, dot(name), label(name), kbd(key.toUpperCase())));
  return el("fieldset", {}, el("legend", {}, t("your_read")), el("div", { class: "labels" }, made,
    cell.model && el("button", { type: "button", class: "wide", "data-key": "confirm", disabled: cell.taken, "aria-keyshortcuts": "C", onclick: confirmModel },
      t("confirm_model", { label: label(cell.model.class) }), kbd("C"))));
}

function others(cell) {
  const reads = Object.entries(cell.others);
  if (cell.taken) return el("p", { class: "others" }, t("taken_note"));
  const below = state.session.admin && cell.state !== "reviewed"; // settle.js shows them
  if (below || (!reads.length && !cell.arbitrated)) return null;
  return el("div", { class: cell.state === "disagreed" ? "others" : "others agreed" },
    el("strong", {}, t(`state_${cell.state}`)),
    reads.map(([who, read]) => el("span", {}, `${who}: ${label(read.label)}`)),
    cell.arbitrated && el("span", {}, t("settled_as", { label: label(cell.arbitrated) })));
}

function more(cell) {
  const advance = el("input", { type: "checkbox", "data-key": "advance", checked: settings.advance, onchange: () => { settings.advance = advance.checked; } });
  return el("div", { class: "row between" },
    el("label", { class: "check" }, advance, t("advance")),
    cell.drawn_by_me && el("button", { type: "button", "data-key": "remove", "aria-keyshortcuts": "Delete", onclick: removeBox }, t("remove_box")));
}
