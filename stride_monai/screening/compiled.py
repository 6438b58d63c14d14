"""The networks of screening, computed by another runtime than torch where one was chosen."""

from __future__ import annotations

from dataclasses import replace

from stride_monai.inferers.cpu import CPU_BATCH
from stride_monai.networks.alignment.views import CellViews
from stride_monai.runtimes import compile_detector, compile_features
from stride_monai.runtimes.choice import RuntimeChoice
from stride_monai.screening.models import Models

__all__ = ["compiled"]


def compiled(models: Models, choice: RuntimeChoice) -> Models:
    """Detector and cell encoder for the runtime; the slide head, whose gradient explains it, and the re-ranker stay.

    Raises:
        ConfigError: the runtime cannot take a network, or gives other values than torch.
    """
    if choice.name == "torch":
        return replace(models, runtime=choice)
    detector, slides = models.detector, models.numbers[models.classifier_choice.name]
    if detector is not None:
        detector = compile_detector(detector, int(models.numbers["detection"]["tile_px"]), choice)
    views = CellViews(models.classifier.encoder, models.explainer.levels)
    features = compile_features(views, CPU_BATCH, int(slides["crop_px"]), choice)
    return replace(models, runtime=choice, detector=detector, features=features)
