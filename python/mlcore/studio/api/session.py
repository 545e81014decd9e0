"""Logging in and out, one's own settings, tokens, and users."""

from __future__ import annotations

import shutil
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select

from mlcore.studio.accounts import TooManyLogins
from mlcore.studio.api.access import COOKIE, Admin, Me, Room, refusals
from mlcore.studio.store import ACTIVE, Task, User
from mlcore.studio.studio import Studio

router = APIRouter(tags=["users"])

Password = Annotated[str, Field(min_length=1, max_length=1000)]
Text = Annotated[str, Field(min_length=1, max_length=200)]


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Credentials(Asked):
    name: Text
    password: Password


class NewUser(Credentials):
    admin: bool = False


class Change(Asked):
    theme: Literal["auto", "light", "dark"] | None = None
    old_password: Password | None = None
    new_password: Password | None = None


class Title(Asked):
    title: Text


class UserTold(BaseModel):
    id: str
    name: str
    admin: bool
    theme: str


class TokenTold(BaseModel):
    id: str
    title: str
    created: float
    used: float | None
    token: str | None = None
    """Its words; told once, when it is made."""


def _told(user: User) -> UserTold:
    return UserTold(id=user.id, name=user.name, admin=user.admin, theme=user.theme)


def let_in(studio: Studio, user: User, response: Response) -> None:
    """Give the browser a cookie."""
    response.set_cookie(
        COOKIE,
        studio.accounts.log_in(user),
        httponly=True,
        samesite="strict",
        secure=studio.settings.secure,
        max_age=14 * 86400,
    )


def _left(studio: Studio, request: Request) -> None:
    """End what the browser was before: whoever knows its old cookie is not the one who logs in."""
    before = studio.accounts.of_cookie(request.cookies.get(COOKIE, ""))
    if before is not None:
        studio.accounts.log_out(before[1])


@router.post("/login", responses={429: {"description": "Too many tries"}, **refusals(422)})
def log_in(studio: Room, request: Request, response: Response, asked: Credentials) -> UserTold:
    """Log a browser in; the answer sets its cookie."""
    address = request.client.host if request.client else "?"
    try:
        user = studio.accounts.check(asked.name, asked.password, address)
    except TooManyLogins as error:
        raise HTTPException(429, str(error)) from None
    if user is None:
        raise HTTPException(401, "name or password is wrong")
    _left(studio, request)
    let_in(studio, user, response)
    return _told(user)


@router.post("/logout", status_code=204, responses=refusals())
def log_out(studio: Room, me: Me, response: Response) -> None:
    """Log this browser out."""
    if me.login is not None:
        studio.accounts.log_out(me.login)
    response.delete_cookie(COOKIE)


@router.get("/me", responses=refusals())
def myself(me: Me) -> UserTold:
    """Who asks."""
    return _told(me.user)


@router.patch("/me", responses=refusals(400, 422))
def change_myself(studio: Room, me: Me, asked: Change) -> UserTold:
    """Change one's theme or password."""
    if asked.theme is not None:
        with studio.store.session() as session:
            session.merge(me.user).theme = asked.theme
        me.user.theme = asked.theme
    if asked.new_password is not None:
        old = asked.old_password or ""
        if studio.accounts.check(me.user.name, old, f"user {me.user.id}") is None:
            raise HTTPException(403, "old_password is wrong")
        studio.accounts.change_password(me.user, asked.new_password, me.login)
    return _told(me.user)


@router.get("/tokens", responses=refusals())
def tokens(studio: Room, me: Me) -> list[TokenTold]:
    """One's own tokens, without their words."""
    found = studio.accounts.tokens(me.user)
    return [TokenTold(id=t.id, title=t.title, created=t.created, used=t.used) for t in found]


@router.post("/tokens", status_code=201, responses=refusals(422))
def make_token(studio: Room, me: Me, asked: Title) -> TokenTold:
    """Make a token for a program: it is sent as `Authorization: Bearer TOKEN`."""
    token, words = studio.accounts.make_token(me.user, asked.title)
    return TokenTold(id=token.id, title=token.title, created=token.created, used=None, token=words)


@router.delete("/tokens/{token}", status_code=204, responses=refusals(404))
def drop_token(studio: Room, me: Me, token: str) -> None:
    """Programs with this token are no longer let in."""
    if not studio.accounts.drop_token(me.user, token):
        raise HTTPException(404, "no such token")


@router.get("/users", responses=refusals())
def users(studio: Room, me: Admin) -> list[UserTold]:
    """Everybody; for administrators."""
    return [_told(user) for user in studio.accounts.everybody()]


@router.post("/users", status_code=201, responses=refusals(400, 422))
def add_user(studio: Room, me: Admin, asked: NewUser) -> UserTold:
    """Add a user; for administrators."""
    return _told(studio.accounts.add(asked.name, asked.password, asked.admin))


@router.delete("/users/{user}", status_code=204, responses=refusals(404, 409))
def remove_user(studio: Room, me: Admin, user: str) -> None:
    """Throw a user away, with tasks and data; for administrators."""
    with studio.store.session() as session:
        found = session.get(User, user)
        busy = session.scalars(select(Task.id).where(Task.user_id == user, Task.state.in_(ACTIVE)))
        active = len(busy.all())
    if found is None:
        raise HTTPException(404, "no such user")
    if found.id == me.user.id:
        raise HTTPException(409, "that is you")
    if active:
        raise HTTPException(409, f"{found.name} has {active} active tasks; cancel them first")
    studio.accounts.remove(found)
    shutil.rmtree(studio.store.folder / "users" / found.id, ignore_errors=True)
