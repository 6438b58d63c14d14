"""Train the tiny profile of the bundles from ImageNet weights, on synthetic slides and public pictures, and write what
the repository ships.

    make weights        (or: python benchmarks/train_weights.py --real DATA [--work weights-work] [--judge-only])
    python benchmarks/train_weights.py --rehearse --work FOLDER   (all of it at its smallest; nothing here is replaced)

DATA holds two data sets as `docs/public-data.md` says they are downloaded: `cric/` (CRIC Cervix, labelled nuclei) and
`lbc/` (Mendeley LBC, liquid-based fields with one label each), both CC BY 4.0.

Every step is a command that a user could type, and is skipped when its result is there:

1. Render cohorts. `tiles`: small deposits of the presets and of laboratories drawn at random, for the detectors.
   `dense`: small deposits with many lesions on each, of such laboratories, for the cell classifier. `infected`:
   negative ones with many organisms, for it as well. `stripped`: negative ones strewn with naked nuclei, swollen ones
   as large as those of lesions among them, for the default detector, which ranked such nuclei of real smears first.
   `slides`: larger deposits, for the slide head; a third of them is held out. `large`: deposits twice as wide, held out
   as a whole, since among the best cells of a larger deposit more look suspicious.
2. Train the two detectors: the YOLO of the paper (which needs the extra yolo) on `tiles`; the one that needs none from
   ImageNet's weights on `dense`, then on with `stripped` and CRIC among it: the mean of two such trainings and a share
   of what they start from. What the YOLO ranks highest on the negative slides of `dense` and on the negative fields of
   `lbc` is negative by definition and like what the classifier will meet in bags, so these boxes join the labelled
   cells.
3. Train the cell classifier on them and on the labelled nuclei of CRIC, from ImageNet's weights and for a short time:
   longer trainings become better on synthetic cells and worse on real ones (`--left-out` judges this step on CRIC, each
   field by one such training that has not seen it). Three trainings start from the same weights; the mean of theirs,
   its row of NILM fitted anew, is what ships (`cell_recipe.py`).
4. Extract bags from `slides` with the default detector and train the slide head on them, with the encoder held. End to
   end (SWIFT) is left out: it forgot real cells and was no better on synthetic slides (`--end-to-end` repeats that; the
   fields of `lbc` train cells only there, since the look of a field gives its laboratory and so its class away).
   With the other detector extract the bags of the validation slides and set the threshold anew on them.
5. Align the features with descriptions (text_align): of lesions, of normal cells and of organisms that no step before
   has trained on, and of the cells of step 3. The encoder calls nearly all lesions that it has learnt from rightly, and
   fewer of others: by the first alone too few synthetic lesions are told rightly, by the second too few real ones.
   CRIC's lesions have a class and no words: they teach what it excludes, "normal cell" above all, which every other
   real cell is.
6. Judge each detector on the held-out slides, which no step before has trained on: share of the positive cells that are
   found in the top K, and AUC of the slide score.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from cell_recipe import cell_start, fit, mean_of
from record import Record, make_parser
from weights_settings import (
    DEFAULT,
    DETECTOR_SEEDS,
    DETECTORS,
    EVERY_LABORATORY,
    KEPT,
    LESIONS,
    MINER,
    NAKED,
    ORGANISMS,
    REHEARSAL,
    REHEARSED,
    SEEDS,
    SETTINGS,
    Size,
)

import stride_monai
from stride_monai.data.cells import CellRecord, read_cells, write_cells
from stride_monai.data.manifest import SlideRecord, read_manifest, write_manifest
from stride_monai.findings import Findings
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.metrics.detection import box_cover
from stride_monai.metrics.slide import auc
from stride_monai.networks.weights import load_weights, save_weights
from stride_monai.phantom import make_pairs
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.slides import crop_around, open_slide
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root, copy_bundle

NOTE = (
    "The shipped weights were trained on synthetic slides, on ten fields of CRIC Cervix (CC BY 4.0, Rezende et al. "
    "2021) and on 299 negative ones of Mendeley LBC (CC BY 4.0, Hussain et al. 2020), from ImageNet weights."
)
BUNDLES = ("detection", "cell_cls", "swift_mil", "coloradv", "text_align")
REHEARSED_AT = "rehearsed-checkout"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HALVED = 1e-3  # largest difference of a probability that storing weights in 16 bits may make
SLIDES = ("slides", "large")  # cohorts with test slides
MINED = 64  # boxes of each negative slide
HIT_IOS = 0.5  # a truth box counts as found when a top-K box covers at least half of the smaller of the two


def bundle(name: str, *configs: str, **overrides: object) -> None:
    """``python -m monai.bundle run`` with these configurations, in a process of its own."""
    root = bundle_root(name)
    files = [str(root / "configs" / f"{config}.json") for config in configs]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", str(root)]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    print("$", " ".join(command), flush=True)
    subprocess.run(command, check=True)


def command(*words: object) -> None:
    """A command of the package, in a process of its own."""
    line = [sys.executable, "-m", "stride_monai", *map(str, words)]
    print("$", " ".join(line[1:]), flush=True)
    subprocess.run(line, check=True)


def ship(name: str, checkpoint: Path, file: str = "tiny", base: str = "", part: str = "") -> None:
    """A training checkpoint, or a part of it, as half-precision safetensors in the bundle; of a ``base`` only what
    differs from it."""
    models = bundle_root(name) / "models"
    state, _ = load_weights(checkpoint)
    if part:
        state = {key.removeprefix(f"{part}."): value for key, value in state.items() if key.startswith(f"{part}.")}
    metadata = {"profile": "tiny", "note": NOTE, "made_by": "benchmarks/train_weights.py"}
    if base:
        known, _ = load_weights(models / f"{base}.safetensors")
        state = {key: value for key, value in state.items() if not torch.equal(value.to(known[key].dtype), known[key])}
    elif name in {"cell_cls", "swift_mil", "coloradv"}:
        check_halved(name, state)
    save_weights(models / f"{file}.safetensors", state, metadata, half=True)


def check_halved(name: str, state: dict[str, torch.Tensor]) -> None:
    """Refuse to ship weights that say something else in half precision."""
    said = []
    cells = torch.rand(16, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder:
        for half in (False, True):
            file = Path(folder) / f"{half}.safetensors"
            save_weights(file, state, {}, half=half)
            network = load_bundle_network(bundle_root(name), "tiny", weights=file).network
            with torch.inference_mode():
                said.append(network(cells if name == "cell_cls" else cells[None]).softmax(1))
    difference = float((said[0] - said[1]).abs().max())
    print(f"{name}: in half precision probabilities differ by {difference:.1e}", flush=True)
    if difference > HALVED:
        raise SystemExit(f"{name} in half precision differs by {difference:.4f}, {HALVED} is allowed")


def found(truth: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Which truth boxes [n, 4] are covered by a detected box [k, 4]."""
    covered: np.ndarray = box_cover(truth, boxes).max(axis=1, initial=0.0) >= HIT_IOS
    return covered


