"""One slide, from its file or from its bag: find its cells, judge them, describe them, and decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import stride_monai
from stride_monai.bethesda import SLIDE_CLASSES, binary_score
from stride_monai.data.bags.bag import BagFile, BagHeader
from stride_monai.errors import BundleError, ConfigError
from stride_monai.files import config_hash, fingerprint
from stride_monai.findings import (
    Cell,
    Description,
    Findings,
    OperatingPoint,
    Pictures,
    Provenance,
    Quality,
    Screened,
    SlideFacts,
    SlideSource,
    SlideStatus,
)
from stride_monai.inferers.adequacy import QualityRules, is_damaged, made_satisfactory
from stride_monai.inferers.bag_files import read_bag
from stride_monai.inferers.clock import Clock
from stride_monai.inferers.find import CellFinder
from stride_monai.inferers.judge import Evidence, judge
from stride_monai.inferers.rerank import RULE, proposed
from stride_monai.inferers.slide_detection import SlideDetectionInferer
from stride_monai.inferers.threshold import ChosenCells, threshold_at, threshold_for
from stride_monai.networks.mil.activation import ACTIVATIONS
from stride_monai.screening.config import ResolvedConfig, ScreeningConfig
from stride_monai.screening.inputs import SlideInput, is_bag_path, one_input, open_input, slide_fingerprint_of
from stride_monai.screening.loaders import load_models
from stride_monai.screening.models import Models
from stride_monai.screening.pictures import pictures_in, pictures_of
from stride_monai.slides.dicom_header import identity_of
from stride_monai.transforms.topk_patches import CellBag
from stride_monai.units import Box

__all__ = ["Screener"]

_OF_DETECTION = ("tile_px", "tile_mpp", "overlap_px", "min_score", "max_per_tile", "nms_iou")
_OF_BAGS = "float32"
_NO_FILE = "The cells come from a bag file, which does not say what the slide's file is."
_NO_QUALITY = "The bag file says nothing of the slide's quality: adequacy is not assessed."


@dataclass(frozen=True, slots=True)
class _Seen:
    """A slide's cells and what is said of them, wherever they come from.

    Attributes:
        weights: part -> SHA-256 of its weights file.
        note: what is to be known of weights and threshold.
        used: values in effect that differ from those of the other slides.
    """

    facts: SlideFacts
    bag: CellBag
    evidence: Evidence
    words: Sequence[tuple[Description, ...]]
    pictures: Pictures
    point: OperatingPoint
    weights: Mapping[str, str]
    note: str
    used: Mapping[str, Any]


class Screener:
    """Screens slides with one set of networks, loaded once.

    A slide is a file, or a bag file with its cells. Either way the cells are judged, described and decided alike.

    Args:
        config: what is asked for.
        models: the networks; None to load those that it names. Without a detector they take bag files only.

    Attributes:
        finder: finds the cells of a slide, or of a part of it; None without a detector.

    Raises:
        BundleError, ConfigError, MissingExtraError: the networks cannot be loaded as asked.
    """

    def __init__(self, config: ScreeningConfig, models: Models | None = None) -> None:
        self.config = config
        self.models: Models = models or load_models(config)
        slides = self.models.numbers[self.models.classifier_choice.name]
        self._crop_px, self._crop_mpp, self._top_k = slides["crop_px"], slides["crop_mpp"], int(slides["top_k"])
        self._activation = config.activation or str(slides.get("activation", ACTIVATIONS[0]))
        if self._activation not in ACTIVATIONS:
            raise ConfigError(f"unknown activation '{self._activation}'", f"use one of {', '.join(ACTIVATIONS)}")
        self._rules = QualityRules.of(config.quality)
        self.finder = self._finder()
        self._resolved = self._resolve()

    def config_hash(self, item: SlideInput) -> str:
        """Names everything but the slide that decides the findings: what was asked and what is used."""
        asked = self.config.for_findings(item.mpp)
        if is_bag_path(item.path):
            used = asdict(self._for_bags._resolved)
            return config_hash({"requested": asked, "used": used, "bag": fingerprint(item.path)})
        return config_hash({"requested": asked, "used": asdict(self._resolved)})

    def screen(self, slide: SlideInput | Path | str, progress: Callable[[int, int], None] | None = None) -> Screened:
        """Screen one slide.

        Args:
            slide: its file, or its bag file; or with its id and um/px.
            progress: called with (tiles done, tiles in all).

        Raises:
            SlideError: the slide cannot be opened or its um/px is not known.
            BagError: the bag file is damaged, of other crops, or was cut to fewer cells than K.
        """
        item, clock = one_input(slide), Clock()
        if is_bag_path(item.path):
            seen = self._for_bags._in_bag(item, clock)
            return Screened(self._for_bags._findings(item, seen), seen.pictures, clock.seconds)
        seen = self._on_slide(item, clock, progress)
        source = SlideSource(item.path, identity_of(item.path))
        return Screened(self._findings(item, seen), seen.pictures, clock.seconds, source)

    @cached_property
    def _for_bags(self) -> Screener:
        """What says nothing of a detector that did not choose the cells."""
        return self if self.finder is None else Screener(self.config, self.models.without_detector())

    def _on_slide(self, item: SlideInput, clock: Clock, progress: Callable[[int, int], None] | None) -> _Seen:
        models, name = self.models, item.path.name
        if self.finder is None:
            raise BundleError(f"{name}: no detector was loaded", "give bag files, or a bundle detection")
        with clock.stage("open"):
            slide = open_input(item, self.config)
        with slide:
            facts = replace(slide.facts, slide_id=item.slide_id, fingerprint=slide_fingerprint_of(item.path))
            bag = self.finder.find(slide, progress=progress, clock=clock, slide_id=item.slide_id)
            evidence, words = self._judge(bag, name, clock)
            with clock.stage("crop"):
                shown = bag.boxes[: len(words)]
                pictures = pictures_of(slide, shown, self._crop_px, self._crop_mpp, bag.ground)
        point, caveat = threshold_at(models.operating_point, models.given_point, facts.mpp, self.config.force)
        note = " ".join(part for part in (models.note, caveat) if part)
        return _Seen(facts, bag, evidence, words, pictures, point, models.weights, note, {})

    def _in_bag(self, item: SlideInput, clock: Clock) -> _Seen:
        models = self.models
        if models.precision != _OF_BAGS:
            raise ConfigError(
                f"bag files are judged in {_OF_BAGS}, in which their cells were found, not in {models.precision}",
                "leave --precision out",
            )
        with clock.stage("open"):
            file = BagFile(item.path)
            header = file.header
            if not self.config.force:
                file.refuse_cut(self._top_k)
            bag = read_bag(file, self._crop_px, self._crop_mpp)
        evidence, words = self._judge(bag, f"slide '{item.slide_id}'", clock)
        cut = len(file) == header.top_k < self._top_k
        point, caveat = threshold_for(
            models.classifier,
            header.top_k if cut else self._top_k,
            ChosenCells(header.detector_sha256, header.reranker_sha256, header.candidates, header.rerank_rule),
            models.threshold_source,
            self.config.force,
            name=models.classifier_choice.name,
            given=models.given_point,
            now=models.held_for,
        )
        point, why_not = threshold_at(point, models.given_point, header.slide_mpp, self.config.force)
        chose = {"detection": header.detector_sha256, "cell_cls": header.reranker_sha256}
        return _Seen(
            _facts_of(item, header),
            bag if bag.quality else bag._replace(quality=Quality(notes=(_NO_QUALITY,))),
            evidence,
            words,
            pictures_in(file, self._crop_px),
            point,
            {**{name: sha256 for name, sha256 in chose.items() if sha256}, **models.weights},
            " ".join(part for part in (models.note, caveat, why_not) if part),
            {
                "rerank": bool(header.reranker_sha256),
                "candidates": header.candidates or None,
                "rerank_rule": header.rerank_rule or None,
                "top_k": header.top_k,
            },
        )

    def _judge(self, bag: CellBag, name: str, clock: Clock) -> tuple[Evidence, Sequence[tuple[Description, ...]]]:
        models, levels = self.models, self.models.explainer.levels
        evidence = judge(bag, models.classifier, self._top_k, self._activation, name, clock, levels, models.features)
        with clock.stage("describe"):
            return evidence, models.explainer.describe(evidence.features, evidence.cell_classes, name)

    def _findings(self, item: SlideInput, seen: _Seen) -> Findings:
        facts, reason, probabilities = seen.facts, seen.bag.unsatisfactory, seen.evidence.slide
        quality = seen.bag.quality
        assert quality is not None
        used = replace(self._resolved, mpp=facts.mpp, mpp_source=facts.mpp_source, reader=facts.reader, **seen.used)
        slide_class = score = None
        if probabilities is not None:
            slide_class = SLIDE_CLASSES[int(probabilities.argmax())]
            score = binary_score(probabilities.tolist())
        call = seen.point.call(score, satisfactory=not reason)
        damaged = is_damaged(quality, int(seen.bag.mask.sum()), seen.bag.unreadable, self._rules)
        lacking = "" if damaged else reason
        if saved := made_satisfactory(lacking, call, seen.evidence.cells.tolist(), self._rules):
            reason, quality = "", replace(quality, notes=(saved, *quality.notes))
        return Findings(
            status=SlideStatus.UNSATISFACTORY if reason else SlideStatus.OK,
            reason=reason,
            slide=facts,
            quality=quality,
            slide_probabilities=None if probabilities is None else tuple(probabilities.tolist()),
            slide_class=slide_class,
            score=score,
            call=call,
            operating_point=seen.point,
            cells=_cells(seen.bag, seen.evidence, seen.words),
            described=self.models.explainer.facts,
            provenance=Provenance(
                package_version=stride_monai.__version__,
                config_hash=self.config_hash(item),
                weights=seen.weights,
                requested=self.config.for_findings(item.mpp),
                used=asdict(used),
                weights_note=seen.note,
            ),
        )

    def _finder(self) -> CellFinder | None:
        models = self.models
        if models.detector is None:
            return None
        detection = models.numbers["detection"]
        settings = {name: detection[name] for name in _OF_DETECTION}
        inferer = SlideDetectionInferer(**settings, top_k=proposed(detection["top_k"], models.reranker))
        return CellFinder(models.detector, inferer, self._crop_px, self._crop_mpp, models.reranker, self._rules)

    def _resolve(self) -> ResolvedConfig:
        config, models = self.config, self.models
        inferer = None if self.finder is None else self.finder.inferer
        detector, classifier, reranker = models.detector_choice, models.classifier_choice, models.reranker
        words = models.explainer.facts
        return ResolvedConfig(
            device=models.device.type,
            runtime=models.runtime._asdict(),
            precision=models.precision,
            int8_networks=dict(models.int8) or None,
            profile=config.profile,
            bundles=None if config.bundles is None else config.bundles.absolute().name,
            detector=detector and detector.name,
            classifier=classifier.name,
            why={name: choice.why for name, choice in (("detector", detector), ("classifier", classifier)) if choice},
            rerank=reranker is not None,
            reranker=None if reranker is None else reranker.name,
            candidates=None if reranker is None else reranker.candidates,
            rerank_rule=None if reranker is None else RULE,
            descriptions=words.made,
            description_threshold=words.threshold if words.made else None,
            activation=self._activation,
            force=config.force,
            **{name: getattr(inferer, name, None) for name in (*_OF_DETECTION, "origin")},
            top_k=models.numbers["detection"]["top_k"] if inferer else None,
            crop_px=self._crop_px,
            crop_mpp=self._crop_mpp,
            bag_size=self._top_k,
            weights={name: [file.name for file in origin.files] for name, origin in models.origins.items()},
            weights_from={name: origin.how for name, origin in models.origins.items()},
            weights_sha256=dict(models.weights),
            quality=asdict(self._rules),
            version=stride_monai.__version__,
            image=config.image,
            plane=config.plane,
            operating_point=None
            if models.given_point is None
            else {
                "name": models.given_point.name,
                "sha256": models.given_point.sha256,
                "threshold": models.given_point.point.threshold,
            },
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


def _facts_of(item: SlideInput, header: BagHeader) -> SlideFacts:
    """What a bag says of its slide; nothing is made up for what it does not say."""
    return SlideFacts(
        slide_id=item.slide_id,
        file_name=None,
        width=None,
        height=None,
        mpp=header.slide_mpp,
        mpp_source="bag",
        mpp_in_file=None,
        objective=None,
        reader=None,
        format=None,
        levels=(),
        bounds_offset=None,
        fingerprint=header.slide_fingerprint or None,
        reason=_NO_FILE,
    )
