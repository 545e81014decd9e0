"""How far a fit can be believed: intervals, ensembles, sensitivity, and refits without some data.

    found = fisher(misfit, space, point)            # what the data determine, sloppy directions
    members = refits(misfit, space, point)          # or gaussian, mcmc, pops
    members.propagate(evaluator_of_others, space)   # what that means for other properties

`mlcore.forcefield.uncertainty.funuq` is about changes of a pair function instead of parameters.
"""

from mlcore.forcefield.uncertainty.cross_validation import cross_validate
from mlcore.forcefield.uncertainty.ensembles import (
    Distribution,
    Ensemble,
    cascade,
    gaussian,
    mcmc,
    natural_temperature,
    pops,
    refits,
)
from mlcore.forcefield.uncertainty.fisher_information import Direction, Fisher, fisher
from mlcore.forcefield.uncertainty.intervals import Coverage, coverage, profile
from mlcore.forcefield.uncertainty.misfit import Misfit

__all__ = [
    "Coverage",
    "Direction",
    "Distribution",
    "Ensemble",
    "Fisher",
    "Misfit",
    "cascade",
    "coverage",
    "cross_validate",
    "fisher",
    "gaussian",
    "mcmc",
    "natural_temperature",
    "pops",
    "profile",
    "refits",
]
