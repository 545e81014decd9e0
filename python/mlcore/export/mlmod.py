"""MLMOD's files: two TorchScript models and the XML that names them.

Calling convention: M_ii takes the (3,1) position of a particle, M_ij the (6,1) positions of two; both
return the nine entries of a 3x3 block, row-major, as (9,1); float32 in and out, double inside.
They hold the mobility of an open system; in periodic boxes use the bundle, whose background is
summed over the images by the core.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.export import mlmod_params
from mlcore.export.torchscript import load_script, save_traced

if TYPE_CHECKING:
    from mlcore.export.bundle import PairTableData

__all__ = ["PairBlock", "SelfBlock", "assemble", "load_script", "write_files", "write_parameters"]

Array = NDArray[np.float64]


class SelfBlock(torch.nn.Module):
    """M_ii: the same multiple of I everywhere."""

    def __init__(self, self_mobility: float) -> None:
        super().__init__()
        block = self_mobility * torch.eye(3, dtype=torch.float64).reshape(9, 1)
        self.block: torch.Tensor
        self.register_buffer("block", block.float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block + 0.0 * x.sum()


class PairBlock(torch.nn.Module):
    """M_ij: cubic Hermite table plus Rotne-Prager-Yamakawa of equal spheres, overlaps included."""

    def __init__(self, table: PairTableData) -> None:
        super().__init__()
        self.step = table.cutoff / (len(table.par) - 1)
        self.last = len(table.par) - 2
        rows = np.stack([table.par, table.dpar, table.perp, table.dperp], 1)
        both = np.concatenate([rows[:-1], rows[1:]], 1)
        # one row past the end: nothing beyond the cutoff
        both = np.concatenate([both, np.zeros((1, 8))])
        self.table: torch.Tensor
        self.identity: torch.Tensor
        self.register_buffer("table", torch.from_numpy(both))
        self.radius = table.radius if table.radius is not None else 1.0
        stokes = 0.0
        if table.radius is not None and table.viscosity is not None:
            stokes = 1 / (6 * math.pi * table.radius * table.viscosity)
        self.stokes = stokes
        self.register_buffer("identity", torch.eye(3, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        d = (x[:3] - x[3:]).double().reshape(3)
        square = (d * d).sum()
        r = torch.sqrt(square.clamp(min=1e-60))
        u = d / r
        place = r / self.step
        cell = place.floor().clamp(max=float(self.last + 1))
        row = torch.index_select(self.table, 0, cell.long().reshape(1)).reshape(8)
        t = (place - cell).clamp(0.0, 1.0)
        h00 = (1 + 2 * t) * (1 - t) ** 2
        h10 = t * (1 - t) ** 2 * self.step
        h01 = t * t * (3 - 2 * t)
        h11 = t * t * (t - 1) * self.step
        par = h00 * row[0] + h10 * row[1] + h01 * row[4] + h11 * row[5]
        perp = h00 * row[2] + h10 * row[3] + h01 * row[6] + h11 * row[7]
        q = r / self.radius
        far = q.clamp(min=1.0)
        apart = q >= 2.0
        rpy_par = torch.where(apart, 1.5 / far - 1.0 / far**3, 1 - 6 * q / 32)
        rpy_perp = torch.where(apart, 0.75 / far + 0.5 / far**3, 1 - 9 * q / 32)
        par = par + self.stokes * rpy_par
        perp = perp + self.stokes * rpy_perp
        block = perp * self.identity + (par - perp) * (u.reshape(3, 1) * u.reshape(1, 3))
        return block.reshape(9, 1).float()


def write_files(folder: Path, table: PairTableData) -> None:
    """Write M_ii.pt and M_ij.pt, traced, into a folder."""
    stokes = 0.0
    if table.radius is not None and table.viscosity is not None:
        stokes = 1 / (6 * math.pi * table.radius * table.viscosity)
    own = SelfBlock(stokes + table.self_mobility)
    save_traced(own, (torch.zeros(3, 1),), folder / "M_ii.pt")
    example = torch.tensor([[0.1], [0.2], [0.3], [1.5], [-0.7], [2.0]]) * table.cutoff / 10
    save_traced(PairBlock(table), (example,), folder / "M_ij.pt")


def _call(module: torch.jit.ScriptModule, path: Path, x: Array) -> Array:
    given = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32).reshape(-1, 1))
    with torch.no_grad():
        try:
            out = module(given)
        except RuntimeError as error:
            last = str(error).strip().splitlines()[-1]
            raise FileFormatError(f"{path}: forward() fails on ({len(x)},1): {last}") from error
    if not isinstance(out, torch.Tensor) or out.dtype != torch.float32 or out.shape != (9, 1):
        found = type(out).__name__
        if isinstance(out, torch.Tensor):
            found = f"{out.dtype} {tuple(out.shape)}"
        raise FileFormatError(f"{path}: forward() must return float32 (9, 1), returned {found}")
    if not bool(torch.isfinite(out).all()):
        raise FileFormatError(f"{path}: forward() returns NaN or infinite numbers")
    return np.asarray(out.double().numpy().reshape(3, 3))


def assemble(folder: str | Path, x: Array) -> Array:
    """(3n,3n) matrix from M_ii.pt and M_ij.pt of a folder, called one pair at a time.

    Raises:
        FileFormatError: naming the file and what is wrong with it.
    """
    folder = Path(folder)
    own, pair = (load_script(folder / name) for name in ("M_ii.pt", "M_ij.pt"))
    n = len(x)
    out = np.zeros((n, 3, n, 3))
    for i in range(n):
        out[i, :, i] = _call(own, folder / "M_ii.pt", x[i])
        for j in range(i):
            both = np.concatenate([x[i], x[j]])
            out[i, :, j] = _call(pair, folder / "M_ij.pt", both)
            out[j, :, i] = out[i, :, j].T
    return out.reshape(3 * n, 3 * n)


def write_parameters(
    folder: Path, target: Path, *, kT: float, delta: float, stochastic: bool, drift: bool
) -> None:
    """Write model.mlmod_params (TorchScript files) and bundle.mlmod_params (the bundle itself).

    Paths in both are those of `target`, the folder's final name, as seen from where LAMMPS runs.

    Raises:
        InvalidArgument: delta is not positive.
    """
    if not (math.isfinite(delta) and delta > 0):
        raise InvalidArgument(f"delta must be positive, not {delta!r}")
    common = {
        "delta": delta,
        "KBT": kT,
        "flag_stochastic": int(stochastic),
        "flag_thm_drift": int(drift),
    }
    models = {"M_ii_filename": target / "M_ii.pt", "M_ij_filename": target / "M_ij.pt"}
    mode = "dX_MF_Q1_ML1_Pair"
    mlmod_params.write_parameters(folder / "model.mlmod_params", mode, {**models, **common})
    native = {"bundle": target, **common}
    mlmod_params.write_parameters(folder / "bundle.mlmod_params", mode, native)
