"""How wrong cells are expected to be, on an automaton that throws dice: nobody can know it all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import (
    AtomCells,
    AtomGrid,
    AtomState,
    AutomatonCells,
    Level,
    LiftSchedule,
    Run,
    SagesNet,
    Scales,
)
from mlcore.sagesnet.carbon import TINY, Dataset, Pull
from mlcore.sagesnet.confidence import cell_losses, confidence, fit_confidence
from mlcore.training import TrainingOptions
from scipy.stats import spearmanr


def _run(seed: int, steps: int = 6) -> Run[torch.Tensor]:
    """Life, but a birth succeeds at 6 times of 10, and a full house stays at 3 of 10."""
    generator = torch.Generator().manual_seed(seed)
    density = torch.tensor([0.1, 0.45])[:, None, None, None]
    state = (torch.rand((2, 1, 24, 24), generator=generator) < density).long()
    states = [state]
    for _ in range(steps - 1):
        last = states[-1]
        around = sum(
            last.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)
        )
        dice = torch.rand(last.shape, generator=generator)
        born = (last == 0) & (around == 3) & (dice < 0.6)
        stays = (last == 1) & ((around == 2) | (around == 3))
        crowded = (last == 1) & (around > 3) & (dice < 0.3)
        states.append((born | stays | crowded).long())
    return Run(states)


@pytest.fixture(scope="module")
def net() -> SagesNet[torch.Tensor]:
    torch.manual_seed(0)
    levels = [
        Level(width=16, residual=False),
        Level(space=(1, 2, 2), time=2, frames=1, width=16, lift_width=32),
    ]
    net = SagesNet(AutomatonCells(channels=8), levels)
    net.fit(
        [_run(seed) for seed in range(6)],
        options=TrainingOptions(epochs=25, batch_size=4),
        schedule=LiftSchedule(steps=100),
    )
    return net


def _scores(net: SagesNet[torch.Tensor], level: int, of: str, horizon: int) -> tuple[float, float]:
    """Rank correlation with the true losses, and the part of them within the band."""
    expected, losses, inside = [], [], []
    for seed in range(200, 206):
        run = _run(seed)
        for before, after, loss, _ in cell_losses(net, run, level=level, of=of, horizon=horizon):  # type: ignore[arg-type]
            told = confidence(net, before, after, of)  # type: ignore[arg-type]
            expected.append(told.expected.flatten())
            losses.append(loss.flatten())
            inside.append(((loss >= told.low) & (loss <= told.high)).flatten())
    rank = float(spearmanr(torch.cat(expected), torch.cat(losses)).statistic)
    return rank, float(torch.cat(inside).double().mean())


@pytest.mark.parametrize(
    ("level", "of", "horizon"),
    [(0, "predictor", 1), (0, "predictor", 3), (1, "predictor", 1), (1, "lift", 1)],
)
def test_confidence_ranks_losses_of_runs_held_out_and_its_band_holds_them(
    net: SagesNet[torch.Tensor], level: int, of: str, horizon: int
) -> None:
    torch.manual_seed(1)
    fit_confidence(
        net,
        [_run(seed) for seed in range(100, 106)],
        [_run(seed) for seed in range(150, 154)],
        level=level,
        of=of,  # type: ignore[arg-type]
        horizon=horizon,
        options=TrainingOptions(
            epochs=12 if level == 0 else 60, learning_rate=5e-3, batch_size=512
        ),
    )
    rank, inside = _scores(net, level, of, horizon)
    assert rank >= 0.5
    assert 0.85 <= inside <= 0.95


@pytest.mark.parametrize(
    ("level", "of", "record"), [(0, "predictor", 2), (1, "predictor", 1), (1, "lift", 3)]
)
def test_rollouts_tell_of_every_recorded_state_how_wrong_its_step_will_be(
    net: SagesNet[torch.Tensor], level: int, of: str, record: int
) -> None:
    fit_confidence(
        net,
        [_run(310)],
        [_run(311)],
        level=level,
        of=of,  # type: ignore[arg-type]
        options=TrainingOptions(epochs=2, learning_rate=5e-3, batch_size=512),
    )
    frames = _run(312).states[: net.span(level)]
    plain = net.rollout(frames, 6, level=level, record=record)
    run = net.rollout(frames, 6, level=level, record=record, confidence=of)  # type: ignore[arg-type]
    assert not plain.told
    assert len(run.told) == len(run.steps) == len(plain.steps)
    assert all(torch.equal(a, b) for a, b in zip(run.states, plain.states, strict=True))
    for k, told in enumerate(run.told):
        before = run.grids[k] if level else net.encode([run.states[k]])
        right = confidence(net, before, None, of)  # type: ignore[arg-type]
        assert torch.equal(told.expected, right.expected) and torch.equal(told.high, right.high)
        assert told.grid is not None and torch.equal(told.grid.h, before.h)
        assert told.expected.shape == told.grid.h.shape[:-1]
    assert not torch.equal(run.told[0].expected, run.told[-1].expected)


def test_rollouts_tell_nothing_where_no_head_knows_it(net: SagesNet[torch.Tensor]) -> None:
    bare = SagesNet(AutomatonCells(), [Level()])
    start = _run(0).states[0]
    with pytest.raises(InvalidArgument, match="no confidence of the predictor of level 0"):
        bare.rollout(start, 1, confidence="predictor")
    with pytest.raises(InvalidArgument, match="feedback"):
        net.rollout([start] * 2, 2, feedback=True, confidence="predictor")


def test_heads_leave_the_net_alone_and_go_with_it_into_files(
    net: SagesNet[torch.Tensor], tmp_path: Path
) -> None:
    held = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith("confidence.")}
    fit_confidence(
        net, [_run(300)], [_run(301)], options=TrainingOptions(epochs=1, batch_size=4096)
    )
    for name, value in held.items():
        assert torch.equal(value, net.state_dict()[name])
        assert not net.state_dict()[name].grad_fn
    net.save(tmp_path / "net")
    again = SagesNet.load(tmp_path / "net")
    before = net.encode([_run(302).states[0]])
    ours, theirs = confidence(net, before), confidence(again, before)
    assert torch.equal(ours.expected, theirs.expected)
    assert torch.equal(ours.high, theirs.high)
    assert bool((ours.low <= ours.high).all())


def test_wrong_questions_about_confidence_are_named(net: SagesNet[torch.Tensor]) -> None:
    bare = SagesNet(AutomatonCells(), [Level()])
    with pytest.raises(InvalidArgument, match="no confidence of the predictor of level 0"):
        confidence(bare, bare.encode([_run(0).states[0]]))
    runs = [_run(0)]
    with pytest.raises(InvalidArgument, match="part"):
        fit_confidence(net, runs, runs, part=1.0)
    with pytest.raises(InvalidArgument, match="level"):
        fit_confidence(net, runs, runs, of="lift")
    with pytest.raises(InvalidArgument, match="horizon"):
        fit_confidence(net, runs, runs, horizon=0)
    with pytest.raises(InvalidArgument, match="long enough"):
        fit_confidence(net, [Run(runs[0].states[:1])], runs)


# -- cells that look at no vectors -----------------------------------------------------------------
SHEETS = [("101", 1), ("011", 1), ("110", 1), ("101", 2), ("011", 2), ("110", 2), ("011", 3)]
Pairs = list[Run[AtomState]]


@pytest.fixture(scope="module")
def sheets(tmp_path_factory: pytest.TempPathFactory) -> list[Pairs]:
    """Steps of 10 fs over the whole pulls of small sheets with a cut."""
    data = Dataset(tmp_path_factory.mktemp("set"), Pull(rate=0.4, until=0.5, rest=0.05), TINY)
    for pattern, seed in SHEETS:
        data.generate([pattern], [seed])
    samples = [data[f"{pattern}-{seed}"] for pattern, seed in SHEETS]
    box = np.max([np.diag(sample.start.cell[:]) for sample in samples], axis=0) + 20
    grid = AtomGrid.over(Atoms(cell=box, pbc=False), 2.0)

    def state(sample: object, x: np.ndarray, v: np.ndarray) -> AtomState:
        start = sample.start  # type: ignore[attr-defined]
        held = start.arrays["grip"] != 0
        return AtomState.from_arrays(grid, start.numbers, x + 10.0, v, driven=held)

    found = []
    for sample in samples:
        windows = [sample.window(k, 2) for k in range(1, len(sample) - 2, len(sample) // 16)]
        found.append(
            [
                Run([state(sample, *one) for one in zip(w.positions, w.velocities, strict=True)])
                for w in windows
            ]
        )
    return found


@pytest.fixture(scope="module")
def blind(sheets: list[Pairs]) -> SagesNet[AtomState]:
    """Bonds learned from the first sheet, doubts from two others, a band from two more."""
    torch.manual_seed(0)
    scales = Scales.of([run.states for run in sheets[0]], 10.0)
    bonds = {"kicks": 2, "correction": False, "radial": 6, "order": 2, "turns": 2}
    cells = AtomCells((6,), 10.0, 4, 4, scales=scales, limit=40.0, even=True, **bonds)
    cells.whiten([run.states[0] for run in sheets[0][::3]])
    net = SagesNet(cells)
    options = TrainingOptions(epochs=4, learning_rate=1e-3, batch_size=1, clip=3.0, patience=None)
    net.fit(sheets[0], options=options)
    options = TrainingOptions(epochs=20, learning_rate=3e-3, batch_size=2048, patience=None)
    fit_confidence(net, sheets[1] + sheets[2], sheets[3] + sheets[4], options=options)
    return net


def test_bonds_tell_where_steps_that_look_at_no_vectors_go_wrong(
    blind: SagesNet[AtomState], sheets: list[Pairs]
) -> None:
    expected, losses, inside = [], [], []
    for run in sheets[5] + sheets[6]:
        for before, after, loss, state in cell_losses(blind, run):
            told = confidence(blind, before, after, state=state)
            assert told.rows is not None
            for kept, values in (
                (expected, told.expected),
                (losses, loss),
                (inside, (loss >= told.low) & (loss <= told.high)),
            ):
                kept.append(values[told.rows])
    rank = spearmanr(torch.cat(expected), torch.cat(losses)).statistic
    assert rank >= 0.5
    assert 0.85 <= float(torch.cat(inside).double().mean()) <= 0.95


def test_only_cells_in_which_something_can_go_wrong_are_doubted(
    blind: SagesNet[AtomState], sheets: list[Pairs], tmp_path: Path
) -> None:
    state = sheets[6][8].states[0]
    run = blind.rollout(state, until=4, record=2, confidence="predictor")
    before = blind.encode([state])
    told = confidence(blind, before, state=state)
    assert torch.equal(run.told[0].expected, told.expected)
    assert not torch.equal(run.told[-1].expected, told.expected)
    places = torch.cat([state.system[:, None], state.cell], dim=1)
    rows = before.lattice.rows(places)[state.free].unique()  # type: ignore[attr-defined]
    assert torch.equal(told.rows, rows) and len(rows) < len(told.expected)
    assert bool((told.expected[rows] > 0).all())
    nothing = torch.ones(len(told.expected), dtype=torch.bool).index_fill(0, rows, False)
    assert not told.high[nothing].any()
    blind.save(tmp_path / "net")
    again = SagesNet.load(tmp_path / "net")
    assert torch.equal(confidence(again, again.encode([state]), state=state).high, told.high)
    with pytest.raises(InvalidArgument, match="state"):
        confidence(blind, before)
    still = replace(state, driven=torch.ones(len(state), dtype=torch.bool))
    assert not confidence(blind, before, state=still).high.any()


def test_signs_do_not_depend_on_where_a_sheet_lies_and_how_it_is_turned(
    blind: SagesNet[AtomState], sheets: list[Pairs]
) -> None:
    cells = blind.cells
    assert isinstance(cells, AtomCells)
    state = sheets[6][8].states[0]
    seen = cells.around(state)
    away = state.moved(torch.tensor([0.7, -1.1, 0.3]).expand(len(state), 3), state.velocity)
    assert torch.allclose(cells.around(away), seen, atol=1e-3)
    order = torch.randperm(len(state))
    assert torch.allclose(cells.around(state.take(order)), seen[order], atol=1e-4)
    bare = AtomCells((6,))
    with pytest.raises(InvalidArgument, match="bonds"):
        bare.around(state)
    # without bonds vectors tell all, of the same cells
    rows, told = bare.signs(state, blind.encode([state]).lattice)
    assert told.shape == (len(rows), 0)
    assert torch.equal(rows, cells.signs(state, blind.encode([state]).lattice)[0])
