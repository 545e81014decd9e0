"""Extended XYZ (https://github.com/libAtoms/extxyz); ASE parses the comment line."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.data.lammps import encode
from mlcore.data.source import TextSource
from mlcore.data.trajectory import Frame, Trajectory
from mlcore.io.atomic import write_bytes

__all__ = ["frames", "write"]

FloatArray = NDArray[np.float64]

POSITIONS = ("pos", "positions")
VELOCITIES = ("vel", "velo", "velocities", "velocity")
FORCES = ("force", "forces")
IDS = ("id", "ids")
TYPES = ("type", "types")
SPECIES = ("species", "symbols", "element")
NAMELESS = "X"
STEP = ("step", "Step", "timestep")
TIME = ("time", "Time")


def frames(source: TextSource) -> Iterator[Frame]:
    """The frames of an open extxyz file."""
    while (line := source.next_frame()) is not None:
        start = source.line_number
        n = source.integer(line, "number of atoms", least=1)
        comment = source.line("the comment line")
        yield _frame(source, n, _header(source, comment), start)


def _header(source: TextSource, comment: str) -> dict[str, Any]:
    from ase.io.extxyz import key_val_str_to_dict

    try:
        info = key_val_str_to_dict(comment)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        source.fail(f"the comment line cannot be parsed: {error}")
    return dict(info)


def _frame(source: TextSource, n: int, info: dict[str, Any], start: int) -> Frame:
    names, fields = _properties(source, str(info.get("Properties", "species:S:1:pos:R:3")))
    chosen = {
        "positions": next((p for p in POSITIONS if p in fields), None),
        "velocities": next((p for p in VELOCITIES if p in fields), None),
        "forces": next((p for p in FORCES if p in fields), None),
        "ids": next((p for p in IDS if p in fields), None),
        "types": next((p for p in TYPES if p in fields), None),
    }
    if chosen["positions"] is None:
        source.fail(f"Properties has no pos:R:3; it names {', '.join(fields)}")
    wanted: list[str] = []
    for role, name in chosen.items():
        if name is not None:
            width = 1 if role in ("ids", "types") else 3
            if len(fields[name]) != width:
                source.fail(f"property {name} should have {width} columns")
            wanted += fields[name]
    cell, pbc = _box(source, info)
    step, time = _clock(source, info)
    species = next((p for p in SPECIES if p in fields and len(fields[p]) == 1), None)
    table, words = source.columns(n, names, wanted, species)
    column = {name: k for k, name in enumerate(wanted)}

    def block(role: str) -> FloatArray | None:
        name = chosen[role]
        return None if name is None else table[:, [column[c] for c in fields[name]]]

    ids = _ids(source, n, block("ids"))
    order = np.argsort(ids)
    types = block("types")

    def sorted_block(role: str) -> FloatArray | None:
        array = block(role)
        return None if array is None else np.ascontiguousarray(array[order])

    positions = sorted_block("positions")
    assert positions is not None
    return Frame(
        step=step,
        time=time,
        positions=positions,
        unwrapped=bool(info.get("unwrapped", False)),
        cell=cell,
        pbc=pbc,
        velocities=sorted_block("velocities"),
        forces=sorted_block("forces"),
        ids=ids[order],
        units=str(info["units"]) if "units" in info else None,
        line=start,
        types=None if types is None else source.kinds(types[order, 0], "property type"),
        energy=_energy(source, info),
        symbols=None if set(words) <= {NAMELESS} else np.array(words)[order],
    )


def _properties(source: TextSource, text: str) -> tuple[list[str], dict[str, list[str]]]:
    """Names of all columns, and the columns of each property."""
    words = text.split(":")
    fields: dict[str, list[str]] = {}
    if len(words) % 3 or not all(words):
        source.fail(f"Properties should be NAME:TYPE:COLUMNS triples, found {text[:80]!r}")
    for name, kind, width in zip(words[::3], words[1::3], words[2::3], strict=True):
        if kind not in ("S", "R", "I", "L") or not re.fullmatch(r"[1-9]\d{0,3}", width):
            source.fail(f"Properties: {name}:{kind}:{width} is not NAME:TYPE:COLUMNS")
        if name in fields:
            source.fail(f"Properties names {name} twice")
        fields[name] = [name if width == "1" else f"{name}[{k}]" for k in range(int(width))]
    return [column for columns in fields.values() for column in columns], fields


def _box(source: TextSource, info: dict[str, Any]) -> tuple[FloatArray | None, NDArray[np.bool_]]:
    if "Lattice" not in info:
        if "pbc" in info and np.any(info["pbc"]):
            source.fail("pbc is set, but there is no Lattice")
        return None, np.zeros(3, dtype=bool)
    # ASE hands back the nine numbers as a matrix whose columns are the lattice vectors
    try:
        cell = np.array(info["Lattice"], dtype=float).reshape(3, 3).T.copy()
    except (ValueError, TypeError):
        source.fail(f"Lattice should be 9 numbers, found {info['Lattice']!r}")
    if not np.isfinite(cell).all() or abs(np.linalg.det(cell)) <= 0:
        source.fail(f"Lattice should span a volume, found {cell.tolist()}")
    try:
        pbc = np.array(np.broadcast_to(np.asarray(info.get("pbc", True), dtype=bool), (3,)))
    except ValueError:
        source.fail(f"pbc should be one or three of T and F, found {info['pbc']!r}")
    return cell, pbc


def _clock(source: TextSource, info: dict[str, Any]) -> tuple[int | None, float | None]:
    step = next((info[k] for k in STEP if k in info), None)
    time = next((info[k] for k in TIME if k in info), None)
    return (
        None if step is None else source.integer(str(step), "step"),
        None if time is None else float(source.floats([str(time)], "time", 1)[0]),
    )


def _energy(source: TextSource, info: dict[str, Any]) -> float | None:
    if "energy" not in info:
        return None
    return float(source.floats([str(info["energy"])], "energy", 1)[0])


def _ids(source: TextSource, n: int, column: FloatArray | None) -> NDArray[np.int64]:
    if column is None:
        return np.arange(1, n + 1)
    ids = column[:, 0]
    if (ids != np.round(ids)).any():
        source.fail("property id should hold integers")
    if len(np.unique(ids)) != n:
        twice = next(int(i) for i in ids if (ids == i).sum() > 1)
        source.fail(f"atom id {twice} occurs twice in the frame")
    return ids.astype(np.int64)


def write(path: str | os.PathLike[str], trajectory: Trajectory) -> None:
    """Write extxyz; see `mlcore.data.write_trajectory`."""
    typed = trajectory.types is not None
    properties = "species:S:1:id:I:1" + (":type:I:1" if typed else "") + ":pos:R:3"
    arrays = [trajectory.positions]
    for name, array in (("velo", trajectory.velocities), ("forces", trajectory.forces)):
        if array is not None:
            properties += f":{name}:R:3"
            arrays.append(array)
    box = 'pbc="F F F"'
    if trajectory.cell is not None and trajectory.pbc is not None:
        numbers = " ".join(map(repr, trajectory.cell.reshape(-1).tolist()))
        flags = " ".join("T" if p else "F" for p in trajectory.pbc)
        box = f'Lattice="{numbers}" pbc="{flags}"'
    if trajectory.units:
        quoted = re.sub(r'(["\\])', r"\\\1", trajectory.units)
        box += f' units="{quoted}"'
    out = io.StringIO()
    assert trajectory.ids is not None
    ids = [str(i) for i in trajectory.ids]
    if trajectory.types is not None:
        ids = [f"{i} {t}" for i, t in zip(ids, trajectory.types, strict=True)]
    energies = trajectory.energies
    symbols = [NAMELESS] * len(ids) if trajectory.symbols is None else trajectory.symbols.tolist()
    for k, time in enumerate(trajectory.times.tolist()):
        told = "" if energies is None else f"energy={float(energies[k])!r} "
        out.write(f"{len(ids)}\nProperties={properties} {box} {told}time={time!r} unwrapped=T\n")
        rows = np.concatenate([a[k] for a in arrays], axis=1).tolist()
        for symbol, name, row in zip(symbols, ids, rows, strict=True):
            out.write(f"{symbol} {name} {' '.join(map(repr, row))}\n")
    write_bytes(path, encode(path, out.getvalue()))
