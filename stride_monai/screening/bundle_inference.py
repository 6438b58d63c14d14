"""Slides through ``inference.json`` of swift_mil or coloradv: screening, with that configuration's networks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stride_monai.errors import SlideError
from stride_monai.inferers.rerank import CELL_BUNDLE
from stride_monai.networks.weights import load_into
from stride_monai.run_index import Outcome
from stride_monai.runs.progress import Progress
from stride_monai.screening.batch import Batch, Writer, screen_batch
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.explain import TEXT_BUNDLE, load_explainer
from stride_monai.screening.inputs import collect
from stride_monai.screening.models import Models, join, load_detector, slide_classifier_of
from stride_monai.screening.reranking import reranker_from
from stride_monai.screening.screener import Screener
from stride_monai.screening.store import BundleStore, Choice, Chosen
from stride_monai.workflows.load import LoadedBundle, hash_of

__all__ = ["SlideInference"]

_log = logging.getLogger(__name__)


class SlideInference:
    """Finds cells on slides with the bundle ``detection``, decides with a slide classifier, and writes what it knows.

    It is what ``stride-monai screen`` does, and the files are the same. A slide that fails does not stop the others.

    Args:
        slides: a slide, a folder of slides (one with ``manifest.csv`` is a cohort, of which the manifest counts), a
            manifest, or a list of them.
        output_dir: one folder per slide, ``summary.csv`` and ``run.json``.
        network: a :class:`~stride_monai.networks.SlideClassifier`; takes the weights.
        weights: its weights file, or a base and files of what differs.
        numbers: ``top_k``, ``crop_px`` and ``crop_mpp`` of the classifier.
        bundles: folder in which ``detection``, ``cell_cls`` and ``text_align`` lie.
        config: how to screen; its ``device`` is that of the network, its ``bundles`` and ``classifier`` are not used.
            A ``text_align`` of another image encoder than the network's is refused where ``descriptions`` is True; with
            None the cells are not described then, and all that is written says so.
        writers: by name, what to write for each slide.
        bundle_root: the folder of the bundle that is run; names the slide classifier.
    """

    def __init__(
        self,
        slides: Any,
        output_dir: Path | str,
        network: nn.Module,
        weights: Path | str | Sequence[Path | str],
        numbers: Mapping[str, Any],
        bundles: Path | str,
        config: ScreeningConfig,
        writers: Mapping[str, Writer],
        bundle_root: Path | str = "swift_mil",
    ) -> None:
        given = [slides] if isinstance(slides, str | Path) else list(slides)
        self.slides = [_manifest_of(Path(path)) for path in given]
        self.output_dir, self.network, self.numbers = Path(output_dir), network, dict(numbers)
        self.weights = [Path(part) for part in ([weights] if isinstance(weights, str | Path) else weights)]
        self.bundles, self.config, self.writers = Path(bundles), config, writers
        self.name = Path(bundle_root).resolve().name

    def run(self) -> list[Outcome]:
        """Screen the slides.

        Raises:
            SlideError: there is neither a slide nor a bag file; or, at the end, slides failed.
            BundleError, ConfigError: the networks do not fit together, or the threshold does not hold for this K or
                this detector.
        """
        items = collect(self.slides)
        if all(item.problem for item in items):
            reason = items[0].problem if items else "nothing given"
            where = ", ".join(str(path.absolute()) for path in self.slides[:3])
            raise SlideError(
                f"there is neither a slide nor a bag file to classify in {where or 'dataset_dir'} ({reason})",
                "give dataset_dir: bag files or their folder; or slides, a folder of them or a manifest",
            )
        screener = Screener(self.config, self._models())
        _log.info("%d slides, detector %s (%s)", len(items), *screener.models.detector_choice)
        words = screener.models.explainer.facts
        _log.info("%s (%s)", "cells are described" if words.made else "cells are not described", words.why)
        _log.info("%s", screener.models.note)
        batch = Batch(screener, self.output_dir, self.writers, command=sys.argv, inputs=self.slides)
        progress = Progress(item.slide_id for item in items)

        def tell(outcome: Outcome) -> None:
            said = (
                outcome.reason if outcome.slide_class is None else f"{outcome.slide_class}, score {outcome.score:.3f}"
            )
            _log.info("%s: %s, %s, %s", outcome.slide_id, outcome.status, outcome.call or "no call", said)
            _log.info("%s", progress.step(outcome.slide_id, made=not outcome.resumed))

        outcomes = screen_batch(batch, items, on_done=tell)
        if failed := [outcome for outcome in outcomes if outcome.status == "failed"]:
            raise SlideError(
                f"{len(failed)} of {len(outcomes)} slides failed ({failed[0].reason})",
                "summary.csv says why; the same command tries them again",
            )
        return outcomes

    def _models(self) -> Models:
        config = self.config
        device = torch.device(config.device)
        metadata = load_into(self.network, self.weights)
        loaded = LoadedBundle(self.network.to(device), self.numbers, hash_of(self.weights), metadata)
        slides = Chosen(Choice(self.name, "the bundle that was run"), loaded)
        store = BundleStore.of(replace(config, bundles=self.bundles, weights={}), device)
        for name in ("detection", CELL_BUNDLE, TEXT_BUNDLE):
            if store[name].home.parent.resolve() != self.bundles.resolve():
                _log.warning("%s holds no %s: the package's own is used, if any is", self.bundles, name)
        detection = load_detector(store, config.detector)
        reranker = None
        if config.rerank:
            top_k = detection.bundle.numbers["top_k"]
            reranker, _ = reranker_from(store, top_k, config.candidates, config.reranker)
        encoder, wanted = slide_classifier_of(slides).encoder, config.descriptions
        explainer = load_explainer(store, encoder, wanted, strict=False)
        return join(detection, slides, reranker, device, config.force, explainer)


def _manifest_of(path: Path) -> Path:
    manifest = path / "manifest.csv"
    return manifest if manifest.is_file() else path
