"""Where results go: arrays of the caller's; and boxes that come with Atoms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ase
import numpy as np
import pytest
from devices import device_named
from mlcore.dynamics import Harmonic, LennardJones, brownian, force_field, system_forces, verlet
from mlcore.errors import InvalidArgument
from mlcore.mobility import RPY

torch = pytest.importorskip("torch")
X = np.array([[0.5, 0.5, 0.5], [1.7, 0.5, 0.5], [0.5, 2.0, 0.5], [3.5, 3.4, 3.3]])
V = 0.1 * np.random.default_rng(0).standard_normal(X.shape)
PAIRS = LennardJones(1.0, 1.0, 2.5)
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])

# An array of the shape of out, and what fills it, by x.
CALLS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "brownian": (
        (3, 4, 3),
        lambda x, **o: brownian(RPY(0.4, 1.0), x, dt=1e-3, kT=1.0, steps=4, every=2, **o),
    ),
    "force_field": ((4, 3), lambda x, **o: force_field([PAIRS, Harmonic(1.0)], x, **o)[1]),
    "system_forces": ((4, 3), lambda x, **o: system_forces([PAIRS, Harmonic(1.0)], x, **o)[1]),
}


@DEVICES
@pytest.mark.parametrize("name", CALLS)
def test_results_go_where_they_are_wanted(name: str, device: str) -> None:
    there = device_named(device)
    shape, call = CALLS[name]
    want = there.get(call(there.put(X)))
    out = there.put(np.full(shape, np.nan))
    assert call(there.put(X), out=out) is out
    assert np.array_equal(there.get(out), want)
    if name != "force_field":
        batch = there.put(np.full((2, *shape), np.nan))
        assert call(there.put(np.stack([X, X + 0.1])), out=batch) is batch
        assert np.array_equal(there.get(batch)[0], want)


@pytest.mark.parametrize("name", CALLS)
def test_tensors_are_written_to(name: str) -> None:
    shape, call = CALLS[name]
    out = torch.full(shape, np.nan, dtype=torch.float64)
    assert call(torch.from_numpy(X), out=out) is out
    assert np.array_equal(out.numpy(), call(X))


def wrong_outputs(shape: tuple[int, ...]) -> list[tuple[Any, str]]:
    locked = np.empty(shape)
    locked.flags.writeable = False
    return [
        (np.empty(shape[1:]), "must have the shape"),
        (np.empty((1, *shape)), "must have the shape"),
        (np.empty(shape, np.float32), "must be C-contiguous float64, got float32"),
        (np.empty(shape, np.int64), "must be C-contiguous float64, got int64"),
        (np.empty((*shape, 2))[..., 0], "not C-contiguous"),
        (torch.empty(shape, dtype=torch.float64), "of the kind of"),
        (locked, "must be writeable"),
        (np.empty(shape).tolist(), "must be an array, got list"),
    ]


@pytest.mark.parametrize("name", CALLS)
def test_wrong_outputs_are_told(name: str) -> None:
    shape, call = CALLS[name]
    for out, what in wrong_outputs(shape):
        with pytest.raises(InvalidArgument, match=rf"out.*{what}"):
            call(X, out=out)
    memory = np.zeros(X.size + int(np.prod(shape)))
    memory[: X.size] = X.ravel()
    for first in (0, X.size - 1):
        out = memory[first:][: np.prod(shape)].reshape(shape)
        with pytest.raises(InvalidArgument, match="out and x0? share memory"):
            call(memory[: X.size].reshape(X.shape), out=out)
    assert np.array_equal(memory[: X.size].reshape(X.shape), X)
    apart = memory[X.size :].reshape(shape)
    call(memory[: X.size].reshape(X.shape), out=apart)
    assert np.array_equal(apart, call(X))


def test_centres_may_lie_in_out() -> None:
    centres = X + 0.1
    want = force_field(Harmonic(1.0, centres), X)[1]
    out = centres.copy()
    assert np.array_equal(force_field(Harmonic(1.0, out), X, out=out)[1], want)


RUN: dict[str, Any] = {"forces": PAIRS, "dt": 1e-3, "steps": 4, "every": 2}


def arrays(lead: tuple[int, ...]) -> list[np.ndarray]:
    return [np.full((*lead, 3, *rest), np.nan) for rest in ((4, 3), (4, 3), (2,))]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_runs_go_where_they_are_wanted(kind: str, batched: bool) -> None:
    made = (lambda a: a) if kind == "numpy" else torch.from_numpy
    x, v = (np.stack([a, a + 0.05]) if batched else a for a in (X, V))
    want = verlet(x, v, **RUN)
    out = [made(array) for array in arrays((2,) if batched else ())]
    run = verlet(made(x), made(v), out=tuple(out), **RUN)
    assert run.positions is out[0] and run.velocities is out[1]
    for got, expected in (
        (out[0], want.positions),
        (out[1], want.velocities),
        (out[2][..., 0], want.potential),
        (out[2][..., 1], want.kinetic),
        (run.potential, want.potential),
        (run.kinetic, want.kinetic),
    ):
        assert np.array_equal(np.asarray(got), expected)
    some = [made(array) for array in arrays((2,) if batched else ())]
    run = verlet(made(x), made(v), out=[None, some[1]], **RUN)
    assert run.velocities is some[1]
    assert np.array_equal(np.asarray(run.positions), want.positions)
    assert np.array_equal(np.asarray(run.kinetic), want.kinetic)
    run = verlet(made(x), made(v), out=some[:2], energies=False, **RUN)
    assert run.positions is some[0] and run.potential is None
    assert np.array_equal(np.asarray(run.positions), want.positions)


def test_wrong_outputs_of_runs_are_told() -> None:
    for k, name in enumerate(("positions", "velocities", "energies")):
        for wrong, what in wrong_outputs(arrays(())[k].shape):
            out: list[Any] = list(arrays(()))
            out[k] = wrong
            with pytest.raises(InvalidArgument, match=rf"out for {name}.*{what}"):
                verlet(X, V, out=out, **RUN)
    for bad in (np.empty((2, 3, 4, 3)), 3, arrays(())[:1], [*arrays(()), None], "ab"):
        with pytest.raises(InvalidArgument, match=r"out"):
            verlet(X, V, out=bad, **RUN)
    with pytest.raises(InvalidArgument, match=r"out must be the arrays \(positions, velocities\)"):
        verlet(X, V, out=arrays(()), energies=False, **RUN)
    first, second, _ = arrays(())
    with pytest.raises(InvalidArgument, match="share memory"):
        verlet(X, V, out=(first, first), **RUN)
    for name in ("x0", "v0"):
        first[0] = X
        inputs = {"x0": X, "v0": V} | {name: first[0]}
        with pytest.raises(InvalidArgument, match=f"out and {name} share memory"):
            verlet(**inputs, out=(second, first), **RUN)
    second[...] = 1
    with pytest.raises(InvalidArgument, match="out and mass share memory"):
        verlet(X, V, mass=second.reshape(-1)[:4], out=(first, second), **RUN)


def test_boxes_come_with_atoms() -> None:
    cube = ase.Atoms("Ar4", positions=X, cell=[4.3] * 3, pbc=True)
    cube.set_masses(np.ones(4))
    want = verlet(X, box=4.3, **RUN)
    near = verlet(X, **RUN)
    assert not np.array_equal(want.positions, near.positions)
    assert np.array_equal(verlet(cube, **RUN).positions, want.positions)
    energy, forces = system_forces(PAIRS, X, box=4.3)
    assert energy == system_forces(PAIRS, cube)[0] != system_forces(PAIRS, X)[0]
    assert np.array_equal(system_forces(PAIRS, cube)[1], forces)
    assert isinstance(system_forces(PAIRS, cube)[1], np.ndarray)
    assert system_forces(PAIRS, cube, box=4.6)[0] == system_forces(PAIRS, X, box=4.6)[0]
    cube.pbc = False
    assert np.array_equal(verlet(cube, **RUN).positions, near.positions)
    assert system_forces(PAIRS, cube)[0] == system_forces(PAIRS, X)[0]
    for cell, pbc in (
        ([4.3, 4.3, 4.4], True),
        ([4.3] * 3, (True, True, False)),
        ([[4.3, 0, 0], [0.1, 4.3, 0], [0, 0, 4.3]], True),
    ):
        atoms = ase.Atoms("Ar4", positions=X, cell=cell, pbc=pbc)
        with pytest.raises(InvalidArgument, match="x0 must be Atoms in open space or in a cube"):
            verlet(atoms, **RUN)
        with pytest.raises(InvalidArgument, match="x must be Atoms in open space or in a cube"):
            system_forces(PAIRS, atoms)
    skewed = ase.Atoms("Ar4", positions=X, cell=[[5, 0, 0], [1, 5, 0], [0, 0, 6]], pbc=True)
    energy, forces = force_field(PAIRS, X, skewed.cell, True)
    assert force_field(PAIRS, skewed)[0] == energy
    assert np.array_equal(force_field(PAIRS, skewed)[1], forces)
