"""Molecular dynamics in LAMMPS' real units, which ReaxFF is read in, gives what metal units give."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.forms import Form, Model, model
from mlcore.forcefield.targets import Target
from mlcore.forcefield.targets.md import (
    Conductivity,
    Density,
    Diffusion,
    Enthalpy,
    HeatCapacity,
    Simulation,
)
from mlcore.forcefield.targets.md.simulation import simulate

KCAL_PER_EV = 23.060549


def argon(units: str) -> Model:
    depth = 0.0104 * (1.0 if units == "metal" else KCAL_PER_EV)
    form = Form(
        name="argon",
        title="LJ of argon",
        parameters=(),
        pair_style="lj/cut 8.5",
        pair_coeff=(f"pair_coeff * * {depth!r} 3.40",),
        cutoff="8.5",
        units=units,
    )
    return Model(form, ["Ar"])


def measured(of: Model, targets: list[Target]) -> Evaluation:
    with Evaluator(of, targets, engine="lammps") as evaluator:
        (found,) = evaluator([of.defaults])
    assert found.failed is None and not found.notes, (found.failed, found.notes)
    return found


def test_both_units_tell_the_same() -> None:
    cell = bulk("Ar", "fcc", 5.35, cubic=True)
    # so few steps that rounding has no time to grow
    short = Simulation(timestep=0.002, equilibrate=100, steps=100, pressure=0.05)
    free = Simulation(
        timestep=0.002, equilibrate=100, steps=160, every=2, frames=1, pressure=None, ensemble="nve"
    )
    blocks = Simulation(timestep=0.005, equilibrate=50, steps=1000, pressure=0.0, ensemble="nve")

    def targets() -> list[Target]:
        return [
            Density(cell, {60.0: 1.6}, simulation=short, supercell=(3, 3, 3), name="density"),
            Enthalpy(cell, {60.0: -0.07}, simulation=short, supercell=(3, 3, 3), name="enthalpy"),
            HeatCapacity(
                cell, {50.0: 25.0}, simulation=short, supercell=(3, 3, 3), name="capacity"
            ),
            Diffusion(cell, {60.0: 1e-5}, simulation=free, supercell=(3, 3, 3), name="diffusion"),
            Conductivity(
                cell,
                {60.0: 0.1},
                simulation=blocks,
                supercell=(2, 2, 8),
                swap=5,
                slabs=10,
                name="conductivity",
            ),
        ]

    metal, real = (measured(argon(units), targets()) for units in ("metal", "real"))
    for name, value in metal.values.items():
        np.testing.assert_allclose(real.values[name], value, rtol=1e-5, err_msg=name)
        assert np.all(np.isfinite(value)), name


class Conserved(Target):
    """How far energy and temperature of a run at constant energy wander, and the mean of that."""

    tier = "md"

    def __init__(self, structure: Atoms, run: Simulation) -> None:
        super().__init__("conserved", [structure], np.zeros(3), 1.0, ["drift", "swing", "kelvin"])
        self.run = run

    def measure(self, boxes):  # type: ignore[no-untyped-def]
        from mlcore.forcefield.targets import Measurement

        ((found,),) = simulate(boxes, 0, [300.0], self.run)
        kinetic = 1.5 * (len(found.masses) - 1) * 8.617333262e-5 * found.kelvin
        drift, swing = np.ptp(found.energy + kinetic), np.ptp(found.kelvin)
        return Measurement(np.array([[drift, swing, found.kelvin.mean()]]))


def test_reaxff_keeps_its_energy() -> None:
    """Eight molecules of water, 50 fs, in which bonds swing five times."""
    water = molecule("H2O")
    water.set_cell(np.eye(3) * 3.4)
    water.pbc = True
    box = water * (2, 2, 2)
    run = Simulation(
        timestep=0.00025, equilibrate=100, steps=200, every=1, pressure=None, ensemble="nve"
    )
    reax = model("reaxff", ["H", "O"])
    drift, swing, kelvin = measured(reax, [Conserved(box, run)]).values["conserved"]
    assert 50 < kelvin < 1000 and swing > 20
    # of a kinetic energy of 1 eV
    assert drift < 0.02
