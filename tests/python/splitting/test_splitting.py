"""PairSplitting: against NumPy, its reference and Verlet; what a symmetric splitting conserves."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import ase
import mlcore
import mlcore.reference
import numpy as np
import pytest
import torch
from devices import device_named
from mlcore import InvalidArgument, PairSplitting
from mlcore.dynamics import LennardJones, SphericalWall, verlet
from mlcore.splitting import NOT_FINITE, RUNNING, TOO_CLOSE
from scipy.interpolate import CubicSpline

ANY = np.random.default_rng(0)
SKEW = np.array([[9.0, 0, 0], [3.1, 8.5, 0], [-1.2, 2.3, 9.4]])


def cubics(S: Any, u_lo: float, u_hi: float, intervals: int) -> np.ndarray:
    """(M, 4) of the spline of S(u)."""
    u = np.linspace(u_lo, u_hi, intervals + 1)
    return CubicSpline(u, S(u)).c[::-1].T * (u[1] - u[0]) ** np.arange(4)


def verlet_substeps(
    h: float = 0.05,
    kicks: int = 4,
    epsilon: float = 2.0,
    cutoff: float = 2.5,
    closest: float = 0.7,
    intervals: int = 4096,
) -> PairSplitting:
    """K Verlet steps (position form) with Lennard-Jones: G = 48 eps (u^6 - 1/2) u^8."""
    c = cubics(lambda u: 48 * epsilon * (u**6 - 0.5) / kicks, 1 / cutoff, 1 / closest, intervals)
    drifts = [0.5 / kicks, *[1 / kicks] * (kicks - 1), 0.5 / kicks]
    tables = np.broadcast_to(c, ((kicks + 1) // 2, 1, *c.shape))
    return PairSplitting(h, drifts, 1.0, tables, 1 / cutoff, 1 / closest)


def bumpy(
    kicks: int = 5,
    masses: Any = (1.0, 2.5),
    h: float = 0.04,
    cutoff: float = 3.0,
    closest: float = 0.5,
    intervals: int = 16,
    seed: int = 3,
) -> PairSplitting:
    """Functions that mean nothing but for keeping particles apart; drifts of many lengths."""
    rng = np.random.default_rng(seed)
    species = np.size(masses)
    u_lo, u_hi = 1 / cutoff, 1 / closest

    def one() -> np.ndarray:
        a, b, c = rng.normal(size=3)
        return cubics(
            lambda u: a * np.cos(3 * u + c) + b * (u - u_lo) + 3 * u**6, u_lo, u_hi, intervals
        )

    pairs = species * (species + 1) // 2
    tables = [[one() for _ in range(pairs)] for _ in range((kicks + 1) // 2)]
    half = rng.normal(0.5 / kicks, 0.1, (kicks + 1) // 2)
    c = np.concatenate([half, [0.0] * ((kicks + 1) % 2), half[::-1]])
    c[(kicks + 1) // 2 if kicks % 2 == 0 else [kicks // 2, kicks // 2 + 1]] += (1 - c.sum()) / (
        1 if kicks % 2 == 0 else 2
    )
    return PairSplitting(h, c, masses, tables, u_lo, u_hi)


def lattice(n: int, apart: float = 1.25, seed: int = 1) -> tuple[np.ndarray, np.ndarray, float]:
    """Positions around a cubic lattice, velocities, and the edge of the cube."""
    rng = np.random.default_rng(seed)
    side = round(np.ceil(n ** (1 / 3)))
    axis = np.arange(side) * apart
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)[:n]
    return x + rng.normal(0, 0.05, x.shape), rng.normal(0, 0.6, x.shape), side * apart


def by_numpy(
    splitting: PairSplitting,
    x: np.ndarray,
    v: np.ndarray,
    steps: int = 1,
    cell: np.ndarray | None = None,
    species: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The definition, all pairs at once, by their nearest images."""
    x, v = x.copy(), v.copy()
    kinds = np.zeros(len(x), int) if species is None else np.asarray(species)
    mass, S, h, K = splitting.masses[kinds], splitting.species, splitting.h, splitting.kicks
    low, high = np.minimum.outer(kinds, kinds), np.maximum.outer(kinds, kinds)
    pair = low * S - low * (low - 1) // 2 + high - low
    per = splitting.intervals / (splitting.u_hi - splitting.u_lo)
    for _ in range(steps):
        x += splitting.drifts[0] * h * v
        for k in range(K):
            d = x[:, None] - x[None]
            if cell is not None:
                d -= np.round(d @ np.linalg.inv(cell)) @ cell
            r = np.linalg.norm(d, axis=-1)
            np.fill_diagonal(r, np.inf)
            u = 1 / r
            s = np.maximum((np.minimum(u, splitting.u_hi) - splitting.u_lo) * per, 0)
            row = np.minimum(s.astype(int), splitting.intervals - 1)
            a, b, c, e = np.moveaxis(splitting.coefficients[min(k, K - 1 - k)][pair, row], -1, 0)
            t = s - row
            G = np.where(r < splitting.cutoff, u**8 * (a + b * t + c * t**2 + e * t**3), 0)
            v += h / mass[:, None] * np.sum(G[..., None] * d, axis=1)
            x += splitting.drifts[k + 1] * h * v
    return x, v


