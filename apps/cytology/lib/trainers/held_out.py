"""Which reviewed slides teach, which judge, and what they decide. No version is judged by what taught it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from stride_monai.errors import ConfigError, OutputError
from stride_monai.files import write_bytes

TRAIN, VALIDATION = "train", "validation"
_EVERY = 5
"""Of so many slides one judges."""


def split_of(slide_ids: Iterable[str], file: Path) -> dict[str, str]:
    """The split of each slide, kept in ``file``; new slides are added in the order of their ids.

    Raises:
        ConfigError: there are fewer than two slides.
    """
    wanted = sorted(slide_ids)
    if len(wanted) < 2:
        raise ConfigError(
            f"{len(wanted)} slides are reviewed",
            "review two or more: one at least is held out, and judges",
        )
    try:
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise OutputError(f"{file.name} cannot be read ({error})", "bring back a copy of it") from error
    for slide_id in wanted:
        if slide_id not in known:
            judging = sum(split == VALIDATION for split in known.values())
            known[slide_id] = VALIDATION if judging * _EVERY < len(known) else TRAIN
    write_bytes(file, (json.dumps(known, indent=1, ensure_ascii=False) + "\n").encode())
    return {slide_id: known[slide_id] for slide_id in wanted}


def holds_up(present: float | None, new: float | None) -> bool:
    """Whether a new version is put to use: it was judged, and not worse than the present one.

    Args:
        present, new: the metric on the slides that judge; None where they give none, as without a lesion among them.
            Nothing is put to use that nobody could judge.
    """
    return present is not None and new is not None and new >= present
