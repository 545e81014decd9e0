"""Frames to learn from: `ase.Atoms`, trajectories or positions, and their labels, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.arrays import box, is_atoms
from mlcore.data import Trajectory
from mlcore.data.ase_units import ase_velocities
from mlcore.data.extxyz import VELOCITIES
from mlcore.data.kinds import Kinds, held
from mlcore.errors import InvalidArgument
from mlcore.networks.configurations import unwrapped

__all__ = [
    "Frame",
    "configuration",
    "digest",
    "fold",
    "numbers",
    "one_size",
    "read_frames",
    "read_labels",
]

Array = NDArray[np.float64]


def numbers(name: str, values: Any) -> Array:
    """A new array. Raises InvalidArgument where the values are no numbers."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} must be numbers, not {values!r:.60}") from error


def configuration(
    atoms: Any, cell: ArrayLike | None, pbc: Any
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Positions, cell rows and periodicity; the rows that do not repeat are zero."""
    if is_atoms(atoms):
        atoms, cell, pbc = atoms.positions, atoms.cell, atoms.pbc
    x = numbers("atoms", atoms)
    if x.ndim != 2 or x.shape[1] != 3 or not np.isfinite(x).all():
        raise InvalidArgument(f"atoms must be finite positions (n, 3), not of shape {x.shape}")
    given, flags = box(cell, pbc)
    repeats = np.array(flags)
    rows = np.where(repeats[:, None], given, 0.0)
    if np.linalg.matrix_rank(rows) < repeats.sum():
        raise InvalidArgument("cell must have a vector of its own along every axis that repeats")
    return np.ascontiguousarray(x), rows, repeats


def fold(x: Array, rows: Array) -> Array:
    """Positions in the cell whose lower corner is 0, along the axes that repeat, as a run sees them."""
    if not rows.any():
        return x
    found: Array = x - np.floor(x @ np.linalg.pinv(rows)) @ rows
    return found


@dataclass(frozen=True)
class Frame:
    """One configuration.

    Args:
        x: (n, 3) positions.
        cell: (3, 3) rows, zero where they do not repeat.
        repeats: (3,) flags.
        types: (n,) from 0.
        v: (n, 3) or None.
    """

    x: Array
    cell: Array
    repeats: NDArray[np.bool_]
    types: NDArray[np.int64]
    v: Array | None = None

    @classmethod
    def of(
        cls,
        atoms: Any,
        kinds: Kinds,
        cell: ArrayLike | None = None,
        pbc: Any = False,
        types: ArrayLike | None = None,
        velocities: ArrayLike | None = None,
    ) -> Frame:
        """Of `ase.Atoms`, or of arrays.

        Raises:
            InvalidArgument: naming the argument.
        """
        x, rows, repeats = configuration(atoms, cell, pbc)
        if len(x) == 0:
            raise InvalidArgument("atoms must hold at least one atom")
        v = velocities
        if is_atoms(atoms):
            own = kinds.of_atoms(atoms) if types is None else kinds.of_numbers(types, len(x))
            if v is None and not atoms.has("momenta"):
                v = held(atoms, VELOCITIES)
            elif v is None and kinds.units is not None:
                v = ase_velocities(atoms, kinds.units)
        else:
            own = kinds.of_numbers(types, len(x))
        speeds = None if v is None else np.asarray(v, np.float64)
        if speeds is not None and (speeds.shape != x.shape or not np.isfinite(speeds).all()):
            raise InvalidArgument(f"velocities must be finite and of shape {x.shape}")
        return cls(x, rows, repeats, own, speeds)

    def folded(self) -> Array:
        """(n, 3) positions inside the cell."""
        return fold(self.x, self.cell)

    def whole(self) -> torch.Tensor:
        """(n, 3) positions of a chain, each atom at the nearest image of the one before it."""
        return unwrapped(torch.from_numpy(self.x), torch.from_numpy(self.cell))


def one_size(frames: Iterable[Frame], name: str = "frames") -> int:
    """Atoms of every frame. Raises InvalidArgument when their numbers differ."""
    sizes = sorted({len(frame.x) for frame in frames})
    if len(sizes) > 1:
        told = ", ".join(map(str, sizes))
        raise InvalidArgument(f"{name} hold {told} atoms; a configuration has one number")
    return sizes[0]


def read_frames(frames: Any, kinds: Kinds, name: str = "frames") -> list[Frame]:
    """Configurations of a trajectory, or of a sequence of trajectories, `ase.Atoms` or positions.

    Raises:
        InvalidArgument: no frame, or one of them is not what it should be.
    """
    parts = [frames] if isinstance(frames, Trajectory) or is_atoms(frames) else frames
    if isinstance(parts, (str, bytes)) or not isinstance(parts, Iterable):
        raise InvalidArgument(f"{name} must be configurations or trajectories, not {frames!r:.60}")
    found: list[Frame] = []
    for part in parts:
        if isinstance(part, Frame):
            found.append(part)
        elif isinstance(part, Trajectory):
            found += _of_trajectory(part, kinds)
        else:
            try:
                found.append(Frame.of(part, kinds))
            except (InvalidArgument, TypeError, ValueError) as error:
                raise InvalidArgument(f"{name}: number {len(found)}: {error}") from error
    if not found:
        raise InvalidArgument(f"{name} must hold at least one configuration")
    return found


def _of_trajectory(t: Trajectory, kinds: Kinds) -> Iterator[Frame]:
    kinds.check_units(t.units)
    types = kinds.of_trajectory(t)
    repeats = np.zeros(3, bool) if t.pbc is None else t.pbc
    rows = np.zeros((3, 3)) if t.cell is None else np.where(repeats[:, None], t.cell, 0.0)
    for k in range(len(t)):
        v = None if t.velocities is None else t.velocities[k]
        yield Frame(t.positions[k], rows, repeats, types, v)


def read_labels(
    labels: Any, frames: Sequence[Frame], values: int, per_atom: bool, name: str = "labels"
) -> list[Array]:
    """(values,) of each frame, or (n, values) of its atoms.

    Raises:
        InvalidArgument: shapes that are not those of the frames, or values that are not finite.
    """
    given = list(labels) if isinstance(labels, Iterable) else []
    if len(given) != len(frames):
        raise InvalidArgument(
            f"{name} must hold one for each of the {len(frames)} frames, not "
            f"{len(given) if given else repr(labels)[:60]}"
        )
    found = []
    for number, (label, frame) in enumerate(zip(given, frames, strict=True)):
        wanted = (len(frame.x), values) if per_atom else (values,)
        short = wanted[:-1] if values == 1 else wanted
        try:
            array = np.asarray(label, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{name}: number {number} is no array of numbers") from error
        if array.shape not in (wanted, short):
            raise InvalidArgument(
                f"{name}: number {number} must have the shape {wanted}, not {array.shape}"
            )
        if not np.isfinite(array).all():
            raise InvalidArgument(f"{name}: number {number} holds NaN or infinite values")
        found.append(np.ascontiguousarray(array.reshape(wanted)))
    return found


def digest(frames: Iterable[Frame], labels: Iterable[Array] = ()) -> str:
    """SHA-256 of the content of frames and labels."""
    told = hashlib.sha256()
    for frame in frames:
        for part in (frame.x, frame.cell, frame.types, frame.v):
            told.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
    for label in labels:
        told.update(label.tobytes())
    return told.hexdigest()
