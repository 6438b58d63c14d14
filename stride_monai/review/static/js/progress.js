// How far the reader is, how long it will take, and whether everything is saved.

import { $ } from "./dom.js";
import { status } from "./outbox.js";
import { on, readLabel, state } from "./state.js";
import { t } from "./texts.js";

const ENOUGH = 3; // reads from which the time left is estimated

export function startProgress() {
  on("slide cells cell overall slides", draw);
  on("outbox", saved);
  document.addEventListener("language", () => { draw(); saved(); });
}

function draw() {
  if (!state.slide) return;
  const all = state.slides.filter((slide) => !slide.problem).map((slide) => ({ ...slide, ...own(slide) }));
  const sum = (name) => all.reduce((total, slide) => total + slide[name], 0);
  const here = own({ slide_id: state.slide.slide_id });
  const share = here.cells ? Math.round((100 * here.read) / here.cells) : 100;
  const track = $("progress").querySelector(".track");
  track.setAttribute("aria-valuenow", String(share));
  track.firstElementChild.style.width = `${share}%`;
  const left = timeLeft(sum("cells") - sum("read"), sum("read"), sum("seconds"));
  $("progress-text").textContent = [t("read_of", { read: here.read, cells: here.cells }), left].filter(Boolean).join(" · ");
}

// The slide that is open is counted as it is shown, the others as the list says.
function own(slide) {
  if (slide.slide_id !== state.slide.slide_id) return {};
  const cells = [...state.cells.values()].filter((cell) => !cell.taken || readLabel(cell));
  return { cells: cells.length, read: cells.filter(readLabel).length, seconds: state.slide.slide.seconds };
}

function timeLeft(left, read, seconds) {
  if (!left) return t("all_done");
  if (read < ENOUGH || !seconds) return "";
  const minutes = Math.ceil((left * (seconds / read)) / 60);
  return minutes < 90 ? t("minutes_left", { minutes }) : t("hours_left", { hours: (minutes / 60).toFixed(1) });
}

function saved() {
  const { waiting, offline, trouble } = status();
  const place = $("saved");
  place.className = offline ? "saved failed" : waiting ? "saved waiting" : "saved";
  place.textContent = trouble ? t("cannot_save", { waiting }) : offline ? t("offline", { waiting }) : waiting ? t("saving", { waiting }) : t("all_saved");
}
