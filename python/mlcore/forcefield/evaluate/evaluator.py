"""From candidates to the residuals of all targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate.box import CandidateFailed
from mlcore.forcefield.evaluate.lammps import LammpsBoxes, LammpsEngine
from mlcore.forcefield.forms.record import Model
from mlcore.forcefield.targets.face import Boxes, Measurement, Target

__all__ = ["CLIP", "Evaluation", "Evaluator"]

Array = npt.NDArray[np.float64]
Engine = Literal["auto", "native", "lammps"]
Gate = Callable[[int, Mapping[str, float]], bool]

# a term never counts more than this many tolerances
CLIP = 1000.0


@dataclass(frozen=True)
class Evaluation:
    """What the targets say of one candidate.

    Attributes:
        values: target -> (R,) measured; NaN where there is no such property.
        errors: target -> (R,) standard errors of noisy values.
        residuals: target -> (R,) (value - reference)/sigma, scaled where their term is clipped.
        terms: term -> its size in tolerances, with the sign of a single residual.
        level: number of levels passed, or of those there are where nothing gates.
        failed: why nothing could be said, in LAMMPS' own words; None where it could.
        notes: target -> words on what went wrong with it.
        seconds: it took.
    """

    values: dict[str, Array] = field(default_factory=dict)
    errors: dict[str, Array] = field(default_factory=dict)
    residuals: dict[str, Array] = field(default_factory=dict)
    terms: dict[str, float] = field(default_factory=dict)
    level: int = 0
    failed: str | None = None
    notes: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class Evaluator:
    """Measures all targets under candidates, with LAMMPS objects that stay.

    Targets of the lowest level come first, within a level the cheap ones. Where a ``gate`` turns a
    candidate away after a level, the targets of higher levels are not measured.

    Args:
        model: the form.
        targets: what is wanted; their names differ.
        engine: ``native`` for the core's own kernels where they know the form (MD excepted),
            ``lammps``, or ``auto``: native where it can be.
        cutoff_cap: largest cutoff a candidate may have, A.
        gate: called with a level and the terms of that level; whether the next is worth it.

    Raises:
        InvalidArgument: two targets of one name, two terms of one name, no target, or a structure
            that holds other species.
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
        self.model = model
        self.targets = tuple(targets)
        self.terms = tuple(term for target in targets for term in target.terms)
        self.cutoff_cap = cutoff_cap
        self.gate = gate
        self.levels = sorted({target.level for target in targets})
        self._engine_name = engine
        self._lammps: LammpsEngine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends LAMMPS; the next call starts it anew."""
        if self._lammps is not None:
            self._lammps.close()
            self._lammps = None

    def __call__(self, candidates: Sequence[Mapping[str, float]]) -> list[Evaluation]:
        """One evaluation for each candidate (name -> value of every parameter)."""
        return [self._one(values) for values in candidates]

    def weights(self) -> dict[str, float]:
        """Weight of each term."""
        return {term: target.weight for target in self.targets for term in target.terms}

    def _one(self, values: Mapping[str, float]) -> Evaluation:
        start = time.perf_counter()
        found = _Gathered()
        try:
            self._engine().use(values)
            self._measure(found)
        except CandidateFailed as error:
            return Evaluation(
                failed=str(error), level=found.level, seconds=time.perf_counter() - start
            )
        return found.evaluation(time.perf_counter() - start)

    def _engine(self) -> LammpsEngine:
        if self._lammps is None:
            self._lammps = LammpsEngine(self.model, self.cutoff_cap)
        return self._lammps

    def _measure(self, found: _Gathered) -> None:
        for level in self.levels:
            here = sorted((t for t in self.targets if t.level == level), key=_cost)
            terms: dict[str, float] = {}
            for target in here:
                boxes: Boxes = LammpsBoxes(self._engine(), target.structures)
                terms |= found.add(target, target.measure(boxes))
            if self.gate is not None and not self.gate(level, terms):
                return
            found.level += 1


class _Gathered:
    """What the targets said so far of one candidate."""

    def __init__(self) -> None:
        self.values: dict[str, Array] = {}
        self.errors: dict[str, Array] = {}
        self.residuals: dict[str, Array] = {}
        self.terms: dict[str, float] = {}
        self.notes: dict[str, str] = {}
        self.level = 0

    def add(self, target: Target, measured: Measurement, c: int = 0) -> dict[str, float]:
        """Takes candidate ``c`` of a measurement; returns the terms."""
        values = measured.values[c]
        residuals, terms = in_tolerances(target, values)
        self.values[target.name] = values
        self.residuals[target.name] = residuals
        named = dict(zip(target.terms, terms.tolist(), strict=True))
        self.terms |= named
        if measured.errors is not None:
            self.errors[target.name] = measured.errors[c]
        if measured.notes and measured.notes[c]:
            self.notes[target.name] = measured.notes[c]
        return named

    def evaluation(self, seconds: float) -> Evaluation:
        return Evaluation(
            values=self.values,
            errors=self.errors,
            residuals=self.residuals,
            terms=self.terms,
            level=self.level,
            notes=self.notes,
            seconds=seconds,
        )


def in_tolerances(target: Target, values: Array) -> tuple[Array, Array]:
    """(R,) residuals and (T,) terms of measured ``values``.

    A term is the root of the sum of its squared residuals, with their sign where it has only one.
    It is at most `CLIP`, as is what could not be measured; the residuals are shortened alike.
    """
    raw = (values - target.reference) / target.sigma
    counts = np.bincount(target.term_of, minlength=len(target.terms))
    lost = np.bincount(target.term_of, weights=~np.isfinite(raw), minlength=len(counts)) > 0
    filled = np.where(lost[target.term_of], CLIP / np.sqrt(counts)[target.term_of], raw)
    size = np.sqrt(np.bincount(target.term_of, weights=filled**2, minlength=len(counts)))
    with np.errstate(all="ignore"):
        shrink = np.where(size > CLIP, CLIP / size, 1.0)
    residuals = filled * shrink[target.term_of]
    terms = np.minimum(size, CLIP)
    single = (counts == 1)[target.term_of]
    terms[target.term_of[single]] = residuals[single]
    return residuals, terms


def _cost(target: Target) -> int:
    return ("static", "relaxed", "md").index(target.tier)


def _differ(what: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidArgument(f"{what}: named twice: {', '.join(twice[:5])}; give them names")
