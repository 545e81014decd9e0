"""Values beside references, as few numbers as are drawn: of a fit that is done, and of the best so far.

``predicted.json`` in the folder of a fit holds what `parity` makes of the best candidate by then;
before the first, and of targets held out until the end, references without values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mlcore.forcefield.evaluate import Evaluation
    from mlcore.forcefield.run.setup import Setup
    from mlcore.forcefield.targets import Target

__all__ = ["PREDICTED", "parity", "predicted", "row_of"]

PREDICTED = "predicted.json"
Array = npt.NDArray[np.float64]
Row = Mapping[str, Any]
_MOST, _WORST = 1000, 100  # points of a series, those farthest off among them
_NAMED = 300  # points of a series up to which each tells its name
_LISTED = 200  # properties
_LABELS = ("Energies", "Forces", "Stress")


def row_of(part: str, target: Target, found: Evaluation | None = None) -> dict[str, Any]:
    """Values of a target beside its references, as ``measured.json`` has them, but as arrays.

    ``value`` is (R,), or (0,) where nothing was found.
    """
    known = {} if found is None else found.values
    errors = None if found is None else found.errors.get(target.name)
    return {
        "part": part,
        "target": target.name,
        "type": type(target).__name__,
        "group": target.group,
        "unit": target.unit,
        "terms": list(target.terms),
        "term_of": target.term_of,
        "reference": target.reference,
        "sigma": target.sigma,
        "value": np.asarray(known.get(target.name, np.zeros(0)), dtype=np.float64),
        "error": errors,
        "note": "" if found is None else found.notes.get(target.name, ""),
    }


def predicted(setup: Setup, number: int | None = None, found: Evaluation | None = None) -> Row:
    """What ``predicted.json`` holds of the best candidate so far, evaluation ``number``."""
    rows = [row_of("train", target, found) for target in setup.targets]
    rows += [row_of("test", target) for target in setup.held_out]
    told: Row = _rounded({"evaluation": number, **parity(rows)})
    return told


def parity(rows: Sequence[Row]) -> dict[str, Any]:
    """What is drawn of rows of `row_of` or of ``measured.json``.

    Returns:
        ``series`` of one type and unit, with ``seen`` and ``held_out``: each count, rms, reference
        and value of some points, names of few; ``errors`` of each target: unit, and of what was
        seen and held out rms, in tolerances, count; ``groups``: sizes in tolerances, seen and held
        out; ``properties``: term, reference, value, unit, off by tolerances, part.
    """
    return {
        "series": list(_series(rows)),
        "errors": list(_errors(rows)),
        "groups": _groups(rows),
        "properties": list(_properties(rows))[:_LISTED],
    }


# -- series ----------------------------------------------------------------------------------------
def _series(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    kinds: dict[tuple[str, str], dict[str, list[tuple[Row, Any]]]] = {}
    for row in rows:
        for unit, at in _units(row):
            own = kinds.setdefault((row["type"], unit), {"train": [], "test": []})
            own[row["part"]].append((row, at))
    for (kind, unit), parts in kinds.items():
        seen, held = (_points(parts[part]) for part in ("train", "test"))
        if sum(one["count"] for one in (seen, held) if one is not None) > 1:
            yield {"type": kind, "unit": unit, "seen": seen, "held_out": held}


def _units(row: Row) -> Iterator[tuple[str, Any]]:
    """Units of the numbers of a row, and which have each."""
    units = row["unit"].split(" ")
    if len(units) == 1:
        yield units[0], slice(None)
    elif len(units) == len(row["reference"]):
        for unit in dict.fromkeys(units):
            yield unit, [k for k, one in enumerate(units) if one == unit]


def _points(parts: Sequence[tuple[Row, Any]]) -> dict[str, Any] | None:
    if not parts:
        return None
    reference = np.concatenate([np.asarray(row["reference"])[at] for row, at in parts])
    value = np.concatenate([_values(row)[at] for row, at in parts])
    off = value - reference
    chosen = _chosen(off)
    names = [np.array(row["terms"])[np.asarray(row["term_of"])[at]] for row, at in parts]
    named = len(reference) <= _NAMED and all(len(set(own)) == len(own) for own in names)
    return {
        "count": len(reference),
        "rms": _rms(off),
        "reference": reference[chosen].tolist(),
        "value": [_finite(v) for v in value[chosen].tolist()],
        "names": np.concatenate(names).tolist() if named else None,
    }


def _values(row: Row) -> Array:
    """(R,), NaN where nothing is known."""
    if not len(row["value"]):
        return np.full(len(row["reference"]), np.nan)
    return np.array(row["value"], dtype=np.float64)


def _chosen(off: Array) -> npt.NDArray[np.int64]:
    """Points that are drawn: even ones, and those farthest off."""
    if len(off) <= _MOST:
        return np.arange(len(off))
    even = np.linspace(0, len(off) - 1, _MOST - _WORST).round().astype(np.int64)
    worst = np.argpartition(np.nan_to_num(-np.abs(off)), _WORST)[:_WORST]
    return np.union1d(even, worst)


# -- sizes -----------------------------------------------------------------------------------------
def _rms(off: Array) -> float | None:
    return _finite(math.sqrt(float(np.mean(off**2)))) if len(off) else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _squares(row: Row) -> list[float]:
    """Of each term, in tolerances; infinite and missing ones do not count."""
    residuals = (_values(row) - row["reference"]) / np.asarray(row["sigma"])
    found = np.bincount(row["term_of"], weights=residuals**2)
    return [one for one in found.tolist() if math.isfinite(one)]


def _root(squares: Sequence[float]) -> float | None:
    return math.sqrt(sum(squares) / len(squares)) if squares else None


def _groups(rows: Sequence[Row]) -> dict[str, tuple[float | None, float | None]]:
    squares: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        squares.setdefault(row["group"], {"train": [], "test": []})[row["part"]] += _squares(row)
    return {
        group: (_root(parts["train"]), _root(parts["test"])) for group, parts in squares.items()
    }


def _errors(rows: Sequence[Row]) -> Iterator[list[Any]]:
    for target in dict.fromkeys(row["target"] for row in rows):
        own = [row for row in rows if row["target"] == target]
        unit = own[0]["unit"] if " " not in own[0]["unit"] else ""
        told: list[Any] = [target, unit]
        for part in ("train", "test"):
            mine = [row for row in own if row["part"] == part]
            told += _sizes(mine, bool(unit)) if mine else [None, None, None]
        yield told


def _sizes(rows: Sequence[Row], same: bool) -> list[Any]:
    off = np.concatenate([_values(row) - np.asarray(row["reference"]) for row in rows])
    squares = [one for row in rows for one in _squares(row)]
    return [_rms(off) if same else None, _root(squares), len(off)]


def _properties(rows: Sequence[Row]) -> Iterator[list[Any]]:
    for row in rows:
        if row["type"] in _LABELS:
            continue
        units, values = row["unit"].split(" "), _values(row)
        for k, of in enumerate(row["term_of"]):
            reference, value = float(row["reference"][k]), float(values[k])
            unit = units[k] if len(units) == len(values) else row["unit"]
            off = _finite((value - reference) / row["sigma"][k])
            part = "held out" if row["part"] == "test" else "seen"
            yield [row["terms"][of], reference, _finite(value), unit, off, part]


def _rounded(told: Any) -> Any:
    """With as many digits as are drawn."""
    if isinstance(told, float):
        return float(f"{told:.7g}")
    if isinstance(told, Mapping):
        return {name: _rounded(one) for name, one in told.items()}
    return [_rounded(one) for one in told] if isinstance(told, list | tuple) else told
