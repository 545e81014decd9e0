"""Coarse-grained water, ML-BOP and mW, against what LAMMPS gave before: ice at 0 K and by MD."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bars import Measured
from mlcore.forcefield import forms
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.targets import Crystal, CubicCrystal, Target
from mlcore.forcefield.targets.md import Density, Diffusion, Simulation
from mlcore.forcefield.targets.md.density import GRAMS
from mlcore.forcefield.water import MASS, ice


@dataclass(frozen=True)
class Known:
    """A row of the reference table: eV, A, g/cm^3, 1e-5 cm^2/s."""

    form: str
    energy: float
    cubic: float
    hexagonal: tuple[float, float]
    density: float
    ices: dict[float, float]
    liquid: float
    diffusion: float


ML_BOP = Known(
    "ml-bop", -0.464192, 6.3015, (4.4558, 7.2764), 0.9564, {200.0: 0.933, 260.0: 0.929}, 0.997, 3.0
)
MW = Known(
    "mw", -0.536761, 6.2019, (4.3854, 7.1613), 1.0033, {200.0: 0.985, 260.0: 0.980}, 0.996, 6.3
)
# 150 ps of 10 fs steps
RUN = Simulation(timestep=0.01, equilibrate=3000, steps=15000)
MELTED = dataclasses.replace(RUN, melt=(500.0, 3000))


def at_rest(known: Known) -> Callable[[], Iterator[Measured]]:
    """Lattice constants, energies and densities of both ices at 0 K."""

    def measured() -> Iterator[Measured]:
        a, c = known.hexagonal
        cubic = CubicCrystal(
            ice("cubic", known.cubic + 0.01), {"a": known.cubic, "energy": known.energy}, name="Ic"
        )
        wanted = {"a": a, "c": c, "energy": known.energy, "volume": MASS * GRAMS / known.density}
        hexagonal = Crystal(ice("hexagonal", a + 0.01, c - 0.01), wanted, name="Ih")
        found = evaluated(known, [cubic, hexagonal])
        of_cubic, of_hexagonal = found.values["Ic"], found.values["Ih"]
        differences = {
            "cubic ice, a, A": of_cubic[0] - known.cubic,
            "cubic ice, energy, eV": of_cubic[1] - known.energy,
            "hexagonal ice, a, A": of_hexagonal[0] - a,
            "hexagonal ice, c, A": of_hexagonal[1] - c,
            "hexagonal ice, energy, eV": of_hexagonal[2] - known.energy,
            "hexagonal ice, density, g/cm^3": MASS * GRAMS / of_hexagonal[3] - known.density,
        }
        for what, off in differences.items():
            yield Measured(f"{what}, off by", abs(off), most=1e-4)

    return measured


def crystals(known: Known) -> Callable[[], Iterator[Measured]]:
    """Densities of 360 beads of hexagonal ice at pressure 0."""

    def measured() -> Iterator[Measured]:
        crystal = ice("hexagonal", *known.hexagonal)
        target = Density(crystal, known.ices, simulation=RUN, supercell=(5, 3, 3), name="ice")
        found = evaluated(known, [target])
        for k, (kelvin, density) in enumerate(known.ices.items()):
            yield from compared(f"ice at {kelvin:g} K", found, "ice", k, density)

    return measured


def liquids(known: Known) -> Callable[[], Iterator[Measured]]:
    """Density and diffusion of 512 beads of molten ice at 300 K and pressure 0."""

    def measured() -> Iterator[Measured]:
        crystal = ice("cubic", known.cubic)
        target = Density(
            crystal, {300.0: known.liquid}, simulation=MELTED, supercell=(4, 4, 4), name="liquid"
        )
        yield from compared(
            "liquid at 300 K", evaluated(known, [target]), "liquid", 0, known.liquid
        )
        at_volume = dataclasses.replace(MELTED, ensemble="nvt", steps=10000)
        target = Diffusion(
            crystal, {300.0: known.diffusion}, simulation=at_volume, supercell=(4, 4, 4), name="D"
        )
        found = evaluated(known, [target])
        yield Measured(f"diffusion, known {known.diffusion:g} 1e-5 cm^2/s", found.values["D"][0])
        yield Measured("its standard error", found.errors["D"][0])

    return measured


def compared(what: str, found: Evaluation, name: str, k: int, density: float) -> Iterator[Measured]:
    value, error = found.values[name][k], found.errors[name][k]
    yield Measured(f"{what}, g/cm^3", value)
    yield Measured("its standard error", error, most=0.005)
    yield Measured("off by, percent", 100 * abs(value / density - 1), most=1.0)


def evaluated(known: Known, targets: list[Target]) -> Evaluation:
    model = forms.model(known.form, ["bead:W"], {"W": MASS})
    with Evaluator(model, targets) as evaluator:
        found = evaluator([model.defaults])[0]
    assert found.failed is None and not found.notes, (found.failed, found.notes)
    return found


bars = {
    f"water {name} {known.form}": make(known)
    for known in (ML_BOP, MW)
    for name, make in (("0 K", at_rest), ("ice", crystals), ("liquid", liquids))
}
