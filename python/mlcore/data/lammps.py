"""LAMMPS text dumps and data files (https://docs.lammps.org/dump.html, read_data.html).

Numbers are parsed in bulk here, because ASE's dump reader takes milliseconds a frame, does not
know unwrapped coordinates beside image flags, and its data reader knows neither `sphere` nor
duplicate ids. The box of a dump is ASE's `construct_cell`.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlcore.data.source import TextSource
from mlcore.data.trajectory import Frame, Trajectory
from mlcore.errors import InvalidArgument
from mlcore.io.atomic import write_bytes

__all__ = ["ATOM_STYLES", "data_frame", "dump_frames", "encode", "write_dump"]

FloatArray = NDArray[np.float64]

XYZ = ("x", "y", "z")
UNWRAPPED = ("xu", "yu", "zu")
SCALED = ("xs", "ys", "zs")
SCALED_UNWRAPPED = ("xsu", "ysu", "zsu")
IMAGES = ("ix", "iy", "iz")
VELOCITIES = ("vx", "vy", "vz")
FORCES = ("fx", "fy", "fz")

ATOM_STYLES = {
    "angle": ("id", "mol", "type", *XYZ),
    "atomic": ("id", "type", *XYZ),
    "bond": ("id", "mol", "type", *XYZ),
    "charge": ("id", "type", "q", *XYZ),
    "full": ("id", "mol", "type", "q", *XYZ),
    "molecular": ("id", "mol", "type", *XYZ),
    "sphere": ("id", "type", "diameter", "density", *XYZ),
}
"""Columns of the Atoms section of a data file, by atom style."""


# ------------------------------------------------------------------------------------- dump files
def dump_frames(source: TextSource) -> Iterator[Frame]:
    """The frames of an open LAMMPS text dump."""
    units: str | None = None
    while (line := source.next_frame()) is not None:
        start = source.line_number
        time: float | None = None
        while (item := _item(source, line)) != "TIMESTEP":
            if item == "UNITS":
                units = source.line("the name of the units").strip()
            elif item == "TIME":
                time = float(source.floats([source.line("a time").strip()], "TIME", 1)[0])
            else:
                source.fail(f"expected 'ITEM: TIMESTEP', found {line[:60]!r}")
            line = source.line("'ITEM: TIMESTEP'")
        step = source.integer(source.line("a step"), "TIMESTEP")
        yield _dump_frame(source, step, time, units, start)


def _item(source: TextSource, line: str) -> str:
    if not line.startswith("ITEM:"):
        source.fail(
            f"expected a line 'ITEM: ...', found {line[:60]!r}; is the number of atoms right?"
        )
    return line[5:].strip()


def _expect(source: TextSource, item: str) -> list[str]:
    """The words behind an expected 'ITEM: ...' line."""
    line = source.line(f"'ITEM: {item}'")
    if not line.startswith(f"ITEM: {item}"):
        source.fail(f"expected 'ITEM: {item}', found {line[:60]!r}")
    return line[6 + len(item) :].split()


def _dump_frame(
    source: TextSource, step: int, time: float | None, units: str | None, start: int
) -> Frame:
    _expect(source, "NUMBER OF ATOMS")
    n = source.integer(source.line("the number of atoms"), "NUMBER OF ATOMS", least=1)
    cell, origin, pbc = _dump_box(source)
    names = _expect(source, "ATOMS")
    if len(set(names)) != len(names):
        source.fail(f"a column is announced twice: {' '.join(names)}")
    kind, wanted = _columns(source, names)
    table, words = source.columns(n, names, wanted, "element" if "element" in names else None)
    order = _order(source, table[:, 0])
    table = table[order]
    column = {name: k for k, name in enumerate(wanted)}

    def triple(which: Sequence[str]) -> FloatArray | None:
        if which[0] not in column:
            return None
        return np.ascontiguousarray(table[:, [column[w] for w in which]])

    positions = triple(kind)
    assert positions is not None
    if kind in (SCALED, SCALED_UNWRAPPED):
        positions = origin + positions @ cell
    images = triple(IMAGES)
    if images is not None:
        positions = positions + images @ cell
    return Frame(
        step=step,
        time=time,
        positions=positions,
        unwrapped=images is not None or kind in (UNWRAPPED, SCALED_UNWRAPPED),
        cell=cell,
        pbc=pbc,
        velocities=triple(VELOCITIES),
        forces=triple(FORCES),
        ids=table[:, 0].astype(np.int64),
        units=units,
        line=start,
        types=source.kinds(table[:, column["type"]], "column type") if "type" in column else None,
        symbols=np.array(words)[order] if words else None,
    )


def _columns(source: TextSource, names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The kind of coordinates, and all columns to read, id first."""
    if "id" not in names:
        source.fail(f"column id is missing; columns are {' '.join(names) or 'none'}")
    have = set(names)
    for kind in (UNWRAPPED, SCALED_UNWRAPPED, XYZ, SCALED):
        if have.issuperset(kind):
            break
        if have & set(kind):
            source.fail(f"column {min(set(kind) - have)} is missing beside {min(have & set(kind))}")
    else:
        source.fail(f"no coordinates (xu yu zu or x y z); columns are {' '.join(names)}")
    wanted = ["id", *kind, *(["type"] if "type" in have else [])]
    extra = [VELOCITIES, FORCES]
    if kind in (XYZ, SCALED):
        extra.append(IMAGES)
    for group in extra:
        found = have & set(group)
        if len(found) == 3:
            wanted += group
        elif found:
            source.fail(f"column {min(set(group) - have)} is missing beside {min(found)}")
    return kind, wanted


