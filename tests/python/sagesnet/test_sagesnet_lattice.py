"""Cells of a box, all of them or the occupied ones, and blocks of them."""

import mlcore
import mlcore.ops
import numpy as np
import pytest
import torch
from mlcore.errors import InvalidArgument
from mlcore.sagesnet import ActiveLattice, DenseLattice, Predictor
from mlcore.sagesnet.lattice import Boundary
from torch.nn.functional import conv_transpose3d

EXTENTS = (6, 4, 8)


def _everything(batches: int = 1) -> mlcore.ActiveSet:
    cells = np.argwhere(np.ones((batches, *EXTENTS)))
    return mlcore.ActiveSet(EXTENTS, cells, "periodic", batches=batches)


def test_scatter_is_torch_s_transposed_convolution() -> None:
    torch.manual_seed(0)
    values, weight = torch.randn(2, *EXTENTS, 5), torch.randn(5, 3, 3, 3, 3)
    ours = DenseLattice(EXTENTS, "zero").scatter(values, weight)
    full = conv_transpose3d(values.movedim(-1, 1), weight)[..., 1:-1, 1:-1, 1:-1]
    assert float((ours - full.movedim(1, -1)).abs().max()) < 1e-5


@pytest.mark.parametrize("kernel", [3, 5])
def test_one_excited_cell_is_felt_within_the_reach_and_not_beyond(kernel: int) -> None:
    torch.manual_seed(1)
    net = Predictor(4, layers=1, width=8, kernel=kernel, residual=False)
    lattice = DenseLattice((11, 11, 11))
    quiet = torch.zeros(1, 11, 11, 11, 4)
    loud = quiet.clone()
    loud[0, 5, 5, 5] = 1.0
    with torch.no_grad():
        felt = (net(loud, lattice) - net(quiet, lattice)).abs().sum(-1)[0] > 0
    expected = torch.zeros(11, 11, 11, dtype=torch.bool)
    expected[(slice(5 - net.reach, 6 + net.reach),) * 3] = True
    assert torch.equal(felt, expected)


def test_occupied_cells_of_a_full_box_do_what_the_box_does() -> None:
    torch.manual_seed(2)
    net = Predictor(4, layers=2, width=8)
    for layer in net.layers:
        torch.nn.init.normal_(layer.update.weight)  # type: ignore[union-attr, arg-type]
    h = torch.randn(2, *EXTENTS, 4)
    dense = net(h, DenseLattice(EXTENTS))
    active = net(h.reshape(-1, 4), ActiveLattice(_everything(2)))
    assert torch.allclose(dense.reshape(-1, 4), active, atol=1e-5)


@pytest.mark.parametrize("space", [(2, 2, 2), (3, 1, 4), (1, 1, 1)])
def test_every_cell_is_in_exactly_one_block(space: tuple[int, int, int]) -> None:
    count = 2 * 6 * 4 * 8
    number = torch.arange(count, dtype=torch.float64)
    dense = DenseLattice(EXTENTS)
    blocks = dense.blocks(number.reshape(2, *EXTENTS, 1), space)
    assert sorted(blocks.flatten().tolist()) == number.tolist()
    assert torch.equal(dense.unblocked(blocks, space).flatten(), number)
    active = ActiveLattice(_everything(2))
    assert torch.equal(active.blocks(number[:, None], space).flatten(), blocks.flatten())
    assert torch.equal(active.unblocked(blocks.flatten(0, 3), space).flatten(), number)


def test_numbers_of_systems_reach_their_cells() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    dense = DenseLattice(EXTENTS).spread(values)
    assert dense.shape == (2, *EXTENTS, 2)
    assert torch.equal(ActiveLattice(_everything(2)).spread(values), dense.flatten(0, 3))


def test_blocks_must_fit() -> None:
    with pytest.raises(InvalidArgument, match="multiples"):
        DenseLattice(EXTENTS).coarse((4, 4, 4))


@pytest.mark.parametrize("wrong", [{"channels": 0}, {"layers": 0}, {"kernel": 4}, {"width": 1.5}])
def test_wrong_shapes_of_predictors_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(wrong))):
        Predictor(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
def test_thin_boxes_are_scattered_with_another_axis_innermost(boundary: Boundary) -> None:
    """Of 16 channels or more; the core is asked directly for the answer."""
    torch.manual_seed(3)
    for extents in ((3, 16, 2), (32, 3, 5), (5, 7, 16)):
        values, weight = torch.randn(2, *extents, 16), torch.randn(16, 17, 3, 3, 3)
        ours = DenseLattice(extents, boundary).scatter(values, weight)
        core = mlcore.ops.scatter3d(values, weight, boundary=boundary, layout="channels_last")
        assert float((ours - core).abs().max()) < 1e-5 * float(core.abs().max())
        assert ours.is_contiguous()


def test_updates_without_gradients_are_those_with_them() -> None:
    torch.manual_seed(4)
    for residual in (True, False):
        net = Predictor(3, layers=2, width=5, environment=2, residual=residual)
        for layer in net.layers:
            torch.nn.init.normal_(layer.update.weight)  # type: ignore[union-attr, arg-type]
        h, around = torch.randn(1, 17, 17, 17, 3), torch.randn(1, 17, 17, 17, 2)
        with torch.no_grad():
            quick = net(h, DenseLattice((17, 17, 17)), around)
        plain = net(h, DenseLattice((17, 17, 17)), around)
        assert plain.requires_grad and torch.allclose(quick, plain, atol=1e-5)


def test_lattices_of_the_same_cells_are_made_once() -> None:
    cells = torch.tensor([[0, 1, 2, 3], [1, 0, 0, 0]])
    first = ActiveLattice.over(EXTENTS, cells, batches=2)
    assert ActiveLattice.over(EXTENTS, cells.clone(), batches=2) is first
    for other in (
        ActiveLattice.over(EXTENTS, cells.flip(0), batches=2),
        ActiveLattice.over(EXTENTS, cells, "zero", batches=2),
        ActiveLattice.over((6, 4, 9), cells, batches=2),
    ):
        assert other is not first
    assert first.spread(torch.tensor([[1.0], [2.0]])).tolist() == [[1.0], [2.0]]
    with pytest.raises(InvalidArgument, match="of 2 systems"):
        first.spread(torch.ones(1, 1))
    one = ActiveLattice.over(EXTENTS, cells[:1, 1:])
    assert one.spread(torch.tensor([[5.0, 6.0]])).tolist() == [[5.0, 6.0]]
