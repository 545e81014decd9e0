"""A small fit of silicon, and tasks that are there without having been run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlcore.studio.store import State, Store, Task, User
from sqlalchemy import select

DIAMOND: dict[str, Any] = {
    "type": "cubic_crystal",
    "name": "diamond",
    "structure": {"crystal": "diamond", "a": 5.43},
    "values": {"a": 5.432, "energy": -4.63},
}
"""A target that needs no files."""

SILICON: dict[str, Any] = {
    "model": {"form": "tersoff", "species": ["Si"]},
    "parameters": {"free": {"A": {"within": 0.2}, "B": {"within": 0.2}}},
    "targets": [DIAMOND | {"values": DIAMOND["values"] | {"C11": 142, "C12": 75}}],
    "run": {"budget": 60},
}
"""A fit of some seconds."""

LONG = SILICON | {"run": {"budget": 2_000_000, "seed": 3}, "search": {"name": "cma"}}
"""A fit of more than an hour."""


def planted(
    store: Store,
    user: str,
    run: Path,
    title: str = "Planted",
    *,
    state: State = State.DONE,
    config: dict[str, Any] | None = None,
) -> str:
    """A task of somebody whose folder is that of a fit that was run before; its id."""
    with store.session() as session:
        owner = session.scalars(select(User).where(User.name == user)).one()
        task = Task(user_id=owner.id, kind="forcefield", title=title, state=state)
        task.config = SILICON if config is None else config
        session.add(task)
    shutil.copytree(run, store.task_folder(task) / "run")
    return str(task.id)
