"""Picture of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlcore.errors import InvalidArgument
from mlcore.io.atomic import atomic_path

__all__ = ["plot_learning_curve"]


def plot_learning_curve(
    history: Sequence[dict[str, float]], path: str | Path, title: str = "Learning curve"
) -> None:
    """Plot loss (and validation) against epoch into a PNG, SVG or PDF file.

    Raises:
        InvalidArgument: an empty history.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not history:
        raise InvalidArgument("history is empty: nothing to plot")
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, style in (("loss", "-"), ("validation", "--")):
        points = [(r["epoch"], r[name]) for r in history if name in r]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=name)
    if min(r["loss"] for r in history) > 0:
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
