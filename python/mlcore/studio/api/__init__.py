"""The endpoints: everything that pages do, for programs too."""

from __future__ import annotations

from fastapi import APIRouter

from mlcore.studio.api import (
    compare,
    drafting,
    forms,
    kinds,
    library,
    playback,
    session,
    suggesting,
    tasks,
    uploads,
)

__all__ = ["router"]

router = APIRouter()
for part in (
    session,
    kinds,
    tasks,
    forms,
    drafting,
    uploads,
    playback,
    library,
    compare,
    suggesting,
):
    router.include_router(part.router)
