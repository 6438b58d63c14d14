from __future__ import annotations

import json

import pytest
from findings_samples import make_findings

from stride_monai.bethesda import CELL_CLASSES, DESCRIPTION_VOCABULARY, DESCRIPTIONS_BY_CLASS
from stride_monai.errors import OutputError
from stride_monai.findings import Description, Findings, OperatingPoint


def test_json_round_trip() -> None:
    findings = make_findings(cells=1)
    assert Findings.from_json(findings.to_json()) == findings
    text = make_findings(cells=7).to_json()
    assert Findings.from_json(text).to_json() == text
    raw = json.loads(text)
    assert raw["slide_probabilities"]["HSIL"] == 0.69
    assert raw["cells"][0]["box"] == [37.25, 19.5, 117.25, 79.5]
    assert "research use only" in raw["disclaimer"].lower()
    first, second = raw["cells"][6]["descriptions"]
    assert first == {"text": DESCRIPTION_VOCABULARY[0], "similarity": 0.9, "fits_class": False}
    assert second == {"text": DESCRIPTIONS_BY_CLASS[CELL_CLASSES[2]][0], "similarity": 0.775, "fits_class": True}
    assert raw["described"] == {"made": True, "why": "default where text_align has weights", "threshold": 0.31}


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_files_of_versions_that_knew_no_descriptions_are_read(version: str) -> None:
    raw = json.loads(make_findings(cells=1).to_json())
    del raw["described"]
    raw["schema_version"] = version
    raw["cells"][0]["descriptions"] = []
    read = Findings.from_json(json.dumps(raw))
    assert read.cells[0].descriptions == ()
    assert (read.schema_version, read.described.made, read.described.threshold) == (version, False, None)
    assert read.described.why


@pytest.mark.parametrize("cell_class", CELL_CLASSES)
def test_a_description_fits_the_classes_that_the_vocabulary_gives_it(cell_class: str) -> None:
    fitting = {text for text in DESCRIPTION_VOCABULARY if Description.of(cell_class, text, 0.5).fits_class}
    assert fitting == set(DESCRIPTIONS_BY_CLASS[cell_class])
    assert Description.of(cell_class, "normal cell", 0.5).fits_class == (cell_class == "NILM")


def test_a_slide_without_cells_has_no_probabilities() -> None:
    findings = make_findings(cells=0)
    assert Findings.from_json(findings.to_json()) == findings


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": "9.0"}', "null"])
def test_other_files_are_refused(text: str) -> None:
    with pytest.raises(OutputError, match="screen the slide again"):
        Findings.from_json(text)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("score",), "high"),
        (("call",), "maybe"),
        (("slide_class",), 3),
        (("slide", "mpp"), None),
        (("slide", "mpp"), True),
        (("slide", "file_name"), ["a"]),
        (("quality", "unreadable_regions"), "2"),
        (("reason",), None),
        (("cells",), 7),
        (("provenance", "config_hash"), 1),
    ],
)
def test_values_of_another_kind_are_refused(place: tuple[str, ...], value: object) -> None:
    raw = json.loads(make_findings().to_json())
    inner = raw
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    with pytest.raises(OutputError, match="not a findings file"):
        Findings.from_json(json.dumps(raw))
    with pytest.raises(OutputError, match="not a findings file"):
        Findings.from_json("[" * 100_000)


def test_nan_never_reaches_an_artifact() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        make_findings(score=float("nan")).to_json()


def test_what_cannot_be_judged_is_never_called_negative() -> None:
    point = OperatingPoint(0.5, 64, "a test")
    assert [point.call(score) for score in (None, 0.49, 0.5)] == [None, "negative", "positive"]
    assert [point.call(score, satisfactory=False) for score in (None, 0.49, 0.5)] == [None, None, "positive"]
