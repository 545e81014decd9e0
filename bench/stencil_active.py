"""3x3x3 convolutions of occupied voxels alone, float32, C -> C channels, periodic.

"cached": the rules (which voxel neighbours which) are there; "built": they are built in every call.
Peers: spconv on the CPU, whose grids are not periodic; a torch gather, product and scatter per
weight with the rules at hand; torch on the dense grid. Voxels are drawn at random or fill spheres.
"gradients": forward and backward by torch, in features and weights, with the rules at hand (spconv
does not go backward without CUDA).

python bench/stencil_active.py [--threads 1,2] [--only "10% blob"] [--quick] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main

SMALL = ((64, 16, 0.02), (64, 16, 0.10), (64, 32, 0.05))
LARGE = ((128, 16, 0.02), (128, 32, 0.05))
MUST_CHANNELS, MUST = 16, 2.0  # spconv's rate grows with the channels; the bar is for 16
DENSE_UP_TO = 64
GRADIENTS = (64, 16, 0.10)


def cases(setup: Setup) -> Iterator[Case]:
    for grid, channels, share in SMALL + (() if setup.quick else LARGE):
        for kind in ("random", "blob"):
            name = f"sparse {grid}^3 C={channels} {share:.0%} {kind}"
            if setup.wants(f"{name} cached") or setup.wants(f"{name} built"):
                work = Workload.make(grid, channels, share, kind)
                yield from pair_of_cases(setup, name, work)
    for kind in ("random", "blob"):
        grid, channels, share = GRADIENTS
        name = f"sparse {grid}^3 C={channels} {share:.0%} {kind} gradients"
        if setup.wants(name) and installed("torch"):
            yield gradients(setup, name, Workload.make(grid, channels, share, kind))


def pair_of_cases(setup: Setup, name: str, work: Workload) -> Iterator[Case]:
    active = mlcore.ActiveSet((work.grid,) * 3, work.coordinates)
    products = int((active.neighbors(3) >= 0).sum()) * work.channels**2
    traffic = 8 * work.channels * len(active)
    cached, built, missing = peers(work, active, setup.threads)
    common = {
        "limit": max(2 * products / setup.limits["fma32"], traffic / setup.limits["dram_copy"]),
        "must": MUST if work.channels == MUST_CHANNELS else None,
        "missing": missing,
    }

    def anew() -> Any:
        again = mlcore.ActiveSet((work.grid,) * 3, work.coordinates)
        return mlcore.conv3d_active(again, work.features, work.weight)

    ours = {"mlcore": lambda: mlcore.conv3d_active(active, work.features, work.weight)}
    yield Case(f"{name} cached", ours | cached, note="spconv: not periodic", **common)
    yield Case(f"{name} built", {"mlcore": anew} | built, note="spconv: not periodic", **common)


def gradients(setup: Setup, name: str, work: Workload) -> Case:
    import mlcore.ops
    import torch

    torch.set_num_threads(setup.threads)
    active = mlcore.ActiveSet((work.grid,) * 3, work.coordinates)
    features = torch.from_numpy(work.features).requires_grad_()
    weight = torch.from_numpy(work.weight).requires_grad_()
    by_hand = gather_multiply_scatter(work, active)

    def ours() -> Any:
        with torch.enable_grad():
            result = mlcore.ops.conv3d_active(active, features, weight)
        return torch.autograd.grad(result, (features, weight), result.detach())

    def theirs() -> Any:
        with torch.enable_grad():
            result = by_hand(features, weight)
        return torch.autograd.grad(result, (features, weight), result.detach())

    products = int((active.neighbors(3) >= 0).sum()) * work.channels**2
    calls = {"mlcore": ours, "torch gather-GEMM-scatter": theirs}
    return Case(name, calls, limit=3 * 2 * products / setup.limits["fma32"])


@dataclass
class Workload:
    """Occupied voxels, their features and a kernel."""

    grid: int
    channels: int
    coordinates: np.ndarray
    features: np.ndarray
    weight: np.ndarray

    @classmethod
    def make(cls, grid: int, channels: int, share: float, kind: str) -> Workload:
        rng = np.random.default_rng(0)
        count = int(share * grid**3)
        chosen = drawn(rng, grid, count) if kind == "random" else spheres(rng, grid, count)
        flat = np.sort(chosen)
        return cls(
            grid,
            channels,
            np.stack(np.unravel_index(flat, (grid,) * 3), 1),
            rng.standard_normal((count, channels)).astype(np.float32),
            rng.standard_normal((channels, channels, 3, 3, 3)).astype(np.float32),
        )


def drawn(rng: np.random.Generator, grid: int, count: int) -> np.ndarray:
    return rng.choice(grid**3, count, replace=False)


def spheres(rng: np.random.Generator, grid: int, count: int) -> np.ndarray:
    """What three solvated objects look like."""
    voxels = np.indices((grid,) * 3).reshape(3, -1).T
    near = [
        np.linalg.norm((voxels - centre + grid / 2) % grid - grid / 2, axis=1)
        for centre in rng.random((3, 3)) * grid
    ]
    return np.argsort(np.min(near, 0))[:count]


Calls = dict[str, Callable[[], Any]]


def peers(work: Workload, active: Any, threads: int) -> tuple[Calls, Calls, dict[str, str]]:
    """Calls with the rules at hand, calls without, and who is missing."""
    if not installed("torch"):
        return {}, {}, {"torch, spconv": "not installed"}
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    cached: Calls = {"torch gather-GEMM-scatter": gather_multiply_scatter(work, active)}
    built: Calls = {}
    if work.grid <= DENSE_UP_TO:
        built["torch dense detour"] = dense_detour(work)
    if not installed("spconv"):
        return cached, built, {"spconv": "not installed"}
    cached["spconv"], built["spconv"] = spconv_calls(work)
    return cached, built, {}


def gather_multiply_scatter(work: Workload, active: Any) -> Callable[..., Any]:
    import torch

    given = torch.from_numpy(work.features), torch.from_numpy(work.weight)
    rules = []
    for column in active.neighbors(3).T:
        outputs = np.flatnonzero(column >= 0)
        inputs = column[outputs].astype(np.int64)
        rules.append((torch.from_numpy(outputs), torch.from_numpy(inputs)))

    def packed(weight: Any) -> Any:
        return weight.flatten(2).permute(2, 1, 0).contiguous()

    ready = packed(given[1])

    def call(features: Any = given[0], weight: Any = None) -> Any:
        result = torch.zeros(len(features), work.channels)
        weights = ready if weight is None else packed(weight)
        for product, (outputs, inputs) in zip(weights, rules, strict=True):
            if len(outputs):
                result = result.index_add_(0, outputs, features[inputs] @ product)
        return result

    return call


def dense_detour(work: Workload) -> Callable[[], Any]:
    import torch
    from torch.nn import functional

    layout = torch.channels_last_3d
    field = torch.zeros(1, work.channels, *(work.grid,) * 3).contiguous(memory_format=layout)
    weight = torch.from_numpy(work.weight).contiguous(memory_format=layout)
    features = torch.from_numpy(work.features).T
    x, y, z = work.coordinates.T

    def call() -> Any:
        field.zero_()
        field[0, :, x, y, z] = features
        padded = functional.pad(field, (1,) * 6, mode="circular").contiguous(memory_format=layout)
        return functional.conv3d(padded, weight)[0, :, x, y, z]

    return call


def spconv_calls(work: Workload) -> tuple[Callable[[], Any], Callable[[], Any]]:
    import spconv.pytorch as spconv
    import torch

    net = spconv.SubMConv3d(work.channels, work.channels, 3, bias=False, indice_key="rules")
    features = torch.from_numpy(work.features)
    indices = np.concatenate([np.zeros((len(features), 1)), work.coordinates], 1).astype(np.int32)
    places = torch.from_numpy(indices)

    def fresh() -> Any:
        return spconv.SparseConvTensor(features, places, [work.grid] * 3, 1)

    ready = fresh()
    ready.indice_dict = net(fresh()).indice_dict
    return lambda: net(ready), lambda: net(fresh())


if __name__ == "__main__":
    main(cases, __doc__)
