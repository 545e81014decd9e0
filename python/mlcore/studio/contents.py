"""What the files of an upload are, and what can be read of them. Nothing is unpickled or unpacked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.io.tensors import parse_json
from mlcore.studio.carbon import is_carbon

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.structures import Dataset, Group

__all__ = [
    "KINDS",
    "Known",
    "dataset",
    "grids",
    "is_trajectory",
    "motion",
    "named",
    "others",
    "recognised",
]

KINDS = ("structures", "trajectory", "runs", "grid", "targets", "config")
_HEAD = 8192  # bytes of a file by which it is recognised
_READ = (
    "extxyz, POSCAR, CONTCAR, OUTCAR, vasprun.xml, data and dump files of LAMMPS, CIF, databases of "
    "ASE, CSV tables of target values, .npy grids, HDF5 runs of mlcore, and TOML, YAML or JSON configs"
)
_COLUMNS = ("forces", "velocities")
_PACKED = ("extxyz", "lammps-dump")  # formats that are read through gzip
_REFUSED = (
    (b"PK\x03\x04", "is an archive; upload the files that are in it"),
    (b"BZh", "is compressed; unpack it first"),
    (b"\xfd7zXZ", "is compressed; unpack it first"),
    (b"- of Ulm", "is a trajectory of ASE; save it as extxyz (ase convert in.traj out.extxyz)"),
)
_PROGRAMS = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".traj", ".npz", ".py")


@dataclass(frozen=True)
class Known:
    """A file that is recognised.

    Attributes:
        path: of the file.
        kind: one of `KINDS`; files of structures may turn out to be a trajectory.
        format: how it is read.
    """

    path: Path
    kind: str
    format: str


def recognised(path: Path) -> Known:
    """What a file is, by its name and how it begins.

    Raises:
        FileFormatError: it is nothing that is read here.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    name = path.name.lower()
    if not head:
        raise FileFormatError(f"{path}: is empty")
    for magic, why in _REFUSED:
        if head.startswith(magic):
            raise FileFormatError(f"{path}: {why}")
    if (head[0] == 0x80 and head[1:2] in b"\2\3\4\5") or name.endswith(_PROGRAMS):
        raise FileFormatError(
            f"{path}: files of this kind can hold programs and are not read; save structures as "
            "extxyz, arrays as .npy"
        )
    found = _by_magic(path, head) or _by_ending(path, head) or _of_structures(path, head)
    if found is None:
        raise FileFormatError(f"{path}: is nothing that is read here: {_READ}")
    return found


def _by_magic(path: Path, head: bytes) -> Known | None:
    if head.startswith(b"SQLite format 3\0"):
        return Known(path, "structures", "ase-db")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return Known(path, "runs", "carbon" if is_carbon(path) else "hdf5")
    if head.startswith(b"\x93NUMPY"):
        return Known(path, "grid", "npy")
    return None


def _by_ending(path: Path, head: bytes) -> Known | None:
    ending = path.suffix.lower()
    wanted = {".db": "SQLite", ".npy": "NumPy's .npy", ".h5": "HDF5", ".hdf5": "HDF5"}
    if ending in wanted:
        raise FileFormatError(f"{path}: its name says {wanted[ending]}, but it is none")
    if ending in (".csv", ".tsv"):
        return Known(path, "targets", "csv")
    if ending == ".json" and re.search(rb'"(numbers|ids|nextid)"\s*:', head):
        return Known(path, "structures", "ase-json")
    if ending in (".toml", ".yaml", ".yml", ".json"):
        return Known(path, "config", ending[1:])
    return None


def _of_structures(path: Path, head: bytes) -> Known | None:
    from mlcore.forcefield.structures.importers import format_of

    try:
        form: str | None = format_of(path)
    except InvalidArgument:
        form = _by_content(head.decode("utf-8", "replace"))
    if form is None or form == "traj":
        return None
    if head.startswith(b"\x1f\x8b") and form not in _PACKED:
        raise FileFormatError(f"{path}: is compressed; unpack it first")
    return Known(path, "structures", form)


