"""What an admin takes away, made by what makes it for ``stride-monai annotations``: GeoJSON, tables, a cohort."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from stride_monai.annotations import agreement, export_store, geojson_text
from stride_monai.annotations.tables import write_agreement
from stride_monai.review.access import Seen
from stride_monai.review.routes.reading import review_of
from stride_monai.review.shown import Viewer

router = APIRouter(prefix="/api")


def exporting(viewer: Seen) -> Viewer:
    """Who may export.

    Raises:
        HTTPException: 403, the reader is no admin; or the review is blind, and files would tell what is hidden.
    """
    if not viewer.arbiter:
        raise HTTPException(403, "only an admin may have this")
    if viewer.blind:
        raise HTTPException(403, "files would tell what blind mode hides; use `stride-monai annotations export`")
    return viewer


Exporting = Annotated[Viewer, Depends(exporting)]


@router.get("/slides/{slide_id}/geojson", response_class=Response)
def geojson(request: Request, slide_id: str, viewer: Exporting) -> Response:
    """What stands of the slide, for QuPath."""
    review = review_of(request)
    review.slide(slide_id, viewer)  # the cells are there even where nobody has looked yet
    return _file(geojson_text(review.store.state(slide_id)).encode(), f"{slide_id}.geojson", "application/geo+json")


@router.get("/agreement", response_class=Response)
def agreement_tables(request: Request, viewer: Exporting) -> Response:
    """``readers.csv`` and ``agreement.csv`` in a ZIP file."""
    store = review_of(request).store
    found = agreement([store.state(slide_id) for slide_id in store.slide_ids()], store.actions())
    return _zip("agreement", lambda folder: write_agreement(found, folder))


@router.get("/cohort", response_class=Response)
def cohort(request: Request, viewer: Exporting) -> Response:
    """The cohort that ``annotations export`` writes, in a ZIP file; slides are named where they lie on this machine."""
    review = review_of(request)
    return _zip("cohort", lambda folder: export_store(review.store, review.library.results, folder / "cohort"))


def _zip(name: str, write: Callable[[Path], object]) -> Response:
    """What ``write`` writes to a folder."""
    content = io.BytesIO()
    with TemporaryDirectory() as folder, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        write(Path(folder))
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(folder))
    return _file(content.getvalue(), f"{name}.zip", "application/zip")


def _file(content: bytes, name: str, media_type: str) -> Response:
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})
