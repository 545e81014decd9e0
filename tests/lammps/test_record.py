"""fix mlcore record: frames of a run with what committees and other fixes say of them."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Array, Case
from mlcore.data import read_trajectory
from mlcore.forces.frames import Kinds, read_frames
from mlcore.lammps.run import command, environment_variables
from test_native_force import box, fails, head, lattice, thermo

LJ = f"pair_style lj/cut {bundles.CUTOFF}\npair_coeff * * 1 1\n"
MOVE = "velocity all create 3.0 4711 loop geom\nfix i all nve\n"
COLUMNS = "id type xu yu zu vx vy vz fx fy fz"
DUMP = f"dump d all custom 4 out.dump {COLUMNS}\n" + (
    'dump_modify d sort id format line "%d %d' + " %.17g" * 9 + '"\n'
)


def atoms(case: Case, tilt: tuple[float, ...] = ()) -> None:
    x = lattice(4)
    case.atoms(x, box(4.8), tilt, types=[1 + i % 2 for i in range(len(x))])


def frames(case: Case, name: str = "out.xyz") -> list[Any]:
    return list(ase.io.read(case.folder / name, index=":"))


def columns(frame: Any) -> Array:
    told = [frame.arrays["id"], frame.arrays["type"], frame.positions, frame.arrays["velo"]]
    return np.column_stack([*told, frame.get_forces()])


def show(values: str, every: int) -> str:
    """Thermo output of what fixes made before show."""
    return (
        f"thermo_style custom step {values}\nthermo {every}\n"
        "thermo_modify format float %.17g norm no\n"
    )


def record(words: str, file: str = "out.xyz", group: str = "all") -> str:
    return f"fix r {group} mlcore record {file} {words}\n"


# -- what is in a frame ---------------------------------------------------------------------------
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_frames_are_those_of_a_dump(case: Case, ranks: int) -> None:
    atoms(case, (1.2, -0.6, 0.9))
    script = head("pe", "p p p") + LJ + MOVE + DUMP + "velocity all set 30 0 0 sum yes\n"
    script += record("every 4 energy yes")
    energies = thermo(case.ok(script + "thermo 4\nrun 40\n", ranks))
    found = frames(case)
    assert [f.info["step"] for f in found] == list(range(0, 41, 4))
    np.testing.assert_allclose([f.info["time"] for f in found], 0.002 * np.arange(0, 41, 4))
    for frame, row, line in zip(found, case.dump(), energies, strict=True):
        np.testing.assert_array_equal(columns(frame), row)
        assert frame.get_potential_energy() == pytest.approx(line[1], rel=1e-14)
        np.testing.assert_array_equal(frame.cell, [[4.8, 0, 0], [1.2, 4.8, 0], [-0.6, 0.9, 4.8]])
        assert frame.pbc.all() and frame.info["units"] == "lj"
    crossed = np.abs(np.floor(found[-1].positions / 4.8)).max()
    assert crossed >= 1  # some atom left the box, and its position is continuous
    moved = [b.positions - a.positions for a, b in itertools.pairwise(found)]
    assert np.abs(moved).max() < 0.5


def test_ranks_write_the_same_frames(case: Case) -> None:
    atoms(case)
    told = []
    for ranks in (1, 2, 3):
        name = f"{ranks}.xyz"
        case.ok(head() + LJ + MOVE + record("every 10", name) + "run 20\n", ranks)
        lines = (case.folder / name).read_text().splitlines()
        told.append([line for line in lines if line.startswith(("64", "Prop"))])
        assert told[-1] == told[0]
        for ours, first in zip(frames(case, name), frames(case, "1.xyz"), strict=True):
            np.testing.assert_allclose(columns(ours), columns(first), rtol=0, atol=1e-10)


def test_mlcore_reads_what_it_wrote(case: Case) -> None:
    atoms(case)
    case.ok(head() + LJ + MOVE + DUMP + record("every 4 energy yes") + "run 20\n")
    trajectory = read_trajectory(case.folder / "out.xyz")
    rows = np.array(case.dump())
    assert trajectory.velocities is not None and trajectory.forces is not None
    np.testing.assert_array_equal(trajectory.positions, rows[:, :, 2:5])
    np.testing.assert_array_equal(trajectory.velocities, rows[:, :, 5:8])
    np.testing.assert_array_equal(trajectory.forces, rows[:, :, 8:])
    np.testing.assert_array_equal(trajectory.types, rows[0, :, 1])
    assert trajectory.units == "lj" and len(trajectory) == 6
    learned = read_frames(frames(case), Kinds(2))
    np.testing.assert_array_equal(learned[3].x, rows[3, :, 2:5])
    np.testing.assert_array_equal(learned[3].forces, rows[3, :, 8:])
    np.testing.assert_array_equal(learned[3].types, rows[3, :, 1] - 1)


def test_open_boundaries_group_and_elements(case: Case) -> None:
    x = lattice(3) - 7.0
    case.atoms(x, (-8, -2, -8, -3, -8, -1), types=[1 + i % 2 for i in range(27)])
    words = record("every 1 elements Ar Kr", group="kr")
    case.ok(head(boundary="f p f") + LJ + "group kr type 2\n" + words + "run 0\n", 2)
    (frame,) = frames(case)
    assert set(frame.symbols) == {"Kr"} and frame.pbc.tolist() == [False, True, False]
    np.testing.assert_array_equal(frame.arrays["id"], np.arange(2, 28, 2))
    np.testing.assert_array_equal(frame.positions, x[1::2])
    np.testing.assert_array_equal(frame.info["Origin"], [-8, -8, -8])
    np.testing.assert_array_equal(frame.cell.diagonal(), [6, 5, 7])


# -- what other fixes say -------------------------------------------------------------------------
def committee(case: Case) -> str:
    one, two = (1.0, 0.5, 2.0), (1.2, 0.7, 1.6)
    bundles.pair_table(case.folder / "lj", [one, two])
    return "fix m all mlcore force lj verbose 0\nfix_modify m energy yes virial yes\n"


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_spread_and_energy_of_a_committee(case: Case, ranks: int) -> None:
    atoms(case)
    script = head() + committee(case) + MOVE + show("pe f_m[1] f_m[2] f_m[3] f_m[4]", 5)
    script += "dump s all custom 5 spread.dump id f_m\ndump_modify s sort id format float %.17g\n"
    output = case.ok(script + record("every 5 from m energy yes") + "run 20\n", ranks)
    names = ["m_energy", "m_largest_spread", "m_mean_spread", "m_energy_spread"]
    for frame, line, row in zip(
        frames(case), thermo(output), case.dump("spread.dump"), strict=True
    ):
        np.testing.assert_allclose([frame.info[n] for n in names], line[2:], rtol=1e-14)
        assert frame.get_potential_energy() == pytest.approx(line[1], rel=1e-14)
        np.testing.assert_array_equal(frame.arrays["m_spread"], row[:, 1])
        assert frame.arrays["m_spread"].max() == frame.info["m_largest_spread"] > 0


def test_values_of_qoi_fixes(case: Case) -> None:
    atoms(case)
    bundles.pair_table(case.folder / "a", [(1.0,) * 3], kind="qoi", **QOI, reduce="mean")
    bundles.pair_table(case.folder / "b", [(1.0,) * 3, (2.0,) * 3], kind="qoi", **QOI, reduce="sum")
    bundles.pair_table(case.folder / "c", [(1.0,) * 3], kind="qoi", **QOI, reduce="none")
    fixes = "".join(f"fix {n} all mlcore qoi {n} verbose 0 every 5\n" for n in "abc")
    fixes += "fix mean all ave/time 1 5 5 c_thermo_temp c_thermo_pe\n"
    fixes += "dump s all custom 5 c.dump id f_c\ndump_modify s sort id format float %.17g\n"
    fixes += show("f_a[1] f_b[1] f_b[2] f_mean[1] f_mean[2]", 5)
    script = head() + LJ + MOVE + fixes + record("every 5 from a b c mean")
    output = case.ok(script + "run 20\n", 2)
    for frame, line, row in zip(frames(case), thermo(output), case.dump("c.dump"), strict=True):
        told = [frame.info["a"], frame.info["b"], frame.info["b_spread"]]
        np.testing.assert_allclose([*told, *frame.info["mean_vector"]], line[1:], rtol=1e-14)
        np.testing.assert_array_equal(frame.arrays["c"], row[:, 1])
        assert frame.arrays["c"].mean() == pytest.approx(frame.info["a"], rel=1e-12)


QOI: dict[str, Any] = {"gives": "values", "shape": [1]}


class Drift(torch.nn.Module):
    """One step of free flight, a little wrong."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return 0.002 * self.factor * v, v


