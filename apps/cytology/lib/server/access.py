"""Who may ask: this machine alone, or users with a token or a password."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lib.place import Place
from stride_monai.annotations import AccessError, Role, User, Users
from stride_monai.errors import ConfigError
from stride_monai.review.protection import LOCAL_HOSTS, SAFE_HEADERS, same_origin

_USER: ContextVar[User | None] = ContextVar("user", default=None)
REVIEW = "/review"
"""Where the review page is mounted; it looks after its own users and headers."""


def current_user(place: Place, said: Mapping[str, Any]) -> str:
    """The reader of a request: who signed in; else, on this machine, the ``annotator`` that the request names."""
    user = _USER.get()
    if user is not None and place.users is not None:
        return user.name
    named = said.get("annotator")
    return str(named) if named else place.reader


def require_admin(place: Place) -> None:
    """Raises:
    AccessError: users sign in, and this one is no admin.
    """
    user = _USER.get()
    if place.users is not None and (user is None or user.role != Role.ADMIN):
        raise AccessError("this needs an admin", "ask one")


class Guard:
    """Middleware round the whole server: hosts, origins, sizes, users, and what every answer carries.

    Without users it answers this machine alone, whatever address the server was bound to, and only by this machine's
    own names (no page of another site can make itself that). A request from a page of another site is refused.
    """

    def __init__(self, app: ASGIApp, place: Place) -> None:
        self.app, self.place = app, place
        self.users = Users(place.users) if place.users is not None else None
        self.most = place.max_upload_mb << 20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        if scope["path"].startswith(f"{REVIEW}/") and self._refused_place(scope) is None:
            await self.app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    given.setdefault(name, value)
            await send(message)

        refused = self._refused_place(scope) or self._refused_form(Headers(scope=scope))
        if refused is None:
            try:
                _USER.set(self._user(Headers(scope=scope)))
            except AccessError as error:
                refused = 401, str(error)
        if refused is not None:
            await _say(answer, *refused)
            return
        await self.app(scope, self._limited(receive), answer)

    def _refused_place(self, scope: Scope) -> tuple[int, str] | None:
        if self.users is not None:
            return None
        client = scope.get("client")
        try:
            local = client is None or ipaddress.ip_address(client[0]).is_loopback
        except ValueError:
            local = client is not None and client[0] == "testclient"
        if not local:
            return 403, "without users this server answers this machine alone: start it with --conf users FILE"
        host = Headers(scope=scope).get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if name.strip("[]").lower() not in LOCAL_HOSTS:
            return 421, "this server answers to its own name only"
        return None

    def _refused_form(self, headers: Headers) -> tuple[int, str] | None:
        if not same_origin(headers):
            return 403, "requests from pages of other sites are refused"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "the length of the body is no number"
        if len(length) > 15 or int(length) > self.most:
            return 413, f"the body is larger than {self.most >> 20} MiB"
        return None

    def _user(self, headers: Headers) -> User:
        if self.users is None:
            return User(self.place.reader, Role.ADMIN)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.users.with_token(given.strip())
        if kind.lower() == "basic":
            try:
                name, _, password = base64.b64decode(given, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                raise AccessError("the password cannot be read", "send it as HTTP says") from None
            return self.users.with_password(name, password)
        raise AccessError("sign in", "send a token (Authorization: Bearer ...)")

    def _limited(self, receive: Receive) -> Receive:
        read = 0

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                raise ConfigError(f"the body is larger than {self.most >> 20} MiB", "send less")
            return message

        return limited


async def _say(send: Send, status: int, what: str) -> None:
    body = json.dumps({"detail": what}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="stride-monai"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
