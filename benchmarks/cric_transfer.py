"""What makes a detector that was trained on synthetic slides alone find the labelled lesions of real CRIC fields.

    python benchmarks/cric_transfer.py [--row "any laboratory, domain"] [--start scratch] [--iterations 60]

Each row of the table is one way to train, at equal cost: as many fields of 256 um, iterations of 16 tiles and the same
seed. By default every row starts from the weights that ship (or `--weights`) and trains them on; `--start scratch`
needs ten times the iterations. Beside the recall on real fields stands the average precision on synthetic fields that
no row trains on: `odd`, the one-parameter variants of a site (pale, warm, soft, noisy ...) with lesions in crowds, and
`sites`, the twelve sites as they are. Choices are made by those; the real fields judge.
`--checkout` renders the training fields with the generator of another revision of the project.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cric_recall import DATA, Recall, recall
from record import Record, make_parser
from train_weights import found

from stride_monai.networks.ema import EmaModel
from stride_monai.networks.weights import save_weights
from stride_monai.phantom.centres import SITES, VARIANTS
from stride_monai.transforms.tile_augmentation import DetectionAugmentation
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

ROOT = Path(__file__).resolve().parents[1]
BATCH = 16
TRAINING_SITES = ("north", "east", "coast", "harbour", "lake", "desert")
RENDER = """
import sys
from dataclasses import replace
import numpy as np
from stride_monai.phantom import render_field
from stride_monai.phantom.scenes import slide_plan
try:
    from stride_monai.phantom.centres import centre_named
except ImportError:  # the first generator
    from stride_monai.phantom.stain import CENTRES
    centre_named = CENTRES.__getitem__
LABELS = ["LSIL", "HSIL", "ASC-US", "LSIL", "ASC-H", "HSIL", "NILM", "AGC"]
centres, crowding, hard, first, count, path = {centres!r}, {crowding!r}, {hard!r}, {first!r}, {count!r}, {path!r}
if not hard:
    slide_plan._HARD_MIX = dict.fromkeys(slide_plan._HARD_MIX, 1e-9)
