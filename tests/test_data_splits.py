"""Splits: by patient, in proportion, the same on every machine."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stride_monai.bethesda import SLIDE_CLASSES
from stride_monai.data import SlideRecord, split_by_patient
from stride_monai.data.hashing import unit_interval
from stride_monai.data.splits import refuse_straddling
from stride_monai.errors import ManifestError


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
    split_of = {record.group: record.split for record in result}
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
    from dataclasses import replace

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
