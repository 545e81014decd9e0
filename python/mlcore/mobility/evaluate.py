"""How good a learned mobility is: held-out likelihood, errors per bin, response to single forces."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import InvalidArgument
from mlcore.mobility.background import FiniteLag
from mlcore.mobility.increments import Increments
from mlcore.mobility.likelihood import Likelihood, minimum_images
from mlcore.mobility.models.base import PairModel
from mlcore.mobility.models.parametric import ParametricModel
from mlcore.mobility.scoring import Prior, maximise

__all__ = [
    "Comparison",
    "Difference",
    "compare",
    "difference",
    "held_out_log_likelihoods",
    "response_slope",
]

Array = NDArray[np.float64]
Job = tuple[PairModel, Literal["regression", "likelihood"]]


@dataclass(frozen=True)
class Difference:
    """A sum over increments and its bootstrap standard error over blocks."""

    value: float
    error: float

    @property
    def significance(self) -> float:
        """Value in standard errors."""
        return self.value / self.error if self.error > 0 else float(np.sign(self.value) * np.inf)


@dataclass(frozen=True)
class Comparison:
    """One row of the table of models.

    Args:
        model, loss: which model, trained how.
        seconds: training time.
        log_likelihood: of the held-out increments.
        over_none: gain over a fitted mobility without hydrodynamic interaction.
        over_rpy: gain over Rotne-Prager-Yamakawa fitted by the same loss.
        chi2, values: deviation of the pair parts from the estimate, and how many values.
        bin_errors: deviation from the estimate in standard errors, par then perp, nan where unused.
        self_mobility: in the box of the estimate.
    """

    model: str
    loss: str
    seconds: float
    log_likelihood: float
    over_none: Difference
    over_rpy: Difference
    chi2: float
    values: int
    bin_errors: list[float] = field(default_factory=list)
    self_mobility: float = float("nan")

    def row(self) -> dict[str, Any]:
        """The same as a flat dictionary, ready for JSON."""
        return asdict(self)


def _vector(model: PairModel, noise_local: float) -> Array:
    p = model.parameters
    head = [np.log(p.radius), np.log(p.viscosity), model.local_mobility, noise_local]
    return np.concatenate([head, p.weights])


def _terms(model: PairModel, data: Increments, finite_lag: FiniteLag | None) -> Likelihood:
    p = model.parameters
    return Likelihood(
        data,
        model.basis,
        background=model.background,
        finite_lag=finite_lag,
        radius=p.radius,
    )


def _noise_local(model: PairModel, training: Increments, finite_lag: FiniteLag | None) -> float:
    """The local part of the noise that makes the training increments likeliest, all else kept."""
    terms = _terms(model, training, finite_lag)
    vector = _vector(model, 0.5 * model.total_self_mobility)
    spread = np.zeros(len(vector))
    spread[3] = 1e3 * model.total_self_mobility
    lower = np.full(len(vector), -np.inf)
    lower[3] = 1e-6 * model.total_self_mobility
    return float(maximise(terms, Prior(vector, np.diag(spread**2), lower), vector).vector[3])


def held_out_log_likelihoods(
    model: PairModel,
    held_out: Increments,
    *,
    finite_lag: FiniteLag | None = None,
    training: Increments | None = None,
) -> Array:
    """(B,) log density of every held-out increment.

    With finite_lag the noise has a local part of its own. A model trained by likelihood has it; for
    one trained by regression it is fitted to `training`, which must then be given.

    Raises:
        InvalidArgument: it is needed and `training` is not given.
    """
    noise = model.parameters.noise_local
    if finite_lag is None:
        noise = model.local_mobility
    elif noise is None:
        if training is None:
            raise InvalidArgument(
                "training: the local noise of a model trained by regression is fitted to increments"
            )
        noise = _noise_local(model, training, finite_lag)
    terms = _terms(model, held_out, finite_lag)
    return terms.log_likelihoods(_vector(model, noise))


def difference(
    a: Array, b: Array, blocks: NDArray[np.int64], resamples: int = 2000, seed: int = 0
) -> Difference:
    """Sum of a - b over increments and its standard error, whole blocks resampled.

    Raises:
        InvalidArgument: fewer than two blocks.
    """
    labels, place = np.unique(blocks, return_inverse=True)
    if len(labels) < 2:
        raise InvalidArgument("blocks: a bootstrap needs at least two")
    sums = np.bincount(place, np.asarray(a) - np.asarray(b))
    draw = np.random.default_rng(seed).integers(0, len(sums), (resamples, len(sums)))
    return Difference(float(sums.sum()), float(sums[draw].sum(1).std(ddof=1)))


def response_slope(
    model: PairModel,
    increments: Increments,
    *,
    contact: float = 0.0,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Slope of measured on predicted velocity of the particles that no force acts on.

    One when the predicted hydrodynamic coupling is right. Uses the core's mobility, as a run does.

    Args:
        model: fitted model.
        increments: driven motion; particles with a force of their own are left out.
        contact: particles with a neighbour closer than this are left out.

    Raises:
        InvalidArgument: no forces, or no particle left.
    """
    if increments.forces is None or not np.any(increments.forces):
        raise InvalidArgument("increments have no forces: nothing to respond to")
    x, cell = increments.positions, increments.cell
    velocity = increments.displacements / increments.lag
    predicted = np.asarray(model.mobility().apply(x, increments.forces, cell))
    unforced = ~np.any(increments.forces != 0, axis=2)
    count = increments.particles
    d = minimum_images(cell, x[:, :, None] - x[:, None])
    r = np.linalg.norm(d, axis=-1) + np.where(np.eye(count, dtype=bool), np.inf, 0.0)
    unforced &= r.min(2) > contact
    if not unforced.any():
        raise InvalidArgument("no particle without a force and apart from others is left")
    keep = unforced[..., None]
    above = (keep * predicted * velocity).sum((1, 2))
    below = (keep * predicted**2).sum((1, 2))
    labels, place = np.unique(increments.labels("blocks"), return_inverse=True)
    top, bottom = np.bincount(place, above), np.bincount(place, below)
    draw = np.random.default_rng(seed).integers(0, len(labels), (resamples, len(labels)))
    slopes = top[draw].sum(1) / bottom[draw].sum(1)
    return Difference(float(top.sum() / bottom.sum()), float(slopes.std(ddof=1)))


