"""Seconds per slide by stage, peak memory, and reading alone against detection alone, on a large synthetic slide.

    python benchmarks/slide_speed.py --work benchmarks/work [--diameter 11.5]

Renders a slide of at least 2 Gpx at 0.25 um/px if it is not there yet (that time is not part of the figures).
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import psutil
import torch
from record import Record, make_parser

from stride_monai.exporters.writers import load_writers
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screener
from stride_monai.slides import TileGrid, find_foreground, open_slide, stream_tiles

READ_TILES, DETECTED_TILES, BATCH = 400, 80, 4  # of reading alone and of detection alone


def slide_of(work: Path, diameter: float) -> Path:
    folder = work / f"speed-{diameter:g}mm"
    if not (folder / "manifest.csv").exists():
        make_slides(folder, CohortDesign(classes=("HSIL",), diameter_mm=diameter, seed=7))
    return next((folder / "slides").iterdir())


def reading_alone(path: Path, reader: str, tiles: int) -> float:
    """Tiles of 512 px at 1.0 um/px per second."""
    with open_slide(path, reader=reader) as slide:
        foreground = find_foreground(slide)
        grid = [t for t in TileGrid(slide.width, slide.height, slide.mpp) if foreground.touches(t.box)]
        start = time.perf_counter()
        count = sum(1 for _ in stream_tiles(slide, grid[:tiles], 1.0))
        return count / (time.perf_counter() - start)


def detection_alone(screener: Screener, tiles: int, batch: int) -> float:
    images = torch.randint(0, 255, (batch, 3, 512, 512), dtype=torch.uint8)
    detector = screener.models.detector
    detector.detect(images)
    start = time.perf_counter()
    for _ in range(tiles // batch):
        detector.detect(images)
    return tiles // batch * batch / (time.perf_counter() - start)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--diameter", type=float, default=11.5, help="mm; 11.5 makes a slide of more than 2 Gpx")
    arguments = parser.parse_args()
    path = slide_of(arguments.work, arguments.diameter)
    screener = Screener(ScreeningConfig())
    loaded = psutil.Process().memory_info().rss
    start = time.perf_counter()
    screened = screener.screen(SlideInput(path, path.stem))
    writing = time.perf_counter()
    for writer in load_writers().values():
        writer(screened, arguments.work / "speed-out", {})
    seconds = {**screened.seconds, "write": time.perf_counter() - writing}
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    figures = Record("slide_speed", "One large slide")
    findings, slide = screened.findings, screened.findings.slide
    caption = (
        f"{slide.width} x {slide.height} px = {slide.width * slide.height / 1e9:.2f} Gpx at {slide.mpp:g} um/px, "
        f"{path.stat().st_size / 1e6:.0f} MB, {findings.quality.tiles_read} tiles read, {len(findings.cells)} cells."
    )
    table = figures.table("stage", "seconds", caption=caption)
    for stage, value in {**seconds, "all (reading runs ahead of detection)": total}.items():
        table.row(stage, f"{value:.2f}")
    figures.say(f"Peak memory above the models: {(peak - loaded) / 2**30:.2f} GiB.")
    table = figures.table("alone, one run", "tiles/s")
    for reader in ("openslide", "tiff"):
        table.row(f"reading, {reader}", f"{reading_alone(path, reader, READ_TILES):.1f}")
    table.row(f"detection, batch {BATCH}", f"{detection_alone(screener, DETECTED_TILES, BATCH):.1f}")
    figures.write([7])


if __name__ == "__main__":
    main()
