"""Forms in the boxes that stay: styles that name files, and forms in other units."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from interactions import crystal, rendered_energy
from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.box import Box
from mlcore.forcefield.evaluate.native import is_native
from mlcore.forcefield.forms import Model, model, overlay
from mlcore.forcefield.targets import Energies

KCAL_PER_EV = 23.060549


def used(box: Box, potential: Model, values: dict[str, float], folder: Path) -> float:
    interaction = potential.render(values)
    for name, text in interaction.files.items():
        (folder / name).write_text(text)
    box.use(interaction, folder)
    return box.static()[0]


def test_a_style_that_names_files_reads_those_of_each_candidate(tmp_path: Path) -> None:
    alone = model("mliap/nn", ["Ta"], options={"twojmax": 2})
    both = Model(overlay({"nn": alone.form, "lj": model("lj/cut", ["Ta"]).form}), ["Ta"])
    for potential, label in ((alone, ""), (both, "nn_")):
        box = Box(bulk("Ta", "bcc", 3.3, cubic=True), potential)
        first = used(box, potential, potential.defaults, tmp_path)
        shifted = potential.defaults | {f"{label}bias1_0": 1.0}
        assert used(box, potential, shifted, tmp_path) == pytest.approx(first + 2.0, rel=1e-12)
        assert used(box, potential, potential.defaults, tmp_path) == first
        box.close()


@pytest.mark.parametrize("name", ["ml-bop", "mw"])
def test_water_is_evaluated_by_the_core(name: str) -> None:
    potential = model(name, ["bead:W"], {"W": 18.0153})
    assert is_native(potential)
    ice = bulk("Si", "diamond", 6.3)
    ice.set_array("species", np.array(["W"] * len(ice)))
    found = [
        Evaluator(potential, [Energies([ice], [-0.9])], engine=engine)([potential.defaults])[0]
        for engine in ("native", "lammps")
    ]
    ours, theirs = (next(iter(one.values.values())) for one in found)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_core_goes_by_what_lammps_is_told() -> None:
    shipped = model("morse", ["Cu"]).form
    assert is_native(Model(shipped.model_copy(update={"name": "mine"}), ["Cu"]))
    other = shipped.model_copy(update={"pair_style": "morse/soft"})
    assert not is_native(Model(other, ["Cu"]))
    shifted = shipped.model_copy(update={"commands": ("pair_modify shift yes",)})
    assert not is_native(Model(shifted, ["Cu"]))


def test_reaxff_in_a_box_gives_metal_units(tmp_path: Path) -> None:
    potential = model("reaxff", ["C", "H", "O"])
    atoms = crystal(["C", "H", "O"], "fcc", 4.2).repeat((2, 2, 1))
    atoms.set_array("species", np.array(["C", "H", "O"])[atoms.arrays["kind"] - 1])
    box = Box(atoms, potential, "charge")
    energy = used(box, potential, potential.defaults, tmp_path)
    _, forces, stress = box.static()
    expected, theirs = rendered_energy(
        atoms, potential, potential.render(potential.defaults), tmp_path
    )
    assert energy == pytest.approx(expected / KCAL_PER_EV, rel=1e-7)
    np.testing.assert_allclose(forces, theirs / KCAL_PER_EV, atol=1e-5)
    # stress is the derivative of the energy with respect to the strain
    step = 1e-4
    sides = [np.diag([1 + s, 1.0, 1.0]) for s in (step, -step)]
    slope = (box.static(sides[0])[0] - box.static(sides[1])[0]) / (2 * step * atoms.get_volume())
    assert stress[0] == pytest.approx(slope, rel=1e-3)
    with pytest.raises(InvalidArgument, match="metal units"):
        box.reset()
    box.close()
