"""Fronts of several objectives, all to be minimised (B15)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.forcefield.score import Score

__all__ = ["Front", "crowding", "hypervolume", "knee", "nondominated"]

Array = npt.NDArray[np.float64]


def _objectives(objectives: npt.ArrayLike) -> Array:
    values = np.asarray(objectives, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise InvalidArgument(f"objectives: shape {values.shape}, takes (points, objectives)")
    if np.isnan(values).any():
        raise InvalidArgument("objectives: hold what is not a number")
    return values


def _finite(objectives: npt.ArrayLike) -> Array:
    values = _objectives(objectives)
    if not np.isfinite(values).all():
        raise InvalidArgument("objectives: not all are finite")
    return values


def nondominated(objectives: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """(P,) whether no other of (P, M) points is as good in all objectives and better in one.

    Of equal points the first is kept.
    """
    values = _objectives(objectives)
    kept = np.ones(len(values), dtype=np.bool_)
    for k, point in enumerate(values):
        no_worse = (values <= point).all(axis=1)
        better = (values < point).any(axis=1)
        equal_before = ~better & (np.arange(len(values)) < k)
        kept[k] = not (no_worse & (better | equal_before)).any()
    return kept


def hypervolume(objectives: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume that (P, M) points dominate below a reference point (M,)."""
    from pymoo.indicators.hv import HV

    values = _objectives(objectives)
    point = np.asarray(reference, dtype=np.float64)
    if not np.isfinite(point).all():
        raise InvalidArgument("reference: not all of its numbers are finite")
    if point.shape != values.shape[1:]:
        raise InvalidArgument(f"reference: shape {point.shape}, takes {values.shape[1:]}")
    return float(HV(ref_point=point)(values))


def crowding(objectives: npt.ArrayLike) -> Array:
    """(P,) crowding distances of the points of one front; infinite at its ends.

    K. Deb et al., IEEE Trans. Evol. Comput. 6, 182 (2002), section III.B.
    """
    values = _finite(objectives)
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        sorted_ = column[order]
        distance[order[[0, -1]]] = np.inf
        if sorted_[-1] > sorted_[0]:
            distance[order[1:-1]] += (sorted_[2:] - sorted_[:-2]) / (sorted_[-1] - sorted_[0])
    return distance


def knee(objectives: npt.ArrayLike) -> int:
    """Index of the point that lies farthest below the plane through the ends of the front.

    With each objective scaled to [0, 1] over the front that is the point of the least sum.
    I. Das, Structural Optimization 18, 107 (1999).
    """
    values = _finite(objectives)
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin(scaled.sum(axis=1)))


class Front:
    """The points that no other dominates, kept while scores come in.

    Candidates that failed or violate a constraint are never members; of equal ones the first is.
    """

    def __init__(self) -> None:
        self._members: list[tuple[Array, Score]] = []
        self._values = np.zeros((0, 0))

    @property
    def members(self) -> list[tuple[Array, Score]]:
        """Points (n,) and scores, by the first objective."""
        return sorted(self._members, key=lambda member: member[1].objectives)

    def add(self, point: Array, score: Score) -> None:
        """Take the point in where nothing dominates it, and drop what it dominates."""
        new = np.asarray(score.objectives, dtype=np.float64)
        if not new.size or score.violation > 0 or not np.isfinite(new).all():
            return
        if not self._members:
            self._members, self._values = [(point, score)], new[None]
            return
        if new.shape != self._values.shape[1:]:
            raise InvalidArgument(
                f"scores: {new.size} objectives, {self._values.shape[1]} in earlier ones"
            )
        if (self._values <= new).all(axis=1).any():
            return
        kept = np.logical_not((new <= self._values).all(axis=1))
        if not kept.all():
            pairs = zip(self._members, kept.tolist(), strict=True)
            self._members = [member for member, keep in pairs if keep]
            self._values = self._values[kept]
        self._members.append((point, score))
        self._values = np.concatenate([self._values, new[None]])
