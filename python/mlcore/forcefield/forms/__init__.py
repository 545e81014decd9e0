"""Functional forms: records of their parameters and of what LAMMPS is told about them."""

from __future__ import annotations

from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.kinds import form_of, schema
from mlcore.forcefield.forms.overlay import overlay
from mlcore.forcefield.forms.record import (
    Form,
    FormParameter,
    Interaction,
    Known,
    Model,
    Species,
    Table,
)
from mlcore.forcefield.forms.registry import families, form, forms, model

__all__ = [
    "Family",
    "Form",
    "FormParameter",
    "Interaction",
    "Known",
    "Model",
    "Options",
    "Species",
    "Table",
    "families",
    "form",
    "form_of",
    "forms",
    "model",
    "overlay",
    "schema",
]
