"""What the server of processes.py has imported before it forks: what the bundles and the program import."""

from __future__ import annotations

import pkgutil
import sys
from contextlib import suppress
from importlib import import_module

import stride_monai
from stride_monai.errors import MissingExtraError
from stride_monai.networks.detection.detector import YoloDetector

_THEIRS = ("fire", "imagecodecs", "monai.bundle", "pydantic", "torch.utils.tensorboard", "torchvision.models")
# Not of evaluation, review and runtimes: what those import starts threads, which a fork does not have.
_NOT = {f"stride_monai.handlers.{name}" for name in ("operating_point", "slide_report")}  # they import evaluation
_OURS = ("cli", "data", "engines", "exporters", "handlers", "inferers", "networks", "screening", "slides", "workflows")

for name in _THEIRS:
    import_module(name)
for name in _OURS:
    package = import_module(f"{stride_monai.__name__}.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name not in _NOT:
            import_module(module.name)

with suppress(MissingExtraError):
    YoloDetector("yolov5n")  # imports ultralytics, as quietly as the package does
sys.stdout.flush()
