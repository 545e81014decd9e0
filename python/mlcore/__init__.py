"""mlcore learns how particles move and runs what it learned at full speed.

The numeric core is C++ (``mlcore._core``); what is imported here is light, torch is not touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mlcore import _core
from mlcore._core import __version__
from mlcore._core import num_threads as get_num_threads
from mlcore.errors import (
    BackendUnavailable,
    Error,
    FileFormatError,
    InvalidArgument,
    NotPositiveDefinite,
)

if TYPE_CHECKING:
    from mlcore.bonds import BondBasis as BondBasis
    from mlcore.mlp import MLP as MLP
    from mlcore.neighbors import NeighborList as NeighborList
    from mlcore.neighbors import neighbor_batch as neighbor_batch
    from mlcore.neighbors import neighbor_csr as neighbor_csr
    from mlcore.neighbors import neighbor_list as neighbor_list
    from mlcore.neighbors import neighbor_matrix as neighbor_matrix
    from mlcore.pair_potential import PairPotential as PairPotential
    from mlcore.paths import get_cmake_dir as get_cmake_dir
    from mlcore.paths import get_include as get_include
    from mlcore.recurrent import LSTM as LSTM
    from mlcore.splitting import PairSplitting as PairSplitting
    from mlcore.stencil import conv3d as conv3d
    from mlcore.stencil import gradient as gradient
    from mlcore.stencil import laplacian as laplacian
    from mlcore.stencil import scatter3d as scatter3d
    from mlcore.stencil_active import ActiveSet as ActiveSet
    from mlcore.stencil_active import conv3d_active as conv3d_active
    from mlcore.stencil_active import scatter3d_active as scatter3d_active
    from mlcore.voxels import VoxelGrid as VoxelGrid
    from mlcore.voxels import bin_atoms as bin_atoms
    from mlcore.voxels import gather as gather
    from mlcore.voxels import rasterize as rasterize
    from mlcore.voxels import unbin as unbin

_ATTRIBUTES = {
    "ActiveSet": "mlcore.stencil_active",
    "BondBasis": "mlcore.bonds",
    "LSTM": "mlcore.recurrent",
    "MLP": "mlcore.mlp",
    "NeighborList": "mlcore.neighbors",
    "PairPotential": "mlcore.pair_potential",
    "PairSplitting": "mlcore.splitting",
    "VoxelGrid": "mlcore.voxels",
    "bin_atoms": "mlcore.voxels",
    "conv3d": "mlcore.stencil",
    "conv3d_active": "mlcore.stencil_active",
    "gather": "mlcore.voxels",
    "get_cmake_dir": "mlcore.paths",
    "get_include": "mlcore.paths",
    "gradient": "mlcore.stencil",
    "laplacian": "mlcore.stencil",
    "neighbor_batch": "mlcore.neighbors",
    "neighbor_csr": "mlcore.neighbors",
    "neighbor_matrix": "mlcore.neighbors",
    "neighbor_list": "mlcore.neighbors",
    "rasterize": "mlcore.voxels",
    "scatter3d": "mlcore.stencil",
    "scatter3d_active": "mlcore.stencil_active",
    "unbin": "mlcore.voxels",
}
_SUBMODULES = (
    "bonds",
    "data",
    "dynamics",
    "errors",
    "export",
    "forcefield",
    "forces",
    "integrators",
    "io",
    "lammps",
    "machine",
    "md",
    "mlp",
    "mobility",
    "neighbors",
    "networks",
    "noise",
    "observables",
    "ops",
    "pair_potential",
    "parallel",
    "potentials",
    "random",
    "recurrent",
    "reference",
    "sagesnet",
    "splitting",
    "stencil",
    "stencil_active",
    "steppers",
    "studio",
    "training",
    "voxels",
)

__all__ = [
    "BackendUnavailable",
    "Error",
    "FileFormatError",
    "InvalidArgument",
    "NotPositiveDefinite",
    "__version__",
    "get_num_threads",
    "set_num_threads",
    *_ATTRIBUTES,
    *_SUBMODULES,
]


def set_num_threads(threads: int) -> None:
    """Sets the library-wide number of CPU threads: that of calls without ``num_threads``.

    Args:
        threads: 0..1024; 0 goes back to MLCORE_NUM_THREADS, OMP_NUM_THREADS or the CPUs given.

    Raises:
        InvalidArgument: it is no such number.
    """
    from mlcore.arrays import integer

    number = integer("threads", threads)
    if not 0 <= number <= 1024:
        raise InvalidArgument(f"threads must lie in 0..1024, got {number}")
    _core.set_num_threads(number)


def __getattr__(name: str) -> Any:
    if name in _ATTRIBUTES:
        return getattr(importlib.import_module(_ATTRIBUTES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"mlcore.{name}")
    raise AttributeError(f"module 'mlcore' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
