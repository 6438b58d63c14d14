"""URLs of slides: what is one, the name of its file, and what nobody else may see of it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["is_url", "name_of_url", "without_secrets"]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def is_url(path: Path | str) -> bool:
    """Whether it names a remote file, ``scheme://...``; a path never does (``Path`` drops one of the slashes)."""
    return isinstance(path, str) and _URL.match(path) is not None


def name_of_url(url: str) -> str:
    """The file's name, without host, folders and query: a signed URL holds what opens it, which nobody else may see."""
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return "slide" if name in ("", ".", "..") or "\0" in name else name


def without_secrets(text: str) -> str:
    """A URL without its query and its password; any other text as it is."""
    if not is_url(text):
        return text
    scheme, _, rest = text.partition("?")[0].partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
