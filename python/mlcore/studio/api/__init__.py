"""The endpoints: everything that pages do, for programs too."""

from __future__ import annotations

from fastapi import APIRouter

from mlcore.studio.api import kinds, session, tasks

__all__ = ["router"]

router = APIRouter()
for part in (session, kinds, tasks):
    router.include_router(part.router)
