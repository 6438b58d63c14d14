"""What the server of processes.py has imported before it forks: what the bundles and the program import."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module

from stride_monai.errors import MissingExtraError
from stride_monai.networks.detection.detector import YoloDetector

for name in (
    "monai.bundle",
    "torch.utils.tensorboard",
    "torchvision.models",
    "stride_monai.engines.detection",
    "stride_monai.handlers.weights",
    "stride_monai.screening.batch",
    "stride_monai.screening.models",
    "stride_monai.screening.screener",
    "stride_monai.screening.worker",
):
    import_module(name)

with suppress(MissingExtraError):
    YoloDetector("yolov5n")  # imports ultralytics, as quietly as the package does
sys.stdout.flush()
