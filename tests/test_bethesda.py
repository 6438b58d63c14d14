from __future__ import annotations

import pytest

from stride_monai import bethesda
from stride_monai.errors import ManifestError


def test_the_paper_lists_25_rows_of_18_texts_and_14_after_merging_agc() -> None:
    rows = [text for texts in bethesda.PAPER_DESCRIPTIONS.values() for text in texts]
    assert (len(rows), len(set(rows)), len(bethesda.DESCRIPTION_VOCABULARY)) == (25, 18, 14)
    assert bethesda.DESCRIPTIONS_BY_CLASS["AGC"] == (bethesda.AGC_DESCRIPTION,)
    assert set(bethesda.PAPER_DESCRIPTIONS) == set(bethesda.CELL_CLASSES)


def test_every_slide_class_maps_to_a_cell_class() -> None:
    indices = bethesda.slide_to_cell_indices()
    assert [bethesda.CELL_CLASSES[i] for i in indices] == ["NILM", "ASC-US", "LSIL", "ASC-H/HSIL", "ASC-H/HSIL", "AGC"]


@pytest.mark.parametrize(
    ("written", "label"),
    [
        ("ascus", "ASC-US"),
        ("ASC_H", "ASC-H"),
        ("Negative for intraepithelial lesion", "NILM"),
        ("ADC", "AGC"),
        ("scc", "SCC"),
    ],
)
def test_labels_are_understood_as_people_write_them(written: str, label: str) -> None:
    assert bethesda.parse_label(written) == label


def test_an_unknown_label_is_refused_with_the_choices() -> None:
    with pytest.raises(ManifestError, match="use one of NILM"):
        bethesda.parse_label("CIN2")


def test_scc_belongs_to_hsil() -> None:
    assert bethesda.slide_class_of("SCC") == "HSIL"
    assert {bethesda.cell_class_of(label) for label in ("ASC-H", "HSIL", "SCC", "ASC-H/HSIL")} == {"ASC-H/HSIL"}


def test_severity_is_not_the_class_index() -> None:
    assert bethesda.most_severe(["AGC", "HSIL", "LSIL"]) == "HSIL"
    assert bethesda.most_severe(["AGC", "ASC-H"]) == "AGC"
    assert bethesda.most_severe([]) == "NILM"
    for name, group in bethesda.REPORT_GROUPS.items():
        floor = bethesda.SEVERITY[name.removesuffix("+")]
        assert group == {label for label, rank in bethesda.SEVERITY.items() if rank >= floor}


def test_the_binary_score_sums_the_positive_classes() -> None:
    assert bethesda.binary_score([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="expected 6"):
        bethesda.binary_score([1.0])


def test_description_targets_are_multi_hot() -> None:
    texts = bethesda.DESCRIPTIONS_BY_CLASS["LSIL"][:2]
    row = bethesda.description_targets(texts)
    assert sum(row) == 2
    assert all(row[bethesda.DESCRIPTION_VOCABULARY.index(text)] for text in texts)
    with pytest.raises(ManifestError):
        bethesda.description_targets(["looks odd"])
