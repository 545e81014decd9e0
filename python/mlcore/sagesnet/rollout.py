"""Many steps, one after the other, on any level."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor

from mlcore.errors import Error, InvalidArgument
from mlcore.sagesnet.cells import State
from mlcore.sagesnet.confidence import Of, Told, judged
from mlcore.sagesnet.feedback import fed
from mlcore.sagesnet.fields import Fields
from mlcore.sagesnet.grid import Environment, Grid

if TYPE_CHECKING:
    from mlcore.sagesnet.net import SagesNet

__all__ = ["Rollout", "all_finite", "checked_steps", "progress_bar", "rollout"]


@dataclass(frozen=True)
class Rollout(Generic[State]):
    """What was recorded.

    Attributes:
        steps: of level 0, counted from the start.
        states: one for each.
        grids: vectors of the level for each; empty on level 0.
        told: with ``confidence``, what is expected of the step that each state goes on with.
    """

    steps: list[int]
    states: list[State]
    grids: list[Grid]
    told: list[Told] = field(default_factory=list)

    @property
    def conserved(self) -> list[Fields]:
        """What the cells of a coarse level hold at each step, where the net knows how it moves and
        is not in tiles; see `mlcore.sagesnet.conserved`."""
        held = [grid.matter.fields for grid in self.grids if grid.matter is not None]
        return held if len(held) == len(self.steps) else []


def rollout(
    net: SagesNet[State],
    start: State | Sequence[State],
    until: int,
    *,
    level: int = 0,
    record: int = 1,
    environment: Environment = None,
    watch: Callable[[int, State], None] | None = None,
    progress: bool = False,
    feedback: bool = False,
    confidence: Of | None = None,
) -> Rollout[State]:
    """Run a net.

    Args:
        net: trained.
        start: a state; on higher levels as many consecutive ones as `SagesNet.span` says.
        until: steps of level 0.
        level: that does the steps; a multiple of its span is made.
        record: keep every so many-th step of the level, and the last.
        environment: see `Environment`.
        watch: told every recorded step and state.
        progress: show a bar on standard error.
        feedback: let level 1 act on level 0; ``start`` then holds the window before, the last of its
            states being that of the start. See `mlcore.sagesnet.feedback`.
        confidence: of what the loss expected of every cell is told for each recorded state, by a head
            that `mlcore.sagesnet.confidence.fit_confidence` has fitted; ``"predictor"``: of the step
            from there, ``"lift"``: of what the level's codes hold. Not with ``feedback``; an
            environment that is a function is asked for the step after the last too.

    Raises:
        InvalidArgument: ``until`` is no multiple of the level's span, or there is no such head.
        Error: a vector is not finite any more, or what `Cells.conserved` tells is not.
    """
    span, steps = checked_steps(net, until, level, record)
    runner = fed if feedback else _fine if level == 0 else _coarse
    with torch.no_grad(), progress_bar(progress, steps) as move:
        made = runner(net, start, steps, level, record, environment)
        if confidence is None:
            return recorded(made, span, move, watch)
        if feedback:
            raise InvalidArgument("confidence: heads know nothing of feedback, ask for one of them")
        told: list[Told] = []
        done = recorded(judged(net, made, confidence, environment, told), span, move, watch)
        return replace(done, told=told)


def recorded(
    made: Iterable[tuple[int, State | None, Grid | None]],
    span: int,
    move: Callable[[int], None],
    watch: Callable[[int, State], None] | None,
) -> Rollout[State]:
    """Steps of a level as they are made; those without a state are not kept.

    Args:
        made: step of the level, state and vectors.
        span: steps of level 0 in one of the level.
        move: told every step.
        watch: see `rollout`.
    """
    done: Rollout[State] = Rollout([], [], [])
    for step, state, grid in made:
        move(step)
        if state is None:
            continue
        done.steps.append(step * span)
        done.states.append(state)
        done.grids.extend([] if grid is None else [grid])
        if watch is not None:
            watch(step * span, state)
    return done


def checked_steps(net: SagesNet[Any], until: int, level: int, record: int) -> tuple[int, int]:
    """Steps of level 0 in one of the level, and how many of these to do.

    Raises:
        InvalidArgument: naming what is out of range.
    """
    span = net.span(level)
    if until < 0 or until % span:
        raise InvalidArgument(
            f"until must be a multiple of {span}, a step of level {level}: {until}"
        )
    if not isinstance(record, int) or record < 1:
        raise InvalidArgument(f"record must be a whole number from 1 on, got {record!r}")
    return span, until // span


def _fine(
    net: Any, start: Any, steps: int, level: int, record: int, environment: Environment
) -> Any:
    state = start[0] if isinstance(start, list | tuple) else start
    kept = net.cells.conserved(state)
    yield 0, state, None
    for step in range(1, steps + 1):
        grid = net.ahead(state, environment, step - 1)
        _finite(grid, step)
        state = net.cells.advance(grid.h, grid.lattice, state)
        if kept is not None and not torch.equal(net.cells.conserved(state), kept):
            raise Error(f"step {step}: what must be conserved is not")
        yield step, state if step % record == 0 or step == steps else None, None


def _coarse(
    net: Any, start: Any, steps: int, level: int, record: int, environment: Environment
) -> Any:
    grid = net.encode(start, level)
    yield 0, start[0], grid
    for step in range(1, steps + 1):
        grid = net.predict(grid, environment, step - 1)
        _finite(grid, step)
        wanted = step % record == 0 or step == steps
        yield step, net.decode(grid)[0] if wanted else None, grid if wanted else None


def all_finite(h: Tensor) -> bool:
    """Whether all numbers are; a sum that is finite says so at once."""
    return bool(torch.isfinite(h.sum())) or bool(torch.isfinite(h).all())


def _finite(grid: Grid, step: int) -> None:
    if not all_finite(grid.h):
        raise Error(f"step {step} of level {grid.level}: vectors are not finite any more")


@contextlib.contextmanager
def progress_bar(wanted: bool, steps: int) -> Any:
    """A bar on standard error, or nothing; gives a function that is told the step."""
    if not wanted:
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("rollout", total=steps)
        yield lambda step: bar.update(task, completed=step)
