"""Rest and elastic constants of cubic crystals: by few changes as by all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from mlcore.forcefield.evaluate import Evaluator
from mlcore.forcefield.evaluate.native import NativeBoxes, NativeEngine
from mlcore.forcefield.forms import Model, model
from mlcore.forcefield.problems import silicon
from mlcore.forcefield.targets import CubicCrystal, rest_scale
from mlcore.forcefield.targets.elasticity import softening, stress_slopes
from mlcore.forcefield.targets.face import Change, Static
from mlcore.forcefield.targets.symmetry import Symmetry


class Counted(NativeBoxes):
    """Boxes that count what they are asked."""

    def __init__(self, of: Model, structure: Atoms, candidates: Sequence[dict[str, float]]) -> None:
        engine = NativeEngine(of)
        engine.use(candidates, max(of.form.reach(of, values) for values in candidates))
        super().__init__(engine, [structure], [b"one"])
        self.asked = 0

    def deformed(self, k: int, changes: Sequence[Change]) -> list[Static]:
        self.asked += len(changes)
        return super().deformed(k, changes)


def candidates(form: str, count: int) -> tuple[Model, list[dict[str, float]]]:
    problem = silicon(form)
    points = np.random.default_rng(4).uniform(0.3, 0.7, (count, problem.space.size))
    return problem.model, [problem.space.values(point) for point in points]


SCALES = np.array([0.98, 1.0, 1.03])[:, None, None] * np.eye(3)


@pytest.mark.parametrize(
    ("species", "crystal", "asked"),
    [
        (["Si"], bulk("Si", "diamond", 5.43), 3 + 1),
        (["Si"], bulk("Si", "diamond", 5.43, cubic=True), 3 + 2),
        (["Si", "C"], bulk("SiC", "zincblende", 4.36), 3 + 1),
        (["Si", "C"], bulk("SiC", "zincblende", 4.36, cubic=True), 3 + 4),
    ],
)
def test_what_follows_by_symmetry_is_what_is_found(
    species: list[str], crystal: Atoms, asked: int
) -> None:
    of = model("tersoff", species)
    boxes = Counted(of, crystal, [of.defaults] * 3)
    symmetry = Symmetry(crystal)
    plain = [stress_slopes(boxes, SCALES, (0, 3)), softening(boxes, SCALES)]
    boxes.asked = 0
    fewer = symmetry.of(boxes)
    found = [stress_slopes(fewer, SCALES, (0, 3)), softening(fewer, SCALES)]
    assert boxes.asked == asked
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_forces_and_energies_of_images_too() -> None:
    crystal = bulk("Si", "diamond", 5.43, cubic=True)
    of, some = candidates("tersoff", 3)
    boxes = Counted(of, crystal, some)
    fewer = Symmetry(crystal).of(boxes)
    moves = 0.01 * np.eye(24).reshape(24, 1, 8, 3)
    strain = SCALES @ np.diag([1.0, 1.0, 1.002])
    changes: list[Change] = [(strain, np.repeat(move, 3, axis=0)) for move in moves]
    plain = boxes.deformed(0, changes)
    boxes.asked = 0
    for one, other in zip(fewer.deformed(0, changes), plain, strict=True):
        np.testing.assert_allclose(one.energy, other.energy, rtol=1e-12)
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-10)
        np.testing.assert_allclose(one.stress, other.stress, atol=1e-12)
    assert boxes.asked < 8


def test_candidates_that_are_changed_each_in_its_own_way_are_all_asked() -> None:
    crystal = bulk("Si", "diamond", 5.43)
    of, some = candidates("sw", 3)
    boxes = Counted(of, crystal, some)
    fewer = Symmetry(crystal).of(boxes)
    moves = np.random.default_rng(0).normal(0, 0.01, (3, 2, 3))
    fewer.deformed(0, [(SCALES, moves), (SCALES, -moves)])
    assert boxes.asked == 2


@pytest.mark.parametrize(
    ("crystal", "count"),
    [
        (bulk("Cu", "fcc", 3.6), 48),
        (bulk("Fe", "bcc", 2.9), 48),
        (bulk("GaAs", "zincblende", 5.6), 24),
        (bulk("Si", "diamond", 5.43) * (3, 3, 3), 1),
        (Atoms("SiC", positions=[[0, 0, 0], [1.9, 1.2, 0.7]], cell=[4, 4, 4], pbc=True), 1),
    ],
)
def test_how_many_operations_leave_a_crystal_as_it_is(crystal: Atoms, count: int) -> None:
    assert len(Symmetry(crystal)._operations) == count


def test_a_crystal_that_is_not_quite_symmetric_has_no_symmetry() -> None:
    crystal = bulk("Si", "diamond", 5.43, cubic=True)
    crystal.positions[3] += [1e-5, 2e-5, 3e-5]
    assert len(Symmetry(crystal)._operations) == 1
    charged = bulk("Si", "diamond", 5.43)
    charged.set_initial_charges([0.1, -0.1])
    assert len(Symmetry(charged)._operations) == 24


@pytest.mark.parametrize("form", ["tersoff", "sw"])
def test_rest_is_where_the_pressure_vanishes_and_the_energy_is_lowest(form: str) -> None:
    of, some = candidates(form, 40)
    boxes = Counted(of, bulk("Si", "diamond", 5.431), some)
    scale, energy, modulus = rest_scale(boxes)
    there = np.isfinite(scale)
    assert there.sum() > 25
    safe = np.where(there, scale, 1.0)
    (lower, here, upper), stress = boxes.stretched(
        0, np.array([0.9999, 1.0, 1.0001])[:, None] * safe
    )
    off = stress[1] / (3 * modulus * 0.0062415)
    assert np.abs(off[there]).max() < 1e-10
    np.testing.assert_allclose(energy[there], here[there], atol=1e-11)
    assert np.all((lower > here)[there]) and np.all((upper > here)[there])


@pytest.mark.parametrize("engine", ["native", "lammps"])
def test_stretched_is_a_strain_of_all_directions(engine: Any) -> None:
    of, some = candidates("tersoff", 1)
    crystal = bulk("Si", "diamond", 5.431)
    wanted = dict.fromkeys(("a", "energy", "bulk"), 1.0)
    with Evaluator(of, [CubicCrystal(crystal, wanted, name="crystal")], engine=engine) as evaluator:
        a, energy, modulus = evaluator(some)[0].values["crystal"]
        further = [
            CubicCrystal(bulk("Si", "diamond", x), wanted, name=str(x)) for x in (a, 1.05 * a)
        ]
    with Evaluator(of, further, engine=engine) as evaluator:
        for values in evaluator(some)[0].values.values():
            np.testing.assert_allclose(values, [a, energy, modulus], rtol=1e-9)
