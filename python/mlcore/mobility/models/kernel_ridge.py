"""Pair mobility by kernel ridge regression in the space of windowed spectral shells."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.mobility.models.scored import ScoredPairModel
from mlcore.mobility.scoring import Expandable, bounded_step

__all__ = ["KernelRidgePairModel"]

Array = NDArray[np.float64]


class KernelRidgePairModel(ScoredPairModel):
    """Least squares (or likelihood) with a ridge penalty in a reproducing-kernel Hilbert space.

    The kernel is K(r, r') = sum_q w_q^2 Phi_q(r) Phi_q(r')^T with Phi_q the windowed shells and w(k) a
    falling envelope; its squared norm is sum_q (s_q/w_q)^2. The strength of the penalty is the one with
    the best cross-validated loss, folds being whole distance bins or whole blocks of increments, the
    likelihood entering by its quadratic expansion. Weights stay >= 0, so positivity is exact.

    Args:
        sizes: grid of the ridge, given as the size of the remainder's self part (relative to the
            self mobility) that one standard deviation of the prior allows.
        Others: see PairModel.
    """

    kind: ClassVar[str] = "kernel-ridge"

    def __init__(
        self,
        background: Any = "rpy",
        cutoff: float | None = None,
        *,
        sizes: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0),
        **options: Any,
    ) -> None:
        super().__init__(background, cutoff, **options)
        if len(sizes) == 0 or not all(np.isfinite(v) and v > 0 for v in sizes):
            raise InvalidArgument(f"sizes must hold positive numbers, not {sizes!r}")
        if self.basis.size == 0:
            raise InvalidArgument("shells must be at least 1")
        self.sizes = tuple(float(v) for v in sizes)
        self.chosen: float | None = None
        self.scores: dict[float, float] = {}

    def options(self) -> dict[str, Any]:
        """Constructor arguments that make an equal, unfitted model."""
        return {**super().options(), "sizes": list(self.sizes)}

    def _covariance(self, size: float, scale: float) -> Array:
        width = size * scale * self._envelope() * np.sqrt(max(self.basis.size, 1))
        return np.asarray(np.diag(width**2))

    def _choose(
        self, loss: Expandable, start: Array, scale: float, folds: NDArray[np.int64]
    ) -> tuple[Array, Array]:
        _, gradients, information = loss.expand(start, folds)
        # fold 0 of a regression (the self row) is never left out
        held_out = range(1, len(gradients)) if folds.min() == 0 and _is_anchor(folds) else None
        self.scores = {
            size: self._score(size, start, scale, gradients, information, held_out)
            for size in self.sizes
        }
        self.chosen = max(self.sizes, key=lambda size: self.scores[size])
        return self._covariance(self.chosen, scale), start

    def _score(
        self,
        size: float,
        start: Array,
        scale: float,
        gradients: Array,
        information: Array,
        held_out: range | None,
    ) -> float:
        """Cross-validated gain of log-likelihood over the start."""
        prior = self._prior(start, scale, self._free, self._covariance(size, scale))
        free, precision = prior.free, prior.precision()
        pick = np.ix_(free, free)
        offset = precision @ (start - prior.mean)[free]
        gain = 0.0
        for fold in held_out or range(len(gradients)):
            g = gradients.sum(0) - gradients[fold]
            h = information.sum(0) - information[fold]
            d = bounded_step(h[pick] + precision, g[free] - offset, (prior.lower - start)[free])
            gain += float(gradients[fold][free] @ d - 0.5 * d @ information[fold][pick] @ d)
        return gain


def _is_anchor(folds: NDArray[np.int64]) -> bool:
    """Whether fold 0 is the single self row of a binned estimate."""
    return int((folds == 0).sum()) == 1 and int(folds.max()) > 1
