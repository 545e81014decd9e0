"""Time of mobility matrices and products, beside numpy and (when installed) numba.

Spheres at random at volume fraction 0.1, so that some overlap. CPU time of one thread; the ratio is
peer over mlcore. Peers are checked against mlcore before they are timed.

python bench/mobility.py [--sizes 12,200,1000] [--threads 1] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlcore
import numpy as np
from mlcore.mobility import RPY, PairMobility
from scipy.special import erfc

SECONDS = 0.5
MU = 1 / (6 * np.pi)  # viscosity 1, radius 1
CUTOFF = 6.0

Function = Callable[[], Any]


def configuration(n: int) -> tuple[np.ndarray, float]:
    """Positions (n, 3) and the edge of their cube."""
    edge = (n * 4 / 3 * np.pi / 0.1) ** (1 / 3)
    return np.random.default_rng(4).random((n, 3)) * edge, edge


def seconds(function: Function, clock: Callable[[], float]) -> float:
    """The fastest of several runs."""
    function()
    best, spent = np.inf, 0.0
    while spent < SECONDS:
        start = clock()
        function()
        best = min(best, clock() - start)
        spent += max(clock() - start, 1e-7)
    return best


def table() -> PairMobility:
    return PairMobility.from_functions(
        MU, CUTOFF, lambda r: 0.03 * (1 - r / CUTOFF) ** 4, lambda r: 0.02 * (1 - r / CUTOFF) ** 4
    )


# -- numpy peers --------------------------------------------------------------------------------


def assembled(f: np.ndarray, g: np.ndarray, d: np.ndarray) -> np.ndarray:
    """f I + g d d^T of all pairs as a matrix."""
    n = len(d)
    out = np.empty((n, 3, n, 3))
    for a in range(3):
        for b in range(3):
            out[:, a, :, b] = g * d[:, :, a] * d[:, :, b]
            if a == b:
                out[:, a, :, b] += f
    return out.reshape(3 * n, 3 * n)


def numpy_rpy(x: np.ndarray) -> np.ndarray:
    d = x[:, None] - x[None]
    r = np.sqrt(np.einsum("ijk,ijk->ij", d, d))
    s = 1 / np.where(r > 0, r, 1)
    far = r > 2
    f = np.where(far, (0.75 + 0.5 * s**2) * s, 1 - 0.28125 * r)
    g = np.where(far, (0.75 - 1.5 * s**2) * s**3, 0.09375 * s)
    return MU * assembled(f, g, d)


def numpy_table(mobility: PairMobility, x: np.ndarray) -> np.ndarray:
    d = x[:, None] - x[None]
    r2 = np.einsum("ijk,ijk->ij", d, d)
    r = np.sqrt(r2)
    knots = np.linspace(0, CUTOFF, len(mobility.table.par))
    par = np.interp(r, knots, mobility.table.par, right=0)
    perp = np.interp(r, knots, mobility.table.perp, right=0)
    out = assembled(perp, (par - perp) / np.where(r2 > 0, r2, 1), d)
    for a in range(len(x)):
        out[3 * a : 3 * a + 3, 3 * a : 3 * a + 3] = np.eye(3) * mobility.self_mobility
    return out


def numpy_periodic_rpy(x: np.ndarray, edge: float) -> np.ndarray:
    """Beenakker's sums: images in blocks, waves by matrix products."""
    n, xi = len(x), 3.5 / edge
    xs, digits = xi / np.sqrt(np.pi), 5.0
    d = x[:, None] - x[None]
    d -= edge * np.round(d / edge)
    out = np.zeros((3 * n, 3 * n))
    m = range(-2, 3)
    shifts = edge * np.array([(i, j, k) for i in m for j in m for k in m])
    reach = digits / xi
    for shift in shifts:
        if np.linalg.norm(shift) > reach + edge * 3**0.5 / 2:
            continue
        v = d + shift
        r2 = np.einsum("ijk,ijk->ij", v, v)
        r2[r2 == 0] = np.inf
        r2[r2 > reach**2] = np.inf
        r = np.sqrt(r2)
        e = np.where(np.isfinite(r2), np.exp(-(xi**2) * r2), 0) * xs
        c, y = erfc(xi * r), np.where(np.isfinite(r2), xi**2 * r2, 0)
        x2 = xi**2
        f = c * (0.75 / r + 0.5 / r**3) + e * (
            4 * x2 * y**2 + 3 * y - 20 * x2 * y - 4.5 + 14 * x2 + 1 / r2
        )
        g = c * (0.75 / r - 1.5 / r**3) + e * (
            -4 * x2 * y**2 - 3 * y + 16 * x2 * y + 1.5 - 2 * x2 - 3 / r2
        )
        overlap = r < 2
        rs = np.where(overlap, r, 1)
        f += np.where(overlap, 1 - 0.28125 * rs - 0.75 / rs - 0.5 / rs**3, 0)
        g += np.where(overlap, 0.09375 * rs - 0.75 / rs + 1.5 / rs**3, 0)
        out += assembled(f, g / r2, v)
    w = np.arange(-12, 13)
    k = 2 * np.pi / edge * np.stack(np.meshgrid(w, w, w, indexing="ij"), -1).reshape(-1, 3)
    k2 = (k * k).sum(1)
    keep = (k2 > 0) & (k2 < (2 * xi * digits) ** 2)
    keep &= (k[:, 0] > 0) | (k[:, 0] == 0) & ((k[:, 1] > 0) | (k[:, 1] == 0) & (k[:, 2] > 0))
    k, k2 = k[keep], k2[keep]
    y = k2 / (4 * xi**2)
    weight = 2 * (1 - k2 / 3) * (1 + y + 2 * y**2) * 6 * np.pi / k2 * np.exp(-y) / edge**3
    phase = x @ k.T
    waves = np.concatenate([np.cos(phase), np.sin(phase)], 1)
    tensors = out.reshape(n, 3, n, 3)
    for a in range(3):
        for b in range(3):
            factor = weight * ((a == b) - k[:, a] * k[:, b] / k2)
            tensors[:, a, :, b] += (waves * np.tile(factor, 2)) @ waves.T
    out[np.diag_indices(3 * n)] += 1 - 6 * xs + 40 / 3 * xs * xi**2
    return MU * out


