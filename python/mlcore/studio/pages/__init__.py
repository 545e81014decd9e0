"""The pages: HTML around what the endpoints tell; one module for each room."""

from __future__ import annotations

from fastapi import APIRouter

from mlcore.studio.pages import account, compare, data, library, models, new, tasks

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
for part in (account, tasks, new, models, data, library, compare):
    router.include_router(part.router)
