"""Whether scores are probabilities (ECE, Brier, reliability, slope), and how to make them so on validation slides."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.isotonic import IsotonicRegression
from statsmodels.api import GLM, families

from stride_monai.errors import ManifestError
from stride_monai.evaluation.reports import plain, plain_list
from stride_monai.evaluation.statistics.intervals import LEVEL, UNDEFINED, Interval, normal_interval
from stride_monai.metrics.cell import Reliability, brier_score, reliability
from stride_monai.metrics.slide import sides

__all__ = [
    "Calibration",
    "CalibrationStatistics",
    "Calibrator",
    "Isotonic",
    "Temperature",
    "calibration_of",
    "fit_isotonic",
    "fit_temperature",
    "shift_prevalence",
]

Floats = NDArray[np.float64]

BINS = 15
_EDGE = 1e-12  # scores of 0 and 1 are moved in by it, since their logits are infinite
_TEMPERATURES = (0.02, 50.0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far scores are from probabilities.

    Attributes:
        reliability: score against share of positives, by bins. ece: expected calibration error, its mean distance.
        brier: mean squared distance of score and truth, 0 to 1.
        slope: of the truth's logit on the score's (1 is right, less is overconfident). intercept: of the same with the
            slope held at 1 (0 is right, below 0 the scores are too high); Cox 1958. Wald intervals; NaN where the
            regression has no maximum because the scores tell the kinds apart perfectly.
    """

    reliability: Reliability
    ece: float
    brier: float
    slope: Interval
    intercept: Interval

    def as_json(self) -> dict[str, Any]:
        """For a report."""
        bins = {name: plain_list(getattr(self.reliability, name)) for name in ("edges", "confidence", "accuracy")}
        return {
            "ece": plain(self.ece),
            "brier": plain(self.brier),
            "slope": self.slope.as_json(),
            "intercept": self.intercept.as_json(),
            "bins": bins | {"number": self.reliability.number.tolist()},
        }


class Calibrator(Protocol):
    """What was learned on validation slides and makes scores probabilities."""

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores, of the shape of those given."""
        ...


@dataclass(frozen=True, slots=True)
class Temperature:
    """Logits divided by one number (Guo et al. 2017): the order of the slides stays.

    Attributes:
        value: above 1 the scores were overconfident.
    """

    value: float

    def __call__(self, scores: ArrayLike) -> Floats:
        """Binary scores ``[N]``, or class probabilities ``[N, C]``, of which the whole row is softened."""
        given = _inside(scores)
        found: Floats = expit(logit(given) / self.value) if given.ndim == 1 else softmax(np.log(given) / self.value, -1)
        return found


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A rising function through knots, level beyond them: ties may join slides that the score told apart.

    Attributes:
        scores, shares: ``[knots]``, ascending.
    """

    scores: Floats
    shares: Floats

    def __call__(self, scores: ArrayLike) -> Floats:
        """Binary scores ``[N]``."""
        found: Floats = np.interp(np.asarray(scores, np.float64), self.scores, self.shares)
        return found


class CalibrationStatistics:
    """ECE and Brier score of weighted slides, for :func:`~stride_monai.evaluation.statistics.bootstrap.bootstrap`.

    Args:
        scores: ``[N]``, probabilities. positive: ``[N]``, the truth. prefix: before each name.
    """

    def __init__(self, scores: ArrayLike, positive: ArrayLike, bins: int = BINS, prefix: str = "") -> None:
        values, truth = _probabilities(scores, positive)
        # As metrics.cell.reliability: a bin holds its upper edge.
        self._bins = np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), values, side="left") - 1, 0, bins - 1)
        self._number, self._rest, self._square = bins, values - truth, (values - truth) ** 2
        self.names = (f"{prefix}ece", f"{prefix}brier")

    def __call__(self, weights: Floats) -> Floats:
        total = weights.sum()
        distance = np.abs(np.bincount(self._bins, weights * self._rest, minlength=self._number)).sum()
        found: Floats = np.array([distance, weights @ self._square]) / total
        return found


def calibration_of(scores: ArrayLike, positive: ArrayLike, bins: int = BINS, level: float = LEVEL) -> Calibration:
    """Calibration of binary scores.

    Args:
        scores: ``[N]``, probabilities of being positive. positive: ``[N]``, the truth. bins: of equal width.

    Raises:
        ManifestError: all slides are of one kind, or a score is no probability.
    """
    values, truth = _probabilities(scores, positive)
    table = reliability(values, truth, bins)
    brier = brier_score(np.stack([1 - values, values], axis=1), truth.astype(int)) / 2  # that one counts both columns
    slope, intercept = _cox(values, truth, level)
    return Calibration(table, table.error, brier, slope, intercept)


