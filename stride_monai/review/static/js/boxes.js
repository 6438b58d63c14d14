// Boxes on the slide, by Annotorious: shown, drawn, moved; each of it by mouse and by keyboard.

import { addBox, moveBox } from "./doing.js";
import { $ } from "./dom.js";
import { colorOf, currentCell, on, select, shownLabel, state, tell, visibleCells } from "./state.js";
import { t } from "./texts.js";
import { center, viewer } from "./viewer.js";

let anno = null;
let chosen = null; // the cell that is drawn as chosen
let mode = null; // null, or {kind: "draw" | "move", box, cell}
const GHOST = "ghost";
const NEW_BOX_UM = 30;
const UNREAD = "#1d4ed8";

export const boxMode = () => mode?.kind ?? null;

export function startBoxes() {
  anno = AnnotoriousOSD.createOSDAnnotator(viewer, {
    drawingEnabled: false, drawingMode: "drag", autoSave: true, style: styleOf,
    userSelectAction: (annotation) => (mode && annotation.id === (mode.cell?.id ?? GHOST) ? "EDIT" : "NONE"),
  });
  anno.setDrawingTool("rectangle");
  anno.on("clickAnnotation", (annotation) => { if (!mode && annotation.id !== GHOST) select(annotation.id, { move: false }); });
  anno.on("createAnnotation", drawn);
  anno.on("updateAnnotation", changed);
  viewer.element.addEventListener("pointerdown", () => { if (mode?.kind === "draw") removeGhost(); }, true);
  on("slide", () => anno.setAnnotations([]));
  on("seen cells filter boxes", redraw);
  on("cell", refresh);
  on("current", () => {
    if (mode?.kind === "move") endMode();
    for (const id of new Set([chosen, state.current])) if (id) refresh(id);
    chosen = state.current;
  });
}

function redraw() {
  if (!state.seen || !viewer.world.getItemAt(0)) return;
  const cells = state.boxes ? visibleCells() : [];
  chosen = state.current;
  anno.setAnnotations(cells.filter((cell) => cell.box).map((cell) => annotationOf(cell.id, cell.box)));
}

// One box anew, in its place and color: to style a thousand again would cost more than a key may take.
function refresh(id) {
  const cell = state.cells.get(id);
  if (cell?.box && anno.getAnnotationById(id)) anno.updateAnnotation(annotationOf(id, cell.box));
}

function styleOf(annotation) {
  if (annotation.id === GHOST) return { fill: "#b45309", fillOpacity: 0.12, stroke: "#b45309", strokeWidth: 3 };
  const cell = state.cells.get(annotation.id);
  const color = (cell && colorOf(shownLabel(cell))) ?? (cell?.mine?.label ? "#46555f" : UNREAD);
  const inHand = annotation.id === state.current;
  return { fill: color, fillOpacity: inHand ? 0.02 : 0.06, stroke: color, strokeOpacity: 1, strokeWidth: inHand ? 4 : 2 };
}

function annotationOf(id, [x0, y0, x1, y1]) {
  const geometry = { x: x0, y: y0, w: x1 - x0, h: y1 - y0, bounds: { minX: x0, minY: y0, maxX: x1, maxY: y1 } };
  return { id, bodies: [], target: { annotation: id, selector: { type: "RECTANGLE", geometry } } };
}

const boxOf = (annotation) => {
  const { x, y, w, h } = annotation.target.selector.geometry;
  return [x, y, x + w, y + h];
};

// A rectangle was drawn with the mouse.
function drawn(annotation) {
  anno.removeAnnotation(annotation.id);
  const box = boxOf(annotation);
  endMode();
  if (box[2] - box[0] < 2 || box[3] - box[1] < 2) return;
  addBox(box);
}

// A rectangle was moved or resized with the mouse.
function changed(annotation) {
  if (mode && annotation.id === (mode.cell?.id ?? GHOST)) mode.box = boxOf(annotation);
}

// Drawing: with the mouse at once; for the keyboard a box stands in the middle of the view, to be moved and set down.
export function startDrawing() {
  if (mode) return endMode();
  if (!viewer.world.getItemAt(0)) return;
  const half = NEW_BOX_UM / state.slide.mpp / 2;
  const [x, y] = center();
  mode = { kind: "draw", box: [x - half, y - half, x + half, y + half], cell: null };
  anno.addAnnotation(annotationOf(GHOST, mode.box));
  anno.setDrawingEnabled(true);
  shown("draw_mode");
}

export function startMoving() {
  const cell = currentCell();
  if (mode || !cell?.box) return;
  mode = { kind: "move", box: [...cell.box], cell };
  anno.setSelected(cell.id, true);
  shown("move_mode");
}

// Arrow keys move the box by a micrometre, with Shift they change its size; ten times as much with Alt.
export function nudge(x, y, resize, far) {
  const by = (far ? 10 : 1) / state.slide.mpp;
  const [x0, y0, x1, y1] = mode.box;
  mode.box = resize
    ? [x0, y0, Math.max(x0 + 2, x1 + x * by), Math.max(y0 + 2, y1 + y * by)]
    : [x0 + x * by, y0 + y * by, x1 + x * by, y1 + y * by];
  anno.updateAnnotation(annotationOf(mode.cell?.id ?? GHOST, mode.box));
}

export function setDown() {
  const { kind, box, cell } = mode;
  endMode();
  if (kind === "draw") addBox(box);
  else moveBox(cell, box);
}

export function endMode() {
  if (!mode) return;
  const { kind, cell } = mode;
  mode = null;
  anno.setDrawingEnabled(false);
  anno.setSelected();
  if (kind === "draw") removeGhost();
  else refresh(cell.id);
  shown(null);
}

function removeGhost() {
  if (anno.getAnnotationById(GHOST)) anno.removeAnnotation(GHOST);
}

function shown(key) {
  $("mode").hidden = !key;
  $("mode").textContent = key ? t(key) : "";
  $("draw").setAttribute("aria-pressed", String(mode?.kind === "draw"));
}

export function toggleBoxes() {
  state.boxes = !state.boxes;
  $("show-boxes").setAttribute("aria-pressed", String(state.boxes));
  tell("boxes");
}
