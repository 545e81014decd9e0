"""VASP (https://vasp.at), licensed by its makers: neither it nor its POTCAR files come with mlcore."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.codes.code import Code
from mlcore.forcefield.codes.templates import render
from mlcore.forcefield.structures.labels import labelled, labels
from mlcore.forcefield.structures.vasp_files import read_outcar, read_vasprun
from mlcore.io.atomic import write_bytes, write_text

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["STATIC", "Vasp"]

STATIC: dict[str, Any] = {
    "PREC": "Accurate",
    "ALGO": "Normal",
    "EDIFF": 1e-6,
    "NELM": 100,
    "ISMEAR": 0,
    "SIGMA": 0.05,
    "IBRION": -1,
    "NSW": 0,
    "ISIF": 2,
    "LREAL": False,
    "LWAVE": False,
    "LCHARG": False,
}
"""INCAR of one energy, with forces and stress; ENCUT is the user's."""

_KEY = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
_MOST_POTCAR = 256 << 20


@dataclass(frozen=True)
class Vasp(Code):
    """One single point by VASP.

    Attributes:
        command: such as ("mpirun", "-n", "16", "vasp_std").
        potcars: path of the POTCAR file of each element.
        settings: of INCAR, on top of `STATIC`; None takes one away.
        kspacing: distance of k-points, 1/Angstrom with the factor 2 pi; Gamma-centred meshes.
        kpoints: numbers of k-points instead, three.
        force_consistent: take the free energy, which the forces belong to, instead of that
            extrapolated to zero smearing.
        templates: folder of templates that go before those of mlcore.
        timeout: s, for one structure.
    """

    command: Sequence[str]
    potcars: Mapping[str, str | os.PathLike[str]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    kspacing: float = 0.25
    kpoints: tuple[int, int, int] | None = None
    force_consistent: bool = False
    templates: str | os.PathLike[str] | None = None
    timeout: float = 86400.0
    name: str = "vasp"
    tails: tuple[str, ...] = ("OUTCAR",)

    @property
    def words(self) -> Sequence[str]:
        """See `Code`."""
        return self.command

    def record(self) -> dict[str, Any]:
        """See `Code`; of POTCAR files their first lines, which name them."""
        return {
            "settings": {k: _value(v) for k, v in sorted(self._incar().items())},
            "kspacing": self.kspacing,
            "kpoints": None if self.kpoints is None else list(self.kpoints),
            "potcars": {e: _title(self._potcar(e)) for e in sorted(self.potcars)},
            "force_consistent": self.force_consistent,
            "templates": None if self.templates is None else os.fspath(self.templates),
        }

    def write(self, atoms: Atoms, folder: Path) -> None:
        """INCAR, KPOINTS, POSCAR, POTCAR; outputs of an earlier run are removed.

        Raises:
            InvalidArgument: no cell, an element without a POTCAR, or a wrong setting.
        """
        cell = np.asarray(atoms.cell)
        if not abs(np.linalg.det(cell)) > 0:
            raise InvalidArgument("atoms: VASP needs a cell with a volume")
        for name in ("vasprun.xml", "OUTCAR"):
            (folder / name).unlink(missing_ok=True)
        order, kinds = _sorted(atoms)
        title = atoms.get_chemical_formula()
        mesh = self.kpoints or _mesh(cell, np.asarray(atoms.pbc), self.kspacing)
        values: dict[str, dict[str, Any]] = {
            "INCAR": {"title": title, "settings": {k: _value(v) for k, v in self._incar().items()}},
            "KPOINTS": {"title": title, "mesh": [int(n) for n in mesh]},
            "POSCAR": {
                "title": title,
                "cell": cell.tolist(),
                "species": [{"symbol": s, "count": n} for s, n in kinds],
                "scaled": np.linalg.solve(cell.T, atoms.positions[order].T).T.tolist(),
            },
        }
        for name, given in values.items():
            write_text(folder / name, render(f"vasp/{name}.j2", given, self.templates))
        write_bytes(folder / "POTCAR", b"".join(self._potcar(s) for s, _ in kinds))

    def read(self, atoms: Atoms, folder: Path) -> Atoms:
        """See `Code`."""
        if (folder / "vasprun.xml").is_file():
            found = read_vasprun(folder / "vasprun.xml")[-1]
        elif (folder / "OUTCAR").is_file():
            found = read_outcar(folder / "OUTCAR")[-1]
        else:
            raise FileFormatError("it left neither vasprun.xml nor OUTCAR")
        if found.info.get("converged") is False:
            raise self.failed(folder, f"the electrons did not converge in {self._limit()} steps")
        known = labels(found)
        if known.energy is None or known.forces is None:
            raise FileFormatError("its output has no energy or no forces")
        order, _ = _sorted(atoms)
        if list(found.symbols) != [atoms.symbols[k] for k in order]:
            raise FileFormatError("the elements of its output are others than those of POSCAR")
        back = np.argsort(order)
        energy = float(found.info["free_energy"]) if self.force_consistent else known.energy
        stress = known.stress if atoms.pbc.all() else None
        done = atoms.copy()
        done.set_cell(found.cell)
        done.positions = found.positions[back]
        done = labelled(done, energy, known.forces[back], stress)
        done.info["code"] = self.name
        done.info["free_energy"] = found.info["free_energy"]
        return done

    def _incar(self) -> dict[str, Any]:
        merged = {**STATIC, **self.settings}
        wrong = [k for k in merged if not isinstance(k, str) or not _KEY.fullmatch(k)]
        if wrong:
            raise InvalidArgument(f"settings: {wrong[0]!r} is no name of INCAR (capitals)")
        return {k: v for k, v in merged.items() if v is not None}

    def _limit(self) -> Any:
        return self._incar().get("NELM", 60)

    def _potcar(self, element: str) -> bytes:
        from mlcore.io.tensors import read_bytes

        if element not in self.potcars:
            raise InvalidArgument(f"potcars: no POTCAR file of {element}")
        data = read_bytes(Path(self.potcars[element]), _MOST_POTCAR, "POTCAR")
        told = re.search(rb"VRHFIN\s*=\s*([A-Z][a-z]?)", data[:65536])
        if told is not None and told[1].decode() != element:
            raise InvalidArgument(
                f"potcars: {os.fspath(self.potcars[element])} is of {told[1].decode()}, not {element}"
            )
        return data if data.endswith(b"\n") else data + b"\n"


def _title(potcar: bytes) -> str:
    return potcar.split(b"\n", 1)[0].decode("ascii", "replace").strip()[:80]


def _sorted(atoms: Atoms) -> tuple[np.ndarray[Any, Any], list[tuple[str, int]]]:
    """Order of atoms by element, elements as they first occur; and their numbers."""
    symbols = list(atoms.symbols)
    kinds = list(dict.fromkeys(symbols))
    order = np.argsort([kinds.index(s) for s in symbols], kind="stable")
    return order, [(k, symbols.count(k)) for k in kinds]


def _mesh(cell: np.ndarray[Any, Any], pbc: np.ndarray[Any, Any], spacing: float) -> list[int]:
    if not spacing > 0:
        raise InvalidArgument(f"kspacing must be positive, not {spacing}")
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(cell).T, axis=1)
    return [
        max(1, int(np.ceil(b / spacing))) if p else 1 for b, p in zip(lengths, pbc, strict=True)
    ]


def _value(value: Any) -> str:
    """A value as INCAR has it."""
    if isinstance(value, bool | np.bool_):
        return ".TRUE." if value else ".FALSE."
    if isinstance(value, list | tuple):
        return " ".join(_value(v) for v in value)
    if isinstance(value, int | float | np.integer | np.floating):
        return repr(value.item() if isinstance(value, np.generic) else value)
    text = str(value)
    if not text or not text.isprintable() or any(c in text for c in ";#!"):
        raise InvalidArgument(f"settings: {text!r:.60} cannot stand in INCAR")
    return text
