"""Active learning: which structures to label next, round after round.

A round fits the labelled structures, asks what it does not know of a pool or of its own molecular
dynamics, has the most telling structures labelled, and is put down in a folder of its own; a loop
that was stopped goes on after the last whole round.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.active.committee import Predictor, disagreement, predict
from mlcore.forcefield.active.d_optimality import choose, features, gains, ranges
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.lammps import LammpsEngine, structure_key
from mlcore.forcefield.forms import Model
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.structures.extxyz import frame_text, read_frames
from mlcore.forcefield.structures.labels import labelled, labels, take_labels
from mlcore.forcefield.targets import Energies, Forces, Target
from mlcore.forcefield.uncertainty.ensembles import gaussian, refits
from mlcore.forcefield.uncertainty.fisher_information import fisher
from mlcore.forcefield.uncertainty.misfit import Fit, Misfit, jacobian, local_fit, polish
from mlcore.io.atomic import atomic_directory, write_text
from mlcore.io.lock import locked

__all__ = [
    "ActiveRun",
    "Label",
    "Pick",
    "Round",
    "active_learning",
    "code_label",
    "dynamics",
    "potential_label",
]

Array = npt.NDArray[np.float64]
Label = Callable[[Atoms], Atoms]
"""A structure -> the same structure with its energy and forces as ASE's results."""
Explore = Callable[[Mapping[str, float], int], Sequence[Atoms]]
"""Values of all parameters and number of the round -> structures that could be labelled."""
Pick = Literal["committee", "dopt", "random"]
_FORMAT = "mlcore active 1"


class _Code(Protocol):
    def label(self, atoms: Atoms, folder: str | os.PathLike[str]) -> Atoms: ...


@dataclass(frozen=True)
class Round:
    """A fit, what it was worth, and what was labelled because of it.

    Attributes:
        number: from 0.
        labelled: number of structures it was fitted to.
        point: (n,) of the fit, in the unit cube.
        values: of all parameters.
        train: root mean square of the terms of the fit, in tolerances.
        errors: on the test structures: ``energy`` (eV per atom) and ``forces`` (eV/A), root mean
            square, and ``score``, that of the terms in tolerances; empty without test structures.
        picked: indices in the pool; of all that were explored where there is no pool.
        grades: of those picked: disagreement in tolerances, gain of information, or 0 at random.
        structures: those picked, labelled.
    """

    number: int
    labelled: int
    point: Array
    values: dict[str, float]
    train: float
    errors: dict[str, float]
    picked: tuple[int, ...]
    grades: tuple[float, ...]
    structures: tuple[Atoms, ...]


@dataclass(frozen=True)
class ActiveRun:
    """All rounds of a loop."""

    rounds: tuple[Round, ...]

    @property
    def values(self) -> dict[str, float]:
        """Of all parameters after the last round."""
        return self.rounds[-1].values

    def table(self) -> str:
        """A line for each round."""
        lines = [f"{'round':>5}{'labelled':>10}{'train':>9}{'test':>9}{'energy':>11}{'forces':>10}"]
        for r in self.rounds:
            told = [r.errors.get(k, float("nan")) for k in ("score", "energy", "forces")]
            lines.append(
                f"{r.number:>5}{r.labelled:>10}{r.train:>9.3g}{told[0]:>9.3g}{told[1]:>11.4g}"
                f"{told[2]:>10.4g}"
            )
        return "\n".join(lines)


def potential_label(model: Model, values: Mapping[str, float]) -> Label:
    """Labels by another potential: for tests, and for surrogates of one another."""

    def label(atoms: Atoms) -> Atoms:
        found = predict(model, [atoms], [values])
        return labelled(
            atoms, energy=float(found.energies[0, 0]) * len(atoms), forces=found.forces[0][0]
        )

    return label


def code_label(code: _Code, folder: str | os.PathLike[str]) -> Label:
    """Labels by a program such as `codes.Vasp`, each structure in a folder of its own.

    A structure whose folder holds its answer already is not computed again.
    """

    def label(atoms: Atoms) -> Atoms:
        name = hashlib.sha256(structure_key(atoms)).hexdigest()[:16]
        return code.label(atoms, Path(folder) / name)

    return label


