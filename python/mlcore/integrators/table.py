"""The table of an evaluation: its rows, its columns, and the report that holds them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mlcore.integrators.chaos import Lyapunov
from mlcore.integrators.honesty import Gate
from mlcore.integrators.setting import Curve, Values
from mlcore.io.atomic import write_text

__all__ = ["ROWS", "TRUTH", "Column", "Report", "Row"]

PathLike = str | os.PathLike[str]
TRUTH = "truth"


@dataclass(frozen=True)
class Row:
    """A line of the table: cells of one or two keys."""

    section: str
    label: str
    keys: tuple[str, ...]


_ACCURACY = "Trajectory"
_KEPT = "Conserved"
_AVERAGES = "Averages"
_COST = "Cost"
_BEFORE = (
    Row(_ACCURACY, "runs refused", ("refused",)),
    Row(_ACCURACY, "runs that blew up", ("blown",)),
    Row(_ACCURACY, "steps done again in halves", ("redone",)),
    Row(_ACCURACY, "one step from true frames, mean error", ("one_step",)),
    Row(_ACCURACY, "one step from true frames, largest error", ("one_step_max",)),
    Row(_ACCURACY, "one step, error over that of straight flight", ("one_step_ratio",)),
    Row(_ACCURACY, "one step, R2 of the change of velocities", ("velocity_r2",)),
)
_AFTER = (
    Row(_ACCURACY, "horizon: t of error > 0.1, true frames", ("horizon_forced",)),
    Row(_ACCURACY, "horizon: t of error > 0.1, own frames", ("horizon",)),
    Row(_ACCURACY, "error grows as", ("growth",)),
    Row(_KEPT, "|E - E0| / |E0|, largest, own frames", ("energy_largest",)),
    Row(_KEPT, "|E - E_true| / |E_true|, largest, true frames", ("energy_forced",)),
    Row(_KEPT, "drift of E / E0 per time", ("energy_drift",)),
    Row(_KEPT, "|P - P0|, largest", ("momentum_largest",)),
    Row(_KEPT, "drift of P per time", ("momentum_drift",)),
    Row(_KEPT, "|L - L0|, angular momentum, largest", ("angular_largest",)),
    Row(_KEPT, "temperature", ("temperature",)),
    Row(_KEPT, "drift of T / T per time", ("temperature_drift",)),
    Row(_KEPT, "frames with U above the first energy", ("overlaps",)),
    Row(_KEPT, "forth and back, error", ("reversibility",)),
    Row(_KEPT, "kinetic energy by axis; by mass", ("equipartition",)),
    Row(_KEPT, "kinetic energy by particle, largest |share - 1|", ("equipartition_particles",)),
    Row(_AVERAGES, "g(r): mean |g - g_true|", ("g_l1",)),
    Row(_AVERAGES, "potential energy per particle", ("potential",)),
    Row(_AVERAGES, "pressure", ("pressure",)),
    Row(_AVERAGES, "velocity autocorrelation, relative difference", ("vacf_l1",)),
    Row(_AVERAGES, "mean square displacement, relative difference", ("msd",)),
    Row(_AVERAGES, "diffusion coefficient", ("diffusion",)),
    Row(_COST, "small steps to begin with (S_V)", ("kick_start",)),
    Row(_COST, "evaluations of the force per large step", ("forces",)),
    Row(_COST, "evaluations of the energy per large step", ("energies",)),
    Row(_COST, "evaluations of the force saved per large step", ("forces_saved",)),
    Row(_COST, "CPU time per step, one run", ("seconds",)),
    Row(_COST, "CPU time per step and run, all runs at once", ("seconds_batch",)),
    Row(_COST, "S_p (Eq 3), compiled Verlet, largest acceptable step", ("speedup",)),
    Row(_COST, "S_p (Eq 3), compiled Verlet, dt = 0.001 (the paper's)", ("speedup_paper",)),
    Row(_COST, "force evaluation must take, to pay", ("break_even",)),
)
ROWS = _BEFORE + _AFTER
"""The table, without the rows of errors to certain times."""


@dataclass(frozen=True, eq=False)
class Column:
    """What was found for one integrator, for a baseline, or for the truth itself.

    Attributes:
        name: of the column.
        what: the integrator, as it tells itself.
        values: cells by key.
        curves: (times or distances, values) by name.
        gates: what the predictions must pass.
        refused: reasons by run.
        baseline: whether it learns nothing.
    """

    name: str
    what: str
    values: Values
    curves: Mapping[str, Curve] = field(default_factory=dict)
    gates: tuple[Gate, ...] = ()
    refused: Mapping[int, str] = field(default_factory=dict)
    baseline: bool = False


@dataclass(frozen=True, eq=False)
class Report:
    """All that was found. `print(report)` is the table.

    Attributes:
        columns: the truth, the integrators, the baselines.
        facts: what was compared with what.
        cut: time after which an error of a trajectory means nothing.
        exponent: Lyapunov's, or None where nothing grows exponentially.
        until: times to which mean errors are told.
        provenance: how the runs were made.
    """

    columns: tuple[Column, ...]
    facts: Mapping[str, str]
    cut: float
    exponent: Lyapunov | None
    until: tuple[float, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Column:
        """The column of that name."""
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(column.name for column in self.columns)
        raise KeyError(f"no column {name!r}; there are {names}")

    @property
    def rows(self) -> tuple[Row, ...]:
        """Those of the table, in order."""
        told = [
            Row(
                _ACCURACY,
                f"mean error to t = {end:g}: true frames | own frames",
                (f"forced_{end:g}", f"error_{end:g}"),
            )
            for end in self.until
        ]
        return (*_BEFORE, *told, *_AFTER)

    @property
    def sections(self) -> dict[str, list[list[str]]]:
        """Rows of text by section: label and cells."""
        found: dict[str, list[list[str]]] = {}
        for row in self.rows:
            cells = [self._cell(column, row) for column in self.columns]
            if any(cell not in ("", "-") for cell in cells):
                found.setdefault(row.section, []).append([row.label, *cells])
        return found

    def _cell(self, column: Column, row: Row) -> str:
        values = [column.values[key] for key in row.keys if key in column.values]
        return " | ".join(map(str, values))

    @property
    def gaps(self) -> dict[str, list[str]]:
        """Why cells are left out: reason -> columns and rows."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for column in self.columns:
                for key in row.keys:
                    value = column.values.get(key)
                    if value is not None and value.number is None and value.reason:
                        found.setdefault(value.reason, []).append(f"{column.name}: {row.label}")
        return found

    def __str__(self) -> str:
        lines = [f"{name}: {fact}" for name, fact in self.facts.items()]
        header = ["", *(column.name for column in self.columns)]
        body = [header]
        for section, told in self.sections.items():
            body.append([section, *[""] * len(self.columns)])
            body += [[f"  {row[0]}", *row[1:]] for row in told]
        widths = [max(len(row[k]) for row in body) for k in range(len(header))]
        lines.append("")
        for row in body:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join(cells).rstrip())
        lines.append("")
        for column in self.columns:
            lines += [f"{column.name}: {gate}" for gate in column.gates]
            lines += [f"{column.name}: run {run} {why}" for run, why in _some(column.refused)]
        lines += [f"left out: {why} [{_shortened(cells)}]" for why, cells in self.gaps.items()]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Numbers, reasons, gates and curves."""
        return {
            "facts": dict(self.facts),
            "provenance": dict(self.provenance),
            "cut": _json(self.cut),
            "lyapunov": None
            if self.exponent is None
            else {"value": self.exponent.value, "error": _json(self.exponent.error)},
            "columns": [
                {
                    "name": column.name,
                    "what": column.what,
                    "baseline": column.baseline,
                    "values": {
                        key: {
                            "value": None if value.number is None else _json(value.number),
                            "text": str(value),
                            "reason": value.reason,
                        }
                        for key, value in column.values.items()
                    },
                    "gates": [
                        {"name": g.name, "held": g.held, "detail": g.detail} for g in column.gates
                    ],
                    "refused": {str(run): why for run, why in column.refused.items()},
                    "curves": {
                        name: [[_json(v) for v in axis.tolist()] for axis in curve]
                        for name, curve in column.curves.items()
                    },
                }
                for column in self.columns
            ],
        }

    def to_json(self, path: PathLike) -> None:
        """One JSON file, whole or not at all."""
        write_text(path, json.dumps(self.as_json(), allow_nan=False))

    def save(self, path: PathLike, files: Sequence[tuple[str, str]] = ()) -> None:
        """One HTML file that needs nothing else, whole or not at all.

        Args:
            path: of the file.
            files: names of input files and their SHA-256, to be told.
        """
        from mlcore.integrators.report import write

        write(self, path, files)


def _json(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _some(refused: Mapping[int, str]) -> list[tuple[int, str]]:
    return list(refused.items())[:5]


def _shortened(cells: Sequence[str]) -> str:
    more = f", and {len(cells) - 3} more" if len(cells) > 3 else ""
    return "; ".join(cells[:3]) + more
