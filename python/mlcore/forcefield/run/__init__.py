"""Runs of a fit: candidates, their history, what watches it, how it ends and goes on."""

from mlcore.forcefield.run.fitting import Fit, cancel, fit, ranks_apart, resume
from mlcore.forcefield.run.setup import Setup

__all__ = ["Fit", "Setup", "cancel", "fit", "ranks_apart", "resume"]
