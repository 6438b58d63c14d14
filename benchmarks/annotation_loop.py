"""The annotation loop with the truth as the annotator: does choosing the cells beat reading them at random?

    python benchmarks/annotation_loop.py [--data ../shared/data] [--only cric] [--seeds 0 1 2] [--rounds 5] [--count 16]

Once for each data set the shipped detector finds the cells of all slides. The slides are split in halves by patient,
anew for each seed: one to annotate, one held out, on which alone is judged. Then each round, as a group would do it:

1. the cells of the slides to annotate are ranked and classified by the present classifier and proposed for review;
2. a strategy (`stride_monai.active_learning`) chooses cells, unreviewed slides first, and the annotator answers with
   the truth, one click a cell; every answer is an action in the store of `stride_monai.annotations`;
3. all answers so far are exported, and the bundle `cell_cls` trains its head on them by its `train.json`, `tiny.json`
   and `head.json`, from the weights of the start, with nothing chosen by the slides held out;
4. the slides held out are ranked and classified anew.

`all cells` reads every proposed cell at once: what annotating can give here at most. The encoder is held, so what it
says of a cell is computed once; that it has not changed is checked after each training. The teacher of `uncertainty` is
the moving average of the heads of all rounds.

Judged are macro-F1 over the classes that occur among the marked cells, and precision among the first 32 cells of a
slide by lesion probability, of slides with a lesion. Real fields are too small for that: all that are held out count as
one slide. Of Mendeley LBC no cell is labelled: a cell counts as what its field is, which is wrong for many of them.

The weights that ship have learnt from all fields of CRIC and the negative ones of LBC, those held out too. `unseen`
begins with a classifier that has seen neither: ImageNet's encoder, its head trained on synthetic cells. The detector is
the shipped one there as well; it decides which cells are proposed, not what they are.

Each round is kept under `--work`, and what is there is not repeated: a run that was stopped goes on.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigWorkflow
from record import Record, make_parser

from stride_monai.active_learning import STRATEGIES, Candidates, propose, reads_of
from stride_monai.annotations import NOT_A_LESION, Action, AnnotationStore, Kind, Proposal, export_cohort, meaning
from stride_monai.bethesda import CELL_CLASSES, NEGATIVE
from stride_monai.data import (
    CellRecord,
    SlideRecord,
    import_dataset,
    read_cells,
    read_manifest,
    split_by_patient,
    write_cells,
    write_manifest,
)
from stride_monai.data.importers import ImportOptions, load_format
from stride_monai.data.ranking import rank_boxes
from stride_monai.data.splits import labels_by_slide
from stride_monai.files import fingerprint, write_bytes
from stride_monai.inferers.cpu import over_crops
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.metrics.cell import class_scores, confusion_matrix
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import load_weights
from stride_monai.phantom.cohorts.cohort import make_slides
from stride_monai.phantom.cohorts.design import CohortDesign
from stride_monai.slides import open_slide
from stride_monai.transforms.topk_patches import TopKCellPatches
from stride_monai.units import Box
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
READER = "truth"
EVERYTHING = "all cells"
TOP = 32
LARGEST_UM = 80.0  # no cell is larger: a box that is shows no single one
FIELDS_OF_A_CLASS = 48  # of Mendeley LBC, which has six times as many negative fields as of others
TEACHER = 0.5  # share of the moving average that the earlier heads keep
PHANTOMS = CohortDesign(
    classes=("NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "AGC") * 4,
    diameter_mm=0.6,
    lesions=12,
    mpp=0.5,
    seed=71,
    all_test=True,
    name="loop",
)
SETTINGS: dict[str, Any] = {}
"""Beside those of head.json, whose learning rate was chosen on synthetic slides by another seed."""
LONG = {"cells_per_epoch": 2048, "learning_rate": 1e-3}
"""Of the training that makes the synthetic start."""
CROP_PX, CROP_MPP = 128, 0.5
Array = np.ndarray


class Start(NamedTuple):
    """What the classifier is before anybody has annotated."""

    weights: Path
    network: CellClassifier


class Head(NamedTuple):
    """The last layer of a cell classifier: float64 ``[C, D]`` and ``[C]``."""

    weight: Array
    bias: Array

    def probabilities(self, features: Array) -> Array:
        logits = features @ self.weight.T + self.bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: Array = odds / odds.sum(axis=1, keepdims=True)
        return found


class Cells(NamedTuple):
    """Cells of several slides: place of each one's slide among the records, boxes ``[n, 4]``, features ``[n, D]``, what
    the truth says of each (a label, or that it is no lesion), and the detector's score."""

    slide: Array
    boxes: Array
    features: Array
    truth: Array
    scores: Array

    def of(self, chosen: Array) -> Cells:
        return Cells(*(column[chosen] for column in self))


