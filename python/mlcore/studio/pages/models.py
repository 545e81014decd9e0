"""Functional forms: all of them, and one with its parameters and how it looks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from mlcore.forcefield.forms import forms
from mlcore.studio.api.access import Me, Room
from mlcore.studio.api.forms import listed
from mlcore.studio.pages.shown import shown

router = APIRouter()


@router.get("/models")
def models(request: Request, studio: Room, me: Me) -> HTMLResponse:
    """All forms."""
    return shown(request, studio, "models.html", me, forms=listed(me))


@router.get("/models/{form:path}")
def one(
    request: Request,
    studio: Room,
    me: Me,
    form: str,
    species: Annotated[list[str], Query(max_length=8)] = [],  # noqa: B006
) -> HTMLResponse:
    """A form for certain species, those of its values of the literature where none are told."""
    found = next((told for told in listed(me) if told.name == form), None)
    if found is None:
        raise HTTPException(404, "no such form")
    begin = species or (found.known[0] if found.known else list(found.elements[:3]))
    begin = begin or list(_example(form))
    return shown(request, studio, "model.html", me, form=found, species=begin)


def _example(form: str) -> tuple[str, ...]:
    from mlcore.forcefield.forms import families

    known = families()
    assert form in forms()
    return known[form].example if form in known else ("Si",)
