"""The slide engine beside its peers: one slide, the same weights, the same cores, all sides in one run.

    python benchmarks/engine.py [--gigapixels 0.4] [--work benchmarks/work] [--rounds 3] [--region 2048]
    python benchmarks/engine.py --only --scaling [--sizes 0.05 0.1 0.2 0.4] [--boxes 50000] --name engine_scaling
    python benchmarks/engine.py --only slides --gigapixels 2.42 --rounds 1 --warm-up 0 --detectors fcos
        --runtimes openvino 'openvino int8' --name engine_large
    python benchmarks/engine.py --only reading --rounds 15 --name engine_reading
    python benchmarks/engine.py --only memory [--slides 30] [--detectors fcos yolo] --name engine_memory

Reading: tiles of 512 px at 1.0 um/px per second, beside a plain loop over OpenSlide in as many threads, and beside the
JPEG decoder alone on the tiles of the file that they come from; and the same where no level has that um/px, as on most
scanners, so that each tile is resampled. Detection: tiles of a square of --region px at 1.0 um/px per second by one
YOLO, ours with reading, quality and suppression, the peers as they are called. Whole slides: the wall time and the CPU
seconds of all threads, and both with the networks, then with reading, replaced by what they gave before. Memory: what
the process holds after each of many slides that it screens one after the other. The sides of a comparison take turns,
--rounds times; their medians are given. A peer that is not installed is not measured. --scaling adds how time grows
with K, with the size of a slide and with the threads that read, and what suppression of a crowd takes; --only without a
word leaves the comparisons out. --name keeps the results of another size beside those that stand.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from engine_peers import (
    CORES,
    IOU,
    MAX_PER_TILE,
    MIN_SCORE,
    MPP,
    TILE,
    Side,
    decoder_alone,
    loop_and_network,
    monai_evaluator,
    peer_weights,
    plain_loop,
    tiatoolbox_engine,
    ultralytics_batches,
    with_fastslide,
    with_sahi,
)
from record import Record, Table, make_parser
from scale import crowds, slope
from slide_speed import slide_of

from stride_monai.guard.allocation import keep_freed_blocks
from stride_monai.guard.memory import memory_in_use
from stride_monai.inferers.judge import decide
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.inferers.tile_quality import measure_tile
from stride_monai.networks.alignment.views import CellViews
from stride_monai.screening.calibration import quantize
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screener
from stride_monai.screening.stages import shares_of
from stride_monai.slides import Slide, Tile, TileGrid, find_foreground, open_slide, stream_tiles
from stride_monai.units import Box

RUNTIMES = ("torch", "openvino", "openvino int8")
WARM_UP = 1  # turns that are not counted
BAG_SIZES = (256, 512, 1024, 2048, 4096, 8192, 16_384)
ODD_MPP = 0.2527  # as scanners have it
EVERY = 5  # slides between two looks at the memory
MARGIN_MM = 0.8  # of a phantom slide beyond its deposit
NOT_INSTALLED = "not measured (not installed)"


def phantom(work: Path, gigapixels: float) -> Path:
    """A slide of about this size at 0.25 um/px, rendered if it is not there yet."""
    return slide_of(work, max(0.2, round(math.sqrt(gigapixels * 1e9) * 0.25 / 1000 - MARGIN_MM, 1)))


def installed(runtime: str) -> bool:
    name, _, precision = runtime.partition(" ")
    return find_spec(name) is not None and (not precision or find_spec("nncf") is not None)


def screener_of(runtime: str, path: Path, work: Path, detector: str = "auto") -> Screener:
    """What screens by a runtime of :data:`RUNTIMES`; in int8, quantized on this slide: whether it still finds and
    decides as well is not asked here (int8.py)."""
    name, _, precision = runtime.partition(" ")
    config = ScreeningConfig(runtime=name, device="cpu", detector=detector)
    if precision:
        home = work / f"engine-int8-{detector}-{path.parents[1].name}"  # each phantom slide has the same name
        quantize(replace(config, runtime="torch"), [SlideInput(path, path.stem)], home / "networks")
        config = replace(config, precision=precision, int8_networks=home)
    return Screener(config)


def take_turns(sides: dict[str, Side], rounds: int, warm_up: int | None = None) -> dict[str, float]:
    """Median seconds of each side."""
    not_counted = WARM_UP if warm_up is None else warm_up
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(not_counted + rounds):
        for name, side in sides.items():
            torch.set_num_threads(CORES)  # a peer may have set another number
            start = time.perf_counter()
            side()
            if turn >= not_counted:
                spent[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


# Reading.


def tiles_of(path: Path) -> list[Tile]:
    with open_slide(path) as slide:
        foreground = find_foreground(slide)
        return [tile for tile in TileGrid(slide.width, slide.height, slide.mpp) if foreground.touches(tile.box)]


def our_reading(
    path: Path, tiles: Sequence[Tile], workers: int, reader: str = "auto", mpp: float | None = None
) -> None:
    with open_slide(path, mpp, reader) as slide:
        for _ in stream_tiles(slide, tiles, MPP, workers):
            pass


def reading(figures: Record, path: Path, rounds: int) -> None:
    tiles, workers = tiles_of(path), CORES
    with open_slide(path) as slide:
        reader = slide.facts.reader
    sides: dict[str, Side] = {
        f"ours (reader {reader}, as chosen)": lambda: our_reading(path, tiles, workers),
        "plain threaded OpenSlide loop": lambda: plain_loop(path, tiles, workers),
        "JPEG decoder alone, same tiles of the file": decoder_alone(path, tiles, workers),
    }
    for other in {"openslide", "tiff"} - {reader}:
        sides[f"ours, reader {other}"] = partial(our_reading, path, tiles, workers, other)
    sides[f"ours, a slide at {ODD_MPP} um/px"] = partial(our_reading, path, tiles, workers, mpp=ODD_MPP)
    if find_spec("cucim"):
        sides["cuCIM"] = lambda: our_reading(path, tiles, workers, "cucim")
    if find_spec("fastslide"):
        sides["fastslide"] = lambda: with_fastslide(path, tiles, workers)
    table = figures.table(
        "reading",
        "tiles/s",
        "CPU ms a tile",
        caption=f"{len(tiles)} tiles of {TILE} px at {MPP} um/px, {workers} threads",
    )
    seconds = spent_by(sides, rounds)
    for name, spent in seconds.items():
        table.row(name, f"{len(tiles) / spent.wall:.0f}", f"{1000 * spent.cpu / len(tiles):.2f}")
    not_installed(table, {"cuCIM": "cucim", "fastslide": "fastslide"})
    ours, loop, alone = list(seconds.values())[:3]
    figures.say(
        f"Reading: {loop.wall / ours.wall:.2f} times the plain loop, {alone.wall / ours.wall:.2f} of the decoder alone;"
        f" by CPU seconds {loop.cpu / ours.cpu:.2f} and {alone.cpu / ours.cpu:.2f}."
    )


def not_installed(table: Table, peers: dict[str, str]) -> None:
    for name, package in peers.items():
        if find_spec(package) is None:
            table.row(name, *[NOT_INSTALLED] * (len(table.columns) - 1))


# Detection.


def detection(figures: Record, path: Path, rounds: int, side: int, work: Path) -> None:
    if find_spec("ultralytics") is None:
        figures.say("Detection beside the peers: not measured, the extra yolo is not installed.")
        return
    detectors = {name: screener_of(name, path, work, "yolo").models.detector for name in RUNTIMES if installed(name)}
    inferer = SlideDetectionInferer(min_score=MIN_SCORE, max_per_tile=MAX_PER_TILE, nms_iou=IOU, workers=CORES)
    with open_slide(path) as slide, tempfile.TemporaryDirectory() as folder:
        half = min(side * MPP / slide.mpp, slide.width, slide.height) / 2
        x, y = slide.width / 2, slide.height / 2
        region = Box(x - half, y - half, x + half, y + half)
        tiles = [t for t in TileGrid(slide.width, slide.height, slide.mpp) if t.box.intersection(region).area > 0]
        network = detectors["torch"]
        weights = peer_weights(network, Path(folder))
        sides: dict[str, Side] = {
            f"ours, {name}": partial(inferer, slide, detector, None, region) for name, detector in detectors.items()
        }
        sides["plain OpenSlide loop, torch in batches"] = lambda: loop_and_network(path, tiles, network)
        sides["MONAI PatchWSIDataset and evaluator"] = lambda: monai_evaluator(path, tiles, network)
        sides["ultralytics' own batches (pixels in memory)"] = ultralytics_batches(weights, slide, tiles)
        if find_spec("sahi"):
            sides["SAHI + ultralytics (pixels in memory)"] = with_sahi(weights, slide, region)
        if find_spec("tiatoolbox"):
            sides["TIAToolbox's patch engine"] = tiatoolbox_engine(path, tiles, network)
        seconds = take_turns(sides, rounds)
    caption = f"{len(tiles)} tiles, the shipped YOLO, {CORES} cores"
    table = figures.table("detection", "tiles/s", "times the slowest", caption=caption)
    slowest = max(seconds.values())
    for name, spent in seconds.items():
        table.row(name, f"{len(tiles) / spent:.1f}", f"{slowest / spent:.1f}")
    not_installed(
        table,
        {
            "ours, openvino": "openvino",
            "ours, openvino int8": "nncf",
            "SAHI + ultralytics": "sahi",
            "TIAToolbox": "tiatoolbox",
        },
    )


# Whole slides.


class Kept:
    """What a function gave, by what it was given; where ``again`` is set it is given once more and not worked out."""

    def __init__(self, function: Callable[..., Any], key: Callable[..., object]) -> None:
        self.function, self.key, self.again = function, key, False
        self.given: dict[object, Any] = {}

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        key = self.key(*arguments, **named)
        if self.again and key in self.given:
            found = self.given[key]
            return found.copy() if isinstance(found, np.ndarray) else found
        found = self.given[key] = self.function(*arguments, **named)
        return found


def content(image: torch.Tensor, *_: object) -> str:
    return hashlib.blake2b(image.contiguous().numpy()).hexdigest()


class Detector:
    """A detector in place of another: only what is called here."""

    def __init__(self, detect: Callable[..., Any]) -> None:
        self.detect = detect


@contextmanager
def kept(screener: Screener) -> Iterator[tuple[list[Kept], list[Kept]]]:
    """What the networks give and what is read, within the block of a screener."""
    models, finder = screener.models, screener.finder
    assert finder is not None
    views = CellViews(models.classifier.encoder, models.explainer.levels)
    found = Kept(finder.detector.detect, content)
    features = Kept(models.features or views.encode, content)
    read = Kept(Slide.read, lambda slide, box, mpp=None: (tuple(box), mpp))
    survey = Kept(Slide.survey, lambda slide, mpp: mpp)
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(finder, "detector", Detector(found)))
        patches.enter_context(mock.patch.object(screener, "models", replace(models, features=features)))
        for name, function in (("read", read), ("survey", survey)):
            patches.enter_context(mock.patch.object(Slide, name, as_method(function)))
        measured = Kept(measure_tile, lambda pixels, *_: content(torch.from_numpy(pixels)))
        patches.enter_context(mock.patch("stride_monai.inferers.slide_detection.measure_tile", measured))
        yield [found, features], [read, survey, measured]


def as_method(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **named: function(*arguments, **named)


class Spent(NamedTuple):
    """Seconds of one side: on the wall, and of all threads together."""

    wall: float
    cpu: float


def whole_slides(figures: Record, path: Path, given: argparse.Namespace) -> None:
    item = SlideInput(path, path.stem)
    with open_slide(path) as slide:
        size = slide.width * slide.height / 1e9
    caption = (
        f"One slide of {size:.2f} Gpx from its file to its findings, tiny profile, {CORES} cores; seconds on the wall, "
        "and CPU seconds of all threads"
    )
    columns = ("seconds", "decoding alone", "networks alone", "wall / the longer of the two", "Mpx/s")
    columns = ("whole slide", *columns, "CPU", "CPU, decoding", "CPU, networks")
    table = figures.table(*columns, caption=caption)
    for detector, runtime in product(given.detectors, given.runtimes):
        name = f"ours, {runtime}" if detector == "auto" else f"ours, {detector}, {runtime}"
        if not installed(runtime):
            table.row(name, *[NOT_INSTALLED] * (len(columns) - 1))
            continue
        screener = screener_of(runtime, path, given.work, detector)
        whole, decoding, networks, stages = of_one_slide(screener, item, given.rounds, given.warm_up)
        ratio = whole.wall / max(decoding.wall, networks.wall)
        walls = (whole.wall, decoding.wall, networks.wall, ratio)
        cpus = (f"{one.cpu:.2f}" for one in (whole, decoding, networks))
        table.row(name, *(f"{value:.2f}" for value in walls), f"{size * 1000 / whole.wall:.0f}", *cpus)
        told = ", ".join(f"{stage} {share:.0%}" for stage, share in shares_of(stages).items())
        figures.say(f"Stages, {name.removeprefix('ours, ')}: {told}.")


def of_one_slide(
    screener: Screener, item: SlideInput, rounds: int, warm_up: int | None
) -> tuple[Spent, Spent, Spent, list[Mapping[str, float]]]:
    """All, decoding alone, and the networks alone; and all by stage, of each turn."""
    with kept(screener) as (networks, pixels):
        screener.screen(item)

        def without(functions: list[Kept]) -> None:
            for function in functions:
                function.again = True
            screener.screen(item)
            for function in functions:
                function.again = False

        apart = spent_by({"decoding": lambda: without(networks), "networks": lambda: without(pixels)}, rounds, warm_up)
    stages: list[Mapping[str, float]] = []
    whole = spent_by({"all": lambda: stages.append(screener.screen(item).seconds)}, rounds, warm_up)["all"]
    return whole, apart["decoding"], apart["networks"], stages


def spent_by(sides: dict[str, Side], rounds: int, warm_up: int | None = None) -> dict[str, Spent]:
    """:func:`take_turns`, with the CPU seconds of each side."""
    used: dict[str, list[float]] = {name: [] for name in sides}

    def timed(name: str) -> None:
        start = time.process_time()
        sides[name]()
        used[name].append(time.process_time() - start)

    walls = take_turns({name: partial(timed, name) for name in sides}, rounds, warm_up)
    return {name: Spent(wall, statistics.median(used[name][-rounds:])) for name, wall in walls.items()}


# Memory.


def memory(figures: Record, given: argparse.Namespace) -> None:
    """What one process holds, slide after slide."""
    runtime = [name for name in given.runtimes if find_spec(name)][-1]
    paths = [phantom(given.work, size) for size in given.sizes[:2]]
    caption = (
        f"One process that screens {given.slides} slides of {given.sizes[0]} Gpx and up in turn, runtime {runtime}"
    )
    table = figures.table("detector", "slides", "memory held, MB", caption=caption)
    for detector in given.detectors:
        screener = Screener(ScreeningConfig(runtime=runtime, device="cpu", detector=detector))
        held = []
        for number in range(1, given.slides + 1):
            path = paths[number % len(paths)]
            screener.screen(SlideInput(path, path.stem))
            held.append((memory_in_use(os.getpid()) or 0) / 1e6)
            if number % EVERY == 0 or number in (1, given.slides):
                table.row(detector, number, f"{held[-1]:.0f}")
        later = held[len(held) // 3 :]
        slope = np.polyfit(range(len(later)), later, 1)[0] if len(later) > 1 else 0.0
        figures.say(f"Memory with {detector}: {slope:+.2f} MB a slide over the last {len(later)} of {len(held)}.")


# Scaling.


def scaling(figures: Record, work: Path, sizes: Sequence[float], boxes: int, rounds: int) -> None:
    runtime = [name for name in RUNTIMES if " " not in name and installed(name)][-1]
    screener = Screener(ScreeningConfig(runtime=runtime, device="cpu"))
    bags(figures, screener, rounds)
    slides(figures, screener, [phantom(work, size) for size in sizes], runtime)
    readers(figures, phantom(work, sizes[-1]), rounds)
    crowds(figures, boxes)


def bags(figures: Record, screener: Screener, rounds: int) -> None:
    """The slide head, its class activation included, on bags of ever more cells."""
    classifier = screener.models.classifier
    table = figures.table("K", "ms", caption="The slide head with class activation, by cells per bag")
    spent = []
    for count in BAG_SIZES:
        features = torch.randn(count, classifier.encoder.feature_dim, generator=torch.Generator().manual_seed(0))
        scores = torch.linspace(1, 0, count, dtype=torch.float64)
        head = partial(decide, features, classifier, count, scores=scores)
        seconds = take_turns({"": head}, rounds)[""]
        spent.append(seconds)
        table.row(count, f"{seconds * 1000:.1f}")
    figures.say(f"The slide head's time grows with K to the power of {slope(BAG_SIZES, spent):.2f}.")


def slides(figures: Record, screener: Screener, paths: Sequence[Path], runtime: str) -> None:
    table = figures.table("Gpx", "tiles", "seconds", "tiles/s", caption=f"Whole slides by size, runtime {runtime}")
    sizes, spent = [], []
    for path in paths[:WARM_UP]:
        screener.screen(SlideInput(path, path.stem))
    for path in paths:
        start = time.perf_counter()
        findings = screener.screen(SlideInput(path, path.stem)).findings
        spent.append(time.perf_counter() - start)
        sizes.append(findings.slide.width * findings.slide.height / 1e9)
        tiles = findings.quality.tiles_read
        table.row(f"{sizes[-1]:.2f}", tiles, f"{spent[-1]:.2f}", f"{tiles / spent[-1]:.0f}")
    if len(paths) > 1:
        figures.say(f"The time of a slide grows with its pixels to the power of {slope(sizes, spent):.2f}.")


def readers(figures: Record, path: Path, rounds: int) -> None:
    tiles, counts = tiles_of(path), sorted({1, 2, CORES, 2 * CORES})
    table = figures.table("reading threads", "tiles/s", caption=f"Reading alone, {len(tiles)} tiles")
    sides: dict[str, Side] = {str(count): partial(our_reading, path, tiles, count) for count in counts}
    for name, seconds in take_turns(sides, rounds).items():
        table.row(name, f"{len(tiles) / seconds:.0f}")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work"))
    parser.add_argument("--gigapixels", type=float, default=0.4, help="of the slide; 2.4 for a full one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, help="turns of whole slides that are not counted; 1")
    parser.add_argument(
        "--region", type=int, default=2048, help="side of the square for the detectors, px at 1.0 um/px"
    )
    parser.add_argument("--detectors", nargs="+", default=["auto"], help="of whole slides")
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), help="of whole slides")
    parser.add_argument("--slides", type=int, default=30, help="that one process screens for its memory")
    parser.add_argument("--name", default="engine", help="of the result")
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS), help="comparisons; all")
    parser.add_argument("--scaling", action="store_true", help="how time grows, too")
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4], help="Gpx, with --scaling")
    parser.add_argument("--boxes", type=int, default=50_000, help="of a crowd, with --scaling")
    arguments = parser.parse_args()
    keep_freed_blocks()  # as the process that screens does
    figures = Record(arguments.name, TITLES.get(arguments.name, f"The slide engine: {arguments.name}"), "engine")
    for name in arguments.only:
        PARTS[name](figures, phantom(arguments.work, arguments.gigapixels), arguments)
    if arguments.scaling:
        scaling(figures, arguments.work, arguments.sizes, arguments.boxes, arguments.rounds)
    figures.write([7])


TITLES = {
    "engine": "The slide engine beside its peers",
    "engine_large": "The slide engine on a large slide",
    "engine_reading": "The slide engine's reading",
    "engine_memory": "The slide engine's memory, slide after slide",
    "engine_scaling": "The slide engine: how time grows",
}
PARTS: dict[str, Callable[[Record, Path, argparse.Namespace], None]] = {
    "reading": lambda figures, path, given: reading(figures, path, given.rounds),
    "detection": lambda figures, path, given: detection(figures, path, given.rounds, given.region, given.work),
    "slides": whole_slides,
    "memory": lambda figures, path, given: memory(figures, given),
}


if __name__ == "__main__":
    main()
