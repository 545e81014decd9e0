"""Trajectories of a fixed set of particles in a fixed box, read from and written to files."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlcore.data.geometry import minimum_image, widths
from mlcore.data.source import TextSource
from mlcore.errors import FileFormatError, InvalidArgument

__all__ = [
    "FORMATS",
    "Frame",
    "Trajectory",
    "iter_frames",
    "read_trajectories",
    "read_trajectory",
    "write_trajectory",
]

FloatArray = NDArray[np.float64]
PathLike = str | os.PathLike[str]
Unwrap = bool | Literal["auto"]

FORMATS = ("extxyz", "lammps-dump", "lammps-data")
"""Names accepted as `format`."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Positions of N particles at T times.

    Lengths, times and forces are in the units of the file; mlcore converts nothing.

    Attributes:
        times: (T,) float64, strictly increasing.
        positions: (T, N, 3) float64, unwrapped: a particle that leaves the box goes on.
        cell: (3, 3) float64, one lattice vector per row, or None for open space.
        pbc: (3,) bool, which lattice vectors repeat.
        velocities: (T, N, 3) float64 or None.
        forces: (T, N, 3) float64 or None. The estimators take them as the external forces, and
            the force of the interval between two frames from the later frame.
        ids: (N,) int64, distinct.
        types: (N,) int64 of at least 1, as LAMMPS numbers them, or None.
        energies: (T,) potential energies, or None.
        symbols: (N,) chemical symbols (any words without blanks), or None.
        source: where it came from, for messages.
        units: name of the unit system if the file or the caller gave one.

    Raises `InvalidArgument` when shapes disagree or a value is not finite.
    """

    times: FloatArray
    positions: FloatArray
    cell: FloatArray | None = None
    pbc: NDArray[np.bool_] | None = None
    velocities: FloatArray | None = None
    forces: FloatArray | None = None
    ids: NDArray[np.int64] | None = None
    source: str = ""
    units: str | None = None
    types: NDArray[np.int64] | None = None
    energies: FloatArray | None = None
    symbols: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        positions = self._array("positions", self.positions, None)
        if positions.ndim != 3 or positions.shape[2] != 3 or 0 in positions.shape:
            raise InvalidArgument(f"positions should have shape (T, N, 3), got {positions.shape}")
        frames, n, _ = positions.shape
        times = self._array("times", self.times, (frames,))
        if (np.diff(times) <= 0).any():
            raise InvalidArgument("times should increase strictly")
        if self.cell is not None:
            cell = self._array("cell", self.cell, (3, 3))
            if abs(np.linalg.det(cell)) < 1e-300:
                raise InvalidArgument("cell should have a volume, its vectors lie in one plane")
        self._set_pbc()
        for name in ("velocities", "forces"):
            if getattr(self, name) is not None:
                self._array(name, getattr(self, name), positions.shape)
        ids = np.arange(1, n + 1) if self.ids is None else np.asarray(self.ids)
        if ids.shape != (n,) or ids.dtype.kind not in "iu" or len(np.unique(ids)) != n:
            raise InvalidArgument(f"ids should be {n} distinct integers")
        object.__setattr__(self, "ids", ids.astype(np.int64))
        if "\n" in (self.units or ""):
            raise InvalidArgument(f"units should be one line of text, not {self.units!r}")
        if self.energies is not None:
            self._array("energies", self.energies, (frames,))
        if self.types is not None:
            types = np.asarray(self.types)
            if types.shape != (n,) or types.dtype.kind not in "iu" or (types < 1).any():
                raise InvalidArgument(f"types should be {n} integers of at least 1")
            object.__setattr__(self, "types", types.astype(np.int64))
        if self.symbols is not None:
            symbols = np.asarray(self.symbols)
            plain = symbols.shape == (n,) and symbols.dtype.kind == "U"
            if not plain or any(len(s.split()) != 1 or s.strip() != s for s in symbols.tolist()):
                raise InvalidArgument(f"symbols should be {n} words without blanks")
            object.__setattr__(self, "symbols", symbols)

    def _array(self, name: str, value: ArrayLike, shape: tuple[int, ...] | None) -> FloatArray:
        try:
            array = np.ascontiguousarray(value, dtype=float)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{name} should be numbers: {error}") from error
        if shape is not None and array.shape != shape:
            raise InvalidArgument(f"{name} should have shape {shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise InvalidArgument(f"{name} holds values that are not finite")
        object.__setattr__(self, name, array)
        return array

    def _set_pbc(self) -> None:
        value = (self.cell is not None) if self.pbc is None else self.pbc
        flags = np.asarray(value)
        if flags.shape not in ((), (3,)) or flags.dtype.kind not in "biuf":
            raise InvalidArgument(f"pbc should be one flag or three, got {value!r}")
        pbc = np.array(np.broadcast_to(flags.astype(bool), (3,)))
        if self.cell is None and pbc.any():
            raise InvalidArgument("pbc is set, but there is no cell")
        object.__setattr__(self, "pbc", pbc)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def particles(self) -> int:
        """Number of particles N."""
        return int(self.positions.shape[1])

    @property
    def periodic(self) -> bool:
        """True when any direction repeats."""
        return bool(np.any(self.pbc))

    @property
    def interval(self) -> float:
        """Time between frames. Raises `InvalidArgument` when it is not the same throughout."""
        if len(self) < 2:
            raise InvalidArgument(f"{self.source or 'trajectory'}: one frame has no time step")
        steps = np.diff(self.times)
        if np.ptp(steps) > 1e-6 * steps.mean():
            raise InvalidArgument(
                f"{self.source or 'trajectory'}: the time between frames is not constant "
                f"({steps.min():g} to {steps.max():g})"
            )
        return float((self.times[-1] - self.times[0]) / (len(self) - 1))

    def __getitem__(self, frames: slice) -> Trajectory:
        """Some of the frames, `trajectory[start:stop:step]`; views, not copies."""
        if not isinstance(frames, slice) or (frames.step or 1) < 1:
            raise InvalidArgument("a Trajectory is indexed by slices that go forward")

        def cut(array: FloatArray | None) -> FloatArray | None:
            return None if array is None else array[frames]

        return dataclasses.replace(
            self,
            times=self.times[frames],
            positions=self.positions[frames],
            velocities=cut(self.velocities),
            forces=cut(self.forces),
            energies=cut(self.energies),
        )


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame as it stands in a file, atoms sorted by id.

    Attributes:
        step: time step or None when the file does not tell.
        time: time or None when the file does not tell.
        positions: (N, 3).
        unwrapped: True when the file says so (xu yu zu, or image flags were added).
        cell, pbc, velocities, forces, ids, units, types, symbols: as in `Trajectory`.
        energy: potential energy or None when the file does not tell.
        line: line of the file where the frame begins.
    """

    step: int | None
    time: float | None
    positions: FloatArray
    unwrapped: bool
    cell: FloatArray | None
    pbc: NDArray[np.bool_]
    velocities: FloatArray | None
    forces: FloatArray | None
    ids: NDArray[np.int64]
    units: str | None
    line: int
    types: NDArray[np.int64] | None = None
    energy: float | None = None
    symbols: NDArray[np.str_] | None = None


