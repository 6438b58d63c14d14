"""Trainings over HTTP: the log of the present or last one, and which version of a network is in use."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import PlainTextResponse
from monailabel.utils.async_tasks.task import AsyncTask

from lib.server.access import require_admin
from lib.trainers.bundle import LOG_NAME, begun
from lib.workbench import Workbench
from stride_monai.annotations import AccessError
from stride_monai.errors import StrideError

_MOST = 1 << 20
"""Bytes of a log that are sent, the last ones."""


def trainings_router(bench: Workbench) -> APIRouter:
    router = APIRouter(tags=["Train"])

    @router.get("/train/log", summary="Log of the training, or of the last one", response_class=PlainTextResponse)
    def api_log() -> str:
        _admin(bench)
        task, _ = AsyncTask.status("train")  # of this server's time
        log = max((bench.place.work / "trainings").glob(f"*/{LOG_NAME}"), key=begun, default=None)
        if log is None and task is None:
            raise HTTPException(404, "nothing has been trained yet")
        if log is None or (task and begun(log) < datetime.fromisoformat(task["start_ts"])):
            return "\n".join(task.get("details", ()))  # it starts; where it dies before its log, what it said
        return log.read_bytes()[-_MOST:].decode(errors="replace")

    @router.get("/versions/", summary="Versions of the networks, and which is in use")
    def api_versions() -> dict[str, Any]:
        return bench.versions.to_dict()

    @router.put("/versions/{stage}/{name}", summary="Put a version to use; 'shipped' is the one of the package")
    def api_choose(stage: str, name: str) -> dict[str, Any]:
        _admin(bench)
        try:
            bench.versions.choose(stage, name)
        except StrideError as error:
            raise HTTPException(404, str(error)) from error
        return bench.versions.to_dict()

    return router


def _admin(bench: Workbench) -> None:
    try:
        require_admin(bench.place)
    except AccessError as error:
        raise HTTPException(403, str(error)) from error
