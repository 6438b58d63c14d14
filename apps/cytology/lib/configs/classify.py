"""``classify``, and the training of ``cell_cls``."""

from __future__ import annotations

from lib.configs.base import CytologyTask
from lib.infers.classify import Classify
from lib.trainers.bundle import BundleTraining


class ClassifyTask(CytologyTask):
    def infer(self) -> dict[str, Classify]:
        return {"classify": Classify(self.bench)}

    def trainer(self) -> dict[str, BundleTraining]:
        return {"cell_cls": BundleTraining("cell_cls", self.bench)}
