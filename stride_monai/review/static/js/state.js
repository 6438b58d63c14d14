// What the page knows: who reads, the slides, the slide that is open, its cells. Parts listen for what changes.

export const state = {
  session: null,   // as GET api/session gives it
  slides: [],      // as GET api/slides gives it
  slide: null,     // as GET api/slides/{id} gives it, without its cells
  cells: new Map(),
  current: null,   // id of the cell in hand
  seen: false,     // whether a part of the slide has been painted
  filter: { label: "", state: "", reader: "" },
  boxes: true,
};

const heard = new EventTarget();
// Events: session, slides, slide (another one is open), seen (it is painted), cell (detail: id; one has changed), current, filter, boxes, overall.
export const on = (names, hear) => names.split(" ").forEach((name) => heard.addEventListener(name, (e) => hear(e.detail)));
export const next = (name) => new Promise((resolve) => heard.addEventListener(name, resolve, { once: true }));
export const tell = (name, detail) => heard.dispatchEvent(new CustomEvent(name, { detail }));

export const currentCell = () => state.cells.get(state.current) ?? null;
export const readLabel = (cell) => cell.mine?.label ?? null;
export const shownLabel = (cell) => cell.arbitrated ?? readLabel(cell) ?? cell.model?.class ?? null;
export const colorOf = (name) => state.session?.classes.find((known) => known.label === cellClass(name))?.color ?? null;

// ASC-H, HSIL and SCC cells are one class of cells.
export const cellClass = (name) => (["ASC-H", "HSIL", "SCC"].includes(name) ? "ASC-H/HSIL" : name);

export function visibleCells() {
  const { label, state: wanted, reader } = state.filter;
  return [...state.cells.values()].filter((cell) => {
    if (label && cellClass(shownLabel(cell)) !== label) return false;
    if (wanted && stateOf(cell) !== wanted) return false;
    if (reader === "drawn") return cell.drawn;
    return !reader || (reader === state.session.name ? Boolean(readLabel(cell)) : reader in cell.others);
  });
}

// The reader's own view: unread, read, disagreed, arbitrated, or taken by another reader.
export function stateOf(cell) {
  if (cell.state === "disagreed" || cell.state === "arbitrated") return cell.state;
  if (readLabel(cell)) return "reviewed";
  return cell.taken ? "taken" : "unreviewed";
}

export function select(id, options = {}) {
  if (id !== null && !state.cells.has(id)) return;
  state.current = id;
  tell("current", { move: true, ...options });
}

export function step(by) {
  const cells = visibleCells();
  if (!cells.length) return;
  const at = cells.findIndex((cell) => cell.id === state.current);
  select(cells[at < 0 ? 0 : Math.min(cells.length - 1, Math.max(0, at + by))].id);
}

// The next cell in the gallery that the reader has not read, from the one in hand, round the end.
export function nextUnread() {
  const cells = visibleCells();
  const at = cells.findIndex((cell) => cell.id === state.current);
  const after = [...cells.slice(at + 1), ...cells.slice(0, Math.max(0, at))];
  const found = after.find((cell) => !readLabel(cell) && !cell.taken);
  if (found) select(found.id);
  return Boolean(found);
}