def judge(cohort: Path, work: Path, detector: str) -> dict[str, str]:
    """Screen the test slides with the shipped weights, as a user would, and compare with the truth."""
    test = [record for record in read_manifest(cohort / "manifest.csv") if record.split == "test"]
    manifest = work / f"test-{cohort.name}.csv"
    with manifest.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["slide_id", "path"])
        writer.writerows([record.slide_id, record.path] for record in test)
    out = work / f"judged-{cohort.name}-{detector}"
    command = [sys.executable, "-m", "stride_monai", "screen", manifest, "--out", out, "--detector", detector]
    subprocess.run(command, check=True)
    cells = [cell for cell in read_cells(cohort / "cells.csv") if cell.cell_class != "NILM"]
    hits: dict[str, list[bool]] = {}
    scores, positive, calls = [], [], []
    for record in test:
        findings = Findings.from_json((out / record.slide_id / "findings.json").read_text())
        boxes = np.array([cell.box for cell in findings.cells]).reshape(-1, 4)
        mine = [cell for cell in cells if cell.slide_id == record.slide_id]
        truth = np.array([(c.x0, c.y0, c.x1, c.y1) for c in mine]).reshape(-1, 4)
        for cell, hit in zip(mine, found(truth, boxes), strict=True):
            hits.setdefault(cell.cell_class, []).append(bool(hit))
        scores.append(findings.score or 0.0)
        positive.append(record.slide_class != "NILM")
        calls.append(findings.call == "positive")
    return {
        "test slides, positive": f"{len(test)}, {np.sum(positive)}",
        "recall of positive cells in the top K": f"{np.mean([h for v in hits.values() for h in v]):.3f}",
        **{f"of {name}": f"{np.mean(v):.3f} of {len(v)}" for name, v in sorted(hits.items())},
        "AUC of the slide score": f"{auc(np.array(scores), np.array(positive)):.3f}",
        "sensitivity": f"{np.mean(np.array(calls)[np.array(positive)]):.3f}",
        "specificity": f"{1 - np.mean(np.array(calls)[~np.array(positive)]):.3f}",
    }


