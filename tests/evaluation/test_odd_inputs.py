"""What comes that should not: each row of the table in docs/evaluation.md has a case here, and each case a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from evaluation_tables import Rows, write_rows

from stride_monai.errors import ManifestError
from stride_monai.evaluation.inputs.joining import JudgedCohort, join_truth
from stride_monai.evaluation.inputs.predictions import read_predictions
from stride_monai.evaluation.inputs.truth import read_truth
from stride_monai.evaluation.study.part import Settings
from stride_monai.evaluation.study.study import run_study
from stride_monai.workflows.locate import bundle_root

PAGE = bundle_root("detection").parent.parent / "docs" / "evaluation.md"
SETTINGS = Settings(threshold=0.5, replicates=20)


def slides(labels: Sequence[str], scores: Sequence[object], **columns: Sequence[object]) -> Rows:
    """A slide a row, with its score, its label and further columns."""
    parts = zip(labels, scores, strict=True)
    rows = [{"slide_id": f"s{k}", "label": label, "score": score} for k, (label, score) in enumerate(parts)]
    return [{**row, **{name: values[k] for name, values in columns.items()}} for k, row in enumerate(rows)]


MIXED = ["NILM", "HSIL", "NILM", "LSIL", "NILM", "HSIL"]
SCORES = [0.1, 0.9, 0.6, 0.4, 0.2, 0.8]


class Tables:
    """Writes and joins both tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def joined(self, said: Rows, true: Rows | None = None, **options: Any) -> JudgedCohort:
        columns = [name for name in said[0] if name in {"slide_id", "score", "call", "status"}]
        predictions = read_predictions(write_rows(self.folder / "p.csv", said, columns))
        truth = read_truth(write_rows(self.folder / "t.csv", said if true is None else true))
        return join_truth(predictions, truth, **options)

    def judged(self, said: Rows, settings: Settings = SETTINGS) -> Any:
        return run_study(self.joined(said), settings).metrics


def twice(tables: Tables) -> None:
    rows = slides(MIXED, SCORES)
    with pytest.raises(ManifestError, match=r"line 8: slide 's1' .*line 3"):
        tables.joined([*rows, rows[1]], rows)
    with pytest.raises(ManifestError, match=r"line 8: slide 's1' .*line 3"):
        tables.joined(rows, [*rows, rows[1]])


def unknown(tables: Tables) -> None:
    with pytest.raises(ManifestError, match="line 3: 'CIN2' is not a Bethesda label"):
        tables.joined(slides(["NILM", "CIN2"], [0.1, 0.2]))
    for wrong in ("inf", "-inf", "high"):
        with pytest.raises(ManifestError, match=f"line 3: .*{wrong}"):
            tables.joined(slides(["NILM", "HSIL"], [0.1, wrong]))


def not_judged(tables: Tables) -> None:
    rows = slides([*MIXED, "LSIL"], [0.1, 0.9, 0.6, "nan", "", 0.8, 0.7], status=["ok"] * 3 + ["failed"] + ["ok"] * 3)
    cohort = tables.joined(rows[:-1], rows)
    assert cohort.flow.unjudged == {"failed": 1, "missing": 1, "no score": 1}
    slides_of = run_study(cohort, SETTINGS).metrics["slides"]["all_eligible"]
    assert set(slides_of) >= {"read_by_people", "worst"}


def unsatisfactory(tables: Tables) -> None:
    rows = slides(MIXED, SCORES, status=["unsatisfactory"] + ["ok"] * 5)
    assert tables.joined(rows).flow.unjudged == {"unsatisfactory": 1}
    cohort = tables.joined(rows, unsatisfactory=True)
    assert (len(cohort), "judged like the others: 1" in " ".join(cohort.notes)) == (6, True)


def not_listed(tables: Tables) -> None:
    rows = slides(MIXED, SCORES)
    cohort = tables.joined(rows, rows[:4])
    assert (len(cohort), cohort.flow.not_listed) == (4, 2)


def nothing_in_common(tables: Tables) -> None:
    with pytest.raises(ManifestError, match="'s0' here, 'x' there"):
        tables.joined(slides(MIXED, SCORES), [{"slide_id": "x", "label": "NILM"}])