class Material(NamedTuple):
    """A data set as the loop meets it.

    Attributes:
        found: the cells that the detector proposes. marked: those that the data set labels, where they are.
        fields: its slides are single fields, judged together.
    """

    name: str
    records: list[SlideRecord]
    found: Cells
    marked: Cells
    fields: bool
    start: Start


# Data sets.


def phantom_cohort(folder: Path, data: Path) -> Path:
    return make_slides(folder, PHANTOMS, max_negatives=40).parent


def cric_cohort(folder: Path, data: Path) -> Path:
    if not (folder / "manifest.csv").exists():
        import_dataset(data / "cric", folder, load_format("cric"), ImportOptions(mpp=0.228))
    return folder


def lbc_cohort(folder: Path, data: Path) -> Path:
    if not (folder / "manifest.csv").exists():
        import_dataset(data / "lbc", folder, load_format("mendeley_lbc"), ImportOptions(mpp=CROP_MPP))
    return folder


class Source(NamedTuple):
    """Where a data set comes from, how many cells of a slide are proposed, and what the classifier starts from."""

    cohort: str
    make: Callable[[Path, Path], Path]
    top_k: int
    fields: bool = True
    start: str = "shipped"


SOURCES = {
    "phantoms": Source("phantoms", phantom_cohort, 64, fields=False),
    "cric": Source("cric", cric_cohort, 64),
    "lbc": Source("lbc", lbc_cohort, 8),
    "cric, unseen": Source("cric", cric_cohort, 64, start="synthetic"),
    "lbc, unseen": Source("lbc", lbc_cohort, 8, start="synthetic"),
}


def start_of(name: str, work: Path) -> Start:
    """The weights that ship; or ImageNet's encoder with a head that knows synthetic cells alone."""
    weights = bundle_root("cell_cls") / "models" / "tiny.safetensors"
    if name == "synthetic":
        weights = work / "synthetic" / "model.pt"
        if not weights.exists():
            cohort = work / "synthetic" / "cohort"
            drawn = phantom_cohort(work / "cohorts" / "phantoms", work)
            write_cells(cohort / "cells.csv", read_cells(drawn / "cells.csv"))
            records = read_manifest(drawn / "manifest.csv")
            write_manifest(cohort / "manifest.csv", [replace(record, split="train") for record in records])
            retrain(cohort, weights.parent / "training", {"pretrained": "imagenet", **LONG}, 0).rename(weights)
    network = load_bundle_network(bundle_root("cell_cls"), "tiny", weights=weights).network
    assert isinstance(network, CellClassifier)
    return Start(weights, network)


def some_fields(records: Sequence[SlideRecord]) -> list[SlideRecord]:
    """At most so many fields of a class, of its groups in turn."""
    groups: dict[str, int] = {}
    turns: list[tuple[int, SlideRecord]] = []
    for record in records:
        groups[record.group] = groups.get(record.group, 0) + 1
        turns.append((groups[record.group], record))
    kept: list[SlideRecord] = []
    for _, record in sorted(turns, key=lambda pair: pair[0]):
        if sum(one.path.parent.name == record.path.parent.name for one in kept) < FIELDS_OF_A_CLASS:
            kept.append(record)
    return sorted(kept, key=lambda record: record.slide_id)


