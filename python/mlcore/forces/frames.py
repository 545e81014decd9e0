"""Configurations with known forces and energies: from `ase.Atoms` or trajectories, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import chemical_symbols
from numpy.typing import ArrayLike, NDArray

from mlcore.arrays import box, is_atoms
from mlcore.data import Trajectory
from mlcore.data.ase_units import ase_velocities, checked_style
from mlcore.data.extxyz import TIME, TYPES, VELOCITIES
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Configuration", "Kinds", "digest", "read_frames", "split"]

Array = NDArray[np.float64]


class Kinds:
    """How atoms are read.

    Args:
        given: types of atoms: a number, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        units: of velocities: "lj", "metal", "real", or None where none was told.

    Raises:
        InvalidArgument: no types, a symbol twice, or other units.
    """

    def __init__(self, given: int | str | Sequence[str], units: str | None = None) -> None:
        self.given = given
        self.units = checked_style(units)
        self.symbols: tuple[str, ...] | None = None
        if isinstance(given, str):
            self.symbols = (given,)
        elif not isinstance(given, int):
            self.symbols = tuple(given)
        self.count = given if isinstance(given, int) else len(self.symbols or ())
        if isinstance(given, bool) or self.count < 1:
            raise InvalidArgument(
                f"types must be a number of at least 1 or chemical symbols, not {given!r}"
            )
        if self.symbols is not None and len(set(self.symbols)) != self.count:
            raise InvalidArgument(f"types must be different symbols, not {given!r}")

    def of_atoms(self, atoms: Atoms) -> NDArray[np.int64]:
        """(n,) from 0: of the symbols, or of an array `type` from 1."""
        if self.symbols is not None:
            return self.of_symbols(list(atoms.symbols))
        held = None if self.count == 1 else _held(atoms, TYPES)
        self.check_alike([atoms])
        return self.of_numbers(held, len(atoms))

    def of_trajectory(self, t: Trajectory) -> NDArray[np.int64]:
        """(n,) from 0: of the symbols where both sides have them, else of the types."""
        if self.symbols is None:
            if self.count > 1 and t.types is None and t.symbols is not None:
                told = ", ".join(sorted(set(t.symbols.tolist())))
                raise InvalidArgument(f"types must be symbols: the frames hold {told} and no types")
            return self.of_numbers(None if self.count == 1 else t.types, t.particles)
        if t.symbols is None:
            return self.of_numbers(t.types, t.particles)
        return self.of_symbols(t.symbols.tolist())

    def of_symbols(self, symbols: Sequence[str]) -> NDArray[np.int64]:
        """(n,) from 0."""
        place = {symbol: k for k, symbol in enumerate(self.symbols or ())}
        strange = sorted(set(symbols) - set(place))
        if strange:
            told = ", ".join(place)
            raise InvalidArgument(f"atoms hold {', '.join(strange)}, the types are {told}")
        return np.array([place[s] for s in symbols], dtype=np.int64)

    def check_alike(self, parts: Iterable[Any]) -> None:
        """Atoms or trajectories that tell apart what a model of one type takes as the same.

        Raises:
            InvalidArgument: several symbols or types, and the model has one type without a symbol.
        """
        if self.symbols is not None or self.count > 1:
            return
        symbols: set[str] = set()
        numbers: set[str] = set()
        for part in parts:
            held = None
            if isinstance(part, Trajectory):
                held = part.types
                symbols |= set() if part.symbols is None else set(part.symbols.tolist())
            if is_atoms(part):
                symbols |= {chemical_symbols[z] for z in np.unique(part.numbers)}
                held = _held(part, TYPES)
            numbers |= set() if held is None else {str(n) for n in np.unique(held)}
        for found, way in ((symbols, "their symbols"), (numbers, "their number")):
            if len(found) > 1:
                told = ", ".join(sorted(found))
                raise InvalidArgument(f"types is 1, but the atoms are of {told}: give types {way}")

    def of_numbers(self, types: ArrayLike | None, n: int) -> NDArray[np.int64]:
        """(n,) from 0, of LAMMPS' types from 1; None is all 1 where there is one type."""
        if types is None:
            if self.count > 1:
                raise InvalidArgument(f"types of the atoms are needed: the model has {self.count}")
            return np.zeros(n, np.int64)
        found = np.asarray(types)
        if found.shape != (n,) or found.dtype.kind not in "iu":
            raise InvalidArgument(f"types must be ({n},) integers, not {found.dtype} {found.shape}")
        if n and not (found.min() >= 1 and found.max() <= self.count):
            span = f"{found.min()}..{found.max()}"
            raise InvalidArgument(f"types must lie in 1..{self.count}, found {span}")
        return found.astype(np.int64) - 1


