"""The reference systems against programs of their own: forces, Verlet's frames, energies, counts.

Source of the systems: arXiv:2004.06493. Nothing here is computed by the core but what is tested.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from mlcore import md
from mlcore.integrators import MinMax, net_speedup, windows

Array = np.ndarray
BOX, EPSILON = 6.7949, 2.0

POTENTIALS: dict[str, tuple[dict[str, float], Callable[[Array], Array], Array]] = {
    "oscillator": ({"k": 3.0}, lambda x: 3 * x**2 / 2, np.linspace(-10, 10, 201)),
    "fixed_lennard_jones": ({}, lambda x: 4 * (x**-12 - x**-6), np.linspace(0.95, 3, 201)),
    "double_well": ({}, lambda x: x**4 / 4 - x**2 / 2, np.linspace(-3.1, 3.1, 201)),
    "rugged": (
        {},
        lambda x: (x**4 - x**3 - 16 * x**2 + 4 * x + 48) / 50 + np.sin(30 * (x + 5)) / 5,
        np.linspace(-6.1, 6.1, 1001),
    ),
}
FORCES: dict[str, Callable[[float], float]] = {
    "oscillator": lambda x: -3 * x,
    "fixed_lennard_jones": lambda x: 48 / x * (x**-12 - 0.5 * x**-6),
    "double_well": lambda x: x - x**3,
    "rugged": lambda x: (-4 * x**3 + 3 * x**2 + 32 * x - 4) / 50 - 6 * np.cos(30 * (x + 5)),
}
STARTS = {"oscillator": -7.0, "fixed_lennard_jones": 2.0, "double_well": -2.0, "rugged": -6.0}


def slope(potential: Callable[[Array], Array], x: Array) -> Array:
    """By a step into the complex plane: exact to rounding, no difference is taken."""
    return potential(x + 1e-30j).imag / 1e-30


@pytest.mark.parametrize("name", POTENTIALS)
def test_forces_of_one_dimension(name: str) -> None:
    """Bar 1e-7 of -dU/dx; relative to the largest force within a well where it passes zero."""
    told, potential, x = POTENTIALS[name]
    energies, forces = md.named(name, **told).energies_forces(x.reshape(-1, 1, 1))
    wanted = -slope(potential, x)
    np.testing.assert_allclose(forces[:, 0, 0], wanted, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(energies, potential(x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose([FORCES[name](one) for one in x], wanted, rtol=1e-7, atol=1e-9)


def energy_of_particles(x: Array, box: float | None, cutoff: float = 2.5) -> complex:
    """Pairs one by one, nearest images, force truncated and energy shifted; x may be complex."""
    total: complex = 0.0
    for i in range(len(x)):
        for j in range(i):
            d = x[i] - x[j]
            if box is not None:
                d = d - box * np.round(d.real / box)
            r2 = (d * d).sum()
            if r2.real < cutoff**2:
                total += 4 * EPSILON * (r2**-6 - r2**-3 - cutoff**-12 + cutoff**-6)
    return total


@pytest.mark.parametrize("box", [BOX, 6.0, None])
def test_forces_of_particles(box: float | None) -> None:
    system = md.lennard_jones(16, box=box, epsilon=EPSILON)
    x, _ = md.random_start(system, 5)
    energy, forces = system.energies_forces(x)
    assert energy == pytest.approx(energy_of_particles(x, box).real, rel=1e-12)
    wanted = np.empty_like(x)
    for place in np.ndindex(x.shape):
        moved = x.astype(complex)
        moved[place] += 1e-30j
        wanted[place] = -complex(energy_of_particles(moved, box)).imag / 1e-30
    np.testing.assert_allclose(forces, wanted, rtol=1e-7, atol=1e-9)


def verlet_of_one(name: str, x: float, dt: float, marks: list[int]) -> list[tuple[float, float]]:
    """Half a kick, drift, half a kick, in plain Python numbers."""
    force = FORCES[name]
    v, f, found = 0.0, float(force(x)), []
    for step in range(1, marks[-1] + 1):
        v += 0.5 * dt * f
        x += dt * v
        f = float(force(x))
        v += 0.5 * dt * f
        if step in marks:
            found.append((x, v))
    return found


@pytest.mark.parametrize("name", FORCES)
def test_frames_of_verlet(name: str) -> None:
    """Bar 1e-8 at t = 10, 100, 1000, of x and v."""
    marks = [10_000, 100_000, 1_000_000]
    data = md.sweep(
        name,
        {"x0": [STARTS[name]]},
        fixed=POTENTIALS[name][0],
        dt=1e-3,
        time=1000,
        every=10_000,
    )
    wanted = np.array(verlet_of_one(name, STARTS[name], 1e-3, marks))
    chosen = [mark // 10_000 for mark in marks]
    np.testing.assert_allclose(data.positions[0, chosen, 0, 0], wanted[:, 0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(data.velocities[0, chosen, 0, 0], wanted[:, 1], rtol=0, atol=1e-8)


def forces_in_numpy(x: Array, box: float) -> tuple[Array, float]:
    d = x[:, None] - x[None]
    d -= box * np.round(d / box)
    r2 = (d * d).sum(-1)
    np.fill_diagonal(r2, np.inf)
    near = r2 < 2.5**2
    s6 = np.where(near, r2**-3.0, 0.0)
    pair = np.where(near, 24 * EPSILON * (2 * s6 * s6 - s6) / r2, 0.0)
    shift = 4 * EPSILON * (2.5**-12 - 2.5**-6)
    energy = 0.5 * (4 * EPSILON * (s6 * s6 - s6) - shift * near).sum()
    return (pair[..., None] * d).sum(1), float(energy)


@pytest.mark.parametrize("seed", [0, 1])
def test_energies_of_particles(seed: int) -> None:
    """Bar 1e-9, relative, at t = 1 and 2; later, chaos makes two programs differ."""
    system = md.lennard_jones(16, box=BOX, epsilon=EPSILON)
    data = md.sweep(
        "lennard_jones",
        {"seed": [seed]},
        fixed={"n": 16, "box": BOX, "epsilon": EPSILON},
        dt=1e-3,
        time=2.0,
        every=1000,
    )
    x, v = md.random_start(system, seed)
    np.testing.assert_array_equal(data.positions[0, 0], x)
    f, _ = forces_in_numpy(x, BOX)
    found = []
    for step in range(1, 2001):
        v = v + 0.5e-3 * f
        x = x + 1e-3 * v
        f, potential = forces_in_numpy(x, BOX)
        v = v + 0.5e-3 * f
        if step % 1000 == 0:
            found.append((potential, 0.5 * (v * v).sum()))
    potential, kinetic = np.array(found).T
    np.testing.assert_allclose(data.energy[0, 1:], potential + kinetic, rtol=1e-9)
    np.testing.assert_allclose(data.potential[0, 1:], potential, rtol=1e-8)


def test_windows_of_the_paper() -> None:
    """n kept frames give n - 5 samples; ranges and splits are those of whole training runs."""
    over = {"k": [1.0, 4.0], "x0": [-3.0, -2.0, -1.0]}
    data = md.sweep("oscillator", over, dt=1e-3, time=40, every=100)
    train, held_out = data.split(0.8, seed=3)
    told = [set(zip(*part.parameters.values(), strict=True)) for part in (train, held_out)]
    assert not told[0] & told[1] and len(told[0] | told[1]) == 6
    for every, interval in ((1, 0.1), (4, 0.4), (10, 1.0)):
        kept = train.stride(every)
        frames = 400 // every + 1
        found = windows(kept, 5)
        assert found.interval == pytest.approx(interval)
        assert len(found) == len(train) * (frames - 5)
        scale = MinMax.of(found)
        unit = scale.scaled(found.inputs)
        assert unit.min() == 0 and unit.max() == pytest.approx(1)
        for part in (found, windows(held_out.stride(every), 5)):
            again = scale.restored(scale.scaled(part.inputs))
            np.testing.assert_allclose(again, part.inputs, rtol=0, atol=1e-12)


def test_speed_up_of_the_paper() -> None:
    """Eq 3 with the timings behind Table I, windows of 5 frames."""
    told = {"steps": 1e9, "dt": 1e-3}
    assert round(net_speedup(0.04392, 0.0026, interval=0.1, **told)) == 1688
    assert round(net_speedup(0.04392, 0.0026, interval=4.0, **told)) == 32_468


def test_the_oscillator_needs_positions_alone() -> None:
    """x+ = (x^2 - x_-^2 + x x_--) / x_-, x_- and x_-- one and two steps ago; bar 1e-10.

    It holds for every interval, frequency and phase, of Verlet's frames too, and is singular where
    x_- is zero.
    """
    over = {"k": [1.0, 2.5, 10.0], "mass": [1.0, 7.0], "x0": [-10.0, -1.0]}
    for every, truth, dt in ((100, "verlet", 1e-3), (700, "verlet", 1e-3), (10, "order8", 0.05)):
        data = md.sweep("oscillator", over, dt=dt, time=dt * every * 60, every=every, truth=truth)
        x = data.positions[..., 0, 0] / np.abs(data.parameters["x0"])[:, None]
        oldest, old, present, wanted = x[:, :-3], x[:, 1:-2], x[:, 2:-1], x[:, 3:]
        away = np.abs(old) > 0.2
        found = (present**2 - old**2 + present * oldest)[away] / old[away]
        assert away.mean() > 0.5
        np.testing.assert_allclose(found, wanted[away], rtol=0, atol=1e-10)