def dynamics(
    model: Model,
    structure: Atoms,
    temperature: float,
    *,
    frames: int = 20,
    every: int = 50,
    timestep: float = 1e-3,
    cutoff_cap: float = 12.0,
    seed: int = 1,
) -> Explore:
    """Structures that the model itself meets at a temperature, at constant volume, in LAMMPS.

    Args:
        model: the form.
        structure: where every run starts.
        temperature: K, of the starting velocities (twice it, because half goes into the bonds) and
            of a Langevin bath.
        frames: number of structures.
        every: steps between them.
        timestep: ps.
        cutoff_cap: largest cutoff the values may have, A.
        seed: of velocities and bath; the round is added.

    Returns:
        A function of values and round. Where LAMMPS stops, the frames before it are what there is;
        it raises `Error` where there are none.
    """

    def explore(values: Mapping[str, float], number: int) -> list[Atoms]:
        engine = LammpsEngine(model, cutoff_cap)
        found: list[Atoms] = []
        try:
            engine.use(values)
            box = engine.another(structure)
            box.reset()
            drawn = seed + 1000 * number
            for line in (
                f"velocity all create {2.0 * temperature!r} {drawn} loop all",
                "neighbor 1.0 bin",
                "fix mlcore_nve all nve",
                f"fix mlcore_bath all langevin {temperature!r} {temperature!r} 0.1 {drawn}",
                f"timestep {timestep!r}",
            ):
                box.lmp.command(line)
            try:
                for _ in range(frames):
                    box.lmp.command(f"run {every} post no")
                    found.append(_frame(box.lmp, structure))
            except Exception as error:
                # a poor model blows its box up: what it met on the way is worth a label
                if not found:
                    raise Error(f"dynamics: LAMMPS stopped at once: {error}") from None
            finally:
                box.close()
        finally:
            engine.close()
        return found

    return explore


def active_learning(
    model: Model,
    space: Space,
    folder: str | os.PathLike[str],
    *,
    label: Label,
    start: Sequence[Atoms],
    pool: Sequence[Atoms] | None = None,
    explore: Explore | None = None,
    pick: Pick = "committee",
    rounds: int = 4,
    per_round: int = 2,
    members: int = 6,
    test: Sequence[Atoms] = (),
    sigma_energy: float = 0.02,
    sigma_force: float = 0.2,
    fit: Fit = local_fit,
    starts: int = 1,
    seed: int = 0,
) -> ActiveRun:
    """Rounds of fitting, asking and labelling; resumed where ``folder`` holds some already.

    Args:
        model: the form.
        space: its free parameters.
        folder: of the rounds; made where it is not there.
        label: a structure -> the same with energy and forces.
        start: labelled structures to begin with.
        pool: structures that may be labelled; or
        explore: makes some from the fit, such as `dynamics`.
        pick: ``committee``: where refits disagree most; ``dopt``: what raises the determinant of
            the information most; ``random``.
        rounds: number of times structures are labelled; one more fit follows.
        per_round: structures labelled each time.
        members: of the committee.
        test: labelled structures the error is told of.
        sigma_energy: tolerance of energies, eV per atom.
        sigma_force: tolerance of the root mean square force error, eV/A.
        fit: residuals and start -> best point.
        starts: fits of each round: from the point before, the others from random points.
        seed: of what is random.

    Returns:
        All rounds, ``rounds`` + 1 of them.

    Raises:
        InvalidArgument: neither or both of ``pool`` and ``explore``, too small a pool, no start,
            too small a number, or ``folder`` holds rounds of another loop.
        Error: another process works on ``folder``.
        FileFormatError: a round in ``folder`` cannot be read.
    """
    if (pool is None) == (explore is None):
        raise InvalidArgument("pool, explore: one of them is needed")
    if not start:
        raise InvalidArgument("start: at least one labelled structure is needed")
    if pick not in ("committee", "dopt", "random"):
        raise InvalidArgument(f"pick must be committee, dopt or random, got {pick!r}")
    for name, count, least in (
        ("rounds", rounds, 0),
        ("per_round", per_round, 1),
        ("members", members, 2),
        ("starts", starts, 1),
    ):
        if count < least:
            raise InvalidArgument(f"{name} must be at least {least}, got {count}")
    if pool is not None and len(pool) < rounds * per_round:
        raise InvalidArgument(f"pool: {rounds * per_round} structures are needed, got {len(pool)}")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    told = {
        "format": _FORMAT,
        "model": model.record(),
        "space": space.record(),
        "structures": _digest(start, pool or (), test),
        "pick": pick,
        "per_round": per_round,
        "members": members,
        "sigma": [sigma_energy, sigma_force],
        "starts": starts,
        "seed": seed,
    }
    loop = _Loop(model, space, fit, pick, members, (sigma_energy, sigma_force), starts, seed)
    done: list[Round] = []
    known = list(start)
    used: set[int] = set()
    with locked(place):
        _same_loop(place, told)
        for number in range(rounds + 1):
            found = _read_round(place, number, last=number == rounds)
            if found is None:
                before = done[-1].point if done else space.initial
                candidates = None
                if number < rounds:
                    candidates = pool if pool is not None else explore
                found = loop.round(number, known, before, candidates, used, per_round, label, test)
                _write_round(place, found)
            done.append(found)
            known += found.structures
            used |= set(found.picked) if pool is not None else set()
    return ActiveRun(tuple(done))


