"""Random displacements have the covariance 2 kT M dt. Fixed seeds throughout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlcore.random
import numpy as np
import numpy.typing as npt
import pytest
from mlcore.dynamics import brownian
from mlcore.mobility import RPY, PairMobility
from mlcore.mobility.tensors import CoreMobility
from mlcore.noise import sqrt_apply
from scipy import linalg, stats

Array = npt.NDArray[np.float64]

N = 8  # particles: 3n = 24
SAMPLES = 400_000
KT, DT = 0.7, 1e-4
# Touching, overlapping and far apart.
X = np.array([[2.1 * (i % 2), 1.8 * (i // 2 % 2), 2.6 * (i // 4) + 0.3 * i] for i in range(N)])
FALSE_ALARM = 1e-6


def deviations(moments: Array, expected: Array) -> tuple[float, float]:
    """Relative Frobenius error, and the largest element's deviation in standard errors."""
    spread = np.sqrt((np.outer(*[np.diag(expected)] * 2) + expected**2) / SAMPLES)
    error = moments - expected
    relative = np.linalg.norm(error) / np.linalg.norm(expected)
    return float(relative), float(np.abs(error / spread).max())


def is_right(moments: Array, expected: Array) -> bool:
    relative, largest = deviations(moments, expected)
    return relative <= 0.01 and largest <= 5


def one_step_displacements(mobility: CoreMobility, **options: Any) -> Iterator[Array]:
    """SAMPLES first steps from X, each of another replica."""
    batch = 100_000
    for first in range(0, SAMPLES, batch):
        frames = brownian(
            mobility,
            np.broadcast_to(X, (batch, N, 3)),
            dt=DT,
            kT=KT,
            steps=1,
            seed=2024,
            stream=first,
            **options,
        )
        yield (frames[:, 1] - frames[:, 0]).reshape(batch, 3 * N)


def second_moments(batches: Iterator[Array]) -> Array:
    return sum((step.T @ step for step in batches), np.zeros((3 * N, 3 * N))) / SAMPLES


@pytest.fixture(scope="module")
def euler_moments() -> Array:
    return second_moments(one_step_displacements(RPY(1.0, 1.0)))


def test_displacements(euler_moments: Array) -> None:
    expected = 2 * KT * DT * RPY(1.0, 1.0).matrix(X)
    assert is_right(euler_moments, expected), deviations(euler_moments, expected)


@pytest.mark.parametrize("scale", [1.03, 0.97, 2**0.5, 0.5**0.5])
def test_wrong_amplitude_is_caught(euler_moments: Array, scale: float) -> None:
    expected = 2 * KT * DT * RPY(1.0, 1.0).matrix(X)
    assert not is_right(scale**2 * euler_moments, expected)


def test_missing_hydrodynamics_is_caught(euler_moments: Array) -> None:
    expected = 2 * KT * DT * RPY(1.0, 1.0).matrix(X)
    assert not is_right(euler_moments, np.diag(np.diag(expected)))


def test_displacements_of_the_midpoint_scheme() -> None:
    expected = 2 * KT * DT * RPY(1.0, 1.0).matrix(X)
    moments = second_moments(one_step_displacements(RPY(1.0, 1.0), scheme="midpoint"))
    assert is_right(moments, expected), deviations(moments, expected)


@pytest.fixture(scope="module")
def lanczos_steps() -> list[Array]:
    return list(one_step_displacements(RPY(1.0, 1.0), noise="lanczos"))


def test_displacements_by_products_alone(lanczos_steps: list[Array]) -> None:
    expected = 2 * KT * DT * RPY(1.0, 1.0).matrix(X)
    moments = second_moments(iter(lanczos_steps))
    assert is_right(moments, expected), deviations(moments, expected)
    for scale in (1.03, 0.97, 2**0.5, 0.5**0.5):
        assert not is_right(scale**2 * moments, expected)


def learned_kind() -> PairMobility:
    return PairMobility.from_functions(
        0.02,
        6.0,
        lambda r: 0.01 * (1 - r / 6) ** 4 * (1 + 4 * r / 6),
        lambda r: 0.01 * (1 - r / 6) ** 4,
        background=RPY(1.2, 0.9),
    )


@pytest.mark.parametrize("mobility", [RPY(1.0, 1.0), learned_kind()], ids=["rpy", "table"])
@pytest.mark.parametrize("box", [None, 9.0], ids=["open", "periodic"])
def test_square_root(mobility: CoreMobility, box: float | None) -> None:
    cell = None if box is None else np.full(3, box)
    tags = np.arange(SAMPLES * N)
    z = mlcore.random.normal(5, 0, 0, tags).reshape(SAMPLES, N, 3)
    g = sqrt_apply(mobility, X, z, cell)[0].reshape(SAMPLES, 3 * N)
    moments, expected = g.T @ g / SAMPLES, mobility.matrix(X, cell)
    assert is_right(moments, expected), deviations(moments, expected)
    assert not is_right(1.03**2 * moments, expected)


def test_distribution_is_normal(lanczos_steps: list[Array]) -> None:
    """Kolmogorov-Smirnov on all whitened components; a factor of two is caught."""
    factor = np.linalg.cholesky(2 * KT * DT * RPY(1.0, 1.0).matrix(X))
    for steps in (next(one_step_displacements(RPY(1.0, 1.0))), lanczos_steps[0]):
        white = linalg.solve_triangular(factor, steps[:20_000].T, lower=True).ravel()
        assert stats.kstest(white, "norm").pvalue > FALSE_ALARM
        for scale in (2, 0.5, 2**0.5, 0.5**0.5, 1.03):
            assert stats.kstest(scale * white, "norm").pvalue < FALSE_ALARM
