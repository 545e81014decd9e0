"""What averages of a simulation owe to each part of a pair function, without another simulation.

From frames of one run at constant volume and temperature follow the functional derivatives of the
mean energy and pressure by the pair function phi(r), and from these what another function would
give, to first order (S. T. Reeve, A. Strachan, J. Comput. Phys. 334, 207-220, 2017):

    d<Q>/d phi(r) = <dQ/d phi(r)> - (<Q n(r)> - <Q><n(r)>)/kT

with n(r) dr pairs between r and r + dr. For the energy dQ/d phi(r) = n(r); for the pressure
P = N kT/V - sum r phi'(r)/3V it is (1/3V) d(r n(r))/dr.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from ase import Atoms

from mlcore.errors import InvalidArgument
from mlcore.io.atomic import atomic_path, write_text

__all__ = ["PairEnsemble", "PairFunction", "pair_ensemble"]

Array = npt.NDArray[np.float64]
PairFunction = Callable[[Array], Array]
"""r -> phi(r), in the units of kT; 0 beyond the cutoff."""


@dataclass(frozen=True)
class PairEnsemble:
    """Pairs of every frame by distance, and the averages they give.

    Attributes:
        edges: (B + 1,) of the bins of distance.
        counts: (F, B) pairs of each frame in each bin.
        energy: (F,) sum of phi over the pairs of each frame.
        pressure: (F,) of each frame.
        kT: temperature, in the units of phi.
        volume: of every frame.
    """

    edges: Array
    counts: Array
    energy: Array
    pressure: Array
    kT: float
    volume: float

    @property
    def middles(self) -> Array:
        """(B,) distance each bin stands for."""
        found: Array = (self.edges[1:] + self.edges[:-1]) / 2
        return found

    def derivative(self, of: Literal["energy", "pressure"]) -> Array:
        """(B,) d<Q>/d phi(r), per unit of r: the change of <Q> is the integral of it times d phi."""
        q, own = self._quantity(of)
        width = np.diff(self.edges)
        found: Array = (own - self._covariance(q, self.counts) / self.kT) / width
        return found

    def change(self, of: Literal["energy", "pressure"], difference: PairFunction) -> float:
        """First-order change of <Q> where ``difference`` is added to the pair function."""
        q, own = self._quantity(of)
        step = difference(self.middles)
        return float((own - self._covariance(q, self.counts) / self.kT) @ step)

    def error(
        self, of: Literal["energy", "pressure"], difference: PairFunction, blocks: int = 10
    ) -> float:
        """Standard error of `change`, by leaving out one of ``blocks`` of the frames at a time."""
        if not 2 <= blocks <= len(self.energy):
            raise InvalidArgument(f"blocks must be from 2 to {len(self.energy)}, got {blocks}")
        parts = np.array_split(np.arange(len(self.energy)), blocks)
        found = [self._without(part).change(of, difference) for part in parts]
        return float(np.sqrt((blocks - 1) * np.var(found)))

    def reweighted(
        self, of: Literal["energy", "pressure"], difference: PairFunction
    ) -> tuple[float, float]:
        """Change of <Q> to all orders by weights exp(-dE/kT), and the part of frames that counts.

        Frames say nothing of what they never visit: where the part is small `change` is the
        better guess.
        """
        step = difference(self.middles)
        shift = self.counts @ step
        weight = np.exp(-(shift - shift.min()) / self.kT)
        weight /= weight.sum()
        q, own = self._values(of), self._direct(of) @ step
        found = float(weight @ (q + own) - q.mean())
        return found, float(1 / (len(weight) * np.sum(weight**2)))

    def record(self) -> dict[str, Any]:
        """Averages and functional derivatives as JSON can hold them."""
        return {
            "r": self.middles.tolist(),
            "energy": float(self.energy.mean()),
            "pressure": float(self.pressure.mean()),
            "kT": self.kT,
            "frames": len(self.energy),
            "denergy": self.derivative("energy").tolist(),
            "dpressure": self.derivative("pressure").tolist(),
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes `record` to a JSON file."""
        write_text(path, json.dumps(self.record()) + "\n")

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Both functional derivatives by distance, to a file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3.2), layout="constrained")
        drawn = {"energy": self.derivative("energy"), "pressure": self.derivative("pressure")}
        for axes, (of, slope) in zip(figure.subplots(1, 2), drawn.items(), strict=True):
            axes.plot(self.middles, slope)
            axes.axhline(0, color="gray", lw=0.8)
            axes.set(xlabel="r", ylabel=f"d<{of}>/d phi(r)")
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=120)

    def _values(self, of: str) -> Array:
        if of not in ("energy", "pressure"):
            raise InvalidArgument(f"of must be energy or pressure, got {of!r}")
        return self.energy if of == "energy" else self.pressure

    def _direct(self, of: str) -> Array:
        """(F, B) dQ/d phi of each frame, integrated over each bin."""
        if of == "energy":
            return self.counts
        # -sum r d(dphi)/dr/3V by differences of neighbouring bins, turned about onto phi
        r, width = self.middles, np.diff(self.edges)
        rn = self.counts * r / width
        rise = np.gradient(rn, r, axis=1) * width
        found: Array = rise / (3 * self.volume)
        return found

    def _quantity(self, of: str) -> tuple[Array, Array]:
        return self._values(of), self._direct(of).mean(axis=0)

    def _covariance(self, q: Array, counts: Array) -> Array:
        found: Array = (q - q.mean()) @ (counts - counts.mean(axis=0)) / len(q)
        return found

    def _without(self, part: npt.NDArray[np.int64]) -> PairEnsemble:
        rows = np.delete(np.arange(len(self.energy)), part)
        return PairEnsemble(
            self.edges,
            self.counts[rows],
            self.energy[rows],
            self.pressure[rows],
            self.kT,
            self.volume,
        )


