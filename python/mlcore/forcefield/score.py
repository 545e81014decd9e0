"""What a search is told of a point it asked about."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Score"]


@dataclass(frozen=True)
class Score:
    """How good one candidate is.

    Attributes:
        total: what is to be minimised; infinite where the candidate failed.
        residuals: (R,) float64, for least squares; where the total is a sum of squares it is the
            sum of theirs. None where the candidate failed.
        objectives: several numbers to be minimised at once, for a Pareto front.
        violation: sum of what the constraints are violated by; 0 where all of them hold.
        level: number of levels of a hierarchical objective that were passed.
        error: why the candidate failed.
        slopes: (R, q) float64 derivatives of the residuals by those coordinates of the point the
            search wished for; None where it did not, or they are not known.
    """

    total: float
    residuals: npt.NDArray[np.float64] | None = None
    objectives: tuple[float, ...] = ()
    violation: float = 0.0
    level: int = 0
    error: str | None = None
    slopes: npt.NDArray[np.float64] | None = None

    @classmethod
    def failed(cls, error: str, violation: float = 0.0, objectives: int = 0) -> Score:
        """The score of a candidate that could not be evaluated."""
        return cls(
            math.inf, None, (math.inf,) * objectives, violation=violation, level=0, error=error
        )
