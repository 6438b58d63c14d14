"""MONAI Label's endpoints, checked: names that exist, parameters that are objects, errors that say what to do."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import logging
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import monailabel.endpoints
from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException
from monailabel.interfaces.exception import MONAILabelException
from pydantic import ValidationError

from lib.requests import UPLOADED
from lib.server.access import require_admin
from lib.workbench import Workbench
from stride_monai.annotations import AccessError, ConflictError
from stride_monai.errors import OutputError, StrideError

_RESERVED = frozenset({"image", "label", "model", "method", "strategy", "session", "result", "file", "request"})
"""Parameters by which a request would become another one than was checked."""
_FORMS = ("params", "info", "wsi")
_ADMIN = frozenset({("POST", "/train/{model}"), ("DELETE", "/train/"), ("DELETE", "/datastore/label")})
_COMPUTING = ("/infer/", "/activelearning/", "/scoring/")
_COMPUTE_THREADS = 4
"""More than networks that run at once, which is one: the others read slides, or wait."""
_HERE = str(Path(monailabel.endpoints.__file__).parent)

logger = logging.getLogger(__name__)


class Served(Protocol):
    """What the server asks of the app: MONAI Label's tasks by name, and our workbench."""

    bench: Workbench
    _infers: Mapping[str, Any]
    _trainers: Mapping[str, Any]
    _scoring_methods: Mapping[str, Any]
    _strategies: Mapping[str, Any]


def checked(endpoint: Callable[..., Any], path: str, method: str, app: Served) -> Callable[..., Any]:
    """The endpoint with the same parameters, run in a thread: MONAI Label's own hold up all others as they compute.

    What computes has few threads of its own, so that however many wait for a network, all else is answered.
    """

    def run(**given: Any) -> Any:
        token = UPLOADED.set(_has_file(given))
        try:
            if (method, path) in _ADMIN:
                require_admin(app.bench.place)
            _check(given, path, app)
            return asyncio.run(endpoint(**given))
        except HTTPException as error:
            raise _as_the_client_s(error) from error
        except (StrideError, MONAILabelException, ValidationError) as error:
            raise _as_http(error) from error
        except Exception as error:
            if not _of_the_request(error):
                logger.exception("unexpected")
                raise HTTPException(500, "unexpected error: see the server's log") from None
            raise HTTPException(422, f"the request cannot be understood ({type(error).__name__})") from error
        finally:
            UPLOADED.reset(token)

    async def answer(**given: Any) -> Any:
        limiter = _computing() if path.startswith(_COMPUTING) else None
        return await to_thread.run_sync(functools.partial(run, **given), limiter=limiter)

    functools.update_wrapper(answer, endpoint)
    answer.__signature__ = inspect.signature(endpoint, eval_str=True)  # type: ignore[attr-defined]
    return answer


@functools.cache
def _computing() -> CapacityLimiter:
    return CapacityLimiter(_COMPUTE_THREADS)


def _has_file(given: Mapping[str, Any]) -> bool:
    return _is_file(given.get("file")) and not given.get("image")


def _is_file(value: Any) -> bool:
    return hasattr(value, "filename") and hasattr(value, "file")


def _check(given: dict[str, Any], path: str, app: Served) -> None:
    known = {
        "model": app._trainers if path.startswith("/train") else app._infers,
        "method": app._scoring_methods,
        "strategy": app._strategies,
    }
    for name, tasks in known.items():
        if name in given and given[name] not in tasks:
            raise HTTPException(404, f"there is no {name} of this name: use one of {', '.join(tasks)}")
    if path.startswith("/infer"):
        if given.get("session_id"):
            raise HTTPException(404, "there are no sessions: send the picture as file, or name a slide")
        if not given.get("image") and not _has_file(given):
            raise HTTPException(422, "name a slide by image, or send a picture as file")
        if _value(given.get("output")) in {"dicom_seg"}:
            raise HTTPException(422, "output is json, image, asap or dsa")
        if "label" in given:
            given["label"] = None  # nothing here starts from a label
    for name in _FORMS:
        _check_form(given, name)
    upload = given.get("file") or given.get("label")
    if _is_file(upload) and "\0" in (upload.filename or ""):
        raise HTTPException(422, "the name of the file is none")


def _value(output: Any) -> Any:
    return getattr(output, "value", output)


def _check_form(given: Mapping[str, Any], name: str) -> None:
    """JSON in a form field, or an object that was parsed already: an object, without what was checked elsewhere."""
    form = given.get(name)
    if isinstance(form, str) and form:
        try:
            form = json.loads(form)
        except (ValueError, RecursionError):
            raise HTTPException(422, f"{name} is no JSON") from None
        if not isinstance(form, dict):
            raise HTTPException(422, f"{name} is no JSON object")
    elif hasattr(form, "params"):
        form = form.params
    if isinstance(form, dict):
        inner = form.get("params") if name == "wsi" else None
        for one in (form, inner if isinstance(inner, dict) else {}):
            if taken := sorted(_RESERVED & one.keys()):
                raise HTTPException(422, f"{name} may not set {', '.join(taken)}")


def _as_http(error: Exception) -> HTTPException:
    if isinstance(error, AccessError):
        return HTTPException(403 if "admin" in str(error) else 404, str(error))
    if isinstance(error, ConflictError):
        return HTTPException(409, str(error))
    if isinstance(error, OutputError):
        logger.error("%s", error)
        return HTTPException(507, str(error))
    if isinstance(error, StrideError):
        return HTTPException(422, str(error))
    if isinstance(error, MONAILabelException):
        return HTTPException(422, str(error.msg))
    return HTTPException(422, "the parameters cannot be understood")


def _as_the_client_s(error: HTTPException) -> HTTPException:
    """MONAI Label answers some wrong requests with 500."""
    if error.status_code == 500 and str(error.detail).startswith("Neither Image"):
        return HTTPException(422, error.detail)
    return error


def _of_the_request(error: Exception) -> bool:
    """Whether it was raised while MONAI Label took a request apart, and not by what the request set going."""
    if not isinstance(error, TypeError | ValueError | KeyError | AttributeError):
        return False
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/lib/python3" not in frame.filename or "stride_monai" in frame.filename]
    inner = [frame for frame in ours if not frame.filename.endswith("endpoints.py")]
    return not inner and any(frame.filename.startswith(_HERE) for frame in frames)
