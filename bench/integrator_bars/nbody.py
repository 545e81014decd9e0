"""Steps of many particles by learned pair kicks: 16 in a periodic box, and a liquid of 500.

The starts are unseen; what is pooled over runs is compared with Verlet runs from the same starts, which
after a few units of time are other trajectories of the same ensemble.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import mlcore
import numpy as np
from bars import Measured
from mlcore import md
from mlcore.integrators.baselines import VerletIntegrator
from mlcore.integrators.costs import verlet_seconds
from mlcore.integrators.metrics import (
    diffusion,
    horizon,
    mean_square_displacement,
    momentum,
    pair_distribution,
    separation,
    temperature,
    velocity_autocorrelation,
)
from mlcore.integrators.nbody import NBodyIntegrator

Array = np.ndarray
BOX, EPSILON = 6.7949, 2.0
SMALL = {"n": 16, "box": BOX, "epsilon": EPSILON}
EDGE = (500 / 0.8442) ** (1 / 3)
LIQUID = {"n": 500, "box": EDGE, "temperature": 1.44, "lattice": 5, "settle": 100.0}


def sixteen() -> Iterator[Measured]:
    """40 runs of t = 40 teach steps of 0.025, 0.05 and 0.1; ten unseen starts to t = 150."""
    data = md.sweep(
        "lennard_jones", {"seed": np.arange(40)}, fixed=SMALL, dt=1e-3, time=40, every=25
    )
    start = time.process_time()
    learned = NBodyIntegrator(steps=(1, 2, 4), energy="rescale").fit(data)
    yield Measured("training, CPU s", time.process_time() - start, most=600)
    for quality in learned.quality:
        least = {0.05: 0.997, 0.1: 0.975}.get(round(quality.step, 6))
        most = {0.05: 2.5e-4}.get(round(quality.step, 6))
        yield Measured(f"step {quality.step:g}: mean error", quality.error, most=most)
        yield Measured(f"step {quality.step:g}: of straight flight", quality.ballistic)
        yield Measured(f"step {quality.step:g}: R2 of velocities", quality.r2, least=least)
    truth = md.sweep(
        "lennard_jones", {"seed": np.arange(100, 110)}, fixed=SMALL, dt=1e-3, time=150, every=50
    )
    for interval in (0.05, 0.1):
        yield from _rolled(learned, truth, interval)


def _rolled(learned: NBodyIntegrator, truth: md.Dataset, interval: float) -> Iterator[Measured]:
    name = f"step {interval:g}: "
    true = truth.stride(round(interval / truth.interval))
    window, n = true.frames(slice(1)), true.positions.shape[1] - 1
    start = time.process_time()
    found = learned.rollout(window, n)
    seconds = (time.process_time() - start) / n / len(true)
    system = true.system_of(0)
    energy = np.stack([system.energies_forces(x)[0] for x in found.positions])
    kinetic = 0.5 * (found.velocities**2).sum((2, 3))
    first = true.energy[:, :1]
    yield Measured(name + "runs that blew up, of 10", sum(map(bool, found.refused)), most=0)
    yield Measured(name + "steps done again in halves", sum(found.redone))
    yield Measured(name + "steps with U > E0", float((energy > first).sum()), most=0)
    off = float(np.abs((energy + kinetic - first) / first).max())
    yield Measured(name + "energy, relative, with rescale", off, most=1e-5)
    total = momentum(found.velocities, true.masses)
    yield Measured(name + "momentum", float(np.abs(total).max()), most=1e-10)
    own = horizon(found.times, separation(found.positions, true.positions[:, 1:]))
    half = VerletIntegrator(5e-4).rollout(window, n)
    verlet = horizon(half.times, separation(half.positions, true.positions[:, 1:]))
    yield Measured(name + "horizon, median", float(np.median(own)), least=1.2)
    yield Measured(name + "of Verlet 1e-3 beside 5e-4", float(np.median(verlet)))
    yield from _ensembles(name, found, true)
    x, v = true.positions[0, -1], true.velocities[0, -1]
    small = verlet_seconds(system, x, v, true.masses[0], 0.005)
    yield Measured(name + "CPU us with rescale", 1e6 * seconds)
    learned.energy = "free"
    start = time.process_time()
    learned.rollout(window, n)
    free = (time.process_time() - start) / n / len(true)
    learned.energy = "rescale"
    yield Measured(name + "CPU us free", 1e6 * free, most=60)
    yield Measured(name + "of as much Verlet at 0.005", 1e6 * small * interval / 0.005)
    yield Measured(
        name + "evaluations of the potential", learned.energy_evaluations_per_step(interval)
    )


def _ensembles(name: str, found: object, true: md.Dataset) -> Iterator[Measured]:
    begin = round(30 / true.interval)
    x, v = found.positions[:, begin:], found.velocities[:, begin:]  # type: ignore[attr-defined]
    y, w = true.positions[:, begin:], true.velocities[:, begin:]
    edges = np.linspace(0.7, BOX / 2, 61)
    every = slice(None, None, 10)
    ours = np.stack([pair_distribution(one[every], edges, BOX)[1] for one in x])
    theirs = np.stack([pair_distribution(one[every], edges, BOX)[1] for one in y])
    pooled = theirs.mean(0)
    scatter = float(np.abs(theirs - pooled).sum(1).mean() / pooled.sum())
    yield Measured(name + "g(r): scatter of reference runs, L1", scatter)
    off = float(np.abs(ours.mean(0) - pooled).sum() / pooled.sum())
    yield Measured(name + "g(r): pooled L1", off, most=max(0.05, 1.5 * scatter))
    warm = temperature(v, true.masses, 3).mean() / temperature(w, true.masses, 3).mean() - 1
    yield Measured(name + "temperature, pooled, relative", abs(float(warm)), most=0.04)
    lags = round(5 / true.interval)
    of_v = [velocity_autocorrelation(u, lags).mean(0) for u in (v, w)]
    yield Measured(
        name + "VACF to t = 5, largest", float(np.abs(of_v[0] - of_v[1]).max()), most=0.15
    )
    of_x = [mean_square_displacement(u, lags)[:, 1:].mean(0) for u in (x, y)]
    yield Measured(
        name + "MSD to t = 5, largest relative",
        float(np.abs(of_x[0] / of_x[1] - 1).max()),
        most=0.15,
    )


def liquid() -> Iterator[Measured]:
    """Four runs of t = 20 of 500 atoms teach steps of 0.025 and 0.05; five unseen runs of 10,000 steps."""
    data = _liquid(np.arange(4), 20.0, 5)
    start = time.process_time()
    learned = NBodyIntegrator(steps=(1, 2), atoms=3000).fit(data)
    yield Measured("training, CPU s", time.process_time() - start)
    for quality in learned.quality:
        yield Measured(f"step {quality.step:g}: R2 of velocities", quality.r2, least=0.997)
    truth = _liquid(np.arange(100, 105), 500.0, 50)
    window, n = truth.frames(slice(1)), truth.positions.shape[1] - 1
    start = time.process_time()
    found = learned.rollout(window, n)  # frames of five steps
    seconds = (time.process_time() - start) / (5 * n) / len(truth)
    yield Measured("runs that blew up, of 5", sum(map(bool, found.refused)), most=0)
    yield Measured("steps done again in halves", sum(found.redone))
    system = truth.system_of(0)
    potential = np.stack([system.energies_forces(x)[0] for x in found.positions])
    total = (potential + 0.5 * (found.velocities**2).sum((2, 3)) - truth.energy[:, :1]) / 500
    yield Measured("energy per atom, largest change", float(np.abs(total).max()))
    slope = np.polyfit(found.times, total.T, 1)[0]
    yield Measured("energy per atom, drift in t = 500", float(500 * np.abs(slope).max()))
    begin = n // 5
    x, v = found.positions[:, begin:], found.velocities[:, begin:]
    y, w = truth.positions[:, begin + 1 :], truth.velocities[:, begin + 1 :]
    warm, warm_true = (temperature(u, truth.masses, 3) for u in (v, w))
    yield Measured("temperature of the reference", float(warm_true.mean()))
    off = abs(float(warm.mean() / warm_true.mean()) - 1)
    yield Measured("mean temperature, relative", off, most=0.01)
    own, true = (
        np.mean(
            [_pressure(f, t) for r in range(5) for f, t in zip(a[r, ::20], b[r, ::20], strict=True)]
        )
        for a, b in ((x, warm), (y, warm_true))
    )
    yield Measured("pressure of the reference", float(true))
    yield Measured("pressure, off", abs(float(own - true)), most=0.1)
    lags = round(20 / truth.interval)
    times = truth.interval * np.arange(lags)
    ours, theirs = (diffusion(times, mean_square_displacement(u, lags), 3) for u in (x, y))
    yield Measured("diffusion of the reference", theirs.value)
    room = max(0.1, 2 * theirs.error / theirs.value)
    yield Measured("diffusion, relative", abs(ours.value / theirs.value - 1), most=room)
    edges = np.linspace(0.8, EDGE / 2, 101)
    curves = [
        np.mean([pair_distribution(one[::20], edges, EDGE)[1] for one in u], 0) for u in (x, y)
    ]
    yield Measured(
        "g(r), mean |difference|", float(np.abs(curves[0] - curves[1]).mean()), most=0.03
    )
    small = verlet_seconds(system, y[0, 0], w[0, 0], truth.masses[0], 0.005)
    yield Measured("CPU us per step of 0.05", 1e6 * seconds)
    yield Measured("of ten Verlet steps of 0.005", 1e7 * small)
    yield Measured("evaluations of force or energy", learned.energy_evaluations_per_step(0.05))
    yield from _larger(learned)


def _larger(learned: NBodyIntegrator) -> Iterator[Measured]:
    """Liquids of 1,372 and 10,976 atoms by the same model."""
    for cells in (7, 14):
        n = 4 * cells**3
        edge = (n / 0.8442) ** (1 / 3)
        fixed = {"n": n, "box": edge, "temperature": 1.44, "lattice": cells}
        start = md.sweep("lennard_jones", {"seed": [7]}, fixed=fixed, dt=0.005, time=0.5, every=100)
        window = start.frames(slice(1, 2))
        began = time.process_time()
        found = learned.rollout(window, 200, 0.5)
        seconds = (time.process_time() - began) / 2000
        yield Measured(f"{n} atoms, 2000 steps: blew up", sum(map(bool, found.refused)), most=0)
        kinetic = 0.5 * (found.velocities[0, -1] ** 2).sum()
        yield Measured(f"{n} atoms: temperature at the end", 2 * kinetic / (3 * n - 3))
        yield Measured(f"{n} atoms: CPU us per atom and step", 1e6 * seconds / n)


def _liquid(seeds: Array, end: float, every: int) -> md.Dataset:
    return md.sweep("lennard_jones", {"seed": seeds}, fixed=LIQUID, dt=0.005, time=end, every=every)


def _pressure(x: Array, kT: float) -> float:
    """Of a truncated force, with the virial of all pairs."""
    d = mlcore.neighbor_list("d", x, 2.5, np.full(3, EDGE), True, half=True)
    virial = (48 * (d**-12 - 0.5 * d**-6)).sum()
    return float((len(x) * kT + virial / 3) / EDGE**3)


bars = {"sixteen": sixteen, "liquid": liquid}
