"""Energies of two and of three atoms under a model, for plots: measured, not written down again.

The core's own kernels where they know the form, which takes milliseconds; else LAMMPS, in a process
of its own with a limit of time, so that no parameter can stop a server.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from ase import Atoms
from pydantic import BaseModel

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.evaluate.lammps import structure_key
from mlcore.forcefield.evaluate.native import NativeEngine, is_native
from mlcore.forcefield.forms import Model

__all__ = ["Curve", "Curves", "curves", "measured"]

Array = npt.NDArray[np.float64]
_POINTS, _ANGLES = 120, 76
_SHORTEST, _LARGEST = 0.5, 15.0  # A
_MOST = 12  # angle functions; more are not read in one plot
_SECONDS = 20.0
_TURNS = threading.BoundedSemaphore(2)  # processes that draw at once
_DEEP, _ZERO = 1e-6, 1e-4  # eV, of a bond, and of angles that do not matter
_BOX = 30.0  # A, of charges, which know no end


class Curve(BaseModel):
    name: str
    """Of its species, the one in the middle of an angle in the middle."""
    x: list[float]
    """Distances in A, or angles in degrees."""
    energy: list[float | None]
    """eV; null where there is no number."""


class Curves(BaseModel):
    pairs: list[Curve]
    """Energy of two atoms over their distance, less that of each alone."""
    angles: list[Curve]
    """What three atoms have beyond their pairs, over the angle, at the bonds' best length."""
    words: str = ""
    """Why something is missing."""


class _Engine(Protocol):
    def energies(self, structures: Sequence[Atoms]) -> Array:
        """(n,) eV of structures that have the same species; NaN where there is none."""


class _Core:
    def __init__(self, model: Model, values: Mapping[str, float], reach: float) -> None:
        self._engine = NativeEngine(model)
        self._engine.use([values], reach)

    def energies(self, structures: Sequence[Atoms]) -> Array:
        told = {structure_key(atoms) + b"%d" % k: atoms for k, atoms in enumerate(structures)}
        self._engine.prepare({key: (atoms, False) for key, atoms in told.items()})
        return np.array(
            [self._engine.at_rest(atoms, False, key).energy[0] for key, atoms in told.items()]
        )


class _Lammps:
    def __init__(self, model: Model, values: Mapping[str, float]) -> None:
        from mlcore.forcefield.evaluate.lammps import LammpsEngine

        self._engine = LammpsEngine(model, _LARGEST)
        self._engine.use(values)

    def energies(self, structures: Sequence[Atoms]) -> Array:
        first = structures[0]
        box = self._engine.box(first)
        found = []
        for atoms in structures:
            try:
                found.append(box.static(None, atoms.positions - first.positions)[0])
            except Error:
                found.append(math.nan)
        return np.array(found)


def curves(model: Model, values: Mapping[str, float]) -> Curves:
    """The curves of ``values`` (every parameter), wherever they can be had."""
    if is_native(model, values):
        return measured(model, values)
    return _elsewhere(model, values)


def measured(model: Model, values: Mapping[str, float]) -> Curves:
    """The curves, in this process."""
    reach = model.form.reach(model, values)
    if not _SHORTEST < reach <= _LARGEST:
        return Curves(pairs=[], angles=[], words=f"the cutoff is {reach:.3g} A")
    core = is_native(model, values)
    engine: _Engine = _Core(model, values, reach) if core else _Lammps(model, values)
    plot = _Plot(model, engine, reach)
    return Curves(pairs=plot.pairs(), angles=plot.angles())


