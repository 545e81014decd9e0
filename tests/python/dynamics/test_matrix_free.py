"""Brownian steps whose noise comes from products with the mobility alone."""

from __future__ import annotations

from typing import Any

import mlcore.random
import numpy as np
import pytest
from devices import device_named
from memory import peak_extra
from mlcore.dynamics import Harmonic, LennardJones, Yukawa, brownian, force_field
from mlcore.errors import Error, InvalidArgument, NotPositiveDefinite
from mlcore.mobility import RPY, Oseen, PairMobility
from scipy import linalg

X = np.array([[0, 0, 0], [2.2, 0, 0], [0.4, 2.5, 0.1], [2, 2, 2.4], [-1.9, 1, 1]])
CELL = np.array([9.0, 10.0, 11.0])
FORCES = [Yukawa(2.0, 0.8, 4.0), LennardJones(1.2, 1.0), Harmonic(0.3, (1.0, 1.0, 1.0))]
TABLE = PairMobility.from_functions(
    0.05,
    6.0,
    lambda r: 0.02 * (1 - r / 6) ** 2,
    lambda r: 0.01 * (1 - r / 6) ** 3,
    background=RPY(1.0, 1.0),
)
RUN: dict[str, Any] = {"dt": 0.01, "kT": 0.9, "steps": 12, "every": 4, "seed": 8, "stream": 3}


