"""What all tasks of the app share: the folders, the annotations, the networks and their versions."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from lib.place import Place
from lib.trainers.versions import Versions
from stride_monai.annotations import AnnotationStore, SlideFolder
from stride_monai.errors import SlideError
from stride_monai.exporters import load_writers
from stride_monai.findings import Findings
from stride_monai.screening import (
    Batch,
    CellsClassifier,
    ClassifyConfig,
    Screener,
    ScreeningConfig,
    SlideInput,
    load_cells_classifier,
    screen_batch,
)


class Workbench:
    """Networks are loaded when they are first needed, and again when another version of one is put to use."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.versions = Versions(place.work / "versions", place.profile)
        self.busy = threading.Lock()
        """Held by whoever computes: networks are used by one request at a time."""
        self._taken_up: dict[str, int] = {}
        self._screener: tuple[object, Screener] | None = None
        self._classifiers: dict[str, tuple[object, CellsClassifier]] = {}

    @cached_property
    def store(self) -> AnnotationStore:
        return AnnotationStore(self.place.results)

    @property
    def slides(self) -> SlideFolder:
        return SlideFolder(self.place.studies)

    def weights(self, *stages: str) -> Mapping[str, Sequence[Path]]:
        """Weights of one's own that are in use, of these stages."""
        return {stage: [path] for stage in stages if (path := self.versions.current_weights(stage)) is not None}

    def screener(self) -> Screener:
        """Call it while :attr:`busy` is held."""
        weights = self.weights("detection", "text_align")
        key = {stage: str(paths) for stage, paths in weights.items()}
        if self._screener is None or self._screener[0] != key:
            place = self.place
            config = ScreeningConfig(
                profile=place.profile, detector=place.detector, device=place.device, mpp=place.mpp, weights=weights
            )
            self._screener = key, Screener(config)
        return self._screener[1]

    def classifier(self) -> CellsClassifier:
        """Call it while :attr:`busy` is held."""
        return self._cells_classifier("network", self.weights("cell_cls"))

    def teacher(self) -> CellsClassifier | None:
        """The moving average of the classifier in use, where its training kept one; while :attr:`busy` is held."""
        weights = self.versions.current_teacher("cell_cls")
        return None if weights is None else self._cells_classifier("teacher", {"cell_cls": [weights]})

    def _cells_classifier(self, role: str, weights: Mapping[str, Sequence[Path]]) -> CellsClassifier:
        known = self._classifiers.get(role)
        if known is None or known[0] != weights:
            place = self.place
            config = ClassifyConfig(
                profile=place.profile, device=place.device, mpp=place.mpp, classifier="cell_cls", weights=weights
            )
            known = self._classifiers[role] = weights, load_cells_classifier(config)
        return known[1]

    def screened(self, path: Path, slide_id: str, refresh: bool = False) -> Findings:
        """The findings of a slide, made where there are none of the present networks; its cells come up for review.

        Raises:
            SlideError: the slide failed; says why.
        """
        results = self.place.results
        with self.busy:
            batch = Batch(self.screener(), results, load_writers(), overwrite=refresh, inputs=[path])
            (outcome,) = screen_batch(batch, [SlideInput(path, slide_id)])
        if outcome.status == "failed":
            raise SlideError(outcome.reason)
        findings = Findings.from_json((results / slide_id / "findings.json").read_text(encoding="utf-8"))
        self.store.propose(findings, self.place.cells)
        return findings

    def take_up(self) -> None:
        """The cells of slides that were screened by somebody else, as by the command, come up for review too."""
        for slide_id in self.slides.ids():
            path = self.place.results / slide_id / "findings.json"
            stamp = path.stat().st_mtime_ns if path.is_file() else 0
            if stamp and self._taken_up.get(slide_id) != stamp:
                self.store.propose(Findings.from_json(path.read_text(encoding="utf-8")), self.place.cells)
                self._taken_up[slide_id] = stamp
