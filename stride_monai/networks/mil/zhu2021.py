"""The slide head of Zhu et al. 2021: boosted trees over numbers that sum up the cells of a slide."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stride_monai.bethesda import CELL_CLASSES, SLIDE_CLASSES
from stride_monai.errors import BagError, BundleError, ManifestError, MissingExtraError
from stride_monai.networks.mil.lesion_ranking import LesionRanking, shares
from stride_monai.networks.mil.slide_head import SlideHead, blanked, check_bag

__all__ = ["QUANTILES", "ZhuHead"]

QUANTILES = (0.5, 0.75, 0.9, 0.95, 1.0)
"""Of the probabilities of a slide's cells; a lesion is in few of them, so the upper half is what tells."""


def _xgboost() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise MissingExtraError("xgboost", "baselines", "the baseline of Zhu et al. 2021") from error
    return xgboost


class ZhuHead(SlideHead):
    """XGBoost over counts, means and quantiles of a slide's cell probabilities, and pooled features (baseline).

    X. Zhu et al.: Hybrid AI-assistive diagnostic model permits rapid TBS classification of cervical liquid-based
    thin-layer cell smears. Nature Communications 12, 3541 (2021), https://doi.org/10.1038/s41467-021-23913-3.

    Theirs: a detector finds cells, an Xception classifies them, XGBoost decides on the slide from features of both.
    Ours: which features (:attr:`names`) and which settings (those that XGBoost starts with), for we know of no table of
    theirs; their nucleus segmentation, their network for patches and their decision tree of rules are not here. The
    detector's score is no input either.

    Trees have no gradient: :meth:`fit` makes them, in one go. They are part of the module's state as the text of
    XGBoost's own JSON, in a tensor of bytes, so that a weights file holds encoder, trees and operating point, and
    reading it runs nothing. On the CPU, by one thread: the same numbers give the same trees.

    Args:
        feature_dim: D, width of the cell features.
        cell_head: classifies and ranks the cells (see :class:`~stride_monai.networks.LesionRanking`).
        num_classes: C, number of slide classes.
        cells: number of cells, those with the highest lesion probability, whose features are averaged.

    Raises:
        MissingExtraError: xgboost is not installed.
    """

    def __init__(
        self, feature_dim: int, cell_head: nn.Module, num_classes: int = len(SLIDE_CLASSES), cells: int = 10
    ) -> None:
        super().__init__(feature_dim, num_classes)
        _xgboost()  # said now, and not after hours of encoding
        self.cells = cells
        self.ranking = LesionRanking(cell_head)
        self._trees: Any = None

    @property
    def names(self) -> list[str]:
        """Of the F numbers of a slide, in their order."""
        kinds = [*CELL_CLASSES, "lesion"]
        numbers = [f"{kind}: {what}" for kind in kinds for what in ("count", "mean", *(f"q{q:g}" for q in QUANTILES))]
        return ["cells", *numbers, *(f"feature {n}" for n in range(self.feature_dim))]

    def numbers(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """The numbers of each slide, ``[B, F]``, float32.

        The number of cells; for each cell class how many cells have it as their most probable one, the mean and the
        quantiles of its probability; the same of the lesion probability (counted above 1/2); the mean feature of the
        most suspicious cells.

        Args:
            features: ``[B, K, D]``. mask: ``[B, K]`` bool, true where there is a cell; all true when None.

        Raises:
            BagError: a bag holds no cell.
        """
        mask = check_bag(features, mask)
        return self._described(blanked(features, mask), mask)[0]

    def _described(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        features = features.float()
        ranked = self.ranking(features, mask)
        best = ranked.order[:, : self.cells]
        attention = shares(best, mask.gather(1, best), mask)
        rows = []
        for j, there in enumerate(mask):
            p, lesion = ranked.probabilities[j, there].float(), ranked.lesion[j, there].float()
            counts = torch.bincount(p.argmax(dim=1), minlength=p.shape[1])
            counts = torch.cat([counts, (lesion > 0.5).sum().view(1)]).to(p)
            kinds = torch.cat([p, lesion.unsqueeze(1)], dim=1)
            quantiles = torch.quantile(kinds, torch.tensor(QUANTILES, device=p.device), dim=0)
            table = torch.cat([counts.unsqueeze(0), kinds.mean(dim=0, keepdim=True), quantiles])
            pooled = (attention[j].unsqueeze(1) * features[j]).sum(dim=0)
            rows.append(torch.cat([there.sum().view(1).to(p), table.T.flatten(), pooled]))
        return torch.stack(rows), attention

    def fit(
        self,
        numbers: Tensor,
        labels: Tensor,
        rounds: int = 100,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> float:
        """Make the trees, ``rounds`` for each slide class, in place of those that are there.

        Args:
            numbers: ``[N, F]``, as :meth:`numbers` gives them. labels: slide classes ``[N]``.
            rounds: of boosting.
            settings: of XGBoost, beside or instead of its defaults.
            seed: moves them only where a setting draws (``subsample``).

        Returns:
            Their mean cross-entropy on these slides.

        Raises:
            BagError: a number is non-finite. ManifestError: all slides are of one class.
        """
        xgboost = _xgboost()
        if len(set(labels.tolist())) < 2:
            raise ManifestError("the slides to learn from are all of one class", "give slides of several classes")
        rows = self._matrix(numbers, labels.cpu().numpy())
        parameters = {"nthread": 1, "seed": seed, "eval_metric": "mlogloss", **(settings or {})}
        parameters |= {"objective": "multi:softprob", "num_class": self.num_classes}
        found: dict[str, Any] = {}
        self._trees = xgboost.train(
            parameters, rows, rounds, evals=[(rows, "train")], evals_result=found, verbose_eval=False
        )
        return float(found["train"]["mlogloss"][-1])

    def _matrix(self, numbers: Tensor, labels: NDArray[np.integer] | None = None) -> Any:
        """XGBoost's own kind of table. It would take NaN for a value that is missing, so NaN is refused."""
        if not bool(numbers.isfinite().all()):
            raise BagError("non-finite features of a slide", "check the weights of the encoder")
        return _xgboost().DMatrix(numbers.cpu().numpy(), label=labels, feature_names=self.names, nthread=1)

    def judge(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """As of the base; the attention is 1/n for the n cells whose features are averaged, else 0.

        The softmax of the logits is the probabilities of the trees. All cells count, through the other numbers; the
        attention only says which ones are shown as the most suspicious.

        Raises:
            BagError: a feature is non-finite. BundleError: there are no trees yet.
        """
        numbers, attention = self._described(features.detach(), mask)
        if self._trees is None:
            raise BundleError("the baseline of Zhu et al. 2021 has no trees yet", "train it, or load its weights")
        probabilities = torch.from_numpy(self._trees.predict(self._matrix(numbers))).to(features.device)
        logits = probabilities.clamp(min=math.exp(-50)).log()
        if features.requires_grad:  # of trees it is 0, wherever there is one; class activations ask for it
            logits = logits + 0 * features.sum()
        return logits, attention

    def trees_json(self) -> bytes:
        """The trees as XGBoost's JSON; empty where there are none."""
        return b"" if self._trees is None else bytes(self._trees.save_raw(raw_format="json"))

    def get_extra_state(self) -> Tensor:
        return torch.from_numpy(np.frombuffer(self.trees_json(), np.uint8).copy())

    def set_extra_state(self, state: Tensor) -> None:
        """Take the trees of a state dict.

        Raises:
            BundleError: they are damaged, or were made for other features.
        """
        text = state.cpu().numpy().tobytes()
        self._trees = self._read(text) if text else None

    def _read(self, text: bytes) -> Any:
        xgboost = _xgboost()
        try:
            json.loads(text)  # XGBoost guesses the format; only this one is wanted
            trees = xgboost.Booster({"nthread": 1}, model_file=bytearray(text))
        except (ValueError, xgboost.core.XGBoostError) as error:
            raise BundleError("the trees in the weights file are no JSON of XGBoost", "train them again") from error
        if trees.feature_names != self.names:
            raise BundleError(
                f"the trees in the weights file take {trees.num_features()} numbers of a slide, not these "
                f"{len(self.names)}",
                "use the encoder that they were trained with",
            )
        return trees
