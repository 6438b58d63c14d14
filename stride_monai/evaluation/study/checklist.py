"""What a paper must say (STARD 2015 with STARD-AI, TRIPOD+AI), filled in as far as this evaluation knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stride_monai import __version__
from stride_monai.bethesda import SEVERITY
from stride_monai.evaluation.inputs.joining import JudgedCohort
from stride_monai.evaluation.page.page import PageTable, Section
from stride_monai.evaluation.reports import counted
from stride_monai.evaluation.study.calls import Calls
from stride_monai.evaluation.study.part import Part, Settings, joined_words

__all__ = ["OPEN", "checklist_part"]

OPEN = "to be filled in by the authors"


class Item(NamedTuple):
    """An item of the guidelines, in our short words, with its number in each; ``key`` names the answer, if any."""

    stard: str
    tripod: str
    topic: str
    key: str = ""


_ITEMS: Sequence[Item] = (
    Item("1", "1", "Title says accuracy study, population, outcome, kind of model"),
    Item("2", "2", "Structured summary"),
    Item("3", "3a-3b", "Background, intended use and place of the system in care", "use"),
    Item("", "3c", "Known inequalities between groups of patients"),
    Item("4", "4", "Objectives and hypotheses"),
    Item("5", "5a", "Prospective or retrospective; source of the data"),
    Item("6-7", "6b", "Who was eligible, and how slides were found"),
    Item("8", "5b, 6a", "Setting, centres and dates", "setting"),
    Item("9", "5a", "Consecutive, random or convenience series"),
    Item("AI", "7", "Preparation of data: what was read, joined, left out", "preparation"),
    Item("AI", "16", "How slides were parted for training, validation and test; no leakage", "split"),
    Item("10a", "9a, 22", "The system, so that it can be repeated: version, weights, inputs", "system"),
    Item("10b-11", "8a", "Reference standard and why", "reference"),
    Item("12a", "15", "Threshold of the system, chosen beforehand or on these data", "threshold"),
    Item("12b", "8a", "Cut-offs of the reference standard", "groups"),
    Item("13a-13b", "8b, 9b", "Who was blinded to what"),
    Item("14", "12e", "How accuracy was estimated and compared", "methods"),
    Item("15", "11", "Slides without a judgement or without a reference", "indeterminate"),
    Item("16", "11", "Missing data", "missing"),
    Item("17", "12e, 14", "Variability, subgroups and fairness", "subgroups"),
    Item("", "13", "Imbalance of classes", "imbalance"),
    Item("18", "10", "Sample size and how it was set", "size"),
    Item("19", "20a", "Flow of slides", "flow"),
    Item("20", "20b", "Patients' characteristics", "characteristics"),
    Item("21a-21b", "20b", "Severity of lesions; other diagnoses in those without", "severity"),
    Item("22", "", "Time between system and reference, and treatment between"),
    Item("23", "23a", "Table of calls against the reference", "table"),
    Item("24", "23a", "Accuracy with intervals", "accuracy"),
    Item("", "23b", "Difference between centres", "heterogeneity"),
    Item("AI", "12e", "Calibration", "calibration"),
    Item("25", "", "Harm done by the test or the reference"),
    Item("26", "26", "Limitations, bias, generalizability", "limits"),
    Item("27", "25, 27a-27c", "What it means for practice; skills and inputs that users need"),
    Item("28", "18d", "Registration"),
    Item("29", "18c", "Protocol"),
    Item("30", "18a-18b", "Funding and conflicts of interest"),
    Item("AI", "18e", "Data sharing"),
    Item("AI", "18f", "Code sharing", "code"),
    Item("", "17", "Ethical approval"),
    Item("", "19", "Patients and public in the study"),
)


def checklist_part(cohort: JudgedCohort, parts: Sequence[Part], calls: Calls | None, settings: Settings) -> Part:
    """The checklist with what the other topics tell."""
    known = _answers(cohort, {part.key: part for part in parts}, calls, settings)
    rows = [(item.stard or "–", item.tripod or "–", item.topic, known.get(item.key) or OPEN) for item in _ITEMS]
    filled = sum(row[3] != OPEN for row in rows)
    text = [
        f"{filled} of {len(rows)} items are filled in, as far as this evaluation knows; the others are the authors'. "
        "The wording is ours and short: hand in the official forms (equator-network.org). Numbers are those of STARD "
        "2015; AI marks what STARD-AI asks for beyond it."
    ]
    table = PageTable("Reporting checklist", ("STARD", "TRIPOD+AI", "item", "here"), rows, words=True)
    numbers = {
        "items": [dict(zip(("stard", "tripod_ai", "item", "here"), row, strict=True)) for row in rows],
        "filled": filled,
    }
    csv = (("stard", "tripod_ai", "item", "here"), rows)
    section = Section("checklist", "STARD-AI and TRIPOD+AI", text, tables=[table])
    return Part("checklist", numbers, section, {"checklist": csv})


def _answers(
    cohort: JudgedCohort, parts: Mapping[str, Part], calls: Calls | None, settings: Settings
) -> dict[str, str]:
    flow, columns = cohort.flow, cohort.columns
    slides: Mapping[str, Any] = parts["slides"].numbers
    centres = {str(name) for name in columns.get("centre", ()) if name}
    patients = {str(name) for name in columns.get("patient", ()) if name}
    ranked = sorted(slides["labels"].items(), key=lambda one: SEVERITY.get(one[0], len(SEVERITY)))
    labels = ", ".join(f"{name} {count:,}" for name, count in ranked)
    unjudged = ", ".join(f"{why} {count:,}" for why, count in flow.unjudged.items()) or "none"
    known = {
        "use": "research use only; slides ranked and excluded in screening for cervical lesions",
        "setting": f"{counted(len(centres), 'centre')}" if centres else "",
        "preparation": f"joined by slide id; {counted(flow.not_listed, 'prediction')} not in the truth table",
        "split": _split(cohort),
        "system": _system(cohort),
        "reference": f"labels of {cohort.sources['truth'].get('file', 'the truth table')} in the Bethesda System",
        "threshold": _threshold(calls),
        "groups": "ASC-US+, LSIL+, ASC-H+, HSIL+",
        "methods": "see the notes of each table: DeLong, Wilson, Clopper-Pearson"
        + (", McNemar, paired DeLong" if "comparison" in parts else ""),
        "indeterminate": f"not judged by the system: {unjudged}; rates with all of them stand under Slides",
        "missing": f"without a diagnosis {flow.no_reference:,}, unsatisfactory {flow.unsatisfactory_reference:,}",
        "subgroups": f"tables by {joined_words(parts['subgroups'].numbers)}" if "subgroups" in parts else "",
        "imbalance": f"{slides['positive']:,} positive, {slides['negative']:,} negative slides",
        "size": f"{len(cohort):,} slides; what a next study needs stands under Sample size"
        if "sample_size" in parts
        else "",
        "flow": "figure 'Flow of slides'",
        "characteristics": f"{counted(len(patients), 'patient')}; the rest is for the authors" if patients else "",
        "severity": labels,
        "table": "tables of calls and of classes" if calls is not None else "",
        "accuracy": "tables, with 95 % intervals",
        "heterogeneity": "forest plot by centre" if "centres" in parts else "",
        "calibration": "section Calibration" if "calibration" in parts else "",
        "limits": "synthetic slides or weights are named at the head of the report, where they were used",
        "code": f"stride-monai {__version__}, Apache-2.0",
    }
    return known


def _split(cohort: JudgedCohort) -> str:
    splits = sorted({str(name) or "none" for name in cohort.columns.get("split", ())})
    return f"judged slides are of the split {joined_words(splits)}" if splits else ""


def _system(cohort: JudgedCohort) -> str:
    source = cohort.sources["predictions"]
    weights = source.get("weights")
    if isinstance(weights, dict):
        said = ", ".join(f"{name} {digest[:12]}" for name, digest in weights.items())
        return f"stride-monai {source.get('package_version')}, weights {said}"
    return ""


def _threshold(calls: Calls | None) -> str:
    if calls is None:
        return "none; figures at thresholds that were chosen on these slides"
    return f"{calls.threshold:.6g}, {calls.source}" if calls.threshold is not None else calls.source
