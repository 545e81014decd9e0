"""Active learning: what disagreement and determinants choose, rounds, and going on after a stop."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from mlcore.errors import Error, InvalidArgument
from mlcore.forcefield.active import (
    ActiveRun,
    Pick,
    Predictions,
    active_learning,
    code_label,
    disagreement,
    dynamics,
    potential_label,
    predict,
)
from mlcore.forcefield.active.d_optimality import choose, features, gains, grade, maxvol, ranges
from mlcore.forcefield.codes import Vasp
from mlcore.forcefield.forms import model
from mlcore.forcefield.parameters import Free, Space

TERSOFF, SW = model("tersoff", ["Si"]), model("sw", ["Si"])
LABEL = potential_label(TERSOFF, TERSOFF.defaults)


def space() -> Space:
    free = {}
    for name in ("epsilon", "sigma", "lambda", "gamma", "B"):
        value = SW.defaults[name]
        free[name] = Free(lower=0.6 * value, upper=1.5 * value, initial=value)
    return Space(SW.parameters, free)


def rattled(calm: int, wild: int, seed: int) -> list[Atoms]:
    """Crystals of eight atoms, many alike and a few that are not, in no order."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(calm + wild):
        atoms = bulk("Si", "diamond", 5.43, cubic=True)
        size, strain = (0.05, 0.01) if k < calm else (0.3, 0.08)
        atoms.positions += rng.normal(0, size, atoms.positions.shape)
        atoms.set_cell(atoms.cell * (1 + rng.uniform(-strain, strain)), scale_atoms=True)
        found.append(atoms)
    return [found[k] for k in rng.permutation(len(found))]


TEST = [LABEL(atoms) for atoms in rattled(2, 10, 99)]


def run(folder: Path, pick: Pick, seed: int, rounds: int = 2, **options: object) -> ActiveRun:
    start = [LABEL(atoms) for atoms in rattled(3, 0, seed + 50)]
    told = {"label": LABEL, "pool": rattled(20, 4, seed), "test": TEST, "members": 3} | options
    return active_learning(
        SW, space(), folder, start=start, pick=pick, rounds=rounds, per_round=1, seed=seed, **told
    )


def test_what_is_chosen_teaches_more_than_chance(tmp_path: Path) -> None:
    medians = {}
    for pick in ("committee", "dopt", "random"):
        errors = [run(tmp_path / f"{pick}{k}", pick, k).rounds for k in range(3)]  # type: ignore[arg-type]
        medians[pick] = np.median(
            [[r.errors["score"] for r in rounds] for rounds in errors], axis=0
        )
    assert medians["committee"][0] == medians["random"][0] == medians["dopt"][0]
    for pick in ("committee", "dopt"):
        assert medians[pick][-1] < 0.85 * medians["random"][-1]
        assert medians[pick][-1] < 0.85 * medians[pick][0]


def test_a_stopped_loop_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    asked = []

    def counting(atoms: Atoms) -> Atoms:
        asked.append(atoms)
        return LABEL(atoms)

    whole = run(tmp_path / "whole", "committee", 5, rounds=3, label=counting)
    assert len(asked) == 3

    def dies(atoms: Atoms) -> Atoms:
        if len(asked) == 5:
            raise KeyboardInterrupt
        return counting(atoms)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", "committee", 5, rounds=3, label=dies)
    assert sorted(p.name for p in (tmp_path / "part").iterdir()) == [
        "active.json",
        "driver.lock",
        "round_000",
        "round_001",
    ]
    again = run(tmp_path / "part", "committee", 5, rounds=3, label=counting)
    assert len(asked) == 6
    for ours, theirs in zip(again.rounds, whole.rounds, strict=True):
        np.testing.assert_array_equal(ours.point, theirs.point)
        assert (ours.picked, ours.grades, ours.errors) == (
            theirs.picked,
            theirs.grades,
            theirs.errors,
        )
    assert run(tmp_path / "part", "committee", 5, rounds=3, label=dies).table() == whole.table()
    longer = run(tmp_path / "part", "committee", 5, rounds=4)
    assert longer.rounds[3].picked
    assert longer.rounds[:3] and longer.rounds[4].labelled == 7
    with pytest.raises(InvalidArgument, match="another loop"):
        run(tmp_path / "part", "dopt", 5, rounds=3)


