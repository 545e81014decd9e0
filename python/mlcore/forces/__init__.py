"""Learned forces: fitted to frames, used here, in ASE, and in LAMMPS.

    from mlcore import forces
    model = forces.PairForce(cutoff=2.5)                # or ManyBodyForce, ExternalForce
    model = forces.Committee(model, members=4)          # with an error estimate
    model.fit(frames, validation=0.1, checkpoint="out/run", progress=True)
    model.forces(atoms)
    model.export("force", units="lj")                   # then: fix f all mlcore force force

Importing this package does not import torch; using a model does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcore.forces.active import Exploration, Round, active_rounds
    from mlcore.forces.calculator import ForceCalculator
    from mlcore.forces.committee import Committee
    from mlcore.forces.external import ExternalForce
    from mlcore.forces.loaded import LoadedForce, load
    from mlcore.forces.many_body import ManyBodyForce
    from mlcore.forces.model import Evaluation, ForceFit, ForceModel
    from mlcore.forces.pair import PairForce

__all__ = [
    "Committee",
    "Evaluation",
    "Exploration",
    "ExternalForce",
    "ForceCalculator",
    "ForceFit",
    "ForceModel",
    "LoadedForce",
    "ManyBodyForce",
    "PairForce",
    "Round",
    "active_rounds",
    "load",
]

_HOMES = {
    "Committee": "committee",
    "Evaluation": "model",
    "Exploration": "active",
    "ExternalForce": "external",
    "ForceCalculator": "calculator",
    "ForceFit": "model",
    "ForceModel": "model",
    "LoadedForce": "loaded",
    "ManyBodyForce": "many_body",
    "PairForce": "pair",
    "Round": "active",
    "active_rounds": "active",
    "load": "loaded",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"mlcore.forces.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mlcore.forces' has no attribute {name!r}")
