"""Who asks: sessions in cookies for browsers, tokens for programs, and proof that a page of ours sent a change."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response

from stride_monai.annotations import AccessError, Role, User, Users
from stride_monai.review.protection import same_origin
from stride_monai.review.shown import Viewer

__all__ = ["COOKIE", "Access", "Seen", "Session", "Writing", "seen", "writing"]

COOKIE = "stride_review"
_SESSION_SECONDS = 12 * 3600.0
_MAX_SESSIONS = 10_000
_TRIES, _TRY_SECONDS = 8, 300.0  # wrong passwords for one name, after which it waits


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that came in; ``proof`` must come back with every change."""

    user: User
    proof: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    until: float = field(default_factory=lambda: time.monotonic() + _SESSION_SECONDS)


class Access:
    """Sessions and tokens.

    Args:
        users: who may come in; None: whoever reaches the server is ``alone``, as on one's own machine.
        alone: that user.
        blind: nobody sees anything of the model.
    """

    def __init__(self, users: Users | None, alone: User, blind: bool = False) -> None:
        self.users, self.alone, self.blind = users, alone, blind
        self._sessions: dict[str, Session] = {}
        self._wrong: defaultdict[str, deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._hashing = threading.Semaphore(2)  # each takes some memory, and a core

    def viewer(self, user: User) -> Viewer:
        """What the user may see."""
        return Viewer(user.name, user.role == Role.ADMIN, self.blind)

    def begin(self, user: User) -> tuple[str, Session]:
        """A new session and the secret of its cookie."""
        secret, session = secrets.token_urlsafe(32), Session(user)
        with self._lock:
            now = time.monotonic()
            self._sessions = {key: known for key, known in self._sessions.items() if known.until > now}
            while len(self._sessions) >= _MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[_hash(secret)] = session
        return secret, session

    def session(self, request: Request) -> Session | None:
        """The session whose cookie the request carries."""
        secret = request.cookies.get(COOKIE, "")
        session = self._sessions.get(_hash(secret)) if secret else None
        return session if session is not None and session.until > time.monotonic() else None

    def end(self, request: Request) -> None:
        """Forget the session of the request."""
        with self._lock:
            self._sessions.pop(_hash(request.cookies.get(COOKIE, "")), None)

    def by_bearer(self, request: Request) -> User | None:
        """Whose token the request carries in its Authorization header.

        Raises:
            AccessError: nobody's.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if self.users is None or kind.lower() != "bearer":
            return None
        return self.users.with_token(token.strip())

    def sign_in(self, name: str, password: str) -> User:
        """Whose name and password these are; slow, so that passwords cannot be tried one after the other.

        Raises:
            AccessError: nobody's.
            HTTPException: too many wrong ones were tried for this name; or there are no users.
        """
        if self.users is None:
            raise HTTPException(404, "nobody has to sign in here")
        key, now = _hash(name), time.monotonic()
        with self._lock:
            if len(self._wrong) > _MAX_SESSIONS:
                self._wrong.clear()
            wrong = self._wrong[key]
            while wrong and wrong[0] < now - _TRY_SECONDS:
                wrong.popleft()
            if len(wrong) >= _TRIES:
                raise HTTPException(429, "too many wrong passwords; wait five minutes")
            wrong.append(now)  # until it proves right: those who ask at once count too
        with self._hashing:
            user = self.users.with_password(name, password)
        with self._lock:
            self._wrong.pop(key, None)
        return user


def set_cookie(response: Response, request: Request, secret: str) -> None:
    """Give the browser its session: out of reach of scripts, and of other sites."""
    path = f"{request.scope.get('root_path', '')}/"
    secure = request.url.scheme == "https"
    response.set_cookie(COOKIE, secret, path=path, httponly=True, samesite="strict", secure=secure)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def access_of(request: Request) -> Access:
    """Of the app that the request is for."""
    access: Access = request.app.state.access
    return access


def seen(request: Request) -> Viewer:
    """Who asks; a dependency of all that shows anything.

    Raises:
        HTTPException: 401, nobody is signed in.
    """
    access = access_of(request)
    user = _by_bearer(access, request)
    return access.viewer(user or _session(access, request).user)


def writing(request: Request) -> Viewer:
    """Who asks; a dependency of all that changes anything.

    Raises:
        HTTPException: 401, nobody is signed in; 403, the request does not prove that a page of ours sent it.
    """
    access = access_of(request)
    user = _by_bearer(access, request)
    if user is not None:
        return access.viewer(user)
    session = _session(access, request)
    proof = request.headers.get("x-csrf-token", "")
    if not same_origin(request.headers) or not secrets.compare_digest(proof.encode(), session.proof.encode()):
        raise HTTPException(403, "the request does not prove that this page sent it; load the page again")
    return access.viewer(session.user)


def _by_bearer(access: Access, request: Request) -> User | None:
    try:
        return access.by_bearer(request)
    except AccessError as error:
        raise HTTPException(401, str(error)) from error


def _session(access: Access, request: Request) -> Session:
    session = access.session(request)
    if session is None:
        raise HTTPException(401, "sign in first")
    return session


Seen = Annotated[Viewer, Depends(seen)]
Writing = Annotated[Viewer, Depends(writing)]
