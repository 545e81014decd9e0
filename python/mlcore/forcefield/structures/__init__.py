"""Training data: data sets on disk, import and export, checks, beads."""

from __future__ import annotations

from mlcore.forcefield.structures.ase_db import read_ase_db, write_ase_db
from mlcore.forcefield.structures.beads import (
    ByFormula,
    ByIndex,
    ByMolecule,
    coarse_grained,
    mapped,
)
from mlcore.forcefield.structures.checks import Finding, Findings, check
from mlcore.forcefield.structures.dataset import Dataset, Group, species
from mlcore.forcefield.structures.importers import FORMATS, read_group, write_structures
from mlcore.forcefield.structures.labels import Labels, labelled, labels
from mlcore.forcefield.structures.manifest import Provenance
from mlcore.forcefield.structures.materials_project import fetch
from mlcore.forcefield.structures.target_table import TargetRow, read_targets, write_targets

__all__ = [
    "FORMATS",
    "ByFormula",
    "ByIndex",
    "ByMolecule",
    "Dataset",
    "Finding",
    "Findings",
    "Group",
    "Labels",
    "Provenance",
    "TargetRow",
    "check",
    "coarse_grained",
    "fetch",
    "labelled",
    "labels",
    "mapped",
    "read_ase_db",
    "read_group",
    "read_targets",
    "species",
    "write_ase_db",
    "write_structures",
    "write_targets",
]
