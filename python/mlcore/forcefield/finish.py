"""The end of a fit: the potential is written, read back and evaluated in a fresh process."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.errors import InvalidArgument
from mlcore.forcefield.candidates import Recipe, evaluation, worker
from mlcore.forcefield.events import write_json
from mlcore.forcefield.result import Result, Verified

if TYPE_CHECKING:
    from mlcore.forcefield.evaluate import Evaluation
    from mlcore.forcefield.history import Entry
    from mlcore.forcefield.score import Score
    from mlcore.forcefield.setup import Setup
    from mlcore.forcefield.targets import Target

__all__ = ["MEASURED", "export_result", "finish", "fresh", "write_potential"]

MEASURED = "measured.json"
MODEL = "model"
_AGREE = 1e-8  # relative, of what is measured at rest
_ERRORS = 3.0  # standard errors, of what is measured by dynamics
_AT_BOUND = 1e-3  # part of a range


def finish(
    setup: Setup,
    folder: Path,
    best: Entry | None,
    evaluations: int,
    front: Sequence[tuple[np.ndarray, Score]],
    failures: Mapping[str, int],
) -> Result:
    """Everything `result.json` tells, the potential in ``model/`` and ``measured.json``."""
    found = Result.unfinished(setup, folder, best, evaluations, "done")
    found = dataclasses.replace(found, failures=dict(failures), front=_front(setup, front))
    if best is None or found.total is None:
        return dataclasses.replace(found, verified=Verified(False, words="nothing to compare"))
    paths, values = write_potential(setup, found.values, folder / MODEL)
    again, test = fresh(setup, values)
    verified = _compared(setup, best, again)
    if again.failed is None:
        write_json(folder / MEASURED, measured(setup, again, test))
    return dataclasses.replace(
        found,
        verified=verified,
        at_bounds=_at_bounds(setup, best.point),
        test=_sizes(setup.held_out, test),
        model=tuple(str(path.relative_to(folder)) for path in paths),
    )


def write_potential(
    setup: Setup, values: Mapping[str, float], folder: Path
) -> tuple[list[Path], dict[str, float]]:
    """Write the potential as LAMMPS reads it; returns the files, and the values read back."""
    told = setup.model.render(values)
    folder.mkdir(exist_ok=True)
    paths = [folder / name for name in told.files]
    for path in paths:
        path.write_text(told.files[path.name], encoding="utf-8")
    lines = [f"pair_style {told.pair_style}", *told.pair_coeff]
    script = folder / "potential.in"
    script.write_text("\n".join([*lines, *told.commands, ""]), encoding="utf-8")
    write_json(folder / "values.json", dict(values))
    try:
        found = setup.model.read(*(paths or [script]))
    except InvalidArgument:
        found = dict(values)
    return [*paths, script], found


def export_result(setup: Setup, result: Result, folder: Path) -> list[str]:
    """Write the potential of a result in another folder; returns the names of the files.

    Raises:
        InvalidArgument: the folder holds files, or the fit found nothing.
    """
    if result.total is None:
        raise InvalidArgument(f"{result.folder}: no candidate could be evaluated")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidArgument(f"folder: {folder} holds files already")
    folder.mkdir(parents=True, exist_ok=True)
    paths, _ = write_potential(setup, result.values, folder)
    return [path.name for path in paths]


def fresh(
    setup: Setup, values: Mapping[str, float], seconds: float | None = None
) -> tuple[Evaluation, Evaluation | None]:
    """Targets, and held-out targets, under ``values`` in new LAMMPS objects of a new process."""
    from mlcore import parallel

    found: list[Evaluation] = []
    with parallel.engine("serial") as engine:
        for targets in (setup.targets, setup.held_out):
            if not targets:
                continue
            recipe = pickle.dumps(Recipe(setup.model, targets, "lammps", setup.cutoff_cap))
            results = engine.map(
                None,
                [values],
                timeout=seconds or setup.timeout or 86400.0,  # a timeout makes it another process
                prepared=(worker, (recipe, True, True)),
            )
            found += map(evaluation, results)
    return found[0], found[1] if len(found) > 1 else None


def _compared(setup: Setup, best: Entry, again: Evaluation) -> Verified:
    if again.failed is not None:
        return Verified(False, words=f"a fresh process failed: {again.failed}")
    level = best.score.level
    total = setup.objective.score(dataclasses.replace(again, level=level)).total
    known = dict(zip(setup.terms, best.terms, strict=True))
    worst, agrees, noisy = 0.0, True, 0
    for target in setup.targets:
        terms = [(known[t], again.terms[t]) for t in target.terms if known[t] is not None]
        far = max((abs(a - b) for a, b in terms if a is not None), default=0.0)
        allowed = _AGREE * max((1.0, *(abs(b) for _, b in terms)))
        if target.name in again.errors:
            noise = again.errors[target.name] / target.sigma
            allowed = _ERRORS * math.sqrt(2) * float(np.linalg.norm(noise))
            noisy += 1
        agrees &= far <= allowed
        worst = max(worst, far)
    told = best.score.total
    if not noisy:
        agrees &= abs(total - told) <= _AGREE * max(1.0, abs(told))
    words = (
        f"the potential read back from its files gives {total:.12g} in new LAMMPS objects, the "
        f"search was told {told:.12g}; no term is off by more than {worst:.1e} tolerances"
    )
    if noisy:
        words += f"; {noisy} targets by dynamics within {_ERRORS:g} standard errors"
    return Verified(bool(agrees), float(total), float(worst), words)


def _front(
    setup: Setup, front: Sequence[tuple[np.ndarray, Score]]
) -> tuple[Mapping[str, Any], ...]:
    if not front:
        return ()
    from mlcore.forcefield.search import knee

    best = knee([score.objectives for _, score in front])
    return tuple(
        {
            "objectives": dict(zip(setup.objective.pareto, score.objectives, strict=True)),
            "values": setup.space.values(point),
            "knee": k == best,
        }
        for k, (point, score) in enumerate(front)
    )


def _at_bounds(setup: Setup, point: Sequence[float]) -> tuple[str, ...]:
    return tuple(
        name
        for name, x in zip(setup.space.names, point, strict=True)
        if not _AT_BOUND < x < 1 - _AT_BOUND
    )


def _sizes(targets: Sequence[Target], found: Evaluation | None) -> dict[str, float]:
    """Root mean square of the terms of each target, in tolerances."""
    if found is None or found.failed is not None:
        return {}
    return {
        target.name: math.sqrt(sum(found.terms[t] ** 2 for t in target.terms) / len(target.terms))
        for target in targets
    }


def measured(setup: Setup, train: Evaluation, test: Evaluation | None) -> dict[str, Any]:
    """Values beside references, for parity plots: what `measured.json` holds."""
    rows = []
    for part, targets, found in (
        ("train", setup.targets, train),
        ("test", setup.held_out, test),
    ):
        if found is None or found.failed is not None:
            continue
        for target in targets:
            errors = found.errors.get(target.name)
            rows.append(
                {
                    "part": part,
                    "target": target.name,
                    "type": type(target).__name__,
                    "group": target.group,
                    "unit": target.unit,
                    "terms": list(target.terms),
                    "term_of": target.term_of.tolist(),
                    "reference": target.reference.tolist(),
                    "sigma": target.sigma.tolist(),
                    "value": _numbers(found.values[target.name]),
                    "error": None if errors is None else _numbers(errors),
                    "note": found.notes.get(target.name, ""),
                }
            )
    return {"targets": rows}


def read_measured(folder: Path) -> list[dict[str, Any]]:
    """Rows of `measured.json`; none where it is not there."""
    path = folder / MEASURED
    if not path.is_file():
        return []
    told: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["targets"]
    return told


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(x) if math.isfinite(x) else None for x in np.asarray(values).tolist()]


__all__ += ["measured", "read_measured"]
