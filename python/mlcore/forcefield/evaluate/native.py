"""Structures under many candidates at once, by the core's own kernels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.forms.eam import Eam, Functions
from mlcore.forcefield.forms.record import Form, Model
from mlcore.forcefield.targets.face import Change, Slope, Static
from mlcore.potentials import COLUMNS, Results, Structures, Tables, evaluate

__all__ = ["NativeBoxes", "NativeEngine", "is_native"]

Array = npt.NDArray[np.float64]

_NO_LAMMPS = "a target of the tier static asks for structures at rest alone"

# lists of neighbors reach this many times farther than the last ones did
GROWTH = 1.2

# of derivatives of tables, in edges of the cube of what is free
TABLE_STEP = 1e-5


def is_native(model: Model, values: Mapping[str, float] | None = None) -> bool:
    """Whether the core knows the form (and ``values``, where LAMMPS knows more than the core)."""
    if isinstance(model.form, Eam):
        return True
    if not _core_knows(model.form):
        return False
    # the core leaves out no small term
    known = {p.name for p in model.form.parameters} - set(COLUMNS[model.form.pair_style])
    rest = [name for name in model.names if name.partition("_")[0] in known]
    return values is None or all(values[name] == 0 for name in rest)


def _core_knows(form: Form) -> bool:
    """Whether a form tells LAMMPS the core's columns of the same style, and nothing else."""
    told = form.table.columns if form.table else form.coefficients
    columns = COLUMNS.get(form.pair_style)
    plain = form.kind == "record" and not (form.commands or form.files or form.pair_coeff[1:])
    return plain and columns is not None and set(columns) <= set(told)


