"""VASP by a program that stands in for it: inputs as written, outputs as read, each way to fail."""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path

import fake_vasp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.io import read as ase_read
from mlcore.errors import InvalidArgument
from mlcore.forcefield.codes import CodeFailed, Vasp, label
from mlcore.forcefield.structures import Dataset, labels

HERE = Path(fake_vasp.__file__).parent


@pytest.fixture
def vasp(tmp_path: Path) -> Vasp:
    """The stand-in, and POTCAR files of its own making."""
    program = tmp_path / "vasp_std"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(HERE)!r})\n"
        "from pathlib import Path\nfrom fake_vasp import main\nsys.exit(main(Path.cwd()))\n"
    )
    program.chmod(0o755)
    potcars = {}
    for element in ("Ar", "Ne"):
        path = tmp_path / f"POTCAR.{element}"
        path.write_text(f"  PAW_PBE {element} 01Jan2000\n   VRHFIN ={element}: s2p6\n")
        potcars[element] = str(path)
    return Vasp([str(program)], potcars, {"ENCUT": 400}, timeout=120.0)


def gas() -> Atoms:
    """Argon and neon mixed, in a skew cell."""
    atoms = bulk("Ar", "fcc", a=5.3) * (2, 2, 2)
    atoms.symbols = ["Ar", "Ne", "Ar", "Ar", "Ne", "Ar", "Ne", "Ar"]
    atoms.rattle(0.1, seed=3)
    return atoms


def expected(atoms: Atoms) -> Atoms:
    check = atoms.copy()
    check.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0, ro=5.5, smooth=True)
    check.get_potential_energy()
    return check


def test_a_structure_comes_back_labelled(vasp: Vasp, tmp_path: Path) -> None:
    atoms = gas()
    found = vasp.label(atoms, tmp_path / "run")
    check = expected(atoms)
    known = labels(found)
    assert str(found.symbols) == str(atoms.symbols)
    np.testing.assert_array_equal(found.positions, atoms.positions)
    assert known.energy == pytest.approx(check.get_potential_energy(), abs=1e-7)
    np.testing.assert_allclose(known.forces, check.get_forces(), atol=1e-9)
    np.testing.assert_allclose(known.stress, check.get_stress(), atol=1e-9)
    assert found.info["free_energy"] == pytest.approx(known.energy - 0.001, abs=1e-7)
    free = Vasp(vasp.command, vasp.potcars, vasp.settings, force_consistent=True)
    assert labels(free.label(atoms, tmp_path / "free")).energy == pytest.approx(
        known.energy - 0.001, abs=1e-7
    )


def test_outcar_serves_where_there_is_no_xml(vasp: Vasp, tmp_path: Path) -> None:
    atoms = gas()
    first = vasp.label(atoms, tmp_path / "run")
    (tmp_path / "run" / "vasprun.xml").unlink()
    second = vasp.read(atoms, tmp_path / "run")
    assert labels(second).energy == pytest.approx(labels(first).energy, abs=1e-7)
    np.testing.assert_allclose(labels(second).forces, labels(first).forces, atol=1e-7)


def test_input_files(vasp: Vasp, tmp_path: Path) -> None:
    atoms = gas()
    changed = Vasp(
        vasp.command,
        vasp.potcars,
        {"ENCUT": 400, "LREAL": "Auto", "ISPIN": 2, "MAGMOM": [0.5] * 8, "SIGMA": None},
    )
    changed.write(atoms, tmp_path)
    incar = dict(
        line.split(" = ", 1) for line in (tmp_path / "INCAR").read_text().splitlines() if line
    )
    assert incar["SYSTEM"] == "Ar5Ne3"
    assert incar["ENCUT"] == "400"
    assert incar["EDIFF"] == "1e-06"
    assert incar["LWAVE"] == ".FALSE."
    assert incar["LREAL"] == "Auto"
    assert incar["MAGMOM"] == " ".join(["0.5"] * 8)
    assert "SIGMA" not in incar
    kpoints = (tmp_path / "KPOINTS").read_text().splitlines()
    lengths = 2 * np.pi * np.linalg.norm(np.linalg.inv(atoms.cell).T, axis=1)
    assert kpoints[2:4] == ["Gamma", " ".join(str(int(np.ceil(b / 0.25))) for b in lengths)]
    back = ase_read(tmp_path / "POSCAR", format="vasp")
    assert str(back.symbols) == "Ar5Ne3"
    order = np.argsort(atoms.numbers != 18, kind="stable")
    np.testing.assert_allclose(back.positions, atoms.positions[order], atol=1e-12)
    titles = [line for line in (tmp_path / "POTCAR").read_text().splitlines() if "PAW" in line]
    assert [t.split()[1] for t in titles] == ["Ar", "Ne"]


