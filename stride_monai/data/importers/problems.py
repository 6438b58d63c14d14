"""What is wrong with a data set: every broken row with its file and line, none dropped in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stride_monai.data.tables import first_of, table_text
from stride_monai.errors import ManifestError
from stride_monai.files import write_bytes

__all__ = ["PROBLEMS_NAME", "Place", "Problem", "ProblemLog"]

PROBLEMS_NAME = "problems.csv"


class Place(NamedTuple):
    """Where something stands: a file, and a line of it or, in a file without rows, an entry."""

    file: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.file} {self.where}".strip()


class Problem(NamedTuple):
    """Something wrong with a row or an image.

    Attributes:
        kind: ``box``, ``image``, ``duplicate`` ...; groups problems in the report.
        fatal: the row or image cannot be used; the others are notes, and what they are about is imported.
        image: slide id of the image that it is about, where that is known.
    """

    place: Place
    kind: str
    what: str
    fatal: bool = True
    image: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


class ProblemLog:
    """The problems of one import, in the order in which they were found."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, place: Place, kind: str, what: str, image: str = "") -> None:
        """Something that cannot be used."""
        self.found.append(Problem(place, kind, what, True, image))

    def note(self, place: Place, kind: str, what: str) -> None:
        """Something to know about what is used all the same."""
        self.found.append(Problem(place, kind, what, False))

    @contextmanager
    def catching(self, place: Place, kind: str, image: str = "") -> Iterator[None]:
        """Turn a :class:`~stride_monai.errors.ManifestError` of the block into a problem and go on after the block."""
        try:
            yield
        except ManifestError as error:
            self.add(place, kind, str(error), image)

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.found if problem.fatal]

    def counts(self) -> dict[str, int]:
        """Number of problems by kind, notes apart under ``note: <kind>``."""
        return dict(Counter(problem.kind if problem.fatal else f"note: {problem.kind}" for problem in self.found))

    def write(self, folder: Path) -> Path:
        """Write all of them to ``problems.csv``."""
        path = folder / PROBLEMS_NAME
        rows = ([p.place.file, p.place.where, p.kind, "yes" if p.fatal else "", p.what] for p in self.found)
        write_bytes(path, table_text(["file", "line", "kind", "left_out", "problem"], rows))
        return path

    def refusal(self, name: str, listing: Path) -> ManifestError:
        """The error that lists the first fatal problems and says where all of them are."""
        fatal = self.fatal
        return ManifestError(
            f"{name} has {len(fatal)} broken rows or images: {first_of(fatal)}",
            f"correct them (all are listed in {listing}), or add --skip-broken to go on without them",
        )
