"""The library: potentials that fits found and people published, with their cards."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from sqlalchemy import select
from starlette.background import BackgroundTask

from mlcore.errors import InvalidArgument
from mlcore.forcefield import library as room
from mlcore.forcefield.export import CARD, SNIPPET, Card, read_card
from mlcore.io import write_text
from mlcore.io.lock import locked
from mlcore.studio import scratch
from mlcore.studio.api.access import Me, Person, Room, own_task, refusals
from mlcore.studio.store import State, User
from mlcore.studio.studio import Studio

router = APIRouter(tags=["library"])

PUBLISHERS = "publishers.json"
"""In the folder of the library: name -> who published it, from which task, when."""
_LOCK = ".publishers.lock"
_NAME = "letters, digits and . _ + - make a name, up to 100 of them"
Line = Annotated[str, StringConstraints(max_length=1000)]


class Publication(BaseModel):
    """What a fit cannot know of its potential."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=200)]
    """In the library."""
    title: Line
    """What it is, in a line."""
    license: Line
    """Such as CC-BY-4.0."""
    authors: Annotated[list[Line], Field(max_length=100)]
    citation: Annotated[list[Line], Field(max_length=100)] = []
    """What users should cite; that of the form where left out."""


class PotentialTold(BaseModel):
    name: str
    title: str
    form: str
    species: list[str]
    authors: list[str]
    citation: list[str]
    license: str
    created: str
    size: int
    """Bytes of all its files."""
    publisher: str | None
    published: float | None
    mine: bool
    """Whether one may withdraw it."""


class FileTold(BaseModel):
    name: str
    size: int
    sha256: str


class PotentialWhole(PotentialTold):
    card: dict[str, Any]
    """Provenance, errors, validity, values: as mlcore.forcefield.export describes them."""
    files: list[FileTold]
    snippet: str
    """Input of LAMMPS."""


@router.get("/library", responses=refusals(409, 422))
def listed(
    studio: Room,
    me: Me,
    text: Annotated[str, Query(max_length=200)] = "",
    element: Annotated[str, Query(max_length=200)] = "",
    form: Annotated[str, Query(max_length=100)] = "",
) -> list[PotentialTold]:
    """Published potentials: words of its title, authors, citation; all of some elements; a form."""
    return found(studio, me, text, element, form)


def found(
    studio: Studio, me: Person, text: str = "", element: str = "", form: str = ""
) -> list[PotentialTold]:
    """Potentials of the studio's library."""
    if not (studio.store.library / room.INDEX).is_file():
        return []
    species = element.replace(",", " ").split()
    entries = room.search(studio.store.library, species=species, form=form or None, text=text)
    known, names = _publishers(studio), _names(studio)
    return [PotentialTold(**_facts(one, known.get(one.name, {}), names, me)) for one in entries]


@router.get("/library/{name}", responses=refusals(404, 409))
def one(studio: Room, me: Me, name: str) -> PotentialWhole:
    """A potential with its card."""
    return whole(studio, me, name)


def whole(studio: Studio, me: Person, name: str) -> PotentialWhole:
    """All that is known of a potential; 404 where there is none."""
    entry = _entry(studio, name)
    folder = studio.store.library / entry.name
    told = _publishers(studio).get(entry.name, {})
    return PotentialWhole(
        **_facts(entry, told, _names(studio), me),
        card=read_card(folder / CARD).model_dump(mode="json"),
        files=[FileTold(name=n, size=f.bytes, sha256=f.sha256) for n, f in entry.files.items()],
        snippet=(folder / SNIPPET).read_text(encoding="utf-8")[: 1 << 16],
    )


@router.get("/library/{name}/download", responses=refusals(404, 409), response_class=Response)
def download(studio: Room, me: Me, name: str) -> Response:
    """Its folder, checked against the hashes of the index, as a ZIP archive."""
    entry = _entry(studio, name)
    place = scratch.made(studio.store.scratch)
    gone = BackgroundTask(shutil.rmtree, place, ignore_errors=True)
    try:
        folder = room.download(entry.name, studio.store.library, place / entry.name)
        made = shutil.make_archive(str(place / "made"), "zip", folder)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    file = f"{entry.name}.zip"
    return FileResponse(made, filename=file, media_type="application/zip", background=gone)


