"""Learned dynamics: what a system does in one step of fixed length, run here and inside LAMMPS.

from mlcore import data, steppers
model = steppers.OneStep(sees="atoms", inputs=("x", "v"))
model.fit(data.read_trajectory("run.dump"))
model.rollout(x, v, 1000)

`RecurrentStep` has a memory of the frames before, for motion that does not follow from what is seen.
"""

from mlcore.steppers.one_step import OneStep
from mlcore.steppers.recurrent import RecurrentStep

__all__ = ["OneStep", "RecurrentStep"]
