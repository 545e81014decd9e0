"""From evaluations to the score a search is told."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate.evaluator import Evaluation
from mlcore.forcefield.expressions import Expression
from mlcore.forcefield.score import Score
from mlcore.forcefield.targets.face import Target

__all__ = ["KINDS", "Objective"]

Array = npt.NDArray[np.float64]
Kind = Literal["sse", "huber", "max", "logsumexp"]
KINDS = ("sse", "huber", "max", "logsumexp")


class Objective:
    """What is minimised.

    Terms are in tolerances: 1 is as far off as the target allows.

    Args:
        targets: what is measured.
        kind: ``sse``, the weighted mean of squared terms; ``huber``, quadratic up to ``delta`` and
            linear beyond; ``max``, the largest; ``logsumexp``, a smooth largest; arithmetic of
            target names (the weighted mean square of each), such as ``"forces + 10*elastic"``; or
            a function of term -> size.
        delta: where ``huber`` becomes linear, and the softness of ``logsumexp``, in tolerances.
        tolerances: level -> largest root mean square of its terms that passes; levels without one
            are always passed, and count with the next one. The order of candidates is then by
            levels passed, and by the error of the first level not passed.
        pareto: names of targets or groups whose weighted mean squares are minimised at once.

    Raises:
        InvalidArgument: an unknown kind, name or level.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        kind: Kind | str | Callable[[Mapping[str, float]], float] = "sse",
        *,
        delta: float = 1.0,
        tolerances: Mapping[int, float] | None = None,
        pareto: Sequence[str] = (),
    ) -> None:
        if not (math.isfinite(delta) and delta > 0):
            raise InvalidArgument(f"delta must be positive, got {delta}")
        self.targets = tuple(targets)
        if not any(target.weight > 0 for target in self.targets):
            raise InvalidArgument("targets: at least one needs a weight above 0")
        self.kind = kind
        self.delta = delta
        self.tolerances = dict(tolerances or {})
        self.weights = {term: t.weight for t in targets for term in t.terms}
        self.levels = sorted({target.level for target in targets})
        self.pareto = {name: self._members(name) for name in pareto}
        self._formula = self._parsed(kind)
        for level, tolerance in self.tolerances.items():
            if level not in self.levels:
                raise InvalidArgument(f"tolerances: no target has level {level}")
            if not tolerance > 0:
                raise InvalidArgument(
                    f"tolerances: that of level {level} must be positive, got {tolerance}"
                )

    def passes(self, level: int, terms: Mapping[str, float]) -> bool:
        """Whether a candidate with these terms of ``level`` goes on to the next."""
        tolerance = self.tolerances.get(level)
        return tolerance is None or math.sqrt(self._mean_square(terms)) <= tolerance

    def score(self, evaluation: Evaluation, violation: float = 0.0) -> Score:
        """What a search is told of a candidate."""
        if evaluation.failed is not None:
            return Score.failed(evaluation.failed, violation, len(self.pareto))
        total = self._total(evaluation)
        if not math.isfinite(total):
            words = f"the objective is {total}"
            return Score.failed(words, violation, len(self.pareto))
        residuals = self._residuals(evaluation)
        return Score(
            total=total,
            residuals=residuals,
            objectives=tuple(
                self._aim(members, evaluation.terms) for members in self.pareto.values()
            ),
            violation=violation,
            level=evaluation.level,
            slopes=None if residuals is None else self._slopes(evaluation),
        )

    def shares(self) -> Array | None:
        """(M, R) what the square of each residual counts in each of the objectives of a front.

        None where there are no such objectives, or residuals are no sum of squares.
        """
        if self.kind != "sse" or not self.pareto:
            return None
        whole = math.fsum(self.weights.values())
        rows = []
        for members in self.pareto.values():
            own = math.fsum(self.weights[term] for term in members)
            rows.append([
                whole / own if own and target.terms[0] in members else 0.0
                for target in self.targets
                for _ in target.term_of
            ])  # fmt: skip
        return np.array(rows)

    def contributions(self, evaluation: Evaluation) -> dict[str, float]:
        """Part of the mean square each term has; they add up to that score."""
        whole = math.fsum(self.weights[term] for term in evaluation.terms)
        return {t: self.weights[t] * r * r / whole for t, r in evaluation.terms.items()}

    def _total(self, evaluation: Evaluation) -> float:
        terms = evaluation.terms
        if self.tolerances:
            now = self._counted(evaluation.level)
            own = {t for target in self.targets if target.level in now for t in target.terms}
            terms = {t: r for t, r in terms.items() if t in own}
        if callable(self.kind):
            return float(self.kind(terms))
        if self._formula is not None:
            return float(self._formula(self._squares(terms)))
        size = np.abs(np.array(list(terms.values())))
        weight = np.array([self.weights[term] for term in terms])
        return _combined(self.kind, size, weight, self.delta)

    def _counted(self, passed: int) -> list[int]:
        """The first level not passed, and those without a tolerance before it."""
        last = min(passed, len(self.levels) - 1)
        first = last
        while first > 0 and self.levels[first - 1] not in self.tolerances:
            first -= 1
        return self.levels[first : last + 1]

    def _residuals(self, evaluation: Evaluation) -> Array | None:
        """Whose sum of squares is the total, where this is one; of all targets once all levels
        are passed."""
        if self.kind not in ("sse", "huber") or len(evaluation.residuals) < len(self.targets):
            return None
        whole = math.fsum(self.weights.values())
        return np.concatenate(
            [
                evaluation.residuals[t.name]
                * self._shares(t, evaluation.terms)
                * math.sqrt(t.weight / whole)
                for t in self.targets
            ]
        )

    def _slopes(self, evaluation: Evaluation) -> Array | None:
        """(R, Q) derivatives of the residuals, where all targets told theirs."""
        if len(evaluation.slopes) < len(self.targets):
            return None
        whole = math.fsum(self.weights.values())
        parts = []
        for target in self.targets:
            slopes = evaluation.slopes[target.name]
            if self.kind == "huber":
                slopes = self._softened(target, evaluation, slopes)
            parts.append(slopes * math.sqrt(target.weight / whole))
        return np.concatenate(parts)

    def _softened(self, target: Target, evaluation: Evaluation, slopes: Array) -> Array:
        """Derivatives of residuals that are scaled by their share."""
        shares = self._shares(target, evaluation.terms)[:, None]
        size = np.abs([evaluation.terms[term] for term in target.terms])
        residuals = evaluation.residuals[target.name][:, None]
        longer = np.zeros((len(size), slopes.shape[1]))
        np.add.at(longer, target.term_of, residuals * slopes)
        with np.errstate(all="ignore"):
            root = np.sqrt(_linear(size, self.delta))
            # of root/size by size, and of the size by what is below its root
            bend = (self.delta / root - root / size) / size**2
        bent = np.where(size <= self.delta, 0.0, bend)[:, None] * longer
        found: Array = slopes * shares + residuals * bent[target.term_of]
        return found

    def _shares(self, target: Target, terms: Mapping[str, float]) -> Array:
        """(R,) or 1: what residuals are scaled by, so that their squares add up to their terms'."""
        if self.kind == "sse":
            return np.ones(1)
        size = np.abs([terms[term] for term in target.terms])
        with np.errstate(all="ignore"):
            root = np.where(size <= self.delta, 1.0, np.sqrt(_linear(size, self.delta)) / size)
        shares: Array = root[target.term_of]
        return shares

    def _aim(self, members: tuple[str, ...], terms: Mapping[str, float]) -> float:
        """One of several objectives; infinite where a candidate never came to it."""
        if not all(term in terms for term in members):
            return math.inf
        return self._mean_square({term: terms[term] for term in members})

    def _mean_square(self, terms: Mapping[str, float]) -> float:
        whole = math.fsum(self.weights[term] for term in terms)
        if not whole:
            return 0.0
        return math.fsum(self.weights[t] * r * r for t, r in terms.items()) / whole

    def _squares(self, terms: Mapping[str, float]) -> dict[str, float]:
        return {
            t.name: self._mean_square({k: terms[k] for k in t.terms if k in terms})
            for t in self.targets
        }

    def _members(self, name: str) -> tuple[str, ...]:
        found = [t for target in self.targets if name in (target.name, target.group)
                 for t in target.terms]  # fmt: skip
        if not found:
            known = sorted({n for t in self.targets for n in (t.name, t.group)})
            raise InvalidArgument(f"pareto: no target or group {name}; there are {known}")
        return tuple(found)

    def _parsed(self, kind: object) -> Expression | None:
        if callable(kind) or kind in KINDS:
            return None
        formula = Expression(str(kind), "objective")
        for name in formula.names:
            if name not in {target.name for target in self.targets}:
                raise InvalidArgument(
                    f"objective {kind!r}: {name} is no target and no kind of {', '.join(KINDS)}"
                )
        return formula


def _combined(kind: str, size: Array, weight: Array, delta: float) -> float:
    size, weight = size[weight > 0], weight[weight > 0]
    if not len(size):
        return 0.0
    share = weight / weight.sum()
    if kind == "max":
        return float(size.max())
    if kind == "logsumexp":
        top = float(size.max())
        return top + delta * math.log(float(share @ np.exp((size - top) / delta)))
    if kind == "huber":
        return float(share @ np.where(size <= delta, size**2, _linear(size, delta)))
    return math.fsum((share * size**2).tolist())


def _linear(size: Array, delta: float) -> Array:
    """A squared size, linear beyond ``delta``."""
    return delta * (2 * size - delta)
