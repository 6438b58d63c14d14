"""Find the cells of a slide: detect, one cell once, the best of them, their crops, and where asked re-rank.

And say of what quality the slide is, and whether that is enough to judge it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stride_monai.errors import ConfigError, SlideError
from stride_monai.findings import Quality, SlideFacts
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.rerank import CellReranker
from stride_monai.inferers.slide_detection import Detections, Progress, SlideDetectionInferer
from stride_monai.networks.detection.detector import TileDetector
from stride_monai.slides import Slide
from stride_monai.transforms.topk_patches import CellBag, TopKCellPatches
from stride_monai.units import Box

__all__ = ["MIN_CELLS", "CellFinder", "quality_of", "why_unsatisfactory"]

MIN_CELLS = 5_000  # Bethesda's adequacy floor for liquid-based preparations
UNREADABLE_FAILS = 0.5
"""Share of the tiles with cells, or of the cells, above which a slide that cannot be decoded there has failed: what is
left is no picture of the specimen."""
UNREADABLE_UNSATISFACTORY = 0.1
"""Share above which a slide is unsatisfactory, and so never called negative, for what could not be decoded."""
_FIELD_READER = "image"  # a photographed field has no deposit to judge adequacy from


class CellFinder:
    """From a slide to a bag of its K most suspicious cells.

    Args:
        detector: finds cells in tiles, on the device that it is to run on.
        inferer: takes it over a slide; keeps K cells, with a re-ranker as many as that wants for candidates.
        crop_px, crop_mpp: side of the crops in their px, and um/px.
        reranker: chooses the best of the detector's cells; None for those that the detector ranks highest.

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
    ) -> None:
        self.detector, self.inferer, self.reranker = detector, inferer, reranker
        self.crop_px, self.crop_mpp = crop_px, crop_mpp
        self._patches = TopKCellPatches(inferer.top_k, crop_px, crop_mpp)
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
        found = self.inferer(slide, self.detector, progress, region)
        for stage, seconds in found.seconds.items():
            clock.add(stage, seconds)
        with clock.stage("crop"):
            bag = self._patches(slide, found.boxes, found.scores)
        quality = quality_of(found, slide.facts, bag.unreadable, slide.notes, part=region is not None)
        reason = why_unsatisfactory(slide.facts.name, found, quality, int(bag.mask.sum()), bag.unreadable)
        bag = bag._replace(quality=quality, unsatisfactory=reason)
        if self.reranker is None:
            return bag
        with clock.stage("rerank"):
            return self.reranker(bag, slide_id or slide.facts.slide_id)


def quality_of(
    found: Detections, facts: SlideFacts, unreadable_crops: int, chosen: Sequence[str], part: bool = False
) -> Quality:
    """The quality of a slide.

    Args:
        unreadable_crops: cells that could not be decoded.
        chosen: what the reader decided where the file leaves a choice, in words.
        part: only a part of the slide was looked at.
    """
    field = facts.reader == _FIELD_READER
    unreadable = found.unreadable + unreadable_crops
    notes = [*(f"{note[:1].upper()}{note[1:]}." for note in chosen), *found.foreground.notes]
    if field or part:
        notes.append(f"{'A single field' if field else 'A part of the slide'}: adequacy is not assessed.")
    if unreadable:
        notes.append(f"{unreadable} regions could not be decoded and were not examined.")
    return Quality(
        foreground_mm2=found.foreground.area_mm2,
        estimated_cells=found.estimated_cells,
        focus=found.focus,
        stain=found.stain,
        pen_fraction=found.foreground.pen_fraction,
        tiles_read=found.tiles_read,
        unreadable_regions=unreadable,
        adequate=None if field or part else found.estimated_cells >= MIN_CELLS,
        notes=tuple(notes),
    )


def why_unsatisfactory(name: str, found: Detections, quality: Quality, cells: int, unreadable_crops: int) -> str:
    """Why a slide is unsatisfactory; empty where it is not.

    Args:
        cells: those that could be decoded.

    Raises:
        SlideError: more of it cannot be decoded than can.
    """
    damage = [
        *_damage(name, found.unreadable, found.tiles_read + found.unreadable, "tiles with cells"),
        *_damage(name, unreadable_crops, cells + unreadable_crops, "suspicious cells"),
    ]
    if damage:
        return "; ".join(damage)
    if found.tiles_read == 0:
        return "no deposit was found on the slide"
    if quality.adequate is False:
        return f"about {found.estimated_cells:,} nucleated cells, fewer than the {MIN_CELLS:,} of an adequate slide"
    return ""


def _damage(name: str, unreadable: int, tried: int, what: str) -> list[str]:
    """What could not be decoded: damage is no finding about the specimen."""
    if unreadable > UNREADABLE_FAILS * tried:
        raise SlideError(
            f"{name}: {unreadable:,} of {tried:,} {what} cannot be decoded", "copy it again from the scanner"
        )
    if unreadable > UNREADABLE_UNSATISFACTORY * tried:
        return [f"{unreadable:,} of {tried:,} {what} could not be decoded and were not examined"]
    return []
