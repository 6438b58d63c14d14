// The slide as a whole: adequacy, call, what the model says, and where readers' calls differ.

import { callSlide, redo, sayAdequacy, settleCall, undo } from "./doing.js";
import { $, el, fill, kbd } from "./dom.js";
import { on, state } from "./state.js";
import { label, t } from "./texts.js";

export function startOverall() {
  on("slide overall outbox", draw);
  document.addEventListener("language", draw);
}

function draw() {
  if (!state.slide) return fill($("overall"));
  const overall = state.slide.slide;
  fill($("overall"),
    el("h2", {}, t("slide_as_a_whole"), " ", kbd("A")),
    model(),
    choices("adequacy", t("adequacy"), state.session.adequacy, overall.adequacy, sayAdequacy),
    choices("call", t("call"), state.session.calls, overall.call, callSlide),
    calls(overall),
    el("div", { class: "row" },
      el("button", { type: "button", "data-key": "undo", "aria-keyshortcuts": "Z", onclick: undo }, t("undo"), " ", kbd("Z")),
      el("button", { type: "button", "data-key": "redo", "aria-keyshortcuts": "Y", disabled: !overall.redoable, onclick: redo }, t("redo"), " ", kbd("Y"))));
}


function model() {
  const said = state.slide.model;
  if (!said) return null;
  const call = said.call ? t(`model_${said.call}`) : t("model_no_call");
  const score = said.score == null ? "" : ` (${(100 * said.score).toFixed(0)} %)`;
  const kind = said.class ? `, ${t("model_class", { label: label(said.class) })}` : "";
  return el("p", { class: "facts" }, `${t("model")}: ${call}${score}${kind}${said.reason ? `. ${said.reason}` : ""}`);
}

function choices(name, title, values, chosen, choose) {
  return el("fieldset", {}, el("legend", {}, title), el("div", { class: "call-grid" }, values.map((value) =>
    el("button", { type: "button", "data-key": `${name}-${value}`, "aria-pressed": String(chosen === value), onclick: () => choose(value) }, label(value)))));
}

function calls(overall) {
  const others = Object.entries(overall.other_calls);
  if (!others.length && !overall.arbitrated_call) return null;
  const differ = overall.call_state === "disagreed" || overall.call_state === "arbitrated";
  return el("div", { class: overall.call_state === "disagreed" ? "others" : "others agreed" },
    el("strong", {}, t(`state_${overall.call_state}`)),
    others.map(([who, call]) => el("span", {}, `${who}: ${label(call)}`)),
    overall.arbitrated_call && el("span", {}, t("settled_as", { label: label(overall.arbitrated_call) })),
    state.session.admin && differ && choices("settle-call", t("settle"), state.session.calls, overall.arbitrated_call, settleCall));
}

export const focusOverall = () => $("overall").querySelector("button")?.focus();
