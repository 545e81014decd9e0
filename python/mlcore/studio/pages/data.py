"""Data sets: all of them, and one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from mlcore.studio.api.access import Me, Room, own_upload
from mlcore.studio.api.uploads import mine
from mlcore.studio.pages.shown import shown
from mlcore.studio.store import Upload

router = APIRouter()


@router.get("/data")
def everything(request: Request, studio: Room, me: Me) -> HTMLResponse:
    """All data sets, and places to drop new ones."""
    found = [(one, in_words(one)) for one in mine(studio, me)]
    return shown(
        request, studio, "data.html", me, uploads=found, most=studio.settings.limits.upload
    )


@router.get("/data/{upload}")
def one(request: Request, studio: Room, me: Me, upload: str) -> HTMLResponse:
    """A data set."""
    from mlcore.forcefield.structures.dataset import read_manifest

    found = own_upload(studio, me, upload)
    folder = studio.store.upload_folder(found) / "data"
    groups = read_manifest(folder).groups if folder.is_dir() else ()
    words = in_words(found)
    return shown(request, studio, "dataset.html", me, upload=found, words=words, groups=groups)


def in_words(upload: Upload) -> str:
    """What is in a data set, in a line."""
    known: dict[str, Any] = upload.summary
    if upload.kind in ("structures", "trajectory"):
        what = "structures" if upload.kind == "structures" else "frames"
        return f"{known['structures']} {what} of {' '.join(known['elements'])}"
    if upload.kind == "targets":
        return f"{known['rows']} target values"
    if upload.kind == "grid":
        return f"{' × '.join(map(str, known['shape']))} {known['dtype']}"
    if upload.kind == "runs":
        return f"{known['runs']} runs of {known['particles']} particles, {known['system']}"
    return str(known.get("format") or "config")
