"""Ensembles of parameters that a fit cannot tell apart, and what they say of other properties."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mlcore.errors import BackendUnavailable, Error, FileFormatError, InvalidArgument
from mlcore.forcefield.evaluate import Evaluation
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.uncertainty.fisher_information import Fisher, quantile
from mlcore.forcefield.uncertainty.misfit import Evaluate, Fit, Residuals, local_fit, shifted
from mlcore.io.atomic import atomic_path, write_text

__all__ = [
    "Distribution",
    "Ensemble",
    "cascade",
    "gaussian",
    "mcmc",
    "natural_temperature",
    "pops",
    "refits",
]

Array = npt.NDArray[np.float64]
_FORMAT = "mlcore ensemble 1"


@dataclass(frozen=True)
class Ensemble:
    """Points of the cube that stand for what is not known.

    Attributes:
        names: of the n free parameters.
        points: (m, n) in the unit cube.
        method: what it was made by.
        details: of the making: numbers and words.
    """

    names: tuple[str, ...]
    points: Array
    method: str
    details: dict[str, Any]

    def __len__(self) -> int:
        return len(self.points)

    def candidates(self, space: Space) -> list[dict[str, float]]:
        """Values of all parameters of each member."""
        return [space.values(point) for point in self.points]

    def intervals(self, space: Space, level: float = 0.9) -> dict[str, tuple[float, float]]:
        """Free parameter -> where the middle ``level`` of the members lie."""
        table = space.table(self.points, self.names)
        low, high = _middle(table, level)
        return {n: (float(a), float(b)) for n, a, b in zip(self.names, low, high, strict=True)}

    def propagate(self, evaluate: Evaluate, space: Space) -> Distribution:
        """What the members say of the targets of another evaluator.

        Args:
            evaluate: an `Evaluator` of the properties wanted.
            space: the ensemble's.

        Raises:
            Error: fewer than two members could be evaluated.
        """
        found = list(evaluate(self.candidates(space)))
        good = [e for e in found if e.failed is None]
        if len(good) < 2:
            raise Error(f"of {len(found)} members {len(good)} could be evaluated")
        names = [
            f"{target} [{k}]" if len(values) > 1 else target
            for target, values in good[0].values.items()
            for k in range(len(values))
        ]
        rows = np.array([np.concatenate(list(e.values.values())) for e in good])
        return Distribution(tuple(names), rows, len(found) - len(good))

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "format": _FORMAT,
            "names": list(self.names),
            "points": self.points.tolist(),
            "method": self.method,
            "details": self.details,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Ensemble:
        """What `record` was made of.

        Raises:
            FileFormatError: it is no such record.
        """
        if record.get("format") != _FORMAT:
            raise FileFormatError(f"record: format is {record.get('format')!r}, not {_FORMAT!r}")
        try:
            points = np.asarray(record["points"], dtype=np.float64)
            names = tuple(record["names"])
            if points.ndim != 2 or points.shape[1] != len(names):
                raise ValueError(f"points have shape {points.shape}")
            return cls(names, points, record["method"], dict(record["details"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"record: {error!r}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `record` to a JSON file."""
        write_text(path, json.dumps(self.record()) + "\n")


@dataclass(frozen=True)
class Distribution:
    """Properties under the members of an ensemble.

    Attributes:
        names: of the R properties.
        values: (m, R), NaN where a member has no such property.
        failed: number of members that could not be evaluated.
    """

    names: tuple[str, ...]
    values: Array
    failed: int = 0

    @property
    def mean(self) -> Array:
        """(R,)"""
        found: Array = np.nanmean(self.values, axis=0)
        return found

    @property
    def spread(self) -> Array:
        """(R,) standard deviations."""
        found: Array = np.nanstd(self.values, axis=0, ddof=1)
        return found

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """(R,) lower and upper end of where the middle ``level`` of the members lie."""
        return _middle(self.values, level)

    def covers(self, truth: npt.ArrayLike, level: float = 0.9) -> npt.NDArray[np.bool_]:
        """(R,) whether the interval holds each true value."""
        low, high = self.interval(level)
        found: npt.NDArray[np.bool_] = (low <= np.asarray(truth)) & (np.asarray(truth) <= high)
        return found

    def table(self, level: float = 0.9) -> str:
        """Mean, standard deviation and interval of each property."""
        low, high = self.interval(level)
        lines = [f"{'property':<34}{'mean':>12}{'spread':>11}{f'{level:.0%} of members':>26}"]
        rows = zip(self.names, self.mean, self.spread, low, high, strict=True)
        lines += [f"{n:<34}{m:>12.5g}{s:>11.3g}{a:>13.5g}{b:>13.5g}" for n, m, s, a, b in rows]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        rows: list[list[float]] = self.values.tolist()
        return {
            "names": list(self.names),
            "values": [[x if np.isfinite(x) else None for x in row] for row in rows],
            "failed": self.failed,
        }

    def plot(self, path: str | os.PathLike[str], most: int = 12) -> None:
        """Histograms of the first ``most`` properties, to a file."""
        from matplotlib.figure import Figure

        count = min(len(self.names), most)
        columns = min(count, 4)
        rows = -(-count // columns)
        figure = Figure(figsize=(2.6 * columns, 2.2 * rows), layout="constrained")
        places = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        for axes in places[count:]:
            axes.set_visible(False)
        for axes, name, values in zip(places, self.names, self.values.T, strict=False):
            axes.hist(values[np.isfinite(values)], bins=20)
            axes.set_title(name, fontsize="small")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)


