"""Properties by molecular dynamics against the literature on argon and silicon."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from mlcore.errors import InvalidArgument
from mlcore.forcefield import forms
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.targets import Target
from mlcore.forcefield.targets.md import (
    AngleDistribution,
    Conductivity,
    Diffusion,
    Enthalpy,
    HeatCapacity,
    Melting,
    RadialDistribution,
    Simulation,
)
from mlcore.forcefield.targets.md import simulation as engine
from mlcore.forcefield.targets.md.diffusion import mean_square_displacement
from mlcore.forcefield.targets.md.distributions import angle_histogram, radial_histogram
from mlcore.forcefield.targets.md.melting import _Trial

KB = 8.617333262e-5
MASS = 39.948
ARGON = forms.model("lj/cut", ["Ar"])
EPSILON, SIGMA = 120 * KB, 3.4
TAU = SIGMA * float(np.sqrt(MASS * 1.0364269e-4 / EPSILON))


def argon(density: float) -> Atoms:
    """Four atoms of a reduced density."""
    return bulk("Ar", "fcc", SIGMA * (4 / density) ** (1 / 3), cubic=True)


def measured(targets: list[Target], cutoff: float, **changed: float) -> Evaluation:
    values: Mapping[str, float] = ARGON.defaults | {
        "epsilon": EPSILON, "sigma": SIGMA, "cutoff": cutoff * SIGMA,
    } | changed  # fmt: skip
    with Evaluator(ARGON, targets, cutoff_cap=15.0) as evaluator:
        return evaluator([values])[0]


def test_energy_of_the_lennard_jones_fluid() -> None:
    """NIST, LJ fluid, cut off at 3 sigma with tail: U* = -5.5121 at T* = 0.85, rho* = 0.776."""
    kelvin, cutoff, density = 0.85 * EPSILON / KB, 3.0, 0.776
    run = Simulation(
        timestep=0.005 * TAU, equilibrate=600, steps=2500, ensemble="nvt", pressure=None,
        melt=(4 * kelvin, 500),
    )  # fmt: skip
    target = Enthalpy(
        argon(density), {kelvin: 0.0}, simulation=run, supercell=(4, 4, 4), name="energy"
    )
    found = measured([target], cutoff)
    energy = (found.values["energy"][0] - 1.5 * KB * kelvin) / EPSILON
    tail = 8 * np.pi * density * (1 / (9 * cutoff**9) - 1 / (3 * cutoff**3))
    error = found.errors["energy"][0] / EPSILON
    assert error < 0.02
    assert abs(energy + tail + 5.5121) < 4 * error


def test_argon_of_rahman(monkeypatch: pytest.MonkeyPatch) -> None:
    """A. Rahman, Phys. Rev. 136, A405 (1964): 94.4 K, 1.374 g/cm^3; one run for three targets."""
    ladders: list[int] = []
    ladder = engine._ladder

    def counted(*given: Any) -> Any:
        ladders.append(1)
        return ladder(*given)

    monkeypatch.setattr(engine, "_ladder", counted)
    run = Simulation(
        timestep=0.01, equilibrate=600, steps=5000, frames=5, ensemble="nvt", pressure=None,
        melt=(400.0, 500),
    )  # fmt: skip
    crystal = argon(1.374 * 0.602214076 / MASS * SIGMA**3)
    same: dict[str, Any] = {"simulation": run, "supercell": (4, 4, 4)}
    r, angles = np.arange(0.05, 8.5, 0.1), np.arange(2.5, 180, 5.0)
    targets = [
        Diffusion(crystal, {94.4: 2.43}, name="D", **same),
        RadialDistribution(crystal, 94.4, r, np.ones_like(r), name="g", **same),
        AngleDistribution(crystal, 94.4, angles, angles * 0, cutoff=5.0, name="angles", **same),
    ]
    found = measured(targets, 2.25)
    assert len(ladders) == 1
    value, error = found.values["D"][0], found.errors["D"][0]
    # 256 atoms diffuse some percent less than his 864
    assert error < 0.3 and abs(value - 2.35) < 4 * error
    g = found.values["g"]
    assert r[np.argmax(g)] == pytest.approx(3.7, abs=0.11)
    assert g.max() == pytest.approx(2.8, abs=0.2) and g[r > 6.5].mean() == pytest.approx(
        1, abs=0.15
    )
    assert (found.errors["g"][g > 0.1] > 0).all()
    p = found.values["angles"]
    assert p.sum() * 5 == pytest.approx(1.0) and 50 < angles[np.argmax(p)] < 65


def test_heat_capacity_of_a_crystal() -> None:
    """Dulong and Petit: 3 R, less half a degree of freedom of the whole in 64 atoms."""
    silicon = forms.model("sw", ["Si"])
    run = Simulation(timestep=0.003, equilibrate=1000, steps=4000)
    target = HeatCapacity(
        bulk("Si", "diamond", 5.431, cubic=True), {50.0: 24.94}, step=40.0, simulation=run,
        supercell=(2, 2, 2), name="Cp",
    )  # fmt: skip
    assert target.temperatures == (30.0, 70.0)
    with Evaluator(silicon, [target]) as evaluator:
        found = evaluator([silicon.defaults])[0]
    error = found.errors["Cp"][0]
    assert error < 1.0
    assert abs(found.values["Cp"][0] - 8.314463 * (3 - 1.5 / 64)) < 4 * error


def test_heat_capacity_by_fluctuations() -> None:
    random, count, kelvin = np.random.default_rng(0), 10, 300.0
    from mlcore.forcefield.targets.md.enthalpy import _fluctuations

    # enthalpies that fluctuate as if the heat capacity were 50 J/(mol K)
    spread = np.sqrt(50 / 96485.33212 * count * KB) * kelvin
    samples = 40_000
    run = engine.Trajectory(
        temperature=kelvin, pressure=0.0, time=1.0, kelvin=np.full(samples, kelvin),
        energy=random.normal(0, spread, samples), volume=np.ones(samples),
        gigapascal=np.zeros(samples), frame_time=1.0, positions=np.zeros((0, count, 3)),
        cells=np.zeros((0, 3, 3)), masses=np.ones(count), types=np.zeros(count, dtype=np.int64),
    )  # fmt: skip
    value, error = _fluctuations(run)
    assert error == pytest.approx(50 * np.sqrt(2 / samples), rel=0.1)
    assert abs(value - 50) < 4 * error


def test_conductivity_of_the_lennard_jones_fluid() -> None:
    """D. Evans, Phys. Rev. A 34, 1449 (1986): about 3.4 at T* = 1.35, rho* = 0.6, cutoff 2.5."""
    kelvin = 1.35 * EPSILON / KB
    run = Simulation(
        timestep=0.005 * TAU, equilibrate=500, steps=5000, ensemble="nvt", pressure=None,
        melt=(3 * kelvin, 400),
    )  # fmt: skip
    target = Conductivity(
        argon(0.6), {kelvin: 0.0}, simulation=run, supercell=(3, 3, 6), swap=20, name="lambda"
    )
    found = measured([target], 2.5)
    unit = KB / SIGMA**2 * np.sqrt(EPSILON / (MASS * 1.0364269e-4)) * 1602.176634
    value, error = found.values["lambda"][0] / unit, found.errors["lambda"][0] / unit
    assert error < 1.0
    assert abs(value - 3.4) < 4 * error


def test_melting_of_argon() -> None:
    """Cut off at 2.5 sigma and unshifted it melts at T* of about 0.62; here for a box of 216."""
    run = Simulation(timestep=0.01, equilibrate=600, steps=3000, cell="aniso", barostat=200)
    target = Melting(
        bulk("Ar", "fcc", 5.4, cubic=True), 75.0, between=(50.0, 100.0), halvings=3,
        simulation=run, supercell=(3, 3, 6), name="Tm",
    )  # fmt: skip
    found = measured([target], 2.5)
    value, error = found.values["Tm"][0], found.errors["Tm"][0]
    assert 0 < error < 15 and abs(value - 0.62 * EPSILON / KB) < 4 * error


def test_melting_from_the_rates_of_interfaces() -> None:
    target = Melting(argon(0.9), 75.0, between=(60.0, 90.0), halvings=4)
    rates = {75.0: 0.02, 67.5: -0.13, 71.25: -0.055, 73.125: -0.0175}
    line = [_Trial(kelvin, rate, 1e-3) for kelvin, rate in rates.items()]
    middle, error, note = target._between(line, 73.125, 75.0)
    assert (middle, note) == (pytest.approx(74.0), "")
    # a line without scatter: what is left of the interval
    assert error == pytest.approx(1.875 / np.sqrt(12))
    noisy = [_Trial(t.temperature, t.rate + 0.03 * (-1) ** k, 0.0) for k, t in enumerate(line)]
    middle, error, _ = target._between(noisy, 73.125, 75.0)
    assert error > 0.7 and abs(middle - 74.0) < 2 * error
    assert target._between([_Trial(75.0, -0.1, 0.0)], 75.0, 90.0)[::2] == (
        90.0, "did not melt below 90 K",
    )  # fmt: skip
    assert target._between([_Trial(75.0, 0.1, 0.0)], 60.0, 75.0)[::2] == (60.0, "melted above 60 K")


def test_histograms_against_all_pairs() -> None:
    random = np.random.default_rng(3)
    n, cell = 20, np.array([[9.0, 0, 0], [1.0, 8.0, 0], [0.5, -1.0, 10.0]])
    x = random.uniform(-1, 2, (n, 3)) @ cell
    shifts = np.array(list(np.ndindex(7, 7, 7))) - 3
    vectors = x[None, :, None] - x[:, None, None] + (shifts @ cell)[None, None]
    d = np.linalg.norm(vectors, axis=-1)
    edges, around = np.linspace(0.5, 6.0, 12), np.arange(n) < 8
    of = ~around
    counts = np.histogram(d[around][:, of], edges)[0]
    density = of.sum() / abs(np.linalg.det(cell))
    wanted = counts / (around.sum() * density * 4 / 3 * np.pi * np.diff(edges**3))
    np.testing.assert_allclose(radial_histogram(x, cell, edges, around, of), wanted, rtol=1e-12)

    cutoff, bins = 3.5, np.linspace(0, 180, 19)
    angles = []
    for i in np.flatnonzero(around):
        near = vectors[i][(d[i] < cutoff) & (d[i] > 0)]
        near /= np.linalg.norm(near, axis=1)[:, None]
        angles += [
            np.degrees(np.arccos(np.clip(near[a] @ near[b], -1, 1)))
            for a in range(len(near))
            for b in range(a)
        ]
    wanted = np.histogram(angles, bins)[0] / (len(angles) * 10)
    assert len(angles) > 50
    np.testing.assert_allclose(angle_histogram(x, cell, bins, cutoff, around), wanted, rtol=1e-12)


def test_displacements_of_straight_lines() -> None:
    velocity = np.array([1.0, 2.0, 2.0])
    x = np.arange(10)[:, None, None] * velocity
    np.testing.assert_allclose(mean_square_displacement(x, [1, 3]), [9.0, 81.0])


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda a: Diffusion(a, {90.0: 2.0}, simulation=Simulation()), "barostat"),
        (
            lambda a: Diffusion(a, {90.0: 2.0}, simulation=Simulation(ensemble="nvt", steps=500)),
            "frames",
        ),
        (lambda a: Diffusion(a, {90.0: 2.0}, species="Kr"), "no Kr"),
        (lambda a: HeatCapacity(a, {9.0: 1.0}), "step"),
        (lambda a: HeatCapacity(a, {90.0: 1.0}, method="guess"), "method"),  # type: ignore[arg-type]
        (lambda a: RadialDistribution(a, 90.0, [1.0, 2.0, 4.0], [1, 1, 1]), "bins"),
        (lambda a: RadialDistribution(a, 90.0, [1.0, 2.0], [1, 1, 1]), "shape"),
        (lambda a: AngleDistribution(a, 90.0, [90.0, 190.0], [0, 0], cutoff=4.0), "180"),
        (lambda a: AngleDistribution(a, 90.0, [45.0, 135.0], [0, 0], cutoff=-1.0), "cutoff"),
        (lambda a: Conductivity(a, {90.0: 1.0}, slabs=7), "slabs"),
        # a gradient needs two slabs on each side
        (lambda a: Conductivity(a, {90.0: 1.0}, slabs=8), "slabs"),
        (lambda a: Melting(a, 80.0, between=(90.0, 70.0)), "between"),
        (lambda a: Melting(a, 80.0, simulation=Simulation(ensemble="nvt")), "npt"),
    ],
)
def test_targets_that_cannot_be_measured(make: Any, word: str) -> None:
    with pytest.raises(InvalidArgument, match=word):
        make(argon(0.8))
