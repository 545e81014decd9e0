"""Learned steps through ASE: from its trajectories to its dynamics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read
from mlcore import md
from mlcore.data import Trajectory
from mlcore.errors import Error, InvalidArgument
from mlcore.integrators import NBodyIntegrator
from mlcore.integrators.ase_dynamics import LargeStepDynamics

EPSILON, SIGMA, MASS = 0.0104, 3.4, 39.948  # argon
TIME = SIGMA * np.sqrt(MASS / EPSILON)
BOX = 6.0 * SIGMA


@pytest.fixture(scope="module")
def learned() -> NBodyIntegrator:
    """Argon in eV, A, u and ASE's unit of time; frames 0.04 of the Lennard-Jones time apart."""
    fixed = {"n": 32, "box": 6.0, "temperature": 1.0}
    over = {"seed": np.arange(6)}
    data = md.sweep("lennard_jones", over, fixed=fixed, dt=2e-3, time=10, every=20)
    frames = [
        Trajectory(
            times=data.times * TIME,
            positions=x * SIGMA,
            velocities=v * SIGMA / TIME,
            cell=BOX * np.eye(3),
            pbc=np.array([True] * 3),
        )
        for x, v in zip(data.positions, data.velocities, strict=True)
    ]
    own = md.from_trajectories(frames, MASS)
    return NBodyIntegrator(cutoff=2.5 * SIGMA, atoms=1500, intervals=24, iterations=25).fit(own)


def argon() -> Atoms:
    x, _ = md.random_start(md.lennard_jones(32, 6.0), 9)
    atoms = Atoms("Ar32", positions=x * SIGMA, cell=[BOX] * 3, pbc=True)
    v = np.random.default_rng(3).standard_normal((32, 3))
    atoms.set_velocities((v - v.mean(0)) * np.sqrt(120 * units.kB / MASS))
    return atoms


def test_units_do_not_matter(learned: NBodyIntegrator) -> None:
    assert learned.quality[0].r2 > 0.9999
    assert 80 < learned.taught[0] / units.fs < 90  # fs


def test_dynamics_of_ase(learned: NBodyIntegrator, tmp_path: Path) -> None:
    atoms, step = argon(), learned.taught[0]
    start = atoms.copy()
    with LargeStepDynamics(
        atoms, learned, step, trajectory=str(tmp_path / "run.traj"), loginterval=5
    ) as dynamics:
        seen: list[float] = []
        dynamics.attach(lambda: seen.append(dynamics.get_time()), 10)
        dynamics.run(20)
    assert np.allclose(seen, step * np.array([0, 10, 20]))
    frames = read(tmp_path / "run.traj", index=":")
    assert len(frames) == 5 and np.array_equal(frames[-1].positions, atoms.positions)
    system = md.lennard_jones(32, 6.0)
    x, v = start.positions / SIGMA, start.get_velocities() * TIME / SIGMA
    exact = system.run(x, v, dt=2e-3, steps=20 * 20, every=20)
    near = np.linalg.norm(exact.positions[10] - frames[2].positions / SIGMA, axis=1)
    assert near.mean() < 2e-3
    assert np.abs(atoms.get_momenta().sum(0)).max() < 1e-10


def test_it_goes_on(learned: NBodyIntegrator) -> None:
    one, other = argon(), argon()
    LargeStepDynamics(one, learned, learned.taught[0]).run(8)
    dynamics = LargeStepDynamics(other, learned, learned.taught[0])
    dynamics.run(3)
    dynamics.run(5)
    assert np.array_equal(one.positions, other.positions) and dynamics.nsteps == 8


def test_bad_input(learned: NBodyIntegrator) -> None:
    atoms = argon()
    with pytest.raises(InvalidArgument, match="shorter than"):
        LargeStepDynamics(atoms, learned, 0.1 * learned.taught[0])
    atoms.pbc = (True, True, False)
    with pytest.raises(InvalidArgument, match="in all directions or in none"):
        LargeStepDynamics(atoms, learned, learned.taught[0])
    heavy = argon()
    heavy.set_masses([50.0] * 32)
    with pytest.raises(InvalidArgument, match="mass 50"):
        LargeStepDynamics(heavy, learned, learned.taught[0])
    with pytest.raises(InvalidArgument, match="'Ar'"):
        LargeStepDynamics(argon(), learned, learned.taught[0], types={"Kr": 0})


def test_atoms_that_change_on_the_way(learned: NBodyIntegrator) -> None:
    step = learned.taught[0]
    for change, message in (
        (lambda atoms: atoms.set_cell([2 * BOX] * 3), "keep their cell"),
        (lambda atoms: atoms.set_masses([1.0] * 32), "masses"),
        (lambda atoms: atoms.pop(), "number"),
    ):
        atoms = argon()
        dynamics = LargeStepDynamics(atoms, learned, step)
        dynamics.run(1)
        change(atoms)
        with pytest.raises(InvalidArgument, match=message):
            dynamics.run(1)
    with pytest.raises(Error, match="call fit first"):
        LargeStepDynamics(argon(), NBodyIntegrator(), step)