# -- numba peers --------------------------------------------------------------------------------


def numba_peers() -> dict[str, Callable[..., Any]]:
    try:
        import numba as nb
    except ImportError:
        return {}

    @nb.njit(fastmath=True)
    def matrix(x: np.ndarray, m: np.ndarray) -> None:
        n = x.shape[0]
        for i in range(n):
            for j in range(n):
                dx, dy, dz = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
                r2 = dx * dx + dy * dy + dz * dz
                if i == j:
                    f, g = 1.0, 0.0
                else:
                    r = np.sqrt(r2)
                    s = 1.0 / r
                    if r > 2.0:
                        f, g = (0.75 + 0.5 * s * s) * s, (0.75 - 1.5 * s * s) * s * s * s
                    else:
                        f, g = 1 - 0.28125 * r, 0.09375 * s
                f *= MU
                g *= MU
                a, b = 3 * i, 3 * j
                m[a, b], m[a, b + 1], m[a, b + 2] = f + g * dx * dx, g * dx * dy, g * dx * dz
                a += 1
                m[a, b], m[a, b + 1], m[a, b + 2] = g * dx * dy, f + g * dy * dy, g * dy * dz
                a += 1
                m[a, b], m[a, b + 1], m[a, b + 2] = g * dx * dz, g * dy * dz, f + g * dz * dz

    @nb.njit(fastmath=True)
    def apply(x: np.ndarray, y: np.ndarray, z: np.ndarray, p: Any, q: Any, t: Any, v: Any) -> None:
        n = x.shape[0]
        for i in range(n):
            xi, yi, zi = x[i], y[i], z[i]
            a = b = c = 0.0
            for j in range(n):
                dx, dy, dz = xi - x[j], yi - y[j], zi - z[j]
                r2 = dx * dx + dy * dy + dz * dz
                r2s = r2 if r2 > 0 else 1.0
                s = 1.0 / np.sqrt(r2s)
                r = r2s * s
                far = r > 2.0
                f = (0.75 + 0.5 * s * s) * s if far else 1 - 0.28125 * r
                g = (0.75 - 1.5 * s * s) * s * s * s if far else 0.09375 * s
                f = f if r2 > 0 else 1.0
                w = g * (dx * p[j] + dy * q[j] + dz * t[j])
                a += f * p[j] + w * dx
                b += f * q[j] + w * dy
                c += f * t[j] + w * dz
            v[i, 0], v[i, 1], v[i, 2] = MU * a, MU * b, MU * c

    return {"matrix": matrix, "apply": apply}