def test_other_labels_are_another_loop(tmp_path: Path) -> None:
    from mlcore.forcefield.structures import labelled, labels

    def learn(start: list[Atoms]) -> None:
        active_learning(SW, space(), tmp_path / "loop", label=LABEL, start=start, pool=TEST[2:],
                        pick="random", rounds=0)  # fmt: skip

    learn(TEST[:2])
    known = labels(TEST[0])
    assert known.energy is not None
    corrected = labelled(TEST[0], known.energy + 1.0, known.forces)
    with pytest.raises(InvalidArgument, match="another loop"):
        learn([corrected, TEST[1]])


def test_one_process_works_on_a_loop(tmp_path: Path) -> None:
    from mlcore.io.lock import locked

    with locked(tmp_path), pytest.raises(Error, match="at work"):
        active_learning(SW, space(), tmp_path, label=LABEL, start=TEST[:2], pool=TEST[2:],
                        pick="random", rounds=0)  # fmt: skip


def test_structures_come_from_the_models_own_dynamics(tmp_path: Path) -> None:
    crystal = bulk("Si", "diamond", 5.43, cubic=True)
    explore = dynamics(SW, crystal, 1500.0, frames=6, every=20)
    frames = explore(SW.defaults, 0)
    assert len(frames) == 6
    np.testing.assert_allclose(frames[0].cell[:], crystal.cell[:], atol=1e-9)
    moved = [np.abs((f.positions - crystal.positions + 2.7) % 5.43 - 2.7).max() for f in frames]
    assert 0.02 < max(moved) < 1.5
    np.testing.assert_array_equal(explore(SW.defaults, 0)[-1].positions, frames[-1].positions)
    assert not np.array_equal(explore(SW.defaults, 1)[-1].positions, frames[-1].positions)
    found = active_learning(
        SW,
        space(),
        tmp_path / "md",
        label=LABEL,
        start=[LABEL(a) for a in rattled(3, 0, 1)],
        explore=explore,
        pick="dopt",
        rounds=1,
        per_round=2,
        test=TEST,
    )
    assert [r.labelled for r in found.rounds] == [3, 5]
    assert found.rounds[0].grades[0] > 0
    assert found.rounds[1].errors["score"] < found.rounds[0].errors["score"]


def test_dynamics_that_stop_at_once_say_why() -> None:
    crystal = bulk("Si", "diamond", 5.43, cubic=True)
    explore = dynamics(SW, crystal, 300.0, frames=2, every=50, timestep=50.0)
    with pytest.raises(Error, match=r"dynamics: LAMMPS stopped at once: .*\w"):
        explore(SW.defaults, 0)


def test_a_program_labels_each_structure_once_in_a_folder_of_its_own(tmp_path: Path) -> None:
    class Program:
        folders: list[Path] = []  # noqa: RUF012

        def label(self, atoms: Atoms, folder: object) -> Atoms:
            self.folders.append(Path(str(folder)))
            return LABEL(atoms)

    one, two = rattled(2, 0, 0)
    label = code_label(Program(), tmp_path)
    for atoms in (one, two, one.copy()):
        assert label(atoms).get_potential_energy() == LABEL(atoms).get_potential_energy()
    first, second, third = Program.folders
    assert first == third != second
    assert first.parent == tmp_path


def test_disagreement_by_hand_and_of_members_that_fail() -> None:
    forces = (np.zeros((2, 1, 3)), np.array([[[0.0, 0, 0]], [[0.2, 0.2, 0.2]]]))
    told = Predictions(np.array([[1.0, 2.0], [1.02, 2.0]]), forces)
    found = disagreement(told, sigma_energy=0.01, sigma_force=0.1)
    np.testing.assert_allclose(found, np.sqrt(2))
    bad = SW.defaults | {"sigma": 50.0}
    both = predict(SW, rattled(2, 0, 0), [SW.defaults, bad, SW.defaults])
    assert both.energies.shape == (2, 2)
    with pytest.raises(InvalidArgument, match="two members"):
        disagreement(predict(SW, rattled(1, 0, 0), [SW.defaults]))


def test_features_are_derivatives_of_energies_and_forces() -> None:
    own = space()
    structures = rattled(1, 1, 3)
    found = features(SW, structures, own, own.initial, sigma_energy=0.5, sigma_force=2.0)
    assert [f.shape for f in found] == [(25, 5), (25, 5)]
    step = np.zeros(5)
    step[1] = 1e-3
    near = [own.values(own.initial + s * step) for s in (1, -1)]
    told = predict(SW, structures, near)
    slope = (told.energies[0] - told.energies[1]) / 2e-3
    np.testing.assert_allclose([f[0, 1] * 0.5 for f in found], slope, rtol=1e-3)
    force = (told.forces[1][0] - told.forces[1][1]).ravel() / 2e-3
    np.testing.assert_allclose(found[1][1:, 1] * 2.0 * np.sqrt(24), force, rtol=2e-2, atol=1e-2)


