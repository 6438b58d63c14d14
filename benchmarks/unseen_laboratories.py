"""Does colour adversarial training help the slide classifier that ships, in laboratories that it has not seen?

    python benchmarks/unseen_laboratories.py weights-work

Goes on from the shipped weights of `swift_mil` with the encoder held, so that what it knows of real cells and the
descriptions stay: 100 steps on the training slides of `train_weights.py` (whose work folder this is), with ColorAdv
and, since more training alone might be the gain, without. Judged at the threshold that each takes from the same
validation slides, on the held-out slides of the laboratories of training and on slides of laboratories drawn at random.
All of this was fixed before a result was looked at; `coloradv_study.py` is the study with networks trained for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from record import Record, make_parser
from train_weights import bag_size, extract_bags, render, train
from weights_settings import DEFAULT, SETTINGS

from stride_monai.bethesda import NEGATIVE, binary_score
from stride_monai.data.bags.bag import BagFile, decode_crop
from stride_monai.data.manifest import read_manifest
from stride_monai.inferers.judge import decide, encode
from stride_monai.metrics.slide import auc
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.phantom.centres import ANY
from stride_monai.workflows.load import load_bundle_network
from stride_monai.workflows.locate import bundle_root

SEED = 777
ENCODER = ["conv_stem", "bn1", "blocks", "conv_head", "bn2"]
SHIPPED = [bundle_root("swift_mil") / "models" / f"{name}.safetensors" for name in ("tiny", f"tiny_{DEFAULT}")]
SETTINGS["hardened"] = {
    "start_from": list(map(str, SHIPPED)),
    "frozen_parts": ENCODER,
    "iterations": 100,
    "epoch_length": 50,
    "batch_size": 2,
    "cell_batch_size": 16,
    "cell_shares": {"cric": 0.3, "lbc": 0.1},
    "strong": "domain",
}


def load(weights: Path | list[Path]) -> SlideClassifier:
    network: SlideClassifier = load_bundle_network(bundle_root("swift_mil"), "tiny", weights=weights).network
    return network


def judge(cohort: Path, bags: Path, networks: dict[str, SlideClassifier]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores ``[n]`` by each network, which share an encoder, and which slides are positive."""
    scores: dict[str, list[float]] = {name: [] for name in networks}
    positive = []
    for record in read_manifest(cohort / "manifest.csv"):
        if record.split != "test":
            continue
        (path,) = bags.rglob(f"{record.slide_id}.bag.arrow")
        bag, first = BagFile(path), next(iter(networks.values()))
        count = min(len(bag), bag_size())
        crops = torch.from_numpy(np.stack([decode_crop(bag.jpeg(row)) for row in range(count)])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            features = encode(crops, first)
        for name, network in networks.items():
            slide = decide(features.clone(), network, bag_size()).slide
            assert slide is not None
            scores[name].append(binary_score(slide.tolist()))
        positive.append(record.slide_class != NEGATIVE)
    return {name: np.array(found) for name, found in scores.items()}, np.array(positive)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("work", type=Path, help="work folder of train_weights.py")
    work: Path = parser.parse_args().work.absolute()
    slides, external = work / "slides", work / "external"
    labels = [NEGATIVE] * 5 + ["ASC-US", "LSIL", "ASC-H", "HSIL", "AGC"]
    render(external, labels * 6, diameter_mm=2.0, seed=SEED, test_fraction=1.0, centres=(ANY,), max_negatives=10)
    seen = extract_bags(work, slides, DEFAULT, ("train", "validation", "test"))
    other = extract_bags(work, external, DEFAULT, ("test",), "external")
    data = {"dataset_dir": slides, "bag_dir": seen, "cell_dir": work / "mined"}
    networks = {"as it ships": load(SHIPPED)}
    networks["with ColorAdv"] = load(train("coloradv", "hardened", work / "hardened", **data))
    networks["100 more steps of SWIFT"] = load(train("swift_mil", "hardened", work / "trained_on", **data))
    figures = Record("unseen_laboratories", "The slide classifier that ships, where laboratories differ")
    table = figures.table("slides of", "n, positive", "network", "AUC", "sensitivity", "specificity")
    for where, (cohort, folder) in {"training's laboratories": (slides, seen), "others": (external, other)}.items():
        scores, positive = judge(cohort, folder, networks)
        for name, found in scores.items():
            called = found >= float(networks[name].threshold)
            shares = [f"{part.mean():.3f}" for part in (called[positive], ~called[~positive])]
            table.row(where, f"{len(positive)}, {positive.sum()}", name, f"{auc(found, positive):.3f}", *shares)
    figures.write([SEED])


if __name__ == "__main__":
    main()
