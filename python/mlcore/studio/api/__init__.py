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
    tasks,
    uploads,
)

__all__ = ["router"]

router = APIRouter()
for part in (session, kinds, tasks, forms, drafting, uploads, playback, library, compare):
    router.include_router(part.router)
