"""Cross-validation: refits without some of the data, and how well they say what was held out."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.lammps import structure_key
from mlcore.forcefield.forms import Model
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.targets import Target
from mlcore.forcefield.uncertainty.misfit import Evaluate, Fit, Misfit, local_fit, polish
from mlcore.io.atomic import atomic_path, write_text

__all__ = [
    "OVERFIT",
    "Refit",
    "Validation",
    "cross_validate",
    "hold_out",
    "k_fold",
    "leave_group_out",
    "units",
]

Array = npt.NDArray[np.float64]
Splits = Mapping[str, Collection[str]]
Evaluators = Callable[[Model, Sequence[Target]], Any]
# test error over train error that counts as overfit
OVERFIT = 2.0
# tolerances; a test error below it is none to speak of, however small the train error is
MATTERS = 0.1
_FORMAT = "mlcore validation 1"


def units(targets: Sequence[Target]) -> list[tuple[str, ...]]:
    """Terms that belong together because they are of one structure.

    Energy, forces and stress of a structure are one unit, wherever they are asked for; a target
    whose terms are not one for each structure (elastic constants) is a unit of its own.

    Returns:
        Names of terms, one tuple for each unit.
    """
    found: dict[object, list[str]] = {}
    for target in targets:
        single = len(target.terms) == len(target.structures)
        for k, term in enumerate(target.terms):
            key: object = structure_key(target.structures[k]) if single else target.name
            found.setdefault(key, []).append(term)
    return [tuple(terms) for terms in found.values()]


def k_fold(targets: Sequence[Target], k: int = 5, seed: int = 0) -> dict[str, frozenset[str]]:
    """Terms held out in each of ``k`` folds: every unit is held out once.

    Raises:
        InvalidArgument: ``k`` is below 2 or above the number of `units`.
    """
    parts = units(targets)
    if not 2 <= k <= len(parts):
        raise InvalidArgument(f"k must be from 2 to the {len(parts)} structures, got {k}")
    order = np.random.default_rng(seed).permutation(len(parts))
    return {
        f"fold {fold + 1}": frozenset(t for part in order[fold::k] for t in parts[part])
        for fold in range(k)
    }


def leave_group_out(targets: Sequence[Target]) -> dict[str, frozenset[str]]:
    """Terms held out where each group of targets is left out in turn.

    Raises:
        InvalidArgument: there is only one group.
    """
    groups = list(dict.fromkeys(target.group for target in targets))
    if len(groups) < 2:
        raise InvalidArgument(f"targets: one group alone ({groups}) cannot be left out")
    return {g: frozenset(t for x in targets if x.group == g for t in x.terms) for g in groups}


def hold_out(
    targets: Sequence[Target], names: Collection[str], name: str = "held out"
) -> dict[str, frozenset[str]]:
    """One split that holds out properties by name: terms, targets, groups or structures.

    Raises:
        InvalidArgument: a name that is none of these, or nothing is left.
    """
    found: set[str] = set()
    for wanted in names:
        own = {
            t
            for x in targets
            for t in x.terms
            if wanted in (t, x.name, x.group) or t == f"{x.name} of {wanted}"
        }
        if not own:
            raise InvalidArgument(f"names: {wanted!r} is no term, target, group or structure")
        found |= own
    return {name: frozenset(found)}


@dataclass(frozen=True)
class Refit:
    """One fit that did not see some of the data; errors in tolerances.

    Attributes:
        name: of the split.
        values: of all parameters.
        errors: term -> root of the sum of its squared residuals; infinite where it failed.
        held_out: names of the terms it did not see.
        groups: term -> group.
    """

    name: str
    values: dict[str, float]
    errors: dict[str, float]
    held_out: frozenset[str]
    groups: dict[str, str]

    @property
    def train(self) -> float:
        """Root mean square error over the terms it was fitted to."""
        return _rms(e for t, e in self.errors.items() if t not in self.held_out)

    @property
    def test(self) -> float:
        """Root mean square error over the terms held out."""
        return _rms(e for t, e in self.errors.items() if t in self.held_out)

    @property
    def ratio(self) -> float:
        """Test over train error; infinite where the training data are met exactly and others not."""
        if self.train > 0:
            return self.test / self.train
        return math.inf if self.test > 0 else 1.0

    def by_group(self) -> dict[str, tuple[float, float]]:
        """Group -> train and test error, NaN where it has no such terms."""
        return {
            group: (
                _rms(self.errors[t] for t in self._of(group) if t not in self.held_out),
                _rms(self.errors[t] for t in self._of(group) if t in self.held_out),
            )
            for group in dict.fromkeys(self.groups.values())
        }

    def _of(self, group: str) -> list[str]:
        return [t for t in self.errors if self.groups[t] == group]


@dataclass(frozen=True)
class Validation:
    """What refits say of a model: errors in tolerances, on what they saw and what not.

    Attributes:
        refits: one for each split.
        threshold: test error over train error that counts as overfit.
    """

    refits: tuple[Refit, ...]
    threshold: float = OVERFIT

    @property
    def train(self) -> float:
        """Root mean square over all terms seen, of all refits."""
        return _rms(e for r in self.refits for t, e in r.errors.items() if t not in r.held_out)

    @property
    def test(self) -> float:
        """Root mean square over all terms held out, of all refits."""
        return _rms(e for r in self.refits for t, e in r.errors.items() if t in r.held_out)

    @property
    def overfit(self) -> bool:
        """Whether the test error matters and is at least ``threshold`` times the train error."""
        return self.test >= max(self.threshold * self.train, MATTERS)

    def by_term(self) -> dict[str, tuple[float, float]]:
        """Term -> mean train error and mean test error over refits, NaN where there is none."""
        return {
            term: (
                _rms(r.errors[term] for r in self.refits if term not in r.held_out),
                _rms(r.errors[term] for r in self.refits if term in r.held_out),
            )
            for term in self.refits[0].errors
        }

    def by_group(self) -> dict[str, tuple[float, float]]:
        """Group -> train and test error over all refits, NaN where there is none."""
        found = {}
        for group in dict.fromkeys(self.refits[0].groups.values()):
            both = [
                _rms(
                    r.errors[t]
                    for r in self.refits
                    for t in r.errors
                    if r.groups[t] == group and (t in r.held_out) == held
                )
                for held in (False, True)
            ]
            found[group] = (both[0], both[1])
        return found

    def overfit_groups(self) -> list[str]:
        """Groups whose test error is at least ``threshold`` times the train error of the fits."""
        return [
            group
            for group, (_, test) in self.by_group().items()
            if math.isfinite(test) and test >= max(self.threshold * self.train, MATTERS)
        ]

    def table(self) -> str:
        """Train and test errors of every refit, every group, in words and numbers."""
        lines = [f"{'split':<28}{'train':>10}{'test':>10}{'test/train':>12}"]
        for refit in self.refits:
            lines.append(_row(refit.name, refit.train, refit.test, refit.ratio))
        whole = self.test / self.train if self.train > 0 else math.inf
        lines.append(_row("all", self.train, self.test, whole))
        lines += ["", f"{'group':<28}{'train':>10}{'test':>10}"]
        lines += [f"{g:<28}{a:>10.3g}{b:>10.3g}" for g, (a, b) in self.by_group().items()]
        verdict = "overfit" if self.overfit else "no overfit"
        lines.append(f"errors in tolerances; {verdict} (bar: test/train {self.threshold:g})")
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "format": _FORMAT,
            "threshold": self.threshold,
            "train": _finite(self.train),
            "test": _finite(self.test),
            "overfit": self.overfit,
            "groups": self.refits[0].groups,
            "refits": [
                {
                    "name": r.name,
                    "train": _finite(r.train),
                    "test": _finite(r.test),
                    "held_out": sorted(r.held_out),
                    "values": r.values,
                    "errors": {t: _finite(e) for t, e in r.errors.items()},
                }
                for r in self.refits
            ],
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Validation:
        """What `record` was made of.

        Raises:
            FileFormatError: it is no such record.
        """
        if record.get("format") != _FORMAT:
            raise FileFormatError(f"record: format is {record.get('format')!r}, not {_FORMAT!r}")
        try:
            refits = tuple(
                Refit(
                    r["name"],
                    dict(r["values"]),
                    {t: math.inf if e is None else float(e) for t, e in r["errors"].items()},
                    frozenset(r["held_out"]),
                    dict(record["groups"]),
                )
                for r in record["refits"]
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"record: {error!r}") from None
        return cls(refits, float(record["threshold"]))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `record` to a JSON file."""
        write_text(path, json.dumps(self.record(), indent=1) + "\n")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Train and test error of each split and of each group, as bars, to a file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        splits = {r.name: (r.train, r.test) for r in self.refits}
        for axes, found, title in ((left, splits, "splits"), (right, self.by_group(), "groups")):
            place = np.arange(len(found))
            train, test = np.array(list(found.values())).T
            axes.bar(place - 0.2, np.nan_to_num(train), 0.4, label="seen")
            axes.bar(place + 0.2, np.nan_to_num(test), 0.4, label="held out")
            axes.set_xticks(place, list(found), rotation=30, ha="right")
            axes.set(title=title, ylabel="error, tolerances")
        left.legend()
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)


