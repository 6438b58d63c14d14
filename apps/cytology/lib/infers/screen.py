"""``screen``: the whole slide, as ``stride-monai screen`` does it."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.cells import FoundCell
from lib.infers.finding import FindingTask
from lib.requests import Image, Params
from lib.workbench import Workbench
from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.errors import ConfigError


class Screen(FindingTask):
    """The top cells with class and descriptions, and the slide's probabilities. Its cells come up for review."""

    name = "screen"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench, InferType.OTHERS, "Screen a whole slide: its top cells, and what it is")

    def cells(self, image: Image, params: Params) -> tuple[list[FoundCell], dict[str, Any]]:
        if image.image_id is None:
            raise ConfigError("a picture that comes with the request is not screened", "detect or classify, or add it")
        findings = self.bench.screened(image.path, image.image_id, params.refresh)
        known = self.bench.store.propose(findings, self.bench.place.cells)
        cells = [
            FoundCell(
                proposal.box,
                proposal.cell_class,
                proposal.score,
                proposal.probabilities,
                proposal.descriptions,
                proposal.cell_id,
            )
            for proposal in known
        ]
        shares = findings.slide_probabilities
        return cells, {
            "status": findings.status.value,
            "reason": findings.reason,
            "slide_class": findings.slide_class,
            "slide_probabilities": None if shares is None else dict(zip(SLIDE_CLASSES, shares, strict=True)),
            "call": findings.call,
            "disclaimer": findings.disclaimer,
        }
