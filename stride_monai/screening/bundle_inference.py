"""Slides and bag files through ``inference.json`` of swift_mil or coloradv: screening with that bundle's networks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.inferers import Inferer
from torch import nn

from stride_monai.data.bags.folder import holds_bags
from stride_monai.errors import SlideError
from stride_monai.files import paths_of
from stride_monai.findings import Screened
from stride_monai.inferers.rerank import CELL_BUNDLE
from stride_monai.networks.exporting import refuse_exported
from stride_monai.networks.weights import load_into
from stride_monai.run_index import Outcome
from stride_monai.runs.progress import Progress
from stride_monai.screening.batch import Batch, Tell, Writer, screen_batch
from stride_monai.screening.config import ScreeningConfig
from stride_monai.screening.inputs import SlideInput, collect, collect_bags, is_bag_path
from stride_monai.screening.loaders import load_detector, load_explainer
from stride_monai.screening.models import TEXT_BUNDLE, Models, join, slide_classifier_of
from stride_monai.screening.reranking import Reranking, share_encoder
from stride_monai.screening.screener import Screener
from stride_monai.screening.store import BundleStore, Choice, Chosen
from stride_monai.workflows.load import LoadedBundle, hash_of

__all__ = ["ScreeningInferer", "SlideInference", "slides_or_bags"]

_log = logging.getLogger(__name__)


def slides_or_bags(given: Any) -> list[SlideInput]:
    """What there is to classify: bag files where there are any, else slides.

    Args:
        given: a bag file or a folder of them; a slide, a folder of slides (one with ``manifest.csv`` is a cohort, of
            which the manifest counts), a manifest; or a list of such.

    Raises:
        SlideError: there is neither a slide nor a bag file.
        BagError: there are two bags of one slide.
    """
    places = paths_of(given)
    if holds_bags(places):
        return collect_bags(places)
    items = collect([_manifest_of(path) for path in places])
    if all(item.problem for item in items):
        reason = items[0].problem if items else "nothing given"
        where = ", ".join(str(path.absolute()) for path in places[:3])
        raise SlideError(
            f"there is neither a slide nor a bag file to classify in {where or 'dataset_dir'} ({reason})",
            "give dataset_dir: bag files or their folder; or slides, a folder of them or a manifest",
        )
    return items


class ScreeningInferer(Inferer):
    """Screens a slide or a bag file with the slide classifier of a bundle's configuration.

    Args:
        network: a :class:`~stride_monai.networks.SlideClassifier`; takes the weights.
        weights: its weights file, or a base and files of what differs.
        numbers: ``top_k``, ``crop_px`` and ``crop_mpp`` of the classifier.
        bundles: folder in which ``detection``, ``cell_cls`` and ``text_align`` lie.
        config: how to screen; its ``device`` is that of the network, its ``bundles`` and ``classifier`` are not used.
            A ``text_align`` of another image encoder than the network's is refused where ``descriptions`` is True; with
            None the cells are not described then, and all that is written says so.
        bundle_root: the folder of the bundle that is run; names the slide classifier.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: Path | str | Sequence[Path | str],
        numbers: Mapping[str, Any],
        bundles: Path | str,
        config: ScreeningConfig,
        bundle_root: Path | str = "swift_mil",
    ) -> None:
        super().__init__()
        self.network, self.numbers = network, dict(numbers)
        self.weights = paths_of(weights)
        self.bundles, self.config = Path(bundles), config
        self.name = Path(bundle_root).resolve().name

    def __call__(self, inputs: SlideInput, network: nn.Module | None = None, *args: Any, **kwargs: Any) -> Screened:
        """Screen one slide, or one bag file. Arguments beside the first are not used."""
        return self.screener(on_bags=is_bag_path(inputs.path)).screen(inputs)

    def screener(self, on_bags: bool) -> Screener:
        """The networks, loaded; for bag files those that find cells are left out.

        Raises:
            BundleError, ConfigError: the networks do not fit together, or the threshold does not hold for this K or
                this detector.
        """
        refuse_exported(self.network, "attention, activations and classes of cells")
        config, device = self.config, torch.device(self.config.device)
        metadata = load_into(self.network, self.weights)
        loaded = LoadedBundle(self.network.to(device), self.numbers, hash_of(self.weights), metadata)
        slides = Chosen(Choice(self.name, "the bundle that was run"), loaded)
        store = BundleStore.of(replace(config, bundles=self.bundles, weights={}), device)
        for name in (TEXT_BUNDLE,) if on_bags else ("detection", CELL_BUNDLE, TEXT_BUNDLE):
            if store[name].home.parent.resolve() != self.bundles.resolve():
                _log.warning("%s holds no %s: the package's own is used, if any is", self.bundles, name)
        detection, reranker = None, None
        if not on_bags:
            detection = load_detector(store, config.detector)
            held = slide_classifier_of(slides).detector_sha256
            reranker = Reranking(store, config, detection).fitting(held)
        encoder, wanted = slide_classifier_of(slides).encoder, config.descriptions
        explainer = load_explainer(store, encoder, wanted, strict=False)
        models = join(detection, slides, reranker, device, config, explainer)
        return Screener(config, share_encoder(self._joined(models)))

    def _joined(self, models: Models) -> Models:
        words = models.explainer.facts
        if models.detector_choice is not None:
            _log.info("detector %s (%s)", *models.detector_choice)
        _log.info("%s (%s)", "cells are described" if words.made else "cells are not described", words.why)
        _log.info("%s", models.note)
        return models


