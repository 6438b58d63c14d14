"""A program that talks to the review server as the page does."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi.testclient import TestClient

ONE, TWO = "slide one", "切片 二"


class Reader:
    """One reader with a session."""

    def __init__(self, app: Any, name: str = "", password: str = "") -> None:
        self.http = TestClient(app, base_url="http://127.0.0.1:8040", raise_server_exceptions=False)
        self.session: dict[str, Any] = self.http.get("/api/session").json()
        if name:
            answer = self.http.post("/api/session", json={"name": name, "password": password})
            assert answer.status_code == 200, answer.text
            self.session = answer.json()
        self.http.headers["x-csrf-token"] = self.session.get("proof", "")

    def slide(self, slide_id: str = ONE) -> dict[str, Any]:
        answer = self.http.get(f"/api/slides/{slide_id}")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    def cell(self, place: int = 0, slide_id: str = ONE) -> dict[str, Any]:
        shown: dict[str, Any] = self.slide(slide_id)["cells"][place]
        return shown

    def send(self, slide_id: str = ONE, **action: Any) -> Any:
        """The answer to an action, whatever it is."""
        asked = {"uuid": str(uuid.uuid4()), "cell_id": None, "before": None, "after": None, "seconds": 1.0, **action}
        return self.http.post(f"/api/slides/{slide_id}/actions", json=asked)

    def act(self, slide_id: str = ONE, **action: Any) -> dict[str, Any]:
        answer = self.send(slide_id, **action)
        assert answer.status_code == 200, answer.text
        kept: dict[str, Any] = answer.json()
        return kept

    def read(self, cell_id: str, label: str | None, before: str | None = None, slide_id: str = ONE) -> dict[str, Any]:
        return self.act(slide_id, kind="label", cell_id=cell_id, before=before, after=label)
