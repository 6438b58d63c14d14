"""Many slides: the index of a run, suppression in crowds, and slides at once.

    python benchmarks/scale.py [--slides 1000 10000 100000] [--boxes 50000] [--workers 1 2] [--nodes 1 2] [--work PLACE]

The index: a run in which no slide costs anything, so that what is left is what a slide costs the run itself; the time
is that of the processor, and the exponent says how the whole grows with the slides. Crowds: the same number of boxes
ever closer together, a tenth of them cut by a tile border. Slides at once: slides that sleep, which shows what the run
adds, and with --work real slides of a phantom cohort, which shows what the machine gives. Nodes (extra ``cluster``):
the same on local Ray clusters of so many nodes, a processor each, and once more with a node killed in the middle.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from record import REPOSITORY, Record, make_parser

from stride_monai.exporters.writers import load_writers
from stride_monai.findings import SlideStatus
from stride_monai.inferers.nms import suppress
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.run_index import Outcome
from stride_monai.runs.runners import Threads
from stride_monai.screening.batch import OneByOne, Tell, run_slides
from stride_monai.screening.cluster import ClusterScreening, Remote
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.crew import Crew, environments
from stride_monai.screening.guarded import Allowance, GuardedScreening
from stride_monai.screening.inputs import SlideInput, collect

SPREADS = ((50_000, 5.0), (500, 50.0), (50, 100.0), (1, 500.0), (1, 100.0), (1, 5.0))
"""Heaps of boxes, and how far they spread, px."""
NAPS, NAP_SECONDS = 16, 0.5
CLUSTER_NAPS, CLUSTER_NAP_SECONDS = 16, 3.0
HELPERS = REPOSITORY / "tests" / "helpers"
REAL_SLIDES, DIAMETER_MM = 4, 1.0


class Free:
    """Screens a slide in no time."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def info(self) -> dict[str, object]:
        return {"weights": {"detection": "0" * 64}}

    def __call__(self, item: SlideInput, on_progress: object) -> Outcome:
        time.sleep(self.seconds)
        stages = {"open": 0.1, "detect": 20.0, "crop": 1.4, "classify": 0.5, "write": 0.2}
        return Outcome(
            item.slide_id, item.path.name, SlideStatus.OK, seconds=30.0, score=0.1, slide_class="NILM", call="negative",
            cells=256, mpp=0.25, mpp_source="metadata", unreadable_regions=0, path=str(item.path), stages=stages,
        )  # fmt: skip


def inputs(folder: Path, count: int) -> list[SlideInput]:
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"slide-{number:07d}.svs").touch()
    return [SlideInput(folder / f"slide-{number:07d}.svs", f"slide-{number:07d}") for number in range(count)]


def index(figures: Record, counts: Sequence[int], work: Path) -> None:
    table = figures.table("slides", "us a slide", "MB of the index", caption="A run that costs nothing but its index")
    spent = []
    for count in counts:
        items, start = inputs(work / f"in-{count}", count), time.process_time()
        run_slides(Free(), items, work / f"out-{count}")
        spent.append(time.process_time() - start)
        size = sum(path.stat().st_size for path in (work / f"out-{count}").iterdir() if path.is_file())
        table.row(f"{count:,}", f"{spent[-1] / count * 1e6:.0f}", f"{size / 1e6:.1f}")
        shutil.rmtree(work / f"in-{count}")
    if len(counts) > 1:
        figures.say(f"The time of a run grows with the slides to the power of {slope(counts, spent):.2f}.")


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def crowds(figures: Record, count: int) -> None:
    caption = f"Suppression of {count:,} boxes of 30 to 60 px, a tenth of them cut"
    table = figures.table("heaps", "spread, px", "stay", "seconds", "peak, MB", caption=caption)
    for heaps, spread in SPREADS:
        random = np.random.default_rng(0)
        centres = random.uniform(0, 100_000, (heaps, 2))[random.integers(0, heaps, count)]
        centres = centres + random.normal(0, spread, centres.shape)
        sizes = random.uniform(30, 60, centres.shape)
        boxes, scores = np.hstack([centres - sizes / 2, centres + sizes / 2]), random.random(count)
        cut = random.random(count) < 0.1
        start = time.process_time()
        stays = suppress(boxes, scores, cut)
        seconds = time.process_time() - start
        tracemalloc.start()
        suppress(boxes, scores, cut)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        tracemalloc.stop()
        table.row(heaps, f"{spread:g}", len(stays), f"{seconds:.2f}", f"{peak:.0f}")


def timed(one: OneByOne, items: Sequence[SlideInput], out: Path, workers: int) -> float:
    start = time.perf_counter()
    outcomes = run_slides(one, items, out, runner=Threads(workers))
    if any(outcome.status is SlideStatus.FAILED for outcome in outcomes):  # small phantoms are unsatisfactory
        raise SystemExit("a slide failed: its time says nothing")
    return time.perf_counter() - start


def at_once(figures: Record, workers: Sequence[int], work: Path, real: Path | None) -> None:
    table = figures.table("work", "at once", "seconds", "times one", caption="Slides at once on one machine")
    kinds: dict[str, Callable[[int], float]] = {f"{NAPS} slides that sleep {NAP_SECONDS:g} s": partial(naps, work)}
    if real is not None:
        kinds[f"{REAL_SLIDES} phantom slides, {DIAMETER_MM:g} mm across"] = partial(slides, work, real)
    for name, run in kinds.items():
        first = None
        for number in workers:
            seconds = run(number)
            first = first or seconds
            table.row(name, number, f"{seconds:.1f}", f"{first / seconds:.2f}")


