"""The folder of one slide's results: whose it is, whether it is whole, and what becomes of earlier results."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from stride_monai.errors import OutputError
from stride_monai.files import TEMPORARY, remove_leftovers
from stride_monai.findings import DISCLAIMER, Findings
from stride_monai.ownership import (
    LIST_NAME,
    FileList,
    dissolve,
    hand_over,
    named,
    read_json,
    read_list,
    set_down,
    written,
)
from stride_monai.screening.inputs import slide_fingerprint_of

__all__ = ["EARLIER_NAME", "FINDINGS_FILE", "ResultFolder"]

FINDINGS_FILE = "findings.json"
EARLIER_NAME = "earlier"
"""Folder within a slide's folder: results of a run before, of a slide that failed since."""
_BEFORE_LISTS = (FINDINGS_FILE, "cells.parquet", "overlay.geojson.gz", "report.html")


class ResultFolder:
    """Where the results of a slide are, or will be: ``out / slide_id``."""

    def __init__(self, out: Path, slide_id: str) -> None:
        self.out, self.slide_id = out, slide_id
        self.path = out / slide_id
        self._earlier = self.path / EARLIER_NAME

    def why_not(self) -> str:
        """Why results must not be written there: what has the name is not ours; empty where they may be.

        What a run that was killed had half-written there is ours, and is removed.
        """
        if not os.path.lexists(self.path):
            return ""
        if not self.path.is_dir():
            return f"{self.slide_id} in the output folder is no folder of results"
        try:
            remove_leftovers(self.path)
            holds = sorted(path.name for path in self.path.iterdir() if not path.name.startswith(TEMPORARY))
        except OSError as error:
            return f"the folder {self.slide_id} in the output folder cannot be listed ({error.strerror})"
        if LIST_NAME in holds and read_list(self.path) is None:
            return (
                f"{LIST_NAME} of the folder {self.slide_id} in the output folder is damaged or not of stride-monai, so"
                " nothing is written there"
            )
        if holds and self._list() is None:
            return (
                f"the folder {self.slide_id} in the output folder holds {named(holds)} and no results of this slide,"
                " so nothing is written there"
            )
        return ""

    def done(self, path: Path, config_hash: str, writers: Iterable[str] = ()) -> Findings | None:
        """Findings of an earlier run, if all its files are whole, of this very slide file and these very settings.

        Nor are they where a writer that is asked for now wrote nothing then.

        Results that were set aside since are brought back.
        """
        asked = frozenset(writers)
        ours = self._list()
        if ours is not None and (found := _same(self.path, ours, path, config_hash, asked)) is not None:
            return found
        aside = read_list(self._earlier)
        if aside is None or aside.of != self.slide_id:
            return None
        found = _same(self._earlier, aside, path, config_hash, asked)
        if found is not None:
            self._replace_from(self._earlier, aside.files, aside.writers)
            self._forget_earlier()
        return found

    def replace(self, made: Path, writers: Iterable[str] = ()) -> None:
        """Put the files of a folder in the place of those of an earlier run; what else is there stays.

        Args:
            writers: names of those that wrote them.

        Raises:
            OutputError: one of them would replace a file that is not ours, or cannot be written.
        """
        self._replace_from(made, None, writers)
        self._forget_earlier()

    def set_aside(self) -> None:
        """Move results of an earlier run to ``earlier``, since the slide has failed now.

        Raises:
            OutputError: they cannot be moved.
        """
        ours = self._list()
        if ours is not None and any(ours.own(self.path, name) for name in ours.files):
            set_down(self.path, self._earlier, self.slide_id, ours)

    def _replace_from(self, made: Path, names: Iterable[str] | None, writers: Iterable[str]) -> None:
        hand_over(made, self.path, self.slide_id, self._list(), FINDINGS_FILE, names, writers)

    def _forget_earlier(self) -> None:
        aside = read_list(self._earlier)
        if aside is not None and aside.of == self.slide_id:
            with contextlib.suppress(OSError):
                dissolve(self._earlier, aside)

    def _list(self) -> FileList | None:
        """What of the folder is ours; None where it is not of this slide."""
        ours = read_list(self.path)
        if ours is None and not os.path.lexists(self.path / LIST_NAME):
            ours = self._before_lists()
        return ours if ours is not None and ours.of == self.slide_id else None

    def _before_lists(self) -> FileList | None:
        """Results of a version that wrote no lists: told by findings of this slide."""
        raw = read_json(self.path / FINDINGS_FILE)
        try:
            if raw["disclaimer"] != DISCLAIMER or raw["slide"]["slide_id"] != self.slide_id:
                return None
        except (TypeError, KeyError, IndexError):
            return None
        there = [path for path in (self.path / name for name in _BEFORE_LISTS) if path.is_file()]
        complete = len(there) == len(_BEFORE_LISTS)
        try:
            return FileList({path.name: written(path) for path in there}, self.slide_id, complete)
        except OSError:
            return None


def _same(folder: Path, ours: FileList, path: Path, config_hash: str, asked: frozenset[str]) -> Findings | None:
    """The findings in a folder that is whole, if they are of this file and these settings, by the writers asked for."""
    if ours.writers and asked - set(ours.writers):  # lists that name none are of a version whose writers all wrote
        return None
    if FINDINGS_FILE not in ours.files or not path.is_file() or not ours.whole(folder):
        return None
    try:
        findings = Findings.from_json((folder / FINDINGS_FILE).read_text(encoding="utf-8"))
        same = findings.provenance.config_hash == config_hash
        same &= (findings.slide.fingerprint or "") == slide_fingerprint_of(path)
    except (OutputError, OSError, ValueError):
        return None
    return findings if same else None
