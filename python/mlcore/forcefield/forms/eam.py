"""Embedded atoms: functions given as arithmetic, tabulated for LAMMPS; and tables of others, scaled.

Daw, Baskes, Phys. Rev. B 29, 6443 (1984): E = sum_i F_i(rho_i) + 1/2 sum_ij phi_ij(r_ij) with
rho_i = sum_j rho_j(r_ij).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.forms.family import Family, Options
from mlcore.forcefield.forms.lines import read_text
from mlcore.forcefield.forms.potentials import shipped_potential
from mlcore.forcefield.forms.record import Form, FormParameter, Interaction, Known, Model, Slot
from mlcore.forcefield.forms.species import atomic_number

__all__ = ["FINNIS_SINCLAIR", "GUPTA", "TABLE", "ZHOU", "Eam", "EamTable", "Functions"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Functions:
    """The functions of one candidate on even grids that begin at zero.

    Attributes:
        cutoff: A.
        dr, drho: steps of the grids.
        embedding: (E, n_rho) eV.
        density: (E, E, n_r) that the second species' atoms bring to the first's, of all E species
            in the order of the model; the same for every first where the form tells no difference.
        pair: (E, E, n_r) eV, symmetric.
    """

    cutoff: float
    dr: float
    drho: float
    embedding: Array
    density: Array
    pair: Array


class Eam(Form):
    """Embedded atoms whose functions are arithmetic of parameters.

    Attributes:
        definitions: names for parts of the functions, each after those it needs.
        embedding: of the density ``rho`` and parameters of elements.
        density: of the distance ``r`` and parameters of elements (``eam/alloy``) or of pairs
            (``eam/fs``).
        pair: of ``r`` and parameters of pairs; of elements where ``mixing`` is ``johnson``.
        mixing: ``johnson``: between elements (f_b/f_a phi_aa + f_a/f_b phi_bb)/2, Johnson, Phys.
            Rev. B 39, 12554 (1989).
        density_max: arithmetic; where the table of the embedding ends, the largest of all elements.
        points: of the tables over r and over rho.
    """

    kind: Literal["eam"] = "eam"
    definitions: dict[str, str] = Field(default_factory=dict)
    embedding: str
    density: str
    pair: str
    mixing: Literal["pair", "johnson"] = "pair"
    density_max: str
    points: tuple[int, int] = (1000, 2000)

    def _check_kind(self) -> None:
        if self.pair_style not in ("eam/alloy", "eam/fs"):
            raise ValueError("pair_style must be eam/alloy or eam/fs")
        if self.pair_coeff or self.files or self.table or self.coefficients:
            raise ValueError("the tables are made of the functions; give no files and no lines")
        if not all(10 <= n <= 100_000 for n in self.points):
            raise ValueError("points must be from 10 to 100000")
        for what, (slot, variable) in self._slots().items():
            allowed = {"form", *slot}
            for name in self._function(what).names:
                own = self._own.get(name)
                if name != variable and (own is None or own.slot not in allowed):
                    raise ValueError(f"{what}: {name} is no parameter of {' or '.join(slot)}")

    def _slots(self) -> dict[str, tuple[tuple[Slot, ...], str]]:
        of_pair: tuple[Slot, ...] = ("element",) if self.mixing == "johnson" else ("pair",)
        of_density: tuple[Slot, ...] = ("pair",) if self.pair_style == "eam/fs" else ("element",)
        return {
            "embedding": (("element",), "rho"),
            "density": (of_density, "r"),
            "pair": (of_pair, "r"),
            "density_max": (("element",), ""),
        }

    @functools.cached_property
    def _functions(self) -> dict[str, _Function]:
        told = {"embedding": self.embedding, "density": self.density, "pair": self.pair}
        told["density_max"] = self.density_max
        return {what: _Function(what, text, self.definitions) for what, text in told.items()}

    def _function(self, what: str) -> _Function:
        return self._functions[what]

    def functions(self, model: Model, values: Mapping[str, float]) -> Functions:
        """The tables of ``values``.

        Raises:
            InvalidArgument: a function is not finite somewhere on its grid.
        """
        cutoff = self.reach(model, values)
        count = range(len(model.species))
        top = max(float(self._on("density_max", model, values, (k,), {})) for k in count)
        if not (np.isfinite(cutoff) and cutoff > 0 and np.isfinite(top) and top > 0):
            raise InvalidArgument(f"{self.name}: cutoff {cutoff:g} and density_max {top:g}")
        n_r, n_rho = self.points
        r, rho = np.linspace(0.0, cutoff, n_r), np.linspace(0.0, top, n_rho)
        embedding = np.stack(
            [_table(self._on("embedding", model, values, (k,), {"rho": rho}), rho) for k in count]
        )
        density = self._densities(model, values, r)
        return Functions(
            cutoff, r[1], rho[1], embedding, density, self._pairs(model, values, r, density)
        )

    def _on(
        self,
        what: str,
        model: Model,
        values: Mapping[str, float],
        entry: tuple[int, ...],
        grid: Mapping[str, Array],
    ) -> Any:
        function = self._function(what)
        local: dict[str, Any] = dict(grid)
        for name in function.names:
            if name not in grid:
                slot = self._own[name].slot
                local[name] = values[model.name(name, () if slot == "form" else entry)]
        return function(local)

    def _densities(self, model: Model, values: Mapping[str, float], r: Array) -> Array:
        count = len(model.species)
        found = np.empty((count, count, len(r)))
        if self.pair_style == "eam/fs":
            for i, j in self.entries(model.species, "pair"):
                found[i, j] = _table(self._on("density", model, values, (i, j), {"r": r}), r)
                found[j, i] = found[i, j]
        else:
            for k in range(count):
                found[:, k] = _table(self._on("density", model, values, (k,), {"r": r}), r)
        return found

    def _pairs(self, model: Model, values: Mapping[str, float], r: Array, density: Array) -> Array:
        count = len(model.species)
        found = np.empty((count, count, len(r)))
        if self.mixing == "johnson":
            own = [_table(self._on("pair", model, values, (k,), {"r": r}), r) for k in range(count)]
            for i, j in self.entries(model.species, "pair"):
                with np.errstate(all="ignore"):
                    ratio = density[0, j] / density[0, i]
                    mixed = 0.5 * (ratio * own[i] + own[j] / ratio)
                found[i, j] = found[j, i] = own[i] if i == j else _table(mixed, r)
        else:
            for i, j in self.entries(model.species, "pair"):
                found[i, j] = _table(self._on("pair", model, values, (i, j), {"r": r}), r)
                found[j, i] = found[i, j]
        return found

    def render(self, model: Model, values: Mapping[str, float]) -> Interaction:
        made = self.functions(model, values)
        file = f"model.{self.pair_style.replace('/', '.')}"
        text = _setfl(model, made, self.pair_style == "eam/fs", f"{self.title}; {self.citation}")
        species = " ".join(s.name for s in model.species)
        return Interaction(
            self.pair_style,
            (f"pair_coeff * * {file} {species}",),
            {file: text},
            cutoff=made.cutoff,
            atom_style=self.atom_style,
        )


class _Function:
    """An expression and the definitions it needs."""

    def __init__(self, what: str, text: str, definitions: Mapping[str, str]) -> None:
        self._last = Expression(text, what)
        needed = set(self._last.names)
        self._parts: list[tuple[str, Expression]] = []
        for name, part in reversed(list(definitions.items())):
            if name in needed:
                made = Expression(part, f"definition of {name}")
                self._parts.insert(0, (name, made))
                needed = (needed - {name}) | set(made.names)
        self.names = tuple(sorted(needed))

    def __call__(self, values: dict[str, Any]) -> Any:
        local = dict(values)
        for name, part in self._parts:
            local[name] = part(local)
        return self._last(local)


def _table(values: Any, grid: Array) -> Array:
    """``values`` on ``grid``; at zero, where no atoms are, the value beside it if there is none."""
    found = np.array(np.broadcast_to(values, grid.shape), dtype=np.float64)
    if not np.isfinite(found[0]):
        found[0] = found[1]
    bad = ~np.isfinite(found)
    if bad.any():
        raise InvalidArgument(f"a function is not finite at {grid[bad][0]:g}")
    return found


def _column(numbers: Array) -> str:
    return repr(numbers.tolist())[1:-1].replace(", ", "\n")


def _setfl(model: Model, made: Functions, fs: bool, title: str) -> str:
    names = [s.name for s in model.species]
    n_rho, n_r = made.embedding.shape[1], made.pair.shape[2]
    title = " ".join(title.split())
    lines = [f"UNITS: metal {title}", "tabulated by mlcore", ""]
    lines += [f"{len(names)} {' '.join(names)}"]
    lines += [f"{n_rho} {float(made.drho)!r} {n_r} {float(made.dr)!r} {made.cutoff!r}"]
    for k, species in enumerate(model.species):
        lines += [f"{atomic_number(species.name)} {species.mass!r} 0.0 none"]
        lines += [_column(made.embedding[k])]
        lines += [_column(made.density[j, k]) for j in (range(len(names)) if fs else (0,))]
    r = made.dr * np.arange(n_r)
    lines += [_column(r * made.pair[i, j]) for i in range(len(names)) for j in range(i + 1)]
    return "\n".join(lines) + "\n"


Style = Literal["eam", "eam/alloy", "eam/fs"]


class EamTable(Form):
    """A file of embedded atoms, its functions scaled.

    Attributes:
        source: content of the file.
        style: LAMMPS' style of such files. One of ``eam`` is told as ``eam/alloy``, for LAMMPS
            reads a file of ``eam`` once and never again, however it changes.
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
    return _column(block * scale)


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


