"""Functional forms as data, and models: a form made out for certain species.

A form is a record: its parameters with units and ranges, and how LAMMPS is told about them. What
is told are Jinja2 templates, which see

    species            the names, in the order of LAMMPS' atom types
    form               the parameters without a slot, by name
    elements           one entry for each species:        .type .name .mass and parameters by name
    pairs              one for each unordered pair:       .i .j (types) .names and parameters
    triplets           one for each ordered triplet:      .i .j .k .names and parameters

or, where LAMMPS reads a table of rows, a `Table`, which is written without a template.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.parameters import Parameter

__all__ = ["Form", "FormParameter", "Interaction", "Model", "Species", "Table"]

Slot = Literal["form", "element", "pair", "triplet"]
_BODIES: dict[Slot, int] = {"form": 0, "element": 1, "pair": 2, "triplet": 3}


class FormParameter(Parameter):
    """A parameter of a form, and what there is one of it for."""

    slot: Slot = "form"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Table(_Part):
    """A file of rows, each the names of its species and the numbers of ``columns``.

    Attributes:
        file: its name.
        slot: what there is a row for.
        columns: parameters, in order.
    """

    file: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
    slot: Literal["pair", "triplet"]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Species:
    """A chemical element, or a bead that stands for several atoms.

    Attributes:
        name: as structures and files call it.
        mass: g/mol.
        bead: it is no element.
    """

    name: str
    mass: float
    bead: bool = False


@dataclass(frozen=True)
class Interaction:
    """What LAMMPS is told about one candidate.

    Attributes:
        pair_style: the line that chooses the style.
        pair_coeff: the lines that follow, naming ``files`` by their bare names.
        files: name -> content.
        commands: further lines, such as charges and ``kspace_style``.
        cutoff: largest distance over which atoms feel each other, A.
        atom_style: ``atomic`` or ``charge``.
    """

    pair_style: str
    pair_coeff: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    cutoff: float = 0.0
    atom_style: str = "atomic"


class Form(_Part):
    """A functional form.

    Attributes:
        name: what it is called here, such as ``tersoff``.
        title: in a few words.
        citation: the paper it is from.
        parameters: with units and default ranges.
        pair_style, pair_coeff, commands: what LAMMPS is told, as templates.
        files: name -> template.
        table: a file of rows instead.
        cutoff: arithmetic of parameters of one slot; the largest over all its entries counts.
        atom_style: LAMMPS' ``atom_style``.
        known: values from the literature for certain species, by their names joined by ``_``.
        species: how many it takes, at least and at most.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9/_+-]*$")
    title: str
    citation: str = ""
    parameters: tuple[FormParameter, ...]
    pair_style: str
    pair_coeff: tuple[str, ...]
    commands: tuple[str, ...] = ()
    files: dict[str, str] = {}
    table: Table | None = None
    cutoff: str
    atom_style: Literal["atomic", "charge"] = "atomic"
    known: dict[str, dict[str, float]] = {}
    species: tuple[int, int] = (1, 8)

    @field_validator("parameters")
    @classmethod
    def _names_differ(cls, parameters: tuple[FormParameter, ...]) -> tuple[FormParameter, ...]:
        names = [p.name for p in parameters]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return parameters

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = {p.name for p in self.parameters}
        uses = {"cutoff": set(Expression(self.cutoff, "cutoff").names)}
        uses["table"] = set(self.table.columns) if self.table else set()
        for what, used in uses.items():
            if used - names:
                raise ValueError(f"{what}: no parameter {', '.join(sorted(used - names))}")
        return self

    def entries(self, species: Sequence[Species], slot: Slot) -> list[tuple[int, ...]]:
        """Indices of species of everything there is one of ``slot`` for."""
        count = range(len(species))
        if slot == "pair":
            return list(itertools.combinations_with_replacement(count, 2))
        return list(itertools.product(count, repeat=_BODIES[slot]))

    def render(self, model: Model, values: Mapping[str, float]) -> Interaction:
        """What LAMMPS is told of ``values``; forms of other kinds do it their own way."""
        files = {self.table.file: self._rows(model, values)} if self.table else {}
        context: dict[str, Any] = {}
        if _templates(self):
            context = self._context(model, values)
        files |= {name: _fill(text, context) for name, text in self.files.items()}
        return Interaction(
            pair_style=_fill(self.pair_style, context),
            pair_coeff=tuple(_lines(self.pair_coeff, context, model)),
            files=files,
            commands=tuple(_lines(self.commands, context, model)),
            cutoff=self.reach(model, values),
            atom_style=self.atom_style,
        )

    def reach(self, model: Model, values: Mapping[str, float]) -> float:
        """The largest cutoff of ``values``, A; NaN where there is none."""
        cutoff = _expression(self.cutoff)
        bodies = max((_BODIES[self._slot(name)] for name in cutoff.names), default=0)
        slot = next(s for s, n in _BODIES.items() if n == bodies)
        found = []
        for entry in self.entries(model.species, slot):
            local = {
                n: values[model.name(n, entry[: _BODIES[self._slot(n)]])] for n in cutoff.names
            }
            found.append(float(cutoff(local)))
        return max(found) if all(math.isfinite(f) for f in found) else math.nan

    def read(self, model: Model, path: Path) -> dict[str, float]:
        """Values of all parameters of ``model`` in a file LAMMPS reads."""
        if self.table is None:
            raise InvalidArgument(f"{self.name} keeps its parameters in no file of their own")
        bodies = _BODIES[self.table.slot]
        rows = _read_rows(path, bodies, len(self.table.columns))
        values = model.defaults
        for entry in self.entries(model.species, self.table.slot):
            key = tuple(model.species[k].name for k in entry)
            if key not in rows:
                raise FileFormatError(f"{path}: no row for {' '.join(key)}")
            for column, value in zip(self.table.columns, rows[key], strict=True):
                values[model.name(column, entry)] = value
        return values

    def _rows(self, model: Model, values: Mapping[str, float]) -> str:
        assert self.table is not None
        lines = [f"# UNITS: metal  {self.title}", f"# {' '.join(self.table.columns)}"]
        for entry, keys in model.rows:
            names = " ".join(model.species[k].name for k in entry)
            lines.append(f"{names} {' '.join(repr(float(values[key])) for key in keys)}")
        return "\n".join(lines) + "\n"

    def _slot(self, name: str) -> Slot:
        return next(p.slot for p in self.parameters if p.name == name)

    def _context(self, model: Model, values: Mapping[str, float]) -> dict[str, Any]:
        of_slot: dict[Slot, list[str]] = {slot: [] for slot in _BODIES}
        for p in self.parameters:
            of_slot[p.slot].append(p.name)

        def entries(slot: Slot) -> Iterable[dict[str, Any]]:
            for entry in self.entries(model.species, slot):
                own = {n: float(values[model.name(n, entry)]) for n in of_slot[slot]}
                names = [model.species[k].name for k in entry]
                types = dict(zip("ijk", (k + 1 for k in entry), strict=False))
                yield {**own, **types, "names": names}

        elements = [
            entry | {"type": entry["i"], "name": s.name, "mass": s.mass}
            for entry, s in zip(entries("element"), model.species, strict=True)
        ]
        return {
            "species": [s.name for s in model.species],
            "form": {n: float(values[n]) for n in of_slot["form"]},
            "elements": elements,
            "pairs": list(entries("pair")),
            "triplets": list(entries("triplet")),
        }


