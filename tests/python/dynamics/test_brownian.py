"""Brownian dynamics: reproducibility, shapes, forces, errors. Physics is in tests/physics."""

from __future__ import annotations

from typing import Any

import ase
import mlcore.random
import mlcore.reference
import numpy as np
import pytest
from devices import device_named
from mlcore.dynamics import Constant, Harmonic, LennardJones, Yukawa, brownian, force_field
from mlcore.errors import Error, InvalidArgument, NotPositiveDefinite
from mlcore.mobility import RPY, Mobility, Oseen, PairMobility

X = np.array([[0, 0, 0], [2.2, 0, 0], [0.4, 2.5, 0.1], [2, 2, 2.4], [-1.9, 1, 1]])
CELL = np.array([9.0, 10.0, 11.0])
FORCES = [
    Yukawa(2.0, 0.8, 4.0),
    LennardJones(1.5, 0.7, 3.5),
    LennardJones(1.2, 1.0),
    Harmonic(0.3, (1.0, 1.0, 1.0)),
    Constant((0.1, 0.0, -0.2)),
]
TABLE = PairMobility.from_functions(
    0.05,
    6.0,
    lambda r: 0.02 * (1 - r / 6) ** 2,
    lambda r: 0.01 * (1 - r / 6) ** 3,
    background=RPY(1.0, 1.0),
)
RUN: dict[str, Any] = {"dt": 0.01, "kT": 0.9, "steps": 12, "every": 4, "seed": 8, "stream": 3}
SCHEMES = ("euler_maruyama", "midpoint")


DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@DEVICES
@pytest.mark.parametrize("cell", [None, CELL])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"drift": False},
        {"kT": 0.0},
        {"scheme": "midpoint"},
        {"scheme": "midpoint", "kT": 0.0},
        {"scheme": "midpoint", "forces": ()},
    ],
    ids=str,
)
def test_replicas_match_the_reference_on_every_device(
    device: str, cell: Any, options: dict[str, Any]
) -> None:
    there = device_named(device)
    x = np.stack([X, X[::-1] + 0.1])
    run = RUN | {"cell": cell, "forces": FORCES} | options
    got = there.get(brownian(TABLE, there.put(x), **run))
    assert got.shape == (2, 4, 5, 3)
    for r in range(2):
        one = run | {"stream": RUN["stream"] + r}
        np.testing.assert_allclose(got[r], mlcore.reference.brownian(TABLE, x[r], **one), atol=1e-8)
    again = there.get(brownian(TABLE, there.put(x), **run))
    assert np.array_equal(again, got)


@pytest.mark.gpu
def test_random_finite_differences_on_the_gpu() -> None:
    there = device_named("cuda")
    run = RUN | {"forces": FORCES, "random_finite_difference": 1e-4}
    got = there.get(brownian(TABLE, there.put(X), **run))
    np.testing.assert_allclose(got, brownian(TABLE, X, **run), atol=1e-8)


@DEVICES
def test_midpoint_steps_of_many_particles(device: str) -> None:
    """By NumPy: half a step, then the velocity there, of the noise whose force is L^-T xi."""
    there, n, rpy = device_named(device), 110, RPY(1.0, 1.0)
    x = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), -1).reshape(-1, 3)[:n] * 2.3
    run: dict[str, Any] = {"dt": 1e-3, "kT": 1.0, "steps": 3, "forces": Harmonic(0.5), "seed": 4}
    got = there.get(brownian(rpy, there.put(x), scheme="midpoint", **run))
    amplitude = np.sqrt(2 * 1.0 * 1e-3)
    for step in range(3):
        place = got[step]
        xi = mlcore.random.normal(4, 0, step, range(n)).ravel()
        factor = np.linalg.cholesky(rpy.matrix(place))
        drift = factor @ (factor.T @ (-0.5 * place.ravel()))
        half = place.ravel() + 0.5 * (1e-3 * drift + amplitude * factor @ xi)
        push = -0.5 * half + amplitude / 1e-3 * np.linalg.solve(factor.T, xi)
        there_moves = rpy.matrix(half.reshape(-1, 3)) @ push
        want = place.ravel() + 1e-3 * there_moves
        np.testing.assert_allclose(got[step + 1].ravel(), want, rtol=0, atol=1e-11)


