"""Pair mobility whose shell weights are a Gaussian process on the wavenumbers."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.mobility.models.scored import ScoredPairModel
from mlcore.mobility.scoring import Expandable, log_evidence

__all__ = ["GaussianProcessPairModel"]

Array = NDArray[np.float64]


class GaussianProcessPairModel(ScoredPairModel):
    """s(k) = amplitude * self mobility * w(k) g(k), g a unit Gaussian process in k, s >= 0.

    Observations are linear in s, so the process is updated in closed form; the fit is the maximum of
    the truncated posterior (s >= 0). Amplitude and correlation length come from the largest marginal
    likelihood of the untruncated process on a grid, the likelihood loss entering by its quadratic
    expansion (Laplace). `pair_errors` gives predictive standard errors.

    Args:
        amplitudes: grid of amplitudes.
        lengths: grid of correlation lengths in units of the spacing of the wavenumbers.
        Others: see PairModel.
    """

    kind: ClassVar[str] = "gaussian-process"

    def __init__(
        self,
        background: Any = "rpy",
        cutoff: float | None = None,
        *,
        amplitudes: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        lengths: tuple[float, ...] = (2.0, 4.0, 8.0),
        **options: Any,
    ) -> None:
        super().__init__(background, cutoff, **options)
        for name, grid in (("amplitudes", amplitudes), ("lengths", lengths)):
            if len(grid) == 0 or not all(np.isfinite(v) and v > 0 for v in grid):
                raise InvalidArgument(f"{name} must hold positive numbers, not {grid!r}")
        if self.basis.size == 0:
            raise InvalidArgument("shells must be at least 1")
        self.amplitudes = tuple(float(v) for v in amplitudes)
        self.lengths = tuple(float(v) for v in lengths)
        self.chosen: tuple[float, float] | None = None

    def options(self) -> dict[str, Any]:
        """Constructor arguments that make an equal, unfitted model."""
        grids = {"amplitudes": list(self.amplitudes), "lengths": list(self.lengths)}
        return {**super().options(), **grids}

    def _covariance(self, amplitude: float, length: float, scale: float) -> Array:
        """(Q,Q) prior covariance; transverse and longitudinal weights are independent."""
        size = amplitude * scale * self._envelope()
        count = len(self.basis.wavenumbers)
        index = np.arange(count)
        kernel = np.exp(-0.5 * ((index[:, None] - index) / length) ** 2) + 1e-6 * np.eye(count)
        both = np.kron(np.eye(self.basis.size // count), kernel)
        return np.asarray(size[:, None] * both * size)

    def _choose(
        self, loss: Expandable, start: Array, scale: float, folds: NDArray[np.int64]
    ) -> tuple[Array, Array]:
        _, gradient, information = loss.expand(start)
        best = -np.inf
        shells = np.zeros((0, 0))
        for amplitude in self.amplitudes:
            for length in self.lengths:
                trial = self._covariance(amplitude, length, scale)
                prior = self._prior(start, scale, self._free, trial)
                evidence = log_evidence(prior, start, gradient[0], information[0])
                if evidence > best:
                    best, shells, self.chosen = evidence, trial, (amplitude, length)
        return shells, start
