"""Find the cells of a slide: detect, one cell once, the best of them, their crops, and where asked re-rank.

And say of what quality the slide is, and whether that is enough to judge it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from stride_monai.errors import ConfigError
from stride_monai.inferers.adequacy import RULES, QualityRules, quality_of, why_unsatisfactory
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.rerank import CellReranker
from stride_monai.inferers.slide_detection import Progress, SlideDetectionInferer
from stride_monai.networks.detection.detector import TileDetector
from stride_monai.slides import Slide
from stride_monai.transforms.topk_patches import CellBag, TopKCellPatches
from stride_monai.units import Box

__all__ = ["CellFinder"]


class CellFinder:
    """From a slide to a bag of its K most suspicious cells.

    Args:
        detector: finds cells in tiles, on the device that it is to run on.
        inferer: takes it over a slide; keeps K cells, with a re-ranker as many as that wants for candidates.
        crop_px, crop_mpp: side of the crops in their px, and um/px.
        reranker: chooses the best of the detector's cells; None for those that the detector ranks highest.
        rules: the thresholds of quality.

    Raises:
        ConfigError: the re-ranker does not take such crops, or as many candidates.
    """

    def __init__(
        self,
        detector: TileDetector,
        inferer: SlideDetectionInferer,
        crop_px: int = 224,
        crop_mpp: float = 0.5,
        reranker: CellReranker | None = None,
        rules: QualityRules = RULES,
    ) -> None:
        self.detector, self.inferer, self.reranker = detector, inferer, reranker
        self.crop_px, self.crop_mpp, self.rules = crop_px, crop_mpp, rules
        self._patches = TopKCellPatches(inferer.top_k, crop_px, crop_mpp, inferer.workers)
        if reranker is not None:
            reranker.check_crops(crop_px, crop_mpp)
            if reranker.candidates != inferer.top_k:
                raise ConfigError(
                    f"the detector proposes {inferer.top_k} cells, the re-ranker wants {reranker.candidates}",
                    "set top_k of the inferer to the number of candidates",
                )

    def settings(self) -> dict[str, Any]:
        """All that decides the bag beside slide and detector, as plain values."""
        settings = {**self.inferer.settings(), "crop_px": self.crop_px, "crop_mpp": self.crop_mpp}
        settings["quality"] = asdict(self.rules)
        if self.reranker is not None:
            settings |= {"top_k": self.reranker.top_k, "reranker": self.reranker.settings()}
        return settings

    def find(
        self,
        slide: Slide,
        region: Box | None = None,
        progress: Progress | None = None,
        clock: Clock | None = None,
        slide_id: str = "",
    ) -> CellBag:
        """The bag of an open slide, with what is known of the slide's quality.

        Args:
            region: only cells of this part, level-0 px; see :class:`~stride_monai.inferers.SlideDetectionInferer`.
                Coordinates stay those of the whole slide; adequacy is not assessed then.
            progress: called with (tiles done, tiles in all).
            clock: gets the seconds of each stage.
            slide_id: for messages, where it is not the stem of the slide's file.

        Raises:
            ConfigError: the region is empty, non-finite or not within the slide.
            SlideError: more of the slide cannot be decoded than can.
            BagError: the re-ranker gives a score that is no number.
        """
        clock = clock or Clock()
        found = self.inferer(slide, self.detector, progress, region, self.rules.out_of_focus)
        for stage, seconds in found.seconds.items():
            clock.add(stage, seconds)
        with clock.stage("crop"):
            bag = self._patches(slide, found.boxes, found.scores)
        quality = quality_of(found, slide.facts, bag.unreadable, slide.notes, region is not None, self.rules)
        cells = int(bag.mask.sum())
        reason = why_unsatisfactory(slide.facts.name, found, quality, cells, bag.unreadable, self.rules)
        ground = None if region is not None else found.foreground
        bag = bag._replace(quality=quality, unsatisfactory=reason, ground=ground)
        if self.reranker is None:
            return bag
        with clock.stage("rerank"):
            return self.reranker(bag, slide_id or slide.facts.slide_id)
