"""The detector's score as an input of slide heads: each head with it and without, on bags of real nuclei.

    python benchmarks/score_input.py [--cric ../shared/data/cric] [--seeds 0 1 2]

A bag is 24 labelled nuclei of CRIC, drawn from the fields of one half (seen in training) or of the other (test), as
features of a frozen EfficientNet-Lite0 with ImageNet weights, reduced to 64 principal components of the training half.
Half of the bags are NILM; in the others one to four nuclei are lesions. Scores are drawn: the logit of a lesion's is
`gap` standard deviations higher than that of a NILM nucleus, and bags are ranked by score. So it is known what the
scores tell: nothing (gap 0), or much (gap 2, AUC of a cell 0.92). `score alone` is a head whose features are all 0. A
seed deals fields to halves, draws bags and scores, and starts the heads. Each is kept under `--work`: what is done is
not repeated.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from record import REPOSITORY, Record, make_parser
from torch import Tensor, nn

from stride_monai.files import write_bytes
from stride_monai.losses.dtfd import slide_loss
from stride_monai.metrics.slide import auc
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head, list_slide_heads
from stride_monai.slides import open_slide
from stride_monai.units import Box

CRIC, CRIC_MPP, MPP, PX = REPOSITORY.parent / "shared" / "data" / "cric", 0.228, 0.5, 128
NEGATIVE = "Negative for intraepithelial lesion"
K, LESIONS, COMPONENTS = 24, 4, 64
BAGS = {"train": 320, "validation": 160, "test": 400}
GAPS = (2.0, 0.0)
EPOCHS, BATCH, RATE = 8, 16, 0.002
PICTURE, BOTH, SCORE = "picture", "picture and score", "score alone"
ROWS = [(name, seen) for name in list_slide_heads() for seen in (PICTURE, BOTH)] + [("abmil", SCORE)]
SMALL = {"abmil": {"embed": 64}, "gated_abmil": {"embed": 64}, "dtfd": {"embed": 64}, "transmil": {"embed": 64}}


class Bags(NamedTuple):
    """``[N, K, D]``, ``[N, K]`` and ``[N]``."""

    features: Tensor
    scores: Tensor
    label: Tensor


def nuclei(data: Path, work: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, whether it is a lesion, and the field of every labelled nucleus."""
    path = work / "nuclei.npz"
    if not path.exists():
        encoder = CellClassifier("tf_efficientnet_lite0", pretrained="imagenet").eval()
        points = defaultdict(list)
        with (data / "points.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                place = float(row["nucleus_x"]), float(row["nucleus_y"])
                points[row["image"]].append((*place, row["bethesda_system"] not in {NEGATIVE, "NILM"}))
        features, lesion, field = [], [], []
        for number, (image, found) in enumerate(sorted(points.items())):
            with open_slide(data / image, mpp=CRIC_MPP) as slide:
                crops = [slide.read(Box.around(x, y, PX * MPP / CRIC_MPP), mpp=MPP) for x, y, _ in found]
            with torch.inference_mode():
                features.append(encoder.encode(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)).numpy())
            lesion += [ill for *_, ill in found]
            field += [number] * len(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, features=np.concatenate(features), lesion=lesion, field=field)
    with np.load(path) as file:
        return file["features"], file["lesion"], file["field"]


