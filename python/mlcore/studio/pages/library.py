"""The library and the page of one of its potentials."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from mlcore.studio.api.access import Me, Room
from mlcore.studio.api.library import found, whole
from mlcore.studio.pages.shown import shown

router = APIRouter(prefix="/library")


@router.get("")
def library(
    request: Request,
    studio: Room,
    me: Me,
    text: Annotated[str, Query(max_length=200)] = "",
    element: Annotated[str, Query(max_length=200)] = "",
    form: Annotated[str, Query(max_length=100)] = "",
) -> HTMLResponse:
    """Published potentials."""
    every = found(studio, me)
    asked = {"text": text, "element": element, "form": form}
    return shown(
        request,
        studio,
        "library.html",
        me,
        potentials=found(studio, me, **asked),
        asked=asked,
        total=len(every),
        forms=sorted({one.form for one in every}),
        elements=sorted({name for one in every for name in one.species}),
    )


@router.get("/{name}")
def one(request: Request, studio: Room, me: Me, name: str) -> HTMLResponse:
    """A potential: its card, how good it is and where, how to use it."""
    return shown(request, studio, "library_one.html", me, one=whole(studio, me, name))