def close(got: Any, want: Any, limit: float) -> None:
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=limit * np.abs(b).max())


def ends(run: Any) -> tuple[Any, Any]:
    return run.last_positions, run.last_velocities


# ------------------------------------------------------------------------- right


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 128])
@pytest.mark.parametrize("kicks", [1, 2, 5])
def test_is_the_definition(n: int, kicks: int) -> None:
    splitting = bumpy(kicks)
    x, v, _ = lattice(n)
    species = np.arange(n) * 7 % 5 % 2
    run = splitting.run(x, v, steps=1, species=species)
    assert (run.done, run.status) == (1, RUNNING)
    close(ends(run), by_numpy(splitting, x, v, 1, None, species), 1e-12)


@pytest.mark.parametrize("cell", [8.0 * np.eye(3), np.diag([7.0, 8.0, 9.5]), SKEW])
@pytest.mark.parametrize("n", [5, 16, 90])
def test_periodic_boxes(cell: np.ndarray, n: int) -> None:
    splitting = bumpy(4)
    x, v, _ = lattice(n, 1.5)
    x += 40 * np.array([[1, -1, 0.5]]) + (ANY.integers(-3, 4, (n, 3)) @ cell)  # far from the cell
    species = np.arange(n) % 2
    run = splitting.run(x, v, steps=3, species=species, cell=cell)
    close(ends(run), by_numpy(splitting, x, v, 3, cell, species), 1e-11)


@pytest.mark.parametrize("pbc", [True, (True, False, True), False])
@pytest.mark.parametrize(("edge", "n"), [(3.9, 20), (8.0, 20), (7.6, 130)])
def test_reference(edge: float, n: int, pbc: Any) -> None:
    """Every image counts where the cutoff is beyond half the box."""
    splitting = bumpy(3)
    x, v, _ = lattice(n, 1.25)
    species = np.arange(n) % 2
    cell = edge * np.eye(3)
    cell[1, 0] = 0.1 * edge
    cell[:, 2] *= 1.3
    run = splitting.run(x, v, steps=2, species=species, cell=cell, pbc=pbc)
    want: Any = (x, v, np.inf)
    seen = np.inf
    for _ in range(2):
        want = mlcore.reference.splitting_step(splitting, *want[:2], cell, pbc, species)
        seen = min(seen, want[2])
    assert run.status == RUNNING
    close(ends(run), want[:2], 1e-11)
    assert run.closest == pytest.approx(seen, rel=1e-12)


def test_verlet_substeps_are_verlet() -> None:
    """Position-form substeps are velocity-form ones between half drifts."""
    x, v, edge = lattice(125, 1.3)
    K, h, steps = 4, 0.02, 10
    splitting = verlet_substeps(h, K, 1.0, intervals=20_000)
    run = splitting.run(x, v, steps=steps, every=steps, cell=[edge] * 3)
    dt = h / K
    lj = LennardJones(1.0, 1.0, 2.5)
    kick = mlcore.dynamics.system_forces(lj, x + 0.5 * dt * v, box=edge)[1]
    half = v + 0.5 * dt * kick
    path = verlet(x + 0.5 * dt * v, half, forces=lj, dt=dt, steps=K * steps - 1, box=edge)
    last = mlcore.dynamics.system_forces(lj, path.positions[-1], box=edge)[1]
    want = path.velocities[-1] + 0.5 * dt * last
    close((run.positions[-1], run.velocities[-1]),
          (path.positions[-1] + 0.5 * dt * want, want), 1e-9)  # fmt: skip


