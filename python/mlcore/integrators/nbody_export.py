"""Bundles of learned pair kicks that LAMMPS runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, positive
from mlcore.errors import InvalidArgument
from mlcore.export import SplittingBundle, write_splitting
from mlcore.integrators.pair_kicks import PairKicks
from mlcore.splitting import PairSplitting

__all__ = ["export"]


def export(
    learned: PairKicks,
    path: str | os.PathLike[str],
    *,
    step: float,
    masses: npt.ArrayLike,
    types: Sequence[int] | None = None,
    halvings: int = 6,
    units: Mapping[str, str] | str = "lj",
    training: Mapping[str, Any] | None = None,
) -> SplittingBundle:
    """A bundle for `fix mlcore dynamics`.

    Args:
        learned: the kicks.
        path: folder to appear; a bundle already there is replaced as a whole.
        step: h, the timestep of the runs.
        masses: (S,) of LAMMPS' types 1, 2, ..
        types: (S,) which learned type, 0 <= type < T, each of them is; None: 0, 1, .., or all 0 where
            there is one.
        halvings: how often a step is halved in which particles come too close.
        units: names of the units of length, energy and time, or one word for all.
        training: where it came from; anything JSON can hold.

    Raises:
        InvalidArgument: naming the argument.
    """
    step = positive("step", step)
    weights = np.atleast_1d(np.asarray(masses, np.float64))
    if weights.ndim != 1 or not len(weights):
        raise InvalidArgument(f"masses must have the shape (S,), got {weights.shape}")
    own = [0 if learned.types == 1 else k for k in range(len(weights))]
    kinds = np.asarray(own if types is None else list(types))
    if kinds.shape != weights.shape or kinds.dtype.kind not in "iu":
        raise InvalidArgument(f"types must be {len(weights)} integers, one for every mass")
    if not 0 <= kinds.min() <= kinds.max() < learned.types:
        raise InvalidArgument(
            f"types must lie in 0..{learned.types - 1}, got {kinds.min()}..{kinds.max()}"
        )
    if integer("halvings", halvings) < 0:
        raise InvalidArgument(f"halvings must not be negative, got {halvings}")
    steps = [
        PairSplitting(
            h,
            learned.drifts,
            weights,
            learned.tables(h, kinds.astype(np.intp), weights),
            1 / learned.cutoff,
            1 / learned.closest,
        )
        for h in (step / 2**k for k in range(halvings + 1))
    ]
    return write_splitting(os.fspath(path), steps, units=units, training=training)
