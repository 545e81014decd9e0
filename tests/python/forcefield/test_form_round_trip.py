"""Every form is accepted by LAMMPS; what is read from files gives the energy the files give."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from interactions import POTENTIALS, crystal, energy, rendered_energy
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms import Form, Model, form_of, forms, model, schema


def made(name: str, species: list[str]) -> Model:
    beads = {s.removeprefix("bead:"): 18.0153 for s in species if s.startswith("bead:")}
    return model(name, species, beads)


ONE = {"coul/streitz": ["Al", "O"], "buck/coul/long": ["Si", "O"], "lj/cut/coul/long": ["O", "H"]}


@pytest.mark.parametrize("name", forms())
def test_lammps_takes_every_form(name: str, tmp_path: Path) -> None:
    form = forms()[name]
    potential = made(name, list(form.elements) or ONE.get(name, ["Si", "Ge"]))
    interaction = potential.render(potential.defaults)
    atoms = crystal([s.name for s in potential.species])
    found, forces = rendered_energy(atoms, potential, interaction, tmp_path)
    assert np.isfinite(found)
    assert np.isfinite(forces).all()
    assert interaction.cutoff > 0
    # linear models begin with nothing, and nuclei are further apart than they repel
    assert abs(found) > 1e-6 or name in ("zbl", "snap", "mliap/linear")


@pytest.mark.parametrize("name", forms())
def test_records_survive_json(name: str) -> None:
    form = forms()[name]
    assert form_of(json.loads(json.dumps(form.model_dump(mode="json")))) == form
    potential = made(name, list(form.elements) or ["Si", "Ge"])
    again = Model.from_record(json.loads(json.dumps(potential.record())))
    assert again.parameters == potential.parameters
    expected = potential.render(potential.defaults)
    assert again.render(again.defaults) == expected
    # as workers get it, and after it was used
    other = pickle.loads(pickle.dumps(potential))
    assert other.render(other.defaults) == expected
    assert other.form == potential.form


@pytest.mark.parametrize("name", forms())
def test_every_parameter_has_a_range_and_words(name: str) -> None:
    for p in forms()[name].parameters:
        assert p.lower <= p.default <= p.upper
        assert p.text


def test_schemas_are_json() -> None:
    assert {"record"} <= schema().keys()
    assert "parameters" in json.loads(json.dumps(schema()))["record"]["properties"]


FILES = [
    ("sw", "sw", "Si.sw", ["Si"], "diamond", 5.43),
    ("sw", "sw", "GaN.sw", ["Ga", "N"], "diamond", 4.9),
    ("tersoff", "tersoff", "Si.tersoff", ["Si"], "diamond", 5.43),
    ("tersoff", "tersoff", "SiC.tersoff", ["Si", "C"], "diamond", 4.36),
    ("tersoff", "tersoff", "SiC.tersoff", ["C"], "diamond", 3.57),
    ("tersoff", "tersoff", "GaN.tersoff", ["Ga", "N"], "diamond", 4.9),
    ("tersoff/mod", "tersoff/mod", "Si.tersoff.mod", ["Si"], "diamond", 5.43),
    ("edip", "edip/multi", "Si.edip", ["Si"], "diamond", 5.43),
    ("edip", "edip/multi", "SiC.edip", ["Si", "C"], "diamond", 4.36),
    ("vashishta", "vashishta", "SiC.vashishta", ["Si", "C"], "diamond", 4.36),
    ("vashishta", "vashishta", "SiO.1990.vashishta", ["Si", "O"], "diamond", 4.6),
]


@pytest.mark.parametrize(("name", "style", "file", "species", "lattice", "a"), FILES)
def test_read_and_written_again(
    name: str, style: str, file: str, species: list[str], lattice: str, a: float, tmp_path: Path
) -> None:
    potential = model(name, species)
    values = potential.read(POTENTIALS / file)
    atoms = crystal(species, lattice, a)
    masses = [s.mass for s in potential.species]
    lines = [f"pair_style {style}", f"pair_coeff * * {POTENTIALS / file} {' '.join(species)}"]
    theirs, their_forces = energy(atoms, masses, lines)
    ours, our_forces = rendered_energy(atoms, potential, potential.render(values), tmp_path)
    assert ours == pytest.approx(theirs, rel=1e-14, abs=1e-10)
    np.testing.assert_allclose(our_forces, their_forces, rtol=0, atol=1e-10)


INPUTS = {
    "lj/cut": """
        pair_style lj/cut 8.5  # one cutoff for all
        pair_coeff * * 0.0104 3.40
        pair_coeff 2 2 0.02 3.1 &
            7.0
        """,
    "morse": "pair_style morse 9.0\npair_coeff 1 1 0.3429 1.3588 2.866\n"
    "pair_coeff 1 2 0.3 1.2 2.7 8\npair_coeff 2 2 0.4 1.4 2.6\n",
    "buck": "pair_style buck 9.0\npair_coeff * * 1400 0.33 170\npair_coeff 1 2 900 .3 0\n",
    "buck/coul/long": "pair_style buck/coul/long 9.0 8.0\npair_coeff * * 1400 0.33 170\n"
    "set type 1 charge 1.5\nset type 2 charge -1.5\nkspace_style ewald 1e-6\n",
    "lj/cut/coul/long": "pair_style lj/cut/coul/long 9.0\npair_coeff * * 0.01 2.5\n"
    "set type 1 charge 0.4\nset type 2 charge -0.4\nkspace_style ewald 1e-6\n",
}


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_read_and_rendered(name: str, tmp_path: Path) -> None:
    file = tmp_path / "in.lammps"
    file.write_text(INPUTS[name])
    potential = model(name, ["Ar", "Ne"])
    atoms = crystal(["Ar", "Ne"], "fcc", 5.2)
    masses = [s.mass for s in potential.species]
    lines = INPUTS[name].replace("&\n", " ").splitlines()
    style = forms()[name].atom_style
    theirs, their_forces = energy(atoms, masses, lines, atom_style=style)
    values = potential.read(file)
    ours, our_forces = rendered_energy(atoms, potential, potential.render(values), tmp_path)
    assert ours == pytest.approx(theirs, rel=1e-14, abs=1e-10)
    np.testing.assert_allclose(our_forces, their_forces, rtol=0, atol=1e-10)


def test_an_input_whose_energies_are_others_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x"
    potential = model("lj/cut", ["Ar"])
    lines = "pair_style lj/cut 8.5\npair_coeff * * 0.0104 3.40\n"
    file.write_text(f"{lines}pair_modify mix arithmetic shift no\n")
    assert potential.read(file)["epsilon"] == 0.0104
    for word in ("shift", "tail"):
        file.write_text(f"{lines}pair_modify {word} yes\n")
        with pytest.raises(FileFormatError, match=f"pair_modify {word} yes"):
            potential.read(file)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "x"
    potential = model("sw", ["Si", "C"])
    with pytest.raises(FileFormatError, match="no row for Si Si C"):
        potential.read(POTENTIALS / "Si.sw")
    file.write_text("# UNITS: real\nSi Si Si 1\n")
    with pytest.raises(FileFormatError, match="not in metal units"):
        potential.read(file)
    with pytest.raises(FileFormatError, match="cannot be read"):
        potential.read(tmp_path / "none")
    file.write_text("Si Si Si 1 2 3\n")
    with pytest.raises(FileFormatError, match="14 words"):
        potential.read(file)
    row = "Si Si Si " + "1.0 " * 11
    file.write_text(f"{row}\n{row}\n")
    with pytest.raises(FileFormatError, match="two rows"):
        model("sw", ["Si"]).read(file)
    file.write_text("pair_style morse 8\n")
    with pytest.raises(FileFormatError, match="is about pair_style morse"):
        model("lj/cut", ["Ar"]).read(file)
    file.write_text("pair_style lj/cut 8\npair_coeff 1 1 1 1\n")
    with pytest.raises(FileFormatError, match="says nothing of epsilon_Ar_Ne"):
        model("lj/cut", ["Ar", "Ne"]).read(file)
    file.write_text("pair_style lj/cut $(v_x)\n")
    with pytest.raises(FileFormatError, match="variables"):
        model("lj/cut", ["Ar"]).read(file)
    with pytest.raises(InvalidArgument, match="no file of their own"):
        model("zbl", ["Si"]).read(file)


# lattice constants and energies per atom of LAMMPS runs of these potentials
ENERGIES = [
    ("sw", "Si", None, "diamond", 5.43095, -4.33660),
    ("tersoff", "Si", "Si 1988", "diamond", 5.43123, -4.63041),
    ("tersoff", "Si", None, "diamond", 5.43211, -4.62887),
    ("tersoff", "C", None, "diamond", 3.56584, -7.36819),
    ("tersoff/mod", "Si", None, "diamond", 5.42900, -4.63000),
    ("lj/cut", "Ar", None, "fcc", 5.26865, -0.08424),
    ("ml-bop", "bead:W", None, "diamond", 6.3015, -0.464192),
    ("mw", "bead:W", None, "diamond", 6.2019, -0.536761),
]


@pytest.mark.parametrize(("name", "species", "known", "lattice", "a", "expected"), ENERGIES)
def test_energies_of_the_literature(
    name: str,
    species: str,
    known: str | None,
    lattice: str,
    a: float,
    expected: float,
    tmp_path: Path,
) -> None:
    beads = {"W": 18.0153} if species == "bead:W" else None
    potential = model(name, [species], beads, known=known)
    atoms = bulk("Si", lattice, a=a, cubic=True)
    atoms.set_array("kind", np.ones(len(atoms), int))
    found = rendered_energy(atoms, potential, potential.render(potential.defaults), tmp_path)[0]
    assert found / len(atoms) == pytest.approx(expected, abs=1e-5)


def test_values_of_the_literature() -> None:
    for name, species, file in (
        ("vashishta", ["Si", "C"], "SiC.vashishta"),
        ("edip", ["Si"], "Si.edip"),
        ("tersoff/mod", ["Si"], "Si.tersoff.mod"),
        ("coul/streitz", ["Al", "O"], "AlO.streitz"),
    ):
        potential = model(name, species)
        assert potential.read(POTENTIALS / file) == potential.defaults
    assert model("lj/cut", ["Ar"]).defaults == {"epsilon": 0.0104, "sigma": 3.40, "cutoff": 8.5}
    assert model("tersoff", ["Si"]).defaults["lam2"] == 1.73222
    assert model("tersoff", ["Si"], known="Si 1988").defaults["n"] == 22.956
    # the set of both elements, none of which leaks from the set of another paper
    both = model("tersoff", ["Si", "C"]).defaults
    assert (both["lam2_Si_Si_Si"], both["B_C_C_C"], both["lam3_Si_Si_Si"]) == (1.7322, 346.74, 0.0)
    water = model("tersoff", ["bead:W"], {"W": 18.0153})
    assert water.defaults["A"] == 1684.301476
    assert model("tersoff", ["W"]).defaults["A"] == 1830.8
    assert model("mw", ["bead:W"], {"W": 18.0153}).defaults["epsilon"] == pytest.approx(0.26838043)
    silica = model("buck/coul/long", ["O", "Si"])
    assert silica.defaults["A_O_Si"] == 18003.7572
    assert silica.defaults["charge_Si"] == 2.4
    # a charge of silica says nothing about another oxide
    assert model("buck/coul/long", ["Mg", "O"]).defaults["charge_O"] == 1.0
    with pytest.raises(InvalidArgument, match="known"):
        model("tersoff", ["Si"], known="Si 2222")


def test_species_of_a_form() -> None:
    with pytest.raises(InvalidArgument, match="is for bead:W, not W"):
        model("ml-bop", ["W"])
    with pytest.raises(InvalidArgument, match="needs one, in g/mol"):
        model("ml-bop", ["bead:W"])
    with pytest.raises(InvalidArgument, match="takes 1 to 1"):
        model("mw", ["bead:W", "bead:V"], {"W": 1.0, "V": 1.0})
    for species, word in ((["Xx"], "no element"), (["Si", "Si"], "twice"), (["S-i"], "letters")):
        with pytest.raises(InvalidArgument, match=word):
            model("sw", species)
    with pytest.raises(InvalidArgument, match="list of names"):
        model("sw", "Si")
    with pytest.raises(InvalidArgument, match="positive"):
        model("sw", ["bead:A"], {"A": -1.0})
    assert [s.mass for s in model("sw", ["Si", "bead:B1"], {"B1": 7.5}).species] == [28.085, 7.5]


def test_values_must_be_whole() -> None:
    potential = model("sw", ["Si"])
    with pytest.raises(InvalidArgument, match="gamma is missing"):
        potential.render({n: v for n, v in potential.defaults.items() if n != "gamma"})
    with pytest.raises(InvalidArgument, match="has no parameter"):
        potential.complete({"gama": 1.0})
    with pytest.raises(InvalidArgument, match="finite"):
        potential.complete({"gamma": float("nan")})


def test_names_that_collide() -> None:
    record = forms()["sw"].model_dump(mode="json")
    record["parameters"].append(
        {"name": "q_Si_Si_Si", "default": 0, "lower": 0, "upper": 1, "slot": "form"}
    )
    with pytest.raises(InvalidArgument, match="called q_Si_Si_Si"):
        Model(Form.model_validate(record), ["Si", "C"])
