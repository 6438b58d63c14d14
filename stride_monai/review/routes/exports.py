"""What an admin takes away: a slide as GeoJSON, and how far readers agree. The command makes cohorts to train on."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from stride_monai.annotations import agreement, geojson_text
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
    content = io.BytesIO()
    with TemporaryDirectory() as folder, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        write_agreement(found, Path(folder))
        for path in sorted(Path(folder).glob("*.csv")):
            archive.write(path, path.name)
    return _file(content.getvalue(), "agreement.zip", "application/zip")


def _file(content: bytes, name: str, media_type: str) -> Response:
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return Response(content, media_type=media_type, headers={"Content-Disposition": disposition})