def import_real(work: Path, real: Path) -> list[Path]:
    """The public data sets as cohort folders, all of their images for training."""
    cohorts = []
    for name, form, options in (("cric", "cric", ["--complete"]), ("lbc", "mendeley_lbc", ["--mpp", "0.5"])):
        folder = work / name
        if not (folder / "split.json").exists():
            if not (real / name).is_dir():
                raise SystemExit(f"{real / name} is not there: docs/public-data.md says how to get it")
            command("data", "import", form, real / name, "--out", folder, "--overwrite", *options)
            command("data", "split", folder, "--test", 0, "--validation", 0)
        cohorts.append(folder)
    return cohorts


def join(cohorts: list[Path], out: Path) -> Path:
    if not (out / "import.json").exists():
        command("data", "join", *cohorts, "--out", out, "--overwrite")
    return out


def mine_negatives(cells: Path, mined: Path) -> Path:
    """`cells` again, with the best boxes of the detector on its negative slides and fields as further NILM cells."""
    if (mined / "manifest.csv").exists():
        return mined
    loaded = load_bundle_network(bundle_root("detection"), "tiny", overlays=DETECTORS[MINER])
    detect = SlideDetectionInferer(overlap_px=loaded.numbers["overlap_px"], top_k=MINED)
    records = read_manifest(cells / "manifest.csv")
    found: list[CellRecord] = []
    for record in records:
        if record.slide_class == "NILM":
            with open_slide(record.path, mpp=record.mpp) as slide:
                boxes = detect(slide, loaded.network).boxes
            found += [CellRecord(record.slide_id, f"mined-{i}", *box, "NILM") for i, box in enumerate(boxes)]
    write_cells(mined / "cells.csv", [*read_cells(cells / "cells.csv"), *found])
    write_manifest(mined / "manifest.csv", records)
    return mined


def render(folder: Path, labels: list[str], max_negatives: int = 200, **design: Any) -> None:
    if not (folder / "manifest.csv").exists():
        make_slides(folder, CohortDesign(classes=tuple(labels), **design), workers=2, max_negatives=max_negatives)


def train(name: str, step: str, folder: Path, overlays: tuple[str, ...] = (), **more: object) -> Path:
    """Train a bundle with the settings of a step, unless its checkpoint is there; an interrupted one goes on."""
    checkpoint = folder / "model.pt"
    if not checkpoint.exists():
        last = folder / "last.pt"
        resume = {"resume": last} if last.exists() else {}
        bundle(name, "train", "tiny", *overlays, output_dir=folder, **resume, **{**SETTINGS[step], **more})
    return checkpoint


def train_detectors(work: Path, tiles: Path, dense: Path, stripped: Path, cric: Path) -> None:
    """The YOLO on `tiles`. The other from ImageNet on `dense`, then with `stripped` and CRIC among it."""
    ship("detection", train("detection", "detection", work / "detection-yolo", dataset_dir=tiles), "tiny")
    train("detection", "tiles", work / "detection-fcos", DETECTORS["fcos"], dataset_dir=dense)
    joined = join([dense, stripped, cric], work / "tiles_and_cric")
    ship("detection", train_real_detector(work, joined, work / "real_detection-fcos"), "tiny_fcos")


def train_real_detector(work: Path, cohort: Path, out: Path) -> Path:
    """`detection-fcos` trained on with nuclei of CRIC: the mean of some trainings and a little of their start."""
    start = work / "detection-fcos" / "model.pt"
    data = {"start_from": start, "dataset_dir": cohort}
    members = [
        train("detection", "real_tiles", out / str(seed), DETECTORS["fcos"], seed=seed, **data)
        for seed in DETECTOR_SEEDS
    ]
    return mean_of(members, out / "model.pt", start, KEPT)