def prepare(name: str, work: Path, data: Path) -> Material:
    """A data set with its cells found and encoded, once."""
    source = SOURCES[name]
    cohort = source.make(work / "cohorts" / source.cohort, data)
    records = read_manifest(cohort / "manifest.csv")
    records = some_fields(records) if source.cohort == "lbc" else records
    cells = read_cells(cohort / "cells.csv") if (cohort / "cells.csv").exists() else []
    start = start_of(source.start, work)
    file = work / "cells" / f"{name}.npz".replace(" ", "-")
    if not file.exists():
        found, marked = encoded(records, cells, source.top_k, start.network)
        file.parent.mkdir(parents=True, exist_ok=True)
        columns = {
            f"{kind}_{part}": column
            for kind, all_ in (("found", found), ("marked", marked))
            for part, column in all_._asdict().items()
        }
        with (file.with_suffix(".part")).open("wb") as stream:
            np.savez(stream, **columns)
        file.with_suffix(".part").replace(file)
    with np.load(file) as kept:
        found, marked = (Cells(*(kept[f"{kind}_{part}"] for part in Cells._fields)) for kind in ("found", "marked"))
    return Material(name, records, found, marked, source.fields, start)


def encoded(
    records: Sequence[SlideRecord], cells: Sequence[CellRecord], top_k: int, network: CellClassifier
) -> tuple[Cells, Cells]:
    """The detector's cells and the labelled ones; where no cell is labelled, each is what its field is."""
    loaded = load_bundle_network(bundle_root("detection"), "tiny", overlays=("fcos", "tiny_fcos"))
    names = ("tile_px", "tile_mpp", "overlap_px", "min_score")
    detect = SlideDetectionInferer(top_k=top_k, **{key: loaded.numbers[key] for key in names})
    found: list[Cells] = []
    marked: list[Cells] = []
    for place, record in enumerate(records):
        mine = [cell for cell in cells if cell.slide_id == record.slide_id and cell.cell_class]
        with open_slide(record.path, mpp=record.mpp) as slide:
            seen = detect(slide, loaded.network)
            boxes = np.asarray(seen.boxes, dtype=np.float64).reshape(-1, 4)[:top_k]
            scores = np.asarray(seen.scores, dtype=np.float64)[:top_k]
            order = rank_boxes(boxes, scores)
            truth = truth_of(boxes, mine, slide.mpp) if cells else [label_of(record)] * len(boxes)
            found.append(cells_at(slide, place, boxes[order], scores[order], np.array(truth)[order], network))
            corners = np.array([cell.box for cell in mine], dtype=np.float64).reshape(-1, 4)
            labels = np.array([cell.label for cell in mine], dtype="<U16")
            marked.append(cells_at(slide, place, corners, np.ones(len(mine)), labels, network))
        print(f"{record.slide_id}: {len(boxes)} cells", flush=True)
    both = [Cells(*(np.concatenate(columns) for columns in zip(*parts, strict=True))) for parts in (found, marked)]
    return both[0], both[1] if cells else both[0]


def label_of(record: SlideRecord) -> str:
    return record.slide_class or NOT_A_LESION


def truth_of(boxes: Array, cells: Sequence[CellRecord], mpp: float) -> list[str]:
    """What an expert sees in each box: the nearest labelled cell whose centre lies in it, else no lesion."""
    answers = []
    for corners in boxes.tolist():
        box = Box(*corners)
        inside = [
            cell for cell in cells if box.x0 <= cell.box.center[0] < box.x1 and box.y0 <= cell.box.center[1] < box.y1
        ]
        small = max(box.width, box.height) * mpp <= LARGEST_UM
        nearest = min(inside, key=lambda cell: float(np.hypot(*np.subtract(cell.box.center, box.center))), default=None)
        answers.append(nearest.label if nearest is not None and small else NOT_A_LESION)
    return answers


def cells_at(slide: Any, place: int, boxes: Array, scores: Array, truth: Array, network: CellClassifier) -> Cells:
    """Cells of one slide with the encoder's features, those that can be decoded."""
    falling = -np.arange(len(boxes), dtype=np.float64)  # keeps the order
    bag = TopKCellPatches(max(len(boxes), 1), CROP_PX, CROP_MPP)(slide, boxes, falling)
    rows = bag.indices[bag.mask].numpy()
    features = over_crops(network.encode, bag.images[bag.mask], torch.device("cpu"), network.feature_dim)
    there = np.full(len(rows), place)
    return Cells(there, boxes[rows], features.double().numpy(), truth[rows].astype("<U16"), scores[rows])


# One round.


