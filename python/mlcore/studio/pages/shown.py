"""A page from a template, with what all of them need."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from mlcore.studio.api.access import Person
from mlcore.studio.studio import Studio

__all__ = ["shown"]


def shown(
    request: Request, studio: Studio, template: str, me: Person | None, **told: Any
) -> HTMLResponse:
    """The page ``template``; it knows ``me``, ``csrf`` and ``users`` (whether people log in)."""
    known = {
        "me": None if me is None else me.user,
        "csrf": me.login.csrf if me is not None and me.login is not None else "",
        "users": studio.settings.users,
        "path": request.url.path,
    }
    return studio.templates.TemplateResponse(request, template, known | told)
