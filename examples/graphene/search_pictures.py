"""Pictures of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from mlcore.mobility.plots import canvas, save
from mlcore.sagesnet.carbon.observables import bonds, coordination
from numpy.typing import NDArray

Answer = dict[str, Any]
NET, MD, CHANCE, SOFT = "#D55E00", "#000000", "#0072B2", "0.6"


def progress(found: Answer, path: Path) -> None:
    """Yield strains of the sheets the net has pulled, in turn, and the best so far."""
    strains = np.array([one["strain"] for one in found["judged"]])
    rounds = np.array([one["round"] for one in found["judged"]])
    target = found["target"]
    off = strains if target is None else np.abs(strains - target)
    so_far = np.maximum.accumulate(off) if target is None else np.minimum.accumulate(off)
    number = np.arange(1, len(off) + 1)
    figure, (axes,) = canvas(1, 1, (5.6, 3.6))
    axes.scatter(number, off, s=14, color=NET, label="a sheet, by the net")
    axes.step(number, so_far, where="post", color=NET, linewidth=1.0, label="best so far")
    places = {one["pattern"]: k for k, one in enumerate(found["judged"], 1)}
    for kind, colour in (("best", MD), ("by chance", CHANCE)):
        rows = [row for row in found["rows"] if row["kind"] == kind]
        checked = np.array([row["checked"] for row in rows])
        checked = checked if target is None else np.abs(checked - target)
        where = [places[row["pattern"]] for row in rows]
        axes.scatter(where, checked, marker="x", s=28, color=colour, label=f"{kind}, by AIREBO")
    for name, style, text in (
        ("best_known", ":", "best of the data set"),
        ("best_learned", "--", "best learned from"),
    ):
        if found[name] is not None:
            height = found[name]["strain"]
            height = height if target is None else abs(height - target)
            axes.axhline(height, color=SOFT, linestyle=style, linewidth=1.0, label=text)
    for first in number[1:][np.diff(rounds) > 0]:
        axes.axvline(first - 0.5, color="0.85", linewidth=0.8, zorder=0)
    axes.set_xlabel("sheets pulled by the net")
    axes.set_ylabel("yield strain" if target is None else f"yield strain off {target:g}")
    axes.legend(frameon=False, fontsize=7)
    save(figure, path)


def parity(rows: Sequence[Answer], path: Path) -> None:
    """Yield strains by the net against those by AIREBO."""
    figure, (axes,) = canvas(1, 1, (4.2, 4.0))
    highest = 0.05
    for kind, colour in (("best", NET), ("by chance", CHANCE)):
        here = [row for row in rows if row["kind"] == kind]
        x, y = [row["checked"] for row in here], [row["predicted"] for row in here]
        axes.scatter(x, y, s=18, color=colour, label=kind)
        highest = max(highest, *x, *y) if here else highest
    axes.plot([0, highest], [0, highest], color=SOFT, linewidth=0.8)
    axes.set_xlabel("yield strain, AIREBO")
    axes.set_ylabel("yield strain, net")
    axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def best(sheets: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Sheets seen from above, one below the other, atoms coloured by how many neighbours they have."""
    figure, places = canvas(len(sheets), 1, (7.0, 3.4 * len(sheets)))
    for axes, (title, frame) in zip(places, sheets.items(), strict=True):
        x = np.asarray(frame, float)
        x = x - x.mean(0)
        pairs = bonds(x)
        ends = np.stack([x[pairs[:, 0], :2], x[pairs[:, 1], :2]], 1)
        axes.add_collection(LineCollection(list(ends), colors="0.5", linewidths=0.5, zorder=0))
        axes.scatter(
            x[:, 0], x[:, 1], c=coordination(x), cmap="viridis", vmin=0, vmax=4, s=4, linewidths=0
        )
        axes.set_aspect("equal")
        axes.set_title(title, fontsize=8)
        axes.set_xlabel("Å")
        axes.set_ylabel("Å")
    save(figure, path)
