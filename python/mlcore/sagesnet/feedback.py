"""From large to small: what the coarser level expects of a window helps the finer one through it.

A coarse cell spans m fine steps, so within a window only the previous window's coarse vectors are known.
These are predicted one coarse step on, which tells what the coarse level expects of the window that
begins; that is interpolated linearly between the middles of the coarse cells and added, gated, to
what acts on each fine cell. Nothing of the window itself is looked at: the future changes nothing.

    fit_feedback(net, runs)                              # after both levels are trained
    net.rollout(frames, until=64, feedback=True)         # frames: those of the window before
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet.fingerprint import fingerprint
from mlcore.sagesnet.grid import Environment, Grid
from mlcore.sagesnet.lattice import ActiveLattice, Lattice, Triple

if TYPE_CHECKING:
    from mlcore.sagesnet.fit import Run
    from mlcore.sagesnet.net import SagesNet
    from mlcore.training.options import TrainingOptions, TrainingResult

__all__ = ["Feedback", "carried", "expected", "fed", "fit_feedback", "interpolated"]


class Feedback(nn.Module):
    """Coarse vectors of a window -> what acts on fine cells in each of its steps.

    Args:
        channels: C.
        space: cells of the finer level in one of the coarser, along each axis.
        time: steps of the finer level in a window.
        width: of the hidden layer.
    """

    def __init__(self, channels: int, space: Sequence[int], time: int, width: int = 64) -> None:
        super().__init__()
        self.arguments = {
            "channels": channels,
            "space": list(space),
            "time": time,
            "width": width,
        }
        x, y, z = space
        self.space: Triple = (x, y, z)
        self.time = time
        inputs = 2 * channels + math.prod(self.space) + time
        self.hidden = nn.Linear(inputs, width)
        self.gate = nn.Linear(width, channels)
        self.value = nn.Linear(width, channels)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, fine: Grid, coarse: Grid, step: int) -> Grid:
        """The fine vectors with what acts on them.

        Args:
            fine: at a step's start.
            coarse: what the coarser level expects of the window; see `expected`.
            step: of the window, from 0 to ``time`` - 1.
        """
        below = coarse.lattices[-2]
        around = interpolated(coarse.h, below, self.space)
        places = math.prod(self.space)
        one_hot = torch.eye(places).to(coarse.h).expand(*coarse.h.shape[:-1], -1, -1)
        told = torch.cat([around, below.unblocked(one_hot, self.space)], dim=-1)
        told = carried(told, below, fine.lattice)
        phase = torch.zeros(self.time).to(told)
        phase[step] = 1.0
        seen = torch.cat([fine.h, told, phase.expand(*told.shape[:-1], -1)], dim=-1)
        hidden = nn.functional.silu(self.hidden(seen))
        return fine.of(fine.h + torch.sigmoid(self.gate(hidden)) * self.value(hidden))


def interpolated(coarse: Tensor, fine: Lattice, space: Triple) -> Tensor:
    """Values (..., C) of blocks, linear between their middles, on the cells of the blocks.

    Args:
        coarse: of the cells of ``fine.coarse(space)``.
        fine: where the result lies; cells that are not there count for nothing.
        space: cells of a block.
    """
    blocks = coarse[..., None, :].expand(*coarse.shape[:-1], math.prod(space), coarse.shape[-1])
    values = fine.unblocked(blocks, space)
    both = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
    channels = both.shape[-1]
    # equal values of a block, averaged over as many cells as a block is wide, are linear
    kernel = _tent(space)
    weight = torch.zeros(channels, channels, *kernel.shape).to(values)
    weight[range(channels), range(channels)] = kernel.to(values)
    both = fine.scatter(both, weight)
    return both[..., :-1] / both[..., -1:]


def expected(
    net: SagesNet[Any], frames: Sequence[Any], environment: Environment = None, step: int = 0
) -> Grid:
    """What level 1 expects of the window after these frames.

    Args:
        net: of two levels or more.
        frames: states of the window before.
        environment: see `Environment`.
        step: number of the window, told to an environment that is a function.
    """
    return net.predict(net.encode(frames, 1), environment, step)


def fit_feedback(
    net: SagesNet[Any],
    runs: Sequence[Run[Any]],
    *,
    width: int = 64,
    options: TrainingOptions | None = None,
) -> TrainingResult:
    """Train the way back from level 1 to level 0, and keep it in ``net.feedback``.

    All else stays as it is. Samples are windows after windows, all systems of a run as one.

    Args:
        net: with levels 0 and 1 trained.
        runs: of at least two windows.
        width: see `Feedback`.
        options: of the training.

    Raises:
        InvalidArgument: the net has one level only, or no run is long enough.
    """
    from mlcore.training.loop import train
    from mlcore.training.options import TrainingOptions

    if len(net.levels) < 2:
        raise InvalidArgument("net must have a level above level 0")
    lift = net.lift(1)
    feedback = Feedback(net.cells.channels, lift.space, lift.time, width)
    feedback.to(next(net.parameters()))
    result = train(feedback, _Windows(net, runs), options or TrainingOptions(), label="feedback")
    net.feedback["0"] = feedback
    return result


class _Windows:
    """Loss of all steps of a window, each from the true state before it."""

    def __init__(self, net: SagesNet[Any], runs: Sequence[Run[Any]]) -> None:
        self.net, self.runs = net, runs
        span = net.span(1)
        self.starts = [(run, t) for run in runs for t in range(0, len(run.states) - 2 * span + 1)]
        if not self.starts:
            raise InvalidArgument(f"runs: none has {2 * span} states, as many as two windows")
        self.size = len(self.starts)
        with torch.no_grad():
            self.coarse = [
                expected(net, run.states[t : t + span], run.environment) for run, t in self.starts
            ]

    def loss(self, module: nn.Module, samples: Tensor) -> Tensor:
        return torch.stack([self._loss(module, i) for i in samples.tolist()]).mean()

    def validation(self, module: nn.Module) -> float | None:
        return None

    def identity(self) -> str:
        return f"{self.net.description()} feedback {self.size} {fingerprint(self.runs)}"

    def _loss(self, feedback: nn.Module, sample: int) -> Tensor:
        net, span = self.net, self.net.span(1)
        (run, t), coarse = self.starts[sample], self.coarse[sample]
        losses = []
        for step in range(span):
            state, target = run.states[t + span + step - 1 : t + span + step + 1]
            with torch.no_grad():
                fine = net.encode([state])
            grid = net.predict(feedback(fine, coarse, step), run.environment)
            losses.append(net.cells.loss(grid.h, grid.lattice, state, target))
        return torch.stack(losses).mean()


def fed(
    net: Any, start: Any, steps: int, level: int, record: int, environment: Environment
) -> Iterator[Any]:
    """Steps of level 0 with feedback, as `rollout` wants them."""
    span = net.span(1) if len(net.levels) > 1 else 0
    if level or "0" not in net.feedback:
        raise InvalidArgument("feedback: this net knows none from level 1 to level 0; fit it")
    if not isinstance(start, list | tuple) or len(start) < span:
        raise InvalidArgument(
            f"start must be the {span} states of the window before, the last one now"
        )
    past = list(start)[-span:]
    kept = net.cells.conserved(past[-1])
    yield 0, past[-1], None
    for step in range(1, steps + 1):
        window, phase = divmod(step - 1, span)
        if phase == 0:
            coarse = expected(net, past, environment, window)
        fine = net.feedback["0"](net.encode([past[-1]]), coarse, phase)
        grid = net.predict(fine, environment, step - 1)
        if not bool(torch.isfinite(grid.h).all()):
            raise Error(f"step {step}: vectors are not finite any more")
        past = [*past[1:], net.cells.advance(grid.h, grid.lattice, past[-1])]
        if kept is not None and not torch.equal(net.cells.conserved(past[-1]), kept):
            raise Error(f"step {step}: what must be conserved is not")
        yield step, past[-1] if step % record == 0 or step == steps else None, None


def _tent(space: Triple) -> Tensor:
    """Weights that average over as many cells as a block is wide along each axis."""
    size = max(2 * (k // 2) + 1 for k in space)
    lines = []
    for k in space:
        line = torch.zeros(size)
        middle, half = size // 2, k // 2
        line[middle - half : middle + half + 1] = 1 / k
        if k % 2 == 0:
            line[[middle - half, middle + half]] = 0.5 / k
        lines.append(line)
    x, y, z = lines
    return x[:, None, None] * y[:, None] * z


def carried(values: Tensor, source: Lattice, target: Lattice) -> Tensor:
    """Values of the same cells in the order of another lattice; 0 where the first has none."""
    if not isinstance(source, ActiveLattice) or not isinstance(target, ActiveLattice):
        return values
    shape = (source.active.batches, *source.active.grid_shape)
    own, wanted = (_keys(one, shape) for one in (source, target))
    order = np.argsort(own)
    found = order[np.minimum(np.searchsorted(own[order], wanted), len(own) - 1)]
    there = torch.as_tensor(own[found] == wanted, device=values.device)
    return values[torch.as_tensor(found, device=values.device)] * there[:, None]


def _keys(lattice: ActiveLattice, shape: tuple[int, ...]) -> Any:
    where = torch.as_tensor(lattice.active.coordinates).cpu().numpy()
    if where.shape[1] == 3:
        where = np.concatenate([np.zeros((len(where), 1), where.dtype), where], axis=1)
    return np.ravel_multi_index(tuple(where.T), shape)