class NativeEngine:
    """Holds lists of neighbors; `use` puts everything asked under C candidates.

    Args:
        model: of a form the core knows.

    Attributes:
        good: (C,) whether all a candidate gave so far are numbers.
        words: why a candidate gave nothing, where that is known.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.candidates = 0
        self._batches: list[_Batch] = []
        self._reach = 0.0
        self._directions: Array | None = None
        self._lists: dict[bytes, Structures] = {}
        self._rest: dict[bytes, Static] = {}
        self._slopes: dict[bytes, Slope] = {}
        self.good: npt.NDArray[np.bool_] = np.empty(0, dtype=bool)
        self.words: dict[int, str] = {}

    def use(
        self,
        values: Sequence[Mapping[str, float]],
        reach: float,
        directions: Mapping[str, npt.ArrayLike] | None = None,
    ) -> None:
        """From now on everything asked is of the candidates ``values``, in their order.

        Args:
            values: name -> value of every parameter.
            reach: the largest of their cutoffs, A.
            directions: of the only candidate: name -> (Q,) along which `slopes_known` and
                `slopes_deformed` have derivatives.
        """
        self.words = {}
        self._directions = (
            None if directions is None else _matrix(self.model, values[0], directions)
        )
        self._batches = _batches(self.model, values, self.words)
        self.candidates = len(values)
        self._reach = reach
        self._rest.clear()
        self._slopes.clear()
        self.good = np.ones(len(values), dtype=bool)

    def prepare(self, structures: Mapping[bytes, tuple[Atoms, bool]]) -> None:
        """Structures as they are, in one call; with forces and stress where the flag says so."""
        missing = {key: told for key, told in structures.items() if key not in self._rest}
        if not missing:
            return
        atoms = [one for one, _ in missing.values()]
        listed = self._listed(b"".join(missing), atoms, self._reach)
        wanted = np.array([flag for _, flag in missing.values()])
        found = self._evaluate(listed, 1, wanted=wanted)
        ends = listed.atoms
        for k, key in enumerate(missing):
            forces = found.forces[:, ends[k] : ends[k + 1]]
            self._rest[key] = self._static(
                found.energies[:, k], forces, found.stress[:, k], bool(wanted[k])
            )

    def at_rest(self, structure: Atoms, forces: bool, key: bytes) -> Static:
        """``structure`` as it is."""
        known = self._rest.get(key)
        if known is None or (forces and np.isnan(known.forces).all()):
            self._rest.pop(key, None)
            self.prepare({key: (structure, forces)})
        return self._rest[key]

    @property
    def directions(self) -> int:
        """How many directions derivatives are along."""
        return 0 if self._directions is None else self._directions.shape[1]

    def slopes_known(self, structures: Mapping[bytes, tuple[Atoms, bool]]) -> dict[bytes, Slope]:
        """Derivatives of structures as they are, those asked for before from memory."""
        missing = {
            key: (atoms, flag)
            for key, (atoms, flag) in structures.items()
            if key not in self._slopes or (flag and np.isnan(self._slopes[key].forces).all())
        }
        if missing:
            self._slopes |= self._slopes_at_rest(missing)
        return self._slopes

    def _slopes_at_rest(self, structures: Mapping[bytes, tuple[Atoms, bool]]) -> dict[bytes, Slope]:
        listed = self._listed(
            b"".join(structures), [a for a, _ in structures.values()], self._reach
        )
        wanted = np.array([flag for _, flag in structures.values()])
        found = self._evaluate(listed, 1, wanted=wanted, gradient=self._directions)
        ends = listed.atoms
        return {
            key: Slope(
                found.d_energies[0, k],
                found.d_forces[0, ends[k] : ends[k + 1]],
                found.d_stress[0, k],
            )
            for k, key in enumerate(structures)
        }

    def slopes_deformed(
        self, structure: Atoms, changes: Sequence[Change], key: bytes
    ) -> list[Slope]:
        """Derivatives of ``structure`` after several deformations, in one call."""
        found = self._changed(structure, changes, key, gradient=self._directions)
        return [
            Slope(found.d_energies[k, 0], found.d_forces[k], found.d_stress[k, 0])
            for k in range(len(changes))
        ]

    def deformed(self, structure: Atoms, changes: Sequence[Change], key: bytes) -> list[Static]:
        """``structure`` after several deformations of each candidate's own, in one call."""
        found, c = self._changed(structure, changes, key), self.candidates
        rows = [slice(k * c, (k + 1) * c) for k in range(len(changes))]
        return [
            self._static(found.energies[at, 0], found.forces[at], found.stress[at, 0], True)
            for at in rows
        ]

    def _changed(
        self, structure: Atoms, changes: Sequence[Change], key: bytes, **options: Any
    ) -> Results:
        c, n, several = self.candidates, len(structure), len(changes)
        strains: Array | None = None
        displacements: Array | None = None
        reach = self._reach
        if any(u is not None for _, u in changes):
            moves = np.zeros((several, c, n, 3))
            for row, (_, u) in zip(moves, changes, strict=True):
                row[...] = 0.0 if u is None else u
            reach += 2 * float(np.sqrt((moves**2).sum(axis=-1)).max())
            displacements = moves.reshape(-1, n, 3)
        if any(f is not None for f, _ in changes):
            strains = np.stack([np.broadcast_to(np.eye(3) if f is None else f, (c, 3, 3))
                                for f, _ in changes]).reshape(-1, 3, 3)  # fmt: skip
            reach /= float(np.linalg.svd(strains, compute_uv=False).min())
        listed = self._listed(key, [structure], reach)
        return self._evaluate(
            listed, several, deformation=strains, displacements=displacements, **options
        )

    def _evaluate(self, listed: Structures, several: int, **options: Any) -> Results:
        """All candidates, ``several`` times over; options with a row for each are shared out."""
        if len(self._batches) == 1 and not self.words:
            return self._batches[0].evaluate(listed, several, options)
        shape = (several * self.candidates, len(listed))
        energies, stress = np.full(shape, np.nan), np.full((*shape, 6), np.nan)
        forces = np.full((shape[0], int(listed.atoms[-1]), 3), np.nan)
        for batch in self._batches:
            rows = batch.rows(several, self.candidates)
            own = {key: _of_rows(value, rows, shape[0]) for key, value in options.items()}
            found = batch.evaluate(listed, several, own)
            energies[rows], forces[rows], stress[rows] = found[:3]
        return Results(energies, forces, stress)

    def _static(self, energy: Array, forces: Array, stress: Array, whole: bool) -> Static:
        """Takes note of candidates that gave what is no number."""
        good = np.isfinite(energy)
        if whole:
            good &= np.isfinite(forces).all(axis=(1, 2))
        self.good &= good
        return Static(energy, forces, stress)

    def _listed(self, key: bytes, structures: Sequence[Atoms], reach: float) -> Structures:
        """A list that holds all neighbors within ``reach``; which one it is changes no result."""
        listed = self._lists.get(key)
        if listed is None or listed.cutoff < reach:
            names = [species.name for species in self.model.species]
            listed = Structures([_told(atoms) for atoms in structures], names, reach * GROWTH)
            self._lists[key] = listed
        return listed


