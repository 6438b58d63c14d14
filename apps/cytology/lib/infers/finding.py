"""What the app's inference tasks have in common."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from lib.cells import Found, FoundCell
from lib.requests import Image, Params
from lib.workbench import Workbench
from stride_monai.bethesda import CELL_CLASSES


class FindingTask(InferTask):
    """Finds, classifies or judges cells. MONAI Label's viewers list it by ``info``; the app calls :meth:`find`."""

    name = ""

    def __init__(self, bench: Workbench, kind: InferType, description: str, labels: tuple[str, ...] = CELL_CLASSES):
        config = {"multi_gpu": False, "device": bench.place.device}
        super().__init__(kind, list(labels), 2, description, config)
        self.bench = bench

    def is_valid(self) -> bool:
        return True

    def __call__(self, request: dict[str, Any]) -> Any:
        raise NotImplementedError("the app calls find")

    def find(self, image: Image, params: Params) -> Found:
        """Raises:
        SlideError, SpacingError, ConfigError: the image cannot be read, or not as asked.
        """
        start = time.monotonic()
        cells, facts = self.cells(image, params)
        limited = cells if params.limit is None else cells[: params.limit]
        return Found(self.name, self.description, limited, time.monotonic() - start, params.region, facts)

    @abstractmethod
    def cells(self, image: Image, params: Params) -> tuple[list[FoundCell], dict[str, Any]]:
        """The cells, the most suspicious first, and what is to be said of the slide as a whole."""