def iter_frames(path: PathLike, format: str | None = None) -> Iterator[Frame]:
    """The frames of a file one by one: memory stays at one frame however long the file is.

    Raises `FileFormatError` naming file, line and field. See `read_trajectory` for the formats.
    """
    from mlcore.data import extxyz, lammps

    chosen = format or _detect(path)
    if chosen not in FORMATS:
        raise InvalidArgument(f"format should be one of {', '.join(FORMATS)}, got {chosen!r}")
    with TextSource(path) as source:
        if chosen == "extxyz":
            yield from extxyz.frames(source)
        elif chosen == "lammps-dump":
            yield from lammps.dump_frames(source)
        else:
            yield lammps.data_frame(source)


def _detect(path: PathLike) -> str:
    """The format from the name, or else from the first line."""
    name = Path(path).name.removesuffix(".gz")
    if name.endswith((".xyz", ".extxyz")):
        return "extxyz"
    if name.endswith((".dump", ".lammpstrj")):
        return "lammps-dump"
    if name.endswith((".data", ".lmp")) or name.startswith("data."):
        return "lammps-data"
    with TextSource(path) as source:
        first = source.line("a trajectory").strip()
        if first.startswith("ITEM:"):
            return "lammps-dump"
        if first.isdigit():
            return "extxyz"
        for _ in range(20):
            text = source.next_frame()
            if text is not None and text.split("#")[0].split()[1:] == ["atoms"]:
                return "lammps-data"
    raise FileFormatError(
        f"{os.fspath(path)}: neither a LAMMPS dump (first line 'ITEM: TIMESTEP'), nor extxyz "
        "(first line: number of atoms), nor a LAMMPS data file (a line 'N atoms'); "
        f"the first line is {first[:60]!r}"
    )


