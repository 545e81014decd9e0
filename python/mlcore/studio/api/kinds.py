"""What kinds of tasks there are, and whether a config would run."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select

from mlcore.errors import InvalidArgument
from mlcore.studio.api.access import Me, Person, ProblemTold, Room, refusals
from mlcore.studio.kinds import Kind, Place, Problem, kind_of, kinds
from mlcore.studio.store import State, Task, Upload
from mlcore.studio.studio import Studio

router = APIRouter(tags=["kinds of tasks"])


class StepTold(BaseModel):
    name: str
    title: str


class KindTold(BaseModel):
    name: str
    title: str
    blurb: str
    resumable: bool
    steps: list[StepTold]
    example: dict[str, Any]


class EngineTold(BaseModel):
    name: str
    kind: str
    workers: int
    """Most that a task may have."""


class Checked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    config: dict[str, Any]
    engine: str | None = None
    workers: int | None = None


def place_of(
    studio: Studio, me: Person, engine: str | None = None, workers: int | None = None
) -> Place:
    """Where a config of this user is read.

    Raises:
        InvalidArgument: there is no such engine, or it has fewer workers.
    """
    settings = studio.settings
    name = engine or next(iter(settings.engines))
    if name not in settings.engines:
        raise InvalidArgument(f"engine: {name!r}; one of {', '.join(settings.engines)}")
    most = most_workers(studio, name)
    count = workers or (1 if settings.engines[name].name == "serial" else most)
    if not 1 <= count <= most:
        raise InvalidArgument(f"workers: {count}; engine {name} has 1 to {most}")
    with studio.store.session() as session:
        uploads = session.scalars(select(Upload).where(Upload.user_id == me.user.id)).all()
        mine = (Task.user_id == me.user.id, Task.state == State.DONE)
        done = session.scalars(select(Task.id).where(*mine)).all()
    return Place(
        {one.id: studio.store.upload_folder(one) for one in uploads},
        settings.engines[name].model_copy(update={"workers": count}),
        {one: studio.store.task_folder(Task(id=one, user_id=me.user.id)) for one in done},
    )


def most_workers(studio: Studio, engine: str) -> int:
    """Of a task with this engine."""
    told = studio.settings.engines[engine]
    return 1 if told.name == "serial" else told.workers or studio.settings.cores


def known(name: str) -> Kind:
    """A kind, or 404."""
    try:
        return kind_of(name)
    except InvalidArgument as error:
        raise HTTPException(404, str(error)) from None


def told_problems(problems: list[Problem]) -> list[ProblemTold]:
    return [ProblemTold(field=one.field, message=one.message) for one in problems]


@router.get("/kinds", responses=refusals())
def all_kinds(me: Me) -> list[KindTold]:
    """Kinds of tasks."""
    return [
        KindTold(
            name=kind.name,
            title=kind.title,
            blurb=kind.blurb,
            resumable=kind.resumable,
            steps=[StepTold(name=s.name, title=s.title) for s in kind.steps],
            example=kind.example(),
        )
        for kind in kinds().values()
    ]


@router.get("/kinds/{kind}/schema", responses=refusals(404))
def schema(me: Me, kind: str) -> dict[str, Any]:
    """JSON schema of configs of a kind."""
    return known(kind).schema()


@router.post("/kinds/{kind}/check", responses=refusals(400, 404, 422))
def check(studio: Room, me: Me, kind: str, asked: Checked) -> list[ProblemTold]:
    """Everything that keeps a config from being run; empty where nothing does."""
    place = place_of(studio, me, asked.engine, asked.workers)
    return told_problems(known(kind).problems(asked.config, place))


@router.get("/engines", responses=refusals())
def engines(studio: Room, me: Me) -> list[EngineTold]:
    """Who may do the work, as the administrator set it up."""
    return [
        EngineTold(name=name, kind=one.name, workers=most_workers(studio, name))
        for name, one in studio.settings.engines.items()
    ]
