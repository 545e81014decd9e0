"""Observables: numbers that describe a configuration, measured here and inside a LAMMPS run.

from mlcore import observables
q6 = observables.LocalOrder(cutoff=1.5, degree=6)
q6(atoms)                                # mean over the atoms
q6.export("q6", units="lj")              # then in LAMMPS: fix q all mlcore qoi q6
"""

from mlcore.observables.autoencoder import Autoencoder, AutoencoderFit
from mlcore.observables.base import Observable
from mlcore.observables.coordination import CoordinationNumber
from mlcore.observables.fitting import ObservableFit
from mlcore.observables.gyration import RadiusOfGyration
from mlcore.observables.learned import LearnedObservable
from mlcore.observables.local_order import LocalOrder
from mlcore.observables.projection import LinearProjection

__all__ = [
    "Autoencoder",
    "AutoencoderFit",
    "CoordinationNumber",
    "LearnedObservable",
    "LinearProjection",
    "LocalOrder",
    "Observable",
    "ObservableFit",
    "RadiusOfGyration",
]
