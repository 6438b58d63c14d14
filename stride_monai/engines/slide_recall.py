"""A detector judged on whole slides, as screening runs it: are the lesions among the K best boxes?"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.engines import SupervisedEvaluator

from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.metrics.detection import TileResult
from stride_monai.metrics.detection_curves import SlideResult
from stride_monai.slides import open_slide

__all__ = ["SlideRecallEvaluator"]

_log = logging.getLogger(__name__)


class SlideRecallEvaluator(SupervisedEvaluator):
    """Runs slide detection on slides with known lesions. Output: a list of :class:`~stride_monai.metrics.SlideResult`.

    Batches are lists of the dictionaries of :func:`stride_monai.data.lesion_slides`.

    Args:
        inferer: a :class:`~stride_monai.inferers.SlideDetectionInferer`; it keeps the K best boxes.
        otherwise as :class:`monai.engines.SupervisedEvaluator`.

    Raises:
        SlideError: a slide cannot be opened. An evaluation without some of its slides would be of other slides.
    """

    def __init__(self, *args: Any, inferer: SlideDetectionInferer, **kwargs: Any) -> None:
        super().__init__(*args, inferer=inferer, decollate=False, **kwargs)

    def _iteration(self, engine: Any, batchdata: list[Mapping[str, Any]]) -> list[SlideResult]:
        return [self._one(item) for item in batchdata]

    def _one(self, item: Mapping[str, Any]) -> SlideResult:
        with open_slide(item["image"], mpp=item.get("mpp")) as slide:
            found = self.inferer(slide, self.network.eval())
        truth = np.asarray(item["boxes"], np.float64).reshape(-1, 4)
        _log.info("%s: %d boxes ranked, %d lesions marked", item["slide_id"], len(found.boxes), len(truth))
        return SlideResult(
            str(item["slide_id"]), str(item["slide_class"]), TileResult(found.boxes, found.scores, truth)
        )
