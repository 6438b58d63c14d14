// Files to take away, for admins: the slide for QuPath, how far readers agree, and a cohort to train on.

import { $, el } from "./dom.js";
import { openDialog } from "./dialog.js";
import { on, state } from "./state.js";
import { t } from "./texts.js";

const COMMAND = "stride-monai annotations export RESULTS --out COHORT";

export function startExport() {
  const allowed = () => { $("export").hidden = !state.session.admin || state.session.blind; };
  on("session", allowed);
  allowed();
  $("export").addEventListener("click", showExport);
}

export function showExport() {
  if ($("export").hidden || !state.slide) return;
  const slide = encodeURIComponent(state.slide.slide_id);
  const link = (address, name, text) => el("p", {}, el("a", { href: address, download: name }, text));
  openDialog(t("export"), [
    link(`api/slides/${slide}/geojson`, `${state.slide.slide_id}.geojson`, t("export_geojson")),
    link("api/agreement", "agreement.zip", t("export_agreement")),
    link("api/cohort", "cohort.zip", t("export_cohort")),
    el("p", { class: "quietly" }, t("export_hint")),
    el("code", {}, COMMAND),
  ]);
}
