"""Tiles of slides and crops of cells. They are made a few at a time, and beside the threads that keep actions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from stride_monai.review.access import Seen
from stride_monai.review.pictures import Pictures
from stride_monai.review.reviewing import Review

router = APIRouter(prefix="/api/slides/{slide_id}")
_JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
Number = Annotated[int, Path(ge=0, le=1 << 24)]


class Workers:
    """Threads that make pictures; what nobody waits for any more is not made."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        self._free = asyncio.Semaphore(threads)

    async def make(self, request: Request, work: Callable[[], bytes]) -> Response:
        """The picture as an answer, which the browser may keep for an hour; no content where there is none any more."""
        async with self._free:
            if await request.is_disconnected():
                return Response(status_code=499)
            content = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        if not content:
            return Response(status_code=204)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@router.get("/tiles/{level}/{column}/{row}", response_class=Response, responses=_JPEG)
async def tile(request: Request, slide_id: str, level: Number, column: Number, row: Number, viewer: Seen) -> Response:
    """One tile of the deep-zoom pyramid."""
    pictures: Pictures = request.app.state.pictures
    workers: Workers = request.app.state.workers
    return await workers.make(request, lambda: pictures.tile(slide_id, level, column, row))


@router.get("/crops/{cell_id}", response_class=Response, responses={**_JPEG, 204: {"description": "Removed"}})
async def crop(request: Request, slide_id: str, cell_id: str, viewer: Seen) -> Response:
    """One cell in its surroundings, 80 um wide and high; no content of a drawn cell that was removed meanwhile."""
    pictures: Pictures = request.app.state.pictures
    workers: Workers = request.app.state.workers
    review: Review = request.app.state.review

    def make() -> bytes:
        box = review.box_of(slide_id, cell_id)
        return b"" if box is None else pictures.crop(slide_id, box)

    return await workers.make(request, make)
