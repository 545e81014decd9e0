"""Lattice constant, cohesive energy and elastic constants of a cubic crystal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import GPa

from mlcore.errors import InvalidArgument
from mlcore.forcefield.targets.face import Array, Boxes, Measurement, Target

__all__ = ["CUBIC_VALUES", "CubicCrystal"]

CUBIC_VALUES = {
    "a": ("A", 0.01),
    "energy": ("eV/atom", 0.01),
    "bulk": ("GPa", 5.0),
    "C11": ("GPa", 5.0),
    "C12": ("GPa", 5.0),
    "C44": ("GPa", 5.0),
    "C44 unrelaxed": ("GPa", 5.0),
}
STRAIN = 1e-3
SHIFT = 1e-3
LARGEST = 0.35


class CubicCrystal(Target):
    """A cubic crystal at the volume where its pressure vanishes.

    Elastic constants are central differences of the stress over strains of 1e-3. Those of crystals
    whose atoms have room to move are relaxed by their linear response, C - L K^-1 L^T, with the
    force constants K and the couplings L of stress and displacements, again central differences:
    the limit of small strains of relaxing every strained cell (M. Born, K. Huang, Dynamical Theory
    of Crystal Lattices, 1954, section 11).

    Args:
        structure: the crystal in a cubic or primitive cell, near its lattice constant.
        values: reference of ``a`` (A), ``energy`` (eV per atom), ``bulk``, ``C11``, ``C12``,
            ``C44``, ``C44 unrelaxed`` (GPa), those that are wanted.
        sigma: tolerances of them; default 0.01 A, 0.01 eV, 5 GPa.
        a: lattice constant of ``structure`` as it is; by default that of a conventional cell, or
            of the primitive fcc or bcc cell it is.
        **options: name, group, level, weight; see `Target`.
    """

    tier = "static"

    def __init__(
        self,
        structure: Atoms,
        values: Mapping[str, float],
        *,
        sigma: Mapping[str, float] | None = None,
        a: float | None = None,
        **options: Any,
    ) -> None:
        name = options.pop("name", structure.info.get("name", "crystal"))
        unknown = (values.keys() | (sigma or {}).keys()) - CUBIC_VALUES.keys()
        if unknown or not values:
            raise InvalidArgument(
                f"{name}: values must be of {', '.join(CUBIC_VALUES)}; got {sorted(unknown)}"
            )
        if not structure.pbc.all():
            raise InvalidArgument(f"{name}: structure must be periodic in all directions")
        self.wanted = tuple(values)
        self.a = _lattice_constant(name, structure) if a is None else float(a)
        tolerances = {key: given for key, (_, given) in CUBIC_VALUES.items()} | dict(sigma or {})
        super().__init__(
            name,
            [structure],
            list(values.values()),
            [tolerances[key] for key in values],
            [f"{name} {key}" for key in values],
            unit=" ".join(sorted({CUBIC_VALUES[key][0] for key in values})),
            **options,
        )

    def measure(self, boxes: Boxes) -> Measurement:
        scale, energy, bulk = rest_scale(boxes)
        found = {"a": self.a * scale, "energy": energy / len(self.structures[0]), "bulk": bulk}
        if any(key.startswith("C") for key in self.wanted):
            found |= _elastic(boxes, scale, relax="C44" in self.wanted)
        values = np.stack([found[key] for key in self.wanted], axis=-1)
        notes = tuple("" if np.isfinite(s) else "the crystal has no volume of rest" for s in scale)
        return Measurement(values, None, notes)


def rest_scale(boxes: Boxes, k: int = 0, steps: int = 25) -> tuple[Array, Array, Array]:
    """Where the pressure of structure ``k`` vanishes under an equal stretch of all directions.

    Newton's steps on the mean stress by secants, each candidate by itself.

    Returns:
        (C,) stretch, NaN where there is none within a third; (C,) energy there, eV; (C,) bulk
        modulus there, GPa.
    """
    scale = np.ones(boxes.candidates)
    now, energy = _mean_stress(boxes, k, scale)
    before, older = scale, now
    slope = np.full_like(scale, np.nan)
    scale = scale * (1 - np.clip(np.sign(now), -1, 1) * 2e-3)
    done = np.zeros(len(scale), dtype=bool)
    for _ in range(steps):
        now, new_energy = _mean_stress(boxes, k, scale)
        energy = np.where(done, energy, new_energy)
        with np.errstate(all="ignore"):
            secant = (now - older) / (scale - before)
        slope = np.where(done | ~np.isfinite(secant) | (scale == before), slope, secant)
        # the stress must grow as the crystal is stretched: uphill steps leave the barrier behind
        with np.errstate(all="ignore"):
            step = np.where(slope > 0, -now / slope, -0.02 * np.sign(now))
        step = np.clip(np.where(np.isfinite(step), step, np.nan), -0.03, 0.03)
        done = done | (np.abs(step) < 1e-10) | ~np.isfinite(step)
        before, older = np.where(done, before, scale), np.where(done, older, now)
        scale = np.where(done, scale, scale + step)
        if done.all():
            break
    good = done & np.isfinite(energy) & (np.abs(scale - 1) < LARGEST) & (slope > 0)
    bulk = slope * scale / 3 / GPa
    return tuple(np.where(good, x, np.nan) for x in (scale, energy, bulk))  # type: ignore[return-value]


def _mean_stress(boxes: Boxes, k: int, scale: Array) -> tuple[Array, Array]:
    # candidates that were lost stay somewhere harmless
    safe: Array = np.where(np.isfinite(scale) & (np.abs(scale - 1) < LARGEST), scale, 1 + LARGEST)
    static = boxes.static(k, safe[:, None, None] * np.eye(3))
    return static.stress[:, :3].mean(axis=1), static.energy


def _elastic(boxes: Boxes, scale: Array, relax: bool) -> dict[str, Array]:
    """C11, C12 and C44, relaxed and not, GPa, of each candidate."""
    rest = np.where(np.isfinite(scale), scale, 1.0)[:, None, None] * np.eye(3)
    along = _stress_slope(boxes, rest, 0, 0)
    shear = _stress_slope(boxes, rest, 1, 2)
    found = {"C11": along[:, 0], "C12": along[:, 1:3].mean(axis=1), "C44 unrelaxed": shear[:, 3]}
    found["C44"] = shear[:, 3] - (_softening(boxes, rest) if relax else 0.0)
    lost = ~np.isfinite(scale)
    return {key: np.where(lost, np.nan, value / GPa) for key, value in found.items()}


def _stress_slope(boxes: Boxes, rest: Array, i: int, j: int) -> Array:
    """(C, 6) d stress / d strain; of a shear, d stress / d gamma with gamma = 2 eps_ij."""
    change = np.zeros((3, 3))
    change[i, j] = change[j, i] = STRAIN if i == j else STRAIN / 2
    up = boxes.static(0, (np.eye(3) + change) @ rest).stress
    down = boxes.static(0, (np.eye(3) - change) @ rest).stress
    slope: Array = (up - down) / (2 * STRAIN)
    return slope


def _softening(boxes: Boxes, rest: Array) -> Array:
    """What the motion of atoms takes off C44, eV/A^3: L K^-1 L^T / V."""
    n = len(boxes.structures[0])
    if n == 1:
        return np.zeros(boxes.candidates)
    volume = boxes.structures[0].get_volume() * rest[:, 0, 0] ** 3
    stiffness = np.empty((boxes.candidates, 3 * (n - 1), 3 * n))
    coupling = np.empty((boxes.candidates, 3 * (n - 1)))
    for atom in range(1, n):
        for axis in range(3):
            move = np.zeros((boxes.candidates, n, 3))
            move[:, atom, axis] = SHIFT
            up, down = boxes.static(0, rest, move), boxes.static(0, rest, -move)
            row = 3 * (atom - 1) + axis
            change = (up.forces - down.forces).reshape(boxes.candidates, -1)
            stiffness[:, row] = -change / (2 * SHIFT)
            coupling[:, row] = (up.stress - down.stress)[:, 3] * volume / (2 * SHIFT)
    softening: Array = _solved(stiffness[:, :, 3:], coupling) / volume
    return softening


def _solved(stiffness: Array, coupling: Array) -> Array:
    """L K^-1 L^T of each candidate, NaN where the crystal is not stable."""
    found = np.full(len(stiffness), np.nan)
    for c, (k, row) in enumerate(zip(stiffness, coupling, strict=True)):
        if np.all(np.isfinite(k)) and np.all(np.isfinite(row)):
            with np.errstate(all="ignore"):
                answer = np.linalg.lstsq((k + k.T) / 2, row, rcond=1e-10)[0]
            found[c] = row @ answer
    return found


def _lattice_constant(name: str, structure: Atoms) -> float:
    """Of a conventional, fcc primitive or bcc primitive cell."""
    gram = np.asarray(structure.cell) @ np.asarray(structure.cell).T
    square = float(np.mean(np.diag(gram)))
    off = [gram[0, 1], gram[0, 2], gram[1, 2]]
    if np.allclose(np.diag(gram), square, rtol=1e-6):
        for ratio, factor in ((0.0, 1.0), (0.5, np.sqrt(2.0)), (-1 / 3, 2 / np.sqrt(3.0))):
            if np.allclose(np.divide(off, square), ratio, atol=1e-6):
                return float(np.sqrt(square) * factor)
    raise InvalidArgument(f"{name}: structure has no cubic cell; give its lattice constant a")