def naps(work: Path, workers: int) -> float:
    items = inputs(work / f"naps-{workers}", NAPS)
    return timed(Free(NAP_SECONDS), items, work / f"naps-out-{workers}", workers)


def made_slides(real: Path) -> Path:
    if not (real / "slides").is_dir():
        classes = ("NILM", "LSIL", "HSIL", "NILM")
        make_slides(real, CohortDesign(classes=tuple(classes[:REAL_SLIDES]), diameter_mm=DIAMETER_MM, seed=3))
    return real / "slides"


def slides(work: Path, real: Path, workers: int) -> float:
    found = collect([made_slides(real)])
    out, config = work / f"real-{workers}", ScreeningConfig(device="cpu")

    def make(environment: Mapping[str, str]) -> Any:
        return GuardedScreening(config, out, True, partial(load_writers, None), environment=environment)

    with Crew(make, environments(workers, "cpu")) as crew:
        return timed(crew, found, out, workers)


def nodes_at_once(figures: Record, counts: Sequence[int], work: Path, real: Path | None) -> None:
    """A cluster of so many nodes, a processor each; with several, one is killed in the middle of one more run."""
    table = figures.table("work", "nodes", "seconds", "times one", caption="Slides of a local Ray cluster")
    kinds = {f"{CLUSTER_NAPS} slides that sleep {CLUSTER_NAP_SECONDS:g} s": None}
    if real is not None:
        kinds[f"{REAL_SLIDES} phantom slides, {DIAMETER_MM:g} mm across"] = made_slides(real)
    for name, folder in kinds.items():
        first = None
        for count in counts:
            seconds, _ = on_cluster(work / f"nodes-{count}-{folder is None}", count, folder)
            first = first or seconds
            table.row(name, count, f"{seconds:.1f}", f"{first / seconds:.2f}")
    if max(counts) > 1:
        seconds, ended = on_cluster(work / "killed", max(counts), None, kill=True)
        figures.say(
            f"With one of {max(counts)} nodes killed after the first slide of each: {seconds:.1f} s, "
            f"{ended} of {CLUSTER_NAPS} slides screened, each once."
        )


def on_cluster(work: Path, count: int, real: Path | None, kill: bool = False) -> tuple[float, int]:
    """Seconds, and slides that ended well. Every node first screens a slide, so that starting is no part of it."""
    from ray.cluster_utils import Cluster

    target = "stride_monai.screening.worker:worker" if real else "screening_toys:worker"
    (work / "in").mkdir(parents=True)
    items = collect([real]) if real else toys(work / "in", "nap", CLUSTER_NAPS, CLUSTER_NAP_SECONDS)
    os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, sys.path), str(HELPERS)])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ended: dict[str, int] = {}
    try:
        made = [cluster.add_node(num_cpus=1) for _ in range(count)]
        remote = Remote(
            ScreeningConfig(device="cpu"),
            work / "out",
            True,
            partial(load_writers, ["findings"]),
            Allowance(600, 0),
            target,
        )
        with ClusterScreening(remote, cluster.address, on_node=ended.__setitem__) as one:
            warm = items[:count] if real else toys(work / "in", "warm", 2 * count, 1.0)
            run_slides(one, warm, work / "out", runner=Threads(2 * count))
            before, start, victims = dict(ended), time.perf_counter(), made[-1:]

            def done(outcome: Outcome) -> None:
                at_work = [name for name, slides in ended.items() if slides > before.get(name, 0)]
                if kill and victims and len(at_work) == count:
                    cluster.remove_node(victims.pop(), allow_graceful=False)

            outcomes = run_slides(one, items, work / "out", tell=Tell(done=done), runner=Threads(one.slots))
            seconds = time.perf_counter() - start
    finally:
        cluster.shutdown()
    well = {outcome.slide_id for outcome in outcomes if outcome.status is not SlideStatus.FAILED}
    if not len(outcomes) == len(items) == len(well) or (kill and victims):
        raise SystemExit("a slide is missing or failed, or no node was killed: the time says nothing")
    return seconds, len(well)


def toys(folder: Path, name: str, count: int, seconds: float) -> list[SlideInput]:
    items = [SlideInput(folder / f"{name}-{number}.toy", f"{name}-{number}") for number in range(count)]
    for item in items:
        item.path.write_text(f"slow:{seconds}")
    return items


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--slides", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--boxes", type=int, default=50_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nodes", type=int, nargs="*", default=[], help="of local Ray clusters; none without")
    parser.add_argument("--work", type=Path, help="where phantom slides are, or are made; without it only naps")
    words = parser.parse_args()
    figures = Record("scale", "Many slides")
    with tempfile.TemporaryDirectory() as place:
        index(figures, words.slides, Path(place))
        crowds(figures, words.boxes)
        at_once(figures, words.workers, Path(place), words.work)
        if words.nodes:
            nodes_at_once(figures, words.nodes, Path(place), words.work)
    figures.write([0, 3])


if __name__ == "__main__":
    main()