class Model:
    """A form made out for certain species.

    Args:
        form: the record.
        species: names of elements, or of beads as ``"bead:W"``, in the order of LAMMPS' types.
        masses: g/mol, of every bead and of elements that differ from the usual.

    Attributes:
        parameters: all of them; those of a slot are named ``c`` for one species, ``c_Si_C_C`` for
            more.
        defaults: their values where nothing else is said.

    Raises:
        InvalidArgument: an unknown element, a bead without a mass, the same name twice, more
            species than the form takes.
    """

    def __init__(
        self,
        form: Form,
        species: Sequence[str],
        masses: Mapping[str, float] | None = None,
    ) -> None:
        self.form = form
        self.species = _species(form, species, masses or {})
        self._own = {p.name: p for p in form.parameters}
        self.parameters = tuple(self._made_out())
        self.names = tuple(p.name for p in self.parameters)

    def __repr__(self) -> str:
        return f"Model({self.form.name!r}, {[s.name for s in self.species]})"

    @property
    def defaults(self) -> dict[str, float]:
        return {p.name: p.default for p in self.parameters}

    @functools.cached_property
    def rows(self) -> list[tuple[tuple[int, ...], list[str]]]:
        """Indices of species and names of parameters of every row of the form's table."""
        table = self.form.table
        if table is None:
            return []
        entries = self.form.entries(self.species, table.slot)
        return [(entry, [self.name(c, entry) for c in table.columns]) for entry in entries]

    def name(self, parameter: str, entry: Sequence[int]) -> str:
        """What ``parameter`` is called for the species ``entry``."""
        if len(self.species) == 1 or not entry:
            return parameter
        return "_".join([parameter, *(self.species[k].name for k in entry)])

    def complete(self, values: Mapping[str, float]) -> dict[str, float]:
        """``values`` with defaults for what they leave out.

        Raises:
            InvalidArgument: a name that is no parameter, or a value that is no finite number.
        """
        found = self.defaults
        for name, value in values.items():
            if name not in found:
                raise InvalidArgument(
                    f"values: {self.form.name} has no parameter {name}; it has "
                    f"{', '.join(self.names[:30])}"
                )
            if not math.isfinite(value):
                raise InvalidArgument(f"values: {name} must be finite, got {value}")
            found[name] = float(value)
        return found

    def render(self, values: Mapping[str, float]) -> Interaction:
        """What LAMMPS is told of ``values`` (every parameter; others are ignored)."""
        return self.form.render(self, values)

    def read(self, path: str | Path) -> dict[str, float]:
        """Values of all parameters in a file LAMMPS reads.

        Raises:
            FileFormatError: the file is no such file, or a species is missing in it.
            InvalidArgument: the form keeps its parameters in no file.
        """
        return self.form.read(self, Path(path))

    def _made_out(self) -> Iterable[Parameter]:
        for own in self.form.parameters:
            for entry in self.form.entries(self.species, own.slot):
                yield self._one(own, entry)

    def _one(self, own: FormParameter, entry: tuple[int, ...]) -> Parameter:
        key = "_".join(self.species[k].name for k in entry)
        told = own.model_dump(exclude={"slot"}) | {"name": self.name(own.name, entry)}
        value = self.form.known.get(key, {}).get(own.name)
        if value is not None:
            told["default"] = value
            told["lower"], told["upper"] = min(own.lower, value), max(own.upper, value)
        return Parameter(**told)


