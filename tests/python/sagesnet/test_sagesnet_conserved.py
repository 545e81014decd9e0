"""Matter on coarse levels: totals stay whatever the weights are, and what is learned moves it rightly."""

from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet import (
    AtomCells,
    AtomGrid,
    AtomState,
    AutomatonCells,
    Grid,
    Level,
    Run,
    SagesNet,
)
from mlcore.sagesnet.atoms.counted import likeliest
from mlcore.sagesnet.conserved import Fluxes, Matter, fit_fluxes
from mlcore.sagesnet.fields import Fields, compared, fields_of, mean_fields
from mlcore.training import TrainingOptions

SPAN = 4
STEP = 10.0


def _gas(seed: int, pbc: tuple[bool, bool, bool] = (True, True, True)) -> AtomState:
    """Atoms of two elements, more of them in one half of a long box, drifting along it."""
    rng = np.random.default_rng(seed)
    n = 240
    drift = rng.choice([-1, 1]) * rng.uniform(0.03, 0.08)
    x = 32 * (rng.random(n) ** 0.5 + rng.random()) % 32
    place = np.column_stack([x, *(0.5 + 7 * rng.random((2, n)))])
    velocity = rng.normal(0, 0.01, (n, 3)) + [drift, 0, 0]
    if not all(pbc):
        place[:, 0], velocity[:, 0] = 10 + 12 * rng.random(n), rng.normal(0, 0.01, n)
        velocity[:, 1:] = 0
    box = Atoms(cell=[32, 8, 8], pbc=pbc)
    grid = AtomGrid.over(box, edge=2.0, slots=16)
    return AtomState.from_arrays(grid, rng.choice([6, 14], n), place, velocity)


def _flown(state: AtomState, steps: int) -> list[AtomState]:
    states = [state]
    for _ in range(steps - 1):
        states.append(states[-1].moved(STEP * states[-1].velocity, states[-1].velocity))
    return states


def _atoms(
    levels: int = 2, dense: bool = False, space: int | tuple[int, int, int] = 2
) -> SagesNet[AtomState]:
    torch.manual_seed(0)
    # weights at random may gather all atoms in one block: it must have slots for them
    scales = (0.03, 0.01, 0.01)
    cells = AtomCells((6, 14), STEP, 8, 16, slots=32, scales=scales, dense=dense)
    coarse = [Level(space=space, time=SPAN, lift_width=16), Level(space=(2, 2, 1), time=2)]
    return SagesNet(cells, [Level(), *coarse[: levels - 1]])


def _random(net: SagesNet, size: float, seed: int = 3) -> None:
    """Weights, and fluxes on all coarse levels, at random: nothing is trained."""
    torch.manual_seed(seed)
    kinds = net.cells.arguments.get("elements", [1, 2])
    for level in range(1, len(net.levels)):
        net.fluxes[str(level)] = Fluxes(net.cells.channels, kinds, 16)
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(size * torch.randn(weight.shape))


def _totals_stay(net: SagesNet, frames: list, level: int, steps: int) -> tuple[int, list[Fields]]:
    """Checks every coarse step, and all states read there; tells how many atoms were elsewhere."""
    run = net.rollout(frames, steps * net.span(level), level=level)
    held = run.conserved
    assert len(held) == steps + 1
    counts, momentum, kinetic = held[0].totals()
    true = fields_of(frames[0], held[0].kinds).totals()[0]
    assert torch.equal(counts, true)
    means = mean_fields([fields_of(state, held[0].kinds) for state in frames[: net.span(level)]])
    moved = 0
    for before, now in pairwise(held):
        totals = now.totals()
        assert now.counts.dtype == torch.int64 and int(now.counts.min()) >= 0
        assert float(now.kinetic.min()) >= 0
        assert torch.equal(totals[0], counts)
        size = float(now.momentum.abs().sum()) + 1.0
        assert float((totals[1] - means.totals()[1]).abs().max()) < 1e-12 * size
        assert torch.allclose(totals[2], kinetic, rtol=1e-12, atol=1e-12)
        moved += int((now.counts != before.counts).sum())
    if isinstance(frames[0], AtomState):
        for state, now in zip(run.states, held, strict=True):
            assert torch.equal(_read(net, state, now, level), now.counts)
    return moved, held


