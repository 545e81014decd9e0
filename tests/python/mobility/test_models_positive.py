"""Assembled mobilities are positive semi-definite: 10,000 configurations.

How it is guaranteed: every part is (see mlcore.mobility.models.shells); the test looks at what the core
makes of the tables, with the smallest delta a model may have and with hostile weights.
"""

from __future__ import annotations

import numpy as np
import pytest
from mlcore.mobility import models
from mlcore.mobility.models.base import PairModel, PairParameters

RADIUS = 1.0


def _model(kind: str) -> PairModel:
    """Models without any delta of their own, so that only the floor of 1e-6 is there."""
    background = "none" if kind == "bare" else "rpy"
    cutoff = 2.5 if kind == "single" else 5.0
    model = models.KernelRidgePairModel(background, cutoff, radius=RADIUS, viscosity=1.0)
    rng = np.random.default_rng(7)
    weights = np.zeros(model.basis.size)
    if kind == "single":
        weights[20] = 0.3
    elif kind == "smooth":
        weights = 0.2 * np.exp(-((model.basis.wavenumbers / 2) ** 2))
    else:
        weights = 0.05 * rng.exponential(size=len(weights)) * (rng.random(len(weights)) < 0.3)
        weights[0] = 0.05
    model.set_parameters(PairParameters(RADIUS, 1.0, 0.0, weights))
    return model


def _configuration(rng: np.random.Generator, n: int, box: float, periodic: bool) -> np.ndarray:
    """No overlaps, gaps down to 1e-3 radii: half the particles are put next to another one."""
    x = np.empty((n, 3))
    for i in range(n):
        for _ in range(20_000):
            if i and rng.random() < 0.5:
                direction = rng.normal(size=3)
                gap = RADIUS * 10 ** rng.uniform(-3, 0)
                step = direction / np.linalg.norm(direction) * (2 * RADIUS + gap)
                trial = x[rng.integers(i)] + step
            else:
                trial = rng.uniform(0, box, 3)
            if not periodic and ((trial < 0) | (trial > box)).any():
                continue
            d = x[:i] - trial
            if periodic:
                d -= box * np.round(d / box)
            if i == 0 or (d * d).sum(1).min() >= (2 * RADIUS + 1e-3 * RADIUS) ** 2 * (1 - 1e-9):
                x[i] = trial
                break
        else:
            pytest.fail("no place left")
    return x


def _worst(model: PairModel, n: int, count: int, fraction: float, periodic: bool) -> float:
    """Smallest eigenvalue over the largest, of the worst of `count` configurations."""
    rng = np.random.default_rng([n, int(100 * fraction), periodic])
    box = (n * 4 / 3 * np.pi * RADIUS**3 / fraction) ** (1 / 3)
    cell = box * np.eye(3) if periodic else None
    mobility = model.mobility()
    worst = np.inf
    for start in range(0, count, 50):
        batch = min(50, count - start)
        x = np.stack([_configuration(rng, n, box, periodic) for _ in range(batch)])
        matrices = np.asarray(mobility.matrix(x, cell))
        assert np.array_equal(matrices, matrices.transpose(0, 2, 1))
        values = np.linalg.eigvalsh(matrices)
        worst = min(worst, float((values[:, 0] / values[:, -1]).min()))
    return worst


# 4 kinds x 3 fractions x 2 boundaries x (350 + 60 + 7) = 10,008 configurations
@pytest.mark.parametrize("kind", ["smooth", "single", "spiky", "bare"])
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("periodic", [False, True], ids=["open", "periodic"])
def test_no_negative_eigenvalue(kind: str, fraction: float, periodic: bool) -> None:
    model = _model(kind)
    assert model.parameters.local == 0.0
    for n, count in ((2, 350), (12, 60), (200, 7)):
        assert _worst(model, n, count, fraction, periodic) >= -1e-12


def test_overlapping_particles_are_no_exception() -> None:
    rng = np.random.default_rng(3)
    mobility = _model("spiky").mobility()
    for box in (1.0, 3.0):
        matrices = np.asarray(mobility.matrix(rng.uniform(0, box, (50, 12, 3))))
        values = np.linalg.eigvalsh(matrices)
        assert (values[:, 0] >= -1e-12 * values[:, -1]).all()


def test_a_negative_weight_is_found_by_this_test() -> None:
    model = _model("single")
    weights = model.parameters.weights.copy()
    weights[20] = -0.05
    object.__setattr__(model.parameters, "weights", weights)
    assert _worst(model, 12, 50, 0.3, True) < -1e-6


def test_symmetries_are_exact() -> None:
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(5)
    mobility = _model("smooth").mobility()
    x = rng.uniform(0, 6, (8, 3))
    m = np.asarray(mobility.matrix(x))
    turn = Rotation.random(random_state=1).as_matrix()
    turned = np.asarray(mobility.matrix(x @ turn.T))
    np.testing.assert_allclose(
        turned, np.kron(np.eye(8), turn) @ m @ np.kron(np.eye(8), turn.T), atol=1e-14
    )
    order = rng.permutation(8)
    rows = (3 * order[:, None] + np.arange(3)).reshape(-1)
    np.testing.assert_allclose(
        np.asarray(mobility.matrix(x[order])), m[np.ix_(rows, rows)], atol=1e-15
    )
