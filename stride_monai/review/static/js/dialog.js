// One dialog at a time; the browser keeps the focus in it and gives it back.

import { $, el } from "./dom.js";
import { t } from "./texts.js";

export function openDialog(title, body, { closable = true } = {}) {
  const dialog = $("dialog");
  const close = el("button", { type: "button", onclick: () => dialog.close() }, t("close"));
  dialog.replaceChildren(
    el("div", { class: "head" }, el("h2", { id: "dialog-title" }, title), closable && close),
    el("div", { class: "body" }, ...body));
  dialog.oncancel = (event) => { if (!closable) event.preventDefault(); };
  if (!dialog.open) dialog.showModal();
}

export const closeDialog = () => $("dialog").close();
export const dialogOpen = () => $("dialog").open;