def _held(atoms: Atoms, names: Iterable[str]) -> Any:
    """The first of these arrays that the atoms have, or None."""
    return next((atoms.arrays[n] for n in names if n in atoms.arrays), None)


@dataclass(frozen=True)
class Configuration:
    """One frame.

    Args:
        x: (n, 3) positions.
        types: (n,) from 0.
        cell, pbc: (3, 3) rows and three flags.
        v, forces: (n, 3) or None.
        energy: potential energy or None.
        time: when.
        foreign: it had velocities in units of ASE, and nobody told which are wanted.
    """

    x: Array
    types: NDArray[np.int64]
    cell: Array
    pbc: tuple[bool, bool, bool]
    v: Array | None = None
    forces: Array | None = None
    energy: float | None = None
    time: float = 0.0
    foreign: bool = False

    @classmethod
    def of(
        cls,
        positions: Any,
        kinds: Kinds,
        *,
        types: ArrayLike | None = None,
        cell: ArrayLike | None = None,
        pbc: Any = None,
        velocities: ArrayLike | None = None,
        time: float | None = None,
    ) -> Configuration:
        """Of `ase.Atoms`, or of arrays; without forces or energy.

        Velocities and time that are not given are those of the Atoms. Momenta, which ASE keeps in
        units of its own, become velocities in the units of `kinds`, and none where it has no units.
        Without momenta an array `velo` or `vel`, as `ase.io.read` makes it of an extended XYZ file,
        and the info `time` are taken as they are, as energies and forces.

        pbc alone says which cell vectors repeat, as in ASE; a cell beside positions needs it.

        Raises:
            InvalidArgument: naming the argument.
        """
        if is_atoms(positions):
            atoms = positions
            rows, flags = box(atoms.cell, atoms.pbc)
            v, foreign = velocities, False
            if v is None and atoms.has("momenta"):
                foreign = kinds.units is None
                v = None if kinds.units is None else ase_velocities(atoms, kinds.units)
            elif v is None:
                v = _held(atoms, VELOCITIES)
            told = next((atoms.info[name] for name in TIME if name in atoms.info), None)
            time = told if time is None else time
            x, kind = _vectors("positions", atoms.positions), kinds.of_atoms(atoms)
        else:
            if cell is not None and pbc is None:
                raise InvalidArgument(
                    "pbc must be given beside a cell: True, False, or three flags of its vectors"
                )
            rows, flags = box(cell, pbc)
            x, v, foreign = _vectors("positions", positions), velocities, False
            kind = kinds.of_numbers(types, len(x))
        speeds = None if v is None else _vectors("velocities", v, len(x))
        when = 0.0 if time is None else _moment(time)
        return cls(x, kind, rows, flags, speeds, time=when, foreign=foreign)

    def wrapped(self) -> Array:
        """Positions inside the cell along its periodic axes."""
        if not any(self.pbc):
            return self.x
        flags = np.array(self.pbc)
        inverse = np.linalg.pinv(self.cell[flags])
        return np.asarray(self.x - np.floor(self.x @ inverse) @ self.cell[flags])


def _moment(time: Any) -> float:
    number = np.asarray(time)
    if number.size != 1 or number.dtype.kind not in "iuf" or not np.isfinite(number).all():
        raise InvalidArgument(f"time must be a finite number, not {time!r}")
    return float(number.item())


def _vectors(name: str, values: Any, n: int | None = None) -> Array:
    array = np.ascontiguousarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 3 or (n is not None and len(array) != n):
        count = "n" if n is None else str(n)
        raise InvalidArgument(f"{name} must have the shape ({count}, 3), not {array.shape}")
    if not np.isfinite(array).all():
        raise InvalidArgument(f"{name} must be finite")
    return array


