"""Logging in; one's own settings and tokens; users."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from mlcore.studio.api.access import COOKIE, Admin, Me, Room
from mlcore.studio.api.session import let_in
from mlcore.studio.pages.shown import shown

router = APIRouter()


@router.get("/login")
def login(request: Request, studio: Room, key: str = "") -> Response:
    """Log in by name and password, or, where there are no logins, by the key shown at the start."""
    if key and studio.opens(key):
        answer = RedirectResponse("/", status_code=303)
        let_in(studio, studio.accounts.local(), answer)
        return answer
    if studio.accounts.of_cookie(request.cookies.get(COOKIE, "")) is not None:
        return RedirectResponse("/", status_code=303)
    return shown(request, studio, "login.html", None, used=bool(key))


@router.get("/account")
def account(request: Request, studio: Room, me: Me) -> HTMLResponse:
    """One's own settings and tokens."""
    return shown(request, studio, "account.html", me, tokens=studio.accounts.tokens(me.user))


@router.get("/users")
def users(request: Request, studio: Room, me: Admin) -> HTMLResponse:
    """Everybody."""
    return shown(request, studio, "users.html", me, everybody=studio.accounts.everybody())


@router.get("/static/plotly.min.js")
def plotly() -> FileResponse:
    """Of the installed package."""
    from importlib.resources import files

    path = files("plotly") / "package_data" / "plotly.min.js"
    headers = {"cache-control": "public, max-age=86400"}
    return FileResponse(str(path), media_type="text/javascript", headers=headers)
