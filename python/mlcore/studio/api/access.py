"""Who asks: a browser that is logged in, or a program with a token."""

from __future__ import annotations

import math
import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Request
from pydantic import BaseModel

from mlcore.studio.store import Login, Task, Upload, User
from mlcore.studio.studio import Studio

__all__ = [
    "COOKIE",
    "Admin",
    "Me",
    "Person",
    "ProblemTold",
    "Refusal",
    "Room",
    "own_task",
    "own_upload",
    "plain",
    "refusals",
    "somebody",
    "still",
]

COOKIE = "mlcore_studio"
_HALF = re.compile("[\ud800-\udfff]")
_DEEPEST = 50  # tables within each other in a config
_SAFE = ("GET", "HEAD", "OPTIONS")


class ProblemTold(BaseModel):
    field: str
    """Place in what was sent, such as `parameters.free.A.lower`; empty: of the whole."""
    message: str


class Refusal(BaseModel):
    """What is answered instead."""

    detail: str
    problems: list[ProblemTold] = []


@dataclass(frozen=True)
class Person:
    """Who asks.

    Attributes:
        user: it is.
        login: their browser's; None: a program's token.
    """

    user: User
    login: Login | None


def _studio(request: Request) -> Studio:
    found: Studio = request.app.state.studio
    return found


Room = Annotated[Studio, Depends(_studio)]


def _person(request: Request, studio: Room) -> Person:
    words = request.headers.get("authorization", "")
    if words:
        scheme, _, token = words.partition(" ")
        user = studio.accounts.of_token(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise HTTPException(401, "no such token", {"WWW-Authenticate": "Bearer"})
        return Person(user, None)
    found = studio.accounts.of_cookie(request.cookies.get(COOKIE, ""))
    if found is None:
        raise HTTPException(401, "log in first, or send a token", {"WWW-Authenticate": "Bearer"})
    user, login = found
    told = request.headers.get("x-csrf-token", "")
    if request.method not in _SAFE and not secrets.compare_digest(
        told.encode("latin-1", "replace"), login.csrf.encode()
    ):
        raise HTTPException(403, "X-CSRF-Token is not that of this browser; load the page again")
    return Person(user, login)


Me = Annotated[Person, Depends(_person)]


def somebody(request: Request, studio: Studio) -> Person | None:
    """Who asks; None: nobody who is let in."""
    try:
        return _person(request, studio)
    except HTTPException:
        return None


def still(request: Request, studio: Studio) -> bool:
    """Whether who asked is let in by now; for answers that go on for long."""
    return somebody(request, studio) is not None


def _admin(me: Me) -> Person:
    if not me.user.admin:
        raise HTTPException(403, "for administrators")
    return me


Admin = Annotated[Person, Depends(_admin)]


def own_task(studio: Studio, me: Person, task: str) -> Task:
    """A task of theirs; others' are not there for them."""
    with studio.store.session() as session:
        found = session.get(Task, task)
    if found is None or found.user_id != me.user.id:
        raise HTTPException(404, "no such task")
    return found


def own_upload(studio: Studio, me: Person, upload: str) -> Upload:
    """A data set of theirs."""
    with studio.store.session() as session:
        found = session.get(Upload, upload)
    if found is None or found.user_id != me.user.id:
        raise HTTPException(404, "no such data set")
    return found


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """A config that can be kept and told again.

    Raises:
        ValueError: it is nested too deep, or holds text that is none or a number that is not finite.
    """
    waiting: list[tuple[Any, int]] = [(config, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"is nested more than {_DEEPEST} deep")
        if isinstance(value, dict):
            waiting += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
        elif isinstance(value, str) and _HALF.search(value):
            raise ValueError("holds half of a letter (a lone surrogate)")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("holds a number that is not finite")
    return config


def refusals(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What an endpoint may answer besides, for the documentation."""
    words = {
        400: "An argument is wrong",
        401: "Not logged in",
        403: "Not allowed",
        404: "Not there",
        409: "Not in this state",
        413: "Too large",
        422: "Some fields are wrong",
        429: "Too many tries",
        503: "Too much to do just now",
        507: "The server cannot write",
    }
    always = (400, 401, 403, 413, 422, 507)
    return {
        code: {"description": words[code], "model": Refusal} for code in sorted({*codes, *always})
    }
