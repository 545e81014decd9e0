"""All forms by name: those shipped here, those of installed packages, those of the user's files."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlcore.errors import BackendUnavailable, InvalidArgument
from mlcore.forcefield.forms.family import Family
from mlcore.forcefield.forms.files import forms_of_file
from mlcore.forcefield.forms.record import Form, Model

__all__ = ["families", "form", "forms", "model"]

_ROOM = "mlcore.forcefield.forms"
_SHIPPED = {
    "pairs": ("LJ_CUT", "LJ_CUT_COUL_LONG", "MORSE", "BUCK", "BUCK_COUL_LONG", "ZBL"),
    "stillinger_weber": ("STILLINGER_WEBER", "MW"),
    "tersoff": ("TERSOFF", "TERSOFF_MOD", "ML_BOP"),
    "ceramics": ("EDIP", "VASHISHTA", "STREITZ"),
    "metals": ("ZHOU", "FINNIS_SINCLAIR", "GUPTA"),
    "eam_table": ("TABLE",),
    "meam": ("MEAM",),
    "reaxff": ("REAXFF",),
    "overlay": ("OVERLAY",),
    "snap": ("SNAP", "MLIAP_LINEAR", "MLIAP_NN"),
}
ENTRY_POINTS = "mlcore.forms"
FOLDERS = "MLCORE_FORMS"
_RECORDS = (".json", ".yaml", ".yml")


def forms() -> dict[str, Form]:
    """All forms by name; those of a family as its example.

    Shipped forms, those of the entry points ``mlcore.forms``, and those of the files and folders
    the environment variable ``MLCORE_FORMS`` names (parted by ``:``).

    Raises:
        InvalidArgument: two forms of one name, or a record that is none.
        FileFormatError: a file that cannot be read.
    """
    found: dict[str, Form] = {}
    for name, one in _known().items():
        if isinstance(one, Form):
            found[name] = one
            continue
        try:
            found[name] = _example(one)
        except BackendUnavailable:
            # its example is a file of LAMMPS, which is not installed
            continue
    return found


@functools.cache
def _example(family: Family) -> Form:
    return family.form(family.example)


def families() -> dict[str, Family]:
    """The families by name."""
    return {name: one for name, one in _known().items() if isinstance(one, Family)}


def form(name: str, species: Sequence[str] = (), options: Mapping[str, Any] | None = None) -> Form:
    """The form called ``name``.

    Args:
        name: of a form, or the path of a file that holds one: a JSON or YAML record, which is
            data, or a Python file, which is run. ``"FILE:NAME"`` where it holds several.
        species: labels of those it is for; of a family only.
        options: of a family only.

    Raises:
        InvalidArgument: there is none of that name, or the options are not its.
        FileFormatError: the file holds none.
    """
    one = _found(str(name))
    if isinstance(one, Family):
        return one.form(species or one.example, options)
    if options:
        raise InvalidArgument(f"options: {one.name} has none, got {', '.join(options)}")
    return one


def model(
    name: str | Form,
    species: Sequence[str],
    masses: Mapping[str, float] | None = None,
    *,
    known: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Model:
    """A form made out for certain species, such as ``model("tersoff", ["Si", "C"])``.

    Args:
        name: of a form, a path as in `form`, or the form itself.
        species: names of elements, or of beads as ``"bead:W"``.
        masses: g/mol, of every bead and of elements that differ from the usual.
        known: name of the literature's values to start from.
        options: of a family, such as ``{"source": "ffield.reax.cho"}``.

    Raises:
        InvalidArgument: as `form` and `Model`.
    """
    if isinstance(species, str) or not isinstance(species, Sequence):
        raise InvalidArgument(f"species must be a list of names, got {species!r}")
    made = name if isinstance(name, Form) else form(name, species, options)
    return Model(made, species, masses, known)


def _found(name: str) -> Form | Family:
    known = _known()
    if name in known:
        return known[name]
    path, _, inner = name.partition(":")
    if path.endswith((*_RECORDS, ".py")):
        there = {one.name: one for one in forms_of_file(Path(path))}
        if not inner and len(there) == 1:
            return next(iter(there.values()))
        if inner in there:
            return there[inner]
        raise InvalidArgument(f"form: {path} holds {', '.join(there)}; say {path}:NAME")
    raise InvalidArgument(f"form: nothing is called {name!r}; there are {', '.join(known)}")


def _known() -> dict[str, Form | Family]:
    found = dict(_shipped())
    for where, one in (*_of_packages(), *_of_user()):
        if one.name in found:
            raise InvalidArgument(f"{where}: a form called {one.name} is there already")
        found[one.name] = one
    return found


@functools.cache
def _shipped() -> dict[str, Form | Family]:
    found = [
        getattr(importlib.import_module(f"{_ROOM}.{file}"), name)
        for file, names in _SHIPPED.items()
        for name in names
    ]
    return {one.name: one for one in found}


@functools.cache
def _of_packages() -> tuple[tuple[str, Form | Family], ...]:
    found: list[tuple[str, Form | Family]] = []
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        where = f"entry point {entry.name} ({entry.value})"
        try:
            told = entry.load()
            if callable(told) and not isinstance(told, (Form, Family)):
                told = told()
            several = [told] if isinstance(told, (Form, Family)) else list(told)
            if not all(isinstance(one, (Form, Family)) for one in several):
                raise InvalidArgument("is no form and no list of forms")
        # a broken package must not keep the other forms away
        except Exception as error:
            warnings.warn(f"{where} was left out: {error}", stacklevel=2)
            continue
        found += [(where, one) for one in several]
    return tuple(found)


def _of_user() -> Iterable[tuple[str, Form | Family]]:
    for part in os.environ.get(FOLDERS, "").split(os.pathsep):
        if not part:
            continue
        path = Path(part)
        if not path.exists():
            raise InvalidArgument(f"{FOLDERS}: {part} does not exist")
        inside = sorted(p for p in path.iterdir() if p.suffix in _RECORDS) if path.is_dir() else []
        for file in inside if path.is_dir() else [path]:
            yield from ((str(file), one) for one in forms_of_file(file))
