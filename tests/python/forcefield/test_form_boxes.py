"""Forms in the boxes that stay: styles that name files, and forms in other units."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from interactions import POTENTIALS, crystal, energy, rendered_energy
from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.box import Box
from mlcore.forcefield.evaluate.native import is_native
from mlcore.forcefield.forms import Form, FormParameter, Model, forms, model, overlay
from mlcore.forcefield.targets import Energies

KCAL_PER_EV = 23.060549


def used(box: Box, potential: Model, values: dict[str, float], folder: Path) -> float:
    interaction = potential.render(values)
    for name, text in interaction.files.items():
        (folder / name).write_text(text)
    box.use(interaction, folder)
    return box.static()[0]


ONE = {
    "buck/coul/long": ["Si", "O"],
    "coul/streitz": ["Al", "O"],
    "lj/cut/coul/long": ["O", "H"],
    "ml-bop": ["bead:W"],
}
ONE["mw"] = ONE["ml-bop"]


@pytest.mark.parametrize("name", forms())
def test_boxes_that_stay_forget_candidates(name: str, tmp_path: Path) -> None:
    """Another candidate between two of the same, and that one as in a box of its own."""
    form = forms()[name]
    species = list(form.elements) or ONE.get(name, ["Si", "Ge"])
    potential = Model(form, species, {"W": 18.0} if species == ["bead:W"] else None)
    atoms = crystal([s.name for s in potential.species], "diamond", 5.6)
    names = np.array([s.name for s in potential.species])
    atoms.set_array("species", names[atoms.arrays["kind"] - 1])
    # everything a little larger, but for what must stay whole
    other = {
        p.name: p.default if p.whole else min(1.02 * p.default + 1e-3, p.upper)
        for p in potential.parameters
    }
    if "general_boc1" in other:
        other = potential.defaults | {"atom_C_D": 0.2, "angle_C_C_C_theta0": 70.0}
    box = Box(atoms, potential, form.atom_style)
    first = used(box, potential, potential.defaults, tmp_path)
    second = used(box, potential, other, tmp_path)
    assert used(box, potential, potential.defaults, tmp_path) == pytest.approx(first, rel=1e-9)
    box.close()
    alone = Box(atoms, potential, form.atom_style)
    expected = used(alone, potential, other, tmp_path)
    alone.close()
    assert second == pytest.approx(expected, rel=1e-9)
    assert name == "zbl" or abs(second - first) > 1e-9


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


def test_a_file_of_eam_is_read_anew_for_each_candidate(tmp_path: Path) -> None:
    """Which LAMMPS does not do by itself: it knows its files of ``pair_style eam`` by their names."""
    comment, masses, sizes, *rows = (POTENTIALS / "Cu_u3.eam").read_text().splitlines()
    words = sizes.split()
    words[3] = "{{ form.dr }}"
    stretched = "\n".join([comment, masses, " ".join(words), *rows]) + "\n"
    form = Form(
        name="copper-nickel",
        title="Files of single elements, those of copper stretched",
        parameters=(FormParameter(name="dr", default=1e-2, lower=5e-3, upper=2e-2),),
        pair_style="eam",
        pair_coeff=("pair_coeff 1 1 Cu.eam", "pair_coeff 2 2 Ni.eam"),
        files={"Cu.eam": stretched, "Ni.eam": (POTENTIALS / "Ni_u3.eam").read_text()},
        cutoff="6.0",
    )
    plain = Model(form, ["Cu", "Ni"])
    values = plain.defaults | {"dr": float(sizes.split()[3])}
    atoms = bulk("Cu", "fcc", 3.6, cubic=True)
    atoms.symbols[2:] = "Ni"
    box = Box(atoms, plain)
    first = used(box, plain, values, tmp_path)
    lines = [f"pair_coeff {k} {k} {POTENTIALS / name}_u3.eam" for k, name in ((1, "Cu"), (2, "Ni"))]
    atoms.set_array("kind", np.array([1, 1, 2, 2]))
    assert first == pytest.approx(energy(atoms, [63.5, 58.7], ["pair_style eam", *lines])[0])
    other = values | {"dr": 1.01 * values["dr"]}
    second = used(box, plain, other, tmp_path)
    box.close()
    alone = Box(atoms, plain)
    assert second == used(alone, plain, other, tmp_path) and abs(second - first) > 1e-3
    alone.close()
    copper = form.model_copy(
        update={"pair_coeff": form.pair_coeff[:1], "files": {"Cu.eam": stretched}}
    )
    both = Model(overlay({"eam": copper, "core": model("zbl", ["Cu"]).form}), ["Cu"])
    alone, overlaid = Box(bulk("Cu"), Model(copper, ["Cu"])), Box(bulk("Cu"), both)
    for dr in (values["dr"], other["dr"]):
        told = both.complete({"eam_dr": dr})
        expected = used(alone, Model(copper, ["Cu"]), {"dr": dr}, tmp_path)
        # nuclei are farther than their repulsion reaches
        assert used(overlaid, both, told, tmp_path) == pytest.approx(expected, abs=1e-9)
    alone.close()
    overlaid.close()


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


def resident() -> float:
    """Memory of this process, MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_candidates_of_snap_leave_no_memory_behind(tmp_path: Path) -> None:
    potential = model("snap", ["Ta"])
    box = Box(bulk("Ta", "bcc", 3.3), potential)
    for k in range(20):
        used(box, potential, potential.defaults | {"beta_1": 1e-3 * k}, tmp_path)
    before = resident()
    for k in range(150):
        used(box, potential, potential.defaults | {"beta_1": 1e-3 * k}, tmp_path)
    box.close()
    # LAMMPS would keep 140 kB of each
    assert resident() - before < 10


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
