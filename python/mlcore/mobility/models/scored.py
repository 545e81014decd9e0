"""Pair models fitted by Fisher scoring: what they share. Needs no torch."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.mobility.background import overlap_correction
from mlcore.mobility.likelihood import Likelihood, Point
from mlcore.mobility.models.base import LOCAL_FLOOR, FitResult, Loss, PairModel, PairParameters
from mlcore.mobility.regression import Regression
from mlcore.mobility.scoring import (
    Expandable,
    Maximum,
    Prior,
    maximise,
    maximise_bare,
    predictive_deviation,
)

__all__ = ["ScoredPairModel"]

Array = NDArray[np.float64]

_BROAD = 10.0


class ScoredPairModel(PairModel):
    """Maximum a posteriori with a Gaussian prior on the shell weights, weights and delta >= 0."""

    covariance: Array | None = None
    force_parameters: dict[str, float] | None = None

    @abstractmethod
    def _choose(
        self, loss: Expandable, start: Array, scale: float, folds: NDArray[np.int64]
    ) -> tuple[Array, Array]:
        """(Q,Q) prior covariance of the shell weights and a good start."""

    # -- fitting --------------------------------------------------------------------------------
    def fit(self, data: Any, loss: Loss = "regression", **options: Any) -> FitResult:
        """Learn from data.

        Args:
            data: MobilityEstimate for "regression", Increments for "likelihood".
            loss: which of the two.
            options: of the loss. Regression: rmin, finite_lag, use_covariance. Likelihood:
                finite_lag, separate_noise, force. Both: progress (show a bar).

        Raises:
            InvalidArgument: naming the argument.
        """
        begin = time.perf_counter()
        progress = bool(options.pop("progress", False))
        if loss == "regression":
            self.result = self._fit_regression(data, options)
        elif loss == "likelihood":
            self.result = self._fit_likelihood(data, options, progress)
        else:
            raise InvalidArgument(f"loss must be 'regression' or 'likelihood', not {loss!r}")
        self.result.seconds = time.perf_counter() - begin
        return self.result

    def _envelope(self) -> Array:
        """(Q,) prior standard deviations of the weights, self parts adding up to one."""
        k = self.basis.column_wavenumbers
        if len(k) == 0:
            return np.zeros(0)
        width = np.exp(-((2 * k / k.max()) ** 2))
        return np.asarray(width / (width @ self.basis.self_values))

    def _prior(self, start: Array, scale: float, free: NDArray[np.bool_], shells: Array) -> Prior:
        covariance = np.zeros((len(start), len(start)))
        spread = np.zeros(len(start))
        spread[:2] = self.prior_width
        spread[2:4] = _BROAD * scale
        q = self.basis.size
        spread[4 + q :] = 1e3
        covariance[np.diag_indices(len(start))] = np.where(free, spread, 0.0) ** 2
        covariance[4 : 4 + q, 4 : 4 + q] = shells
        mean = start.copy()
        mean[4 : 4 + q] = 0.0
        lower = np.full(len(start), -np.inf)
        lower[2:4] = LOCAL_FLOOR * scale
        lower[4 : 4 + q] = 0.0
        return Prior(mean, covariance, lower)

    def _first_guess(self, radius: float, viscosity: float, scale: float) -> tuple[Array, float]:
        log = np.log([self.start_radius or radius, self.start_viscosity or viscosity])
        share = 0.9
        if self.background == "rpy":
            share = max(1 - 1 / (6 * np.pi * np.exp(log.sum()) * scale), 0.05)
        return log, share

    def _fit_regression(self, data: Any, options: dict[str, Any]) -> FitResult:
        terms = Regression(data, self.basis, background=self.background, **options)
        scale = abs(float(data.self_mobility))
        start = np.zeros(4 + self.basis.size)
        share = 0.9
        if self.background == "rpy":
            start[:2], share = self._first_guess(*terms.guess(), scale)
        start[2:4] = share * scale
        free = np.zeros(len(start), dtype=bool)
        free[:2] = self.fit_background
        free[2] = True
        shells, begin = self._tuned(terms, start, scale, free, terms.folds())
        found = maximise(terms, self._prior(start, scale, free, shells), begin)
        self._adopt(found, None)
        return self._told("regression", -2 * found.value, found)

    def _fit_likelihood(self, data: Any, options: dict[str, Any], progress: bool) -> FitResult:
        force = options.get("force")
        radius = self.start_radius or 1.0
        if self.background == "rpy" and self.start_radius is None:
            raise InvalidArgument(
                "radius: loss='likelihood' needs a start value for the background"
            )
        if self.background == "rpy" and self.start_viscosity is None:
            raise InvalidArgument("viscosity: loss='likelihood' needs a start value")
        terms = Likelihood(data, self.basis, background=self.background, radius=radius, **options)
        scale = terms.scale()
        log, share = np.zeros(2), 0.9
        if self.background == "rpy":
            log, share = self._first_guess(1.0, 1.0, scale)
        start = terms.start(float(np.exp(log[0])), float(np.exp(log[1])), share)
        free = terms.free(self.fit_background)
        folds = _block_folds(data.labels("blocks"), 5)
        with _bar(progress) as report:
            shells, begin = self._tuned(terms, start, scale, free, folds)
            first = self._prior(start, scale, free, shells)
            found = maximise(terms, first, begin, report=report)
            for _ in range(4):
                now = float(np.exp(found.vector[0]))
                if not terms.centre > 0 or abs(np.log(now / terms.centre)) < 0.01:
                    break
                terms.recentre(now)
                found = maximise(terms, first, found.vector, report=report)
        if not terms.free(True)[2]:
            # without a mean the steady local part is known through the noise alone
            found.vector[2] = found.vector[3]
        self._adopt(found, terms.separate_noise)
        if force is not None:
            self.force_parameters = force.named(Point(found.vector, self.basis.size).force)
            self._force_errors(found, force)
        return self._told("likelihood", -found.value, found)

    def _tuned(
        self,
        terms: Any,
        start: Array,
        scale: float,
        free: NDArray[np.bool_],
        folds: NDArray[np.int64],
    ) -> tuple[Array, Array]:
        """Prior covariance of the shells, and the best fit without remainder to begin from."""
        q = self.basis.size
        if q == 0:
            return np.zeros((0, 0)), start
        bare = maximise_bare(terms, self._prior(start, scale, free, np.zeros((q, q))), start, q)
        self._free = free
        shells, _ = self._choose(terms, bare, scale, folds)
        return shells, bare

    def _adopt(self, found: Maximum, noise: bool | None) -> None:
        point = Point(found.vector, self.basis.size)
        rpy = self.background == "rpy"
        spread = np.sqrt(np.diagonal(found.covariance))
        own = np.zeros(len(found.vector))
        own[2], own[4 : 4 + self.basis.size] = 1.0, self.basis.self_values
        if rpy:
            own[:2] = -1 / (6 * np.pi * point.radius * point.viscosity)
        errors = {
            "radius": float(point.radius * spread[0]) if rpy else 0.0,
            "viscosity": float(point.viscosity * spread[1]) if rpy else 0.0,
            "local": float(spread[2]),
            "total_self_mobility": float(predictive_deviation(found.covariance, own[None])[0]),
        }
        if noise:
            errors["noise_local"] = float(spread[3])
        self.set_parameters(
            PairParameters(
                point.radius if rpy else 1.0,
                point.viscosity if rpy else 1.0,
                point.local,
                point.weights.copy(),
                point.noise_local if noise else None,
                errors,
            )
        )
        size = 4 + self.basis.size
        self.covariance = found.covariance[:size, :size]

    def _force_errors(self, found: Maximum, force: Any) -> None:
        p = Point(found.vector, self.basis.size).force
        spread = np.sqrt(np.diagonal(found.covariance))[4 + self.basis.size :]
        values = force.named(p)
        for index, (name, value) in enumerate(values.items()):
            moved = p.copy()
            moved[index] += 1e-6
            slope = (force.named(moved)[name] - value) / 1e-6
            self.parameters.errors[f"force.{name}"] = float(abs(slope) * spread[index])

    def _told(self, loss: str, value: float, found: Maximum) -> FitResult:
        return FitResult(loss, value, found.steps, found.seconds, found.reason, found.history)

    # -- standard errors ------------------------------------------------------------------------
    def pair_errors(self, r: Array) -> tuple[Array, Array]:
        """Predictive standard errors of par(r), perp(r), from the posterior covariance.

        Raises:
            Error: the model was not fitted.
        """
        if self.covariance is None:
            raise Error("no covariance: fit the model first")
        r = np.asarray(r, dtype=np.float64)
        values = self.basis.evaluate(r.reshape(-1))
        out = []
        for index, columns in enumerate((values.par, values.perp)):
            jacobian = np.zeros((r.size, 4 + self.basis.size))
            jacobian[:, 4:] = columns
            if self.background == "rpy":
                jacobian[:, :2] = self._background_slopes(r.reshape(-1), index)
            out.append(predictive_deviation(self.covariance, jacobian).reshape(r.shape))
        return out[0], out[1]

    def _background_slopes(self, r: Array, index: int) -> Array:
        p = self.parameters

        def pair(radius: float) -> Array:
            far = 1 / (8 * np.pi * p.viscosity * r)
            ratio = (radius / r) ** 2
            extra = overlap_correction(r, radius, p.viscosity)[index]
            factor = 2 - 4 * ratio / 3 if index == 0 else 1 + 2 * ratio / 3
            return np.asarray(far * factor + extra)

        h = 1e-5
        slope = (pair(p.radius * np.exp(h)) - pair(p.radius * np.exp(-h))) / (2 * h)
        return np.stack([slope, -pair(p.radius)], 1)

    def extra_tensors(self) -> dict[str, NDArray[Any]]:
        return {} if self.covariance is None else {"covariance": self.covariance}

    def load_extra(self, tensors: Mapping[str, NDArray[Any]], where: str) -> None:
        found = tensors.get("covariance")
        if found is None:
            return
        size = 4 + self.basis.size
        if found.shape != (size, size):
            raise FileFormatError(
                f"{where}: tensor 'covariance' has shape {found.shape}, not {(size, size)}"
            )
        self.covariance = np.asarray(found, dtype=np.float64)


def _block_folds(blocks: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Whole blocks dealt out to folds in turn."""
    _, order = np.unique(blocks, return_inverse=True)
    return np.asarray(order % count, dtype=np.int64)


def _bar(show: bool) -> Any:
    """Context manager that gives a report function, with a spinner when shown."""
    import contextlib

    if not show:
        return contextlib.nullcontext(None)

    @contextlib.contextmanager
    def shown() -> Any:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("scoring", total=None)

            def report(step: int, value: float) -> None:
                bar.update(task, description=f"scoring step {step}, objective {value:.6g}")

            yield report

    return shown()
