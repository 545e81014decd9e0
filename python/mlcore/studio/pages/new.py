"""Making a task: its kind, its data, and the steps of its wizard."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select

from mlcore.studio.api.access import Me, Person, Room, own_task
from mlcore.studio.api.kinds import known, place_of
from mlcore.studio.kinds import Kind, Problem, Step, kind_of, kinds
from mlcore.studio.pages.shown import shown
from mlcore.studio.store import State, Upload
from mlcore.studio.studio import Studio

router = APIRouter()
_FITTED = ("structures", "trajectory")


@router.get("/new")
def new(
    request: Request,
    studio: Room,
    me: Me,
    kind: Annotated[str, Query(max_length=40)] = "",
    upload: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """Choose a kind, then what it begins with."""
    chosen = known(kind) if kind else None
    mine = uploads_of(studio, me)
    return shown(
        request,
        studio,
        "new.html",
        me,
        kinds=kinds(),
        kind=chosen,
        upload=upload,
        brought=next((one for one in mine if one.id == upload), None),
        uploads=[one for one in mine if one.kind in _FITTED],
    )


def uploads_of(studio: Studio, me: Person) -> list[Upload]:
    """Data sets of a user, the newest first."""
    mine = select(Upload).where(Upload.user_id == me.user.id).order_by(Upload.created.desc())
    with studio.store.session() as session:
        return list(session.scalars(mine))


@router.get("/drafts/{task}")
def draft(studio: Room, me: Me, task: str) -> Response:
    """The first step that has a problem, else the first."""
    found = own_task(studio, me, task)
    if found.state is not State.DRAFT:
        return RedirectResponse(f"/tasks/{found.id}", status_code=303)
    kind = kind_of(found.kind)
    problems = kind.problems(found.config, place_of(studio, me, found.engine, found.workers))
    wrong = [step for step in kind.steps if any(step_of(kind, p) is step for p in problems)]
    first = (wrong or list(kind.steps))[0]
    return RedirectResponse(f"/drafts/{found.id}/{first.name}", status_code=303)


def step_of(kind: Kind, problem: Problem) -> Step | None:
    """Where a problem is solved."""
    first = problem.field.partition(".")[0]
    return next((step for step in kind.steps if first in step.fields), None)


@router.get("/drafts/{task}/{step}")
def step(request: Request, studio: Room, me: Me, task: str, step: str) -> Response:
    """A step of the wizard."""
    found = own_task(studio, me, task)
    if found.state is not State.DRAFT:
        return RedirectResponse(f"/tasks/{found.id}", status_code=303)
    kind = kind_of(found.kind)
    names = [one.name for one in kind.steps]
    if step not in names:
        raise HTTPException(404, "no such step")
    at = names.index(step)
    return shown(
        request,
        studio,
        "wizard.html",
        me,
        task=found,
        kind=kind,
        step=kind.steps[at],
        before=kind.steps[at - 1] if at else None,
        after=kind.steps[at + 1] if at + 1 < len(names) else None,
        inside=_template(studio, kind, step),
    )


def _template(studio: Studio, kind: Kind, step: str) -> str:
    """The form of a step: the kind's own, the one that sends it off, or one made of the schema."""
    own = f"wizard/{step}.html" if kind.name == "forcefield" else f"wizard/{kind.name}_{step}.html"
    tried = [own, "wizard/submit.html"] if step == "submit" else [own]
    there = set(studio.templates.env.list_templates())
    return next((one for one in tried if one in there), "wizard/generic.html")
