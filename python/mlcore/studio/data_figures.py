"""Figures of a data set: energies over volumes, forces, distances, with what the checks flagged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlcore.studio.frames import volume

if TYPE_CHECKING:
    from mlcore.forcefield.structures import Dataset

__all__ = ["figures"]

FloatArray = npt.NDArray[np.float64]
_MOST = 4000  # points of a figure; those that are flagged are drawn before others
_BINS = 50
_SMALL = 1e-5  # forces below are counted as this, eV/Angstrom
_FLAGGED = "#d1332e"


def figures(
    data: Dataset, told: Mapping[int, str], shortest: FloatArray | None
) -> list[dict[str, Any]]:
    """Those that can be drawn; points carry the number of their structure.

    Args:
        data: the structures.
        told: structures that are flagged, and what is said of them.
        shortest: (structures,) distance of the nearest two atoms, Angstrom; None: not known.
    """
    from mlcore.forcefield.structures import labels

    structures = data.structures
    known = [labels(atoms) for atoms in structures]
    per_atom = [
        np.nan if one.energy is None else one.energy / len(atoms)
        for one, atoms in zip(known, structures, strict=True)
    ]
    volumes = np.array([volume(atoms) or np.nan for atoms in structures])
    made = []
    if np.isfinite(per_atom).any():
        made.append(_energies(data.group_of, volumes, np.array(per_atom), told))
    forces = [None if one.forces is None else np.linalg.norm(one.forces, axis=1) for one in known]
    if any(one is not None for one in forces):
        made.append(_forces(forces, set(told)))
    if shortest is not None and np.isfinite(shortest).any():
        index = np.arange(1.0, len(structures) + 1)
        title, axes = "Shortest distances", ("structure", "shortest distance (Å)")
        made.append(_points("distances", title, data.group_of, index, shortest, told, axes))
    return made


def _energies(
    groups: Sequence[str], volumes: FloatArray, energies: FloatArray, told: Mapping[int, str]
) -> dict[str, Any]:
    title = "Energies over volumes"
    if np.isfinite(volumes).any():
        axes = ("volume per atom (Å³)", "energy per atom (eV)")
        return _points("energies", title, groups, volumes, energies, told, axes)
    index = np.arange(1.0, len(energies) + 1)
    axes = ("structure", "energy per atom (eV)")
    return _points("energies", "Energies", groups, index, energies, told, axes)


def _points(
    name: str,
    title: str,
    groups: Sequence[str],
    x: FloatArray,
    y: FloatArray,
    told: Mapping[int, str],
    axes: tuple[str, str],
) -> dict[str, Any]:
    drawn = np.isfinite(x) & np.isfinite(y)
    some = np.flatnonzero(drawn)
    step = -(-len(some) // _MOST)
    chosen = some[::step] if step > 1 else some
    of = np.array(groups)[chosen]
    traces = [_trace(chosen[of == group], x, y, group, {"size": 6}) for group in dict.fromkeys(of)]
    odd = np.array([k for k in told if drawn[k]][:_MOST], dtype=int)
    if len(odd):
        ring = {"size": 12, "symbol": "circle-open", "color": _FLAGGED, "line": {"width": 2}}
        trace = _trace(odd, x, y, "flagged", ring)
        trace["text"] = [told[k] for k in odd.tolist()]
        traces.append(trace)
    if step > 1:
        title += f" (each {step}th)"
    return _figure(name, title, traces, axes)


def _trace(
    of: npt.NDArray[Any], x: FloatArray, y: FloatArray, name: object, marker: dict[str, Any]
) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": str(name),
        "x": x[of].tolist(),
        "y": y[of].tolist(),
        "customdata": of.tolist(),
        "marker": marker,
    }


def _forces(forces: Sequence[FloatArray | None], odd: set[int]) -> dict[str, Any]:
    """Counts by size, of structures that are sound and that are flagged; a bar leads to the
    structure of its largest force.
    """
    held = [(k, f) for k, f in enumerate(forces) if f is not None]
    sizes = np.concatenate([f for _, f in held])
    owner = np.concatenate([np.full(len(f), k) for k, f in held])
    fine = np.isfinite(sizes)
    sizes, owner = np.maximum(sizes[fine], _SMALL), owner[fine]
    if not len(sizes):
        return _figure("forces", "Forces", [], ("force on an atom (eV/Å)", "atoms"))
    low, high = sizes.min() / 1.1, sizes.max() * 1.1
    edges = np.geomspace(low, high, _BINS + 1)
    bins = np.clip(np.searchsorted(edges, sizes, side="right") - 1, 0, _BINS - 1)
    flagged = np.isin(owner, list(odd))
    traces = [_bars(sizes, owner, bins, edges, ~flagged, "sound", {})]
    if flagged.any():
        color = {"color": _FLAGGED}
        traces.append(_bars(sizes, owner, bins, edges, flagged, "flagged", color))
    made = _figure("forces", "Forces", traces, ("force on an atom (eV/Å)", "atoms"))
    made["layout"] |= {"barmode": "stack", "bargap": 0.05}
    made["layout"]["xaxis"] |= {"type": "log", "exponentformat": "e", "dtick": 1}
    return made


def _bars(
    sizes: FloatArray,
    owner: npt.NDArray[Any],
    bins: npt.NDArray[Any],
    edges: FloatArray,
    mask: npt.NDArray[np.bool_],
    name: str,
    marker: dict[str, Any],
) -> dict[str, Any]:
    order = np.argsort(sizes[mask])
    last = np.full(_BINS, -1)
    last[bins[mask][order]] = owner[mask][order]  # the largest of a bin is written last
    counts = np.bincount(bins[mask], minlength=_BINS)
    return {
        "type": "bar",
        "name": name,
        "x": np.sqrt(edges[:-1] * edges[1:]).tolist(),
        "width": np.diff(edges).tolist(),
        "y": counts.tolist(),
        "customdata": last.tolist(),
        "marker": marker,
    }


def _figure(
    name: str, title: str, traces: list[dict[str, Any]], axes: tuple[str, str]
) -> dict[str, Any]:
    x, y = axes
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    return {"name": name, "title": title, "kind": "data", "data": traces, "layout": layout}
