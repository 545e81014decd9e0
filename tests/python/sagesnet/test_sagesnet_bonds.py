"""Learned bonds: forces of an energy, steps that keep what mechanics keeps, Tersoff's graphene."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import graphene, molecule
from ase.neighborlist import neighbor_list
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AtomCells, AtomGrid, AtomState, Run, SagesNet, Scales, match_steps
from mlcore.sagesnet.atoms.bonds import Bonds, neighbours
from mlcore.sagesnet.atoms.thermostat import Thermostat
from mlcore.training import TrainingOptions
from scipy.spatial.transform import Rotation

STEP = 10.0


def _sheet(noise: float = 0.1, seed: int = 0, kinds: tuple[int, ...] = (6,)) -> AtomState:
    """Graphene of 60 atoms, disturbed."""
    random = np.random.default_rng(seed)
    atoms = graphene(size=(5, 6, 1), vacuum=8.0)
    cell = np.diag([5 * 2.46, 6 * 2.46 * math.sqrt(3) / 2, 16.0])
    fractions = atoms.get_scaled_positions()
    # the oblique box as one along the axes: rows of its second vector turned back
    x = fractions @ atoms.cell.array
    x[:, 0] %= cell[0, 0]
    x += noise * random.standard_normal(x.shape)
    atoms.set_cell(cell)
    atoms.pbc = True
    grid = AtomGrid.over(atoms)
    numbers = random.choice(kinds, len(x))
    return AtomState.from_arrays(grid, numbers, x, 0.005 * random.standard_normal(x.shape))


def _random(elements: int = 1, seed: int = 0, scale: float = 0.02) -> Bonds:
    torch.manual_seed(seed)
    bonds = Bonds(elements).double()
    torch.nn.init.normal_(bonds.weight, std=scale)
    return bonds


@pytest.mark.parametrize("elements", [1, 2])
def test_forces_are_slopes_of_the_energy(elements: int) -> None:
    bonds = _random(elements)
    state = _sheet(kinds=(6, 1)[:elements])
    near = neighbours(state, bonds.reach + 0.1)
    species = (state.numbers == 1).long()
    forces = bonds.forces(near, species).detach()

    def energy(shift: torch.Tensor) -> float:
        return bonds.energies(near, species, shift).sum().item()

    for atom, axis in ((0, 0), (17, 1), (41, 2)):
        shift = torch.zeros(len(state), 3, dtype=torch.float64)
        shift[atom, axis] = 1e-5
        slope = (energy(shift) - energy(-shift)) / 2e-5
        assert float(forces[atom, axis]) == pytest.approx(-slope, rel=1e-6, abs=1e-7)
    assert forces.sum(dim=0).abs().max() < 1e-10
    assert forces.abs().max() > 0.1


def test_turns_shifts_and_names_change_nothing() -> None:
    """A molecule turned at will; its atoms in another order."""
    bonds, body = _random(2), molecule("C6H6")
    body.rattle(0.05, seed=3)
    body.set_cell([20.0, 20.0, 20.0])
    body.center()

    def told(atoms: object) -> tuple[float, np.ndarray]:
        state = AtomState.of(atoms, AtomGrid.over(atoms))  # type: ignore[arg-type]
        near = neighbours(state, bonds.reach)
        species = (state.numbers == 1).long()
        energy = bonds.energies(near, species).sum().item()
        return energy, bonds.forces(near, species).detach().numpy()

    energy, forces = told(body)
    # offsets within a cell are single precision: 1e-7 of 2 A
    turn = Rotation.random(random_state=1).as_matrix()
    other = body.copy()
    other.positions = (body.positions - 10) @ turn.T + 10.3
    turned_energy, turned = told(other)
    assert turned_energy == pytest.approx(energy, rel=1e-5)
    np.testing.assert_allclose(turned, forces @ turn.T, atol=1e-4 * np.abs(forces).max())
    order = np.random.default_rng(0).permutation(len(body))
    same_energy, same = told(body[order])
    assert same_energy == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(same, forces[order], atol=1e-10)
    torque = np.cross(body.positions, forces).sum(axis=0)
    assert np.abs(torque).max() < 1e-4 * np.abs(forces).max()


def test_bonds_end_without_a_jump() -> None:
    bonds, grid = _random(), AtomGrid(((20.0, 0, 0), (0, 20.0, 0), (0, 0, 20.0)), (10, 10, 10))
    energies = []
    for far in (2.0999, 2.1001):
        x = [[5.0, 5, 5], [5.0 + far, 5, 5], [5.0, 6.4, 5]]
        state = AtomState.from_arrays(grid, [6, 6, 6], x)
        near = neighbours(state, 2.5)
        energies.append(bonds.energies(near, torch.zeros(3, dtype=torch.int64)).sum())
    assert abs(float(energies[0] - energies[1])) < 1e-7
    alone = AtomState.from_arrays(grid, [6], [[5.0, 5, 5]])
    near = neighbours(alone, 2.5)
    assert float(bonds.energies(near, torch.zeros(1, dtype=torch.int64)).sum()) == 0.0


def test_systems_of_a_batch_do_not_feel_each_other() -> None:
    first, second = _sheet(seed=1), _sheet(seed=2)
    torch.manual_seed(0)
    cells = AtomCells((6,), STEP, kicks=2, correction=False)
    assert cells.bonds is not None
    torch.nn.init.normal_(cells.bonds.weight, std=0.01)
    both = AtomState.stack([first, second])
    torch.testing.assert_close(
        cells.energy(both), torch.cat([cells.energy(s) for s in (first, second)])
    )
    shuffled = both.take(torch.randperm(len(both), generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(
        both.matched(replace(shuffled, velocity=cells.forces(shuffled))).velocity,
        torch.cat([cells.forces(s) for s in (first, second)]),
        atol=1e-5,
        rtol=1e-4,
    )


def test_nothing_and_a_slanted_box() -> None:
    grid = AtomGrid(((12.0, 0, 0), (4.0, 11.0, 0), (2.0, 3.0, 13.0)), (6, 6, 6))
    torch.manual_seed(0)
    cells = AtomCells((6,), STEP, kicks=2, correction=False)
    assert cells.bonds is not None
    torch.nn.init.normal_(cells.bonds.weight, std=0.01)
    nothing = AtomState.from_arrays(grid, [], np.zeros((0, 3)))
    assert len(SagesNet(cells).rollout(nothing, 2).states[-1]) == 0
    assert float(cells.energy(nothing)) == 0 and cells.forces(nothing).shape == (0, 3)
    with pytest.raises(InvalidArgument, match="within reach"):
        cells.whiten([nothing])
    x = np.random.default_rng(0).random((60, 3)) @ grid.matrix
    state = AtomState.from_arrays(grid, [6] * 60, x)
    near = neighbours(state, 3.0)
    atoms = Atoms("C60", state.positions().numpy(), cell=grid.matrix, pbc=True)
    assert int((near.ways.norm(dim=-1) < 3).sum()) == len(neighbor_list("i", atoms, 3.0))
    assert cells.forces(state).sum(dim=0).abs().max() < 1e-5


def test_no_bonds_no_kicks() -> None:
    with pytest.raises(InvalidArgument, match="no bonds"):
        AtomCells((6,)).forces(_sheet())
    with pytest.raises(InvalidArgument, match="kicks"):
        AtomCells((6,), kicks=-1)
    with pytest.raises(InvalidArgument, match="correction"):
        AtomCells((6,), kicks=1, correction=False, variance=True)
    with pytest.raises(InvalidArgument, match="functions"):
        AtomCells((1, 6, 8), kicks=1).whiten([_sheet()])
    with pytest.raises(InvalidArgument, match="states"):
        AtomCells((6,), kicks=1, radial=2, order=1, turns=1).whiten([])
    for name, wrong in (
        ("reach", 0.0),
        ("radial", 0),
        ("order", 0),
        ("turns", 1.5),
        ("inner", 2.5),
    ):
        with pytest.raises(InvalidArgument, match=name):
            AtomCells((6,), kicks=1, **{name: wrong})  # type: ignore[arg-type]


def test_thermostat_warms_to_its_temperature() -> None:
    """Fluctuation and dissipation: any start ends with k_B T / m in each direction."""
    state = _sheet()
    masses = torch.full((4000,), 12.011)
    warm = Thermostat(300.0, 50.0, seed=3)
    velocity = torch.zeros(4000, 3)
    for _ in range(60):
        velocity = warm(velocity, masses, STEP)
    expected = 8.314462618e-7 * 300 / 12.011
    # of 12,000 squares the mean is known to 1.3 %
    assert float(velocity.square().mean()) == pytest.approx(expected, rel=0.065)
    cold = Thermostat(0.0, 50.0)
    slower = cold(velocity, masses, STEP)
    torch.testing.assert_close(slower, velocity * math.exp(-0.2))
    cells = AtomCells((6,), STEP, kicks=1, correction=False)
    cells.thermostat = Thermostat(0.0, 10.0)
    net = SagesNet(cells)
    assert net.step(state).velocity.norm() < 0.4 * state.velocity.norm()
    for wrong in ({"temperature": -1.0, "damping": 1.0}, {"temperature": 1.0, "damping": 0.0}):
        with pytest.raises(InvalidArgument):
            Thermostat(**wrong)


@pytest.fixture(scope="module")
def runs(tersoff: Callable[..., list[list[AtomState]]]) -> list[list[AtomState]]:
    """Frames 10 fs apart of three runs of Tersoff's graphene without a thermostat."""
    return tersoff(range(21, 24), 400, False)