def read_trajectory(
    path: PathLike,
    dt: float = 1.0,
    format: str | None = None,
    units: str | None = None,
    *,
    unwrap: Unwrap = "auto",
    frames: slice | None = None,
) -> Trajectory:
    """Read a trajectory from extxyz, a LAMMPS text dump or a LAMMPS data file, plain or gzip.

    Types come from the column type, symbols from species (extxyz, where not all are X) or element
    (dump). Atoms are sorted by id. A frame with the step of the frame before it (LAMMPS repeats a frame
    where one `run` ends and the next begins) is dropped; the earlier one, which still carries the
    force of the interval that it ends, is kept.

    Args:
        path: the file.
        dt: time per step; times are step * dt, or frame number * dt where the file has no steps,
            unless the file gives times itself.
        format: "extxyz", "lammps-dump" or "lammps-data"; by default found from name and content.
        units: name of the unit system, checked against the file's own when that has one.
        unwrap: what to do with coordinates not known to be unwrapped (no xu yu zu, no image
            flags). "auto": follow each atom by the minimum image from frame to frame, and raise
            when an atom moves more than a quarter of the box's width in one interval, where that
            is a guess. True: the same without that check. False: take coordinates as they are.
        frames: which frames to keep, e.g. `slice(None, None, 2)` for every other.

    Raises:
        FileFormatError: the file is absent, empty, cut, not readable, or holds something other
            than its format promises; the message names file, line and field.
    """
    if not (isinstance(dt, (int, float)) and np.isfinite(dt) and dt > 0):
        raise InvalidArgument(f"dt should be a positive number, got {dt}")
    if unwrap not in (True, False, "auto"):
        raise InvalidArgument(f'unwrap should be True, False or "auto", got {unwrap!r}')
    kept = list(_distinct(path, iter_frames(path, format)))
    _check_same(path, kept, units)
    positions = np.stack([f.positions for f in kept])
    first = kept[0]
    if unwrap and not first.unwrapped and first.cell is not None and first.pbc.any():
        _unwrap(path, positions, first.cell, first.pbc, unwrap == "auto")

    def stack(name: str) -> FloatArray | None:
        arrays = [getattr(f, name) for f in kept]
        return None if any(a is None for a in arrays) else np.stack(arrays)

    trajectory = Trajectory(
        times=_times(kept, dt),
        positions=positions,
        cell=first.cell,
        pbc=first.pbc,
        velocities=stack("velocities"),
        forces=stack("forces"),
        ids=first.ids,
        source=os.fspath(path),
        units=units or first.units,
        types=first.types,
        energies=_energies(kept),
        symbols=first.symbols,
    )
    return trajectory if frames is None else trajectory[frames]


def read_trajectories(
    paths: PathLike | Iterable[PathLike],
    dt: float = 1.0,
    format: str | None = None,
    units: str | None = None,
    *,
    unwrap: Unwrap = "auto",
    frames: slice | None = None,
) -> list[Trajectory]:
    """Read several files (a list of paths, or one pattern such as "run_*.dump.gz").

    Arguments and errors as in `read_trajectory`; a pattern without a match is a `FileFormatError`.
    """
    if isinstance(paths, str | os.PathLike):
        found: Sequence[PathLike] = sorted(glob.glob(os.fspath(paths)))  # noqa: PTH207
        if not found:
            raise FileFormatError(f"{os.fspath(paths)}: no such file")
    else:
        found = list(paths)
    return [read_trajectory(p, dt, format, units, unwrap=unwrap, frames=frames) for p in found]


