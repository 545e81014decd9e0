"""Structures of a data set as arrays on disk, so that one of many is shown without reading all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.structures import Dataset, Findings

__all__ = ["FOLDER", "Flag", "checks_of", "count", "flags_of", "frame", "marked", "rows", "write"]

FOLDER = "frames"
Flag = dict[str, str]
_SHOWN = 20_000  # atoms of a structure that are shown; of more each n-th
_BONDED = 4_000  # atoms up to which bonds are looked for
_REACH = 1.15  # bonds are as long as the covalent radii times this
_NUMBER = re.compile(r"\bstructure (\d+)")
_LISTED = 1000  # structures that a summary names for one check


# -- what the checks found -------------------------------------------------------------------------
def flags_of(found: Findings) -> dict[int, list[Flag]]:
    """Structure -> what is wrong or odd with it, or wrong with all of its group."""
    members: dict[str, list[int]] = {}
    for k, name in enumerate(found.dataset.group_of):
        members.setdefault(name, []).append(k)
    flags: dict[int, list[Flag]] = {}
    for one in found:
        flag = {"severity": one.severity, "code": one.kind, "message": _counted(one.message)}
        whole = members[one.group] if one.structure is None and one.severity == "error" else []
        for k in whole if one.structure is None else [one.structure]:
            flags.setdefault(k, []).append(flag)
    return flags


def marked(flags: Mapping[int, Sequence[Flag]]) -> dict[int, str]:
    """Structures with an error or a warning, and what is said of each."""
    said = {
        k: [f["message"] for f in of if f["severity"] != "note"] for k, of in sorted(flags.items())
    }
    return {k: "<br>".join(messages) for k, messages in said.items() if messages}


def _counted(message: str) -> str:
    """Structures are counted from 1 on pages."""
    return _NUMBER.sub(lambda found: f"structure {int(found[1]) + 1}", message)


def checks_of(found: Findings) -> list[dict[str, Any]]:
    """What was found, those of one kind in one group together."""
    told: dict[tuple[str, str, str, bool], dict[str, Any]] = {}
    for one in found:
        key = (one.severity, one.kind, one.group, one.structure is None)
        fresh = {"severity": one.severity, "code": one.kind, "group": one.group}
        entry = told.setdefault(
            key, fresh | {"message": _counted(one.message), "structures": [], "count": 0}
        )
        entry["count"] += 1
        if one.structure is not None and len(entry["structures"]) < _LISTED:
            entry["structures"].append(one.structure)
    for entry in told.values():
        if entry["count"] > 1:
            entry["message"] += f" (and {entry['count'] - 1} more)"
    return list(told.values())


# -- writing ---------------------------------------------------------------------------------------
def write(folder: Path, data: Dataset, flags: Mapping[int, Sequence[Flag]]) -> None:
    """Write the arrays and the lines of the list into ``folder``."""
    from mlcore.forcefield.structures import labels, species

    folder.mkdir()
    structures = data.structures
    names = list(data.species)
    place = {name: k for k, name in enumerate(names)}
    known = [labels(atoms) for atoms in structures]
    none = np.nan
    arrays: dict[str, npt.NDArray[Any]] = {
        "starts": np.cumsum([0, *map(len, structures)]),
        "kinds": np.concatenate([[place[s] for s in species(a)] for a in structures]),
        "numbers": np.concatenate([a.numbers for a in structures]),
        "positions": np.concatenate([a.positions for a in structures]),
        "cells": np.array([np.asarray(a.cell) for a in structures]),
        "pbc": np.array([a.pbc for a in structures]),
        "energies": np.array([none if one.energy is None else one.energy for one in known]),
        "labels": np.array([_bits(one.known()) for one in known], dtype=np.uint8),
    }
    arrays["kinds"] = arrays["kinds"].astype(np.int32)
    arrays["numbers"] = arrays["numbers"].astype(np.int16)
    if any(one.forces is not None for one in known):
        rows = [
            np.full((len(a), 3), none) if one.forces is None else one.forces
            for a, one in zip(structures, known, strict=True)
        ]
        arrays["forces"] = np.concatenate(rows)
    arrays["lines"] = _lines(folder / "rows.jsonl", data, flags)
    (folder / "species.json").write_text(json.dumps(names), encoding="utf-8")
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _bits(known: Sequence[str]) -> int:
    """Which labels there are: 1 energy, 2 forces, 4 stress."""
    return sum(1 << k for k, name in enumerate(("energy", "forces", "stress")) if name in known)


def _lines(path: Path, data: Dataset, flags: Mapping[int, Sequence[Flag]]) -> npt.NDArray[np.int64]:
    """One line for each structure; where each begins."""
    starts = [0]
    seen: dict[str, int] = {}
    with path.open("wb") as stream:
        for k, (atoms, group) in enumerate(zip(data, data.group_of, strict=True)):
            seen[group] = seen.get(group, 0) + 1
            row = {"index": k, "name": _name(atoms, group, seen[group]), "group": group}
            row |= _facts(atoms) | {"flags": list(flags.get(k, ()))}
            starts.append(starts[-1] + stream.write(json.dumps(row).encode() + b"\n"))
    return np.array(starts)


def _name(atoms: Atoms, group: str, number: int) -> str:
    for key in ("name", "material_id"):
        if isinstance(atoms.info.get(key), str):
            return str(atoms.info[key])[:80]
    return f"{group} {number}"


def _facts(atoms: Atoms) -> dict[str, Any]:
    from mlcore.forcefield.structures import labels

    known = labels(atoms)
    forces = None if known.forces is None else float(np.linalg.norm(known.forces, axis=1).max())
    return {
        "formula": formula(atoms),
        "atoms": len(atoms),
        "energy_per_atom": _finite(None if known.energy is None else known.energy / len(atoms)),
        "volume_per_atom": volume(atoms),
        "most_force": _finite(forces),
    }


def formula(atoms: Atoms) -> str:
    """Such as Si8O16; of beads, their names."""
    if "species" in atoms.arrays:
        names, counts = np.unique(atoms.arrays["species"], return_counts=True)
        return " ".join(f"{n}×{c}" for n, c in zip(names, counts, strict=True))[:80]
    return str(atoms.get_chemical_formula(empirical=False))[:80]


def volume(atoms: Atoms) -> float | None:
    """Of the cell for each atom, Angstrom^3; None where it is not periodic."""
    value = abs(float(np.linalg.det(np.asarray(atoms.cell))))
    return value / len(atoms) if atoms.pbc.all() and np.isfinite(value) and value > 0 else None


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


# -- reading ---------------------------------------------------------------------------------------
def _array(folder: Path, name: str) -> npt.NDArray[Any] | None:
    path = folder / f"{name}.npy"
    return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def _needed(folder: Path, name: str) -> npt.NDArray[Any]:
    found = _array(folder, name)
    assert found is not None
    return found


def count(folder: Path) -> int:
    """Structures that are there."""
    found = _array(folder, "starts")
    return 0 if found is None else len(found) - 1


def rows(folder: Path, offset: int, most: int, flagged: bool = False) -> list[dict[str, Any]]:
    """Some lines of the list; of those with flags alone where ``flagged``."""
    if not count(folder):
        return []
    if flagged:
        with (folder / "rows.jsonl").open("rb") as stream:
            chosen = [line for line in stream if b'"flags": []' not in line]
        return [json.loads(line) for line in chosen[offset : offset + most]]
    lines = _needed(folder, "lines")
    first, last = min(offset, len(lines) - 1), min(offset + most, len(lines) - 1)
    with (folder / "rows.jsonl").open("rb") as stream:
        stream.seek(int(lines[first]))
        text = stream.read(int(lines[last] - lines[first]))
    return [json.loads(line) for line in text.splitlines()]


def frame(folder: Path, k: int) -> dict[str, Any]:
    """One structure, as pages draw it; ``k`` is among those there are."""
    starts = _needed(folder, "starts")
    begin, end = int(starts[k]), int(starts[k + 1])
    step = -(-(end - begin) // _SHOWN)
    of = slice(begin, end, step)
    names = json.loads((folder / "species.json").read_text(encoding="utf-8"))
    positions = np.array(_needed(folder, "positions")[of])
    numbers = np.array(_needed(folder, "numbers")[of])
    cell, pbc = np.array(_needed(folder, "cells")[k]), np.array(_needed(folder, "pbc")[k])
    forces = _array(folder, "forces")
    shown = None if forces is None else np.array(forces[of])
    whole = step == 1 and len(numbers) <= _BONDED
    within, across = bonds(numbers, positions, cell, pbc) if whole else ([], [])
    return {
        "index": k,
        "atoms": end - begin,
        "numbers": numbers.tolist(),
        "symbols": [names[i] for i in _needed(folder, "kinds")[of]],
        "positions": positions.tolist(),
        "cell": cell.tolist(),
        "pbc": pbc.tolist(),
        "bonds": within,
        "across": across,
        "energy": _finite(float(_needed(folder, "energies")[k])),
        "forces": shown.tolist() if shown is not None and np.isfinite(shown).all() else None,
    }


def bonds(
    numbers: npt.NDArray[Any],
    positions: npt.NDArray[Any],
    cell: npt.NDArray[Any],
    pbc: npt.NDArray[Any],
) -> tuple[list[list[int]], list[list[int]]]:
    """Pairs [i, j], and pairs [i, j, a, b, c] with an image of j that many cells away."""
    from ase.data import covalent_radii

    from mlcore.neighbors import neighbor_list

    radii = np.where(numbers > 0, covalent_radii[numbers], 0.0) * _REACH
    if not (radii > 0).any() or not np.isfinite(positions).all():
        return [], []
    i, j, shift = neighbor_list("ijS", positions, radii, cell=cell, pbc=pbc, half=True)
    inside = ~shift.any(axis=1)
    within = np.stack([i, j], axis=1)[inside].tolist()
    across = np.concatenate([np.stack([i, j], axis=1), shift], axis=1)[~inside].tolist()
    return within, across
