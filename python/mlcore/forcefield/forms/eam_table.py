"""Embedded atoms in files of others: their functions scaled."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms.eam import column
from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.lines import read_text
from mlcore.forcefield.forms.potentials import shipped_potential
from mlcore.forcefield.forms.record import Form, FormParameter, Interaction, Model, Slot

__all__ = ["TABLE", "EamTable"]

Array = npt.NDArray[np.float64]
Style = Literal["eam", "eam/alloy", "eam/fs"]


class EamTable(Form):
    """A file of embedded atoms, its functions scaled.

    Attributes:
        source: content of the file.
        style: LAMMPS' style of such files. One of ``eam`` is told as ``eam/alloy``: LAMMPS reads
            a file of ``eam`` again only after its style has ended, which costs time.
    """

    kind: Literal["eam/table"] = "eam/table"
    source: str = Field(repr=False)
    style: Style

    def _check_kind(self) -> None:
        if self.pair_style != ("eam/fs" if self.style == "eam/fs" else "eam/alloy"):
            raise ValueError("pair_style must be eam/fs for files of eam/fs, else eam/alloy")
        if [p.name for p in self.parameters] != ["embedding", "density", "pair", "stretch"]:
            raise ValueError("parameters must be embedding, density, pair and stretch")
        try:
            _parsed(self.source, self.style)
        except FileFormatError as error:
            raise ValueError(str(error)) from None

    def reach(self, model: Model, values: Mapping[str, float]) -> float:
        return _parsed(self.source, self.style).cutoff * float(values["stretch"])

    def render(self, model: Model, values: Mapping[str, float]) -> Interaction:
        file = f"model.{self.pair_style.replace('/', '.')}"
        names = " ".join(s.name for s in model.species)
        coeff = f"pair_coeff * * {file} {names}"
        text = _several(self, model, values)
        return Interaction(
            self.pair_style, (coeff,), {file: text}, cutoff=self.reach(model, values)
        )


@dataclass(frozen=True, eq=False)
class _Tables:
    """A file: what stands before the numbers of each element, and these.

    Attributes:
        heads: per element, its line.
        embedding: per element. ``density``: per element, one or (fs) as many as elements.
        pairs: phi r of each pair i >= j.
    """

    names: tuple[str, ...]
    drho: float
    dr: float
    cutoff: float
    heads: tuple[str, ...]
    embedding: tuple[Array, ...]
    density: tuple[tuple[Array, ...], ...]
    pairs: tuple[Array, ...]


class _Words:
    def __init__(self, words: Sequence[str]) -> None:
        self.words = words
        self.at = 0

    def take(self, count: int) -> Sequence[str]:
        found = self.words[self.at : self.at + count]
        if len(found) < count:
            raise FileFormatError(f"ends after {len(self.words)} words")
        self.at += count
        return found

    def numbers(self, count: int) -> Array:
        try:
            return np.array(self.take(count), dtype=np.float64)
        except ValueError as error:
            raise FileFormatError(str(error)) from None


@functools.lru_cache(16)
def _parsed(source: str, style: str) -> _Tables:
    head, lines = (1, source.splitlines()) if style == "eam" else (3, source.splitlines())
    words = _Words(" ".join(lines[head:]).split())
    try:
        return _read_single(words) if style == "eam" else _read_several(words, style == "eam/fs")
    except (ValueError, OverflowError) as error:
        raise FileFormatError(f"no file of {style}: {error}") from None


def _sizes(words: _Words) -> tuple[int, float, int, float, float]:
    n_rho, drho, n_r, dr, cutoff = words.take(5)
    found = int(n_rho), float(drho), int(n_r), float(dr), float(cutoff)
    if not (found[0] > 1 and found[2] > 1 and min(found[1], found[3], found[4]) > 0):
        raise FileFormatError(f"has wrong sizes {' '.join((n_rho, drho, n_r, dr, cutoff))}")
    return found


def _read_single(words: _Words) -> _Tables:
    head = " ".join(words.take(4))
    n_rho, drho, n_r, dr, cutoff = _sizes(words)
    embedding, charge, density = words.numbers(n_rho), words.numbers(n_r), words.numbers(n_r)
    # LAMMPS' own factors of Hartree and Bohr
    pair = 27.2 * 0.529 * charge * charge
    return _Tables((), drho, dr, cutoff, (head,), (embedding,), ((density,),), (pair,))


def _read_several(words: _Words, fs: bool) -> _Tables:
    names = tuple(words.take(int(words.take(1)[0])))
    n_rho, drho, n_r, dr, cutoff = _sizes(words)
    heads, embedding, density = [], [], []
    for _ in names:
        heads.append(" ".join(words.take(4)))
        embedding.append(words.numbers(n_rho))
        density.append(tuple(words.numbers(n_r) for _ in (names if fs else (0,))))
    pairs = tuple(words.numbers(n_r) for i in range(len(names)) for _ in range(i + 1))
    return _Tables(names, drho, dr, cutoff, tuple(heads), tuple(embedding), tuple(density), pairs)


@functools.lru_cache(64)
def _scaled(source: str, style: str, what: str, at: tuple[int, ...], scale: float) -> str:
    """A block of the file, times ``scale``; most stay what they were from candidate to candidate."""
    block: Any = getattr(_parsed(source, style), what)
    for k in at:
        block = block[k]
    return column(block * scale)


def _several(form: EamTable, model: Model, values: Mapping[str, float]) -> str:
    told = _parsed(form.source, form.style)
    # a file of a single element does not name it
    names = told.names or (model.species[0].name,)
    stretch = float(values["stretch"])
    own = {s.name: k for k, s in enumerate(model.species)}
    block = functools.partial(_scaled, form.source, form.style)

    def scale(parameter: str, *names: str) -> float:
        if not own.keys() >= set(names):
            return 1.0
        return float(values[model.name(parameter, sorted(own[name] for name in names))])

    lines = [f"UNITS: metal {form.title}", "", "", f"{len(names)} {' '.join(names)}"]
    lines += [
        f"{len(told.embedding[0])} {told.drho!r} {len(told.pairs[0])} {told.dr * stretch!r} "
        f"{told.cutoff * stretch!r}"
    ]
    for k, name in enumerate(names):
        lines += [told.heads[k], block("embedding", (k,), scale("embedding", name))]
        lines += [
            block("density", (k, j), scale("density", name)) for j in range(len(told.density[k]))
        ]
    couples = [(a, b) for i, a in enumerate(names) for b in names[: i + 1]]
    lines += [
        block("pairs", (k,), scale("pair", *couple) * stretch) for k, couple in enumerate(couples)
    ]
    return "\n".join(lines) + "\n"


class _TableOptions(Options):
    source: str | None = Field(None, description="path of a file, funcfl or setfl")
    style: Style | None = Field(
        None, description="pair_style; by the file's name where nothing is said"
    )


class _TableFamily(Family):
    def make(self, species: Sequence[str], options: Any) -> Form:
        path = Path(options.source) if options.source else _single_of(species)
        style = options.style or _style(path)
        source = read_text(path)
        try:
            told = _parsed(source, style)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from None
        for name in species if told.names else ():
            if name.removeprefix("bead:") not in told.names:
                raise InvalidArgument(f"species: {path} has {', '.join(told.names)}, not {name}")
        return EamTable(
            name="eam/table",
            title=f"Embedded atoms, {path.name} scaled",
            citation=_citation(source),
            parameters=_scales(),
            pair_style="eam/fs" if style == "eam/fs" else "eam/alloy",
            cutoff="0",
            source=source,
            style=style,
            species=(1, len(told.names) or 1),
            elements=tuple(species) if not told.names else (),
        )


def _scales() -> tuple[FormParameter, ...]:
    def one(name: str, slot: Slot, text: str) -> FormParameter:
        return FormParameter(name=name, default=1.0, lower=0.5, upper=2.0, slot=slot, text=text)

    return (
        one("embedding", "element", "times the embedding energy"),
        one("density", "element", "times the density its atoms bring"),
        one("pair", "pair", "times the pair energy"),
        one("stretch", "form", "times all distances"),
    )


def _single_of(species: Sequence[str]) -> Path:
    if len(species) != 1:
        raise InvalidArgument("options of eam/table: source: name a file for several species")
    try:
        return shipped_potential(f"{species[0]}_u3.eam")
    except FileFormatError:
        raise InvalidArgument(
            f"options of eam/table: source: name a file; LAMMPS has none for {species[0]}"
        ) from None


def _style(path: Path) -> Style:
    name = path.name
    if name.endswith((".fs", ".eamfs")):
        return "eam/fs"
    if name.endswith((".alloy", ".setfl")):
        return "eam/alloy"
    return "eam"


def _citation(source: str) -> str:
    return source.partition("\n")[0].partition("CITATION:")[2].strip()[:500]


TABLE = _TableFamily(
    name="eam/table",
    title="Embedded atoms of a file, scaled",
    options=_TableOptions,
    example=("Cu",),
)
