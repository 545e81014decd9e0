"""Forms made from files: each number of the file becomes a parameter, the rest of it stays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms.family import Family
from mlcore.forcefield.forms.record import Form, Known, Model

__all__ = ["Document", "around", "known_of"]


class Document(Form):
    """A form whose files are those of others with holes for their numbers.

    Attributes:
        family: that makes such forms, and so reads such files.
    """

    kind: Literal["document"] = "document"
    family: Literal["meam", "reaxff"]

    def _check_kind(self) -> None:
        if not self.files:
            raise ValueError("files: there is none")

    def read(self, model: Model, *paths: Path) -> dict[str, float]:
        options = _options(self.family, paths)
        labels = [s.label for s in model.species]
        masses = {s.name: s.mass for s in model.species}
        other = Model(_family(self.family).form(labels, options), labels, masses)
        if set(other.names) != set(model.names):
            odd = sorted(set(other.names) ^ set(model.names))
            where = "lacks" if odd[0] in model.names else "has"
            raise FileFormatError(f"{paths[0]}: {where} {odd[0]}, unlike the model's form")
        return {name: other.defaults[name] for name in model.names}


def around(value: float) -> tuple[float, float]:
    """A range for a number of which nothing but its value is known."""
    room = 0.5 * abs(value) or 1.0
    return value - room, value + room


def known_of(name: str, species: tuple[str, ...], values: Mapping[str, Any]) -> Known:
    """The values of a file."""
    return Known(name=name, species=species, values=dict(values))


def _options(family: str, paths: tuple[Path, ...]) -> dict[str, str]:
    names = {"reaxff": ("source",), "meam": ("library", "parameters")}[family]
    if not 1 <= len(paths) <= len(names):
        raise InvalidArgument(f"path: {family} is read from {' and '.join(names)}")
    return {name: str(path) for name, path in zip(names, paths, strict=False)}


def _family(name: str) -> Family:
    from mlcore.forcefield.forms.meam import MEAM
    from mlcore.forcefield.forms.reaxff import REAXFF

    return {"meam": MEAM, "reaxff": REAXFF}[name]
