"""Forces and stress of the shipped forms are derivatives of their energies, in ASE's signs."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from mlcore.errors import InvalidArgument
from mlcore.forcefield.forms import model
from mlcore.forcefield.gradients import check_gradients

CASES = {
    "sw": ("Si", "diamond", 5.3),
    "tersoff": ("Si", "diamond", 5.3),
    "tersoff/mod": ("Si", "diamond", 5.3),
    "morse": ("Cu", "fcc", 3.5),
    "lj/cut": ("Ar", "fcc", 5.1),
    "eam/zhou": ("Cu", "fcc", 3.5),
    "eam/gupta": ("Cu", "fcc", 3.5),
}


def crystal(name: str) -> Atoms:
    symbol, lattice, a = CASES[name]
    atoms = bulk(symbol, lattice, a, cubic=True)
    if lattice == "fcc":
        atoms = atoms * (2, 2, 2)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.02, 0], [0.01, 0, 0.03], [0, 0, 0.01]]), True)
    return atoms


@pytest.mark.parametrize("engine", ["auto", "lammps"])
@pytest.mark.parametrize("name", CASES)
def test_forces_and_stress_are_derivatives_of_the_energy(name: str, engine: str) -> None:
    form = model(name, [CASES[name][0]])
    found = check_gradients(form, form.defaults, crystal(name), engine=engine)  # type: ignore[arg-type]
    assert found.force_error < 1e-5
    assert found.stress_error < 1e-5
    # squeezed crystals push outwards
    assert found.stress[:3].max() < 0


def test_stress_has_the_sign_and_order_of_ase() -> None:
    atoms = crystal("lj/cut")
    form = model("lj/cut", ["Ar"])
    values = form.defaults | {"cutoff": 5.0}
    found = check_gradients(form, values, atoms, atoms=(0, 5))
    atoms.calc = LennardJones(sigma=values["sigma"], epsilon=values["epsilon"], rc=5.0)
    np.testing.assert_allclose(found.stress, atoms.get_stress(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.forces, atoms.get_forces()[[0, 5]], rtol=1e-9, atol=1e-11)


def test_a_wrong_stress_is_seen() -> None:
    form = model("sw", ["Si"])
    found = check_gradients(form, form.defaults, crystal("sw"))
    wrong = type(found)(found.forces, found.force_differences, -found.stress, found.stress)
    assert wrong.stress_error == pytest.approx(2)
    alone = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]])
    assert np.isnan(check_gradients(form, form.defaults, alone).stress_error)
    with pytest.raises(InvalidArgument, match="atoms"):
        check_gradients(form, form.defaults, alone, atoms=(2,))
