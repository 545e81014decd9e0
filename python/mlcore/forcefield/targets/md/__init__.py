"""Targets that are measured by molecular dynamics, one file per property."""

from __future__ import annotations

from mlcore.forcefield.targets.md.conductivity import Conductivity
from mlcore.forcefield.targets.md.density import Density
from mlcore.forcefield.targets.md.diffusion import Diffusion
from mlcore.forcefield.targets.md.distributions import AngleDistribution, RadialDistribution
from mlcore.forcefield.targets.md.enthalpy import Enthalpy, HeatCapacity
from mlcore.forcefield.targets.md.melting import Melting
from mlcore.forcefield.targets.md.simulation import Simulation, Trajectory

__all__ = [
    "AngleDistribution",
    "Conductivity",
    "Density",
    "Diffusion",
    "Enthalpy",
    "HeatCapacity",
    "Melting",
    "RadialDistribution",
    "Simulation",
    "Trajectory",
]