@DEVICES
@pytest.mark.parametrize("cell", [None, CELL, np.array([4.0, 5.0, 30.0])])
def test_fields_match_the_reference_on_every_device(device: str, cell: Any) -> None:
    there = device_named(device)
    x = np.random.default_rng(3).random((90, 3)) * 9
    forces = [*FORCES[:1], LennardJones(0.05, 1.0, 3.5), *FORCES[3:]]
    want_energy, want = mlcore.reference.force_field(forces, x, cell=cell)
    energy, got = force_field(forces, there.put(x), cell=cell)
    assert energy == pytest.approx(want_energy, rel=1e-11)
    np.testing.assert_allclose(there.get(got), want, rtol=1e-9, atol=1e-10 * np.abs(want).max())
    with pytest.raises(InvalidArgument, match="are at the distance 0"):
        force_field(forces, there.put(np.vstack([x, x[:1]])), cell=cell)


@DEVICES
@pytest.mark.parametrize("scheme", SCHEMES)
def test_blow_ups_are_named_on_every_device(device: str, scheme: str) -> None:
    there, run = device_named(device), RUN | {"scheme": scheme}
    with pytest.raises(Error, match=r"at step 0 of replica 0: particle \d would move by"):
        brownian(TABLE, there.put(X), **run | {"dt": 50.0, "forces": FORCES})
    with pytest.raises(Error, match=r"at step 0 of replica 0: particle 0 would move by (nan|inf)"):
        brownian(TABLE, there.put(X), **run | {"dt": 1e300, "forces": Constant((1e100, 0, 0))})
    with pytest.raises(InvalidArgument, match="the first frame must be finite"):
        brownian(TABLE, there.put(X * np.nan), **run)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("cell", [None, CELL])
def test_matches_reference(scheme: str, cell: Any) -> None:
    options = RUN | {"scheme": scheme, "cell": cell, "forces": FORCES}
    got = brownian(TABLE, X, **options)
    assert got.shape == (4, 5, 3)
    assert np.array_equal(got[0], X)
    np.testing.assert_allclose(got, mlcore.reference.brownian(TABLE, X, **options), atol=1e-8)


def test_random_finite_difference_is_the_divergence_on_average() -> None:
    """The same noise with and without drift; the rest is dt kT times a number of mean div M."""
    options = RUN | {"dt": 1e-2, "kT": 0.5, "steps": 1, "every": 1}
    x = np.broadcast_to(X, (60000, 5, 3))
    without = brownian(TABLE, x, drift=False, **options)[:, 1]
    by_length = {}
    for length in (1e-4, 1e-5):
        with_drift = brownian(TABLE, x, random_finite_difference=length, **options)[:, 1]
        samples = by_length[length] = (with_drift - without) / (1e-2 * 0.5)
        want = TABLE.divergence(X)
        shares = np.einsum("rik,ik->r", samples, want) / (want**2).sum()
        error = shares.std() / np.sqrt(len(shares))
        assert error < 0.04  # a wrong factor 2 would show
        assert abs(shares.mean() - 1) < 5.5 * error
    np.testing.assert_allclose(*by_length.values(), atol=1e-7)
    threads = brownian(TABLE, x[:9], random_finite_difference=1e-4, num_threads=7, **RUN)
    assert np.array_equal(
        threads[3],
        brownian(TABLE, X, random_finite_difference=1e-4, **RUN | {"stream": RUN["stream"] + 3}),
    )


@pytest.mark.parametrize("open_cell", [True, False])
def test_many_particles_feel_the_same_forces(open_cell: bool) -> None:
    """From 300 particles on the pairs come from a neighbor list."""
    grid = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), -1).reshape(-1, 3) * 1.4
    x = grid + 0.1 * np.random.default_rng(5).standard_normal(grid.shape)
    cell = None if open_cell else np.array([9.8, 9.8, 9.8])
    forces = [Yukawa(2.0, 0.8, 4.0), LennardJones(1.0, 0.7, 2.5), Harmonic(0.1)]
    energy, found = force_field(forces, x, cell)
    want_energy, want = mlcore.reference.force_field(forces, x, cell)
    assert energy == pytest.approx(want_energy, rel=1e-11)
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9)
    for threads in (2, 7):
        again, same = force_field(forces, x, cell, num_threads=threads)
        assert again == energy and np.array_equal(same, found)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_threads_replicas_and_frames_change_nothing(scheme: str) -> None:
    options = RUN | {"scheme": scheme, "cell": CELL, "forces": FORCES}
    replicas = np.broadcast_to(X, (5, 5, 3))
    whole = brownian(TABLE, replicas, num_threads=1, **options)
    assert whole.shape == (5, 4, 5, 3)
    for threads in (2, 7):
        assert np.array_equal(brownian(TABLE, replicas, num_threads=threads, **options), whole)
    third = brownian(TABLE, X, **options | {"stream": RUN["stream"] + 2})
    assert np.array_equal(third, whole[2])
    every = brownian(TABLE, X, **options | {"every": 1})
    assert np.array_equal(every[::4], whole[0])