def bag_size() -> int:
    """K of the tiny profile."""
    size: int = json.loads((bundle_root("swift_mil") / "configs" / "tiny.json").read_text())["top_k"]
    return size


def train_cells(work: Path, joined: Path, cells: Path) -> Path:
    """The mean of some trainings, its row of NILM fitted."""
    out = work / "cells"
    start = {"start_from": cell_start(out / "start.pt"), "dataset_dir": cells}
    members = [train("cell_cls", "cells", work / f"cells-{seed}", seed=seed, **start) for seed in SEEDS]
    return fit(joined, mean_of(members, out / "model.pt"), out / "fitted.pt")


def extract_bags(work: Path, cohort: Path, detector: str, splits: tuple[str, ...], name: str = "") -> Path:
    folder, top_k = work / f"bags-{name or detector}", bag_size()
    for split in splits:
        run = {"dataset_dir": cohort, "split": split, "output_dir": folder, "overwrite": False, "rerank": True}
        bundle("detection", "inference", "tiny", *DETECTORS[detector], top_k=top_k, **run)
    return folder


def train_slides(work: Path, slides: Path) -> None:
    """The head on bags of the default detector; the threshold of each detector."""
    bags = extract_bags(work, slides, DEFAULT, ("train", "validation"))
    start = {"init_weights": work / "cells" / "fitted.pt", "dataset_dir": slides, "bag_dir": bags}
    head = train("swift_mil", "slide_head", work / "slide_head", ("two_stage",), **start)
    others = extract_bags(work, slides, MINER, ("validation",))
    out = work / f"slide_head-{MINER}"
    run = {"dataset_dir": slides, "bag_dir": others, "output_dir": out, "weights": head}
    bundle("swift_mil", "train", "tiny", "evaluate", "calibrate", **run)
    ship("swift_mil", out / "calibrated.pt")
    ship("swift_mil", head, f"tiny_{DEFAULT}", base="tiny")


def train_words(work: Path, cells: Path, seed: int, size: Size) -> None:
    """Descriptions of cells, and of pairs of cells that differ by one property.

    On the encoder as it ships, in half precision, whose hash the weights keep.
    """
    make_pairs(work / "pairs", size.pairs, seed=3_000_000, crop_px=128)
    encoder = bundle_root("cell_cls") / "models" / "tiny.safetensors"
    told = cells_with_words(work, cells, seed, size)
    data = {"dataset_dir": told, "pair_dir": work / "pairs", "init_weights": encoder, "init_part": ""}
    ship("text_align", train("text_align", "text_align", work / "text_align", **data))


def cells_with_words(work: Path, cells: Path, seed: int, size: Size) -> Path:
    """Cells that the encoder has not learnt from, crowded on small deposits; and those that it has, of which `known`
    are the slides with lesions."""
    lesions, normal, organisms = (work / f"words_{name}" for name in ("lesions", "normal", "organisms"))
    small: dict[str, Any] = {"diameter_mm": size.deposit_mm, "test_fraction": 0.0, "centres": EVERY_LABORATORY}
    many = {"lesions": size.word_lesions, "name": "lesions"}
    render(lesions, LESIONS * size.word_deposits, max_negatives=10, seed=seed + 4, **small, **many)
    render(normal, ["NILM"] * 3 * size.word_deposits, max_negatives=300, seed=seed + 5, name="normal", **small)
    crowd = {"crowd_per_mm2": ORGANISMS, "name": "organisms"}
    render(organisms, ["NILM"] * 2 * size.deposits, max_negatives=300, seed=seed + 6, **small, **crowd)
    records, marked = read_manifest(cells / "manifest.csv"), read_cells(cells / "cells.csv")
    worded = {cell.slide_id for cell in marked if cell.descriptions and cell.cell_class != "NILM"}
    told = [replace(record, source="known") if record.slide_id in worded else record for record in records]
    return join([lesions, normal, organisms, cohort_of(work / "words_taught", told, marked)], work / "words")


def cohort_of(out: Path, records: list[SlideRecord], cells: list[CellRecord]) -> Path:
    """A cohort folder of these slides and cells."""
    if not (out / "manifest.csv").exists():
        write_cells(out / "cells.csv", cells)
        write_manifest(out / "manifest.csv", records)
    return out