@router.post("/tasks/{task}/publish", status_code=201, responses=refusals(404, 409, 422))
def publish(studio: Room, me: Me, task: str, asked: Publication) -> PotentialTold:
    """Put the potential of a fit that is done into the library."""
    mine = own_task(studio, me, task)
    folder = studio.store.task_folder(mine) / "run" / "model"
    if mine.kind != "forcefield" or mine.state is not State.DONE or not (folder / CARD).is_file():
        raise HTTPException(409, "only the potential of a fit that is done can be published")
    library = studio.store.library
    library.mkdir(parents=True, exist_ok=True)
    card = _carded(read_card(folder / CARD), asked)
    with scratch.making(studio.store.scratch) as place, locked(library, _LOCK):
        for name in card.files:
            shutil.copyfile(folder / name, place / name)
        content = json.dumps(card.model_dump(mode="json"), indent=1, allow_nan=False)
        (place / CARD).write_text(content + "\n", encoding="utf-8")
        try:
            entry = room.publish(place, library)
        except InvalidArgument as error:
            if "is there already" not in str(error):
                raise
            raise _wrong({"name": "there is a potential of this name already"}) from None
        told = {"user": me.user.id, "task": mine.id, "time": time.time()}
        _record(library, {**_publishers(studio), entry.name: told})
    return PotentialTold(**_facts(entry, told, _names(studio), me))


@router.delete("/library/{name}", status_code=204, responses=refusals(404, 409))
def withdraw(studio: Room, me: Me, name: str) -> None:
    """Take a potential out of the library; for who published it, and administrators."""
    entry = _entry(studio, name)
    library = studio.store.library
    with locked(library, _LOCK):
        known = _publishers(studio)
        if not _may(known.get(entry.name, {}), me):
            raise HTTPException(403, "only who published it may withdraw it")
        room.withdraw(entry.name, library)
        _record(library, {k: v for k, v in known.items() if k != entry.name})


# ----------------------------------------------------------------------------------------- the card
def _carded(card: Card, asked: Publication) -> Card:
    """The card of a fit with what people say of it.

    Raises:
        HTTPException: 422, each field with what is wrong with it.
    """
    said = {
        "name": asked.name,
        "title": asked.title.strip(),
        "license": asked.license.strip(),
        "citation": _lines(asked.citation) or card.citation,
    }
    authors = {"authors": _lines(asked.authors)}
    told = card.model_dump() | said
    told = {**told, "provenance": told["provenance"] | authors}
    wrong = {}
    try:
        made = Card.model_validate(told)
    except ValidationError as error:
        for one in error.errors():
            field = str(one["loc"][0])
            wrong[field] = _NAME if field == "name" else one["msg"]
        # of a card that is sound but for those fields, so that all is told at once
        made = Card.model_validate(told | {field: getattr(card, field) for field in wrong})
    for words in made.missing():
        field, _, rest = words.partition(" ")
        wrong.setdefault(field.removeprefix("provenance."), f"is missing: {rest.strip('()')}")
    if wrong:
        raise _wrong(wrong)
    return made


def _lines(told: list[str]) -> tuple[str, ...]:
    return tuple(line.strip() for line in told if line.strip())


def _wrong(problems: Mapping[str, str]) -> HTTPException:
    told = [{"field": field, "message": message} for field, message in problems.items()]
    return HTTPException(422, {"detail": "some fields are wrong", "problems": told})


# --------------------------------------------------------------------------------------- publishers
def _publishers(studio: Studio) -> dict[str, dict[str, Any]]:
    try:
        text = (studio.store.library / PUBLISHERS).read_text(encoding="utf-8")
        told: dict[str, dict[str, Any]] = json.loads(text)
    except FileNotFoundError:
        return {}
    return told


def _record(library: Path, told: Mapping[str, Any]) -> None:
    write_text(library / PUBLISHERS, json.dumps(told, indent=1) + "\n")


def _names(studio: Studio) -> dict[str, str]:
    with studio.store.session() as session:
        return {row[0]: row[1] for row in session.execute(select(User.id, User.name))}


def _may(told: Mapping[str, Any], me: Person) -> bool:
    return me.user.admin or told.get("user") == me.user.id


def _entry(studio: Studio, name: str) -> room.Entry:
    told = (studio.store.library / room.INDEX).is_file()
    entries = room.search(studio.store.library) if told else []
    for entry in entries:
        if entry.name == name:
            return entry
    raise HTTPException(404, "no such potential")


def _facts(
    entry: room.Entry, told: Mapping[str, Any], names: Mapping[str, str], me: Person
) -> dict[str, Any]:
    return {
        **entry.model_dump(exclude={"files"}),
        "size": sum(file.bytes for file in entry.files.values()),
        "publisher": names.get(told.get("user", "")),
        "published": told.get("time"),
        "mine": _may(told, me),
    }
