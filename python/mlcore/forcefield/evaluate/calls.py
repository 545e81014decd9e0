"""The calls of LAMMPS' C interface that structures at rest need, with little between."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Calls"]

_GLOBAL, _SCALAR, _VECTOR = 0, 0, 1
_DOUBLE = 1


class Calls:
    """A `lammps.lammps` by its C functions; each of its own methods takes ten times as long.

    Args:
        lmp: a `lammps.lammps`, which must outlive this.
    """

    def __init__(self, lmp: Any) -> None:
        self._lmp = lmp
        self._handle = lmp.lmp
        # functions taken by name are shared by all, and `lammps` changes what they return
        self._command = _function(lmp, "command", None, ctypes.c_char_p)
        self._has_error = _function(lmp, "has_error", ctypes.c_int)
        place = (ctypes.c_char_p, ctypes.c_int, ctypes.c_int)
        numbers = ctypes.POINTER(ctypes.c_double)
        self._compute = _function(lmp, "extract_compute", numbers, *place)
        integer = ctypes.POINTER(ctypes.c_int)
        self._global = _function(lmp, "extract_global", integer, ctypes.c_char_p)
        self._gather = _function(lmp, "gather_atoms", None, *place, ctypes.c_void_p)
        self._scatter = _function(lmp, "scatter_atoms", None, *place, ctypes.c_void_p)

    def command(self, line: bytes) -> None:
        """Has LAMMPS do ``line``; raises what `lammps.lammps.command` raises."""
        self._command(self._handle, line)
        self._check()

    def scalar(self, compute: bytes) -> float:
        """The number of a global compute."""
        found = self._compute(self._handle, compute, _GLOBAL, _SCALAR)
        self._check()
        return float(found[0])

    def vector(self, compute: bytes, length: int) -> list[float]:
        """The first ``length`` numbers of a global compute."""
        found = self._compute(self._handle, compute, _GLOBAL, _VECTOR)
        self._check()
        return [float(x) for x in found[:length]]

    def count(self) -> int:
        """How many atoms there are."""
        return int(self._global(self._handle, b"nlocal")[0])

    def atoms(self, name: bytes, count: int) -> npt.NDArray[np.float64]:
        """(n, 3) of all atoms in the order of their numbers."""
        found = np.empty((count, 3))
        self._gather(self._handle, name, _DOUBLE, 3, found.ctypes.data)
        return found

    def place(self, positions: int) -> None:
        """Puts the atoms, in the order of their numbers, at (n, 3) positions at that address."""
        self._scatter(self._handle, b"x", _DOUBLE, 3, positions)

    def _check(self) -> None:
        if self._has_error(self._handle):
            raise self._lmp._lammps_exception


def _function(lmp: Any, name: str, gives: Any, *takes: Any) -> Any:
    function = lmp.lib[f"lammps_{name}"]
    function.restype = gives
    function.argtypes = [ctypes.c_void_p, *takes]
    return function
