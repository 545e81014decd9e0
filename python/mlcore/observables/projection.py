"""Coarse coordinates of a chain or cluster: its few slowest and largest collective modes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.errors import Error, InvalidArgument
from mlcore.networks.configurations import Projection
from mlcore.observables.base import ConfigurationObservable
from mlcore.observables.frames import numbers

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LinearProjection"]

Array = NDArray[np.float64]


class LinearProjection(ConfigurationObservable):
    """Row 0 is the centroid, rows 1.. the principal modes z_p = sum_i W_pi x_i of the positions
    about it, by falling variance, summed over x, y, z.

    W depends on the atoms alone, so z turns and moves with the configuration. In a periodic box the
    chain is made whole from its first atom on: row 0 jumps by a cell vector when that atom does.
    The modes of an ideal chain are those of Rouse, J. Chem. Phys. 21, 1272 (1953).

    Args:
        size: number of rows, the centroid included.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(self, size: int) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InvalidArgument(f"size must be a whole number of at least 1, not {size!r}")
        self.size = size
        self.shape = (size, 3)
        self._weights: Array | None = None
        self.explained = 0.0

    def fit(self, frames: Iterable[Atoms | ArrayLike] | Any) -> LinearProjection:
        """Finds the modes of a trajectory.

        Args:
            frames: `mlcore.data.Trajectory`, or configurations (`ase.Atoms` or (n, 3)), all of the
                same atoms, whole across boundaries (unwrapped).

        Returns:
            Itself; `explained` is the part of the variance about the centroid the modes hold.

        Raises:
            InvalidArgument: fewer than two frames, atoms that change, or fewer atoms than `size`.
        """
        x = _stack(frames)
        if len(x) < 2:
            raise InvalidArgument("frames must be at least two")
        n = x.shape[1]
        if n < self.size:
            raise InvalidArgument(f"frames hold {n} atoms, fewer than size {self.size}")
        away = x - x.mean(1, keepdims=True)
        covariance = np.einsum("tik,tjk->ij", away, away) / len(x)
        values, vectors = np.linalg.eigh(covariance)
        rows = vectors[:, ::-1].T[: self.size - 1]
        rows = rows * np.sign(rows[np.arange(len(rows)), np.abs(rows).argmax(1)])[:, None]
        self._weights = np.concatenate([np.full((1, n), 1 / n), rows - rows.mean(1, keepdims=True)])
        kept = values[::-1][: self.size - 1].sum()
        self.explained = float(kept / values.sum()) if values.sum() > 0 else 1.0
        return self

    @property
    def weights(self) -> Array:
        """W (size, n); Error before `fit`."""
        if self._weights is None:
            raise Error("LinearProjection has not been fitted: call fit() first")
        return self._weights

    def project(self, frames: Iterable[Atoms | ArrayLike] | Any) -> Array:
        """(frames, size, 3) coarse coordinates of unwrapped configurations."""
        x = _stack(frames)
        if x.shape[1] != self.particles:
            raise InvalidArgument(f"frames hold {x.shape[1]} atoms, made for {self.particles}")
        found: Array = np.einsum("pi,tik->tpk", self.weights, x)
        return found

    def lift(self, z: ArrayLike) -> Array:
        """(frames, n, 3) configurations of least squares error with coarse coordinates z."""
        values = numbers("z", z)
        if values.ndim != 3 or values.shape[1:] != self.shape:
            raise InvalidArgument(f"z must be (frames, {self.size}, 3), not {values.shape}")
        found: Array = np.einsum("ip,tpk->tik", np.linalg.pinv(self.weights), values)
        return found

    def network(self) -> torch.nn.Module:
        network = Projection(*self.weights.shape)
        network.weights.copy_(torch.from_numpy(self.weights))
        return network

    @property
    def particles(self) -> int:
        """Atoms of a configuration; Error before `fit`."""
        return int(self.weights.shape[1])


def _stack(frames: Any) -> Array:
    """(T, n, 3) positions of a trajectory or of configurations."""
    if hasattr(frames, "positions") and hasattr(frames, "times"):
        x = np.asarray(frames.positions, dtype=np.float64)
    else:
        given = list(frames) if isinstance(frames, Iterable) else []
        rows = [f.get_positions() if hasattr(f, "get_positions") else np.asarray(f) for f in given]
        if len({row.shape for row in rows}) > 1:
            raise InvalidArgument("frames must all hold the same atoms")
        x = numbers("frames", rows)
    if x.ndim != 3 or x.shape[2] != 3:
        raise InvalidArgument(f"frames must be configurations (n, 3), found shape {x.shape}")
    if not np.isfinite(x).all():
        raise InvalidArgument("frames must hold finite positions")
    return x
