"""The 48 turns of a grid, of what is in its cells, and of what nets make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import (
    AtomGrid,
    AtomState,
    AutomatonCells,
    DenseLattice,
    Level,
    Predictor,
    Run,
    SagesNet,
    Symmetry,
    octahedral,
)
from mlcore.sagesnet.atoms.turned import turned
from mlcore.sagesnet.symmetry import averaged, orbits, spread
from mlcore.training.options import TrainingOptions

EVERY = octahedral()


def test_there_are_48_and_they_are_a_group() -> None:
    assert len({turn.matrix.numpy().tobytes() for turn in EVERY}) == 48
    assert EVERY[0].matrix.equal(torch.eye(3, dtype=torch.int64))
    for a in EVERY[::7]:
        assert a @ a.inverse == EVERY[0]
        assert {a @ b for b in EVERY} == set(EVERY)
    assert sum(int(torch.det(t.matrix.double()).round()) for t in EVERY) == 0
    assert [len(octahedral(box)) for box in ((4, 4, 4), (4, 4, 2), (4, 3, 2))] == [48, 16, 8]


@pytest.mark.parametrize("turn", EVERY)
def test_cells_and_vectors_go_where_the_matrix_says(turn: Symmetry) -> None:
    extents = (2, 3, 4)
    x = torch.cartesian_prod(*(torch.arange(n) for n in extents)).reshape(1, *extents, 3)
    middle = (torch.tensor(extents) - 1) / 2
    field = torch.cat([x - middle, torch.ones(1, *extents, 1)], dim=-1)  # vectors from the middle
    there = turn.field(field, vectors=[(0, 1, 2)])
    box = turn.extents(extents)
    y = torch.cartesian_prod(*(torch.arange(n) for n in box)).reshape(1, *box, 3)
    assert torch.equal(there[..., :3], y - (torch.tensor(box) - 1) / 2)
    assert torch.equal(turn.vectors(field[..., :3]), field[..., :3] @ turn.matrix.T.float())
    assert torch.equal(turn.inverse.field(there, [(0, 1, 2)]), field)
    other = EVERY[17]
    both = (other @ turn).field(field, [(0, 1, 2)])
    assert torch.equal(both, other.field(there, [(0, 1, 2)]))


@pytest.mark.parametrize("turn", EVERY[::5])
def test_a_turned_kernel_does_to_turned_fields_what_it_did(turn: Symmetry) -> None:
    torch.manual_seed(0)
    values, weight = torch.randn(1, 3, 4, 5, 2), torch.randn(2, 3, 5, 5, 5)
    before = DenseLattice((3, 4, 5)).scatter(values, weight)
    after = DenseLattice(turn.extents((3, 4, 5))).scatter(turn.field(values), turn.kernel(weight))
    assert torch.allclose(turn.field(before), after, atol=1e-5)


@pytest.mark.parametrize(("kernel", "kinds"), [(3, 4), (5, 10)])
def test_shared_weights_make_predictors_symmetric(kernel: int, kinds: int) -> None:
    torch.manual_seed(1)
    orbit, count = orbits(kernel)
    assert count == kinds and all(torch.equal(t.kernel(orbit), orbit) for t in EVERY)
    for symmetric in (True, False):
        net = Predictor(3, layers=2, width=4, kernel=kernel, symmetric=symmetric)
        for layer in net.layers:
            torch.nn.init.normal_(layer.update.weight)  # type: ignore[union-attr, arg-type]
        h, worst = torch.randn(1, 4, 5, 6, 3), 0.0
        with torch.no_grad():
            there = net(h, DenseLattice((4, 5, 6)))
            for turn in EVERY:
                lattice = DenseLattice(turn.extents((4, 5, 6)))
                off = net(turn.field(h), lattice) - turn.field(there)
                worst = max(worst, float(off.abs().max() / there.abs().max()))
        assert worst < 1e-5 if symmetric else worst > 0.1


def test_averages_are_symmetric_with_vectors_too() -> None:
    torch.manual_seed(2)
    net = Predictor(4, width=8)
    torch.nn.init.normal_(net.layers[0].update.weight)  # type: ignore[union-attr, arg-type]
    lattice, vectors = DenseLattice((4, 4, 4)), [(0, 1, 2)]
    field = torch.randn(1, 4, 4, 4, 4)
    mean = averaged(lambda h: net(h, lattice), vectors=vectors)
    assert spread(mean, field, vectors=vectors) < 1e-5
    assert spread(lambda h: net(h, lattice), field, vectors=vectors) > 0.1


@pytest.mark.parametrize("turn", EVERY[::3])
def test_atoms_turn_with_their_velocities(turn: Symmetry) -> None:
    rng = np.random.default_rng(4)
    box = np.array([6.0, 8.0, 4.0])
    atoms = Atoms("C12", positions=rng.uniform(0, 1, (12, 3)) * box, cell=box, pbc=(1, 1, 0))
    atoms.positions[0] = [0, 2, 2]  # on faces of cells
    atoms.positions[1, 0] += 3 * box[0]
    atoms.set_velocities(rng.normal(size=(12, 3)))
    state = AtomState.of(atoms, AtomGrid.over(atoms, edge=2.0, slots=8))
    there = turned(state, turn)
    matrix = turn.matrix.double()
    expected = (state.positions() - torch.tensor(box) / 2) @ matrix.T
    now = torch.tensor(box)[list(turn.axes)]
    assert torch.allclose(there.positions(), expected + now / 2, atol=1e-6)
    assert torch.equal(there.velocity, turn.vectors(state.velocity))
    assert bool((there.offset < 0.5).all()) and bool((there.offset >= -0.5).all())
    assert bool((there.cell >= 0).all())
    assert there.grid.pbc == tuple(state.grid.pbc[axis] for axis in turn.axes)
    back = turned(there, turn.inverse)
    assert back.grid == state.grid
    assert torch.allclose(back.positions(), state.positions(), atol=1e-6)


def test_boxes_that_cannot_turn_are_told() -> None:
    cell = [[4.0, 0, 0], [1.0, 4.0, 0], [0, 0, 4.0]]
    atoms = Atoms("C", positions=[[1.0, 1, 1]], cell=cell, pbc=True)
    with pytest.raises(InvalidArgument, match="along the axes"):
        turned(AtomState.of(atoms, AtomGrid.over(atoms)), EVERY[5])


def _wind(h: torch.Tensor) -> torch.Tensor:
    """Everything moves one cell along x."""
    return h.roll(1, dims=1)


def test_turned_runs_are_learned_from() -> None:
    """A rule with a direction, which runs turned every way do not tell."""
    torch.manual_seed(5)
    states = [torch.randint(0, 2, (1, 6, 6, 6))]
    for _ in range(3):
        states.append(_wind(states[-1]))
    losses = []
    for symmetry in ((), octahedral((6, 6, 6))):
        torch.manual_seed(6)
        net: SagesNet[torch.Tensor] = SagesNet(AutomatonCells(channels=4), [Level(width=8)])
        options = TrainingOptions(epochs=80, batch_size=None, learning_rate=0.03, seed=0)
        net.fit([Run(states, symmetry=symmetry)], options=options)
        with torch.no_grad():
            grid = net.predict(net.encode([states[0]]))
            losses.append(float(net.cells.loss(grid.h, grid.lattice, states[0], states[1])))
    assert losses[0] < 0.2 and losses[1] > 2 * losses[0]


def test_vectors_of_the_environment_turn_with_a_run() -> None:
    net: SagesNet[torch.Tensor] = SagesNet(AutomatonCells(channels=4), environment="Tuvw")
    wind = torch.tensor([[300.0, 1.0, 2.0, 3.0]])
    state = torch.arange(8).reshape(1, 2, 2, 2)
    turn = Symmetry((2, 0, 1), (1, -1, 1))
    run = Run([state], wind, vectors=[(1, 2, 3)]).turned(net, turn, [state])
    assert run.environment is not None
    assert run.environment.tolist() == [[300.0, 3.0, -1.0, 2.0]]
    assert torch.equal(run.states[0], turn.field(state))
