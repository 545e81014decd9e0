"""Data sets: on disk and back without loss, hashes, groups, splits."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.constraints import FixAtoms
from ase.io import read as ase_read
from hypothesis import given, settings
from hypothesis import strategies as st
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.forcefield.structures import (
    Dataset,
    Group,
    Provenance,
    labelled,
    labels,
    species,
)
from mlcore.forcefield.structures.extxyz import frame_text, read_frames
from mlcore.forcefield.structures.labels import take_labels
from mlcore.forcefield.structures.manifest import schema

SCHEMA = Path(__file__).parents[3] / "docs" / "forcefield" / "dataset.schema.json"


def crystal(seed: int, scale: float = 1.0) -> Atoms:
    rng = np.random.default_rng(seed)
    atoms = bulk("SiC", "zincblende", a=4.36 * scale) * (1, 2, 1)
    atoms.rattle(0.1, seed=seed)
    n = len(atoms)
    return labelled(atoms, rng.normal() * 1e3, rng.normal(size=(n, 3)) / 3, rng.normal(size=6) / 7)


@pytest.fixture
def data() -> Dataset:
    bulk_ = Group(
        tuple(crystal(k) for k in range(6)),
        Provenance(
            source="run 7", method="made up", date="2024-05-01", units={"energy": "hartree"}
        ),
    )
    return Dataset({"bulk": bulk_, "strained": [crystal(k, 1.02) for k in range(4)]}, name="SiC")


def bits(atoms: Atoms) -> list[bytes]:
    known = labels(atoms)
    parts = [atoms.positions, np.asarray(atoms.cell), atoms.numbers, known.energy]
    return [np.asarray(p).tobytes() for p in (*parts, known.forces, known.stress)]


def test_folder_and_back_to_the_last_bit(data: Dataset, tmp_path: Path) -> None:
    assert data.save(tmp_path / "set") == []
    back = Dataset.load(tmp_path / "set")
    assert back.group_of == data.group_of
    assert [bits(a) for a in back] == [bits(a) for a in data]
    assert back.hash == data.hash
    assert back.name == "SiC"
    assert back.groups["bulk"].provenance == data.groups["bulk"].provenance
    back.save(tmp_path / "again")
    for file in (tmp_path / "set").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


def test_everything_else_is_kept_or_told(tmp_path: Path) -> None:
    atoms = crystal(0)
    info = {
        "integer": 3,
        "real": 0.1 + 0.2,
        "tiny": 5e-324,
        "text": 'he said "a\\b" = {x}',
        "empty": "",
        "looks like": "never",
        "T": "T",
        "digits": "007",
        "lines": "a\nb\r\n",
        "flag": True,
        "flags": [True, False],
        "one": np.array([1.5]),
        "vector": np.arange(9) / 7,
        "matrix": np.eye(3) / 3,
        "nested": {"a": [1, None, {"b": 2.5}]},
        "none": None,
        "umlaut": "Å é",
        "numbers": [1, 2.5],
        "object": object(),
    }
    atoms.info.update(info)
    atoms.set_array("tags", np.arange(len(atoms)))
    atoms.set_array("momenta", np.random.default_rng(0).normal(size=(len(atoms), 3)))
    atoms.set_array("on", np.arange(len(atoms)) % 2 == 0)
    atoms.set_array("site", np.array([f"s{k}" for k in range(len(atoms))]))
    atoms.set_array("tensor", np.zeros((len(atoms), 3, 3)))
    atoms.set_constraint(FixAtoms([0]))
    lost = Dataset({"a": [atoms]}).save(tmp_path / "set")
    told = {"info looks like", "info object", "array tensor", "constraints"}
    assert {w for w in told if any(w in line for line in lost)} == told
    assert len(lost) == len(told)
    (back,) = Dataset.load(tmp_path / "set")
    kept = [k for k in info if k not in ("object", "looks like")]
    for key in kept:
        expected, found = info[key], back.info[key]
        if isinstance(expected, str | dict) or expected is None:
            assert found == expected, key
        else:
            np.testing.assert_array_equal(np.asarray(found), np.asarray(expected), err_msg=key)
    assert set(back.info) == set(kept)
    for key in ("tags", "momenta", "on", "site"):
        np.testing.assert_array_equal(back.arrays[key], atoms.arrays[key])
    notes = Dataset.load(tmp_path / "set").groups["a"].provenance.notes
    assert tuple(f"group a, {note}" for note in notes) == tuple(lost)


LETTERS = "aT1 ={}[]\"\\',_\n\r\x85é\u2028\ud800"
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.text(LETTERS, max_size=8),
    st.sampled_from(["T", "F", "1e5", "nan", "_JSON 1", "a=b", "[1]"]),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(LETTERS, max_size=2), inner, max_size=3),
    ),
    max_leaves=6,
)


def same(a: object, b: object) -> bool:
    """Whether two values are one; arrays are lists, and in one of reals 1 is 1.0."""
    b = b.tolist() if isinstance(b, np.generic | np.ndarray) else b
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, bool) or isinstance(b, bool) or isinstance(a, str) or a is None:
        return type(a) is type(b) and a == b
    return isinstance(b, int | float) and (a == b or (a != a and b != b))


@settings(derandomize=True, deadline=None, max_examples=80)
@given(value=VALUES, number=st.floats(allow_nan=True))
def test_whatever_info_holds_is_kept_or_told(value: object, number: float) -> None:
    atoms = labelled(Atoms("H", positions=[[0.1, 0.2, 0.3]]), number)
    atoms.info["key"] = value
    text, lost = frame_text(atoms)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.xyz"
        path.write_bytes(text.encode())
        (back,) = read_frames(path)
    assert same(number, take_labels(back)[0].calc.results["energy"])
    if lost:
        assert "key" not in back.info
    else:
        assert same(value, back.info["key"])


def test_files_with_carriage_returns(tmp_path: Path) -> None:
    text, _ = frame_text(crystal(0))
    (tmp_path / "a.xyz").write_bytes(text.replace("\n", "\r\n").encode())
    (back,) = read_frames(tmp_path / "a.xyz")
    assert bits(take_labels(back)[0]) == bits(crystal(0))


def test_ase_reads_the_files(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "set")
    frames = ase_read(tmp_path / "set" / "bulk.extxyz", index=":")
    for theirs, ours in zip(frames, data["bulk"], strict=True):
        assert theirs.get_potential_energy() == labels(ours).energy
        np.testing.assert_array_equal(theirs.get_forces(), labels(ours).forces)
        np.testing.assert_array_equal(theirs.get_stress(), labels(ours).stress)


def test_hash_is_of_the_contents_alone(data: Dataset) -> None:
    turned = Dataset(dict(reversed(list(data.groups.items()))), name="other")
    assert turned.hash == data.hash
    moved = data.structures
    atoms = moved[0].copy()
    atoms.positions[0, 0] = np.nextafter(atoms.positions[0, 0], 9)
    known = labels(moved[0])
    changed = labelled(atoms, known.energy, known.forces, known.stress)
    other = Dataset({"bulk": [changed, *moved[1:6]], "strained": moved[6:]})
    assert other.hash != data.hash
    assert data.renamed({"bulk": "b"}).hash != data.hash


def test_a_changed_file_is_refused(data: Dataset, tmp_path: Path) -> None:
    data.save(tmp_path / "set")
    file = tmp_path / "set" / "bulk.extxyz"
    file.write_text(file.read_text().replace("energy=", "energy=1", 1))
    with pytest.raises(FileFormatError, match=r"bulk\.extxyz: the file was changed"):
        Dataset.load(tmp_path / "set")
    file.unlink()
    with pytest.raises(FileFormatError, match=r"bulk\.extxyz: No such file"):
        Dataset.load(tmp_path / "set")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "schema_version 2 is newer"),
        (lambda m: m.update(hash="0" * 64), "hash is not that of the groups"),
        (lambda m: m["groups"][0].update(file="../evil.extxyz"), r"groups\.0\.file"),
        (lambda m: m["groups"][0].update(file="/etc/passwd"), r"groups\.0\.file"),
        (lambda m: m["groups"][1].update(file="bulk.extxyz"), "occurs twice"),
        (lambda m: m.update(units={"energy": "Ry"}), "in Angstrom, eV"),
        (lambda m: m.update(strange=1), "strange: no such field"),
        (lambda m: m["groups"][0].pop("sha256"), r"groups\.0\.sha256"),
        (lambda m: m["groups"][0].update(structures=5), "6 structures of 24 atoms"),
    ],
)
def test_a_wrong_manifest_is_refused(data, tmp_path, change, message) -> None:  # type: ignore[no-untyped-def]
    data.save(tmp_path / "set")
    path = tmp_path / "set" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with pytest.raises(FileFormatError, match=message):
        Dataset.load(tmp_path / "set")


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="manifest"):
        Dataset.load(tmp_path)


def test_the_published_schema_is_that_of_the_code() -> None:
    assert json.loads(SCHEMA.read_text()) == schema()


def test_save_is_whole_or_not_at_all(data, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    data.save(tmp_path / "set")
    before = {f.name: f.read_bytes() for f in (tmp_path / "set").iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(Error, match="No space left"):
            data.only("bulk").save(tmp_path / "set")
    assert {f.name: f.read_bytes() for f in (tmp_path / "set").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_save_leaves_other_folders_alone(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InvalidArgument, match="holds files, but no data set"):
        data.save(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    with pytest.raises(InvalidArgument, match="without structures"):
        Dataset().save(tmp_path / "none")


def test_labels_are_found_under_other_names() -> None:
    atoms = crystal(1)
    known = labels(atoms)
    bare = atoms.copy()
    bare.info["REF_energy"] = known.energy
    bare.arrays["REF_forces"] = known.forces
    volume = atoms.get_volume()
    xx, yy, zz, yz, xz, xy = -volume * known.stress
    bare.info["REF_virial"] = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    (found,) = Dataset({"a": [bare]})
    assert labels(found).energy == known.energy
    np.testing.assert_array_equal(labels(found).forces, known.forces)
    np.testing.assert_allclose(labels(found).stress, known.stress, rtol=1e-14)
    assert not {"REF_energy", "REF_virial"} & set(found.info)
    bare.info["energy"] = 1.0
    with pytest.raises(InvalidArgument, match="structure 0: energy: 'REF_energy' holds other"):
        Dataset({"a": [bare]})
    chosen, notes = take_labels(bare, {"energy": "REF_energy"})
    assert labels(chosen).energy == known.energy
    assert notes == ["energy from REF_energy"]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("forces", np.zeros((3, 3)), "forces must be"),
        ("stress", np.zeros(5), "stress must be 6 or 9"),
        ("stress", np.arange(9.0), "symmetric"),
        ("energy", "low", "energy must be one number"),
        ("virial", np.zeros(9), None),
    ],
)
def test_wrong_labels(place: str, value: object, message: str | None) -> None:
    atoms = Atoms("H4", positions=np.arange(12).reshape(4, 3))
    if place == "forces":
        atoms.arrays["forces"] = value
    else:
        atoms.info[place] = value
    with pytest.raises(InvalidArgument, match=message or "needs a cell"):
        Dataset({"a": [atoms]})


def test_a_structure_changed_after_labelling_is_refused() -> None:
    atoms = crystal(0)
    atoms.positions[0] += 0.1
    with pytest.raises(InvalidArgument, match="positions changed since"):
        labels(atoms)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 101, 3, "ümlaut"])
def test_wrong_names(name: object) -> None:
    with pytest.raises(InvalidArgument, match="name"):
        Dataset({name: [crystal(0)]})  # type: ignore[dict-item]


def test_wrong_groups() -> None:
    with pytest.raises(InvalidArgument, match="twice"):
        Dataset({"a": [crystal(0)], "A": [crystal(1)]})
    for wrong in ([], [1], crystal(0), 5, [Atoms()]):
        with pytest.raises(InvalidArgument, match="group 'a'"):
            Dataset({"a": wrong})  # type: ignore[dict-item]


def test_names_that_become_one_file_are_kept_apart(tmp_path: Path) -> None:
    data = Dataset({"a b": [crystal(0)], "a_b": [crystal(1)]})
    data.save(tmp_path / "set")
    back = Dataset.load(tmp_path / "set")
    assert [bits(a) for a in back] == [bits(a) for a in data]


def test_split(data: Dataset) -> None:
    train, test = data.split(0.25, seed=3)
    assert (len(train), len(test)) == (7, 3)
    assert set(test.groups) == {"bulk", "strained"}
    together = sorted(bits(a)[0] for a in [*train, *test])
    assert together == sorted(bits(a)[0] for a in data)
    again = Dataset(dict(reversed(list(data.groups.items())))).split(0.25, seed=3)[1]
    assert again.hash == test.hash
    assert data.split(0.25, seed=4)[1].hash != test.hash
    train, test = data.split(0.5, by="group", seed=1)
    assert len(train.groups) == len(test.groups) == 1
    for wrong in ({"fraction": 0.0}, {"fraction": 1.0}, {"by": "luck"}):
        with pytest.raises(InvalidArgument):
            data.split(**wrong)


def test_folds(data: Dataset) -> None:
    folds = data.folds(3, seed=1)
    held = sorted(bits(a)[0] for _, test in folds for a in test)
    assert held == sorted(bits(a)[0] for a in data)
    assert all(len(train) + len(test) == len(data) for train, test in folds)
    with pytest.raises(InvalidArgument, match="k must"):
        data.folds(11)


def test_filter_merge_only(data: Dataset) -> None:
    small = data.filter(lambda a: labels(a).energy < 0)
    assert len(small) == sum(labels(a).energy < 0 for a in data)
    parts = data.only("bulk").merge(data.only("strained"))
    assert parts.hash == data.hash
    with pytest.raises(InvalidArgument, match="another provenance"):
        data.merge(Dataset({"bulk": [crystal(9)]}))
    with pytest.raises(InvalidArgument, match="no 'gas'"):
        data.only("gas")
    assert data.filter(lambda a: False).groups == {}


def test_what_is_printed(data: Dataset) -> None:
    assert repr(data) == "Dataset(10 structures in 2 groups, 40 atoms of C Si)"
    lines = data.table().splitlines()
    assert lines[1].split() == ["bulk", "6", "24", "6", "6", "6", "run", "7"]


def test_beads_are_species() -> None:
    atoms = Atoms("X2", positions=[[0, 0, 0], [0, 0, 3]])
    atoms.set_array("species", np.array(["W", "Na"]))
    assert species(atoms) == ["W", "Na"]
    assert Dataset({"a": [atoms]}).species == ("Na", "W")


def test_clusters_slabs_and_skew_cells_survive(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    cluster = Atoms("H2O", positions=rng.normal(size=(3, 3)))
    slab = Atoms("Cu", positions=[[0, 0, 1.0]], cell=rng.normal(size=(3, 3)), pbc=(1, 1, 0))
    wire = Atoms("C", cell=[[0, 0, 0], [0, 0, 0], [0, 0.1, 2.2]], pbc=(0, 0, 1))
    data = Dataset({"a": [cluster, slab, wire]})
    data.save(tmp_path / "set")
    back = Dataset.load(tmp_path / "set")
    for one, other in zip(back, data, strict=True):
        assert one.cell.array.tobytes() == other.cell.array.tobytes()
        assert (one.pbc == other.pbc).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('1\nLattice="1 0 0"\nH 0 0 0\n', "line 2: the comment.*Lattice"),
        ("1\n\nH 0 0\n", "line 3: 3 columns, but 4"),
        ("2\n\nH 0 0 0\nH 0 0 zero\n", "line 4: pos should hold numbers, found '0 0 zero'"),
        ("1\n\nQq 0 0 0\n", "species Qq is no chemical symbol"),
        ("1\n\nH 0 0 nan\n", "position is not finite"),
        ("2\n\nH 0 0 0\n", "row 2 of 2"),
        ("x\n\n", "line 1: number of atoms"),
        ("99999999999\n\n", "at most 10000000"),
        ("1\nProperties=species:S:1:pos:R\nH 0 0 0\n", "triples"),
        ("1\nProperties=species:S:1:pos:R:3:pos:R:3\nH 0 0 0 0 0 0\n", "pos twice"),
        ('1\npbc="T T T"\nH 0 0 0\n', "span no volume"),
        ('1\nd="_JSON {"\nH 0 0 0\n', "comment line cannot be parsed"),
    ],
)
def test_damaged_extxyz(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.xyz"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message):
        list(read_frames(path))


def test_frame_text_refuses_names_of_the_format() -> None:
    atoms = Atoms("H")
    atoms.info["Lattice"] = "x"
    with pytest.raises(InvalidArgument, match="'Lattice'"):
        frame_text(atoms)
