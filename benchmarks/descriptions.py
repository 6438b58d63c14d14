"""Are the shipped descriptions right? Judged once on held-out synthetic cells, and on cells with one property changed.

    python benchmarks/descriptions.py --data weights-work/slides [--work benchmarks/work/descriptions] [--pairs 100]

`--data` is the cohort `slides` of benchmarks/train_weights.py. Its test slides, which no step of that script trains on
or tunes with, are judged by the bundle text_align's evaluate.json: each text, the whole sets, and the cells of which
the class is mistaken. "normal cell" is most of the cells and flatters a micro F1, so that figure is given without it
too.

The counterfactual pairs (stride_monai/phantom/counterfactual.py) are cells that no cohort holds, at the centres of the
test slides, through their JPEG. A text that is read off the cell follows the property that was changed and nothing
else; a text that is read off the class stays with the class. Whether the frozen features hold the property at all is
asked of a linear probe: fitted on half of the pairs, does it rank the two cells of a pair of the other half rightly?
Nothing is chosen on either set.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from record import Record, make_parser
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from train_weights import bundle

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTION_VOCABULARY, description_targets
from stride_monai.data.manifest import read_manifest
from stride_monai.files import replacing, sha256_of
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.alignment.views import CellViews
from stride_monai.networks.weights import load_into
from stride_monai.phantom.cohorts.cohort import DRAWING
from stride_monai.phantom.counterfactual import PROPERTIES
from stride_monai.phantom.pairs import draw_pairs
from stride_monai.workflows.locate import bundle_root

ROOT = bundle_root("text_align")
BAR = 0.85  # of the micro F1 on held-out cells
NORMAL = "normal cell"
FIRST_SEED = 700_000
TEXTS = np.array(DESCRIPTION_VOCABULARY)
Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]


# Held-out cells


def micro_f1(rows: dict[str, Any]) -> float:
    """Of some texts of the report: hits are recall x cells, a whole number."""
    hits = sum(round((row["recall"] or 0) * row["cells"]) for row in rows.values())
    return 2 * hits / sum(row["kept"] + row["cells"] for row in rows.values())


def show_report(report: dict[str, Any], figures: Record) -> None:
    texts: dict[str, Any] = report["descriptions"]
    ranked = sorted((name for name in texts if texts[name]["cells"]), key=lambda name: -(texts[name]["f1"] or 0))
    caption = f"{report['cells']:,} cells of the split {report['split']}, threshold {report['threshold']:.4f}."
    names = ("description", "cells", "kept", "precision", "recall", "F1", "AP")
    table = figures.table(*names, caption=caption)
    for name in ranked:
        row = texts[name]
        values = (f"{row[key]:.3f}" if row[key] is not None else "-" for key in ("precision", "recall", "f1"))
        table.row(name, f"{row['cells']:,}", f"{row['kept']:,}", *values, f"{row['average_precision']:.3f}")
    absent = [name for name in texts if name not in ranked]
    figures.say(f"Not on these cells: {'; '.join(absent) or 'none'}.")
    others = {name: row for name, row in texts.items() if name != NORMAL}
    micro = report["micro"]["f1"]
    figures.say(
        f"Micro F1 {micro:.4f} (bar {BAR}: {'met' if micro >= BAR else 'MISSED'}); without '{NORMAL}' "
        f"{micro_f1(others):.4f}; macro F1 {report['macro']['f1']:.4f}; "
        f"mean AP {report['macro']['average_precision']:.4f}."
    )
    names = ("cells", "number", "micro F1", "exact set", "texts fit the predicted class", "silent")
    table = figures.table(*names)
    parts = {"all": report, **{name: report["classes"][name] for name in CELL_CLASSES}}
    parts |= {"predicted class right": report["right_class"], "predicted class wrong": report["wrong_class"]}
    for name, part in parts.items():
        agreed = part["class_agreement"]
        values = (part["micro"]["f1"], part["exact_match"], agreed["texts"], agreed["silent"])
        table.row(name, f"{part['cells']:,}", *("-" if value is None else f"{value:.3f}" for value in values))
    figures.say(f"Retrieval: {report['retrieval']}.")


def judge_cells(data: Path, out: Path, weights: Path, encoder: Path | None, figures: Record) -> None:
    path = out / "description_report.json"
    if not path.exists():
        given = {"dataset_dir": data, "output_dir": out, "weights": weights}
        bundle("text_align", "train", "tiny", "evaluate", **given, **({"init_weights": encoder} if encoder else {}))
    show_report(json.loads(path.read_text()), figures)


# Counterfactual pairs


class Pairs(NamedTuple):
    """Pairs of one property.

    Attributes:
        crops: ``[n, 2, H, W, 3]`` uint8, the original and the changed cell.
        truth: ``[n, 2, N]``, which texts describe them.
    """

    crops: NDArray[np.uint8]
    truth: Bools


class Cosines(NamedTuple):
    """What is found of pairs.

    Attributes:
        before, after: cosines ``[n, N]`` of the original and of the changed cells.
        called: classes ``[n, 2]`` that the encoder's own head gives them.
        probed: ``[n]``, whether a linear probe on the features ranks the pair rightly.
    """

    before: Floats
    after: Floats
    called: NDArray[np.int64]
    probed: Bools


def rendered(name: str, number: int, centres: list[str], crop_px: int, crop_mpp: float, work: Path) -> Pairs:
    """The pairs of a property; kept in a file, for they are slow to draw."""
    path = work / "pairs" / f"{name}-{number}-{crop_px}-{DRAWING}.npz"
    if not path.exists():
        found = list(draw_pairs(name, number, centres, FIRST_SEED, crop_px, crop_mpp))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                crops=np.array([(pair.original, pair.changed) for pair in found]),
                truth=np.array([[description_targets(t.descriptions) for t in pair.truths] for pair in found], bool),
            )
    with np.load(path) as file:
        return Pairs(file["crops"], file["truth"])


class Reader:
    """The aligner on its image encoder, as inference.json builds them with the tiny profile."""

    def __init__(self, weights: Path, encoder: Path | None) -> None:
        parser = ConfigParser()
        parser.read_config([str(ROOT / "configs" / f"{name}.json") for name in ("inference", "tiny")])
        parser["bundle_root"] = str(ROOT)
        if encoder:
            parser["init_weights"] = str(encoder)
        parser.get_parsed_content("load_init")
        self.encoder = parser.get_parsed_content("encoder").eval()
        self.aligner: DescriptionAligner = parser.get_parsed_content("network_def").eval()
        load_into(self.aligner, weights)
        self.aligner.check_encoder(self.encoder)
        self.views = CellViews(self.encoder, self.aligner.levels)
        self.threshold = float(self.aligner.threshold)

    @torch.no_grad()
    def __call__(self, pairs: Pairs) -> Cosines:
        crops = torch.from_numpy(pairs.crops.reshape(-1, *pairs.crops.shape[2:])).permute(0, 3, 1, 2)
        features = torch.cat([self.views.encode(part) for part in crops.split(64)])
        found = self.aligner(features).numpy().reshape(len(pairs.crops), 2, -1)
        called = self.encoder.head(features[:, : self.encoder.feature_dim]).argmax(dim=1).numpy().reshape(-1, 2)
        return Cosines(found[:, 0], found[:, 1], called, probe(features.reshape(len(pairs.crops), 2, -1).double()))


def probe(features: Tensor, penalty: float = 100.0) -> Bools:
    """Logistic regression, original against changed, of features ``[n, 2, D]``: each half judged by the other's fit."""
    right = np.zeros(len(features), bool)
    for judged in (np.arange(len(features)) % 2 == half for half in (0, 1)):
        fitted = features[~judged].flatten(0, 1)
        mean, spread = fitted.mean(0), fitted.std(0).clamp(min=1e-6)
        inputs, target = (fitted - mean) / spread, torch.tensor([1.0, 0.0]).double().repeat(len(fitted) // 2)
        weight = torch.zeros(features.shape[2], dtype=torch.float64, requires_grad=True)
        fit = torch.optim.LBFGS([weight], max_iter=200)

        def loss() -> Tensor:
            fit.zero_grad()  # noqa: B023
            likelihood = binary_cross_entropy_with_logits(inputs @ weight, target, reduction="sum")  # noqa: B023
            value = likelihood + penalty / 2 * weight.square().sum()  # noqa: B023
            value.backward()
            return value

        with torch.enable_grad():
            fit.step(loss)
        scores = ((features[judged] - mean) / spread) @ weight.detach()
        right[judged] = (scores[:, 0] > scores[:, 1]).numpy()
    return right


def of_truth(pairs: Pairs) -> Cosines:
    """What a reader that makes no mistake would find."""
    n = len(pairs.truth)
    return Cosines(*pairs.truth.swapaxes(0, 1).astype(float), np.zeros((n, 2), np.int64), np.ones(n, bool))


class Rates(NamedTuple):
    """Of the pairs of a property, bool ``[n]`` each, and shifts of the cosine ``[n]``.

    Attributes:
        exact: the kept texts change by exactly the expected ones.
        flips: the expected texts go and come, whatever else does; where none is expected, all pairs.
        same: the kept texts stay as they are.
        read: of the original, the expected texts were kept or not kept as the truth has it.
        own: by how much the cosine of the expected texts moves the right way, on average over them.
        others: by how much that of the others moves, either way, on average.
        first: of all texts, an expected one moves its way the farthest.
        recalled: the class that the encoder's head calls changes.
        probed: a linear probe on the features ranks the pair rightly; chance is a half.
    """

    exact: Bools
    flips: Bools
    same: Bools
    read: Bools
    own: Floats
    others: Floats
    first: Bools
    recalled: Bools
    probed: Bools


def rates(name: str, cosines: Cosines, threshold: float) -> Rates:
    what = PROPERTIES[name]
    lost, gained = np.isin(TEXTS, list(what.lost)), np.isin(TEXTS, list(what.gained))
    before, after = cosines.before > threshold, cosines.after > threshold
    gone, come = before & ~after, after & ~before
    # The control must change no text; what is watched is the text of the halo.
    watched = np.isin(TEXTS, list(PROPERTIES["halo"].lost)) if not (lost | gained).any() else lost | gained
    moved = (cosines.before - cosines.after) * np.where(gained, -1.0, 1.0)
    either = np.where(watched, moved, np.abs(moved))
    return Rates(
        exact=(gone == lost).all(axis=1) & (come == gained).all(axis=1),
        flips=gone[:, lost].all(axis=1) & come[:, gained].all(axis=1),
        same=(before == after).all(axis=1),
        read=before[:, lost].all(axis=1) & ~before[:, gained].any(axis=1),
        own=moved[:, watched].mean(axis=1),
        others=np.abs(moved[:, ~watched]).mean(axis=1),
        first=watched[either.argmax(axis=1)],
        recalled=cosines.called[:, 0] != cosines.called[:, 1],
        probed=cosines.probed,
    )


def share(hits: Bools) -> str:
    """A share with its 95 % interval (Wilson)."""
    n, z = len(hits), 1.96
    if n == 0:
        return "-"
    p = float(hits.mean())
    middle, half = p + z * z / (2 * n), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((middle + sign * half) / (1 + z * z / n) for sign in (-1, 1))
    return f"{100 * p:.0f} % ({100 * max(low, 0.0):.0f}-{100 * high:.0f})"


def mean(values: Floats) -> str:
    """A mean with its 95 % interval (normal)."""
    half = 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return f"{values.mean():.3f} ± {half:.3f}"


COLUMNS = (
    "pairs",
    "exactly the expected texts",
    "the expected texts flip",
    "nothing changes",
    "read right before",
    "of these flip",
    "shift of the expected",
    "of the others",
    "expected moves farthest",
    "called class changes",
    "probe ranks rightly",
)


def show_rates(every: dict[str, Rates], figures: Record) -> None:
    table = figures.table("property", *COLUMNS)
    for name, r in every.items():
        control = not PROPERTIES[name].lost
        shares = [share(r.exact), "-" if control else share(r.flips), share(r.same)]
        shares += ["-", "-"] if control else [share(r.read), share(r.flips[r.read])]
        moves = (mean(r.own), mean(r.others), "-" if control else share(r.first))
        table.row(name, len(r.exact), *shares, *moves, share(r.recalled), share(r.probed))
    changing = [r for name, r in every.items() if PROPERTIES[name].lost]
    exact, flips = (float(np.mean([getattr(r, key).mean() for r in changing])) for key in ("exact", "flips"))
    figures.say(f"Mean over the properties but the control: exactly {100 * exact:.1f} %, flips {100 * flips:.1f} %.")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="cohort with test slides")
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/descriptions"))
    parser.add_argument("--pairs", type=int, default=100, help="of each property")
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "tiny.safetensors")
    parser.add_argument("--encoder", type=Path, help="weights of the image encoder; by default those of tiny.json")
    parser.add_argument("--render-only", action="store_true", help="draw the pairs, judge nothing")
    arguments = parser.parse_args()
    work: Path = arguments.work.absolute()
    tiny = json.loads((ROOT / "configs" / "tiny.json").read_text())
    test = [record for record in read_manifest(arguments.data / "manifest.csv") if record.split == "test"]
    centres = sorted({str(record.centre) for record in test})
    pairs = {
        name: rendered(name, arguments.pairs, centres, tiny["crop_px"], tiny["crop_mpp"], work) for name in PROPERTIES
    }
    truth = {name: rates(name, of_truth(p), 0.5) for name, p in pairs.items()}
    figures = Record("descriptions", "Descriptions: held-out cells and cells with one property changed")
    figures.say(f"{len(test)} test slides of {len(centres)} centres: {', '.join(centres)}.")
    exact = np.concatenate([of.exact for of in truth.values()])
    figures.say(f"The truth itself changes by exactly the expected texts: {share(exact)}.")
    if arguments.render_only:
        return
    encoder = arguments.encoder and arguments.encoder.absolute()
    weights = arguments.weights.absolute()
    judge_cells(arguments.data.absolute(), work / f"test-{sha256_of(weights)[:12]}", weights, encoder, figures)
    reader = Reader(weights, encoder)
    show_rates({name: rates(name, reader(p), reader.threshold) for name, p in pairs.items()}, figures)
    figures.write([FIRST_SEED])


if __name__ == "__main__":
    main()
