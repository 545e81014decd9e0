"""Embedded atoms: functions given as arithmetic, tabulated for LAMMPS.

Daw, Baskes, Phys. Rev. B 29, 6443 (1984): E = sum_i F_i(rho_i) + 1/2 sum_ij phi_ij(r_ij) with
rho_i = sum_j rho_j(r_ij).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from mlcore.errors import InvalidArgument
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.forms.record import Form, Interaction, Model, Slot
from mlcore.forcefield.forms.species import atomic_number

__all__ = ["Eam", "Functions", "column"]

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

    def functions(
        self, model: Model, values: Mapping[str, float], cutoff: float | None = None
    ) -> Functions:
        """The tables of ``values``.

        Args:
            model: of this form.
            values: of its parameters.
            cutoff: where tables over distances are to end, A; by default that of ``values``.

        Raises:
            InvalidArgument: a function is not finite somewhere on its grid.
        """
        count = range(len(model.species))
        cutoff = self.reach(model, values) if cutoff is None else cutoff
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


def column(numbers: Array) -> str:
    """Numbers with all their digits, one a line."""
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
        lines += [column(made.embedding[k])]
        lines += [column(made.density[j, k]) for j in (range(len(names)) if fs else (0,))]
    r = made.dr * np.arange(n_r)
    lines += [column(r * made.pair[i, j]) for i in range(len(names)) for j in range(i + 1)]
    return "\n".join(lines) + "\n"
