"""What every observable shares: evaluation on configurations, how a group's atoms combine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import InvalidArgument
from mlcore.export import Contract, ModelBundle, write_model
from mlcore.export.native import Native
from mlcore.neighbors import neighbor_list

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

    def native(self) -> Native | None:
        """Numbers with which the core evaluates it without torch; None where it cannot."""
        return None

    def export(
        self,
        path: str | Path,
        *,
        units: Mapping[str, str] | str = "lj",
        training: Mapping[str, Any] | None = None,
        torchscript: bool = True,
        compiled: bool = False,
    ) -> ModelBundle:
        """Writes a bundle for `fix ID group mlcore qoi PATH`, verified before it is in place.

        Args:
            path: folder to appear.
            units: names of the units of length, energy and time, or one word for all.
            training: where it came from; anything JSON can hold.
            torchscript, compiled: forms for torch to write beside the core's own.

        Raises:
            Error: the files do not agree with the model, or cannot be written.
        """
        return write_model(
            path,
            self.contract(),
            self.network(),
            units=units,
            training=training,
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


def _configuration(
    atoms: Atoms | ArrayLike, cell: ArrayLike | None, pbc: Any
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Positions, cell rows and periodicity; the rows that do not repeat are zero."""
    if hasattr(atoms, "get_positions"):
        found = cast("Atoms", atoms)
        x, cell, pbc = np.array(found.positions), found.cell.array, found.pbc
    else:
        x = np.asarray(atoms, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != 3 or not np.isfinite(x).all():
        raise InvalidArgument(f"atoms must be finite positions (n, 3), not of shape {x.shape}")
    repeats = np.broadcast_to(np.asarray(pbc, dtype=bool), 3)
    if cell is None and repeats.any():
        raise InvalidArgument("pbc needs a cell: give cell=(3, 3), one lattice vector per row")
    rows = np.zeros((3, 3)) if cell is None else np.array(cell, dtype=np.float64)
    if rows.shape == (3,):
        rows = np.diag(rows)
    if rows.shape != (3, 3) or not np.isfinite(rows).all():
        raise InvalidArgument(f"cell must be (3, 3) and finite, not of shape {rows.shape}")
    rows[~repeats] = 0
    return np.ascontiguousarray(x), rows, repeats


def _types(types: ArrayLike | None, n: int) -> torch.Tensor:
    found = np.ones(n, np.int64) if types is None else np.asarray(types, dtype=np.int64)
    if found.shape != (n,) or (found < 1).any():
        raise InvalidArgument(f"types must be (n,) = ({n},) whole numbers from 1")
    return torch.from_numpy(found - 1)


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
        x, rows, repeats = _configuration(atoms, cell, pbc)
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
        x, rows, _ = _configuration(atoms, cell, pbc)
        if self.particles not in (None, len(x)):
            raise InvalidArgument(f"atoms hold {len(x)} atoms, made for {self.particles}")
        if len(x) == 0:
            raise InvalidArgument("atoms must hold at least one atom")
        with torch.no_grad():
            values: Array = self.network()(torch.from_numpy(x), torch.from_numpy(rows)).numpy()
        return values

    def contract(self) -> Contract:
        return Contract(
            "qoi",
            "configuration",
            "values",
            inputs=("x", "cell"),
            shape=self.shape,
            particles=self.particles,
        )
