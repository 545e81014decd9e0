"""Pictures of a fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore.forcefield.parameters import Space
from mlcore.forcefield.run.history import Entry
from mlcore.forcefield.search.face import key
from mlcore.mobility import plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["convergence", "front", "parity", "residuals", "traces"]

Array = npt.NDArray[np.float64]
COLORS = (plots.BLUE, plots.VERMILION, plots.GREEN, plots.ORANGE, plots.SKY, "#CC79A7", "#666666")
_MANY = 20_000  # points of a picture
_TRACES = 12


def convergence(entries: Sequence[Entry], events: Iterable[Mapping[str, Any]]) -> Figure:
    """Scores and the best so far against evaluations and against time, by stage."""
    figure, (left, right) = plots.canvas(1, 2, (11.0, 3.9))
    totals = np.array([entry.score.total for entry in entries])
    numbers = np.arange(1, len(entries) + 1)
    stages = list(dict.fromkeys(entry.stage for entry in entries))
    for k, stage in enumerate(stages):
        mine = np.array([entry.stage == stage for entry in entries]) & np.isfinite(totals)
        own = np.flatnonzero(mine)[:: max(1, -(-int(mine.sum()) // _MANY))]
        left.plot(numbers[own], totals[own], ".", markersize=3, alpha=0.5,
                  color=COLORS[k % len(COLORS)], label=stage or "search")  # fmt: skip
    left.plot(numbers, best_so_far(entries), color=plots.BLACK, linewidth=1.5, label="best")
    left.set(xlabel="evaluations", ylabel="score")
    told = [e for e in events if e.get("best") is not None and "elapsed" in e]
    right.step([e["elapsed"] for e in told], [e["best"] for e in told], where="post",
               color=plots.BLACK, linewidth=1.5)  # fmt: skip
    right.set(xlabel="time, s", ylabel="best score")
    for axes in (left, right):
        _logarithmic(axes)
    if stages:
        left.legend(frameon=False, fontsize=8, markerscale=3)
    return figure


def best_so_far(entries: Sequence[Entry]) -> Array:
    """(n,) total of the best up to each evaluation; NaN while none could be evaluated."""
    found, best = np.full(len(entries), np.nan), None
    for k, entry in enumerate(entries):
        if best is None or key(entry.score) < key(best.score):
            best = entry
        found[k] = best.score.total if np.isfinite(best.score.total) else np.nan
    return found


def parity(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Values against references, one panel for each kind of target; held-out ones in red."""
    kinds = list(dict.fromkeys((row["type"], row["unit"]) for row in rows))
    columns = min(3, len(kinds))
    lines = -(-len(kinds) // columns)
    figure, panels = plots.canvas(lines, columns, (3.9 * columns, 3.7 * lines))
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    for axes, (kind, unit) in zip(panels, kinds, strict=False):
        ends: list[float] = []
        for row in rows:
            if (row["type"], row["unit"]) != (kind, unit):
                continue
            x, y = _pairs(row)
            ends += [*x, *y]
            test = row["part"] == "test"
            axes.plot(x, y, "x" if test else "o", markersize=4, alpha=0.6,
                      color=plots.VERMILION if test else plots.BLUE)  # fmt: skip
        if ends:
            axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.4", linewidth=0.8)
        axes.set(title=kind, xlabel=f"reference, {unit}"[:60], ylabel="fit")
    return figure


def _pairs(row: Mapping[str, Any]) -> tuple[Array, Array]:
    x = np.array(row["reference"], dtype=np.float64)
    y = np.array([np.nan if v is None else v for v in row["value"]], dtype=np.float64)
    keep = np.flatnonzero(np.isfinite(y))
    keep = keep[:: max(1, -(-len(keep) // _MANY))]
    return x[keep], y[keep]


def residuals(groups: Mapping[str, tuple[float | None, float | None]]) -> Figure:
    """Root mean square of the terms of each group, in tolerances, seen and held out."""
    figure, (axes,) = plots.canvas(1, 1, (7.6, 1.1 + 0.42 * len(groups)))
    places = np.arange(len(groups))[::-1]
    for shift, part, color, label in ((0.18, 0, plots.BLUE, "seen"),
                                      (-0.18, 1, plots.VERMILION, "held out")):  # fmt: skip
        sizes = np.array([g[part] for g in groups.values()], dtype=np.float64)
        if np.isfinite(sizes).any():
            axes.barh(places + shift, sizes, height=0.34, color=color, label=label)
    axes.axvline(1.0, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_yticks(places, list(groups))
    axes.set_xlabel("root mean square error, tolerances")
    if axes.containers:
        axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)
    return figure


def traces(entries: Sequence[Entry], space: Space) -> Figure:
    """Free parameters that were tried, and the best so far, each between its bounds."""
    names = space.names[:_TRACES]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, panels = plots.canvas(lines, columns, (3.9 * columns, 2.3 * lines))
    points = np.array([entry.point for entry in entries])
    table = space.table(points, names)
    best = _best_numbers(entries)
    keep = np.arange(0, len(entries), max(1, len(entries) // _MANY))
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for k, (axes, name) in enumerate(zip(panels, names, strict=False)):
        free = space.free[name]
        axes.plot(keep + 1, table[keep, k], ".", markersize=1.5, color=plots.SKY, alpha=0.5)
        axes.plot(np.arange(1, len(entries) + 1), table[best, k], color=plots.BLACK, linewidth=1.3)
        for bound in (free.lower, free.upper):
            axes.axhline(bound, color=plots.VERMILION, linewidth=0.8, linestyle=":")
        axes.set_title(name)
        if free.scale == "log":
            axes.set_yscale("log")
    return figure


def _best_numbers(entries: Sequence[Entry]) -> npt.NDArray[np.int64]:
    found, best = np.zeros(len(entries), dtype=np.int64), 0
    for k, entry in enumerate(entries):
        if key(entry.score) < key(entries[best].score):
            best = k
        found[k] = best
    return found


def front(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """The Pareto front, its knee ringed; of more than two objectives the first pairs."""
    names = list(rows[0]["objectives"])
    pairs = [(names[0], name) for name in names[1:4]]
    figure, panels = plots.canvas(1, len(pairs), (4.6 * len(pairs), 4.0))
    for axes, (one, other) in zip(panels, pairs, strict=True):
        x = [row["objectives"][one] for row in rows]
        y = [row["objectives"][other] for row in rows]
        axes.plot(x, y, "o-", color=plots.BLUE, markersize=4, linewidth=0.8)
        for row in rows:
            if row["knee"]:
                axes.plot(row["objectives"][one], row["objectives"][other], "o", markersize=13,
                          markerfacecolor="none", color=plots.VERMILION, label="knee")  # fmt: skip
        axes.set(xlabel=one, ylabel=other)
        _logarithmic(axes)
        if min(x) > 0 and max(x) > 30 * min(x):
            axes.set_xscale("log")
        axes.legend(frameon=False, fontsize=8)
    return figure


def _logarithmic(axes: Axes) -> None:
    """A logarithmic score, where there is any above zero."""
    low, high = axes.dataLim.minposy, axes.dataLim.ymax
    if np.isfinite(low) and low > 0 and high > 0:
        axes.set_yscale("log")
