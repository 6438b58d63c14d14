"""How well a small classifier tells synthetic crops from real ones, and by what: 0.5 would be perfect.

    python benchmarks/two_sample.py [--data ../shared/data/cric] [--centre west]

Real crops lie around the labelled nuclei of CRIC fields (one laboratory, conventional smears). For each real field
`--repeats` phantom fields of its size, lesion counts and cell density are rendered, over all centres in turn, and crops
are cut around as many nuclei of the same labels. Both go through the same resampling, the phantoms also through JPEG at
their centre's quality. Crops of a real field and of the phantom fields made after it are left out together, so no field
is both learned and judged. Two learners read the same numbers: a logistic regression (straight lines) and boosted
stumps (ranges of single numbers). No parameter of the generator is fitted to these crops by
machine, but they were looked at while it was made, so the figures are optimistic.
"""

from __future__ import annotations

import csv
import io
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from record import Record, make_parser
from record import Table as Shown
from scipy import ndimage, stats
from scipy.optimize import minimize
from skimage.feature import graycomatrix, graycoprops, local_binary_pattern

from stride_monai.bethesda import NEGATIVE, parse_label
from stride_monai.metrics.slide import auc
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.weights import load_into
from stride_monai.phantom import CENTRES, SITES, render_field
from stride_monai.phantom.scenes.truth import SlideTruth
from stride_monai.slides.resample import resample

ROOT = Path(__file__).resolve().parents[1]
MPP = 0.228
ENCODER_UM = 48.0
FOLDS = 5
UNLABELED = {"neutrophil", "lymphocyte", "histiocyte", "debris", "candida", "mucus", "red_cell"}

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Crop:
    """A crop ``[s, s, 3]`` with its nucleus in the middle, unless the field's border pushed it aside.

    Attributes:
        nucleus: (x, y) px of the labelled nucleus in the crop.
        field: number of the real field it comes from, or after which its phantom field was made.
        origin: ``real`` or the name of the phantom's centre.
    """

    pixels: Pixels
    nucleus: tuple[float, float]
    field: int
    origin: str


def cut(image: Pixels, x: float, y: float, view_um: float, mpp: float) -> tuple[Pixels, tuple[float, float]]:
    """``view_um`` of a field at MPP around (x, y), moved inside the field, at ``mpp``; and the nucleus in it."""
    side = view_um / MPP
    left = min(max(x - side / 2, 0.0), image.shape[1] - side)
    top = min(max(y - side / 2, 0.0), image.shape[0] - side)
    size = round(view_um / mpp)
    scale = size / side
    return resample(image, left, top, left + side, top + side, size, size), ((x - left) * scale, (y - top) * scale)


# --- fields -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """A picture at MPP with (x, y) px of its labelled nuclei."""

    pixels: Pixels
    nuclei: tuple[tuple[float, float], ...]
    number: int
    origin: str


