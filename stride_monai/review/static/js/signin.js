// Coming in by name and password, where the server has users; and going out.

import { getSession, signIn, signOut } from "./api.js";
import { closeDialog, openDialog } from "./dialog.js";
import { $, el } from "./dom.js";
import { state, tell } from "./state.js";
import { t } from "./texts.js";

let asking = null;

// Resolves once somebody is signed in; the session may have been asked for already.
export async function ensureSession(asked = getSession()) {
  const known = await asked;
  if (known.name) return begin(known);
  asking ??= new Promise((resolve) => {
    openDialog(t("sign_in"), [form((session) => { closeDialog(); asking = null; resolve(session); })], { closable: false });
  });
  return begin(await asking);
}

function begin(session) {
  if (state.session?.name && state.session.name !== session.name) location.reload(); // the page shows another's reads
  state.session = session;
  $("who").textContent = session.name;
  $("blind").hidden = !session.blind;
  $("sign-out").hidden = !session.users;
  tell("session");
  return session;
}

function form(come) {
  const name = el("input", { type: "text", name: "name", autocomplete: "username", required: true, maxlength: "64" });
  const password = el("input", { type: "password", name: "password", autocomplete: "current-password", required: true });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const submit = async (event) => {
    event.preventDefault();
    wrong.textContent = "";
    try {
      come(await signIn(name.value.trim(), password.value));
    } catch (error) {
      wrong.textContent = error.status === 401 ? t("wrong_password") : error.message;
      password.value = "";
      password.focus();
    }
  };
  return el("form", { class: "sign-in", onsubmit: submit },
    el("label", {}, t("name"), name), el("label", {}, t("password"), password), wrong,
    el("button", { type: "submit", class: "main" }, t("sign_in")));
}

export function startSignOut() {
  $("sign-out").addEventListener("click", async () => {
    await signOut().catch(() => {});
    location.reload();
  });
}
