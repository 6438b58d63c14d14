"""Which version of a network is in use, over HTTP: seen by all, chosen by an admin."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException

from lib.server.access import require_admin
from lib.workbench import Workbench
from stride_monai.annotations import AccessError
from stride_monai.errors import StrideError


def versions_router(bench: Workbench) -> APIRouter:
    router = APIRouter(prefix="/versions", tags=["Versions"])

    @router.get("/", summary="Versions of the networks, and which is in use")
    def api_versions() -> dict[str, Any]:
        return bench.versions.to_dict()

    @router.put("/{stage}/{name}", summary="Put a version to use; 'shipped' is the one of the package")
    def api_choose(stage: str, name: str) -> dict[str, Any]:
        try:
            require_admin(bench.place)
            bench.versions.choose(stage, name)
        except AccessError as error:
            raise HTTPException(403, str(error)) from error
        except StrideError as error:
            raise HTTPException(404, str(error)) from error
        return bench.versions.to_dict()

    return router
