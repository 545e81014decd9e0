"""Configurations with known forces and energies: from `ase.Atoms` or trajectories, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.arrays import box, is_atoms
from mlcore.data import Trajectory
from mlcore.data.ase_units import ase_velocities
from mlcore.data.extxyz import TIME, VELOCITIES
from mlcore.data.kinds import Kinds, held
from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Configuration", "Kinds", "digest", "finite", "read_frames", "split"]

Array = NDArray[np.float64]


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

        What is not given is that of the Atoms. Momenta, which ASE keeps in
        units of its own, become velocities in the units of `kinds`, and none where it has no units.
        Without momenta an array `velo` or `vel`, as `ase.io.read` makes it of an extended XYZ file,
        and the info `time` are taken as they are, as energies and forces.

        pbc alone says which cell vectors repeat, as in ASE; a cell beside positions needs it.

        Raises:
            InvalidArgument: naming the argument.
        """
        if is_atoms(positions):
            atoms = positions
            rows, flags = box(
                atoms.cell if cell is None else cell, atoms.pbc if pbc is None else pbc
            )
            v, foreign = velocities, False
            if v is None and atoms.has("momenta"):
                foreign = kinds.units is None
                v = None if kinds.units is None else ase_velocities(atoms, kinds.units)
            elif v is None:
                v = held(atoms, VELOCITIES)
            told = next((atoms.info[name] for name in TIME if name in atoms.info), None)
            time = told if time is None else time
            x = _vectors("positions", atoms.positions)
            if types is None:
                kinds.check_alike([atoms])
            kind = kinds.of_atoms(atoms) if types is None else kinds.of_numbers(types, len(x))
        else:
            if cell is not None and pbc is None:
                raise InvalidArgument(
                    "pbc must be given beside a cell: True, False, or three flags of its vectors"
                )
            rows, flags = box(cell, pbc)
            x, v, foreign = _vectors("positions", positions), velocities, False
            kind = kinds.of_numbers(types, len(x))
        speeds = None if v is None else _vectors("velocities", v, len(x))
        when = 0.0 if time is None else finite("time", time)
        return cls(x, kind, rows, flags, speeds, time=when, foreign=foreign)

    def wrapped(self) -> Array:
        """Positions inside the cell along its periodic axes."""
        if not any(self.pbc):
            return self.x
        flags = np.array(self.pbc)
        inverse = np.linalg.pinv(self.cell[flags])
        return np.asarray(self.x - np.floor(self.x @ inverse) @ self.cell[flags])


def finite(name: str, value: Any) -> float:
    """A number. Raises InvalidArgument where it is none, or not finite."""
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "iuf" or not np.isfinite(number).all():
        raise InvalidArgument(f"{name} must be a finite number, not {value!r}")
    return float(number.item())


def _vectors(name: str, values: Any, n: int | None = None) -> Array:
    try:
        array = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} must be numbers, not {values!r:.60}") from error
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
    kinds.check_units(t.units)
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
    kinds.check_units(atoms.info.get("units"))
    plain = Configuration.of(atoms, kinds)
    forces, energy = atoms.arrays.get("forces"), atoms.info.get("energy")
    if atoms.calc is not None:
        forces = _measured(atoms, "forces", forces)
        energy = _measured(atoms, "energy", energy)
    return replace(
        plain,
        forces=None if forces is None else _vectors("forces", forces, len(plain.x)),
        energy=None if energy is None else finite("energy", energy),
    )


def _measured(atoms: Atoms, name: str, otherwise: Any) -> Any:
    from ase.calculators.calculator import PropertyNotImplementedError

    try:
        if name == "forces":
            return atoms.get_forces(apply_constraint=False)
        return atoms.get_potential_energy()
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
