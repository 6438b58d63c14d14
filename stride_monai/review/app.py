"""The app: put together from the slides, the store, who may come in, and the routes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from stride_monai import __version__
from stride_monai.annotations import AnnotationStore, Role, User, Users
from stride_monai.findings import GALLERY_SIZE
from stride_monai.review.access import Access
from stride_monai.review.errors import answer_errors
from stride_monai.review.library import Library
from stride_monai.review.pictures import Pictures
from stride_monai.review.protection import LOCAL_HOSTS, Protection
from stride_monai.review.reviewing import Policy, Review
from stride_monai.review.routes import exports, pages, pictures, reading, sessions
from stride_monai.review.routes.pages import STATIC, TEXTS, Static
from stride_monai.review.routes.pictures import Workers

__all__ = ["create_app"]

_WORKERS = 4


def create_app(
    results: Path | str,
    studies: Path | str,
    store: AnnotationStore | Path | str | None = None,
    *,
    users: Users | Path | str | None = None,
    blind: bool = False,
    double_read: bool = False,
    cells: int = GALLERY_SIZE,
    reader: str = "reader",
) -> FastAPI:
    """The review page and its interface as an app of its own: run it, or mount it below a path of another app.

    Args:
        results: folder that ``stride-monai screen`` wrote.
        studies: folder of the slide files.
        store: of the annotations, or its file; by default ``annotations.sqlite`` in ``results``.
        users: who may sign in, or their file. None: whoever reaches the server is ``reader``, with all rights; requests
            by another name than this machine's own are then refused.
        blind: nothing of the model is sent.
        double_read: two readers read each cell. With users and without this, one does.
        cells: of each slide so many are shown.

    Raises:
        ConfigError: a folder is not there.
        AnnotationError, OutputError: the store cannot be used.
    """
    library = Library(Path(results), Path(studies))
    if not isinstance(store, AnnotationStore):
        store = AnnotationStore(Path(results) if store is None else Path(store))
    known = Users(users) if isinstance(users, Path | str) else users
    readers = 2 if double_read else (1 if known is not None else None)
    workers = Workers(min(_WORKERS, (os.cpu_count() or 1) + 1))
    made = Pictures(library)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        workers.close()
        made.close()

    app = FastAPI(
        title="stride-monai review",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.review = Review(library, store, Policy(blind, readers, cells))
    app.state.access = Access(known, User(reader, Role.ADMIN), blind)
    app.state.pictures, app.state.workers = made, workers
    for part in (pages, sessions, reading, pictures, exports):
        app.include_router(part.router)
    app.mount("/static", Static(directory=STATIC))
    app.mount("/texts", Static(directory=TEXTS))
    answer_errors(app, library.results, library.studies, store.path)
    app.add_middleware(Protection, hosts=None if known is not None else LOCAL_HOSTS)
    return app
