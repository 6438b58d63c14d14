// Requests to the server. All addresses are relative, so that the page works below any path.

let proof = "";

export class Refused extends Error {
  constructor(status, body) {
    super([body.error, body.advice].filter(Boolean).join(": ") || `HTTP ${status}`);
    this.status = status;
    this.current = body.current;
  }
}

// Throws Refused where the server says no, and TypeError where it cannot be reached.
export async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = proof;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin",
    signal: AbortSignal.timeout(30_000),
  });
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, content);
  if (content.proof) proof = content.proof;
  return content;
}

const slidePath = (slide) => `api/slides/${encodeURIComponent(slide)}`;

export const getSession = () => ask("GET", "api/session");
export const signIn = (name, password) => ask("POST", "api/session", { name, password });
export const signOut = () => ask("DELETE", "api/session");
export const getSlides = () => ask("GET", "api/slides");
export const getSlide = (slide) => ask("GET", slidePath(slide));
export const sendAction = (slide, action) => ask("POST", `${slidePath(slide)}/actions`, action);
export const getDisagreements = () => ask("GET", "api/disagreements");
export const tileAddress = (slide, version, level, x, y) => `${slidePath(slide)}/tiles/${level}/${x}/${y}?v=${version}`;
export const cropAddress = (slide, version, cell) =>
  `${slidePath(slide)}/crops/${encodeURIComponent(cell.id)}?v=${version}-${cell.box.map(Math.round).join("-")}`;