def _distinct(path: PathLike, frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames without repeats of a step; the first of equal steps stays."""
    last: Frame | None = None
    for frame in frames:
        if last is not None and last.step is not None and frame.step is not None:
            if frame.step < last.step:
                raise FileFormatError(
                    f"{os.fspath(path)}, line {frame.line}: step {frame.step} after step "
                    f"{last.step}; steps should increase"
                )
            if frame.step == last.step:
                _check_repeat(path, last, frame)
                continue
        last = frame
        yield frame
    if last is None:
        raise FileFormatError(f"{os.fspath(path)}: holds no frame")


def _check_repeat(path: PathLike, first: Frame, again: Frame) -> None:
    same = first.positions.shape == again.positions.shape and np.allclose(
        first.positions, again.positions, rtol=1e-5, atol=1e-3 * np.abs(first.positions).max()
    )
    if not same:
        raise FileFormatError(
            f"{os.fspath(path)}, line {again.line}: step {again.step} occurs twice with different "
            "positions"
        )


def _check_same(path: PathLike, frames: Sequence[Frame], units: str | None) -> None:
    """All frames hold the same atoms in the same box."""
    first = frames[0]
    if units and first.units and units != first.units:
        raise FileFormatError(
            f"{os.fspath(path)}: units are {first.units!r} in the file, {units!r} were asked for"
        )
    for frame in frames:
        where = f"{os.fspath(path)}, line {frame.line}: "
        if len(frame.ids) != len(first.ids):
            raise FileFormatError(
                f"{where}{len(frame.ids)} atoms, but {len(first.ids)} in the first frame"
            )
        if (frame.ids != first.ids).any():
            odd = sorted(set(frame.ids.tolist()) ^ set(first.ids.tolist()))
            raise FileFormatError(f"{where}atom ids differ from the first frame's: {odd[:6]}")
        if not np.array_equal(_types(frame), _types(first)):
            raise FileFormatError(f"{where}types differ from the first frame's")
        if not np.array_equal(_symbols(frame), _symbols(first)):
            raise FileFormatError(f"{where}symbols differ from the first frame's")
        if (frame.cell is None) != (first.cell is None) or (frame.pbc != first.pbc).any():
            raise FileFormatError(f"{where}box or pbc appear or vanish between frames")
        if (
            first.cell is not None
            and frame.cell is not None
            and not np.allclose(
                frame.cell, first.cell, rtol=0, atol=1e-6 * np.abs(first.cell).max()
            )
        ):
            raise FileFormatError(f"{where}the box changes; a constant box is needed")


def _types(frame: Frame) -> NDArray[np.int64]:
    return np.zeros(0, np.int64) if frame.types is None else frame.types


def _symbols(frame: Frame) -> NDArray[np.str_]:
    return np.zeros(0, "U1") if frame.symbols is None else frame.symbols


def _energies(frames: Sequence[Frame]) -> FloatArray | None:
    found = [f.energy for f in frames if f.energy is not None]
    return np.array(found) if len(found) == len(frames) else None


def _times(frames: Sequence[Frame], dt: float) -> FloatArray:
    if all(f.time is not None for f in frames):
        return np.array([f.time for f in frames], dtype=float)
    if all(f.step is not None for f in frames):
        return dt * np.array([f.step for f in frames], dtype=float)
    return dt * np.arange(len(frames), dtype=float)


def _unwrap(
    path: PathLike, positions: FloatArray, cell: FloatArray, pbc: NDArray[np.bool_], check: bool
) -> None:
    """Follow every atom by the minimum image, in place."""
    narrowest = float(widths(cell, pbc).min())
    for k, (before, now) in enumerate(pairwise(positions), start=1):
        step = minimum_image(now - before, cell, pbc)
        now[:] = before + step
        left = float(np.sqrt((step * step).sum(-1)).max()) / narrowest
        if check and left > 0.25:
            raise FileFormatError(
                f"{os.fspath(path)}: coordinates are not unwrapped and an atom moves {left:.2f} of "
                f"the box between frames {k - 1} and {k}, so unwrapping would be a guess; write "
                "xu yu zu or ix iy iz, or say unwrap=True or unwrap=False"
            )


def write_trajectory(
    path: PathLike, trajectory: Trajectory, format: str | None = None, *, dt: float = 1.0
) -> None:
    """Write an extxyz file or a LAMMPS text dump, gzip-compressed when `path` ends in .gz.

    Numbers are written with full precision; positions unwrapped (columns xu yu zu in a dump).
    The file appears whole or not at all.

    Args:
        path: the file to write.
        trajectory: what to write.
        format: "extxyz" or "lammps-dump"; by default from the name.
        dt: time per step, for the integer steps of a dump; times must be multiples of it.
    """
    from mlcore.data import extxyz, lammps

    name = Path(path).name.removesuffix(".gz")
    ends = {"extxyz": (".xyz", ".extxyz"), "lammps-dump": (".dump", ".lammpstrj")}
    chosen = format or next((f for f, known in ends.items() if name.endswith(known)), None)
    if chosen is None:
        raise InvalidArgument(
            f"format should be given for {name!r}: it ends in none of .xyz, .extxyz, .dump, .lammpstrj"
        )
    if chosen == "extxyz":
        extxyz.write(path, trajectory)
    elif chosen == "lammps-dump":
        lammps.write_dump(path, trajectory, dt)
    else:
        raise InvalidArgument(f"format should be extxyz or lammps-dump, got {chosen!r}")
