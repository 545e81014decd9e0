"""From candidates to the residuals of all targets."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate.box import CandidateFailed
from mlcore.forcefield.evaluate.lammps import (
    LammpsBoxes,
    LammpsEngine,
    check_reach,
    structure_key,
)
from mlcore.forcefield.evaluate.native import NativeBoxes, NativeEngine, is_native
from mlcore.forcefield.forms.record import Model
from mlcore.forcefield.targets.face import Measurement, Target
from mlcore.neighbors import neighbor_list

__all__ = ["CLIP", "Evaluation", "Evaluator"]

Array = npt.NDArray[np.float64]
Engine = Literal["auto", "native", "lammps"]
Gate = Callable[[int, Mapping[str, float]], bool]

# A; atoms nearer than this are in one place
NEAR = 1e-6
# a term never counts more than this many tolerances
CLIP = 1000.0


@dataclass(frozen=True)
class Evaluation:
    """What the targets say of one candidate.

    Attributes:
        values: target -> (R,) measured; NaN where there is no such property.
        errors: target -> (R,) standard errors of noisy values.
        residuals: target -> (R,) (value - reference)/sigma, scaled where their term is clipped.
        slopes: target -> (R, Q) derivatives of its residuals, where they were asked for and the
            target knows them exactly.
        terms: term -> its size in tolerances, with the sign of a single residual.
        level: number of levels passed, or of those there are where nothing gates.
        failed: why nothing could be said, in LAMMPS' own words; None where it could.
        notes: target -> words on what went wrong with it.
        seconds: it took.
    """

    values: dict[str, Array] = field(default_factory=dict)
    errors: dict[str, Array] = field(default_factory=dict)
    residuals: dict[str, Array] = field(default_factory=dict)
    slopes: dict[str, Array] = field(default_factory=dict)
    terms: dict[str, float] = field(default_factory=dict)
    level: int = 0
    failed: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Evaluator:
    """Measures all targets under candidates, with LAMMPS objects that stay.

    Targets of the lowest level come first, within a level the cheap ones. Where a ``gate`` turns a
    candidate away after a level, the targets of higher levels are not measured. What a candidate
    is told does not depend on those before it or beside it. Threads that share one wait for each
    other; other processes get one of their own by pickling.

    Args:
        model: the form.
        targets: what is wanted; their names differ.
        engine: ``native``: targets of structures at rest by the core's own kernels, many
            candidates at once; ``lammps``: all of them by LAMMPS; ``auto``: native where the core
            knows the form.
        cutoff_cap: largest cutoff a candidate may have, A.
        gate: called with a level and the terms of that level; whether the next is worth it.

    Raises:
        InvalidArgument: two targets of one name, two terms of one name, no target, or a form the
            core does not know with ``native``.
    """

    def __init__(
        self,
        model: Model,
        targets: Sequence[Target],
        *,
        engine: Engine = "auto",
        cutoff_cap: float = 12.0,
        gate: Gate | None = None,
    ) -> None:
        if not targets:
            raise InvalidArgument("targets: name at least one")
        _differ("targets", [target.name for target in targets])
        _differ("terms", [term for target in targets for term in target.terms])
        if engine not in ("auto", "native", "lammps"):
            raise InvalidArgument(f"engine must be auto, native or lammps, got {engine!r}")
        if engine == "native" and not is_native(model):
            raise InvalidArgument(f"engine: the core does not know {model.form.name}; use lammps")
        self.model = model
        self.engine: Engine = engine
        self._turn = threading.RLock()
        self.targets = tuple(targets)
        self.terms = tuple(term for target in targets for term in target.terms)
        self.cutoff_cap = cutoff_cap
        self.gate = gate
        self.levels = sorted({target.level for target in targets})
        self._native = NativeEngine(model) if engine != "lammps" and is_native(model) else None
        self._lammps: LammpsEngine | None = None
        self._parts: dict[tuple[str, ...], Evaluator] = {}
        self._last: tuple[dict[str, float], Evaluation] | None = None
        self._keys = {t.name: [structure_key(atoms) for atoms in t.structures] for t in targets}
        self._check_structures()

    def __reduce__(self) -> tuple[Any, ...]:
        made = functools.partial(
            Evaluator, engine=self.engine, cutoff_cap=self.cutoff_cap, gate=self.gate
        )
        return made, (self.model, self.targets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends LAMMPS; the next call starts it anew."""
        with self._turn:
            if self._lammps is not None:
                self._lammps.close()
                self._lammps = None
            for part in self._parts.values():
                part.close()

    def __call__(self, candidates: Sequence[Mapping[str, float]]) -> list[Evaluation]:
        """One evaluation for each candidate (name -> value of every parameter).

        Raises:
            InvalidArgument: a candidate has no number for a parameter, a structure holds atoms of
                other species, or a target measured something of another shape.
        """
        _complete(self.model, candidates)
        with self._turn:
            found = self._evaluated(candidates)
            # derivatives are asked for where a search has just been
            self._last = (dict(candidates[-1]), found[-1]) if found else None
            return found

    def only(self, targets: Sequence[Target]) -> Evaluator:
        """An evaluator of some of the targets, without gate; it ends with this one."""
        with self._turn:
            names = tuple(target.name for target in targets)
            if names not in self._parts:
                made = Evaluator(
                    self.model, targets, engine=self.engine, cutoff_cap=self.cutoff_cap
                )
                self._parts[names] = made
            return self._parts[names]

    @property
    def exact(self) -> tuple[Target, ...]:
        """Targets whose derivatives by parameters `along` gives."""
        return tuple(t for t in self.targets if t.exact) if self._native else ()

    def along(
        self, values: Mapping[str, float], directions: Mapping[str, npt.ArrayLike]
    ) -> Evaluation:
        """The evaluation of one candidate, and derivatives of the residuals of `exact` targets.

        It is that of a call, to the last bit. Without derivatives it is where the candidate fails,
        where they have no answer, and where LAMMPS knows a parameter that the core does not and
        that is not 0.

        Args:
            values: name -> value of every parameter.
            directions: name -> (Q,) derivatives of that parameter, as `Space.directions`; names
                left out do not change.

        Raises:
            InvalidArgument: as of a call.
        """
        with self._turn:
            known = self._last is not None and dict(values) == self._last[0]
            found = self._last[1] if known and self._last else self([values])[0]
            targets = [t for t in self.exact if t.name in found.residuals]
            if not targets or not is_native(self.model, values):
                return found
            start = time.perf_counter()
            try:
                slopes = self._slopes(targets, values, directions, found.values)
            except np.linalg.LinAlgError:
                slopes = {}
            seconds = found.seconds + time.perf_counter() - start
            return replace(found, slopes=slopes, seconds=seconds)

    def _slopes(
        self,
        targets: Sequence[Target],
        values: Mapping[str, float],
        directions: Mapping[str, npt.ArrayLike],
        measured: Mapping[str, Array],
    ) -> dict[str, Array]:
        assert self._native is not None
        own = {n: row for n, row in directions.items() if n in set(self.model.names)}
        if not own:
            count = len(np.atleast_1d(next(iter(directions.values()))))
            return {t.name: np.zeros((len(t.reference), count)) for t in targets}
        self._native.use([values], self.model.form.reach(self.model, values), own)
        self._native.slopes_known(self._at_rest(targets))
        found = {}
        for target in targets:
            boxes = NativeBoxes(self._native, target.structures, self._keys[target.name])
            slopes = target.slopes(boxes, measured[target.name])
            assert slopes is not None
            found[target.name] = slopes_in_tolerances(target, measured[target.name], slopes)
        return found

    def _evaluated(self, candidates: Sequence[Mapping[str, float]]) -> list[Evaluation]:
        found = [_Candidate(values) for values in candidates]
        for candidate in found:
            candidate.try_to(lambda c: c.check(self.model, self.cutoff_cap))
        for level in self.levels:
            here = [target for target in self.targets if target.level == level]
            going = [c for c in found if c.goes_on]
            self._measure(here, going)
            for candidate in going:
                if candidate.goes_on:
                    candidate.pass_level(level, here, self.gate)
        return [candidate.evaluation() for candidate in found]

    def weights(self) -> dict[str, float]:
        """Weight of each term."""
        return {term: target.weight for target in self.targets for term in target.terms}

    def _check_structures(self) -> None:
        """Refuses atoms in one place: forces have no direction there, whatever the engine says."""
        seen: set[bytes] = set()
        for target in self.targets:
            for key, atoms in zip(self._keys[target.name], target.structures, strict=True):
                if key not in seen and _in_one_place(atoms):
                    raise InvalidArgument(
                        f"{target.name}: two atoms of {atoms.get_chemical_formula()} are in one "
                        f"place"
                    )
                seen.add(key)

    def _measure(self, targets: Sequence[Target], going: Sequence[_Candidate]) -> None:
        fast = [t for t in targets if t.tier == "static"] if self._native else []
        slow = sorted((t for t in targets if t not in fast), key=_cost)
        of_core = [c for c in going if is_native(self.model, c.values)]
        if fast and of_core:
            self._by_core(fast, of_core)
        for candidate in going:
            own = slow if candidate in of_core else sorted(targets, key=_cost)
            if own and candidate.goes_on:
                candidate.try_to(functools.partial(self._by_lammps, own))

    def _by_core(self, targets: Sequence[Target], going: Sequence[_Candidate]) -> None:
        """Targets of structures at rest, all candidates at once."""
        assert self._native is not None
        start = time.perf_counter()
        self._native.use([c.values for c in going], max(c.reach for c in going))
        self._native.prepare(self._at_rest(targets))
        for target in targets:
            measured = target.measure(
                NativeBoxes(self._native, target.structures, self._keys[target.name])
            )
            for k, candidate in enumerate(going):
                candidate.add(target, measured, k)
        share = (time.perf_counter() - start) / len(going)
        for k, candidate in enumerate(going):
            candidate.seconds += share
            if not self._native.good[k]:
                words = "an energy, force or stress is not finite"
                candidate.failed = self._native.words.get(k, words)

    def _by_lammps(self, targets: Sequence[Target], candidate: _Candidate) -> None:
        if self._lammps is None:
            self._lammps = LammpsEngine(self.model, self.cutoff_cap)
        start = time.perf_counter()
        try:
            self._lammps.use(candidate.values)
            self._lammps.prepare(self._at_rest(targets))
            for target in targets:
                boxes = LammpsBoxes(self._lammps, target.structures, self._keys[target.name])
                candidate.add(target, target.measure(boxes))
        finally:
            candidate.seconds += time.perf_counter() - start

    def _at_rest(self, targets: Sequence[Target]) -> dict[bytes, tuple[Atoms, bool]]:
        """Structures that are asked for as they are, and whether their forces are."""
        found: dict[bytes, tuple[Atoms, bool]] = {}
        for target in targets:
            if target.asks is None:
                continue
            for key, atoms in zip(self._keys[target.name], target.structures, strict=True):
                known = found.get(key)
                found[key] = (atoms, target.asks == "forces" or (known is not None and known[1]))
        return found


