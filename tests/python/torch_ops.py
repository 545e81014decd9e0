"""What every torch custom operator of mlcore must hold.

check_operator(torch.ops.mlcore.neighbors_vectors.default, [(positions, cell, ...), ...])
check_gradients(mlcore.ops.energy, (positions.requires_grad_(), ...), second=True)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.autograd import gradcheck, gradgradcheck

Sample = Sequence[Any] | tuple[Sequence[Any], Mapping[str, Any]]


def check_operator(operator: Any, samples: Iterable[Sample]) -> None:
    """`torch.library.opcheck` on every sample, its fields made contiguous and not.

    Args:
        operator: what `torch.library.custom_op` returned, or an overload of `torch.ops`.
        samples: arguments, or (arguments, keyword arguments); differentiable ones require grad.
    """
    seen = 0
    for sample in samples:
        arguments, options = split(sample)
        for layout in (torch.Tensor.contiguous, strided):
            laid = tuple(moved(value, layout) for value in arguments)
            results = torch.library.opcheck(operator, laid, options)
            assert set(results.values()) == {"SUCCESS"}, results
            seen += 1
    assert seen, "no samples"


def check_gradients(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    second: bool = False,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
) -> None:
    """First (and second) derivatives against finite differences, in float64.

    Args:
        function: takes the arguments, returns tensors.
        arguments: float64 tensors, those that require grad are checked; anything else is passed on.
        second: also the derivatives of the derivatives.
    """
    wanted = [a for a in arguments if isinstance(a, torch.Tensor) and a.requires_grad]
    assert wanted, "no argument requires grad"
    assert all(a.dtype == torch.float64 for a in wanted), "finite differences need float64"
    tuple_ = tuple(arguments)
    assert gradcheck(function, tuple_, eps=eps, atol=atol, rtol=rtol)
    if second:
        assert gradgradcheck(function, tuple_, eps=eps, atol=atol, rtol=rtol)


def split(sample: Sample) -> tuple[Sequence[Any], dict[str, Any]]:
    """Arguments and keyword arguments of a sample."""
    if len(sample) == 2 and isinstance(sample[0], (tuple, list)) and isinstance(sample[1], Mapping):
        return sample[0], dict(sample[1])
    return sample, {}


def moved(value: Any, layout: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The value in another layout, a leaf as before."""
    if not isinstance(value, torch.Tensor):
        return value
    return layout(value.detach()).requires_grad_(value.requires_grad)


def strided(value: torch.Tensor) -> torch.Tensor:
    """The same numbers, not contiguous (where there is more than one)."""
    room = torch.empty((*value.shape, 2), dtype=value.dtype, device=value.device)
    room[..., 0] = value
    return room[..., 0]