def test_spread_of_a_step(case: Case) -> None:
    atoms(case)
    told = {"sees": "atoms", "gives": "step", "inputs": ["v"], "types": 2}
    v = torch.rand(3, 3, dtype=torch.float64)
    scripts = [Drift(0.9), Drift(1.1)]
    bundles.write(case.folder / "step", "dynamics", told, scripts=scripts, examples=(v,))
    script = head() + "velocity all create 3.0 4711\nfix s all mlcore dynamics step\n"
    case.ok(script + record("every 4 from s above 1e-6") + "run 4\n", 2)
    frame = frames(case)[-1]
    expected = 0.1 * 0.002 * np.linalg.norm(frame.arrays["velo"], axis=1)
    np.testing.assert_allclose(frame.arrays["s_spread"], expected, rtol=1e-12)
    told_spread = [frame.info["s_largest_spread"], frame.info["s_mean_spread"]]
    np.testing.assert_allclose(told_spread, [expected.max(), expected.mean()], rtol=1e-12)


def test_an_array_is_read_back(case: Case) -> None:
    atoms(case)
    script = "compute rdf all rdf 4 cutoff 2.0\nfix g all ave/time 5 1 5 c_rdf[*] mode vector\n"
    case.ok(head() + LJ + MOVE + script + record("every 5 from g") + "run 5\nprint $(f_g[2][2])\n")
    assert frames(case)[-1].info["g_array"].shape == (4, 3)


