"""Training data: data sets on disk, import and export, checks, beads."""

from __future__ import annotations

from mlcore.forcefield.structures.checks import Finding, Findings, check
from mlcore.forcefield.structures.dataset import Dataset, Group, species
from mlcore.forcefield.structures.labels import Labels, labelled, labels
from mlcore.forcefield.structures.manifest import Provenance

__all__ = [
    "Dataset",
    "Finding",
    "Findings",
    "Group",
    "Labels",
    "Provenance",
    "check",
    "labelled",
    "labels",
    "species",
]