def train_end_to_end(work: Path, slides: Path, fields: Path, cells: Path) -> None:
    """SWIFT from the slide head on; not shipped."""
    bags = extract_bags(work, fields, DEFAULT, ("train",))
    data = {"dataset_dir": join([slides, fields], work / "slides_and_fields"), "bag_dir": bags, "cell_dir": cells}
    train("swift_mil", "swift", work / "swift_mil", start_from=work / "slide_head" / "model.pt", **data)


def make(work: Path, real: Path, seed: int, size: Size, keep_detectors: bool) -> None:
    """Every step whose result is not there yet; of the detectors none if they are kept."""
    tiles, dense, infected, stripped = (work / name for name in ("tiles", "dense", "infected", "stripped"))
    slides, large = (work / name for name in SLIDES)
    small: dict[str, Any] = {"diameter_mm": size.deposit_mm, "seed": seed, "test_fraction": 0.0, "max_negatives": 40}
    labels = ["NILM", *LESIONS, "NILM"]
    if not keep_detectors:
        render(tiles, labels * size.deposits, lesions=12, mpp=0.5, centres=EVERY_LABORATORY, **small)
    render(dense, labels * size.deposits, lesions=30, centres=EVERY_LABORATORY, **small)
    crowd = {"crowd_per_mm2": ORGANISMS, "name": "infected", "seed": seed + 2, "max_negatives": 300}
    render(infected, ["NILM"] * 2 * size.deposits, centres=EVERY_LABORATORY, **(small | crowd))
    labels = ["NILM"] * 5 + LESIONS
    render(slides, labels * size.slides, diameter_mm=size.slide_mm, seed=seed + 1, test_fraction=0.3)
    render(large, labels * size.large, diameter_mm=size.large_mm, seed=seed + 3, name="large", all_test=True)
    cric, fields = import_real(work, real)
    if keep_detectors:
        for file in ("tiny", "tiny_fcos"):
            ship("detection", bundle_root("detection") / "models" / f"{file}.safetensors", file)
    else:
        naked = {"crowd_per_mm2": NAKED, "name": "stripped", "seed": seed + 8}
        render(stripped, ["NILM"] * 2 * size.deposits, centres=EVERY_LABORATORY, **(small | naked))
        train_detectors(work, tiles, dense, stripped, cric)
    joined = join([dense, infected, cric, fields], work / "joined")
    cells = mine_negatives(joined, work / "mined")
    ship("cell_cls", train_cells(work, joined, cells))
    train_slides(work, slides)
    train_words(work, cells, seed, size)


def rehearse(work: Path, words: Sequence[str]) -> None:
    """This script again, on a copy of the bundles below `work`, which alone is replaced."""
    home = work / REHEARSED_AT
    for name in BUNDLES:
        if not (home / "bundles" / name).exists():
            copy_bundle(name, home / "bundles")
    if not (home / "stride_monai").exists():
        (home / "stride_monai").symlink_to(Path(stride_monai.__file__).parent, target_is_directory=True)
    # `python -m` takes packages of the folder that it stands in first.
    surroundings = {**os.environ, "PYTHONPATH": str(home)}
    subprocess.run([sys.executable, Path(__file__).resolve(), *words], check=True, cwd=home, env=surroundings)


def without(cohort: Path, held: set[str], out: Path) -> Path:
    """The cohort without some slides."""
    cells = [cell for cell in read_cells(cohort / "cells.csv") if cell.slide_id not in held]
    return cohort_of(out, [r for r in read_manifest(cohort / "manifest.csv") if r.slide_id not in held], cells)


