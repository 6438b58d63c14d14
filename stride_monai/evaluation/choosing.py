"""An operating point from what a system said and a truth table: on validation slides, and on no others."""

from __future__ import annotations

from collections import Counter

from stride_monai.data.manifest import parse_split
from stride_monai.errors import ConfigError, ManifestError
from stride_monai.evaluation.inputs.joining import cohort_hash, join_truth
from stride_monai.evaluation.inputs.predictions import Predictions
from stride_monai.evaluation.inputs.results_folder import common_ground
from stride_monai.evaluation.inputs.truth import Truth
from stride_monai.evaluation.operating_points import choose_operating_point
from stride_monai.operating_point import ChosenOn, HoldsFor, OperatingPointFile

__all__ = ["operating_point_of", "validation_slides"]

VALIDATION = "validation"
FINDINGS_STEP = 1e-6
"""Findings state scores to six decimals."""


def operating_point_of(
    predictions: Predictions, truth: Truth, target: float = 0.95, rule: str = "plain", said: str | None = None
) -> OperatingPointFile:
    """The operating point that the validation slides give.

    Args:
        predictions: a results folder of ``screen``; or a table, whose operating point cannot be applied by ``screen``,
            since a table names neither weights nor K.
        said: the split of slides of which the table does not say one, as the user says.
        target, rule: see :func:`~stride_monai.evaluation.operating_points.choose_operating_point`.

    Raises:
        ConfigError: the user names another split than validation.
        ManifestError: no validation slide is there, or it is not said which they are; slides were screened in different
            ways; a score is not within 0 and 1.
    """
    slides, split_from = validation_slides(truth, said)
    cohort = join_truth(predictions, slides)
    if not cohort.scored:
        raise ManifestError(f"{cohort.system} gives calls and no scores", "a threshold needs a column score")
    if ((cohort.score < 0) | (cohort.score > 1)).any():
        raise ManifestError("scores are not within 0 and 1", "scale them (score_scale of a mapping file)")
    held = HoldsFor()
    if predictions.screened:
        judged = set(cohort.slide_id.tolist())
        held = common_ground(slide for slide in predictions.screened if slide.slide_id in judged)
    positive = cohort.positive
    left_out = {name.replace("_", " "): count for name, count in cohort.flow.unjudged.items()}
    left_out |= {"no diagnosis": cohort.flow.no_reference + cohort.flow.unsatisfactory_reference}
    chosen_on = ChosenOn(
        slides=len(cohort),
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        cohort_sha256=cohort_hash(cohort.slide_id, cohort.label),
        split_from=split_from,
        left_out={why: count for why, count in left_out.items() if count},
    )
    step = FINDINGS_STEP if predictions.screened else 0.0
    return choose_operating_point(cohort.score, positive, chosen_on, held, target, rule, step)


def validation_slides(truth: Truth, said: str | None = None) -> tuple[Truth, str]:
    """The validation slides of a truth table, and who says that they are: ``table`` or ``user``.

    Args:
        said: the split of slides of which the table does not say one, as the user says.

    Raises:
        ConfigError: the user names another split than validation.
        ManifestError: no slide is of it, or it is not said which are.
    """
    if said is not None and parse_split(said) != VALIDATION:
        raise ConfigError(
            f"an operating point is not chosen on the {parse_split(said)} split: it would look better than it is",
            "choose it on validation slides, and judge it on test slides (stride-monai evaluate)",
        )
    splits = list(truth.columns.get("split", [""] * len(truth)))
    unsaid = splits.count("")
    if unsaid and said is None:
        which = "says of no slide" if unsaid == len(truth) else f"does not say of {unsaid:,} of {len(truth):,} slides"
        raise ManifestError(
            f"the truth table {which} whether it is train, validation or test",
            "give it a column split; or, if those are all validation slides, say --split validation",
        )
    taken = [slide for slide, split in zip(truth.slide_id, splits, strict=True) if split in ("", VALIDATION)]
    if not taken:
        counts = ", ".join(f"{count:,} {split}" for split, count in sorted(Counter(splits).items()))
        raise ManifestError(
            f"no slide of the truth table is of the validation split ({counts})",
            "an operating point is not chosen on slides that trained or that test it: screen validation slides",
        )
    return truth.taken(taken), "user" if unsaid else "table"