def test_wall_is_that_of_verlet() -> None:
    """Drifts alone: tables of zeros."""
    x, v, _ = lattice(20, 0.7)
    x, v = x - x.mean(0), 6 * v
    free = PairSplitting(0.1, [0.25, 0.5, 0.25], 1.0, np.zeros((1, 1, 3, 4)), 0.5, 1e6)
    run = free.run(x, v, steps=40, every=40, wall=2.5)
    want = verlet(x, v, forces=SphericalWall(2.5, kind="specular"), dt=0.1, steps=40, every=40)
    close(ends(run), (want.positions[-1], want.velocities[-1]), 1e-11)
    assert np.linalg.norm(run.positions, axis=-1).max() <= 2.5 * (1 + 1e-12)
    back = free.run(run.last_positions, -run.last_velocities, steps=40, every=40, wall=2.5)
    close((back.last_positions, -back.last_velocities), (x, v), 1e-9)


@pytest.mark.parametrize("n", [27, 150])
def test_reference_within_a_wall(n: int) -> None:
    splitting = bumpy(3, masses=[1.0])
    x, v, _ = lattice(n, 1.0)
    x = x - x.mean(0)
    wall = 1.002 * np.linalg.norm(x, axis=1).max()
    run = splitting.run(x, 3 * v, steps=2, wall=wall)
    want: Any = (x, 3 * v)
    for _ in range(2):
        want = mlcore.reference.splitting_step(splitting, *want[:2], wall=wall)
    free = splitting.run(x, 3 * v, steps=2)
    assert run.status == RUNNING and np.abs(free.last_positions - run.last_positions).max() > 0.01
    close(ends(run), want[:2], 1e-10)


# -------------------------------------------------------------------- conserved


@pytest.mark.parametrize(("n", "edge"), [(16, None), (64, 8.0), (200, 9.0)])
def test_back_and_forth(n: int, edge: float | None) -> None:
    splitting = bumpy(5)
    x, v, _ = lattice(n)
    options: dict[str, Any] = {"species": np.arange(n) % 2, "steps": 20, "every": 20}
    if edge is not None:
        options["cell"] = [edge] * 3
    there = splitting.run(x, v, **options)
    back = splitting.run(there.last_positions, -there.last_velocities, **options)
    assert there.status == back.status == RUNNING
    assert np.abs(there.last_positions - x).max() > 0.1
    close((back.last_positions, -back.last_velocities), (x, v), 1e-10)


@pytest.mark.parametrize(("n", "edge"), [(16, None), (64, 8.0), (200, 9.0)])
def test_momentum(n: int, edge: float | None) -> None:
    splitting = bumpy(5)
    x, v, _ = lattice(n)
    species = np.arange(n) % 2
    cell = None if edge is None else [edge] * 3
    run = splitting.run(x, v, steps=50, every=10, species=species, cell=cell)
    mass = splitting.masses[species]
    p = np.einsum("i,tik->tk", mass, run.velocities)
    assert np.abs(p - p[0]).max() < 1e-12 * np.abs(mass[:, None] * v).sum()
    if edge is None:
        L = np.einsum("i,tik->tk", mass, np.cross(run.positions, run.velocities))
        assert np.abs(L - L[0]).max() < 1e-12 * np.abs(mass[:, None] * np.cross(x, v)).sum()


def test_permutation_translation_rotation() -> None:
    splitting = bumpy(5)
    x, v, _ = lattice(16)
    species = np.arange(16) % 2
    here = splitting.run(x, v, steps=10, every=10, species=species)
    order = ANY.permutation(16)
    there = splitting.run(x[order], v[order], steps=10, every=10, species=species[order])
    close(ends(there), (here.last_positions[order], here.last_velocities[order]), 1e-12)
    Q = np.linalg.qr(ANY.normal(size=(3, 3)))[0]
    there = splitting.run(x @ Q + [3, -2, 1], v @ Q, steps=10, every=10, species=species)
    close(ends(there), (here.last_positions @ Q + [3, -2, 1], here.last_velocities @ Q), 1e-12)