class _Candidate:
    """What is known so far of one candidate."""

    def __init__(self, values: Mapping[str, float]) -> None:
        self.values = values
        self.reach = float("nan")
        self.failed: str | None = None
        self.turned_away = False
        self.level = 0
        self.seconds = 0.0
        self._measured: dict[str, Array] = {}
        self._errors: dict[str, Array] = {}
        self._residuals: dict[str, Array] = {}
        self._terms: dict[str, float] = {}
        self._notes: dict[str, str] = {}

    @property
    def goes_on(self) -> bool:
        return self.failed is None and not self.turned_away

    def try_to(self, what: Callable[[_Candidate], None]) -> None:
        """Does it; a failure of the candidate is taken note of."""
        try:
            what(self)
        except CandidateFailed as error:
            self.failed = str(error)

    def check(self, model: Model, cap: float) -> None:
        """Refuses what no engine could take."""
        odd = [name for name in model.names if not np.isfinite(self.values[name])]
        if odd:
            raise CandidateFailed(f"{odd[0]} is {self.values[odd[0]]}")
        self.reach = model.form.reach(model, self.values)
        check_reach(self.reach, cap)

    def add(self, target: Target, measured: Measurement, c: int = 0) -> None:
        """Takes candidate ``c`` of a measurement."""
        values = measured.values[c]
        if values.shape != target.reference.shape:
            raise InvalidArgument(
                f"{target.name}: measured values must have shape (C, {len(target.reference)}), got "
                f"{measured.values.shape}"
            )
        residuals, terms = in_tolerances(target, values)
        self._measured[target.name] = values
        self._residuals[target.name] = residuals
        self._terms |= dict(zip(target.terms, terms.tolist(), strict=True))
        if measured.errors is not None:
            self._errors[target.name] = measured.errors[c]
        if measured.notes and measured.notes[c]:
            self._notes[target.name] = measured.notes[c]

    def pass_level(self, level: int, targets: Sequence[Target], gate: Gate | None) -> None:
        terms = {term: self._terms[term] for target in targets for term in target.terms}
        if gate is not None and not gate(level, terms):
            self.turned_away = True
        else:
            self.level += 1

    def evaluation(self) -> Evaluation:
        if self.failed is not None:
            return Evaluation(failed=self.failed, level=self.level, seconds=self.seconds)
        return Evaluation(
            values=self._measured,
            errors=self._errors,
            residuals=self._residuals,
            terms=self._terms,
            level=self.level,
            notes=self._notes,
            seconds=self.seconds,
        )


