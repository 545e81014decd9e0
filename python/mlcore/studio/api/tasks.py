"""Tasks: made, changed, submitted, watched, stopped, cloned, taken home."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import to_json
from sqlalchemy import func, or_, select
from starlette.background import BackgroundTask

from mlcore.studio import scratch
from mlcore.studio.api.access import Me, Person, Room, own_task, plain, refusals, still
from mlcore.studio.api.kinds import known, place_of, told_problems
from mlcore.studio.kinds import kind_of
from mlcore.studio.store import ACTIVE, ENDED, State, Task
from mlcore.studio.studio import Studio
from mlcore.studio.supervisor import LOG
from mlcore.studio.uploads import room_for_more

router = APIRouter(prefix="/tasks", tags=["tasks"])

Sort = Literal["changed", "created", "title", "kind", "state", "progress", "seconds"]
Words = Annotated[str, Field(min_length=1, max_length=200)]
Config = Annotated[dict[str, Any], AfterValidator(plain)]
_PAUSE = 0.5  # seconds between looks at a task that a page watches
_LONGEST = 3600.0  # of a stream; browsers come back by themselves
_STREAMS = 32  # of one user at once
_ASKED = 5.0  # seconds between looks whether who watches is still let in
_watching: Counter[str] = Counter()
_CHUNK = 256 << 10  # of a log


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewTask(Asked):
    kind: Annotated[str, Field(max_length=40)]
    title: Words | None = None
    config: Config | None = None
    """The kind's example where left out."""
    engine: str | None = None
    workers: Annotated[int, Field(ge=1)] | None = None
    submit: bool = False
    """Run it at once; else it is a draft."""


class ChangedTask(Asked):
    title: Words | None = None
    config: Config | None = None
    engine: str | None = None
    workers: Annotated[int, Field(ge=1)] | None = None


class TaskTold(BaseModel):
    id: str
    kind: str
    title: str
    state: State
    engine: str
    workers: int
    created: float
    changed: float
    started: float | None
    ended: float | None
    seconds: float
    """Wall time of all its runs."""
    cpu_seconds: float
    memory: int
    progress: float
    line: str
    facts: dict[str, Any]
    error: str
    parent: str | None
    summary: str
    restarts: int
    """How often its process was killed and started again since somebody last let it run."""
    waiting: int | None = None
    """Tasks before it, while it is queued."""


class TaskWhole(TaskTold):
    config: dict[str, Any]


class Page(BaseModel):
    tasks: list[TaskTold]
    total: int
    """Of those found."""
    states: dict[State, int]
    """How many tasks are in each state, whatever was asked for."""


class DownloadTold(BaseModel):
    name: str
    title: str
    size: int | None


def told(task: Task, waiting: int | None = None) -> TaskTold:
    return TaskTold(**_facts(task), waiting=waiting)


def whole(task: Task) -> TaskWhole:
    return TaskWhole(**_facts(task), config=task.config)


def _facts(task: Task) -> dict[str, Any]:
    names = TaskTold.model_fields.keys() - {"seconds", "summary", "waiting"}
    return {name: getattr(task, name) for name in names} | {
        "seconds": task.running_seconds,
        "summary": kind_of(task.kind).summary(task.config),
    }


