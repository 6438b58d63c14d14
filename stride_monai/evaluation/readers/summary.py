"""All that is computed of a reader study, and what must be known to read it."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from stride_monai.bethesda import REPORT_GROUPS
from stride_monai.data.tables import first_of
from stride_monai.errors import ConfigError
from stride_monai.evaluation.readers.by_reader import (
    McNemar,
    ReaderInArm,
    between_readers,
    readers_in_arms,
    tests_by_reader,
)
from stride_monai.evaluation.readers.estimate import FEWEST_RANDOM, Estimate
from stride_monai.evaluation.readers.measures import (
    MEASURES,
    Measured,
    Verdict,
    measure_arm,
    measure_difference,
    verdict,
)
from stride_monai.evaluation.readers.panel import panel_summary
from stride_monai.evaluation.readers.study import OPEN, Study
from stride_monai.evaluation.readers.times import TimeInArm, time_in_arm, time_ratio
from stride_monai.evaluation.statistics.intervals import LEVEL

__all__ = ["AIDED", "UNAIDED", "StudySummary", "compared_arms", "summarize_readers"]

UNAIDED, AIDED = "unaided", "aided"
_WITH_MARGIN = ("sensitivity", "specificity", "AUC")


class StudySummary(NamedTuple):
    """What is computed of a study.

    Attributes:
        study: the reads. group: threshold of what is said of single readers. level: of the intervals.
        compared: the first and the second arm; None where only one arm, or neither of the two, is there.
        arms: figures of each arm. differences: of the compared arms, each with its verdict where a margin is stated.
        readers: each in each arm. tests: McNemar's. between: by arm, Fleiss' kappa with its readers and cases.
        times, ratio: of the reads. panel: of the labels. notes: sentences for the reader of the report.
    """

    study: Study
    group: str
    level: float
    compared: tuple[str, str] | None
    arms: tuple[Measured, ...]
    differences: tuple[tuple[Measured, Verdict | None], ...]
    readers: tuple[ReaderInArm, ...]
    tests: tuple[McNemar, ...]
    between: dict[str, tuple[float, int, int]]
    times: tuple[TimeInArm, ...]
    ratio: Estimate | None
    panel: dict[str, Any]
    notes: tuple[str, ...]


def compared_arms(study: Study, unaided: str | None = None, aided: str | None = None) -> tuple[str, str] | None:
    """The arms to compare: those that are named, else ``unaided`` and ``aided`` where the study has both.

    Raises:
        ConfigError: an arm that is named is not there, or both are the same.
    """
    for given in (unaided, aided):
        if given is not None and given not in study.arms:
            raise ConfigError(f"no read is in an arm '{given}'", f"choose from {', '.join(study.arms)}")
    pair = (unaided or UNAIDED, aided or AIDED)
    if pair[0] == pair[1]:
        raise ConfigError(f"arm '{pair[0]}' is to be compared with itself", "name two arms")
    if pair[0] in study.arms and pair[1] in study.arms:
        return pair
    if unaided is not None or aided is not None:
        missing = pair[0] if pair[0] not in study.arms else pair[1]
        raise ConfigError(f"no read is in an arm '{missing}'", f"choose from {', '.join(study.arms)}")
    return None


def summarize_readers(
    study: Study,
    compared: tuple[str, str] | None = None,
    margin: float | None = None,
    group: str = "ASC-US+",
    level: float = LEVEL,
) -> StudySummary:
    """Compute it all.

    Args:
        compared: first and second arm. margin: of non-inferiority in sensitivity, specificity and AUC, above 0.
        group: threshold at which single readers are judged. level: of the intervals.

    Raises:
        ConfigError: the margin is not between 0 and 1, or there is nothing that it could hold for.
    """
    if margin is not None and not 0 < margin < 1:
        raise ConfigError(f"a margin of {margin:g}", "give one between 0 and 1, such as 0.05")
    if margin is not None and compared is None:
        raise ConfigError("a margin without two arms to compare", "name them by --unaided and --aided")
    arms = [measure_arm(study, name, arm, level) for name in MEASURES for arm in study.arms]
    differences = [measure_difference(study, name, *compared, level) for name in MEASURES] if compared else []
    times = [found for arm in study.arms if (found := time_in_arm(study, arm, level)) is not None]
    return StudySummary(
        study=study,
        group=group,
        level=level,
        compared=compared,
        arms=tuple(arms),
        differences=tuple((found, _verdict(found, margin)) for found in differences),
        readers=tuple(readers_in_arms(study, group, level)),
        tests=tuple(tests_by_reader(study, group, *compared)) if compared else (),
        between={arm: between_readers(study, arm) for arm in study.arms},
        times=tuple(times),
        ratio=time_ratio(study, *compared, level) if compared else None,
        panel=panel_summary(study.panel, level),
        notes=tuple(_notes(study, compared)),
    )


def _verdict(found: Measured, margin: float | None) -> Verdict | None:
    if margin is None or not found.measure.startswith(_WITH_MARGIN):
        return None
    return verdict(found.estimate, margin)


def _notes(study: Study, compared: tuple[str, str] | None) -> list[str]:
    notes = []
    if compared is None:
        notes.append(f"No two arms are compared; the arms are {', '.join(study.arms)}.")
    else:
        notes += _notes_of_pair(study, *compared)
    by = "its score" if study.scored else "the severity of what was said, which gives the curve few steps"
    notes.append(f"The AUC ranks cases by {by}.")
    if left := int((study.severity == OPEN).sum()):
        notes.append(
            f"{left} reads say positive without a class; they count at {next(iter(REPORT_GROUPS))} and nowhere else."
        )
    if study.without_label:
        named = first_of(study.without_label)
        notes.append(
            f"{len(study.without_label)} cases were read and have no label ({named}); their reads are left out."
        )
    if study.unread:
        notes.append(f"{len(study.unread)} cases have a label and were read by nobody.")
    return notes


def _notes_of_pair(study: Study, first: str, second: str) -> list[str]:
    notes = []
    readers = [{*study.reader[study.of([arm])].tolist()} for arm in (first, second)]
    both = readers[0] & readers[1]
    if len(both) < FEWEST_RANDOM:
        notes.append(
            f"{len(both)} readers have read in both arms. With fewer than {FEWEST_RANDOM} the intervals hold for these "
            "readers alone; they do not say how other readers would fare."
        )
    pair = study.of([first, second])
    block = study.block([first, second], np.ones(len(study.reads), np.bool_))
    if not block.whole:
        notes.append(
            f"{int(pair.sum())} reads; not every reader has read every case in both arms. Where reads are averaged, "
            "all of them count."
        )
    stages = [Counter(study.reads[k].stage for k in np.flatnonzero(study.of([arm]))) for arm in (first, second)]
    if all(len(s) == 1 and "" not in s for s in stages) and stages[0] != stages[1]:
        notes.append(
            f"Every read of '{first}' is of stage {next(iter(stages[0]))} and every read of '{second}' of stage "
            f"{next(iter(stages[1]))}: what the help does cannot be told from what a second reading does."
        )
    return notes
