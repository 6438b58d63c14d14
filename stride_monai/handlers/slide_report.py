"""The evaluation of a slide classifier, written or shown after an epoch; see :mod:`stride_monai.evaluation.slides`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine
from torch import Tensor

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.evaluation.reports import save_figures, write_report
from stride_monai.evaluation.slides import JudgedSlides, slide_figures, slide_report, slide_table
from stride_monai.files import write_bytes
from stride_monai.handlers.epoch import EpochHandler, predictions
from stride_monai.inferers.threshold import ChosenCells, threshold_for
from stride_monai.metrics.slide import at_threshold, specificity_at_sensitivity
from stride_monai.networks.mil.slide_classifier import SlideClassifier

__all__ = ["SlidePictures", "SlideReport"]


class _Collector(EpochHandler):
    """Collects during an evaluation what is known of slides and their cells, whatever the inferer returns of it.

    Cell features and attention are what goes into the slide head and comes out of it, so they are taken there and the
    bag is not encoded twice. Batches hold ``slide_id``, ``label``, ``mask`` and, optionally, ``truth`` ``[B, K]`` and
    ``detector``.

    Args:
        network: the slide classifier that is evaluated.

    Attributes:
        top_k: cells per bag.
        chosen_by: of each slide, the SHA-256 that names what chose its cells; empty where it is not known.
    """

    def __init__(self, network: SlideClassifier) -> None:
        super().__init__()
        self.network = network
        self._hook: Any = None
        self.top_k = 0
        self.chosen_by: list[str] = []

    def start(self, engine: Engine) -> None:
        super().start(engine)
        self._unhook()
        self._cells = torch.zeros(len(CELL_CLASSES), len(CELL_CLASSES), dtype=torch.int64)
        self._hook = self.network.slide_head.register_forward_hook(self._passed)

    def _passed(self, head: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, Tensor]) -> None:
        self._last = (inputs[0].detach(), outputs[0].detach(), outputs[1].detach())

    def collect(self, engine: Any) -> None:
        features, logits, attention = self._last
        pooled = torch.einsum("bk,bkd->bd", attention.float(), features.float())
        slide_ids = [str(slide_id) for slide_id in engine.state.batch["slide_id"]]
        chosen = list(engine.state.batch.get("detector", [""] * len(slide_ids)))
        self.gathered.add(logits, engine.state.output["label"].flatten(), pooled, slide_ids, chosen)
        self.top_k = features.shape[1]
        truth = engine.state.batch.get("truth")
        known = None if truth is None else truth.to(features.device) >= 0
        if known is not None and known.any():
            with torch.no_grad():
                said = self.network.encoder.head(features[known].float()).argmax(dim=1)
            pairs = truth[known.to(truth.device)].to(said.device) * len(CELL_CLASSES) + said
            self._cells += torch.bincount(pairs, minlength=self._cells.numel()).view_as(self._cells).cpu()

    def finish(self, engine: Engine) -> None:
        self._unhook()
        logits, label, features, slide_ids, self.chosen_by = self.gathered.columns()
        cells = self._cells
        if idist.get_world_size() > 1:
            cells = idist.all_reduce(cells.to(idist.device())).cpu()
        self.judge(engine, JudgedSlides(slide_ids, *predictions(logits, label), cells.numpy()), features.cpu())

    def judge(self, engine: Any, slides: JudgedSlides, features: Tensor) -> None:
        """Args:
        slides: of every process.
        features: ``[N, D]``, the mean of a bag's cell features, weighted by the attention.
        """
        raise NotImplementedError

    def _unhook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


class SlidePictures(_Collector):
    """Puts the validation of the best weights so far into TensorBoard: confusion of slides and of the cells whose class
    is known, ROC, and the slide features for its projector, which computes t-SNE.

    Only when the key metric is a new best, so that pictures and the weights that are kept belong together, and a long
    training does not fill the disk. A slide's feature is the mean of its cells' features, weighted by the attention.

    Args:
        network: the slide classifier that is evaluated.
        summary_writer: None on processes that do not write.
        most_slides: so many slides go to the projector, evenly spaced; a browser cannot turn many more.
    """

    def __init__(self, network: SlideClassifier, summary_writer: Any, most_slides: int = 2000) -> None:
        super().__init__(network)
        self.writer, self.most_slides = summary_writer, most_slides

    def judge(self, engine: Any, slides: JudgedSlides, features: Tensor) -> None:
        epoch = engine.state.epoch
        if self.writer is None or engine.state.best_metric_epoch != epoch:
            return
        point = specificity_at_sensitivity(slides.scores, slides.positive) if slides.both_kinds else None
        for name, figure in slide_figures(slides, point).items():
            self.writer.add_figure(f"val_{name}", figure, epoch)
        shown = np.unique(np.linspace(0, len(slides.label) - 1, self.most_slides).round().astype(int)).tolist()
        self.writer.add_embedding(
            features[shown],
            metadata=[[slides.slide_id[k], SLIDE_CLASSES[slides.label[k]]] for k in shown],
            metadata_header=["slide_id", "class"],
            global_step=epoch,
            tag="slide_features",
        )


class SlideReport(_Collector):
    """Writes ``slide_report.json``, ``slides.csv``, ``confusion.png``, ``roc.png`` and, where bags know the classes of
    cells, ``cell_confusion.png`` after an evaluation. Process 0 writes. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        network: the slide classifier that is evaluated; its threshold is judged.
        weights, centres, split, sensitivity: as of :func:`~stride_monai.evaluation.slide_report`.
        force: the stored threshold is to hold for bags of another K, and for cells that were chosen in another way. Of
            such bags no call is written without.
    """

    def __init__(
        self,
        output_dir: Path | str,
        network: SlideClassifier,
        weights: Path | str | None = None,
        centres: Mapping[str, str] | None = None,
        split: str = "",
        sensitivity: float = 0.95,
        force: bool = False,
    ) -> None:
        super().__init__(network)
        self.output_dir, self.weights, self.force = Path(output_dir), weights, force
        self.centres, self.split, self.sensitivity = dict(centres or {}), split, sensitivity

    def judge(self, engine: Any, slides: JudgedSlides, features: Tensor) -> None:
        if idist.get_rank() != 0:
            return
        points = {
            name: threshold_for(self.network, self.top_k, ChosenCells(name), force=self.force)[0]
            for name in set(self.chosen_by)
        }
        threshold = self.network.operating_point().threshold
        report = slide_report(slides, threshold, self.centres, self.split, self.sensitivity, self.weights)
        write_report(self.output_dir / "slide_report.json", report)
        table = slide_table(slides, [points[name] for name in self.chosen_by], self.centres)
        write_bytes(self.output_dir / "slides.csv", table)
        point = at_threshold(slides.scores, slides.positive, threshold) if slides.both_kinds else None
        save_figures(self.output_dir, slide_figures(slides, point))
