// Where readers differ and the reader arbitrates: the label that stands.

import { settleCell } from "./doing.js";
import { $, el, fill, kbd } from "./dom.js";
import { dot } from "./gallery.js";
import { labelKeys } from "./panel.js";
import { currentCell, on, state } from "./state.js";
import { label, t } from "./texts.js";

export function startSettle() {
  on("current slide cells", draw);
  on("cell", (id) => { if (id === state.current) draw(); });
  document.addEventListener("language", draw);
}

function draw() {
  const cell = currentCell();
  const open = Boolean(cell && state.session.admin && (cell.state === "disagreed" || cell.state === "arbitrated"));
  $("settle").hidden = !open;
  if (!open) return fill($("settle"));
  const buttons = labelKeys().map(([, name]) =>
    el("button", { type: "button", "data-key": `settle-${name}`, "aria-pressed": String(cell.arbitrated === name), onclick: () => settleCell(name) }, dot(name), label(name)));
  fill($("settle"), el("fieldset", { class: "settle" }, el("legend", {}, t("settle"), " ", kbd("R")), el("p", { class: "quietly" }, t("settle_hint")),
    Object.entries(cell.others).map(([who, read]) => el("p", {}, `${who}: `, el("strong", {}, label(read.label)))), el("div", { class: "labels" }, buttons)));
}

export const focusSettle = () => $("settle").querySelector("button")?.focus();
