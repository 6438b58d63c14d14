"""What is asked of the classification of single cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stride_monai.errors import ConfigError, check_name
from stride_monai.files import paths_of
from stride_monai.screening.config import CLASSIFIERS, check_common

__all__ = ["BOXES", "CELL_CLASSIFIERS", "ClassifyConfig"]

CELL_CLASSIFIERS = ("cell_cls", *CLASSIFIERS)
"""Bundles whose networks classify single cells, the default first: slide classifiers have a head for cells too."""
BOXES = ("center", "corner")
"""What x and y are where a width and a height come with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyConfig:
    """What is asked of the classification of single cells.

    Attributes:
        mpp: um/px of all pictures and slides; wins over what a file states. A list's value for one wins over this.
        boxes: ``center`` or ``corner``: what x and y are where a list gives width and height too.
        classifier: ``auto`` for the one whose weights are named, else ``cell_cls``; or one of :data:`CELL_CLASSIFIERS`.
        descriptions: say in words why, with the bundle text_align.
        device, profile, bundles, weights: as of :class:`~stride_monai.ScreeningConfig`.

    Raises:
        ConfigError: a value is invalid, or two contradict each other. Files are looked at when they are loaded.
    """

    mpp: float | None = None
    boxes: str = BOXES[0]
    device: str = "auto"
    profile: str = "tiny"
    bundles: Path | None = None
    classifier: str = "auto"
    descriptions: bool = False
    weights: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bundles", None if self.bundles is None else Path(self.bundles))
        object.__setattr__(self, "weights", {name: tuple(paths_of(files)) for name, files in self.weights.items()})
        check_common(self.mpp, self.profile, self.device, self.weights)
        check_name("meaning of --boxes", self.boxes, BOXES)
        check_name("cell classifier", self.classifier, ("auto", *CELL_CLASSIFIERS))
        given = [name for name in CELL_CLASSIFIERS if name in self.weights]
        if self.classifier == "auto" and len(given) > 1:
            raise ConfigError(
                f"--weights names {' and '.join(given)}, one of which classifies", f"say which: --classifier {given[0]}"
            )
        used = {self.classifier if self.classifier != "auto" else "".join(given)}
        if self.descriptions:  # the words may be those of another encoder
            used |= {"text_align", *CELL_CLASSIFIERS}
        if idle := [name for name in self.weights if name not in used]:
            advice = "add --descriptions, or leave it out" if idle[0] == "text_align" else "leave it out"
            raise ConfigError(f"--weights {idle[0]} is not used here", advice)

    @property
    def chosen(self) -> tuple[str, str]:
        """The bundle that classifies, and in words why."""
        if self.classifier != "auto":
            return self.classifier, "as asked for"
        given = [name for name in CELL_CLASSIFIERS if name in self.weights]
        return (given[0], "its weights were given") if given else (CELL_CLASSIFIERS[0], "default")

    def for_table(self) -> dict[str, Any]:
        """As plain values, of files and folders the name alone."""
        return asdict(self) | {
            "bundles": None if self.bundles is None else self.bundles.absolute().name,
            "weights": {name: [file.name for file in files] for name, files in self.weights.items()},
        }