def test_determinants_choose_what_is_new() -> None:
    a, b = np.array([[10.0, 0.0]]), np.array([[0.0, 6.0]])
    assert choose([a, 0.99 * a, b], 2, ranges(2)) == [0, 2]
    np.testing.assert_allclose(gains([a, b], np.eye(2)), [np.log(101), np.log(37)], rtol=1e-12)
    with pytest.raises(InvalidArgument, match="count"):
        choose([a], 2, ranges(2))


def test_rows_of_the_largest_volume_are_found() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3))
    best = max(abs(np.linalg.det(rows[list(c)])) for c in itertools.combinations(range(12), 3))
    found = maxvol(rows)
    assert abs(np.linalg.det(rows[found])) >= best / 1.3
    marks = grade(rows, rows[found])
    assert marks.max() <= 1.01
    assert grade(3 * rows[found[:1]], rows[found])[0] == pytest.approx(3)
    with pytest.raises(InvalidArgument, match="rank"):
        maxvol(np.ones((5, 2)))


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="pool, explore"):
        run(tmp_path, "random", 0, pool=None)
    with pytest.raises(InvalidArgument, match="pool: 2 structures"):
        run(tmp_path, "random", 0, pool=TEST[:1])
    with pytest.raises(InvalidArgument, match="pick"):
        run(tmp_path, "best", 0)  # type: ignore[arg-type]
    for name, count in {"rounds": -1, "per_round": 0, "members": 1, "starts": 0}.items():
        with pytest.raises(InvalidArgument, match=f"{name} must be at least"):
            active_learning(
                SW, space(), tmp_path, label=LABEL, start=TEST, pool=TEST, **{name: count}
            )
    with pytest.raises(InvalidArgument, match="label: what"):
        run(tmp_path / "x", "random", 0, label=lambda atoms: atoms)


def test_vasp_labels_the_structures_of_a_loop(tmp_path: Path) -> None:
    """A whole loop through a program that stands in for VASP and knows a Lennard-Jones solid."""
    program = tmp_path / "vasp_std"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from pathlib import Path\nfrom fake_vasp import main\nsys.exit(main(Path.cwd()))\n"
    )
    program.chmod(0o755)
    potcar = tmp_path / "POTCAR.Ar"
    potcar.write_text("  PAW_PBE Ar 01Jan2000\n   VRHFIN =Ar: s2p6\n")
    vasp = Vasp([str(program)], {"Ar": str(potcar)}, {"ENCUT": 400}, timeout=120.0)
    label = code_label(vasp, tmp_path / "vasp")
    rng = np.random.default_rng(0)
    pool = []
    for size in (0.05, 0.05, 0.3):
        atoms = bulk("Ar", "fcc", 5.3, cubic=True)
        atoms.positions += rng.normal(0, size, atoms.positions.shape)
        pool.append(atoms)
    argon = model("lj/cut", ["Ar"])
    free = {
        "epsilon": Free(lower=0.005, upper=0.02, initial=0.008),
        "sigma": Free(lower=3.0, upper=3.8, initial=3.3),
    }
    found = active_learning(
        argon,
        Space(argon.parameters, free, fixed={"cutoff": 7.0}),
        tmp_path / "loop",
        label=label,
        start=[label(pool[0])],
        pool=pool[1:],
        pick="dopt",
        rounds=1,
        per_round=1,
        sigma_energy=1e-3,
        sigma_force=1e-2,
    )
    assert found.rounds[0].picked == (1,)
    assert len(list((tmp_path / "vasp").iterdir())) == 2
    # the program cuts its potential off in another way
    assert found.values["sigma"] == pytest.approx(3.4, abs=0.03)
    assert found.values["epsilon"] == pytest.approx(0.0104, rel=0.15)


def test_the_example_learns(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples/active_force_field/active_force_field.py"
    done = subprocess.run(
        [sys.executable, str(example), "--quick", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    errors = json.loads((tmp_path / "errors.json").read_text())
    last = {pick: np.median(rows, axis=0)[-1] for pick, rows in errors.items()}
    assert max(last["committee"], last["dopt"]) < 0.8 * last["random"]
    assert (tmp_path / "active_force_field.png").stat().st_size > 5000
    assert (tmp_path / "dynamics" / "round_001" / "round.json").exists()
