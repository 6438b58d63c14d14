"""Who may annotate: names, roles, passwords and tokens in one file, of which only hashes are kept."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stride_monai.annotations.actions import Action, Kind
from stride_monai.annotations.errors import AccessError, AnnotationError
from stride_monai.errors import OutputError
from stride_monai.files import replacing
from stride_monai.ownership import read_json

__all__ = ["Role", "User", "Users"]

_NOTE = "users of stride-monai; passwords and tokens are kept as hashes only"
_SHORTEST, _LONGEST = 12, 1024  # characters of a password
_COST = (1 << 15, 8, 3)  # scrypt's N, r, p: 32 MiB and a fraction of a second for every guess (OWASP)
_MEMORY = 64 << 20
_PATIENCE = 30.0  # seconds that a change waits for another


class Role(StrEnum):
    """What a user may do."""

    ANNOTATOR = "annotator"
    """Read, draw and call, under the own name."""
    ADMIN = "admin"
    """Settle disagreements, export and retrain besides."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who has shown who it is.

    Attributes:
        name: by which actions are signed.
    """

    name: str
    role: Role

    def require(self, role: Role) -> None:
        """Raises:
        AccessError: the user has not this role; an admin has both.
        """
        if self.role not in {role, Role.ADMIN}:
            raise AccessError(f"'{self.name}' is no {role}", "ask an admin")

    def check_own(self, action: Action) -> None:
        """Raises:
        AccessError: the action is signed by somebody else, or asks for another role.
        """
        if action.who != self.name:
            raise AccessError(f"'{self.name}' cannot act as '{action.who}'", "sign in under that name")
        if action.kind == Kind.ARBITRATION:
            self.require(Role.ADMIN)


class Users:
    """The users' file. A change by another process counts from the next call on.

    Args:
        path: JSON, readable by its owner alone; made by the first :meth:`add`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._nobody = ""  # a hash that is checked for names that do not exist, so that they take the same time

    def add(self, name: str, password: str, role: Role = Role.ANNOTATOR) -> User:
        """Add a user.

        Raises:
            AccessError: the name is taken, or the password is too short or too long.
            AnnotationError: the name is none.
        """
        Action(name, "slide", Kind.CALL)  # refuses what could not sign an action
        stored = _hashed(_good(password))

        def change(users: dict[str, Any]) -> None:
            if any(_key(other) == _key(name) for other in users):
                raise AccessError(f"there is a user '{name}' already", "choose another name, or set its password")
            users[name] = {"role": Role(role).value, "password": stored, "tokens": []}

        self._change(change)
        return User(name, Role(role))

    def remove(self, name: str) -> None:
        """Remove a user, with all tokens. The actions stay."""
        self._change(lambda users: users.pop(_known(users, name)))

    def set_password(self, name: str, password: str) -> None:
        """Set a new password; the tokens that were issued before end."""
        stored = _hashed(_good(password))
        self._change(lambda users: users[_known(users, name)].update(password=stored, tokens=[]))

    def issue_token(self, name: str, days: float = 90.0) -> str:
        """A new bearer token of a user, for programs such as QuPath; it is shown this once and kept as a hash.

        Args:
            days: that it is good for.
        """
        token = secrets.token_urlsafe(32)
        entry = {"sha256": _token_hash(token), "until": time.time() + days * 86_400}

        def change(users: dict[str, Any]) -> None:
            user = users[_known(users, name)]
            user["tokens"] = [old for old in user["tokens"] if old["until"] > time.time()] + [entry]

        self._change(change)
        return token

    def revoke_tokens(self, name: str) -> None:
        """End all tokens of a user."""
        self._change(lambda users: users[_known(users, name)].update(tokens=[]))

    def all(self) -> list[User]:
        """By name."""
        return [User(name, Role(one["role"])) for name, one in sorted(self._read().items())]

    def with_password(self, name: str, password: str) -> User:
        """Who signs in with a name and a password.

        Raises:
            AccessError: wrong; it does not say which of the two, and takes as long for a name that does not exist.
        """
        self._nobody = self._nobody or _hashed(secrets.token_urlsafe())
        known = self._read().get(name) if isinstance(name, str) else None
        fits = _fits(password, known["password"] if known else self._nobody)
        if known is None or not fits:
            raise AccessError("wrong name or password", "try again, or ask an admin for a new password")
        return User(name, Role(known["role"]))

    def with_token(self, token: str) -> User:
        """Whose token this is.

        Raises:
            AccessError: nobody's, or it has ended.
        """
        shown, found = _token_hash(token), None
        for name, one in self._read().items():
            for entry in one["tokens"]:  # all of them, so that the time tells nothing
                if hmac.compare_digest(entry["sha256"], shown) and entry["until"] > time.time():
                    found = User(name, Role(one["role"]))
        if found is None:
            raise AccessError("the token is unknown or has ended", "ask an admin for a new one")
        return found

    def _read(self) -> dict[str, Any]:
        if not os.path.lexists(self.path):
            return {}
        raw = read_json(self.path)
        if not isinstance(raw, dict) or raw.get("note") != _NOTE or not isinstance(raw.get("users"), dict):
            raise AnnotationError(f"{self.path} is no file of users", "name another file, or bring back the right one")
        users: dict[str, Any] = raw["users"]
        return users

    def _change(self, change: Callable[[dict[str, Any]], object]) -> None:
        with self._alone():
            users = self._read()
            change(users)
            content = {"schema_version": "1.0", "note": _NOTE, "users": users}
            with replacing(self.path) as temporary:
                temporary.chmod(0o600)
                temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=_PATIENCE):
                yield
        except Timeout as error:
            raise OutputError(f"{self.path} is being changed by another process", "try again") from error
        except OSError as error:
            raise OutputError(f"cannot write {self.path} ({error.strerror})", "check the folder") from error


def _known(users: dict[str, Any], name: str) -> str:
    if name not in users:
        raise AccessError(f"there is no user '{name}'", "see `stride-monai annotations users`")
    return name


def _key(name: str) -> str:
    """Equal for names that people would take for one."""
    return unicodedata.normalize("NFKC", name).casefold()


def _good(password: str) -> str:
    if not _SHORTEST <= len(password) <= _LONGEST:
        raise AccessError(f"the password has {len(password)} characters", f"use {_SHORTEST} to {_LONGEST}")
    if "\0" in password:
        raise AccessError("the password holds a zero character", "leave it out")
    return password


def _hashed(password: str) -> str:
    """``scrypt$N$r$p$salt$hash``, the last two in hexadecimal."""
    salt = secrets.token_bytes(16)
    return "$".join(("scrypt", *map(str, _COST), salt.hex(), _scrypt(password, salt, _COST).hex()))


def _fits(password: str, stored: str) -> bool:
    if not isinstance(password, str) or len(password) > _LONGEST or "\0" in password:
        password = ""  # zeros at the end change nothing for HMAC, so that two passwords would be one
    try:
        _, n, r, p, salt, wanted = stored.split("$")
        made = _scrypt(password, bytes.fromhex(salt), (int(n), int(r), int(p)))
    except (ValueError, AttributeError):
        return False
    return hmac.compare_digest(made.hex(), wanted)


def _scrypt(password: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    n, r, p = cost
    text = unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=n, r=r, p=p, maxmem=_MEMORY)


def _token_hash(token: str) -> str:
    """A token is 256 random bits: one SHA-256 is enough, and quick."""
    return hashlib.sha256(str(token).encode("utf-8", "surrogatepass")).hexdigest()
