"""Diffusion, equipartition and drift against closed forms. Fixed seeds; limits at five standard
errors (false alarm below 1e-6 per comparison)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from mlcore.dynamics import Constant, Harmonic, brownian
from mlcore.mobility import RPY, PairMobility
from mlcore.noise import sqrt_apply
from mlcore.random import normal

Array = npt.NDArray[np.float64]

KT = 1.3
SCHEMES = ("euler_maruyama", "midpoint")


def free(mobility: float) -> PairMobility:
    zero = np.zeros(2)
    return PairMobility(mobility, 1.0, zero, zero, zero, zero)


def standard_errors(samples: Array, expected: float) -> float:
    """Distance of the mean of independent samples from what is expected."""
    return float((samples.mean() - expected) / (samples.std() / np.sqrt(samples.size)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_free_diffusion(scheme: str) -> None:
    """<|x(t) - x(0)|^2> = 6 kT mu t."""
    mobility, dt, steps = 0.4, 0.05, 40
    frames = brownian(
        free(mobility),
        np.zeros((2000, 5, 3)),
        dt=dt,
        kT=KT,
        steps=steps,
        every=10,
        scheme=scheme,
        seed=11,
    )
    for frame in range(1, 5):
        square = (frames[:, frame] ** 2).sum(-1).ravel()
        expected = 6 * KT * mobility * dt * 10 * frame
        assert abs(standard_errors(square, expected)) < 5
        assert abs(standard_errors(2 * square, expected)) > 20  # a wrong factor 2 is seen
        assert abs(standard_errors(square / 2, expected)) > 20


@pytest.mark.parametrize("scheme", SCHEMES)
def test_equipartition_in_a_trap(scheme: str) -> None:
    """k <x^2> = kT, with the error of a finite step, which is known for a linear force."""
    stiffness, mobility, dt = 2.0, 1.0, 0.02
    frames = brownian(
        free(mobility),
        np.zeros((1500, 2, 3)),
        forces=Harmonic(stiffness, (1.0, -2.0, 0.5)),
        dt=dt,
        kT=KT,
        steps=200,
        every=200,
        scheme=scheme,
        seed=12,
    )
    square = ((frames[:, -1] - [1.0, -2.0, 0.5]) ** 2).ravel()
    h = stiffness * mobility * dt
    # x -> p x + sqrt(2 kT mu dt) q xi has the variance 2 kT mu dt q^2 / (1 - p^2)
    keep, kick = (1 - h, 1) if scheme == "euler_maruyama" else (1 - h + h * h / 2, 1 - h / 2)
    expected = 2 * KT * mobility * dt * kick**2 / (1 - keep**2)
    assert expected == pytest.approx(KT / stiffness, rel=0.03)
    assert abs(standard_errors(square, expected)) < 5
    assert abs(standard_errors(2 * square, expected)) > 20


@pytest.mark.parametrize("distance", [1.5, 2.0, 3.0, 6.0])
def test_relative_diffusion_of_a_pair(distance: float) -> None:
    """Relative displacements along and across: 4 kT (mu - par) dt and 4 kT (mu - perp) dt."""
    radius, viscosity, dt, count = 1.0, 0.7, 1e-5, 60_000
    rpy = RPY(radius, viscosity)
    start = np.array([[0, 0, 0], [distance, 0, 0]], dtype=float)
    frames = brownian(rpy, np.broadcast_to(start, (count, 2, 3)), dt=dt, kT=KT, steps=1, seed=13)
    step = frames[:, 1] - frames[:, 0]
    relative, centre = step[:, 1] - step[:, 0], step.mean(1)
    single = 1 / (6 * np.pi * viscosity * radius)
    par, perp = (float(value) for value in rpy.pair(distance))
    for axis, pair in ((0, par), (1, perp), (2, perp)):
        assert abs(standard_errors(relative[:, axis] ** 2, 4 * KT * (single - pair) * dt)) < 5
        assert abs(standard_errors(centre[:, axis] ** 2, KT * (single + pair) * dt)) < 5
        assert abs(standard_errors(relative[:, axis] ** 2, 4 * KT * single * dt)) > 5


TABLE = PairMobility.from_functions(
    1.0, 4.0, lambda r: 0.9 * (1 - r / 4) ** 2, lambda r: 0.4 * (1 - r / 4) ** 2
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_mean_displacement_is_force_and_divergence(scheme: str) -> None:
    """<dx> = (M F + kT div M) dt; the noise of the step's start, known exactly, is taken off."""
    start = np.array([[0, 0, 0], [1.2, 0.9, 0], [0.3, 1.6, 1.1]])
    force = np.array([[0.5, 0, 0], [0, -0.3, 0], [0.1, 0.2, 0.3]])
    dt, count, seed = 0.002, 20_000, 14
    frames = brownian(
        TABLE,
        np.broadcast_to(start, (count, 3, 3)),
        forces=Constant(force),
        dt=dt,
        kT=KT,
        steps=1,
        scheme=scheme,
        seed=seed,
    )
    xi = np.stack([normal(seed, replica, 0, range(3)) for replica in range(count)])
    noise = np.sqrt(2 * KT * dt) * sqrt_apply(TABLE, start, xi)[0]
    step = (frames[:, 1] - frames[:, 0] - noise).reshape(count, 9)
    drift = KT * dt * TABLE.divergence(start).ravel()
    flow = dt * TABLE.apply(start, force).ravel()
    if scheme == "euler_maruyama":
        assert np.abs(step - flow - drift).max() < 1e-14
    error = np.maximum(step.std(0) / np.sqrt(count), 1e-15)
    assert np.abs((step.mean(0) - flow - drift) / error).max() < 5
    for wrong in (flow, flow + 2 * drift, flow + drift / 2, drift, 2 * flow + drift):
        assert np.abs((step.mean(0) - wrong) / error).max() > 10
