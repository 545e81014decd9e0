"""Metrics beside independent implementations and what is known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.geometry.rdf import get_rdf
from mlcore import md
from mlcore.errors import InvalidArgument
from mlcore.integrators import metrics

RNG = np.random.default_rng(3)


# ------------------------------------------------------------------------------------------ errors
def test_separation_is_equation_17() -> None:
    a, b = RNG.normal(size=(2, 4, 7, 5, 3))
    slow = np.zeros((4, 7))
    for run, frame in np.ndindex(4, 7):
        slow[run, frame] = np.mean([np.linalg.norm(d) for d in a[run, frame] - b[run, frame]])
    np.testing.assert_allclose(metrics.separation(a, b), slow, rtol=1e-14)
    one = RNG.normal(size=(2, 9, 1, 1))
    np.testing.assert_allclose(metrics.separation(*one), np.abs(one[0] - one[1])[:, 0, 0])


def test_separation_sees_nearest_images() -> None:
    a, box = RNG.uniform(0, 5, (6, 4, 3)), 5.0
    b = a + 0.01 * RNG.normal(size=a.shape)
    images = b + box * RNG.integers(-3, 4, b.shape)
    np.testing.assert_allclose(
        metrics.separation(images, a, box), metrics.separation(a, b), rtol=1e-10
    )
    assert metrics.separation(images, a).max() > 1


def test_horizon() -> None:
    t = np.arange(1.0, 6)
    errors = [[0, 0.05, 0.2, 0.01, 1], [0.05] * 5, [np.nan, 0, 0, 0, 0], [0.1, 0.1, 0.1, np.nan, 0]]
    assert metrics.horizon(t, errors).tolist() == [3, np.inf, 1, 4]
    assert metrics.horizon(t, errors[0], 0.5) == 5


def test_drift_of_a_line_that_shakes() -> None:
    t = np.linspace(0, 10, 1001)
    values = 2 + 0.03 * t + 0.5 * np.sin(2 * np.pi * 10 * t)
    found = metrics.drift(t, [values, -values])
    np.testing.assert_allclose(found.fitted, [0.03, -0.03], atol=1e-3)
    np.testing.assert_allclose(found.largest, np.abs(values - 2).max())
    assert metrics.drift(t, values, first=0.0).largest == values.max()
    assert found.fitted == pytest.approx([np.polyfit(t, s * values, 1)[0] for s in (1, -1)])
    with pytest.raises(InvalidArgument, match="frames"):
        metrics.drift([1.0], [[1.0]])


@pytest.mark.parametrize(
    ("law", "error"),
    [("exponential", lambda t: 1e-10 * np.exp(3.1 * t)), ("power", lambda t: 1e-4 * t)],
)
def test_growth_tells_chaos_from_shear(law: str, error: object) -> None:
    t = np.arange(1, 200) * 0.05
    noise = np.exp(0.1 * RNG.normal(size=(4, len(t))))
    found = metrics.growth(t, error(t) * noise)  # type: ignore[operator]
    assert found is not None and found.law == law
    assert (found.rate, 3.1)[law == "power"] == pytest.approx(3.1, abs=0.1)
    assert (found.exponent, 1.0)[law == "exponential"] == pytest.approx(1.0, abs=0.1)


def test_growth_needs_something_that_grows() -> None:
    t = np.arange(1, 50) * 0.1
    assert metrics.growth(t, np.full(49, 1e-3)) is None
    assert metrics.growth(t, np.zeros(49)) is None
    assert metrics.growth(t, np.full(49, np.nan)) is None
    late = np.where(
        t < 2, 1e-6 * np.exp(3 * t), 50.0
    )  # what comes after the limit is not looked at
    found = metrics.growth(t, late)
    assert found is not None and found.rate == pytest.approx(3)


def test_r_squared() -> None:
    truth = RNG.normal(size=100)
    assert metrics.r_squared(truth, truth) == 1
    assert metrics.r_squared(0 * truth, truth) == 0
    assert metrics.r_squared(0.9 * truth, truth) == pytest.approx(0.99)


# ------------------------------------------------------------------------------------------ motion
def test_energies_momenta_temperatures_are_those_of_the_core() -> None:
    data = md.sweep(
        "lennard_jones",
        {"seed": [1, 2], "mass": [1.0, 3.0]},
        fixed={"n": 8, "box": 6.0, "temperature": 1.0},
        dt=1e-3,
        time=1,
        every=100,
    )
    kinetic = metrics.kinetic_energy(data.velocities, data.masses)
    np.testing.assert_allclose(kinetic, data.kinetic, rtol=1e-12)
    assert np.abs(metrics.momentum(data.velocities, data.masses)).max() < 1e-11
    assert metrics.momentum(data.velocities, data.masses).shape == (4, 11, 3)
    first = metrics.temperature(data.velocities, data.masses, conserved=3)[:, 0]
    np.testing.assert_allclose(first, 1.0, rtol=1e-12)
    with pytest.raises(InvalidArgument, match="conserved"):
        metrics.temperature(np.zeros((5, 1, 3)), np.ones(1), conserved=3)


def test_angular_momentum_of_a_wheel() -> None:
    angle = np.linspace(0, 3, 7)
    zero = 0 * angle
    x = np.stack([np.cos(angle), np.sin(angle), zero], -1)[:, None] * np.array([[1.0], [2.0]])
    v = np.stack([-np.sin(angle), np.cos(angle), zero], -1)[:, None] * np.array([[0.5], [1.0]])
    found = metrics.angular_momentum(x, v, np.array([3.0, 1.0]))
    np.testing.assert_allclose(found, np.tile([0, 0, 3 * 0.5 + 2], (7, 1)), atol=1e-14)


def test_equipartition_of_what_is_known() -> None:
    masses = np.array([[1.0, 1, 4], [1, 4, 4]])
    target = np.array([1.0, 2.0, 3.0])  # kinetic temperatures of the axes
    v = RNG.normal(size=(2, 40_000, 3, 3)) * np.sqrt(target / masses[:, None, :, None])
    v[:, :, 2] *= 1.1
    found = metrics.equipartition(v, masses)
    whole = 2 * (2 + 1.21) / 3
    np.testing.assert_allclose(found.axes, target / 2, rtol=0.02)
    np.testing.assert_allclose(found.particles, np.array([2, 2, 2.42]) / whole, rtol=0.02)
    heavy = (2.42 + 2 + 2.42) / 3
    assert found.groups == pytest.approx({1.0: 2 / whole, 4.0: heavy / whole}, rel=0.02)
    assert found.worst == pytest.approx(0.5, rel=0.04)
    single = metrics.equipartition(v[0], masses[0])
    assert single.groups[1.0] == pytest.approx(single.particles[:2].mean(), rel=1e-9)


def test_unwrapped_takes_jumps_out() -> None:
    box = 4.0
    walk = np.cumsum(0.3 * RNG.normal(size=(2, 300, 5, 3)), 1)
    np.testing.assert_allclose(metrics.unwrapped(walk, box), walk)
    wrapped = np.mod(walk, box)
    back = metrics.unwrapped(wrapped, box)
    np.testing.assert_allclose(back - back[:, :1], walk - walk[:, :1], atol=1e-9)
    assert metrics.unwrapped(wrapped, None) is not None


def slow_correlations(v: np.ndarray, x: np.ndarray, lags: int) -> tuple[np.ndarray, np.ndarray]:
    count = len(v)
    c = [np.mean([(v[o] * v[o + k]).sum(-1).mean() for o in range(count - k)]) for k in range(lags)]
    m = [
        np.mean([((x[o + k] - x[o]) ** 2).sum(-1).mean() for o in range(count - k)])
        for k in range(lags)
    ]
    return np.array(c) / c[0], np.array(m)


@pytest.mark.parametrize("lags", [1, 7, 37])
def test_correlations_are_the_slow_sums(lags: int) -> None:
    v = RNG.normal(size=(2, 37, 4, 3))
    x = 1e3 + np.cumsum(v, 1)
    c, m = metrics.velocity_autocorrelation(v, lags), metrics.mean_square_displacement(x, lags)
    for run in range(2):
        slow = slow_correlations(v[run], x[run], lags)
        np.testing.assert_allclose(c[run], slow[0], atol=1e-12)
        np.testing.assert_allclose(m[run], slow[1], atol=1e-9)
    with pytest.raises(InvalidArgument, match="lags"):
        metrics.velocity_autocorrelation(v, 38)


def test_correlation_of_an_oscillator_is_a_cosine() -> None:
    """Over whole periods <v(0) v(t)> of v = sin(w t) is cos(w t), the displacement 1 - cos(w t)."""
    t = 0.01 * np.arange(200_000)
    omega = 2 * np.pi
    x, v = (f(omega * t).reshape(-1, 1, 1) for f in (np.sin, np.cos))
    c = metrics.velocity_autocorrelation(v, 300)
    np.testing.assert_allclose(c, np.cos(omega * t[:300]), atol=2e-4)
    m = metrics.mean_square_displacement(x, 300)
    np.testing.assert_allclose(m, 1 - np.cos(omega * t[:300]), atol=2e-4)


def test_diffusion_of_brownian_motion_and_flight() -> None:
    D, dt = 0.4, 0.1
    steps = np.sqrt(2 * D * dt) * RNG.normal(size=(5, 4000, 20, 3))
    msd = metrics.mean_square_displacement(np.cumsum(steps, 1), 40)
    lags = dt * np.arange(40)
    np.testing.assert_allclose(msd.mean(0), 6 * D * lags, rtol=0.03, atol=1e-9)
    found = metrics.diffusion(lags, msd, 3)
    assert found.value == pytest.approx(D, rel=0.05)
    assert 0 < found.error < 0.02
    assert np.isnan(metrics.diffusion(lags, msd[0], 3).error)
    flight = np.arange(100.0)[:, None, None] * np.ones((1, 2, 3))
    np.testing.assert_allclose(
        metrics.mean_square_displacement(flight, 50), 3 * np.arange(50.0) ** 2, atol=1e-8
    )
    with pytest.raises(InvalidArgument, match="lags"):
        metrics.diffusion(lags[:2], msd[:, :2], 3)


# --------------------------------------------------------------------------------------- structure
def test_an_ideal_gas_has_a_flat_distribution() -> None:
    """Five standard errors of counts in each bin."""
    box, n, frames = 5.0, 40, 400
    edges = np.linspace(0, 2.5, 26)
    _, g = metrics.pair_distribution(RNG.uniform(0, box, (frames, n, 3)), edges, box)
    expected = frames * n * (n - 1) / 2 * 4 / 3 * np.pi * np.diff(edges**3) / box**3
    assert (np.abs(g - 1) < 5 / np.sqrt(expected)).all()


@pytest.mark.parametrize("n", [60, 300])
def test_distribution_is_that_of_ase(n: int) -> None:
    """ASE counts n^2 / 2 pairs of n particles, here they are n (n - 1) / 2."""
    box = 6.0
    x = RNG.uniform(-3 * box, 3 * box, (n, 3))
    atoms = Atoms(f"H{n}", positions=x, cell=[box] * 3, pbc=True)
    g, r = get_rdf(atoms, 2.9, 29)[:2]
    edges = np.linspace(0, 2.9, 30)
    middles, own = metrics.pair_distribution(x[None], edges, box)
    np.testing.assert_allclose(middles, r, rtol=1e-12)
    np.testing.assert_allclose(own * (n - 1) / n, g, atol=1e-10)


def test_distribution_is_that_of_freud() -> None:
    freud = pytest.importorskip("freud")
    box, n = 6.0, 250
    x = RNG.uniform(-3, 3, (3, n, 3))
    rdf = freud.density.RDF(bins=29, r_max=2.9, normalization_mode="finite_size")
    for frame in x:
        rdf.compute((freud.box.Box.cube(box), frame), reset=False)
    _, own = metrics.pair_distribution(x, np.linspace(0, 2.9, 30), box)
    np.testing.assert_allclose(own, rdf.rdf, rtol=1e-3, atol=1e-3)  # freud computes in float32


def test_distribution_in_any_cell() -> None:
    """A cube told as a cell, the same space by sheared vectors, and any other by ASE."""
    box = 6.0
    x = RNG.uniform(-3 * box, 3 * box, (2, 60, 3))
    edges = np.linspace(0, 2.9, 30)
    _, g = metrics.pair_distribution(x, edges, box)
    sheared = box * np.array([[1, 0, 0], [1, 1, 0], [-1, 2, 1.0]])
    for cell in (box * np.eye(3), sheared):
        np.testing.assert_allclose(metrics.pair_distribution(x, edges, cell=cell)[1], g, atol=1e-9)
    cell = np.array([[6.8, 0, 0], [1.5, 6.8, 0], [0.7, 0.3, 6.8]])
    own = metrics.pair_distribution(x[:1], edges, cell=cell)[1]
    theirs = get_rdf(Atoms("H60", positions=x[0], cell=cell, pbc=True), 2.9, 29)[0]
    np.testing.assert_allclose(own * 59 / 60, theirs, atol=1e-10)


def test_in_open_space_it_is_a_probability() -> None:
    x = RNG.normal(size=(50, 12, 3))
    edges = np.linspace(0, 12, 200)
    r, p = metrics.pair_distribution(x, edges)
    assert (p * np.diff(edges)).sum() == pytest.approx(1)
    expected = r**2 * np.exp(-(r**2) / 4) / (2 * np.sqrt(np.pi))  # of two normal positions
    assert metrics.mean_difference(p, expected) < 0.01
    with pytest.raises(InvalidArgument, match="half the box"):
        metrics.pair_distribution(x, edges, 6.0)
    with pytest.raises(InvalidArgument, match="n >= 2"):
        metrics.pair_distribution(x[:, :1], edges)


def test_mean_difference() -> None:
    assert metrics.mean_difference([1, 2, 3], [1, 3, 1]) == 1
    with pytest.raises(InvalidArgument, match="a must"):
        metrics.mean_difference(["x"], [1])
