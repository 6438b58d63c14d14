"""An operating point at a new centre."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from stride_monai.errors import ManifestError
from stride_monai.evaluation.inputs.predictions import read_predictions
from stride_monai.evaluation.inputs.truth import read_truth
from stride_monai.evaluation.page.transfer import transfer_page
from stride_monai.evaluation.transfer import Transfer, positives_for_margin, psi, shift_of, transfer, transfer_report
from stride_monai.metrics.slide import conformal_threshold
from stride_monai.operating_point import ChosenOn, HoldsFor, OperatingPointFile, Share

SHARE = Share(0.95, 0.9, 0.98, 95, 100)


def point(threshold: float = 0.5, target: float = 0.95) -> OperatingPointFile:
    return OperatingPointFile(
        threshold, "plain", target, None, SHARE, SHARE, ChosenOn(9, 4, 5, ""), HoldsFor(), "2026-01-01"
    )


def test_the_stability_index_by_hand() -> None:
    reference, new = np.arange(100) / 100, np.arange(50) / 100  # the new ones are of the lower half
    index, _ = psi(reference, new, bins=2)
    p = np.array([50.5, 50.5]) / 101
    q = np.array([50.5, 0.5]) / 51
    assert index == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert psi(np.full(30, 0.2), np.full(9, 0.2))[0] >= 0, "all scores equal: one or two bins"


def test_equal_cohorts_stay_below_what_chance_gives_in_95_percent() -> None:
    rng = np.random.default_rng(2)
    above = []
    for _ in range(1000):
        drawn = rng.beta(0.5, 3, 700)
        index, chance = psi(drawn[:400], drawn[400:])
        above.append(index > chance)
    assert 0.03 <= np.mean(above) <= 0.07


def test_the_distance_is_kolmogorov_and_smirnovs() -> None:
    rng = np.random.default_rng(0)
    shift = shift_of(rng.random(40), 0.6 + rng.random(30))
    assert shift.shifted
    assert (shift.slides, shift.reference) == (30, 40)
    reference, new = rng.random(8), rng.random(5)
    grid = np.concatenate([reference, new])
    distance = max(abs((reference <= x).mean() - (new <= x).mean()) for x in grid)
    assert shift_of(reference, new).ks == pytest.approx(distance)


@pytest.mark.parametrize(("target", "margin"), [(0.95, 0.03), (0.9, 0.05), (0.9, 0.02)])
def test_the_slides_that_are_needed_are_the_fewest(target: float, margin: float) -> None:
    """Held against the law of the threshold's sensitivity, whose k is asked of the rule itself."""

    def upper(positives: int) -> float:
        scores = np.arange(positives) / positives
        truth = np.r_[np.ones(positives, bool), False]
        k = round(conformal_threshold(np.r_[scores, 0.0], truth, target).threshold * positives) + 1
        return float(stats.beta.ppf(0.95, positives - k + 1, k))

    needed = positives_for_margin(target, margin)
    assert upper(needed) <= target + margin < upper(needed - 1)


def tables(folder: Path, **sides: np.ndarray) -> dict[str, Path]:
    """Predictions and truth of each side: the first half are positive."""
    found = {}
    for name, scores in sides.items():
        half = len(scores) // 2
        rows = [f"{name}{k},{score:.6f}" for k, score in enumerate(scores)]
        found[name] = folder / f"{name}.csv"
        found[name].write_text("slide_id,score\n" + "\n".join(rows) + "\n")
        found[f"{name}_truth"] = folder / f"{name}_truth.csv"
        labels = [f"{name}{k},{'HSIL' if k < half else 'NILM'}" for k in range(len(scores))]
        found[f"{name}_truth"].write_text("slide_id,label\n" + "\n".join(labels) + "\n")
    return found


def compared(paths: dict[str, Path], truths: bool = True, at: OperatingPointFile | None = None) -> Transfer:
    truth = [read_truth(paths[f"{name}_truth"]) if truths else None for name in ("new", "old")]
    return transfer(read_predictions(paths["new"]), read_predictions(paths["old"]), at or point(), *truth)


def test_a_centre_whose_positives_score_lower(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    old = np.r_[rng.beta(8, 2, 150), rng.beta(2, 8, 150)]
    new = np.r_[rng.beta(4, 3, 100), rng.beta(2, 8, 100)]
    found = compared(tables(tmp_path, old=old, new=new))
    assert found.sensitivity is not None
    assert found.specificity is not None
    assert (found.sensitivity.found, found.sensitivity.of) == ((new[:100].round(6) >= 0.5).sum(), 100)
    assert (found.specificity.found, found.specificity.of) == ((new[100:].round(6) < 0.5).sum(), 100)
    assert found.shifts["positive"].shifted
    assert not found.shifts["negative"].shifted
    assert found.verdict == "the sensitivity here is below the target of 0.95: choose the operating point anew"
    assert found.needed[0][:2] == (None, 59)
    assert all(need.slides == 2 * need.positives for need in found.needed)
    assert [need.margin for need in found.needed] == [None, 0.01, 0.02, 0.03]
    assert transfer_report(found)["shifts"]["all"]["shifted"] is True


def test_slides_of_the_reference_are_no_new_centre(tmp_path: Path) -> None:
    scores = np.random.default_rng(4).random(40)
    paths = tables(tmp_path, old=scores, new=scores)
    assert not any("of the reference too" in note for note in compared(paths).notes), "other slides of the same scores"
    with pytest.raises(ManifestError, match="every slide of old is one of the reference, by its id and score"):
        compared({**paths, "new": paths["old"]}, truths=False)
    head, *lines = paths["new"].read_text().splitlines()
    theirs = paths["old"].read_text().splitlines()[1:8]
    paths["new"].write_text("\n".join([head, *lines, *theirs, "old9,0.123456"]) + "\n")  # this id came by chance
    notes = compared(paths, truths=False).notes
    assert (
        sum(
            "7 of 48 slides are of the reference too, by id and score (old0, old1, old2, old3, old4, ...)" in note
            for note in notes
        )
        == 1
    )


def test_the_page_names_the_centre_and_writes_small_p_as_such(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    paths = tables(tmp_path, old=rng.random(100), new=rng.random(100) ** 3)
    page = transfer_page(compared(paths))
    rows = {row[0]: row for row in page.sections[0].tables[0].rows}
    assert rows["all slides"][-2:] == ("< 0.001", "yes")
    legend = page.sections[0].figures[0].figure.axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["reference", "new", "threshold"]
    shown = {name: (value, remark) for name, value, remark in page.key_figures}
    assert shown["Called positive"][0].endswith(" %")
    assert shown["Called positive"][1].endswith(" %")


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    paths = tables(tmp_path, old=rng.random(60), new=rng.random(40))
    found = compared(paths, truths=False)
    assert (found.sensitivity, found.specificity) == (None, None)
    assert set(found.shifts) == {"all"}
    assert "nothing can be said of the sensitivity" in found.verdict
    assert all(need.slides is None for need in found.needed)
    assert "too few to tell" in compared(paths, at=point(0.01)).verdict
    paths["new"].write_text("slide_id,score,status\nnew0,,failed\nnew1,0.3,unsatisfactory\n")
    with pytest.raises(ManifestError, match="new has no slide with a score"):
        compared(paths, truths=False)


def test_a_target_of_one_cannot_be_chosen_anew_with_certainty(tmp_path: Path) -> None:
    paths = tables(tmp_path, old=np.linspace(0, 1, 40), new=np.linspace(0, 1, 40))
    found = compared(paths, at=point(target=1.0))
    assert found.needed == []
    assert math.isclose(found.called.value, 0.5)
