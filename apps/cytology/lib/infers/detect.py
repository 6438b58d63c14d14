"""``detect``: the lesion cells of a region, or of a slide."""

from __future__ import annotations

from typing import Any

from monailabel.interfaces.tasks.infer_v2 import InferType

from lib.cells import FoundCell
from lib.infers.finding import FindingTask
from lib.requests import Image, Params
from lib.workbench import Workbench
from stride_monai.bethesda import ABNORMAL
from stride_monai.errors import BundleError, ConfigError
from stride_monai.slides import open_slide
from stride_monai.units import Box


class Detect(FindingTask):
    """Boxes by the detector's score; classes are left to ``classify``, ``screen`` and the reader."""

    name = "detect"

    def __init__(self, bench: Workbench) -> None:
        super().__init__(bench, InferType.DETECTION, "Find the lesion cells of a region or a slide", (ABNORMAL,))

    def cells(self, image: Image, params: Params) -> tuple[list[FoundCell], dict[str, Any]]:
        with self.bench.busy, open_slide(image.path, mpp=params.mpp or self.bench.place.mpp) as slide:
            finder, region = self.bench.screener().finder, None
            if finder is None:
                raise BundleError("no detector was loaded", "give a bundle detection")
            if params.region is not None:
                region = params.region.intersection(slide.box)
                if region.area <= 0:
                    raise ConfigError(f"the region lies outside of {image.name}", "choose one within it")
            found = finder.inferer(slide, finder.detector, None, region)
        pairs = zip(found.boxes, found.scores, strict=True)
        return [FoundCell(Box(*map(float, box)), ABNORMAL, float(score)) for box, score in pairs], {}
