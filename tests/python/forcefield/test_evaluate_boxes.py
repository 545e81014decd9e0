"""Boxes that stay: nothing a candidate or a target did to one is seen by those after it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from mlcore.errors import InvalidArgument
from mlcore.forcefield.evaluate import Evaluation, Evaluator
from mlcore.forcefield.evaluate.folder import MemoryFolder
from mlcore.forcefield.forms import Form, Model, model, overlay
from mlcore.forcefield.targets import Boxes, Energies, Forces, Measurement, Target

PARAMETERS: Any = (
    {"name": "depth", "default": 0.0104, "lower": -1, "upper": 1},
    {"name": "reach", "default": 8.5, "lower": 1, "upper": 12},
)
ARGON = Form(
    name="argon",
    title="Lennard-Jones of argon",
    parameters=PARAMETERS,
    pair_style="lj/cut {{ form.reach }}",
    pair_coeff=("pair_coeff * * {{ form.depth }} 3.40",),
    cutoff="reach",
)
CRYSTAL = bulk("Ar", "fcc", 5.3, cubic=True)
TRIMER = Atoms("Ar3", positions=[[0, 0, 0], [3.5, 0, 0], [0, 3.5, 0]])


class Changed(Target):
    """Leaves the box it was given larger than it was, with another skin."""

    tier = "md"

    def __init__(self, structure: Atoms) -> None:
        super().__init__("changed", [structure], 0.0, 1.0, ["changed"])

    def measure(self, boxes: Boxes) -> Measurement:
        lmp = boxes.lammps(0)
        sides = " ".join(f"{axis} final 0 7.0" for axis in "xyz")
        lmp.command(f"change_box all {sides} remap units box")
        lmp.command("neighbor 1.5 bin")
        lmp.command("run 0 post no")
        return Measurement(np.zeros((1, 1)))


class Relaxed(Target):
    """Energy after the atoms moved to rest."""

    tier = "relaxed"

    def __init__(self, structure: Atoms) -> None:
        super().__init__("relaxed", [structure], 0.0, 1.0, ["relaxed"])

    def measure(self, boxes: Boxes) -> Measurement:
        return Measurement(boxes.relaxed(0).energy[:, None])


def evaluated(of: Model, targets: list[Target], *changes: dict[str, float]) -> list[Evaluation]:
    with Evaluator(of, targets, engine="lammps") as evaluator:
        return [evaluator([of.complete(change)])[0] for change in changes]


def energies(*structures: Atoms) -> Energies:
    names = [str(k) for k in range(len(structures))]
    return Energies(structures, np.zeros(len(structures)), names=names)


def test_what_dynamics_did_to_a_box_is_undone() -> None:
    first, second = evaluated(Model(ARGON, ["Ar"]), [energies(CRYSTAL), Changed(CRYSTAL)], {}, {})
    assert second.values["energies"] == first.values["energies"]


def test_styles_within_a_hybrid_one_keep_what_commands_told_them() -> None:
    shifted = ARGON.model_copy(update={"commands": ("pair_modify shift yes",)})
    both = Model(overlay({"lj": shifted, "morse": model("morse", ["Ar"]).form}), ["Ar"])
    name = next(name for name in both.names if "reach" in name)
    (alone,) = evaluated(both, [energies(CRYSTAL)], {name: 7.0})
    first, second, third = evaluated(both, [energies(CRYSTAL)], {}, {name: 7.0}, {})
    assert second.values["energies"] == alone.values["energies"]
    assert third.values["energies"] == first.values["energies"]


def test_atoms_that_fall_into_each_other_end_and_leave_nothing_behind() -> None:
    # LAMMPS' own line search would go on for ever
    before, collapsed, after = evaluated(
        Model(ARGON, ["Ar"]), [Relaxed(TRIMER), energies(TRIMER)], {}, {"depth": -0.1}, {}
    )
    assert before.failed is None and "fall into each other" in str(collapsed.failed)
    assert after.values.keys() == before.values.keys()
    assert all(after.values[k] == before.values[k] for k in before.values)


@pytest.mark.parametrize("engine", ["native", "lammps"])
def test_atoms_may_be_many_cells_away(engine: Any) -> None:
    crystal = CRYSTAL * (2, 2, 2)
    crystal.rattle(0.1, seed=1)
    away = crystal.copy()
    away.positions[3] += 3 * away.cell[0] - 2 * away.cell[2]
    away.positions[5] -= 5 * away.cell[1]
    zero = np.zeros((len(crystal), 3))
    lj = model("lj/cut", ["Ar"])
    targets = [energies(crystal, away), Forces([crystal, away], [zero, zero])]
    with Evaluator(lj, targets, engine=engine) as evaluator:
        found = evaluator([lj.complete({"cutoff": 8.0})])[0]
    assert found.failed is None
    here, there = found.values["energies"]
    assert there == pytest.approx(here, rel=1e-12)
    forces = found.values["forces"].reshape(2, -1)
    np.testing.assert_allclose(forces[1], forces[0], atol=1e-10)


@pytest.mark.parametrize("engine", ["native", "lammps"])
def test_candidates_fail_alike_by_the_core_and_by_lammps(engine: Any) -> None:
    silicon = bulk("Si", "diamond", 5.43)
    tersoff, lj = model("tersoff", ["Si"]), model("lj/cut", ["Ar"])
    with Evaluator(tersoff, [energies(silicon)], engine=engine) as evaluator:
        good, odd = evaluator([tersoff.defaults, tersoff.defaults | {"m": 2.0}])
        (alone,) = evaluator([tersoff.defaults | {"m": 2.0}])
    assert good.failed is None and odd.failed is not None and alone.failed is not None
    with Evaluator(lj, [energies(CRYSTAL)], engine=engine) as evaluator:
        (short,) = evaluator([lj.complete({"cutoff": 0.01})])
    assert "from 0.5 to 12" in str(short.failed)


def test_a_forked_process_leaves_its_parents_files_alone() -> None:
    silicon = bulk("Si", "diamond", 5.43)
    made = model("tersoff", ["Si"])
    with Evaluator(made, [energies(silicon)], engine="lammps") as evaluator:
        before = evaluator([made.defaults])[0]
        engine = evaluator._lammps
        assert engine is not None
        child = os.fork()
        if not child:
            try:
                evaluator.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert engine.folder.is_dir()
        after = evaluator([made.defaults | {"A": 1800.0}, made.defaults])
    assert after[0].failed is None
    assert after[1].values["energies"] == before.values["energies"]
    assert not engine.folder.exists()


@pytest.mark.parametrize("engine", ["native", "lammps"])
def test_threads_and_copies_of_an_evaluator_find_the_same(engine: Any) -> None:
    made = model("tersoff", ["Si"])
    silicon = bulk("Si", "diamond", 5.43, cubic=True)
    silicon.rattle(0.1, seed=1)
    zero = np.zeros((len(silicon), 3))
    targets = [energies(silicon), Forces([silicon], [zero])]
    wanted = [[made.defaults | {"A": 1800.0 + k}] * 5 for k in range(20)]
    with Evaluator(made, targets, engine=engine) as evaluator:
        alone = [evaluator(some)[0].values["forces"] for some in wanted]
        with ThreadPoolExecutor(4) as pool:
            together = [found[0].values["forces"] for found in pool.map(evaluator, wanted)]
        copied = pickle.loads(pickle.dumps(evaluator))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))
    assert np.array_equal(copied(wanted[3])[0].values["forces"], alone[3])
    copied.close()


class Misshapen(Changed):
    """Measures fewer numbers than it has references for."""

    def __init__(self) -> None:
        Target.__init__(self, "odd", [CRYSTAL], [0.0, 1.0], 1.0, ["a", "b"])

    def measure(self, boxes: Boxes) -> Measurement:
        return Measurement(np.zeros((1, 1)))


def test_what_cannot_be_evaluated_is_said_in_words() -> None:
    made = Model(ARGON, ["Ar"])
    twice = CRYSTAL.copy()
    twice.positions[1] = twice.positions[0] + twice.cell[2]
    with pytest.raises(InvalidArgument, match="in one place"):
        Evaluator(made, [energies(twice)])
    with pytest.raises(InvalidArgument, match="number 1 has reach = None"):
        evaluated_raw(made, [energies(CRYSTAL)], made.defaults, {"depth": 0.01})
    with pytest.raises(InvalidArgument, match=r"odd: measured values must have shape \(C, 2\)"):
        evaluated_raw(made, [Misshapen()], made.defaults)


def evaluated_raw(of: Model, targets: list[Target], *candidates: dict[str, float]) -> None:
    with Evaluator(of, targets, engine="lammps") as evaluator:
        evaluator(list(candidates))


def test_a_killed_process_leaves_no_files_for_long(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal, sys\n"
        "from mlcore.forcefield.evaluate.folder import MemoryFolder\n"
        "print(MemoryFolder(pathlib.Path(sys.argv[1])).path, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    held = MemoryFolder(tmp_path)
    words = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    left = Path(done.stdout.strip())
    assert done.returncode == -9 and left.is_dir()
    other = MemoryFolder(tmp_path)
    assert not left.exists()
    assert held.path.is_dir() and other.path.is_dir()
    for folder in (held, other):
        folder.remove()
        assert not folder.path.exists()
