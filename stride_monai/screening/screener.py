"""One slide: detect, rank, crop, classify, decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

import stride_monai
from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES, binary_score
from stride_monai.errors import ConfigError, SlideError
from stride_monai.files import config_hash
from stride_monai.findings import (
    Cell,
    Description,
    Findings,
    Provenance,
    Quality,
    Screened,
    SlideFacts,
    SlideSource,
    SlideStatus,
)
from stride_monai.inferers.slide_detection import Detections, SlideDetectionInferer
from stride_monai.networks.mil.activation import ACTIVATIONS
from stride_monai.screening.classify import Evidence, encode, judge
from stride_monai.screening.config import ResolvedConfig, ScreeningConfig, plain
from stride_monai.screening.inputs import SlideInput
from stride_monai.screening.models import Models, load_models
from stride_monai.screening.opening import open_input
from stride_monai.screening.pictures import pictures_of
from stride_monai.slides.dicom_header import identity_of
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.transforms.topk_patches import CellBag, TopKCellPatches
from stride_monai.units import Box

__all__ = ["MIN_CELLS", "Screener"]

MIN_CELLS = 5_000  # Bethesda's adequacy floor for liquid-based preparations
UNREADABLE_FAILS = 0.5
"""Share of the tiles with cells, or of the cells, above which a slide that cannot be decoded there has failed: what is
left is no picture of the specimen."""
UNREADABLE_UNSATISFACTORY = 0.1
"""Share above which a slide is unsatisfactory, and so never called negative, for what could not be decoded."""
_FIELD_READER = "image"  # a photographed field has no deposit to judge adequacy from


@dataclass(slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Screener:
    """Screens slides with one set of networks, loaded once.

    Args:
        config: what is asked for.
        models: the networks; None to load those that it names.

    Raises:
        BundleError, ConfigError, MissingExtraError: the networks cannot be loaded as asked.
    """

    def __init__(self, config: ScreeningConfig, models: Models | None = None) -> None:
        self.config = config
        self.models: Models = models or load_models(config)
        reranker = self.models.reranker
        numbers = self.models.numbers
        detection, slides = numbers["detection"], numbers[self.models.classifier_choice.name]
        proposed = detection["top_k"] if reranker is None else reranker.candidates
        self._detect = SlideDetectionInferer(
            tile_px=detection["tile_px"],
            tile_mpp=detection["tile_mpp"],
            overlap_px=detection["overlap_px"],
            top_k=proposed,
            min_score=detection["min_score"],
            max_per_tile=detection["max_per_tile"],
            nms_iou=detection["nms_iou"],
        )
        self._patches = TopKCellPatches(top_k=proposed, crop_px=slides["crop_px"], crop_mpp=slides["crop_mpp"])
        self._top_k = int(slides["top_k"])
        self._activation = config.activation or str(slides.get("activation", ACTIVATIONS[0]))
        if self._activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation '{self._activation}'", f"use one of {', '.join(ACTIVATIONS)}")
        self._resolved = self._resolve()

    def config_hash(self, item: SlideInput) -> str:
        """Names everything but the slide that decides the findings: what was asked and what is used."""
        return config_hash({"requested": self.config.for_findings(item.mpp), "used": asdict(self._resolved)})

    def screen(self, item: SlideInput, progress: Callable[[int, int], None] | None = None) -> Screened:
        """Screen one slide.

        Args:
            progress: called with (tiles done, tiles in all).

        Raises:
            SlideError: the slide cannot be opened or its um/px is not known.
        """
        clock = _Clock()
        with clock.stage("open"):
            slide = open_input(item, self.config)
        with slide:
            facts = replace(slide.facts, slide_id=item.slide_id, fingerprint=slide_fingerprint(item.path))
            detections = self._detect(slide, self.models.detector, progress=progress)
            for stage, seconds in detections.seconds.items():
                clock.seconds[stage] = clock.seconds.get(stage, 0.0) + seconds
            examined = detections.tiles_read + detections.unreadable
            damage = _damage(item.path.name, detections.unreadable, examined, "tiles with cells")
            with clock.stage("crop"):
                bag = self._patches(slide, detections.boxes, detections.scores)
            damage += _damage(item.path.name, bag.unreadable, int(bag.mask.sum()) + bag.unreadable, "suspicious cells")
            if self.models.reranker is not None:
                with clock.stage("rerank"):
                    bag = self.models.reranker(bag, item.slide_id)
            with clock.stage("classify"):
                crops = bag.images[: int(bag.mask.sum())]
                features = encode(crops, self.models.classifier, self.models.device)
            with clock.stage("decide"):
                evidence = judge(features, self.models.classifier, self._top_k, self._activation)
            if not evidence.finite:
                raise SlideError(
                    f"{item.path.name}: the slide classifier gives values that are no numbers", "check its weights"
                )
            with clock.stage("describe"):
                classes = [CELL_CLASSES[index] for index in evidence.cells.argmax(axis=1)]
                words = self.models.explainer(features, classes, item.path.name)
            with clock.stage("crop"):
                pictures = pictures_of(slide, bag.boxes[: len(crops)], self._patches.crop_px * self._patches.crop_mpp)
        unreadable = detections.unreadable + bag.unreadable
        quality = _quality(detections, facts, unreadable, slide.notes)
        reason = "; ".join(damage) or _unsatisfactory(quality)
        findings = self._findings(item, facts, quality, reason, _cells(bag, evidence, words), evidence.slide)
        return Screened(findings, pictures, clock.seconds, SlideSource(item.path, identity_of(item.path)))

    def _findings(
        self,
        item: SlideInput,
        facts: SlideFacts,
        quality: Quality,
        reason: str,
        cells: tuple[Cell, ...],
        probabilities: NDArray[np.float64] | None,
    ) -> Findings:
        point = self.models.operating_point
        used = replace(self._resolved, mpp=facts.mpp, mpp_source=facts.mpp_source, reader=facts.reader)
        slide_class = score = None
        if probabilities is not None:
            slide_class = SLIDE_CLASSES[int(probabilities.argmax())]
            score = binary_score(probabilities.tolist())
        return Findings(
            status=SlideStatus.UNSATISFACTORY if reason else SlideStatus.OK,
            reason=reason,
            slide=facts,
            quality=quality,
            slide_probabilities=None if probabilities is None else tuple(probabilities.tolist()),
            slide_class=slide_class,
            score=score,
            call=point.call(score, satisfactory=not reason),
            operating_point=point,
            cells=cells,
            described=self.models.explainer.facts,
            provenance=Provenance(
                package_version=stride_monai.__version__,
                config_hash=self.config_hash(item),
                weights=self.models.weights,
                requested=self.config.for_findings(item.mpp),
                used=plain(asdict(used)),
                weights_note=self.models.note,
            ),
        )

    def _resolve(self) -> ResolvedConfig:
        config, models, detect = self.config, self.models, self._detect
        detector, classifier, reranker = models.detector_choice, models.classifier_choice, models.reranker
        words = models.explainer.facts
        return ResolvedConfig(
            device=models.device.type,
            precision="float32",
            profile=config.profile,
            bundles=None if config.bundles is None else config.bundles.absolute().name,
            detector=detector.name,
            classifier=classifier.name,
            why={"detector": detector.why, "classifier": classifier.why},
            rerank=reranker is not None,
            reranker=None if reranker is None else reranker.name,
            candidates=None if reranker is None else reranker.candidates,
            descriptions=words.made,
            description_threshold=words.threshold if words.made else None,
            activation=self._activation,
            force=config.force,
            tile_px=detect.tile_px,
            tile_mpp=detect.tile_mpp,
            overlap_px=detect.overlap_px,
            origin=detect.origin,
            min_score=detect.min_score,
            max_per_tile=detect.max_per_tile,
            nms_iou=detect.nms_iou,
            top_k=models.numbers["detection"]["top_k"],
            crop_px=self._patches.crop_px,
            crop_mpp=self._patches.crop_mpp,
            bag_size=self._top_k,
            weights={name: [file.name for file in origin.files] for name, origin in models.origins.items()},
            weights_from={name: origin.how for name, origin in models.origins.items()},
            weights_sha256=models.weights,
            version=stride_monai.__version__,
            image=config.image,
            plane=config.plane,
        )


def _cells(bag: CellBag, evidence: Evidence, words: Sequence[tuple[Description, ...]]) -> tuple[Cell, ...]:
    return tuple(
        Cell(
            rank=row + 1,
            score=float(bag.scores[row]),
            box=Box(*(round(float(c), 2) for c in bag.boxes[row])),
            cell_class=CELL_CLASSES[int(evidence.cells[row].argmax())],
            probabilities=tuple(evidence.cells[row].tolist()),
            attention=float(evidence.attention[row]),
            descriptions=words[row],
            cam=float(evidence.cam[row]),
            rerank_score=None if bag.rerank_scores is None else float(bag.rerank_scores[row]),
        )
        for row in range(len(evidence.cells))
    )


def _quality(detections: Detections, facts: SlideFacts, unreadable: int, chosen: Sequence[str]) -> Quality:
    adequate = None if facts.reader == _FIELD_READER else detections.estimated_cells >= MIN_CELLS
    notes = [*(f"{note[:1].upper()}{note[1:]}." for note in chosen), *detections.foreground.notes]
    if adequate is None:
        notes.append("A single field: adequacy is not assessed.")
    if unreadable:
        notes.append(f"{unreadable} regions could not be decoded and were not examined.")
    return Quality(
        foreground_mm2=detections.foreground.area_mm2,
        estimated_cells=detections.estimated_cells,
        focus=detections.focus,
        pen_fraction=detections.foreground.pen_fraction,
        tiles_read=detections.tiles_read,
        unreadable_regions=unreadable,
        adequate=adequate,
        notes=tuple(notes),
    )


def _damage(file_name: str, unreadable: int, tried: int, what: str) -> list[str]:
    """Why a slide is unsatisfactory for what could not be decoded: damage is no finding about the specimen.

    Raises:
        SlideError: more is lost than is left.
    """
    if unreadable > UNREADABLE_FAILS * tried:
        raise SlideError(
            f"{file_name}: {unreadable:,} of {tried:,} {what} cannot be decoded", "copy it again from the scanner"
        )
    if unreadable > UNREADABLE_UNSATISFACTORY * tried:
        return [f"{unreadable:,} of {tried:,} {what} could not be decoded and were not examined"]
    return []


def _unsatisfactory(quality: Quality) -> str:
    if quality.tiles_read == 0:
        return "no deposit was found on the slide"
    if quality.adequate is False:
        return f"about {quality.estimated_cells:,} nucleated cells, fewer than the {MIN_CELLS:,} of an adequate slide"
    return ""