def _element(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="element"
    )


def _pair(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="pair"
    )


def _whole(
    name: str, default: float, lower: float, upper: float, unit: str = "", text: str = ""
) -> FormParameter:
    return FormParameter(
        name=name, default=default, lower=lower, upper=upper, unit=unit, text=text, slot="form"
    )


_ZHOU = (
    "re", "fe", "rhoe", "rhos", "alpha", "beta", "A", "B", "kappa", "lambda", "Fn0", "Fn1", "Fn2",
    "Fn3", "F0", "F1", "F2", "F3", "eta", "Fe", "cutoff",
)  # fmt: skip
_METALS = {
    "Cu": (2.556162, 1.554485, 22.150141, 22.150141, 7.669911, 4.090619, 0.327584, 0.468735,
           0.431307, 0.862140, -2.176490, -0.140035, 0.285621, -1.750834, -2.19, 0.0, 0.702991,
           0.683705, 0.921150, -2.191675, 9.0375),
    "Al": (2.886166, 1.392302, 20.226537, 20.226537, 6.942419, 3.702623, 0.251519, 0.313394,
           0.395132, 0.790264, -2.806783, -0.276173, 0.893409, -1.637201, -2.83, 0.0, 0.929508,
           -0.682320, 0.779208, -2.829437, 10.1025),
    "W": (2.740840, 3.487340, 37.234847, 37.234847, 8.900114, 4.746728, 0.882435, 1.394592,
          0.139209, 0.278417, -4.946281, -0.148818, 0.365057, -4.432406, -4.96, 0.0, 0.661935,
          0.348147, -0.582714, -4.961306, 7.8925),
}  # fmt: skip
_ZHOU_2001 = (
    "X. W. Zhou et al., Acta Mater. 49, 4005 (2001), doi:10.1016/S1359-6454(01)00287-7; "
    "form: X. W. Zhou, R. A. Johnson, H. N. G. Wadley, Phys. Rev. B 69, 144113 (2004)"
)