def test_only_what_the_committee_does_not_know(case: Case) -> None:
    atoms(case)
    script = head() + committee(case) + MOVE
    limit = float(np.median(thermo(case.ok(script + show("f_m[2]", 1) + "run 60\n", 2))[:, 1]))
    script += record(f"every 2 from m above {limit!r}") + show("f_m[2] f_r", 1)
    rows = thermo(case.ok(script + "run 60\n", 2))
    wanted = [int(row[0]) for row in rows[::2] if row[1] > limit]
    assert 0 < len(wanted) < 31
    assert [f.info["step"] for f in frames(case)] == wanted
    assert rows[-1, 2] == len(wanted)


# -- files ----------------------------------------------------------------------------------------
def test_two_runs_give_the_frames_of_one(case: Case) -> None:
    atoms(case)
    start = head() + LJ + MOVE
    case.ok(start + record("every 5", "whole.xyz") + "run 40\n", 2)
    case.ok(start + record("every 5", "split.xyz") + "run 20\nrun 5\nrun 15\n", 2)
    case.ok(start + record("every 5", "restart.xyz") + "run 20\nwrite_restart half\n", 2)
    again = head().replace("read_data atoms.data", "read_restart half") + LJ + "fix i all nve\n"
    case.ok(again + record("every 5 append yes", "restart.xyz") + "run 20\n")
    whole = frames(case, "whole.xyz")
    assert len(whole) == 9
    for name in ("split.xyz", "restart.xyz"):
        found = frames(case, name)
        assert [f.info["step"] for f in found] == [f.info["step"] for f in whole]
        for a, b in zip(found, whole, strict=True):
            np.testing.assert_allclose(columns(a), columns(b), rtol=0, atol=1e-9)


def test_rerun_records_every_frame_once(case: Case) -> None:
    atoms(case)
    dump = "dump d all custom 5 r.dump id type x y z vx vy vz\n"
    dump += "dump_modify d sort id format float %.17g\n"
    case.ok(head() + LJ + MOVE + dump + record("every 5", "whole.xyz") + "run 20\n", 2)
    again = head() + LJ + record("every 5 energy yes") + "rerun r.dump dump x y z vx vy vz\n"
    case.ok(again, 2)
    found, whole = frames(case), frames(case, "whole.xyz")
    assert [f.info["step"] for f in found] == [f.info["step"] for f in whole] == [0, 5, 10, 15, 20]
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_allclose(a.get_forces(), b.get_forces(), rtol=0, atol=1e-9)