def gaussian(fisher: Fisher, count: int = 100, seed: int = 0, scaled: bool = False) -> Ensemble:
    """Draws of the linear theory, within the ranges of the parameters.

    Args:
        fisher: information at the fit.
        count: of members.
        seed: of the draws.
        scaled: tolerances are scaled so that chi square per degree of freedom is 1.
    """
    _positive("count", count)
    rng = np.random.default_rng(seed)
    covariance = fisher.unit_covariance(scaled=scaled, prior=True)
    size, vectors = np.linalg.eigh(covariance)
    steps = rng.normal(size=(count, len(size))) * np.sqrt(np.maximum(size, 0))
    points = np.clip(fisher.point + steps @ vectors.T, 0, 1)
    return Ensemble(fisher.names, points, "gaussian", {"seed": seed, "scaled": scaled})


def refits(
    residuals: Residuals,
    space: Space,
    point: npt.ArrayLike,
    count: int = 20,
    *,
    noise: Literal["bootstrap", "normal"] = "bootstrap",
    seed: int = 0,
    fit: Fit = local_fit,
) -> Ensemble:
    """Fits to data made anew: what the model says at its optimum, and noise.

    Args:
        residuals: such as a `Misfit`.
        space: the free parameters.
        point: (n,) the fit's result, from which every refit starts.
        count: of refits.
        noise: ``bootstrap`` draws from the residuals of the fit itself, their mean taken off and
            widened to the degrees of freedom (B. Efron, Ann. Stat. 7, 1, 1979); ``normal`` from
            the tolerances, as standard errors.
        seed: of the draws.
        fit: residuals and start -> best point.

    Raises:
        Error: fewer than two refits could be done.
    """
    _positive("count", count)
    rng = np.random.default_rng(seed)
    best = np.asarray(point, dtype=np.float64)
    rest = residuals(best[None])[0]
    if not np.isfinite(rest).all():
        raise Error("point: it fails, so there is nothing to refit from")
    free = max(len(rest) - space.size, 1)
    own = (rest - rest.mean()) * np.sqrt(len(rest) / free)
    points = []
    for _ in range(count):
        size = len(rest)
        draw = rng.choice(own, size) if noise == "bootstrap" else rng.normal(size=size)
        try:
            points.append(fit(shifted(residuals, rest - draw), best))
        except Error:
            continue
    if len(points) < 2:
        raise Error(f"of {count} refits {len(points)} could be done")
    details = {"noise": noise, "seed": seed, "failed": count - len(points)}
    return Ensemble(space.names, np.array(points), "refits", details)


def natural_temperature(residuals: Residuals, point: npt.ArrayLike) -> float:
    """2 C/n of the least cost C = sum of squares / 2 and n parameters: fits as good as the best.

    Source: S. L. Frederiksen, K. W. Jacobsen, K. S. Brown, J. P. Sethna, Phys. Rev. Lett. 93,
    165501 (2004).
    """
    best = np.asarray(point, dtype=np.float64)
    return float(np.sum(residuals(best[None]) ** 2)) / len(best)