def lattice(n: int, spacing: float) -> Any:
    """n places of a cubic lattice, disturbed."""
    m = int(np.ceil(n ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    return spacing * (grid + 0.05 * np.random.default_rng(n).standard_normal((n, 3)))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("noise", ["lanczos", "chebyshev"])
@pytest.mark.parametrize("cell", [None, CELL])
def test_steps_are_those_of_the_symmetric_root(device: str, noise: str, cell: Any) -> None:
    there = device_named(device)
    run = RUN | {"forces": FORCES, "cell": cell, "noise": noise, "tol": 1e-11}
    x = there.put(np.stack([X, X[::-1] + 0.1]))
    got = there.get(brownian(TABLE, x, **run))
    for r in range(2):
        place = got[r, 0]
        for step in range(RUN["steps"]):
            xi = mlcore.random.normal(RUN["seed"], RUN["stream"] + r, step, range(5))
            M = TABLE.matrix(place, cell)
            flow = (M @ force_field(FORCES, place, cell)[1].ravel()).reshape(-1, 3)
            kick = (linalg.sqrtm(M).real @ xi.ravel()).reshape(-1, 3)
            drift = RUN["kT"] * TABLE.divergence(place, cell)
            place = place + RUN["dt"] * (flow + drift) + np.sqrt(2 * 0.9 * RUN["dt"]) * kick
            if (step + 1) % 4 == 0:
                np.testing.assert_allclose(got[r, (step + 1) // 4], place, rtol=0, atol=1e-8)


def test_the_tolerance_is_kept() -> None:
    x = lattice(200, 2.2)
    run: dict[str, Any] = {"dt": 1.0, "kT": 0.5, "steps": 1, "seed": 3}
    frames = brownian(RPY(1.0, 1.0), x, noise="lanczos", tol=1e-12, **run)
    exact = frames[1] - frames[0]
    xi = mlcore.random.normal(3, 0, 0, range(200)).ravel()
    root = linalg.sqrtm(RPY(1.0, 1.0).matrix(x)).real
    np.testing.assert_allclose(exact.ravel(), root @ xi, rtol=0, atol=1e-10)
    for tol in (1e-1, 1e-3, 1e-6):
        moved = np.diff(brownian(RPY(1.0, 1.0), x, noise="lanczos", tol=tol, **run), axis=0)[0]
        assert np.linalg.norm(moved - exact) < 3 * tol * np.linalg.norm(exact)


@pytest.mark.parametrize("n", [7, 400])
@pytest.mark.parametrize("length", [0.0, 1e-4])
def test_threads_replicas_and_frames_change_nothing(n: int, length: float) -> None:
    x = lattice(n, 2.5)
    run: dict[str, Any] = {
        "dt": 1e-3, "kT": 1.0, "steps": 4, "every": 2, "seed": 2, "noise": "lanczos",
        "forces": FORCES[:2], "random_finite_difference": length,
    }  # fmt: skip
    whole = brownian(RPY(1.0, 1.0), np.broadcast_to(x, (3, n, 3)), num_threads=1, **run)
    for threads in (2, 7):
        again = brownian(RPY(1.0, 1.0), np.broadcast_to(x, (3, n, 3)), num_threads=threads, **run)
        assert np.array_equal(again, whole)
    alone = brownian(RPY(1.0, 1.0), x, stream=2, num_threads=2, **run)
    assert np.array_equal(alone, whole[2])
    every = brownian(RPY(1.0, 1.0), x, **run | {"every": 1})
    assert np.array_equal(every[::2], whole[0])


def test_auto_is_cholesky_for_few_and_lanczos_for_many() -> None:
    run: dict[str, Any] = {"dt": 1e-3, "kT": 1.0, "steps": 2, "tol": 1e-2}
    for n, method in ((99, "cholesky"), (101, "lanczos")):
        x = lattice(n, 2.5)
        got = brownian(RPY(1.0, 1.0), x, noise="auto", **run)
        assert np.array_equal(got, brownian(RPY(1.0, 1.0), x, noise=method, **run))


def test_the_drift_is_that_of_cholesky() -> None:
    """What kT div M adds to a step depends on neither root, nor does a step without temperature."""
    one = RUN | {"steps": 1, "every": 1}
    for options in ({}, {"random_finite_difference": 1e-4}):
        drifts = [
            np.diff(
                [brownian(TABLE, X, drift=drift, noise=noise, **one, **(options if drift else {}))
                 for drift in (False, True)],
                axis=0,
            )
            for noise in ("cholesky", "lanczos")
        ]  # fmt: skip
        assert np.abs(drifts[0]).max() > 1e-6
        np.testing.assert_allclose(drifts[1], drifts[0], rtol=0, atol=1e-14)
    cold = RUN | {"kT": 0.0, "forces": FORCES}
    same = brownian(TABLE, X, **cold)
    assert np.array_equal(brownian(TABLE, X, noise="lanczos", **cold), same)


def test_indefinite_mobilities_are_told_or_repaired() -> None:
    near = X.copy()
    near[4] = near[2] + [0.3, 0, 0]
    run = RUN | {"noise": "lanczos"}
    with pytest.raises(NotPositiveDefinite, match="at step 0 of replica 0") as caught:
        brownian(Oseen(1.0, 1.0), near, **run)
    assert caught.value.pair == (2, 4)
    one = run | {"steps": 1, "every": 1}
    assert np.isfinite(brownian(Oseen(1.0, 1.0), near, **one, psd="repair")).all()


def test_blow_ups_and_wrong_options_are_told() -> None:
    with pytest.raises(Error, match=r"at step 0 of replica 0: particle \d would move by"):
        brownian(TABLE, X, **RUN | {"dt": 50.0, "forces": FORCES, "noise": "lanczos"})
    for options, what in (
        ({"noise": "svd"}, 'noise must be "cholesky", "lanczos", "chebyshev" or "auto", got "svd"'),
        ({"noise": None}, "noise must be"),
        ({"tol": 0.0}, "tol must lie"),
        ({"tol": np.nan}, "tol must lie"),
        ({"tol": "small"}, "tol must be a number"),
        ({"noise": "lanczos", "scheme": "midpoint"}, "needs noise = cholesky"),
    ):
        with pytest.raises(InvalidArgument, match=what):
            brownian(TABLE, X, **RUN | options)
    assert brownian(TABLE, np.zeros((0, 3)), noise="lanczos", **RUN).shape == (4, 0, 3)
    assert brownian(TABLE, X[:1], noise="lanczos", **RUN).shape == (4, 1, 3)


def test_no_matrix_is_formed() -> None:
    """At n = 4913 it would take 1.7 GB."""
    setup = """
import numpy as np
from mlcore.dynamics import brownian
from mlcore.mobility import RPY
run = {"dt": 1e-3, "kT": 1.0, "noise": "lanczos", "tol": 1e-2, "random_finite_difference": 1e-4}
x = np.stack(np.meshgrid(*[np.arange(17.0)] * 3, indexing="ij"), -1).reshape(-1, 3) * 3
brownian(RPY(1.0, 1.0), x[:50], steps=1, **run)
"""
    assert peak_extra("brownian(RPY(1.0, 1.0), x, steps=1, **run)", setup) < 20e6
