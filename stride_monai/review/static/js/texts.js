// The words of the page, in the language of the reader. All of them are in texts/*.json.

export const LANGUAGES = { en: "English", zh: "中文" };
let words = {};
let fallback = {};
let current = "en";

export const language = () => current;

export async function loadTexts(wanted) {
  const chosen = wanted ?? stored() ?? (navigator.language?.startsWith("zh") ? "zh" : "en");
  const read = async (name) => (await fetch(`texts/${name}.json`)).json();
  [fallback, words] = await Promise.all([fallback.title ? fallback : read("en"), chosen === "en" ? null : read(chosen)]);
  words ??= fallback;
  current = chosen;
  try { localStorage.setItem("stride-review-language", chosen); } catch { /* the choice is then not remembered */ }
  document.documentElement.lang = chosen === "zh" ? "zh-CN" : chosen;
  apply(document);
  document.dispatchEvent(new Event("language"));
}

function stored() {
  try {
    const name = localStorage.getItem("stride-review-language");
    return name in LANGUAGES ? name : null;
  } catch {
    return null;
  }
}

// t("read_of", {read: 3, cells: 32}) puts the values into "{read} of {cells} read".
export function t(key, values = {}) {
  const text = words[key] ?? fallback[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

// A label of a cell or slide, and a description of the vocabulary: the names stay as they are where nobody translated them.
export const label = (name) => words.labels?.[name] ?? fallback.labels?.[name] ?? name;
export const description = (text) => words.descriptions?.[text] ?? text;

function apply(root) {
  for (const node of root.querySelectorAll("[data-text]")) node.textContent = t(node.dataset.text);
  for (const node of root.querySelectorAll("[data-label]")) node.setAttribute("aria-label", t(node.dataset.label));
  for (const node of root.querySelectorAll("button[data-label]")) node.title = t(node.dataset.label);
}
