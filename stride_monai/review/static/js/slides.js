// The list of slides, and going from one to another.

import { getSlide, getSlides } from "./api.js";
import { closeDialog, openDialog } from "./dialog.js";
import { $, el } from "./dom.js";
import { drained } from "./outbox.js";
import { on, readLabel, select, state, tell } from "./state.js";
import { label, t } from "./texts.js";

export function startSlides() {
  on("slide slides", draw);
  on("seen", () => refreshSlides().catch(() => {}));
  document.addEventListener("language", draw);
  $("choose-slide").addEventListener("click", chooseSlide);
  $("previous-slide").addEventListener("click", () => stepSlide(-1));
  $("next-slide").addEventListener("click", () => stepSlide(1));
}

const usable = () => state.slides.filter((slide) => !slide.problem);
const place = () => usable().findIndex((slide) => slide.slide_id === state.slide?.slide_id);

export async function refreshSlides() {
  state.slides = await getSlides();
  tell("slides");
}

function draw() {
  $("choose-slide").textContent = state.slide?.slide_id ?? t("no_slide");
  $("choose-slide").title = state.slide?.slide_id ?? "";
  $("choose-slide").setAttribute("aria-label", t("slide_named", { name: state.slide?.slide_id ?? t("no_slide") }));
  $("previous-slide").disabled = place() <= 0;
  $("next-slide").disabled = place() < 0 || place() >= usable().length - 1;
}

// Opens a slide. What was done to the one before is on its way already.
export async function openSlide(id, cell = null) {
  try {
    await drained(id);
    const { cells, ...rest } = await getSlide(id);
    const again = state.slide?.slide_id === id;
    state.slide = rest;
    state.cells = new Map(cells.map((known) => [known.id, known]));
    if (!again) state.filter = { label: "", state: "", reader: "" };
    state.current = null;
    $("empty").hidden = true;
    location.hash = encodeURIComponent(id);
    tell("slide");
    const first = cells.find((known) => known.id === cell) ?? cells.find((known) => !readLabel(known) && !known.taken) ?? cells[0];
    if (first) select(first.id);
    if (cells.length && cells.every((known) => known.taken)) tell("note", { key: "slide_taken" });
  } catch (error) {
    tell("note", { bad: true, text: error.message });
    if (!state.slide) showEmpty(error.message);
  }
}

export function showEmpty(text) {
  $("empty").hidden = false;
  $("empty").textContent = text;
}

export function stepSlide(by) {
  const next = usable()[place() + by];
  if (next) openSlide(next.slide_id);
}

export async function chooseSlide() {
  await refreshSlides().catch((error) => tell("note", { bad: true, text: error.message }));
  const rows = state.slides.map((slide) => el("tr", {},
    el("td", {}, slide.problem
      ? el("span", {}, slide.slide_id, el("br"), el("span", { class: "wrong" }, slide.problem))
      : el("button", { type: "button", onclick: () => { closeDialog(); openSlide(slide.slide_id); } }, slide.slide_id)),
    el("td", {}, slide.problem ? "" : t("read_of", { read: slide.read, cells: slide.cells })),
    el("td", {}, slide.call ? label(slide.call) : ""),
    el("td", {}, slide.disagreed ? t("differ", { count: slide.disagreed }) : "")));
  const head = ["slide", "progress", "your_call", "disagreements"].map((key) => el("th", { scope: "col" }, t(key)));
  openDialog(t("slides"), [el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))]);
}
