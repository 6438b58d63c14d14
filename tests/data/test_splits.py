"""Splits: by patient, in proportion, the same on every machine."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.data import (
    CellRecord,
    SlideRecord,
    read_cells,
    read_manifest,
    split_by_patient,
    write_cells,
    write_manifest,
)
from stride_monai.data.hashing import unit_interval
from stride_monai.data.manifest import SPLITS
from stride_monai.data.splits import leak_groups, leak_warning, refuse_straddling, split_cohort
from stride_monai.errors import ManifestError, OutputError


def _record(
    number: int, patient: str | None = None, label: str | None = None, centre: str | None = None
) -> SlideRecord:
    return SlideRecord(f"s{number}", Path(f"s{number}.svs"), patient=patient, slide_class=label, centre=centre)


_RECORDS = st.lists(
    st.tuples(
        st.one_of(st.none(), st.sampled_from([f"p{k}" for k in range(12)])),
        st.one_of(st.none(), st.sampled_from(SLIDE_CLASSES)),
        st.sampled_from(["A", "B", "C"]),
    ),
    min_size=1,
    max_size=40,
).map(lambda rows: [_record(k, *row) for k, row in enumerate(rows)])


@settings(max_examples=80, deadline=None)
@given(records=_RECORDS, seed=st.integers(0, 99), test=st.floats(0, 1), validation=st.floats(0, 1))
def test_no_patient_straddles_and_the_shares_are_right(
    records: list[SlideRecord], seed: int, test: float, validation: float
) -> None:
    result = split_by_patient(records, test, validation, seed)
    assert [r.slide_id for r in result] == [r.slide_id for r in records]
    refuse_straddling(result, "m.csv")
    group_of = leak_groups(result)
    split_of = {group_of[record.slide_id]: record.split for record in result}
    counts = Counter(split_of.values())
    assert abs(counts["test"] - test * len(split_of)) <= 0.5 + 1e-9
    assert abs(counts["validation"] - validation * (len(split_of) - counts["test"])) <= 0.5 + 1e-9


@settings(max_examples=40, deadline=None)
@given(records=_RECORDS, seed=st.integers(0, 99), order=st.randoms(use_true_random=False))
def test_the_order_of_the_records_does_not_matter(records: list[SlideRecord], seed: int, order: object) -> None:
    shuffled = list(records)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    split = {r.slide_id: r.split for r in split_by_patient(records, seed=seed)}
    assert {r.slide_id: r.split for r in split_by_patient(shuffled, seed=seed)} == split


@settings(max_examples=40, deadline=None)
@given(records=_RECORDS)
def test_held_out_centres_are_tested_whole(records: list[SlideRecord]) -> None:
    centre = records[0].centre or ""
    result = split_by_patient(records, held_out_centres=[centre])
    refuse_straddling(result, "m.csv")
    assert all(record.split == "test" for record in result if record.centre == centre)


def test_every_class_is_represented_in_proportion() -> None:
    records = [_record(k, f"p{k}", SLIDE_CLASSES[k % 6]) for k in range(300)]
    result = split_by_patient(records)
    for name in SLIDE_CLASSES:
        counts = Counter(record.split for record in result if record.slide_class == name)
        assert abs(counts["test"] - 10) <= 1
        assert abs(counts["validation"] - 8) <= 1


def test_the_split_is_the_same_on_every_machine_and_for_ever() -> None:
    records = [_record(k, f"p{k // 2}", SLIDE_CLASSES[k % 6]) for k in range(40)]
    result = split_by_patient(records, seed=7)
    assert (
        "".join((record.split or "?")[1] for record in result) == "rrrreerrrrrreeeeaaaarrrrrrrrrrrrrrrreeaa"
    )  # r: train, a: validation, e: test
    assert unit_interval(1, "a", 2) == 0.10173977785169441


def test_another_seed_gives_another_split() -> None:
    records = [_record(k, f"p{k}") for k in range(40)]
    splits = {tuple(record.split for record in split_by_patient(records, seed=seed)) for seed in range(5)}
    assert len(splits) == 5


def test_a_centre_that_is_not_there_and_shares_beyond_one_are_refused() -> None:
    with pytest.raises(ManifestError, match="'Z'"):
        split_by_patient([_record(0, centre="A")], held_out_centres=["Z"])
    with pytest.raises(ManifestError, match=r"validation_fraction is 1\.5"):
        split_by_patient([_record(0)], validation_fraction=1.5)


def test_a_torn_patient_is_refused_by_name() -> None:
    records = [_record(0, "Ann"), _record(1, "Ann"), _record(2)]
    torn = [replace(records[0], split="train"), replace(records[1], split="test"), replace(records[2], split="test")]
    with pytest.raises(ManifestError, match="'Ann' are in different splits"):
        refuse_straddling(torn, "m.csv")


def test_hashed_numbers_are_uniform() -> None:
    values = [unit_interval(0, "x", k) for k in range(2000)]
    assert min(values) >= 0
    assert max(values) < 1
    histogram = Counter(int(value * 10) for value in values)
    assert all(150 < histogram[k] < 250 for k in range(10))


_NAMES = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "d"]))


def _reachable(records: list[SlideRecord]) -> dict[str, frozenset[str]]:
    """Slides that hang together, the slow way: grow each set until nothing is added."""
    together = {record.slide_id: {record.slide_id} for record in records}
    by_id = {record.slide_id: record for record in records}
    for _ in records:
        for found in together.values():
            for record in records:
                for other in (by_id[name] for name in tuple(found)):
                    same_patient = record.patient and record.patient == other.patient
                    if same_patient or (record.specimen and record.specimen == other.specimen):
                        found.add(record.slide_id)
    return {name: frozenset(found) for name, found in together.items()}


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(_NAMES, _NAMES), min_size=1, max_size=8), seed=st.integers(0, 9))
def test_what_shares_a_patient_or_a_specimen_stays_together(
    rows: list[tuple[str | None, str | None]], seed: int
) -> None:
    records = [replace(_record(k, patient), specimen=specimen) for k, (patient, specimen) in enumerate(rows)]
    groups = leak_groups(records)
    for name, found in _reachable(records).items():
        assert {other for other, group in groups.items() if group == groups[name]} == found
    result = split_by_patient(records, 0.4, 0.4, seed)
    refuse_straddling(result, "m.csv")


def test_groups_are_named_by_the_patient_then_by_the_specimen() -> None:
    records = [replace(_record(0, "P"), specimen="S"), replace(_record(1), specimen="S"), _record(2)]
    assert leak_groups(records) == {"s0": "patient:P", "s1": "patient:P", "s2": "slide:s2"}
    assert leak_groups(records[1:])["s1"] == "specimen:S"
    torn = [replace(records[1], split="train"), replace(records[1], slide_id="x", split="test")]
    with pytest.raises(ManifestError, match="slides of specimen 'S' are in different splits"):
        refuse_straddling(torn, "m.csv")


def test_cells_stand_in_for_the_class_of_an_image() -> None:
    records = [_record(k) for k in range(100)]
    labels = {f"s{k}": ["NILM", "LSIL"] if k % 5 == 0 else ["NILM"] for k in range(100)}
    result = split_by_patient(records, 0.5, 0.0, labels=labels)
    lesions = [record for record in result if len(labels[record.slide_id]) == 2]
    assert sum(record.split == "test" for record in lesions) == 10


def test_what_is_not_known_is_said() -> None:
    assert leak_warning([_record(0, "Ann")]) == ""
    said = leak_warning([_record(0, "Ann"), _record(1), replace(_record(2), specimen="S")])
    assert "the patient of 2 of 3 images is not known, nor the slide of 1: a random split" in said


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    records = [_record(k, f"P{k // 2}", centre="A" if k < 12 else "B") for k in range(16)]
    write_manifest(tmp_path / "manifest.csv", records)
    write_cells(
        tmp_path / "cells.csv", [CellRecord(f"s{k}", "1", 0, 0, 9, 9, "LSIL" if k % 4 else "NILM") for k in range(16)]
    )
    return tmp_path


def test_a_cohort_folder_is_split_in_place(cohort: Path) -> None:
    facts = split_cohort(cohort, 0.25, 0.25, seed=4, held_out_centres=["B"])
    records = read_manifest(cohort / "manifest.csv")
    refuse_straddling(records, "manifest.csv")
    assert {record.split for record in records if record.centre == "B"} == {"test"}
    assert facts["images"] == dict(Counter(record.split for record in records))
    assert sum(sum(cells.values()) for cells in facts["cells"].values()) == 16
    assert facts["groups"] == {"patients": 8, "specimens": 0, "single images": 0}
    assert facts["warning"] == ""
    assert json.loads((cohort / "split.json").read_text()) == facts
    before = (cohort / "manifest.csv").read_bytes()
    with pytest.raises(ManifestError, match="add --overwrite"):
        split_cohort(cohort)
    split_cohort(cohort, 0.25, 0.25, seed=4, held_out_centres=["B"], overwrite=True)
    assert (cohort / "manifest.csv").read_bytes() == before
    split_cohort(cohort, 0.25, 0.25, seed=5, overwrite=True)
    assert (cohort / "manifest.csv").read_bytes() != before


def test_a_manifest_of_the_users_own_is_kept(cohort: Path) -> None:
    """Columns that we do not know stay; comments, and splits that somebody gave, would be lost."""
    path = cohort / "manifest.csv"
    lines = path.read_text().splitlines()
    table = "\n".join([f"{lines[0]},age", *(f"{line},={30 + k}" for k, line in enumerate(lines[1:]))]) + "\n"
    path.write_text(f"# of mine\n{table}")
    assert split_cohort(cohort)["manifest_before"] == "manifest (2).csv"
    assert (cohort / "manifest (2).csv").read_text() == f"# of mine\n{table}"
    for seed in (2, 3):
        assert split_cohort(cohort, seed=seed, overwrite=True)["manifest_before"] is None, "it is ours now"
        assert [row["age"] for row in csv.DictReader(path.open())] == [f"'={30 + k}" for k in range(len(lines) - 1)]
    path.write_text(path.read_text().replace(",train", ",test"))
    edited = path.read_text()
    assert split_cohort(cohort, seed=2, overwrite=True)["manifest_before"] == "manifest (3).csv"
    assert (cohort / "manifest (3).csv").read_text() == edited


def test_another_tools_split_file_stays(cohort: Path) -> None:
    (cohort / "split.json").write_text('{"train": []}')
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"split\.json"):
            split_cohort(cohort, overwrite=overwrite)
    assert (cohort / "split.json").read_text() == '{"train": []}'
    assert {record.split for record in read_manifest(cohort / "manifest.csv")} == {None}


def test_less_known_than_asked_for_is_refused(cohort: Path) -> None:
    assert split_cohort(cohort, at_least="patient")["images"]["train"] > 0
    records = read_manifest(cohort / "manifest.csv")
    records[3] = replace(records[3], patient=None)
    write_manifest(cohort / "manifest.csv", records)
    with pytest.raises(ManifestError, match=r"the slide of 1 of 16 images is not known, e\.g\. of 's3'"):
        split_cohort(cohort, at_least="slide", overwrite=True)
    with pytest.raises(ManifestError, match="'cell' is nothing to split by"):
        split_cohort(cohort, at_least="cell", overwrite=True)


def test_what_a_split_has_none_of_is_said(cohort: Path) -> None:
    cells = read_cells(cohort / "cells.csv")
    write_cells(cohort / "cells.csv", [*cells[1:], replace(cells[0], label="HSIL")])
    facts = split_cohort(cohort, 0.25, 0.25)
    (holder,) = {record.split for record in read_manifest(cohort / "manifest.csv") if record.slide_id == "s0"}
    assert {name for name, kinds in facts["lacking"].items() if "ASC-H/HSIL cells" in kinds} == set(SPLITS) - {holder}
    facts = split_cohort(cohort, 0.01, 0.25, overwrite=True)
    assert facts["images"]["test"] == 0
    assert facts["lacking"]["test"] == ["images"]


def test_cells_of_a_slide_that_the_manifest_does_not_have(cohort: Path) -> None:
    cells = read_cells(cohort / "cells.csv")
    write_cells(cohort / "cells.csv", [*cells, replace(cells[0], slide_id="gone")])
    with pytest.raises(ManifestError, match=r"names 1 slides that manifest\.csv does not have, e\.g\. 'gone'"):
        split_cohort(cohort)
    assert {record.split for record in read_manifest(cohort / "manifest.csv")} == {None}
    (cohort / "cells.csv").unlink()
    split_cohort(cohort)


@given(records=_RECORDS, validation=st.floats(0, 1), seed=st.integers(0, 99), tested=st.sets(st.integers(0, 39)))
@settings(max_examples=40, deadline=None)
def test_the_publishers_test_set_is_kept(
    records: list[SlideRecord], validation: float, seed: int, tested: set[int]
) -> None:
    given = [replace(record, split="test" if k in tested else "train") for k, record in enumerate(records)]
    if not any(record.split == "test" for record in given):
        with pytest.raises(ManifestError, match="no slide is for testing yet"):
            split_by_patient(given, validation_fraction=validation, keep_test=True)
        return
    result = split_by_patient(given, 0.5, validation, seed, keep_test=True)
    refuse_straddling(result, "m.csv")
    group_of = leak_groups(given)
    kept = {group_of[record.slide_id] for record in given if record.split == "test"}
    assert {group_of[record.slide_id] for record in result if record.split == "test"} == kept
    split_of = {group_of[record.slide_id]: record.split for record in result if record.split != "test"}
    assert abs(Counter(split_of.values())["validation"] - validation * len(split_of)) <= 0.5 + 1e-9


def test_a_cohort_keeps_the_test_set_that_it_came_with(cohort: Path) -> None:
    records = read_manifest(cohort / "manifest.csv")
    first = records[0].slide_id
    tested = {
        record.slide_id for record in records if leak_groups(records)[record.slide_id] == leak_groups(records)[first]
    }
    write_manifest(
        cohort / "manifest.csv",
        [replace(record, split="test" if record.slide_id in tested else "train") for record in records],
    )
    with pytest.raises(ManifestError, match="--keep-test"):
        split_cohort(cohort)
    assert split_cohort(cohort, validation_fraction=0.5, keep_test=True)["test_kept"]
    split_of = {record.slide_id: record.split for record in read_manifest(cohort / "manifest.csv")}
    assert {slide_id for slide_id, split in split_of.items() if split == "test"} == tested
    assert "validation" in split_of.values()