def test_k_points_along_open_axes(vasp: Vasp, tmp_path: Path) -> None:
    slab = bulk("Ar", "fcc", a=5.3, cubic=True)
    slab.center(vacuum=6, axis=2)
    slab.pbc = (True, True, False)
    vasp.write(slab, tmp_path)
    assert (tmp_path / "KPOINTS").read_text().splitlines()[3] == "5 5 1"
    Vasp(vasp.command, vasp.potcars, kpoints=(3, 3, 2)).write(slab, tmp_path)
    assert (tmp_path / "KPOINTS").read_text().splitlines()[3] == "3 3 2"
    assert labels(vasp.label(slab, tmp_path / "slab")).stress is None


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("crash", r"returned 139.*VERY BAD NEWS.*non-integer element"),
        ("unconverged", r"did not converge in 100 steps.*sigma->0"),
        ("cut", r"1 steps, of which 0 are whole"),
        ("silent", r"neither vasprun\.xml nor OUTCAR.*running"),
    ],
)
def test_failures(
    vasp: Vasp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, message: str
) -> None:
    monkeypatch.setenv("FAKE_VASP", mode)
    with pytest.raises(CodeFailed, match="(?s)" + message) as caught:
        vasp.label(gas(), tmp_path / "run")
    assert caught.value.code == "vasp"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.said) == (str(caught.value), caught.value.said)
    assert not (tmp_path / "run" / "labelled.extxyz").exists()
    monkeypatch.setenv("FAKE_VASP", "")
    assert labels(vasp.label(gas(), tmp_path / "run")).energy is not None


