"""The card of what a fit found, and its folder for others."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate.lammps import structure_key
from mlcore.forcefield.export import Card, export, validity

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.run.result import Result
    from mlcore.forcefield.run.setup import Setup
    from mlcore.forcefield.targets import Target

__all__ = ["card_of", "example", "export_fit"]


def export_fit(
    setup: Setup,
    result: Result,
    folder: str | Path,
    *,
    measured: Sequence[Mapping[str, Any]] = (),
    card: Mapping[str, Any] | None = None,
) -> Card:
    """Writes what a fit found as `export` does, with all the fit knows on its card.

    Args:
        setup: of the fit.
        result: of the fit.
        folder: to be made; it may be there, empty.
        measured: rows of values beside references, as `mlcore.forcefield.run.finish.read_measured`.
        card: what the fit cannot know, such as ``title``, ``license``, ``citation`` and the
            authors in ``provenance``; it goes before what the fit knows.

    Raises:
        InvalidArgument: the folder holds files, the fit found nothing, or the card is wrong.
    """
    if result.total is None:
        raise InvalidArgument(f"{result.folder}: no candidate could be evaluated")
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise InvalidArgument(f"folder: {place} holds files already")
    told = card_of(setup, result, measured)
    said = dict(card or {})
    provenance = said.get("provenance", {})
    if isinstance(provenance, Mapping):
        told["provenance"] |= provenance
        said.pop("provenance", None)
    return export(
        setup.model, result.values, place, card=told | said, structure=example(setup.targets)
    )


def card_of(
    setup: Setup, result: Result, measured: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """What a fit knows of its potential: method, data, errors, validity and bounds."""
    named = isinstance(setup.search, str)
    search = setup.search if named else getattr(setup.search, "__name__", "a search of the user's")
    space = setup.space
    units = {p.name: p.unit for p in setup.model.parameters}
    targets = setup.targets
    return {
        "title": str((setup.config or {}).get("title", "")),
        "provenance": {
            "method": f"{search}: {result.evaluations} evaluations of at most {setup.budget}, "
            f"seed {setup.seed}, score {result.total:.6g}",
            "data": tuple(_data(target) for target in targets),
            "notes": {
                "space": {k: v for k, v in space.record().items() if k != "parameters"},
                "evaluator": setup.evaluator,
                "at_bounds": list(result.at_bounds),
                "verified": {"agrees": result.verified.agrees, "words": result.verified.words},
            },
        },
        "errors": _errors(setup, result, measured),
        "validity": validity(_structures(targets), setup.model, _temperatures(targets)),
        "bounds": {
            name: {**free.model_dump(exclude={"initial"}), "unit": units[name], "free": True}
            for name, free in space.free.items()
            if name in units
        },
    }


def _data(target: Target) -> str:
    """A target in a line, with a hash of its references and structures."""
    found = hashlib.sha256()
    for numbers in (target.reference, target.sigma):
        found.update(np.ascontiguousarray(numbers, dtype=np.float64).tobytes())
    for atoms in target.structures:
        for array in (atoms.numbers, atoms.positions, atoms.cell[:]):
            found.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    count = len(target.structures)
    return (
        f"{target.name}: {type(target).__name__}, {len(target.reference)} numbers of {count} "
        f"structure{'s' if count != 1 else ''}, sha256 {found.hexdigest()}"
    )


def _errors(
    setup: Setup, result: Result, measured: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, float | str | None]]:
    found: dict[str, dict[str, float | str | None]] = {}
    for row in measured:
        reference, sigma = np.array(row["reference"]), np.array(row["sigma"])
        value = np.array([np.nan if x is None else x for x in row["value"]], dtype=np.float64)
        told = {
            "rmse": _rms(value - reference),
            "rms_in_tolerances": _rms((value - reference) / sigma),
            "unit": str(row["unit"]),
            "part": str(row["part"]),
            "numbers": float(len(reference)),
        }
        name = str(row["target"])
        # of a group of which some are held out both targets have one name
        name = f"{name}, held out" if name in found else name
        found[name] = {key: x for key, x in told.items() if x is not None}
    for target in setup.targets:
        own = [result.terms[term] for term in target.terms if term in result.terms]
        if target.name not in found and own:
            size = _rms(np.array(own))
            found[target.name] = {"rms_in_tolerances": size, "part": "train"}
    return found


def _rms(differences: np.ndarray) -> float | None:
    size = float(np.sqrt(np.mean(np.square(differences))))
    return size if np.isfinite(size) else None


def _structures(targets: Iterable[Target]) -> list[Atoms]:
    """All of them, each once."""
    found = {structure_key(atoms): atoms for target in targets for atoms in target.structures}
    return list(found.values())


def _temperatures(targets: Iterable[Target]) -> tuple[float, float]:
    """Lowest and highest that anything was looked at; structures at rest are at zero."""
    found: list[float] = []
    for target in targets:
        told = getattr(target, "temperatures", getattr(target, "temperature", ()))
        own = np.atleast_1d(np.asarray(told, dtype=np.float64))
        found += [float(t) for t in own] or ([0.0] if target.tier != "md" else [])
    return (min(found), max(found)) if found else (0.0, 0.0)


def example(targets: Iterable[Target]) -> Atoms | None:
    """A structure that shows the potential at work, None where none fills a cell."""
    whole = [atoms for atoms in _structures(targets) if atoms.pbc.all()]
    return whole[0] if whole else None
