"""SAGESnet: cells, predictors and lifts of all levels in one object (J. Meeks' proposal, 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.cells import Cells, State
from mlcore.sagesnet.conserved import advanced, pooled
from mlcore.sagesnet.fit import LiftSchedule, Run, Weighting, fit_levels
from mlcore.sagesnet.grid import Environment, Grid
from mlcore.sagesnet.lattice import DenseLattice, Lattice
from mlcore.sagesnet.lift import Lift
from mlcore.sagesnet.predictor import Predictor
from mlcore.sagesnet.rollout import Rollout, rollout
from mlcore.sagesnet.saved import load, save

if TYPE_CHECKING:
    from mlcore.sagesnet.confidence import Of
    from mlcore.sagesnet.tiled import EngineName, Tiled, Tiles
    from mlcore.training.options import TrainingOptions, TrainingResult

__all__ = ["Level", "SagesNet"]


@dataclass(frozen=True)
class Level:
    """One scale.

    Args:
        layers, width, messages, kernel, residual, symmetric: of its predictor; see `Predictor`.
        space: cells of the level below along each axis of a cell of this one; 1 on level 0.
        time: steps of the level below in one of this one; 1 on level 0.
        frames: how many of those steps a vector tells of; see `Lift`.
        lift_width: of the lift's hidden layers.
    """

    layers: int = 1
    width: int | None = None
    messages: int | None = None
    kernel: int = 3
    residual: bool = True
    space: int | tuple[int, int, int] = 1
    time: int = 1
    frames: int | None = None
    lift_width: int = 64
    symmetric: bool = False


class SagesNet(nn.Module, Generic[State]):
    """A simulator on cells, over as many scales as it has levels.

    Args:
        cells: what is in a cell of level 0: `AutomatonCells`, `AtomCells`.
        levels: from fine to coarse; the first has space = time = 1.
        environment: names of the numbers that act on cells from outside.

    Raises:
        InvalidArgument: no level, or the first one is coarse.
    """

    def __init__(
        self,
        cells: Cells[State],
        levels: Sequence[Level] = (Level(),),
        environment: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not levels or (levels[0].space, levels[0].time) != (1, 1):
            raise InvalidArgument("levels must begin with one of space = time = 1")
        self.cells = cells
        self.levels = tuple(levels)
        self.environment = tuple(environment)
        self.predictors = nn.ModuleList(self._predictor(level) for level in levels)
        self.lifts = nn.ModuleList(
            Lift(cells.channels, level.space, level.time, level.frames, level.lift_width)
            for level in levels[1:]
        )
        self.confidence = nn.ModuleDict()
        self.feedback = nn.ModuleDict()
        self.fluxes = nn.ModuleDict()

    def _predictor(self, level: Level) -> Predictor:
        return Predictor(
            self.cells.channels,
            level.layers,
            level.width,
            level.messages,
            level.kernel,
            len(self.environment),
            level.residual,
            level.symmetric,
        )

    def description(self) -> dict[str, Any]:
        """What makes an equal, untrained net; JSON can hold it."""
        told: dict[str, Any] = {
            "cells": {"kind": self.cells.kind} | self.cells.arguments,
            "levels": [asdict(level) for level in self.levels],
            "environment": list(self.environment),
        }
        for part in ("confidence", "feedback", "fluxes"):
            modules = getattr(self, part).items()
            if modules:
                told[part] = {name: dict(module.arguments) for name, module in modules}
        return told

    def span(self, level: int) -> int:
        """Steps of level 0 in one of ``level``."""
        return math.prod(one.time for one in self.levels[: level + 1])

    def encode(
        self, frames: Sequence[State], level: int = 0, lattice: Lattice | None = None
    ) -> Grid:
        """Vectors of the cells of a level.

        Args:
            frames: `span` consecutive states, one on level 0.
            level: from 0.
            lattice: of level 0, where all of these frames lie, and others too to compare them
                with; None: that of these frames.

        Raises:
            InvalidArgument: there is no such level, or frames are too few.
        """
        self._check(level)
        if len(frames) < self.span(level):
            raise InvalidArgument(f"frames: level {level} needs {self.span(level)}, {len(frames)}")
        lattices = [lattice or self.cells.lattice(frames[: self.span(level)])]
        window = [self.cells.encode(state, lattices[0]) for state in frames[: self.span(level)]]
        for lift in self._lifts()[:level]:
            starts = range(0, len(window), lift.time)
            window = [lift(window[i : i + lift.time], lattices[-1]) for i in starts]
            lattices.append(lattices[-1].coarse(lift.space))
        grid = Grid(window[0], tuple(lattices))
        if str(level) not in self.fluxes:
            return grid
        return replace(grid, matter=pooled(self, frames[: self.span(level)], grid.lattices))

    def decode(self, grid: Grid) -> list[State]:
        """The states of level 0 that vectors stand for: as many as their level's lifts see.

        Atoms are as many in every coarse cell as it holds by ``grid.matter``, in all of these
        states; without, as many as vectors tell.

        Raises:
            Error: a cell holds more atoms than its cells of level 0 have slots.
        """
        window = [grid.h]
        for level in range(grid.level, 0, -1):
            lift = self.lift(level)
            window = [h for code in window for h in lift.down(code, grid.lattices[level - 1])]
        if grid.matter is None:
            return [self.cells.read(h, grid.lattices[0]) for h in window]
        counts = grid.matter.fields.counts
        return [self.cells.counted(h, grid.lattices[0], counts) for h in window]

    def predict(self, grid: Grid, environment: Environment = None, step: int = 0) -> Grid:
        """Vectors one step of their level later.

        Args:
            grid: of any level.
            environment: see `Environment`.
            step: of the level, told to an environment that is a function.
        """
        around = environment
        if callable(around):
            around = around(step, grid.lattice)
        elif around is not None:
            around = grid.lattice.spread(around)
        h = self.predictors[grid.level](grid.h, grid.lattice, around)
        after = grid.of(_bounded(h) if grid.level else h)
        if grid.matter is None:
            return after
        return replace(after, matter=advanced(self.fluxes[str(grid.level)], grid, after))

    def step(self, state: State, environment: Environment = None, step: int = 0) -> State:
        """The state one step of level 0 later."""
        grid = self.ahead(state, environment, step)
        return self.cells.advance(grid.h, grid.lattice, state)

    def ahead(self, state: State, environment: Environment = None, step: int = 0) -> Grid:
        """What `Cells.advance` is told: vectors of level 0 a step later, or nothing at all for
        cells that do not look at them."""
        if self.cells.blind:
            return Grid(torch.zeros(1, 1, 1, 1, self.cells.channels), (DenseLattice((1, 1, 1)),))
        return self.predict(self.encode([state]), environment, step)

    def fit(
        self,
        runs: Sequence[Run[State]],
        *,
        levels: Sequence[int] | None = None,
        validation: Sequence[Run[State]] = (),
        options: TrainingOptions | None = None,
        schedule: LiftSchedule | None = None,
        weighting: Weighting | None = None,
    ) -> list[TrainingResult]:
        """Train level by level, from fine to coarse.

        Args:
            runs: consecutive states.
            levels: which; None: all.
            validation: runs held out; the best epoch is told by them.
            options: of each level's training; its directory holds a folder for each level.
            schedule: of the lifts.
            weighting: of cells in the loss; see `mlcore.sagesnet.sensitivity.training_weights`.

        Raises:
            InvalidArgument: no run is long enough, or there is no such level.
            Error: a loss is not finite.
        """
        wanted = range(len(self.levels)) if levels is None else levels
        return fit_levels(self, runs, wanted, validation, options, schedule, weighting)

    def rollout(
        self,
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
        """Run; see `mlcore.sagesnet.rollout.rollout`."""
        return rollout(
            self,
            start,
            until,
            level=level,
            record=record,
            environment=environment,
            watch=watch,
            progress=progress,
            feedback=feedback,
            confidence=confidence,
        )

    def generated(
        self, starts: Sequence[State], steps: int, environment: Tensor | None = None
    ) -> list[Run[State]]:
        """Runs of level 0, for the levels above to learn from where true ones are dear.

        What is wrong in them is learned too: how much that matters, runs that are true must tell.

            net.fit(true, levels=[0])
            net.fit(net.generated([run.states[0] for run in more], 64), levels=[1, 2])

        Args:
            starts: a state for each run.
            steps: of level 0 in each.
            environment: (B, E), the same in all runs; see `Run`.

        Raises:
            InvalidArgument: ``steps`` is negative.
            Error: see `mlcore.sagesnet.rollout.rollout`.
        """
        made = (self.rollout(start, steps, environment=environment) for start in starts)
        return [Run(run.states, environment) for run in made]

    def save(self, folder: str | Path, *, training: Mapping[str, Any] | None = None) -> None:
        """Write to a folder; see `mlcore.sagesnet.saved.save`."""
        save(self, folder, training=training)

    @classmethod
    def load(cls, folder: str | Path) -> SagesNet[Any]:
        """The net that `save` wrote; see `mlcore.sagesnet.saved.load`."""
        return load(folder)

    def tile(self, wanted: Tiles = None, *, engine: EngineName = "threads") -> Tiled[State]:
        """The same net with its grid cut into tiles, a worker for each; see `Tiled`.

        Args:
            wanted: how many tiles, or for each axis how many, or their sizes; None: one for each
                core, or for each rank.
            engine: "threads", "processes" or "mpi"; results do not depend on it.

        Raises:
            InvalidArgument: there is no such engine.
        """
        from mlcore.sagesnet.tiled import tiled

        return tiled(self, wanted, engine)

    def lift(self, level: int) -> Lift:
        """The one from the level below to ``level``, which is 1 or more."""
        return self._lifts()[level - 1]

    def _lifts(self) -> list[Lift]:
        return [lift for lift in self.lifts if isinstance(lift, Lift)]

    def _check(self, level: int) -> None:
        if not 0 <= level < len(self.levels):
            raise InvalidArgument(f"level must be from 0 to {len(self.levels) - 1}, got {level}")


def _bounded(h: Tensor) -> Tensor:
    """tanh, which takes torch six times as long; in place where no gradient is wanted."""
    if torch.is_grad_enabled():
        return torch.sigmoid(2 * h).mul(2).sub(1)
    return h.mul_(2).sigmoid_().mul_(2).sub_(1)
