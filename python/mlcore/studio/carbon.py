"""Runs of carbon pulled apart, as `mlcore.sagesnet.carbon` writes them, among the files of an upload.

A run is one HDF5 file, NAME.h5. The record that lies beside it in a set, NAME.json, is made anew from
the file's own into `records/` of the upload: what strangers wrote there is not looked at.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import FileFormatError, InvalidArgument

if TYPE_CHECKING:
    from mlcore.studio.contents import Known

__all__ = ["RECORDS", "is_carbon", "read", "record_of", "without_records"]

RECORDS = "records"
SYSTEM = "carbon pulled apart"
_ARRAYS = ("numbers", "grip", "id", "start", "cell", "steps", "strains", "positions", "velocities",
           "curve")  # fmt: skip
_WHOLE = ("numbers", "grip", "id", "steps")
_CURVE = 7
_LONGEST = 1 << 16  # letters of a record


def is_carbon(path: Path) -> bool:
    """Whether an HDF5 file says that it is such a run."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "record" in file.attrs and "format" not in file.attrs
    except (OSError, ValueError, KeyError):
        return False


def without_records(files: Sequence[Known]) -> list[Known]:
    """Files of an upload without what lies beside runs of carbon in the folder of a set."""
    runs = {file.path.stem for file in files if file.format == "carbon"}
    if not runs:
        return list(files)
    beside = {"manifest.json", *(f"{name}.json" for name in runs)}
    return [file for file in files if file.path.name not in beside]


def record_of(run: Path) -> Path:
    """Where the record of a run in `raw/` of an upload is."""
    return run.parent.parent / RECORDS / f"{run.stem}.json"


def read(files: Sequence[Known], folder: Path) -> dict[str, Any]:
    """Check runs, write their records, and tell of them.

    Args:
        files: in `raw/` of the folder of an upload.
        folder: of the upload.

    Raises:
        FileFormatError: a file is no such run; names what is wrong.
    """
    runs = [_run(file.path) for file in files]
    (folder / RECORDS).mkdir()
    for file, (record, _) in zip(files, runs, strict=True):
        record_of(file.path).write_text(json.dumps(record), encoding="utf-8")
    intervals = sorted({1000 * one["pull"]["timestep"] * one["pull"]["frame"] for one, _ in runs})
    return {
        "system": SYSTEM,
        "format": "carbon",
        "runs": len(runs),
        "frames": sum(int(one["frames"]) for one, _ in runs),
        "particles": max(len(numbers) for _, numbers in runs),
        "dimensions": 3,
        "interval": intervals[0] if len(intervals) == 1 else None,
        "elements": sorted({_symbol(number) for _, numbers in runs for number in set(numbers)}),
        "patterns": sorted({one["pattern"] for one, _ in runs})[:200],
    }


def _run(path: Path) -> tuple[dict[str, Any], list[int]]:
    """The record of a run as it is kept, and the atomic numbers."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            found = {name: _array(file, name) for name in _ARRAYS}
            told = file.attrs["record"]
        record = _record(told, path.stem)
    except FileFormatError:
        raise
    except (OSError, KeyError, ValueError, TypeError, AttributeError, InvalidArgument) as error:
        raise FileFormatError(f"{path}: is no run of carbon: {error}") from error
    n, m = len(found["numbers"]), len(found["steps"])
    if n < 1 or m < 1:
        raise FileFormatError(f"{path}: holds no frame of atoms")
    shapes = {"numbers": (n,), "grip": (n,), "id": (n,), "start": (n, 3), "cell": (3, 3)}
    shapes |= {"steps": (m,), "strains": (m,), "positions": (m, n, 3), "velocities": (m, n, 3)}
    shapes["curve"] = (len(found["curve"]), _CURVE)
    for name, shape in shapes.items():
        array = found[name]
        if array.shape != shape:
            raise FileFormatError(f"{path}: {name} must have the shape {shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise FileFormatError(f"{path}: {name} must be finite")
    numbers = found["numbers"]
    if numbers.min() < 1 or numbers.max() > 118:
        raise FileFormatError(f"{path}: numbers must be of elements, from 1 to 118")
    if (np.diff(found["steps"]) <= 0).any():
        raise FileFormatError(f"{path}: steps must ascend")
    return record | {"frames": m}, [int(one) for one in numbers]


def _array(file: Any, name: str) -> NDArray[Any]:
    """An array that lies in this file: links and storage elsewhere would read any file there is."""
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is absent, or a link")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise ValueError(f"{name} is no array of this file")
    if found.dtype.kind not in ("iu" if name in _WHOLE else "fiu"):
        raise ValueError(f"{name} must be of numbers, got {found.dtype}")
    return np.asarray(found[()])


def _record(told: Any, name: str) -> dict[str, Any]:
    """What is kept of a record: settings and pattern, of the kinds they must be."""
    from mlcore.sagesnet.carbon import Pull

    if not isinstance(told, str) or len(told) > _LONGEST:
        raise ValueError("its record is no text, or too long")
    record = json.loads(told)
    if not isinstance(record, dict) or not isinstance(record.get("pull"), dict):
        raise ValueError("its record tells no settings (pull)")
    pull = Pull(**record["pull"])
    if not isinstance(pull.frame, int) or isinstance(pull.frame, bool):
        raise ValueError("pull.frame must be a whole number")
    section = float(record.get("section", 0.0))
    if not 0 <= section < float("inf"):
        raise ValueError("section must be a number of at least 0")
    pattern = str(record.get("pattern", name))[:200]
    seed = record.get("seed")
    return {
        "name": name,
        "pattern": pattern,
        "seed": seed if isinstance(seed, int) else 0,
        "section": section,
        "pull": dataclasses.asdict(pull),
    }


def _symbol(number: int) -> str:
    from ase.data import chemical_symbols

    return str(chemical_symbols[number])
