"""MONAI Label's server without what is unsafe in it.

As shipped it answers every origin, reads any file that ``image`` names, writes outside its folder, sends whole slides,
unpacks archives, fetches addresses for whoever asks, and blocks while it computes. Here it keeps the endpoints that the
viewers of whole slides use, each in a thread of its own, checked before and with errors that say what to do.
"""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute
from monailabel.endpoints import activelearning, datastore, infer, info, scoring, train, wsi_infer

from lib.server.access import REVIEW, Guard
from lib.server.endpoints import Served, checked
from lib.server.trainings import trainings_router
from stride_monai.review import create_app

_KEPT: dict[Any, frozenset[tuple[str, str]]] = {
    info: frozenset({("GET", "/info/")}),
    activelearning: frozenset({("POST", "/activelearning/{strategy}")}),
    infer: frozenset({("POST", "/infer/{model}")}),
    wsi_infer: frozenset({("POST", "/infer/wsi/{model}"), ("POST", "/infer/wsi_v2/{model}")}),
    train: frozenset({("GET", "/train/"), ("POST", "/train/{model}"), ("DELETE", "/train/")}),
    scoring: frozenset({("GET", "/scoring/"), ("POST", "/scoring/{method}"), ("DELETE", "/scoring/")}),
    datastore: frozenset(
        {
            *(("GET", "/datastore/"), ("PUT", "/datastore/image"), ("HEAD", "/datastore/image")),
            *(("GET", "/datastore/image/info"), ("PUT", "/datastore/image/info")),
            *(("GET", "/datastore/label"), ("HEAD", "/datastore/label"), ("PUT", "/datastore/label")),
            *(("DELETE", "/datastore/label"), ("GET", "/datastore/label/info"), ("PUT", "/datastore/label/info")),
        }
    ),
}


def harden(server: FastAPI, app: Served) -> None:
    """Replace the server's routes and middleware, and mount the review page.

    Called while the server starts, before it has answered anybody.
    """
    bench = app.bench
    server.middleware_stack = None  # made anew at the first request, from what is set here
    server.user_middleware.clear()  # among them the one that allows every origin
    server.router.routes.clear()
    server.docs_url = server.redoc_url = None
    server.openapi_schema = None
    server.setup()  # the description of the interface
    for module, kept in _KEPT.items():
        for route in module.router.routes:
            if isinstance(route, APIRoute) and any((method, route.path) in kept for method in route.methods):
                _add(server, route, app)
    server.include_router(trainings_router(bench))
    server.mount(REVIEW, create_app(bench.place.results, bench.place.studies, bench.store, **_review(app)))
    server.add_api_route("/", lambda: RedirectResponse(f"{REVIEW}/"), methods=["GET"], include_in_schema=False)
    server.add_middleware(Guard, place=bench.place)
    logging.getLogger("monailabel").info("stride-monai: review page at %s/", REVIEW)


def _add(server: FastAPI, route: APIRoute, app: Served) -> None:
    server.add_api_route(
        route.path,
        checked(route.endpoint, route.path, sorted(route.methods)[0], app),
        methods=sorted(route.methods),
        summary=route.summary,
        tags=route.tags,
        name=route.name,
    )


def _review(app: Served) -> dict[str, Any]:
    place = app.bench.place
    return {
        "users": place.users,
        "blind": place.blind,
        "double_read": place.double_read,
        "cells": place.cells,
        "reader": place.reader,
    }
