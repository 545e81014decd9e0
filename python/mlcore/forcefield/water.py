"""Coarse-grained water, one bead for each molecule: ice, and fits whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from ase.build import bulk

from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.forms import Model, model
from mlcore.forcefield.parameters import Free, Space
from mlcore.forcefield.problems import Problem
from mlcore.forcefield.targets import CubicCrystal, Target
from mlcore.forcefield.targets.md import Density, Simulation

__all__ = ["COLD", "FREE", "MASS", "WARM", "ice", "refit"]

MASS = 18.0153
FREE = {
    "tersoff": ("c", "d", "cos0", "n", "beta", "lam2", "B", "lam1", "A"),
    "sw": ("epsilon", "sigma", "lambda"),
}
"""Parameters of ML-BOP and of mW that `refit` makes free."""
# lattice constants of cubic ice, A
_CUBIC = {"tersoff": 6.3015, "sw": 6.2019}
COLD = Simulation(timestep=0.01, equilibrate=500, steps=1500, barostat=200)
"""A short run of ice."""
WARM = Simulation(timestep=0.01, equilibrate=1500, steps=3000, barostat=200, melt=(700.0, 1000))
"""A short run of the liquid, melted from ice."""


def ice(kind: Literal["cubic", "hexagonal"], a: float, c: float | None = None) -> Atoms:
    """Eight beads ``W`` of ice, in a rectangular cell.

    Args:
        kind: ``cubic`` (the lattice of diamond) or ``hexagonal`` (that of lonsdaleite).
        a: lattice constant, A.
        c: of hexagonal ice, A; by default that of perfect tetrahedra.

    Raises:
        InvalidArgument: another kind.
    """
    if kind == "cubic":
        made: Atoms = bulk("W", "diamond", a, cubic=True)
    elif kind == "hexagonal":
        made = _hexagonal(a, c or a * float(np.sqrt(8 / 3)))
    else:
        raise InvalidArgument(f"kind: cubic or hexagonal, got {kind!r}")
    made.info["name"] = f"{kind} ice"
    return made


def refit(
    form: Literal["tersoff", "sw"] = "tersoff",
    seed: int = 0,
    *,
    off: float = 0.05,
    cold: Simulation = COLD,
    warm: Simulation = WARM,
    cells: tuple[int, int] = (2, 3),
    levels: tuple[int, int, int] = (0, 1, 2),
) -> Problem:
    """ML-BOP (Tersoff's form) or mW (Stillinger's and Weber's), fitted to what it says itself.

    Lattice constant and energy of cubic ice at 0 K, its density at 200 K, that of the liquid at
    300 K, both at pressure 0; a tolerance is 0.02 A, 5 meV and 1 percent. The references are
    measured here, by the same runs.

    Args:
        form: which of the two.
        seed: of the start.
        off: how far values are off at the start, at most, in parts; they may be half as far
            again.
        cold, warm: how ice and the liquid are run.
        cells: of eight beads, along each side of ice and of the liquid.
        levels: of what is at rest, of ice, of the liquid.

    Raises:
        InvalidArgument: another form.
    """
    if form not in FREE:
        raise InvalidArgument(f"form must be tersoff or sw, got {form!r}")
    water = model(form, ["bead:W"], {"W": MASS})
    space = _space(water, form, off, np.random.default_rng(seed))

    def targets(a: float, energy: float, *densities: float) -> tuple[Target, ...]:
        return (
            _at_rest(_CUBIC[form], a, energy, levels[0]),
            _density("ice", 200.0, densities[0], _CUBIC[form], cold, cells[0], levels[1]),
            _density("liquid", 300.0, densities[1], _CUBIC[form], warm, cells[1], levels[2]),
        )

    known = _measured(water, targets(_CUBIC[form], -0.5, 1.0, 1.0))
    return Problem(water, space, targets(*known), water.defaults)


def _measured(water: Model, targets: Sequence[Target]) -> list[float]:
    with Evaluator(water, targets) as evaluator:
        found = evaluator([water.defaults])[0]
    return [float(value) for target in targets for value in found.values[target.name]]


def _space(water: Model, form: str, off: float, random: np.random.Generator) -> Space:
    free = {}
    for name in FREE[form]:
        known = water.defaults[name]
        lower, upper = sorted((known * (1 - 1.5 * off), known * (1 + 1.5 * off)))
        initial = known * (1 + off * float(random.uniform(-1, 1)))
        free[name] = Free(lower=lower, upper=upper, initial=initial)
    return Space(water.parameters, free)


def _at_rest(near: float, a: float, energy: float, level: int) -> Target:
    return CubicCrystal(
        bulk("W", "diamond", near),
        {"a": a, "energy": energy},
        sigma={"a": 0.02, "energy": 0.005},
        name="ice at rest",
        level=level,
    )


def _density(
    phase: str, kelvin: float, value: float, a: float, run: Simulation, side: int, level: int
) -> Target:
    return Density(
        ice("cubic", a),
        {kelvin: value},
        sigma=0.01 * value,
        simulation=run,
        supercell=(side, side, side),
        name=f"density of {phase}",
        group="density",
        level=level,
    )


def _hexagonal(a: float, c: float) -> Atoms:
    layer = np.array([[0.0, 0.0], [0.5, 0.5]])
    other = layer + [0.5, 1 / 6]
    # two layers of six rings, the upper half the mirror image of the lower
    heights = [(layer, 1 / 16), (other, -1 / 16), (other, 9 / 16), (layer, 7 / 16)]
    places = np.concatenate([np.column_stack([xy, np.full(2, z)]) for xy, z in heights])
    cell = [a, a * np.sqrt(3), c]
    return Atoms("W8", scaled_positions=places % 1.0, cell=cell, pbc=True)
