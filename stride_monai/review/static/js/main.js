// The beginning: texts, who reads, the list of slides, the first slide.

import { getSession } from "./api.js";
import { startBoxes } from "./boxes.js";
import { startDisagreements } from "./disagreements.js";
import { kept } from "./doing.js";
import { startExport } from "./export.js";
import { startFilters } from "./filters.js";
import { startGallery } from "./gallery.js";
import { startKeys } from "./keys.js";
import { startNotes } from "./notes.js";
import { send, startOutbox } from "./outbox.js";
import { startOverall } from "./overall.js";
import { startPanel } from "./panel.js";
import { startProgress } from "./progress.js";
import { startSettle } from "./settle.js";
import { ensureSession, startSignOut } from "./signin.js";
import { openSlide, refreshSlides, showEmpty, startSlides } from "./slides.js";
import { state, tell } from "./state.js";
import { loadTexts, t } from "./texts.js";
import { startViewer } from "./viewer.js";
import { startWords } from "./words.js";

const RENEW_MINUTES = 10; // cells are kept for a reader for half an hour

async function begin() {
  const session = getSession(); // on its way while the words are
  session.catch(() => {});
  await loadTexts();
  startNotes();
  await ensureSession(session);
  const listed = refreshSlides(); // on its way while the parts are made
  listed.catch(() => {});
  for (const start of [startViewer, startBoxes, startGallery, startFilters, startPanel, startWords, startSettle]) start();
  for (const start of [startOverall, startProgress, startSlides, startDisagreements, startExport, startSignOut, startKeys]) start();
  startOutbox({ kept, refused, signedOut, nothing: () => tell("note", { key: "nothing_to_do" }) });
  const asked = decodeURIComponent(location.hash.slice(1));
  await listed;
  const usable = state.slides.filter((slide) => !slide.problem);
  const first = usable.find((slide) => slide.slide_id === asked) ?? usable.find((slide) => slide.read < slide.cells) ?? usable[0];
  if (first) await openSlide(first.slide_id);
  else showEmpty(t("no_slides"));
  document.documentElement.dataset.ready = "true";
}

// The server did not take an action: it says why, and what stands is loaded anew.
function refused(item, error) {
  tell("note", { bad: true, text: `${t("not_saved")} ${error.message}` });
  if (item.slide === state.slide?.slide_id) openSlide(item.slide, state.current);
}

async function signedOut() {
  await ensureSession();
  send();
}

setInterval(() => {
  if (state.slide && state.session?.users && !document.hidden) fetch(`api/slides/${encodeURIComponent(state.slide.slide_id)}`).catch(() => {});
}, RENEW_MINUTES * 60_000);

begin().catch((error) => showEmpty(`${error.message}`));
