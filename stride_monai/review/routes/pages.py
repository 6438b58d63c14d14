"""The page itself, and its texts."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, RedirectResponse, Response

STATIC = Path(str(resources.files("stride_monai.review") / "static"))
TEXTS = Path(str(resources.files("stride_monai.review") / "texts"))

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(request: Request) -> Response:
    """The one page; its links are relative, so that it also works below another app's path."""
    if not request.scope["path"].endswith("/"):
        return RedirectResponse(f"{request.scope['path']}/")
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})