def test_large_system_does_not_depend_on_threads() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(5.0)] * 3), -1).reshape(-1, 3)[:110] * 2.3
    frames = [
        brownian(RPY(1.0, 1.0), grid, dt=1e-3, kT=1.0, steps=3, num_threads=threads)
        for threads in (1, 2, 7)
    ]
    assert np.array_equal(frames[0], frames[1])
    assert np.array_equal(frames[0], frames[2])


def test_noise_is_that_of_the_random_module() -> None:
    table = PairMobility(2.0, 1.0, *np.zeros((4, 2)))
    frames = brownian(table, X, **RUN | {"every": 1})
    for step in range(RUN["steps"]):
        xi = mlcore.random.normal(RUN["seed"], RUN["stream"], step, range(5))
        expected = np.sqrt(2 * RUN["kT"] * RUN["dt"] * 2.0) * xi
        np.testing.assert_allclose(frames[step + 1] - frames[step], expected, atol=1e-13)


def test_coordinates_are_unwrapped() -> None:
    table = PairMobility(1.0, 1.0, *np.zeros((4, 2)))
    options = {"forces": Constant((100.0, 0, 0)), "dt": 0.1, "kT": 0.0, "steps": 10, "every": 10}
    end = brownian(table, X, cell=CELL, **options)[-1]
    np.testing.assert_allclose(end - X, [[100.0, 0, 0]] * 5, atol=1e-10)


def test_kinds_of_positions() -> None:
    expected = brownian(TABLE, X, cell=CELL, **RUN)
    atoms = ase.Atoms("Ar5", positions=X, cell=CELL, pbc=True)
    assert np.array_equal(brownian(TABLE, atoms, **RUN), expected)
    torch = pytest.importorskip("torch")
    tensor = brownian(TABLE, torch.from_numpy(X), cell=CELL, **RUN)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), expected)
    assert brownian(TABLE, X.astype(np.float32), **RUN).dtype == np.float64


@pytest.mark.parametrize("cell", [None, CELL, np.array([[3.5, 0, 0], [1, 4, 0], [0, -1, 3.8]])])
def test_forces_match_reference_and_slope(cell: Any) -> None:
    energy, forces = force_field(FORCES, X, cell)
    expected_energy, expected = mlcore.reference.force_field(FORCES, X, cell)
    assert energy == pytest.approx(expected_energy, rel=1e-12)
    np.testing.assert_allclose(forces, expected, rtol=1e-10, atol=1e-10)
    h = 1e-5
    for i in range(5):
        for k in range(3):
            step = np.zeros_like(X)
            step[i, k] = h
            up, down = (force_field(FORCES, X + s * step, cell)[0] for s in (1, -1))
            assert -(up - down) / (2 * h) == pytest.approx(forces[i, k], rel=1e-5, abs=1e-5)


def test_potentials_are_the_documented_ones() -> None:
    pair = np.array([[0, 0, 0], [1.3, 0, 0]])
    at = lambda r: 2.0 * np.exp(-0.8 * r) / r  # noqa: E731
    assert force_field(FORCES[0], pair)[0] == pytest.approx(at(1.3) - at(4.0))
    wca = LennardJones(1.5, 0.7)
    energy, forces = force_field(wca, pair)
    assert energy == pytest.approx(4 * 0.7 * ((1.5 / 1.3) ** 12 - (1.5 / 1.3) ** 6) + 0.7)
    assert forces[1, 0] > 0
    assert force_field(wca, pair * 2)[0] == 0
    trap = Harmonic(2.0, [[0, 0, 0], [1, 0, 0]])
    assert force_field(trap, pair)[0] == pytest.approx(0.09)
    assert force_field([trap, Constant((1.0, 0, 0))], pair)[1][1, 0] == pytest.approx(0.4)


def test_progress_counts_frames(capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[int, int]] = []
    expected = brownian(TABLE, X, **RUN)
    got = brownian(TABLE, X, progress=lambda *call: calls.append(call), **RUN)
    assert np.array_equal(got, expected)
    assert calls[0] == (0, 3)
    assert calls[-1] == (3, 3)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert np.array_equal(brownian(TABLE, X, progress=True, **RUN), expected)
    assert capsys.readouterr().out == ""


def test_blow_up_names_replica_step_and_particle() -> None:
    overlapping = X.copy()
    overlapping[3] = overlapping[1] + [0.05, 0, 0]
    with pytest.raises(Error, match=r"at step 0 of replica 1: particle [13] would move by"):
        brownian(TABLE, np.stack([X, overlapping]), **RUN, forces=LennardJones(1.0, 1.0))
    unstable = {"dt": 10.0, "kT": 0.0, "steps": 2000, "forces": Harmonic(1.0)}
    table = PairMobility(1.0, 1.0, *np.zeros((4, 2)))
    with pytest.raises(Error, match=r"at step \d+ of replica 0: particle \d would move"):
        brownian(table, X, **unstable)
    with pytest.raises(Error, match="at step 0 of replica 0"):
        brownian(table, X, **unstable, max_displacement=1.0)