def test_a_hanging_program_is_killed(
    vasp: Vasp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VASP", "hang")
    slow = Vasp(vasp.command, vasp.potcars, timeout=1.0)
    begun = time.monotonic()
    with pytest.raises(CodeFailed, match="still ran after 1 s and was killed"):
        slow.label(gas(), tmp_path / "run")
    assert time.monotonic() - begun < 30  # the program sleeps for 60


def test_an_answer_is_not_computed_twice(vasp: Vasp, tmp_path: Path) -> None:
    atoms = gas()
    first = vasp.label(atoms, tmp_path / "run")
    stamp = (tmp_path / "run" / "vasprun.xml").stat().st_mtime_ns
    again = vasp.label(atoms, tmp_path / "run")
    assert labels(again).forces.tobytes() == labels(first).forces.tobytes()
    assert (tmp_path / "run" / "vasprun.xml").stat().st_mtime_ns == stamp
    finer = Vasp(vasp.command, vasp.potcars, {"ENCUT": 500})
    finer.label(atoms, tmp_path / "run")
    assert (tmp_path / "run" / "vasprun.xml").stat().st_mtime_ns > stamp
    atoms.positions[0] += 0.1
    other = finer.label(atoms, tmp_path / "run")
    assert labels(other).energy != labels(first).energy


def test_many_structures_and_one_that_fails(vasp: Vasp, tmp_path: Path) -> None:
    odd = gas()
    odd.symbols[0] = "Xe"
    found = list(label(vasp, [gas(), odd], tmp_path / "runs"))
    assert [type(f) for f in found] == [Atoms, CodeFailed]
    assert "no POTCAR file of Xe" in str(found[1])
    broken = Vasp([sys.executable, "-c", "raise SystemExit('no licence')"], vasp.potcars)
    found = list(label(broken, [gas()], tmp_path / "broken"))
    assert [type(f) for f in found] == [CodeFailed]
    assert "no licence" in str(found[0])
    (tmp_path / "runs" / "000000" / "vasprun.xml").unlink()  # its answer is kept
    done = list(label(vasp, [gas(), gas()], tmp_path / "runs"))
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["000000", "000001"]
    assert len(Dataset({"new": done})) == 2


def test_program_that_moves_the_atoms(vasp: Vasp, tmp_path: Path) -> None:
    program = tmp_path / "mover"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(HERE)!r})\n"
        "from pathlib import Path\nfrom fake_vasp import main\n"
        "t = Path('POSCAR').read_text().splitlines()\n"
        "t[8] = '0.2 0.0 0.0'\nPath('POSCAR').write_text('\\n'.join(t) + '\\n')\n"
        "sys.exit(main(Path.cwd()))\n"
    )
    program.chmod(0o755)
    moved = Vasp([str(program)], vasp.potcars)
    with pytest.raises(CodeFailed, match="moved the atoms"):
        moved.label(gas(), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"settings": {"encut": 3}}, "'encut' is no name of INCAR"),
        ({"settings": {"ENCUT": "400\nNSW = 9"}}, "cannot stand in INCAR"),
        ({"settings": {"ENCUT": "1; NSW=2"}}, "cannot stand in INCAR"),
        ({"kspacing": 0.0}, "kspacing must be positive"),
        ({"command": "vasp_std > out"}, "command must be a list of words"),
        ({"command": ["no_such_vasp"]}, "no program 'no_such_vasp'"),
        ({"potcars": {}}, "no POTCAR file of Ar"),
    ],
)
def test_wrong_settings(vasp: Vasp, tmp_path: Path, options: dict, message: str) -> None:
    given = {"command": vasp.command, "potcars": vasp.potcars, **options}
    with pytest.raises(InvalidArgument, match=message):
        Vasp(**given).label(gas(), tmp_path / "run")


def test_the_wrong_potcar_is_refused(vasp: Vasp, tmp_path: Path) -> None:
    swapped = {"Ar": vasp.potcars["Ne"], "Ne": vasp.potcars["Ar"]}
    with pytest.raises(InvalidArgument, match=r"POTCAR\.Ne is of Ne, not Ar"):
        Vasp(vasp.command, swapped).write(gas(), tmp_path)
    with pytest.raises(InvalidArgument, match="cell with a volume"):
        vasp.write(Atoms("Ar"), tmp_path)


def test_own_templates(vasp: Vasp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, word in (("mine", "argument"), ("variable", "variable")):
        (tmp_path / folder / "vasp").mkdir(parents=True)
        (tmp_path / folder / "vasp" / "INCAR.j2").write_text(f"SYSTEM = {word} {{{{ title }}}}\n")
    place = tmp_path / "run"
    place.mkdir()
    monkeypatch.setenv("MLCORE_FORCEFIELD_TEMPLATES", str(tmp_path / "variable"))
    vasp.write(gas(), place)
    assert (place / "INCAR").read_text() == "SYSTEM = variable Ar5Ne3\n"
    assert (place / "KPOINTS").read_text().splitlines()[2] == "Gamma"
    mine = Vasp(vasp.command, vasp.potcars, templates=str(tmp_path / "mine"))
    mine.write(gas(), place)
    assert (place / "INCAR").read_text() == "SYSTEM = argument Ar5Ne3\n"
    (tmp_path / "mine" / "vasp" / "INCAR.j2").write_text("{{ tittle }}")
    os.utime(tmp_path / "mine" / "vasp" / "INCAR.j2", (1, 1))
    with pytest.raises(InvalidArgument, match=r"vasp/INCAR\.j2: 'tittle' is undefined"):
        mine.write(gas(), place)
    with pytest.raises(InvalidArgument, match="templates: no folder"):
        Vasp(vasp.command, vasp.potcars, templates="/no/such").write(gas(), place)
