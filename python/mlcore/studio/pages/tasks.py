"""The dashboard and the page of a task."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import BeforeValidator

from mlcore.studio.api.access import Me, Room, own_task
from mlcore.studio.api.tasks import Sort, page, whole
from mlcore.studio.kinds import kind_of, kinds
from mlcore.studio.pages.shown import shown
from mlcore.studio.store import State

router = APIRouter()
_COUNT = 50
AnyState = Annotated[State | None, BeforeValidator(lambda told: told or None)]
"""Forms send what is not chosen as empty."""


@router.get("/")
def dashboard(
    request: Request,
    studio: Room,
    me: Me,
    search: Annotated[str, Query(max_length=200)] = "",
    state: AnyState = None,
    kind: Annotated[str, Query(max_length=40)] = "",
    sort: Sort = "changed",
    down: bool = True,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> HTMLResponse:
    """All tasks."""
    found = page(studio, me, search, state, kind, sort, down, offset, _COUNT)
    asked = {"search": search, "state": state, "kind": kind, "sort": sort, "down": down}
    return shown(
        request,
        studio,
        "dashboard.html",
        me,
        page=found,
        asked=asked,
        offset=offset,
        count=_COUNT,
        kinds=kinds(),
        states=list(State),
    )


@router.get("/tasks/{task}")
def one(request: Request, studio: Room, me: Me, task: str) -> HTMLResponse:
    """A task."""
    found = own_task(studio, me, task)
    return shown(request, studio, "task.html", me, task=whole(found), kind=kind_of(found.kind))