images, boxes = [], []
for seed in range(first, first + count):
    name = centres[seed % len(centres)]
    centre = centre_named(name, seed) if name == "any" else centre_named(name)
    if crowding is not None:
        centre = replace(centre, crowding=crowding)
    more = {{"density_per_mm2": centre.density_per_mm2}} if getattr(centre, "density_per_mm2", None) else {{}}
    label = LABELS[(seed // len(centres)) % len(LABELS)]
    pixels, truth = render_field(256, 256, mpp=0.5, label=label, centre=centre, seed=seed, **more)
    images.append(pixels.reshape(256, 2, 256, 2, 3).mean((1, 3)).round().astype(np.uint8))
    lesions = [(seed - first, *(side / 2 for side in cell.box)) for cell in truth.cells if cell.label != "NILM"]
    boxes += lesions
np.savez(path, images=np.array(images), boxes=np.array(boxes, np.float32).reshape(-1, 5))
"""

JUDGED = (42, 36)  # fields of odd laboratories, and of the sites


@dataclass(frozen=True)
class Row:
    """One way to train: where the fields come from and how tiles are augmented."""

    augmentation: str = "domain"
    centres: tuple[str, ...] = ("any",)
    crowding: float | None = None
    hard: bool = True


ROWS = {
    "six sites, weak": Row("weak", TRAINING_SITES),
    "six sites, strong": Row("strong", TRAINING_SITES),
    "six sites, domain": Row("domain", TRAINING_SITES),
    "six sites crowded, domain": Row("domain", TRAINING_SITES, crowding=0.5),
    "any laboratory, weak": Row("weak"),
    "any laboratory, strong": Row("strong"),
    "any laboratory, domain": Row(),
    "any laboratory never crowded, domain": Row(crowding=0.0),
    "any laboratory without hard negatives, domain": Row(hard=False),
    "any laboratory and the sites, domain": Row(centres=tuple(x for site in SITES for x in ("any", site))),
    "one site, domain": Row("domain", ("north",)),
    "three sites, weak": Row("weak", ("north", "east", "coast")),  # which every generator of `--checkout` has
}


@dataclass(frozen=True)
class Fields:
    """Tiles of 1 um/px.

    Attributes:
        images: [n, 256, 256, 3] uint8.
        boxes: of the lesions of each, [m, 4] px.
    """

    images: np.ndarray
    boxes: list[np.ndarray]

    @classmethod
    def load(cls, path: Path) -> Fields:
        with np.load(path) as file:
            images, boxes = file["images"], file["boxes"]
        return cls(images, [boxes[boxes[:, 0] == i, 1:] for i in range(len(images))])


def rendered(path: Path, row: Row, first: int, count: int, checkout: Path = ROOT) -> Fields:
    """Fields of seeds from ``first`` on; what is there already is kept."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"centres": list(row.centres), "crowding": row.crowding, "hard": row.hard}
        code = RENDER.format(**facts, first=first, count=count, path=str(path))
        # From the checkout's own folder: python looks for packages there first.
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        subprocess.run([sys.executable, "-c", code], check=True, cwd=checkout, env=environment)
    return Fields.load(path)


def trained(fields: Fields, augmentation: str, iterations: int, rate: float, seed: int, start: Any) -> torch.nn.Module:
    """The moving average of the tiny detector after so many iterations; the rate falls to nothing."""
    monai_like = np.random.RandomState(seed)
    torch.manual_seed(seed)
    network = start.train()
    average = EmaModel(network, decay=0.98)
    augment = DetectionAugmentation(augmentation).set_random_state(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
    order: list[int] = []
    for iteration in range(iterations):
        if len(order) < BATCH:
            order = monai_like.permutation(len(fields.images)).tolist()
        chosen, order = order[:BATCH], order[BATCH:]
        tiles = [augment(fields.images[i].transpose(2, 0, 1).copy(), fields.boxes[i]) for i in chosen]
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (iteration + 1) / 10) * (1 - iteration / iterations)
        loss, _ = network.training_loss(torch.stack([image for image, _ in tiles]), [boxes for _, boxes in tiles])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        average.update(network)
    return average.module if iterations else network.eval()


def average_precision(network: Any, fields: Fields) -> float:
    """Of the boxes of all fields ranked together; a box is right if it covers half of a lesion that no better one did,
    or lies half in it."""
    ranked = []
    for image, lesions in zip(fields.images, fields.boxes, strict=True):
        tile = torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0)
        (detections,) = network.detect(tile, min_score=1e-5)
        free = np.ones(len(lesions), bool)
        for box, score in zip(detections.boxes.numpy(), detections.scores.tolist(), strict=True):
            hit = np.flatnonzero(free & found(lesions, box[None]))
            free[hit[:1]] = False
            ranked.append((-score, not len(hit)))
    right = np.array([not wrong for _, wrong in sorted(ranked)], float)
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    return float((precision * right).sum() / sum(map(len, fields.boxes)))


def cells_of(result: Recall, odd: float, sites: float) -> list[str]:
    """One row of the table."""
    shares = [result.share("lesion nuclei", k) for k in (16, 64, 256)]
    shares += [result.share("all nuclei", k) for k in (64, 256)]
    cells = [f"{inside:.3f} / {near:.3f}" for inside, near in shares]
    side, boxes = np.median(result.sides or [0.0]), np.mean(result.boxes)
    return [*cells, f"{boxes:.0f}, {side:.0f} um", f"{odd:.3f}", f"{sites:.3f}"]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this; may be given again")
    parser.add_argument("--start", default="weights", choices=["weights", "scratch"])
    parser.add_argument("--weights", type=Path, help="of the tiny detector; by default those that ship")
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument("--fields", type=int, default=120)
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkout", type=Path, help="whose generator renders the training fields")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/transfer"))
    arguments = parser.parse_args()
    work, checkout = arguments.work.resolve(), (arguments.checkout or ROOT).resolve()
    odd = rendered(work / "odd.npz", Row(centres=tuple(VARIANTS), crowding=0.5), 70_000, JUDGED[0])
    sites = rendered(work / "sites.npz", Row(centres=SITES), 80_000, JUDGED[1])
    figures = Record("cric_transfer", "What makes the detector find real cells")
    tops = ("lesions, top 16", "64", "256", "all nuclei, top 64", "256")
    table = figures.table("trained on", *tops, "boxes per field", "odd", "sites")
    names = arguments.row or [f"as it starts ({arguments.start})", *ROWS]
    for name in names:
        began = time.process_time()
        row = ROWS.get(name, Row())
        source = f"{'-'.join(row.centres)}-{row.crowding}-{row.hard}-{arguments.fields}-{checkout.name}.npz"
        iterations = arguments.iterations if name in ROWS else 0
        network = load_bundle_network(bundle_root("detection"), "tiny", weights=arguments.weights).network
        if arguments.start == "scratch":
            network = type(network)(network.name, network.num_classes)
        if iterations:
            fields = rendered(work / source, row, 0, arguments.fields, checkout)
            network = trained(
                fields, row.augmentation, iterations, arguments.rate, arguments.seed, network.requires_grad_(True)
            )
        name += f" ({checkout.name})" * (arguments.checkout is not None)
        target = work / f"{arguments.start}-{iterations}-{arguments.seed}" / f"{name}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        save_weights(target, network.state_dict(), {"profile": "tiny", "made_by": "benchmarks/cric_transfer.py"})
        result = recall(arguments.data, network=network)
        table.row(name, *cells_of(result, average_precision(network, odd), average_precision(network, sites)))
        print(f"{name}: {time.process_time() - began:.0f} s", file=sys.stderr, flush=True)
    figures.write([arguments.seed])


if __name__ == "__main__":
    main()
