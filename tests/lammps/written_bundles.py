"""Bundles written here by hand, number by number: what the plugin must read, whoever made it."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlcore.io.tensors import write_tensors
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
CUTOFF = 2.5


def write(
    folder: Path,
    kind: str,
    model: Mapping[str, Any],
    *,
    tensors: Mapping[str, Array] | None = None,
    native: Mapping[str, Any] | None = None,
    scripts: Sequence[torch.nn.Module] = (),
    examples: tuple[Tensor, ...] = (),
    compiled: Mapping[str, Any] | None = None,
    packages: Sequence[bytes] = (),
    units: str = "lj",
) -> Path:
    """One bundle; `scripts` are traced on `examples` unless they are scripted already."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / "weights.safetensors", dict(tensors or {"none": np.zeros(1)}))
    engines: dict[str, Any] = {}
    if native is not None:
        engines["native"] = dict(native)
    if scripts:
        names = [f"model_{k}.pt" for k in range(len(scripts))]
        for name, module in zip(names, scripts, strict=True):
            save(module, examples, folder / name)
        engines["torchscript"] = {"files": names}
    if compiled is not None:
        names = [f"model_{k}.pt2" for k in range(len(packages))]
        for name, package in zip(names, packages, strict=True):
            (folder / name).write_bytes(package)
        engines["compiled"] = {"files": names, **compiled}
    members = max(len(scripts), len(packages), 1)
    manifest = {
        "format": "mlcore-bundle",
        "format_version": 1,
        "kind": kind,
        "units": dict.fromkeys(("length", "energy", "time"), units),
        "model": {"dtype": "float64", "types": 1, "members": members, **model},
        "network": {"class": "none", "arguments": {}},
        "engines": engines,
    }
    finish(folder, manifest)
    return folder


def finish(folder: Path, manifest: dict[str, Any]) -> None:
    """Put the hashes of all files in and write the manifest."""
    files = [p for p in sorted(folder.iterdir()) if p.suffix in (".safetensors", ".pt", ".pt2")]
    manifest["files"] = {
        p.name: {"sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in files
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def save(module: torch.nn.Module, examples: tuple[Tensor, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(module, torch.jit.ScriptModule):
            module.save(str(path))
        else:
            torch.jit.trace(module, examples, check_trace=False).save(str(path))


# -- Lennard-Jones as a table ---------------------------------------------------------------------
def lennard_jones(r: Array, epsilon: float = 1.0, sigma: float = 1.0) -> tuple[Array, Array]:
    six = (sigma / r) ** 6
    return 4 * epsilon * (six * six - six), -24 * epsilon * (2 * six * six - six) / r


def pair_table(
    folder: Path,
    epsilons: Sequence[Sequence[float]] = ((1.0,),),
    first: float = 0.8,
    cutoff: float = CUTOFF,
    knots: int = 20001,
    kind: str = "force",
    units: str = "lj",
    **model: Any,
) -> Path:
    """Lennard-Jones of several members and pairs of types, one epsilon each."""
    r = np.linspace(first, cutoff, knots)
    tensors = {}
    for k, member in enumerate(epsilons):
        both = [lennard_jones(r, epsilon) for epsilon in member]
        tensors[f"m{k}.energy"] = np.array([u for u, _ in both])
        tensors[f"m{k}.slope"] = np.array([s for _, s in both])
    pairs = len(epsilons[0])
    told = {
        "sees": "neighbors",
        "gives": "energy",
        "cutoff": cutoff,
        "types": round((math.sqrt(8 * pairs + 1) - 1) / 2),
        "members": len(epsilons),
        **model,
    }
    native = {"kind": "pair_table", "first": first, "knots": knots}
    return write(folder, kind, told, tensors=tensors, native=native, units=units)


# -- models of neighbors --------------------------------------------------------------------------
class ManyBody(torch.nn.Module):
    """Energy of an atom from its density and the squares of its dipole of neighbors."""

    def __init__(self, strength: float = 1.0, cutoff: float = CUTOFF, types: int = 1) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.register_buffer("strength", torch.tensor(strength, dtype=torch.float64))
        self.register_buffer("charge", 1 + 0.3 * torch.arange(types, dtype=torch.float64))

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        r = torch.sqrt((D * D).sum(1))
        inside = (1 - r / self.cutoff).clamp(min=0.0)
        w = inside**3 * self.charge[types[j]]
        none = torch.zeros(types.shape[0], dtype=D.dtype, device=D.device)
        density = none.index_add(0, i, w)
        dipole = torch.zeros((types.shape[0], 3), dtype=D.dtype, device=D.device)
        dipole = dipole.index_add(0, i, w[:, None] * D / r[:, None])
        bent = torch.sqrt(density * density + 0.1) + 0.5 * (dipole * dipole).sum(1)
        return self.strength * self.charge[types] * (bent - density)


def edges(x: Array, cell: Array | None, cutoff: float = CUTOFF) -> tuple[Tensor, Tensor, Tensor]:
    """D, i, j of all ordered pairs nearer than the cutoff, by the slow and obvious way."""
    shifts = [np.zeros(3)]
    if cell is not None:
        reach = range(-2, 3)
        shifts = [np.array([a, b, c]) @ cell for a in reach for b in reach for c in reach]
    found: list[tuple[int, int, Array]] = []
    for shift in shifts:
        d = x[None, :, :] + shift - x[:, None, :]
        r = np.linalg.norm(d, axis=2)
        for a, b in zip(*np.nonzero((r < cutoff) & (r > 0)), strict=True):
            found.append((int(a), int(b), d[a, b]))
    D = torch.tensor(np.array([f[2] for f in found]))
    return D, torch.tensor([f[0] for f in found]), torch.tensor([f[1] for f in found])


def energy_and_forces(
    model: torch.nn.Module, x: Array, cell: Array | None, types: Sequence[int] | None = None
) -> tuple[float, Array, Array]:
    """Energy, forces and virial (3,3) of a model of neighbors, in float64."""
    D, i, j = edges(x, cell)
    kinds = torch.tensor(types if types is not None else [0] * len(x))
    D.requires_grad_(True)
    energy = model(D, i, j, kinds).sum()
    (gradient,) = torch.autograd.grad(energy, D)
    forces = torch.zeros(len(x), 3, dtype=torch.float64)
    forces = forces.index_add(0, i, gradient).index_add(0, j, -gradient)
    virial = -(D.T @ gradient)
    return energy.item(), forces.detach().numpy(), virial.detach().numpy()


def neighbor_examples(dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    i = torch.tensor([0, 0, 1, 2, 3])
    j = torch.tensor([1, 2, 0, 0, 0])
    return (torch.rand(5, 3, dtype=dtype) + 0.3, i, j, torch.zeros(4, dtype=torch.int64))


NEIGHBORS = {"sees": "neighbors", "gives": "energy", "cutoff": CUTOFF}
