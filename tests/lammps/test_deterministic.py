"""dX_MF_ML1: v = M f, x += dt v."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
import traced_models as models
from lammps_case import Array, Case, close, dump, system

FORCES = "fix push all addforce {} {} {}\n"


def rpy_matrix(x: Array) -> Array:
    flat = torch.tensor(x.reshape(-1, 1))
    matrix = models.whole_rpy_model(len(x))(flat).numpy()
    return np.asarray(matrix).reshape(3 * len(x), 3 * len(x))


def scattered(n: int, length: float, seed: int = 0, gap: float = 0.9) -> Array:
    rng = np.random.default_rng(seed)
    x = np.empty((0, 3))
    while len(x) < n:
        trial = rng.uniform(0.3, length - 0.3, 3)
        if len(x) == 0 or np.linalg.norm(x - trial, axis=1).min() > gap:
            x = np.vstack([x, trial])
    return x


def push(n: int, seed: int = 1) -> tuple[Array, str]:
    """Different constant forces on all atoms."""
    f = np.random.default_rng(seed).normal(size=(n, 3)).round(6)
    lines = ""
    for i, row in enumerate(f, 1):
        lines += f"group g{i} id {i}\nfix push{i} g{i} addforce {row[0]} {row[1]} {row[2]}\n"
    return f, lines


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_velocity_and_step_are_those_of_the_matrix(case: Case, ranks: int) -> None:
    x = scattered(6, 8.0)
    case.atoms(x, (0, 8, 0, 8, 0, 8))
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    f, forces = push(6)
    case.ok(system() + forces + f"fix m all mlmod {name}\n" + dump() + "run 1\n", ranks)
    first, last = case.dump()
    v = (rpy_matrix(x) @ f.ravel()).reshape(-1, 3)
    close(last[:, 4:7], v)
    np.testing.assert_allclose(last[:, 1:4] - first[:, 1:4], 1e-3 * last[:, 4:7], atol=1e-14)


def test_neighbours_across_the_boundary_and_crossing_it(case: Case) -> None:
    """The same two particles in the middle of the box and astride its boundary."""
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    tracks = []
    for shift in (0.0, 3.4):
        x = np.array([[4.0, 4, 4], [5.0, 4.3, 4]]) + [shift, 0, 0]
        case.atoms(x, (0, 8, 0, 8, 0, 8))
        case.ok(
            system("p p p", dt=0.02)
            + FORCES.format(1.5, 0.2, -0.1)
            + f"fix m all mlmod {name}\n"
            + dump(10)
            + "run 200\n"
        )
        frames = np.array([frame[:, 1:4] for frame in case.dump()])
        tracks.append(frames - frames[0])
    assert tracks[0][-1, 0, 0] > 1.0  # the second run crosses
    np.testing.assert_allclose(tracks[1], tracks[0], rtol=2e-5, atol=1e-5)


def test_triclinic_box_uses_the_nearest_image(case: Case) -> None:
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    x = np.array([[0.3, 0.2, 0.2], [0.9, 1.0, 0.4]])
    velocities = []
    for shift in ([0, 0, 0], [-0.6, -0.6, -0.3]):  # the second pair lies across three faces
        positions = x + shift
        case.atoms(positions, (0, 8, 0, 8, 0, 8), (3.0, -2.0, 2.5))
        f, forces = push(2)
        case.ok(system("p p p") + forces + f"fix m all mlmod {name}\n" + dump() + "run 1\n")
        velocities.append(case.dump()[-1][:, 4:7])
    close(velocities[1], velocities[0])
    expected = (rpy_matrix(x) @ f.ravel()).reshape(-1, 3)
    close(velocities[0], expected)


def test_subset_group_moves_alone(case: Case) -> None:
    """Group members 2 and 4 move as if the others were not there; the others are not touched."""
    x = scattered(5, 6.0)
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    case.atoms(x, (0, 6, 0, 6, 0, 6))
    f, forces = push(5)
    case.ok(
        system()
        + forces
        + "velocity all set 0.5 0.25 0.125\ngroup two id 2 4\n"
        + f"fix m two mlmod {name}\n"
        + dump()
        + "run 1\n"
    )
    first, last = case.dump()
    chosen = [1, 3]
    v = (rpy_matrix(x[chosen]) @ f[chosen].ravel()).reshape(-1, 3)
    close(last[chosen, 4:7], v)
    others = [0, 2, 4]
    np.testing.assert_array_equal(last[others, 1:4], first[others, 1:4])
    np.testing.assert_array_equal(last[others, 4:7], [[0.5, 0.25, 0.125]] * 3)


def test_order_in_memory_does_not_matter(case: Case) -> None:
    x = scattered(12, 9.0)
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    f, forces = push(12)
    results = []
    for order in (np.arange(12), np.random.default_rng(3).permutation(12)):
        case.atoms(x[order], (0, 9, 0, 9, 0, 9), ids=[int(i) + 1 for i in order])
        case.ok(
            system()
            + "atom_modify sort 5 1.0\n"
            + forces
            + f"fix m all mlmod {name}\n"
            + dump(20)
            + "run 20\n"
        )
        results.append(case.dump()[-1][:, 1:4])
    np.testing.assert_allclose(results[1], results[0], rtol=0, atol=1e-13)


def test_atoms_may_come_and_go_between_runs(case: Case) -> None:
    x = scattered(6, 8.0)
    case.atoms(x[:5], (0, 8, 0, 8, 0, 8))
    name = case.parameters("dX_MF_ML1", **case.pair_models())
    extra = " ".join(f"{value:.17g}" for value in x[5])
    case.ok(
        system()
        + FORCES.format(0.3, -0.2, 0.1)
        + f"fix m all mlmod {name}\nrun 3\n"
        + f"create_atoms 1 single {extra}\ngroup gone id 2\ndelete_atoms group gone compress no\n"
        + dump(1)
        + "run 1\n"
    )
    before, after = case.dump()
    assert list(after[:, 0]) == [1, 3, 4, 5, 6]
    f = np.tile([0.3, -0.2, 0.1], 5)
    v = (rpy_matrix(before[:, 1:4]) @ f).reshape(-1, 3)
    close(after[:, 4:7], v)


def test_model_that_cannot_be_vectorised_is_looped_with_one_warning(case: Case) -> None:
    x = scattered(5, 5.0)
    case.atoms(x, (0, 5, 0, 5, 0, 5))
    files = case.pair_models()
    models.save_scripted(models.Branching(), case.folder / "M_ij.pt")
    name = case.parameters("dX_MF_ML1", **files)
    f, forces = push(5)
    output = case.ok(system() + forces + f"fix m all mlmod {name}\n" + dump() + "run 1\nrun 1\n")
    assert len(re.findall("one input at a time", output)) == 1
    matrix = np.zeros((15, 15))
    for i in range(5):
        for j in range(5):
            d = float(np.linalg.norm(x[i] - x[j]))
            value = models.SELF if i == j else 0.01 * (3 - d) if d <= 3 else 0.0
            matrix[3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = value * np.eye(3)
    close(case.dump()[1][:, 4:7], (matrix @ f.ravel()).reshape(-1, 3))


def test_verbosity(case: Case) -> None:
    case.atoms(scattered(2, 5.0), (0, 5, 0, 5, 0, 5))
    name = case.parameters("dX_MF_ML1", **case.pair_models(), note="kept")
    outputs = [
        case.ok(system() + f"fix m all mlmod {name} {words}\nrun 2\nrun 2\n", ranks=2)
        for words in ("verbose 0", "", "verbose 2")
    ]
    assert [output.count("fix mlmod m:") for output in outputs] == [0, 1, 1]
    assert [output.count("note = kept") for output in outputs] == [0, 0, 1]
    cost = "fix mlmod m sees the whole group: 2 atoms go to each of 2 ranks each time, 112 bytes"
    assert [output.count(cost) for output in outputs] == [0, 1, 1]
    assert "No recognized" not in "".join(outputs)


def softened_oseen(x: Array, eta: float, a: float, epsilon: float, factor: float) -> Array:
    n = len(x)
    matrix = np.zeros((n, 3, n, 3))
    for i in range(n):
        matrix[i, :, i] = np.eye(3) / (6 * np.pi * eta * a)
        for j in range(n):
            if i == j:
                continue
            r = x[j] - x[i]
            block = np.eye(3) + np.outer(r, r) / (r @ r + 1e-12)
            matrix[i, :, j] = block / (8 * factor * eta * (np.sqrt(r @ r) + epsilon))
    return matrix.reshape(3 * n, 3 * n)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize(("words", "factor"), [("", np.pi), ("legacy yes", 1.0)])
def test_analytic_mode(case: Case, words: str, factor: float, ranks: int) -> None:
    """dX_MF in double precision; atoms outside the group keep their velocities."""
    x = scattered(7, 8.0)
    case.atoms(x, (0, 8, 0, 8, 0, 8))
    name = case.parameters("dX_MF", eta=1.3, a=0.4, epsilon=0.05, mask_input="anything")
    f, forces = push(7)
    case.ok(
        system()
        + forces
        + "velocity all set 0.5 0.25 0.125\ngroup some id 1 2 4 6 7\n"
        + f"fix m some mlmod {name} {words}\n"
        + dump()
        + "run 20\n",
        ranks,
    )
    chosen, others = [0, 1, 3, 5, 6], [2, 4]
    moved = x[chosen].copy()
    for _ in range(20):
        v = (softened_oseen(moved, 1.3, 0.4, 0.05, factor) @ f[chosen].ravel()).reshape(-1, 3)
        moved += 1e-3 * v
    last = case.dump()[-1]
    np.testing.assert_allclose(last[chosen, 1:4], moved, rtol=1e-12)
    np.testing.assert_allclose(last[chosen, 4:7], v, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(last[others, 4:7], [[0.5, 0.25, 0.125]] * 2)


def test_analytic_mode_across_the_boundary(case: Case) -> None:
    name = case.parameters("dX_MF", eta=1.0, a=0.4, epsilon=0.0)
    velocities = []
    for shift in (0.0, 3.4):
        case.atoms(np.array([[4.0, 4, 4], [5.0, 4.3, 4]]) + [shift, 0, 0], (0, 8, 0, 8, 0, 8))
        run = FORCES.format(1.5, 0.2, -0.1) + f"fix m all mlmod {name}\n" + dump() + "run 1\n"
        case.ok(system("p p p") + run)
        velocities.append(case.dump()[-1][:, 4:7])
    np.testing.assert_allclose(velocities[1], velocities[0], rtol=1e-12)