def test_symplectic() -> None:
    """J^T Omega J = Omega for the Jacobian in positions and momenta, by central differences."""
    n, step = 3, 1e-5
    splitting = bumpy(5)
    x, v, _ = lattice(n)
    species = np.array([0, 1, 1])
    mass = np.repeat(splitting.masses[species], 3)
    z = np.concatenate([x.reshape(-1), mass * v.reshape(-1)])

    def flow(z: np.ndarray) -> np.ndarray:
        x, v = z[: 3 * n].reshape(n, 3), (z[3 * n :] / mass).reshape(n, 3)
        run = splitting.run(x, v, steps=2, every=2, species=species)
        return np.concatenate(
            [run.last_positions.reshape(-1), mass * run.last_velocities.reshape(-1)]
        )

    J = np.stack([(flow(z + e) - flow(z - e)) / (2 * step) for e in step * np.eye(6 * n)], 1)
    omega = np.kron([[0, 1], [-1, 0]], np.eye(3 * n))
    assert np.abs(J.T @ omega @ J - omega).max() < 1e-7
    assert np.abs(J - np.eye(6 * n)).max() > 0.05


# ------------------------------------------------------------------ neighbor lists


@pytest.mark.parametrize("cell", [[7.6] * 3, SKEW, None])
def test_lists_are_all_pairs(cell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More particles than are looked at in all pairs, beside NumPy; long enough for new lists."""
    splitting = bumpy(3)
    x, v, _ = lattice(216, 1.25)
    species = np.arange(216) % 2
    run = splitting.run(x, 2 * v, steps=12, every=4, species=species, cell=cell)
    square = np.diag(cell) if cell is not None and np.ndim(cell) == 1 else cell
    want = by_numpy(splitting, x, 2 * v, 12, square, species)
    assert run.status == RUNNING
    close(ends(run), want, 1e-9)


def test_replicas_are_alone() -> None:
    """Few particles and many, any number of threads: the same bits."""
    for n, replicas in ((16, 5), (150, 3)):
        splitting = bumpy(4)
        x, v, edge = lattice(n, 1.4)
        xs = x + 0.02 * ANY.normal(size=(replicas, n, 3))
        vs = v + 0.1 * ANY.normal(size=(replicas, n, 3))
        options: dict[str, Any] = {
            "steps": 6, "every": 2, "species": np.arange(n) % 2, "cell": [max(edge, 6.1)] * 3,
        }  # fmt: skip
        together = splitting.run(xs, vs, num_threads=1, **options)
        for threads in (2, 3, 8):
            for a, b in zip(
                together, splitting.run(xs, vs, num_threads=threads, **options), strict=True
            ):
                np.testing.assert_array_equal(a, b)
        for r in range(replicas):
            alone = splitting.run(xs[r], vs[r], num_threads=4, **options)
            for a, b in zip(together[1:5], alone[1:5], strict=True):
                np.testing.assert_array_equal(a[r], b)
            assert (alone.done, alone.closest) == (6, together.closest[r])


def test_every_does_not_show() -> None:
    for n in (16, 150):
        splitting = bumpy(4)
        x, v, _ = lattice(n)
        species = np.arange(n) % 2
        fine = splitting.run(x, v, steps=12, species=species, cell=[8.0] * 3)
        coarse = splitting.run(x, v, steps=12, every=6, species=species, cell=[8.0] * 3)
        np.testing.assert_array_equal(fine.positions[::6], coarse.positions)
        np.testing.assert_array_equal(fine.velocities[::6], coarse.velocities)
        np.testing.assert_allclose(coarse.times, [0, 6 * splitting.h, 12 * splitting.h])


ISA = """
import sys
import numpy as np
from mlcore import PairSplitting
given = np.load(sys.argv[1])
splitting = PairSplitting(*(given[name] for name in ("h", "c", "m", "S", "u_lo", "u_hi")))
ends = []
for n in (16, 150):
    x, v = given["x"][:n], given["v"][:n]
    run = splitting.run(x, v, steps=5, every=5, species=np.arange(n) % 2, cell=[8.0] * 3)
    ends += [run.last_positions, run.last_velocities]
np.savez(sys.argv[2], *ends)
"""


def test_instruction_sets_agree(tmp_path: Any) -> None:
    splitting = bumpy(4)
    x, v, _ = lattice(150)
    tables = {"c": splitting.drifts, "m": splitting.masses, "S": splitting.coefficients}
    numbers = {"h": splitting.h, "u_lo": splitting.u_lo, "u_hi": splitting.u_hi}
    given = tmp_path / "given.npz"
    np.savez(given, x=x, v=v, **tables, **numbers)
    found = []
    for level in ("baseline", "avx2", "avx512"):
        out = tmp_path / f"{level}.npz"
        environment = os.environ | {"MLCORE_SIMD": level}
        subprocess.run([sys.executable, "-c", ISA, given, out], check=True, env=environment)
        found.append([np.load(out)[f"arr_{k}"] for k in range(4)])
    for one, other in pairwise(found):
        close(one, other, 1e-12)


# --------------------------------------------------------------------- not good


def colliding(n: int) -> tuple[np.ndarray, np.ndarray]:
    x, v, _ = lattice(n, 1.6)
    v *= 0.1
    v[1] = (x[0] - x[1]) * 1.1
    return x, v


@pytest.mark.parametrize("n", [2, 16, 200])
def test_stops_before_too_close(n: int) -> None:
    still = PairSplitting(0.1, [0.5, 0.5], 1.0, np.zeros((1, 1, 4, 4)), 1 / 2.5, 1 / 0.8)
    x, v = colliding(n)
    other = lattice(n, 1.6, seed=8)[0]
    slow = np.zeros_like(x)
    run = still.run(np.stack([x, other]), np.stack([v, slow]), steps=9)
    assert run.status.tolist() == [TOO_CLOSE, RUNNING]
    good = run.done[0]
    assert 0 < good < 9 == run.done[1]
    np.testing.assert_allclose(run.last_positions[0], x + good * 0.1 * v, atol=1e-13)
    np.testing.assert_array_equal(run.last_velocities[0], v)
    np.testing.assert_array_equal(run.positions[0, good], run.last_positions[0])
    assert np.isnan(run.positions[0, good + 1 :]).all()
    assert np.isnan(run.velocities[0, good + 1 :]).all()
    assert np.isfinite(run.positions[1]).all()
    middle = x + (good + 0.5) * 0.1 * v
    distance = np.linalg.norm(middle[0] - middle[1])
    assert run.closest[0] == pytest.approx(distance, rel=1e-12) and distance < 0.8
    before = x + (good - 0.5) * 0.1 * v
    assert np.linalg.norm(before[0] - before[1]) >= 0.8
    alone = still.run(run.last_positions[0], run.last_velocities[0], steps=2)
    assert (alone.done, alone.status) == (0, TOO_CLOSE)
    np.testing.assert_array_equal(alone.last_positions, run.last_positions[0])


@pytest.mark.parametrize("n", [2, 16, 200])
def test_stops_before_it_is_not_finite(n: int) -> None:
    wild = PairSplitting(1.0, [0.5, 0.5], 1.0, np.full((1, 1, 1, 4), 1e200), 1 / 2.5, 1e4)
    x, v, _ = lattice(n, 1.6)
    run = wild.run(x, v, steps=4, every=2)
    assert run.status == NOT_FINITE
    assert np.isfinite(run.last_positions).all() and np.isfinite(run.last_velocities).all()
    assert np.isnan(run.positions[2]).all()


def test_continues_beyond_the_closest() -> None:
    """Kicks that see a pair beyond u_hi take S there, before the step is given up."""
    splitting = verlet_substeps(closest=0.9, intervals=64)
    x = np.array([[0.0, 0, 0], [0.85, 0, 0]])
    v, closest = splitting.kick(0, x, np.zeros((2, 3)), [0, 1, 2], [1, 0])
    assert closest == pytest.approx(0.85) and closest < splitting.closest
    S = splitting.coefficients[0, 0, -1].sum()
    np.testing.assert_allclose(v[0, 0], -splitting.h * S * 0.85**-7, rtol=1e-12)
    np.testing.assert_array_equal(v[1], -v[0])


# ------------------------------------------------------------------------- kick


@pytest.mark.parametrize("species", [None, 2])
@pytest.mark.parametrize("n", [0, 1, 2, 9, 700])
def test_kicks_and_drifts_are_a_step(n: int, species: int | None) -> None:
    """As a host program does it: ghosts beside the particles, kick by kick."""
    splitting = bumpy(5) if species else bumpy(5, masses=[1.5])
    x, v, edge = lattice(n, 1.3)
    edge = max(edge, 6.5)
    kinds = np.arange(n) % 2 if species else np.zeros(n, int)
    want = splitting.run(x, v, steps=1, species=kinds, cell=[edge] * 3)
    x, v = x.copy(), v.copy()
    x += splitting.drifts[0] * splitting.h * v
    seen = np.inf
    for stage in range(splitting.kicks):
        i, j, S = mlcore.neighbor_list("ijS", x, 3.3, [edge] * 3, True)
        images, columns = np.unique(np.column_stack([j, S]), axis=0, return_inverse=True)
        places = np.concatenate([x, x[images[:, 0]] + edge * images[:, 1:]])
        owners = np.concatenate([np.arange(n), images[:, 0]])
        v, closest = splitting.kick(
            stage,
            places,
            v,
            np.searchsorted(i, np.arange(n + 1)),
            n + columns.reshape(-1),
            species=kinds[owners] if species else None,
            num_threads=1 + stage,
        )
        seen = min(seen, closest)
        x += splitting.drifts[stage + 1] * splitting.h * v
    if n:
        close((x, v), ends(want), 1e-12)
    assert seen == pytest.approx(want.closest, rel=1e-12)


def test_kick_writes_where_it_is_told() -> None:
    splitting = verlet_substeps()
    x = torch.tensor([[0.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    v = torch.zeros_like(x)
    got, closest = splitting.kick(1, x, v, [0, 1, 2], [1, 0], out=v)
    assert got is v and closest == 1 and float(v[1, 0]) == pytest.approx(0.05 * 48 / 4, rel=1e-9)


# ------------------------------------------------------------------ what comes in


def test_kinds_of_arrays() -> None:
    splitting = bumpy(3, masses=[1.0])
    x, v, _ = lattice(8)
    want = splitting.run(x, v, steps=2)
    tensors = splitting.run(torch.tensor(x), torch.tensor(v), steps=2)
    assert isinstance(tensors.positions, torch.Tensor)
    assert isinstance(tensors.last_velocities, torch.Tensor)
    np.testing.assert_array_equal(tensors.positions.numpy(), want.positions)
    atoms = ase.Atoms("Ar8", x, cell=[9.0] * 3, pbc=True)
    atoms.set_velocities(v)
    run = splitting.run(atoms, steps=2)
    np.testing.assert_array_equal(
        run.positions, splitting.run(x, atoms.get_velocities(), steps=2, cell=[9.0] * 3).positions
    )
    strided = np.repeat(x, 2, axis=0)[::2]
    np.testing.assert_array_equal(splitting.run(strided, v, steps=2).positions, want.positions)
    assert splitting.run(x, steps=0).positions.shape == (1, 8, 3)
    rest = splitting.run(x, steps=1)
    close(ends(rest), by_numpy(splitting, x, np.zeros_like(x)), 1e-12)
    for shape in ((0, 3), (2, 0, 3), (0, 5, 3)):
        empty = splitting.run(np.zeros(shape), steps=2)
        assert empty.positions.shape == (*shape[:-2], 3, *shape[-2:])
    assert "kicks=3" in repr(splitting)


def test_out_and_progress() -> None:
    splitting = bumpy(3, masses=[1.0])
    x, v, _ = lattice(8)
    want = splitting.run(x, v, steps=4, every=2)
    out = np.empty((3, 8, 3)), np.empty((3, 8, 3))
    seen: list[tuple[int, int]] = []
    got = splitting.run(
        x, v, steps=4, every=2, out=out, progress=lambda done, total: seen.append((done, total))
    )
    assert got.positions is out[0] and got.velocities is out[1] and seen[-1] == (2, 2)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert splitting.run(x, v, steps=4, every=2, out=(None, out[1])).velocities is out[1]
    for wrong in (out[0], (out[0],), (out[0], out[0]), (out[0][:2], None), (x[None], None)):
        with pytest.raises(InvalidArgument, match="out"):
            splitting.run(x, v, steps=4, every=2, out=wrong)


@pytest.mark.parametrize("seconds", [0.2, 1e-12])
def test_pieces_and_groups_do_not_show(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are made step by step, or many at once; replicas two at a time, or all."""
    splitting = bumpy(3, masses=[1.0])
    x, v, _ = lattice(150)
    xs, vs = np.stack([x, x + 0.01 * v, x]), np.stack([v, v, -v])
    xs[2, 1], vs[2, :2] = xs[2, 0] + [0.8, 0, 0], 0
    vs[2, 1] = [-4.0, 0, 0]
    want = splitting.run(xs, vs, steps=40, every=10, cell=[8.0] * 3)
    assert want.status.tolist() == [RUNNING, RUNNING, TOO_CLOSE] and want.done[2] < 10
    monkeypatch.setattr("mlcore.splitting._PIECE_SECONDS", seconds)
    monkeypatch.setattr("mlcore.splitting._TOGETHER", 300)
    seen: list[tuple[int, int]] = []
    got = splitting.run(
        xs, vs, steps=40, every=10, cell=[8.0] * 3, progress=lambda *done: seen.append(done)
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert seen[-1] == (8, 8) and seen == sorted(seen)


GOOD: dict[str, Any] = {
    "h": 0.1,
    "drifts": [0.25, 0.5, 0.25],
    "masses": [1.0, 2.0],
    "coefficients": np.zeros((1, 3, 5, 4)),
    "u_lo": 0.4,
    "u_hi": 1.2,
}
BAD_TABLES: list[tuple[str, Any]] = [
    ("h", 0),
    ("h", np.nan),
    ("h", "a"),
    ("drifts", [1.0]),
    ("drifts", [0.5, 0.2, 0.3]),
    ("drifts", [0.25, 0.6, 0.25]),
    ("drifts", [np.nan, 0.5, np.nan]),
    ("drifts", [[0.5, 0.5]]),
    ("masses", [1.0, 0.0]),
    ("masses", [1.0, -2.0]),
    ("masses", [1.0, np.inf]),
    ("masses", []),
    ("coefficients", np.zeros((1, 2, 5, 4))),
    ("coefficients", np.zeros((2, 3, 5, 4))),
    ("coefficients", np.zeros((1, 3, 0, 4))),
    ("coefficients", np.zeros((1, 3, 5, 3))),
    ("coefficients", np.zeros((3, 5, 4))),
    ("coefficients", np.full((1, 3, 5, 4), np.inf)),
    ("u_lo", 0.0),
    ("u_lo", -1.0),
    ("u_hi", 0.4),
    ("u_hi", np.inf),
]


@pytest.mark.parametrize(("name", "value"), BAD_TABLES)
def test_bad_tables(name: str, value: Any) -> None:
    PairSplitting(**GOOD)
    with pytest.raises(InvalidArgument, match=name):
        PairSplitting(**(GOOD | {name: value}))


X = lattice(4)[0]
BAD_RUNS: list[tuple[str, dict[str, Any]]] = [
    ("x0", {"x0": X[:, :2]}),
    ("x must be finite", {"x0": X * np.nan}),
    ("x must be finite", {"x0": X * 1e12}),
    ("v0", {"v0": X[:3]}),
    ("v must be finite", {"v0": X * np.inf}),
    ("species", {"species": None}),
    ("species", {"species": [0, 1, 2, 0]}),
    ("species", {"species": [0, 1, -1, 0]}),
    ("species", {"species": [0, 1, 1]}),
    ("species", {"species": [[0, 1, 1, 0]]}),
    ("species", {"species": [0.5, 1, 1, 0]}),
    ("steps", {"steps": -1}),
    ("steps", {"steps": 3, "every": 2}),
    ("every", {"every": 0}),
    ("wall", {"wall": -1.0}),
    ("wall", {"wall": 5.0, "cell": [9.0] * 3}),
    ("outside the wall", {"wall": 1.0}),
    ("cell", {"cell": [1.0, 2.0]}),
    ("cell", {"cell": [[1.0, 0, 0], [2.0, 0, 0], [0, 0, 1.0]]}),
    ("num_threads", {"num_threads": -1}),
    ("progress", {"progress": "yes"}),
]


@pytest.mark.parametrize(("match", "options"), BAD_RUNS)
def test_bad_runs(match: str, options: dict[str, Any]) -> None:
    good: dict[str, Any] = {"x0": X, "v0": X, "steps": 2, "species": [0, 1, 1, 0]}
    PairSplitting(**GOOD).run(**good)
    with pytest.raises(InvalidArgument, match=match):
        PairSplitting(**GOOD).run(**(good | options))


BAD_KICKS: list[tuple[str, dict[str, Any]]] = [
    ("stage", {"stage": 2}),
    ("stage", {"stage": -1}),
    ("stage", {"stage": 0.5}),
    ("x must", {"x": X[:2]}),
    ("x must be finite", {"x": X * np.nan}),
    ("v must", {"v": X[:2]}),
    ("offsets", {"offsets": [0, 1, 2, 9]}),
    ("offsets", {"offsets": [0, 2, 1, 2]}),
    ("offsets", {"offsets": []}),
    ("columns", {"columns": [1, 4]}),
    ("columns", {"columns": [-1, 0]}),
    ("species", {"species": None}),
    ("species", {"species": [0, 1, 2, 0]}),
    ("species", {"species": [0, 1, 1]}),
    ("out", {"out": np.empty((3, 2))}),
]


@pytest.mark.parametrize(("match", "options"), BAD_KICKS)
def test_bad_kicks(match: str, options: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "stage": 1, "x": X, "v": X[:3], "offsets": [0, 1, 2, 2], "columns": [3, 0],
        "species": [0, 1, 1, 0],
    }  # fmt: skip
    PairSplitting(**GOOD).kick(**good)
    with pytest.raises(InvalidArgument, match=match):
        PairSplitting(**GOOD).kick(**(good | options))


# ------------------------------------------------------------------------- GPU


@pytest.mark.gpu
@pytest.mark.parametrize("cell", [None, [8.0] * 3, SKEW])
@pytest.mark.parametrize("n", [1, 16, 33, 500])
def test_gpu_matches_cpu(n: int, cell: Any) -> None:
    gpu = device_named("cuda")
    splitting = bumpy(5)
    x, v, edge = lattice(n)
    cell = [max(8.0, edge)] * 3 if n == 500 and cell is not None else cell
    xs, vs = np.stack([x, x, colliding(n)[0]]), np.stack([v, -v, 50 * v])
    species = np.arange(n) % 2
    want = splitting.run(xs, vs, steps=6, every=3, species=species, cell=cell)
    got = splitting.run(gpu.put(xs), gpu.put(vs), steps=6, every=3, species=species, cell=cell)
    for name in ("positions", "velocities", "last_positions", "last_velocities"):
        np.testing.assert_allclose(
            gpu.get(getattr(got, name)), getattr(want, name), rtol=1e-9, atol=1e-9
        )
    for name in ("done", "status"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    np.testing.assert_allclose(got.closest, want.closest, rtol=1e-9)


@pytest.mark.gpu
def test_gpu_stops_and_reflects_alike() -> None:
    gpu = device_named("cuda")
    splitting = bumpy(3, masses=[1.0], closest=0.3)
    x, v, _ = lattice(27, 0.9)
    x = x - x.mean(0)
    want = splitting.run(x, 4 * v, steps=20, every=5, wall=2.5)
    got = splitting.run(gpu.put(x), gpu.put(4 * v), steps=20, every=5, wall=2.5)
    assert (got.done, got.status) == (want.done, want.status)
    np.testing.assert_allclose(gpu.get(got.positions), want.positions, rtol=1e-8, atol=1e-8)
    with pytest.raises(InvalidArgument, match="1024"):
        splitting.run(gpu.put(np.zeros((1025, 3))), steps=1)
