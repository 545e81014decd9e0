"""Candidates evaluated here or by workers, in order; what went wrong comes back as words."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from mlcore.errors import BackendUnavailable, Error
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.evaluate.evaluator import Gate

if TYPE_CHECKING:
    from mlcore.forcefield.forms import Model
    from mlcore.forcefield.targets import Target
    from mlcore.parallel import Engine, Result

__all__ = ["Along", "Candidates", "Item", "Recipe", "Whole", "worker"]

# candidates a native evaluator is given at once
BATCH = 64

# names of a worker's own folders differ from run to run
_FOLDER = re.compile(r"\S*/mlcore-[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*/")


@dataclass(frozen=True)
class Recipe:
    """What an evaluator is made of, in a worker too.

    Attributes:
        model: the form.
        targets: what is measured.
        engine: ``auto``, ``native`` or ``lammps``; see `Evaluator`.
        cutoff_cap: largest cutoff of a candidate, A.
        gate: whether a candidate goes on to the next level.
    """

    model: Model
    targets: tuple[Target, ...]
    engine: Literal["auto", "native", "lammps"] = "auto"
    cutoff_cap: float = 12.0
    gate: Gate | None = None

    def make(self) -> Evaluator:
        return Evaluator(
            self.model,
            self.targets,
            engine=self.engine,
            cutoff_cap=self.cutoff_cap,
            gate=self.gate,
        )


@dataclass(frozen=True)
class Along:
    """A candidate whose derivatives are wanted too.

    Attributes:
        values: of its parameters.
        directions: name -> (Q,) derivatives of that parameter.
        cost: evaluations it counts as.
    """

    values: Mapping[str, float]
    directions: Mapping[str, npt.NDArray[np.float64]]
    cost: int


@dataclass(frozen=True)
class Whole:
    """A candidate whose values are wanted besides its terms.

    Attributes:
        values: of its parameters.
    """

    values: Mapping[str, float]


Told = Mapping[str, float] | Along
Item = Told | Whole


class _Worker:
    """The evaluator of a worker; returns no more than is asked for: it all has to travel."""

    def __init__(self, recipe: Recipe, residuals: bool, values: bool) -> None:
        self._evaluator = recipe.make()
        self._residuals = residuals
        self._values = values

    def __call__(self, candidates: Sequence[Item]) -> list[Evaluation]:
        plain = [one.values if isinstance(one, Whole) else one for one in candidates]
        found = all_careful(self._evaluator, plain)
        return [
            slim(one, self._residuals, self._values or isinstance(candidate, Whole))
            for one, candidate in zip(found, candidates, strict=True)
        ]

    def close(self) -> None:
        self._evaluator.close()


def worker(recipe: bytes, residuals: bool, values: bool) -> _Worker:
    """The prepared state of a worker, from a pickled `Recipe`."""
    return _Worker(pickle.loads(recipe), residuals, values)


def all_careful(evaluator: Evaluator, candidates: Sequence[Told]) -> list[Evaluation]:
    """Evaluations of candidates, at once where that goes well."""
    plain = [one for one in candidates if not isinstance(one, Along)]
    if len(plain) < len(candidates):
        return [careful(evaluator, candidate) for candidate in candidates]
    try:
        return evaluator(plain)
    except BackendUnavailable:
        raise
    except (Error, ArithmeticError, ValueError):
        return [careful(evaluator, candidate) for candidate in candidates]


def careful(evaluator: Evaluator, candidate: Told) -> Evaluation:
    """The evaluation of one candidate; arithmetic it cannot go through is its failure."""
    try:
        if isinstance(candidate, Along):
            return evaluator.along(candidate.values, candidate.directions)
        return evaluator([candidate])[0]
    except BackendUnavailable:
        raise
    except (Error, ArithmeticError, ValueError) as error:
        return Evaluation(failed=f"{type(error).__name__}: {error}")


def slim(found: Evaluation, residuals: bool, values: bool) -> Evaluation:
    """Without what nobody needs."""
    return Evaluation(
        values=found.values if values else {},
        errors=found.errors if values else {},
        residuals=found.residuals if residuals else {},
        slopes=found.slopes if residuals else {},
        terms=found.terms,
        level=found.level,
        failed=None if found.failed is None else words(found.failed),
        notes=found.notes,
        seconds=found.seconds,
    )


class Candidates:
    """Evaluates candidates, in this process or by the workers of an engine.

    Args:
        recipe: of the evaluator.
        engine: of `mlcore.parallel`; None: here, in one process, without supervision.
        timeout: seconds for one candidate; then its worker is killed and the candidate failed.
        residuals, values: what is wanted besides terms.
    """

    def __init__(
        self,
        recipe: Recipe,
        engine: Engine | None = None,
        timeout: float | None = None,
        residuals: bool = True,
        values: bool = False,
    ) -> None:
        self._engine = engine
        self._timeout = timeout
        self._wanted = (residuals, values)
        self._together = _together(recipe)
        self._here = _Worker(recipe, residuals, values) if engine is None else None
        # pickled once: it travels with every chunk
        self._recipe = b"" if engine is None else pickle.dumps(recipe, pickle.HIGHEST_PROTOCOL)

    def __call__(self, candidates: Sequence[Item]) -> Iterator[Evaluation]:
        """One evaluation for each, in order, each as soon as it and those before it are there."""
        workers = 1 if self._engine is None else self._engine.workers
        size = min(self._together, -(-len(candidates) // workers))
        parts = [candidates[k : k + size] for k in range(0, len(candidates), size)]
        if self._here is not None:
            for part in parts:
                yield from self._here(part)
            return
        for part, result in zip(parts, self._mapped(parts), strict=True):
            if result.error is not None and len(part) > 1:
                # one of them did it, and the others are to have their scores
                singles = self._mapped([[candidate] for candidate in part])
                yield from (evaluations(one)[0] for one in singles)
            else:
                yield from evaluations(result)

    def _mapped(self, parts: Sequence[Sequence[Item]]) -> Iterator[Result]:
        assert self._engine is not None
        prepared = (worker, (self._recipe, *self._wanted))
        seconds = self._timeout and self._timeout * max(map(_cost, parts))
        return self._engine.map(None, parts, timeout=seconds, prepared=prepared)

    def close(self) -> None:
        if self._here is not None:
            self._here.close()


def _cost(part: Sequence[Item]) -> int:
    return sum(one.cost if isinstance(one, Along) else 1 for one in part)


def _together(recipe: Recipe) -> int:
    """How many candidates are evaluated at once: many by the core's kernels, else each alone."""
    from mlcore.forcefield.evaluate.native import is_native

    if recipe.engine == "lammps" or not is_native(recipe.model):
        return 1
    return BATCH if all(target.tier == "static" for target in recipe.targets) else 1


def evaluations(result: Result) -> list[Evaluation]:
    """What a worker answered; an error of the worker is a failed candidate.

    Raises:
        Error: the evaluator could not be made, or has a defect: no candidate would do better.
    """
    if result.error is None:
        found: list[Evaluation] = result.value
        return found
    error: Any = result.error
    if error.type in ("TimedOut", "WorkerDied"):
        return [Evaluation(failed=f"{error.type}: {error.message}")]
    stopped = Error(f"the evaluation stopped: {error}")
    stopped.add_note(error.traceback)
    raise stopped


def words(text: str) -> str:
    """The message without what differs from run to run."""
    return _FOLDER.sub("", text)
