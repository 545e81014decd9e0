"""What a run takes over from the run before, from restart files, and from fixes made after it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import written_bundles as bundles
from lammps_case import Array, Case
from mlcore.mobility.tensors import RPY
from test_bad_input import fails
from test_native_dynamics import mobility
from test_native_force import DUMP, box, head, lattice, watch

TOLD = "this one starts with the forces of its setup"
ALL = DUMP.replace("custom 20", "custom 1")
FIELD = (
    "mass * 1\npair_style lj/cut 2.5\npair_coeff * * 0.3 1\npair_coeff 1 1 1 1\n"
    "group some id 2:8\nfix push some addforce 0.3 -0.2 0.1\nfix trap all spring/self 1.5\n"
)
MOVE = "fix m some mlcore mobility b temp 0.3 seed 5 integrator midpoint\n"


def start(case: Case, boundary: str = "f f f") -> str:
    """Nine atoms, the first outside of the group."""
    x = np.concatenate([[[0.2, 1.4, 0.9]], lattice(2, shake=0.15) + 0.4])
    case.atoms(x, box(30.0), types=[1, 2] * 4 + [1])
    mobility(case, RPY(0.4, 1.0) if boundary == "f f f" else None)
    return head(boundary=boundary) + FIELD


def last(case: Case, script: str, ranks: int = 1) -> tuple[Array, str]:
    output = case.ok(script, ranks)
    return case.dump()[-1], output


def afresh(case: Case, script: str, ranks: int = 1) -> Array:
    """The step after `script`, by a fix that has seen no run before."""
    fresh = script.replace("run 10\n", f"run 10\nunfix m\n{MOVE}")
    return last(case, fresh, ranks)[0]


CHANGES = {
    "moved": "displace_atoms some move 0.1 0 0\n",
    "moved a little": "displace_atoms some move 1e-9 0 0\n",
    "another atom moved": "group out id 1\ndisplace_atoms out move 0.2 0 0\n",
    "pair_coeff": "pair_coeff 1 2 2.0 1\n",
    "pair_style": "pair_style lj/cut 2.5\npair_coeff * * 0.7 1\n",
    "special": "pair_style zero 2.5\npair_coeff * *\n",
    "set": "set atom 4 type 1\n",
    "velocity": "velocity all set 0.1 0.2 0.3\n",
    "fix made anew": "unfix push\nfix push some addforce 0.9 0 0\n",
    "fix gone": "unfix push\n",
    "atoms": "create_atoms 1 single 2.5 2.5 0.5\n",
    "told": "fix_modify m forces renew\n",
    "minimised": "min_style fire\nminimize 0 1e-3 20 20\n",
    "frames read": "displace_atoms all move 0.3 0 0\nwrite_dump all custom r.dump id x y z\n"
    "displace_atoms all move -0.3 0 0\nrerun r.dump dump x y z\n",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_between_runs_is_seen(case: Case, change: str) -> None:
    """The predictor then has the force of the setup, as that of a fix without a past."""
    script = start(case) + ALL + MOVE + "run 10\n" + CHANGES[change] + "run 1\n"
    found, output = last(case, script, 2)
    expected = afresh(case, script, 2)
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=0, atol=1e-12)
    assert output.count(TOLD) == (0 if change == "minimised" else 1)


HARMLESS = {
    "nothing": "",
    "commands": "write_dump all custom x.dump id x\ngroup new id 2\nthermo 7\n",
    "a restart file": "write_restart between\n",
    "an empty run": "run 0\n",
    "computes": "compute c all msd\nfix av all ave/time 1 1 1 c_c[4]\nfix_modify trap energy no\n",
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_no_force_keeps_the_trajectory(case: Case, change: str) -> None:
    """A box whose boundaries atoms cross, so positions are wrapped at every setup."""
    begin = start(case, "p p p") + "fix wind all addforce -200 150 175\n" + ALL + MOVE
    whole, _ = last(case, begin + "run 60\n")
    found, output = last(case, begin + "run 30\n" + HARMLESS[change] + "run 30\n", 2)
    assert np.abs(np.floor(found[1:8, 1:4] / 30.0)).sum() >= 2  # atoms have left the box
    np.testing.assert_allclose(found[:, 1:7], whole[:, 1:7], rtol=0, atol=1e-12)
    assert TOLD not in output


@pytest.mark.parametrize("inside", [True, False])
def test_restart_files_carry_what_was_noted(case: Case, inside: bool) -> None:
    """Those a run writes and those written after it; atoms moved before, or after, are seen."""
    begin = start(case) + ALL + MOVE
    again = begin.replace("read_data atoms.data", "read_restart h.10").replace(" seed 5", "")
    again = again.replace("fix trap all spring/self 1.5\n", "")
    begin = begin.replace("fix trap all spring/self 1.5\n", "")
    write = "restart 10 h.*\n" if inside else ""
    after = "" if inside else "write_restart h.10\n"
    whole, _ = last(case, begin + write + "run 10\n" + after + "run 10\n")
    found, output = last(case, again + "run 10\n", 2)
    np.testing.assert_allclose(found[:, 1:7], whole[:, 1:7], rtol=0, atol=1e-11)
    assert TOLD not in output
    _, output = last(case, again + "pair_coeff 1 2 2.0 1\nrun 1\n", 2)
    assert TOLD in output
    moved = begin + "run 10\ndisplace_atoms all move 0.1 0 0\nwrite_restart h.10\n"
    expected, _ = last(case, moved + "run 1\n")
    found, output = last(case, again + "run 1\n", 2)
    assert TOLD in output
    np.testing.assert_allclose(found[:, 1:7], expected[:, 1:7], rtol=0, atol=1e-12)


def test_restart_files_of_a_run_without_a_setup(case: Case) -> None:
    begin = start(case).replace("fix trap all spring/self 1.5\n", "") + ALL + MOVE
    whole, _ = last(case, begin + "run 40\n")
    case.ok(begin + "run 10\nrestart 20 h.*\nrun 20 pre no\n")
    again = begin.replace("read_data atoms.data", "read_restart h.20").replace(" seed 5", "")
    found, output = last(case, again + "run 20\n", 2)
    assert TOLD not in output
    np.testing.assert_allclose(found[:, 1:7], whole[:, 1:7], rtol=0, atol=1e-11)


def test_numbers_of_steps_may_change(case: Case) -> None:
    """Without noise, which belongs to the number of a step, the trajectory goes on."""
    begin = start(case) + MOVE.replace("temp 0.3", "temp 0")
    whole, _ = last(case, begin + ALL + "run 20\n")
    found, output = last(case, begin + f"run 10\nreset_timestep 500\n{ALL}run 10\n", 2)
    assert TOLD not in output
    np.testing.assert_allclose(found[:, 1:7], whole[:, 1:7], rtol=0, atol=1e-12)


def test_fix_modify_forces(case: Case) -> None:
    begin = start(case)
    words = ("fix mlcore m: fix_modify forces needs the word renew",)
    fails(case, begin + MOVE + "fix_modify m forces drop\n", *words)
    fresh = begin.replace("fix trap all spring/self 1.5\n", "") + ALL + MOVE
    told = "run 10\nfix_modify m forces renew\n"
    expected, _ = last(case, fresh + told + "write_restart h\nrun 1\n")
    again = fresh.replace("read_data atoms.data", "read_restart h").replace(" seed 5", "")
    found, _ = last(case, again + "run 1\n", 2)
    np.testing.assert_allclose(found[:, 1:7], expected[:, 1:7], rtol=0, atol=1e-12)
    em = MOVE.replace("midpoint", "em")
    words = ("fix mlcore m: keeps no forces from run to run",)
    fails(case, begin + em + "fix_modify m forces renew\n", *words)


# -- restart files of another mode ----------------------------------------------------------------
def test_the_state_of_another_mode_is_not_taken(case: Case) -> None:
    """Its seed, 20, would be the step of a record's last frame, which then were left out."""
    begin = start(case).replace("fix trap all spring/self 1.5\n", "")
    em = MOVE.replace("seed 5", "seed 20").replace("midpoint", "em")
    case.ok(begin + em + "run 20\nwrite_restart h\n")
    again = begin.replace("read_data atoms.data", "read_restart h")
    output = case.ok(again + "fix m all mlcore record frames.xyz every 20\nrun 0\n", 2)
    flat = " ".join(output.split())
    assert "fix mlcore m: the restart file holds the state of mode mobility" in flat
    assert (case.folder / "frames.xyz").read_text().startswith("9\n")
    output = case.ok(again + MOVE.replace(" seed 5", "") + "run 1\n", 2)
    assert "holds the state of" not in output


