"""What can go wrong, each kind with its own class and with advice for the user.

An error is one line for the user: what happened, to which file, and what to do about it. The command line prints
``str(error)`` and no traceback; code that handles errors looks at the class.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from stride_monai.names import printable

__all__ = [
    "BagError",
    "BundleError",
    "ConfigError",
    "ManifestError",
    "MissingExtraError",
    "OutputError",
    "RegionError",
    "SlideError",
    "SpacingError",
    "StrideError",
    "check_name",
]


class StrideError(Exception):
    """Base of every error that the package raises on purpose.

    Args:
        what: what happened and to which slide or file, without a full stop at the end.
        advice: what the user can do about it; may be empty where nothing can be done.
    """

    def __init__(self, what: str, advice: str = "") -> None:  # a name in either may hold anything
        self.what = printable(what)
        self.advice = printable(advice)
        super().__init__(self.what, self.advice)

    def __str__(self) -> str:
        return f"{self.what}: {self.advice}" if self.advice else self.what


class SlideError(StrideError):
    """A slide cannot be opened or read."""


class RegionError(SlideError):
    """A region of an otherwise good slide cannot be decoded; it is counted and reported, the slide goes on."""


class SpacingError(SlideError):
    """A slide's um/px is missing, anisotropic or implausible; the remedy is an explicit ``--mpp``."""


class ManifestError(StrideError):
    """A manifest, a cell table or a label in one of them is wrong."""


class BagError(StrideError):
    """A bag file is damaged, empty or does not fit the model."""


class BundleError(StrideError):
    """A bundle, its configuration or its weights cannot be used."""


class ConfigError(StrideError):
    """An option or override that the user gave is unknown or contradicts another."""


class OutputError(StrideError):
    """Results cannot be written."""


class MissingExtraError(StrideError):
    """An optional dependency is not installed.

    Args:
        package: the import that failed, e.g. ``ultralytics``.
        extra: the extra of stride-monai that brings it, e.g. ``yolo``.
        needed_for: what the user was doing.
    """

    def __init__(self, package: str, extra: str, needed_for: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{needed_for} needs {package}, which is not installed", f"pip install 'stride-monai[{extra}]'"
        )


_MANY = 20  # names to choose from, above which the nearest one alone is said


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Refuse a name that does not exist.

    Args:
        kind: what it is to name, ``reader``.
        known: the names that exist.

    Raises:
        ConfigError: with the nearest name, and with all if they are few.
    """
    names = list(known)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    advice = [f"did you mean {near[0]}?"] if near else []
    if len(names) <= _MANY:
        advice.append(f"choose from {', '.join(names)}")
    raise ConfigError(f"unknown {kind} '{name}'", " ".join(advice))
