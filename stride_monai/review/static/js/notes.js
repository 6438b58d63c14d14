// What the page says beside its parts: notes that stay until they are read, and words for screen readers.

import { $, el } from "./dom.js";
import { on } from "./state.js";
import { t } from "./texts.js";

export function note(text, bad = false) {
  const close = el("button", { type: "button", "aria-label": t("close"), onclick: () => shown.remove() }, "×");
  const shown = el("div", { class: bad ? "note bad" : "note" }, el("span", {}, text), close);
  $("notes").append(shown);
  while ($("notes").children.length > 4) $("notes").firstChild.remove();
  if (!bad) setTimeout(() => shown.remove(), 8000);
}

export function startNotes() {
  on("note", ({ key, bad, values, text }) => note(text ?? t(key, values), bad));
  on("say", (text) => { $("spoken").textContent = text; });
}