def _binned(
    model: PairModel, estimate: Any, rmin: float, finite_lag: FiniteLag | None
) -> tuple[float, int, list[float], float]:
    lag = None if estimate.kind == "active" else finite_lag
    if model.background == "none":
        lag = None
    theory = estimate.theory(model.mobility(), lag)
    chi2 = estimate.chi2(theory, rmin)
    values = np.concatenate([estimate.par, estimate.perp])
    errors = np.concatenate([estimate.par_error, estimate.perp_error])
    predicted = np.concatenate([theory.par, theory.perp])
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (predicted - values) / errors
    near = np.tile(np.asarray(estimate.edges)[:-1] < rmin, 2)
    z[near] = np.nan
    return chi2.value, chi2.count, [float(v) for v in z], float(theory.self_mobility)


def _references(jobs: Sequence[Job]) -> list[tuple[str, PairModel, str]]:
    """No interaction at all, and RPY fitted by each loss in use."""
    radii = [m.start_radius for m, _ in jobs if m.start_radius]
    viscosities = [m.start_viscosity for m, _ in jobs if m.start_viscosity]
    radius, viscosity = (radii or [1.0])[0], (viscosities or [1.0])[0]
    found: list[tuple[str, PairModel, str]] = [
        ("no hydrodynamics", ParametricModel("none"), "likelihood")
    ]
    for loss in dict.fromkeys(loss for _, loss in jobs):
        rpy = ParametricModel("rpy", radius=radius, viscosity=viscosity)
        found.append(("fitted RPY", rpy, loss))
    return found


def compare(
    jobs: Sequence[Job],
    training: Increments,
    held_out: Increments,
    estimate: Any,
    *,
    finite_lag: FiniteLag | None = None,
    regression: Mapping[str, Any] | None = None,
    rmin: float = 0.0,
    resamples: int = 2000,
    seed: int = 0,
    report: Callable[[str, float], None] | None = None,
) -> list[Comparison]:
    """Train what is not trained yet and judge everything on the same held-out increments.

    Args:
        jobs: models with the loss they are (or were) trained by.
        training, held_out: increments of different runs; likelihood learns from the first.
        estimate: MobilityEstimate regression learns from; made without the held-out runs.
        finite_lag: inertia of the solvent in the increments' noise (and in a passive estimate).
        regression: further options of the regression loss.
        rmin: bins below are neither fitted nor judged.
        resamples, seed: of the block bootstrap.
        report: called with a label and the fraction done.

    Returns:
        first the references (no hydrodynamics by likelihood, RPY by each loss in use), then the jobs.
    """
    if not jobs:
        raise InvalidArgument("jobs is empty")
    passive = None if getattr(estimate, "kind", "active") == "active" else finite_lag
    table: list[tuple[str, str, PairModel, float]] = []
    everything = [*_references(jobs), *((m.kind, m, loss) for m, loss in jobs)]
    rpy = {loss: i for i, (name, _, loss) in enumerate(everything) if name == "fitted RPY"}
    for index, (name, model, loss) in enumerate(everything):
        if report is not None:
            report(f"{name} by {loss}", index / len(everything))
        begin = time.perf_counter()
        if not model.fitted and loss == "likelihood":
            model.fit(training, "likelihood", finite_lag=finite_lag)
        elif not model.fitted:
            options = {"rmin": rmin, "finite_lag": passive, **(regression or {})}
            model.fit(estimate, "regression", **options)
        seconds = model.result.seconds if model.result else time.perf_counter() - begin
        table.append((name, loss, model, seconds))
    densities = [
        held_out_log_likelihoods(m, held_out, finite_lag=finite_lag, training=training)
        for _, _, m, _ in table
    ]
    blocks = held_out.labels("blocks")
    rows = []
    for (name, loss, model, seconds), density in zip(table, densities, strict=True):
        chi2, count, errors, own = _binned(model, estimate, rmin, finite_lag)
        rows.append(
            Comparison(
                name,
                loss,
                seconds,
                float(density.sum()),
                difference(density, densities[0], blocks, resamples, seed),
                difference(
                    density, densities[rpy.get(loss, min(rpy.values()))], blocks, resamples, seed
                ),
                chi2,
                count,
                errors,
                own,
            )
        )
    return rows