class NativeBoxes:
    """The structures of one target under the candidates of a `NativeEngine`."""

    def __init__(
        self, engine: NativeEngine, structures: Sequence[Atoms], keys: Sequence[bytes]
    ) -> None:
        self._engine = engine
        self.structures = structures
        self._keys = keys
        self.candidates = engine.candidates
        self.directions = engine.directions

    def static(
        self, k: int, strain: Array | None = None, displacements: Array | None = None
    ) -> Static:
        if strain is None and displacements is None:
            return self._engine.at_rest(self.structures[k], True, self._keys[k])
        return self.deformed(k, [(strain, displacements)])[0]

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        return self._engine.deformed(self.structures[k], changes, self._keys[k])

    def stretched(self, k: int, scales: Array) -> tuple[Array, Array]:
        changes: list[Change] = [(row[:, None, None] * np.eye(3), None) for row in scales]
        found = self.deformed(k, changes)
        stress = [static.stress[:, :3].mean(axis=1) for static in found]
        return np.stack([static.energy for static in found]), np.stack(stress)

    def statics(self, forces: Sequence[bool] | None = None) -> list[Static]:
        flags = [True] * len(self.structures) if forces is None else forces
        rows = zip(self.structures, flags, self._keys, strict=True)
        return [self._engine.at_rest(*row) for row in rows]

    def slopes(self, forces: Sequence[bool]) -> list[Slope]:
        rows = zip(self._keys, self.structures, forces, strict=True)
        known = self._engine.slopes_known({key: (atoms, flag) for key, atoms, flag in rows})
        return [known[key] for key in self._keys]

    def slopes_deformed(self, k: int, changes: Sequence[Change]) -> list[Slope]:
        return self._engine.slopes_deformed(self.structures[k], changes, self._keys[k])

    def relaxed(self, k: int, strain: Array | None = None) -> Static:
        raise Error(_NO_LAMMPS)

    def lammps(self, k: int) -> Any:
        raise Error(_NO_LAMMPS)

    def fresh(self, k: int) -> AbstractContextManager[Any]:
        raise Error(_NO_LAMMPS)

    def once(self, k: int, what: Hashable, make: Callable[[], Any]) -> Any:
        raise Error(_NO_LAMMPS)


@dataclass(frozen=True)
class _Batch:
    """Candidates the core takes in one call.

    Attributes:
        form: as the core calls it.
        which: their numbers.
        parameters: (C, P), or tables of all of them.
    """

    form: str
    which: npt.NDArray[np.int64]
    parameters: Array | Tables

    def rows(self, several: int, candidates: int) -> npt.NDArray[np.int64]:
        """Where they stand among ``several`` times all ``candidates``."""
        return (np.arange(several)[:, None] * candidates + self.which).ravel()

    def evaluate(self, listed: Structures, several: int, options: Mapping[str, Any]) -> Results:
        given = self.parameters
        if isinstance(given, Tables):
            told: Any = replace(
                given,
                embedding=_tiled(given.embedding, several),
                density=_tiled(given.density, several),
                product=_tiled(given.product, several),
            )
        else:
            told = _tiled(given, several)
        return evaluate(self.form, listed, told, num_threads=1, **options)


def _batches(
    model: Model, values: Sequence[Mapping[str, float]], words: dict[int, str]
) -> list[_Batch]:
    """All of ``values`` but those that have no functions, about which there are ``words`` then."""
    if isinstance(model.form, Eam):
        return _embedded(model, model.form, values, words)
    names = _parameter_names(model)
    rows = [[candidate[name] for name in names] for candidate in values]
    parameters = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
    which = np.arange(len(rows))
    # the core refuses all candidates for one exponent it does not know
    exponents = [k for k, name in enumerate(names) if name.partition("_")[0] == "m"]
    if model.form.pair_style == "tersoff":
        odd = ~np.isin(parameters[:, exponents], (1.0, 3.0)).all(axis=1)
        words.update((int(k), "m must be 1 or 3") for k in which[odd])
        which = which[~odd]
    return [_Batch(model.form.pair_style, which, parameters[which])] if len(which) else []