def _order(source: TextSource, ids: FloatArray) -> NDArray[np.intp]:
    """Row numbers in the order of the ids."""
    if (ids != np.round(ids)).any() or (ids < 1).any():
        source.fail("column id should hold positive integers")
    order = np.argsort(ids, kind="stable")
    repeated = np.flatnonzero(np.diff(ids[order]) == 0)
    if len(repeated):
        source.fail(f"atom id {int(ids[order][repeated[0]])} occurs twice in the frame")
    return order


def _dump_box(source: TextSource) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Cell, origin and periodicity; orthogonal, restricted or general triclinic."""
    words = _expect(source, "BOX BOUNDS")
    flags = [w for w in words if len(w) == 2 and set(w) <= set("pfsm")]
    if len(flags) not in (0, 3):
        source.fail(f"BOX BOUNDS should name 3 boundaries such as pp, found {' '.join(words)}")
    pbc = np.array([f == "pp" for f in flags] or [True] * 3)
    if words[:2] == ["abc", "origin"]:
        rows = np.array([_bounds(source, 4) for _ in range(3)])
        return _volume(source, rows[:, :3]), rows[:, 3].copy(), pbc
    tilted = words[:3] == ["xy", "xz", "yz"]
    rows = np.array([_bounds(source, 3 if tilted else 2) for _ in range(3)])
    from ase.io.lammpsrun import construct_cell

    tilt = rows[:, 2] if tilted else np.zeros(3)
    cell, origin = construct_cell(rows[:, :2].reshape(-1), tilt)
    return _volume(source, np.asarray(cell, float)), np.asarray(origin, float), pbc


def _bounds(source: TextSource, count: int) -> FloatArray:
    return source.floats(source.line("a box bound").split(), "BOX BOUNDS", count)


def _volume(source: TextSource, cell: FloatArray) -> FloatArray:
    if not np.linalg.det(cell) > 0:
        source.fail(f"the box should have a positive volume, its vectors are {cell.tolist()}")
    return cell


def write_dump(path: str | os.PathLike[str], trajectory: Trajectory, dt: float = 1.0) -> None:
    """Write a LAMMPS text dump; see `mlcore.data.write_trajectory`."""
    steps = np.round(trajectory.times / dt)
    if np.abs(steps * dt - trajectory.times).max() > 1e-6 * dt or (np.diff(steps) < 1).any():
        raise InvalidArgument(f"times should be different multiples of dt = {dt:g}")
    kinds = {"type": trajectory.types, "element": trajectory.symbols}
    columns = ["id", *(name for name, held in kinds.items() if held is not None), *UNWRAPPED]
    arrays = [trajectory.positions]
    for names, array in ((VELOCITIES, trajectory.velocities), (FORCES, trajectory.forces)):
        if array is not None:
            columns += names
            arrays.append(array)
    box = _box_text(trajectory)
    out = io.StringIO()
    if trajectory.units:
        out.write(f"ITEM: UNITS\n{trajectory.units}\n")
    assert trajectory.ids is not None
    ids = [str(i) for i in trajectory.ids]
    for held in kinds.values():
        if held is not None:
            ids = [f"{i} {t}" for i, t in zip(ids, held, strict=True)]
    for k, step in enumerate(steps.astype(np.int64)):
        out.write(f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(ids)}\n{box}")
        out.write(f"ITEM: ATOMS {' '.join(columns)}\n")
        rows = np.concatenate([a[k] for a in arrays], axis=1).tolist()
        for name, row in zip(ids, rows, strict=True):
            out.write(f"{name} {' '.join(map(repr, row))}\n")
    write_bytes(path, encode(path, out.getvalue()))


def encode(path: str | os.PathLike[str], text: str) -> bytes:
    """UTF-8, compressed when the name ends in .gz; the same bytes on every call."""
    data = text.encode()
    return gzip.compress(data, 9, mtime=0) if os.fspath(path).endswith(".gz") else data


def _box_text(trajectory: Trajectory) -> str:
    cell = trajectory.cell
    if cell is None:
        flat = trajectory.positions.reshape(-1, 3)
        low, high = flat.min(0) - 1.0, flat.max(0) + 1.0
        rows = "".join(f"{a!r} {b!r}\n" for a, b in zip(low.tolist(), high.tolist(), strict=True))
        return f"ITEM: BOX BOUNDS ff ff ff\n{rows}"
    assert trajectory.pbc is not None
    flags = " ".join("pp" if p else "ff" for p in trajectory.pbc)
    if np.count_nonzero(cell - np.diag(np.diagonal(cell))) == 0 and (np.diagonal(cell) > 0).all():
        rows = "".join(f"0.0 {length!r}\n" for length in np.diagonal(cell).tolist())
        return f"ITEM: BOX BOUNDS {flags}\n{rows}"
    rows = "".join(f"{' '.join(map(repr, v))} 0.0\n" for v in cell.tolist())
    return f"ITEM: BOX BOUNDS abc origin {flags}\n{rows}"


# ------------------------------------------------------------------------------------- data files
def data_frame(source: TextSource) -> Frame:
    """The one frame of an open LAMMPS data file."""
    source.line("the title of a LAMMPS data file")
    start = source.line_number
    header: dict[str, FloatArray] = {}
    atoms: tuple[FloatArray, FloatArray, bool] | None = None
    velocities: FloatArray | None = None
    n = 0
    while (line := source.next_frame()) is not None:
        text, _, comment = line.partition("#")
        words = text.split()
        if not words:
            continue
        if words == ["Atoms"]:
            atoms = _atoms_section(source, n, comment.strip())
        elif words == ["Velocities"]:
            velocities = _velocities_section(source, n)
        elif words[1:] == ["atoms"]:
            n = source.integer(words[0], "number of atoms", least=1)
        else:
            _box_field(source, words, header)
    if n == 0:
        source.fail("no line 'N atoms'", line=0)
    if atoms is None:
        source.fail("no section Atoms", line=0)
    (ids, types), positions, unwrapped = atoms[0].T, *atoms[1:]
    if velocities is not None and (velocities[:, 0] != ids).any():
        source.fail("section Velocities has other ids than section Atoms", line=0)
    cell = _data_cell(source, header)
    if unwrapped:
        positions = positions[:, :3] + positions[:, 3:] @ cell
    return Frame(
        step=None,
        time=None,
        positions=np.ascontiguousarray(positions),
        unwrapped=unwrapped,
        cell=cell,
        pbc=np.ones(3, dtype=bool),
        velocities=None if velocities is None else np.ascontiguousarray(velocities[:, 1:]),
        forces=None,
        ids=ids.astype(np.int64),
        units=None,
        line=start,
        types=source.kinds(types, "column type"),
    )


def _box_field(source: TextSource, words: list[str], header: dict[str, FloatArray]) -> None:
    known = (("xlo", "xhi"), ("ylo", "yhi"), ("zlo", "zhi"), ("xy", "xz", "yz"))
    general = (("avec",), ("bvec",), ("cvec",), ("abc", "origin"))
    for names in known + general:
        if tuple(words[-len(names) :]) == names:
            count = 3 if names in general else len(names)
            name = " ".join(names)
            header[name] = source.floats(words[: -len(names)], name, count)


def _data_cell(source: TextSource, header: dict[str, FloatArray]) -> FloatArray:
    if "avec" in header:
        names: tuple[str, ...] = ("avec", "bvec", "cvec")
    else:
        names = ("xlo xhi", "ylo yhi", "zlo zhi")
    missing = [name for name in names if name not in header]
    if missing:
        source.fail(f"the line '... {missing[0]}' of the box is missing", line=0)
    if "avec" in header:
        return _volume(source, np.array([header[name] for name in names]))
    cell = np.diag([float(np.diff(header[name])[0]) for name in names])
    xy, xz, yz = header.get("xy xz yz", np.zeros(3))
    cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
    return _volume(source, cell)


def _velocities_section(source: TextSource, n: int) -> FloatArray:
    """Ids and velocities, (n, 4); angular velocities of `sphere` are skipped."""
    if n == 0:
        source.fail("a section begins before the line 'N atoms'")
    source.line("an empty line")
    wanted = ("id", *VELOCITIES)
    spin = ("wx", "wy", "wz") if source.peek_columns() == 7 else ()
    table = source.table(n, (*wanted, *spin), wanted)
    return table[_order(source, table[:, 0])]


def _atoms_section(source: TextSource, n: int, style: str) -> tuple[FloatArray, FloatArray, bool]:
    """Ids and types (n, 2), positions (with 3 columns of image flags if there are any) and whether
    there are."""
    if style not in ATOM_STYLES:
        known = ", ".join(ATOM_STYLES)
        source.fail(f"'Atoms # STYLE' should name one of {known}; found {style or 'no style'!r}")
    if n == 0:
        source.fail("a section begins before the line 'N atoms'")
    names = ATOM_STYLES[style]
    source.line("an empty line")
    width = source.peek_columns()
    unwrapped = width == len(names) + 3
    if unwrapped:
        names = (*names, *IMAGES)
    wanted = ["id", "type", *XYZ, *(IMAGES if unwrapped else ())]
    table = source.table(n, names, wanted)
    table = table[_order(source, table[:, 0])]
    return table[:, :2], table[:, 2:], unwrapped
