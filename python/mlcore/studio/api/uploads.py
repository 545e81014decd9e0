"""Data sets: uploaded, pulled, looked at, renamed, thrown away, taken home."""

from __future__ import annotations

import asyncio
import json
import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import select
from starlette.background import BackgroundTask

from mlcore.studio import frames, scratch, uploads
from mlcore.studio.api.access import Me, Person, Room, own_upload, refusals
from mlcore.studio.parsing import FIGURES
from mlcore.studio.receiving import Form, received
from mlcore.studio.store import Upload
from mlcore.studio.studio import Studio

router = APIRouter(prefix="/uploads", tags=["data sets"])

_GATE = uploads.Gate()
Title = Annotated[str, Field(min_length=1, max_length=200)]
_CELLS = 200_000  # of a grid that is shown
_FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "format": "binary"},
                        },
                        "title": {"type": "string", "maxLength": 200},
                        "options": {"type": "string", "description": "JSON of the options to read"},
                    },
                }
            }
        },
    }
}


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Options(Asked):
    """How files of structures are read; all is told by the files where left out."""

    group: Annotated[str, Field(max_length=100)] | None = None
    """One group for all; else each file has its own."""
    key_map: dict[str, str] | None = None
    """Where labels are, such as energy: REF_energy."""
    units: str | dict[str, str] | None = None
    """Of LAMMPS (metal, real), or of each label."""
    elements: Annotated[list[str], Field(max_length=100)] | None = None
    """Of the types of LAMMPS."""
    every: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    """Each n-th structure."""


class Pull(Asked):
    ids: Annotated[list[Annotated[str, Field(max_length=20)]], Field(min_length=1, max_length=200)]
    """Such as mp-149."""
    key: Annotated[str, Field(max_length=200)] | None = None
    """Of the Materials Project; the server's where left out. It is not kept."""
    title: Title | None = None
    corrected: bool = False
    """Energies with the project's corrections."""


class Renamed(Asked):
    title: Title


class UploadTold(BaseModel):
    id: str
    title: str
    kind: str
    created: float
    size: int
    summary: dict[str, Any]


class FlagTold(BaseModel):
    severity: str
    code: str
    message: str


class StructureTold(BaseModel):
    index: int
    name: str
    group: str
    formula: str
    atoms: int
    energy_per_atom: float | None
    volume_per_atom: float | None
    most_force: float | None
    flags: list[FlagTold]


class GridTold(BaseModel):
    shape: list[int]
    values: list[float]
    """In C order."""
    step: int
    """Each n-th cell along each axis is told."""
    frames: int


def told(upload: Upload) -> UploadTold:
    return UploadTold(**{name: getattr(upload, name) for name in UploadTold.model_fields})


def mine(studio: Studio, me: Person) -> list[Upload]:
    """All data sets of a user, newest first."""
    wanted = select(Upload).where(Upload.user_id == me.user.id)
    with studio.store.session() as session:
        return list(session.scalars(wanted.order_by(Upload.created.desc(), Upload.id)))


@router.get("", responses=refusals())
def listed(studio: Room, me: Me) -> list[UploadTold]:
    """One's data sets."""
    return [told(one) for one in mine(studio, me)]


# -- coming in -------------------------------------------------------------------------------------
@router.post(
    "", status_code=201, responses=refusals(400, 413, 422, 429, 503, 507), openapi_extra=_FORM
)
async def receive(request: Request, studio: Room, me: Me) -> UploadTold:
    """A data set of one or more files of one kind, which are read at once."""
    length = int(request.headers.get("content-length") or 0)
    limits, spare = studio.settings.limits, studio.settings.spare
    with _GATE.passed(me.user, limits):
        free = await asyncio.to_thread(_room, studio, me, length)
        with uploads.making(studio.store, me.user) as folder:
            form = await received(request, folder / uploads.RAW, limits.upload, free, spare)
            return await _read(partial(_kept, studio, me, folder, form, free))


async def _read(act: Callable[[], UploadTold]) -> UploadTold:
    return await asyncio.get_running_loop().run_in_executor(uploads.READERS, act)


def _room(studio: Studio, me: Person, coming: int) -> int:
    uploads.room_on_disk(studio.store.folder, studio.settings.spare, coming)
    return uploads.room_for(studio.store, me.user, studio.settings.limits, coming)


