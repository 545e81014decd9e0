"""What the making of a fit needs: suggestions, searches, targets, and what it would cost."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from mlcore.studio.api.access import Me, Room, own_task, own_upload, refusals
from mlcore.studio.api.kinds import place_of, told_problems
from mlcore.studio.costing import Cost, cost
from mlcore.studio.kinds import kind_of

router = APIRouter(tags=["drafts"])
_COSTS = threading.BoundedSemaphore(2)  # a machine has few cores, and tasks run on them


class Wish(BaseModel):
    model_config = ConfigDict(extra="forbid")
    upload: Annotated[str, Field(max_length=40)]


class SuggestionTold(BaseModel):
    title: str
    config: dict[str, Any]
    notes: list[str]


class SearchTold(BaseModel):
    name: str
    text: str
    front: bool
    """It looks for a Pareto front."""
    options: dict[str, Any]
    """JSON schema."""


class TargetTold(BaseModel):
    type: str
    text: str
    tier: str
    """static: milliseconds; relaxed; md: seconds and more."""
    options: dict[str, Any]
    """JSON schema."""


class CostTold(Cost):
    budget: int
    workers: int
    whole: float | None
    """Seconds the fit is expected to take."""


@router.post("/suggestions", responses=refusals(400, 404, 409, 422))
def suggestions(studio: Room, me: Me, asked: Wish) -> SuggestionTold:
    """The config of a fit that suits a data set."""
    from mlcore.studio.kinds.outline import outline
    from mlcore.studio.kinds.suggested import suggested

    upload = own_upload(studio, me, asked.upload)
    data = outline(studio.store.upload_folder(upload) / "data")
    if data is None:
        raise HTTPException(409, f"{upload.title} is {upload.kind}; a fit needs structures")
    found = suggested(data, f"upload:{upload.id}/data")
    return SuggestionTold(title=found.title, config=found.config, notes=found.notes)


@router.get("/searches", responses=refusals())
def searches(me: Me) -> list[SearchTold]:
    """How points can be chosen."""
    from mlcore.forcefield.search import describe, names

    told = [describe(name) for name in names()]
    told.sort(key=lambda one: (one["name"] != "default", one["name"]))
    return [
        SearchTold(
            name=one["name"],
            text=one["text"],
            front=one["name"].startswith("nsga"),
            options=one["options"],
        )
        for one in told
    ]


@router.get("/targets", responses=refusals())
def targets(me: Me) -> list[TargetTold]:
    """Properties a fit can be asked for."""
    from mlcore.forcefield.config.targets import classes, sections

    known = classes()
    return [
        TargetTold(
            type=name,
            text=(section.__doc__ or "").strip(),
            tier=known[name].tier,
            options=section.model_json_schema(),
        )
        for name, section in sections().items()
    ]


@router.post("/tasks/{task}/cost", responses=refusals(400, 404, 409, 422, 429))
def measure(studio: Room, me: Me, task: str) -> CostTold:
    """Measure some evaluations of a fit, which takes seconds."""
    found = own_task(studio, me, task)
    if found.kind != "forcefield":
        raise HTTPException(409, "the cost of tasks of this kind is not measured")
    place = place_of(studio, me, found.engine, found.workers)
    kind = kind_of(found.kind)
    problems = kind.problems(found.config, place)
    if problems:
        told = [one.model_dump() for one in told_problems(problems)]
        raise HTTPException(422, {"detail": "the config cannot be run", "problems": told})
    if not _COSTS.acquire(blocking=False):
        raise HTTPException(429, "others are measured just now; try again in a while")
    folder = Path(tempfile.mkdtemp(prefix="mlcore-cost-"))
    try:
        kind.prepare(found.config, folder, place)
        measured = cost(folder)
    finally:
        _COSTS.release()
        shutil.rmtree(folder, ignore_errors=True)
    budget = int(found.config.get("run", {}).get("budget", 2000))
    workers = place.engine.count
    return CostTold(
        **measured.model_dump(),
        budget=budget,
        workers=workers,
        whole=measured.expected(budget, workers),
    )
