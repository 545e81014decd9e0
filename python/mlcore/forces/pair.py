"""Learned pair forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mlcore.errors import InvalidArgument
from mlcore.export.native import Native, PairTable
from mlcore.forces.graph import Learner, NeighborLoss
from mlcore.forces.neighbor import NeighborForce
from mlcore.forces.spline_fit import fit_splines
from mlcore.networks.pair import PairEnergy

__all__ = ["PairForce", "tabulate"]


class PairForce(NeighborForce):
    """E = sum over pairs of u(r), one smooth u for every pair of types.

    u is a cubic spline in 1/r that fades out at the cutoff, its weights found by least squares:
    nothing is trained. Repulsion goes on growing to a tenth below the closest approach seen, and is
    constant from there inwards.

    Args:
        cutoff: beyond which u is zero, in the unit of the frames.
        types: number of atom types, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        intervals: of the splines.
        smooth: part of the cutoff over which u fades out.
        seed: of the frames held out.

    Raises:
        InvalidArgument: naming the argument.
    """

    network: PairEnergy

    def __init__(
        self,
        cutoff: float,
        types: int | str | Sequence[str] = 1,
        *,
        intervals: int = 32,
        smooth: float = 0.2,
        seed: int = 0,
    ) -> None:
        super().__init__(cutoff, types, seed, {"intervals": intervals, "smooth": smooth})

    def _network(self) -> PairEnergy:
        made = PairEnergy(self.cutoff, self.kinds.count, **self.options, seed=self.seed)
        return made.double()

    @property
    def _trains(self) -> bool:
        return False

    def _start(self, learner: Learner, loss: NeighborLoss) -> None:
        assert isinstance(learner.network, PairEnergy)
        fit_splines(learner, learner.network, loss)

    def potential(self, r: Any, pair: tuple[int, int] = (1, 1)) -> tuple[Any, Any]:
        """u (m,) and du/dr (m,) at distances (m,) of two types, counted from 1."""
        count = self.kinds.count
        if len(pair) != 2 or any(type(t) is not int or not 1 <= t <= count for t in pair):
            raise InvalidArgument(f"pair must hold two types in 1..{count}, not {pair!r}")
        a, b = sorted(pair)
        (network,) = self._frozen("float64")
        assert isinstance(network, PairEnergy)
        number = (a - 1) * count - (a - 1) * (a - 2) // 2 + b - a
        try:
            given = np.array(r, dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"r must be distances, not {r!r:.60}") from error
        distance = torch.from_numpy(given).requires_grad_(True)
        u = network.radial(distance, torch.full_like(distance, number, dtype=torch.int64))
        (slope,) = torch.autograd.grad(u.sum(), distance)
        return u.detach().numpy(), slope.numpy()

    def native(self) -> list[Native] | None:
        self.networks()
        return list(tabulate([self]))


def tabulate(models: Sequence[PairForce], tolerance: float = 1e-6) -> list[PairTable]:
    """Tables of pair forces, all with the same knots, for the core's own engine.

    The knots begin where the splines begin and are doubled until energies and
    forces between them are within the tolerance, relative to their largest values.

    Args:
        models: members of a committee, or one.
        tolerance: what suffices; no table has more than 16,384 knots.
    """
    first = min(float(m.network.inner.min()) for m in models)
    count = 1024
    while True:
        tables = [_table(model, first, count) for model in models]
        if count == 16384 or all(
            _error(m, t) <= tolerance for m, t in zip(models, tables, strict=True)
        ):
            return tables
        count *= 2


def _curves(model: PairForce, r: Any) -> tuple[Any, Any]:
    count = model.kinds.count
    pairs = [(a, b) for a in range(1, count + 1) for b in range(a, count + 1)]
    found = [model.potential(r, pair) for pair in pairs]
    return np.stack([u for u, _ in found]), np.stack([s for _, s in found])


def _table(model: PairForce, first: float, count: int) -> PairTable:
    values, slopes = _curves(model, np.linspace(first, model.cutoff, count))
    values[:, -1] = slopes[:, -1] = 0.0
    return PairTable(first, model.cutoff, values, slopes)


def _error(model: PairForce, table: PairTable) -> float:
    middle = 0.5 * (table.knots[1:] + table.knots[:-1])
    worst = 0.0
    exact = _curves(model, middle)
    for pair in range(len(table.values)):
        got = table(middle, np.full(len(middle), pair))
        for g, e in zip(got, (exact[0][pair], exact[1][pair]), strict=True):
            worst = max(worst, float(np.abs(g - e).max() / max(np.abs(e).max(), 1e-300)))
    return worst
