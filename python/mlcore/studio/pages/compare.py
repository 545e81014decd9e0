"""Tasks side by side."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from mlcore.studio.api.access import Me, Room, own_task
from mlcore.studio.api.compare import MOST
from mlcore.studio.kinds import kind_of
from mlcore.studio.pages.shown import shown

router = APIRouter()


@router.get("/compare")
def compare(
    request: Request,
    studio: Room,
    me: Me,
    task: Annotated[list[str], Query(default_factory=list)],
) -> HTMLResponse:
    """Two or more of one's tasks."""
    ids = list(dict.fromkeys(task))
    if len(ids) > MOST:
        raise HTTPException(422, f"{len(ids)} tasks; at most {MOST} are compared at once")
    tasks = [own_task(studio, me, one) for one in ids]
    kinds = [kind_of(one.kind) for one in tasks]
    pairs = list(zip(tasks, kinds, strict=True))
    return shown(request, studio, "compare.html", me, pairs=pairs)