class _Loop:
    """What stays the same from round to round."""

    def __init__(
        self,
        model: Model,
        space: Space,
        fit: Fit,
        pick: Pick,
        members: int,
        sigma: tuple[float, float],
        starts: int,
        seed: int,
    ) -> None:
        self.model, self.space, self.fit, self.pick = model, space, fit, pick
        self.members, self.sigma, self.starts, self.seed = members, sigma, starts, seed

    def round(
        self,
        number: int,
        known: Sequence[Atoms],
        before: Array,
        candidates: Sequence[Atoms] | Explore | None,
        used: set[int],
        count: int,
        label: Label,
        test: Sequence[Atoms],
    ) -> Round:
        targets = _targets(known, self.sigma)
        with Evaluator(self.model, targets) as evaluator:
            misfit = Misfit(evaluator, self.space, targets)
            others = self._random(number, 0).random((self.starts - 1, self.space.size))
            point = polish(misfit, np.concatenate([before[None], others]), self.fit)
            values = self.space.values(point)
            terms = evaluator([values])[0].terms
            train = float(np.sqrt(np.mean(np.square(list(terms.values())))))
            picked, grades, taken = [], [], []
            if candidates is not None:
                offered = candidates(values, number) if callable(candidates) else candidates
                left = [k for k in range(len(offered)) if k not in used]
                if len(left) < count:
                    raise Error(f"round {number}: {len(left)} structures are offered, not {count}")
                order, marks = self._choose(
                    misfit, point, [offered[k] for k in left], count, number
                )
                picked, grades = [left[k] for k in order], marks
                taken = [_checked(label(offered[k])) for k in picked]
        return Round(
            number,
            len(known),
            point,
            values,
            train,
            self._errors(values, test),
            tuple(picked),
            tuple(grades),
            tuple(taken),
        )

    def _choose(
        self, misfit: Misfit, point: Array, offered: Sequence[Atoms], count: int, number: int
    ) -> tuple[list[int], list[float]]:
        rng = self._random(number, 1)
        if self.pick == "random":
            return [int(k) for k in rng.permutation(len(offered))[:count]], [0.0] * count
        energy, force = self.sigma
        if self.pick == "dopt":
            found = features(
                self.model, offered, self.space, point, sigma_energy=energy, sigma_force=force
            )
            slope = jacobian(misfit, point)
            known = slope.T @ slope + ranges(self.space.size)
            order = choose(found, count, known)
            marks = gains(found, known)
        else:
            members = self._members(misfit, point, number)
            marks = disagreement(predict(self.model, offered, members), energy, force)
            order = [int(k) for k in np.argsort(-marks, kind="stable")[:count]]
        return order, [float(marks[k]) for k in order]

    def _members(self, misfit: Misfit, point: Array, number: int) -> list[dict[str, float]]:
        drawn = int(self._random(number, 2).integers(2**31))
        rest = misfit(point[None])[0]
        if np.sum(rest**2) > 1e-12 * len(rest):
            made = refits(
                misfit, self.space, point, self.members, noise="normal", seed=drawn, fit=self.fit
            )
        else:
            # nothing is left to draw from where the fit is exact
            made = gaussian(fisher(misfit, self.space, point), self.members, drawn)
        return made.candidates(self.space)

    def _errors(self, values: Mapping[str, float], test: Sequence[Atoms]) -> dict[str, float]:
        if not test:
            return {}
        predictor = Predictor(self.model, test)
        try:
            energies, forces = predictor.rows([values])
        finally:
            predictor.close()
        told = [labels(atoms) for atoms in test]
        counts = np.array([len(atoms) for atoms in test])
        energy = energies[0] - np.array([t.energy for t in told], dtype=np.float64) / counts
        parts = np.split(forces[0], 3 * np.cumsum(counts)[:-1])
        force = np.array(
            [
                np.sqrt(np.mean((p - np.asarray(t.forces).ravel()) ** 2))
                for p, t in zip(parts, told, strict=True)
            ]
        )
        terms = np.concatenate([energy / self.sigma[0], force / self.sigma[1]])
        return {
            "energy": float(np.sqrt(np.mean(energy**2))),
            "forces": float(np.sqrt(np.mean(force**2))),
            "score": float(np.sqrt(np.mean(terms**2))),
        }

    def _random(self, number: int, use: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, number, use])