def in_tolerances(target: Target, values: Array) -> tuple[Array, Array]:
    """(R,) residuals and (T,) terms of measured ``values``.

    A term is the root of the sum of its squared residuals, with their sign where it has only one.
    It is at most `CLIP`, as is what could not be measured; the residuals are shortened alike.
    """
    of, sizes = target.term_of, target.term_sizes
    # far enough for any clip, near enough to be squared
    residuals = np.clip((values - target.reference) / target.sigma, -1e100, 1e100)
    missing = np.isnan(residuals)
    if missing.any():
        lost = np.bincount(of, weights=missing, minlength=len(sizes)) > 0
        residuals = np.where(lost[of], (CLIP / np.sqrt(sizes))[of], residuals)
    terms = np.sqrt(np.bincount(of, weights=residuals**2, minlength=len(sizes)))
    if terms.max() > CLIP:
        residuals = residuals * np.minimum(1.0, CLIP / np.maximum(terms, CLIP))[of]
        terms = np.minimum(terms, CLIP)
    alone = target.alone
    terms[of[alone]] = residuals[alone]
    return residuals, terms


def slopes_in_tolerances(target: Target, values: Array, slopes: Array) -> Array:
    """(R, Q) derivatives of the residuals `in_tolerances` makes of ``values``.

    What could not be measured stands still.
    """
    of, sizes = target.term_of, target.term_sizes
    residuals = (values - target.reference) / target.sigma
    lost = np.bincount(of, weights=np.isnan(residuals), minlength=len(sizes)) > 0
    found: Array = np.where(lost[of][:, None], 0.0, slopes / target.sigma[:, None])
    residuals = np.where(lost[of], 0.0, np.clip(residuals, -1e100, 1e100))
    terms = np.sqrt(np.bincount(of, weights=residuals**2, minlength=len(sizes)))
    if terms.max() > CLIP:
        # a term that is too large keeps its size and may only turn
        along = _summed(target, residuals[:, None] * found)
        with np.errstate(all="ignore"):
            turned = found - residuals[:, None] * (along / terms[:, None] ** 2)[of]
            shorter = (CLIP / terms)[of][:, None] * turned
        found = np.where((terms > CLIP)[of][:, None], shorter, found)
    return found


def _summed(target: Target, rows: Array) -> Array:
    """(T, Q) sums of rows over each term."""
    found = np.zeros((len(target.terms), rows.shape[1]))
    np.add.at(found, target.term_of, rows)
    return found


def _complete(model: Model, candidates: Sequence[Mapping[str, float]]) -> None:
    for k, values in enumerate(candidates):
        for name in model.names:
            if not isinstance(values.get(name), (int, float, np.integer, np.floating)):
                raise InvalidArgument(
                    f"candidates: number {k} has {name} = {values.get(name)!r}, not a number"
                )


def _cost(target: Target) -> int:
    return ("static", "relaxed", "md").index(target.tier)


def _in_one_place(atoms: Atoms) -> bool:
    return len(atoms) > 1 and bool((neighbor_list("d", atoms, 0.1) < NEAR).any())


def _differ(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgument(f"{what}: named twice: {', '.join(twice[:5])}; give them names")
