"""Pictures of a mobility and of the motion it makes; colour-blind-safe colours (Okabe and Ito)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore.io.atomic import atomic_path
from mlcore.mobility.config import Units
from mlcore.mobility.observables import Curve, DiffusionSpectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "Dynamics",
    "PairLine",
    "PairPanel",
    "PairPoints",
    "canvas",
    "plot_cost",
    "plot_dynamics",
    "plot_learning",
    "plot_pair",
    "save",
]

Array = npt.NDArray[np.float64]

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
)
_STYLE: dict[str, dict[str, Any]] = {
    "data": {"color": BLACK, "marker": "o", "linestyle": "none", "markersize": 5},
    "learned": {"color": BLUE, "linestyle": "-", "linewidth": 2},
    "theory": {"color": VERMILION, "linestyle": (0, (5, 2)), "linewidth": 1.6},
}
_WAVES = (
    ("o", BLUE, "-"),
    ("s", VERMILION, (0, (5, 2))),
    ("^", GREEN, (0, (1, 1.2))),
)
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class PairPoints:
    """Binned pair mobilities with one standard deviation, all (B,); ``used``: bins of the fit."""

    label: str
    edges: Array
    r: Array
    par: Array
    par_error: Array
    perp: Array
    perp_error: Array
    used: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PairLine:
    """Pair mobilities along r; ``role``: "learned" or "theory"."""

    label: str
    role: str
    r: Array
    par: Array
    perp: Array


@dataclass(frozen=True)
class PairPanel:
    """One picture of the pair mobility."""

    name: str
    title: str
    points: PairPoints
    lines: Sequence[PairLine]


@dataclass(frozen=True)
class Dynamics:
    """Motion of one system: curves by role ("data", "learned", "theory") and their labels.

    ``exact`` (K,): D(k) of the theory at short times, without statistical error, or None.
    """

    name: str
    title: str
    labels: dict[str, str]
    displacements: dict[str, Curve]
    spectra: dict[str, DiffusionSpectrum]
    exact: Array | None = None


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=160, facecolor="white")
    return path


def plot_pair(panel: PairPanel, units: Units) -> Figure:
    """Parallel and perpendicular mobility against distance."""
    figure, (left, right) = canvas(1, 2, (9.2, 3.9))
    values = np.concatenate([panel.points.par, panel.points.perp])
    power = 3 * int(np.floor(np.log10(np.nanmax(np.abs(values))) / 3))
    for axes, kind, name in ((left, "par", "parallel"), (right, "perp", "perpendicular")):
        _points(axes, panel.points, kind, 10.0**-power)
        for line in panel.lines:
            style = _STYLE[line.role]
            axes.plot(line.r, getattr(line, kind) * 10.0**-power, label=line.label, **style)
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axes.set_xlabel(f"distance r ({units.length})")
        symbol = "∥" if kind == "par" else "⊥"
        axes.set_ylabel(f"$μ_{symbol}$ ({_mobility_unit(units, power)})")
        axes.set_title(f"{name}, {'along' if kind == 'par' else 'across'} the line of centres")
    if not panel.points.used.all():
        left.plot([], [], "o", mfc="white", mec="0.45", label="data in contact, not used")
    handles, labels = left.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: (not labels[i].startswith("data"), i))
    order.sort(key=lambda i: "contact" in labels[i])
    left.legend([handles[i] for i in order], [labels[i] for i in order], frameon=False)
    figure.suptitle(panel.title)
    return figure


def plot_dynamics(system: Dynamics, units: Units) -> Figure:
    """Mean-square displacement, F(k,t) and D(k)."""
    figure, (left, middle, right) = canvas(1, 3, (12.6, 3.9))
    _displacements(left, system, units)
    _scattering(middle, system, units)
    _diffusion(right, system, units)
    figure.suptitle(system.title)
    return figure


def plot_cost(labels: Sequence[str], seconds: Sequence[float], units: Units) -> Figure:
    """CPU time per simulated time, one bar each, on a logarithmic scale."""
    figure, (axes,) = canvas(1, 1, (7.2, 0.9 + 0.55 * len(labels)))
    colors = [VERMILION if "explicit" in label else BLUE for label in labels]
    hatches = ["//" if "scaled" in label else "" for label in labels]
    rows = np.arange(len(labels))[::-1]
    axes.barh(
        rows, seconds, color=colors, height=0.6, hatch=hatches, edgecolor="white", linewidth=0
    )
    for row, value in zip(rows, seconds, strict=True):
        axes.annotate(
            f" {_quantity(value)}",
            (value, row),
            va="center",
            textcoords="offset points",
            xytext=(2, 0),
        )
    axes.set_yticks(rows, labels)
    axes.set_xscale("log")
    axes.set_xlim(min(seconds) / 3, max(seconds) * 6)
    axes.set_xlabel(f"CPU time per simulated {units.time}, one core (s)")
    axes.grid(axis="y", visible=False)
    return figure


def plot_learning(histories: Mapping[str, Sequence[dict[str, float]]]) -> Figure:
    """Loss above its lowest value against the step, one line for each training run."""
    figure, (axes,) = canvas(1, 1, (6.4, 3.6))
    styles = ((BLUE, "-"), (VERMILION, (0, (5, 2))), (GREEN, (0, (1, 1.2))), (ORANGE, "-"))
    for (name, history), (color, line) in zip(histories.items(), styles, strict=False):
        loss = np.array([record["loss"] for record in history])
        steps = [record["epoch"] for record in history]
        axes.plot(steps, loss - loss.min() + 1e-3, color=color, linestyle=line, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss above its minimum")
    axes.legend(frameon=False)
    return figure


def canvas(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """An empty figure of some axes in this style."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    settings: Any = {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.titlesize": 10.5,
        "font.size": 10,
    }
    with rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = list(np.ravel(figure.subplots(rows, columns)))
    return figure, axes


