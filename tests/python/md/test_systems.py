"""Reference systems: forces are gradients, energies stay, truths agree."""

from __future__ import annotations

import numpy as np
import pytest
from mlcore import md
from mlcore.errors import InvalidArgument

ONE = {
    "oscillator": ({"k": 2.5}, lambda x: 1.25 * x**2, np.linspace(-3, 3, 41)),
    "fixed_lennard_jones": ({}, lambda x: 4 * (x**-12 - x**-6), np.linspace(0.97, 3, 41)),
    "double_well": ({}, lambda x: x**4 / 4 - x**2 / 2, np.linspace(-3, 3, 41)),
    "rugged": (
        {},
        lambda x: (x**4 - x**3 - 16 * x**2 + 4 * x + 48) / 50 + np.sin(30 * (x + 5)) / 5,
        np.linspace(-6, 6, 401),
    ),
}


def numbered(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("name", ONE)
def test_potentials_and_forces(name: str) -> None:
    told, potential, x = ONE[name]
    system = md.named(name, **told)
    energies, forces = system.energies_forces(x.reshape(-1, 1, 1))
    np.testing.assert_allclose(energies, potential(x), rtol=1e-12, atol=1e-12)
    h = 1e-4  # differences of order four
    slope = sum(
        w * potential(x + k * h) for k, w in ((-2, 1), (-1, -8), (1, 8), (2, -1))
    ) / (12 * h)  # fmt: skip
    np.testing.assert_allclose(forces[:, 0, 0], -slope, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("place", [{"box": 6.7949}, {"radius": 4.0, "wall": "wca"}, {}])
def test_particles(place: dict[str, float]) -> None:
    system = md.lennard_jones(16, epsilon=2.0, **place)
    x, v = md.random_start(system, 3)
    assert not v.any()
    moved, h = numbered(16, 3), 1e-5
    plus, minus = (system.energies_forces(x + s * h * moved)[0] for s in (1, -1))
    force = system.energies_forces(x)[1]
    assert (plus - minus) / (2 * h) == pytest.approx(-(force * moved).sum(), rel=1e-6)
    run = system.run(x, v, dt=1e-3, steps=2000, every=100)
    assert np.abs(run.energy / run.energy[0] - 1).max() < 5e-3
    if "radius" not in place:
        assert np.abs(run.velocities.sum(1)).max() < 1e-10


def test_starts() -> None:
    system = md.lennard_jones(16, box=6.7949)
    x, v = md.random_start(system, 1, temperature=1.5, mass=2.0)
    d = x[:, None] - x[None]
    d -= 6.7949 * np.round(d / 6.7949)
    r = np.sqrt((d * d).sum(-1))[~np.eye(16, dtype=bool)]
    assert r.min() >= 0.95
    assert np.abs(v.sum(0)).max() < 1e-12
    assert 2.0 * (v * v).sum() / 45 == pytest.approx(1.5)
    np.testing.assert_array_equal(x, md.random_start(system, 1)[0])
    with pytest.raises(InvalidArgument, match="do not fit"):
        md.random_start(md.lennard_jones(500, box=5.0), 0)


def test_the_order_of_the_truth() -> None:
    """Order 8 at long steps follows the differential equation, Verlet lags behind it."""
    well = md.double_well()
    ends = [
        well.run([[-2.0]], dt=dt, steps=round(100 / dt), every=round(100 / dt), truth=truth)
        for dt, truth in ((0.05, "order8"), (0.02, "order8"), (1e-3, "verlet"), (5e-4, "verlet"))
    ]
    x = [run.positions[-1, 0, 0] for run in ends]
    assert abs(x[0] - x[1]) < 1e-8
    assert 3.5 < (x[2] - x[1]) / (x[3] - x[1]) < 4.5


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("pendulum", {}, "system must be"),
        ("oscillator", {"epsilon": 1}, "no parameter 'epsilon'; it has k"),
        ("oscillator", {"k": -1}, "k must be positive"),
        ("fixed_lennard_jones", {"epsilon": "deep"}, "epsilon must be a number"),
        ("fixed_lennard_jones", {"sigma": -1}, "sigma must be positive"),
        ("lennard_jones", {"n": 0}, "n must be at least 1"),
        ("lennard_jones", {"n": 2, "box": 5, "radius": 5}, "exclude each other"),
        ("lennard_jones", {"n": 2, "radius": 5, "wall": "soft"}, "wall must be"),
    ],
)
def test_wrong_arguments(name: str, told: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        md.named(name, **told)
