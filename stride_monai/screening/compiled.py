"""The networks of screening, computed by another runtime or in another precision where one was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from stride_monai.errors import ConfigError
from stride_monai.inferers.cpu import CPU_BATCH
from stride_monai.networks.alignment.views import CellViews
from stride_monai.runtimes import compile_detector, compile_features
from stride_monai.runtimes.choice import RuntimeChoice
from stride_monai.runtimes.half import HalfDetector, half_features
from stride_monai.runtimes.int8 import DETECTION, read_int8
from stride_monai.runtimes.networks import int8_detector
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.models import Models

__all__ = ["compiled", "int8_home", "int8_of"]


def int8_home(config: ScreeningConfig) -> Path | None:
    """Where the network in int8 lies, in a folder of its own; None without int8."""
    if config.precision != "int8":
        return None
    if config.int8_networks is not None:
        return config.int8_networks / "networks"
    assert config.operating_point is not None
    return config.operating_point.parent / "networks"


def int8_of(config: ScreeningConfig) -> Mapping[str, str]:
    """SHA-256 of the network in int8, by its name; empty without int8.

    Raises:
        ConfigError: there is none.
    """
    home = int8_home(config)
    if home is None:
        return {}
    facts = read_int8(home / DETECTION)
    if facts is None:
        raise ConfigError(
            f"{home.absolute()} holds no network in int8",
            "give --operating-point the file in the folder of stride-monai quantize, where it lies beside it",
        )
    return {DETECTION: facts.sha256}


def compiled(models: Models, choice: RuntimeChoice, int8: Path | None = None) -> Models:
    """Detector and cell encoder for the runtime; the slide head, whose gradient explains it, stays, and so does a
    re-ranker with an encoder of its own (:func:`~stride_monai.screening.reranking.share_encoder`).

    Args:
        int8: where the detector in int8 lies, for models of that precision.

    Raises:
        ConfigError: the runtime cannot take a network, or gives other values than torch; or what was kept in int8 is
            not what was judged.
    """
    views, detector = CellViews(models.classifier.encoder, models.explainer.levels), models.detector
    if choice.name == "torch":
        if models.precision == "float32":
            return replace(models, runtime=choice)
        half = None if detector is None else HalfDetector(detector)
        return replace(models, runtime=choice, detector=half, features=half_features(views))
    crop_px = int(models.numbers[models.classifier_choice.name]["crop_px"])
    if detector is not None:
        tile_px = int(models.numbers["detection"]["tile_px"])
        if int8 is None:
            detector = compile_detector(detector, tile_px, choice)
        else:
            detector = int8_detector(detector, tile_px, int8)
    features = compile_features(views, CPU_BATCH, crop_px, choice)
    return replace(models, runtime=choice, detector=detector, features=features)
