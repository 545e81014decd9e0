"""The core's operations as torch custom operators, differentiable and known to `torch.compile`.

Importing this package imports torch (`pip install 'mlcore[train]'`); `import mlcore` does not.
Each operation is registered as ``torch.ops.mlcore.<name>`` and re-exported here.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch") is None:
    raise ModuleNotFoundError("mlcore.ops needs torch: pip install 'mlcore[train]'", name="torch")

from mlcore.ops.bonds import bond_energies, bond_forces
from mlcore.ops.dynamics import pair_energy, pair_force
from mlcore.ops.mlp import mlp
from mlcore.ops.mobility import mobility_apply, mobility_matrix
from mlcore.ops.neighbors import neighbor_list
from mlcore.ops.noise import cholesky, sqrt_apply
from mlcore.ops.pair_potential import pair_potential
from mlcore.ops.potentials import potential_energies, potential_forces
from mlcore.ops.recurrent import lstm
from mlcore.ops.splitting import splitting_step
from mlcore.ops.stencil import conv3d, gradient, laplacian, scatter3d
from mlcore.ops.stencil_active import conv3d_active, scatter3d_active
from mlcore.ops.voxels import gather, position_gradient, rasterize

__all__ = [
    "bond_energies",
    "bond_forces",
    "cholesky",
    "conv3d",
    "conv3d_active",
    "gather",
    "gradient",
    "laplacian",
    "lstm",
    "mlp",
    "mobility_apply",
    "mobility_matrix",
    "neighbor_list",
    "pair_energy",
    "pair_force",
    "pair_potential",
    "position_gradient",
    "potential_energies",
    "potential_forces",
    "rasterize",
    "scatter3d",
    "scatter3d_active",
    "splitting_step",
    "sqrt_apply",
]
