// All keys of the page, in one table: what works, and what the help says.

import { boxMode, endMode, nudge, setDown, startDrawing, startMoving, toggleBoxes } from "./boxes.js";
import { dialogOpen, openDialog } from "./dialog.js";
import { showDisagreements } from "./disagreements.js";
import { confirmModel, giveLabel, redo, removeBox, settleCell, undo } from "./doing.js";
import { $, el } from "./dom.js";
import { showExport } from "./export.js";
import { focusOverall } from "./overall.js";
import { labelKeys } from "./panel.js";
import { focusSettle } from "./settle.js";
import { chooseSlide, stepSlide } from "./slides.js";
import { nextUnread, state, step, tell } from "./state.js";
import { label, language, LANGUAGES, loadTexts, t } from "./texts.js";
import { pan, showWhole, zoom } from "./viewer.js";
import { focusWords, stepWords } from "./words.js";

const in_ = (id) => $(id).contains(document.activeElement);

const KEYS = [
  { keys: ["c"], does: confirmModel, key: "key_confirm" },
  { keys: ["n"], does: () => { if (!nextUnread()) tell("note", { key: "all_read" }); }, key: "key_next_unread" },
  { keys: ["ArrowRight", "ArrowDown", "j"], does: () => step(1), key: "key_next" },
  { keys: ["ArrowLeft", "ArrowUp", "k"], does: () => step(-1), key: "key_previous" },
  { keys: ["e"], does: focusWords, key: "key_descriptions" },
  { keys: ["d"], does: startDrawing, key: "key_draw" },
  { keys: ["m"], does: startMoving, key: "key_move" },
  { keys: ["Delete"], does: removeBox, key: "key_remove" },
  { keys: ["z"], does: undo, key: "key_undo" },
  { keys: ["y"], does: redo, key: "key_redo" },
  { keys: ["a"], does: focusOverall, key: "key_overall" },
  { keys: ["r"], does: focusSettle, key: "key_settle" },
  { keys: ["g"], does: showDisagreements, key: "key_disagreements" },
  { keys: ["o"], does: showExport, key: "key_export" },
  { keys: ["f"], does: () => $("filter-label")?.focus(), key: "key_filters" },
  { keys: ["s"], does: chooseSlide, key: "key_slides" },
  { keys: ["]"], does: () => stepSlide(1), key: "key_next_slide" },
  { keys: ["["], does: () => stepSlide(-1), key: "key_previous_slide" },
  { keys: ["+", "="], does: () => zoom(1.4), key: "key_zoom_in" },
  { keys: ["-"], does: () => zoom(1 / 1.4), key: "key_zoom_out" },
  { keys: ["h"], does: showWhole, key: "key_whole" },
  { keys: ["v"], does: () => $("viewer").querySelector(".openseadragon-canvas")?.focus(), key: "key_view" },
  { keys: ["b"], does: toggleBoxes, key: "key_boxes" },
  { keys: ["l"], does: switchLanguage, key: "key_language" },
  { keys: ["?"], does: showHelp, key: "key_help" },
];

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function startKeys() {
  window.addEventListener("keydown", pressed, true);
  $("help").addEventListener("click", showHelp);
  $("language").addEventListener("click", switchLanguage);
  $("draw").addEventListener("click", startDrawing);
  $("show-boxes").addEventListener("click", toggleBoxes);
  $("zoom-in").addEventListener("click", () => zoom(1.4));
  $("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
  $("zoom-home").addEventListener("click", showWhole);
  const name = () => { $("language").textContent = LANGUAGES[language() === "zh" ? "en" : "zh"]; };
  document.addEventListener("language", name);
  name();
}

const handled = (event) => { event.preventDefault(); event.stopImmediatePropagation(); };

// The letter of the key where the layout has none of the Latin alphabet.
const letterOf = ({ key, code }) => (key.length === 1 && key > "\x7f" && code.startsWith("Key") ? code.slice(3) : key).toLowerCase();

function pressed(event) {
  if (dialogOpen() || !state.session?.name || event.isComposing) return;
  const typing = event.target.matches?.("input:not([type=checkbox]), textarea, select");
  if (event.key === "Escape") return escaped(event, typing);
  if (typing) return;
  const command = event.ctrlKey || event.metaKey;
  if (command && letterOf(event) === "z") { handled(event); return event.shiftKey ? redo() : undo(); }
  if (command && letterOf(event) === "y") { handled(event); return redo(); }
  if (command || (event.altKey && !boxMode())) return;
  if (boxMode() && inBoxMode(event)) return handled(event);
  if (event.target.matches?.("[type=checkbox]") && in_("words") && ARROWS[event.key]) {
    handled(event);
    return stepWords(ARROWS[event.key][0] + ARROWS[event.key][1]);
  }
  if (in_("viewer") && ARROWS[event.key]) {
    handled(event);
    return pan(0.15 * ARROWS[event.key][0], 0.15 * ARROWS[event.key][1]);
  }
  const known = state.slide && labelKeys().find(([key]) => key === letterOf(event));
  if (known) {
    handled(event);
    return in_("settle") ? settleCell(known[1]) : giveLabel(known[1]);
  }
  const command_ = KEYS.find(({ keys }) => keys.includes(event.key) || keys.includes(letterOf(event)));
  if (command_ && (state.slide || command_.keys[0] === "l" || command_.keys[0] === "?")) {
    handled(event);
    command_.does();
  }
}

function escaped(event, typing) {
  if (boxMode()) { handled(event); return endMode(); }
  if (typing || in_("panel") || in_("filters")) { handled(event); document.activeElement.blur(); }
}

function inBoxMode(event) {
  if (event.key === "Enter") { setDown(); return true; }
  const arrow = ARROWS[event.key];
  if (!arrow) return false;
  nudge(...arrow, event.shiftKey, event.altKey);
  return true;
}

function switchLanguage() {
  const names = Object.keys(LANGUAGES);
  loadTexts(names[(names.indexOf(language()) + 1) % names.length]);
}

const NAMES = { ArrowRight: "→", ArrowDown: "↓", ArrowLeft: "←", ArrowUp: "↑", Delete: "Del" };

function showHelp() {
  const line = (keys, text) => el("div", {}, el("span", {}, text), el("span", {}, keys.map((key) => [el("kbd", {}, NAMES[key] ?? key.toUpperCase()), " "]).flat()));
  const labels = labelKeys().map(([key, name]) => line([key], label(name)));
  openDialog(t("keys"), [
    el("div", { class: "keys" }, labels, KEYS.map(({ keys, key }) => line(keys, t(key)))),
    el("p", { class: "quietly" }, t("keys_hint")),
  ]);
}