def _kept(studio: Studio, me: Person, folder: Path, form: Form, free: int) -> UploadTold:
    options, names = _options(form.fields.get("options")), form.files
    title = form.fields.get("title", "").strip()
    title = title or (names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more")
    if len(title) > 200:
        raise HTTPException(422, _problem("title", "should have at most 200 letters"))
    limits = studio.settings.limits
    asked = {"files": names, "options": options, "title": title}
    found = uploads.parsed(folder, asked, limits, free)
    return told(uploads.keep(studio.store, me.user, limits, folder, title, found))


def _options(text: object) -> dict[str, Any]:
    if text is None or text == "":
        return {}
    try:
        return Options.model_validate_json(str(text)).model_dump(exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        at = ".".join(["options", *map(str, first["loc"])])
        raise HTTPException(422, _problem(at, first["msg"])) from None


def _problem(field: str, message: str) -> dict[str, Any]:
    return {
        "detail": f"{field}: {message}",
        "problems": [{"field": field, "message": message}],
    }


@router.post(
    "/materials-project",
    status_code=201,
    responses=refusals(400, 413, 422, 429, 503, 507)
    | {502: {"description": "The Materials Project does not answer"}},
)
async def pull(studio: Room, me: Me, asked: Pull) -> UploadTold:
    """A data set of structures and energies of the Materials Project."""
    with _GATE.passed(me.user, studio.settings.limits):
        free = await asyncio.to_thread(_room, studio, me, 0)
        with uploads.making(studio.store, me.user) as folder:
            return await _read(partial(_pulled, studio, me, folder, asked, free))


def _pulled(studio: Studio, me: Person, folder: Path, asked: Pull, free: int) -> UploadTold:
    title = asked.title or f"Materials Project: {', '.join(asked.ids)}"[:200]
    wanted = asked.model_dump(include={"ids", "key", "corrected"}) | {"title": title}
    limits = studio.settings.limits
    found = uploads.parsed(folder, wanted, limits, free)
    return told(uploads.keep(studio.store, me.user, limits, folder, title, found))


# -- one of them -----------------------------------------------------------------------------------
@router.get("/{upload}", responses=refusals(404))
def one(studio: Room, me: Me, upload: str) -> UploadTold:
    """A data set."""
    return told(own_upload(studio, me, upload))


@router.patch("/{upload}", responses=refusals(404, 422))
def rename(studio: Room, me: Me, upload: str, asked: Renamed) -> UploadTold:
    """Give it another title."""
    found = own_upload(studio, me, upload)
    with studio.store.session() as session:
        session.get_one(Upload, found.id).title = asked.title
    return told(own_upload(studio, me, upload))


@router.delete("/{upload}", status_code=204, responses=refusals(404, 409))
def delete(studio: Room, me: Me, upload: str) -> None:
    """Throw it away; not while a task uses it."""
    uploads.discard(studio.store, own_upload(studio, me, upload))


@router.get("/{upload}/structures", responses=refusals(404, 422))
def structures(
    studio: Room,
    me: Me,
    upload: str,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    count: Annotated[int, Query(ge=1, le=500)] = 100,
    flagged: bool = False,
) -> list[StructureTold]:
    """Some of its structures; those with flags alone where ``flagged``."""
    folder = _frames(studio, me, upload)
    return [StructureTold(**row) for row in frames.rows(folder, offset, count, flagged)]


def _frames(studio: Studio, me: Person, upload: str) -> Path:
    return studio.store.upload_folder(own_upload(studio, me, upload)) / frames.FOLDER


@router.get("/{upload}/structures/{index}", responses=refusals(404, 422))
def structure(studio: Room, me: Me, upload: str, index: int) -> JSONResponse:
    """One structure: numbers, symbols, positions, cell, pbc, bonds, energy, forces."""
    folder = _frames(studio, me, upload)
    if not 0 <= index < frames.count(folder):
        raise HTTPException(404, "no such structure")
    return JSONResponse(frames.frame(folder, index))


@router.get("/{upload}/figures", responses=refusals(404))
def figures(studio: Room, me: Me, upload: str) -> JSONResponse:
    """Figures of its structures."""
    path = studio.store.upload_folder(own_upload(studio, me, upload)) / FIGURES
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return JSONResponse({"figures": found, "tables": []})


@router.get("/{upload}/grid", responses=refusals(404, 422))
def grid(
    studio: Room, me: Me, upload: str, frame: Annotated[int, Query(ge=0, le=10_000_000)] = 0
) -> GridTold:
    """One frame of a grid; a large one is thinned."""
    found = own_upload(studio, me, upload)
    if found.kind != "grid" or frame >= found.summary["frames"]:
        raise HTTPException(404, "no such grid")
    name = found.summary["files"][0]["name"]
    path = studio.store.upload_folder(found) / uploads.RAW / name
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    array = array[frame] if array.ndim > 3 else array
    array = array[0] if array.ndim > 3 else array
    step = 1
    while array[(slice(None, None, step),) * array.ndim].size > _CELLS:
        step += 1
    shown = np.asarray(array[(slice(None, None, step),) * array.ndim], dtype=float)
    return GridTold(
        shape=list(shown.shape),
        values=shown.ravel().tolist(),
        step=step,
        frames=found.summary["frames"],
    )


@router.get("/{upload}/download", responses=refusals(404), response_class=Response)
def download(studio: Room, me: Me, upload: str) -> Response:
    """The files as they came, and the data set made of them, as a ZIP archive."""
    found = own_upload(studio, me, upload)
    place = scratch.made(studio.store.scratch)
    gone = BackgroundTask(shutil.rmtree, place, ignore_errors=True)
    try:
        _packed(studio.store.upload_folder(found), place / "made.zip")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    name = f"{uploads.safe_name(found.title).partition('.')[0]}.zip"
    return FileResponse(
        place / "made.zip", filename=name, media_type="application/zip", background=gone
    )


def _packed(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as archive:
        for part in (uploads.RAW, "data"):
            for path in sorted((folder / part).rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(folder))
