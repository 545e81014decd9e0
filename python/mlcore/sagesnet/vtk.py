"""Files that ParaView, VisIt and PyVista read: grids as VTI, atoms as VTP, series of them as PVD.

VTK's XML formats, appended nothing: arrays stand in the file, base64 with a header of 64 bits.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
import numpy.typing as npt
from ase import Atoms
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.io.atomic import write_text

__all__ = ["write_pvd", "write_vti", "write_vtp"]

PathLike = str | os.PathLike[str]
Values = Tensor | npt.ArrayLike
_TYPES = {
    "<f8": "Float64",
    "<f4": "Float32",
    "<i8": "Int64",
    "<i4": "Int32",
    "|i1": "Int8",
    "|u1": "UInt8",
}


def write_vti(
    path: PathLike,
    cells: Mapping[str, Values],
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    directions: npt.ArrayLike | None = None,
) -> None:
    """A grid, its values on cells.

    Args:
        path: file, ending in .vti.
        cells: by name, (X, Y, Z) numbers or (X, Y, Z, N) vectors, all of one box.
        spacing: edges of a cell.
        origin: corner of the box.
        directions: (3, 3) unit vectors of the axes as rows, for boxes that are turned; ParaView
            shows right angles only.

    Raises:
        InvalidArgument: no arrays, not of one box, or of a type that VTK does not have.
    """
    arrays = {name: _array(name, values) for name, values in cells.items()}
    boxes = {array.shape[:3] for array in arrays.values()}
    if len(boxes) != 1 or any(array.ndim not in (3, 4) for array in arrays.values()):
        raise InvalidArgument(f"cells must be (X, Y, Z) or (X, Y, Z, N) of one box, got {boxes}")
    extent = " ".join(f"0 {n}" for n in boxes.pop())
    told = "" if directions is None else _directions(directions)
    # VTK runs x fastest
    turned = {
        name: array.transpose(2, 1, 0, *range(3, array.ndim)).reshape(-1, *array.shape[3:])
        for name, array in arrays.items()
    }
    body = (
        f'<ImageData WholeExtent="{extent}" Origin="{_row(origin)}" Spacing="{_row(spacing)}"{told}>\n'
        f'<Piece Extent="{extent}">\n<CellData>\n{_arrays(turned)}</CellData>\n</Piece>\n</ImageData>\n'
    )
    write_text(path, _file("ImageData", body))


def write_vtp(
    path: PathLike,
    atoms: Atoms,
    points: Mapping[str, Values] | None = None,
    bonds: npt.ArrayLike | None = None,
) -> None:
    """Atoms as points, bonds as lines.

    Args:
        path: file, ending in .vtp.
        atoms: positions; atomic numbers, velocities (ASE's units) and ``arrays["id"]`` come along.
        points: by name, (n,) numbers or (n, N) vectors of the atoms.
        bonds: (b, 2) pairs of rows.

    Raises:
        InvalidArgument: an array is not one of the atoms, or of a type that VTK does not have.
    """
    count = len(atoms)
    arrays = {"number": _array("number", atoms.numbers.astype(np.int64))}
    if "id" in atoms.arrays:
        arrays["id"] = _array("id", atoms.arrays["id"].astype(np.int64))
    if atoms.has("momenta"):
        arrays["velocity"] = _array("velocity", atoms.get_velocities())
    arrays |= {name: _array(name, values) for name, values in (points or {}).items()}
    for name, array in arrays.items():
        if len(array) != count or array.ndim > 2:
            raise InvalidArgument(
                f"points: {name} must be ({count},) or ({count}, N): {array.shape}"
            )
    pairs = np.zeros((0, 2), np.int64) if bonds is None else np.asarray(bonds, dtype=np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or (pairs.size and not _within(pairs, count)):
        raise InvalidArgument(f"bonds must be pairs of rows from 0 to {count - 1}")
    place = np.asarray(atoms.positions, dtype=np.float64)
    body = (
        f'<PolyData>\n<Piece NumberOfPoints="{count}" NumberOfVerts="{count}" '
        f'NumberOfLines="{len(pairs)}" NumberOfStrips="0" NumberOfPolys="0">\n'
        f"<PointData>\n{_arrays(arrays)}</PointData>\n"
        f"<Points>\n{_arrays({'Points': place})}</Points>\n"
        f"<Verts>\n{_arrays(_topology(np.arange(count)[:, None]))}</Verts>\n"
        f"<Lines>\n{_arrays(_topology(pairs))}</Lines>\n</Piece>\n</PolyData>\n"
    )
    write_text(path, _file("PolyData", body))


def write_pvd(path: PathLike, files: Sequence[PathLike], times: Sequence[float]) -> None:
    """A series: which file belongs to which time.

    Args:
        path: file, ending in .pvd; the others are named relative to its folder.
        files: of each time.
        times: rising.

    Raises:
        InvalidArgument: not as many files as times.
    """
    if len(files) != len(times) or not files:
        raise InvalidArgument(f"files and times must be as many: {len(files)}, {len(times)}")
    home = Path(path).resolve().parent
    rows = []
    for file, time in zip(files, times, strict=True):
        name = os.path.relpath(Path(file).resolve(), home)
        rows.append(f'<DataSet timestep="{float(time)!r}" part="0" file={quoteattr(name)}/>\n')
    write_text(path, _file("Collection", f"<Collection>\n{''.join(rows)}</Collection>\n"))


def _array(name: str, values: Values) -> npt.NDArray[np.generic]:
    held = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if held.dtype.kind == "b":
        held = held.astype(np.uint8)
    if held.dtype.newbyteorder("<").str not in _TYPES:
        raise InvalidArgument(f"{name}: {held.dtype} is no type of a number that VTK files hold")
    return np.asarray(held, dtype=held.dtype.newbyteorder("<"))


def _arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> str:
    told = []
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        text = base64.b64encode(struct.pack("<Q", len(data)) + data).decode()
        parts = array.shape[1] if array.ndim == 2 else 1
        told.append(
            f'<DataArray type="{_TYPES[array.dtype.str]}" Name={quoteattr(name)} '
            f'NumberOfComponents="{parts}" format="binary">{text}</DataArray>\n'
        )
    return "".join(told)


def _topology(cells: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
    count, each = cells.shape
    return {
        "connectivity": cells.astype("<i8").reshape(-1),
        "offsets": (each * np.arange(1, count + 1)).astype("<i8"),
    }


def _within(rows: npt.NDArray[np.int64], count: int) -> bool:
    return bool(rows.min() >= 0 and rows.max() < count)


def _directions(directions: npt.ArrayLike) -> str:
    axes = np.asarray(directions, dtype=float)
    if axes.shape != (3, 3) or not np.allclose(np.linalg.norm(axes, axis=1), 1):
        raise InvalidArgument("directions must be three unit vectors")
    return f' Direction="{_row(axes.T.ravel())}"'


def _row(numbers: Sequence[float] | npt.NDArray[np.float64]) -> str:
    row = [float(n) for n in numbers]
    if not np.isfinite(row).all():
        raise InvalidArgument("spacing and origin must be finite numbers")
    return " ".join(map(repr, row))


def _file(kind: str, body: str) -> str:
    return (
        f'<?xml version="1.0"?>\n<VTKFile type="{kind}" version="1.0" byte_order="LittleEndian" '
        f'header_type="UInt64">\n{body}</VTKFile>\n'
    )
