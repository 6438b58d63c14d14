// What of the gallery and the boxes is shown: by class, state and reader.

import { $, el, fill } from "./dom.js";
import { on, select, state, tell, visibleCells } from "./state.js";
import { label, t } from "./texts.js";

export function startFilters() {
  on("slide session", draw);
  on("cells cell", drawReaders);
  document.addEventListener("language", draw);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
}

const STATES = ["unreviewed", "reviewed", "disagreed", "arbitrated", "taken"];
let readers = "";

function draw() {
  if (!state.session?.classes) return;
  const classes = [...state.session.classes.map((known) => known.label), state.session.not_a_lesion, state.session.cannot_tell];
  const people = [...new Set([state.session.name, ...[...state.cells.values()].flatMap((cell) => Object.keys(cell.others))])];
  readers = people.join("\n");
  fill($("filters"),
    choice("label", t("filter_class"), classes.map((name) => [name, label(name)])),
    choice("state", t("filter_state"), STATES.map((name) => [name, t(`state_${name}`)])),
    choice("reader", t("filter_reader"), [...people.map((name) => [name, name]), ["drawn", t("drawn")]]));
}

function drawReaders() {
  const people = [...new Set([state.session.name, ...[...state.cells.values()].flatMap((cell) => Object.keys(cell.others))])];
  if (people.join("\n") !== readers) draw();
}

function choice(name, title, options) {
  const made = el("select", { "data-key": `filter-${name}`, id: `filter-${name}`, onchange: () => { set({ [name]: made.value }); } },
    el("option", { value: "" }, t("all")), options.map(([value, text]) => el("option", { value }, text)));
  made.value = state.filter[name];
  return el("label", {}, title, made);
}

export function set(filter) {
  Object.assign(state.filter, filter);
  for (const name of Object.keys(state.filter)) { const made = $(`filter-${name}`); if (made) made.value = state.filter[name]; }
  tell("filter");
  const seen = visibleCells();
  if (!seen.some((cell) => cell.id === state.current) && seen.length) select(seen[0].id);
}