def left_out(work: Path, joined: Path, cells: Path, folds: int = 5) -> None:
    """Each field of CRIC judged by a cell classifier that has seen the others: step 3 again for each fold."""
    records, marked = read_manifest(cells / "manifest.csv"), read_cells(cells / "cells.csv")
    fields = [record for record in records if record.source == "cric"]
    scores: dict[str, float] = {}
    truth: dict[str, bool] = {}
    each = []
    for fold in range(folds):
        held = {field.slide_id for field in fields[fold::folds]}
        folder, mine = work / f"left_out-{fold}", [cell for cell in marked if cell.slide_id in held]
        seen, known = (without(of, held, folder / name) for of, name in ((cells, "cells"), (joined, "joined")))
        trained = train("cell_cls", "cells", folder, dataset_dir=seen)
        found = lesion_scores(fit(known, trained, folder / "fitted.pt"), mine, fields)
        positive = {cell_key(cell): cell.cell_class != "NILM" for cell in mine}
        if len(set(positive.values())) == 2:
            each.append(f"{auc(*(np.array([part[key] for key in found]) for part in (found, positive))):.3f}")
        scores, truth = scores | found, truth | positive
    figures = Record("left_out_fields", "CRIC fields judged by classifiers that have not seen them")
    table = figures.table("nuclei", "lesions", "AUC lesion against NILM", "of each fold")
    pooled = auc(*(np.array([part[key] for key in scores]) for part in (scores, truth)))
    table.row(len(scores), sum(truth.values()), pooled, ", ".join(each))
    figures.say(
        f"{folds} folds of whole fields; step 3 of train_weights.py is trained again for each. Scores of all fields "
        "are pooled. A fold without lesions or without NILM nuclei has no figure of its own."
    )
    figures.write([0])


def cell_key(cell: CellRecord) -> str:
    return f"{cell.slide_id}/{cell.cell_id}"


def lesion_scores(weights: Path, cells: list[CellRecord], fields: list[SlideRecord]) -> dict[str, float]:
    """1 - P(NILM) of cells on fields."""
    loaded = load_bundle_network(bundle_root("cell_cls"), "tiny", weights=weights)
    crop_px, crop_mpp = loaded.numbers["crop_px"], loaded.numbers["crop_mpp"]
    found = {}
    for field in fields:
        mine = [cell for cell in cells if cell.slide_id == field.slide_id]
        if not mine:
            continue
        with open_slide(field.path, mpp=field.mpp) as slide:
            crops = [
                crop_around(slide, (c.x0 + c.x1) / 2, (c.y0 + c.y1) / 2, crop_px, crop_mpp, own_background=True)
                for c in mine
            ]
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            probabilities = loaded.network(images).softmax(1)
        found |= dict(zip(map(cell_key, mine), (1 - probabilities[:, 0]).tolist(), strict=True))
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--real", type=Path, default=DATA, help="folder with cric/ and lbc/")
    parser.add_argument("--work", type=Path, default=Path("weights-work"))
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="go the whole way at its smallest, in minutes, on a copy of the bundles in the work folder",
    )
    parser.add_argument("--keep-detectors", action="store_true", help="train all but the detectors, which stay")
    parser.add_argument("--judge-only", action="store_true", help="measure the weights that are there")
    parser.add_argument("--end-to-end", action="store_true", help="train SWIFT from what is there; nothing is shipped")
    parser.add_argument("--left-out", action="store_true", help="judge CRIC's fields by what has not seen them")
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    if arguments.rehearse and not bundle_root(BUNDLES[0]).is_relative_to(work / REHEARSED_AT):
        places = {"--real": arguments.real.absolute(), "--work": work, "--seed": arguments.seed}
        rehearse(work, ["--rehearse", *(str(word) for pair in places.items() for word in pair)])
        return
    if arguments.rehearse:
        for step, options in REHEARSED.items():
            SETTINGS[step] |= options
    if arguments.left_out:
        left_out(work, work / "joined", work / "mined")
        return
    if arguments.end_to_end:
        train_end_to_end(work, *(work / name for name in ("slides", "lbc", "mined")))
        return
    if not arguments.judge_only:
        size = REHEARSAL if arguments.rehearse else Size()
        make(work, arguments.real.absolute(), arguments.seed, size, arguments.keep_detectors)
    judged = {f"{detector}, {name}": judge(work / name, work, detector) for name in SLIDES for detector in DETECTORS}
    figures = Record("train_weights", "Shipped weights on held-out synthetic slides")
    table = figures.table("", *judged)
    for name in next(iter(judged.values())):
        table.row(name, *(found.get(name, "-") for found in judged.values()))
    figures.say(f"Deposits of {Size().slide_mm:g} mm (slides) and of {Size().large_mm:g} mm (large).")
    figures.write([arguments.seed], work if arguments.rehearse else None)


if __name__ == "__main__":
    main()