def _read(net: SagesNet, state: AtomState, held: Fields, level: int) -> torch.Tensor:
    """Atoms of each element in every coarse cell of a state."""
    space = np.prod([net.lift(one).space for one in range(1, level + 1)], axis=0).tolist()
    x, y, z = (n * k for n, k in zip(held.extents, space, strict=True))
    return fields_of(state, held.kinds, (x, y, z)).pooled(space).counts


@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("level", [1, 2])
def test_totals_stay_whatever_the_weights_are(size: float, level: int) -> None:
    """Atoms, momentum and energy of rollouts on coarse levels, three levels, two systems."""
    net = _atoms(3)
    _random(net, size)
    state = AtomState.stack([_gas(0), _gas(1)])
    moved, _ = _totals_stay(net, _flown(state, 2 * SPAN), level, 40)
    assert moved > 40


@pytest.mark.parametrize("dense", [False, True])
def test_nothing_leaves_an_open_box(dense: bool) -> None:
    """Along an axis that is not periodic the lattice has a margin, where nothing may come to."""
    net = _atoms(2, dense)
    _random(net, 1.0)
    state = _gas(0, (False, True, True))
    net.fluxes["1"].scale.fill_(5.0)  # type: ignore[union-attr, operator]
    moved, held = _totals_stay(net, _flown(state, SPAN), 1, 30)
    assert moved > 30
    assert held[0].extents[0] > 32 // 4
    for one in held:
        assert not bool(one.counts[:, 8:].any()) and not bool(one.momentum[:, 8:].any())


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
@pytest.mark.parametrize("extents", [(4, 6, 8), (1, 4, 16), (2, 2, 2)])
def test_counts_of_automata_stay(boundary: str, extents: tuple[int, int, int]) -> None:
    space = tuple(2 if n > 1 else 1 for n in extents)
    torch.manual_seed(0)
    net = SagesNet(AutomatonCells(3, 6, boundary), [Level(), Level(space=space, time=2)])
    _random(net, 1.0)
    net.fluxes["1"].scale.fill_(3.0)  # type: ignore[union-attr, operator]
    rng = np.random.default_rng(0)
    frames = [torch.as_tensor(rng.integers(0, 3, (2, *extents))) for _ in range(2)]
    moved, _ = _totals_stay(net, frames, 1, 30)
    # a single coarse cell has nowhere to give to
    assert moved > 0 or extents == (2, 2, 2)


def test_what_one_cell_gives_the_other_gets() -> None:
    """The flux seen from the other side is its negative, to the bit."""
    torch.manual_seed(1)
    fluxes = Fluxes(8, [6, 14])
    for weight in fluxes.parameters():
        torch.nn.init.normal_(weight)
    one, other = torch.randn(2, 500, 2 * 8 + 6)
    way = torch.eye(3)[torch.randint(3, (500,))] * torch.randint(0, 2, (500, 1)).mul(2).sub(1)
    there, back = fluxes.between(one, other, way), fluxes.between(other, one, -way)
    assert torch.equal(there, -back) and float(there.detach().abs().max()) > 0.1
    assert not bool(fluxes.between(one, one, way).isnan().any())


def _matter(counts: list[int], kinetic: float = 0.0) -> Matter:
    row = torch.tensor(counts).reshape(1, -1, 1, 1, 1)
    none = torch.zeros(row.shape[:4], dtype=torch.float64)
    fields = Fields((6,), (12.0,), row, none[..., None].expand(*none.shape, 3), none + kinetic)
    left = torch.zeros(*none.shape, 3, 1, dtype=torch.float64)
    return Matter(fields, fields.extents, (False, False, False), left)


def test_a_cell_gives_no_more_than_it_has() -> None:
    """Both neighbours want all five atoms of the middle one: they get two each."""
    wanted = torch.zeros(1, 3, 1, 1, 3, 5, dtype=torch.float64)
    wanted[0, 0, 0, 0, 0, 0], wanted[0, 1, 0, 0, 0, 0] = -9.0, 9.0
    wanted[0, 0, 0, 0, 0, 4], wanted[0, 1, 0, 0, 0, 4] = -9.0, 9.0
    after = _matter([0, 5, 1], 2.0).moved(wanted).fields
    assert after.counts.flatten().tolist() == [2, 1, 3]
    assert after.kinetic.flatten().tolist() == pytest.approx([3.0, 0.0, 3.0], abs=1e-9)
    assert float(after.kinetic.min()) >= 0