def cross_validate(
    model: Model,
    space: Space,
    targets: Sequence[Target],
    splits: Splits,
    *,
    fit: Fit = local_fit,
    starts: int = 1,
    seed: int = 0,
    evaluator: Evaluators = Evaluator,
    threshold: float = OVERFIT,
) -> Validation:
    """Fits anew without what each split holds out, and measures all of it.

    Terms of weight 0, which no fit looks at, count as neither seen nor held out.

    Args:
        model: the form.
        space: its free parameters; fits start at ``space.initial``.
        targets: all that is known.
        splits: name -> terms held out, as of `k_fold`, `leave_group_out` and `hold_out`.
        fit: residuals and (n,) start -> (n,) best point; least squares where left out.
        starts: fits of each split; those beyond the first start at random points of the cube.
        seed: of these.
        evaluator: makes what evaluates a model on some targets, with ``close``.
        threshold: test over train error that counts as overfit.

    Raises:
        InvalidArgument: a split without a term that counts on either side, or of unknown terms.
        Error: no start of a split could be fitted.
    """
    every = {term for target in targets for term in target.terms}
    targets = [target for target in targets if target.weight > 0]
    known = {term for target in targets for term in target.terms}
    for name, held in splits.items():
        if not set(held) <= every or not 0 < len(known & set(held)) < len(known):
            raise InvalidArgument(
                f"splits: {name!r} must hold out some terms of positive weight, and not all"
            )
    if not splits:
        raise InvalidArgument("splits: name at least one")
    if starts < 1:
        raise InvalidArgument(f"starts must be at least 1, got {starts}")
    rng = np.random.default_rng(seed)
    points = np.concatenate([space.initial[None], rng.random((starts - 1, space.size))])
    refits = []
    with contextlib.closing(evaluator(model, targets)) as whole:
        for name, held in splits.items():
            seen = [t for t in targets if set(t.terms) - set(held)]
            # targets held out whole are not measured while fitting
            part = whole if len(seen) == len(targets) else evaluator(model, seen)
            try:
                point = _refit(part, space, seen, known - set(held), points, fit)
            finally:
                if part is not whole:
                    part.close()
            refits.append(_judged(name, whole, space, targets, frozenset(known & set(held)), point))
    return Validation(tuple(refits), threshold)


def _refit(
    evaluate: Evaluate,
    space: Space,
    targets: Sequence[Target],
    terms: set[str],
    starts: Array,
    fit: Fit,
) -> Array:
    return polish(Misfit(evaluate, space, targets, terms), starts, fit)


def _judged(
    name: str,
    evaluate: Evaluate,
    space: Space,
    targets: Sequence[Target],
    held: frozenset[str],
    point: Array,
) -> Refit:
    values = space.values(point)
    found = evaluate([values])[0]
    groups = {term: target.group for target in targets for term in target.terms}
    errors = {term: abs(found.terms.get(term, math.inf)) for term in groups}
    return Refit(name, values, errors, held, groups)


def _rms(errors: Any) -> float:
    found = list(errors)
    return math.sqrt(math.fsum(e * e for e in found) / len(found)) if found else math.nan


def _row(name: str, train: float, test: float, ratio: float) -> str:
    return f"{name:<28}{train:>10.3g}{test:>10.3g}{ratio:>12.3g}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
