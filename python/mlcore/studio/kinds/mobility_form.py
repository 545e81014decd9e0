"""The form of a mobility, and what it begins with by its trajectories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.studio.kinds.asked import LOCAL, described
from mlcore.studio.kinds.face import Place
from mlcore.studio.kinds.suggesting import Known, Suggestion, known, referred, shelf

__all__ = ["PARTS", "READ", "form", "suggested"]

READ = (".dump", ".dump.gz", ".lammpstrj", ".lammpstrj.gz", ".extxyz", ".extxyz.gz", ".xyz")
PARTS = 4
"""That one file is cut into; the last is held out."""
_SECTIONS = ("active", "passive")
_LOOKED_AT, _PARTICLES = 12, 400  # frames and particles whose distances are looked at
_BINS = 8
_BLOCKS = 8  # that motions are cut into for error bars
_CORNER = 0.866  # of a box's edge: distances of nearest images end at its corners
_STEP = 0.02  # part of the closest distance that a particle moves in a time step
_FRAMES = 100  # of a run that is compared with the data
_ROUND = [m * 10**n for n in range(4) for m in (1, 2, 4, 5, 8)]
_MOST = 300  # particles of such a run

_CHOICE = {"from": "uploads", "kinds": ["trajectory", "structures"], "endings": list(READ)}
_LENGTH, _TIME, _ENERGY = "@units.length", "@units.time", "@units.energy"
_FILES: dict[str, dict[str, Any]] = {
    "files": {"label": "Trajectories", "choose": _CHOICE,
              "description": "LAMMPS dumps or extxyz, frames at equal times. Of several files the last "
                             "quarter is held out, of one its last quarter."},
    "time_step": {"label": "Time of a step", "unit": _TIME, "late": True,
                  "description": "Of the files' step counter."},
    "max_files": {"label": "Most files", "late": True, "description": "All where left out."},
    "lag": {"label": "Lag", "unit": _TIME,
            "description": "Over which displacements are taken; a multiple of the time between "
                           "frames, of free "
                           "motion an even one."},
    "contact": {"label": "Contact distance", "unit": _LENGTH, "late": True,
                "description": "Bins below are not fitted: there direct forces act."},
}  # fmt: skip
_ACTIVE: dict[str, dict[str, Any]] = {
    "settle": {"label": "Time to settle", "unit": _TIME, "late": True,
               "description": "Left out after every change of the forces."},
    "block": {"label": "Length of blocks", "unit": _TIME, "late": True,
              "description": "Pieces resampled for error bars; one stretch of constant force where "
                             "left out."},
}  # fmt: skip
_WORDS: dict[str, dict[str, Any]] = {
    "train": {"label": "What is learned",
              "description": "Models of the pair mobility, beyond a background that is known in theory."},
    "Training.models": {"label": "Models", "description": "All are trained and compared."},
    "Training.losses": {"label": "Learned by",
                        "description": "Regression on binned estimates is fast; the likelihood of "
                                       "increments is sharper, slower, and needs first guesses below."},
    "Training.run": {"label": "To take home and run",
                     "description": "Which of them is exported for LAMMPS."},
    "Training.data": {"label": "Learned from", "redraw": True,
                      "description": "active: pushed by known forces; passive: free motion."},
    "Training.cutoff": {"label": "Cutoff", "unit": _LENGTH,
                        "description": "Where the learned remainder ends; half of the box at most."},
    "Training.background": {"label": "Background", "description": "Rotne-Prager-Yamakawa, fitted too."},
    "Training.epochs": {"label": "Epochs", "description": "Of networks; early stopping may end before."},
    "Background.kernel": {"label": "Kernel", "description": "rpy: spheres in a fluid; none: free of theory."},
    "Background.radius": {"label": "Radius, first guess", "unit": _LENGTH,
                          "description": "Found from the data where left out."},
    "Background.viscosity": {"label": "Viscosity, first guess", "unit": "@units.energy @units.time / "
    "@units.length³",
                             "description": "Found from the data where left out."},
    "Background.fit": {"label": "Fit both", "description": "Else they stay as given."},
    "data": {"label": "Trajectories", "description": "Of pushed particles, of free ones, or of both."},
    "Data.active": {"label": "Pushed by known forces", "use": "There are runs pushed by known forces",
                    "begin": {"files": "upload:ID", "lag": 1.0},
                    "description": "Forces constant over stretches of time, in columns fx fy fz."},
    "Data.passive": {"label": "Free motion", "use": "There are runs of free motion",
                     "begin": {"files": "upload:ID", "lag": 1.0}, "description": "Thermal motion alone."},
    "Data.held_out": {"label": "To judge by", "use": "Others are held out to judge by",
                      "begin": {"files": "upload:ID", "lag": 1.0},
                      "description": "Pushed runs that are not learned from."},
    "PassiveData.scan": {"label": "Lags to scan", "unit": _TIME, "late": True,
                         "description": "Shows at which lag estimates stop to change."},
    "system": {"label": "Particles"},
    "System.kBT": {"label": "Thermal energy kT", "unit": _ENERGY,
                   "description": "1 in reduced units; 0.593 kcal/mol or 0.02585 eV at 300 K."},
    "System.interaction": {"label": "Known repulsion", "use": "They repel each other (WCA)",
                           "begin": {"sigma": 1.0, "epsilon": 1.0}, "description": ""},
    "Interaction.sigma": {"label": "Diameter σ", "unit": _LENGTH},
    "Interaction.epsilon": {"label": "Strength ε", "unit": _ENERGY},
    "System.kinematic_viscosity": {"label": "Kinematic viscosity", "late": True,
                                   "unit": "@units.length² / @units.time",
                                   "description": "Of a solvent with inertia; leave it out for "
                                                  "Brownian data."},
    "units": {"label": "Names of the units", "description": "For labels and files; nothing is converted."},
    "estimate": {"label": "Estimate by distance"},
    "Estimate.edges": {"label": "Edges of bins", "unit": _LENGTH,
                       "description": "Ascending; pairs nearer than the first are left out."},
    "Estimate.bootstrap": {"label": "Resamplings", "description": "For error bars; 200 do for a look."},
    "theory": {"label": "Compared with theory", "use": "Radius and viscosity are known",
               "begin": {"radius": 1.0, "viscosity": 1.0},
               "description": "Drawn beside what was learned; nothing is fitted to it."},
    "Theory.radius": {"label": "Radius", "unit": _LENGTH},
    "Theory.viscosity": {"label": "Viscosity", "unit": "@units.energy @units.time / @units.length³"},
    "Theory.local": {"label": "Extra self mobility", "late": True,
                     "description": "A number, or measured: what the estimate has above theory."},
    "simulate": {"label": "Runs in LAMMPS with what was learned", "item": "Run",
                 "description": "Each is compared with the data or the theory and played back in 3D."},
    "Simulation.name": {"label": "Name", "description": "Letters, digits, _ and -."},
    "Simulation.particles": {"label": "Particles"},
    "Simulation.box": {"label": "Edge of the box", "unit": _LENGTH},
    "Simulation.time_step": {"label": "Time step", "unit": _TIME,
                             "description": "In which a particle moves 2 % of its size or less."},
    "Simulation.duration": {"label": "Duration", "unit": _TIME},
    "Simulation.frame": {"label": "Time between frames", "unit": _TIME},
    "Simulation.runs": {"label": "Runs", "description": "With other noise each."},
    "Simulation.compare": {"label": "Compared with"},
    "Simulation.window": {"label": "Lags for D(k)", "unit": _TIME, "late": True,
                          "description": "From and to, multiples of the time between frames."},
    "Simulation.lags": {"label": "Lags of displacements", "unit": _TIME, "late": True,
                        "description": "Multiples of the time between frames, up to half of the duration."},
    "seed": {"label": "Seed", "description": "Of all chance: the same one, the same result."},
    "title": {"label": "Title of the report"},
}  # fmt: skip


def form(schema: Mapping[str, Any], step: str) -> dict[str, Any]:
    """The schema of configs with the words of its form; workers are chosen in ``step``."""
    words = dict(_WORDS)
    for section in ("ActiveData", "PassiveData"):
        words |= {f"{section}.{name}": told for name, told in _FILES.items()}
    words |= {f"ActiveData.{name}": told for name, told in _ACTIVE.items()}
    return described(schema, words, engines=list(LOCAL), step=step)


# -- what the data tell ----------------------------------------------------------------------------
def suggested(config: Mapping[str, Any], place: Place, upload: str | None) -> Suggestion:
    """See `mlcore.studio.kinds.suggesting.Suggesting`."""
    told: dict[str, Any] = dict(config)
    data = dict(told["data"]) if isinstance(told.get("data"), Mapping) else {}
    found = _chosen(data, place, upload)
    motion = None if found is None else found.summary.get("motion")
    if found is None or not isinstance(motion, Mapping):
        return Suggestion(told)
    frames = _Frames(found)
    interval = float(motion.get("interval") or 1.0)
    pushed = bool(motion.get("forces"))
    kind, other = ("active", "passive") if pushed else ("passive", "active")
    section = data.get(kind) if isinstance(data.get(kind), Mapping) else data.get(other)
    section = dict(section) if isinstance(section, Mapping) else {}
    if not pushed:
        for name in ("settle", "block"):
            section.pop(name, None)
    data = {name: one for name, one in data.items() if name not in _SECTIONS}
    # of free motion the displacements begin and end around a frame
    lag = interval if pushed else 2 * interval
    data[kind] = section | {"files": found.reference, "lag": lag}
    low, high = frames.reach()
    edges = [_rounded(edge) for edge in np.geomspace(low, high, _BINS + 1)]
    told["data"] = data
    told["estimate"] = _part(told, "estimate") | {"edges": edges}
    train = _part(told, "train")
    background = {k: v for k, v in _part(train, "background").items() if k in ("kernel", "fit")}
    train |= {"data": kind, "cutoff": _rounded(0.5 * frames.edge), "background": background}
    told["train"] = train
    told["simulate"] = [] if pushed else frames.runs(interval, low, _shortest(found))
    what = "forces in every frame: pushed runs" if pushed else "no forces: free motion"
    notes = [
        f"{len(found.files)} file{'s' if len(found.files) > 1 else ''}, {what}",
        f"lag {lag:g}; frames are {interval:g} apart",
        f"bins from {edges[0]:g} to {edges[-1]:g} and cutoff {train['cutoff']:g}, by the box",
    ]
    if told["simulate"]:
        notes.append("a run in LAMMPS to compare with, played back in 3D")
    return Suggestion(told, notes)


def _part(told: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = told.get(name)
    return dict(part) if isinstance(part, Mapping) else {}


def _chosen(data: Mapping[str, Any], place: Place, upload: str | None) -> Known | None:
    named = [_part(data, kind).get("files") for kind in _SECTIONS]
    name = upload or next((referred(one) for one in named if referred(one)), None)
    if name is not None:
        return known(place, name)
    fits = (one for one in shelf(place) if one.kind == "trajectory" and one.ending_in(READ))
    return next(fits, None)


def _shortest(found: Known) -> int:
    """Frames of the shortest trajectory, of those that are learned from."""
    groups = found.summary.get("groups", {})
    counts = [int(one["structures"]) for one in groups.values()]
    return counts[0] // PARTS if len(counts) == 1 else min(counts, default=0)


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


class _Frames:
    """Some frames of a trajectory, as reading it has kept them."""

    def __init__(self, found: Known) -> None:
        def read(name: str) -> NDArray[Any]:
            made: NDArray[Any] = np.load(
                found.folder / "frames" / f"{name}.npy", mmap_mode="r", allow_pickle=False
            )
            return made

        starts, places = read("starts"), read("positions")
        self.count = int(starts[1] - starts[0])
        self.cell = np.asarray(read("cells")[0], float)
        self.periodic = bool(np.asarray(read("pbc")[0]).all()) and abs(np.linalg.det(self.cell)) > 0
        self.places: Any = [
            np.asarray(places[starts[k] : starts[k + 1]], float)
            for k in range(min(len(starts) - 1, _LOOKED_AT))
        ]

    @property
    def edge(self) -> float:
        """The shortest of the box; of an open system how far it reaches."""
        if self.periodic:
            return float(np.linalg.norm(self.cell, axis=1).min())
        return float(np.ptp(self.places[0], axis=0).max()) or 1.0

    def reach(self) -> tuple[float, float]:
        """Between which distances pairs are looked at."""
        apart = np.concatenate([self._distances(one[:_PARTICLES]) for one in self.places])
        high = _CORNER * self.edge
        if not len(apart):
            return 0.1 * high, high
        low = max(float(np.quantile(apart, 0.005)), 0.05 * self.edge)
        return min(low, 0.5 * high), high

    def _distances(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        i, j = np.triu_indices(len(places), 1)
        apart = self._nearest(places[i] - places[j])
        distances: NDArray[np.float64] = np.linalg.norm(apart, axis=1)
        return distances

    def _nearest(self, apart: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.periodic:
            return apart
        parts = apart @ np.linalg.inv(self.cell)
        nearest: NDArray[np.float64] = (parts - np.round(parts)) @ self.cell
        return nearest

    def runs(self, interval: float, closest: float, frames: int) -> list[dict[str, Any]]:
        """A run in LAMMPS of a size and time step that suit how far particles move.

        ``frames``: of the shortest trajectory it is compared with; none where they are too few.
        """
        lags = [k for k in (1, 2, 4, 8, 16) if k + _BLOCKS <= frames]
        if len(lags) < 2 or not self.periodic:
            return []
        moved = [self._nearest(b - a) for a, b in zip(self.places, self.places[1:], strict=False)]
        square = (
            float(np.mean([np.mean(np.sum(one**2, axis=1)) for one in moved])) if moved else 0.0
        )
        parts = 1
        if square > 0:
            needed = math.ceil(square / 3 / (_STEP * closest) ** 2)
            parts = next((n for n in _ROUND if n >= needed), _ROUND[-1])
        run = {
            "name": "like-the-data",
            "particles": max(2, min(self.count, _MOST)),
            "box": self.edge,
            "time_step": interval / parts,
            "duration": _FRAMES * interval,
            "frame": interval,
            "runs": 2,
            "compare": "data",
            "window": [interval, lags[min(2, len(lags) - 1)] * interval],
            "lags": [k * interval for k in lags],
        }
        return [run]