def halves(lesion: np.ndarray, field: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Which nuclei are of training fields: half of the fields that show a lesion, and of the others."""
    known = np.zeros(len(field), bool)
    ill = np.unique(field[lesion])
    for fields in (ill, np.setdiff1d(field, ill)):
        known |= np.isin(field, draw.permutation(fields)[: (len(fields) + 1) // 2])
    return known


def reduced(features: np.ndarray, known: np.ndarray) -> np.ndarray:
    mean = features[known].mean(0)
    axes = np.linalg.svd(features[known] - mean, full_matrices=False)[2][:COMPONENTS]
    found = (features - mean) @ axes.T
    scaled: np.ndarray = (found / found[known].std(0)).astype(np.float32)
    return scaled


def draw_bags(
    features: np.ndarray, lesion: np.ndarray, there: np.ndarray, count: int, gap: float, draw: np.random.Generator
) -> Bags:
    """Bags of the nuclei ``there``, ranked by scores in which a lesion's logit is ``gap`` deviations higher."""
    normal, ill = np.flatnonzero(there & ~lesion), np.flatnonzero(there & lesion)
    rows = []
    for place in range(count):
        positive = place % 2
        number = int(draw.integers(1, LESIONS + 1)) * positive
        chosen = np.concatenate([draw.choice(ill, number), draw.choice(normal, K - number)])
        logit = draw.normal(-1, 1, K) + gap * lesion[chosen]
        order = np.argsort(-logit)
        rows.append((features[chosen[order]], 1 / (1 + np.exp(-logit[order])), positive))
    cells, scores, label = zip(*rows, strict=True)
    return Bags(torch.from_numpy(np.stack(cells)), torch.tensor(np.array(scores)).float(), torch.tensor(label))


@torch.no_grad()
def area(head: nn.Module, bags: Bags) -> float:
    return auc(head.eval()(bags.features, None, bags.scores)[0].softmax(1)[:, 1].numpy(), bags.label.numpy() > 0)


def trained(name: str, score_input: bool, data: dict[str, Bags], seed: int) -> nn.Module:
    """A head after the epoch that is best on validation bags."""
    torch.manual_seed(seed)
    train = data["train"]
    head = create_slide_head(name, COMPONENTS, num_classes=2, score_input=score_input, **SMALL.get(name, {}))
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    steps = EPOCHS * (len(train.label) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    loss_of, best, kept = slide_loss(head), -1.0, head.state_dict()
    for _ in range(EPOCHS):
        head.train()
        for chosen in torch.randperm(len(train.label)).split(BATCH):
            loss = loss_of(head(train.features[chosen], None, train.scores[chosen])[0], train.label[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        found = area(head, data["validation"])
        if found > best:
            best, kept = found, {key: value.clone() for key, value in head.state_dict().items()}
    head.load_state_dict(kept)
    return head


def unit_file(work: Path, seed: int, gap: float, name: str, seen: str) -> Path:
    return work / "units" / f"{name} {seen} {gap:g} {seed}.json".replace(" ", "_")


def run(seed: int, gap: float, cells: tuple[np.ndarray, np.ndarray, np.ndarray], work: Path) -> None:
    """All heads for one seed and gap, less those that are there."""
    features, lesion, field = cells
    draw = np.random.default_rng(seed)
    known = halves(lesion, field, draw)
    small = reduced(features, known)
    parts = {"train": known, "validation": known, "test": ~known}
    data = {name: draw_bags(small, lesion, there, BAGS[name], gap, draw) for name, there in parts.items()}
    blind = {name: bags._replace(features=torch.zeros_like(bags.features)) for name, bags in data.items()}
    for name, seen in ROWS:
        path = unit_file(work, seed, gap, name, seen)
        if not path.exists():
            used = blind if seen == SCORE else data
            found = area(trained(name, seen != PICTURE, used, seed), used["test"])
            write_bytes(path, json.dumps(found).encode())
            print(seed, gap, name, seen, round(found, 3), flush=True)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--cric", type=Path, default=CRIC)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path(__file__).parent / "work" / "score_input")
    parser.add_argument("--done", action="store_true", help="write what is there, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.done:
        cells = nuclei(options.cric, options.work)
        for seed in options.seeds:
            for gap in GAPS:
                run(seed, gap, cells, options.work)
    record = Record("score_input", "The detector's score as an input of slide heads")
    columns = [f"AUC, gap {gap:g}" for gap in GAPS]
    table = record.table("head", "it sees", *columns, caption="Test bags; mean ± SD over the seeds (their number).")
    for name, seen in ROWS:
        units = [[unit_file(options.work, seed, gap, name, seen) for seed in options.seeds] for gap in GAPS]
        table.row(name, seen, *map(shown, units))
    record.write(seeds=options.seeds)


def shown(paths: list[Path]) -> str:
    values = [json.loads(path.read_text()) for path in paths if path.exists()]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread} ({len(values)})" if values else ""


if __name__ == "__main__":
    main()