def _polynomial(names: Iterable[str], x: str) -> str:
    a, b, c, d = names
    return f"({a} + {x}*({b} + {x}*({c} + {x}*{d})))"


ZHOU = Eam(
    name="eam/zhou",
    title="Embedded atoms of Zhou and Johnson",
    citation=_ZHOU_2001,
    parameters=(
        _element("re", 2.556162, 2.0, 4.0, "A", "distance of nearest neighbors"),
        _element("fe", 1.554485, 0.5, 5.0, text="density a neighbor brings"),
        _element("rhoe", 22.150141, 5.0, 60.0, text="density of the crystal"),
        _element("rhos", 22.150141, 5.0, 60.0, text="scale of high densities"),
        _element("alpha", 7.669911, 4.0, 14.0, text="decay of the repulsion"),
        _element("beta", 4.090619, 2.0, 8.0, text="decay of the attraction and of the density"),
        _element("A", 0.327584, 0.01, 3.0, "eV", "repulsion"),
        _element("B", 0.468735, 0.01, 4.0, "eV", "attraction"),
        _element("kappa", 0.431307, 0.0, 1.0, text="cutoff of the repulsion"),
        _element("lambda", 0.862140, 0.0, 1.5, text="cutoff of the attraction"),
        _element("Fn0", -2.176490, -10.0, 0.0, "eV", "embedding at 0.85 rhoe"),
        _element("Fn1", -0.140035, -2.0, 2.0, "eV", "its slope"),
        _element("Fn2", 0.285621, -4.0, 4.0, "eV", "its curvature"),
        _element("Fn3", -1.750834, -8.0, 2.0, "eV", "its third coefficient"),
        _element("F0", -2.19, -10.0, 0.0, "eV", "embedding at rhoe"),
        _element("F1", 0.0, -1.0, 1.0, "eV", "its slope"),
        _element("F2", 0.702991, -2.0, 4.0, "eV", "its curvature"),
        _element("F3", 0.683705, -6.0, 6.0, "eV", "its third coefficient"),
        _element("eta", 0.921150, -2.0, 2.0, text="power of high densities"),
        _element("Fe", -2.191675, -10.0, 0.0, "eV", "embedding of high densities"),
        _element("cutoff", 9.0375, 4.0, 12.0, "A", "end of the tables; the largest counts"),
    ),
    pair_style="eam/alloy",
    definitions={
        "x": "r/re - 1",
        "attraction": "exp(-beta*x)/(1 + (x + 1 - lambda)**20)",
        "repulsion": "exp(-alpha*x)/(1 + (x + 1 - kappa)**20)",
        "low": _polynomial(("Fn0", "Fn1", "Fn2", "Fn3"), "(rho/(0.85*rhoe) - 1)"),
        "middle": _polynomial(("F0", "F1", "F2", "F3"), "(rho/rhoe - 1)"),
        "y": "(rho/rhos)**eta",
        "high": "Fe*(1 - log(y))*y",
    },
    embedding="where(rho < 0.85*rhoe, low, where(rho < 1.15*rhoe, middle, high))",
    density="fe*attraction",
    pair="A*repulsion - B*attraction",
    mixing="johnson",
    density_max="4*rhoe",
    cutoff="cutoff",
    known=tuple(
        Known(
            name=name,
            species=(name,),
            values={name: dict(zip(_ZHOU, numbers, strict=True))},
            citation=_ZHOU_2001,
        )
        for name, numbers in _METALS.items()
    ),
)

