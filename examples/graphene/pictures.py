"""Pictures of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from mlcore.mobility.plots import canvas, save
from mlcore.sagesnet.carbon.observables import bonds, coordination
from mlcore.sagesnet.render import atoms_frame, save_png
from numpy.typing import NDArray

Array = NDArray[np.float64]
NET, MD, GRAPH, STRAIGHT = "#D55E00", "#000000", "#0072B2", "#999999"


def stress_strain(sheets: Mapping[str, tuple[Array, Array]], path: Path) -> None:
    """Curves (c, 2) of strain and stress of the net and of molecular dynamics, by sheet."""
    columns = min(3, len(sheets))
    rows = -(-len(sheets) // columns)
    figure, places = canvas(rows, columns, (3.6 * columns, 2.8 * rows))
    for axes, (name, (mine, md)) in zip(places, sheets.items(), strict=False):
        axes.plot(md[:, 0], md[:, 1], color=MD, linewidth=0.9, label="AIREBO")
        if len(mine):
            axes.plot(mine[:, 0], mine[:, 1], color=NET, linewidth=0.9, label="net")
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("strain")
        axes.set_ylabel("stress / GPa")
        axes.legend(frameon=False, fontsize=7)
    for axes in places[len(sheets) :]:
        axes.set_axis_off()
    save(figure, path)


def parity(found: Mapping[str, tuple[Sequence[float], Sequence[float]]], path: Path) -> None:
    """Yield strains (labels, found) of each way."""
    figure, (axes,) = canvas(1, 1, (4.2, 4.0))
    colours = {"net": NET, "graph network": GRAPH, "constant velocity": STRAIGHT, "bonds in MD": MD}
    highest = 0.05
    for name, (labels, told) in found.items():
        axes.scatter(labels, told, s=14, color=colours.get(name), label=name, alpha=0.8)
        highest = max(highest, *labels, *told)
    axes.plot([0, highest], [0, highest], color="0.6", linewidth=0.8)
    axes.set_xlabel("yield strain, AIREBO")
    axes.set_ylabel("yield strain, rollout")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def growth(curves: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Errors after each step: by start, then by way."""
    figure, places = canvas(1, len(curves), (4.2 * len(curves), 3.4))
    colours = {"net": NET, "graph network": GRAPH, "constant velocity": STRAIGHT}
    for axes, (title, ways) in zip(places, curves.items(), strict=True):
        for name, values in ways.items():
            if len(values):
                steps = np.arange(1, len(values) + 1)
                axes.plot(steps, values, color=colours.get(name), label=name)
        axes.axhline(0.02, color="0.6", linewidth=0.8, linestyle=":")
        axes.set_yscale("log")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("steps of 10 fs")
        axes.set_ylabel("RMS error of bond lengths / Å")
        axes.legend(frameon=False, fontsize=7)
    save(figure, path)


def learning(curves: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Losses against seconds of training."""
    figure, (axes,) = canvas(1, 1, (4.6, 3.4))
    for name, rows in curves.items():
        if len(rows):
            x, y = np.array(rows, float).T
            axes.plot(x, y, label=name)
    axes.set_yscale("log")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("loss")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def distributions(mine: Mapping[str, Any], path: Path) -> None:
    """Pair density and bond lengths, of the net and of molecular dynamics."""
    figure, (left, right) = canvas(1, 2, (8.0, 3.2))
    for axes, kind, unit in ((left, "pairs", "r / Å"), (right, "bonds", "bond length / Å")):
        for name, colour in (("AIREBO", MD), ("net", NET)):
            x, y = mine[kind][name]
            axes.plot(x, y, color=colour, label=name, linewidth=0.9)
        axes.set_xlabel(unit)
        axes.set_ylabel("pair density / Å$^{-3}$" if kind == "pairs" else "density / Å$^{-1}$")
        axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def sheet(
    numbers: NDArray[np.int64],
    place: Array,
    path: Path,
    title: str,
    values: Array | None = None,
    limits: tuple[float, float] | None = None,
) -> None:
    """Atoms seen from above, by default coloured by how many neighbours they have."""
    told = coordination(place).astype(float) if values is None else values
    limits = (0.0, 4.0) if values is None else limits
    drawn = atoms_frame(
        Atoms(numbers, place), told, limits=limits, bonds=bonds(place), size=6.0, title=title
    )
    save_png(path, drawn)