@DEVICES
@pytest.mark.parametrize("scheme", SCHEMES)
def test_indefinite_mobility(device: str, scheme: str) -> None:
    there, run = device_named(device), RUN | {"scheme": scheme}
    near = X.copy()
    near[4] = near[2] + [0.3, 0, 0]
    with pytest.raises(NotPositiveDefinite, match="at step 0 of replica 0") as caught:
        brownian(Oseen(1.0, 1.0), there.put(near), **run)
    assert caught.value.pair == (2, 4)
    assert caught.value.smallest_eigenvalue < 0
    one = run | {"steps": 1, "every": 1, "psd": "repair"}
    got = there.get(brownian(Oseen(1.0, 1.0), there.put(near), **one))
    assert np.isfinite(got).all()
    want = brownian(Oseen(1.0, 1.0), near, **one)
    np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want[1] - want[0]).max())


class Foreign(Mobility):
    """Not one of the core's."""

    def matrix(self, *_: Any, **__: Any) -> Any: ...

    def apply(self, *_: Any, **__: Any) -> Any: ...

    def divergence(self, *_: Any, **__: Any) -> Any: ...


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"dt": 0.0}, "dt must be positive"),
        ({"dt": np.nan}, "dt must be positive"),
        ({"kT": -1.0}, "kT must not be negative"),
        ({"steps": 13}, "steps must be a multiple of every = 4, got 13"),
        ({"every": 0}, "every must be at least 1"),
        ({"scheme": "heun"}, "scheme must be"),
        ({"scheme": "midpoint", "drift": False}, "midpoint scheme holds the drift"),
        ({"random_finite_difference": -1.0}, "random finite difference must not be negative"),
        ({"random_finite_difference": np.nan}, "random finite difference must not be negative"),
        ({"random_finite_difference": 1e-4, "scheme": "midpoint"}, "drift of euler_maruyama"),
        ({"psd": "no"}, "psd must be"),
        ({"seed": -1}, "seed must lie"),
        ({"stream": 2**30}, "stream must lie"),
        ({"max_displacement": -1.0}, "max_displacement must not"),
        ({"x0": X[:, :2]}, "must have the shape"),
        ({"x0": np.where(X == 2, np.nan, X)}, "first frame must be finite"),
        ({"mobility": Foreign()}, "mobility must be one the core knows"),
        ({"forces": ["gravity"]}, "forces must be"),
        ({"forces": [Harmonic(1.0), Harmonic(2.0)]}, "one Harmonic at most"),
        ({"forces": Constant(np.zeros((4, 3)))}, "force must have the shape"),
        ({"forces": Constant((np.inf, 0, 0))}, "force must be finite"),
        ({"forces": Yukawa(np.nan, 1.0, 1.0)}, "strength of a pair force must be finite"),
        ({"forces": Harmonic(np.nan)}, "stiffness must be finite"),
        ({"forces": Yukawa(1.0, 1.0, 5000.0), "cell": CELL}, "more than 100 images"),
        ({"pbc": (True, False, True), "cell": CELL}, "pbc"),
    ],
)
def test_errors_name_the_argument(change: dict[str, Any], what: str) -> None:
    arguments = {"mobility": TABLE, "x0": X} | RUN | change
    with pytest.raises(InvalidArgument, match=what):
        brownian(arguments.pop("mobility"), arguments.pop("x0"), **arguments)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Yukawa(1.0, 0.0, 1.0),
        lambda: Yukawa(1.0, 1.0, -1.0),
        lambda: LennardJones(0.0, 1.0),
        lambda: LennardJones(1.0, 1.0, np.nan),
    ],
)
def test_forces_check_their_parameters(make: Any) -> None:
    with pytest.raises(InvalidArgument, match="must be positive"):
        make()


def test_no_particles_no_steps() -> None:
    assert brownian(TABLE, np.zeros((0, 3)), **RUN).shape == (4, 0, 3)
    assert brownian(TABLE, X, **RUN | {"steps": 0}).shape == (1, 5, 3)
    assert brownian(TABLE, np.zeros((0, 5, 3)), **RUN).shape == (0, 4, 5, 3)
    alone = brownian(TABLE, X[:1], **RUN, forces=FORCES, cell=CELL)
    assert alone.shape == (4, 1, 3)
