"""Mobility matrices and matrix-free products, beside numba, NumPy, pystokes and torch.

Spheres at random at volume fraction 0.1, so that some overlap. Peers are checked against mlcore
before they are timed. The pystokes kernel has no branch for overlapping spheres: it does less work
than ours, and its velocities differ where spheres overlap.

    python bench/mobility.py [--threads 1,2] [--only "M.F"] [--quick] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from harness import Case, Setup, installed, main
from mlcore.mobility import RPY, PairMobility
from scipy.special import erfc

MU = 1 / (6 * np.pi)  # viscosity 1, radius 1
CUTOFF = 6.0
RPY_SIZES = (100, 500, 1000, 2000, 4000)

Array = np.ndarray[Any, np.dtype[np.float64]]
Function = Callable[[], Any]


def configuration(n: int, seed: int = 4) -> tuple[Array, float]:
    """Positions (n, 3) and the edge of their cube."""
    edge = (n * 4 / 3 * np.pi / 0.1) ** (1 / 3)
    return np.random.default_rng(seed).random((n, 3)) * edge, edge


def table() -> PairMobility:
    return PairMobility.from_functions(
        MU, CUTOFF, lambda r: 0.03 * (1 - r / CUTOFF) ** 4, lambda r: 0.02 * (1 - r / CUTOFF) ** 4
    )


def agree(name: str, ours: Any, theirs: Any, tolerance: float) -> None:
    """A peer that computes something else is no peer."""
    ours, theirs = np.asarray(ours).ravel(), np.asarray(theirs).ravel()
    error = np.abs(ours - theirs).max() / np.abs(ours).max()
    if error > tolerance:
        raise SystemExit(f"{name} is off by {error:.1e}")


# -- numpy peers --------------------------------------------------------------------------------


def assembled(f: Array, g: Array, d: Array) -> Array:
    """f I + g d d^T of all pairs as a matrix."""
    n = len(d)
    out = np.empty((n, 3, n, 3))
    for a in range(3):
        for b in range(3):
            out[:, a, :, b] = g * d[:, :, a] * d[:, :, b]
            if a == b:
                out[:, a, :, b] += f
    return out.reshape(3 * n, 3 * n)


def numpy_rpy(x: Array) -> Array:
    d = x[:, None] - x[None]
    r = np.sqrt(np.einsum("ijk,ijk->ij", d, d))
    s = 1 / np.where(r > 0, r, 1)
    far = r > 2
    f = np.where(far, (0.75 + 0.5 * s**2) * s, 1 - 0.28125 * r)
    g = np.where(far, (0.75 - 1.5 * s**2) * s**3, 0.09375 * s)
    return MU * assembled(f, g, d)


def numpy_table(mobility: PairMobility, x: Array) -> Array:
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


def numpy_periodic_rpy(x: Array, edge: float) -> Array:
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


# -- compiled peers -----------------------------------------------------------------------------


def numba_peers(parallel: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import numba as nb

    @nb.njit(parallel=parallel, fastmath=True)
    def assemble(x: Array, m: Array) -> None:
        n = x.shape[0]
        for i in nb.prange(n):
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

    @nb.njit(parallel=parallel, fastmath=True)
    def apply(x: Array, y: Array, z: Array, p: Array, q: Array, t: Array, v: Array) -> None:
        n = x.shape[0]
        for i in nb.prange(n):
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

    return assemble, apply


def pystokes_apply(x: Array, forces: Array) -> Function:
    import pystokes

    n = len(x)
    body = pystokes.unbounded.Rbm(radius=1.0, particles=n, viscosity=1.0)
    r, f, v = x.T.ravel().copy(), forces.T.ravel().copy(), np.zeros(3 * n)
    return lambda: body.mobilityTT(v, r, f)


def torch_apply(x: Array, forces: Array, threads: int, rows: int = 256) -> Function:
    import torch

    torch.set_num_threads(threads)
    tx, tf = torch.from_numpy(x), torch.from_numpy(forces)

    def run() -> Any:
        out = torch.empty_like(tf)
        for i in range(0, len(tx), rows):
            d = tx[i : i + rows, None] - tx[None]
            r2 = (d * d).sum(-1)
            own = r2 == 0
            r2[own] = 1.0
            s = r2.rsqrt()
            r = 1 / s
            far = r > 2
            f = torch.where(far, (0.75 + 0.5 * s * s) * s, 1 - 0.28125 * r)
            g = torch.where(far, (0.75 - 1.5 * s * s) * s**3, 0.09375 * s)
            f[own] = 1.0
            push = g * torch.einsum("ijk,jk->ij", d, tf)
            out[i : i + rows] = MU * (f @ tf + torch.einsum("ijk,ij->ik", d, push))
        return out

    return run


# -- workloads ----------------------------------------------------------------------------------


def matrix_limit(setup: Setup, n: int, itemsize: int = 8) -> float:
    """Bytes written, to cache or memory, or 45 operations per pair."""
    size = 9 * n * n * itemsize
    bandwidth = setup.limits["l3_copy" if size < 16e6 else "dram_write"]
    flops = setup.limits["fma64" if itemsize == 8 else "fma32"]
    return max(size / bandwidth, n * n * 45 / flops)


def assemblies(setup: Setup) -> Iterator[Case]:
    compiled = numba_peers(setup.threads > 1)[0] if installed("numba") else None
    missing = {} if compiled else {"numba": "not installed"}
    for n in RPY_SIZES[:3] if setup.quick else RPY_SIZES:
        name, with_numpy = f"RPY matrix n={n}", f"RPY matrix n={n} (NumPy)"
        if not (setup.wants(name) or setup.wants(with_numpy)):
            continue
        x, rpy = configuration(n)[0], RPY(1.0, 1.0)
        m, other = np.empty((3 * n, 3 * n)), np.empty((3 * n, 3 * n))
        single, m32 = x.astype(np.float32), np.empty((3 * n, 3 * n), np.float32)
        ours = {
            "mlcore": lambda x=x, m=m, rpy=rpy: rpy.matrix(x, out=m),
            "mlcore new array": lambda x=x, rpy=rpy: rpy.matrix(x),
        }
        inner = 20 if n <= 100 else 1
        limit = matrix_limit(setup, n)
        calls: dict[str, Function] = dict(ours)
        calls["mlcore float32"] = lambda x=single, m=m32, rpy=rpy: rpy.matrix(x, out=m)
        if compiled:
            calls["numba"] = lambda x=x, m=other: compiled(x, m)
            calls["numba"]()
            agree("numba", rpy.matrix(x), other, 1e-12)
        yield Case(name, calls, limit=limit, must=1.3, inner=inner, missing=missing)
        if n <= 2000:
            agree("numpy", rpy.matrix(x), numpy_rpy(x), 1e-12)
            calls = {"mlcore": ours["mlcore"], "numpy": lambda x=x: numpy_rpy(x)}
            yield Case(with_numpy, calls, limit=limit, must=10, inner=inner)


def products(setup: Setup) -> Iterator[Case]:
    compiled = numba_peers(setup.threads > 1)[1] if installed("numba") else None
    for n in (2000,) if setup.quick else (2000, 10000, 20000):
        name = f"RPY M.F n={n}"
        workloads = (name, f"{name} (pystokes)", f"{name} float32")
        if not any(setup.wants(w) for w in workloads):
            continue
        x, rpy = configuration(n)[0], RPY(1.0, 1.0)
        forces = np.random.default_rng(6).standard_normal((n, 3))
        v, u = np.empty((n, 3)), np.empty((n, 3))
        columns = [np.ascontiguousarray(c) for c in (*x.T, *forces.T)]
        x32, f32, v32 = (a.astype(np.float32) for a in (x, forces, v))
        limit = n * n / 2 * 58 / setup.limits["fma64"]
        note = "limit: 58 operations per pair, every pair once"
        double = lambda x=x, f=forces, v=v, rpy=rpy: rpy.apply(x, f, out=v)  # noqa: E731
        calls: dict[str, Function] = {"mlcore": double}
        if compiled:
            calls["numba SoA"] = lambda c=columns, u=u: compiled(*c, u)
            calls["numba SoA"]()
            agree("numba", double(), u, 1e-10)
        peer = dict(list(calls.items())[1:])
        if n == 2000 and installed("torch"):
            calls["torch"] = torch_apply(x, forces, setup.threads)
            agree("torch", double(), calls["torch"](), 1e-10)
        yield Case(workloads[0], calls, limit=limit, must=0.95, note=note)
        if n <= 10000:
            other: dict[str, Function] = {"mlcore": double}
            missing = {} if installed("pystokes") else {"pystokes": "not installed"}
            if not missing:
                other["pystokes"] = pystokes_apply(x, forces)
            yield Case(workloads[1], other, limit=limit, must=8, missing=missing)
            other = {"mlcore": lambda x=x32, f=f32, v=v32, rpy=rpy: rpy.apply(x, f, out=v), **peer}
            yield Case(
                workloads[2],
                other,
                limit=n * n / 2 * 58 / setup.limits["fma32"],
                must=1.6,
                note="the peer in double precision",
            )


def gradients(setup: Setup) -> Iterator[Case]:
    name, n = "RPY d(G.M.F)/dx n=2000", 2000
    if not setup.wants(name):
        return
    x, rpy = configuration(n)[0], RPY(1.0, 1.0)
    forces, adjoint = np.random.default_rng(6).standard_normal((2, n, 3))
    out = np.empty((n, 3))
    calls: dict[str, Function] = {
        "mlcore": lambda: rpy.position_gradient(x, forces, adjoint, out=out),
        "(mlcore M.F)": lambda: rpy.apply(x, forces, out=out),
    }
    yield Case(name, calls, limit=n * n / 2 * 90 / setup.limits["fma64"])


def boxes(setup: Setup) -> Iterator[Case]:
    n = 200
    x, edge = configuration(n)
    cell, forces = [edge] * 3, np.random.default_rng(5).normal(size=(n, 3))
    rpy, tabulated = RPY(1.0, 1.0), table()
    m = np.empty((3 * n, 3 * n))
    if setup.wants("periodic RPY matrix n=200"):
        agree("numpy", rpy.matrix(x, cell), numpy_periodic_rpy(x, edge), 1e-8)
        calls: dict[str, Function] = {
            "mlcore": lambda: rpy.matrix(x, cell, out=m),
            "numpy": lambda: numpy_periodic_rpy(x, edge),
        }
        yield Case("periodic RPY matrix n=200", calls)
    if setup.wants("periodic RPY M.F n=200"):
        calls = {
            "mlcore": lambda: rpy.apply(x, forces, cell),
            "(mlcore matrix @ F)": lambda: rpy.matrix(x, cell, out=m) @ forces.ravel(),
        }
        yield Case("periodic RPY M.F n=200", calls)
    if setup.wants("table matrix n=200"):
        agree("numpy", tabulated.matrix(x), numpy_table(tabulated, x), 1e-5)
        calls = {
            "mlcore": lambda: tabulated.matrix(x, out=m),
            "numpy": lambda: numpy_table(tabulated, x),
        }
        yield Case("table matrix n=200", calls)


def cases(setup: Setup) -> Iterator[Case]:
    yield from assemblies(setup)
    yield from products(setup)
    yield from gradients(setup)
    yield from boxes(setup)


if __name__ == "__main__":
    main(cases, __doc__)
