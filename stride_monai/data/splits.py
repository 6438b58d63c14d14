"""Splits by patient: test first, the rest into training and validation; the same on every machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from math import floor

from stride_monai.bethesda import most_severe
from stride_monai.data.hashing import digest
from stride_monai.data.manifest import SlideRecord
from stride_monai.errors import ManifestError

__all__ = ["refuse_straddling", "split_by_patient"]


def split_by_patient(
    records: Sequence[SlideRecord],
    test_fraction: float = 0.2,
    validation_fraction: float = 0.2,
    seed: int = 0,
    held_out_centres: Collection[str] = (),
) -> list[SlideRecord]:
    """Assign every slide to ``train``, ``validation`` or ``test``; all slides of a patient go the same way.

    Patients are ordered by the most severe class of their slides, then by SHA-256 of the seed and the patient's name,
    and every n-th is taken: so each class is represented in proportion, to within one patient.

    Args:
        records: slides; a split they already have is overwritten. A slide without a patient is a patient of its own.
        test_fraction: share of the patients (those of held-out centres aside) that go to the test set, 0-1.
        validation_fraction: share of the patients that are left which go to validation, 0-1; 0.2 is the paper's 8:2.
        seed: another seed gives another split.
        held_out_centres: every patient with a slide from one of these goes to the test set as a whole.

    Returns:
        The records in the order given, each with its split.

    Raises:
        ManifestError: a fraction is outside 0-1, or no slide is from a centre that is to be held out.
    """
    for name, fraction in (("test_fraction", test_fraction), ("validation_fraction", validation_fraction)):
        if not 0 <= fraction <= 1:
            raise ManifestError(f"{name} is {fraction}", "give a share between 0 and 1")
    absent = sorted(set(held_out_centres) - {record.centre or "" for record in records})
    if absent:
        raise ManifestError(f"no slide is from centre '{absent[0]}', which is to be held out", "check its name")
    held_out = {record.group for record in records if record.centre in set(held_out_centres)}
    groups = _ordered_groups([record for record in records if record.group not in held_out], seed)
    test = _every_nth(groups, test_fraction) | held_out
    validation = _every_nth([group for group in groups if group not in test], validation_fraction)
    split_of = {record.group: "train" for record in records}
    split_of |= dict.fromkeys(validation, "validation") | dict.fromkeys(test, "test")
    return [replace(record, split=split_of[record.group]) for record in records]


def _ordered_groups(records: Sequence[SlideRecord], seed: int) -> list[str]:
    labels: dict[str, list[str]] = {}
    for record in records:
        labels.setdefault(record.group, []).extend([record.slide_class] if record.slide_class else [])
    strata = {group: most_severe(found) if found else "" for group, found in labels.items()}
    return sorted(strata, key=lambda group: (strata[group], digest(seed, group)))


def _every_nth(groups: Sequence[str], fraction: float) -> set[str]:
    """Evenly spaced members, ``round(len * fraction)`` of them: whenever the running share passes the next half."""
    return {
        group
        for place, group in enumerate(groups)
        if floor((place + 1) * fraction + 0.5) > floor(place * fraction + 0.5)
    }


def refuse_straddling(records: Sequence[SlideRecord], file_name: str) -> None:
    """Refuse a manifest in which a patient's slides are in different splits.

    Raises:
        ManifestError: naming one such patient and how many there are.
    """
    splits: dict[str, set[str]] = {}
    for record in records:
        splits.setdefault(record.group, set()).add(record.split or "none")
    torn = sorted(group for group, found in splits.items() if len(found) > 1)
    if torn:
        name = torn[0].partition(":")[2]
        more = f" and {len(torn) - 1} more" if len(torn) > 1 else ""
        raise ManifestError(
            f"{file_name}: slides of patient '{name}'{more} are in different splits",
            "put all slides of a patient into one split",
        )
