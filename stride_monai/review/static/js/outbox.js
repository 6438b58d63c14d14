// Actions on their way to the server: kept in the browser until the server has said that they are on its disk, sent in
// their order, again and again while it cannot be reached. An action sent twice is one action, by its uuid.

import { Refused, sendAction } from "./api.js";
import { next, state, tell } from "./state.js";
import { t } from "./texts.js";

let waiting = [];
let flying = null;
let offline = false;
let trouble = ""; // why the server, which answers, cannot keep anything: its disk is full
let timer = null;
let handlers = { kept() {}, refused() {}, signedOut() {} };

export const status = () => ({ waiting: waiting.length, offline, trouble });
export const hasMore = (cell) => waiting.some((item) => item !== flying && item.action.cell_id === cell);

// Whether the server does not know yet where the cell lies: it has no picture of it there.
export const isUnplaced = (cell) =>
  waiting.some((item) => item.action.cell_id === cell && ["box_added", "box_moved"].includes(item.action.kind));

// Resolves when no action on this slide is on its way; then the server's answer has all of them. Not while offline.
export async function drained(slide) {
  while (!offline && waiting.some((item) => item.slide === slide)) {
    await next("outbox");
  }
}

export function startOutbox(hooks) {
  handlers = hooks;
  try {
    waiting = JSON.parse(localStorage.getItem(place()) ?? "[]");
  } catch {
    waiting = [];
  }
  window.addEventListener("online", send);
  window.addEventListener("beforeunload", (event) => { if (waiting.length) event.preventDefault(); });
  changed();
  send();
}

export function put(slide, action, was) {
  waiting.push({ slide, action, was });
  changed();
  send();
}

// The last action, if it has not been sent yet; it is then no action at all.
export function takeBack() {
  const last = waiting.at(-1);
  if (!last || last === flying || last.action.kind === "undo" || last.action.kind === "redo") return null;
  waiting.pop();
  changed();
  return last;
}

export async function send() {
  clearTimeout(timer);
  if (flying || !waiting.length || !state.session?.name) return;
  flying = waiting[0];
  const step = { undo: "undoable", redo: "redoable" }[flying.action.kind];
  if (step && !flying.action.after) flying.action.after = state.slide?.slide[step] ?? null;
  if (step && !flying.action.after) return done(null, handlers.nothing);
  keep();
  try {
    const answer = await sendAction(flying.slide, flying.action);
    offline = false;
    trouble = "";
    done(answer, handlers.kept);
  } catch (error) {
    failed(error);
  }
}

function done(answer, tellIt) {
  const item = flying;
  waiting.shift();
  flying = null;
  changed();
  tellIt?.(item, answer);
  send();
}

function failed(error) {
  // Signed out; or the server began anew and another tab has a session already: then this page's proof is of no worth.
  const stale = error instanceof Refused && error.status === 403 && !flying.renewed;
  if (stale || (error instanceof Refused && error.status === 401)) {
    flying.renewed = true;
    flying = null;
    return handlers.signedOut();
  }
  const never = error instanceof Refused && error.status < 500 && error.status !== 429 && error.status !== 421;
  if (never) return done(error, handlers.refused);
  flying = null;
  offline = true;
  const why = error instanceof Refused ? error.message : "";
  if (why && why !== trouble) tell("note", { bad: true, text: `${t("not_saved")} ${why}. ${t("kept_here")}` });
  trouble = why;
  changed();
  timer = setTimeout(send, 2000);
}

function changed() {
  keep();
  tell("outbox");
}

function keep() {
  try {
    localStorage.setItem(place(), JSON.stringify(waiting));
  } catch {
    tell("note", { bad: true, key: "storage_full" });
  }
}

const place = () => `stride-review-outbox ${location.pathname} ${state.session.name}`;
