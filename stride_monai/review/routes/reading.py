"""Slides, cells, and what a reader does to them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from stride_monai.annotations import AnnotationError
from stride_monai.review.access import Seen, Writing
from stride_monai.review.reviewing import Review

router = APIRouter(prefix="/api")


class Asked(BaseModel):
    """One action, as the page sends it; what ``before`` and ``after`` are is said by the kind (docs/annotations.md)."""

    model_config = ConfigDict(extra="forbid")
    uuid: Annotated[str, Field(max_length=64)]
    kind: Annotated[str, Field(max_length=32)]
    cell_id: Annotated[str | None, Field(max_length=64)] = None
    before: Any = None
    after: Any = None
    seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0.0


def review_of(request: Request) -> Review:
    """Of the app that the request is for."""
    review: Review = request.app.state.review
    return review


@router.get("/slides")
def slides(request: Request, viewer: Seen) -> list[dict[str, Any]]:
    """All slides, with how far the reader is."""
    return review_of(request).slides(viewer)


@router.get("/slides/{slide_id}")
def slide(request: Request, slide_id: str, viewer: Seen) -> dict[str, Any]:
    """One slide with its cells, as far as the reader may see them."""
    return review_of(request).slide(slide_id, viewer)


@router.post("/slides/{slide_id}/actions")
def act(request: Request, slide_id: str, asked: Asked, viewer: Writing) -> dict[str, Any]:
    """Keep one action. It is on the disk when this answers; the same uuid again is the same action."""
    _check_writable(asked)
    return review_of(request).act(slide_id, viewer, asked.model_dump())


@router.get("/disagreements")
def disagreements(request: Request, viewer: Seen) -> list[dict[str, Any]]:
    """Where readers differ."""
    return review_of(request).disagreements(viewer)


def admin_only(viewer: Seen) -> None:
    """Raises:
    HTTPException: 403, the reader is no admin.
    """
    if not viewer.arbiter:
        raise HTTPException(403, "only an admin may have this")


def _check_writable(asked: Asked) -> None:
    """Halves of characters, which JSON can spell and no file can hold, are refused."""
    try:
        json.dumps(asked.model_dump(), ensure_ascii=False).encode()
    except (UnicodeEncodeError, ValueError, RecursionError) as error:
        raise AnnotationError("the action holds a character that is none", "leave it out") from error
