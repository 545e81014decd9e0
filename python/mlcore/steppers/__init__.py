"""Learned dynamics: what a system does in one step of fixed length, run here and inside LAMMPS.

from mlcore import data, steppers
model = steppers.OneStep(sees="atoms", inputs=("x", "v"))
model.fit(data.read_trajectory("run.dump"))
model.rollout(x, v, 1000)
"""

from mlcore.steppers.one_step import OneStep

__all__ = ["OneStep"]
