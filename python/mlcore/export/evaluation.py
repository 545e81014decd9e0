"""Calling the networks of a bundle: what goes in, what must come out, on which examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from mlcore.errors import Error
from mlcore.export.contract import Contract

__all__ = ["Inputs", "Outputs", "check_outputs", "examples", "outputs"]

Inputs = tuple[torch.Tensor, ...]
Outputs = tuple[torch.Tensor, ...]
Network = Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]


def outputs(network: Network, contract: Contract, inputs: Inputs) -> Outputs:
    """What a network gives; for energies also dE/dD (neighbors) or the forces -dE/dx."""
    if not contract.differentiates:
        found = network(*inputs)
        return found if isinstance(found, tuple) else (found,)
    place = 0 if contract.sees == "neighbors" else contract.inputs.index("x")
    lead = inputs[place].detach().requires_grad_(True)
    energy = network(*inputs[:place], lead, *inputs[place + 1 :])
    if not isinstance(energy, torch.Tensor):
        raise Error("forward() of an energy must return one tensor")
    if not energy.requires_grad:
        return energy, torch.zeros_like(lead)
    (slope,) = torch.autograd.grad(energy.sum(), lead, allow_unused=True)
    if slope is None:
        slope = torch.zeros_like(lead)
    return energy.detach(), slope if contract.sees == "neighbors" else -slope


def expected_shapes(contract: Contract, inputs: Inputs) -> list[tuple[int, ...]]:
    """Shapes of what `outputs` must give for these inputs."""
    if contract.sees == "neighbors":
        D, n = inputs[0], len(inputs[3])
        if contract.gives == "energy":
            return [(n,), tuple(D.shape)]
        return [(n, *(contract.shape or ()))]
    rows = (n for n in ("x", "v", "f", "types") if n in contract.inputs)
    n = len(inputs[contract.inputs.index(next(rows))])
    own = contract.sees == "atoms"
    values = tuple(contract.shape or ())
    shapes: dict[str, list[tuple[int, ...]]] = {
        "energy": [(n,) if own else (), (n, 3)],
        "forces": [(n, 3)],
        "step": [(n, 3), (n, 3)],
        "values": [(n, *values) if own else values],
    }
    kept = [(n if own else 1, contract.memory)] if contract.memory else []
    return shapes[contract.gives] + kept


def check_outputs(contract: Contract, inputs: Inputs, found: Outputs, where: str) -> None:
    """Raises Error when number, dtype or shapes are not the contract's, or a value is not finite."""
    dtype = getattr(torch, contract.dtype)
    wanted = expected_shapes(contract, inputs)
    got = [tuple(v.shape) if isinstance(v, torch.Tensor) else type(v).__name__ for v in found]
    if got != wanted:
        raise Error(f"{where}: forward() must give {wanted} for {contract.gives}, gave {got}")
    for value in found:
        if value.dtype != dtype:
            raise Error(f"{where}: forward() must give {contract.dtype}, gave {value.dtype}")
        if not bool(torch.isfinite(value).all()):
            raise Error(f"{where}: forward() gives NaN or infinite numbers")


def examples(contract: Contract, count: int = 4, seed: int = 0) -> list[Inputs]:
    """Random inputs of several sizes, as a caller may give them."""
    rng = np.random.default_rng(seed)
    sizes = [2, 5, 13, 40][:count]
    if contract.particles is not None:
        sizes = [contract.particles] * count
    make = _neighbors if contract.sees == "neighbors" else _rows
    return [make(contract, n, rng) for n in sizes]


def _neighbors(contract: Contract, n: int, rng: np.random.Generator) -> Inputs:
    """About twenty neighbors each, the last fifth of the atoms ghosts; two padding edges."""
    dtype = getattr(torch, contract.dtype)
    cutoff = contract.cutoff or 1.0
    side = cutoff * max(n / 5, 1.0) ** (1 / 3)
    x = rng.uniform(0, side, (n, 3))
    d = x[None] - x[:, None]
    r = np.linalg.norm(d, axis=-1)
    near = (r < cutoff) & (r > 0.2 * cutoff)
    near[n - n // 5 :] = False
    i, j = np.nonzero(near)
    padding = np.tile([2 * cutoff, 0.0, 0.0], (2, 1))
    edges = torch.from_numpy(np.concatenate([d[i, j], padding])).to(dtype)
    ends = (torch.from_numpy(np.concatenate([k, [0, 0]]).astype(np.int64)) for k in (i, j))
    return edges, *ends, torch.from_numpy(rng.integers(0, contract.types, n))


def _rows(contract: Contract, n: int, rng: np.random.Generator) -> Inputs:
    dtype = getattr(torch, contract.dtype)
    side = 3.0 * n ** (1 / 3)

    def one(name: str) -> torch.Tensor:
        if name == "types":
            return torch.from_numpy(rng.integers(0, contract.types, n))
        if name == "time":
            return torch.tensor(rng.uniform(0, 1), dtype=dtype)
        if name == "cell":
            return torch.from_numpy(side * np.eye(3)).to(dtype)
        scale = side if name == "x" else 1.0
        return torch.from_numpy(scale * rng.uniform(-0.5, 0.5, (n, 3))).to(dtype)

    given = [one(name) for name in contract.inputs]
    if contract.memory:
        rows = n if contract.sees == "atoms" else 1
        given.append(torch.from_numpy(rng.uniform(-0.5, 0.5, (rows, contract.memory))).to(dtype))
    return tuple(given)
