"""``detect``, and the training of ``detection``."""

from __future__ import annotations

from lib.configs.base import CytologyTask
from lib.infers.detect import Detect
from lib.trainers.bundle import BundleTraining


class DetectTask(CytologyTask):
    def infer(self) -> dict[str, Detect]:
        return {"detect": Detect(self.bench)}

    def trainer(self) -> dict[str, BundleTraining]:
        return {"detection": BundleTraining("detection", self.bench)}