def test_parts_of_atoms_are_kept_until_they_are_one() -> None:
    matter = _matter([50, 0])
    wanted = torch.zeros(1, 2, 1, 1, 3, 5, dtype=torch.float64)
    wanted[0, 0, 0, 0, 0, 0] = 0.3
    # the last cell has no next one
    wanted[0, 1] = 7.0
    arrived = []
    for _ in range(100):
        matter = matter.moved(wanted)
        arrived.append(int(matter.fields.counts[0, 1]))
    assert max(abs(n - 0.3 * (k + 1)) for k, n in enumerate(arrived)) <= 0.5 + 1e-9


def _carbon(slots: int) -> tuple[SagesNet[AtomState], Grid]:
    """Two levels of one element with weights at random, and codes of two systems."""
    torch.manual_seed(2)
    cells = AtomCells((6,), STEP, 8, 16, slots=slots)
    net = SagesNet(cells, [Level(), Level(space=2, time=SPAN)])
    with torch.no_grad():
        for weight in net.parameters():
            weight.copy_(torch.randn(weight.shape))
    rng = np.random.default_rng(1)
    box = AtomGrid.over(Atoms(cell=[16, 8, 8], pbc=True), edge=2.0, slots=4)
    places = 1 + rng.random((2, 30, 3)) * [4, 6, 6]
    one, two = (AtomState.from_arrays(box, np.full(30, 6), x) for x in places)
    return net, net.encode([AtomState.stack([one, two])] * SPAN, 1)


def test_as_many_as_are_read_anyway_are_the_same_atoms() -> None:
    net, grid = _carbon(4)
    h, lattice = net.lift(1).down(grid.h, grid.lattices[0])[0], grid.lattices[0]
    free = net.cells.read(h, lattice)
    found = net.cells.counted(h, lattice, fields_of(free, (6,)).pooled(2).counts)
    assert 40 < len(free) == len(found)
    for name in ("numbers", "ids", "system", "cell", "offset", "velocity"):
        assert torch.equal(getattr(free, name), getattr(found, name)), name


def test_one_atom_more_or_less_is_the_likeliest_one() -> None:
    """Beside all choices of the slots of a block, by the probability of the whole."""
    torch.manual_seed(4)
    logits = torch.randn(6, 2, 2)
    logs = logits.log_softmax(dim=-1)
    block = torch.tensor([0, 1, 0, -1, 1, 0])
    for wanted in ([0, 0], [2, 1], [3, 4], [6, 2]):
        kind = likeliest(logits, block, torch.tensor(wanted)[:, None])
        assert not bool(kind[3].any())
        for number, count in enumerate(wanted):
            rows = logs[block == number].flatten(0, 1)
            every = combinations(range(len(rows)), count)
            best = max(every, key=lambda c: float((rows[list(c), 1] - rows[list(c), 0]).sum()))
            filled = torch.nonzero(kind[block == number].flatten()).flatten()
            assert filled.tolist() == sorted(best)


def test_atoms_come_to_cells_that_are_not_computed() -> None:
    """Far from all atoms of the begin no vectors are; what a cell holds by count is read still."""
    net, grid = _carbon(4)
    h, lattice = net.lift(1).down(grid.h, grid.lattices[0])[0], grid.lattices[0]
    counts = torch.zeros(2, 4, 2, 2, 1, dtype=torch.int64)
    counts[0, 2, 1, 1], counts[1, 2, 0, 0], counts[1, 0, 0, 0] = 32, 7, 5
    found = net.cells.counted(h, lattice, counts)
    where = lattice.rows(torch.cat([found.system[:, None], found.cell], dim=1))
    assert int((where < 0).sum()) == 39
    assert torch.equal(fields_of(found, (6,)).pooled(2).counts, counts)
    assert found.system.tolist() == [0] * 32 + [1] * 12
    assert found.ids.tolist() == [*range(32), *range(12)]
    counts[0, 2, 1, 1] = 33
    with pytest.raises(Error, match="33 atoms and has 32 slots"):
        net.cells.counted(h, lattice, counts)


