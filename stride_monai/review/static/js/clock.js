// Seconds that the reader spends: since the last action, while the page is in sight, and no more than two minutes for one.

const MOST = 120;
let since = performance.now();
let spent = 0;

document.addEventListener("visibilitychange", () => {
  if (document.hidden) spent += (performance.now() - since) / 1000;
  since = performance.now();
});

export function lap() {
  const seconds = Math.min(MOST, spent + (document.hidden ? 0 : (performance.now() - since) / 1000));
  since = performance.now();
  spent = 0;
  return Math.round(seconds * 100) / 100;
}
