"""Functional forms as data, and models: a form made out for certain species.

A form is a record: its parameters with units and ranges, and how LAMMPS is told about them. What
is told are Jinja2 templates, which see

    species            the names, in the order of LAMMPS' atom types
    form               the parameters without a slot, by name
    elements           one entry for each species:        .type .name .mass .number and parameters
    pairs              one for each unordered pair:       .i .j (types) .names and parameters
    triplets           one for each ordered triplet:      .i .j .k .names and parameters

or, without a template, where LAMMPS reads a file of rows: a `Table`; where it is told one
``pair_coeff`` for each pair: ``coefficients``.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.forms.lines import check_lines, read_lines, read_text, type_range
from mlcore.forcefield.forms.species import Species, atomic_number, make_species
from mlcore.forcefield.forms.templates import check_template, fill
from mlcore.forcefield.parameters import Number, Parameter

__all__ = ["Form", "FormParameter", "Interaction", "Known", "Model", "Species", "Table"]

Slot = Literal["form", "element", "pair", "triplet"]
_BODIES: dict[Slot, int] = {"form": 0, "element": 1, "pair": 2, "triplet": 3}
_FILE = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"


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

    file: str = Field(pattern=_FILE)
    slot: Literal["element", "pair", "triplet"]
    columns: tuple[str, ...]


class Known(_Part):
    """Values from the literature.

    Attributes:
        name: what they are called.
        species: those they are for, beads as ``"bead:W"``.
        values: species joined by ``_`` ("" for parameters without a slot) -> parameter -> value.
        citation: where they are from.
    """

    name: str
    species: tuple[str, ...]
    values: dict[str, dict[str, Number]]
    citation: str = ""


@dataclass(frozen=True)
class Interaction:
    """What LAMMPS is told about one candidate.

    Attributes:
        pair_style: what follows the word ``pair_style``.
        pair_coeff: the lines that follow, naming ``files`` by their bare names.
        files: name -> content.
        commands: further lines, such as charges and ``kspace_style``.
        cutoff: largest distance over which atoms feel each other, A.
        atom_style: ``atomic`` or ``charge``.
        units: LAMMPS' ``units`` the lines and files are in; ``metal`` but for ReaxFF.
    """

    pair_style: str
    pair_coeff: tuple[str, ...]
    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    cutoff: float = 0.0
    atom_style: str = "atomic"
    units: str = "metal"

    @property
    def style_reads_files(self) -> bool:
        """Whether ``pair_style`` itself names files, so that it is to be said anew for new ones."""
        return not self.files.keys().isdisjoint(self.pair_style.split())

    @property
    def style_must_end(self) -> bool:
        """Whether LAMMPS keeps what it made of ``pair_coeff`` until the style ends."""
        return not {"snap", "eam"}.isdisjoint(self.pair_style.split())


class Form(_Part):
    """A functional form.

    Attributes:
        kind: ``record`` for what needs no code of its own.
        name: what it is called here, such as ``tersoff``.
        title: in a few words.
        citation: the paper it is from.
        parameters: with units and default ranges.
        pair_style, pair_coeff, commands: what LAMMPS is told, as templates; ``<species>`` stands
            for the names of all species.
        files: name -> template.
        table: a file of rows instead.
        coefficients: parameters (of a pair) in the order of ``pair_coeff i j ...``, instead.
        style_numbers: parameters that follow ``pair_style``; of those of pairs the largest.
        cutoff: arithmetic of parameters of one slot; the largest over all its entries counts.
        atom_style, units: LAMMPS' own.
        known: values from the literature; the first that fit are the defaults of a model.
        species: how many it takes, at least and at most.
        elements: which ones it can be made for, beads as ``"bead:W"``; any where empty.
    """

    kind: str = "record"
    name: str = Field(pattern=r"^[a-z][a-z0-9/_+-]*$", max_length=60)
    title: str
    citation: str = ""
    parameters: tuple[FormParameter, ...]
    pair_style: str
    pair_coeff: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    files: dict[str, str] = {}
    table: Table | None = None
    coefficients: tuple[str, ...] = ()
    style_numbers: tuple[str, ...] = ()
    cutoff: str
    atom_style: Literal["atomic", "charge"] = "atomic"
    units: Literal["metal", "real"] = "metal"
    known: tuple[Known, ...] = ()
    species: tuple[int, int] = (1, 8)
    elements: tuple[str, ...] = ()

    @field_validator("parameters")
    @classmethod
    def _names_differ(cls, parameters: tuple[FormParameter, ...]) -> tuple[FormParameter, ...]:
        names = [p.name for p in parameters]
        if len(set(names)) < len(names):
            twice = {name for name in names if names.count(name) > 1}
            raise ValueError(f"named twice: {', '.join(sorted(twice))}")
        return parameters

    @field_validator("files")
    @classmethod
    def _plain_names(cls, files: dict[str, str]) -> dict[str, str]:
        import re

        for name in files:
            if not re.match(_FILE, name):
                raise ValueError(f"{name!r} is no plain name of a file")
        return files

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        names = {p.name for p in self.parameters}
        uses = {
            "cutoff": set(Expression(self.cutoff, "cutoff").names),
            "table": set(self.table.columns) if self.table else set(),
            "coefficients": set(self.coefficients),
            "style_numbers": set(self.style_numbers),
            "known": {n for k in self.known for values in k.values.values() for n in values},
        }
        for what, used in uses.items():
            if used - names:
                raise ValueError(f"{what}: no parameter {', '.join(sorted(used - names))}")
        for name in self.coefficients:
            if self._own[name].slot != "pair":
                raise ValueError(f"coefficients: {name} is no parameter of a pair")
        for text in (self.pair_style, *self.pair_coeff, *self.commands, *self.files.values()):
            check_template(text)
        self._check_kind()
        return self

    def _check_kind(self) -> None:
        if self.kind != "record":
            raise ValueError(f"kind: {self.kind!r} is unknown")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with other values of some fields (which are not validated)."""
        copied = super().model_copy(update=update, deep=deep)
        # what was made of the old fields
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    @functools.cached_property
    def _own(self) -> dict[str, FormParameter]:
        return {p.name: p for p in self.parameters}

    def entries(self, species: Sequence[Species], slot: Slot) -> list[tuple[int, ...]]:
        """Indices of species of everything there is one of ``slot`` for."""
        count = range(len(species))
        if slot == "pair":
            return list(itertools.combinations_with_replacement(count, 2))
        return list(itertools.product(count, repeat=_BODIES[slot]))

    def render(self, model: Model, values: Mapping[str, float]) -> Interaction:
        """What LAMMPS is told of ``values``; forms of other kinds do it their own way."""
        files = {self.table.file: self._rows(model, values)} if self.table else {}
        context = self._context(model, values) if self._templates else {}
        files |= {name: fill(text, context) for name, text in self.files.items()}
        coefficients = self._coefficient_lines(model, values) if self.coefficients else []
        return Interaction(
            pair_style=self._style_line(model, values, fill(self.pair_style, context)),
            pair_coeff=(*_lines(self.pair_coeff, context, model), *coefficients),
            files=files,
            commands=tuple(_lines(self.commands, context, model)),
            cutoff=self.reach(model, values),
            atom_style=self.atom_style,
            units=self.units,
        )

    def reach(self, model: Model, values: Mapping[str, float]) -> float:
        """The largest cutoff of ``values``, A; NaN where there is none."""
        cutoff = _cutoff(self.cutoff)
        bodies = max((_BODIES[self._own[name].slot] for name in cutoff.names), default=0)
        slot = next(s for s, n in _BODIES.items() if n == bodies)
        found = []
        for entry in self.entries(model.species, slot):
            local = {
                n: values[model.name(n, entry[: _BODIES[self._own[n].slot]])] for n in cutoff.names
            }
            found.append(float(cutoff(local)))
        return max(found) if all(math.isfinite(f) for f in found) else math.nan

    def read(self, model: Model, *paths: Path) -> dict[str, float]:
        """Values of all parameters of ``model`` in files LAMMPS reads."""
        if len(paths) != 1:
            raise InvalidArgument(f"path: {self.name} is read from one file, got {len(paths)}")
        if self.table is not None:
            return self._read_table(model, self.table, paths[0])
        if self.coefficients:
            return self._read_commands(model, paths[0])
        raise InvalidArgument(f"{self.name} keeps its parameters in no file of their own")

    @functools.cached_property
    def _templates(self) -> bool:
        parts = (self.pair_style, *self.pair_coeff, *self.commands, *self.files.values())
        return any("{" in part for part in parts)

    def _rows(self, model: Model, values: Mapping[str, float]) -> str:
        assert self.table is not None
        lines = [f"# UNITS: {self.units} CITATION: {self.citation}", f"# {self.title}"]
        lines.append(f"# {' '.join(self.table.columns)}")
        for entry, keys in model.rows:
            names = " ".join(model.species[k].name for k in entry)
            lines.append(f"{names} {' '.join(repr(float(values[key])) for key in keys)}")
        return "\n".join(lines) + "\n"

    def _read_table(self, model: Model, table: Table, path: Path) -> dict[str, float]:
        rows = _read_rows(path, _BODIES[table.slot], len(table.columns))
        values = model.defaults
        for entry in self.entries(model.species, table.slot):
            key = tuple(model.species[k].name for k in entry)
            if key not in rows:
                raise FileFormatError(f"{path}: no row for {' '.join(key)}")
            for column, value in zip(table.columns, rows[key], strict=True):
                values[model.name(column, entry)] = value
        return values

    def _coefficient_lines(self, model: Model, values: Mapping[str, float]) -> Iterable[str]:
        for i, j in self.entries(model.species, "pair"):
            own = (repr(float(values[model.name(n, (i, j))])) for n in self.coefficients)
            yield f"pair_coeff {i + 1} {j + 1} {' '.join(own)}"

    def _style_line(self, model: Model, values: Mapping[str, float], style: str) -> str:
        words = [style]
        for name in self.style_numbers:
            entries = self.entries(model.species, self._own[name].slot)
            words.append(repr(max(float(values[model.name(name, e)]) for e in entries)))
        return " ".join(words)

    def _read_commands(self, model: Model, path: Path) -> dict[str, float]:
        """From ``pair_style``, ``pair_coeff``, charges and ``kspace_style`` of an input."""
        told = {" ".join(command.split()[:2]) for command in self.commands}
        # LAMMPS' own where an input says nothing
        found: dict[str, float] = {"table": 12.0} if "pair_modify table" in told else {}
        style: dict[str, float] = {}
        try:
            for words in read_lines(path):
                if words[0] == "units" and words[1] != self.units:
                    raise FileFormatError(f"{path}: is in {words[1]} units, not {self.units}")
                if words[0] == "pair_style":
                    style = self._read_style(path, words[1:])
                elif words[0] == "pair_coeff":
                    found |= self._read_coefficients(model, path, words[1:], style)
                elif words[:2] == ["set", "type"] and words[3] == "charge":
                    for k in type_range(words[2], len(model.species)):
                        found[model.name("charge", (k - 1,))] = float(words[4])
                elif words[0] == "pair_modify":
                    found |= self._read_modified(path, words[1:], found)
                elif words[0] == "kspace_style":
                    found["accuracy"] = float(words[2])
        except (IndexError, ValueError) as error:
            raise FileFormatError(f"{path}: {error}") from None
        for name in self.style_numbers:
            if self._own[name].slot == "form" and name in style:
                found[name] = style[name]
        needed = (*self.coefficients, *(("charge",) if "charge" in self._own else ()))
        missing = [n for p in needed for n in model.made_of(p) if n not in found]
        if missing:
            raise FileFormatError(f"{path}: says nothing of {missing[0]}")
        return model.defaults | {n: v for n, v in found.items() if n in model.names}

    def _read_modified(
        self, path: Path, words: Sequence[str], found: Mapping[str, float]
    ) -> dict[str, float]:
        """What is told of tables; energies that are moved are not those of the form."""
        told = dict(itertools.pairwise(words))
        for word in ("shift", "tail"):
            line = f"pair_modify {word} yes"
            if told.get(word) == "yes" and line not in self.commands:
                raise FileFormatError(f"{path}: {line} is not what {self.name} tells LAMMPS")
        return {"table": float(told["table"])} if "table" in told and "table" in found else {}

    def _read_style(self, path: Path, words: Sequence[str]) -> dict[str, float]:
        if words[0] != self.pair_style.split()[0]:
            raise FileFormatError(f"{path}: is about pair_style {words[0]}, not {self.pair_style}")
        numbers = [float(word) for word in words[1:]]
        # LAMMPS takes the first cutoff for those that are left out
        numbers += numbers[:1] * (len(self.style_numbers) - len(numbers))
        return dict(zip(self.style_numbers, numbers, strict=False))

    def _read_coefficients(
        self, model: Model, path: Path, words: Sequence[str], style: Mapping[str, float]
    ) -> dict[str, float]:
        numbers = [float(word) for word in words[2:]]
        own = dict(zip(self.coefficients, numbers, strict=False))
        for name in self.coefficients[len(numbers) :]:
            if name not in style:
                raise FileFormatError(f"{path}: pair_coeff {' '.join(words)}: lacks {name}")
            own[name] = style[name]
        ranges = [type_range(word, len(model.species)) for word in words[:2]]
        # of 1 2 and 2 1 LAMMPS reads the first where a star is used
        pairs = {(i - 1, j - 1) for i, j in itertools.product(*ranges) if i <= j}
        if not pairs:
            pairs = {(j - 1, i - 1) for i, j in itertools.product(*ranges)}
        return {model.name(n, pair): value for pair in pairs for n, value in own.items()}

    def _context(self, model: Model, values: Mapping[str, float]) -> dict[str, Any]:
        of_slot: dict[Slot, list[FormParameter]] = {slot: [] for slot in _BODIES}
        for p in self.parameters:
            of_slot[p.slot].append(p)

        def numbers(slot: Slot, entry: Sequence[int]) -> dict[str, float | int]:
            found: dict[str, float | int] = {}
            for p in of_slot[slot]:
                value = float(values[model.name(p.name, entry)])
                found[p.name] = round(value) if p.whole else value
            return found

        def entries(slot: Slot) -> list[dict[str, Any]]:
            return [
                {
                    **numbers(slot, entry),
                    **dict(zip("ijk", (k + 1 for k in entry), strict=False)),
                    "names": [model.species[k].name for k in entry],
                }
                for entry in self.entries(model.species, slot)
            ]

        elements = [
            entry | {"type": k + 1, "name": s.name, "mass": s.mass, "number": atomic_number(s.name)}
            for k, (entry, s) in enumerate(zip(entries("element"), model.species, strict=True))
        ]
        return {
            "species": [s.name for s in model.species],
            "form": numbers("form", ()),
            "elements": elements,
            "pairs": entries("pair") if of_slot["pair"] else [],
            "triplets": entries("triplet") if of_slot["triplet"] else [],
        }


