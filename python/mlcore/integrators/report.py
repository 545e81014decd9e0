"""The report of an evaluation: one HTML file, pictures inside."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.integrators.table import TRUTH, Column, Report
from mlcore.mobility import plots
from mlcore.mobility import report as page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figures", "write"]

PathLike = str | os.PathLike[str]
_COLORS = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE, plots.SKY, "#CC79A7")
_SMALLEST, _LARGEST = 1e-17, 1e2  # errors shown
_FORCED, _OWN = "teacher forced", "autoregressive"
_TEXTS = {
    "Trajectory": "The two errors of a cell answer different questions: how far one step is off that "
    "begins at true frames, and how far the integrator's own motion is off. A small first one says "
    "little about the second. Where an exponent of Lyapunov is positive, rounding alone parts two runs "
    "of one program: errors after the cut are not told.",
    "Conserved": "Energies are those of the reference potential at predicted positions and velocities.",
    "Averages": "Averages over runs and times, without the first frames. The truth's column tells how "
    "far single reference runs are from the others: a smaller distance means nothing.",
    "Cost": "CPU times measured on this machine, in this process, those of Verlet by the compiled core on "
    "one thread; a roll-out counts what it does once for its window, too. S_p counts the small steps of "
    "the first window. The last row is how long one evaluation of the reference force would have to take "
    "for large steps to be no slower.",
}


def write(report: Report, path: PathLike, files: Sequence[tuple[str, str]] = ()) -> Path:
    """One HTML file, whole or not at all.

    Args:
        report: of `evaluate`.
        path: of the file.
        files: names of input files and their SHA-256.
    """
    with tempfile.TemporaryDirectory() as folder:
        pictures: dict[str, list[page.Picture]] = {}
        for name, (section, caption, figure) in figures(report).items():
            file = plots.save(figure, Path(folder) / f"{name}.png")
            pictures.setdefault(section, []).append(page.Picture(file, caption))
        made = page.Report(
            title=f"Large time steps: {report.facts['system']}",
            lead=f"Steps of {report.facts['large step']}; truth: {report.facts['truth']}. "
            f"Trajectories mean something {report.facts['trajectories mean something']}.",
            numbers=_numbers(report),
            sections=list(_sections(report, pictures)),
            provenance={**report.facts, **{c.name: c.what for c in report.columns}},
            files=list(files),
            configuration=json.dumps(dict(report.provenance), indent=1, default=str),
        )
        return page.write_report(made, Path(path))


def _judged(report: Report) -> list[Column]:
    return [c for c in report.columns if c.name != TRUTH and not c.baseline]


def _numbers(report: Report) -> list[page.Number]:
    found = []
    known = report[TRUTH].values.get("horizon")
    beside = f"velocity Verlet leaves itself with half the step at {known}" if known else ""
    for column in _judged(report)[:3]:
        name = column.name
        values = column.values
        failed = [gate for gate in column.gates if gate.held is False]
        told = {
            "horizon": ("own motion right to t =", beside or "error above 0.1 from then on"),
            "energy_largest": ("largest change of the energy", "|E - E0| / |E0| over all runs"),
            "speedup": ("net speed-up", "over compiled Verlet at its largest acceptable step"),
        }
        for key, (what, meaning) in told.items():
            if key in values and str(values[key]) != "-":
                found.append(page.Number(f"{name}: {what}", str(values[key]), meaning))
        gates = ", ".join(gate.name for gate in failed) or "see below"
        held = sum(gate.held is True for gate in column.gates)
        text = f"{len(failed)} failed" if failed else f"{held} of {len(column.gates)} gates held"
        found.append(page.Number(f"{name}: honesty", text, gates))
    return found


def _sections(report: Report, pictures: dict[str, list[page.Picture]]) -> Iterator[page.Section]:
    header = ["", *(column.name for column in report.columns)]
    for section, rows in report.sections.items():
        table = page.Table(header, rows)
        text = _TEXTS[section]
        yield page.Section(section, text, pictures.get(section, ()), [table])
    gates = [
        [
            column.name,
            gate.name,
            {True: "held", False: "FAILED", None: "not told"}[gate.held],
            gate.detail,
        ]
        for column in _judged(report)
        for gate in column.gates
    ]
    text = "What a prediction must pass before its errors are worth reading."
    marked = next((k for k, row in enumerate(gates) if row[2] == "FAILED"), None)
    table = page.Table(["integrator", "gate", "", "seen"], gates, marked=marked)
    yield page.Section("Honesty", text, (), [table])
    refused = [
        [column.name, str(run), why]
        for column in report.columns
        for run, why in column.refused.items()
    ]
    if refused:
        table = page.Table(["integrator", "run", "why"], refused)
        yield page.Section("Refused runs", "", (), [table])
    gaps = [[why, "; ".join(cells)] for why, cells in report.gaps.items()]
    if gaps:
        yield page.Section("Left out", "", (), [page.Table(["why", "what"], gaps)])


# ------------------------------------------------------------------------------------------ pictures
def figures(report: Report) -> dict[str, tuple[str, str, Figure]]:
    """Section, caption and picture by name; those without curves are left out."""
    found: dict[str, tuple[str, str, Figure]] = {}
    if any(_OWN in column.curves for column in report.columns):
        caption = (
            "Error against time in units of the system, left one step at a time from true frames, right on "
            "own frames (median of the runs). Black: velocity Verlet from itself with half the step."
        )
        if np.isfinite(report.cut):
            caption += " Grey: after the cut an error means nothing."
        found["errors"] = ("Trajectory", caption, _errors(report))
    if any("energy" in column.curves for column in report.columns):
        caption = "Change of the energy, largest of the runs, and temperature, mean of the runs."
        found["energy"] = ("Conserved", caption, _conserved(report))
    if "g" in report[TRUTH].curves:
        caption = "Averages; black: the truth, with the range of its single runs."
        found["averages"] = ("Averages", caption, _averages(report))
    if any("seconds" in column.values for column in _judged(report)):
        caption = "Computing time per unit of simulated time, one run, on this machine."
        found["cost"] = ("Cost", caption, _cost(report))
    return found


def _lines(report: Report) -> Iterator[tuple[Column, dict[str, Any]]]:
    """Columns and how their lines look: baselines are dashed."""
    for k, column in enumerate(c for c in report.columns if c.name != TRUTH):
        style: Any = (0, (4, 2)) if column.baseline else "-"
        color = _COLORS[k % len(_COLORS)]
        yield column, {"color": color, "linestyle": style, "linewidth": 1.6, "label": column.name}


def _errors(report: Report) -> Figure:
    figure, (left, right) = plots.canvas(1, 2, (12.6, 4.0))
    for axes, name, title in ((left, _FORCED, "true frames"), (right, _OWN, "own frames")):
        for column, style in _lines(report):
            if name in column.curves:
                t, error = column.curves[name]
                axes.plot(t, np.clip(error, _SMALLEST, _LARGEST), **style)
        axes.axhline(0.1, color="0.5", linewidth=0.8, linestyle=":")
        axes.set_title(f"every step from {title}")
        axes.set_ylabel("error")
    for name, (t, apart) in report[TRUTH].curves.items():
        if name.startswith("Verlet"):
            shown = np.clip(apart, _SMALLEST, _LARGEST)
            right.plot(
                t, shown, color=plots.BLACK, linewidth=1.2, linestyle=(0, (1, 1)), label=name
            )
    low = min(axes.dataLim.minposy for axes in (left, right))
    for axes in (left, right):
        _time_axis(report, axes)
        axes.set_yscale("log")
        axes.set_ylim(max(_SMALLEST, 0.5 * low), _LARGEST)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def _time_axis(report: Report, axes: Axes) -> None:
    """Linear as far as chaos lets errors grow, with what follows greyed; else logarithmic."""
    axes.set_xlabel("time t")
    end = max(report.until)
    if not np.isfinite(report.cut):
        axes.set_xscale("log")
        return
    last = min(end, 1.4 * report.cut)
    axes.set_xlim(0, last)
    if report.cut < last:
        axes.axvspan(report.cut, last, color="0.85", zorder=3, alpha=0.9)
        style: Any = {"rotation": 90, "ha": "center", "va": "center", "color": "0.4", "zorder": 4}
        middle = 0.5 * (report.cut + last)
        axes.text(middle, 0.5, "no meaning", transform=axes.get_xaxis_transform(), **style)


def _conserved(report: Report) -> Figure:
    many = "temperature" in report[TRUTH].curves
    figure, parts = plots.canvas(1, 2 if many else 1, (11.0 if many else 6.0, 3.9))
    for axes, name in zip(parts, ("energy", "temperature"), strict=False):
        if name in report[TRUTH].curves:
            t, values = report[TRUTH].curves[name]
            axes.plot(t, values, color=plots.BLACK, linewidth=1, label=TRUTH)
        for column, style in _lines(report):
            if name in column.curves and column.name != "straight flight":
                t, values = column.curves[name]
                axes.plot(t, np.clip(values, _SMALLEST, 1e3), **style | {"linewidth": 1})
        axes.set_xlabel("time t")
    parts[0].set_yscale("log")
    parts[0].set_ylabel("|E - E0| / |E0|")
    if many:
        parts[1].set_ylabel("temperature")
    parts[0].legend(frameon=False, fontsize=9)
    return figure


def _averages(report: Report) -> Figure:
    figure, parts = plots.canvas(1, 3, (12.6, 3.9))
    labels = {
        "g": ("distance r", "g(r), or density of pairs"),
        "vacf": ("time t", "velocity autocorrelation"),
        "msd": ("time t", "mean square displacement"),
    }
    truth = report[TRUTH].curves
    for axes, (name, (across, up)) in zip(parts, labels.items(), strict=True):
        x, values = truth[name]
        axes.fill_between(x, truth[f"{name} low"][1], truth[f"{name} high"][1], color="0.85")
        axes.plot(x, values, color=plots.BLACK, linewidth=2.2, label=TRUTH)
        for column, style in _lines(report):
            if name in column.curves and column.name != "straight flight":
                axes.plot(*column.curves[name], **style)
        high, low = (truth[f"{name} {end}"][1] for end in ("high", "low"))
        if np.isfinite(high).any() and np.nanmax(high) > 0:  # else nothing moves
            axes.set_ylim(1.3 * min(0.0, float(np.nanmin(low))), 1.3 * float(np.nanmax(high)))
        axes.set_xlabel(across)
        axes.set_ylabel(up)
    parts[0].legend(frameon=False, fontsize=9)
    return figure


def _cost(report: Report) -> Figure:
    step = float(report.facts["large step"].split(" ")[0])
    told = [
        (c.name if c.name != TRUTH else "compiled Verlet", c.values["seconds"].number)
        for c in report.columns
        if "seconds" in c.values
    ]
    rows = [(name, value / step) for name, value in told if value]
    figure, (axes,) = plots.canvas(1, 1, (7.2, 1.0 + 0.45 * len(rows)))
    places = np.arange(len(rows))[::-1]
    axes.barh(places, [value for _, value in rows], height=0.6, color=plots.BLUE)
    for place, (_, value) in zip(places, rows, strict=True):
        axes.annotate(f" {value:.2g} s", (value, place), va="center")
    axes.set_yticks(places, [name for name, _ in rows])
    axes.set_xscale("log")
    axes.set_xlim(0.3 * min(v for _, v in rows), 6 * max(v for _, v in rows))
    axes.set_xlabel("CPU seconds per unit of simulated time")
    return figure
