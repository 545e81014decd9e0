"""Configs filled in by the data they name."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from mlcore.studio.api.access import Me, Room, refusals
from mlcore.studio.api.kinds import known, place_of
from mlcore.studio.kinds.suggesting import Suggesting

router = APIRouter(tags=["kinds of tasks"])


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")
    config: dict[str, Any]
    upload: Annotated[str, Field(max_length=40)] | None = None
    """Data set to be used; else that which the config names, or the newest that fits."""


class FilledTold(BaseModel):
    config: dict[str, Any]
    notes: list[str]
    """What was filled in, for people."""


@router.post("/kinds/{kind}/filled", responses=refusals(400, 404, 422))
def filled(studio: Room, me: Me, kind: str, asked: Wanted) -> FilledTold:
    """A config with what the data tell of it; the same where they tell nothing."""
    found: Any = known(kind)
    if not isinstance(found, Suggesting):
        return FilledTold(config=asked.config, notes=[])
    made = found.suggested(asked.config, place_of(studio, me), asked.upload)
    return FilledTold(config=made.config, notes=made.notes)
