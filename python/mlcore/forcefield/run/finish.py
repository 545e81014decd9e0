"""The end of a fit: the potential is written, read back and evaluated in a fresh process."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore import parallel
from mlcore.errors import InvalidArgument
from mlcore.forcefield.codes import LammpsCommand
from mlcore.forcefield.evaluate.lammps import structure_key
from mlcore.forcefield.export import CARD, SNIPPET, STRUCTURE, export, load, validity
from mlcore.forcefield.run.candidates import Recipe, evaluations, worker
from mlcore.forcefield.run.events import write_json
from mlcore.forcefield.run.result import Result, Verified
from mlcore.forcefield.structures import labels
from mlcore.forcefield.targets import Energies

if TYPE_CHECKING:
    from ase import Atoms

    from mlcore.forcefield.evaluate import Evaluation
    from mlcore.forcefield.run.history import Entry
    from mlcore.forcefield.run.setup import Setup
    from mlcore.forcefield.score import Score
    from mlcore.forcefield.targets import Target
    from mlcore.parallel import Engine

__all__ = ["MEASURED", "export_result", "finish", "fresh"]

MEASURED = "measured.json"
MODEL = "model"
_AGREE = 1e-8  # relative, of what is measured at rest
_ERRORS = 3.0  # standard errors, of what is measured by dynamics
_AT_BOUND = 1e-3  # part of a range
_COVERED = 200  # structures a card tells the distances of
# seconds; where there is a timeout the work is done in another process
_LONG = 86400.0
_PROGRAMS = 3  # structures that lmp itself is asked about


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
    card = card_of(setup, found.values)
    written(setup, found.values, folder / MODEL, card)
    values = read_back(setup, folder / MODEL)
    with parallel.engine("serial") as engine:
        again, test = fresh(setup, values, engine)
        verified = _compared(setup, best, again)
        if again.failed is None:
            write_json(folder / MEASURED, measured(setup, again, test))
            verified = by_program(setup, values, again, verified, engine)
    files = written(
        setup, found.values, folder / MODEL, card | {"errors": _errors(setup, again, test)}
    )
    return dataclasses.replace(
        found,
        verified=verified,
        at_bounds=_at_bounds(setup, best.point),
        test=_sizes(setup.held_out, test),
        model=tuple(f"{MODEL}/{name}" for name in files),
    )


def card_of(setup: Setup, values: Mapping[str, float]) -> dict[str, Any]:
    """What is known of a potential by how it was fitted."""
    structures = _structures(setup.targets)
    told = setup.config or {}
    groups = sorted({target.group for target in setup.targets})
    search = setup.search if isinstance(setup.search, str) else "a search of the user's"
    space = setup.space
    return {
        "title": str(told.get("title", "")),
        "provenance": {
            "method": f"{search}, {setup.budget} evaluations, seed {setup.seed}, mlcore.forcefield",
            "data": [f"{len(structures)} structures; {', '.join(groups)}"],
        },
        "validity": validity(structures[:_COVERED], setup.model, _temperatures(setup.targets)),
        "bounds": {
            name: {"lower": free.lower, "upper": free.upper, "scale": free.scale, "free": True}
            for name, free in space.free.items()
            if name in setup.model.names
        },
    }


def _temperatures(targets: Sequence[Target]) -> tuple[float, float]:
    """Lowest and highest that targets are measured at; 0 K for structures at rest."""
    found = [0.0]
    for target in targets:
        told = getattr(target, "temperatures", getattr(target, "temperature", ()))
        found += np.atleast_1d(np.asarray(told, dtype=np.float64)).tolist()
    return min(found), max(found)


def _structures(targets: Sequence[Target]) -> list[Atoms]:
    """All of them, each once."""
    found = {structure_key(atoms): atoms for target in targets for atoms in target.structures}
    return list(found.values())


def written(
    setup: Setup, values: Mapping[str, float], folder: Path, card: Mapping[str, Any]
) -> list[str]:
    """Write the potential as LAMMPS reads it, with its card; returns the names of the files."""
    example = _structures(setup.targets)
    made = export(setup.model, values, folder, card=card, structure=example[0] if example else None)
    return [*made.files, CARD]


def read_back(setup: Setup, folder: Path) -> dict[str, float]:
    """The values in the files of a potential."""
    model, values, card = load(folder)
    paths = [folder / name for name in card.files if name not in (SNIPPET, STRUCTURE)]
    try:
        return model.read(*paths) if paths else values
    except InvalidArgument:
        # the form keeps its numbers in files that no other program has to read
        return values


def export_result(
    setup: Setup, result: Result, folder: Path, card: Mapping[str, Any] | None = None
) -> list[str]:
    """Write the potential of a result in another folder; returns the names of the files.

    Args:
        setup: of the fit.
        result: of the fit.
        folder: to be made.
        card: what is known besides the fit: ``name``, ``title``, ``license``, ``citation``,
            ``authors``.

    Raises:
        InvalidArgument: the folder holds files, the fit found nothing, or the card is wrong.
    """
    if result.total is None:
        raise InvalidArgument(f"{result.folder}: no candidate could be evaluated")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidArgument(f"folder: {folder} holds files already")
    told = card_of(setup, result.values)
    more = dict(card or {})
    told["provenance"]["authors"] = more.pop("authors", ())
    known = load(result.folder / MODEL)[2] if (result.folder / MODEL).is_dir() else None
    told["errors"] = {} if known is None else known.errors
    return written(setup, result.values, folder, told | more)


def _errors(
    setup: Setup, train: Evaluation, test: Evaluation | None
) -> dict[str, dict[str, float | str | None]]:
    """Target -> root mean square errors, in units and in tolerances."""
    found: dict[str, dict[str, float | str | None]] = {}
    for word, targets, told in (("", setup.targets, train), (" (held out)", setup.held_out, test)):
        if told is None or told.failed is not None:
            continue
        for target in targets:
            off = np.asarray(told.values[target.name]) - target.reference
            rms = float(np.sqrt(np.mean(off**2)))
            found[target.name + word] = {
                "rmse": rms if math.isfinite(rms) else None,
                "tolerances": _size(target, told),
                "unit": target.unit,
            }
    return found


def by_program(
    setup: Setup,
    values: Mapping[str, float],
    found: Evaluation,
    verified: Verified,
    engine: Engine,
) -> Verified:
    """The same of some structures by ``lmp``, a program of its own: a process for each."""
    told = [t for t in setup.targets if type(t) is Energies and t.relative_to is None]
    picks = [(t, k) for t in told for k in range(len(t.structures))]
    picks = picks[:: max(1, -(-len(picks) // _PROGRAMS))]
    if not picks or not verified.agrees:
        return verified
    code = LammpsCommand.of(setup.model, values)
    items = [(code, target.structures[k]) for target, k in picks]
    # from a worker, which is no part of an MPI job where the driver is one
    results = list(engine.map(program_energy, items, timeout=_patience(setup)))
    worst = 0.0
    for (target, k), result in zip(picks, results, strict=True):
        if result.error is not None:
            missing = result.error.type == "BackendUnavailable"
            words = f"{verified.words}; no answer of lmp: {result.error.message}"
            return dataclasses.replace(verified, agrees=missing, words=words)
        known = float(found.values[target.name][k]) * len(target.structures[k])
        worst = max(worst, abs(result.value - known) / max(1.0, abs(known)))
    words = f"{verified.words}; {len(picks)} energies by lmp differ by {worst:.1e}, relative"
    return dataclasses.replace(verified, agrees=worst <= _AGREE, words=words)


def fresh(
    setup: Setup, values: Mapping[str, float], engine: Engine
) -> tuple[Evaluation, Evaluation | None]:
    """Targets, and held-out targets, under ``values`` in new LAMMPS objects of a new process."""
    found: list[Evaluation] = []
    for targets in (setup.targets, setup.held_out):
        if targets:
            recipe = pickle.dumps(Recipe(setup.model, targets, "lammps", setup.cutoff_cap))
            results = engine.map(
                None,
                [[values]],
                timeout=_patience(setup),
                prepared=(worker, (recipe, True, True)),
            )
            found += [one for result in results for one in evaluations(result)]
    return found[0], found[1] if len(found) > 1 else None


def _patience(setup: Setup) -> float:
    """Seconds for LAMMPS, which may be slower than what the search used."""
    return _LONG if setup.timeout is None else max(600.0, 10 * setup.timeout)


def program_energy(item: tuple[LammpsCommand, Atoms]) -> float:
    """Energy of a structure by ``lmp``, eV."""
    code, atoms = item
    with tempfile.TemporaryDirectory(prefix="mlcore-lmp-") as place:
        energy = labels(code.label(atoms, place)).energy
    return math.inf if energy is None else energy


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
    return {target.name: _size(target, found) for target in targets}


def _size(target: Target, found: Evaluation) -> float:
    return math.sqrt(sum(found.terms[t] ** 2 for t in target.terms) / len(target.terms))


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
