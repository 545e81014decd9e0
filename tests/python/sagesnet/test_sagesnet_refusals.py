"""What a user may get wrong is told by name."""

import pytest
import torch
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import AtomCells, AutomatonCells, Level, SagesNet

BOX = (1, 4, 4, 4)


def _net(*environment: str) -> SagesNet[torch.Tensor]:
    return SagesNet(AutomatonCells(2, 4), [Level(width=4)], environment)


@pytest.mark.parametrize(
    "state", [torch.full(BOX, 2), torch.full(BOX, -1), torch.zeros(BOX), torch.zeros(BOX).bool()]
)
def test_states_that_a_cell_cannot_be_in(state: torch.Tensor) -> None:
    with pytest.raises(InvalidArgument, match="int64 from 0 to 1"):
        _net().rollout(state, until=1)


def test_surroundings_of_another_length() -> None:
    state = torch.zeros(BOX, dtype=torch.int64)
    with pytest.raises(InvalidArgument, match="environment must be 1 numbers, got 0"):
        _net("temperature").rollout(state, until=1)
    with pytest.raises(InvalidArgument, match="environment must be 0 numbers, got 2"):
        _net().rollout(state, until=1, environment=torch.ones(1, 2))


def test_no_runs() -> None:
    with pytest.raises(InvalidArgument, match="runs"):
        _net().fit([])


def test_elements_by_number_or_symbol() -> None:
    assert AtomCells(["C", "H"]).arguments["elements"] == [6, 1]
    for wrong in (["Xx"], [6, "C"], [119], []):
        with pytest.raises(InvalidArgument, match="elements"):
            AtomCells(wrong)
