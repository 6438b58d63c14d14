"""Who is in a cohort: patients, their slides and what is true and reported of each, decided before a slide is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stride_monai.bethesda import NEGATIVE, parse_label, slide_class_of
from stride_monai.data.manifest import SlideRecord
from stride_monai.data.splits import split_by_patient
from stride_monai.errors import ConfigError, check_name
from stride_monai.phantom.centres import SITES, centre_named
from stride_monai.phantom.cohorts.presets import (
    ADEQUACY_FLOOR_CELLS,
    CROWDS,
    INADEQUACIES,
    MISREPORTED,
    POSITIVE_MIX,
    PRESETS,
)
from stride_monai.phantom.render import plan_slide
from stride_monai.phantom.scenes.streams import stream

__all__ = ["Case", "CohortDesign", "design_of", "floor_density"]

_LABELS, _PATIENTS, _NOISE, _INADEQUATE = 77, 78, 79, 80
_POSITIVE_WEIGHT = 3.0
"""A positive slide is misreported so many times as often as a negative one."""
_SLIDES_OF_REPEATERS = (2, 2, 2, 3)


@dataclass(frozen=True, slots=True)
class Case:
    """One slide of a cohort.

    Attributes:
        slide_id: unique in the cohort.
        label: true Bethesda label.
        reported: slide class that the manifest states; another than the true one where the report is wrong.
        split: train, validation or test.
        inadequacy: one of :data:`~stride_monai.phantom.cohorts.presets.INADEQUACIES`, empty for a slide that can be
            judged.
        arguments: what :func:`stride_monai.phantom.render.plan_slide` is called with, beside the label.
    """

    slide_id: str
    patient: str
    label: str
    reported: str
    split: str
    inadequacy: str
    arguments: Mapping[str, Any]

    @property
    def slide_class(self) -> str:
        """The true slide class."""
        return slide_class_of(self.label)

    @property
    def centre(self) -> str:
        return str(self.arguments["centre"])


@dataclass(frozen=True, kw_only=True)
class CohortDesign:
    """What a cohort is made of. The same design gives the same cases.

    Attributes:
        classes: the Bethesda label of each slide, or a number of slides of mixed classes.
        prevalence: share of positive slides when ``classes`` is a number, 0-1; met to within half a slide.
        diameter_mm: of the deposits; None for the centre's own.
        density_per_mm2: epithelial cells per mm2; None for the centre's own, or that of a deposit of this diameter.
        mpp: um/px of level 0; None for the centre's own.
        centres: names of :data:`stride_monai.phantom.CENTRES`, taken in turn, or ``any`` for a laboratory of
            its own for every slide; None for all ``SITES``.
        seed: another seed gives another cohort.
        test_fraction, validation_fraction, held_out_centres: of the split by patient.
        all_test: put every slide into the test split instead.
        repeat_patients: share of the patients with two or three slides, 0-1; the others have one.
        label_noise: share of the slides of which the manifest states a wrong class, 0-1.
        inadequate: share of the slides that cannot be judged, 0-1; they are negative ones, since a slide with lesions
            is reported whatever else is on it.
        lesions: cells (AGC: groups) of its own label on every positive slide, for training sets; None draws the numbers
            that real slides have.
        artefacts, crowd_per_mm2: as in :func:`stride_monai.phantom.render_slide`; what makes a slide inadequate comes
            instead of the second.
        name: what slide and patient ids begin with.
    """

    classes: tuple[str, ...] | int
    prevalence: float = 0.21
    diameter_mm: float | None = 13.0
    density_per_mm2: float | None = None
    mpp: float | None = 0.25
    centres: tuple[str, ...] | None = None
    seed: int = 0
    test_fraction: float = 0.2
    validation_fraction: float = 0.2
    held_out_centres: tuple[str, ...] = ()
    all_test: bool = False
    repeat_patients: float = 0.0
    label_noise: float = 0.0
    inadequate: float = 0.0
    lesions: int | None = None
    artefacts: tuple[str, ...] = ()
    crowd_per_mm2: Mapping[str, float] | None = None
    name: str = "phantom"

    def cases(self) -> list[Case]:
        """The slides.

        Raises:
            ConfigError: the design makes no cohort.
            ManifestError: a label, a split or a centre to be held out is impossible.
        """
        self._check()
        labels = self._labels()
        patients = self._patients(labels)
        cases = self._drawn(labels, patients)
        reported = self._reported(labels)
        return [replace(case, reported=said) for case, said in zip(self._split(cases), reported, strict=True)]

    def _check(self) -> None:
        for what in ("prevalence", "repeat_patients", "label_noise", "inadequate"):
            share = getattr(self, what)
            if not 0 <= share <= 1:
                raise ConfigError(f"a {what.replace('_', ' ')} of {share:g}", "give a share between 0 and 1")
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative", "give 0 or more")
        if self.centres is not None and not self.centres:
            raise ConfigError("a cohort of no centres", "name at least one")
        if self.lesions is not None and self.lesions < 1:
            raise ConfigError(f"{self.lesions} lesions on a positive slide", "give 1 or more")
        if self.diameter_mm is not None and not 0 < self.diameter_mm <= 40:
            what = f"a deposit of {self.diameter_mm:g} mm is impossible"
            raise ConfigError(what, "give a diameter over 0 and up to 40 mm")
        for what, value in (("density", self.density_per_mm2), ("um/px", self.mpp)):
            if value is not None and not value > 0:
                raise ConfigError(f"a {what} of {value:g}", "give more than 0")

    def _labels(self) -> list[str]:
        if not isinstance(self.classes, int):
            labels = [parse_label(name) for name in self.classes]
            if not labels:
                raise ConfigError("a cohort of no slides", "name at least one slide class")
            return labels
        if self.classes < 1:
            raise ConfigError(f"a cohort of {self.classes} slides", "give 1 or more")
        positives = round(self.classes * self.prevalence)
        # Evenly spaced quantiles of the mix: every class in proportion, to within one slide.
        edges = np.cumsum(list(POSITIVE_MIX.values()))
        places = np.searchsorted(edges / edges[-1], (np.arange(positives) + 0.5) / max(positives, 1))
        labels = [list(POSITIVE_MIX)[place] for place in places] + [NEGATIVE] * (self.classes - positives)
        return [labels[i] for i in stream(self.seed, _LABELS).permutation(self.classes)]

    def _patients(self, labels: Sequence[str]) -> list[int]:
        """The number of each slide's patient; the slides of one patient are of one label."""
        rng = stream(self.seed, _PATIENTS)
        waiting: dict[str, list[int]] = defaultdict(list)
        for place, label in enumerate(labels):
            waiting[label].append(place)
        groups: list[list[int]] = []
        for places in waiting.values():
            while places:
                repeats = rng.random() < self.repeat_patients
                size = int(rng.choice(_SLIDES_OF_REPEATERS)) if repeats else 1
                groups.append(places[:size])
                del places[:size]
        groups.sort(key=lambda group: group[0])
        patient_of = {place: number for number, group in enumerate(groups) for place in group}
        return [patient_of[place] for place in range(len(labels))]

    def _drawn(self, labels: Sequence[str], patients: Sequence[int]) -> list[Case]:
        names = SITES if self.centres is None else tuple(centre_named(name).name for name in self.centres)
        seeds = np.random.SeedSequence(self.seed).generate_state(len(labels))
        failures = self._failures(labels)
        cases = []
        for i, label in enumerate(labels):
            centre = names[patients[i] % len(names)]
            arguments: dict[str, Any] = {
                "seed": int(seeds[i]),
                "centre": centre,
                "diameter_mm": self.diameter(centre),
                "density_per_mm2": self.density_per_mm2 or centre_named(centre, int(seeds[i])).density_per_mm2,
                "mpp": self.mpp or centre_named(centre).mpp,
                "lesions": None if self.lesions is None or label == NEGATIVE else {label: self.lesions},
                "artefacts": list(self.artefacts),
                "crowd_per_mm2": self.crowd_per_mm2,
            }
            arguments |= self._spoilt(failures.get(i, ""), int(seeds[i]), centre)
            arguments = {name: value for name, value in arguments.items() if value is not None}
            slide_id, patient = f"{self.name}-{i + 1:04d}", f"{self.name}-patient-{patients[i] + 1:04d}"
            cases.append(Case(slide_id, patient, label, slide_class_of(label), "test", failures.get(i, ""), arguments))
        return cases

    def _failures(self, labels: Sequence[str]) -> dict[int, str]:
        """Inadequate slides and what is wrong with each."""
        count = round(len(labels) * self.inadequate)
        negatives = [place for place, label in enumerate(labels) if label == NEGATIVE]
        if count > len(negatives):
            what = f"{count} inadequate slides, but only {len(negatives)} negative ones"
            raise ConfigError(what, "ask for fewer; slides with lesions are always adequate")
        chosen = stream(self.seed, _INADEQUATE).permutation(len(negatives))[:count]
        return {negatives[k]: INADEQUACIES[n % len(INADEQUACIES)] for n, k in enumerate(chosen.tolist())}

    def _spoilt(self, inadequacy: str, seed: int, centre: str) -> dict[str, Any]:
        """Arguments that make a slide fail: under the floor of a deposit of this size, or crowded."""
        if not inadequacy:
            return {}
        if inadequacy in CROWDS:
            return {"crowd_per_mm2": dict(CROWDS[inadequacy])}
        share = stream(seed, _INADEQUATE).uniform(0.15, 0.9)
        return {"density_per_mm2": round(share * floor_density(self.diameter(centre)), 3)}

    def diameter(self, centre: str) -> float:
        """Diameter of a centre's deposits, mm."""
        return centre_named(centre).deposit_mm if self.diameter_mm is None else self.diameter_mm

    def _split(self, cases: list[Case]) -> list[Case]:
        """By the true classes, so that reporting noise moves no slide."""
        if self.all_test:
            return cases
        records = [SlideRecord(c.slide_id, Path(c.slide_id), None, c.patient, c.centre, c.slide_class) for c in cases]
        split = split_by_patient(
            records, self.test_fraction, self.validation_fraction, self.seed, self.held_out_centres
        )
        return [replace(case, split=record.split or "test") for case, record in zip(cases, split, strict=True)]

    def _reported(self, labels: Sequence[str]) -> list[str]:
        """The class in the manifest: ``round(n * label_noise)`` of them wrong, positive slides more often."""
        classes = [slide_class_of(label) for label in labels]
        rng = stream(self.seed, _NOISE)
        weights = np.array([1.0 if name == NEGATIVE else _POSITIVE_WEIGHT for name in classes])
        # Weighted choice without replacement: the smallest of exponential waiting times.
        order = np.argsort(rng.exponential(size=len(classes)) / weights, kind="stable")
        draws: NDArray[np.float64] = rng.random(len(classes))
        for place in order[: round(len(classes) * self.label_noise)].tolist():
            said = MISREPORTED[classes[place]]
            edges = np.cumsum(list(said.values()))
            classes[place] = list(said)[int(np.searchsorted(edges / edges[-1], draws[place], side="right"))]
        return classes

    def refuse_impossible(self, cases: Sequence[Case]) -> None:
        """Plan small copies of the slides, one per centre and inadequacy, so that no wrong argument is met later.

        Raises:
            ConfigError: an argument makes no slide.
        """
        seen: set[tuple[str, str]] = set()
        for case in cases:
            if (case.centre, case.inadequacy) not in seen:
                seen.add((case.centre, case.inadequacy))
                small = min(case.arguments["diameter_mm"], 0.3)
                plan_slide(case.label, **{**case.arguments, "diameter_mm": small})


def floor_density(diameter_mm: float) -> float:
    """Epithelial cells per mm2 below which a deposit of this diameter is inadequate.

    The floor of 5,000 cells is that of a whole deposit; a disc made smaller keeps the density, so its floor is as much
    lower.
    """
    whole_mm = 13.0 if diameter_mm <= 13 else max(diameter_mm, 20.0)
    return float(ADEQUACY_FLOOR_CELLS / (np.pi * (whole_mm / 2) ** 2))


def design_of(preset: str, **changes: Any) -> CohortDesign:
    """The design of a named cohort (:data:`stride_monai.phantom.cohorts.presets.PRESETS`), with some of it changed.

    Raises:
        ConfigError: there is no such preset.
    """
    check_name("phantom cohort", preset, PRESETS)
    common = {"repeat_patients": 0.15, "mpp": None, "diameter_mm": None, "name": preset}
    return CohortDesign(**{**PRESETS[preset], **common, **changes})
