"""Pictures of the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from mlcore.io.atomic import atomic_path

COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#777777")
MARKS = ("o", "s", "^", "p")
Results = Mapping[str, Any]


def save(figure: Any, path: Path) -> Path:
    """A PNG, whole or not at all."""
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)
    plt.close(figure)
    return path


def _curve(ax: Axes, told: Results | None, key: str, **style: Any) -> None:
    if told:
        y = np.array([np.nan if v is None else v for v in told[key]], dtype=float)
        ax.loglog(told["t"], y, **style)


def _errors(ax: Axes, title: str) -> None:
    ax.axhline(1e-3, color="0.8", lw=0.8, zorder=0)
    ax.set(title=title, xlabel="t", ylim=(1e-14, 1e2))


def line(name: str, one: Results, path: Path) -> Path:
    """Fig 3 for one potential: true frames, own frames, what works, Verlet."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), sharey=True)
    for k, (step, told) in enumerate(one["lstm"].items()):
        style = {
            "color": COLORS[k],
            "marker": MARKS[k],
            "ms": 3,
            "lw": 1,
            "label": f"LSTM, step {step}",
        }
        _curve(axes[0], told["forced_curve"], "named", **style)
        _curve(axes[1], told["own_curve"], "named", **style)
    for k, (key, told) in enumerate(one["works"].items()):
        _curve(axes[2], told["own_curve"], "named", color=COLORS[k], marker=".", lw=1, label=key)
    for k, (dt, told) in enumerate(one["truth"]["verlet"].items()):
        if "curve" in told:
            _curve(axes[3], told["curve"], "named", color=COLORS[k], lw=1, label=f"dt = {dt}")
    titles = ("single steps from true frames", "own frames", "what works, own frames", "Verlet")
    for ax, title in zip(axes, titles, strict=True):
        _errors(ax, title)
        ax.legend(fontsize=6, frameon=False)
    axes[0].set_ylabel("|x - x(Verlet, 0.001)|")
    figure.suptitle(one["title"])
    return save(figure, path)


def fig_8(told: Results, path: Path) -> Path:
    """Position, phase space and energy in the first and in the 75th period."""
    spans = told["spans"]
    figure, axes = plt.subplots(len(spans), 3, figsize=(12, 3.2 * len(spans)), squeeze=False)
    names = [n for n in told if n.startswith(("forced", "own"))]
    for row, axs in enumerate(axes):
        true = told["truth"][row]
        axs[0].plot(true["t"], true["x"], "k-", lw=1)
        axs[1].plot(true["x"], true["v"], "k-", lw=1)
        axs[2].plot(true["t"], true["energy"], "k-", lw=1)
        for name in names:
            kind, step = name.split()
            one, k = told[name][row], [n.split()[1] for n in names].index(step) // 2 % 4
            look = {
                "color": COLORS[k],
                "ls": "none",
                "ms": 3,
                "marker": "x" if kind == "forced" else MARKS[k],
            }
            label = f"{step}, {'true' if kind == 'forced' else 'own'} frames"
            axs[0].plot(one["t"], one["x"], **look, label=label)
            axs[1].plot(one["x"], one["v"], **look)
            axs[2].plot(one["t"], one["energy"], **look)
        axs[0].set(xlabel="t", ylabel="x", ylim=(0.8, 3.2))
        axs[1].set(xlabel="x", ylabel="v", xlim=(0.8, 3.2), ylim=(-2, 2))
        axs[2].set(xlabel="t", ylabel="(E - E0) / |E0|")
        axs[2].set_yscale("symlog", linthresh=1e-3)
    axes[0][0].legend(fontsize=6, frameon=False, ncol=2)
    return save(figure, path)


