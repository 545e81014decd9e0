"""The noise has the covariance it promises: fixed seeds, false alarm below 1e-6, and a factor of 2
would be caught."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from mlcore import random
from mlcore.mobility import RPY
from mlcore.noise import sqrt_apply

FALSE_ALARM = 1e-6
N, DRAWS = 6, 4000
METHODS = ("cholesky", "lanczos", "chebyshev")


def samples(method: str, scale: float = 1.0) -> tuple[Any, Any]:
    """M (3n, 3n) and draws (k, 3n) of scale^(1/2) times the noise."""
    x = np.random.default_rng(8).random((N, 3)) * 5
    mobility = RPY(1.0, 1.0)
    tags = np.arange(N, dtype=np.uint32)
    z = np.stack([random.normal(11, 3, step, tags) for step in range(DRAWS)])
    g, _ = sqrt_apply(mobility, x, z, method=method, tol=1e-6)
    return mobility.matrix(x), np.sqrt(scale) * g.reshape(DRAWS, -1)


def covariance_is_right(matrix: Any, g: Any) -> bool:
    """Wishart: the estimates of M_ij scatter by sqrt((M_ij^2 + M_ii M_jj) / k); all entries of the
    triangle, Bonferroni."""
    m = len(matrix)
    diagonal = np.diag(matrix)
    sigma = np.sqrt((matrix**2 + np.outer(diagonal, diagonal)) / DRAWS)
    worst = np.abs((g.T @ g / DRAWS - matrix) / sigma).max()
    return bool(worst < scipy.stats.norm.isf(FALSE_ALARM / (m * (m + 1))))


def directions_are_normal(matrix: Any, g: Any) -> bool:
    """Kolmogorov-Smirnov along the eigenvectors, each against its own variance, Bonferroni."""
    values, vectors = np.linalg.eigh(matrix)
    parts = g @ vectors / np.sqrt(values)
    smallest = min(scipy.stats.kstest(part, "norm").pvalue for part in parts.T)
    return bool(smallest > FALSE_ALARM / len(matrix))


@pytest.mark.parametrize("method", METHODS)
def test_covariance_and_distribution(method: str) -> None:
    matrix, g = samples(method)
    assert covariance_is_right(matrix, g)
    assert directions_are_normal(matrix, g)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_factor_of_two_is_caught(scale: float) -> None:
    matrix, g = samples("lanczos", scale)
    assert not covariance_is_right(matrix, g)
    assert not directions_are_normal(matrix, g)


def test_a_missing_correlation_is_caught() -> None:
    matrix, g = samples("lanczos")
    independent = np.random.default_rng(1).standard_normal(g.shape) * np.sqrt(np.diag(matrix))
    assert not covariance_is_right(matrix, independent)
