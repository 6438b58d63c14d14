"""What the app's task configurations have in common: each names its inference and training tasks."""

from __future__ import annotations

from monailabel.interfaces.config import TaskConfig

from lib.infers.finding import FindingTask
from lib.trainers.bundle import BundleTraining
from lib.workbench import Workbench


class CytologyTask(TaskConfig):
    """Tasks by name; of a stage, its inference and the training that improves it."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self.bench = bench

    def infer(self) -> dict[str, FindingTask]:
        return {}

    def trainer(self) -> dict[str, BundleTraining]:
        return {}
