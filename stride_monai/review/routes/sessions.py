"""Coming in and going out, and what a page must know before it shows anything."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from stride_monai.annotations import ADEQUACY, CANNOT_TELL, NOT_A_LESION, AccessError, Role
from stride_monai.bethesda import CELL_CLASSES, CELL_COLORS, DESCRIPTION_VOCABULARY, DESCRIPTIONS_BY_CLASS, LABELS
from stride_monai.review.access import COOKIE, Session, Writing, access_of, set_cookie
from stride_monai.review.protection import same_origin

router = APIRouter(prefix="/api/session")


class SignIn(BaseModel):
    """A name and its password."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=64)]
    password: Annotated[str, Field(min_length=1, max_length=1024)]


@router.get("")
def session(request: Request, response: Response) -> dict[str, Any]:
    """Who is signed in, what the page shows, and the proof that changes must carry."""
    access = access_of(request)
    known = access.session(request)
    if known is None and access.users is None:
        secret, known = access.begin(access.alone)
        set_cookie(response, request, secret)
    return _answer(request, known)


@router.post("")
def sign_in(request: Request, response: Response, asked: SignIn) -> dict[str, Any]:
    """Sign in with a password."""
    if not same_origin(request.headers):
        raise HTTPException(403, "another site sent this")
    access = access_of(request)
    try:
        user = access.sign_in(asked.name, asked.password)
    except AccessError as error:
        raise HTTPException(401, str(error)) from error
    access.end(request)
    secret, known = access.begin(user)
    set_cookie(response, request, secret)
    return _answer(request, known)


@router.delete("")
def sign_out(request: Request, response: Response, viewer: Writing) -> dict[str, Any]:
    """Sign out: the cookie is worth nothing any more, and the cells that were kept for the reader are free."""
    access_of(request).end(request)
    request.app.state.review.store.release(viewer.name)
    response.delete_cookie(COOKIE, path=f"{request.scope.get('root_path', '')}/", httponly=True, samesite="strict")
    return {"signed_out": True}


def _answer(request: Request, known: Session | None) -> dict[str, Any]:
    access = access_of(request)
    if known is None:
        return {"name": None, "users": True}
    policy = request.app.state.review.policy
    return {
        "name": known.user.name,
        "admin": known.user.role == Role.ADMIN,
        "users": access.users is not None,
        "proof": known.proof,
        "blind": access.blind,
        "readers": policy.readers,
        "classes": [
            {"label": name, "color": "#{:02x}{:02x}{:02x}".format(*CELL_COLORS[name])} for name in CELL_CLASSES
        ],
        "not_a_lesion": NOT_A_LESION,
        "cannot_tell": CANNOT_TELL,
        "calls": [*LABELS, CANNOT_TELL],
        "adequacy": list(ADEQUACY),
        "descriptions": list(DESCRIPTION_VOCABULARY),
        "descriptions_by_class": {name: list(texts) for name, texts in DESCRIPTIONS_BY_CLASS.items()},
    }


def _hex(color: tuple[int, int, int]) -> str:
    """An RGB color as style sheets write it."""
    return "#{:02x}{:02x}{:02x}".format(*color)
