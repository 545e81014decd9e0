"""Functional forms: what there is, their parameters for certain species, and how they look."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, ConfigDict, Field

from mlcore.errors import InvalidArgument
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.forms import Model, families, forms, model
from mlcore.studio.api.access import Me, refusals
from mlcore.studio.curves import Curves, curves
from mlcore.studio.kinds.allowed import check_options

router = APIRouter(prefix="/forms", tags=["functional forms"])

_USES = {
    "lj/cut": "Noble gases, coarse beads, first tries: dispersion and repulsion.",
    "lj/cut/coul/long": "Molecules and beads with charges, such as water.",
    "morse": "Pairs with a bond length, a depth and a width; simple metals and alloys.",
    "buck": "Repulsion and dispersion without charges.",
    "buck/coul/long": "Ionic crystals and oxides: repulsion, dispersion and charges.",
    "zbl": "Collisions at high energy; beside another form, in an overlay.",
    "sw": "Tetrahedral semiconductors: pairs and a penalty of angles.",
    "mw": "Water, one bead a molecule.",
    "tersoff": "Covalent crystals and layers: bonds whose strength follows their surroundings.",
    "tersoff/mod": "Silicon, solid and liquid.",
    "ml-bop": "Water, one bead a molecule, with bond order.",
    "edip": "Silicon: defects and disordered phases.",
    "vashishta": "Ceramics such as SiC and SiO2: charges, dipoles, angles, all of short reach.",
    "coul/streitz": "Oxides whose charges follow their surroundings; beside embedded atoms.",
    "eam/zhou": "Metals and alloys, many parameters.",
    "eam/finnis-sinclair": "Metals, above all bcc ones.",
    "eam/gupta": "Metals and clusters of metals, few parameters.",
    "eam/table": "A metal's known table, scaled.",
    "meam": "Metals and semiconductors whose bonds have directions.",
    "reaxff": "Chemical reactions of C, H, O; very many parameters.",
    "hybrid/overlay": "The sum of several forms.",
    "snap": "A linear machine-learned form, for much data.",
    "mliap/linear": "A linear machine-learned form, for much data.",
    "mliap/nn": "A network over the surroundings of atoms, for much data.",
}
Species = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=20)]],
    Query(min_length=1, max_length=8, description="Elements, or beads as bead:W."),
]


class FormTold(BaseModel):
    name: str
    title: str
    use: str
    """What it is good for."""
    citation: str
    species: tuple[int, int]
    """How many it takes, at least and at most."""
    elements: list[str]
    """Those it can be made for; any where empty."""
    known: list[list[str]]
    """Species for which there are values of the literature."""
    parameters: int
    """How many it has for its simplest system."""


class ParameterTold(BaseModel):
    name: str
    text: str
    unit: str
    default: float
    lower: float
    upper: float
    scale: str
    whole: bool
    """It is one of few whole numbers and never fitted."""


class KnownTold(BaseModel):
    name: str
    species: list[str]
    citation: str


class FormWhole(FormTold):
    made_for: list[str]
    masses: dict[str, float]
    options: dict[str, Any] | None
    """JSON schema, of forms that have any."""
    sets: list[KnownTold]
    """Values of the literature to begin with."""
    table: list[ParameterTold]


class Wished(BaseModel):
    model_config = ConfigDict(extra="forbid")
    species: Annotated[
        list[Annotated[str, Field(max_length=20)]], Field(min_length=1, max_length=8)
    ]
    values: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    """Parameter -> value; defaults where left out. Others are numbers that ties use."""
    ties: dict[str, Annotated[str, Field(max_length=500)]] = {}
    """Parameter -> arithmetic of others."""
    known: Annotated[str, Field(max_length=100)] | None = None
    options: dict[str, Any] | None = None


def made(name: str, species: list[str], known: str | None, options: dict[str, Any] | None) -> Model:
    """A form of this name made out for species; beads have some mass.

    Raises:
        HTTPException: 404, there is no such form.
        InvalidArgument: species, known values or options are not its.
    """
    # a name could be the path of a program, and options those of files
    if name not in forms():
        raise HTTPException(404, "no such form")
    check_options(name, options or {}, len(species))
    masses = {one.removeprefix("bead:"): 1.0 for one in species if one.startswith("bead:")}
    return model(name, species, masses, known=known or None, options=options or None)


def _told(name: str) -> dict[str, Any]:
    form = forms()[name]
    family = families().get(name)
    return {
        "name": name,
        "title": form.title if family is None else family.title,
        "use": _USES.get(name, ""),
        "citation": form.citation,
        "species": form.species if family is None else (1, 8),
        "elements": form.elements if family is None else (),
        "known": []
        if family is not None
        else list(map(list, dict.fromkeys(tuple(one.species) for one in form.known))),
        "parameters": len(form.parameters),
    }


@router.get("", responses=refusals())
def listed(me: Me) -> list[FormTold]:
    """All forms."""
    return [FormTold(**_told(name)) for name in forms()]


@router.get("/{name:path}", responses=refusals(400, 404, 409, 422))
def one(
    me: Me,
    name: str,
    species: Species,
    known: Annotated[str, Query(max_length=100)] = "",
    options: Annotated[
        str, Query(max_length=2000, description="JSON, of forms that have any.")
    ] = "",
) -> FormWhole:
    """A form made out for certain species: all its parameters."""
    found = made(name, species, known, _parsed(options))
    family = families().get(name)
    sets = [
        KnownTold(name=k.name, species=list(k.species), citation=k.citation)
        for k in found.form.known
        if set(k.species) & set(species)
    ]
    return FormWhole(
        **_told(name),
        made_for=[one.label for one in found.species],
        masses={one.name: one.mass for one in found.species},
        options=None if family is None else family.options.model_json_schema(),
        sets=sets,
        table=[
            ParameterTold(**p.model_dump(include=set(ParameterTold.model_fields)))
            for p in found.parameters
        ],
    )


def _parsed(text: str) -> dict[str, Any] | None:
    import json

    if not text:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidArgument("options: is no JSON") from None
    if not isinstance(told, dict):
        raise InvalidArgument("options: must be an object")
    return told


@router.post("/{name:path}/curve", responses=refusals(400, 404, 409, 422))
def curve(me: Me, name: str, asked: Wished) -> Curves:
    """Energies of two atoms over their distance, and of three over the angle."""
    found = made(name, asked.species, asked.known, asked.options)
    return curves(found, _tied(found, asked))


def _tied(made: Model, asked: Wished) -> dict[str, float]:
    """Values of all parameters; ties follow those they are made of."""
    own = {name: value for name, value in asked.values.items() if name in made.names}
    if not asked.ties and len(own) < len(asked.values):
        own = asked.values  # whose unknown name is told
    values = asked.values | made.complete(own)
    ties = {name: Expression(text, f"tie of {name}") for name, text in asked.ties.items()}
    unknown = next((name for name in ties if name not in made.names), None)
    if unknown is not None:
        raise InvalidArgument(f"ties: {made.form.name} has no parameter {unknown}")
    while ties:
        ready = [name for name, tie in ties.items() if not set(tie.names) & ties.keys()]
        if not ready:
            raise InvalidArgument(f"ties: {', '.join(sorted(ties))} need each other in a circle")
        for name in ready:
            tie = ties.pop(name)
            lost = next((one for one in tie.names if one not in values), None)
            if lost is not None:
                raise InvalidArgument(f"ties: nothing is called {lost}")
            values[name] = float(tie(values))
    return made.complete({name: values[name] for name in made.names})
