"""Features of slides: a vector for each, as any network gives them."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stride_monai.data.tables import Row, named_rows, read_rows, refuse
from stride_monai.errors import ManifestError

__all__ = ["read_features"]

Floats = NDArray[np.float64]


def read_features(path: Path | str) -> tuple[list[str], Floats]:
    """Ids ``[N]`` and features ``[N, D]``.

    Args:
        path: ``.npz`` with arrays ``slide_id`` and ``features``; or CSV, JSON or Parquet with ``slide_id`` and a column
            of numbers for each dimension.

    Raises:
        ManifestError: not such a file, an id twice, or a number that is not finite.
    """
    path = Path(path)
    ids, features = _of_arrays(path) if path.suffix.lower() == ".npz" else _of_table(path)
    if len(set(ids)) != len(ids):
        raise ManifestError(f"{path.name} has features of a slide twice", "keep one of them")
    if features.ndim != 2 or len(features) != len(ids) or not features.size:
        raise ManifestError(f"{path.name} has {features.shape} features for {len(ids)} slides", "give each a vector")
    if not np.isfinite(features).all():
        raise ManifestError(f"{path.name} has features that are not finite", "leave such slides out")
    return ids, features


def _of_arrays(path: Path) -> tuple[list[str], Floats]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [str(one) for one in arrays["slide_id"]], np.asarray(arrays["features"], np.float64)
    except FileNotFoundError as error:
        raise ManifestError(f"{path.absolute()} does not exist", "check its name and folder") from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        what = f"{path.name} holds no features ({error})"
        raise ManifestError(what, "it needs the arrays slide_id (texts) and features [N, D]") from error


def _of_table(path: Path) -> tuple[list[str], Floats]:
    header, rows = read_rows(path, {"slide_id"})
    present, rows = named_rows(header, rows, path.name, ("slide_id",), {"slide": "slide_id"}, others=True)
    if "slide_id" not in present:
        raise ManifestError(f"{path.absolute()} has no column 'slide_id'", "name the slides")
    columns = [name for name in header if name in present and name != "slide_id"]
    problems: list[str] = []
    values = [_vector(row, columns, problems) for row in rows]
    refuse(problems, path.name)
    return [row.get("slide_id") for row in rows], np.array(values, np.float64).reshape(len(rows), -1)


def _vector(row: Row, columns: Sequence[str], problems: list[str]) -> list[float]:
    try:
        return [row.number(name) for name in columns]
    except ManifestError as error:
        problems.append(f"{row.place}: {error.what}")
        return [0.0] * len(columns)
