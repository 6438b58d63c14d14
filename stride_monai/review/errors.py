"""Errors as answers: what happened and what to do, never how the server is made or where its files lie."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stride_monai.annotations import AccessError, AnnotationError, ConflictError
from stride_monai.errors import OutputError, SlideError, StrideError
from stride_monai.review.library import UnknownSlideError
from stride_monai.review.protection import SAFE_HEADERS
from stride_monai.review.pyramid import TileOutsideError
from stride_monai.review.reviewing import UnknownCellError
from stride_monai.run_index import without_folders

__all__ = ["answer_errors"]

_log = logging.getLogger(__name__)
_STATUS: tuple[tuple[type[StrideError], int], ...] = (
    (UnknownSlideError, 404),
    (UnknownCellError, 404),
    (TileOutsideError, 404),
    (ConflictError, 409),
    (AccessError, 403),
    (AnnotationError, 422),
    (SlideError, 422),
    (OutputError, 507),
)


def answer_errors(app: FastAPI, *folders: Path) -> None:
    """Make every error an answer ``{"error": what, "advice": what to do}``; a conflict's also has ``current``.

    Args:
        folders: that no answer names.
    """

    def known(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, StrideError)
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 400)
        body: dict[str, Any] = {
            "error": without_folders(error.what, *folders),
            "advice": without_folders(error.advice, *folders),
        }
        if isinstance(error, ConflictError):
            body["current"] = error.current
        return JSONResponse(body, status)

    def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": str(error.detail), "advice": ""}, error.status_code, error.headers)

    def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first: dict[str, Any] = next(iter(error.errors()), {})
        where = ".".join(str(part) for part in first.get("loc", ()))
        what = f"{where}: {first.get('msg', 'invalid')}".encode("utf-8", "replace").decode()
        return JSONResponse({"error": what[:200], "advice": "see the description of the interface"}, 422)

    def unexpected(request: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected %s", type(error).__name__, exc_info=error)
        return JSONResponse({"error": "the server failed", "advice": "its log says more"}, 500, SAFE_HEADERS)

    app.add_exception_handler(StrideError, known)
    app.add_exception_handler(HTTPException, refused)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)
