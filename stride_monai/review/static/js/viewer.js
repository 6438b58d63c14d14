// The slide: OpenSeadragon over tiles that the server reads from the slide's file.

import { tileAddress } from "./api.js";
import { $ } from "./dom.js";
import { currentCell, on, state, tell } from "./state.js";
import { t } from "./texts.js";

export let viewer = null;
const CELL_VIEW_UM = 160; // what is seen of the slide when a cell is chosen, at most
const TILE_MS = 120_000; // a tile that a busy server makes late still comes
const SEEN_MS = 1000; // that the rest of the page waits for the slide
const DROPPED = "Image load aborted."; // what OpenSeadragon says of a tile that is no longer wanted

export function startViewer() {
  viewer = OpenSeadragon({
    element: $("viewer"), drawer: "canvas", showNavigationControl: false, showNavigator: true,
    navigatorPosition: "BOTTOM_RIGHT", navigatorSizeRatio: 0.18, navigatorAutoFade: false, animationTime: 0.35,
    springStiffness: 9, maxZoomPixelRatio: 6, minZoomImageRatio: 0.7, visibilityRatio: 0.4, imageLoaderLimit: 6,
    maxImageCacheCount: 300, timeout: TILE_MS, tileRetryMax: 2, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true }, preload: false,
    tabIndex: 0,
  });
  viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; }); // keys.js has all keys
  viewer.addHandler("tile-load-failed", unreadable);
  viewer.addHandler("open", () => { showScale(); showCurrent(); });
  for (const name of ["animation", "resize", "open"]) viewer.addHandler(name, showScale);
  name();
  on("slide", openSlide);
  on("current", ({ move }) => move && showCurrent());
  document.addEventListener("language", name);
}

// For screen readers: what the view is, and that it has keys of its own.
function name() {
  for (const canvas of $("viewer").querySelectorAll(".openseadragon-canvas")) {
    const small = canvas.closest(".navigator");
    if (small) canvas.tabIndex = -1;
    canvas.setAttribute("role", small ? "img" : "application");
    canvas.setAttribute("aria-label", small ? t("small_view") : t("slide_view"));
  }
}

function openSlide() {
  const { slide_id: id, version, pyramid } = state.slide;
  if (!pyramid) viewer.close();
  else viewer.open({
    width: pyramid.width, height: pyramid.height, tileSize: pyramid.tile_px, tileOverlap: 0,
    minLevel: pyramid.min_level, maxLevel: pyramid.max_level,
    getTileUrl: (level, x, y) => tileAddress(id, version, level, x, y),
  });
  waitUntilSeen();
}

let opened = 0;

// Crops would be fetched before the tiles, and a thousand boxes are long in painting: they wait until the slide is there.
function waitUntilSeen() {
  const mine = ++opened;
  state.seen = false;
  const seen = () => {
    if (mine !== opened || state.seen) return;
    state.seen = true;
    tell("seen");
  };
  viewer.addOnceHandler("tile-drawn", () => setTimeout(seen));
  setTimeout(seen, SEEN_MS);
}

let toldUnreadable = null;

// Once for a slide: OpenSeadragon asks for every tile.
async function unreadable(event) {
  const id = state.slide?.slide_id;
  if (toldUnreadable === id || event.message === DROPPED) return;
  toldUnreadable = id;
  try {
    const answer = await fetch(event.tile.getUrl());
    if (answer.ok) return void (toldUnreadable = null);
    tell("note", { bad: true, text: `${t("tile_failed")} ${(await answer.json()).error ?? ""}` });
  } catch {
    tell("note", { bad: true, key: "offline_note" });
  }
}

const image = () => viewer?.world.getItemAt(0);

// The cell in hand in the middle of the view, at once: a flight there would keep the reader, and the next key, waiting.
export function showCurrent() {
  const cell = currentCell();
  if (!cell?.box || !image()) return;
  const [x0, y0, x1, y1] = cell.box;
  const side = Math.max(CELL_VIEW_UM / state.slide.mpp, 2.2 * Math.max(x1 - x0, y1 - y0));
  const around = image().imageToViewportRectangle((x0 + x1 - side) / 2, (y0 + y1 - side) / 2, side, side);
  viewer.viewport.fitBounds(around, true);
}

export const showWhole = () => viewer.viewport?.goHome();
export function zoom(by) {
  viewer.viewport.zoomBy(by);
  viewer.viewport.applyConstraints();
}
// By shares of what is seen.
export function pan(x, y) {
  const { width, height } = viewer.viewport.getBounds();
  viewer.viewport.panBy(new OpenSeadragon.Point(x * width, y * height));
  viewer.viewport.applyConstraints();
}

// The middle of what is seen, and the slide's pixels per screen pixel.
export function center() {
  const point = image().viewportToImageCoordinates(viewer.viewport.getCenter());
  return [point.x, point.y];
}
const pixelsPerScreenPixel = () => 1 / image().viewportToImageZoom(viewer.viewport.getZoom(true));

// A bar of a round number of micrometres, 60 to 160 screen pixels wide.
function showScale() {
  const bar = $("scale");
  bar.hidden = !image();
  if (bar.hidden) return;
  const umPerPixel = state.slide.mpp * pixelsPerScreenPixel();
  const round = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((um) => um / umPerPixel >= 60) ?? 20000;
  bar.style.width = `${round / umPerPixel}px`;
  bar.firstElementChild.textContent = round < 1000 ? `${round} µm` : `${round / 1000} mm`;
}
