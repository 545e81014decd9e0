"""`mlcore.ops.neighbor_list`: neighbor lists as a torch operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore import neighbors as face
from mlcore.errors import InvalidArgument

__all__ = ["neighbor_list"]

Pairs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def neighbor_list(
    positions: Tensor,
    cutoff: float,
    cell: Tensor | None = None,
    pbc: bool | list[bool] = False,
    half: bool = False,
    sorted: bool = True,
    self_pairs: bool = False,
) -> Pairs:
    """(i, j, S, D, d) of all pairs closer than a cutoff; see `mlcore.neighbor_list`.

    D and d are differentiable in positions and cell, any number of times; which pairs there are is
    taken as given, as in any force field whose terms vanish at the cutoff. At d = 0 the derivative
    of d is taken to be 0. In a compiled graph the number of pairs is an unbacked size.

    Args:
        positions: (n, 3), float32 or float64; pairs are decided in float64.
        cutoff: in the unit of the positions.
        cell: (3, 3) row vectors of the dtype and on the device of the positions. None: open space.
        pbc: which axes repeat, one flag or three.
        half, sorted, self_pairs: as in `mlcore.neighbor_list`.

    Returns:
        i, j (p,) int64; S (p, 3) int32; D (p, 3) and d (p,) of the dtype of the positions.

    Raises:
        InvalidArgument: as `mlcore.neighbor_list`, or a dtype or shape is none of the above.
    """
    if positions.dtype not in (torch.float32, torch.float64):
        raise InvalidArgument(f"positions must be float32 or float64, got {positions.dtype}")
    if cell is not None and not isinstance(cell, Tensor):
        raise InvalidArgument(f"cell must be a tensor (3, 3), got {type(cell).__name__}")
    if cell is not None and (cell.dtype != positions.dtype or cell.shape != (3, 3)):
        raise InvalidArgument(
            f"cell must be (3, 3) {positions.dtype} like the positions, got {tuple(cell.shape)} "
            f"{cell.dtype}"
        )
    flags = [pbc] * 3 if isinstance(pbc, bool) else [bool(flag) for flag in pbc]
    if len(flags) != 3:
        raise InvalidArgument(f"pbc must be one flag or three, got {len(flags)}")
    D, d, i, j, S = _neighbor_list(positions, cell, cutoff, flags, half, sorted, self_pairs)
    return i, j, S, D, d


@torch.library.custom_op("mlcore::neighbor_list", mutates_args=())
def _neighbor_list(
    positions: Tensor,
    cell: Tensor | None,
    cutoff: float,
    pbc: list[bool],
    half: bool,
    sorted: bool,
    self_pairs: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    i, j, S, D, d = face.neighbor_list(
        "ijSDd",
        positions.detach(),
        cutoff,
        None if cell is None else cell.detach().cpu(),
        pbc,
        half,
        sorted,
        self_pairs,
        index_dtype="int64",
        dtype=str(positions.dtype).removeprefix("torch."),
    )
    return D, d, i, j, S


@_neighbor_list.register_fake
def _(
    positions: Tensor,
    cell: Tensor | None,
    cutoff: float,
    pbc: list[bool],
    half: bool,
    sorted: bool,
    self_pairs: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    pairs = torch.library.get_ctx().new_dynamic_size()
    return (
        positions.new_empty((pairs, 3)),
        positions.new_empty(pairs),
        positions.new_empty(pairs, dtype=torch.int64),
        positions.new_empty(pairs, dtype=torch.int64),
        positions.new_empty((pairs, 3), dtype=torch.int32),
    )


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Pairs) -> None:
    positions, cell = inputs[:2]
    ctx.save_for_backward(*output)
    ctx.particles = positions.shape[0]
    ctx.has_cell = cell is not None
    ctx.mark_non_differentiable(*output[2:])


def _backward(
    ctx: Any, grad_D: Tensor, grad_d: Tensor, grad_i: Any, grad_j: Any, grad_S: Any
) -> tuple[Any, ...]:
    """D is linear in positions and cell, d its length."""
    D, d, i, j, S = ctx.saved_tensors
    zero = d == 0
    along = torch.where(zero, torch.zeros_like(d), grad_d / torch.where(zero, 1.0, d))
    total = grad_D + along[:, None] * D
    nothing = total.new_zeros((ctx.particles, 3))
    x = nothing.index_add(0, j, total).index_add(0, i, -total)
    cell = S.to(total.dtype).t() @ total if ctx.has_cell else None
    return x, cell, None, None, None, None, None


_neighbor_list.register_autograd(_backward, setup_context=_setup)
