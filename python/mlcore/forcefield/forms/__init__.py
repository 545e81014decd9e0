"""Functional forms: records of their parameters and of what LAMMPS is told about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms.record import (
    Form,
    FormParameter,
    Interaction,
    Model,
    Species,
    Table,
)
from mlcore.forcefield.forms.stillinger_weber import STILLINGER_WEBER
from mlcore.forcefield.forms.tersoff import TERSOFF

__all__ = [
    "Form",
    "FormParameter",
    "Interaction",
    "Model",
    "Species",
    "Table",
    "form",
    "forms",
    "model",
]

_SHIPPED = (STILLINGER_WEBER, TERSOFF)


def forms() -> dict[str, Form]:
    """All forms by name."""
    return {found.name: found for found in _SHIPPED}


def form(name: str) -> Form:
    """The form called ``name``.

    Raises:
        InvalidArgument: there is none.
    """
    known = forms()
    if name not in known:
        raise InvalidArgument(f"form: nothing is called {name!r}; there are {', '.join(known)}")
    return known[name]


def model(
    name: str | Form, species: Sequence[str], masses: Mapping[str, float] | None = None
) -> Model:
    """A form made out for certain species, such as ``model("tersoff", ["Si", "C"])``.

    Args:
        name: of a form, or the form itself.
        species: names of elements, or of beads as ``"bead:W"``.
        masses: g/mol, of every bead and of elements that differ from the usual.

    Raises:
        InvalidArgument: as `form` and `Model`.
    """
    return Model(form(name) if isinstance(name, str) else name, species, masses)
