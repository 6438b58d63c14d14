"""What every answer carries, and what no request may be: headers, hosts, and the size of a body."""

from __future__ import annotations

import json
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LOCAL_HOSTS", "MAX_BODY", "SAFE_HEADERS", "Protection", "same_origin"]

MAX_BODY = 64 << 10
"""Bytes of the largest request; an action has a few hundred."""
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names by which a browser on this machine asks. Any other, on a server without users, is another site's name that was
made to point here (DNS rebinding)."""

# The one rule that OpenSeadragon adds inline: no outline round its canvas on touch screens.
_RULE_OF_OPENSEADRAGON = "sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE="
SAFE_HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' '{_RULE_OF_OPENSEADRAGON}'",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer that does not say otherwise."""


class Protection:
    """Middleware around the whole app.

    Args:
        hosts: names that a request may ask for; None for any, where users sign in and a proxy stands before.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None = LOCAL_HOSTS) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return  # no web sockets here
        headers = Headers(scope=scope)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                if _is_of_the_package(scope):
                    given.setdefault("Cache-Control", "no-cache")  # kept, and asked for again only where it has changed
                for name, value in SAFE_HEADERS.items():
                    given.setdefault(name, value)
            await send(message)

        refused = self._refused(headers)
        if refused is not None:
            status, what = refused
            body = json.dumps({"error": what, "advice": ""}).encode()
            kind = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await answer({"type": "http.response.start", "status": status, "headers": kind})
            await answer({"type": "http.response.body", "body": body})
            return
        await self.app(scope, _limited(receive), answer)

    def _refused(self, headers: Headers) -> tuple[int, str] | None:
        if self.hosts is not None and _host(headers.get("host", "")) not in self.hosts:
            return 421, "this server answers to its own name only"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "the length of the body is no number"
        if len(length) > 12 or int(length) > MAX_BODY:
            return 413, f"the body is larger than {MAX_BODY} bytes"
        return None


def _is_of_the_package(scope: Scope) -> bool:
    """Whether scripts, styles or texts are asked for: they say nothing of anybody."""
    path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
    return path.startswith(("/static/", "/texts/"))


def _limited(receive: Receive) -> Receive:
    """A body that does not say how long it is ends in an error where it is too long."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
        return message

    return limited


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def same_origin(headers: Headers) -> bool:
    """Whether a browser sent this from a page of ours; programs that are no browser say nothing of it."""
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    if origin is None:
        return True
    try:
        return urlsplit(origin).netloc.lower() == headers.get("host", "").lower()
    except ValueError:
        return False
