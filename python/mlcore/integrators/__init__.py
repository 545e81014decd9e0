"""Integrators of large time steps: learned ones, and what they are to be compared with."""

from mlcore.integrators.action_angle import ActionAngleIntegrator, Motion
from mlcore.integrators.baselines import (
    BallisticIntegrator,
    PeriodicContinuation,
    VerletIntegrator,
)
from mlcore.integrators.chaos import Lyapunov, lyapunov
from mlcore.integrators.charts import starts
from mlcore.integrators.costs import largest_acceptable_step
from mlcore.integrators.evaluate import evaluate
from mlcore.integrators.face import Frames, Integrator
from mlcore.integrators.honesty import Gate, no_peeking, not_truth_plus_scalar
from mlcore.integrators.lstm import LSTMIntegrator
from mlcore.integrators.nbody import NBodyIntegrator, StepQuality, Thermostat
from mlcore.integrators.samples import MinMax, Windows, windows
from mlcore.integrators.saved import load
from mlcore.integrators.seen import fingerprints
from mlcore.integrators.speed import break_even_force, net_speedup
from mlcore.integrators.symplectic import SymplecticIntegrator
from mlcore.integrators.table import Report

__all__ = [
    "ActionAngleIntegrator",
    "BallisticIntegrator",
    "Frames",
    "Gate",
    "Integrator",
    "LSTMIntegrator",
    "Lyapunov",
    "MinMax",
    "Motion",
    "NBodyIntegrator",
    "PeriodicContinuation",
    "Report",
    "StepQuality",
    "SymplecticIntegrator",
    "Thermostat",
    "VerletIntegrator",
    "Windows",
    "break_even_force",
    "evaluate",
    "fingerprints",
    "largest_acceptable_step",
    "load",
    "lyapunov",
    "net_speedup",
    "no_peeking",
    "not_truth_plus_scalar",
    "starts",
    "windows",
]
