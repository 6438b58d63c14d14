"""The training of ``text_align``; what it learns is seen in the descriptions of ``screen``."""

from __future__ import annotations

from lib.configs.base import CytologyTask
from lib.trainers.bundle import BundleTraining


class TextAlignTask(CytologyTask):
    def trainer(self) -> dict[str, BundleTraining]:
        return {"text_align": BundleTraining("text_align", self.bench)}
