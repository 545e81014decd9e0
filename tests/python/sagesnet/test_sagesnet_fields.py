"""Coarse fields against sums in NumPy, and how near one is to another."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.data import atomic_masses
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AtomGrid, AtomState
from mlcore.sagesnet.fields import Fields, coarse_fields, compared, fields_of, mean_fields


def _frames(steps: int = 6, batch: int = 2, pbc: bool = True) -> list[AtomState]:
    """SiC whose atoms fly on at constant velocity, two systems."""
    systems = []
    for seed in range(batch):
        atoms = bulk("SiC", "zincblende", a=4.36, cubic=True) * (2, 2, 1)
        atoms.pbc = pbc
        atoms.center(vacuum=None if pbc else 2.0)
        grid = AtomGrid.over(atoms, edge=2.2, multiple=2)
        v = np.random.default_rng(seed).normal(0, 0.02, atoms.positions.shape)
        systems.append(AtomState.from_arrays(grid, atoms.numbers, atoms.positions, v))
    states = [AtomState.stack(systems)]
    for _ in range(steps - 1):
        states.append(states[-1].moved(4.0 * states[-1].velocity, states[-1].velocity))
    return states


def _sums(state: AtomState, blocks: tuple[int, int, int]) -> np.ndarray:
    """(B, X, Y, Z, 7) atoms of 6 and 14, momentum, energy, atom by atom from positions."""
    result = np.zeros((state.batch, *blocks, 6))
    inverse = np.linalg.inv(state.grid.matrix)
    for b, z, x, v in zip(
        state.system.tolist(),
        state.numbers.tolist(),
        state.positions().numpy(),
        state.velocity.numpy().astype(float),
        strict=True,
    ):
        part = (x @ inverse) % 1.0
        place = tuple(int(p * n) for p, n in zip(part, blocks, strict=True))
        result[(b, *place, 0 if z == 6 else 1)] += 1
        result[(b, *place)][2:5] += atomic_masses[z] * v
        # u A^2/fs^2 in eV: 1.66053907e-27 kg (1e5 m/s)^2 / 1.602176634e-19 J
        result[(b, *place, 5)] += 0.5 * atomic_masses[z] * (v @ v) * 103.64269
    return result


def _flat(fields: Fields) -> np.ndarray:
    parts = [fields.counts.double(), fields.momentum, fields.kinetic[..., None]]
    return torch.cat(parts, dim=-1).numpy()


@pytest.mark.parametrize("pbc", [True, False])
def test_fields_of_atoms_are_sums_over_the_atoms_of_blocks(pbc: bool) -> None:
    states = _frames(pbc=pbc)
    x, y, z = states[0].grid.extents
    found = coarse_fields(states, space=2, time=3)
    assert len(found) == 2
    for k, one in enumerate(found):
        sums = [_sums(state, (x // 2, y // 2, z // 2)) for state in states[3 * k : 3 * k + 3]]
        assert one.kinds == (6, 14)
        assert np.allclose(_flat(one), np.mean(sums, axis=0), rtol=1e-6, atol=1e-9)
    carbon, silicon = (float(atomic_masses[kind]) for kind in (6, 14))
    mass = found[0].counts[..., 0] * carbon + found[0].counts[..., 1] * silicon
    assert torch.allclose(found[0].mass, mass)


def test_sums_of_blocks_of_blocks_are_those_of_the_system() -> None:
    state = _frames(1)[0]
    fine = fields_of(state)
    assert fine.counts.dtype == torch.int64
    counts, momentum, kinetic = fine.pooled((2, 1, 2)).pooled((1, 2, 1)).totals()
    assert torch.equal(counts, state.counts()[:, [6, 14]])
    assert torch.allclose(momentum, fine.momentum.sum((1, 2, 3)), rtol=1e-12, atol=1e-12)
    assert torch.allclose(kinetic, fine.kinetic.sum((1, 2, 3)), rtol=1e-12)
    energy = sum(atoms.get_kinetic_energy() for atoms in state.atoms())
    assert float(kinetic.sum()) == pytest.approx(energy, rel=1e-6)


def test_fields_of_automata_are_counts_of_states() -> None:
    rng = np.random.default_rng(0)
    states = [rng.integers(0, 3, (2, 4, 6, 8)) for _ in range(4)]
    found = coarse_fields([torch.as_tensor(s) for s in states], (2, 3, 4), 2, kinds=(1, 2))
    for k, one in enumerate(found):
        for kind in (1, 2):
            live = np.mean([s == kind for s in states[2 * k : 2 * k + 2]], axis=0)
            sums = live.reshape(2, 2, 2, 2, 3, 2, 4).sum((2, 4, 6))
            assert np.allclose(one.counts[..., kind - 1].numpy(), sums)
        assert not bool(one.kinetic.any()) and not bool(one.momentum.any())


def test_fields_are_compared_with_the_truth() -> None:
    true = mean_fields([fields_of(state).pooled(2) for state in _frames()])
    same = compared(true, true)
    assert set(same) == {"density", "momentum", "kinetic", "count 6", "count 14"}
    assert all(one.rms == 0 and one.relative == 0 for one in same.values())
    assert same["kinetic"].correlation == pytest.approx(1)
    mean = true.kinetic.mean().expand_as(true.kinetic)
    flat = compared(replace(true, kinetic=mean, momentum=-true.momentum), true)
    assert flat["kinetic"].relative == pytest.approx(1)
    assert math.isnan(flat["kinetic"].correlation)
    assert flat["momentum"].correlation == pytest.approx(-1)
    noise = torch.randn(true.kinetic.shape, generator=torch.Generator().manual_seed(0)).double()
    near = compared(replace(true, kinetic=true.kinetic + 0.1 * noise), true)["kinetic"]
    a, b = (true.kinetic + 0.1 * noise).numpy().ravel(), true.kinetic.numpy().ravel()
    assert near.rms == pytest.approx(np.sqrt(np.mean((a - b) ** 2)))
    assert near.relative == pytest.approx(near.rms / b.std())
    assert near.correlation == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_what_has_no_such_fields_is_named() -> None:
    state = _frames(1)[0]
    with pytest.raises(InvalidArgument, match=r"kinds .* also \[14\]"):
        fields_of(state, [6])
    with pytest.raises(InvalidArgument, match="whole numbers"):
        fields_of(torch.rand(1, 2, 2, 2))
    with pytest.raises(InvalidArgument, match="kinds"):
        fields_of(torch.full((1, 2, 2, 2), 3), [1])
    with pytest.raises(InvalidArgument, match="list"):
        fields_of([1, 2])
    with pytest.raises(InvalidArgument, match="multiples"):
        coarse_fields([state], 3)
    with pytest.raises(InvalidArgument, match="time"):
        coarse_fields([state], 2, 2)
    with pytest.raises(InvalidArgument, match="same blocks"):
        compared(fields_of(state), fields_of(state).pooled(2))
