"""What every observable shares: evaluation on configurations, how a group's atoms combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import InvalidArgument
from mlcore.export import Contract, ModelBundle, write_model
from mlcore.export.native import Native
from mlcore.neighbors import neighbor_list
from mlcore.observables.frames import configuration, fold

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["ConfigurationObservable", "NeighborObservable", "Observable", "Reduce"]

Array = NDArray[np.float64]
Reduce = Literal["mean", "sum", "none"]


class Observable(ABC):
    """A function of a configuration, evaluated here, in torch, and inside LAMMPS."""

    shape: tuple[int, ...]

    @abstractmethod
    def network(self) -> torch.nn.Module:
        """The torch module, in double precision, in the calling convention of bundles."""

    @abstractmethod
    def contract(self) -> Contract:
        """What the network sees and gives."""

    def networks(self) -> Sequence[torch.nn.Module]:
        """The networks of a committee; most observables have one."""
        return [self.network()]

    def native(self) -> Native | Sequence[Native] | None:
        """Numbers with which the core evaluates it without torch, one of each network; None where it
        cannot."""
        return None

    def notes(self) -> dict[str, Any]:
        """Where it came from, for the manifest."""
        return {}

    def export(
        self,
        path: str | Path,
        *,
        units: Mapping[str, str] | str = "lj",
        training: Mapping[str, Any] | None = None,
        dtype: Literal["float32", "float64"] = "float64",
        torchscript: bool = True,
        compiled: bool = False,
    ) -> ModelBundle:
        """Writes a bundle for `fix ID group mlcore qoi PATH`, verified before it is in place.

        Args:
            path: folder to appear.
            units: names of the units of length, energy and time, or one word for all.
            training: where it came from; anything JSON can hold.
            dtype: precision of the forms for torch; the core's own is double.
            torchscript, compiled: forms for torch to write beside the core's own.

        Raises:
            Error: the files do not agree with the model, or cannot be written.
        """
        return write_model(
            path,
            replace(self.contract(), dtype=dtype),
            self.networks(),
            units=units,
            training={**self.notes(), **(training or {})},
            native=self.native(),
            torchscript=torchscript,
            compiled=compiled,
        )

    @abstractmethod
    def __call__(
        self,
        atoms: Atoms | ArrayLike,
        *,
        cell: ArrayLike | None = None,
        pbc: bool | tuple[bool, bool, bool] = False,
        types: ArrayLike | None = None,
    ) -> Array:
        """Value for `ase.Atoms`, or positions (n, 3) with a cell and pbc.

        Args:
            atoms: configuration; of `ase.Atoms` the cell and pbc are taken.
            cell: (3, 3), one lattice vector per row.
            pbc: which lattice vectors repeat.
            types: (n,) LAMMPS types, from 1; all 1 when absent.

        Raises:
            InvalidArgument: naming the argument.
        """


def _types(types: ArrayLike | None, n: int) -> torch.Tensor:
    found = np.ones(n, np.int64) if types is None else np.asarray(types)
    if found.shape != (n,) or found.dtype.kind not in "iu" or (found < 1).any():
        raise InvalidArgument(f"types must be (n,) = ({n},) whole numbers from 1")
    return torch.from_numpy(found.astype(np.int64) - 1)


class NeighborObservable(Observable):
    """One value an atom from the displacements to its neighbors; combined over the group."""

    shape = (1,)

    def __init__(self, cutoff: float, reduce: Reduce, types: int) -> None:
        if reduce not in ("mean", "sum", "none"):
            raise InvalidArgument(f"reduce must be 'mean', 'sum' or 'none', not {reduce!r}")
        if not isinstance(types, int) or isinstance(types, bool) or not 1 <= types <= 1000:
            raise InvalidArgument(f"types must be a whole number from 1 to 1000, not {types!r}")
        self.cutoff = cutoff
        self.types = types
        self.reduce: Reduce = reduce

    def __call__(
        self,
        atoms: Atoms | ArrayLike,
        *,
        cell: ArrayLike | None = None,
        pbc: bool | tuple[bool, bool, bool] = False,
        types: ArrayLike | None = None,
    ) -> Array:
        x, rows, repeats = configuration(atoms, cell, pbc)
        box = rows if repeats.any() else None
        i, j, d = neighbor_list("ijD", x, self.cutoff, cell=box, pbc=tuple(repeats))
        edges = [
            torch.from_numpy(np.asarray(a)) for a in (d, i.astype(np.int64), j.astype(np.int64))
        ]
        with torch.no_grad():
            values: Array = self.network()(*edges, _types(types, len(x))).numpy()
        if self.reduce == "none":
            return values
        combined: Array = values.mean(0) if self.reduce == "mean" else values.sum(0)
        return combined

    def contract(self) -> Contract:
        return Contract(
            "qoi",
            "neighbors",
            "values",
            cutoff=self.cutoff,
            types=self.types,
            shape=self.shape,
            reduce=self.reduce,
        )


class ConfigurationObservable(Observable):
    """A function of all positions of a group, in the order of its atoms."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the network is given; without the cell, positions are those inside it."""
        return ("x", "cell")

    @property
    def particles(self) -> int | None:
        """Atoms a configuration must have; None: any number."""
        return None

    def __call__(
        self,
        atoms: Atoms | ArrayLike,
        *,
        cell: ArrayLike | None = None,
        pbc: bool | tuple[bool, bool, bool] = False,
        types: ArrayLike | None = None,
    ) -> Array:
        x, rows, _ = configuration(atoms, cell, pbc)
        if self.particles not in (None, len(x)):
            raise InvalidArgument(f"atoms hold {len(x)} atoms, made for {self.particles}")
        if len(x) == 0:
            raise InvalidArgument("atoms must hold at least one atom")
        with torch.no_grad():
            given = (x, rows) if "cell" in self.inputs else (fold(x, rows),)
            values: Array = self.network()(*map(torch.from_numpy, given)).numpy()
        return values

    def contract(self) -> Contract:
        return Contract(
            "qoi",
            "configuration",
            "values",
            inputs=self.inputs,
            shape=self.shape,
            particles=self.particles,
        )
