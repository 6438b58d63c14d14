"""The page itself, and its texts."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

STATIC = Path(str(resources.files("stride_monai.review") / "static"))
TEXTS = Path(str(resources.files("stride_monai.review") / "texts"))

router = APIRouter(include_in_schema=False)


class Static(StaticFiles):
    """Files of the page, which a browser may keep and asks after each time."""

    def file_response(self, *given: Any, **more: Any) -> Response:
        response = super().file_response(*given, **more)
        response.headers["Cache-Control"] = "no-cache"
        return response


@router.get("/")
def page(request: Request) -> Response:
    """The one page; its links are relative, so that it also works below another app's path."""
    if not request.scope["path"].endswith("/"):
        return RedirectResponse(f"{request.scope['path']}/")
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})