class Model:
    """A form made out for certain species.

    Args:
        form: the record.
        species: names of elements, or of beads as ``"bead:W"``, in the order of LAMMPS' types.
        masses: g/mol, of every bead and of elements that differ from the usual.
        known: name of the values of the form's ``known`` that are to be the defaults; otherwise
            the first that are for all the species, then those for some of them.

    Attributes:
        parameters: all of them; those of a slot are named ``c`` for one species, ``c_Si_C_C`` for
            more.
        names: theirs.
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
        known: str | None = None,
    ) -> None:
        self.form = form
        self.species = make_species(species, masses or {})
        self.known = known
        self._check_species()
        self._sets = self._literature()
        self._own = {p.name: p for p in form.parameters}
        self.parameters = tuple(self._made_out())
        self.names = tuple(p.name for p in self.parameters)
        if len(set(self.names)) < len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise InvalidArgument(f"species: two parameters of {form.name} are called {twice[0]}")

    def __repr__(self) -> str:
        return f"Model({self.form.name!r}, {[s.label for s in self.species]})"

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

    def made_of(self, parameter: str) -> list[str]:
        """Names of all that the form's ``parameter`` becomes."""
        slot = self._own[parameter].slot
        return [self.name(parameter, entry) for entry in self.form.entries(self.species, slot)]

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
        """What LAMMPS is told of ``values`` (every parameter; others are ignored).

        Raises:
            InvalidArgument: a parameter has no value, or a template asks for more than it may.
        """
        try:
            found = self.form.render(self, values)
        except KeyError as error:
            raise InvalidArgument(f"values: {error.args[0]} is missing") from None
        check_lines(found.pair_style, found.pair_coeff, found.commands)
        return found

    def read(self, *paths: str | Path) -> dict[str, float]:
        """Values of all parameters in files LAMMPS reads.

        Args:
            paths: the potential file, in the order of ``pair_coeff`` where there are two; for
                forms without a file an input with ``pair_style`` and ``pair_coeff``.

        Raises:
            FileFormatError: the file is no such file, or a species is missing in it.
            InvalidArgument: the form keeps its parameters in no file.
        """
        found = self.form.read(self, *(Path(path) for path in paths))
        for name, value in found.items():
            if not math.isfinite(value):
                raise FileFormatError(f"{paths[0]}: {name} is {value}")
        return found

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it; `from_record` makes it anew."""
        return {
            "form": self.form.model_dump(mode="json"),
            "species": [s.label for s in self.species],
            "masses": {s.name: s.mass for s in self.species},
            "known": self.known,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Model:
        """The model `record` was made of.

        Raises:
            InvalidArgument: it is no such record.
        """
        from mlcore.forcefield.forms.kinds import form_of

        if not isinstance(record, Mapping) or set(record) != {"form", "species", "masses", "known"}:
            raise InvalidArgument("record: is no model; it has form, species, masses and known")
        return cls(
            form_of(record["form"]), record["species"], record["masses"], known=record["known"]
        )

    def _check_species(self) -> None:
        form = self.form
        least, most = form.species
        if not least <= len(self.species) <= most:
            raise InvalidArgument(
                f"species: {form.name} takes {least} to {most}, got {len(self.species)}"
            )
        for s in self.species:
            if form.elements and s.label not in form.elements:
                raise InvalidArgument(
                    f"species: {form.name} is for {', '.join(form.elements)}, not {s.label}"
                )

    def _literature(self) -> list[Known]:
        """Sets of known values: those for all the species, then the largest of those for some."""
        own = {s.label for s in self.species}
        if self.known is None:
            whole = [k for k in self.form.known if own <= set(k.species)]
            parts = [k for k in self.form.known if set(k.species) < own]
            return whole + sorted(parts, key=lambda k: -len(k.species))
        found = [k for k in self.form.known if k.name == self.known]
        if not found:
            names = ", ".join(repr(k.name) for k in self.form.known) or "none"
            raise InvalidArgument(f"known: {self.form.name} has {names}, not {self.known!r}")
        return found

    def _made_out(self) -> Iterable[Parameter]:
        for own in self.form.parameters:
            for entry in self.form.entries(self.species, own.slot):
                yield self._one(own, entry)

    def _one(self, own: FormParameter, entry: tuple[int, ...]) -> Parameter:
        told = own.model_dump(exclude={"slot"}) | {"name": self.name(own.name, entry)}
        value = self._known_value(own, entry)
        if value is not None:
            told |= {"default": value} | _widened(own, value)
        return Parameter(**told)

    def _known_value(self, own: FormParameter, entry: tuple[int, ...]) -> float | None:
        names = [self.species[k].name for k in entry]
        keys = {"_".join(names)}
        if own.slot == "pair":
            keys.add("_".join(reversed(names)))
        needed = {self.species[k].label for k in entry} or {s.label for s in self.species}
        for known in self._sets:
            if needed <= set(known.species):
                for key in keys & known.values.keys():
                    # what a set leaves out is the form's default, never another set's
                    return known.values[key].get(own.name)
        return None


def _widened(own: Parameter, value: float) -> dict[str, Any]:
    """A range that has room around ``value``."""
    lower, upper = own.lower, own.upper
    if value < lower:
        lower = value / 2 if value > 0 else 2 * value
    if value > upper:
        upper = 2 * value if value > 0 else value / 2
    scale = "linear" if lower <= 0 else own.scale
    return {"lower": lower, "upper": upper, "scale": scale}


@functools.lru_cache(256)
def _cutoff(text: str) -> Expression:
    return Expression(text, "cutoff")


def _lines(texts: Sequence[str], context: Mapping[str, Any], model: Model) -> Iterable[str]:
    species = " ".join(s.name for s in model.species)
    for text in texts:
        for line in fill(text.replace("<species>", species), context).splitlines():
            if line.strip():
                yield line.strip()


def _read_rows(path: Path, bodies: int, columns: int) -> dict[tuple[str, ...], list[float]]:
    """Rows of a file of LAMMPS; one row may go over several lines."""
    text = read_text(path)
    first = text.partition("\n")[0]
    if "UNITS:" in first and "UNITS: metal" not in first:
        raise FileFormatError(f"{path}: is not in metal units: {first.strip()}")
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    width = bodies + columns
    if not words or len(words) % width:
        raise FileFormatError(f"{path}: rows must have {width} words, there are {len(words)}")
    found: dict[tuple[str, ...], list[float]] = {}
    for at in range(0, len(words), width):
        names, numbers = words[at : at + bodies], words[at + bodies : at + width]
        key = tuple(names)
        if key in found:
            raise FileFormatError(f"{path}: two rows for {' '.join(names)}")
        try:
            found[key] = [float(number) for number in numbers]
        except ValueError as error:
            raise FileFormatError(f"{path}: row {' '.join(names)}: {error}") from None
    return found