def _matrix(
    model: Model, values: Mapping[str, float], directions: Mapping[str, npt.ArrayLike]
) -> Array:
    """(P, Q) directions of a candidate's row or tables."""
    rows = {name: np.asarray(row, dtype=np.float64) for name, row in directions.items()}
    count = len(next(iter(rows.values())))
    if not isinstance(model.form, Eam):
        return np.stack([rows.get(name, np.zeros(count)) for name in _parameter_names(model)])
    here = model.form.functions(model, values)
    columns = []
    for q in range(count):
        up, down = (
            model.form.functions(
                model,
                {n: v + side * rows[n][q] if n in rows else v for n, v in values.items()},
                here.cutoff,
            )
            for side in (TABLE_STEP, -TABLE_STEP)
        )
        columns.append(_table_slopes(model, here, up, down))
    return np.stack(columns, axis=1)


def _table_slopes(model: Model, here: Functions, up: Functions, down: Functions) -> Array:
    """(P,) derivatives of the core's tables from those to both sides.

    A grid of densities that stretches is told as densities that shrink: what is read off a table
    depends on their ratio alone.
    """
    width = 2 * TABLE_STEP
    stretch = (up.drho - down.drho) / (width * here.drho)
    slopes = replace(
        here,
        embedding=(up.embedding - down.embedding) / width,
        density=(up.density - down.density) / width - stretch * here.density,
        pair=(up.pair - down.pair) / width,
    )
    row: Array = _tables(model, [slopes]).flat()[0]
    return row


def _tables(model: Model, made: Sequence[Functions]) -> Tables:
    """Of functions that have the same grids."""
    upper = np.triu_indices(len(model.species))
    one = made[0]
    r = one.dr * np.arange(one.pair.shape[-1])
    return Tables(
        np.stack([m.embedding for m in made]),
        # the core's first species gives, the form's first receives
        np.stack([np.swapaxes(m.density, 0, 1) for m in made]),
        np.stack([r * m.pair[upper] for m in made]),
        float(one.drho),
        float(one.dr),
        float(one.cutoff),
    )


def _embedded(
    model: Model, form: Eam, values: Sequence[Mapping[str, float]], words: dict[int, str]
) -> list[_Batch]:
    """Candidates whose tables have the same grids go together."""
    made: dict[int, Functions] = {}
    alike: dict[tuple[float, float, float], list[int]] = {}
    for k, candidate in enumerate(values):
        try:
            made[k] = form.functions(model, candidate)
        except InvalidArgument as error:
            words[k] = str(error)
            continue
        alike.setdefault((made[k].cutoff, made[k].dr, made[k].drho), []).append(k)
    return [
        _Batch("eam", np.array(which), _tables(model, [made[k] for k in which]))
        for which in alike.values()
    ]


def _tiled(rows: Array, several: int) -> Array:
    return rows if several == 1 else np.tile(rows, (several,) + (1,) * (rows.ndim - 1))


def _of_rows(value: Any, rows: npt.NDArray[np.int64], whole: int) -> Any:
    is_of_rows = isinstance(value, np.ndarray) and value.ndim == 3 and len(value) == whole
    return value[rows] if is_of_rows else value


def _parameter_names(model: Model) -> list[str]:
    """Of a candidate's row, in the order the core reads them."""
    columns = COLUMNS[model.form.pair_style]
    slot = next(p.slot for p in model.form.parameters if p.name == columns[0])
    entries = model.form.entries(model.species, slot)
    return [model.name(column, entry) for entry in entries for column in columns]


def _told(atoms: Atoms) -> Any:
    given = atoms.arrays.get("species")
    if given is None:
        return atoms
    return (atoms.positions, np.asarray(atoms.cell), atoms.pbc, [str(name) for name in given])
