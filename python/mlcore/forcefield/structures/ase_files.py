"""Files that ASE parses, with its many ways to fail turned into one."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlcore.errors import FileFormatError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["MOST_BYTES", "by_ase", "read_cif", "sized"]

MOST_BYTES = 2 << 30
"""Largest file given to ASE, in bytes."""


def sized(path: str | os.PathLike[str]) -> int:
    """Size of a file in bytes.

    Raises:
        FileFormatError: absent, a folder, empty, or beyond `MOST_BYTES`.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
    except OSError as error:
        raise FileFormatError(f"{file}: {error.strerror or error}") from error
    if not file.is_file():
        raise FileFormatError(f"{file}: is not a file")
    if not size:
        raise FileFormatError(f"{file}: is empty")
    if size > MOST_BYTES:
        raise FileFormatError(f"{file}: {size} bytes, at most {MOST_BYTES} are read")
    return size


def by_ase(path: str | os.PathLike[str], format: str) -> list[Atoms]:
    """All structures of a file.

    Raises:
        FileFormatError: whatever ASE raises, with the file and format named.
    """
    import ase.io

    sized(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ase.io.read(Path(path), index=":", format=format)
    except Exception as error:  # parsers of ASE raise anything, from IndexError to AssertionError
        told = f"{type(error).__name__}: {error}".strip(": ")
        raise FileFormatError(f"{path}: cannot be read as {format}: {told}") from error
    frames = list(found) if isinstance(found, list) else [found]
    if not frames:
        raise FileFormatError(f"{path}: holds no structure")
    for atoms in frames:
        sound = np.isfinite(atoms.positions).all() and np.isfinite(np.asarray(atoms.cell)).all()
        if not len(atoms) or not sound:
            raise FileFormatError(f"{path}: a structure without atoms, or not finite")
    return frames


def read_cif(path: str | os.PathLike[str]) -> list[Atoms]:
    """The structures of a CIF file.

    Raises:
        FileFormatError: it cannot be read, or a site is shared or partly filled.
    """
    frames = by_ase(path, "cif")
    for atoms in frames:
        for site in (atoms.info.get("occupancy") or {}).values():
            if len(site) != 1 or not all(_full(filled) for filled in site.values()):
                raise FileFormatError(f"{path}: a site is filled by {site}; choose one structure")
        group = atoms.info.get("spacegroup")
        atoms.info.clear()
        atoms.arrays.pop("spacegroup_kinds", None)
        if group is not None:
            atoms.info["spacegroup"] = str(getattr(group, "symbol", group))
    return frames


def _full(filled: object) -> bool:
    return isinstance(filled, int | float) and abs(filled - 1) <= 1e-6