def _parts(net: SagesNet[AtomState], run: list[AtomState]) -> float:
    """Error of velocities a step later, in parts of that of constant velocity."""
    sums = torch.zeros(2, dtype=torch.float64)
    for now, later in pairwise(run):
        errors = (net.step(now).velocity - later.velocity, now.velocity - later.velocity)
        sums += torch.stack([e.double().square().sum() for e in errors]).detach()
    wrong, base = sums.sqrt().tolist()
    return float(wrong / base)


def test_tersoff_is_learned_from_frames(runs: list[list[AtomState]], tmp_path: Path) -> None:
    """Steps of 10 fs of a sheet that was not seen; then a rollout at constant energy."""
    *known, unseen = runs
    torch.manual_seed(0)
    cells = AtomCells(
        ("C",),
        STEP,
        scales=Scales.of(known, STEP),
        limit=40.0,
        kicks=8,
        correction=False,
    )
    net: SagesNet[AtomState] = SagesNet(cells)
    assert _parts(net, unseen[:11]) == pytest.approx(1.0, abs=1e-6)
    match_steps(cells, [pair for run in known for pair in pairwise(run)][::2])
    begin = _parts(net, unseen)
    options = TrainingOptions(epochs=4, learning_rate=2e-4, batch_size=2, clip=3.0, patience=None)
    net.fit([Run(run) for run in known], options=options)
    part = _parts(net, unseen)
    print(f"of constant velocity: {part:.3f}, by least squares {begin:.3f}")
    assert part < begin < 0.2

    def total(state: AtomState) -> float:
        kinetic = 0.5 * 12.011 / 9.648533212e-3 * state.velocity.double().square().sum()
        return float(kinetic) + float(cells.energy(state))

    start = unseen[0]
    with torch.no_grad():
        rollout = net.rollout(start, 200, record=10)
    heat = 1.5 * len(start) * 8.617333e-5 * 300
    drift = max(abs(total(state) - total(start)) for state in rollout.states)
    print(f"energy within {drift / heat:.3f} of the heat")
    assert drift < 0.1 * heat
    last = rollout.states[-1].velocity.double().sum(dim=0)
    torch.testing.assert_close(last, start.velocity.double().sum(dim=0), atol=1e-5, rtol=0)
    net.save(tmp_path / "net")
    again = SagesNet.load(tmp_path / "net")
    assert torch.equal(again.step(start).velocity, net.step(start).velocity)
