"""LAMMPS as a program, programs described by their files, and templates."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from mlcore import parallel
from mlcore.errors import InvalidArgument
from mlcore.forcefield.codes import CodeFailed, Command, Json, LammpsCommand, Pattern, label
from mlcore.forcefield.codes.process import execute, last_lines
from mlcore.forcefield.codes.templates import names, render
from mlcore.forcefield.evaluate.box import Box
from mlcore.forcefield.forms import model
from mlcore.forcefield.structures import labels
from mlcore.neighbors import neighbor_list

EPSILON = 0.0104
ARGON = LammpsCommand("lj/cut 7.0", (f"pair_coeff 1 1 {EPSILON} 3.4",), ("Ar",), cutoff=7.0)


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.3) * (3, 3, 3)
    atoms.rattle(0.15, seed=1)
    return atoms


def pair_energy(atoms: Atoms) -> float:
    ratio = (3.4 / neighbor_list("d", atoms, 7.0, half=True)) ** 6
    return float(np.sum(4 * EPSILON * (ratio**2 - ratio)))


# ------------------------------------------------------------------------------------- LAMMPS
def test_lammps_agrees_with_ase(tmp_path: Path) -> None:
    """In a cell that LAMMPS must turn: forces and stress come back turned."""
    atoms = argon()
    found = labels(ARGON.label(atoms, tmp_path))
    check = atoms.copy()
    check.calc = LennardJones(sigma=3.4, epsilon=EPSILON, rc=7.0)
    assert found.energy == pytest.approx(pair_energy(atoms), rel=1e-12)
    np.testing.assert_allclose(found.forces, check.get_forces(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.stress, check.get_stress(), rtol=1e-7, atol=1e-12)


def test_other_units(tmp_path: Path) -> None:
    kcal = EPSILON * 23.060549  # LAMMPS' own constant
    real = LammpsCommand(
        "lj/cut 7.0", (f"pair_coeff 1 1 {kcal!r} 3.4",), ("Ar",), units="real", cutoff=7.0
    )
    atoms = argon()
    one, other = (
        labels(ARGON.label(atoms, tmp_path / "a")),
        labels(real.label(atoms, tmp_path / "b")),
    )
    assert other.energy == pytest.approx(one.energy, rel=1e-9)
    np.testing.assert_allclose(other.forces, one.forces, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(other.stress, one.stress, rtol=1e-5, atol=1e-10)


def test_clusters_and_slabs(tmp_path: Path) -> None:
    pair = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 4.0]])
    found = ARGON.label(pair, tmp_path / "pair")
    assert labels(found).energy == pytest.approx(pair_energy(pair), rel=1e-12)
    assert labels(found).stress is None
    np.testing.assert_array_equal(found.positions, pair.positions)
    slab = bulk("Ar", "fcc", a=5.3, cubic=True) * (3, 3, 1)
    slab.pbc = (True, True, False)
    assert labels(ARGON.label(slab, tmp_path / "slab")).energy == pytest.approx(
        pair_energy(slab), rel=1e-12
    )


def test_beads(tmp_path: Path) -> None:
    atoms = argon()
    atoms.numbers[:] = 0
    atoms.set_array("species", np.array(["B"] * 20 + ["A"] * 7))
    both = LammpsCommand(
        "lj/cut 7.0",
        ("pair_coeff * * 0.0 3.4", f"pair_coeff 1 1 {EPSILON} 3.4"),
        ("A", "B"),
        (40.0, 20.0),
        cutoff=7.0,
    )
    found = both.label(atoms, tmp_path)
    alone = atoms[20:]
    assert labels(found).energy == pytest.approx(pair_energy(alone), rel=1e-12)
    assert "1 40.0 # A" in (tmp_path / "structure.data").read_text()
    with pytest.raises(InvalidArgument, match="elements: B is not in A"):
        LammpsCommand("lj/cut 7.0", (), ("A",)).label(atoms, tmp_path)


def test_a_model_of_the_library(tmp_path: Path) -> None:
    tersoff = model("tersoff", ["Si"])
    code = LammpsCommand.of(tersoff, tersoff.defaults)
    found = labels(code.label(bulk("Si", a=5.432, cubic=True), tmp_path))
    assert -4.7 < found.energy / 8 < -4.5
    assert np.abs(found.forces).max() < 1e-8
    assert np.ptp(found.stress[:3]) < 1e-10


@pytest.mark.parametrize(
    ("form", "species"),
    [
        ("sw", ["Si"]),
        ("tersoff", ["Si"]),
        ("lj/cut/coul/long", ["O", "H"]),
        ("eam/zhou", ["Cu"]),
        ("ml-bop", ["bead:W"]),
    ],
)
def test_the_program_and_the_library_agree(tmp_path: Path, form: str, species: list[str]) -> None:
    masses = {"W": 18.0153} if form == "ml-bop" else {}
    known = model(form, species, masses=masses)
    atoms = bulk("NaCl", "rocksalt", a=5.4) * (2, 3, 2)
    atoms.rattle(0.05, seed=1)
    names = [s.name for s in known.species]
    atoms.numbers[:] = 0
    atoms.set_array("species", np.array([names[k % len(names)] for k in range(len(atoms))]))
    told = known.render(known.defaults)
    for name, content in told.files.items():
        (tmp_path / name).write_text(content)
    box = Box(atoms, known, told.atom_style)
    box.use(told, tmp_path)
    energy, forces, stress = box.static()
    box.close()
    found = labels(LammpsCommand.of(known, known.defaults).label(atoms, tmp_path / "run"))
    assert found.energy == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, forces, atol=1e-11 * np.abs(forces).max())
    np.testing.assert_allclose(found.stress, stress, atol=1e-11 * np.abs(stress).max())


def test_what_lammps_says_is_told(tmp_path: Path) -> None:
    wrong = LammpsCommand("no/such/style 7.0", (), ("Ar",))
    with pytest.raises(CodeFailed, match=r"(?s)returned 1.*ERROR: Unrecognized pair style"):
        wrong.label(argon(), tmp_path)


def test_files_of_a_potential_stay_in_the_folder(tmp_path: Path) -> None:
    wrong = LammpsCommand("tersoff", (), ("Si",), files={"../x.tersoff": ""})
    with pytest.raises(InvalidArgument, match="no bare name"):
        wrong.label(bulk("Si"), tmp_path / "run")
    assert not (tmp_path / "x.tersoff").exists()


def test_several_at_once(tmp_path: Path) -> None:
    structures = [argon() for _ in range(3)]
    for k, atoms in enumerate(structures):
        atoms.rattle(0.02, seed=k)
    structures.append(Atoms("Xe", cell=[9, 9, 9], pbc=True))
    with parallel.engine("processes", workers=2) as engine:
        *found, last = label(ARGON, structures, tmp_path, engine)
    assert isinstance(last, CodeFailed)
    assert "Xe is not in Ar" in str(last)
    for atoms, done in zip(structures[:3], found, strict=True):
        assert labels(done).energy == pytest.approx(pair_energy(atoms), rel=1e-12)


# ------------------------------------------------------------------------------------- any program
PROGRAM = """
import json, sys
rows = open("in.txt").read().split()
t = float(rows[rows.index("T") + 1])
print("iteration 1: F = 1.0D+00 eV")
print(f"iteration 2: F = {-1.5e-3 * t:.10E} eV".replace("E", "D"))
json.dump({"results": [{"error": 0.25, "curve": [1, 2, 3]}]}, open("out.json", "w"))
print("finished")
"""


@pytest.fixture
def free_energy(tmp_path: Path) -> Command:
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "templates" / "mine").mkdir(parents=True)
    (tmp_path / "templates" / "mine" / "in.j2").write_text("T {{ temperature | number }}\n")
    return Command(
        [sys.executable, str(tmp_path / "program.py")],
        {"in.txt": "mine/in.j2"},
        {
            "free_energy": Pattern("code.out", regex=r"F = (\S+) eV"),
            "first": Pattern("code.out", regex=r"F = (\S+) eV", take="first"),
            "all": Pattern("code.out", regex=r"iteration (\d): F = (\S+) eV", take="all"),
            "error": Json("out.json", path="results.0.error"),
            "curve": Json("out.json", path="results.0.curve"),
        },
        ok="^finished",
        templates=str(tmp_path / "templates"),
        timeout=20.0,
        name="free energy",
    )


def test_a_program_without_a_structure(free_energy: Command, tmp_path: Path) -> None:
    ok = Command(**{**vars(free_energy), "ok": "finished"})
    found = ok.measure(tmp_path / "run", {"temperature": np.float64(300)})
    assert (tmp_path / "run" / "in.txt").read_text() == "T 300.0\n"
    assert found == {
        "free_energy": pytest.approx(-0.45),
        "first": 1.0,
        "all": [[1.0, 1.0], [2.0, pytest.approx(-0.45)]],
        "error": 0.25,
        "curve": [1.0, 2.0, 3.0],
    }


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"ok": "all is well"}, CodeFailed, r"(?s)the sign of success.*finished"),
        ({"outputs": {"x": Pattern("code.out", regex="G = (.*)")}}, CodeFailed, "nothing fits"),
        ({"outputs": {"x": Pattern("code.out", regex="iter(.*)")}}, CodeFailed, "are no numbers"),
        ({"outputs": {"x": Pattern("code.out", regex="F = .*")}}, InvalidArgument, "no group"),
        ({"outputs": {"x": Pattern("code.out", regex="(")}}, InvalidArgument, "regex"),
        ({"outputs": {"x": Json("out.json", path="a.b")}}, CodeFailed, "has no a.b"),
        ({"outputs": {"x": Json("no.json", path="a")}}, CodeFailed, "cannot be read"),
        ({"outputs": {"x": Json("../out.json", path="a")}}, InvalidArgument, "no bare name"),
        ({"outputs": {"x": Json("out.json", path="results")}}, CodeFailed, "x is no number"),
        ({"inputs": {"../in.txt": "mine/in.j2"}}, InvalidArgument, "no bare name"),
        ({"inputs": {"in.txt": "../program.py"}}, InvalidArgument, "no name of one"),
        ({"inputs": {"in.txt": "mine/out.j2"}}, InvalidArgument, "no mine/out.j2 in"),
        ({"values": {}}, InvalidArgument, "'temperature' is undefined"),
        ({"timeout": 0}, InvalidArgument, "timeout must be positive"),
    ],
)
def test_wrong_programs(
    free_energy: Command, tmp_path: Path, change: dict, kind: type[Exception], message: str
) -> None:
    given = {**vars(free_energy), "ok": "finished", "values": {"temperature": 1}, **change}
    with pytest.raises(kind, match=message):
        Command(**given).measure(tmp_path / "run")


def test_an_old_output_is_not_read_again(free_energy: Command, tmp_path: Path) -> None:
    ok = Command(**{**vars(free_energy), "ok": "", "values": {"temperature": 1}})
    ok.measure(tmp_path / "run")
    idle = Command(
        **{
            **vars(ok),
            "command": [sys.executable, "-c", "pass"],
            "outputs": {"error": Json("out.json", path="results.0.error")},
        }
    )
    with pytest.raises(CodeFailed, match="cannot be read"):
        idle.measure(tmp_path / "run")


def test_a_program_that_labels_structures(tmp_path: Path) -> None:
    """Argon by a program that reads XYZ and speaks hartree."""
    (tmp_path / "lj.py").write_text(
        "import json\nfrom ase import Atoms, units\nfrom ase.calculators.lj import LennardJones\n"
        "told = json.load(open('in.json'))\n"
        "atoms = Atoms(told['symbols'], told['positions'], cell=told['cell'], pbc=told['pbc'])\n"
        "atoms.calc = LennardJones(sigma=told['sigma'], epsilon=0.0104, rc=7.0)\n"
        "f = atoms.get_forces() / (units.Hartree / units.Bohr)\n"
        "json.dump({'e': atoms.get_potential_energy() / units.Hartree, 'f': f.tolist(),\n"
        "           'gap': 14.2}, open('out.json', 'w'))\n"
    )
    (tmp_path / "t" / "lj").mkdir(parents=True)
    (tmp_path / "t" / "lj" / "in.json.j2").write_text(
        '{"symbols": {{ symbols | tojson }}, "positions": {{ positions | tojson }},'
        ' "cell": {{ cell | tojson }}, "pbc": {{ pbc | tojson }}, "sigma": {{ sigma }}}'
    )
    code = Command(
        [sys.executable, str(tmp_path / "lj.py")],
        {"in.json": "lj/in.json.j2"},
        {
            "energy": Json("out.json", unit="hartree", path="e"),
            "forces": Json("out.json", unit="hartree/bohr", path="f"),
            "gap": Json("out.json", path="gap"),
        },
        values={"sigma": 3.4},
        templates=str(tmp_path / "t"),
    )
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    atoms.rattle(0.1, seed=2)
    found = code.label(atoms, tmp_path / "run")
    check = atoms.copy()
    check.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=7.0)
    assert labels(found).energy == pytest.approx(check.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(labels(found).forces, check.get_forces(), rtol=1e-12)
    assert found.info["gap"] == 14.2


# ------------------------------------------------------------------------------------- processes
def test_children_die_with_the_program(tmp_path: Path) -> None:
    child = f"import time; time.sleep(1.6); open({str(tmp_path / 'alive')!r}, 'w')"
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    with pytest.raises(CodeFailed, match="still ran after 1.2 s"):
        execute("x", [sys.executable, "-c", parent], tmp_path, 1.2)
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


def test_no_shell_sees_the_words(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; print(sys.argv[1])", "$(touch owned); `id` > x"]
    execute("x", words, tmp_path, 20.0)
    assert (tmp_path / "code.out").read_text() == "$(touch owned); `id` > x\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["code.err", "code.out"]


def test_signals_and_missing_folders(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import os; os.kill(os.getpid(), 11)"]
    with pytest.raises(CodeFailed, match="ended by signal 11"):
        execute("x", words, tmp_path, 20.0)
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    with pytest.raises(CodeFailed, match="cannot be started"):
        execute("x", [str(text)], tmp_path, 20.0)


def test_last_lines_are_short_and_plain(tmp_path: Path) -> None:
    rows = [f"row {k}" for k in range(50_000)]
    (tmp_path / "a").write_text("\n".join([*rows, "\x1b[31mred\x07", "x" * 9999, ""]))
    said = last_lines(tmp_path, ["a", "b"], count=3).splitlines()
    assert said[:3] == ["--- a", "row 49999", " [31mred"]
    assert len(said[3]) == 300


# ------------------------------------------------------------------------------------- templates
EXAMPLES = {
    "vasp/INCAR.j2": {"title": "a\nb", "settings": {"ENCUT": 1}},
    "vasp/KPOINTS.j2": {"title": "t", "mesh": [1, 2, 3]},
    "vasp/POSCAR.j2": {
        "title": "t",
        "cell": np.eye(3).tolist(),
        "species": [{"symbol": "Si", "count": 1}],
        "scaled": [[0.1 + 0.2, 0, 0]],
    },
    "lammps/in.static.j2": {
        "units": "metal",
        "atom_style": "atomic",
        "boundary": "p p p",
        "data": "d",
        "pair_style": "none",
        "pair_coeff": ["a", "b"],
        "commands": [],
    },
}


@pytest.mark.parametrize("name", names())
def test_every_template_is_rendered(name: str) -> None:
    text = render(name, EXAMPLES[name])
    assert text.endswith("\n")
    assert "{" not in text.replace("$(", "").replace("{%", "%")
    for value in EXAMPLES[name]:
        fewer = {k: v for k, v in EXAMPLES[name].items() if k != value}
        with pytest.raises(InvalidArgument, match=f"'{value}' is undefined"):
            render(name, fewer)


def test_examples_are_of_templates_that_are_there() -> None:
    assert set(EXAMPLES) <= set(names())


def test_what_templates_write() -> None:
    assert render("vasp/INCAR.j2", EXAMPLES["vasp/INCAR.j2"]) == "SYSTEM = a b\nENCUT = 1\n"
    rows = render("vasp/POSCAR.j2", EXAMPLES["vasp/POSCAR.j2"]).splitlines()
    assert rows[-1] == "0.30000000000000004 0 0"
    script = render("lammps/in.static.j2", EXAMPLES["lammps/in.static.j2"])
    assert "pair_style none\na\nb\nneighbor" in script


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ title.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('id') }}",
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{{ settings.update(a=1) }}",
        "{% include '/etc/passwd' %}",
        "{% include '../../secret' %}",
        "{{ title",
        "{{ 1 / 0 }}",
    ],
)
def test_templates_of_strangers(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "t" / "vasp").mkdir(parents=True)
    (tmp_path / "t" / "vasp" / "INCAR.j2").write_text(text)
    with pytest.raises(InvalidArgument, match=r"template"):
        render("vasp/INCAR.j2", {"title": "t", "settings": {}}, tmp_path / "t")


def test_folder_of_the_variable_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLCORE_FORCEFIELD_TEMPLATES", "/no/such/folder")
    with pytest.raises(InvalidArgument, match="MLCORE_FORCEFIELD_TEMPLATES: no folder"):
        render("vasp/INCAR.j2", {})
    assert os.environ["MLCORE_FORCEFIELD_TEMPLATES"]
