"""Rules of automata, states to test with, all exact reductions; nets that learn them."""

import pytest
import torch
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AutomatonCells, Level, LiftSchedule, Run, SagesNet
from mlcore.sagesnet.automata.reductions import learned, reductions, windows
from mlcore.sagesnet.automata.rules import CountRule, ElementaryRule
from mlcore.sagesnet.automata.soups import LIFE, LifeObject, placed, probe, soups
from mlcore.sagesnet.fit import fit_level
from mlcore.training.options import TrainingOptions


@pytest.mark.parametrize("number", [30, 90, 110, 128, 150])
def test_elementary_rules_read_their_number(number: int) -> None:
    state = soups((1, 1, 17), 3, seed=number)
    row = state[1, 0, 0].tolist()
    expected = [number >> (4 * row[i - 1] + 2 * row[i] + row[(i + 1) % 17]) & 1 for i in range(17)]
    assert ElementaryRule(number).step(state)[1, 0, 0].tolist() == expected


@pytest.mark.parametrize("name", ["B3/S23", "4555", "5766"])
def test_count_rules_count_all_that_touch(name: str) -> None:
    rule = CountRule.of(name)
    box = (5, 4, 6) if rule.dimensions == 3 else (1, 5, 6)
    state = soups(box, density=0.3, seed=1)
    got = rule.step(state)
    steps = range(-1, 2)
    across = steps if rule.dimensions == 3 else range(1)
    for x, y, z in torch.cartesian_prod(*map(torch.arange, box)).tolist():
        count = sum(
            int(state[0, (x + i) % box[0], (y + j) % box[1], (z + k) % box[2]])
            for i in across
            for j in steps
            for k in steps
            if (i, j, k) != (0, 0, 0)
        )
        alive = bool(state[0, x, y, z])
        assert int(got[0, x, y, z]) == (count in (rule.survives if alive else rule.born))


def test_majority_and_unanimous_are_what_they_say() -> None:
    state = soups((1, 6, 7), density=0.7, seed=2)
    shifts = [state.roll((i, j), (2, 3)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    total = torch.stack(shifts).sum(0)
    assert torch.equal(CountRule.majority(2).step(state), (total >= 5).long())
    assert torch.equal(CountRule.unanimous(2).step(state), (total == 9).long())
    row = soups((1, 1, 30), density=0.8, seed=3)
    assert torch.equal(CountRule.unanimous(1).step(row), ElementaryRule(128).step(row))


@pytest.mark.parametrize("wrong", ["B9/S2", "455", "life"])
def test_names_of_no_rule_are_refused(wrong: str) -> None:
    with pytest.raises(InvalidArgument, match="rule"):
        CountRule.of(wrong)


def test_states_of_other_dimensions_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="state"):
        ElementaryRule(30).step(soups((2, 2, 2)))
    with pytest.raises(InvalidArgument, match="state"):
        CountRule.of("B3/S23").step(torch.zeros(1, 1, 4, 4))
    with pytest.raises(InvalidArgument, match="number"):
        ElementaryRule(256)
    with pytest.raises(InvalidArgument, match="born"):
        CountRule(frozenset({9}), frozenset(), 2)
    with pytest.raises(InvalidArgument, match="density"):
        soups((2, 2, 2), density=1.5)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_the_probe_shows_every_class_alike(dimensions: int) -> None:
    patches = probe(20, dimensions)
    cells = 3**dimensions
    middle = patches.flatten(1)[:, cells // 2]
    classes = torch.stack([middle, patches.flatten(1).sum(1) - middle], dim=1)
    expected = torch.cartesian_prod(torch.arange(2), torch.arange(cells)).repeat_interleave(20, 0)
    assert torch.equal(classes, expected)
    assert len(torch.unique(patches.flatten(1), dim=0)) > cells
    assert not torch.equal(patches, probe(20, dimensions, seed=1)) or dimensions == 1


@pytest.mark.parametrize("thing", LIFE, ids=lambda thing: thing.name)
def test_things_of_life_do_what_their_kind_says(thing: LifeObject) -> None:
    life = CountRule.of("B3/S23")
    for seed in range(3):
        start = placed(thing, 12, seed)
        states = life.run(start, thing.period)
        moved = [
            (i, j)
            for i in range(-2, 3)
            for j in range(-2, 3)
            if torch.equal(states[-1], start.roll((i, j), (2, 3)))
        ]
        assert moved
        same = [torch.equal(state, start) for state in states[1:]]
        if thing.kind == "spaceship":
            assert (0, 0) not in moved
        else:
            assert same.index(True) + 1 == thing.period
        assert (thing.kind == "empty") == (not start.any())


def test_there_are_as_many_exact_reductions_as_are_known() -> None:
    """92 of 256 rules on pairs, 72 with a coarse rule that says something; 141 and 79 on triples."""
    found = {cells: [reductions(n, cells) for n in range(256)] for cells in (2, 3)}
    told = {
        cells: (sum(map(bool, every)), sum(any(not r.constant for r in one) for one in every))
        for cells, every in found.items()
    }
    assert told == {2: (92, 72), 3: (141, 79)}
    assert not (found[2][30] or found[2][110] or found[3][30] or found[3][110])
    assert 128 in {one.coarse for one in found[3][146]}


def test_an_exact_reduction_is_one_on_long_rows() -> None:
    row = soups((1, 1, 60), 4, seed=5)
    for one in reductions(150, 2):
        project = torch.tensor(one.projection)

        def pairs(state: torch.Tensor, project: torch.Tensor = project) -> torch.Tensor:
            return project[2 * state[..., ::2] + state[..., 1::2]]

        later = ElementaryRule(150).run(row, 2)[-1]
        assert torch.equal(pairs(later), ElementaryRule(one.coarse).step(pairs(row)))


def _pairs(seed: int = 0) -> SagesNet[torch.Tensor]:
    torch.manual_seed(seed)
    pair = Level(width=16, space=(1, 1, 2), time=2, frames=1, lift_width=16, residual=False)
    net: SagesNet[torch.Tensor] = SagesNet(AutomatonCells(2, 1), [Level(width=4), pair])
    with torch.no_grad():
        net.cells.code.weight.copy_(torch.tensor([[-1.0], [1.0]]))  # type: ignore[operator]
    return net


def _rows(number: int, seed: int = 0) -> list[Run[torch.Tensor]]:
    soup = soups((1, 1, 48), 32, density=(0.5, 0.9), seed=seed)
    return [Run(ElementaryRule(number).run(soup, 2))]


def test_an_untrained_net_is_not_told_to_be_exact() -> None:
    told = learned(_pairs(), 30)
    assert told.windows == len(windows(2)) == 64
    assert not told.exact
    assert not told.known


def test_a_frozen_lift_stays_as_it_is() -> None:
    net = _pairs()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    options = TrainingOptions(epochs=5, learning_rate=1e-2)
    fit_level(net, _rows(90), 1, options=options, schedule=LiftSchedule(frozen=True))
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(name.startswith("predictors.1.") for name in moved)


def test_hard_must_be_a_number() -> None:
    with pytest.raises(InvalidArgument, match="hard"):
        LiftSchedule(hard=-1.0)
