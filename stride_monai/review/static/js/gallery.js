// The cells beside the slide, the most suspicious first; in blind mode in an order that says nothing.

import { cropAddress } from "./api.js";
import { $, el } from "./dom.js";
import { isUnplaced } from "./outbox.js";
import { colorOf, on, readLabel, select, state, stateOf, visibleCells } from "./state.js";
import { label, t } from "./texts.js";

const cards = new Map();

export function startGallery() {
  on("slide", () => { cards.clear(); $("gallery").replaceChildren(); build(); });
  on("cells", build);
  on("seen", () => { for (const id of cards.keys()) load(id); });
  on("filter", show);
  on("cell", (id) => { dress(id); count(); });
  on("current", () => mark(true));
  document.addEventListener("language", () => { for (const id of cards.keys()) dress(id); count(); });
}

function build() {
  for (const [id, card] of cards) if (!state.cells.has(id)) drop(id, card);
  for (const id of state.cells.keys()) {
    if (!cards.has(id)) {
      cards.set(id, el("li", { class: "card" }, el("button", { type: "button", tabindex: "-1", onclick: () => select(id) })));
      $("gallery").append(cards.get(id));
    }
    dress(id);
  }
  show();
}

// The server has no picture any more of a cell that is gone, or of where it was: what was asked for and has not come is
// called off.
const callOff = (picture) => picture?.removeAttribute("src");

function drop(id, card) {
  callOff(card.querySelector("img"));
  card.remove();
  cards.delete(id);
}

// Cards that the filter leaves out stay where they are, unseen.
function show() {
  const seen = new Set(visibleCells().map((cell) => cell.id));
  for (const [id, card] of cards) card.hidden = !seen.has(id);
  count();
  mark(false);
}

function count() {
  const seen = visibleCells().length;
  $("shown-count").textContent = t("cells_shown", { seen, all: state.cells.size });
}

export const numberOf = (cell) => cell.model?.rank ?? [...state.cells.keys()].indexOf(cell.id) + 1;

function dress(id) {
  const cell = state.cells.get(id);
  const card = cards.get(id);
  if (!cell || !card) return;
  const button = card.firstElementChild;
  const read = readLabel(cell);
  const flags = { disagreed: "≠", arbitrated: "⚖" }[cell.state];
  card.classList.toggle("taken", cell.taken);
  const src = cropAddress(state.slide.slide_id, state.slide.version, cell);
  let picture = button.querySelector("img");
  if (picture?.dataset.src !== src) {
    callOff(picture);
    picture = el("img", { "data-src": src, alt: "", loading: "lazy", decoding: "async", width: "112", height: "112" });
  }
  button.replaceChildren(...[
    picture,
    el("span", { class: "rank", "aria-hidden": "true" }, cell.drawn ? "+" : String(numberOf(cell))),
    spoken(cell.drawn ? t("drawn_cell") : t("cell_number", { number: numberOf(cell) })),
    flags && el("span", { class: "flag", title: t(`state_${cell.state}`) }, el("span", { "aria-hidden": "true" }, flags), spoken(t(`state_${cell.state}`))),
    cell.model && line("model", t("model"), cell.model.class),
    line(read ? "read" : "read none", t("you"), read, t(`state_${stateOf(cell)}`)),
  ].filter(Boolean));
  load(id);
}

// The slide's tiles come first; and a picture that was asked for too early would be missing, or of the old place.
function load(id) {
  const picture = cards.get(id).querySelector("img");
  if (state.seen && !picture.src && !isUnplaced(id)) picture.src = picture.dataset.src;
}

const spoken = (text) => el("span", { class: "spoken" }, `${text}, `);

function line(kind, who, name, otherwise) {
  return el("span", { class: `line ${kind}` }, name && dot(name), el("span", { class: "spoken" }, `${who}: `), el("span", { class: "name" }, name ? label(name) : otherwise));
}

export const dot = (name) =>
  el("span", { class: colorOf(name) ? "dot" : "dot ring", "aria-hidden": "true", style: colorOf(name) ? { background: colorOf(name) } : {} });

// One card is reached with Tab, the others with the arrow keys.
function mark(scroll) {
  const first = visibleCells()[0]?.id;
  const chosen = cards.has(state.current) && !cards.get(state.current).hidden ? state.current : first;
  for (const [id, card] of cards) {
    const button = card.firstElementChild;
    button.tabIndex = id === chosen ? 0 : -1;
    if (id === state.current) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  const card = cards.get(state.current);
  if (!card || !scroll) return;
  card.scrollIntoView({ block: "nearest" });
  if ($("gallery").contains(document.activeElement)) card.firstElementChild.focus({ preventScroll: true });
}
