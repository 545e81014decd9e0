"""Structures and labels out of files of many formats, with a record of where they came from."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.structures.ase_files import by_ase, read_cif
from mlcore.forcefield.structures.dataset import Group
from mlcore.forcefield.structures.extxyz import frame_text, read_frames
from mlcore.forcefield.structures.labels import labels, take_labels
from mlcore.forcefield.structures.lammps_files import read_data, read_dump, write_data
from mlcore.forcefield.structures.manifest import NOWHERE, Provenance
from mlcore.forcefield.structures.units import LAMMPS, converted
from mlcore.forcefield.structures.vasp_files import read_outcar, read_poscar, read_vasprun
from mlcore.io.atomic import atomic_path, write_text

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["FORMATS", "Format", "format_of", "read_group", "write_structures"]

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        name: as in `read_group(format=)`.
        patterns: what names of such files look like, in small letters.
        read: path and options -> structures, labelled or with labels in info and arrays.
        options: of `read_group`, which `read` understands.
        text: what it is.
    """

    name: str
    patterns: tuple[str, ...]
    read: Callable[..., list[Atoms]]
    text: str
    options: tuple[str, ...] = ()


def _extxyz(path: PathLike) -> list[Atoms]:
    return list(read_frames(path))


def _traj(path: PathLike) -> list[Atoms]:
    return by_ase(path, "traj")


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("extxyz", ("*.xyz", "*.extxyz", "*.xyz.gz", "*.extxyz.gz"), _extxyz, "extended XYZ"),
        Format("vasprun", ("vasprun*.xml", "*.vasprun.xml"), read_vasprun, "vasprun.xml of VASP"),
        Format("outcar", ("outcar*", "*.outcar"), read_outcar, "OUTCAR of VASP"),
        Format(
            "poscar",
            ("poscar*", "contcar*", "*.poscar", "*.vasp"),
            read_poscar,
            "POSCAR or CONTCAR of VASP",
        ),
        Format(
            "lammps-data",
            ("*.data", "*.lmp", "data.*"),
            read_data,
            "data file of LAMMPS",
            ("elements",),
        ),
        Format(
            "lammps-dump",
            ("*.dump", "*.lammpstrj", "*.dump.gz", "*.lammpstrj.gz", "dump.*"),
            read_dump,
            "text dump of LAMMPS",
            ("elements", "log"),
        ),
        Format("cif", ("*.cif",), read_cif, "crystallographic information file"),
        Format("traj", ("*.traj",), _traj, "trajectory of ASE"),
    )
}


def format_of(path: PathLike) -> str:
    """Format of a file by its name.

    Raises:
        InvalidArgument: none fits.
    """
    name = Path(path).name.lower()
    for key, form in FORMATS.items():
        if any(fnmatch.fnmatch(name, p) for p in form.patterns):
            return key
    raise InvalidArgument(
        f"format: cannot be told from the name {name!r}; it is one of {', '.join(FORMATS)}"
    )