class _Plot:
    """Of a model under certain values."""

    def __init__(self, model: Model, engine: _Engine, reach: float) -> None:
        self._model, self._engine = model, engine
        self._names = [one.name for one in model.species]
        self._charged = model.form.atom_style == "charge"
        end = min(reach * 1.02, _LARGEST * 0.999)
        self._grid = np.round(np.linspace(_SHORTEST, end, _POINTS), 4)
        self._alone = [float(self._energies([i], np.zeros((1, 1, 3)))[0]) for i in self._count]
        self._found: dict[tuple[int, int], Array] = {}

    @property
    def _count(self) -> range:
        return range(len(self._names))

    def pairs(self) -> list[Curve]:
        found = []
        for i, j in combinations_with_replacement(self._count, 2):
            energy = self._found[i, j] = self._of_two(i, j, self._grid)
            found.append(_curve(f"{self._names[i]}-{self._names[j]}", self._grid, energy))
        return found

    def angles(self) -> list[Curve]:
        """Those that are not zero: pairs alone have none."""
        triples = [
            (j, i, k) for i in self._count for j, k in combinations_with_replacement(self._count, 2)
        ]
        degrees = np.linspace(30.0, 180.0, _ANGLES)
        found = []
        for j, i, k in triples[:_MOST]:
            a, b = self._bond(i, j), self._bond(i, k)
            if a is None or b is None:
                continue
            energy = self._of_three(j, i, k, a, b, np.radians(degrees))
            if np.abs(np.nan_to_num(energy)).max(initial=0.0) > _ZERO:
                name = "-".join(self._names[at] for at in (j, i, k))
                found.append(_curve(name, degrees, energy))
        return found

    def _bond(self, i: int, j: int) -> float | None:
        """Where two atoms are at rest; None where they are nowhere.

        Very near some forms fall without end, which is no bond.
        """
        energy = np.nan_to_num(self._found[min(i, j), max(i, j)], nan=math.inf)
        inner = energy[1:-1]
        holds = (inner < energy[:-2]) & (inner <= energy[2:]) & (inner < -_DEEP)
        if not holds.any():
            return None
        return float(self._grid[1:-1][holds][np.argmin(inner[holds])])

    def _of_two(self, i: int, j: int, distances: Array) -> Array:
        places = np.zeros((len(distances), 2, 3))
        places[:, 1, 0] = distances
        return self._energies([i, j], places) - self._alone[i] - self._alone[j]

    def _of_three(self, j: int, i: int, k: int, a: float, b: float, angles: Array) -> Array:
        places = np.zeros((len(angles), 3, 3))
        places[:, 1, 0] = a
        places[:, 2, 0], places[:, 2, 1] = b * np.cos(angles), b * np.sin(angles)
        far = np.linalg.norm(places[:, 2] - places[:, 1], axis=1)
        whole = self._energies([i, j, k], places) - sum(self._alone[at] for at in (i, j, k))
        bonds = self._of_two(i, j, np.array([a]))[0] + self._of_two(i, k, np.array([b]))[0]
        return np.asarray(whole - bonds - self._of_two(j, k, far), dtype=np.float64)

    def _energies(self, species: Sequence[int], places: Array) -> Array:
        names = [self._names[k] for k in species]
        cell = np.eye(3) * _BOX if self._charged else None
        return self._engine.energies([_atoms(names, at, cell) for at in places])


def _atoms(names: Sequence[str], positions: Array, cell: Array | None) -> Atoms:
    atoms = Atoms(["X"] * len(names), positions, cell=cell, pbc=cell is not None)
    atoms.arrays["species"] = np.array(names)
    return atoms


def _curve(name: str, x: Array, energy: Array) -> Curve:
    told: Iterable[float] = energy.tolist()
    return Curve(
        name=name,
        x=x.tolist(),
        energy=[one if math.isfinite(one) else None for one in told],
    )


def _elsewhere(model: Model, values: Mapping[str, float]) -> Curves:
    asked = json.dumps({"model": model.record(), "values": dict(values)})
    words = [sys.executable, "-m", "mlcore.studio.curves"]
    if not _TURNS.acquire(timeout=_SECONDS):
        return Curves(pairs=[], angles=[], words="others are drawn just now; try again in a while")
    try:
        done = subprocess.run(words, input=asked, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return Curves(pairs=[], angles=[], words=f"no curve within {_SECONDS:.0f} s")
    finally:
        _TURNS.release()
    try:
        return Curves.model_validate_json(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        said = done.stderr.strip().rpartition("\n")[2] or f"ended with {done.returncode}"
        return Curves(pairs=[], angles=[], words=f"no curve: {said[:300]}")


def _main() -> None:
    asked: dict[str, Any] = json.load(sys.stdin)
    try:
        found = measured(Model.from_record(asked["model"]), asked["values"])
    except (Error, InvalidArgument) as error:
        found = Curves(pairs=[], angles=[], words=str(error)[:300])
    print(found.model_dump_json())


if __name__ == "__main__":
    _main()
