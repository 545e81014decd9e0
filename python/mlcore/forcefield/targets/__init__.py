"""Targets: properties a candidate should have, and how they are measured."""

from __future__ import annotations

from mlcore.forcefield.targets.crystal import Crystal, CubicCrystal
from mlcore.forcefield.targets.defects import Defect, Surface
from mlcore.forcefield.targets.elasticity import elastic_constants, rest_scale, rest_strain
from mlcore.forcefield.targets.energies import Energies, Forces, Stress
from mlcore.forcefield.targets.face import Boxes, Measurement, Static, Target
from mlcore.forcefield.targets.phonons import Phonons
from mlcore.forcefield.targets.volumes import EnergyVolume

__all__ = [
    "Boxes",
    "Crystal",
    "CubicCrystal",
    "Defect",
    "Energies",
    "EnergyVolume",
    "Forces",
    "Measurement",
    "Phonons",
    "Static",
    "Stress",
    "Surface",
    "Target",
    "elastic_constants",
    "rest_scale",
    "rest_strain",
]
