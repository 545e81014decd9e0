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
from mlcore.forcefield.export import CARD, SNIPPET, STRUCTURE, export, load
from mlcore.forcefield.run.candidates import Recipe, evaluations, worker
from mlcore.forcefield.run.card import card_of, example
from mlcore.forcefield.run.events import write_json
from mlcore.forcefield.run.parity import row_of
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

__all__ = ["MEASURED", "finish", "fresh"]

MEASURED = "measured.json"
MODEL = "model"
_PLAIN = ("term_of", "reference", "sigma")
_AGREE = 1e-8  # relative, of what is measured at rest
_ERRORS = 3.0  # standard errors, of what is measured by dynamics
_AT_BOUND = 1e-3  # part of a range
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
    found = dataclasses.replace(
        Result.unfinished(setup, folder, best, evaluations, "done"),
        failures=dict(failures),
        front=_front(setup, front),
    )
    if best is None or found.total is None:
        return dataclasses.replace(found, verified=Verified(False, words="nothing to compare"))
    place, atoms = folder / MODEL, example(setup.targets)
    export(setup.model, found.values, place, structure=atoms)
    values = read_back(setup, place)
    rows: dict[str, Any] = {"targets": []}
    with parallel.engine("serial") as engine:
        again, test = fresh(setup, values, engine)
        verified = _compared(setup, best, again)
        if again.failed is None:
            rows = measured(setup, again, test)
            write_json(folder / MEASURED, rows)
            verified = by_program(setup, values, again, verified, engine)
    found = dataclasses.replace(
        found,
        verified=verified,
        at_bounds=_at_bounds(setup, best.point),
        test=_sizes(setup.held_out, test),
    )
    told = card_of(setup, found, rows["targets"])
    card = export(setup.model, found.values, place, card=told, structure=atoms)
    files = tuple(f"{MODEL}/{name}" for name in (*card.files, CARD))
    return dataclasses.replace(found, model=files)


def read_back(setup: Setup, folder: Path) -> dict[str, float]:
    """The values in the files of a potential."""
    model, values, card = load(folder)
    paths = [folder / name for name in card.files if name not in (SNIPPET, STRUCTURE)]
    try:
        return model.read(*paths) if paths else values
    except InvalidArgument:
        # the form keeps its numbers in files that no other program has to read
        return values


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
    finite = math.isfinite(total)
    return Verified(bool(agrees and finite), float(total) if finite else None, float(worst), words)


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
            row = row_of(part, target, found)
            numbers = {k: one.tolist() for k, one in row.items() if k in _PLAIN}
            error = None if row["error"] is None else _numbers(row["error"])
            rows.append(row | numbers | {"value": _numbers(row["value"]), "error": error})
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
