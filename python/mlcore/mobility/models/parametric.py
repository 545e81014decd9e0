"""The reference every learned model is compared with: background and delta, no remainder."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlcore.mobility.models.scored import ScoredPairModel
from mlcore.mobility.scoring import Expandable

__all__ = ["ParametricModel"]

Array = NDArray[np.float64]


class ParametricModel(ScoredPairModel):
    """background="rpy": Rotne-Prager-Yamakawa with fitted radius, viscosity and local self mobility;
    background="none": no hydrodynamic interaction at all, a fitted self mobility.

    Args: see PairModel; cutoff and shells have no effect.
    """

    kind: ClassVar[str] = "parametric"

    def __init__(self, background: Any = "rpy", cutoff: float = 1.0, **options: Any) -> None:
        super().__init__(background, cutoff, **{**options, "shells": 0})

    def _choose(
        self, loss: Expandable, start: Array, scale: float, folds: NDArray[np.int64]
    ) -> tuple[Array, Array]:
        return np.zeros((0, 0)), start
