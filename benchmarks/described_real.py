"""What the descriptions say of real cells, whose words nobody has written down: do they go together with the class?

    python benchmarks/described_real.py [--weights aligner.pt]

No public picture comes with the words of the vocabulary, so no description of a real cell can be called right. Some can
be called wrong: "normal cell" of a lesion, a lesion's text of a normal cell or of an organism. The cells:

- crops of liquid-based preparations, which taught nothing here (11 classes, of which organisms and reactions are NILM);
- the labelled nuclei of CRIC, which taught the encoder, and the texts as far as they are NILM or the training was told
  what their classes exclude;
- the best cells of CRIC's fields and of Mendeley's positive fields, as `screen` describes them. The latter taught
  nothing that ships; their cells have no labels, but a cell that is called a lesion and told "normal cell" contradicts
  itself, and one without any text says nothing.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from cric_recall import MPP as CRIC_MPP
from cric_recall import NEGATIVE as NOT_LESIONS
from cric_recall import labeled_nuclei
from descriptions import NORMAL, ROOT, TEXTS, Reader, share
from encoder_probe import CLASSES, DATA, MPP, as_tensor, crops
from record import Record, Table, make_parser
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTIONS_BY_CLASS, NEGATIVE, cell_class_of
from stride_monai.files import sha256_of
from stride_monai.findings import Cell, Findings
from stride_monai.metrics.slide import auc
from stride_monai.slides import crop_around, open_slide

CROP_PX = 128  # of the tiny profile
CLASS_OF = {name: NEGATIVE if group == "organism" else cell_class_of(name) for name, group in CLASSES.items()}
"""Cell class of each folder of crops."""
IS_NORMAL = TEXTS == NORMAL
COLUMNS = ("n", f"told '{NORMAL}'", "told a lesion's text alone", "one of its own class", "told nothing")


def told(kept: np.ndarray, own: np.ndarray) -> list[str]:
    """The columns of cells of which texts ``[n, N]`` are kept, of the classes that list ``own`` ``[n, N]``."""
    normal, anything = kept[:, IS_NORMAL].any(axis=1), kept.any(axis=1)
    parts = (normal, anything & ~normal, (kept & own).any(axis=1), ~anything)
    return [str(len(kept)), *(share(part) for part in parts)]


def listed(classes: Iterable[str]) -> np.ndarray:
    """Which texts the classes list: bool ``[n, N]``."""
    rows = [np.isin(TEXTS, DESCRIPTIONS_BY_CLASS[name]) for name in classes]
    return np.array(rows, bool).reshape(-1, len(TEXTS))


def nuclei(folder: Path, crop_px: int) -> tuple[Tensor, list[str]]:
    """CRIC's labelled nuclei ``[n, 3, S, S]``, and the label of each."""
    images, labels = [], []
    for field, rows in labeled_nuclei(folder).items():
        with open_slide(folder / field, mpp=CRIC_MPP) as slide:
            for label, x, y in rows:
                images.append(crop_around(slide, x, y, crop_px, MPP, own_background=True))
                labels.append(NEGATIVE if label in NOT_LESIONS else label)
    return as_tensor(images), labels


@torch.no_grad()
def labeled(
    where: str, reader: Reader, images: Tensor, labels: Sequence[str], classes: dict[str, str], table: Table
) -> float:
    """Rows of a table: the cells of each label, whose class is given; lesions and others. AUC of the cosine with
    "normal cell", lesions against the others."""
    features = torch.cat([reader.views.encode(part) for part in images.split(64)])
    cosines = reader.aligner(features).numpy()
    kept, own = cosines > reader.threshold, listed(classes[label] for label in labels)
    lesion = np.array([classes[label] != NEGATIVE for label in labels])
    groups = {name: np.array(labels) == name for name in classes}
    for name, mine in (groups | {f"{where}, lesions": lesion, f"{where}, all others": ~lesion}).items():
        table.row(name, *told(kept[mine], own[mine]))
    return auc(-cosines[:, IS_NORMAL][:, 0], lesion)


def screened(fields: list[Path], mpp: float, weights: Path, work: Path) -> list[Cell]:
    """The best cells of fields; each file of weights has a folder of its own."""
    out = work / sha256_of(weights)[:12]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "fields.csv").open("w", newline="") as stream:
        rows = ([f"{field.parent.name}-{field.stem}", field] for field in fields)
        csv.writer(stream).writerows([("slide_id", "path"), *rows])
    words = ["screen", out / "fields.csv", "--out", out / "results", "--mpp", mpp, "--weights", f"text_align={weights}"]
    subprocess.run([sys.executable, "-m", "stride_monai", *map(str, words)], check=True)
    found = [Findings.from_json(path.read_text()) for path in sorted((out / "results").glob("*/findings.json"))]
    return [cell for findings in found for cell in findings.cells]


def rows_of_screened(cells: list[Cell], where: str, table: Table) -> None:
    for name in (*CELL_CLASSES[1:], "any lesion", NEGATIVE):
        mine = [c for c in cells if c.cell_class == name or (name == "any lesion" and c.cell_class != NEGATIVE)]
        kept = np.array([np.isin(TEXTS, [said.text for said in cell.descriptions]) for cell in mine], bool)
        own = listed(cell.cell_class for cell in mine)
        table.row(f"{where}, called {name}", *told(kept.reshape(-1, len(TEXTS)), own))


def positive_fields(lbc: Path) -> list[Path]:
    with (lbc / "fields.csv").open(newline="") as stream:
        return [lbc / row["file"] for row in csv.DictReader(stream) if row["bethesda"] != NEGATIVE]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "tiny.safetensors")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/described_real"))
    arguments = parser.parse_args()
    data, weights, work = (path.absolute() for path in (arguments.data, arguments.weights, arguments.work))
    reader = Reader(weights, None)
    figures = Record("described_real", "What the descriptions say of real cells")
    table = figures.table("cells", *COLUMNS, caption="By their label; crops first, which taught nothing.")
    single = crops(data / "crops", CROP_PX)
    names = [list(CLASSES)[label] for label in single.labels]
    of_crops = labeled("crops", reader, single.images, names, CLASS_OF, table)
    images, labels = nuclei(data / "cric", CROP_PX)
    of_cric = labeled(
        "CRIC", reader, images, labels, {label: cell_class_of(label) for label in sorted(set(labels))}, table
    )
    figures.say(
        f"AUC of the cosine with '{NORMAL}', lesion against the others: crops {of_crops:.3f}, CRIC {of_cric:.3f}."
    )
    table = figures.table("cells", *COLUMNS, caption="The best cells of each field, by the class they are called.")
    fields = sorted((data / "cric" / "images").iterdir())
    rows_of_screened(screened(fields, CRIC_MPP, weights, work / "cric"), "CRIC", table)
    rows_of_screened(screened(positive_fields(data / "lbc"), MPP, weights, work / "lbc"), "Mendeley LBC", table)
    figures.write()


if __name__ == "__main__":
    main()