# -- forces of fixes made later -------------------------------------------------------------------
class Seen(torch.nn.Module):
    def forward(self, f: torch.Tensor) -> torch.Tensor:
        return f


LATER = "fix push all addforce 0.3 -0.2 0.5\nfix more all addforce 0.1 0 0\n"


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_first_values_hold_the_forces_of_later_fixes(case: Case, ranks: int) -> None:
    case.atoms(lattice(3), box(3.6))
    rows = torch.rand(4, 3, dtype=torch.float64)
    told = {"sees": "atoms", "gives": "values", "inputs": ["f"], "shape": [3]}
    for reduce in ("sum", "none"):
        bundles.write(
            case.folder / reduce, "qoi", {**told, "reduce": reduce}, scripts=[Seen()],
            examples=(rows,),
        )  # fmt: skip
    shown = watch("f_m[1] f_m[2] f_m[3] f_mean[1]")
    between = "fix mean all ave/time 1 1 1 f_m[1] f_m[2]\n"
    script = head() + "fix m all mlcore qoi sum\n" + between + LATER + "fix i all nve\n" + shown
    script = script.replace("thermo 20", "thermo 1")
    output = case.ok(script + "run 2\nrun 1\n", ranks)
    assert "made after it" not in output
    rows_ = [line.split() for line in output.splitlines() if re.fullmatch(r"( +\S+){5} *", line)]
    found = np.array([row[1:4] for row in rows_ if row[0].isdigit()], dtype=float)
    assert len(found) == 5
    np.testing.assert_allclose(found, np.tile([10.8, -5.4, 13.5], (5, 1)), rtol=1e-12)
    output = case.ok(script.replace("qoi sum", "qoi none").replace(shown, watch("pe")).replace(
        between, "") + "run 1\nrun 1\n", ranks)  # fmt: skip
    flat = " ".join(output.split())
    assert flat.count("which was made after it: make fix m after fix push") == 1