def _by_content(head: str) -> str | None:
    lines = [line.strip() for line in head.splitlines()] + [""] * 6
    if lines[0].startswith("ITEM: "):
        return "lammps-dump"
    if "<modeling>" in head:
        return "vasprun"
    if lines[0].startswith("vasp."):
        return "outcar"
    if any(line.lower().startswith("data_") for line in lines):
        return "cif"
    if re.fullmatch(r"[1-9]\d*", lines[0]):
        return "extxyz"
    if re.search(r"\bxlo\s+xhi\b", head):
        return "lammps-data"
    numbers = [_count(line) for line in lines[1:5]]
    return "poscar" if numbers == [1, 3, 3, 3] else None


def _count(line: str) -> int:
    """Numbers in a line; 0 where it has anything else."""
    words = line.split()
    return len(words) if all(re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", w) for w in words) else 0


@contextmanager
def named(file: Known) -> Iterator[None]:
    """What a reader did not think of is told with the name of the file."""
    try:
        yield
    except (Error, MemoryError, OSError):
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise FileFormatError(f"{file.path}: cannot be read as {file.format}: {told}") from error


# -- structures ------------------------------------------------------------------------------------
def dataset(files: Sequence[Known], options: Mapping[str, Any], title: str) -> Dataset:
    """All structures of some files: a group for each, named like it.

    Args:
        files: of structures.
        options: `key_map`, `units`, `elements`, `every` as of `read_group`; `group`: one for all.
        title: name of the data set.
    """
    from mlcore.forcefield.structures import Dataset, Group

    parts: list[tuple[str, Group]] = []
    for file in files:
        with named(file):
            parts += _groups(file, options)
    single = [name for name, group in parts if len(group.structures) == 1]
    found: dict[str, Group] = {}
    for name, group in parts:
        wanted = options.get("group") or name
        if not options.get("group") and len(single) > 1 and len(group.structures) == 1:
            wanted = "structures"  # files of one structure each make no groups worth a weight
        wanted = _group_name(wanted)
        before = found.get(wanted, Group(()))
        both = before.provenance.joined(group.provenance)
        found[wanted] = Group((*before.structures, *group.structures), both)
    return Dataset(found, name=title[:200])


def _group_name(name: str) -> str:
    made = re.sub(r"[^A-Za-z0-9 ._+-]", "_", name).lstrip(" ._+-")[:100]
    return made or "all"


def _groups(file: Known, options: Mapping[str, Any]) -> list[tuple[str, Group]]:
    from mlcore.forcefield.structures import read_ase_db, read_group

    if file.format in ("ase-db", "ase-json"):
        return list(read_ase_db(file.path).groups.items())
    given = {k: options[k] for k in ("key_map", "units", "every") if options.get(k)}
    if options.get("elements") and file.format.startswith("lammps"):
        given["elements"] = options["elements"]
    name = file.path.name.partition(".")[0]
    try:
        return [(name, read_group(file.path, file.format, **given))]
    except FileFormatError as error:
        plain = _without_elements(file) if "elements" in str(error) else None
        if plain is None:
            raise
        return [(name, plain)]


def _without_elements(file: Known) -> Group | None:
    """Frames of a dump that tells types alone, as those of beads."""
    if file.format != "lammps-dump":
        return None
    from mlcore.data import read_trajectory
    from mlcore.forcefield.structures import Group, Provenance

    read = read_trajectory(file.path, format="lammps-dump")
    types = np.ones(read.particles, dtype=np.int64) if read.types is None else read.types
    frames = tuple(
        _beads(positions, read.cell, read.pbc, [str(t) for t in types])
        for positions in read.positions
    )
    told = Provenance(source=file.path.name, notes=("elements are not told: types as beads",))
    return Group(frames, told)


def _beads(positions: Any, cell: Any, pbc: Any, names: list[str]) -> Atoms:
    from ase import Atoms

    made = Atoms(numbers=[0] * len(names), positions=positions, cell=cell, pbc=pbc)
    made.set_array("species", np.array([f"type{name}" for name in names]))
    return made


def is_trajectory(found: Dataset) -> bool:
    """Whether all groups are of several frames of the same atoms in the same cell, none with an
    energy."""
    from mlcore.forcefield.structures import labels

    frames = found.structures
    if not frames or any(len(group.structures) < 2 for group in found.groups.values()):
        return False
    first = frames[0]
    return all(
        np.array_equal(atoms.numbers, first.numbers)
        and np.array_equal(atoms.cell, first.cell)
        and labels(atoms).energy is None
        for atoms in frames
    )


def motion(files: Sequence[Known]) -> dict[str, Any] | None:
    """What a learning from trajectories is set up by; None where no file tells of time.

    `interval` between frames, by their steps or times, forces and velocities where every frame has
    them, and `files`, each with its `frames`.
    """
    from mlcore.data import iter_frames

    formats = {"extxyz", "lammps-dump"}
    if any(file.format not in formats for file in files):
        return None
    first = list(islice(iter_frames(files[0].path, files[0].format), 3))
    times = [f.step if f.time is None else f.time for f in first]
    known = [b - a for a, b in pairwise(times) if a is not None and b is not None and b > a]
    told = {name: all(getattr(f, name) is not None for f in first) for name in _COLUMNS}
    return told | {"interval": float(known[-1]) if known else None, "units": first[0].units}


# -- everything else -------------------------------------------------------------------------------
def others(file: Known) -> dict[str, Any]:
    """What pages tell of a file that holds no structures.

    Raises:
        FileFormatError: it is wrong, by file and place.
    """
    readers: dict[str, Callable[[Path], dict[str, Any]]]
    readers = {"targets": _targets, "runs": _runs, "config": _config}
    return readers[file.kind](file.path)


def grids(files: Sequence[Known]) -> dict[str, Any]:
    """What pages tell of grids; shape and frames are those of the first.

    Raises:
        FileFormatError: a file is wrong, or is of other dimensions than the first.
    """
    told = []
    for file in sorted(files, key=lambda one: one.path.name):
        with named(file):
            told.append(_grid(file.path))
        if len(told[-1]["shape"]) != len(told[0]["shape"]):
            shapes = f"{told[-1]['shape']}, not {told[0]['shape']} as that of the first"
            raise FileFormatError(f"{file.path}: grids of a data set are alike; it is {shapes}")
    ends = {"least": min(one["least"] for one in told), "most": max(one["most"] for one in told)}
    return told[0] | ends | {"grids": len(told)}


def _targets(path: Path) -> dict[str, Any]:
    from mlcore.forcefield.structures import read_targets

    rows = read_targets(path)
    columns = [name for name in type(rows[0]).model_fields if any(_told(r, name) for r in rows)]
    table = [[getattr(row, name) for name in columns] for row in rows[:500]]
    properties = sorted({row.property for row in rows})[:100]
    return {"rows": len(rows), "properties": properties, "columns": columns, "table": table}


def _told(row: Any, name: str) -> bool:
    return name in row.model_fields_set


def _grid(path: Path) -> dict[str, Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError) as error:
        raise FileFormatError(f"{path}: is no .npy file of numbers: {error}") from error
    if array.dtype.kind not in "biuf" or not 2 <= array.ndim <= 5 or 0 in array.shape:
        told = "a .npy grid holds numbers of the shape (X, Y), (X, Y, Z) or (T, X, Y, Z)"
        raise FileFormatError(f"{path}: {told}, not {array.dtype} of {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FileFormatError(f"{path}: a value is not finite")
    frames = int(array.shape[0]) if array.ndim > 3 else 1
    least, most = float(array.min()), float(array.max())
    shape = list(array.shape)
    return {"shape": shape, "dtype": str(array.dtype), "least": least, "most": most} | {
        "frames": frames
    }


def _runs(path: Path) -> dict[str, Any]:
    from mlcore.md import Dataset as Runs

    found = Runs.load(path)
    runs, frames, particles, dim = found.positions.shape
    facts = {"runs": runs, "frames": frames, "particles": particles, "dimensions": dim}
    return facts | {"system": found.system[:200], "interval": found.interval}


def _config(path: Path) -> dict[str, Any]:
    tree = {".toml": _toml, ".json": _json}.get(path.suffix.lower(), _yaml)(path)
    if not isinstance(tree, dict):
        raise FileFormatError(f"{path}: a config is a table of fields, not {type(tree).__name__}")
    text = json.dumps({str(k): v for k, v in tree.items()}, default=str, indent=1)
    return {"format": str(tree.get("format", ""))[:100], "text": text[:20_000]}


def _toml(path: Path) -> Any:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: is no TOML: {error}") from error


def _json(path: Path) -> Any:
    return parse_json(path.read_bytes(), str(path))


def _yaml(path: Path) -> Any:
    from mlcore.forcefield.config.files import read_tree

    return read_tree(path)
