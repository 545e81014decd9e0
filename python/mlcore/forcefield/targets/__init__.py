"""Targets: properties a candidate should have, and how they are measured."""

from __future__ import annotations

from mlcore.forcefield.targets.crystal import CubicCrystal
from mlcore.forcefield.targets.energies import Energies, Forces, Stress
from mlcore.forcefield.targets.face import Boxes, Measurement, Static, Target

__all__ = [
    "Boxes",
    "CubicCrystal",
    "Energies",
    "Forces",
    "Measurement",
    "Static",
    "Stress",
    "Target",
]