def _species(form: Form, names: Sequence[str], masses: Mapping[str, float]) -> tuple[Species, ...]:
    if isinstance(names, str):
        raise InvalidArgument(f"species must be a list of names, got the text {names!r}")
    least, most = form.species
    if not least <= len(names) <= most:
        raise InvalidArgument(f"species: {form.name} takes {least} to {most}, got {len(names)}")
    found = tuple(_one_species(name, masses) for name in names)
    bare = [s.name for s in found]
    for name in bare:
        if bare.count(name) > 1:
            raise InvalidArgument(f"species: {name} is named twice")
    for name in masses:
        if name not in bare:
            raise InvalidArgument(f"masses: {name} is none of the species {', '.join(bare)}")
    return found


def _one_species(name: str, masses: Mapping[str, float]) -> Species:
    from ase.data import atomic_masses, atomic_numbers

    bead = name.startswith("bead:")
    bare = name.removeprefix("bead:")
    if not bare.isalnum() or not bare[0].isalpha():
        raise InvalidArgument(f"species: {name!r} must be letters and digits after a letter")
    if not bead and bare not in atomic_numbers:
        raise InvalidArgument(f"species: {name!r} is no element; a bead is named 'bead:{bare}'")
    if bead and bare not in masses:
        raise InvalidArgument(f"masses: the bead {bare} needs one, in g/mol")
    mass = masses[bare] if bare in masses else float(atomic_masses[atomic_numbers[bare]])
    if not (math.isfinite(mass) and mass > 0):
        raise InvalidArgument(f"masses: that of {bare} must be positive, got {mass}")
    return Species(bare, float(mass), bead)


def _templates(form: Form) -> bool:
    parts = (form.pair_style, *form.pair_coeff, *form.commands, *form.files.values())
    return any("{" in part for part in parts)


@functools.cache
def _expression(text: str) -> Expression:
    return Expression(text, "cutoff")


@functools.cache
def _template(text: str) -> Callable[..., str]:
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: repr(value) if isinstance(value, float) else value,
    )
    try:
        return environment.from_string(text).render
    except TemplateError as error:
        raise InvalidArgument(f"template {text[:60]!r}: {error}") from None


def _fill(text: str, context: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    if "{" not in text:
        return text
    try:
        return _template(text)(context)
    except TemplateError as error:
        raise InvalidArgument(f"template {text[:60]!r}: {error}") from None


def _lines(texts: Sequence[str], context: Mapping[str, Any], model: Model) -> Iterable[str]:
    species = " ".join(s.name for s in model.species)
    for text in texts:
        for line in _fill(text.replace("<species>", species), context).splitlines():
            if line.strip():
                yield line.strip()


def _read_rows(path: Path, bodies: int, columns: int) -> dict[tuple[str, ...], list[float]]:
    """Rows of a file of LAMMPS; one row may go over several lines."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: cannot be read: {error}") from None
    first = text.partition("\n")[0]
    if "UNITS:" in first and "UNITS: metal" not in first:
        raise FileFormatError(f"{path}: is not in metal units: {first.strip()}")
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    width = bodies + columns
    if not words or len(words) % width:
        raise FileFormatError(f"{path}: rows must have {width} words, there are {len(words)}")
    found = {}
    for at in range(0, len(words), width):
        names, numbers = words[at : at + bodies], words[at + bodies : at + width]
        try:
            found[tuple(names)] = [float(number) for number in numbers]
        except ValueError as error:
            raise FileFormatError(f"{path}: row {' '.join(names)}: {error}") from None
    return found