def fig_4(told: Results, path: Path) -> Path:
    """Trajectories, distances, and their dependence on the kick."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.4))
    curves = told["curves"]
    for k, dp in enumerate(told["kicks"][:3]):
        axes[0].plot(curves["t"], curves["Verlet"][k], color=COLORS[k], label=f"dp = {dp:g}")
        for name, look in (("LSTM, true frames", "."), ("LSTM, own frames", "x")):
            axes[0].plot(curves["t of LSTM"], curves[name][k], look, ms=3, color=COLORS[k])
    axes[0].set(xlabel="t", ylabel="x", title="Verlet; LSTM . true, x own frames", ylim=(-1, 8))
    for key, time, name, look in (
        ("apart", "t", "Verlet", "-"),
        ("apart, own frames", "t of LSTM", "LSTM, own", "x"),
    ):
        for k, (dp, row) in enumerate(zip(told["kicks"][1:4], curves[key], strict=True)):
            style = {"ms": 3, "color": COLORS[k], "label": f"{name}, {dp:g}"}
            axes[1].semilogy(curves[time], np.maximum(row, 1e-12), look, **style)
    axes[1].set(xlabel="t", ylabel="distance from dp = 0", ylim=(1e-9, 10))
    dp = np.array(told["kicks"][1:4])
    for k, (name, apart) in enumerate(told["apart"].items()):
        axes[2].loglog(dp, apart[:3], "o-", ms=4, color=COLORS[k], label=name)
    axes[2].loglog(dp, dp * told["apart"]["Verlet"][1] / 1e-4, "k:", label="proportional to dp")
    axes[2].set(xlabel="dp", ylabel="mean distance, t <= 200")
    long = told["long"]
    axes[3].loglog(long["t"], long["apart"], "ko-", ms=3, label=f"t^{long['power']:.2f}")
    axes[3].set(xlabel="t", ylabel="distance", title="starts 2.5 and 2.5 + 1e-6")
    for ax in axes:
        ax.legend(fontsize=6, frameon=False)
    return save(figure, path)


def cluster(one: Results, path: Path) -> Path:
    """Figs 9 and 5: errors and energies."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6))
    for k, (step, told) in enumerate(one["lstm"].items()):
        look = {"color": COLORS[k], "marker": MARKS[k], "ms": 3, "lw": 1, "label": f"LSTM {step}"}
        _curve(axes[0], told["forced_curve"], "mean", **look)
        _curve(axes[1], told["own_curve"], "mean", **look)
    for k, (step, told) in enumerate(one["nbody"].items()):
        _curve(
            axes[1],
            told["own_curve"],
            "mean",
            color="k",
            ls=("-", "--", ":")[k],
            lw=1,
            label=f"N-body {step}",
        )
    for k, (name, told) in enumerate(one["parted"].items()):
        apart = np.maximum(np.array(told["apart"], dtype=float), 1e-17)
        axes[2].semilogy(told["t"], apart, color=COLORS[k], lw=1, label=f"Verlet, {name}")
    for k, (name, told) in enumerate(one["far"].items()):
        black = name.startswith("Verlet")
        _curve(axes[3], told, "mean", color="k" if black else COLORS[(k - 1) % 7], lw=1, label=name)
    for k, (dt, told) in enumerate(one["verlet"].items()):
        _curve(
            axes[3],
            told.get("energy_curve"),
            "mean",
            color=COLORS[k],
            ls=":",
            lw=1,
            label=f"Verlet {dt}",
        )
    for ax in axes[:3]:
        ax.set(xlabel="t", ylim=(1e-16, 1e2))
        ax.axhline(1e-3, color="0.8", lw=0.8, zorder=0)
    cut = one["lyapunov"]["cut"]
    for ax in axes[1:3]:
        if cut is not None:
            ax.axvspan(cut, ax.get_xlim()[1], color="0.9", zorder=0)
    axes[0].set(title="single steps from true frames", ylabel="error (Eq 17)", ylim=(1e-7, 1e2))
    axes[1].set(title="own frames", ylim=(1e-7, 1e2))
    axes[2].set(title="Verlet beside itself")
    axes[3].set(title="|E - E0| / |E0|", xlabel="t", ylim=(1e-6, 1e6))
    for ax in axes:
        ax.legend(fontsize=5, frameon=False)
    place = "periodic box" if one["place"] == "box" else "sphere"
    figure.suptitle(f"{one['n']} Lennard-Jones particles, {place}")
    return save(figure, path)


def speed(rows: list[Mapping[str, Any]], path: Path) -> Path:
    """Table I as claimed and as measured."""
    names = list(dict.fromkeys(row["name"] for row in rows if row["claimed"]))
    figure, axes = plt.subplots(
        1, max(1, len(names)), figsize=(14, 3.2), sharey=True, squeeze=False
    )
    looks = (
        ("claimed", "k", "o-"),
        ("lstm", COLORS[0], "s-"),
        ("lstm_best", COLORS[1], "^-"),
        ("other", COLORS[2], "d-"),
    )
    labels = {
        "claimed": "paper", "lstm": "LSTM, compiled Verlet 0.001",
        "lstm_best": "LSTM, Verlet at its largest step", "other": "what works, Verlet at its largest step",
    }  # fmt: skip
    for ax, name in zip(axes[0], names, strict=False):
        own = [row for row in rows if row["name"] == name]
        for key, color, look in looks:
            told = [(r["step"], r.get(key)) for r in own if r.get(key) is not None]
            if told:
                ax.loglog(*zip(*told, strict=True), look, ms=3, color=color, label=labels[key])
        ax.axhline(1, color="0.7", lw=0.8)
        ax.set(title=name, xlabel="large step")
    axes[0][0].set_ylabel("S_p (Eq 3)")
    axes[0][0].legend(fontsize=5, frameon=False)
    return save(figure, path)