class SlideInference:
    """Decides slides, whose cells are found with the bundle ``detection``, or bag files; and writes what is known.

    It is what ``stride-monai screen`` does, and the files are the same. A slide that fails does not stop the others.

    Args:
        dataset: what :func:`slides_or_bags` gives, e.g. as the data of a :class:`monai.data.Dataset`.
        output_dir: one folder per slide, ``summary.csv`` and ``run.json``.
        writers: by name, what to write for each slide.
        inputs: files and folders that were named; nothing is written over them.
        val_handlers: of MONAI or Ignite, e.g. of an experiment tracker; for them the run is one iteration, whose output
            are the outcomes.
    """

    def __init__(
        self,
        dataset: Sequence[SlideInput],
        inferer: ScreeningInferer,
        output_dir: Path | str,
        writers: Mapping[str, Writer],
        inputs: Any = (),
        val_handlers: Sequence[Any] = (),
    ) -> None:
        self.handlers = val_handlers
        self.dataset, self.inferer, self.output_dir, self.writers = dataset, inferer, Path(output_dir), writers
        self.inputs = paths_of(inputs)

    def run(self) -> list[Outcome]:
        """Screen the slides.

        Raises:
            BundleError, ConfigError: see :meth:`ScreeningInferer.screener`.
            SlideError: at the end, slides failed.
        """
        if not self.handlers:  # an engine would log twice what went wrong
            return self._run()
        engine = Engine(lambda engine, _: self._run())
        for handler in self.handlers:
            handler.attach(engine)
        outcomes: list[Outcome] = engine.run([None], max_epochs=1).output
        return outcomes

    def _run(self) -> list[Outcome]:
        items = [self.dataset[index] for index in range(len(self.dataset))]
        _log.info("%d slides", len(items))
        screener = self.inferer.screener(on_bags=all(is_bag_path(item.path) for item in items))
        batch = Batch(screener, self.output_dir, self.writers, command=sys.argv, inputs=self.inputs)
        progress = Progress(item.slide_id for item in items)

        def tell(outcome: Outcome) -> None:
            said = (
                outcome.reason if outcome.slide_class is None else f"{outcome.slide_class}, score {outcome.score:.3f}"
            )
            _log.info("%s: %s, %s, %s", outcome.slide_id, outcome.status, outcome.call or "no call", said)
            _log.info("%s", progress.step(outcome.slide_id, made=not outcome.resumed))

        outcomes = screen_batch(batch, items, Tell(done=tell))
        if failed := [outcome for outcome in outcomes if outcome.status == "failed"]:
            raise SlideError(
                f"{len(failed)} of {len(outcomes)} slides failed ({failed[0].reason})",
                "summary.csv says why; the same command tries them again",
            )
        return outcomes


def _manifest_of(path: Path) -> Path:
    manifest = path / "manifest.csv"
    return manifest if manifest.is_file() else path