def _cox(values: Floats, truth: NDArray[np.bool_], level: float) -> tuple[Interval, Interval]:
    """Slope, and intercept at slope 1, of the logistic regression of the truth on the score's logit."""
    on, ones = logit(_inside(values)), np.ones((len(values), 1))
    cases, controls = sides(values, truth)
    if cases.min() >= controls.max() or controls.min() >= cases.max() or np.ptp(on) == 0:
        slope = Interval(UNDEFINED, level=level)
    else:
        slope = _coefficient(GLM(truth * 1.0, np.hstack([ones, on[:, None]]), families.Binomial()), 1, level)
    return slope, _coefficient(GLM(truth * 1.0, ones, families.Binomial(), offset=on), 0, level)


def _coefficient(model: Any, place: int, level: float) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of far scores' weights; what has not converged is NaN here
        fitted = model.fit()
    value, error = float(fitted.params[place]), float(fitted.bse[place])
    if not (fitted.converged and np.isfinite([value, error]).all()):
        return Interval(UNDEFINED, level=level)
    return normal_interval(value, error, level, "logistic regression, Wald")


def fit_temperature(probabilities: ArrayLike, truth: ArrayLike) -> Temperature:
    """The temperature of the highest likelihood on validation slides.

    Args:
        probabilities: ``[N]``, binary scores, or ``[N, C]``. truth: ``[N]``, positive or not, or class indices.

    Raises:
        ManifestError: a probability is none, or the slides fix no temperature (told apart perfectly, or worse than by
            chance).
    """
    given = np.asarray(probabilities, np.float64)
    if given.ndim == 1:
        values, positive = _probabilities(given, truth)
        logs = np.log(_inside(np.stack([1 - values, values], axis=1)))
        right = positive.astype(int)
    else:
        right = np.asarray(truth, int)
        if not len(given) or len(right) != len(given) or not ((given >= 0) & (given <= 1)).all():
            raise ManifestError("class probabilities are missing or outside 0 to 1", "check the validation predictions")
        logs = np.log(_inside(given))
    rows = np.arange(len(right))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logs / np.exp(log_temperature), axis=1)[rows, right].mean())

    low, high = np.log(_TEMPERATURES)
    best = float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6}).x)
    if min(loss(low), loss(high)) <= loss(best):
        kind = "perfectly" if loss(low) < loss(high) else "no better than by chance"
        raise ManifestError(
            f"no temperature can be fitted: the {len(right)} validation slides are told apart {kind}",
            "use more validation slides",
        )
    return Temperature(float(np.exp(best)))


def fit_isotonic(scores: ArrayLike, positive: ArrayLike) -> Isotonic:
    """The rising function nearest to the truth on validation slides (scikit-learn).

    Args:
        scores: ``[N]``; any finite numbers. positive: ``[N]``, the truth.

    Raises:
        ManifestError: all slides are of one kind, or a score is not finite.
    """
    sides(scores, positive)
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    fitted.fit(np.asarray(scores, np.float64), np.asarray(positive, np.float64))
    return Isotonic(np.asarray(fitted.X_thresholds_, np.float64), np.asarray(fitted.y_thresholds_, np.float64))


def shift_prevalence(scores: ArrayLike, here: float, there: float) -> Floats:
    """Probabilities ``[N]`` of slides of which a share ``here`` is positive, as they would be where ``there`` is.

    Bayes' rule on the odds (Elkan 2001, theorem 2); right as far as the slides of each kind are alike in both places.

    Raises:
        ManifestError: a share is not between 0 and 1.
    """
    if not (0 < here < 1 and 0 < there < 1):
        raise ManifestError(f"from a share of positives of {here:g} to {there:g} nothing can be shifted")
    found: Floats = expit(logit(_inside(scores)) + logit(there) - logit(here))
    return found


def _inside(scores: ArrayLike) -> Floats:
    return np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)


def _probabilities(scores: ArrayLike, positive: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    values = np.asarray(scores, np.float64)
    sides(values, positive)
    if values.min() < 0 or values.max() > 1:
        raise ManifestError(
            f"scores from {values.min():g} to {values.max():g} are no probabilities", "calibrate them on validation"
        )
    return values, np.asarray(positive, bool)
