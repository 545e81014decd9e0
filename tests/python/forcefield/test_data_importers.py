"""Files of other programs: what is read, converted, recorded and refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.structures import Dataset, Group, Provenance, labelled, labels
from mlcore.forcefield.structures.ase_db import read_ase_db, write_ase_db
from mlcore.forcefield.structures.importers import (
    FORMATS,
    format_of,
    read_group,
    write_structures,
)
from mlcore.forcefield.structures.lammps_files import read_log
from mlcore.forcefield.structures.units import UNITS, factor
from mlcore.lammps.run import command, environment_variables
from mlcore.neighbors import neighbor_list

RECORDED = Path(__file__).parent / "recorded"
KBAR = 0.1 * units.GPa


def sic(seed: int = 0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("SiC", "zincblende", a=4.36) * (1, 2, 1)
    atoms.rattle(0.1, seed=seed)
    return labelled(atoms, rng.normal(), rng.normal(size=(4, 3)), rng.normal(size=6))


# ------------------------------------------------------------------------------------- extxyz, units
def test_every_unit_is_that_of_ase() -> None:
    assert factor("energy", "hartree") == pytest.approx(27.211386, rel=1e-7)
    assert factor("energy", "kcal/mol") == pytest.approx(1 / 23.060548, rel=1e-7)
    assert factor("forces", "hartree/bohr") == pytest.approx(51.422067, rel=1e-7)
    assert factor("forces", "kJ/mol/nm") == pytest.approx(1 / 964.85332, rel=1e-7)
    assert factor("stress", "GPa") == pytest.approx(1 / 160.21766, rel=1e-7)
    assert factor("stress", "-bar") == pytest.approx(-1 / 1602176.6, rel=1e-7)
    for quantity, unit in (
        ("energy", "kcal/mol"),
        ("forces", "kcal/mol/Angstrom"),
        ("stress", "bar"),
        ("stress", "atm"),
    ):
        known = factor(quantity, unit)
        assert factor(quantity, f"lammps {unit}") == pytest.approx(known, rel=2e-7)
    assert factor("stress", "atm") == pytest.approx(1.01325 * factor("stress", "bar"), rel=1e-9)
    for quantity, names in UNITS.items():
        assert all(factor(quantity, name) > 0 for name in names)


def test_key_map_and_units_are_applied_and_recorded(tmp_path: Path) -> None:
    atoms = sic()
    known = labels(atoms)
    theirs = atoms.copy()
    theirs.set_cell(atoms.cell / units.Bohr)
    theirs.positions = atoms.positions / units.Bohr
    theirs.info["E_dft"] = known.energy / units.Hartree
    theirs.info["energy_mace"] = 1.0
    theirs.arrays["F_dft"] = known.forces / (units.Hartree / units.Bohr)
    theirs.info["P"] = -known.stress / units.GPa
    write_structures(tmp_path / "a.xyz", [theirs])
    group = read_group(
        tmp_path / "a.xyz",
        key_map={"energy": "E_dft", "forces": "F_dft", "stress": "P"},
        units={
            "length": "bohr",
            "energy": "hartree",
            "forces": "hartree/bohr",
            "stress": "-GPa",
        },
        provenance=Provenance(method="PBE"),
    )
    (found,) = group.structures
    got = labels(found)
    np.testing.assert_allclose(found.positions, atoms.positions, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(found.cell), np.asarray(atoms.cell), rtol=1e-14)
    assert got.energy == pytest.approx(known.energy, rel=1e-14)
    np.testing.assert_allclose(got.forces, known.forces, rtol=1e-13)
    np.testing.assert_allclose(got.stress, known.stress, rtol=1e-13)
    record = group.provenance
    assert record.source == "a.xyz"
    assert record.method == "PBE"
    assert record.key_map["energy"] == "E_dft"
    assert record.units["stress"] == "-GPa"
    assert len(record.sha256["a.xyz"]) == 64
    Dataset({"dft": group}).save(tmp_path / "set")
    assert Dataset.load(tmp_path / "set").groups["dft"].provenance == record


def test_extxyz_file_and_back_to_the_last_bit(tmp_path: Path) -> None:
    structures = [sic(k) for k in range(3)]
    assert write_structures(tmp_path / "a.extxyz", structures) == []
    back = read_group(tmp_path / "a.extxyz").structures
    for one, other in zip(back, structures, strict=True):
        assert one.positions.tobytes() == other.positions.tobytes()
        assert labels(one).energy == labels(other).energy
        assert labels(one).forces.tobytes() == labels(other).forces.tobytes()
        assert labels(one).stress.tobytes() == labels(other).stress.tobytes()
    assert len(read_group(tmp_path / "a.extxyz", every=2).structures) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "furlongs"}, "units must be"),
        ({"units": {"energy": "furlong"}}, "'furlong' of energy"),
        ({"units": {"mass": "g"}}, "'mass' is none of"),
        ({"key_map": {"energy": "no"}}, "no 'no' in the structure"),
        ({"key_map": {"enrgy": "energy"}}, "enrgy is none of"),
        ({"format": "gulp"}, "format must be one of"),
        ({"every": 0}, "every"),
        ({"unconverged": "maybe"}, "unconverged"),
        ({"elements": ["Si"]}, "means nothing for extended XYZ"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict, message: str) -> None:
    write_structures(tmp_path / "a.xyz", [sic()])
    with pytest.raises(InvalidArgument, match=message):
        read_group(tmp_path / "a.xyz", **options)


def test_formats_are_told_by_names() -> None:
    names = {
        "a.xyz": "extxyz",
        "a.extxyz.gz": "extxyz",
        "vasprun.xml": "vasprun",
        "vasprun-3.xml": "vasprun",
        "OUTCAR": "outcar",
        "POSCAR_relaxed": "poscar",
        "CONTCAR": "poscar",
        "si.vasp": "poscar",
        "water.data": "lammps-data",
        "run.lammpstrj": "lammps-dump",
        "NaCl.CIF": "cif",
        "md.traj": "traj",
    }
    assert {name: format_of(name) for name in names} == names
    assert set(names.values()) == set(FORMATS)
    with pytest.raises(InvalidArgument, match="cannot be told"):
        format_of("notes.txt")


# ------------------------------------------------------------------------------------- VASP
@pytest.mark.parametrize("name", ["vasprun.xml", "OUTCAR"])
def test_vasp_outputs(name: str) -> None:
    group = read_group(RECORDED / name)
    assert len(group.structures) == 2
    assert group.provenance.notes[0] == "1 of 3 steps left out: electrons did not converge"
    first, last = group.structures
    assert first.get_chemical_formula() == "CSi"
    assert first.cell[0, 1] == 2.715
    assert labels(first).energy == pytest.approx(-10.84512302, abs=1e-8)
    assert labels(last).energy == pytest.approx(-10.84401988, abs=1e-8)
    np.testing.assert_allclose(labels(last).forces[0], [0.22, -0.04, 0.06], atol=1e-8)
    expected = -KBAR * np.array([12.5, 11.5, 10.5, 0.75, 0.25, 0.5])
    np.testing.assert_allclose(labels(first).stress, expected, atol=1e-9)
    assert first.info["free_energy"] == pytest.approx(-10.84533302, abs=1e-8)
    free = read_group(RECORDED / name, force_consistent=True)
    assert labels(free.structures[0]).energy == pytest.approx(-10.84533302, abs=1e-8)
    assert len(read_group(RECORDED / name, unconverged="keep").structures) == 3
    with pytest.raises(FileFormatError, match="did not converge in step 1"):
        read_group(RECORDED / name, unconverged="error")


def test_vasp_structure(tmp_path: Path) -> None:
    (atoms,) = read_group(RECORDED / "POSCAR").structures
    assert str(atoms.symbols) == "SiC"
    np.testing.assert_allclose(atoms.positions[1], [1.09, 1.09, 1.09])
    lost = write_structures(tmp_path / "POSCAR", [sic()])
    assert lost == ["energy left behind", "forces left behind", "stress left behind"]
    (back,) = read_group(tmp_path / "POSCAR").structures
    np.testing.assert_allclose(
        sorted(back.positions[:, 0]), sorted(sic().positions[:, 0]), atol=1e-12
    )


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY l "&lol;&lol;&lol;">]>',
        '<!DOCTYPE x SYSTEM "file:///etc/passwd">',
    ],
)
def test_entities_in_xml_are_refused(tmp_path: Path, head: str) -> None:
    text = (RECORDED / "vasprun.xml").read_text()
    first, rest = text.split("\n", 1)
    (tmp_path / "vasprun.xml").write_text(f"{first}\n{head}\n{rest}")
    with pytest.raises(FileFormatError, match="DOCTYPE"):
        read_group(tmp_path / "vasprun.xml")
    (tmp_path / "vasprun.xml").write_bytes(f"{head}\n{rest}".encode("utf-16"))
    with pytest.raises(FileFormatError, match="DOCTYPE"):
        read_group(tmp_path / "vasprun.xml")


def test_atoms_that_are_announced_only(tmp_path: Path) -> None:
    """They would fill the memory before anything else is read."""
    for name, old, new in (
        ("POSCAR", "     1     1\n", "     1     9999999999\n"),
        ("OUTCAR", "              1    1\n", "   1 9999999999\n"),
    ):
        text = (RECORDED / name).read_text()
        assert old in text
        (tmp_path / name).write_text(text.replace(old, new, 1))
        with pytest.raises(FileFormatError, match="announces 10000000000 atoms"):
            read_group(tmp_path / name)


def test_an_encoding_that_is_none(tmp_path: Path) -> None:
    text = (RECORDED / "vasprun.xml").read_text().replace("ISO-8859-1", "ISO-0")
    (tmp_path / "vasprun.xml").write_text(text)
    with pytest.raises(FileFormatError, match="not XML"):
        read_group(tmp_path / "vasprun.xml")


def test_damaged_vasp_files(tmp_path: Path) -> None:
    path = tmp_path / "vasprun.xml"
    for text, message in (
        ("", "is empty"),
        ("hello", "not XML"),
        ("<a><b></a>", "cannot be read as vasp-xml"),
        ("<?xml version='1.0'?><!-- -->", "not XML"),
    ):
        path.write_text(text)
        with pytest.raises(FileFormatError, match=message):
            read_group(path)
    (tmp_path / "OUTCAR").write_text("nothing\n")
    with pytest.raises(FileFormatError, match="cannot be read as vasp-out"):
        read_group(tmp_path / "OUTCAR")
    with pytest.raises(FileFormatError, match="No such file"):
        read_group(tmp_path / "POSCAR")
    (tmp_path / "POSCAR").mkdir()
    with pytest.raises(FileFormatError, match="is not a file"):
        read_group(tmp_path / "POSCAR")


# ------------------------------------------------------------------------------------- LAMMPS
def test_lammps_data_and_back(tmp_path: Path) -> None:
    atoms = sic(3)
    write_structures(tmp_path / "a.data", [atoms])
    (back,) = read_group(tmp_path / "a.data").structures
    assert str(back.symbols) == str(atoms.symbols)
    distances = atoms.get_all_distances(mic=True)
    np.testing.assert_allclose(back.get_all_distances(mic=True), distances, atol=1e-12)
    (other,) = read_group(tmp_path / "a.data", elements=["Ge", "C"]).structures
    assert set(other.symbols) == {"Ge", "C"}
    with pytest.raises(FileFormatError, match="type 2, but 1 elements"):
        read_group(tmp_path / "a.data", elements=["Si"])
    text = (tmp_path / "a.data").read_text()
    (tmp_path / "b.data").write_text(text.replace("28.085", "555.5"))
    with pytest.raises(FileFormatError, match=r"no element weighs 555\.5"):
        read_group(tmp_path / "b.data")
    (tmp_path / "c.data").write_text(text.replace("Masses", "#"))
    with pytest.raises(FileFormatError, match="elements must be given"):
        read_group(tmp_path / "c.data")
    with pytest.raises(InvalidArgument, match="C is not in Si"):
        from mlcore.forcefield.structures.lammps_files import write_data

        write_data(tmp_path / "d.data", atoms, ["Si"])


def lammps_run(folder: Path, style: str) -> None:
    """Argon as LAMMPS runs it: dump and log."""
    write_structures(folder / "ar.data", [bulk("Ar", "fcc", a=5.26, cubic=True) * (3, 3, 3)])
    epsilon = 0.0104 if style == "metal" else 0.0104 / (units.kcal / units.mol)
    script = f"""
