"""Two interacting colloids sample exp(-U / kT) whatever their mobility.

Yukawa repulsion in a common harmonic trap: the distance has the density
r^2 exp(-(k r^2 / 4 + U_Y(r)) / kT). The pair mobility falls steeply with the distance, so that
kT div M matters: without it the relative motion piles up where the mobility is low.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from mlcore.dynamics import Harmonic, Yukawa, brownian
from mlcore.mobility import PairMobility
from scipy import stats

Array = npt.NDArray[np.float64]

KT = 1.0
TRAP = Harmonic(1.0)
YUKAWA = Yukawa(3.0, 1.0, 6.0)
DT = 0.02
THIN = 125  # steps between samples
BURN = 600
REPLICAS, PER_REPLICA = 100, 40
BINS = 24


def falling(strength: float) -> object:
    return lambda r: strength * np.clip(1 - (r / 4) ** 2, 0, None) ** 2


MOBILITY = PairMobility.from_functions(1.0, 4.0, falling(0.95), falling(0.5), knots=512)


def distances(seed: int, **extra: Any) -> Array:
    """(REPLICAS, PER_REPLICA) distances, THIN steps apart."""
    start = np.tile([[-0.8, 0.0, 0.0], [0.8, 0.0, 0.0]], (REPLICAS, 1, 1))
    options = {"forces": [TRAP, YUKAWA], "dt": DT, "kT": KT, "seed": seed} | extra
    burnt = brownian(MOBILITY, start, steps=BURN, every=BURN, **options)[:, -1]
    frames = brownian(
        MOBILITY, burnt, steps=PER_REPLICA * THIN, every=THIN, stream=REPLICAS, **options
    )
    return np.linalg.norm(frames[:, 1:, 0] - frames[:, 1:, 1], axis=-1)


def cumulative(r: Array) -> Array:
    """The exact distribution function of the distance, by quadrature."""
    grid = np.linspace(1e-6, 15, 60_001)
    screened = YUKAWA.amplitude * np.exp(-YUKAWA.kappa * grid) / grid
    at_cutoff = YUKAWA.amplitude * np.exp(-YUKAWA.kappa * YUKAWA.cutoff) / YUKAWA.cutoff
    energy = TRAP.stiffness * grid**2 / 4 + np.where(grid < YUKAWA.cutoff, screened - at_cutoff, 0)
    density = grid**2 * np.exp(-energy / KT)
    total = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(r, grid, total / total[-1])


def p_value(r: Array) -> float:
    """Chi-square over BINS bins of equal probability."""
    counts = np.histogram(cumulative(r.ravel()), bins=BINS, range=(0, 1))[0]
    return float(stats.chisquare(counts).pvalue)


def test_samples_are_three_autocorrelation_times_apart() -> None:
    every = 5
    start = np.tile([[-0.8, 0.0, 0.0], [0.8, 0.0, 0.0]], (40, 1, 1))
    frames = brownian(
        MOBILITY, start, forces=[TRAP, YUKAWA], dt=DT, kT=KT, steps=8000, every=every, seed=7
    )[:, 120:]
    r = np.linalg.norm(frames[:, :, 0] - frames[:, :, 1], axis=-1)
    r -= r.mean()
    correlation = [(r[:, : r.shape[1] - lag] * r[:, lag:]).mean() for lag in range(150)]
    time = every * (0.5 + sum(correlation[1:]) / correlation[0])
    assert 5 < time <= THIN / 3


@pytest.mark.parametrize(
    "options",
    [
        {"scheme": "euler_maruyama"},
        {"scheme": "midpoint"},
        {"noise": "lanczos"},
        {"noise": "lanczos", "random_finite_difference": 1e-4},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_boltzmann_distribution(options: dict[str, Any], seed: int) -> None:
    assert p_value(distances(seed, **options)) > 0.001


@pytest.mark.parametrize(
    ("seed", "noise"), [(1, "cholesky"), (2, "cholesky"), (3, "cholesky"), (1, "lanczos")]
)
def test_without_the_drift_it_is_rejected(seed: int, noise: str) -> None:
    assert p_value(distances(seed, drift=False, noise=noise)) < 1e-6
