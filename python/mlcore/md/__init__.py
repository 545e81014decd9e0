"""Reference systems, their runs, and data sets of runs over grids of parameters."""

from mlcore.md.dataset import Dataset
from mlcore.md.starts import random_start, thermal_velocities
from mlcore.md.sweeps import sweep
from mlcore.md.systems import (
    SYSTEMS,
    System,
    double_well,
    fixed_lennard_jones,
    lennard_jones,
    named,
    oscillator,
    rugged,
)

__all__ = [
    "SYSTEMS",
    "Dataset",
    "System",
    "double_well",
    "fixed_lennard_jones",
    "lennard_jones",
    "named",
    "oscillator",
    "random_start",
    "rugged",
    "sweep",
    "thermal_velocities",
]
