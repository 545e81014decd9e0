"""Targets that are measured by molecular dynamics, one file per property."""

from __future__ import annotations

from mlcore.forcefield.targets.md.density import Density
from mlcore.forcefield.targets.md.simulation import Simulation, Trajectory

__all__ = ["Density", "Simulation", "Trajectory"]
