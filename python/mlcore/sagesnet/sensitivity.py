"""What a number that matters later depends on now: cell by cell.

    result = unrolled(net, steps=10)                  # Grid -> Grid, differentiable
    grid = net.encode([state])
    map = sensitivity(lambda h: result(grid.of(h)).h[..., 0].sum(), grid.h)
    map.cells                                         # how strongly each cell acts on it

The number may be any function of vectors of cells, or of what lies in slots (offsets, velocities).
Derivatives come from one backward pass; `differences` perturbs instead where there is no such thing,
as behind a state that is a whole number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet.grid import Environment, Grid
from mlcore.sagesnet.net import SagesNet

__all__ = [
    "Sensitivity",
    "differences",
    "probed",
    "probed_norm",
    "sensitivity",
    "training_weights",
    "unrolled",
]

Observable = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sensitivity:
    """Derivatives of one number.

    Attributes:
        value: the number.
        gradient: (..., C) with respect to what it was asked of.
    """

    value: float
    gradient: Tensor

    @property
    def cells(self) -> Tensor:
        """(...) how strongly each cell acts on the number: the length of its gradient."""
        return self.gradient.square().sum(dim=-1).sqrt()

    @property
    def norm(self) -> float:
        """Of the whole gradient."""
        return float(self.gradient.norm())


def unrolled(
    net: SagesNet[Any], steps: int, environment: Environment = None
) -> Callable[[Grid], Grid]:
    """Several predictions of a level, one after the other, without reading states in between.

    Above level 0 that is what a rollout does; on level 0 a rollout encodes anew after every step,
    so that one step alone is the same.

    Raises:
        InvalidArgument: ``steps`` is no whole number from 1 on.
    """
    if not isinstance(steps, int) or steps < 1:
        raise InvalidArgument(f"steps must be a whole number from 1 on, got {steps!r}")

    def run(grid: Grid) -> Grid:
        for step in range(steps):
            grid = net.predict(grid, environment, step)
        return grid

    return run


def sensitivity(observable: Observable, at: Tensor) -> Sensitivity:
    """Derivatives by a backward pass.

    Args:
        observable: tensor like ``at`` -> one number.
        at: (..., C), vectors of cells or contents of slots.

    Raises:
        InvalidArgument: the observable is no single number, or does not depend on ``at`` in a way
            that can be differentiated.
    """
    variable = at.detach().clone().requires_grad_()
    with torch.enable_grad():
        value = _single(observable(variable))
        gradient = _gradient(value, variable)
    return Sensitivity(float(value.detach()), gradient)


def differences(
    observable: Observable, at: Tensor, *, step: float = 1e-4, cells: Sequence[int] | None = None
) -> Sensitivity:
    """Derivatives by central differences, two evaluations for every number.

    Args:
        observable: see `sensitivity`; need not be differentiable.
        at: (..., C).
        step: how far each number is moved either way; float64 is advised.
        cells: rows of ``at`` seen as (cells, C) that are moved; None: all. Others get 0.

    Raises:
        InvalidArgument: ``step`` is not positive, or the observable no single number.
    """
    if not step > 0:
        raise InvalidArgument(f"step must be positive, got {step!r}")
    with torch.no_grad():
        base = at.detach().clone()
        gradient = torch.zeros_like(base)
        rows, out = base.reshape(-1, base.shape[-1]), gradient.view(-1, base.shape[-1])
        for row in range(len(rows)) if cells is None else cells:
            for column in range(rows.shape[1]):
                out[row, column] = _slope(observable, rows, row, column, step, base.shape)
        return Sensitivity(float(_single(observable(base))), gradient)


def probed(
    function: Observable, at: Tensor, *, probes: int = 16, generator: torch.Generator | None = None
) -> Tensor:
    """(...) how strongly each cell acts on a whole grid of results.

    The root of the sum of all squared derivatives of the results with respect to the cell, estimated
    without bias (before the root) by backward passes from random signs on the results (M. F.
    Hutchinson, Commun. Stat. Simul. 18, 1059 (1989)); the relative error falls as 1/sqrt(probes).

    Args:
        function: tensor like ``at`` -> results of any shape.
        at: (..., C).
        probes: backward passes.
        generator: of the signs; None: torch's own.

    Raises:
        InvalidArgument: ``probes`` is no whole number from 1 on, or nothing depends on ``at``.
    """
    if not isinstance(probes, int) or probes < 1:
        raise InvalidArgument(f"probes must be a whole number from 1 on, got {probes!r}")
    variable = at.detach().clone().requires_grad_()
    with torch.enable_grad():
        results = function(variable)
        total = torch.zeros_like(at[..., 0])
        for _ in range(probes):
            signs = _signs(results, generator)
            total += _gradient((results * signs).sum(), variable, keep=True).square().sum(dim=-1)
    return (total / probes).sqrt()


def probed_norm(
    observable: Observable,
    at: Tensor,
    *,
    probes: int = 64,
    step: float = 1e-4,
    generator: torch.Generator | None = None,
) -> float:
    """Norm of the whole gradient from random perturbations of all cells at once.

    Two evaluations for each probe, however large the grid; nothing is differentiated. The mean of
    the squared slopes along random signs is the squared norm; its relative error is about
    sqrt(2 / probes).

    Raises:
        InvalidArgument: see `probed` and `differences`.
    """
    if not isinstance(probes, int) or probes < 1:
        raise InvalidArgument(f"probes must be a whole number from 1 on, got {probes!r}")
    if not step > 0:
        raise InvalidArgument(f"step must be positive, got {step!r}")
    total = 0.0
    with torch.no_grad():
        for _ in range(probes):
            move = step * _signs(at, generator)
            ends = [float(_single(observable(at + sign * move))) for sign in (1, -1)]
            total += ((ends[0] - ends[1]) / (2 * step)) ** 2
    return float((total / probes) ** 0.5)


def training_weights(cells: Tensor, strength: float = 1.0, most: float = 10.0) -> Tensor:
    """Weights of cells in a loss, of mean 1: what matters more is learned better.

    Args:
        cells: (...) sensitivities, none negative.
        strength: 0 weighs all cells alike, 1 by their sensitivity alone.
        most: largest weight before the mean is made 1.

    Raises:
        InvalidArgument: naming what is out of range.
    """
    if not 0 <= strength <= 1:
        raise InvalidArgument(f"strength must lie in [0, 1], got {strength!r}")
    if not most >= 1:
        raise InvalidArgument(f"most must be at least 1, got {most!r}")
    if not bool((cells >= 0).all()):
        raise InvalidArgument("cells: a sensitivity is negative or not finite")
    mean = cells.mean()
    relative = cells / mean if float(mean) > 0 else torch.ones_like(cells)
    weights = ((1 - strength) + strength * relative).clamp(max=most)
    return (weights / weights.mean()).detach()


def _single(value: Tensor) -> Tensor:
    if value.numel() != 1:
        raise InvalidArgument(f"observable must give one number, got {tuple(value.shape)}")
    return value.reshape(())


def _gradient(value: Tensor, variable: Tensor, *, keep: bool = False) -> Tensor:
    if not value.requires_grad:
        raise InvalidArgument("observable does not depend on at in a way that has derivatives")
    (gradient,) = torch.autograd.grad(value, variable, retain_graph=keep, allow_unused=True)
    if gradient is None:
        raise InvalidArgument("observable does not depend on at in a way that has derivatives")
    if not bool(torch.isfinite(gradient).all()):
        raise Error("the derivatives are not finite")
    return gradient


def _signs(like: Tensor, generator: torch.Generator | None) -> Tensor:
    signs = torch.randint(2, like.shape, generator=generator)
    return (2 * signs - 1).to(like)


def _slope(
    observable: Observable, rows: Tensor, row: int, column: int, step: float, shape: torch.Size
) -> float:
    held = rows[row, column].item()
    ends = []
    for sign in (1, -1):
        rows[row, column] = held + sign * step
        ends.append(float(_single(observable(rows.view(shape)))))
    rows[row, column] = held
    return (ends[0] - ends[1]) / (2 * step)
