// Elements made in one line; texts are always text, never markup.

export const $ = (id) => document.getElementById(id);

// el("button", {class: "main", onclick: f, "aria-label": "x", hidden: true}, "text", child, ...)
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== false));
  return made;
}

// Replaces what is in an element, and keeps the keyboard's place: the focus goes to the element with the same data-key.
export function fill(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  place.replaceChildren(...children.flat().filter((child) => child != null && child !== false));
  if (key) place.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus({ preventScroll: true });
}

export const kbd = (text) => el("kbd", { "aria-hidden": "true" }, text);
