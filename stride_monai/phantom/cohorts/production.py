"""Many slides or bags in parallel, each complete or absent; an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from stride_monai import __version__
from stride_monai.data.cohort_files import COHORT_FILES, CohortFiles
from stride_monai.errors import OutputError
from stride_monai.files import remove_leftovers, write_bytes
from stride_monai.ownership import named, refuse_foreign
from stride_monai.phantom.files.products import is_product
from stride_monai.phantom.files.slide_writer import free_bytes
from stride_monai.runs.jobs import Job, Part, unheard
from stride_monai.runs.runners import Runner

__all__ = ["SETTINGS_FILE", "TABLES", "Product", "check_room", "claim_folder", "produce"]

SETTINGS_FILE = "cohort.json"
"""What a cohort folder was made from."""

TABLES = ("manifest.csv", "cells.csv", "truth.csv")
_OWN_FOLDERS = ("slides", "truth", "bags")


class Product(Protocol):
    """A slide or bag of a cohort. Can be pickled."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it consists of, first what it is known by."""

    def done(self) -> Path | None:
        """Its first file, where all stand there, made from the same arguments.

        Raises:
            OutputError: they were made from others.
        """

    def make(self, on_part: Part) -> Path:
        """Write the files; told whom to tell the share that is done, 0-1. Returns the first one."""


def produce(
    folder: Path,
    settings: Mapping[str, Any],
    products: Sequence[Product],
    bytes_each: float,
    runner: Runner,
    overwrite: bool = False,
    on_progress: Part = unheard,
) -> None:
    """Make the products of a cohort that are not there yet.

    Args:
        settings: what it is made from, plain data.
        bytes_each: that a product takes, about.
        overwrite: make all of them, and remove a cohort of other settings that stands there.
        on_progress: called with the number of products done, started ones by their share.

    Raises:
        OutputError: something that is not ours, or a cohort of other settings, stands there; a file cannot be written,
            or a process died.
    """
    places = {file.relative_to(folder).as_posix(): file for product in products for file in product.files}
    refuse_foreign(folder, places, lambda name: is_product(places[name]), "move it elsewhere, or choose another --out")
    pending = [product for product in products if overwrite or product.done() is None]
    check_room(folder, len(pending), bytes_each)
    claim_folder(folder, settings, overwrite)
    for place in {file.parent for product in pending for file in product.files}:
        remove_leftovers(place)
    for file in (file for product in pending for file in product.files if overwrite):
        file.unlink(missing_ok=True)
    before = len(products) - len(pending)
    on_progress(before)
    jobs = [Job(product.files[0].name, product.done, product.make) for product in pending]
    with closing(runner(jobs, lambda done: on_progress(before + done))) as run:
        for ended in run:
            ended.get()


def claim_folder(folder: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    """Write what a cohort is made from into its folder, before anything else.

    Args:
        settings: plain data.
        overwrite: remove the cohort of other arguments that stands there.

    Raises:
        OutputError: the folder holds a cohort made from other arguments and ``overwrite`` is False; or one that was
            made otherwise, or tables that somebody has changed, whatever ``overwrite`` says.
    """
    document = {"stride_monai": __version__, **settings}
    content = (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
    path, files = folder / SETTINGS_FILE, CohortFiles(folder)
    files.refuse([*TABLES, SETTINGS_FILE])
    if not path.exists() and (others := files.standing(COHORT_FILES)):
        raise OutputError(
            f"{folder} holds {named(others)}, of a cohort that was made otherwise", "choose another folder"
        )
    if path.exists() and path.read_bytes() != content:
        if not overwrite:
            raise OutputError(
                f"{folder.name} holds a cohort made from other arguments",
                "choose another folder or ask to overwrite it",
            )
        _remove_cohort(folder, path)
        CohortFiles(folder).remove(TABLES)
    CohortFiles(folder).write(SETTINGS_FILE, lambda place: write_bytes(place, content))


def _remove_cohort(folder: Path, settings: Path) -> None:
    """The slides, bags and truths that a cohort wrote, told by the name it had and by what they are; others stay."""
    try:
        name = str(json.loads(settings.read_text())["design"]["name"])
    except (ValueError, KeyError, TypeError):
        raise OutputError(f"{settings} is no settings file of a cohort", "remove the folder yourself") from None
    pattern = re.compile(rf"{re.escape(name)}-\d+\.(tiff|geojson|bag\.arrow)")
    for place in _OWN_FOLDERS:
        remove_leftovers(folder / place)
        for path in sorted((folder / place).glob("*")):
            if pattern.fullmatch(path.name) and is_product(path):
                path.unlink(missing_ok=True)


def check_room(folder: Path, jobs: int, bytes_per_job: float) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        OutputError: naming what is needed and what is left.
    """
    needed, free = bytes_per_job * jobs, free_bytes(folder)
    if needed > free:
        slides = f"{jobs} slides need" if jobs > 1 else "1 slide needs"
        raise OutputError(
            f"{slides} about {needed / 1e9:.3g} GB, the disk has {free / 1e9:.3g} GB left",
            "make fewer or smaller ones, use another disk, or make bags only",
        )