def head_of(weights: Path, start: Start) -> Head:
    """The head of a trained classifier.

    Raises:
        RuntimeError: its encoder is not that of the start, so that features are not those of the start either.
    """
    state, _ = load_weights(weights)
    encoder = start.network.encoder.state_dict()
    if any(not torch.equal(state[f"encoder.{name}"].to(value.dtype), value) for name, value in encoder.items()):
        raise RuntimeError(f"{weights}: the encoder was to be held and is another")
    return Head(state["head.weight"].double().numpy(), state["head.bias"].double().numpy())


def first_head(start: Start) -> Head:
    head = start.network.head
    return Head(head.weight.detach().double().numpy(), head.bias.detach().double().numpy())


def teacher_of(heads: Sequence[Head]) -> Head:
    """The moving average of the heads so far."""
    weight, bias = heads[0]
    for head in heads[1:]:
        weight = TEACHER * weight + (1 - TEACHER) * head.weight
        bias = TEACHER * bias + (1 - TEACHER) * head.bias
    return Head(weight, bias)


def lesion(probabilities: Array) -> Array:
    found: Array = 1 - probabilities[:, CELL_CLASSES.index(NEGATIVE)]
    return found


def proposed(store: AnnotationStore, material: Material, pool: Sequence[int], heads: Sequence[Head]) -> Candidates:
    """Screen the slides to annotate with the present classifier, and propose their cells to the readers."""
    named: dict[str, list[Proposal]] = {}
    features: list[Array] = []
    for place in pool:
        record = material.records[place]
        mine = material.found.of(material.found.slide == place)
        probabilities = heads[-1].probabilities(mine.features)
        order = rank_boxes(mine.boxes, lesion(probabilities), mine.scores)
        cells = [
            Proposal("", rank, Box(*box), CELL_CLASSES[int(p.argmax())], tuple(map(float, p)), float(score))
            for rank, (box, p, score) in enumerate(
                zip(mine.boxes[order].tolist(), probabilities[order], mine.scores[order], strict=True), start=1
            )
        ]
        version = f"round-{len(heads) - 1}"
        named[record.slide_id] = store.propose_cells(record.slide_id, cells, version, fingerprint(record.path))
        features.append(mine.features[order])
    known = np.concatenate(features)
    return Candidates.of_proposals(named).seen_by(teacher_of(heads).probabilities(known), known)


def answers_of(material: Material, candidates: Candidates) -> dict[tuple[str, str], str]:
    """Slide and cell id -> what the truth says."""
    place_of = {record.slide_id: place for place, record in enumerate(material.records)}
    truth = {
        (int(slide), *box): str(label)
        for slide, box, label in zip(
            material.found.slide, map(tuple, material.found.boxes.tolist()), material.found.truth, strict=True
        )
    }
    return {
        key: truth[(place_of[key[0]], *box)]
        for key, box in zip(candidates.keys, map(tuple, candidates.boxes.tolist()), strict=True)
    }


def annotate(store: AnnotationStore, version: str, asked: Sequence[tuple[str, str]], answers: dict[Any, str]) -> None:
    """One click a cell; what was answered before a stop is not answered again."""
    states = {slide_id: store.state(slide_id) for slide_id, _ in asked}
    for slide_id, cell_id in asked:
        if READER not in states[slide_id].cells[cell_id].reads:
            label = answers[slide_id, cell_id]
            store.append(Action(READER, slide_id, Kind.LABEL, cell_id, None, label, model_version=version))


def retrain(cohort: Path, out: Path, overrides: dict[str, Any], seed: int) -> Path:
    """``cell_cls`` by its train.json, its head alone; validated once, after the last epoch, on what it learnt from."""
    shutil.rmtree(out, ignore_errors=True)
    root = bundle_root("cell_cls")
    files = [str(root / "configs" / f"{name}.json") for name in ("train", "tiny", "head")]
    places = {"bundle_root": str(root), "dataset_dir": str(cohort), "output_dir": str(out)}
    with quiet():
        made = ConfigWorkflow(
            files, logging_file=False, **places, **{**SETTINGS, **overrides}, val_split="train", seed=seed
        )
        made.initialize()
        made.run()
        made.finalize()
    return out / "model.pt"


@contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


# Judging, on what is held out alone.


