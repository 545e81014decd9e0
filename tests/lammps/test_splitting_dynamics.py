"""fix mlcore dynamics with bundles of splittings: against the core in Python and LAMMPS' own steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from lammps_case import Array, Case
from mlcore import md
from mlcore.export import write_splitting
from mlcore.integrators import NBodyIntegrator
from mlcore.io.tensors import read_tensors, write_tensors
from mlcore.splitting import PairSplitting
from test_native_force import DUMP, TRICLINIC, box, fails, lattice, thermo, watch

CUTOFF, CLOSEST, STEP, KICKS = 2.5, 0.8, 0.02, 4
SIDE = 6.6  # of a box of 6^3 atoms
LJ = "pair_style lj/cut 2.5\npair_coeff * * 1 1\n"
ALL = DUMP.replace("custom 20", "custom 1")
FIX = "fix m all mlcore dynamics liquid\n"
STATE = "temp pe etotal press"


def coefficients(weights: Sequence[float], strength: Callable[[Array], Array], M: int) -> Array:
    """(stages, M, 4) cubics of weight * strength(u), right at four points of every interval."""
    t = np.arange(4) / 3
    u = 1 / CUTOFF + (1 / CLOSEST - 1 / CUTOFF) * (np.arange(M)[:, None] + t) / M
    cubics = strength(u) @ np.linalg.inv(np.vander(t, 4, increasing=True)).T
    return np.array(weights)[:, None, None] * cubics


def lennard_jones(u: Array) -> Array:
    return 48 * (u**6 - 0.5)


def verlet(step: float, masses: Sequence[float] = (1.0,), M: int = 4000) -> PairSplitting:
    """KICKS - 1 steps of velocity Verlet with the force of Lennard-Jones."""
    parts = KICKS - 1
    drifts = [0.0, *[1 / parts] * parts, 0.0]
    weights = [0.5 / parts, *[1 / parts] * ((KICKS + 1) // 2 - 1)]
    pairs = len(masses) * (len(masses) + 1) // 2
    tables = np.repeat(coefficients(weights, lennard_jones, M)[:, None], pairs, 1)
    return PairSplitting(step, drifts, masses, tables, 1 / CUTOFF, 1 / CLOSEST)


def learned(step: float, masses: Sequence[float]) -> PairSplitting:
    """Drifts and tables as from a fit, another for every pair of types and kick."""
    pairs = len(masses) * (len(masses) + 1) // 2
    base = coefficients([0.3, 0.2], lennard_jones, 60)
    tables = np.stack([base * (1 + 0.1 * k) for k in range(pairs)], 1)
    drifts = [0.1, 0.25, 0.3, 0.25, 0.1]
    return PairSplitting(step, drifts, masses, tables, 1 / CUTOFF, 1 / CLOSEST)


def start(seed: int = 1, heat: float = 1.0) -> tuple[Array, Array]:
    x = lattice(6, shake=0.05) * (SIDE / 7.2)
    v = np.random.default_rng(seed).normal(size=x.shape) * np.sqrt(heat)
    return x, v - v.mean(0)


def bundle(case: Case, step: float = STEP, halvings: int = 2, **of: Any) -> PairSplitting:
    steps = [verlet(step / 2**k, **of) for k in range(halvings + 1)]
    write_splitting(case.folder / "liquid", steps)
    return steps[0]


def head(state: str = STATE, skin: float = 0.5, pair: str = LJ, step: float = STEP) -> str:
    return (
        "units lj\natom_style atomic\natom_modify map array\nread_data atoms.data\n"
        f"neighbor {skin} bin\nneigh_modify every 1 delay 0 check yes\ntimestep {step}\n"
        f"thermo 10\n{watch(state)}{pair}"
    )


@pytest.mark.parametrize(("ranks", "tilt"), [(1, ()), (2, TRICLINIC), (4, ())])
def test_steps_are_those_of_the_core(case: Case, ranks: int, tilt: tuple[float, ...]) -> None:
    """Two types of different masses, atoms that leave the box, on any number of ranks."""
    x, v = start()
    kinds, masses = [1 + i % 2 for i in range(len(x))], [1.0, 1.5]
    case.atoms(x, box(SIDE), tilt, types=kinds, v=v)
    step = learned(STEP, masses)
    write_splitting(case.folder / "liquid", [step])
    script = head(pair="mass 2 1.5\n") + DUMP + FIX + "run 20\n"
    output = case.ok(script, ranks)
    assert "a splitting of 4 kicks up to 2.5, steps of 0.02" in output
    cell = np.diag([SIDE] * 3)
    if tilt:
        cell[1, 0], cell[2, 0], cell[2, 1] = tilt
    made = step.run(x, v, steps=20, species=np.array(kinds) - 1, cell=cell)
    assert made.done == 20
    frame = case.dump()[-1]
    np.testing.assert_allclose(frame[:, 1:4], made.last_positions, rtol=0, atol=1e-10)
    np.testing.assert_allclose(frame[:, 4:7], made.last_velocities, rtol=0, atol=1e-10)


@pytest.mark.parametrize("ranks", [1, 2])
def test_verlet_steps_are_those_of_lammps(case: Case, ranks: int) -> None:
    """Tables of Lennard-Jones: three small steps in each, with the same numbers along the way."""
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case)
    found = thermo(case.ok(head() + DUMP + FIX + "run 30\n", ranks))
    frames = case.dump()
    small = head(step=STEP / 3).replace("thermo 10", "thermo 30") + "fix n all nve\n"
    expected = thermo(case.ok(small + DUMP.replace("custom 20", "custom 60") + "run 90\n"))
    np.testing.assert_allclose(found[:, 1:], expected[:, 1:], rtol=1e-7, atol=1e-7)
    for ours, theirs in zip(frames, case.dump(), strict=True):
        np.testing.assert_allclose(ours[:, 1:7], theirs[:, 1:7], rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours[:, 7:], theirs[:, 7:], rtol=1e-5, atol=1e-5)


def test_what_was_learned_runs_as_in_python(case: Case) -> None:
    fixed = {"n": 16, "box": 6.7949, "epsilon": 2.0}
    seeds = {"seed": np.arange(6)}
    data = md.sweep("lennard_jones", seeds, fixed=fixed, dt=1e-3, time=10, every=50)
    learned = NBodyIntegrator(atoms=800, intervals=24, iterations=15).fit(data)
    assert learned.quality[0].r2 > 0.999
    learned.export(case.folder / "liquid")
    window = data[:1].frames(slice(100, 101))
    found = learned.rollout(window, 40)
    case.atoms(window.positions[0, 0], box(6.7949), v=window.velocities[0, 0])
    script = head(skin=1.0, step=0.05) + FIX + DUMP + watch("f_m[1]") + "run 40\n"
    rows = thermo(case.ok(script, 2))
    frame = case.dump()[-1]
    np.testing.assert_allclose(frame[:, 1:4], found.positions[0, -1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(frame[:, 4:7], found.velocities[0, -1], rtol=0, atol=1e-9)
    assert rows[-1, 1] == found.redone[0]


def test_momentum_and_energy_are_kept(case: Case) -> None:
    """A melting crystal over 600 small steps, its momentum to rounding."""
    x, v = start(heat=3.0)
    case.atoms(x, box(SIDE), v=v)
    bundle(case)
    sums = "".join(f"variable p{a} equal vcm(all,{a})\n" for a in "xyz")
    script = head() + sums + watch("etotal temp v_px v_py v_pz") + FIX + "run 200\n"
    rows = thermo(case.ok(script, 2))
    assert np.ptp(rows[2:, 1]) < 1e-2 * len(x)  # what pairs that cross the cutoff make of it
    assert rows[-1, 2] < 2.5
    assert np.abs(rows[:, 3:]).max() < 1e-13


@pytest.mark.parametrize("ranks", [1, 2])
def test_forces_are_computed_where_they_are_read(case: Case, ranks: int) -> None:
    """The pair style and its lists sleep between output steps, unless it is asked for always."""
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case)
    see = "dump d all custom 4 out.dump id fx f_four f_six\ndump_modify d sort id first yes\n"
    see = "fix four all store/state 4 fx\nfix six all store/state 6 fx\n" + see
    found = []
    for words, sleeps in (("", True), (" forces always", False)):
        run = head(skin=0.4) + FIX.replace("liquid", "liquid" + words) + see + "run 8\n"
        found.append(thermo(case.ok(run + "run 21\n", ranks)))
        frame = case.dump()[2]
        assert (frame[:, 1:3] != 0).all()
        assert (frame[:, 3] == 0).all() == sleeps
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)
    fails(case, head() + FIX.replace("liquid", "liquid forces no"), "one of output, always")


def test_restarts_and_runs_in_pieces_go_on_exactly(case: Case) -> None:
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case)
    run = DUMP + FIX
    case.ok(head() + run + "run 10\nwrite_restart h\nrun 20\n")
    whole = case.dump()[-1]
    again = head().replace("read_data atoms.data", "read_restart h")
    output = case.ok(again + run + "run 0\nrun 20\n")
    np.testing.assert_array_equal(case.dump()[-1], whole)
    assert "Resetting global fix info from restart file" in output
    parts = head() + run + "run 10\nunfix m\nrun 0\n" + FIX + "run 10\nrun 10 pre no\n"
    case.ok(parts, 2)
    np.testing.assert_allclose(case.dump()[-1], whole, rtol=0, atol=1e-9)


def crowded(case: Case, speed: float, apart: float) -> tuple[Array, Array]:
    """Two atoms on their way to each other, and some far away."""
    x = np.array([[2.0, 3, 3], [2.0 + apart, 3, 3], [8, 8, 8], [2, 8, 3]])
    v = np.zeros_like(x)
    v[0, 0], v[1, 0] = speed, -speed
    case.atoms(x, box(12.0), v=v)
    return x, v


@pytest.mark.parametrize("ranks", [1, 4])
def test_steps_that_come_too_close_are_done_in_shorter_ones(case: Case, ranks: int) -> None:
    """What is bad in one piece is good in halves, one of them in two quarters."""
    x, v = crowded(case, 6.0, 1.5)
    step = 0.09
    steps = [verlet(step / 2**k) for k in range(5)]
    write_splitting(case.folder / "liquid", steps)

    def advance(x: Array, v: Array, k: int) -> tuple[Array, Array]:
        made = steps[k].run(x, v, steps=1, cell=[12.0] * 3)
        if made.done == 1:
            return made.last_positions, made.last_velocities
        counts[k] += 1
        for _ in range(2):
            x, v = advance(x, v, k + 1)
        return x, v

    counts = np.zeros(5, int)
    script = head(skin=2.5, step=step) + FIX + watch("f_m[1] f_m[2] f_m[3]") + "thermo 1\n"
    rows = thermo(case.ok(script + ALL + "run 4\n", ranks))
    for frame, shown in zip(case.dump()[1:], rows[1:], strict=True):
        x, v = advance(x, v, 0)
        np.testing.assert_allclose(frame[:, 1:4], x, rtol=0, atol=1e-10)
        np.testing.assert_allclose(frame[:, 4:7], v, rtol=0, atol=1e-10)
        assert shown[1] == counts[0]
        assert shown[2] >= CLOSEST
    assert counts[0] >= 1
    assert counts[1] >= 1


def test_pairs_too_close_in_the_shortest_step(case: Case) -> None:
    crowded(case, 5.0, 1.4)
    write_splitting(case.folder / "liquid", [verlet(0.09)])
    script = head(skin=6.0, step=0.09) + FIX + "run 4\n"
    words = "atoms come as close as 0.", "no pairs closer than 0.8, even in steps of 0.09"
    fails(case, script, *words, ranks=2)


@pytest.mark.parametrize("ranks", [1, 2])
def test_neighbors_are_found_anew_within_a_step(case: Case, ranks: int) -> None:
    """Where atoms became faster than a list was kept for."""
    x, _ = crowded(case, 0.5, 3.2)
    step = bundle(case)
    faster = "group a id 1\ngroup b id 2\nvelocity a set 5 0 0\nvelocity b set -5 0 0\n"
    script = head(skin=0.4) + FIX + watch("f_m[3]") + ALL + "run 15\n" + faster + "run 7 pre no\n"
    rows = thermo(case.ok(script, ranks))
    np.testing.assert_array_equal(rows[:, 1], [0, 1, 1])
    frames = case.dump()
    np.testing.assert_allclose(frames[15][:2, 1], [x[0, 0] + 0.15, x[1, 0] - 0.15])
    v = np.zeros_like(x)
    v[0, 0], v[1, 0] = 5, -5
    made = step.run(frames[15][:, 1:4], v, steps=7, cell=[12.0] * 3)
    assert made.closest < CUTOFF
    np.testing.assert_allclose(frames[-1][:, 1:4], made.last_positions, rtol=0, atol=1e-12)
    np.testing.assert_allclose(frames[-1][:, 4:7], made.last_velocities, rtol=0, atol=1e-12)


def test_boxes_that_change_and_thermostats(case: Case) -> None:
    """Other fixes may scale velocities and the box; those that push are told to be of no use."""
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case)
    script = head("temp press vol pe") + FIX
    script += "fix t all temp/berendsen 1.5 1.5 0.1\nfix p all press/berendsen iso 5 5 10\n"
    script += "fix g all langevin 1 1 1 77\nfix_modify p temp thermo_temp\n"
    outcomes = [case.ok(script + "run 50\n", ranks) for ranks in (1, 2)]
    one, two = (thermo(output) for output in outcomes)
    np.testing.assert_allclose(one[:3], two[:3], rtol=1e-7)
    assert one[-1, 3] != one[0, 3]
    assert "the forces of fix g (langevin) move no atoms" in outcomes[0]


def change(case: Case, **fields: Any) -> None:
    """Put other values into the manifest, at paths whose dots are written as __."""
    path = case.folder / "liquid" / "manifest.json"
    manifest = json.loads(path.read_text())
    for place, value in fields.items():
        *parents, last = place.split("__")
        part = manifest
        for name in parents:
            part = part[name]
        part[last] = value
    path.write_text(json.dumps(manifest))


def test_wrong_runs(case: Case) -> None:
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case)
    run = FIX + "run 5\n"
    fails(case, head(step=0.01) + run, "takes a time of 0.02", "has timestep 0.01")
    fails(
        case, head() + "mass 1 1.1\n" + run, "type 1 and mass 1.1, the bundle was made for mass 1"
    )
    fails(
        case, head(skin=0.1) + run, "more than half the skin", "which is 0.1: neighbor 0.", ranks=2
    )
    some = "group some id 2:216\n" + FIX.replace("all", "some") + "run 5\n"
    fails(case, head() + some, "moves all atoms, group some has 215 of 216")
    fails(case, head() + FIX.replace("liquid", "liquid dtype float32"), "float64 alone")
    fails(case, head() + FIX.replace("dynamics", "force"), 'kind is "dynamics"')
    case.atoms(x, box(SIDE), v=v, types=[1] * 215 + [2])
    fails(case, head() + run, "atom 216 has type 2, the model knows types 1 to 1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engines__native__kicks": 5}, "'m0.drifts' has the shape (5,)"),
        ({"engines__native__intervals": 0}, "engines.native.intervals must be a whole number"),
        ({"engines__native__halvings": 3}, "tensor 'm0.tables3' is missing"),
        ({"engines__native__halvings": 99}, "engines.native.halvings must be at most 32"),
        ({"engines__native__u_hi": 0.1}, "u_hi must lie above u_lo"),
        ({"model__cutoff": 2.0}, "u_lo must be the inverse of model.cutoff"),
        ({"model__types": 2}, "'m0.masses' has the shape (1,)"),
        ({"model__timestep": None}, "must have a model.timestep"),
        ({"model__members": 2}, "one member"),
        ({"engines__native__kind": "pair_table"}, 'needs "splitting"'),
    ],
)
def test_wrong_manifests(case: Case, fields: dict[str, Any], message: str) -> None:
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case, M=10)
    change(case, **fields)
    fails(case, head() + FIX, message)


def test_damaged_weights(case: Case) -> None:
    x, v = start()
    case.atoms(x, box(SIDE), v=v)
    bundle(case, M=10)
    path = case.folder / "liquid" / "weights.safetensors"
    tensors, _ = read_tensors(path)
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    fails(case, head() + FIX, "does not have the sha256 recorded here")
    tensors["m0.drifts"] = np.array([0.0, 0.3, 0.4, 0.3, 0.1])
    write_tensors(path, tensors)
    change(
        case, **{"files": {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}}
    )
    fails(case, head() + FIX, "drifts must read the same backwards")
