// What a reader can do. Each is shown at once and sent as one action.

import { hasMore, put, takeBack } from "./outbox.js";
import { lap } from "./clock.js";
import { currentCell, nextUnread, select, state, tell } from "./state.js";
import { label as labelText, t } from "./texts.js";

export const settings = { advance: true };

const copy = (value) => (value == null ? null : JSON.parse(JSON.stringify(value)));

function act(kind, cell, before, after, change) {
  const action = { uuid: crypto.randomUUID?.() ?? randomUuid(), kind, cell_id: cell?.id ?? null, before, after, seconds: lap() };
  const was = cell ? copy(cell) : copy(state.slide.slide);
  change?.(action);
  put(state.slide.slide_id, action, was);
  tell(cell ? "cell" : "overall", cell?.id);
  return action;
}

// Pages that are served without TLS from another machine have no crypto.randomUUID.
function randomUuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

export function giveLabel(name) {
  const cell = currentCell();
  if (!cell) return;
  if (cell.taken) return tell("note", { key: "taken_note" });
  const before = cell.mine?.label ?? null;
  if (before !== name) {
    act("label", cell, before, name, () => {
      cell.mine = { label: name, chosen: cell.mine?.chosen ?? [], typed: cell.mine?.typed ?? "" };
      if (cell.state === "unreviewed") cell.state = "reviewed";
    });
  }
  tell("say", t("said_label", { label: labelText(name) }));
  if (settings.advance && before === null && !nextUnread()) tell("say", t("all_read"));
}

export function confirmModel() {
  const proposed = currentCell()?.model?.class;
  if (proposed) giveLabel(proposed);
}

export function describe(chosen, typed) {
  const cell = currentCell();
  if (!cell || cell.taken) return;
  const known = state.session.descriptions.filter((text) => chosen.includes(text));
  const before = words(cell.mine?.chosen ?? [], cell.mine?.typed ?? "");
  const after = words(known, typed.trim().replace(/\s+/g, " "));
  if (JSON.stringify(before) === JSON.stringify(after)) return;
  act("descriptions", cell, before, after, () => {
    cell.mine = { label: cell.mine?.label ?? null, chosen: known, typed: after?.typed ?? "" };
  });
}

// No words at all are said as null.
const words = (chosen, typed) => (chosen.length || typed ? { chosen, typed } : null);

export function addBox(box) {
  const action = act("box_added", null, null, box.map(tenth), (made) => {
    made.cell_id = `a${made.uuid.replaceAll("-", "")}`;
  });
  const cell = {
    id: action.cell_id, box: action.after, drawn: true, drawn_by_me: true, mine: null, others: {}, label: null,
    state: "unreviewed", arbitrated: null, model: null, taken: false,
  };
  state.cells.set(cell.id, cell);
  tell("cells");
  select(cell.id, { move: false });
  tell("say", t("said_drawn"));
}

export function moveBox(cell, box) {
  const before = cell.box;
  const after = box.map(tenth);
  if (after.join() === before.join()) return;
  act("box_moved", cell, before, after, () => { cell.box = after; });
}

export function removeBox() {
  const cell = currentCell();
  if (!cell) return;
  if (!cell.drawn_by_me) return tell("note", { key: "not_yours_to_remove" });
  act("box_removed", cell, cell.box, null, () => {
    state.cells.delete(cell.id);
    state.current = null;
    tell("cells"); // before it is sent: pictures of it are called off
  });
  tell("current", {});
}

export function callSlide(name) {
  const overall = state.slide.slide;
  if (overall.call !== name) act("call", null, overall.call, name, () => { overall.call = name; });
}

export function sayAdequacy(name) {
  const overall = state.slide.slide;
  if (overall.adequacy !== name) act("adequacy", null, overall.adequacy, name, () => { overall.adequacy = name; });
}

export function settleCell(name) {
  const cell = currentCell();
  if (!cell || cell.arbitrated === name) return;
  act("arbitration", cell, cell.arbitrated, name, () => { cell.arbitrated = name; cell.state = "arbitrated"; });
}

export function settleCall(name) {
  const overall = state.slide.slide;
  if (overall.arbitrated_call === name) return;
  act("arbitration", null, overall.arbitrated_call, name, () => {
    overall.arbitrated_call = name;
    overall.call_state = "arbitrated";
  });
}

export function undo() {
  const back = takeBack();
  if (!back) return act("undo", null, null, null);
  if (back.slide !== state.slide.slide_id) return;
  if (back.action.kind === "box_added") state.cells.delete(back.action.cell_id);
  else if (back.action.cell_id) state.cells.set(back.action.cell_id, back.was);
  else state.slide.slide = back.was;
  tell("cells");
  tell("overall");
}

export const redo = () => act("redo", null, null, null);

// The server has kept an action: what it says stands, unless the reader has gone on meanwhile.
export function kept(item, answer) {
  if (item.slide !== state.slide?.slide_id) return tell("overall");
  const stepped = item.action.kind === "undo" || item.action.kind === "redo";
  for (const cell of answer.cells) {
    if (hasMore(cell.id)) continue;
    if (cell.box === null) state.cells.delete(cell.id);
    else state.cells.set(cell.id, { ...cell, taken: state.cells.get(cell.id)?.taken ?? false });
    if (stepped && cell.box) select(cell.id);
    else tell(cell.box === null || !state.cells.has(cell.id) ? "cells" : "cell", cell.id);
  }
  if (stepped) tell("cells");
  state.slide.slide = { ...answer.slide, ...pendingOfSlide() };
  tell("overall");
}

// Calls and adequacy that are still on their way.
const pendingOfSlide = () => (hasMore(null) ? { call: state.slide.slide.call, adequacy: state.slide.slide.adequacy } : {});

const tenth = (side) => Math.round(side * 10) / 10;