def pair_ensemble(
    frames: Iterable[Atoms],
    phi: PairFunction,
    kT: float,
    *,
    cutoff: float,
    bins: int = 400,
    slope: PairFunction | None = None,
) -> PairEnsemble:
    """Pairs by distance of frames at one volume and temperature.

    Args:
        frames: periodic structures of one kind of atom, drawn with weights exp(-E/kT).
        phi: the pair function they were drawn with.
        kT: in the units of ``phi``.
        cutoff: largest distance, below half the least height of the cell.
        bins: of distance between 0 and the cutoff.
        slope: derivative of ``phi``; by central differences where left out.

    Raises:
        InvalidArgument: no frames, a cell too small, or kT not positive.
    """
    if not (math.isfinite(kT) and kT > 0):
        raise InvalidArgument(f"kT must be positive, got {kT}")
    if bins < 2:
        raise InvalidArgument(f"bins must be at least 2, got {bins}")
    edges = np.linspace(0, cutoff, bins + 1)
    step = 1e-6 * cutoff
    derivative = slope or (lambda r: (phi(r + step) - phi(r - step)) / (2 * step))
    counts, energies, pressures, volume = [], [], [], 0.0
    for atoms in frames:
        distances = _distances(atoms, cutoff)
        volume = float(atoms.get_volume())
        counts.append(np.histogram(distances, edges)[0].astype(np.float64))
        energies.append(float(np.sum(phi(distances))))
        virial = float(np.sum(distances * derivative(distances)))
        pressures.append((len(atoms) * kT - virial / 3) / volume)
    if not counts:
        raise InvalidArgument("frames: there are none")
    return PairEnsemble(
        edges, np.array(counts), np.array(energies), np.array(pressures), float(kT), volume
    )


def _distances(atoms: Atoms, cutoff: float) -> Array:
    """Of all pairs within the cutoff, each once."""
    cell = np.asarray(atoms.cell[:])
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    if not atoms.pbc.all() or heights.min() < 2 * cutoff:
        raise InvalidArgument(
            f"frames: periodic cells at least {2 * cutoff:g} high are needed for this cutoff"
        )
    scaled = atoms.get_scaled_positions(wrap=True)
    i, j = np.triu_indices(len(atoms), 1)
    apart = scaled[i] - scaled[j]
    # nearest image in a cell that may lean: those beside it are looked at too
    apart -= np.round(apart)
    if np.allclose(cell, np.diag(np.diag(cell))):
        found = np.linalg.norm(apart @ cell, axis=1)
    else:
        around = np.array([(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)])
        found = np.min([np.linalg.norm((apart + shift) @ cell, axis=1) for shift in around], axis=0)
    near: Array = found[found < cutoff]
    return near