@router.get("", responses=refusals(422))
def listed(
    studio: Room,
    me: Me,
    search: Annotated[str, Query(max_length=200)] = "",
    state: State | None = None,
    kind: Annotated[str, Query(max_length=40)] = "",
    sort: Sort = "changed",
    down: bool = True,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    count: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page:
    """One's tasks."""
    return page(studio, me, search, state, kind, sort, down, offset, count)


def page(
    studio: Studio,
    me: Person,
    search: str = "",
    state: State | None = None,
    kind: str = "",
    sort: Sort = "changed",
    down: bool = True,
    offset: int = 0,
    count: int = 50,
) -> Page:
    """Some of a user's tasks."""
    mine = Task.user_id == me.user.id
    wanted = select(Task).where(mine)
    if search:
        like = f"%{search.replace('%', '').replace('_', ' ')}%"
        wanted = wanted.where(
            or_(Task.title.ilike(like), Task.kind.ilike(like), Task.line.ilike(like))
        )
    if state is not None:
        wanted = wanted.where(Task.state == state)
    if kind:
        wanted = wanted.where(Task.kind == kind)
    column = getattr(Task, sort)
    order = column.desc() if down else column.asc()
    with studio.store.session() as session:
        total = session.scalar(select(func.count()).select_from(wanted.subquery())) or 0
        found = session.scalars(wanted.order_by(order, Task.id).offset(offset).limit(count)).all()
        states = session.execute(select(Task.state, func.count()).where(mine).group_by(Task.state))
        return Page(
            tasks=[told(t) for t in found], total=total, states={row[0]: row[1] for row in states}
        )


@router.post("", status_code=201, responses=refusals(400, 404, 409, 422))
def make(studio: Room, me: Me, asked: NewTask) -> TaskWhole:
    """A new task: a draft, or one that is run at once."""
    kind = known(asked.kind)
    _room(studio, me)
    place = place_of(studio, me, asked.engine, asked.workers)
    task = Task(
        user_id=me.user.id,
        kind=kind.name,
        title=asked.title or kind.title,
        config=kind.example() if asked.config is None else asked.config,
        engine=asked.engine or next(iter(studio.settings.engines)),
        workers=place.engine.count,
    )
    with studio.store.session() as session:
        session.add(task)
    if asked.submit:
        submitted(studio, me, task)
    return whole(own_task(studio, me, task.id))


def _room(studio: Studio, me: Person) -> None:
    """Whether the user may have one task more.

    Raises:
        HTTPException: 413, not so.
    """
    limits = studio.settings.limits
    mine = select(func.count(), func.coalesce(func.sum(func.length(Task.config)), 0))
    with studio.store.session() as session:
        number, letters = session.execute(mine.where(Task.user_id == me.user.id)).one()
    if number >= limits.tasks or letters > limits.stored:
        raise HTTPException(413, f"you have {number} tasks, the most; delete some first")


@router.get("/{task}", responses=refusals(404))
def one(studio: Room, me: Me, task: str) -> TaskWhole:
    """A task with its config."""
    return whole(own_task(studio, me, task))


@router.patch("/{task}", responses=refusals(400, 404, 409, 422))
def change(studio: Room, me: Me, task: str, asked: ChangedTask) -> TaskWhole:
    """Change a draft; of other tasks the title alone."""
    found = own_task(studio, me, task)
    changes = asked.model_dump(exclude_none=True)
    if changes.keys() - {"title"} and found.state is not State.DRAFT:
        raise HTTPException(409, f"the task is {found.state.value}; clone it to change it")
    if "engine" in changes or "workers" in changes:
        place = place_of(studio, me, asked.engine or found.engine, asked.workers)
        changes["workers"] = place.engine.count
    with studio.store.session() as session:
        row = session.get_one(Task, found.id)
        for name, value in changes.items():
            setattr(row, name, value)
        row.changed = time.time()
    return whole(own_task(studio, me, task))


@router.delete("/{task}", status_code=204, responses=refusals(404, 409))
def delete(studio: Room, me: Me, task: str) -> None:
    """Throw a task and all it made away."""
    found = own_task(studio, me, task)
    if found.state in ACTIVE:
        raise HTTPException(409, f"the task is {found.state.value}; cancel it first")
    with studio.store.session() as session:
        session.delete(session.get_one(Task, found.id))
    shutil.rmtree(studio.store.task_folder(found), ignore_errors=True)


@router.post("/{task}/submit", responses=refusals(404, 409, 422))
def submit(studio: Room, me: Me, task: str) -> TaskWhole:
    """Run a draft."""
    submitted(studio, me, own_task(studio, me, task))
    return whole(own_task(studio, me, task))


def submitted(studio: Studio, me: Person, task: Task) -> None:
    """Check a draft and queue it.

    Raises:
        HTTPException: 409, it is no draft; 422 with its problems, it cannot be run.
    """
    kind = kind_of(task.kind)
    room_for_more(studio.store, me.user, studio.settings.limits)
    place = place_of(studio, me, task.engine, task.workers)
    problems = kind.problems(task.config, place)
    if problems:
        found = [one.model_dump() for one in told_problems(problems)]
        raise HTTPException(422, {"detail": "the config cannot be run", "problems": found})
    folder = studio.store.task_folder(task)
    folder.mkdir(parents=True, exist_ok=True)
    kind.prepare(task.config, folder, place)
    _moved(studio, task, State.QUEUED, (State.DRAFT,), queued=time.time())


@router.post("/{task}/pause", responses=refusals(404, 409))
def pause(studio: Room, me: Me, task: str) -> TaskWhole:
    """Stop a task that can be gone on with."""
    found = own_task(studio, me, task)
    if not kind_of(found.kind).resumable:
        raise HTTPException(409, "tasks of this kind cannot be paused")
    into = State.PAUSED if found.state is State.QUEUED else State.PAUSING
    _moved(studio, found, into, (State.QUEUED, State.RUNNING))
    return whole(own_task(studio, me, task))


@router.post("/{task}/cancel", responses=refusals(404, 409))
def cancel(studio: Room, me: Me, task: str) -> TaskWhole:
    """Stop a task; what it made stays."""
    found = own_task(studio, me, task)
    idle = found.state in (State.QUEUED, State.PAUSED)
    into = State.CANCELLED if idle else State.CANCELLING
    _moved(studio, found, into, (State.QUEUED, State.RUNNING, State.PAUSING, State.PAUSED))
    return whole(own_task(studio, me, task))


@router.post("/{task}/resume", responses=refusals(404, 409))
def resume(studio: Room, me: Me, task: str) -> TaskWhole:
    """Go on with a task that was paused, cancelled or has failed."""
    found = own_task(studio, me, task)
    _moved(studio, found, State.QUEUED, ENDED[:3], queued=time.time(), restarts=0, error="")
    return whole(own_task(studio, me, task))


@router.post("/{task}/restart", responses=refusals(404, 409))
def restart(studio: Room, me: Me, task: str) -> TaskWhole:
    """Do a task that has ended once more from the beginning; what it made is thrown away."""
    found = own_task(studio, me, task)
    anew: dict[str, Any] = {"fresh": True, "restarts": 0, "seconds": 0.0, "cpu_seconds": 0.0}
    anew |= {"progress": 0.0, "line": "", "facts": {}, "error": ""}
    _moved(studio, found, State.QUEUED, ENDED, queued=time.time(), **anew)
    return whole(own_task(studio, me, task))


@router.post("/{task}/clone", status_code=201, responses=refusals(404))
def clone(studio: Room, me: Me, task: str) -> TaskWhole:
    """A draft with the same config."""
    found = own_task(studio, me, task)
    _room(studio, me)
    copy = Task(
        user_id=me.user.id,
        kind=found.kind,
        title=f"{found.title} (copy)"[:200],
        config=found.config,
        engine=found.engine,
        workers=found.workers,
        parent=found.id,
    )
    with studio.store.session() as session:
        session.add(copy)
    return whole(own_task(studio, me, copy.id))


def _moved(studio: Studio, task: Task, into: State, of: tuple[State, ...], **changes: Any) -> None:
    if not studio.store.move(task.id, into, of, **changes):
        raise HTTPException(409, f"the task is {task.state.value}")


@router.get("/{task}/view", responses=refusals(404, 409))
def view(studio: Room, me: Me, task: str) -> Response:
    """What the page of a task draws: figures, tables, numbers, warnings."""
    found = own_task(studio, me, task)
    told = kind_of(found.kind).view(studio.store.task_folder(found))
    if found.state not in ACTIVE[1:]:
        for one in told.get("numbers", ()):
            if one["going"]:
                one |= {"value": "", "note": f"it is {found.state.value}"}
    # ten times as fast as the standard encoder, and what is not finite becomes null
    return Response(to_json(told, inf_nan_mode="null"), media_type="application/json")


@router.get("/{task}/log", responses=refusals(404))
def log(
    studio: Room, me: Me, task: str, start: Annotated[int, Query(ge=0)] = 0
) -> dict[str, int | str]:
    """The log from byte ``start`` on; ``next`` is where to go on. Of long ones the end."""
    path = studio.store.task_folder(own_task(studio, me, task)) / LOG
    size = path.stat().st_size if path.is_file() else 0
    begin = max(min(start, size), size - _CHUNK, 0)
    text = b""
    if size:
        with path.open("rb") as stream:
            stream.seek(begin)
            text = stream.read(_CHUNK)
    return {"text": text.decode("utf-8", "replace"), "next": begin + len(text)}


@router.get("/{task}/live", responses=refusals(404, 429))
async def live(studio: Room, me: Me, task: str, request: Request) -> StreamingResponse:
    """Server-sent events ``task``, each with the task, whenever something of it changed."""
    await asyncio.to_thread(own_task, studio, me, task)
    if _watching[me.user.id] >= _STREAMS:
        told = f"{_STREAMS} pages of yours are watching already; close some"
        raise HTTPException(429, told, {"Retry-After": "10"})
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    events = _counted(me, _events(studio, me, task, request))
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _counted(me: Person, events: AsyncIterator[str]) -> AsyncIterator[str]:
    _watching[me.user.id] += 1
    try:
        async for one in events:
            yield one
    finally:
        _watching[me.user.id] -= 1


async def _events(studio: Studio, me: Person, task: str, request: Request) -> AsyncIterator[str]:
    """What changes of a task, as long as somebody may and does look at it."""
    begun = asked = time.monotonic()
    before, silent = "", 0
    while time.monotonic() - begun < _LONGEST and not await request.is_disconnected():
        if time.monotonic() - asked > _ASKED:
            asked = time.monotonic()
            if not await asyncio.to_thread(still, request, studio):
                return
        try:
            now = await asyncio.to_thread(own_task, studio, me, task)
        except HTTPException:
            yield "event: gone\ndata: {}\n\n"
            return
        text = told(now).model_dump_json()
        silent = 0 if text != before else silent + 1
        if text != before:
            yield f"event: task\ndata: {text}\n\n"
        elif silent % 30 == 0:
            yield ": still here\n\n"
        before = text
        await asyncio.sleep(_PAUSE)


@router.get("/{task}/downloads", responses=refusals(404))
def downloads(studio: Room, me: Me, task: str) -> list[DownloadTold]:
    """What can be taken home by now."""
    found = own_task(studio, me, task)
    offered = kind_of(found.kind).downloads(studio.store.task_folder(found))
    return [
        DownloadTold(
            name=one.name + (".zip" if one.path.is_dir() else ""),
            title=one.title,
            size=None if one.path.is_dir() else one.path.stat().st_size,
        )
        for one in offered
    ]


@router.get("/{task}/downloads/{name}", responses=refusals(404), response_class=Response)
def download(studio: Room, me: Me, task: str, name: str) -> Response:
    """A file; a folder comes as a ZIP archive."""
    found = own_task(studio, me, task)
    for one in kind_of(found.kind).downloads(studio.store.task_folder(found)):
        if one.path.is_dir() and name == f"{one.name}.zip":
            return _zipped(one.path, name, studio.store.scratch)
        if not one.path.is_dir() and name == one.name:
            # as a file to keep: a report's own pictures need no rights of this site
            return FileResponse(one.path, filename=name, content_disposition_type="attachment")
    raise HTTPException(404, "no such download")


def _zipped(folder: Path, name: str, home: Path) -> Response:
    place = scratch.made(home)
    gone = BackgroundTask(shutil.rmtree, place, ignore_errors=True)
    try:
        made = shutil.make_archive(str(place / "made"), "zip", folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return FileResponse(made, filename=name, media_type="application/zip", background=gone)
