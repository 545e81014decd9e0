"""F_ML1, F_X_ML1, F_Pair_ML1: against an independent integrator, and what MLMOD got wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import masked_models as masked
import numpy as np
import pytest
import torch
import traced_models as models
from lammps_case import Array, Case, close, dump, system
from masked_models import LENGTH, MASK, State
from test_bad_input import fails
from test_deterministic import scattered
from test_stochastic import LJ, box

N = 9
GROUP = [1, 2, 3, 5, 6, 8]  # places in the order of ids; ids are one more
DT = 5e-3
MODES = ["F_ML1", "F_X_ML1", "F_Pair_ML1"]
Parts = tuple[models.Function, int, Callable[[models.Function], masked.Forces]]


def parts(mode: str, n: int, **drag: float) -> Parts:
    """Model, atoms it sees, and how its output becomes forces."""
    if mode == "F_ML1":
        return masked.whole_force(n, **drag), n, masked.add_whole
    if mode == "F_X_ML1":
        return masked.atom_force(**drag), 1, masked.add_atoms
    return masked.pair_force(**drag), 2, masked.add_pairs


def save(
    case: Case,
    mode: str,
    n: int,
    name: str = "model.xml",
    model: models.Function | None = None,
    **values: object,
) -> str:
    own, atoms, _ = parts(mode, n)
    file = f"{name}.pt"
    tags = {"base_name": "m", "base_dir": "out", "F_filename": file}
    tags |= {"mask_fix": "POST_FORCE", "mask_input": MASK, **values}
    blocks = {"X": 3 * atoms, "V": 3 * atoms, "F": 3 * atoms, "Type": atoms, "Time": 1}
    inputs = sum(blocks[word] for word in str(tags["mask_input"]).split())
    if tags["F_filename"] == file:
        models.save_traced(model or own, inputs, case.folder / file)
    return case.parameters(mode, name, **tags)


PUSH = (
    "variable px atom cos(id)\nvariable py atom sin(2*id)\nvariable pz atom cos(3*id)\n"
    "fix push all addforce v_px v_py v_pz\n"
)


def start(case: Case, n: int = N, speed: float = 3.0) -> State:
    """Atoms of two types in scrambled order, pushed by constant forces, in a periodic box."""
    rng = np.random.default_rng(5)
    x, v = scattered(n, LENGTH, seed=4), rng.normal(0, speed, (n, 3)).round(6)
    v[:, 0] += 8.0
    types = rng.integers(1, 3, n)
    order = rng.permutation(n)
    case.atoms(
        x[order],
        box(LENGTH),
        ids=[int(i) + 1 for i in order],
        types=[int(t) for t in types[order]],
        v=v[order],
    )
    ids = np.arange(1, n + 1)
    f = np.stack([np.cos(ids), np.sin(2 * ids), np.cos(3 * ids)], 1)
    return State(x, v, f, types.astype(float))


def head() -> str:
    members = " ".join(str(i + 1) for i in GROUP)
    return system("p p p", dt=DT) + f"atom_modify sort 4 1.0\ngroup some id {members}\n"


def check(frame: Array, state: State) -> None:
    for first, expected in ((1, state.x), (4, state.v), (7, state.f)):
        close(frame[:, first : first + 3], expected)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", MODES)
def test_trajectory_of_a_subset_group(case: Case, mode: str, ranks: int) -> None:
    """Atoms cross boundaries, are sorted and change ranks; every word of the mask is used."""
    first = start(case)
    name = save(case, mode, len(GROUP))
    case.ok(
        head() + PUSH + f"fix m some mlmod {name}\nfix move all nve\n" + dump(80) + "run 80\n",
        ranks,
    )
    model, _, forces = parts(mode, len(GROUP))
    last = masked.verlet(first, first.f, forces(model), GROUP, 80, DT)
    assert np.abs(np.floor(last.x[GROUP] / LENGTH)).sum() >= 2  # atoms have left the box
    check(case.dump()[0], masked.verlet(first, first.f, forces(model), GROUP, 0, DT))
    check(case.dump()[-1], last)


@pytest.mark.parametrize("mode", MODES)
def test_split_runs_and_changes_of_the_timestep(case: Case, mode: str) -> None:
    """Forces are there at setup, so 40 + 40 steps are 80 (drag apart, which sees the velocities of
    the half step within a run, like fix viscous); time goes on after a new timestep."""
    first = start(case)
    model, _, forces = parts(mode, len(GROUP), drag=0.0)
    name = save(case, mode, len(GROUP), model=model)
    run = head() + PUSH + f"fix m some mlmod {name}\nfix move all nve\n"
    tail = "write_dump all custom {} id xu yu zu vx vy vz fx fy fz modify format float %.17g\n"
    case.ok(run + "run 80\n" + tail.format("whole"))
    case.ok(run + "run 40\nrun 40\n" + tail.format("split"))
    case.ok(run + f"run 40\ntimestep {DT / 2}\nrun 40\n" + tail.format("change"))
    whole, split = (case.dump(k)[0] for k in ("whole", "split"))
    np.testing.assert_allclose(split, whole, rtol=0, atol=2e-6)
    half = masked.verlet(first, first.f, forces(model), GROUP, 40, DT)
    check(case.dump("change")[0], masked.verlet(half, first.f, forces(model), GROUP, 40, DT / 2))


@pytest.mark.parametrize("mode", MODES)
def test_legacy_leaves_setup_without_the_model(case: Case, mode: str) -> None:
    first = start(case)
    name = save(case, mode, len(GROUP))
    case.ok(head() + PUSH + f"fix m some mlmod {name} legacy yes\n" + dump() + "run 0\n")
    np.testing.assert_allclose(case.dump()[0][:, 7:10], first.f, atol=1e-14)
    case.ok(head() + PUSH + f"fix m some mlmod {name}\n" + dump() + "run 0\n")
    assert np.abs(case.dump()[0][GROUP, 7:10] - first.f[GROUP]).max() > 1e-3


def test_legacy_shows_the_model_atoms_in_the_order_of_memory(case: Case) -> None:
    first = start(case, speed=0.0)

    def places(z: torch.Tensor) -> torch.Tensor:
        return 0 * z + torch.arange(3.0 * N).reshape(-1, 1)

    name = save(case, "F_ML1", N, model=places, mask_input="X")
    order = np.random.default_rng(1).permutation(N)
    case.atoms(first.x[order], box(LENGTH), ids=[int(i) + 1 for i in order])
    seen = {}
    for words in ("", "legacy yes"):
        case.ok(
            system("p p p")
            + f"atom_modify sort 0 0\nfix m all mlmod {name} {words}\n"
            + dump(1)
            + "run 1\n"
        )
        seen[words] = case.dump()[-1][:, 7] / 3
    np.testing.assert_array_equal(seen[""], np.arange(N))
    np.testing.assert_array_equal(seen["legacy yes"][order], np.arange(N))


def test_pairs_across_the_boundary_and_crossing_it(case: Case) -> None:
    tracks = []
    name = save(case, "F_Pair_ML1", 2)
    for shift in (0.0, 2.4):
        x = np.array([[3.0, 3, 3], [4.0, 3.2, 3]]) + [shift, 0, 0]
        case.atoms(x, box(LENGTH), v=np.array([[1.0, 0.2, 0], [1.1, 0.1, 0]]))
        case.ok(
            system("p p p", dt=DT)
            + f"fix m all mlmod {name}\nfix move all nve\n"
            + dump(20)
            + "run 300\n",
            ranks=2,
        )
        frames = np.array([frame[:, 1:4] for frame in case.dump()])
        tracks.append(frames - frames[0])
    assert tracks[0][-1, :, 0].min() > 1.0  # both atoms of the second run cross
    np.testing.assert_allclose(tracks[1], tracks[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("boundary", ["p p p", "f f f"])
def test_pairs_within_a_cutoff(case: Case, boundary: str, ranks: int) -> None:
    """Ghosts and reverse communication give what all pairs give; no pair style is needed."""
    first = start(case, 40)
    run = system(boundary, dt=DT).replace("pair_style zero 3.0\npair_coeff * *\n", "")
    run = run.replace("boundary f f f", "boundary s s s") + "atom_modify sort 4 1.0\n" + PUSH
    group = [i for i in range(40) if i % 5]
    run += "group some id " + " ".join(str(i + 1) for i in group) + "\n"
    tracks = []
    for tags in ({}, {"cutoff": 2.0}):
        name = save(case, "F_Pair_ML1", 2, model=masked.near_pair_force, **tags)
        case.ok(run + f"fix m some mlmod {name}\nfix move all nve\n" + dump(40) + "run 40\n", ranks)
        tracks.append(case.dump())
    for whole, near in zip(*tracks, strict=True):
        for k in (1, 4, 7):
            close(near[:, k : k + 3], whole[:, k : k + 3])
    if boundary == "p p p":
        forces = masked.add_pairs(masked.near_pair_force)
        last = masked.verlet(first, first.f, forces, group, 40, DT)
        check(tracks[1][-1], last)


def test_a_cutoff_larger_than_that_of_the_pair_style(case: Case) -> None:
    first = start(case, 20)
    run = system("p p p", **LJ, dt=DT).replace("* * 1.0", "* * 0.0") + PUSH
    seen = []
    for tags in ({}, {"cutoff": 2.0}):
        name = save(case, "F_Pair_ML1", 2, model=masked.near_pair_force, **tags)
        case.ok(run + f"fix m all mlmod {name}\n" + dump() + "run 0\n", ranks=2)
        seen.append(case.dump()[0][:, 7:10])
    np.testing.assert_allclose(seen[1], seen[0], rtol=0, atol=1e-6)
    assert np.abs(seen[0] - first.f).max() > 0.01


def test_ghosts_that_may_not_reach_are_refused(case: Case) -> None:
    start(case, 20)
    name = save(case, "F_Pair_ML1", 2, model=masked.near_pair_force, cutoff=2.0)
    script = system("p p p", "zero 1.0", dt=DT).replace("0.4 bin", "0.4 multi")
    script += "comm_modify mode multi cutoff/multi * 1.5\n"
    fails(
        case, script + f"fix m all mlmod {name}\nrun 0\n", "fix mlmod m:", "comm_modify mode single"
    )


def test_two_fixes_on_overlapping_groups(case: Case) -> None:
    """The second sees the forces that the first has left."""
    first = start(case)
    one, two = save(case, "F_Pair_ML1", 4, "one.xml"), save(case, "F_ML1", 5, "two.xml")
    a, b = [0, 1, 2, 3], [2, 3, 4, 5, 6]
    case.ok(
        system("p p p", dt=DT)
        + PUSH
        + "group a id 1:4\ngroup b id 3:7\n"
        + f"fix m1 a mlmod {one}\nfix m2 b mlmod {two}\n"
        + dump()
        + "run 0\n",
        ranks=2,
    )
    f = first.f.copy()
    for rows, mode in ((a, "F_Pair_ML1"), (b, "F_ML1")):
        model, _, forces = parts(mode, len(rows))
        state = State(first.x, first.v, f, first.types).chosen(rows)
        f[rows] += forces(model)(state)
    close(case.dump()[0][:, 7:10], f)


def test_time_is_that_of_the_thermo_output(case: Case) -> None:
    """Also after reset_timestep and a new timestep, where dt * step is wrong."""
    case.atoms(np.ones((1, 3)), box(4))
    name = save(case, "F_X_ML1", 1, model=lambda z: z[0, 0] * torch.ones(3, 1), mask_input="Time")
    output = case.ok(
        system(dt=0.001)
        + f"fix m all mlmod {name}\nthermo 1\nthermo_style custom step time fmax\n"
        + 'thermo_modify format float "%.9g"\n'
        + "run 3\ntimestep 0.25\nrun 2\nreset_timestep 1000\nrun 2\nreset_timestep 0 time 3.5\n"
        + "run 1\n"
    )
    rows = re.findall(r"^ +(\d+) +(\S+) +(\S+) *$", output, re.M)
    assert len(rows) == 12
    for _, time, force in rows:
        assert float(force) == pytest.approx(float(time), rel=1e-6)
    assert float(rows[6][1]) == pytest.approx(0.503)
    assert float(rows[-1][1]) == pytest.approx(3.75)


@pytest.mark.parametrize("mode", MODES)
def test_minimize(case: Case, mode: str) -> None:
    """Without an energy only the minimizers that follow forces; cg is told so."""
    case.atoms(scattered(4, LENGTH, gap=1.5), box(LENGTH), v=np.zeros((4, 3)))

    def spring(z: torch.Tensor) -> torch.Tensor:
        n = {"F_ML1": 4, "F_X_ML1": 1, "F_Pair_ML1": 2}[mode]
        return -4 * (z - 3).reshape(3 * n, 1)

    n = {"F_ML1": 4, "F_X_ML1": 1, "F_Pair_ML1": 2}[mode]
    name = save(case, mode, n, model=spring, mask_input="X")
    script = system() + f"fix m all mlmod {name}\n"
    case.ok(script + "min_style fire\nminimize 0 1e-6 4000 4000\n" + dump() + "run 0\n", ranks=2)
    np.testing.assert_allclose(case.dump()[0][:, 1:4], 3.0, atol=1e-5)
    words = ("fix mlmod m:", "no energy", "min_style cg", "fire or quickmin")
    fails(case, script + "minimize 0 1e-6 100 100\n", *words)


@pytest.mark.parametrize("mode", MODES)
def test_energy_and_virial_are_refused(case: Case, mode: str) -> None:
    start(case)
    name = save(case, mode, N)
    for word in ("energy", "virial"):
        script = system("p p p") + f"fix m all mlmod {name}\nfix_modify m {word} yes\nrun 0\n"
        fails(case, script, word)


def test_model_that_cannot_be_vectorised_is_looped_with_one_warning(case: Case) -> None:
    class Branching(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            r = z[3:6] - z[0:3]
            d = float(torch.sqrt((r * r).sum()))
            if d > 2.5:
                return torch.zeros(6, 1)
            return torch.cat([r, -r]) * (2.5 - d)

    x = scattered(6, LENGTH)
    case.atoms(x, box(LENGTH))
    models.save_scripted(Branching(), case.folder / "F.pt")
    name = save(case, "F_Pair_ML1", 2, F_filename="F.pt", mask_input="X")
    output = case.ok(system() + f"fix m all mlmod {name}\n" + dump() + "run 0\nrun 0\n")
    assert len(re.findall("one input at a time", output)) == 1
    r = x[None] - x[:, None]
    d = np.linalg.norm(r, axis=-1)[..., None]
    f = np.where(d < 2.5, r * (2.5 - d), 0).sum(1)
    close(case.dump()[0][:, 7:10], f)


def test_empty_groups_and_lone_atoms(case: Case) -> None:
    start(case)
    script = system("p p p", dt=DT) + "group none id 99\ngroup one id 2\n"
    for k, mode in enumerate(MODES):
        name = save(case, mode, 1, f"{mode}.xml")
        script += f"fix a{k} none mlmod {name}\nfix b{k} one mlmod {name}\n"
    output = case.ok(script + "fix move all nve\nrun 3\n", ranks=2)
    assert "Loop time" in output
