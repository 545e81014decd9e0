"""A bar per workload: how many times faster than the best peer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import Row
from verdicts import Verdict, verdicts

MET, MISSED, UNJUDGED = "#2b6ca3", "#d9772b", "#9aa5ae"
TWO_COLUMNS_FROM = 24


def columns(found: Sequence[Verdict]) -> list[list[str]]:
    """Names of the benchmarks, in one column or two of nearly the same height."""
    heights: dict[str, int] = {}
    for v in found:
        heights[v.bench] = heights.get(v.bench, 2) + 1
    names = list(heights)
    if len(found) < TWO_COLUMNS_FROM or len(names) < 2:
        return [names]

    def tallest(split: int) -> int:
        return max(sum(heights[n] for n in part) for part in (names[:split], names[split:]))

    best = min(range(1, len(names)), key=tallest)
    return [names[:best], names[best:]]


def panel(axes: Any, found: Sequence[Verdict], span: tuple[float, float]) -> None:
    """The workloads of one benchmark from top to bottom."""
    for place, v in enumerate(found):
        assert v.ratio is not None
        colour = UNJUDGED if v.must is None else MISSED if v.missed else MET
        axes.barh(place, v.ratio - 1, left=1, height=0.72, color=colour)
        if v.must is not None:
            axes.plot([v.must] * 2, [place - 0.44, place + 0.44], color="black", linewidth=1.6)
        reach = max(v.ratio, v.must or 0, 1)
        axes.text(reach * 1.06, place, f"{v.ratio:.2g}x {v.peer}", va="center", fontsize=6.5)
    axes.set_yticks(range(len(found)), [v.workload for v in found], fontsize=7)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(*span)
    axes.axvline(1, color="black", linewidth=0.6)
    ticks = [
        t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if span[0] <= t <= span[1]
    ]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=7)
    axes.minorticks_off()
    axes.set_title(found[0].bench, fontsize=9, loc="left", fontweight="bold", pad=3)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)


def draw(rows: Sequence[Row], path: Path, machine: str = "") -> bool:
    """Draws the chart of the fewest threads; False when no workload has a peer."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    found = [v for v in verdicts(rows) if v.ratio is not None]
    threads = min((v.threads for v in found), default=0)
    found = [v for v in found if v.threads == threads]
    if not found:
        return False
    ratios = [v.ratio for v in found if v.ratio] + [v.must for v in found if v.must]
    span = (min(0.8, 0.8 * min(ratios)), 3.2 * max(ratios))
    parts = columns(found)
    by_bench = {name: [v for v in found if v.bench == name] for part in parts for name in part}
    tallest = max(sum(len(by_bench[n]) + 2 for n in part) for part in parts)
    figure = pyplot.figure(figsize=(6.6 * len(parts), 0.19 * tallest + 1.1), layout="constrained")
    grid = figure.add_gridspec(1, len(parts))
    for column, part in enumerate(parts):
        lengths = [len(by_bench[name]) for name in part]
        filler = [tallest - sum(lengths) - 2 * len(part)]
        heights = [n + 0.6 for n in lengths] + ([f for f in filler if f > 0.5])
        inner = grid[column].subgridspec(len(heights), 1, height_ratios=heights)
        for place, name in enumerate(part):
            panel(figure.add_subplot(inner[place]), by_bench[name], span)
    plural = "thread" if threads == 1 else "threads"
    figure.suptitle(f"times faster than the best peer, {threads} {plural}, {machine}", fontsize=10)
    figure.legend(
        handles=[
            Patch(color=MET, label="bar met"),
            Patch(color=MISSED, label="bar missed"),
            Patch(color=UNJUDGED, label="no bar"),
            Line2D([], [], color="black", linewidth=1.6, label="the bar"),
        ],
        loc="outside lower center",
        ncols=4,
        fontsize=8,
        frameon=False,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part_file = path.with_suffix(".part.png")
    figure.savefig(part_file, dpi=140)
    pyplot.close(figure)
    part_file.replace(path)
    return True