def real_fields(data: Path) -> tuple[list[Field], list[Counter[str]]]:
    labeled: dict[str, list[tuple[str, float, float]]] = defaultdict(list)
    with (data / "points.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            name = row["bethesda_system"]
            label = NEGATIVE if name.startswith("Negative") else parse_label(name)
            labeled[row["image"]].append((label, float(row["nucleus_x"]), float(row["nucleus_y"])))
    fields, mixes = [], []
    for number, (image, rows) in enumerate(sorted(labeled.items())):
        pixels = np.asarray(Image.open(data / image).convert("RGB"))
        fields.append(Field(pixels, tuple((x, y) for _, x, y in rows), number, "real"))
        mixes.append(Counter(label for label, _, _ in rows))
    return fields, mixes


def phantom_fields(
    reals: Sequence[Field], mixes: Sequence[Counter[str]], centres: Sequence[str], repeats: int
) -> Iterator[Field]:
    for i in range(repeats * len(reals)):
        like, mix, centre = reals[i % len(reals)], mixes[i % len(reals)], centres[i % len(centres)]
        height, width = like.pixels.shape[:2]
        lesions = {label: n for label, n in mix.items() if label != NEGATIVE}
        area = width * height * (MPP / 1000) ** 2
        pixels, truth = render_field(
            width * MPP,
            height * MPP,
            mpp=MPP,
            lesions=lesions,
            seed=1000 + i,
            density_per_mm2=mix.total() / area,
            centre=centre,
        )
        nuclei = tuple(_chosen(truth, mix, np.random.default_rng(i)))
        yield Field(_through_jpeg(pixels, CENTRES[centre].jpeg_quality), nuclei, like.number, centre)


def _chosen(truth: SlideTruth, mix: Counter[str], rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Nuclei inside the field, as many of each label as the real field has (or as there are)."""
    at: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for cell in truth.cells:
        for nucleus in cell.nuclei if cell.kind not in UNLABELED else ():
            x, y = nucleus.mean(axis=0)
            if 0 <= x < truth.width and 0 <= y < truth.height:
                at[cell.label].append((float(x), float(y)))
    for label, count in mix.items():
        for index in rng.permutation(len(at[label]))[:count]:
            yield at[label][index]


def _through_jpeg(pixels: Pixels, quality: int) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def _blurred(pixels: Pixels, sigma_um: float) -> Pixels:
    sigma = sigma_um / MPP
    return np.rint(ndimage.gaussian_filter(pixels.astype(float), (sigma, sigma, 0))).astype(np.uint8)


# --- statistics -------------------------------------------------------------------------------------------------------


def density_of(pixels: Pixels) -> Floats:
    """Optical density ``[h, w, 3]`` against pure white: the glass itself is part of what differs."""
    return np.asarray(-np.log10((pixels.astype(float) + 1) / 256))


def _skew(values: Floats) -> float:
    """Skewness; 0 of what is all but constant."""
    return float(stats.skew(values, None)) if values.std() > 1e-6 else 0.0


def color(pixels: Pixels, density: Floats) -> dict[str, float]:
    """Moments of the channels of RGB, HSV and optical density, their correlations, the clear glass."""
    found = {}
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV"), float) / 255
    planes = {
        **{f"rgb {c}": pixels[..., i] / 255 for i, c in enumerate("RGB")},
        "hsv S": hsv[..., 1],
        "hsv V": hsv[..., 2],
        **{f"OD {c}": density[..., i] for i, c in enumerate("RGB")},
        "chroma R-G": density[..., 0] - density[..., 1],
        "chroma B-G": density[..., 2] - density[..., 1],
    }
    for name, plane in planes.items():
        found |= {
            f"{name} mean": plane.mean(),
            f"{name} sd": plane.std(),
            f"{name} skew": _skew(plane),
        }
    for i, c in enumerate("RGB"):
        found[f"glass {c}"] = float(np.percentile(pixels[..., i], 95))
    weight = hsv[..., 1] + 1e-6
    for part in (np.cos, np.sin):
        found[f"hue {part.__name__}"] = float(np.average(part(2 * np.pi * hsv[..., 0]), weights=weight))
    together = np.corrcoef(
        density.reshape(-1, 3).T + np.random.default_rng(0).normal(0, 1e-6, (3, density[..., 0].size))
    )
    return found | {"corr R,G": together[0, 1], "corr R,B": together[0, 2], "corr G,B": together[1, 2]}


def gradient(gray: Floats, mpp: float) -> dict[str, float]:
    """Shares of gradient magnitudes (OD per um) at two scales, and how strong the strongest are."""
    found = {}
    for name, sigma in (("fine", 0.0), ("1 um", 1.0 / mpp)):
        size = ndimage.gaussian_gradient_magnitude(gray, max(sigma, 0.6)) / mpp
        edges = [0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, np.inf]
        shares = np.histogram(size, edges)[0] / size.size
        for low, high, share in zip(edges, edges[1:], shares, strict=False):
            found[f"gradient {name} {low:g}-{high:g}"] = share
        found |= {f"gradient {name} p{p}": float(np.percentile(size, p)) for p in (50, 90, 99)}
    return found


def binary_patterns(gray: Floats) -> dict[str, float]:
    """Uniform local binary patterns: 0 bright spot ... 8 dark spot, 9 anything broken; flat glass counts as 8."""
    levels = np.clip(gray * 128, 0, 255).astype(np.uint8)
    found = {}
    for radius in (1, 2, 4):
        codes = local_binary_pattern(levels, 8, radius, "uniform")
        shares = np.bincount(codes.astype(int).ravel(), minlength=10) / codes.size
        found |= {f"lbp r{radius} {code}": share for code, share in enumerate(shares)}
    return found


def cooccurrence(gray: Floats, mpp: float) -> dict[str, float]:
    """Haralick's measures of grey pairs at 0.5, 1.5 and 4 um."""
    distances = {um: max(round(um / mpp), 1) for um in (0.5, 1.5, 4.0)}
    levels = np.clip(gray * 20, 0, 23).astype(np.uint8)
    pairs = graycomatrix(levels, list(distances.values()), [0, np.pi / 2], 24, symmetric=True, normed=True)
    found = {}
    for name in ("contrast", "homogeneity", "energy", "correlation"):
        values = graycoprops(pairs, name).mean(axis=1)
        found |= {f"glcm {name} {um:g} um": float(v) for um, v in zip(distances, values, strict=True)}
    return found


def spectrum(gray: Floats, mpp: float) -> dict[str, float]:
    """Log power by band of spatial frequency, as share of the whole, and the slope over the bands."""
    side = gray.shape[0]
    taper = np.hanning(side)
    power = np.abs(np.fft.rfft2((gray - gray.mean()) * np.outer(taper, taper))) ** 2
    frequency = np.hypot(np.fft.fftfreq(side, mpp)[:, None], np.fft.rfftfreq(side, mpp)[None])
    edges = np.geomspace(1 / 32, 0.5 / mpp, 9)
    density = [
        power[(frequency >= a) & (frequency < b)].mean() for a, b in itertools.pairwise(edges) if b * side * mpp > 2
    ]
    logs = np.log10(np.array(density) + 1e-12)
    middles = np.sqrt(edges[:-1] * edges[1:])[-len(logs) :]
    found = {f"power {m:.2f}/um": float(v) for m, v in zip(middles, logs - logs.mean(), strict=True)}
    return found | {"power slope": float(np.polyfit(np.log10(middles), logs, 1)[0]), "power total": float(logs.mean())}


def nucleus(density: Floats, at: tuple[float, float], mpp: float) -> dict[str, float]:
    """The labelled nucleus: radial profile of OD, darkness, size and edge, chromatin's contrast, colour."""
    rows, columns = np.indices(density.shape[:2])
    radius = np.hypot(columns + 0.5 - at[0], rows + 0.5 - at[1]) * mpp
    gray = density.mean(axis=2)
    rings = [(0, 1.5), (1.5, 3), (3, 4.5), (4.5, 6), (6, 8), (8, 11), (11, 15)]
    profile = [gray[(radius >= a) & (radius < b)].mean() for a, b in rings]
    found = {f"nucleus OD {a:g}-{b:g} um": float(v) for (a, b), v in zip(rings, profile, strict=True)}
    core, around = radius < 2.5, (radius >= 8) & (radius < 13)
    found |= {f"nucleus OD {c}": float(density[core][:, i].mean()) for i, c in enumerate("RGB")}
    found |= {f"cytoplasm OD {c}": float(density[around][:, i].mean()) for i, c in enumerate("RGB")}
    inner, outer = float(gray[core].mean()), float(np.median(gray[around]))
    spots, _ = ndimage.label(gray > (inner + outer) / 2)
    mine = spots[min(int(at[1]), gray.shape[0] - 1), min(int(at[0]), gray.shape[1] - 1)]
    body = (spots == mine) & (radius < 12) if mine else core
    edge = ndimage.gaussian_gradient_magnitude(gray, 0.6) / mpp
    deep = ndimage.binary_erosion(body, iterations=max(round(1 / mpp), 1))
    deep = deep if deep.sum() >= 9 else core
    fine = gray - ndimage.gaussian_filter(gray, 1.0 / mpp)
    return found | {
        "nucleus contrast": inner - outer,
        "nucleus area um2": float(body.sum()) * mpp**2,
        "nucleus darkest OD": float(np.percentile(gray[body], 95)),
        "nucleus edge OD/um": float(np.percentile(edge[body], 90)),
        "chromatin sd": float(gray[deep].std()),
        "chromatin fine sd": float(fine[deep].std()),
        "chromatin skew": _skew(gray[deep]),
        "cytoplasm fine sd": float(fine[around].std()),
        "cytoplasm sd": float(gray[around].std()),
    }


def cover(pixels: Pixels, density: Floats, mpp: float) -> dict[str, float]:
    """What covers the view: glass, cytoplasm by hue, dark spots by size, evenness of the glass."""
    gray = density.mean(axis=2)
    glass = gray < np.percentile(gray, 2) + 0.05
    cells = gray > np.percentile(gray, 2) + 0.12
    found = {"share glass": glass.mean(), "share cells": cells.mean(), "share dark": (gray > 0.7).mean()}
    hue = np.asarray(Image.fromarray(pixels).convert("HSV"), float)[..., 0] * 360 / 256
    names = {
        "red": (330, 15),
        "orange": (15, 60),
        "green": (60, 170),
        "cyan": (170, 210),
        "blue": (210, 255),
        "violet": (255, 330),
    }
    for name, (low, high) in names.items():
        of = (hue >= low) & (hue < high) if low < high else (hue >= low) | (hue < high)
        found[f"hue share {name}"] = float(of[cells].mean()) if cells.any() else 0.0
    spots, _ = ndimage.label(gray > 0.6)
    areas = np.bincount(spots.ravel())[1:] * mpp**2
    per = 1e4 / (gray.size * mpp**2)
    bounds = {"specks < 2": (0, 2), "2-10": (2, 10), "10-30": (10, 30), "30-80": (30, 80), "> 80": (80, np.inf)}
    found |= {f"dark spots {k} um2": float(((areas >= a) & (areas < b)).sum()) * per for k, (a, b) in bounds.items()}
    fine = gray - ndimage.gaussian_filter(gray, 1.0 / mpp)
    plain = ndimage.binary_erosion(glass, iterations=3)
    cytoplasm = ndimage.binary_erosion(cells & (gray < 0.5), iterations=2)
    found["glass fine sd"] = float(fine[plain].std()) if plain.sum() > 30 else 0.0
    found["glass slow sd"] = float(ndimage.gaussian_filter(gray, 2 / mpp)[plain].std()) if plain.sum() > 30 else 0.0
    found["cell body fine sd"] = float(fine[cytoplasm].std()) if cytoplasm.sum() > 30 else 0.0
    return found


def statistics(crop: Pixels, at: tuple[float, float], mpp: float) -> dict[tuple[str, str], float]:
    """(family, feature) -> value of one crop."""
    density = density_of(crop)
    gray = density.mean(axis=2)
    families = {
        "color": color(crop, density),
        "gradient": gradient(gray, mpp),
        "lbp": binary_patterns(gray),
        "glcm": cooccurrence(gray, mpp),
        "spectrum": spectrum(gray, mpp),
        "nucleus": nucleus(density, at, mpp),
        "cover": cover(crop, density, mpp),
    }
    return {(family, name): float(v) for family, values in families.items() for name, v in values.items()}


def encoder_features(fields: Sequence[Field]) -> Floats:
    """Features ``[n, d]`` of the cell encoder that ships, frozen: what it learned on phantoms, seen on both."""
    network = CellClassifier("convnext_atto").eval()
    load_into(network, ROOT / "bundles" / "cell_cls" / "models" / "tiny.safetensors")
    crops = [cut(field.pixels, x, y, ENCODER_UM, 0.5)[0] for field in fields for x, y in field.nuclei]
    images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return torch.cat([network.encode(part) for part in images.split(32)]).double().numpy()


# --- learners ---------------------------------------------------------------------------------------------------------


def _weights(positive: NDArray[np.bool_]) -> Floats:
    """Both sorts weigh the same in all."""
    return np.asarray(np.where(positive, 0.5 / positive.sum(), 0.5 / (~positive).sum()))


def logistic(train: Floats, positive: NDArray[np.bool_], test: Floats, penalty: float = 3e-3) -> Floats:
    """Scores of ``test`` by a logistic regression with a ridge penalty on standardised features."""
    mean, sd = train.mean(axis=0), train.std(axis=0) + 1e-9
    scaled, weights, sign = np.clip((train - mean) / sd, -5, 5), _weights(positive), np.where(positive, 1.0, -1.0)

    def loss(beta: Floats) -> tuple[float, Floats]:
        margin = sign * (scaled @ beta[1:] + beta[0])
        slope = -weights * sign / (1 + np.exp(np.clip(margin, -500, 500)))
        value = weights @ np.logaddexp(0, -margin) + penalty * beta[1:] @ beta[1:]
        return float(value), np.concatenate([[slope.sum()], scaled.T @ slope + 2 * penalty * beta[1:]])

    beta = minimize(loss, np.zeros(train.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return np.asarray(np.clip((test - mean) / sd, -5, 5) @ beta[1:] + beta[0])


def stumps(train: Floats, positive: NDArray[np.bool_], test: Floats, rounds: int = 150, rate: float = 0.3) -> Floats:
    """Scores of ``test`` by gradient boosting of single thresholds: a sum of curves, one per feature."""
    cuts = np.quantile(train, np.linspace(0.04, 0.96, 16), axis=0)
    above = (train[:, :, None] > cuts.T[None]).reshape(len(train), -1).astype(np.float32)
    shown = (test[:, :, None] > cuts.T[None]).reshape(len(test), -1)
    weights, target = _weights(positive), positive.astype(float)
    mass = weights @ above
    score, result = np.zeros(len(train)), np.zeros(len(test))
    for _ in range(rounds):
        chance = 1 / (1 + np.exp(-score))
        residual = weights * (target - chance)
        right, whole = residual @ above, residual.sum()
        gain = right**2 / (mass + 0.02) + (whole - right) ** 2 / (weights.sum() - mass + 0.02)
        best = int(gain.argmax())
        high = 4 * right[best] / (mass[best] + 0.02)
        low = 4 * (whole - right[best]) / (weights.sum() - mass[best] + 0.02)
        score += rate * np.where(above[:, best] > 0, high, low)
        result += rate * np.where(shown[:, best], high, low)
    return result


def validated(features: Floats, real: NDArray[np.bool_], fold: NDArray[np.int64]) -> Mapping[str, Floats]:
    """Scores of every crop by each learner that never saw its field: learner -> ``[n]``."""
    scores = {name: np.zeros(len(real)) for name in ("logistic", "stumps")}
    for k in np.unique(fold):
        out = fold == k
        scores["logistic"][out] = logistic(features[~out], real[~out], features[out])
        scores["stumps"][out] = stumps(features[~out], real[~out], features[out])
    return scores


def fold_aucs(scores: Floats, real: NDArray[np.bool_], fold: NDArray[np.int64]) -> Floats:
    """AUC within each fold; folds have learners of their own, whose scores do not compare."""
    return np.array([auc(scores[fold == k], real[fold == k]) for k in np.unique(fold)])


# --- report -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Features of all crops: ``values [n, d]`` with (family, feature) of each column."""

    values: Floats
    columns: tuple[tuple[str, str], ...]
    real: NDArray[np.bool_]
    origin: NDArray[np.str_]
    fold: NDArray[np.int64]

    def family(self, *names: str) -> Floats:
        return self.values[:, [i for i, (family, _) in enumerate(self.columns) if family in names]]


def table_of(fields: Sequence[Field], view_um: float, mpp: float) -> Table:
    rows, origin, fold = [], [], []
    for field in fields:
        for x, y in field.nuclei:
            pixels, at = cut(field.pixels, x, y, view_um, mpp)
            rows.append(statistics(pixels, at, mpp))
            origin.append(field.origin)
            fold.append(field.number % FOLDS)
    values = np.array([list(row.values()) for row in rows])
    names = np.array(origin)
    return Table(values, tuple(rows[0]), names == "real", names, np.array(fold))


def _line(name: str, features: Floats, table: Table, shown: Shown) -> None:
    scores = validated(features, table.real, table.fold)
    cells = [fold_aucs(values, table.real, table.fold) for values in scores.values()]
    shown.row(name, features.shape[1], *(f"{cell.mean():.3f} ± {cell.std():.3f}" for cell in cells))


def report(table: Table, frozen: Floats, title: str, most: int, figures: Record) -> None:
    """The tables of one field of view."""
    caption = f"{title}: {table.real.sum()} real crops, {(~table.real).sum()} synthetic."
    shown = figures.table("features", "n", "AUC logistic", "AUC stumps", caption=caption)
    _line("all statistics", table.values, table, shown)
    shape = ("gradient", "lbp", "glcm", "spectrum")
    _line("texture (gradient, lbp, glcm, spectrum)", table.family(*shape), table, shown)
    for family in dict.fromkeys(family for family, _ in table.columns):
        _line(family, table.family(family), table, shown)
    if frozen.size:
        _line("frozen encoder", frozen, table, shown)
    _centres(table, figures)
    _singles(table, most, figures)


def _centres(table: Table, figures: Record) -> None:
    scores = validated(table.values, table.real, table.fold)["logistic"]
    shown = figures.table("centre against the real fields", "AUC logistic, all statistics")
    for centre in sorted(set(table.origin) - {"real"}):
        keep = table.real | (table.origin == centre)
        folds = [k for k in np.unique(table.fold) if (table.origin[table.fold == k] == centre).any()]
        within = [auc(scores[keep & (table.fold == k)], table.real[keep & (table.fold == k)]) for k in folds]
        shown.row(centre, f"{np.mean(within):.3f}")


def _singles(table: Table, most: int, figures: Record) -> None:
    """What it still sees: the single features that separate best, with their values on both sides."""
    single = np.array([auc(column, table.real) for column in table.values.T])
    order = np.argsort(-np.abs(single - 0.5))[:most]
    shown = figures.table("it still sees", "family", "AUC", "real mean (SD)", "synthetic mean (SD)")
    for i in order:
        family, name = table.columns[i]
        ours, theirs = table.values[~table.real, i], table.values[table.real, i]
        way = "higher" if single[i] > 0.5 else "lower"
        values = (f"{side.mean():.3g} ({side.std():.2g})" for side in (theirs, ours))
        shown.row(f"{name} {way} in real", family, f"{max(single[i], 1 - single[i]):.3f}", *values)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "cric")
    parser.add_argument("--centre", action="append", choices=list(CENTRES), help="only these; all sites by default")
    parser.add_argument("--repeats", type=int, default=2, help="phantom fields per real field")
    parser.add_argument("--blur", type=float, default=0.0, help="blur both sorts first, um: what is left without noise")
    parser.add_argument("--shown", type=int, default=15, help="single features to list per field of view")
    parser.add_argument("--no-encoder", action="store_true", help="leave the frozen encoder out (a third faster)")
    arguments = parser.parse_args()
    if not (arguments.data / "points.csv").is_file():
        sys.exit(f"no points.csv in {arguments.data.name}: give the folder of the CRIC fields with --data")
    start = time.perf_counter()
    reals, mixes = real_fields(arguments.data)
    fields = [*reals, *phantom_fields(reals, mixes, arguments.centre or SITES, arguments.repeats)]
    if arguments.blur > 0:
        fields = [replace(field, pixels=_blurred(field.pixels, arguments.blur)) for field in fields]
    frozen = np.empty((0, 0)) if arguments.no_encoder else encoder_features(fields)
    figures = Record("two_sample", "Synthetic against real: two-sample test")
    for view, mpp in ((112.0, 0.5), (32.0, 0.25)):
        report(table_of(fields, view, mpp), frozen, f"{view:g} um at {mpp:g} um/px", arguments.shown, figures)
        frozen = np.empty((0, 0))
    figures.say(f"{len(fields)} fields, {time.perf_counter() - start:.0f} s.")
    figures.write([0])


if __name__ == "__main__":
    main()
