"""The room of the torch operators: what they need, and that the shared checks can fail."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch_ops import check_gradients, check_operator

WITHOUT_TORCH = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)
try:
    import mlcore.ops
except ModuleNotFoundError as error:
    print(error.name, error, "torch" in sys.modules)
"""


def test_without_torch_the_extra_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=True
    )
    assert done.stdout == "torch mlcore.ops needs torch: pip install 'mlcore[train]' False\n"


def test_every_name_is_an_operator() -> None:
    import mlcore.ops

    for name in mlcore.ops.__all__:
        assert callable(getattr(mlcore.ops, name)), name


@torch.library.custom_op("mlcore_test::square", mutates_args=())
def square(x: torch.Tensor) -> torch.Tensor:
    return x * x


@square.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


square.register_autograd(
    lambda ctx, gradient: 2 * ctx.saved_tensors[0] * gradient,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@torch.library.custom_op("mlcore_test::wrong", mutates_args=())
def wrong(x: torch.Tensor) -> torch.Tensor:
    return x * x


@wrong.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty((*x.shape, 1), dtype=x.dtype, device=x.device)


wrong.register_autograd(
    lambda ctx, gradient: 3 * ctx.saved_tensors[0] * gradient,
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)

X = torch.linspace(0.5, 2, 6, dtype=torch.float64).reshape(2, 3).requires_grad_()


def test_right_operator_passes() -> None:
    check_operator(square, [(X,), ((X,), {}), ([X.detach()])])
    check_gradients(square, (X,), second=True)


def test_wrong_shape_and_wrong_gradient_are_found() -> None:
    with pytest.raises(Exception, match="Shapes"):
        check_operator(wrong, [(X,)])
    with pytest.raises(Exception, match="Jacobian mismatch"):
        check_gradients(wrong, (X,))


def test_nothing_checked_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no samples"):
        check_operator(square, [])
    with pytest.raises(AssertionError, match="requires grad"):
        check_gradients(square, (X.detach(),))