def mcmc(
    residuals: Residuals,
    space: Space,
    point: npt.ArrayLike,
    *,
    steps: int = 200,
    walkers: int | None = None,
    temperature: float | Literal["natural"] = 1.0,
    hottest: float = 100.0,
    stages: int = 4,
    thin: int = 10,
    seed: int = 0,
) -> Ensemble:
    """Members by walkers in the cube, weight exp(-sum of squares/2T), annealed before they count.

    Args:
        residuals: such as a `Misfit`.
        space: the free parameters; all points of its cube are as likely beforehand.
        point: (n,) the fit's result.
        steps: of every walker that count, and as many before them, a part at each temperature.
        walkers: by default 2 n + 2.
        temperature: T; 1 where tolerances are standard errors, ``natural`` for
            `natural_temperature`.
        hottest: temperature the annealing begins with, in units of T.
        stages: number of temperatures of the annealing.
        thin: every how many steps walkers become members.
        seed: of all.

    Raises:
        BackendUnavailable: emcee is not installed.
    """
    try:
        import emcee  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise BackendUnavailable("emcee is needed: pip install 'mlcore[forcefield]'") from None
    _positive("steps", steps)
    best = np.asarray(point, dtype=np.float64)
    size = space.size
    count = max(2 * size + 2, walkers or 0)
    level = natural_temperature(residuals, best) if temperature == "natural" else float(temperature)
    if not level > 0:
        raise InvalidArgument(f"temperature must be positive, got {level}")
    rng = np.random.default_rng(seed)
    at = np.clip(best + 1e-3 * rng.normal(size=(count, size)), 1e-6, 1 - 1e-6)
    state: Any = emcee.State(at, random_state=np.random.RandomState(seed).get_state())
    ladder = [*np.geomspace(hottest * level, level, stages), level] if stages else [level]
    accepted = 0.0
    sampler: Any = None
    for k, now in enumerate(ladder):
        last = k == len(ladder) - 1
        sampler = emcee.EnsembleSampler(
            count, size, _weigher(residuals, float(now)), vectorize=True
        )
        length = steps if last else max(steps // max(stages, 1), 1)
        state = sampler.run_mcmc(emcee.State(state.coords, random_state=state.random_state), length)
        accepted = float(np.mean(sampler.acceptance_fraction))
    points = np.asarray(sampler.get_chain(thin=thin, flat=True), dtype=np.float64)
    details = {"temperature": level, "acceptance": accepted, "seed": seed, "walkers": count}
    return Ensemble(space.names, points, "mcmc", details)


def pops(fisher: Fisher, count: int = 100, seed: int = 0) -> Ensemble:
    """Members that between them meet every datum: uncertainty of a form that cannot meet all.

    Each residual has a smallest change of the parameters, in the metric of the information, that
    would bring it to zero. Members are uniform in the box about these changes, along their
    principal axes (T. D. Swinburne, D. Perez, Mach. Learn.: Sci. Technol. 6, 015008, 2025),
    within the ranges of the parameters.

    Args:
        fisher: information at the fit.
        count: of members.
        seed: of the draws.
    """
    _positive("count", count)
    rng = np.random.default_rng(seed)
    slope = fisher.jacobian * fisher.slopes
    covariance = fisher.unit_covariance(prior=True)
    toward = slope @ covariance
    leverage = np.einsum("rn,rn->r", toward, slope)
    felt = leverage > 1e-12 * max(float(leverage.max()), 1e-300)
    if not felt.any():
        raise InvalidArgument("fisher: no residual depends on the parameters")
    steps = -toward[felt] * (fisher.residuals[felt] / leverage[felt])[:, None]
    _, _, axes = np.linalg.svd(steps, full_matrices=False)
    along = steps @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    draws = low + rng.random((count, len(low))) * (high - low)
    points = np.clip(fisher.point + draws @ axes, 0, 1)
    return Ensemble(fisher.names, points, "pops", {"seed": seed})


def cascade(
    members: Ensemble,
    space: Space,
    evaluate: Evaluate,
    coarse: Space,
    residuals: Callable[[Evaluation], Residuals],
    *,
    start: npt.ArrayLike | None = None,
    fit: Fit = local_fit,
) -> Ensemble:
    """A coarser model fitted to what each member of an ensemble says, so that errors go along.

    Of a first-principles fit with its ensemble comes an ensemble of the coarse-grained model that
    is fitted to it; `Ensemble.propagate` then tells how uncertain coarse-grained properties are.

    Args:
        members: of the finer model.
        space: theirs.
        evaluate: an `Evaluator` of what the coarser model is fitted to, under the finer one.
        coarse: free parameters of the coarser model.
        residuals: one evaluation of the finer model -> residuals of the coarser one.
        start: (n,) where every fit starts; the coarse space's start where left out.
        fit: residuals and start -> best point.

    Raises:
        Error: fewer than two members could be evaluated and fitted.
    """
    first = coarse.initial if start is None else np.asarray(start, dtype=np.float64)
    points = []
    for evaluation in evaluate(members.candidates(space)):
        if evaluation.failed is not None:
            continue
        try:
            points.append(fit(residuals(evaluation), first))
        except Error:
            continue
    if len(points) < 2:
        raise Error(f"of {len(members)} members {len(points)} could be fitted to")
    details = {"of": members.method, "failed": len(members) - len(points)}
    return Ensemble(coarse.names, np.array(points), "cascade", details)


def linear_spread(slope: Array, covariance: Array, level: float = 0.9) -> Array:
    """(P,) half widths of properties with (P, n) derivatives by a point of (n, n) covariance."""
    found: Array = quantile(level) * np.sqrt(np.einsum("pi,ij,pj->p", slope, covariance, slope))
    return found


def _weigher(residuals: Residuals, temperature: float) -> Any:
    def weight(points: Array) -> Array:
        found = np.full(len(points), -np.inf)
        inside = np.all((points >= 0) & (points <= 1), axis=1)
        if inside.any():
            square = np.sum(residuals(points[inside]) ** 2, axis=1)
            found[inside] = np.where(np.isfinite(square), -square / (2 * temperature), -np.inf)
        return found

    return weight


def _middle(values: Array, level: float) -> tuple[Array, Array]:
    if not 0 < level < 1:
        raise InvalidArgument(f"level must lie between 0 and 1, got {level}")
    low, high = np.nanquantile(values, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return low, high


def _positive(name: str, count: int) -> None:
    if count < 1:
        raise InvalidArgument(f"{name} must be at least 1, got {count}")
