"""The picture of a data set's findings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore.forcefield.structures.labels import labels
from mlcore.io.atomic import atomic_path

if TYPE_CHECKING:
    from mlcore.forcefield.structures.checks import Findings

__all__ = ["draw"]

_SMALL = 1e-5
"""Forces below are drawn as this, eV/Angstrom."""


def draw(
    findings: Findings, shortest: npt.NDArray[np.float64], path: str | os.PathLike[str]
) -> None:
    """See `Findings.plot`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    _energies(left, findings)
    _forces(middle, findings)
    _distances(right, findings, shortest)
    told = str(findings).splitlines()[0]
    figure.suptitle(told, fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _ring(axes: Any, x: npt.NDArray[Any], y: npt.NDArray[Any], flagged: list[int]) -> None:
    held = [k for k in flagged if np.isfinite(x[k]) and np.isfinite(y[k])]
    if held:
        style = {"s": 90, "facecolors": "none", "edgecolors": "red", "label": "findings"}
        axes.scatter(x[held], y[held], **style)


def _by_group(axes: Any, findings: Findings, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> None:
    groups = np.array(findings.dataset.group_of)
    for name in dict.fromkeys(groups.tolist()):
        of = (groups == name) & np.isfinite(x) & np.isfinite(y)
        axes.scatter(x[of], y[of], s=14, label=name)
    _ring(axes, x, y, findings.flagged)
    if len(set(groups.tolist())) <= 12:
        axes.legend(fontsize=7)


def _energies(axes: Any, findings: Findings) -> None:
    atoms = findings.dataset.structures
    volume = np.array([_volume(a) for a in atoms])
    energy = np.array([np.nan if (e := labels(a).energy) is None else e / len(a) for a in atoms])
    _by_group(axes, findings, volume, energy)
    axes.set(xlabel="volume per atom (Å³)", ylabel="energy per atom (eV)")


def _volume(atoms: Any) -> float:
    volume = abs(float(np.linalg.det(np.asarray(atoms.cell))))
    return volume / len(atoms) if atoms.pbc.all() and volume > 0 else 0.0


def _forces(axes: Any, findings: Findings) -> None:
    flagged = set(findings.flagged)
    sound: list[npt.NDArray[np.float64]] = []
    odd: list[npt.NDArray[np.float64]] = []
    for k, atoms in enumerate(findings.dataset.structures):
        forces = labels(atoms).forces
        if forces is not None:
            (odd if k in flagged else sound).append(np.linalg.norm(forces, axis=1))
    values = [np.concatenate(rows) if rows else np.zeros(0) for rows in (sound, odd)]
    values = [np.maximum(v[np.isfinite(v)], _SMALL) for v in values]
    largest = max((v.max() for v in values if len(v)), default=0.0)
    if largest > 0:
        bins = np.geomspace(_SMALL, max(2 * largest, 10 * _SMALL), 60)
        for rows, color, label in zip(
            values, ("tab:blue", "red"), ("sound", "findings"), strict=True
        ):
            axes.hist(rows, bins=bins, color=color, alpha=0.6, label=label)
        axes.set_xscale("log")
    if axes.has_data():
        axes.legend(fontsize=7)
    axes.set(xlabel="force on an atom (eV/Å)", ylabel="atoms")


def _distances(axes: Any, findings: Findings, shortest: npt.NDArray[np.float64]) -> None:
    index = np.arange(len(shortest), dtype=float)
    _by_group(axes, findings, index, np.where(np.isfinite(shortest), shortest, np.nan))
    axes.set(xlabel="structure", ylabel="shortest distance (Å)")
