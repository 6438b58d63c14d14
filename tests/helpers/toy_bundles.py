"""Bundles with small networks for tests of screening, and what screens with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import monai.bundle
import numpy as np
import torch
from detection_toys import DarkSpots
from PIL import Image
from torch import nn

from stride_monai.bethesda import DESCRIPTION_VOCABULARY
from stride_monai.errors import StrideError
from stride_monai.files import sha256_of
from stride_monai.findings import Findings
from stride_monai.networks.alignment.aligner import DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier
from stride_monai.networks.factories import create_slide_head
from stride_monai.networks.mil.slide_classifier import SlideClassifier
from stride_monai.networks.weights import save_weights
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.screener import Screener
from stride_monai.workflows.locate import bundle_root

K, CROP_PX = 4, 32
DETECTION = {
    "tile_px": 128,
    "tile_mpp": 1.0,
    "overlap_px": 32,
    "top_k": 6,
    "min_score": 0.001,
    "max_per_tile": 500,
    "nms_iou": 0.5,
    "network_def": {"_target_": "detection_toys.DarkSpots"},
}
CELLS = {
    "crop_px": CROP_PX,
    "crop_mpp": 0.5,
    "network_def": {"_target_": "stride_monai.networks.encoders.cell_encoder.CellClassifier", "name": "test_convnext"},
}


SLIDES = {
    **{"crop_px": CROP_PX, "crop_mpp": 0.5, "top_k": K, "activation": "attention"},
    "encoder": CELLS["network_def"],
    "head": {"_target_": "stride_monai.networks.create_slide_head", "name": "stride", "feature_dim": 64},
    "network_def": {
        "_target_": "stride_monai.networks.mil.slide_classifier.SlideClassifier",
        "encoder": "@encoder",
        "slide_head": "@head",
        "top_k": "@top_k",
    },
}


def toy_bundle(folder: Path, config: dict[str, Any], network: nn.Module) -> None:
    (folder / "configs").mkdir(parents=True)
    config = {**config, "weights": "$@bundle_root + '/model.safetensors'"}
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text('{"version": "0.0.1"}')
    save_weights(folder / "model.safetensors", network.state_dict(), {"note": f"A toy, {folder.name}."}, half=False)


def make_classifier(detector: str = "", top_k: int = K) -> SlideClassifier:
    torch.manual_seed(3)
    encoder = CellClassifier("test_convnext")
    network = SlideClassifier(encoder, create_slide_head("stride", encoder.feature_dim), top_k).eval()
    network.set_operating_point(0.5, detector=detector)
    return network


DIM = 8
TEXTS = {
    "network_def": {
        "_target_": "stride_monai.networks.alignment.aligner.DescriptionAligner",
        "feature_dim": 64,
        "dim": DIM,
    }
}


def make_aligner(encoder: CellClassifier | None = None, threshold: float = 0.1) -> DescriptionAligner:
    torch.manual_seed(5)
    aligner = DescriptionAligner(64, DIM).eval().requires_grad_(False)
    aligner.store_texts(torch.randn(len(DESCRIPTION_VOCABULARY), DIM))
    aligner.threshold.fill_(threshold)
    if encoder is not None:
        aligner.store_encoder(encoder)
    return aligner


def screening_home(folder: Path) -> Path:
    """Toy bundles: two slide classifiers with one encoder, a text aligner for it; and a slide."""
    torch.manual_seed(2)
    toy_bundle(folder / "detection", DETECTION, DarkSpots())
    network = make_classifier(sha256_of(folder / "detection" / "model.safetensors"))
    toy_bundle(folder / "swift_mil", SLIDES, network)
    toy_bundle(folder / "coloradv", SLIDES, network)
    toy_bundle(folder / "text_align", TEXTS, make_aligner(network.encoder))
    image = np.full((300, 400, 3), 240, np.uint8)
    rng = np.random.default_rng(0)
    for x in range(40, 380, 60):
        image[100:160, x : x + 44] = rng.integers(20, 100, (60, 44, 3))
    Image.fromarray(image).save(folder / "one.png")
    return folder


def inference_home(folder: Path) -> Path:
    """Toy bundles, weights of a slide classifier, two slides and their manifest."""
    torch.manual_seed(2)
    toy_bundle(folder / "detection", DETECTION, DarkSpots())
    toy_bundle(folder / "cell_cls", CELLS, CellClassifier("test_convnext"))
    toy_bundle(folder / "swift_mil", SLIDES, make_classifier(sha256_of(folder / "detection" / "model.safetensors")))
    torch.save({"model": make_classifier().state_dict()}, folder / "model.pt")
    (folder / "slides").mkdir()
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        image = np.full((300, 400, 3), 240, np.uint8)
        for x in range(40, 380, 60):
            image[100:160, x : x + 44] = rng.integers(20, 100, (60, 44, 3))
        Image.fromarray(image).save(folder / "slides" / f"{name}.png")
    (folder / "slides" / "manifest.csv").write_text("slide_id,path,mpp\n1,one.png,0.5\n2,two.png,0.5\n")
    return folder


def infer(home: Path, dataset: Any, out: Path, **options: Any) -> None:
    """Run inference.json in this process; what the package raised, without MONAI's wrapping."""
    root = bundle_root("swift_mil")
    settings = {
        "bundle_root": str(root),
        "bundles_dir": str(home),
        "dataset_dir": dataset if isinstance(dataset, list) else str(dataset),
        "output_dir": str(out),
        "weights": str(home / "model.pt"),
        "encoder_name": "test_convnext",
        "crop_px": CROP_PX,
        "top_k": K,
    }
    try:
        config = str(root / "configs" / "inference.json")
        monai.bundle.run(config_file=config, logging_file=False, **{**settings, **options})
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, StrideError):
            cause = cause.__cause__
        raise cause or error from None


def findings_in(out: Path, name: str) -> Findings:
    return Findings.from_json((out / name / "findings.json").read_text())


def screened(home: Path, **options: object) -> Findings:
    known = {"bundles": home, "profile": "paper", "mpp": 0.5, "device": "cpu"}
    screener = Screener(ScreeningConfig(**{**known, **options}))  # type: ignore[arg-type]
    return screener.screen(SlideInput(home / "one.png", "one")).findings
