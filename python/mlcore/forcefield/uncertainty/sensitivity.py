"""Which parameters matter, over the whole of their ranges: Sobol's indices and Morris' effects.

Unlike the Fisher information, which speaks of one point, these are about the cube of a `Space`
(I. M. Sobol, Math. Comput. Simul. 55, 271, 2001; M. D. Morris, Technometrics 33, 161, 1991), by
SALib.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.errors import BackendUnavailable, Error, FileFormatError, InvalidArgument
from mlcore.forcefield.parameters import Space
from mlcore.forcefield.targets import Target
from mlcore.forcefield.uncertainty.misfit import Evaluate
from mlcore.io.atomic import atomic_path, write_text

__all__ = ["Sensitivity", "morris", "sobol", "target_errors"]

Array = npt.NDArray[np.float64]
Outputs = Callable[[Array], Mapping[str, Array]]
"""(m, n) points in the unit cube -> name -> (m,) numbers, NaN where a candidate fails."""
_FORMAT = "mlcore sensitivity 1"


@dataclass(frozen=True)
class Sensitivity:
    """How much each parameter moves each output.

    Attributes:
        method: ``sobol`` or ``morris``.
        names: of the n parameters.
        indices: output -> name of the index -> (n,) values. Sobol: ``first`` (part of the variance
            owed to the parameter alone), ``total`` (with all it takes part in) and their
            90 % half widths ``first error``, ``total error``. Morris: ``mean`` of the absolute
            effect of crossing the range, its half width ``mean error``, and ``spread``, large
            where the effect depends on where one is or on other parameters.
        evaluations: number of candidates asked for.
        failed: number of those that failed, which count as the worst that did not.
    """

    method: str
    names: tuple[str, ...]
    indices: dict[str, dict[str, Array]]
    evaluations: int
    failed: int

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(self.indices)

    def ranking(self, output: str) -> list[str]:
        """Parameters by total index or mean effect, the largest first.

        Raises:
            InvalidArgument: there is no such output.
        """
        if output not in self.indices:
            raise InvalidArgument(f"output: {output!r} is none of {', '.join(self.indices)}")
        weight = self.indices[output][self._main]
        return [self.names[k] for k in np.argsort(-weight, kind="stable")]

    def table(self) -> str:
        """All indices of all outputs."""
        lines = []
        for output, found in self.indices.items():
            lines.append(f"{output:<16}" + "".join(f"{key:>14}" for key in found))
            for name in self.ranking(output):
                k = self.names.index(name)
                lines.append(f"  {name:<14}" + "".join(f"{v[k]:>14.4g}" for v in found.values()))
        lines.append(f"{self.evaluations} evaluations, {self.failed} of them failed")
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "format": _FORMAT,
            "method": self.method,
            "names": list(self.names),
            "indices": {
                output: {
                    key: [x if np.isfinite(x) else None for x in values.tolist()]
                    for key, values in found.items()
                }
                for output, found in self.indices.items()
            },
            "evaluations": self.evaluations,
            "failed": self.failed,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Sensitivity:
        """What `record` was made of.

        Raises:
            FileFormatError: it is no such record.
        """
        if record.get("format") != _FORMAT:
            raise FileFormatError(f"record: format is {record.get('format')!r}, not {_FORMAT!r}")
        try:
            indices = {
                output: {k: np.array(v, dtype=np.float64) for k, v in found.items()}
                for output, found in record["indices"].items()
            }
            return cls(
                record["method"],
                tuple(record["names"]),
                indices,
                int(record["evaluations"]),
                int(record["failed"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"record: {error!r}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `record` to a JSON file."""
        write_text(path, json.dumps(self.record(), indent=1) + "\n")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Bars of the indices of each output, to a file."""
        from matplotlib.figure import Figure

        columns = min(len(self.indices), 4)
        rows = -(-len(self.indices) // columns)
        figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
        places = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        at = np.arange(len(self.names))
        for axes in places[len(self.indices) :]:
            axes.set_visible(False)
        for axes, (output, found) in zip(places, self.indices.items(), strict=False):
            shown = [key for key in found if not key.endswith("error")]
            for k, key in enumerate(shown):
                error = found.get(f"{key} error")
                axes.bar(at + 0.4 * k - 0.2, found[key], 0.4, yerr=error, label=key)
            axes.set_xticks(at, list(self.names), rotation=60)
            axes.set_title(output, fontsize="small")
        places[0].legend(fontsize="small")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)

    @property
    def _main(self) -> str:
        return "total" if self.method == "sobol" else "mean"


def target_errors(
    evaluate: Evaluate, space: Space, targets: Sequence[Target], logarithmic: bool = True
) -> Outputs:
    """Root mean square of the terms of every target and of all, for `sobol` and `morris`.

    Args:
        evaluate: an `Evaluator` of ``targets``.
        space: the free parameters.
        targets: what is measured.
        logarithmic: the base-10 logarithm of each, because errors span many powers of ten.
    """

    def outputs(points: Array) -> Mapping[str, Array]:
        found = evaluate([space.values(point) for point in points])
        rows = {"total": np.full(len(points), np.nan)}
        rows |= {t.name: np.full(len(points), np.nan) for t in targets}
        for k, one in enumerate(found):
            if one.failed is not None:
                continue
            rows["total"][k] = _rms(list(one.terms.values()))
            for t in targets:
                rows[t.name][k] = _rms([one.terms[x] for x in t.terms if x in one.terms])
        if logarithmic:
            return {name: np.log10(np.maximum(row, 1e-12)) for name, row in rows.items()}
        return rows

    return outputs


def sobol(outputs: Outputs, space: Space, samples: int = 256, seed: int = 0) -> Sensitivity:
    """Sobol's first-order and total indices, by samples (n + 2) evaluations in one call.

    Args:
        outputs: such as `target_errors`.
        space: names and number of the parameters.
        samples: a power of 2.
        seed: of the scrambled sequence and of the error bars.

    Raises:
        InvalidArgument: ``samples`` is no power of 2.
        BackendUnavailable: SALib is not installed.
    """
    if samples < 2 or samples & (samples - 1):
        raise InvalidArgument(f"samples must be a power of 2, got {samples}")
    problem = _problem(space)
    sample, analyze = _library("sobol")
    points = sample(problem, samples, calc_second_order=False, seed=seed)
    found, failed = _outputs(outputs, points)
    indices = {}
    for name, values in found.items():
        told = analyze(problem, values, calc_second_order=False, conf_level=0.9, seed=seed)
        indices[name] = {
            "first": np.asarray(told["S1"]),
            "first error": np.asarray(told["S1_conf"]),
            "total": np.asarray(told["ST"]),
            "total error": np.asarray(told["ST_conf"]),
        }
    return Sensitivity("sobol", space.names, indices, len(points), failed)


def morris(
    outputs: Outputs, space: Space, paths: int = 20, levels: int = 8, seed: int = 0
) -> Sensitivity:
    """Morris' elementary effects, by paths (n + 1) evaluations in one call: cheap, for a first look.

    Args:
        outputs: such as `target_errors`.
        space: names and number of the parameters.
        paths: walks through the cube, each along every axis once.
        levels: an even number of places along an edge.
        seed: of the walks.

    Raises:
        InvalidArgument: ``levels`` is odd, or ``paths`` below 2.
        BackendUnavailable: SALib is not installed.
    """
    if paths < 2 or levels < 2 or levels % 2:
        raise InvalidArgument(f"paths, levels: at least 2, levels even; got {paths}, {levels}")
    problem = _problem(space)
    sample, analyze = _library("morris")
    points = sample(problem, paths, num_levels=levels, seed=seed)
    found, failed = _outputs(outputs, points)
    indices = {}
    for name, values in found.items():
        told = analyze(problem, points, values, num_levels=levels, conf_level=0.9, seed=seed)
        indices[name] = {
            "mean": np.asarray(told["mu_star"], dtype=np.float64),
            "mean error": np.asarray(told["mu_star_conf"], dtype=np.float64),
            "spread": np.asarray(told["sigma"], dtype=np.float64),
        }
    return Sensitivity("morris", space.names, indices, len(points), failed)


def _problem(space: Space) -> dict[str, Any]:
    return {"num_vars": space.size, "names": list(space.names), "bounds": [[0, 1]] * space.size}


def _library(method: str) -> tuple[Any, Any]:
    import importlib

    try:
        sample = importlib.import_module(f"SALib.sample.{method}").sample
        analyze = importlib.import_module(f"SALib.analyze.{method}").analyze
    except ImportError:
        raise BackendUnavailable("SALib is needed: pip install 'mlcore[forcefield]'") from None
    return sample, analyze


def _outputs(outputs: Outputs, points: Array) -> tuple[dict[str, Array], int]:
    """Numbers of every output, those of failed candidates replaced by the worst of the others."""
    found: dict[str, Array] = {}
    failed = 0
    for name, told in outputs(np.asarray(points, dtype=np.float64)).items():
        values = np.asarray(told, dtype=np.float64)
        if values.shape != (len(points),):
            raise InvalidArgument(f"outputs: {name} must have shape ({len(points)},)")
        good = np.isfinite(values)
        if not good.any():
            raise Error("every candidate failed")
        failed = max(failed, int((~good).sum()))
        found[name] = np.where(good, values, values[good].max())
    return found, failed


def _rms(terms: list[float]) -> float:
    return float(np.sqrt(np.mean(np.square(terms)))) if terms else np.nan
