"""A first fit to start from: a commented config that runs as it is, and the data it names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.errors import InvalidArgument

if TYPE_CHECKING:
    from mlcore.forcefield.structures import Dataset

__all__ = ["CONFIG", "begin", "silicon_data"]

CONFIG = "fit.yaml"

TEXT = """\
# A fit of a Tersoff potential to silicon. Run it:      mlcore forcefield fit {config}
# All fields, with their meaning and defaults:          mlcore forcefield schema
# Lengths in Angstrom, energies in eV, stress in eV/A^3, elastic constants in GPa.
format: mlcore forcefield fit
version: 1
title: Silicon, Tersoff

# The functional form and its species; `mlcore forcefield model list` tells all forms.
model:
  form: tersoff
  species: [Si]               # elements, or beads as bead:W with a mass under masses

# What may change. The form has a value and a range for every parameter.
parameters:
  start:                      # name: value, or a potential file as LAMMPS reads it
    {{c: 150000, d: 14.0, cos0: -0.50, n: 0.85, beta: 2.0e-6, lam2: 1.60, B: 400.0,
     lam1: 2.60, A: 2200.0}}
  free:                       # a list of names is enough where the form's ranges are right
    c: {{factor: 5}}            # from initial/5 to initial*5, in its logarithm
    d: {{within: 0.4}}          # 40 percent below and above
    cos0: {{within: 0.4}}
    n: {{within: 0.4}}
    beta: {{factor: 5}}
    lam2: {{within: 0.4}}
    B: {{factor: 5}}
    lam1: {{within: 0.4}}
    A: {{lower: 700, upper: 6000, scale: log}}
  ties: {{}}                    # such as  lam2: 0.7*lam1
  constraints: ["A > B"]

# Structures with energies, forces and stress: a data set, or files (group: file.extxyz).
# Its labels were computed by this project with the parameters of PRB 39, 5566 (1989).
data:
  folder: data
  sigma: {{energy: 0.02, forces: 0.2, stress: 0.003}}     # how far off is still good
  weights: {{energy: 1, forces: 0, stress: 0}}            # of groups not named here:
  groups:
    rattled: {{energy: 1, forces: 1}}
    vacancy: {{held_out: true}}  # the result is judged by it, the search never sees it

# Properties; their structures by recipe, by file, or by group of the data.
targets:
  - type: cubic_crystal
    name: diamond
    structure: {{crystal: diamond, a: 5.43}}
    values: {{a: 5.43211, energy: -4.62887, C11: 142.51, C12: 75.36, C44: 69.01}}

objective:
  kind: sse                   # or huber, max, logsumexp, or arithmetic of target names

search:
  name: default               # a short global search, then least squares from its best points

run:
  budget: 1500                # evaluations
  seed: 0
  engine: processes           # or serial, mpi, parsl, dask: the same history in each
  workers: 1
  timeout: 60                 # seconds for one candidate
"""


def begin(folder: str | os.PathLike[str]) -> Path:
    """Write `fit.yaml` and its data set in a folder, made where it is not there.

    Returns:
        The config.

    Raises:
        InvalidArgument: one of both is there already.
    """
    place = Path(folder)
    config = place / CONFIG
    for path in (config, place / "data"):
        if path.exists():
            raise InvalidArgument(f"folder: {path} is there already")
    place.mkdir(parents=True, exist_ok=True)
    silicon_data().save(place / "data")
    config.write_text(TEXT.format(config=config), encoding="utf-8")
    return config


def silicon_data() -> Dataset:
    """Fifteen structures of silicon in four groups, with what Tersoff's potential says of them."""
    from mlcore.forcefield.evaluate.lammps import LammpsEngine
    from mlcore.forcefield.forms import model
    from mlcore.forcefield.problems import silicon_structures
    from mlcore.forcefield.structures import Dataset, Group, Provenance, labelled

    made = model("tersoff", ["Si"])
    engine = LammpsEngine(made, 12.0)
    groups: dict[str, list[object]] = {}
    try:
        engine.use(made.defaults)
        for atoms in silicon_structures():
            found = engine.at_rest(atoms)
            known = labelled(atoms, float(found.energy[0]), found.forces[0], found.stress[0])
            first = str(atoms.info["name"]).split()[0]
            group = first if first in ("diamond", "rattled", "vacancy") else "phases"
            groups.setdefault(group, []).append(known)
    finally:
        engine.close()
    where = Provenance(
        source="mlcore.forcefield.problems",
        method="LAMMPS, pair_style tersoff",
        citation="J. Tersoff, Phys. Rev. B 39, 5566 (1989)",
    )
    return Dataset({n: Group(tuple(a), where) for n, a in groups.items()}, name="silicon")  # type: ignore[arg-type]
