"""Which functional forms a config of somebody may have: a form's name could be a program's path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlcore.errors import InvalidArgument
from mlcore.forcefield.config.fit import ModelSection
from mlcore.forcefield.forms import families, forms
from mlcore.studio.kinds.face import Place, Problem

__all__ = ["check_options", "not_allowed"]

_RECORDS = (".json", ".yaml", ".yml")
_NODES, _DEGREE, _SPECIES = 64, 10, 3


def not_allowed(model: ModelSection, place: Place) -> list[Problem]:
    """What of a config's form is not run for people on a server."""
    if model.file is not None:
        if model.file.suffix.lower() not in _RECORDS:
            return [Problem("model.file", "must be a record of a form in JSON or YAML")]
        if "/" in model.form or ":" in model.form:
            return [Problem("model.form", "must be a name within the file")]
        return []
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
        told = schema.get("properties", {}).get(key, {})
        if "path" in str(told.get("description", "")).lower() and value is not None:
            _check_files(key, value, place)
        _check_parts(key, value)
    layers, degree = options.get("layers", ()), options.get("twojmax", 6)
    wide = isinstance(layers, list) and sum(n for n in layers if isinstance(n, int)) > _NODES
    high = isinstance(degree, int) and degree > _DEGREE
    if wide or high or (options.get("chem") and species > _SPECIES):
        raise InvalidArgument("options: has more parameters than are fitted here")


def _check_files(key: str, value: Any, place: Place | None) -> None:
    roots = [] if place is None else [folder.resolve() for folder in place.uploads.values()]
    for one in value if isinstance(value, list) else [value]:
        path = Path(str(one)).resolve()
        if not any(path.is_relative_to(root) for root in roots):
            raise InvalidArgument(f"options: {key}: files come from your data sets: say upload:ID")


def _check_parts(key: str, value: Any) -> None:
    parts = value.values() if key == "parts" and isinstance(value, Mapping) else ()
    parts = value if key == "parts" and isinstance(value, list) else parts
    unknown = [one for one in parts if not isinstance(one, str) or one not in forms()]
    if unknown or key == "options":
        raise InvalidArgument(f"options: {key}: parts are names of forms, without options")
