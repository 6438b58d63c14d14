"""The review page on a large slide: first paint, tiles with four viewers, key press to acknowledged, memory.

    python benchmarks/review_page.py --work benchmarks/work [--diameter 11.5] [--tiles 10000]

Renders a slide of at least 2 Gpx at 0.25 um/px if it is not there yet (that time is not part of the figures): about ten
minutes of one core, the rest about five of two. Paints and keys are measured first, within a minute: these want a
machine that does nothing else. The server runs in a process of its own; the page in headless Chromium; viewers are
threads over HTTP that pan and zoom.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil
from playwright.sync_api import Page, sync_playwright
from record import Record, make_parser

from stride_monai.bethesda import CELL_CLASSES
from stride_monai.findings import (
    Cell,
    Findings,
    LevelFacts,
    OperatingPoint,
    Provenance,
    Quality,
    SlideFacts,
    SlideStatus,
)
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.review.pyramid import Pyramid
from stride_monai.slides import open_slide
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.units import Box

CELLS, VIEWERS, PAINTS, KEYS = 1024, 4, 5, 60
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def slide_of(work: Path, diameter: float) -> Path:
    folder = work / f"speed-{diameter:g}mm"
    if not (folder / "manifest.csv").exists():
        make_slides(folder, CohortDesign(classes=("HSIL",), diameter_mm=diameter, seed=7))
    return next((folder / "slides").iterdir())


def screened(path: Path, results: Path) -> Findings:
    """Findings with many cells at random places: the page is measured, not a model."""
    rng = np.random.default_rng(0)
    with open_slide(path) as slide:
        facts = slide.facts
    side = min(facts.width or 0, facts.height or 0)
    centers = side / 2 + rng.uniform(-0.33, 0.33, (CELLS, 2)) * side
    shares = rng.dirichlet(np.ones(len(CELL_CLASSES)), CELLS)
    cells = tuple(
        Cell(
            k + 1,
            1 - k / (2 * CELLS),
            Box.around(x, y, 100.0),
            CELL_CLASSES[int(p.argmax())],
            tuple(map(float, p)),
            0.0,
        )
        for k, ((x, y), p) in enumerate(zip(centers, shares, strict=True))
    )
    known = SlideFacts(
        path.stem, path.name, facts.width, facts.height, facts.mpp, facts.mpp_source, facts.mpp_in_file, None,
        facts.reader, facts.format, tuple(LevelFacts(one.width, one.height, one.downsample) for one in facts.levels),
        (0, 0), slide_fingerprint(path),
    )  # fmt: skip
    findings = Findings(
        SlideStatus.OK, "", known, Quality(), None, None, None, None, OperatingPoint(0.5, CELLS, "none"), cells,
        Provenance("0", "0", {}, {}, {}),
    )  # fmt: skip
    (results / path.stem).mkdir(parents=True, exist_ok=True)
    (results / path.stem / "findings.json").write_text(findings.to_json(), encoding="utf-8")
    return findings


class Server:
    """`stride-monai review` in a process of its own."""

    def __init__(self, results: Path, studies: Path) -> None:
        (results / "annotations.sqlite").unlink(missing_ok=True)
        command = [sys.executable, "-m", "stride_monai", "review", str(results), "--studies", str(studies)]
        command += ["--port", "0", "--cells", str(CELLS)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "200"}
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"http://\S+?/", said)
        if found is None:
            raise SystemExit(f"the server did not start: {said}")
        self.address = found.group()

    def memory(self) -> float:
        """MiB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def walk(pyramid: Pyramid, seed: int, tiles: int) -> list[tuple[int, int, int]]:
    """Tiles as a reader who zooms in on a place, looks round and goes on asks for them."""
    rng, asked = random.Random(seed), []
    while len(asked) < tiles:
        x, y = rng.uniform(0.2, 0.8) * pyramid.width, rng.uniform(0.2, 0.8) * pyramid.height
        for level in range(pyramid.min_level, pyramid.max_level + 1):
            step = pyramid.scale(level) * pyramid.tile_px
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                column, row = int(x // step) + dx, int(y // step) + dy
                if column * step < pyramid.width and row * step < pyramid.height:
                    asked.append((level, column, row))
    return asked[:tiles]


def look(server: Server, slide_id: str, pyramid: Pyramid, tiles: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each tile with all viewers at once, and MiB of the server after every tenth of them."""
    seconds: list[float] = []
    memory: list[float] = []
    lock = threading.Lock()

    def view(seed: int) -> None:
        with httpx.Client(base_url=server.address, timeout=60) as http:
            http.get("api/session")
            for level, column, row in walk(pyramid, seed, tiles // VIEWERS):
                start = time.perf_counter()
                answer = http.get(f"api/slides/{slide_id}/tiles/{level}/{column}/{row}")
                took = 1000 * (time.perf_counter() - start)
                answer.raise_for_status()
                with lock:
                    seconds.append(took)
                    if len(seconds) % max(1, tiles // 10) == 0:
                        memory.append(server.memory())

    threads = [threading.Thread(target=view, args=(seed,)) for seed in range(VIEWERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, memory


def first_paint(page: Page, address: str) -> float:
    """Seconds from the request of the page to the slide's pixels in the view, with all that is loaded before; keys work
    then. Crops of the gallery and boxes come after the slide."""
    start = time.perf_counter()
    page.goto(address)
    page.wait_for_function(
        """() => { const canvas = document.querySelector('.openseadragon-canvas canvas');
        if (!canvas || !canvas.width || !document.documentElement.dataset.ready) return false;
        const data = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 4, 4).data;
        return [...data].some((value) => value > 0); }""",
        polling=20,
        timeout=120_000,
    )
    return time.perf_counter() - start


# Milliseconds from a key's event to the server's answer, by the browser's own record of the request (the action is on
# the disk then); and to "All saved" in the page, for which the view has to be painted first.
_ACKNOWLEDGED = """async (key) => { const saved = document.getElementById('saved');
  const done = new Promise((resolve) => { let waited = false; new MutationObserver((_, seen) => {
    if (saved.className !== 'saved') waited = true;
    else if (waited) { seen.disconnect(); resolve(performance.now()); }
  }).observe(saved, { attributes: true, childList: true }); });
  performance.clearResourceTimings();
  const start = performance.now();
  window.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, cancelable: true }));
  const shown = (await done) - start;
  let sent = [];
  while (!sent.length) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    sent = performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/actions'));
  }
  return [sent[0].responseEnd - start, shown]; }"""


def in_browser(server: Server) -> tuple[list[float], list[list[float]]]:
    """Seconds of first paints, and milliseconds from a key press to acknowledged and to shown as saved."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise SystemExit("needs Chromium: apt-get install chromium")
    with sync_playwright() as api:
        browser = api.chromium.launch(executable_path=found, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
        paints = []
        for _ in range(PAINTS):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            page = context.new_page()
            paints.append(first_paint(page, server.address))
            if len(paints) < PAINTS:
                context.close()
        keys = [page.evaluate(_ACKNOWLEDGED, "12345xu"[number % 7]) for number in range(KEYS)]
        browser.close()
    return paints, keys


def row(values: Sequence[float], digits: int) -> list[str]:
    """Median and 95th percentile."""
    return [f"{np.quantile(values, share):.{digits}f}" for share in (0.5, 0.95)]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--diameter", type=float, default=11.5, help="mm; 11.5 makes a slide of more than 2 Gpx")
    parser.add_argument("--tiles", type=int, default=10_000, help="of all viewers together")
    arguments = parser.parse_args()
    path = slide_of(arguments.work, arguments.diameter)
    results = arguments.work / f"review-{arguments.diameter:g}mm"
    shutil.rmtree(results, ignore_errors=True)
    slide = screened(path, results).slide
    width, height = slide.width or 0, slide.height or 0
    server = Server(results, path.parent)
    try:
        paints, keys = in_browser(server)
        tiles, memory = look(server, path.stem, Pyramid(width, height), arguments.tiles)
    finally:
        server.stop()
    figures = Record("review_page", "The review page on one large slide")
    caption = (
        f"{width} x {height} px = {width * height / 1e9:.2f} Gpx, {CELLS} cells, {VIEWERS} viewers, {len(tiles)} tiles."
    )
    table = figures.table("what", "median", "95th percentile", "asked for", caption=caption)
    table.row("first paint, s", *row(paints, 2), "< 2 s")
    table.row("tile, ms", *row(tiles, 1), "median < 100, 95th < 300")
    acknowledged, shown = zip(*keys, strict=True)
    table.row("key press to acknowledged, ms", *row(acknowledged, 1), "median < 50")
    table.row("key press to 'All saved' on the screen, ms", *row(shown, 1), "")
    table = figures.table("tiles served", "memory of the server, MiB")
    for tenth, value in enumerate(memory, 1):
        table.row(tenth * (arguments.tiles // 10), f"{value:.0f}")
    figures.say(
        "Headless Chromium without a GPU: what is painted, Annotorious's boxes above all, takes the processor's time."
    )
    figures.write()


if __name__ == "__main__":
    main()