units {style}
boundary p p p
read_data ar.data
pair_style lj/cut 7.0
pair_coeff 1 1 {epsilon!r} 3.4
displace_atoms all random 0.1 0.1 0.1 7
dump 1 all custom 1 run.dump id type x y z fx fy fz
dump_modify 1 format float %20.15g
thermo 1
thermo_style custom step pe pxx pyy pzz pyz pxz pxy
thermo_modify format float %.15g
fix 1 all nve
timestep {0.001 if style == "metal" else 1.0}
run 2
"""
    (folder / "in.lmp").write_text(script)
    words = [*command(), "-in", "in.lmp", "-log", "log.lammps", "-screen", "none"]
    subprocess.run(words, cwd=folder, env=environment_variables(plugin=False), check=True)


@pytest.mark.parametrize("style", ["metal", "real"])
def test_lammps_dump_and_log(tmp_path: Path, style: str) -> None:
    from ase.calculators.lj import LennardJones

    lammps_run(tmp_path, style)
    options = {"elements": ["Ar"], "log": tmp_path / "log.lammps", "units": style}
    group = read_group(tmp_path / "run.dump", **options)
    assert [a.info["step"] for a in group.structures] == [0, 1, 2]
    assert group.provenance.units["stress"] == f"-lammps {'bar' if style == 'metal' else 'atm'}"
    for atoms in group.structures:
        check = atoms.copy()
        check.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0)
        known = labels(atoms)
        np.testing.assert_allclose(known.forces, check.get_forces(), rtol=1e-5, atol=1e-8)
        kinetic = check.calc.results["stress"]  # what LAMMPS adds for moving atoms is small here
        np.testing.assert_allclose(known.stress, kinetic, rtol=1e-4, atol=1e-6)
        # ASE shifts the energy to zero at the cutoff, LAMMPS does not
        ratio = (3.4 / neighbor_list("d", atoms, 7.0, half=True)) ** 6
        pairs = float(np.sum(4 * 0.0104 * (ratio**2 - ratio)))
        assert known.energy == pytest.approx(pairs, rel=1e-6)
    with pytest.raises(FileFormatError, match="elements of its types must be given"):
        read_group(tmp_path / "run.dump")
    log = tmp_path / "other.log"
    text = (tmp_path / "log.lammps").read_text()
    log.write_text(text.replace("\n         2 ", "\n         9 "))
    with pytest.raises(FileFormatError, match="no step 2"):
        read_group(tmp_path / "run.dump", elements=["Ar"], log=log)
    assert [len(run["Step"]) for run in read_log(tmp_path / "log.lammps")] == [3]


def test_logs_without_thermo_output(tmp_path: Path) -> None:
    log = tmp_path / "log.lammps"
    log.write_text("LAMMPS (22 Jul 2025)\nERROR: Unknown pair style (src/force.cpp:275)\n")
    with pytest.raises(FileFormatError, match="LAMMPS stopped: ERROR: Unknown pair style"):
        read_log(log)
    log.write_text("LAMMPS (22 Jul 2025)\n")
    with pytest.raises(FileFormatError, match="no thermo output"):
        read_log(log)


# ------------------------------------------------------------------------------------- CIF
def test_cif(tmp_path: Path) -> None:
    (atoms,) = read_group(RECORDED / "NaCl.cif").structures
    assert atoms.get_chemical_formula() == "Cl4Na4"
    assert atoms.info == {"spacegroup": "F m -3 m"}
    for filled in ("0.5", "half"):
        text = (RECORDED / "NaCl.cif").read_text()
        (tmp_path / "half.cif").write_text(text.replace("Na 0 0 0 1.0", f"Na 0 0 0 {filled}"))
        with pytest.raises(FileFormatError, match="a site is filled by"):
            read_group(tmp_path / "half.cif")
    write_structures(tmp_path / "b.cif", [atoms])
    assert len(read_group(tmp_path / "b.cif").structures[0]) == 8


# ------------------------------------------------------------------------------------- ASE
def test_ase_database_and_back_to_the_last_bit(tmp_path: Path) -> None:
    odd = sic(5)
    odd.info.update(name="x", nested={"a": [1, 2.5]}, vector=np.arange(3) / 7, free_energy=-1.5)
    odd.set_array("w", np.random.default_rng(0).normal(size=(4, 2)))
    odd.set_array("site", np.array(list("abcd")))
    gas = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]])
    record = Provenance(source="here", units={"energy": "hartree"}, notes=("a", "b"))
    data = Dataset({"bulk": Group((sic(1), odd), record), "gas": [gas]}, name="n")
    write_ase_db(tmp_path / "a.db", data)
    back = read_ase_db(tmp_path / "a.db")
    assert back.hash == data.hash
    assert back.groups["bulk"].provenance == record
    assert (back.name, list(back.groups)) == ("n", ["bulk", "gas"])
    write_ase_db(tmp_path / "a.db", data.only("gas"))
    assert len(read_ase_db(tmp_path / "a.db")) == 1


def test_database_of_somebody_else(tmp_path: Path) -> None:
    with ase.db.connect(tmp_path / "b.db") as database:
        database.write(sic(0), relaxed=True, data={"dos": [1.0, 2.0]})
        database.write(sic(1), phase="B3")
    data = read_ase_db(tmp_path / "b.db", group="phase")
    assert {name: len(g.structures) for name, g in data.groups.items()} == {"all": 1, "B3": 1}
    (first,) = data["all"]
    assert first.info["relaxed"]
    assert labels(first).energy == labels(sic(0)).energy
    assert data.groups["all"].provenance.source == "b.db"


def test_wrong_databases(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("hello")
    with pytest.raises(FileFormatError, match="not an SQLite file"):
        read_ase_db(tmp_path / "a.db")
    with sqlite3.connect(tmp_path / "c.db") as database:
        database.execute("create table t (x)")
    database.close()
    before = (tmp_path / "c.db").read_bytes()
    with pytest.raises(FileFormatError, match="no table systems"):
        read_ase_db(tmp_path / "c.db")
    assert (tmp_path / "c.db").read_bytes() == before
    with pytest.raises(FileFormatError, match="No such file"):
        read_ase_db(tmp_path / "none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_whole_folder_of_formats_becomes_one_data_set(tmp_path: Path) -> None:
    for name in ("vasprun.xml", "POSCAR", "NaCl.cif"):
        shutil.copy(RECORDED / name, tmp_path)
    groups = {path.stem: read_group(path) for path in sorted(tmp_path.iterdir())}
    Dataset(groups).save(tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert [g["labels"]["energy"] for g in manifest["groups"]] == [0, 0, 2]
