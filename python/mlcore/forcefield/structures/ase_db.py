"""Data sets from and to databases of ASE: SQLite files, and JSON files to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.errors import FileFormatError
from mlcore.forcefield.structures.ase_files import sized
from mlcore.forcefield.structures.dataset import Dataset, Group
from mlcore.forcefield.structures.labels import take_labels
from mlcore.forcefield.structures.manifest import Provenance
from mlcore.io.atomic import atomic_path

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["read_ase_db", "write_ase_db"]

_STANDARD = {
    "numbers",
    "positions",
    "tags",
    "momenta",
    "masses",
    "initial_magmoms",
    "initial_charges",
}


def read_ase_db(path: str | os.PathLike[str], group: str = "group") -> Dataset:
    """The structures of a database as a data set.

    Args:
        path: an SQLite file written by ASE or `write_ase_db`, or a JSON file of ASE.
        group: key whose value is the name of a structure's group; rows without it are in "all".

    Raises:
        FileFormatError: absent, neither SQLite nor JSON, or not of ASE.
    """
    import ase.db

    sized(path)
    kind = "json" if _begins_json(path) else "db"
    if kind == "db":
        _of_ase(path)
    groups: dict[str, list[Atoms]] = {}
    try:
        with ase.db.connect(Path(path).resolve(), type=kind) as database:
            metadata = dict(database.metadata)
            for row in database.select():
                atoms = _atoms(row)
                name = str(atoms.info.pop(group, "all"))
                groups.setdefault(name, []).append(take_labels(atoms)[0])
    except FileFormatError:
        raise
    except Exception as error:  # sqlite3, json and numpy each in their own way
        raise FileFormatError(f"{path}: cannot be read as a database of ASE: {error}") from error
    return _dataset(path, groups, metadata.get("mlcore_dataset", {}))


def _begins_json(path: str | os.PathLike[str]) -> bool:
    with Path(path).open("rb") as stream:
        return stream.read(64).lstrip().startswith(b"{")


def _of_ase(path: str | os.PathLike[str]) -> None:
    """ASE would put its tables into any SQLite file that it opens; so they must be there."""
    import sqlite3

    try:
        database = sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)
        try:
            tables = {name for (name,) in database.execute("select name from sqlite_master")}
        finally:
            database.close()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: is not an SQLite file: {error}") from error
    if "systems" not in tables:
        raise FileFormatError(f"{path}: is not of ASE: no table systems")


def _dataset(path: str | os.PathLike[str], groups: Mapping[str, list[Atoms]], told: Any) -> Dataset:
    if not isinstance(told, dict):
        raise FileFormatError(f"{path}: metadata: mlcore_dataset must be a table")
    table = told.get("provenance", {})
    known: dict[str, Group | list[Atoms]] = {}
    try:
        for name, structures in groups.items():
            record = Provenance.model_validate(table.get(name, {"source": Path(path).name}))
            known[name] = Group(tuple(structures), record)
        return Dataset(
            known, name=str(told.get("name", "")), description=str(told.get("description", ""))
        )
    except (ValueError, AttributeError) as error:
        raise FileFormatError(f"{path}: {error}") from error


def _atoms(row: Any) -> Atoms:
    atoms: Atoms = row.toatoms()
    atoms.info.update(row.key_value_pairs)
    data = dict(row.data)
    extra = data.pop("mlcore", {})
    atoms.info.update(data)
    atoms.info.update(extra.get("info", {}))
    for name, array in extra.get("arrays", {}).items():
        atoms.set_array(name, np.asarray(array))
    return atoms


def write_ase_db(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Writes a new database, whole or not at all; groups are the key `group`.

    Info and arrays that ASE has no column for are in `data["mlcore"]`, provenance in the metadata.
    """
    import ase.db

    with (
        atomic_path(path) as temporary,
        ase.db.connect(temporary, type="db", append=False) as database,
    ):
        for atoms, name in zip(dataset, dataset.group_of, strict=True):
            database.write(atoms, group=name, data={"mlcore": _extra(atoms)})
        database.metadata = {
            "mlcore_dataset": {
                "name": dataset.name,
                "description": dataset.description,
                "provenance": {
                    name: group.provenance.model_dump(mode="json")
                    for name, group in dataset.groups.items()
                },
            }
        }


def _extra(atoms: Atoms) -> dict[str, Any]:
    arrays = {k: v for k, v in atoms.arrays.items() if k not in _STANDARD}
    plain = {k: v.tolist() if v.dtype.kind in "US" else v for k, v in arrays.items()}
    return {"info": dict(atoms.info), "arrays": plain}
