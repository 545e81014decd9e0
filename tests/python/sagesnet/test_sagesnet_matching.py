"""Bonds by least squares: weights found again, Tersoff's graphene by LAMMPS, what is refused."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import graphene
from mlcore.errors import InvalidArgument
from mlcore.lammps import label
from mlcore.lammps.environment import find_environment
from mlcore.sagesnet import (
    AtomCells,
    AtomGrid,
    AtomState,
    Matching,
    SagesNet,
    Scales,
    match_forces,
    match_steps,
)
from mlcore.sagesnet.atoms.bonds import Bonds, neighbours

STEP = 10.0


def cells(**changed: object) -> AtomCells:
    given = {"kicks": 4, "correction": False, "radial": 2, "order": 2, "turns": 2, "limit": 40.0}
    return AtomCells(("C",), STEP, **(given | changed))  # type: ignore[arg-type]


def sheet(seed: int, driven: bool = False, hot: float = 0.0) -> AtomState:
    random = np.random.default_rng(seed)
    atoms = graphene(size=(3, 4, 1), vacuum=8.0)
    atoms.rattle(0.08, seed=seed)
    grid = AtomGrid.over(Atoms(cell=[30.0, 30.0, 30.0]))
    x = atoms.positions + 8.0
    v = hot * random.standard_normal(x.shape)
    return AtomState.from_arrays(grid, [6] * len(x), x, v, None, (x[:, 0] < 9.0) & driven)


def bonds_of(mine: AtomCells) -> Bonds:
    assert mine.bonds is not None
    return mine.bonds


def wrong_by(mine: AtomCells, other: AtomCells, state: AtomState) -> float:
    truth = other.forces(state)
    return float(((mine.forces(state) - truth).norm() / truth.norm()).detach())


@pytest.fixture(scope="module")
def known() -> AtomCells:
    """Whose weights are to be found."""
    torch.manual_seed(0)
    made = cells()
    made.whiten([sheet(1)])
    made.set_weights(torch.randn(bonds_of(made).weight.numel()))
    return made


def test_weights_are_found_again(known: AtomCells) -> None:
    states = [sheet(k, driven=k == 3) for k in range(2, 8)]
    forces = [known.forces(state).detach().numpy() for state in states]
    # what is driven may be pulled at by anything
    forces[1][~states[1].free.numpy()] += 100.0
    mine = cells()
    told = match_forces(mine, states, forces, ridge=1e-12)
    assert told.part < 1e-4 and float(told.parts.max()) < 1e-4
    assert wrong_by(mine, known, sheet(20)) < 1e-3


def test_weights_alone_add_up(known: AtomCells) -> None:
    state = sheet(2)
    moved = 0.05 * torch.randn((len(state), 3), dtype=torch.float64)
    each = known.forces_of_weights(state, moved)
    together = torch.einsum("c,cnk->nk", bonds_of(known).weight.detach().flatten().double(), each)
    torch.testing.assert_close(together, known.forces(state, moved).detach(), atol=1e-9, rtol=1e-7)
    near = neighbours(state, bonds_of(known).reach + 1.0)
    direct = bonds_of(known).forces(near, torch.zeros(len(state)).int(), moved).detach()
    torch.testing.assert_close(known.forces(state, moved).detach(), direct, atol=1e-10, rtol=1e-9)


def test_equations_may_come_one_by_one(known: AtomCells) -> None:
    """And frames of small forces count as much as others."""
    states = [sheet(k) for k in range(2, 6)]
    forces = [known.forces(state).detach() for state in states]
    mine = cells()
    mine.whiten(states)
    matching = Matching(mine, ridge=1e-12)
    for state, wanted in zip(states[:2], forces[:2], strict=True):
        matching.add_forces(state, wanted)
    matching.solve()
    first = wrong_by(mine, known, sheet(20))
    for state, wanted in zip(states[2:], forces[2:], strict=True):
        matching.add_forces(state, wanted)
    matching.solve()
    assert wrong_by(mine, known, sheet(20)) < min(first, 1e-3)


def test_what_is_refused(known: AtomCells) -> None:
    states = [sheet(2)]
    forces = np.zeros((len(states[0]), 3))
    for given, message in (
        ((known, [], []), "one or more"),
        ((known, states, []), "of each frame"),
        ((known, states, [forces[1:]]), r"forces\[0\] must be of shape"),
        ((known, states, [forces * np.nan]), r"forces\[0\] must be finite"),
        ((AtomCells((6,)), states, [forces]), "no kicks"),
        ((AtomCells((1, 6, 8), kicks=1), states, [forces]), "too many to be matched"),
        ((AtomCells((1,), kicks=1), states, [forces]), r"know nothing of \[6\]"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            match_forces(*given)
    nothing = AtomState.from_arrays(states[0].grid, [], np.zeros((0, 3)))
    with pytest.raises(InvalidArgument, match="within reach"):
        match_forces(cells(), [nothing], [np.zeros((0, 3))])
    with pytest.raises(InvalidArgument, match="ridge"):
        match_forces(known, states, [forces], ridge=0.0)
    with pytest.raises(InvalidArgument, match="nothing|no frame"):
        Matching(known).solve()
    fewer = states[0].take(torch.arange(5))
    with pytest.raises(InvalidArgument):
        match_steps(cells(), [(states[0], fewer)])


@pytest.fixture(scope="module")
def runs(tersoff: Callable[..., list[list[AtomState]]]) -> list[list[AtomState]]:
    return tersoff(range(31, 33), 300, False)


def test_tersoff_is_matched(runs: list[list[AtomState]]) -> None:
    """LAMMPS' own forces of a few frames, on those of another run."""
    known, unseen = runs[0][::6], runs[1][::10]
    potentials = find_environment(torch=False).lammps / "share" / "lammps" / "potentials"

    def truth(states: list[AtomState]) -> list[np.ndarray]:
        atoms = [
            Atoms("C" * len(s), s.positions().numpy(), cell=s.grid.matrix, pbc=s.grid.pbc)
            for s in states
        ]
        told = label(
            atoms, "tersoff", "* * BNC.tersoff C", units="metal", species=["C"], folder=potentials
        )
        return [one.get_forces() for one in told]

    mine = cells(radial=5, order=3, turns=1)
    told = match_forces(mine, known, truth(known))
    forces = truth(unseen)
    parts = [
        float(torch.linalg.norm(mine.forces(state).detach() - torch.as_tensor(force)))
        / np.linalg.norm(force)
        for state, force in zip(unseen, forces, strict=True)
    ]
    print(f"of the forces: learned {told.part:.4f}, unseen {max(parts):.4f}")
    assert max(parts) < 0.03


def test_steps_tell_forces_too(runs: list[list[AtomState]]) -> None:
    """10 fs, half a swing of a bond; no forces are given."""
    known, unseen = list(pairwise(runs[0]))[::2], runs[1]
    mine = cells(radial=3, turns=1, scales=Scales.of([list(pair) for pair in known], STEP))
    told = match_steps(mine, known)
    net: SagesNet[AtomState] = SagesNet(mine)
    errors = np.zeros(2)
    with torch.no_grad():
        for now, later in pairwise(unseen):
            for k, velocity in enumerate((net.step(now).velocity, now.velocity)):
                errors[k] += float((velocity - later.velocity).double().square().sum())
    part = float(np.sqrt(errors[0] / errors[1]))
    print(f"of mean forces {told.part:.3f}, of changes of unseen velocities {part:.3f}")
    assert part < 0.3