def read_group(
    path: PathLike,
    format: str | None = None,
    *,
    key_map: Mapping[str, str] | None = None,
    units: str | Mapping[str, str] | None = None,
    elements: Sequence[str] | None = None,
    log: PathLike | None = None,
    every: int = 1,
    force_consistent: bool = False,
    unconverged: str = "drop",
    provenance: Provenance = NOWHERE,
) -> Group:
    """The structures of a file as a group, in eV and Angstrom.

    Args:
        path: the file.
        format: one of `FORMATS`; left out, told by the name.
        key_map: where labels are, such as {"energy": "REF_energy"}; then no other names are looked
            at.
        units: of the file: by quantity (see `units.UNITS`), or "metal" or "real" of LAMMPS. Formats
            of VASP are converted by ASE.
        elements: of the types of LAMMPS.
        log: log of LAMMPS that belongs to a dump.
        every: each n-th structure.
        force_consistent: of VASP, take the free energy, which the forces belong to, instead of that
            at zero smearing.
        unconverged: steps of VASP whose electrons did not converge: "drop", "keep" or "error".
        provenance: what is known beside what the file tells (source, key map, units, notes and hash
            are added).

    Raises:
        FileFormatError: the file is wrong, or nothing of it is left.
        InvalidArgument: a wrong argument.
    """
    name = format or format_of(path)
    if name not in FORMATS:
        raise InvalidArgument(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    if every < 1:
        raise InvalidArgument(f"every must be at least 1, not {every}")
    if unconverged not in ("drop", "keep", "error"):
        raise InvalidArgument(f"unconverged must be drop, keep or error, not {unconverged!r}")
    form = FORMATS[name]
    given: dict[str, Any] = {"elements": elements, "log": log}
    for option, value in given.items():
        if value is not None and option not in form.options:
            raise InvalidArgument(f"{option}: means nothing for {form.text}")
    options = {o: given[o] for o in form.options if given[o] is not None}
    frames = form.read(path, **options)[::every]
    told = _units(units, name)
    notes: list[str] = []
    frames = _kept(path, frames, unconverged, notes)
    if force_consistent:
        frames = [_free(path, atoms) for atoms in frames]
        notes.append("energy: the free energy")
    structures = []
    for k, atoms in enumerate(frames):
        try:
            found, done = take_labels(atoms, key_map)
        except InvalidArgument as error:
            if key_map is not None and str(error).startswith("key_map"):
                raise InvalidArgument(f"{path}, structure {k}: {error}") from error
            raise FileFormatError(f"{path}, structure {k}: {error}") from error
        structures.append(converted(found, told))
        notes += [note for note in done if note not in notes]
    return Group(tuple(structures), _record(path, provenance, key_map, told, notes))


def _units(units: str | Mapping[str, str] | None, format: str) -> dict[str, str]:
    if units is None:
        units = "metal" if format.startswith("lammps") else {}
    if isinstance(units, str):
        if units not in LAMMPS:
            raise InvalidArgument(f"units must be {', '.join(LAMMPS)} or a table, not {units!r}")
        return LAMMPS[units]
    return dict(units)


def _kept(path: PathLike, frames: list[Atoms], what: str, notes: list[str]) -> list[Atoms]:
    bad = [k for k, atoms in enumerate(frames) if atoms.info.get("converged") is False]
    if not bad or what == "keep":
        return frames
    steps = ", ".join(map(str, bad[:10]))
    if what == "error" or len(bad) == len(frames):
        raise FileFormatError(f"{path}: electrons did not converge in step {steps}")
    notes.append(f"{len(bad)} of {len(frames)} steps left out: electrons did not converge")
    return [atoms for atoms in frames if atoms.info.get("converged") is not False]


def _free(path: PathLike, atoms: Atoms) -> Atoms:
    from mlcore.forcefield.structures.labels import labelled

    if "free_energy" not in atoms.info:
        raise FileFormatError(f"{path}: tells no free energy")
    known = labels(atoms)
    return labelled(atoms, float(atoms.info["free_energy"]), known.forces, known.stress)


def _record(
    path: PathLike,
    provenance: Provenance,
    key_map: Mapping[str, str] | None,
    units: Mapping[str, str],
    notes: Sequence[str],
) -> Provenance:
    file = Path(path)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    update = {
        "source": provenance.source or file.name,
        "key_map": {**provenance.key_map, **(key_map or {})},
        "units": {**provenance.units, **units},
        "notes": (*provenance.notes, *notes),
        "sha256": {**provenance.sha256, file.name: digest},
    }
    return provenance.model_copy(update=update)


def write_structures(
    path: PathLike, structures: Sequence[Atoms], format: str | None = None
) -> list[str]:
    """Writes structures; returns what the format cannot hold, in words.

    Args:
        path: the file, written whole or not at all.
        structures: labelled or not.
        format: extxyz (everything), poscar, cif, lammps-data (one structure without labels).
    """
    name = format or format_of(path)
    if name == "extxyz":
        texts = [frame_text(atoms) for atoms in structures]
        write_text(path, "".join(text for text, _ in texts))
        return [
            f"structure {k}: {w} left behind" for k, (_, lost) in enumerate(texts) for w in lost
        ]
    if name not in ("poscar", "cif", "lammps-data"):
        raise InvalidArgument(
            f"format: {name!r} is not written; extxyz, poscar, cif, lammps-data are"
        )
    if len(structures) != 1:
        raise InvalidArgument(f"structures: a file of {name} holds one, not {len(structures)}")
    if name == "lammps-data":
        write_data(path, structures[0])
    else:
        import ase.io

        with atomic_path(path) as temporary:
            ase.io.write(temporary, structures[0], format="vasp" if name == "poscar" else "cif")
    return [f"{label} left behind" for label in labels(structures[0]).known()]
