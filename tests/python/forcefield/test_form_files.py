"""Forms made from the files that come with LAMMPS give the energies that the files give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from interactions import POTENTIALS, crystal, energy, rendered_energy
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.forms import Model, families, form, forms, model, overlay
from mlcore.forcefield.forms.eam_table import EamTable

P = POTENTIALS


def same(
    potential: Model,
    values: dict[str, float],
    lines: list[str],
    a: float,
    lattice: str,
    folder: Path,
) -> float:
    """Energy, once it is the same with ours and with their lines."""
    species = [s.name for s in potential.species]
    interaction = potential.render(values)
    atoms = crystal(species, lattice, a)
    if potential.form.units == "real":
        atoms = atoms.repeat((2, 2, 2))
    masses = [s.mass for s in potential.species]
    theirs, f = energy(atoms, masses, lines, interaction.units, interaction.atom_style)
    ours, g = rendered_energy(atoms, potential, interaction, folder)
    assert abs(theirs) > 0.1
    assert ours == pytest.approx(theirs, rel=1e-13, abs=1e-10)
    np.testing.assert_allclose(g, f, rtol=1e-12, atol=1e-10)
    return theirs


TABLES = [
    ("eam", "Cu_u3.eam", ["Cu"], "fcc", 3.61),
    ("eam", "Ni_smf7.eam", ["Ni"], "fcc", 3.52),
    ("eam/alloy", "Cu_mishin1.eam.alloy", ["Cu"], "fcc", 3.61),
    ("eam/alloy", "AlCu.eam.alloy", ["Cu", "Al"], "fcc", 3.8),
    ("eam/fs", "Fe_mm.eam.fs", ["Fe"], "bcc", 2.86),
    ("eam/fs", "AlFe_mm.eam.fs", ["Fe", "Al"], "bcc", 2.9),
]


@pytest.mark.parametrize(("style", "file", "species", "lattice", "a"), TABLES)
def test_tables(
    style: str, file: str, species: list[str], lattice: str, a: float, tmp_path: Path
) -> None:
    potential = model("eam/table", species, options={"source": str(P / file)})
    assert isinstance(potential.form, EamTable)
    assert potential.form.style == style
    names = "" if style == "eam" else " ".join(species)
    lines = [f"pair_style {style}", f"pair_coeff * * {P / file} {names}"]
    same(potential, potential.defaults, lines, a, lattice, tmp_path)


@pytest.mark.parametrize("file", ["Cu_u3.eam", "Cu_mishin1.eam.alloy"])
def test_scaled_tables(file: str, tmp_path: Path) -> None:
    potential = model("eam/table", ["Cu"], options={"source": str(P / file)})
    plain = potential.render(potential.defaults)
    atoms = crystal(["Cu"], "fcc", 3.61)
    before, forces = rendered_energy(atoms, potential, plain, tmp_path)
    # all energies twice as large
    twice = potential.render(potential.complete({"embedding": 2.0, "pair": 2.0}))
    after, twice_forces = rendered_energy(atoms, potential, twice, tmp_path)
    assert after == pytest.approx(2 * before, rel=1e-9)
    np.testing.assert_allclose(twice_forces, 2 * forces, atol=1e-8)
    # all distances longer: the same crystal at another size
    longer = potential.render(potential.complete({"stretch": 1.1}))
    assert longer.cutoff == pytest.approx(1.1 * plain.cutoff)
    atoms.set_cell(1.1 * atoms.cell, scale_atoms=True)
    assert rendered_energy(atoms, potential, longer, tmp_path)[0] == pytest.approx(before, rel=1e-9)


MEAM = [
    (["Cu"], "Cu.meam", {}, "fcc", 3.6),
    (["Si", "C"], "SiC.meam", {}, "diamond", 4.36),
    (["Al", "Mg"], None, {}, "fcc", 4.3),
    (
        ["Al", "Si", "Mg", "Cu", "Fe"],
        "AlSiMgCuFe.meam",
        {name: f"{name}S" for name in ("Al", "Si", "Mg", "Cu", "Fe")},
        "fcc",
        4.0,
    ),
]


@pytest.mark.parametrize(("species", "file", "entries", "lattice", "a"), MEAM)
def test_meam(
    species: list[str],
    file: str | None,
    entries: dict[str, str],
    lattice: str,
    a: float,
    tmp_path: Path,
) -> None:
    told = {"entries": entries} | ({"parameters": str(P / file)} if file else {})
    if file is None:
        told["library"] = str(P / "library.meam")
        if "Al" not in (P / "library.meam").read_text():
            pytest.fail("the library has no Al")
        told["entries"] = {"Al": "AlS", "Mg": "MgS"}
        entries = told["entries"]
    potential = model("meam", species, options=told)
    theirs = " ".join(entries.get(name, name) for name in species)
    end = f"{P / file} {theirs}" if file else f"NULL {theirs}"
    lines = ["pair_style meam", f"pair_coeff * * {P / 'library.meam'} {theirs} {end}"]
    found = same(potential, potential.defaults, lines, a, lattice, tmp_path)
    # the types in another order are the same crystal
    turned = Model(potential.form, species[::-1])
    atoms = crystal(species, lattice, a)
    atoms.arrays["kind"] = len(species) + 1 - atoms.arrays["kind"]
    again = rendered_energy(atoms, turned, turned.render(turned.defaults), tmp_path)[0]
    assert again == pytest.approx(found, rel=1e-12)


REAXFF = [
    ("ffield.reax.cho", ["C", "H", "O"]),
    ("ffield.reax.AuO", ["Au", "O"]),
    ("ffield.reax.lg", ["C", "N"]),
    ("ffield.reax.rdx", ["N", "O"]),
    ("ffield.reax.Fe_O_C_H", ["Fe", "O", "H"]),
]


@pytest.mark.parametrize(("file", "species"), REAXFF)
def test_reaxff(file: str, species: list[str], tmp_path: Path) -> None:
    potential = model("reaxff", species, options={"source": str(P / file)})
    style = potential.form.pair_style
    lines = [
        f"pair_style {style}",
        f"pair_coeff * * {P / file} {' '.join(species)}",
        "fix charges all qeq/reaxff 1 0.0 10.0 1.0e-8 reaxff",
    ]
    same(potential, potential.defaults, lines, 4.2, "fcc", tmp_path)
    assert potential.read(P / file) == potential.defaults


def test_numbers_of_reaxff_have_names() -> None:
    potential = model("reaxff", ["C", "H", "O"])
    values = potential.defaults
    assert values["general_boc1"] == 50.0
    assert values["atom_C_ro_s"] == 1.3825
    assert values["bond_C_C_De_s"] == 156.5953
    assert values["torsion_C_C_C_C_V2"] == 11.5822
    assert values["torsion_X_C_H_X_V2"] == 0.0
    assert values["hbond_O_H_O_r"] == 1.9682
    assert potential.render(values).cutoff == 10.0
    assert all(p.lower < p.default < p.upper for p in potential.parameters)
    # of elements that are not there nothing is to be fitted
    assert not any("O" in name.split("_") for name in model("reaxff", ["C", "H"]).names)
    with pytest.raises(InvalidArgument, match="not Au"):
        model("reaxff", ["Au"])


BISPECTRUM = [
    ("snap", ["Ta"], "Ta06A.snapcoeff", "Ta06A.snapparam", "bcc", 3.32),
    ("snap", ["In", "P"], "InP_JCPA2020.snapcoeff", "InP_JCPA2020.snapparam", "diamond", 5.8),
    ("snap", ["Be", "W"], "WBe_Wood_PRB2019.snapcoeff", "WBe_Wood_PRB2019.snapparam", "bcc", 3.2),
    (
        "snap",
        ["Li"],
        "Li_Zuo_JPCA2020.quadratic.snapcoeff",
        "Li_Zuo_JPCA2020.quadratic.snapparam",
        "bcc",
        3.4,
    ),
    ("mliap/linear", ["Ta"], "Ta06A.mliap.model", "Ta06A.mliap.descriptor", "bcc", 3.32),
    (
        "mliap/linear",
        ["Be", "W"],
        "WBe_Wood_PRB2019.mliap.model",
        "WBe_Wood_PRB2019.mliap.descriptor",
        "bcc",
        3.2,
    ),
    ("mliap/nn", ["Ta"], "Ta06A.nn.mliap.model", "Ta06A.mliap.descriptor", "bcc", 3.32),
]


@pytest.mark.parametrize(("name", "species", "first", "second", "lattice", "a"), BISPECTRUM)
def test_bispectrum(
    name: str,
    species: list[str],
    first: str,
    second: str,
    lattice: str,
    a: float,
    tmp_path: Path,
) -> None:
    potential = model(
        name, species, options={"coefficients": str(P / first), "descriptor": str(P / second)}
    )
    lines = ["pair_style snap", f"pair_coeff * * {P / first} {P / second} {' '.join(species)}"]
    if name != "snap":
        style = name.partition("/")[2]
        kinds = f"pair_style mliap model {style} {P / first} descriptor sna {P / second}"
        lines = [kinds, f"pair_coeff * * {' '.join(species)}"]
    if first.startswith("WBe"):
        # mliap goes by the order in its files, whatever pair_coeff says; snap goes by names
        wood = P / "WBe_Wood_PRB2019"
        lines = ["pair_style snap", f"pair_coeff * * {wood}.snapcoeff {wood}.snapparam Be W"]
    same(potential, potential.defaults, lines, a, lattice, tmp_path)
    assert potential.read(P / first, P / second) == potential.defaults


def test_the_three_bispectrum_forms_agree(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    beta = {f"beta_{k}": float(x) for k, x in enumerate(0.1 * random.normal(size=31))}
    snap, linear = model("snap", ["Ta"]), model("mliap/linear", ["Ta"])
    network = model("mliap/nn", ["Ta"], options={"layers": [1]})
    weights = {f"weight0_0_{k - 1}": beta[f"beta_{k}"] for k in range(1, 31)}
    weights["bias0_0"] = beta["beta_0"]
    atoms = crystal(["Ta"], "bcc", 3.3)
    found = [
        rendered_energy(atoms, potential, potential.render(potential.complete(values)), tmp_path)
        for potential, values in ((snap, beta), (linear, beta), (network, weights))
    ]
    for e, f in found[1:]:
        assert e == pytest.approx(found[0][0], rel=1e-12)
        np.testing.assert_allclose(f, found[0][1], atol=1e-12)


def test_a_network_is_that_network(tmp_path: Path) -> None:
    """Energies of an isolated atom and of a crystal against the network written out here."""
    potential = model("mliap/nn", ["W", "Be"], options={"layers": [3, 2, 1], "twojmax": 2})
    values = potential.complete({"bias0_1_Be": 0.3, "bias2_0_W": -1.0, "scale0_2_W": 0.1})
    from ase import Atoms

    atoms = Atoms("W2", [[1, 1, 1], [9, 9, 9]], cell=[16, 16, 16], pbc=True)
    atoms.set_array("kind", np.array([1, 2]))
    flat = potential.complete(values)
    found = rendered_energy(atoms, potential, potential.render(flat), tmp_path)[0]
    # alone, every component is zero (bzeroflag 1)
    assert found == pytest.approx(sum(alone(flat, name) for name in ("W", "Be")), rel=1e-12)
    assert potential.render(flat).style_reads_files


def alone(values: dict[str, float], name: str) -> float:
    x = np.array([-values[f"scale0_{k}_{name}"] / values[f"scale1_{k}_{name}"] for k in range(5)])
    for layer, nodes in enumerate((3, 2, 1)):
        weights = [
            [values[f"weight{layer}_{k}_{j}_{name}"] for j in range(len(x))] for k in range(nodes)
        ]
        x = np.array(weights) @ x + [values[f"bias{layer}_{k}_{name}"] for k in range(nodes)]
        x = x if layer == 2 else np.tanh(x)
    return float(x[0])


def test_overlay_of_snap_and_nuclei(tmp_path: Path) -> None:
    told = {"coefficients": str(P / "Ta06A.snapcoeff"), "descriptor": str(P / "Ta06A.snapparam")}
    potential = model(
        "hybrid/overlay",
        ["Ta"],
        options={"parts": {"zbl": "zbl", "snap": "snap"}, "options": {"snap": told}},
    )
    values = potential.complete({"zbl_inner": 4.0, "zbl_outer": 4.8})
    lines = [
        "pair_style hybrid/overlay zbl 4 4.8 snap",
        "pair_coeff 1 1 zbl 73 73",
        f"pair_coeff * * snap {P / 'Ta06A.snapcoeff'} {P / 'Ta06A.snapparam'} Ta",
    ]
    same(potential, values, lines, 3.32, "bcc", tmp_path)
    again = Model.from_record(json.loads(json.dumps(potential.record())))
    assert again.render(values) == potential.render(values)
    assert potential.render(values).cutoff == 4.8


def test_alumina_with_charges_that_vary(tmp_path: Path) -> None:
    potential = model(
        "hybrid/overlay",
        ["Al", "O"],
        options={
            "parts": {"charges": "coul/streitz", "eam": "eam/table"},
            "options": {"eam": {"source": str(P / "AlO.eam.alloy")}},
        },
    )
    lines = [
        "pair_style hybrid/overlay coul/streitz 12.0 wolf 0.3 eam/alloy",
        f"pair_coeff * * coul/streitz {P / 'AlO.streitz'} Al O",
        f"pair_coeff * * eam/alloy {P / 'AlO.eam.alloy'} Al O",
        "fix charges all qeq/slater 1 12.0 1.0e-10 400 coul/streitz",
    ]
    same(potential, potential.defaults, lines, 4.6, "diamond", tmp_path)


def test_an_overlay_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    parts = {"a": form("sw"), "b": form("sw"), "c": form("lj/cut"), "d": form("buck/coul/long")}
    potential = Model(overlay(parts), ["Si", "Ge"])
    values = potential.complete({"b_epsilon_Si_Si_Ge": 1.5, "c_cutoff_Si_Ge": 6.0})
    atoms = crystal(["Si", "Ge"])
    total = rendered_energy(atoms, potential, potential.render(values), tmp_path)[0]
    each = 0.0
    for label, part in parts.items():
        one = Model(part, ["Si", "Ge"])
        own = {name: values[f"{label}_{name}"] for name in one.names}
        each += rendered_energy(atoms, one, one.render(own), tmp_path)[0]
    assert total == pytest.approx(each, rel=1e-10)


def test_what_is_no_overlay() -> None:
    with pytest.raises(InvalidArgument, match="different units"):
        overlay({"a": form("sw"), "b": form("reaxff")})
    with pytest.raises(InvalidArgument, match="parts"):
        overlay({"a": form("sw")})
    with pytest.raises(InvalidArgument, match="no part is called c"):
        model("hybrid/overlay", ["Si"], options={"options": {"c": {}}})


def test_options_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="options of snap: twojmax"):
        model("snap", ["Ta"], options={"twojmax": -1})
    with pytest.raises(InvalidArgument, match="options of mliap/nn: wide"):
        model("mliap/nn", ["Ta"], options={"wide": 3})
    with pytest.raises(InvalidArgument, match="the last must be 1"):
        model("mliap/nn", ["Ta"], options={"layers": [3, 2]})
    with pytest.raises(InvalidArgument, match="sw has none"):
        model("sw", ["Si"], options={"source": "x"})
    with pytest.raises(InvalidArgument, match="name a file"):
        model("eam/table", ["Si"])
    with pytest.raises(InvalidArgument, match="has no Xe"):
        model("meam", ["Xe"])
    for family in families().values():
        assert family.options.model_json_schema()["properties"]


@pytest.mark.parametrize("name", families())
def test_broken_files(name: str, tmp_path: Path) -> None:
    file = tmp_path / "broken"
    told = {
        "eam/table": {"source": str(file)},
        "meam": {"library": str(file)},
        "reaxff": {"source": str(file)},
        "hybrid/overlay": None,
    }.get(name, {"coefficients": str(file), "descriptor": str(file)})
    if told is None:
        return
    for text in ("", "1 2 3\n", "x\n" * 40, "nan\n" * 3000, "1\n" * 200):
        file.write_text(text)
        with pytest.raises((FileFormatError, InvalidArgument), match="broken"):
            model(name, list(forms()[name].elements) or ["Cu"], options=told)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="cannot be read"):
        model(name, ["Cu"], options=told)
