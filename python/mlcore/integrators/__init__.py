"""Integrators of large time steps: learned ones, and what they are to be compared with."""

from mlcore.integrators.action_angle import ActionAngleIntegrator, Motion
from mlcore.integrators.baselines import PeriodicContinuation, VerletIntegrator
from mlcore.integrators.charts import starts
from mlcore.integrators.face import Frames, Integrator
from mlcore.integrators.samples import MinMax, Windows, windows
from mlcore.integrators.saved import load
from mlcore.integrators.seen import fingerprints
from mlcore.integrators.speed import break_even_force, net_speedup

__all__ = [
    "ActionAngleIntegrator",
    "Frames",
    "Integrator",
    "MinMax",
    "Motion",
    "PeriodicContinuation",
    "VerletIntegrator",
    "Windows",
    "break_even_force",
    "fingerprints",
    "load",
    "net_speedup",
    "starts",
    "windows",
]