def test_a_step_of_a_restart_file_that_comes_again(case: Case) -> None:
    """It is another frame when a run comes to it than when a run starts with it."""
    atoms(case)
    case.ok(head() + LJ + MOVE + record("every 5") + "run 10\nwrite_restart h\n")
    again = head().replace("read_data atoms.data", "read_restart h") + LJ + "fix i all nve\n"
    again += "reset_timestep 8\n" + record("every 5", "again.xyz") + "run 2\n"
    case.ok(again)
    assert [f.info["step"] for f in frames(case, "again.xyz")] == [10]


def test_same_step_elsewhere_is_another_frame(case: Case) -> None:
    atoms(case)
    moved = "displace_atoms all random 0.01 0.01 0.01 5\nrun 0\n"
    case.ok(head() + LJ + record("every 1") + "run 0\nrun 0\n" + moved)
    assert len(frames(case)) == 2


def test_files_that_are_there(case: Case) -> None:
    atoms(case)
    script = head() + LJ + record("every 1")
    case.write("out.xyz", "2\nmy frame\nX 0 0 0\nX 1 1 1\n")
    before = (case.folder / "out.xyz").read_bytes()
    fails(case, script + "run 0\n", "fix mlcore r: 'out.xyz' is there already; append yes", ranks=2)
    assert (case.folder / "out.xyz").read_bytes() == before
    append = script.replace("xyz every 1", "xyz every 1 append yes")
    case.ok(append + "run 0\n", 2)
    assert (case.folder / "out.xyz").read_bytes().startswith(before) and len(frames(case)) == 2
    case.write("out.xyz", "# not frames\n")
    fails(
        case, append + "run 0\n", "is not an extxyz file, so nothing is appended: line 1", ranks=2
    )
    assert (case.folder / "out.xyz").read_text() == "# not frames\n"
    case.write("out.xyz", "")
    case.ok(script + "run 0\n")
    fails(
        case, script.replace("out.xyz", "none/out.xyz"), "'none/out.xyz' cannot be opened", ranks=2
    )
    fails(case, script.replace("out.xyz", "."), "'.' cannot be opened: Is a directory")
    twice = script.replace("out.xyz", "new.xyz")
    fails(case, twice + twice.splitlines()[-1].replace("fix r", "fix s"), "by another fix")


@pytest.mark.parametrize("cut", [1, 40, 700, -3])
def test_a_cut_frame_is_removed(case: Case, cut: int) -> None:
    atoms(case)
    case.ok(head() + LJ + MOVE + record("every 5") + "run 10\n")
    whole = (case.folder / "out.xyz").read_bytes()
    third = len(whole) - len(whole) // 3
    third = whole.index(b"\n64\n", third - 2000) + 1
    case.write("out.xyz", whole[: third + cut if cut > 0 else cut])
    words = record("every 5 append yes")
    output = case.ok(head() + LJ + MOVE + words + "reset_timestep 15\nrun 0\n", 2)
    assert "ended in the middle of a frame" in output
    assert [f.info["step"] for f in frames(case)] == [0, 5, 15]


def test_a_killed_run_leaves_whole_frames_but_for_a_last_one(case: Case) -> None:
    atoms(case)
    case.write("in.lmp", head() + LJ + MOVE + record("every 1") + "run 100000000\n")
    words = [*command(), "-in", "in.lmp", "-log", "none", "-screen", "none"]
    process = subprocess.Popen(words, cwd=case.folder, env=environment_variables())
    path = case.folder / "out.xyz"
    wait_for(lambda: path.exists() and path.stat().st_size > 200_000)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = path.read_bytes()
    case.write("in.lmp", head() + LJ + MOVE + record("every 1 append yes") + "run 0\n")
    case.ok((case.folder / "in.lmp").read_text())
    found = frames(case)
    steps = [f.info["step"] for f in found]
    assert steps[:-1] == list(range(len(steps) - 1)) and steps[-1] == 0 and len(found) > 10
    # what the kill may have cut is less than one frame
    kept = path.read_bytes()
    length = len(kept) // len(found)
    assert kept[: len(before) - 2 * length] == before[: len(before) - 2 * length]