def one_kind(tables: Tables) -> None:
    for label, share, why in (
        ("HSIL", "sensitivity", "no negative slide"),
        ("NILM", "specificity", "no positive slide"),
    ):
        found = tables.judged(slides([label] * 4, SCORES[:4]))
        task = found["discrimination"]["ASC-US+"]
        assert (task["auc"], why in task["why"]) == (None, True)
        rates = found["operating_point"]["rates"]
        assert rates[share]["total"] == 4
        other = "specificity" if share == "sensitivity" else "sensitivity"
        assert rates[other]["estimate"] is None


def empty_class(tables: Tables) -> None:
    rows = slides(["NILM", "HSIL", "NILM", "HSIL"], SCORES[:4])
    said = [{**row, "class": row["label"]} for row in rows]
    predictions = read_predictions(write_rows(tables.folder / "p.csv", said, ("slide_id", "score", "class")))
    found = run_study(join_truth(predictions, read_truth(write_rows(tables.folder / "t.csv", rows))), SETTINGS).metrics
    assert found["classes"]["f1_macro"] == 1
    assert found["classes"]["classes"]["AGC"]["f1"] is None


def ties(tables: Tables) -> None:
    found = tables.judged(slides(["NILM", "HSIL", "NILM", "HSIL"], [0.5, 0.5, 0.1, 0.9]))
    task = found["discrimination"]["ASC-US+"]
    assert task["auc"]["estimate"] == pytest.approx((1 + 1 + 1 + 0.5) / 4)
    assert found["operating_point"]["rates"]["fp"] == 1, "a threshold takes all slides of its score"


def told_apart(tables: Tables) -> None:
    area = tables.judged(slides(["NILM", "NILM", "HSIL"], [0.1, 0.2, 0.9]))["discrimination"]["ASC-US+"]["auc"]
    assert (area["estimate"], area["method"]) == (1, "Newcombe's method 5")
    assert 0 < area["low"] < 1


def lonely_centre(tables: Tables) -> None:
    found = tables.judged(slides([*MIXED, "HSIL"], [*SCORES, 0.3], centre=["a"] * 3 + ["b"] * 3 + ["alone"]))
    alone = found["subgroups"]["centre"]["alone"]
    assert (alone["slides"], alone["auc"]) == (1, None)
    low, high = alone["rates"]["sensitivity"]["wilson"]
    assert high - low > 0.7
    assert found["centres"]["sensitivity"]["pooled"]["low"] is not None


def one_cluster(tables: Tables) -> None:
    study = run_study(tables.joined(slides(MIXED, SCORES, centre=["a"] * 6, patient=["p"] * 6)), SETTINGS)
    found = study.metrics["clustered"]
    assert all(one["figures"]["auc"]["low"] is None for one in found.values())
    notes = next(part.section.notes for part in study.parts if part.key == "clustered")
    assert any("of one centre" in note for note in notes)


def some_calls(tables: Tables) -> None:
    rows = slides(MIXED, SCORES, call=["negative", "positive", "", "negative", "negative", "positive"])
    found = tables.judged(rows, Settings(replicates=0))["operating_point"]
    rates = found["rates"]
    assert (found["without_call"], rates["tp"] + rates["fn"] + rates["tn"] + rates["fp"]) == (1, 5)


CASES: dict[str, Callable[[Tables], None]] = {
    "a slide id twice in one table": twice,
    "a label that is unknown; a score that is infinite or no number": unknown,
    "a slide of the truth table without a prediction, or that failed, was skipped, is unsatisfactory or has no score": (
        not_judged
    ),
    "an unsatisfactory slide that has a score": unsatisfactory,
    "a prediction that is not in the truth table": not_listed,
    "no slide in common": nothing_in_common,
    "all slides positive, or all negative": one_kind,
    "a class that does not occur": empty_class,
    "ties of scores": ties,
    "slides told apart perfectly": told_apart,
    "a centre with one slide": lonely_centre,
    "one patient, or one centre, alone": one_cluster,
    "some slides without a call": some_calls,
}


def test_the_table_of_the_page_and_the_cases_agree() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("\n| met | answer |\n")[2]
    rows = re.findall(r"^\| (.+?) \|", text.partition("\n\n")[0], re.MULTILINE)
    assert rows == list(CASES)


@pytest.mark.parametrize("met", CASES)
def test_what_is_met_has_the_answer_of_the_page(met: str, tmp_path: Path) -> None:
    CASES[met](Tables(tmp_path))
