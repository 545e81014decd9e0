"""Tasks side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from mlcore.studio.api.access import Me, Person, Room, own_task, refusals
from mlcore.studio.api.tasks import TaskTold, told
from mlcore.studio.figures import table
from mlcore.studio.kinds.fit_compare import fits_compared
from mlcore.studio.store import Task
from mlcore.studio.studio import Studio

router = APIRouter(tags=["tasks"])

MOST = 8
_LONGEST = 30  # characters of a title in figures


class Comparison(BaseModel):
    tasks: list[TaskTold]
    names: list[str]
    """Of the tasks in figures and tables, in the same order."""
    figures: list[dict[str, Any]]
    tables: list[dict[str, Any]]


@router.get("/compare", responses=refusals(404, 409, 422))
def compare(
    studio: Room,
    me: Me,
    task: Annotated[
        list[Annotated[str, Query(max_length=40)]], Query(min_length=2, max_length=MOST)
    ],
) -> Comparison:
    """Two or more of one's tasks: what they have come to, what differs in what they were told."""
    return compared(studio, me, task)


def compared(studio: Studio, me: Person, ids: Sequence[str]) -> Comparison:
    """Figures of fits over each other; of all tasks a table of facts and of settings that differ."""
    tasks = [own_task(studio, me, one) for one in dict.fromkeys(ids)]
    names = _names(tasks)
    fits = {
        name: studio.store.task_folder(task) / "run"
        for name, task in zip(names, tasks, strict=True)
        if task.kind == "forcefield"
    }
    found = fits_compared(fits) if fits else {"figures": [], "tables": [], "facts": []}
    facts = table("facts", "Facts", ["", *names], _facts(tasks, names, list(fits), found["facts"]),
                  section="Facts")  # fmt: skip
    return Comparison(
        tasks=[told(task) for task in tasks],
        names=names,
        figures=found["figures"],
        tables=[facts, *_settings(tasks, names), *found["tables"]],
    )


def _names(tasks: Sequence[Task]) -> list[str]:
    """Titles, told apart where they are the same."""
    made: list[str] = []
    for task in tasks:
        short = task.title if len(task.title) <= _LONGEST else f"{task.title[:_LONGEST]}…"
        known = sum(name == short or name.startswith(f"{short} (") for name in made)
        made.append(f"{short} ({known + 1})" if known else short)
    return made


def _facts(
    tasks: Sequence[Task], names: Sequence[str], fits: Sequence[str], more: Sequence[Sequence[Any]]
) -> list[list[Any]]:
    rows: list[list[Any]] = [
        ["state", *(task.state.value for task in tasks)],
        ["time, s", *(round(task.running_seconds, 1) for task in tasks)],
        ["CPU time, s", *(round(task.cpu_seconds, 1) for task in tasks)],
        ["workers", *(f"{task.workers} × {task.engine}" for task in tasks)],
    ]
    for word, *values in more:
        own = dict(zip(fits, values, strict=True))
        rows.append([word, *(own.get(name) for name in names)])
    others = [{} if name in fits else task.facts for name, task in zip(names, tasks, strict=True)]
    for word in dict.fromkeys(word for own in others for word in own):
        rows.append([word, *(_plain(own.get(word)) for own in others)])
    return rows


def _settings(tasks: Sequence[Task], names: Sequence[str]) -> list[dict[str, Any]]:
    """Fields of configs that are not the same in all."""
    flat = [dict(_flat(task.config)) for task in tasks]
    rows = []
    for field in dict.fromkeys(field for own in flat for field in own):
        values = [own.get(field) for own in flat]
        if any(value != values[0] for value in values):
            rows.append([field, *map(_plain, values)])
    if not rows:
        rows = [["none", *("" for _ in names)]]
    return [table("settings", "Settings that differ", ["setting", *names], rows, section="Facts")]


def _flat(config: Any, at: str = "") -> list[tuple[str, Any]]:
    inner: Sequence[tuple[object, Any]] = ()
    if isinstance(config, Mapping):
        inner = list(config.items())
    elif isinstance(config, list) and any(isinstance(one, Mapping) for one in config):
        inner = list(enumerate(config))
    if not inner:
        return [(at, config)]
    return [one for name, part in inner for one in _flat(part, f"{at}.{name}" if at else str(name))]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value)[:200]