def wait_for(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_full_disk(case: Case) -> None:
    """The frame that does not fit is taken back."""
    atoms(case)
    limit = ["bash", "-c", "trap '' XFSZ; ulimit -f 8192; exec \"$@\"", "bash"]
    script = head() + LJ + MOVE + record("every 1") + "run 2000\n"
    outcome = case.lmp(script, prefix=limit)
    assert outcome.status != 0
    assert "fix mlcore r: 'out.xyz' cannot be written: File too large" in outcome.output
    assert 100 < len(frames(case)) < 2000
    assert (case.folder / "out.xyz").stat().st_size <= 8192 * 1024


# -- wrong input ----------------------------------------------------------------------------------
WORDS = {
    "": "the file is missing",
    "f.xyz": "keyword 'every' is missing",
    "f.xyz every": "keyword 'every' has no value",
    "f.xyz every 0": "'every' needs a whole number of at least 1, found '0'",
    "f.xyz every 2.5": "'every' needs a whole number of at least 1, found '2.5'",
    "f.xyz every 1 every 2": "'every' is given twice",
    "f.xyz often 1": "unknown keyword 'often' for mode record",
    "f.xyz every 1 from": "keyword 'from' has no value",
    "f.xyz every 1 from i i": "keyword 'from' names a fix twice",
    "f.xyz every 1 from absent": "there is no fix 'absent'; it must be made before this fix",
    "f.xyz every 1 above 1": "keyword 'above' needs 'from'",
    "f.xyz every 1 from m above few": "'above' needs a finite number, found 'few'",
    "f.xyz every 1 from m above -1": "'above' must not be negative",
    "f.xyz every 1 from i above 1": "is a fix mlcore force or dynamics with a committee",
    "f.xyz every 4 from q": "fix q has new values every 5 steps, so 4 must be a multiple of this",
    "f.xyz every 1 append maybe": "'append' must be one of yes, no, found 'maybe'",
    "f.xyz every 1 elements Ar": "'elements' needs one name for each of the 2 atom types, found 1",
}


def test_wrong_words(case: Case) -> None:
    atoms(case)
    force = committee(case)
    bundles.pair_table(case.folder / "q", [(1.0,) * 3], kind="qoi", **QOI, reduce="sum")
    lines = "".join(
        f'if "${{w}} == {k}" then "fix r all mlcore record {words}"\n'
        for k, words in enumerate(WORDS)
    )
    fixes = force + "fix i all nve\nfix q all mlcore qoi q every 5\n"
    case.write("words.lmp", head() + LJ + fixes + lines)
    for k, message in enumerate(WORDS.values()):
        outcome = case.lmp(f"variable w equal {k}\ninclude words.lmp\n", 2 if k == 2 else 1)
        flat = " ".join(outcome.output.split())
        assert outcome.status == 1 and message in flat, outcome.output[-1500:]
        assert "fix mlcore r: " in flat
    assert not Path(case.folder / "f.xyz").exists()


def test_energy_is_that_of_all_atoms(case: Case) -> None:
    atoms(case)
    script = head() + LJ + "group one type 1\n" + record("every 1 energy yes", group="one")
    fails(case, script, "fix mlcore r: keyword 'energy'", "needs the group all", ranks=2)


def test_forces_that_come_later(case: Case) -> None:
    """At the start of a run fixes act in the order in which they were made."""
    atoms(case)
    script = head() + record("every 1") + committee(case) + "run 0\n"
    fails(case, script, "fix mlcore r: fix m acts on the forces", "make this fix last", ranks=2)
    bath = "fix bath all langevin 1 1 0.1 4\n"
    output = case.ok(head() + LJ + bath + record("every 1", "b.xyz") + "run 0\nrun 0\n", 2)
    assert output.count("hold the drag and the random forces of fix bath") == 1
    gone = head() + committee(case) + record("every 1 from m") + "unfix m\nrun 0\n"
    fails(case, gone, "fix mlcore r: there is no fix 'm'", ranks=2)
