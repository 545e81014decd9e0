"""Fisher scoring with a Gaussian prior and bounds: one solver for both losses.

A loss is anything with `expand(vector, folds) -> value, gradient, information` of a log-likelihood and
`value(vector)`. A step minimises the quadratic model plus the prior within the bounds (active set) and
is shortened until the true objective grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import Error

__all__ = ["Expandable", "Maximum", "Prior", "log_evidence", "maximise", "maximise_bare"]

Array = NDArray[np.float64]


class Expandable(Protocol):
    """A log-likelihood with gradient and information, in total or by fold."""

    def value(self, vector: Array) -> float: ...
    def expand(
        self, vector: Array, folds: NDArray[np.int64] | None = None
    ) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True)
class Prior:
    """Gaussian prior and bounds.

    Args:
        mean: (p,).
        covariance: (p,p), positive semi-definite; zero rows fix a parameter at its mean.
        lower: (p,) lower bounds, -inf for none.
    """

    mean: Array
    covariance: Array
    lower: Array

    @property
    def free(self) -> NDArray[np.bool_]:
        """Parameters the prior lets move."""
        return np.asarray(np.diagonal(self.covariance) > 0)

    def precision(self) -> Array:
        """Inverse covariance of the free parameters."""
        return _inverse(self.covariance[np.ix_(self.free, self.free)])

    def log_density(self, vector: Array, precision: Array) -> float:
        """Up to a constant."""
        d = (vector - self.mean)[self.free]
        return float(-0.5 * d @ precision @ d)


@dataclass
class Maximum:
    """Where the penalised log-likelihood is largest.

    Args:
        vector: (p,) parameters.
        value: log-likelihood there, without the prior.
        covariance: (p,p) inverse of information plus prior precision, zero for what is fixed.
        information: (p,p) of the likelihood alone.
        gradient: (p,) of the likelihood alone.
        steps, seconds, reason: how it went.
    """

    vector: Array
    value: float
    covariance: Array
    information: Array
    gradient: Array
    steps: int
    seconds: float
    reason: str
    history: list[dict[str, float]] = field(default_factory=list)


def bounded_step(hessian: Array, slope: Array, lower: Array) -> Array:
    """argmin of d.H.d/2 - slope.d with d >= lower, by bounded least squares."""
    from scipy.optimize import lsq_linear

    scale = 1 / np.sqrt(np.maximum(np.diagonal(hessian), 1e-300))
    h = hessian * np.outer(scale, scale)
    values, vectors = np.linalg.eigh((h + h.T) / 2)
    values = np.maximum(values, 1e-12 * values[-1])
    root = np.sqrt(values)[:, None] * vectors.T
    target = (vectors.T @ (scale * slope)) / np.sqrt(values)
    if not np.isfinite(lower).any():
        return np.asarray(scale * np.linalg.solve(root, target))
    bounds = (np.minimum(lower / scale, -1e-300), np.full(len(slope), np.inf))
    found = lsq_linear(root, target, bounds=bounds, method="bvls", tol=1e-13)
    return np.asarray(scale * found.x)


def _inverse(hessian: Array) -> Array:
    """Inverse of a positive definite matrix of mixed units."""
    scale = 1 / np.sqrt(np.maximum(np.diagonal(hessian), 1e-300))
    values, vectors = np.linalg.eigh(hessian * np.outer(scale, scale))
    vectors = scale[:, None] * vectors
    return np.asarray(vectors / np.maximum(values, 1e-13 * values[-1]) @ vectors.T)


def _padded(matrix: Array, free: NDArray[np.bool_]) -> Array:
    out = np.zeros((len(free), len(free)))
    out[np.ix_(free, free)] = matrix
    return out


def maximise(
    loss: Expandable,
    prior: Prior,
    start: Array,
    *,
    steps: int = 60,
    tolerance: float = 1e-7,
    report: Callable[[int, float], None] | None = None,
) -> Maximum:
    """Largest log-likelihood plus log prior within the bounds.

    Args:
        loss: the log-likelihood.
        prior: prior and bounds.
        start: (p,) where to begin.
        steps: most scoring steps.
        tolerance: expected gain, relative to the number of parameters, below which it ends.
        report: called with step and objective.

    Raises:
        Error: the likelihood is not finite at the start.
    """
    begin = time.perf_counter()
    free = prior.free
    precision = prior.precision()
    vector = np.where(free, np.maximum(start, prior.lower), prior.mean).astype(np.float64)
    objective = loss.value(vector) + prior.log_density(vector, precision)
    if not np.isfinite(objective):
        raise Error("log-likelihood is not finite at the start: covariance not positive definite")
    history: list[dict[str, float]] = []
    reason = "step limit"
    gradient = information = np.zeros(0)
    for step in range(1, steps + 1):
        _, g, h = loss.expand(vector)
        gradient, information = g[0], h[0]
        slope = gradient[free] - precision @ (vector - prior.mean)[free]
        hessian = information[np.ix_(free, free)] + precision
        d = bounded_step(hessian, slope, (prior.lower - vector)[free])
        gain = float(slope @ d)
        history.append({"epoch": float(step), "loss": -objective})
        if report is not None:
            report(step, objective)
        if gain < tolerance * max(len(d), 1):
            reason = "converged"
            break
        length, moved = 1.0, False
        for _ in range(30):
            trial = vector.copy()
            trial[free] = np.maximum(vector[free] + length * d, prior.lower[free])
            value = loss.value(trial) + prior.log_density(trial, precision)
            if np.isfinite(value) and value >= objective + 1e-4 * length * gain:
                vector, objective, moved = trial, value, True
                break
            length /= 2
        if not moved:
            reason = "no further gain"
            break
    _, g, h = loss.expand(vector)
    gradient, information = g[0], h[0]
    hessian = information[np.ix_(free, free)] + precision
    return Maximum(
        vector,
        loss.value(vector),
        _padded(_inverse(hessian), free),
        information,
        gradient,
        len(history),
        time.perf_counter() - begin,
        reason,
        history,
    )


def maximise_bare(loss: Any, prior: Prior, start: Array, shells: int, steps: int = 60) -> Array:
    """Best parameters without remainder: shell weights (from the fifth on) held at zero."""
    if not hasattr(loss, "without_shells"):
        return maximise(loss, prior, start, steps=steps).vector
    keep = np.r_[0:4, 4 + shells : len(start)]
    covariance = prior.covariance[np.ix_(keep, keep)]
    small = Prior(prior.mean[keep], covariance, prior.lower[keep])
    out = start.copy()
    out[keep] = maximise(loss.without_shells(), small, start[keep], steps=steps).vector
    return out


def log_evidence(prior: Prior, vector: Array, gradient: Array, information: Array) -> float:
    """Log marginal likelihood of a quadratic log-likelihood under the prior, up to a constant.

    The quadratic is the expansion about `vector`; bounds are left out (Laplace).
    """
    free = prior.free
    c = prior.covariance[np.ix_(free, free)]
    values, vectors = np.linalg.eigh(c)
    root = vectors * np.sqrt(np.maximum(values, 0))
    h = information[np.ix_(free, free)]
    d = (vector - prior.mean)[free]
    g0 = h @ d + gradient[free]
    inner = np.eye(len(c)) + root.T @ h @ root
    right = root.T @ g0
    _, logdet = np.linalg.slogdet(inner)
    return float(0.5 * right @ np.linalg.solve(inner, right) - 0.5 * logdet)


def predictive_deviation(covariance: Array, jacobian: Array) -> Any:
    """Standard deviation of linear functions (m,p) of the parameters."""
    return np.sqrt(np.maximum(np.einsum("mp,pq,mq->m", jacobian, covariance, jacobian), 0.0))
