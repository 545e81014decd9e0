"""Spreading points with 8 channels of float32 over a periodic grid and gathering them back.

Positions are float64 in random order. The field is channels-last, as the peers have it, and written
anew in every call. nvalchemi's spreads float32 positions and runs on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main

C = 8
ORDERS = {"nearest": 1, "cic": 2, "tsc": 3}
Call = Callable[[], Any]


def compiled() -> tuple[Any, Any]:
    """Spread and gather as loops of numba."""
    import numba as nb

    fast = nb.njit(nogil=True, fastmath=True)

    @fast
    def axis(u, g, order, ix, w):  # type: ignore[no-untyped-def]
        if order == 1:
            ix[0] = int(np.floor(u)) % g
            w[0] = 1.0
        elif order == 2:
            f = u - 0.5
            i = int(np.floor(f))
            d = f - i
            ix[0] = i % g
            ix[1] = (i + 1) % g
            w[0] = 1 - d
            w[1] = d
        else:
            i = int(np.floor(u))
            d = u - i - 0.5
            for k in range(3):
                ix[k] = (i - 1 + k) % g
            w[0] = 0.5 * (0.5 - d) ** 2
            w[1] = 0.75 - d * d
            w[2] = 0.5 * (0.5 + d) ** 2

    @fast
    def spread(u, f, g, order, out):  # type: ignore[no-untyped-def]
        ix = np.empty((3, 3), np.int64)
        w = np.empty((3, 3), np.float32)
        for p in range(u.shape[0]):
            for d in range(3):
                axis(u[p, d], g, order, ix[d], w[d])
            for a in range(order):
                for b in range(order):
                    for c in range(order):
                        q = w[0, a] * w[1, b] * w[2, c]
                        for k in range(8):
                            out[ix[0, a], ix[1, b], ix[2, c], k] += q * f[p, k]

    @nb.njit(parallel=nb.get_num_threads() > 1, nogil=True, fastmath=True)
    def gather(u, grid, g, order):  # type: ignore[no-untyped-def]
        n = u.shape[0]
        out = np.zeros((n, 8), np.float32)
        for block in nb.prange((n + 1023) // 1024):
            ix = np.empty((3, 3), np.int64)
            w = np.empty((3, 3), np.float32)
            for p in range(block * 1024, min(n, block * 1024 + 1024)):
                for d in range(3):
                    axis(u[p, d], g, order, ix[d], w[d])
                for a in range(order):
                    for b in range(order):
                        for c in range(order):
                            q = w[0, a] * w[1, b] * w[2, c]
                            for k in range(8):
                                out[p, k] += q * grid[ix[0, a], ix[1, b], ix[2, c], k]
        return out

    return spread, gather


def corners(u: Any, g: int, order: int) -> list[tuple[Any, Any]]:
    """(voxels (n, 3), weights (n,)) of every tap."""
    if order == 1:
        return [(np.floor(u).astype(np.int64) % g, np.ones(len(u), "f4"))]
    if order == 2:
        i = np.floor(u - 0.5).astype(np.int64)
        d = (u - 0.5 - i).astype("f4")
        taps = [(i, 1 - d), (i + 1, d)]
    else:
        i = np.floor(u).astype(np.int64)
        d = (u - i - 0.5).astype("f4")
        taps = [(i - 1, 0.5 * (0.5 - d) ** 2), (i, 0.75 - d * d), (i + 1, 0.5 * (0.5 + d) ** 2)]
    return [
        (
            np.stack([a[0][:, 0], b[0][:, 1], c[0][:, 2]], 1) % g,
            a[1][:, 0] * b[1][:, 1] * c[1][:, 2],
        )
        for a in taps
        for b in taps
        for c in taps
    ]


def numpy_spreads(u: Any, f: Any, g: int, order: int) -> dict[str, Call]:
    def add_at() -> Any:
        out = np.zeros((g, g, g, C), "f4")
        for ix, w in corners(u, g, order):
            np.add.at(out, (ix[:, 0], ix[:, 1], ix[:, 2]), w[:, None] * f)
        return out

    def bincount() -> Any:
        out = np.zeros((C, g**3))
        for ix, w in corners(u, g, order):
            q = np.ravel_multi_index(tuple(ix.T), (g,) * 3)
            for k in range(C):
                out[k] += np.bincount(q, w * f[:, k], g**3)
        return out

    return {"numpy add.at": add_at, "numpy bincount": bincount}


def torch_spread(u: Any, f: Any, g: int, order: int) -> Call:
    import torch

    positions, features = torch.as_tensor(u), torch.as_tensor(f)

    def nearest() -> Any:
        i = positions.floor().long() % g
        rows = (i[:, 0] * g + i[:, 1]) * g + i[:, 2]
        return features.new_zeros(g**3, C).index_add_(0, rows, features)

    def smooth() -> Any:
        out = features.new_zeros(g**3, C)
        s = 0.5 if order == 2 else 0.0
        i = (positions - s).floor().long()
        d = (positions - s - i).float()
        w = [1 - d, d]
        if order == 3:
            w = [0.5 * (1 - d) ** 2, 0.75 - (d - 0.5) ** 2, 0.5 * d**2]
        i = i if order == 2 else i - 1
        for x in range(order):
            for y in range(order):
                for z in range(order):
                    row = ((i[:, 0] + x) % g) * g + (i[:, 1] + y) % g
                    q = row * g + (i[:, 2] + z) % g
                    out.index_add_(0, q, features * (w[x][:, 0] * w[y][:, 1] * w[z][:, 2])[:, None])
        return out

    return nearest if order == 1 else smooth


def nvalchemi_spread(u: Any, f: Any, g: int, order: int) -> Call:
    import torch
    from nvalchemiops.torch.spline import spline_spread_channels

    positions, features = torch.as_tensor(u).float(), torch.as_tensor(f)
    cell = torch.eye(3, device=positions.device)[None] * g
    return lambda: spline_spread_channels(positions, features, cell, (g, g, g), spline_order=order)


def torch_gather(u: Any, field: Any, g: int) -> Call:
    import torch

    padded = torch.nn.functional.pad(
        torch.as_tensor(field).permute(3, 0, 1, 2)[None], (1,) * 6, mode="circular"
    )
    places = (((torch.as_tensor(u) + 1.0) / (g + 2)) * 2 - 1).float()
    places = places[:, [2, 1, 0]].reshape(1, 1, 1, -1, 3)
    return lambda: torch.nn.functional.grid_sample(padded, places, align_corners=False)


def scipy_gather(u: Any, field: Any) -> Call:
    from scipy.ndimage import map_coordinates

    at = (u - 0.5).T
    return lambda: [map_coordinates(field[..., k], at, order=1, mode="grid-wrap") for k in range(C)]


def limit(setup: Setup, n: int, g: int, taps: int) -> float:
    """Every point read and the grid written twice, or a read and write of 32 bytes per tap in L2."""
    streamed = n * (24 + 4 * C) + 2 * 4 * C * g**3
    return max(
        streamed / setup.limits["dram_copy"],
        n * taps * C * 2 / setup.limits["fma32"],
        n * taps * 64 / setup.limits["l2_copy"],
    )


def missing(*modules: str) -> Mapping[str, str]:
    return {m: "not installed" for m in modules if not installed(m)}


def spread_case(setup: Setup, workload: str, n: int, g: int, scheme: str, numba: Any) -> Case:
    rng = np.random.default_rng(3)
    u, f = rng.random((n, 3)) * g, rng.standard_normal((n, C)).astype("f4")
    order = ORDERS[scheme]
    grid = mlcore.VoxelGrid(g, (g, g, g))
    reused, ours = np.zeros((g, g, g, C), "f4"), np.zeros((g, g, g, C), "f4")
    mine = {"layout": "channels_last"}
    calls: dict[str, Call] = {
        "mlcore": lambda: mlcore.rasterize(grid, u, f, scheme, **mine),
        "mlcore out=": lambda: mlcore.rasterize(grid, u, f, scheme, **mine, out=ours),
        "mlcore channels first": lambda: mlcore.rasterize(grid, u, f, scheme),
    }
    if numba:

        def loop() -> None:
            reused[:] = 0
            numba[0](u, f, g, order, reused)

        calls["numba"] = loop
    if n == 100_000 and order < 3:
        calls |= numpy_spreads(u, f, g, order)
    if installed("torch"):
        calls["torch index_add_"] = torch_spread(u, f, g, order)
    if installed("nvalchemiops") and order > 1:
        calls["nvalchemi"] = nvalchemi_spread(u, f, g, order)
    against = () if scheme == "nearest" else ("numba",)
    must = {"nearest": 1.0, "cic": 5.0, "tsc": 3.0}[scheme]
    return Case(
        workload,
        calls,
        limit=limit(setup, n, g, order**3),
        must=must,
        against=against,
        missing=missing("numba", "torch", "nvalchemiops"),
    )


def gather_case(setup: Setup, workload: str, n: int, g: int, scheme: str, numba: Any) -> Case:
    rng = np.random.default_rng(3)
    u, field = rng.random((n, 3)) * g, rng.standard_normal((g, g, g, C)).astype("f4")
    order = ORDERS[scheme]
    grid = mlcore.VoxelGrid(g, (g, g, g))
    first = np.ascontiguousarray(np.moveaxis(field, -1, 0))
    ours = np.zeros((n, C), "f4")
    calls: dict[str, Call] = {
        "mlcore": lambda: mlcore.gather(grid, field, u, scheme, layout="channels_last"),
        "mlcore out=": lambda: mlcore.gather(
            grid, field, u, scheme, layout="channels_last", out=ours
        ),
        "mlcore channels first": lambda: mlcore.gather(grid, first, u, scheme),
    }
    if numba:
        calls["numba"] = lambda: numba[1](u, field, g, order)
    if order == 2 and n == 100_000:
        calls["scipy map_coordinates"] = scipy_gather(u, field)
    if order == 2 and installed("torch"):
        calls["torch grid_sample"] = torch_gather(u, field, g)
    return Case(
        workload,
        calls,
        limit=limit(setup, n, g, order**3),
        must=4.0 if scheme == "cic" else 3.0,
        against=() if scheme == "cic" else ("numba",),
        note="torch: field padded beforehand" if scheme == "cic" else "",
        missing=missing("numba", "torch"),
    )


def cases(setup: Setup) -> Iterator[Case]:
    if installed("torch"):
        import torch

        torch.set_num_threads(setup.threads)
    numba = compiled() if installed("numba") else None
    sizes = [(100_000, 64)] + ([] if setup.quick else [(1_000_000, 64), (1_000_000, 128)])
    for n, g in sizes:
        for scheme in ORDERS:
            workload = f"spread {scheme} N={n:.0e} {g}^3"
            if setup.wants(workload):
                yield spread_case(setup, workload, n, g, scheme, numba)
            workload = f"gather {scheme} N={n:.0e} {g}^3"
            if setup.wants(workload) and scheme != "nearest":
                yield gather_case(setup, workload, n, g, scheme, numba)


if __name__ == "__main__":
    main(cases, __doc__)
