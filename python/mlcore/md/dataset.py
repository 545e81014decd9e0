"""Runs of one reference system, in memory and in HDF5 files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, number
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.io.atomic import atomic_path
from mlcore.md.systems import System, named

__all__ = ["Dataset"]

Array = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]
_FORMAT = "mlcore runs"
_ARRAYS = ("positions", "velocities", "potential", "kinetic", "masses")


@dataclass(frozen=True, eq=False)
class Dataset:
    """R runs of T frames at equal distances in time. All arrays float64.

    Attributes:
        system: name of the reference system.
        positions: (R, T, n, d), unwrapped.
        velocities: (R, T, n, d).
        potential: (R, T) energies.
        kinetic: (R, T) energies.
        masses: (R, n).
        interval: time between frames.
        parameters: what each run was made with, name -> (R,): those of the system, "x0", "seed".
        fixed: parameters of the system that all runs share.
        provenance: how the frames were made: integrator, its step, versions.
    """

    system: str
    positions: Array
    velocities: Array
    potential: Array
    kinetic: Array
    masses: Array
    interval: float
    parameters: Mapping[str, Array] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _ARRAYS:
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.float64:
                got = getattr(array, "dtype", type(array).__name__)
                raise InvalidArgument(f"{name} must be a float64 array, got {got}")
        if self.positions.ndim != 4 or 0 in self.positions.shape:
            raise InvalidArgument(
                f"positions must have the shape (R, T, n, d), got {self.positions.shape}"
            )
        runs, frames, n, _ = self.positions.shape
        shapes = {
            "velocities": self.positions.shape,
            "potential": (runs, frames),
            "kinetic": (runs, frames),
            "masses": (runs, n),
        } | {f"parameters[{name!r}]": (runs,) for name in self.parameters}
        for name, shape in shapes.items():
            array = self._named(name)
            if array.shape != shape:
                raise InvalidArgument(f"{name} must have the shape {shape}, got {array.shape}")
        for name in ("positions", *shapes):
            if not np.isfinite(self._named(name)).all():
                raise InvalidArgument(f"{name} must be finite")
        if not (self.masses > 0).all():
            raise InvalidArgument("masses must be positive")
        if not number("interval", self.interval) > 0:
            raise InvalidArgument(f"interval must be positive, got {self.interval}")

    def _named(self, name: str) -> Array:
        if name.startswith("parameters["):
            return self.parameters[name[12:-2]]
        return np.asarray(getattr(self, name))

    def __len__(self) -> int:
        """R."""
        return len(self.positions)

    def __getitem__(self, which: Any) -> Dataset:
        """Some of the runs: a slice, a mask, indices or one index."""
        chosen = np.atleast_1d(np.arange(len(self))[which])
        arrays = {name: getattr(self, name)[chosen] for name in _ARRAYS}
        parameters = {name: values[chosen] for name, values in self.parameters.items()}
        return replace(self, **arrays, parameters=parameters)

    @property
    def times(self) -> Array:
        """(T,)."""
        return np.asarray(self.interval * np.arange(self.positions.shape[1]))

    @property
    def energy(self) -> Array:
        """(R, T) potential + kinetic."""
        return self.potential + self.kinetic

    def _check_system(self) -> None:
        system = self.system_of(0)
        if self.positions.shape[2:] != (system.particles, system.dim):
            raise InvalidArgument(
                f"{self.system} has {system.particles} particles in {system.dim} dimensions, "
                f"positions have {self.positions.shape[2:]}"
            )

    def system_of(self, run: int) -> System:
        """The system a run was made with."""
        from mlcore.md.systems import parameters_of

        own = {
            k: v[run].item() for k, v in self.parameters.items() if k in parameters_of(self.system)
        }
        return named(self.system, **self.fixed, **own)

    def frames(self, which: slice) -> Dataset:
        """Some frames of all runs: `data.frames(slice(5))` are the first five."""
        first, last, step = which.indices(self.positions.shape[1])
        if step < 1 or first >= last:
            raise InvalidArgument(f"which must choose frames in the order of time, got {which}")
        arrays = {name: getattr(self, name)[:, which] for name in _ARRAYS if name != "masses"}
        return replace(self, **arrays, interval=self.interval * step)

    def stride(self, k: int) -> Dataset:
        """Every k-th frame."""
        if integer("k", k) < 1:
            raise InvalidArgument(f"k must be at least 1, got {k}")
        return self.frames(slice(None, None, k))

    def split(self, fraction: float = 0.8, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Training and held-out data: whole runs, chosen at random.

        Args:
            fraction: of the runs for training; at least one run lands on either side.
            seed: of the choice.
        """
        if not 0 < number("fraction", fraction) < 1:
            raise InvalidArgument(f"fraction must lie between 0 and 1, got {fraction}")
        if len(self) < 2:
            raise InvalidArgument("one run cannot be split; window samples by name may be")
        order = np.random.default_rng(seed).permutation(len(self))
        count = min(max(round(fraction * len(self)), 1), len(self) - 1)
        return self[np.sort(order[:count])], self[np.sort(order[count:])]

    @classmethod
    def concatenate(cls, parts: Sequence[Dataset]) -> Dataset:
        """Runs of several datasets that agree in all else.

        Raises:
            InvalidArgument: there are none, or they differ in system, interval, shape or parameters.
        """
        if not parts:
            raise InvalidArgument("parts must hold a Dataset or more")
        first = parts[0]
        for part in parts[1:]:
            if part._kind() != first._kind() or not np.isclose(
                part.interval, first.interval, 1e-9, 0
            ):
                raise InvalidArgument("parts must agree in system, interval, shape and parameters")
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS
        }
        parameters = {k: np.concatenate([p.parameters[k] for p in parts]) for k in first.parameters}
        return replace(first, **arrays, parameters=parameters)

    def _kind(self) -> tuple[Any, ...]:
        """What runs of one data set share."""
        names = sorted(self.parameters)
        return (
            self.system,
            self.positions.shape[1:],
            names,
            json.dumps(dict(self.fixed), sort_keys=True),
        )

    def save(self, path: PathLike) -> None:
        """HDF5: arrays under their names, `parameters/`, and attributes. Whole or not at all."""
        with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
            for name in _ARRAYS:
                file[name] = getattr(self, name)
            for name, values in self.parameters.items():
                file[f"parameters/{name}"] = values
            file.attrs["format"] = _FORMAT
            file.attrs["system"], file.attrs["interval"] = self.system, self.interval
            file.attrs["fixed"] = json.dumps(dict(self.fixed))
            file.attrs["provenance"] = json.dumps(dict(self.provenance))

    @classmethod
    def load(cls, path: PathLike) -> Dataset:
        """What `save` wrote.

        Raises:
            FileFormatError: the file is none of those, or is damaged; names what is wrong.
        """
        if not Path(path).is_file():
            raise FileFormatError(f"{os.fspath(path)}: no such file")
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != _FORMAT:
                    raise FileFormatError(f"{os.fspath(path)}: no file of runs of mlcore")
                arrays = {name: _numbers(file, name) for name in _ARRAYS}
                group = _own(file, "parameters") if "parameters" in file else {}
                found = cls(
                    str(file.attrs["system"]),
                    **arrays,
                    interval=float(file.attrs["interval"]),
                    parameters={name: _numbers(group, name) for name in group},
                    fixed=json.loads(file.attrs["fixed"]),
                    provenance=dict(json.loads(file.attrs["provenance"])),
                )
                found._check_system()
                return found
        except FileFormatError:
            raise
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise FileFormatError(f"{os.fspath(path)}: damaged: {error}") from error


def _own(group: h5py.Group, name: str) -> Any:
    """A member that lies in this file: links and storage elsewhere would read any file there is."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link")
    return group[name]


def _numbers(group: h5py.Group, name: str) -> Array:
    found = _own(group, name)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise ValueError(f"{name} is no array of this file")
    return np.asarray(found[()], dtype=np.float64)