def judge(material: Material, held_out: Sequence[int], head: Head) -> dict[str, float]:
    marked = material.marked.of(np.isin(material.marked.slide, held_out))
    labels = np.array([CELL_CLASSES.index(meaning(str(label))) for label in marked.truth])
    called = head.probabilities(marked.features).argmax(axis=1)
    scores = class_scores(confusion_matrix(called, labels, len(CELL_CLASSES)))
    f1 = np.nan_to_num(scores.f1)[scores.support > 0].mean()
    found = material.found.of(np.isin(material.found.slide, held_out))
    ill = np.array([meaning(str(label)) != NEGATIVE for label in found.truth])
    group = np.zeros(len(ill), dtype=int) if material.fields else found.slide
    suspicion = lesion(head.probabilities(found.features))
    return {"f1": float(f1), **precision(suspicion, found.scores, ill, group)}


def precision(suspicion: Array, ties: Array, ill: Array, group: Array) -> dict[str, float]:
    """Share of lesions among the first cells of each group that has one, and the most that it could be; means."""
    reached, possible = [], []
    for one in np.unique(group[ill]):
        mine = group == one
        first = np.lexsort((-ties[mine], -suspicion[mine]))[:TOP]
        reached.append(ill[mine][first].mean())
        possible.append(min(ill[mine].sum(), len(first)) / len(first))
    return {"precision": float(np.mean(reached)), "possible": float(np.mean(possible))}


# Rounds of one strategy and seed.


def halves(material: Material, seed: int) -> tuple[list[int], list[int]]:
    """Places of the slides to annotate, and of those held out."""
    marked = material.marked
    cells = [
        CellRecord(material.records[place].slide_id, str(k), 0, 0, 1, 1, meaning(str(label)))
        for k, (place, label) in enumerate(zip(marked.slide, marked.truth, strict=True))
    ]
    split = split_by_patient(material.records, 0.5, 0.0, seed, labels=labels_by_slide(cells))
    sides = [[k for k, record in enumerate(split) if record.split == name] for name in ("train", "test")]
    return sides[0], sides[1]


def play(material: Material, strategy: str, seed: int, folder: Path, rounds: int, count: int) -> list[dict[str, Any]]:
    """The figures before the first round and after each; rounds that are there are not repeated."""
    pool, held_out = halves(material, seed)
    heads = [first_head(material.start)]
    figures: list[dict[str, Any]] = [{**judge(material, held_out, heads[0]), "clicks": 0, "corrected": 0}]
    folder.mkdir(parents=True, exist_ok=True)
    with AnnotationStore(folder / "annotations.sqlite") as store:
        for number in range(1, rounds + 1):
            place = folder / f"round-{number}"
            done = place / "figures.json"
            if not done.exists():
                began = time.perf_counter()
                head, clicks = one_round(store, material, pool, heads, strategy, seed, place, count)
                figure = {**judge(material, held_out, head), **clicks, "seconds": time.perf_counter() - began}
                write_bytes(
                    done, json.dumps({**figure, "weight": head.weight.tolist(), "bias": head.bias.tolist()}).encode()
                )
            kept = json.loads(done.read_text())
            heads.append(Head(np.array(kept.pop("weight")), np.array(kept.pop("bias"))))
            figures.append(kept)
    return figures


def one_round(
    store: AnnotationStore,
    material: Material,
    pool: Sequence[int],
    heads: Sequence[Head],
    strategy: str,
    seed: int,
    place: Path,
    count: int,
) -> tuple[Head, dict[str, int]]:
    """Propose, choose, answer, export, train."""
    number, version = len(heads), f"round-{len(heads) - 1}"
    candidates = proposed(store, material, pool, heads)
    asked_file = place / "asked.json"
    if not asked_file.exists():
        reads = reads_of(store.state(slide_id) for slide_id in store.slide_ids())
        wanted, how = (len(candidates), "random") if strategy == EVERYTHING else (count, strategy)
        chosen = propose(how, candidates, wanted, seed=1000 * seed + number, reader=READER, reads=reads)
        write_bytes(asked_file, json.dumps([candidates.keys[row] for row in chosen]).encode())
    asked = [(slide_id, cell_id) for slide_id, cell_id in json.loads(asked_file.read_text())]
    answers = answers_of(material, candidates)
    annotate(store, version, asked, answers)
    called = dict(zip(candidates.keys, candidates.probabilities.argmax(axis=1), strict=True))
    wrong = sum(CELL_CLASSES[called[key]] != meaning(answers[key]) for key in asked)
    cohort = place / "cohort"
    records = [replace(material.records[one], split="train") for one in pool]
    export_cohort([store.state(record.slide_id) for record in records], records, cohort, overwrite=True)
    weights = retrain(cohort, place / "training", {"start_from": str(material.start.weights)}, seed)
    head = head_of(weights, material.start)
    shutil.rmtree(place / "training")
    return head, {"clicks": len(store.actions()), "corrected": int(wrong)}