def _targets(structures: Sequence[Atoms], sigma: tuple[float, float]) -> list[Target]:
    names = [str(k) for k in range(len(structures))]
    return [
        Energies(structures, sigma=sigma[0], names=[f"energy {name}" for name in names]),
        Forces(structures, sigma=sigma[1], names=[f"forces {name}" for name in names]),
    ]


def _checked(atoms: Atoms) -> Atoms:
    known = labels(atoms)
    if known.energy is None or known.forces is None:
        raise InvalidArgument("label: what it gives back has no energy or no forces")
    return atoms


def _frame(lmp: Any, structure: Atoms) -> Atoms:
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    sides = np.subtract(high, low)
    cell = [[sides[0], 0, 0], [xy, sides[1], 0], [xz, yz, sides[2]]]
    places = np.array(lmp.gather_atoms("x", 1, 3), dtype=np.float64).reshape(-1, 3) - low
    if not np.isfinite(places).all() or len(places) != len(structure):
        raise Error("atoms were lost")
    frame = Atoms(structure.symbols, positions=places, cell=cell, pbc=structure.pbc)
    if "species" in structure.arrays:
        frame.set_array("species", structure.arrays["species"])
    return frame


def _digest(*parts: Sequence[Atoms]) -> str:
    """Of structures and of what is known of them, part by part."""
    whole = hashlib.sha256()
    for structures in parts:
        whole.update(f"{len(structures)} structures".encode())
        for atoms in structures:
            known = labels(atoms)
            whole.update(structure_key(atoms))
            whole.update(repr(known.energy).encode())
            if known.forces is not None:
                whole.update(np.ascontiguousarray(known.forces, dtype=np.float64).tobytes())
    return whole.hexdigest()


def _same_loop(place: Path, told: dict[str, Any]) -> None:
    file = place / "active.json"
    text = json.dumps(told, indent=1, sort_keys=True) + "\n"
    if not file.exists():
        write_text(file, text)
    elif file.read_text() != text:
        raise InvalidArgument(f"folder: {place} holds rounds of another loop")


def _write_round(place: Path, found: Round) -> None:
    with atomic_directory(place / f"round_{found.number:03d}") as folder:
        if found.structures:
            text = "".join(frame_text(atoms)[0] for atoms in found.structures)
            (folder / "labelled.extxyz").write_text(text)
        told = {
            "number": found.number,
            "labelled": found.labelled,
            "point": found.point.tolist(),
            "values": found.values,
            "train": found.train,
            "errors": found.errors,
            "picked": list(found.picked),
            "grades": list(found.grades),
        }
        (folder / "round.json").write_text(json.dumps(told, indent=1) + "\n")


def _read_round(place: Path, number: int, last: bool) -> Round | None:
    """A round that was finished; None where it was not, or where it must go on now."""
    folder = place / f"round_{number:03d}"
    if not (folder / "round.json").exists():
        return None
    try:
        told = json.loads((folder / "round.json").read_text())
        if not told["picked"] and not last:
            # it was the last one of a shorter loop
            return None
        structures = []
        if told["picked"]:
            structures = [
                take_labels(atoms)[0] for atoms in read_frames(folder / "labelled.extxyz")
            ]
        return Round(
            int(told["number"]),
            int(told["labelled"]),
            np.array(told["point"], dtype=np.float64),
            dict(told["values"]),
            float(told["train"]),
            dict(told["errors"]),
            tuple(told["picked"]),
            tuple(told["grades"]),
            tuple(structures),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{folder}: {error!r}") from None
