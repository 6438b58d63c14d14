"""Descriptions of cells in training and evaluation: the threshold on their cosine, and how good they are."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events

from stride_monai.evaluation.descriptions import JudgedCells, description_figures, description_report
from stride_monai.evaluation.reports import save_figures, write_report
from stride_monai.handlers.epoch import EpochHandler
from stride_monai.handlers.metrics import judged_texts, weights_of_cells
from stride_monai.metrics.descriptions import best_threshold, exact_match, micro_scores
from stride_monai.networks.alignment.aligner import AlignmentStudent, DescriptionAligner
from stride_monai.networks.encoders.cell_encoder import CellClassifier

__all__ = ["DescriptionReport", "StoreTexts", "ThresholdTuner"]


class StoreTexts:
    """Brings the aligner up to date when an evaluator starts: what is validated then is what will be saved.

    Args:
        student: what is trained (not its data-parallel wrapper).
    """

    def __init__(self, student: AlignmentStudent) -> None:
        self.student = student

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        self.student.store()


class ThresholdTuner(EpochHandler):
    """Puts the threshold with the best micro F1 on the validation cells into the aligner after every validation.

    With a prevalence the cells count as if that share of them were lesions
    (:func:`~stride_monai.metrics.at_prevalence`), and the aligner remembers it.

    List it before the handler that saves the weights. ``threshold``, ``val_precision``, ``val_recall`` and
    ``val_exact_match`` join the engine's metrics.

    Args:
        aligner: holds the threshold.
        prevalence: share of lesions among the cells that will be described, 0-1; 0: as among the validation cells.
    """

    def __init__(self, aligner: DescriptionAligner, prevalence: float = 0.0) -> None:
        super().__init__()
        self.aligner, self.prevalence = aligner, prevalence

    def finish(self, engine: Engine) -> None:
        similarity, right = judged_texts(*self.gathered.columns())
        threshold = best_threshold(similarity, right, weights_of_cells(right, self.aligner.texts, self.prevalence))
        self.aligner.threshold.fill_(threshold)
        self.aligner.prevalence.fill_(self.prevalence or math.nan)
        precision, recall, _ = micro_scores(similarity, right, threshold)
        engine.state.metrics |= {
            "threshold": threshold,
            "val_precision": precision,
            "val_recall": recall,
            "val_exact_match": exact_match(similarity, right, threshold),
        }


class DescriptionReport(EpochHandler):
    """Writes ``description_report.json``, ``description_curves.png`` and ``description_scores.png``.

    The evaluator's network is the aligner and its ``image`` the features of the image encoder. ``val_macro_f1``,
    ``val_map`` (mean average precision of the texts), ``val_exact_match`` and ``val_class_agreement`` join the engine's
    metrics. Process 0 writes. Fields: docs/artifacts.md.

    Args:
        output_dir: folder of the files.
        aligner: what is judged, with its threshold.
        encoder: the cell classifier whose features are judged; its head gives the predicted class.
        weights, split, undescribed: as of :func:`~stride_monai.evaluation.description_report`.

    Raises:
        BundleError: the aligner was trained on another encoder, or has no threshold.
    """

    def __init__(
        self,
        output_dir: Path | str,
        aligner: DescriptionAligner,
        encoder: CellClassifier,
        weights: Path | str | None = None,
        split: str = "",
        undescribed: str = "",
    ) -> None:
        super().__init__()
        self.output_dir = Path(output_dir)
        self.aligner, self.encoder = aligner, encoder
        self.weights, self.split, self.undescribed = weights, split, undescribed

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._check)
        super().attach(engine)

    def _check(self, engine: Engine) -> None:
        self.aligner.check_encoder(self.encoder)
        self.aligner.stored_threshold()

    @torch.no_grad()
    def collect(self, engine: Engine) -> None:
        output = engine.state.output
        head = self.encoder.head
        features = output["image"][:, : self.encoder.feature_dim]  # what follows are those of other levels
        predicted = head(features.to(head.weight.device)).argmax(dim=1)
        truth = torch.as_tensor(engine.state.batch["label"])
        self.gathered.add(output["pred"], output["label"], truth, predicted)

    def finish(self, engine: Engine) -> None:
        similarity, target, truth, predicted = self.gathered.columns()
        judged = JudgedCells(*judged_texts(similarity, target), truth.cpu().numpy(), predicted.cpu().numpy())
        texts, threshold = self.aligner.texts, self.aligner.stored_threshold()
        report = description_report(
            judged, texts, threshold, self.aligner.encoder_sha256, self.split, self.undescribed, self.weights
        )
        engine.state.metrics |= {
            "val_macro_f1": report["macro"]["f1"],
            "val_map": report["macro"]["average_precision"],
            "val_exact_match": report["exact_match"],
            "val_class_agreement": report["class_agreement"]["texts"] or 0.0,
        }
        if idist.get_rank() == 0:
            write_report(self.output_dir / "description_report.json", report)
            save_figures(self.output_dir, description_figures(judged, texts, threshold))