# Tables.


def unit(material: Material, strategy: str, seed: int, options: Any) -> list[dict[str, Any]]:
    folder = options.work / "units" / f"{material.name} {strategy} {seed}".replace(" ", "-")
    alone = strategy == EVERYTHING
    return play(material, strategy, seed, folder, 1 if alone else options.rounds, options.count)


def spread(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


FIGURES = {"f1": "cell F1", "precision": f"precision@{TOP}"}


def write_tables(record: Record, material: Material, played: dict[tuple[str, int], Any], options: Any) -> None:
    """Figures by round, and what each strategy gains over reading at random, seed by seed."""
    seeds = options.seeds
    possible = np.mean([played["random", seed][0]["possible"] for seed in seeds])
    caption = (
        f"{material.name}: {len(material.records)} {'fields' if material.fields else 'slides'}, half of them held out; "
        f"mean ± SD of {len(seeds)} seeds. Precision can be {possible:.3f} at most."
    )
    rounds = [f"round {k}" for k in range(1, options.rounds + 1)]
    table = record.table("strategy", "figure", "before", *rounds, caption=caption)
    for strategy in options.strategies:
        columns = list(zip(*(played[strategy, seed] for seed in seeds), strict=True))
        for key, name in FIGURES.items():
            table.row(strategy, name, *(spread([one[key] for one in column]) for column in columns))
        for key in ("clicks", "corrected"):
            table.row(strategy, key, *(f"{np.mean([one[key] for one in column]):.0f}" for column in columns))
    everything = [played[EVERYTHING, seed][1] for seed in seeds]
    blank = [""] * (options.rounds - 1)
    for key, name in FIGURES.items():
        table.row(EVERYTHING, name, "", *blank, spread([one[key] for one in everything]))
    table.row(EVERYTHING, "clicks", "", *blank, f"{np.mean([one['clicks'] for one in everything]):.0f}")
    caption = f"{material.name}: mean over all rounds less that of `random`, each seed beside the same seed."
    gain = record.table("strategy", *FIGURES.values(), f"seeds of {len(seeds)} ahead in F1", caption=caption)
    for strategy in options.strategies:
        if strategy != "random":
            gained = {
                key: [mean(played[strategy, s], key) - mean(played["random", s], key) for s in seeds] for key in FIGURES
            }
            gain.row(strategy, *(spread(gained[key]) for key in FIGURES), sum(one > 0 for one in gained["f1"]))


def mean(rounds: Sequence[dict[str, Any]], key: str) -> float:
    return float(np.mean([one[key] for one in rounds[1:]]))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "annotation_loop")
    parser.add_argument("--only", nargs="+", default=list(SOURCES), choices=list(SOURCES), metavar="DATA SET")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=16, help="cells of a round")
    options = parser.parse_args()
    options.work = options.work.resolve()
    torch.set_num_threads(1)
    record = Record("annotation_loop", "The annotation loop: which cells to read")
    seconds: list[float] = []
    for name in options.only:
        material = prepare(name, options.work, options.data)
        played = {}
        for seed in options.seeds:
            for strategy in (*options.strategies, EVERYTHING):
                played[strategy, seed] = unit(material, strategy, seed, options)
                last = played[strategy, seed][-1]
                print(name, strategy, seed, {key: round(value, 3) for key, value in last.items()}, flush=True)
                seconds += [one["seconds"] for one in played[strategy, seed][1:] if strategy != EVERYTHING]
        write_tables(record, material, played, options)
    record.say(f"A round took {np.median(seconds):.0f} s at the median, retraining included.")
    record.write(seeds=options.seeds)


if __name__ == "__main__":
    main()
