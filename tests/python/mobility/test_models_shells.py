"""Shell kernels: closed forms, derivatives, positivity."""

from __future__ import annotations

import numpy as np
import pytest
from mlcore.mobility.models.shells import ShellBasis, ball_overlap


def _direction_average(kr: float) -> tuple[np.ndarray, np.ndarray]:
    """<(I - kk) e^{ik.r}> and <kk e^{ik.r}> along z by quadrature over the sphere."""
    z, w = np.polynomial.legendre.leggauss(60)
    phase = np.cos(kr * z) * w / 2
    kk = np.zeros((3, 3))
    kk[2, 2] = (phase * z * z).sum()
    kk[0, 0] = kk[1, 1] = (phase * (1 - z * z) / 2).sum()
    return phase.sum() * np.eye(3) - kk, kk


@pytest.mark.parametrize("kr", [0.0, 1e-4, 0.3, 0.36, 1.0, 4.5, 17.0])
def test_closed_forms_are_direction_averages(kr: float) -> None:
    far = 1e6
    basis = ShellBasis(np.array([2.0]), far, compressible=True)
    r = kr / 2.0
    window = ball_overlap(np.array(r), far)[0]
    value = basis.evaluate(np.array([r]))
    transverse, longitudinal = _direction_average(kr)
    got = np.concatenate([value.par[0], value.perp[0]]) / window
    want = [transverse[2, 2], longitudinal[2, 2], transverse[0, 0], longitudinal[0, 0]]
    np.testing.assert_allclose(got, want, atol=1e-12)


def test_slopes_are_derivatives() -> None:
    basis = ShellBasis(np.array([0.2, 1.3, 5.0]), 4.0, compressible=True)
    r, h = np.linspace(0.01, 4.2, 301), 1e-5
    here, up, down = (basis.evaluate(r + s) for s in (0, h, -h))
    np.testing.assert_allclose((up.par - down.par) / (2 * h), here.dpar, atol=1e-8)
    np.testing.assert_allclose((up.perp - down.perp) / (2 * h), here.dperp, atol=1e-8)


def test_ends_at_the_cutoff_with_value_and_slope() -> None:
    basis = ShellBasis(np.array([0.5, 3.0]), 4.0)
    value = basis.evaluate(np.array([4.0, 4.5]))
    for part in (value.par, value.dpar, value.perp, value.dperp):
        assert np.abs(part).max() < 1e-14


def test_window_is_the_overlap_of_two_balls() -> None:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (200_000, 3))
    inside = x[(x * x).sum(1) < 0.25]
    for u in (0.2, 0.5, 0.8):
        moved = inside + [u, 0, 0]
        share = ((moved * moved).sum(1) < 0.25).mean()
        assert share == pytest.approx(float(ball_overlap(np.array(u), 1.0)[0]), abs=0.005)


@pytest.mark.parametrize("compressible", [False, True])
def test_each_shell_alone_is_positive_semidefinite(compressible: bool) -> None:
    rng = np.random.default_rng(1)
    basis = ShellBasis(np.array([0.3, 1.0, 3.0, 9.0]), 3.0, compressible)
    for _ in range(20):
        x = rng.uniform(0, rng.choice([0.5, 2.0, 5.0]), (15, 3))
        d = x[:, None] - x
        r = np.linalg.norm(d, axis=-1)
        u = d / np.where(r > 0, r, 1)[..., None]
        value = basis.evaluate(r)
        dyad = u[..., :, None] * u[..., None, :]
        for q in range(basis.size):
            par, perp = value.par[..., q, None, None], value.perp[..., q, None, None]
            m = (par * dyad + perp * (np.eye(3) - dyad)).transpose(0, 2, 1, 3).reshape(45, 45)
            eigenvalues = np.linalg.eigvalsh(m)
            assert eigenvalues[0] > -1e-13 * eigenvalues[-1]
