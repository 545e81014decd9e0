"""What a config of somebody may have: a form's name could be a program's path, a structure endless."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.config import Config
from mlcore.forcefield.config.fit import ModelSection
from mlcore.forcefield.config.structures import Structure
from mlcore.forcefield.forms import Form, families, forms
from mlcore.forcefield.forms.files import forms_of_file
from mlcore.io.toml import wrong_fields
from mlcore.studio.kinds.face import Place, Problem
from mlcore.studio.kinds.paths import parts

__all__ = ["check_options", "not_allowed", "too_large"]

_RECORDS = (".json", ".yaml", ".yml")
_NODES, _DEGREE, _SQUARED, _SPECIES, _PARTS = 64, 10, 6, 3, 8
_BODIES = {"form": 0, "element": 1, "pair": 2, "triplet": 3}
_NUMBERS = 20_000  # parameters of a form of somebody's own
_KNOWN = 16  # species of a model
_ATOMS, _ALL = 100_000, 1_000_000  # of one structure, and of all
_CELL = 12  # atoms of the largest cell a crystal is made of
_DEEPEST = 8  # structures that use each other


def not_allowed(model: ModelSection, place: Place) -> list[Problem]:
    """What of a config's form is not run for people on a server."""
    if len(model.species) > _KNOWN:
        return [Problem("model.species", f"must be at most {_KNOWN}")]
    if model.file is not None:
        if model.file.suffix.lower() not in _RECORDS:
            return [Problem("model.file", "must be a record of a form in JSON or YAML")]
        if "/" in model.form or ":" in model.form:
            return [Problem("model.form", "must be a name within the file")]
        return _many(model.file, len(model.species))
    if model.form not in forms():
        return [
            Problem(
                "model.form", f"nothing is called {model.form!r}; see mlcore forcefield model list"
            )
        ]
    try:
        check_options(model.form, model.options, len(model.species), place)
    except InvalidArgument as problem:
        return [Problem("model.options", str(problem).removeprefix("options: "))]
    return []


def _many(file: Path, species: int) -> list[Problem]:
    try:
        found = forms_of_file(file)
    except Error:
        return []  # the making of the model tells what is wrong
    for form in found:
        slots = [p.slot for p in form.parameters] if isinstance(form, Form) else []
        if sum(species ** _BODIES[slot] for slot in slots) > _NUMBERS:
            return [Problem("model.file", f"has more than {_NUMBERS} parameters for the species")]
    return []


def check_options(
    name: str, options: Mapping[str, Any], species: int, place: Place | None = None
) -> None:
    """Options name no files but those of uploads, and ask for no form of unbounded size.

    Raises:
        InvalidArgument: naming the option.
    """
    family = families().get(name)
    if family is None or not options:
        return
    schema = family.options.model_json_schema()
    for key, value in options.items():
        about = schema.get("properties", {}).get(key, {})
        if "path" in str(about.get("description", "")).lower() and value is not None:
            _check_files(key, value, place)
        _check_parts(key, value)
    try:
        told = family.options.model_validate(dict(options))
    except ValidationError as error:
        raise InvalidArgument(f"options: {wrong_fields(error)}") from None
    _check_sizes(told, species)


def _check_sizes(told: Any, species: int) -> None:
    degree = getattr(told, "twojmax", 0)
    vast = (
        sum(getattr(told, "layers", ())) > _NODES,
        degree > (_SQUARED if getattr(told, "quadratic", False) else _DEGREE),
        getattr(told, "chem", False) and species > _SPECIES,
        len(getattr(told, "parts", ())) > _PARTS,
    )
    if any(vast):
        raise InvalidArgument("options: has more parameters than are fitted here")


def _check_files(key: str, value: Any, place: Place | None) -> None:
    roots = [] if place is None else [folder.resolve() for folder in place.uploads.values()]
    for one in value if isinstance(value, list) else [value]:
        path = Path(str(one)).resolve()
        if not any(path.is_relative_to(root) for root in roots):
            raise InvalidArgument(f"options: {key}: files come from your data sets: say upload:ID")


def _check_parts(key: str, value: Any) -> None:
    parts: Iterable[Any] = value.values() if key == "parts" and isinstance(value, Mapping) else ()
    parts = value if key == "parts" and isinstance(value, list) else parts
    unknown = [one for one in parts if not isinstance(one, str) or one not in forms()]
    if unknown or key == "options":
        raise InvalidArgument(f"options: {key}: parts are names of forms, without options")


# -- sizes -----------------------------------------------------------------------------------------
def too_large(config: Config) -> list[Problem]:
    """Structures of more atoms than are made here, told before they are made.

    Raises:
        Error: a file of structures is wrong.
    """
    whole = 0
    for at, one, copies in _structures(config, "", 1):
        largest, every = _atoms(one, config, copies)
        whole += every
        if largest > _ATOMS or whole > _ALL:
            told = f"structures have at most {_ATOMS} atoms, all together {_ALL}"
            return [Problem(at, told)]
    return []


def _structures(value: Any, at: str, copies: int) -> Iterator[tuple[str, Structure, int]]:
    """Recipes with their places, and how often a target repeats what is made."""
    if isinstance(value, Structure):
        yield at, value, copies
        return
    if isinstance(value, BaseModel):
        copies = math.prod(getattr(value, "supercell", ()))
    for where, part in parts(value, at):
        yield from _structures(part, where, copies)


def _atoms(one: Structure, config: Config, copies: int, depth: int = 0) -> tuple[int, int]:
    """Atoms of the largest structure a recipe makes, and of all; 0 of files that are taken as they are."""
    if depth > _DEEPEST:
        raise InvalidArgument(f"structures: use each other more than {_DEEPEST} deep")
    times = copies * math.prod(one.repeat) * (1 if one.surface is None else one.layers)
    if one.crystal is not None:
        return _CELL * times, _CELL * times
    if one.use is not None:
        known = config.structures.get(one.use)
        return (0, 0) if known is None else _atoms(known, config, times, depth + 1)
    largest, every = _kept(one, config) if times > 1 else (0, 0)
    return largest * times, every * times


def _kept(one: Structure, config: Config) -> tuple[int, int]:
    """Of files and data sets, which are there and so have a size."""
    from mlcore.forcefield.structures import read_group

    if one.file is not None:
        sizes = [len(atoms) for atoms in read_group(one.file).structures]
    else:
        data = config.dataset()
        sizes = [] if data is None else [len(atoms) for atoms in data.only(str(one.data))]
    largest = max(sizes, default=0)
    return largest, largest if one.index is not None else sum(sizes)
