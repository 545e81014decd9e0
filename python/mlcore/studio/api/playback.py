"""What tasks made, frame by frame."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from fastapi import Path as InPath
from pydantic import BaseModel

from mlcore.studio.api.access import Me, Person, Room, own_task, refusals
from mlcore.studio.kinds import kind_of
from mlcore.studio.kinds.films import Film, Filmed
from mlcore.studio.studio import Studio

router = APIRouter(prefix="/tasks", tags=["playback"])


class Playback(BaseModel):
    count: int
    """Of frames; long motions are thinned."""
    what: str


class Grid(BaseModel):
    shape: list[int]
    values: list[float]
    """In the order of C: the last axis runs fastest."""
    most: float | None = None
    """Of all frames."""


class Frame(BaseModel):
    """Atoms, or a grid of cells; of large ones a part."""

    numbers: list[int] | None = None
    positions: list[list[float]] | None = None
    cell: list[list[float]] | None = None
    pbc: list[bool] | None = None
    symbols: list[str] | None = None
    """What particles are called that are no elements; their number is 0."""
    extent: list[list[float]] | None = None
    """Without a cell: lowest and highest place along each axis, of all frames."""
    grid: Grid | None = None


def _film(studio: Studio, me: Person, task: str) -> Film:
    found = own_task(studio, me, task)
    kind: Any = kind_of(found.kind)
    film = kind.film(studio.store.task_folder(found)) if isinstance(kind, Filmed) else None
    if film is None or film.count == 0:
        raise HTTPException(404, "nothing to play back yet")
    return film


@router.get("/{task}/playback", responses=refusals(404, 409))
def playback(studio: Room, me: Me, task: str) -> Playback:
    """How many frames there are of what a task made, and of what."""
    film = _film(studio, me, task)
    return Playback(count=film.count, what=film.what)


@router.get(
    "/{task}/playback/{k}", responses=refusals(404, 409, 422), response_model_exclude_none=True
)
def frame(studio: Room, me: Me, task: str, k: Annotated[int, InPath(ge=0, le=1_000_000)]) -> Frame:
    """One frame."""
    film = _film(studio, me, task)
    if k >= film.count:
        raise HTTPException(404, "no such frame")
    return Frame.model_validate(film.frame(k))
