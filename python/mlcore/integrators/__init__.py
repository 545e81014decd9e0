"""Integrators of large time steps: learned ones, and what they are to be compared with."""

from mlcore.integrators.action_angle import ActionAngleIntegrator, Motion
from mlcore.integrators.baselines import PeriodicContinuation, VerletIntegrator
from mlcore.integrators.charts import starts
from mlcore.integrators.face import Frames, Integrator

__all__ = [
    "ActionAngleIntegrator",
    "Frames",
    "Integrator",
    "Motion",
    "PeriodicContinuation",
    "VerletIntegrator",
    "starts",
]
