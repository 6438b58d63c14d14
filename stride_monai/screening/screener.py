"""One slide: find its cells, judge them, describe them, and decide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import stride_monai
from stride_monai.bethesda import SLIDE_CLASSES, binary_score
from stride_monai.errors import ConfigError
from stride_monai.files import config_hash
from stride_monai.findings import (
    Cell,
    Description,
    Findings,
    Provenance,
    Screened,
    SlideFacts,
    SlideSource,
    SlideStatus,
)
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.find import CellFinder
from stride_monai.inferers.judge import Evidence, judge
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.networks.mil.activation import ACTIVATIONS
from stride_monai.screening.config import ResolvedConfig, ScreeningConfig, plain
from stride_monai.screening.inputs import SlideInput, one_input
from stride_monai.screening.models import Models, load_models
from stride_monai.screening.opening import open_input
from stride_monai.screening.pictures import pictures_of
from stride_monai.slides.dicom_header import identity_of
from stride_monai.slides.parts import slide_fingerprint
from stride_monai.transforms.topk_patches import CellBag
from stride_monai.units import Box

__all__ = ["Screener"]


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
        detect = SlideDetectionInferer(
            tile_px=detection["tile_px"],
            tile_mpp=detection["tile_mpp"],
            overlap_px=detection["overlap_px"],
            top_k=proposed,
            min_score=detection["min_score"],
            max_per_tile=detection["max_per_tile"],
            nms_iou=detection["nms_iou"],
        )
        crop_px, crop_mpp = slides["crop_px"], slides["crop_mpp"]
        self._finder = CellFinder(self.models.detector, detect, crop_px, crop_mpp, reranker)
        self._top_k = int(slides["top_k"])
        self._activation = config.activation or str(slides.get("activation", ACTIVATIONS[0]))
        if self._activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation '{self._activation}'", f"use one of {', '.join(ACTIVATIONS)}")
        self._resolved = self._resolve()

    def config_hash(self, item: SlideInput) -> str:
        """Names everything but the slide that decides the findings: what was asked and what is used."""
        return config_hash({"requested": self.config.for_findings(item.mpp), "used": asdict(self._resolved)})

    def screen(self, slide: SlideInput | Path | str, progress: Callable[[int, int], None] | None = None) -> Screened:
        """Screen one slide.

        Args:
            slide: its file; or with its id and um/px.
            progress: called with (tiles done, tiles in all).

        Raises:
            SlideError: the slide cannot be opened or its um/px is not known.
        """
        item = one_input(slide)
        clock, models, name = Clock(), self.models, item.path.name
        with clock.stage("open"):
            opened = open_input(item, self.config)
        with opened:
            facts = replace(opened.facts, slide_id=item.slide_id, fingerprint=slide_fingerprint(item.path))
            bag = self._finder.find(opened, progress=progress, clock=clock, slide_id=item.slide_id)
            evidence = judge(bag, models.classifier, self._top_k, self._activation, name, clock)
            with clock.stage("describe"):
                words = models.explainer.describe(evidence.features, evidence.cell_classes, name)
            with clock.stage("crop"):
                field_um = self._finder.crop_px * self._finder.crop_mpp
                pictures = pictures_of(opened, bag.boxes[: len(words)], field_um)
        findings = self._findings(item, facts, bag, _cells(bag, evidence, words), evidence.slide)
        return Screened(findings, pictures, clock.seconds, SlideSource(item.path, identity_of(item.path)))

    def _findings(
        self,
        item: SlideInput,
        facts: SlideFacts,
        bag: CellBag,
        cells: tuple[Cell, ...],
        probabilities: NDArray[np.float64] | None,
    ) -> Findings:
        assert bag.quality is not None
        point, reason = self.models.operating_point, bag.unsatisfactory
        used = replace(self._resolved, mpp=facts.mpp, mpp_source=facts.mpp_source, reader=facts.reader)
        slide_class = score = None
        if probabilities is not None:
            slide_class = SLIDE_CLASSES[int(probabilities.argmax())]
            score = binary_score(probabilities.tolist())
        return Findings(
            status=SlideStatus.UNSATISFACTORY if reason else SlideStatus.OK,
            reason=reason,
            slide=facts,
            quality=bag.quality,
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
        config, models, detect = self.config, self.models, self._finder.inferer
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
            crop_px=self._finder.crop_px,
            crop_mpp=self._finder.crop_mpp,
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
            cell_class=cell_class,
            probabilities=tuple(evidence.cells[row].tolist()),
            attention=float(evidence.attention[row]),
            descriptions=words[row],
            cam=float(evidence.cam[row]),
            rerank_score=None if bag.rerank_scores is None else float(bag.rerank_scores[row]),
        )
        for row, cell_class in enumerate(evidence.cell_classes)
    )
