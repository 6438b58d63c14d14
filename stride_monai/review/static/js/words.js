// Why the reader says so: descriptions of the vocabulary, those of the class first, and free text.

import { describe } from "./doing.js";
import { $, el, fill, kbd } from "./dom.js";
import { cellClass, currentCell, on, shownLabel, state } from "./state.js";
import { description, t } from "./texts.js";

export function startWords() {
  on("current slide cells", draw);
  on("cell", (id) => { if (id === state.current) draw(); });
  document.addEventListener("language", draw);
}

function draw() {
  const cell = currentCell();
  $("words").hidden = !cell;
  if (!cell) return;
  const typing = document.activeElement?.dataset.key === "typed" ? document.activeElement : null;
  if (typing?.dataset.cell === cell.id) return; // what is being typed is not replaced
  fill($("words"), el("fieldset", {}, el("legend", {}, t("word_list"), " ", kbd("E")), list(cell)), typed(cell));
}

function ordered(cell) {
  const own = state.session.descriptions_by_class[cellClass(shownLabel(cell))] ?? [];
  return [...own, ...state.session.descriptions.filter((text) => !own.includes(text))];
}

function list(cell) {
  const proposed = cell.model?.descriptions ?? [];
  return el("div", { class: "words-list" }, ordered(cell).map((text) => {
    const box = el("input", { type: "checkbox", value: text, "data-key": `word-${text}`, checked: cell.mine?.chosen.includes(text) ?? false, disabled: cell.taken, onchange: save });
    const mark = proposed.includes(text);
    return el("label", { class: mark ? "suggested" : "", "data-mark": mark ? t("by_model") : null }, box, el("span", {}, description(text)));
  }));
}

function typed(cell) {
  const made = el("textarea", { rows: "2", maxlength: "2000", "data-key": "typed", "data-cell": cell.id, disabled: cell.taken, onchange: save });
  made.value = cell.mine?.typed ?? "";
  return el("label", {}, el("span", { class: "quietly" }, t("free_text")), made);
}

function save() {
  const chosen = [...$("words").querySelectorAll("input:checked")].map((box) => box.value);
  describe(chosen, $("words").querySelector("textarea").value);
}

export const focusWords = () => $("words").querySelector("input")?.focus();

// Up and down go from one description to the next.
export function stepWords(by) {
  const boxes = [...$("words").querySelectorAll("input")];
  boxes[boxes.indexOf(document.activeElement) + by]?.focus();
}