def read_frames(frames: Any, kinds: Kinds, name: str = "frames") -> list[Configuration]:
    """Configurations of `ase.Atoms`, `mlcore.data.Trajectory`, or a sequence of them.

    Forces and energies of `Atoms` are those of its calculator (constraints left out), or its array
    `forces` and its info `energy`.

    Raises:
        InvalidArgument: no frame, or one of them is not what it should be.
    """
    parts: Iterable[Any] = frames
    if isinstance(frames, Trajectory) or is_atoms(frames):
        parts = [frames]
    elif isinstance(frames, (str, bytes)) or not isinstance(frames, Iterable):
        raise InvalidArgument(
            f"{name} must be ase.Atoms or trajectories (mlcore.data.read_trajectory), not {frames!r}"
        )
    known, found = list(parts), []
    for part in known:
        if isinstance(part, Configuration):
            found.append(part)
        elif isinstance(part, Trajectory):
            found += _of_trajectory(part, kinds)
        elif is_atoms(part):
            found.append(_of_atoms(part, kinds))
        else:
            raise InvalidArgument(f"{name} must hold ase.Atoms or trajectories, not {part!r:.60}")
    if not found:
        raise InvalidArgument(f"{name} must hold at least one frame")
    kinds.check_alike(known)
    return found


def _of_trajectory(trajectory: Trajectory, kinds: Kinds) -> Iterator[Configuration]:
    t = trajectory
    rows, flags = box(t.cell, t.pbc)
    types = kinds.of_trajectory(t)
    for k in range(len(t)):
        yield Configuration(
            t.positions[k],
            types,
            rows,
            flags,
            None if t.velocities is None else t.velocities[k],
            None if t.forces is None else t.forces[k],
            None if t.energies is None else float(t.energies[k]),
            float(t.times[k]),
        )


def _of_atoms(atoms: Atoms, kinds: Kinds) -> Configuration:
    plain = Configuration.of(atoms, kinds)
    forces, energy = atoms.arrays.get("forces"), atoms.info.get("energy")
    if atoms.calc is not None:
        forces = _measured(atoms, "forces", forces)
        energy = _measured(atoms, "energy", energy)
    return replace(
        plain,
        forces=None if forces is None else _vectors("forces", forces, len(plain.x)),
        energy=None if energy is None else float(energy),
    )


def _measured(atoms: Atoms, name: str, otherwise: Any) -> Any:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        if name == "forces":
            return atoms.get_forces(apply_constraint=False)  # type: ignore[no-untyped-call]
        return atoms.get_potential_energy()  # type: ignore[no-untyped-call]
    except PropertyNotImplementedError:
        return otherwise


def split(
    frames: list[Configuration], validation: Any, kinds: Kinds, seed: int
) -> tuple[list[Configuration], list[Configuration]]:
    """Frames to learn from and frames held out.

    Args:
        frames: all of them.
        validation: part of the frames to hold out, chosen by seed; or other frames; None: nothing.
        kinds: of the atoms.
        seed: of the choice.

    Raises:
        InvalidArgument: naming validation, also where it leaves no frame to learn from.
    """
    if validation is None:
        return frames, []
    if not isinstance(validation, (int, float)) or isinstance(validation, bool):
        return frames, read_frames(validation, kinds, "validation")
    if not 0 <= validation < 1:
        raise InvalidArgument(f"validation must be frames or a part in [0, 1), not {validation!r}")
    held = round(validation * len(frames))
    if held == len(frames):
        raise InvalidArgument(
            f"validation must leave frames to learn from: {validation!r} holds out all {held}"
        )
    order = np.random.default_rng(seed).permutation(len(frames))
    chosen = set(order[:held].tolist())
    return (
        [f for k, f in enumerate(frames) if k not in chosen],
        [f for k, f in enumerate(frames) if k in chosen],
    )


def digest(frames: Iterable[Configuration]) -> str:
    """SHA-256 of the content of frames."""
    told = hashlib.sha256()
    for frame in frames:
        for part in (frame.x, frame.types, frame.cell, frame.pbc, frame.v, frame.forces):
            told.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        told.update(repr((frame.energy, frame.time)).encode())
    return told.hexdigest()