def _points(axes: Axes, points: PairPoints, kind: str, scale: float) -> None:
    value, error = getattr(points, kind) * scale, getattr(points, f"{kind}_error") * scale
    used = points.used
    style: Any = {"fmt": "o", "color": BLACK, "markersize": 5, "capsize": 2.5, "elinewidth": 1.1}
    wide = np.abs(np.stack([points.edges[:-1], points.edges[1:]]) - points.r)
    if used.any():
        axes.errorbar(points.r[used], value[used], error[used], label=points.label, **style)
        axes.errorbar(
            points.r[used], value[used], xerr=wide[:, used], fmt="none", ecolor="0.75", zorder=1
        )
    if not used.all():
        style |= {"color": "0.45", "mfc": "white"}
        axes.errorbar(points.r[~used], value[~used], error[~used], **style)


def _displacements(axes: Axes, system: Dynamics, units: Units) -> None:
    for role, curve in system.displacements.items():
        label = system.labels[role]
        if role == "data":
            axes.errorbar(
                curve.x,
                curve.value,
                curve.error,
                label=label,
                capsize=2.5,
                zorder=3,
                **_STYLE[role],
            )
            continue
        axes.plot(curve.x, curve.value, label=label, **_STYLE[role])
        low, high = curve.value - curve.error, curve.value + curve.error
        axes.fill_between(curve.x, low, high, color=_STYLE[role]["color"], alpha=0.2, linewidth=0)
    axes.set_xlabel(f"time t ({units.time})")
    axes.set_ylabel(f"mean-square displacement ({units.length}²)")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)
    axes.set_title("how far particles get")


def _scattering(axes: Axes, system: Dynamics, units: Units) -> None:
    for role, spectrum in system.spectra.items():
        for index, k in enumerate(spectrum.k):
            marker, color, line = _WAVES[index % len(_WAVES)]
            if spectrum.scattering.shape[1] == 0:
                continue
            value = spectrum.scattering[index] / spectrum.static[index]
            error = spectrum.scattering_error[index] / spectrum.static[index]
            label = f"k = {k:.3f}" if role == "learned" else None
            if role == "learned":
                axes.plot(spectrum.lags, value, color=color, linestyle=line, label=label)
                continue
            points: Any = {"fmt": marker, "color": color, "markersize": 4.5, "capsize": 2}
            if role == "theory":
                points["mfc"] = "white"
            axes.errorbar(spectrum.lags, value, error, **points)
    axes.set_xlabel(f"time t ({units.time})")
    axes.set_ylabel("F(k, t) / S(k)")
    low = axes.get_ylim()[0]
    if 0 < low < 0.9:
        axes.set_yscale("log")
        axes.minorticks_off()
        ticks = [
            t for t in (0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0) if t > low
        ]
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.legend(title=f"k (1/{units.length}); line: learned", frameon=False)
    axes.set_title("how density waves decay")


def _diffusion(axes: Axes, system: Dynamics, units: Units) -> None:
    values = [s.value for s in system.spectra.values()]
    power = 3 * int(np.floor(np.log10(max(np.max(np.abs(v)) for v in values)) / 3))
    scale = 10.0**-power
    shift = {"data": -0.012, "learned": 0.012, "theory": 0.0}
    marker = {"data": "o", "learned": "s", "theory": "D"}
    for role, spectrum in system.spectra.items():
        style: Any = {"fmt": marker[role], "color": _STYLE[role]["color"], "markersize": 5.5}
        if role == "theory":
            style["mfc"] = "white"
        k, value, error = spectrum.k, spectrum.value * scale, spectrum.error * scale
        label = system.labels[role]
        axes.errorbar(k * (1 + shift[role]), value, error, label=label, capsize=3, **style)
    if system.exact is not None:
        k = next(iter(system.spectra.values())).k
        style = {"color": VERMILION, "linestyle": (0, (5, 2)), "linewidth": 1.4, "zorder": 0}
        axes.plot(k, system.exact * scale, label="theory, t → 0, exact", **style)
    axes.set_ylim(0, 1.15 * max(np.max(s.value + s.error) for s in system.spectra.values()) * scale)
    axes.set_xlabel(f"wave number k (1/{units.length})")
    axes.set_ylabel(f"D(k) ({_power(power)}{units.length}²/{units.time})")
    first, second = next(iter(system.spectra.values())).window
    axes.set_title(f"D(k) = −d ln F/dt / k², t = {first:g}–{second:g}")
    axes.legend(loc="lower right", frameon=False)


def _mobility_unit(units: Units, power: int) -> str:
    return f"{_power(power)}{units.length}²/({units.energy}·{units.time})"


def _power(power: int) -> str:
    return f"10{str(power).translate(_SUPERSCRIPT)} " if power else ""


def _quantity(seconds: float) -> str:
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {name}"
    return f"{seconds * 1e9:.3g} ns"
