// Where readers differ, on all slides, to be gone through one by one.

import { getDisagreements } from "./api.js";
import { closeDialog, openDialog } from "./dialog.js";
import { $, el } from "./dom.js";
import { on, select, state, tell } from "./state.js";
import { openSlide } from "./slides.js";
import { label, t } from "./texts.js";

let found = [];

export function startDisagreements() {
  $("disagreements").addEventListener("click", showDisagreements);
  on("slides overall cell", draw);
  document.addEventListener("language", draw);
}

// Of the slide that is open as it is shown; of the others as the list says.
function draw() {
  const here = [...state.cells.values()].filter((cell) => cell.state === "disagreed").length;
  const others = state.slides.filter((slide) => slide.slide_id !== state.slide?.slide_id).reduce((sum, slide) => sum + (slide.disagreed || 0), 0);
  const calls = state.slides.filter((slide) => slide.call_state === "disagreed").length;
  $("disagreements").textContent = t("disagreements_count", { count: here + others + calls });
}

export async function showDisagreements() {
  try {
    found = await getDisagreements();
  } catch (error) {
    return tell("note", { bad: true, text: error.message });
  }
  const rows = found.map((one) => el("tr", {},
    el("td", {}, el("button", { type: "button", onclick: () => go(one) }, one.slide_id)),
    el("td", {}, one.cell ? cellName(one.cell) : t("slide_as_a_whole")),
    el("td", {}, reads(one).map(([who, said]) => el("div", {}, `${who}: ${label(said)}`)))));
  const head = ["slide", "cell", "reads"].map((key) => el("th", { scope: "col" }, t(key)));
  openDialog(t("disagreements"), found.length
    ? [el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))]
    : [el("p", {}, t("no_disagreements"))]);
}

const cellName = (cell) => (cell.model ? t("cell_number", { number: cell.model.rank }) : cell.drawn ? t("drawn_cell") : t("cell"));

function reads({ cell, slide }) {
  if (!cell) return [...Object.entries(slide.other_calls), ...(slide.call ? [[state.session.name, slide.call]] : [])];
  const own = cell.mine?.label ? [[state.session.name, cell.mine.label]] : [];
  return [...own, ...Object.entries(cell.others).map(([who, read]) => [who, read.label])];
}

async function go({ slide_id: id, cell }) {
  closeDialog();
  if (state.slide?.slide_id !== id) await openSlide(id, cell?.id);
  else if (cell) select(cell.id);
  const target = cell ? $("settle").querySelector("button") : $("overall").querySelector("[data-key^='settle-call']");
  (target ?? $("panel")).focus();
}