FINNIS_SINCLAIR = Eam(
    name="eam/finnis-sinclair",
    title="Embedded atoms of Finnis and Sinclair",
    citation="M. W. Finnis, J. E. Sinclair, Philos. Mag. A 50, 45 (1984), "
    "doi:10.1080/01418618408244210",
    parameters=(
        _element("A", 1.896373, 0.1, 10.0, "eV/A", "embedding"),
        _pair("d", 4.400224, 2.0, 8.0, "A", "reach of the density"),
        _pair("beta", 0.0, -2.0, 2.0, text="cubic part of the density"),
        _pair("c", 3.25, 2.0, 8.0, "A", "reach of the pair energy"),
        _pair("c0", 47.1346499, -200.0, 400.0, "eV/A^2", "pair energy"),
        _pair("c1", -33.7665655, -300.0, 100.0, "eV/A^3", "its linear part"),
        _pair("c2", 6.2541999, -50.0, 100.0, "eV/A^4", "its quadratic part"),
        _whole("density_max", 200.0, 20.0, 2000.0, "A^2", "end of the table of the embedding"),
    ),
    pair_style="eam/fs",
    embedding="-A*sqrt(rho)",
    density="where(r < d, (r - d)**2 + beta/d*(r - d)**3, 0)",
    pair="where(r < c, (r - c)**2*(c0 + r*(c1 + r*c2)), 0)",
    density_max="density_max",
    cutoff="max(c, d)",
    known=(
        Known(
            name="W",
            species=("W",),
            values={
                "W": {"A": 1.896373},
                "W_W": {
                    "d": 4.400224, "beta": 0.0, "c": 3.25, "c0": 47.1346499, "c1": -33.7665655,
                    "c2": 6.2541999,
                },
            },
        ),
    ),
)  # fmt: skip

GUPTA = Eam(
    name="eam/gupta",
    title="Embedded atoms of Gupta, Cleri and Rosato (second moment of tight binding)",
    citation="F. Cleri, V. Rosato, Phys. Rev. B 48, 22 (1993), doi:10.1103/PhysRevB.48.22",
    parameters=(
        _pair("A", 0.0855, 0.001, 1.0, "eV", "repulsion"),
        _pair("xi", 1.224, 0.1, 5.0, "eV", "hopping"),
        _pair("p", 10.96, 5.0, 20.0, text="decay of the repulsion"),
        _pair("q", 2.278, 0.5, 6.0, text="decay of the hopping"),
        _pair("r0", 2.556, 1.5, 4.5, "A", "distance of nearest neighbors"),
        _whole("inner", 2.26, 1.2, 3.5, text="begins to be cut off, in r0"),
        _whole("outer", 2.43, 1.3, 4.0, text="is cut off, in r0"),
    ),
    pair_style="eam/fs",
    definitions={
        "x": "r/r0 - 1",
        "t": "max(0, min(1, (outer - x - 1)/(outer - inner)))",
        "smooth": "t**3*(10 - 15*t + 6*t**2)",
    },
    embedding="-sqrt(rho)",
    density="xi**2*exp(-2*q*x)*smooth",
    pair="2*A*exp(-p*x)*smooth",
    density_max="1000",
    cutoff="outer*r0",
    known=(
        Known(
            name="Cu",
            species=("Cu",),
            values={"Cu_Cu": {"A": 0.0855, "xi": 1.224, "p": 10.96, "q": 2.278, "r0": 2.556}},
        ),
    ),
)

TABLE = _TableFamily(
    name="eam/table",
    title="Embedded atoms of a file, scaled",
    options=_TableOptions,
    example=("Cu",),
)
