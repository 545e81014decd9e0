"""3x3x3 convolutions, float32, periodic, C -> C channels, beside torch; finite differences.

The peers pad and convolve, in both memory formats; at 32 channels torch's FFT is a third. mlcore
takes the field channels last, as `mlcore.VoxelGrid` can make it, and channels first as a variant.
At 128^3 every result of mlcore goes to the same ``out``.

python bench/stencil.py [--threads 1,2] [--only "64^3"] [--quick] [--json FILE]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlcore
import numpy as np
from harness import Case, Setup, installed, main

MUST = {
    (32, 8): 5,
    (32, 16): 8,
    (64, 8): 1.3,
    (64, 16): 1.1,
    (64, 32): 1.5,
    (128, 8): 2,
    (128, 16): 2,
    (128, 32): 1.8,
}


def cases(setup: Setup) -> Iterator[Case]:
    for grid in (32, 64) if setup.quick else (32, 64, 128):
        for channels in (8, 16, 32):
            if setup.wants(name(grid, channels)):
                yield convolution(setup, grid, channels)
    for order in (2, 6):
        if setup.wants(f"laplacian order {order} 128^3"):
            yield laplacian(setup, order)


def name(grid: int, channels: int) -> str:
    return f"dense {grid}^3 C={channels}"


def convolution(setup: Setup, grid: int, channels: int) -> Case:
    peers, field, weight = torch_peers(grid, channels, setup.threads)
    first = field[None]
    last = np.ascontiguousarray(np.moveaxis(first, 1, -1))
    reused = {"out": np.empty_like(last)} if grid == 128 else {}
    reused_first = {"out": np.empty_like(first)} if grid == 128 else {}
    voxels = grid**3
    flops = 2 * 27 * channels**2 * voxels
    limits = setup.limits
    return Case(
        name(grid, channels),
        {
            "mlcore": lambda: mlcore.conv3d(last, weight, layout="channels_last", **reused),
            "mlcore channels first": lambda: mlcore.conv3d(first, weight, **reused_first),
            **peers,
        },
        limit=max(flops / limits["fma32"], 8 * channels * voxels / limits["dram_copy"]),
        must=MUST.get((grid, channels)),
        note="limit of the plain sum; F(2, 3) needs 2/3 of its products",
        missing={} if peers else {"torch": "not installed"},
    )


def torch_peers(
    grid: int, channels: int, threads: int
) -> tuple[dict[str, Callable[[], Any]], np.ndarray, np.ndarray]:
    """Calls by name, and the field and the weights they work on."""
    if not installed("torch"):
        rng = np.random.default_rng(0)
        field = rng.standard_normal((channels, grid, grid, grid), dtype=np.float32)
        return {}, field, rng.standard_normal((channels, channels, 3, 3, 3), dtype=np.float32)
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, channels, grid, grid, grid, generator=generator)
    w = torch.randn(channels, channels, 3, 3, 3, generator=generator)
    formats = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}
    calls: dict[str, Callable[[], Any]] = {}
    for label, layout in formats.items():
        xl, wl = x.contiguous(memory_format=layout), w.contiguous(memory_format=layout)

        def padded(xl: Any = xl, layout: Any = layout) -> Any:
            return functional.pad(xl, (1,) * 6, mode="circular").contiguous(memory_format=layout)

        ready = padded()
        calls[f"torch pad+conv {label}"] = lambda p=padded, wl=wl: functional.conv3d(p(), wl)
        calls[f"(torch conv alone {label})"] = lambda r=ready, wl=wl: functional.conv3d(r, wl)
    if grid <= 64 and channels == 32:
        kernel = torch.fft.rfftn(functional.pad(w.flip(2, 3, 4), (0, grid - 3) * 3), dim=(2, 3, 4))

        def fft() -> Any:
            spectrum = torch.fft.rfftn(x, dim=(2, 3, 4))
            product = torch.einsum("oidhw,bidhw->bodhw", kernel, spectrum)
            return torch.fft.irfftn(product, s=(grid,) * 3, dim=(2, 3, 4))

        calls["torch fft"] = fft
    return calls, x[0].numpy(), w.numpy()


def laplacian(setup: Setup, order: int) -> Case:
    field = np.random.default_rng(0).standard_normal((128, 128, 128))
    calls: dict[str, Callable[[], Any]] = {
        "mlcore": lambda: mlcore.laplacian(field, order=order),
        "numpy roll": lambda: rolled(field, order),
    }
    if order == 2 and installed("scipy"):
        from scipy import ndimage

        calls["scipy ndimage"] = lambda: ndimage.laplace(field, mode="wrap")
    limit = 2 * field.nbytes / setup.limits["dram_copy"]
    return Case(f"laplacian order {order} 128^3", calls, limit=limit)


def rolled(field: np.ndarray, order: int) -> np.ndarray:
    weights = {2: (-2, 1), 6: (-49 / 18, 3 / 2, -3 / 20, 1 / 90)}[order]
    out = 3 * weights[0] * field
    for axis in range(3):
        for d, w in enumerate(weights[1:], 1):
            out += w * (np.roll(field, d, axis) + np.roll(field, -d, axis))
    return out


if __name__ == "__main__":
    main(cases, __doc__)
