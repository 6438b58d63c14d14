"""SWIFT: cell encoder and slide head trained end to end with few labelled cells and many labelled slides.

STRIDE, Algorithm 1 (https://arxiv.org/abs/2407.19512); METHOD section 5 names every number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from ignite import distributed as idist
from ignite.metrics import Average, Metric
from monai.engines import SupervisedTrainer
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.nn import functional

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.engines.cell_training import StepAugmentation
from stride_monai.errors import BagError, ConfigError
from stride_monai.handlers.pseudo_labels import LABEL_SOURCES, PSEUDO_LABELS, LabelSources, PseudoLabelShares
from stride_monai.losses.dtfd import DTFDLoss
from stride_monai.losses.swift import PseudoLabels, masked_cross_entropy, refine_labels
from stride_monai.networks.ema import EmaModel
from stride_monai.networks.mil.activation import class_activation
from stride_monai.networks.mil.swift import SwiftOutput, View, encode_in_parts
from stride_monai.transforms.augmentation import DrawnViews

__all__ = ["SwiftTrainer", "epochs_for"]

_CELLS, _BAGS, _WEAK = 0, 1, 2  # streams of the random numbers


def epochs_for(iterations: int, epoch_length: int) -> int:
    """Epochs of a training of about so many iterations, one at least."""
    return max(1, round(iterations / epoch_length))


class _Bags(NamedTuple):
    """The bags of an iteration on the device: uint8 ``[B, K, 3, S, S]``, bool ``[B, K]``, what is known of cells, which
    of them the slide head learns (bool ``[B]``)."""

    images: Tensor
    mask: Tensor
    truth: Tensor | None
    weak: View
    whole: Tensor
    scores: Tensor | None


class SwiftTrainer(SupervisedTrainer):
    """Algorithm 1 on MONAI's trainer: one iteration is one step on both streams.

    The loader gives bags of slides; ``cells`` gives labelled cells. All of them, strongly augmented on the device, go
    through the student in ONE forward pass. The teacher, an exponential moving average of encoder and cell head, sees
    the weakly augmented cells of the bags without gradient. Cells of bags take the class of their slide where they
    speak for it (class activation), else the teacher's class where it is sure, and the loss is

        cell_weight * CE(labelled cells) + slide_weight * CE(slides) + semi_weight * masked CE(cells of bags)

    Mixed precision, accumulation of gradients and the events are MONAI's; the slide head runs in full precision, since
    activations are gradients through it. The teacher is updated by :class:`stride_monai.handlers.EmaUpdater`. Every
    random number is a function of the seed and the step, so a resumed run repeats what a run that never stopped does,
    and several processes together do what one would.

    Batches have ``image`` (uint8 ``[B, K, 3, S, S]``), ``mask`` ``[B, K]``, ``label`` ``[B]`` (index into
    SLIDE_CLASSES), ``slide_id``, and optionally ``truth`` ``[B, K]`` (index into CELL_CLASSES, -1 unknown), which
    serves to count and for nothing else, and ``scores`` ``[B, K]``, the detector's, which a slide head with
    ``score_input`` needs.
    ``engine.state.output`` holds ``pred`` (slide logits) and ``label`` of the slides; ``loss`` and its parts
    ``cell_loss``, ``slide_loss``, ``semi_loss``; and ``pseudo_labels`` and ``label_sources`` (absent where
    ``semi_weight`` is 0). Metrics of an epoch are the means of the three parts and those of
    :class:`~stride_monai.handlers.PseudoLabelShares` and
    :class:`~stride_monai.handlers.LabelSources`.

    Args:
        network: a :class:`~stride_monai.networks.SwiftStudent`, or that in DistributedDataParallel.
        cells: the labelled cells of a step (from 0): ``image`` uint8 ``[N, 3, S, S]``, ``label`` ``[N]``. For instance
            a :class:`~stride_monai.data.EndlessStream`.
        teacher: average of the student's encoder and cell head.
        activation: class activation, ``grad_x_feature``, ``eq4`` or ``attention``
            (:func:`~stride_monai.networks.class_activation`).
        activation_threshold: tau 1, 0..1. teacher_threshold: tau 2, 0..1.
        negative_bags: ``all_nilm`` or ``paper`` (:func:`~stride_monai.losses.refine_labels`).
        cell_weight, slide_weight, semi_weight: weights of the three losses; 0 for ``semi_weight`` saves the teacher's
            pass (end-to-end training without the semi-supervised term).
        cells_only: sources of a joined cohort whose bags train the cells (semi-supervised) and not the slide head. For
            sources where the laboratory gives the class of a slide away, which a slide loss would learn instead.
        strong, weak: strengths of the augmentations.
        seed: of the run.
        slide_loss: of slide logits and labels; None for cross-entropy.
        teacher_part: cells that the teacher sees at once; None for all.
        otherwise as :class:`monai.engines.SupervisedTrainer`, less ``loss_function``, ``prepare_batch``, ``decollate``.

    Raises:
        ConfigError: a weight or threshold out of range, or ``cells_only`` with DTFD's loss.
        BagError: in the run, a slide's label is outside the vocabulary, or a bag is empty.
    """

    def __init__(
        self,
        *args: Any,
        cells: Callable[[int], Mapping[str, Any]],
        teacher: EmaModel,
        activation: str = "grad_x_feature",
        activation_threshold: float = 0.5,
        teacher_threshold: float = 0.9,
        negative_bags: str = "all_nilm",
        cell_weight: float = 1.0,
        slide_weight: float = 1.0,
        semi_weight: float = 1.0,
        cells_only: Collection[str] = (),
        strong: str = "strong",
        weak: str = "weak",
        seed: int = 0,
        slide_loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        teacher_part: int | None = None,
        additional_metrics: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        numbers = {"activation_threshold": activation_threshold, "teacher_threshold": teacher_threshold}
        weights = {"cell_weight": cell_weight, "slide_weight": slide_weight, "semi_weight": semi_weight}
        for name, value in (numbers | weights).items():
            if value < 0 or (name in numbers and value > 1):
                raise ConfigError(f"{name} is {value}", "thresholds are 0 to 1, weights 0 or more")
        self.cells, self.teacher, self.teacher_part = cells, teacher, teacher_part
        self.activation = activation
        self.refinement = {"negative_bags": negative_bags, **numbers}
        self.cell_weight, self.slide_weight, self.semi_weight = cell_weight, slide_weight, semi_weight
        if cells_only and isinstance(getattr(slide_loss, "loss", slide_loss), DTFDLoss):  # anchored or not
            raise ConfigError("cells_only goes with one loss a slide, DTFD's pseudo-bags have more", "use another head")
        self.cells_only = frozenset(cells_only)
        self.slide_loss = slide_loss or functional.cross_entropy
        self._strong = (StepAugmentation(strong, seed, _CELLS), StepAugmentation(strong, seed, _BAGS))
        self._weak = StepAugmentation(weak, seed, _WEAK)
        metrics: dict[str, Metric] = {
            name: Average(itemgetter(name)) for name in ("cell_loss", "slide_loss", "semi_loss")
        }
        if semi_weight:
            metrics |= {PSEUDO_LABELS: PseudoLabelShares(), LABEL_SOURCES: LabelSources()}
        metrics |= additional_metrics or {}
        super().__init__(
            *args,
            loss_function=self._loss,
            prepare_batch=self._prepare,
            decollate=False,
            additional_metrics=metrics,
            **kwargs,
        )
        if kwargs.get("key_train_metric") is None:  # MONAI then leaves out the others as well
            for name, metric in metrics.items():
                metric.attach(self, name)

    @property
    def step(self) -> int:
        """Iterations before this one."""
        return int(self.state.iteration) - 1

    def _prepare(
        self, batch: Mapping[str, Any], device: Any = None, non_blocking: bool = False, **kwargs: Any
    ) -> tuple[Tensor, tuple[Tensor, Tensor], tuple[Any, ...], dict[str, Any]]:
        """Line 4 to 6 of Algorithm 1: both streams on the device, and the draws of their augmentation."""

        def moved(value: Tensor) -> Tensor:
            return value.to(device=device, non_blocking=non_blocking)

        _check_labels(batch)
        labeled = {key: moved(value) for key, value in self.cells(self.step).items() if key in {"image", "label"}}
        images, mask, label = moved(batch["image"]), moved(batch["mask"]), moved(batch["label"])
        chosen = batch["mask"].flatten()
        strong = self._strong[0].drawn(self.step, len(labeled["image"]))
        strong = strong + self._strong[1].drawn(self.step, mask.numel(), group=mask.shape[1])[chosen]
        weak = self._weak.drawn(self.step, mask.numel(), group=mask.shape[1])[chosen]
        truth, scores = (moved(batch[name]) if name in batch else None for name in ("truth", "scores"))
        whole = torch.tensor([source not in self.cells_only for source in batch.get("source", [""] * len(label))])
        self._bags = _Bags(images, mask, truth, weak, moved(whole), scores)
        return labeled["image"], (labeled["label"], label), (images, mask, self._view(strong, mask), scores), {}

    def _view(self, strong: DrawnViews, mask: Tensor) -> View:
        """The student's view of the batch; a subclass may change it (see :mod:`stride_monai.engines.coloradv`)."""
        return strong

    def _loss(self, found: SwiftOutput, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Line 9 to 22. Called by MONAI's iteration, under its autocast, with what the student says."""
        cell_label, slide_label = targets
        pseudo = self._pseudo_labels(found, slide_label) if self.semi_weight else None
        losses = {
            "cell_loss": functional.cross_entropy(_full(found.labeled), cell_label),
            "slide_loss": self._slide_loss(found.slides, slide_label),
            "semi_loss": found.slides.new_zeros(()) if pseudo is None else self._semi_loss(found.cells, pseudo),
        }
        weights = (self.cell_weight, self.slide_weight, self.semi_weight)
        total: Tensor = sum((w * loss for w, loss in zip(weights, losses.values(), strict=True)), torch.zeros(()))
        self.state.output |= {name: loss.detach() for name, loss in losses.items()}
        self.state.output |= {CommonKeys.PRED: found.slides.detach(), CommonKeys.LABEL: slide_label}
        if pseudo is not None:
            self.state.output |= self._counted(pseudo)
        return total

    def _slide_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Of the bags that the slide head learns; 0, with a gradient of 0, where there is none."""
        whole = self._bags.whole
        if bool(whole.all()):
            return self.slide_loss(logits, label)
        return self.slide_loss(logits[whole], label[whole]) if bool(whole.any()) else (0 * logits).sum()

    def _counted(self, pseudo: PseudoLabels) -> dict[str, Any]:
        """What the metrics of pseudo-labels read: the cells of the bags in one row."""
        mask, truth = self._bags.mask, self._bags.truth
        known = torch.full_like(pseudo.label, -1) if truth is None else truth
        return {
            PSEUDO_LABELS: (pseudo.label[mask], pseudo.chosen[mask], known[mask]),
            LABEL_SOURCES: (pseudo.source[mask], pseudo.label[mask], known[mask]),
        }

    def _pseudo_labels(self, found: SwiftOutput, slide_label: Tensor) -> PseudoLabels:
        bags = self._bags
        beta = class_activation(found.slides, found.features, found.attention, slide_label, bags.mask, self.activation)
        return refine_labels(beta, self._taught(), slide_label, bags.mask, **self.refinement)  # type: ignore[arg-type]

    def _semi_loss(self, logits: Tensor, pseudo: PseudoLabels) -> Tensor:
        mask = self._bags.mask
        loss = masked_cross_entropy(_full(logits), pseudo.label, pseudo.chosen, mask)
        if idist.get_world_size() > 1:  # a mean over the cells of all processes, whose bags differ in size
            cells = mask.sum()
            loss = loss * cells * idist.get_world_size() / idist.all_reduce(cells.clone())
        return loss

    @torch.no_grad()
    def _taught(self) -> Tensor:
        """The teacher's cell probabilities ``[B, K, cell classes]``, 0 where masked."""
        bags, network = self._bags, self.teacher.module
        logits = _full(encode_in_parts(network, bags.images[bags.mask], bags.weak, self.teacher_part))
        probabilities = logits.new_zeros(*bags.mask.shape, len(CELL_CLASSES))
        probabilities[bags.mask] = torch.softmax(logits, dim=1)
        return probabilities


def _full(values: Tensor) -> Tensor:
    """In full precision, or double where it was double."""
    return values if values.dtype == torch.float64 else values.float()


def _check_labels(batch: Mapping[str, Any]) -> None:
    for place, label in enumerate(batch["label"].tolist()):
        if not 0 <= label < len(SLIDE_CLASSES):
            name = batch["slide_id"][place] if "slide_id" in batch else f"number {place} of the batch"
            raise BagError(f"slide '{name}' has class {label}", f"classes are 0 to {len(SLIDE_CLASSES) - 1}")