def test_all_states_of_a_window_hold_what_the_coarse_cells_hold() -> None:
    net = _atoms(3)
    _random(net, 1.0)
    grid = net.predict(net.encode(_flown(_gas(0), 2 * SPAN), 2))
    states = net.decode(grid)
    assert len(states) == 2 * SPAN
    for state in states:
        assert torch.equal(_read(net, state, grid.matter.fields, 2), grid.matter.fields.counts)


@pytest.fixture(scope="module")
def trained() -> SagesNet[AtomState]:
    net = _atoms(space=(2, 4, 4))
    runs = [Run(_flown(_gas(seed), 5 * SPAN)) for seed in range(16)]
    net.fit(runs, levels=[1], options=TrainingOptions(epochs=1, batch_size=32))
    options = TrainingOptions(epochs=12, learning_rate=1e-2, batch_size=8, patience=None)
    fit_fluxes(net, runs, options=options)
    return net


def test_density_and_momentum_drift_as_they_truly_do(trained: SagesNet[AtomState]) -> None:
    """Unseen systems, three coarse steps on: beside the fields as they were at the start."""
    for seed in (100, 101, 102):
        frames = _flown(_gas(seed), 4 * SPAN)
        _, held = _totals_stay(trained, frames, 1, 3)
        for step in (1, 3):
            window = frames[step * SPAN : (step + 1) * SPAN]
            true = mean_fields([fields_of(f).pooled((2, 4, 4)) for f in window], first=True)
            ours, still = compared(held[step], true), compared(held[0], true)
            for name in ("density", "momentum"):
                print(seed, step, name, ours[name].relative, still[name].relative)
                assert ours[name].rms < 0.7 * still[name].rms
                assert ours[name].correlation > still[name].correlation


def test_fluxes_go_into_files(trained: SagesNet[AtomState], tmp_path: Path) -> None:
    trained.save(tmp_path / "net")
    again = SagesNet.load(tmp_path / "net")
    frames = _flown(_gas(200), SPAN)
    ours, theirs = (n.rollout(frames, 2 * SPAN, level=1).conserved for n in (trained, again))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.counts, other.counts) and torch.equal(one.momentum, other.momentum)
    assert SagesNet.load(tmp_path / "net").description() == trained.description()


def test_a_net_without_fluxes_holds_no_matter() -> None:
    net = _atoms()
    found = net.rollout(_flown(_gas(0), SPAN), SPAN, level=1)
    assert found.conserved == [] and all(grid.matter is None for grid in found.grids)


def test_tiles_go_on_without_matter() -> None:
    """Vectors do as they do in one piece; what cells hold is not carried along."""
    torch.manual_seed(0)
    net = SagesNet(AutomatonCells(3, 6), [Level(), Level(space=2, time=2)])
    _random(net, 0.3)
    frames = [torch.as_tensor(np.random.default_rng(0).integers(0, 3, (1, 8, 8, 8)))] * 2
    whole, tiled = (one.rollout(frames, 6, level=1) for one in (net, net.tile(2)))
    assert torch.equal(whole.states[-1], tiled.states[-1])
    assert len(whole.conserved) == 4 and tiled.conserved == []


def test_wrong_fluxes_are_named(trained: SagesNet[AtomState]) -> None:
    run = Run(_flown(_gas(0), 2 * SPAN))
    with pytest.raises(InvalidArgument, match="level"):
        fit_fluxes(trained, [run], level=0)
    with pytest.raises(InvalidArgument, match="level"):
        fit_fluxes(trained, [run], level=2)
    with pytest.raises(InvalidArgument, match="horizon"):
        fit_fluxes(trained, [run], horizon=0)
    with pytest.raises(InvalidArgument, match="12 states"):
        fit_fluxes(trained, [run], horizon=2)
    grid = trained.encode(run.states, 1)
    broken = replace(grid, h=grid.h * float("nan"))
    with pytest.raises(Error, match="not finite"):
        trained.predict(broken)
    other = _atoms(space=(2, 4, 4))
    other.fluxes["1"] = Fluxes(8, [1, 8])
    with pytest.raises(InvalidArgument, match="cells hold"):
        other.predict(other.encode(run.states, 1))
