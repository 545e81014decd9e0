"""POSCAR, OUTCAR and vasprun.xml, read by ASE after a look at what they are.

Energies are those ASE tells, extrapolated to zero smearing; the free energy, which the forces belong
to, stands in `info["free_energy"]`. Steps whose electrons did not converge are told by
`info["converged"]`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from mlcore.errors import FileFormatError
from mlcore.forcefield.structures.ase_files import by_ase, sized
from mlcore.forcefield.structures.labels import labelled

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["plain_xml", "read_outcar", "read_poscar", "read_vasprun"]

PathLike = str | os.PathLike[str]


def read_poscar(path: PathLike) -> list[Atoms]:
    """The structure of a POSCAR or CONTCAR file, without labels."""
    sized(path)
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    head = text.split("\n", 7)[:7]
    _few(path, [line.split("!")[0].split() for line in head[5:7]], text)
    return by_ase(path, "vasp")


def _few(path: PathLike, rows: list[list[str]], text: str) -> None:
    """ASE makes as many atoms as a file announces; there cannot be more than it has lines."""
    announced = sum(int(w) for row in rows for w in row if re.fullmatch(r"\d{1,18}", w))
    if announced > text.count("\n") + 1:
        raise FileFormatError(f"{path}: announces {announced} atoms, which it has not; is it cut?")


def read_vasprun(path: PathLike) -> list[Atoms]:
    """All steps of a vasprun.xml.

    Raises:
        FileFormatError: absent, not XML, with a DOCTYPE, cut, or not of VASP.
    """
    plain_xml(path)
    frames = by_ase(path, "vasp-xml")
    counts, limit = _electronic_steps(path)
    if len(counts) < len(frames):
        raise FileFormatError(f"{path}: {len(frames)} steps, of which {len(counts)} are whole")
    done = [_labelled(atoms) for atoms in frames]
    for atoms, count in zip(done, counts, strict=False):
        atoms.info["converged"] = limit is None or count < limit
    return done


def _labelled(atoms: Any) -> Atoms:
    results = dict(getattr(atoms.calc, "results", {}))
    found = labelled(atoms, *(results.get(n) for n in ("energy", "forces", "stress")))
    found.info.clear()
    if results.get("free_energy") is not None:
        found.info["free_energy"] = float(results["free_energy"])
    return found


def plain_xml(path: PathLike) -> None:
    """Looks at the head of an XML file; declarations of types and entities are refused.

    Raises:
        FileFormatError: it cannot be read, is not XML, or has a DOCTYPE.
    """

    class Begun(Exception):
        pass

    def doctype(*told: Any) -> None:
        raise FileFormatError(f"{path}: has a DOCTYPE, which no output of VASP has; not read")

    def begin(*told: Any) -> None:
        raise Begun

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = doctype
    parser.StartElementHandler = begin
    sized(path)
    with Path(path).open("rb") as stream:
        try:
            parser.ParseFile(stream)
        except Begun:
            return
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise FileFormatError(f"{path}: not XML: {error}") from error
    raise FileFormatError(f"{path}: not XML: no element")


def _electronic_steps(path: PathLike) -> tuple[list[int], int | None]:
    """Electronic steps of each ionic step, and NELM."""
    import xml.etree.ElementTree as ET

    counts: list[int] = []
    limit: int | None = None
    now = 0
    try:
        for _, element in ET.iterparse(Path(path)):
            if element.tag == "scstep":
                now += 1
            elif element.tag == "calculation":
                counts.append(now)
                now = 0
            elif element.tag == "i" and element.attrib.get("name") == "NELM":
                limit = int(float(element.text or "0")) or None
    except (ET.ParseError, ValueError):
        pass  # what is cut was told by ASE already
    return counts, limit


def read_outcar(path: PathLike) -> list[Atoms]:
    """All steps of an OUTCAR.

    Raises:
        FileFormatError: absent, cut, or not of VASP.
    """
    sized(path)
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    _few(path, [row.split() for row in re.findall(r"ions per type =([ \d]*)", text)[:1]], text)
    frames = by_ase(path, "vasp-out")
    ends = re.findall(r"aborting loop (because|EDIFF was not)", text)
    done = [_labelled(atoms) for atoms in frames]
    for atoms, end in zip(done, ends, strict=False):
        atoms.info["converged"] = end == "because"
    return done