# -- workloads ----------------------------------------------------------------------------------


def workloads(n: int, numba: dict[str, Any]) -> list[tuple[str, Function, dict[str, Function]]]:
    x, edge = configuration(n)
    cell, forces = [edge] * 3, np.random.default_rng(5).normal(size=(n, 3))
    rpy, tabulated = RPY(1.0, 1.0), table()
    m, other = np.empty((3 * n, 3 * n)), np.empty((3 * n, 3 * n))
    v = np.empty((n, 3))
    columns = [np.ascontiguousarray(c) for c in (*x.T, *forces.T)]
    matrix_peers: dict[str, Function] = {"numpy": lambda: numpy_rpy(x)}
    apply_peers: dict[str, Function] = {"numpy": lambda: numpy_rpy(x) @ forces.ravel()}
    if numba:
        matrix_peers["numba"] = lambda: (numba["matrix"](x, other), other)[1]
        apply_peers["numba"] = lambda: (numba["apply"](*columns, v), v.copy())[1]
    return [
        ("free matrix", lambda: rpy.matrix(x, out=m), matrix_peers),
        (
            "table matrix",
            lambda: tabulated.matrix(x, out=m),
            {"numpy": lambda: numpy_table(tabulated, x)},
        ),
        (
            "periodic matrix",
            lambda: rpy.matrix(x, cell, out=m),
            {"numpy": lambda: numpy_periodic_rpy(x, edge)},
        ),
        ("free apply", lambda: rpy.apply(x, forces), apply_peers),
        (
            "periodic apply",
            lambda: rpy.apply(x, forces, cell),
            {"matrix @ F": lambda: rpy.matrix(x, cell, out=m) @ forces.ravel()},
        ),
        ("table divergence", lambda: tabulated.divergence(x), {}),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="12,200,1000")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    mlcore.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    numba, rows = numba_peers(), []
    print(f"{'workload':18}{'n':>6}{'mlcore ms':>12}  peers: ms (ratio)")
    for n in map(int, arguments.sizes.split(",")):
        for name, run, peers in workloads(n, numba):
            if name == "periodic matrix" and n > 400:
                peers = {}
            exact = np.array(run()).ravel()
            own, others = seconds(run, clock), {}
            for peer, function in peers.items():
                error = np.abs(np.asarray(function()).ravel() - exact).max() / np.abs(exact).max()
                if error > (1e-5 if name == "table matrix" else 1e-8):
                    raise SystemExit(f"{name}, n = {n}: {peer} is off by {error:.1e}")
                others[peer] = seconds(function, clock)
            text = ", ".join(f"{k} {t * 1e3:.3g} ({t / own:.1f})" for k, t in others.items())
            print(f"{name:18}{n:6}{own * 1e3:12.4f}  {text}", flush=True)
            rows.append({"workload": name, "n": n, "mlcore": own, **others})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
