"""Reference systems, their runs, and data sets of runs over grids of parameters."""

from mlcore.md.dataset import Dataset
from mlcore.md.recordings import from_trajectories
from mlcore.md.starts import lattice_start, random_start, thermal_velocities
from mlcore.md.sweeps import sweep
from mlcore.md.systems import (
    SYSTEMS,
    System,
    double_well,
    fixed_lennard_jones,
    lennard_jones,
    named,
    oscillator,
    recorded,
    rugged,
)

__all__ = [
    "SYSTEMS",
    "Dataset",
    "System",
    "double_well",
    "fixed_lennard_jones",
    "from_trajectories",
    "lattice_start",
    "lennard_jones",
    "named",
    "oscillator",
    "random_start",
    "recorded",
    "rugged",
    "sweep",
    "thermal_velocities",
]
