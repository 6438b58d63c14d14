"""The interface against requests made from its own OpenAPI description: never a failure of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from extras import needs
from hypothesis import given, settings

needs("fastapi", "review")
needs("schemathesis", "dev")
import schemathesis  # noqa: E402
from review_client import ONE, Reader  # noqa: E402

PATHS = {
    "/api/session",
    "/api/slides",
    "/api/slides/{slide_id}",
    "/api/slides/{slide_id}/actions",
    "/api/slides/{slide_id}/tiles/{level}/{column}/{row}",
    "/api/slides/{slide_id}/crops/{cell_id}",
    "/api/slides/{slide_id}/geojson",
    "/api/disagreements",
    "/api/agreement",
    "/api/cohort",
}


def test_every_route_is_in_the_description(make_app: Callable[..., Any]) -> None:
    assert set(Reader(make_app()).http.get("/api/openapi.json").json()["paths"]) == PATHS


@pytest.mark.parametrize("path", sorted(PATHS))
def test_no_request_makes_the_server_fail(path: str, make_app: Callable[..., Any]) -> None:
    """Half of the requests are for a slide that is there."""
    app = make_app()
    reader = Reader(app)
    cell = reader.cell()["id"]
    reader.read(cell, "LSIL")
    reader.act(ONE, kind="call", after="LSIL")  # without reads there is no cohort
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, headers={"host": "localhost"})
    headers = {"host": "localhost", "x-csrf-token": reader.session["proof"]}
    for method in ("GET", "POST"):
        if method.lower() not in schema.raw_schema["paths"][path]:
            continue
        reached: set[int] = set()

        @settings(max_examples=30)
        @given(schema[path][method].as_strategy())
        def check(case: schemathesis.Case) -> None:
            known = {"slide_id": ONE, "cell_id": cell} if len(str(case.path_parameters)) % 2 else {}
            case.path_parameters = {**(case.path_parameters or {}), **{k: v for k, v in known.items() if k in path}}
            answer = case.call(headers=headers, cookies=dict(reader.http.cookies))
            reached.add(answer.status_code)  # noqa: B023 - it is called in this turn of the loop
            assert answer.status_code < 500, answer.text
            assert answer.status_code != 401, "the requests are to reach what they ask for"
            assert b"Traceback" not in answer.content

        check()
        assert method == "POST" or "tiles" in path or 200 in reached, reached
