"""Training, stage by stage: a predictor of level 0, then each lift with the predictor above it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.cells import State
from mlcore.sagesnet.fingerprint import fingerprint
from mlcore.sagesnet.grid import Grid
from mlcore.sagesnet.lattice import Lattice
from mlcore.sagesnet.lift import Lift, effective_rank
from mlcore.sagesnet.symmetry import Symmetry
from mlcore.training.options import TrainingOptions, TrainingResult

if TYPE_CHECKING:
    from mlcore.sagesnet.net import SagesNet

__all__ = ["LiftSchedule", "Run", "Weighting", "block_errors", "fit_level", "fit_levels"]

Weighting = Callable[[Grid], Tensor]
"""(...) weights of cells in the loss of a step, from their vectors before it; mean 1 is advised."""


@dataclass(frozen=True)
class Run(Generic[State]):
    """Consecutive states of a batch of systems.

    Args:
        states: one step of level 0 apart.
        environment: (B, E), the same all the time, or None.
        symmetry: every sample is turned by one of these, drawn anew each time; see
            `mlcore.sagesnet.symmetry.octahedral`. Samples of a batch must still be of equal boxes.
        vectors: which three entries of ``environment`` turn too, as x, y, z of a vector.
    """

    states: Sequence[State]
    environment: Tensor | None = None
    symmetry: Sequence[Symmetry] = ()
    vectors: Sequence[tuple[int, int, int]] = ()

    def turned(
        self, net: SagesNet[State], symmetry: Symmetry, states: Sequence[State]
    ) -> Run[State]:
        """Some of its states and the environment, turned."""
        around = self.environment
        return Run(
            [net.cells.turned(state, symmetry) for state in states],
            None if around is None else symmetry.entries(around, self.vectors),
        )


@dataclass(frozen=True)
class LiftSchedule:
    """How a lift and the predictor above it are trained together.

    Args:
        noise: standard deviation on codes at the end; it grows from 0.
        begin: part of the training after which prediction counts; it then grows to ``prediction``.
        prediction: weight of the prediction's error at the end.
        steps: of the training after which noise and weight are at their ends.
        hard: extra training on badly represented blocks: a block counts in proportion to its
            reconstruction error to this power. 0: all alike.
        frozen: the lift stays as it is, the predictor alone is trained, with codes as they are.
    """

    noise: float = 0.5
    begin: float = 1 / 3
    prediction: float = 1.0
    steps: int = 1000
    hard: float = 0.0
    frozen: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.hard < float("inf"):
            raise InvalidArgument(f"hard must be a number from 0 on, got {self.hard!r}")

    def at(self, age: int) -> tuple[float, float]:
        """Noise and weight of prediction after so many steps of training."""
        if self.frozen:
            return 0.0, self.prediction
        part = min(age / self.steps, 1.0)
        weight = max(part - self.begin, 0.0) / (1 - self.begin)
        return self.noise * part, self.prediction * weight


def fit_level(
    net: SagesNet[State],
    runs: Sequence[Run[State]],
    level: int = 0,
    *,
    validation: Sequence[Run[State]] = (),
    options: TrainingOptions | None = None,
    schedule: LiftSchedule | None = None,
    weighting: Weighting | None = None,
) -> TrainingResult:
    """Train the predictor of a level, and the lift to it."""
    from mlcore.training.loop import train

    if not runs:
        raise InvalidArgument("runs must be one or more, got none")
    options = options or TrainingOptions()
    if level == 0:
        objective: Any = _Steps(net, runs, validation, options.seed, weighting)
        module: nn.Module = _Aged(net.cells, net.predictors[0])
    else:
        plan = schedule or LiftSchedule()
        objective = _Lifted(net, runs, validation, level, plan, options.seed, weighting)
        lifts = [] if plan.frozen else [net.lift(level)]
        module = _Aged(*lifts, net.predictors[level])
    return train(module, objective, options, label=f"level {level}")


def fit_levels(
    net: SagesNet[State],
    runs: Sequence[Run[State]],
    levels: Sequence[int],
    validation: Sequence[Run[State]] = (),
    options: TrainingOptions | None = None,
    schedule: LiftSchedule | None = None,
    weighting: Weighting | None = None,
) -> list[TrainingResult]:
    """`SagesNet.fit`."""
    options = options or TrainingOptions()
    results = []
    for level in levels:
        folder = None if options.directory is None else Path(options.directory) / f"level_{level}"
        own = replace(options, directory=folder)
        result = fit_level(
            net,
            runs,
            level,
            validation=validation,
            options=own,
            schedule=schedule,
            weighting=weighting,
        )
        results.append(result)
    return results


class _Aged(nn.ModuleList):
    """Modules that know how often they were trained, after a resume too."""

    age: Tensor

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__(modules)
        self.register_buffer("age", torch.zeros((), dtype=torch.int64))


class _Samples(Generic[State]):
    """Starts of windows of so many states in all runs."""

    def __init__(self, runs: Sequence[Run[State]], length: int) -> None:
        self.runs = runs
        self.length = length
        self.starts = [
            (r, t) for r, run in enumerate(runs) for t in range(len(run.states) - length + 1)
        ]
        if runs and not self.starts:
            raise InvalidArgument(f"runs: none has {length} states, as many as a sample needs")

    def __len__(self) -> int:
        return len(self.starts)

    def window(
        self, net: SagesNet[State], samples: Sequence[int], age: int | None = None
    ) -> tuple[list[State], Tensor | None]:
        """States of the samples as one batch, one after the other, and their environment.

        They are turned as their runs say, each training step another way; without ``age`` none is.
        """
        runs = [self._run(net, i, age) for i in samples]
        states = [net.cells.stack([run.states[k] for run in runs]) for k in range(self.length)]
        around = [run.environment for run in runs]
        known = [one for one in around if one is not None]
        return states, torch.cat(known) if known else None

    def _run(self, net: SagesNet[State], sample: int, age: int | None) -> Run[State]:
        number, t = self.starts[sample]
        run = self.runs[number]
        states = run.states[t : t + self.length]
        if age is None or not run.symmetry:
            return Run(states, run.environment)
        drawn = np.random.default_rng([age, sample]).integers(len(run.symmetry))
        return run.turned(net, run.symmetry[int(drawn)], states)


class _Steps(Generic[State]):
    """Loss of one step of level 0."""

    def __init__(
        self,
        net: SagesNet[State],
        runs: Sequence[Run[State]],
        held_out: Sequence[Run[State]],
        seed: int,
        weighting: Weighting | None,
    ) -> None:
        self.net, self.seed, self.weighting = net, seed, weighting
        self.samples = _Samples(runs, 2)
        self.held_out = _Samples(held_out, 2)
        self.size = len(self.samples)

    def loss(self, module: nn.Module, samples: Tensor) -> Tensor:
        assert isinstance(module, _Aged)
        age = int(module.age)
        noise = torch.Generator().manual_seed(self.seed * 1_000_003 + age)
        module.age += 1
        return self._loss(self.samples, samples.tolist(), noise, age)

    def validation(self, module: nn.Module) -> float | None:
        if not len(self.held_out):
            return None
        with torch.no_grad():
            return float(self._loss(self.held_out, range(len(self.held_out))))

    def identity(self) -> str:
        return f"{identity(self.net, 0, self.weighting)} {_data(self)}"

    def _loss(
        self,
        samples: _Samples[State],
        chosen: Sequence[int],
        noise: torch.Generator | None = None,
        age: int | None = None,
    ) -> Tensor:
        (state, target), around = samples.window(self.net, chosen, age)
        if noise is not None:
            state, target = self.net.cells.shaken(state, target, noise)
        if self.weighting is None:
            grid = self.net.ahead(state, around)
            return self.net.cells.loss(grid.h, grid.lattice, state, target)
        before = self.net.encode([state])
        grid = self.net.predict(before, around)
        errors = self.net.cells.errors(grid.h, grid.lattice, state, target)
        return (errors * self.weighting(before)).mean()


class _Lifted(Generic[State]):
    """Reconstruction by a lift, and the prediction of its codes by the predictor above."""

    def __init__(
        self,
        net: SagesNet[State],
        runs: Sequence[Run[State]],
        held_out: Sequence[Run[State]],
        level: int,
        schedule: LiftSchedule,
        seed: int,
        weighting: Weighting | None,
    ) -> None:
        self.net, self.level, self.schedule, self.seed = net, level, schedule, seed
        self.weighting = weighting
        length = net.span(level) + net.span(level - 1) * net.lift(level).frames
        self.samples = _Samples(runs, length)
        # losses of different ages do not compare: without runs held out these tell the best epoch
        self.held_out = _Samples(held_out or runs, length)
        self.size = len(self.samples)

    def loss(self, module: nn.Module, samples: Tensor) -> Tensor:
        assert isinstance(module, _Aged)
        age = int(module.age)
        module.age += 1
        noise, weight = self.schedule.at(age)
        return self._loss(self.samples, samples.tolist(), noise, weight, age)

    def validation(self, module: nn.Module) -> float | None:
        with torch.no_grad():
            every = range(0, len(self.held_out), max(1, len(self.held_out) // 256))
            return float(self._loss(self.held_out, every, 0.0, self.schedule.prediction, None))

    def measures(self, module: nn.Module) -> dict[str, float]:
        """Whether the codes last seen still say something: see `effective_rank`."""
        flat = self.codes.flatten(0, -2)
        deviation = float(flat.var(dim=0, correction=0).sum().sqrt())
        return {"effective_rank": effective_rank(self.codes), "code_deviation": deviation}

    def identity(self) -> str:
        told = f"{identity(self.net, self.level, self.weighting)} {self.schedule} {_data(self)}"
        lift = self.net.lift(self.level).state_dict()
        return told + (f" {_digest(lift)}" if self.schedule.frozen else "")

    def _loss(
        self,
        samples: _Samples[State],
        chosen: Sequence[int],
        noise: float,
        weight: float,
        age: int | None,
    ) -> Tensor:
        states, around = samples.window(self.net, chosen, age)
        lift, below = self.net.lift(self.level), self.level - 1
        span, fine = self.net.span(self.level), self.net.span(below)
        # one lattice for all: cells that are occupied now need not be so later
        base = self.net.cells.lattice(states)
        with torch.no_grad():
            windows = [
                [self.net.encode(states[s + k * fine :], below, base) for k in range(lift.frames)]
                for s in (0, span)
            ]
        first = windows[0][0]
        lattice = first.lattice
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.schedule.frozen):
            codes = [lift([grid.h for grid in window], lattice) for window in windows]
        self.codes = codes[0].detach()
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + (age or 0))
        total: Tensor = codes[0].new_zeros(())
        for code, window in zip(codes, windows, strict=True):
            shaken = code + noise * torch.randn(code.shape, generator=generator)
            total = total + self._reconstruction(shaken, window, lattice) / len(codes)
        if weight:
            coarse = Grid(codes[0], (*first.lattices, lattice.coarse(lift.space)))
            shaken = codes[0] + noise * torch.randn(codes[0].shape, generator=generator)
            predicted = self.net.predict(coarse.of(shaken), around)
            errors = (predicted.h - codes[1]).square()
            if self.weighting is not None:
                errors = errors * self.weighting(coarse)[..., None]
            # against their variance, else codes shrink to be easy to predict
            flat = codes[1].flatten(0, -2)
            spread = flat.var(dim=0, correction=0).mean().clamp(min=1e-3)
            total = total + weight * errors.mean() / spread
        return total

    def _reconstruction(self, code: Tensor, window: list[Grid], lattice: Lattice) -> Tensor:
        errors = block_errors(self.net.lift(self.level), code, [grid.h for grid in window], lattice)
        if self.schedule.hard:
            weights = errors.detach() ** self.schedule.hard
            errors = errors * weights / weights.mean().clamp(min=1e-12)
        return errors.mean()


def block_errors(lift: Lift, code: Tensor, window: Sequence[Tensor], lattice: Lattice) -> Tensor:
    """How badly codes stand for blocks, (...) of the coarse cells; 1: as badly as zeros would.

    Args:
        lift: between the two.
        code: (..., C).
        window: as many frames of fine vectors as the lift sees.
        lattice: the fine one.
    """
    parts = [
        lattice.blocks((back - h).square() / h.square().mean().clamp(min=1e-12), lift.space)
        for back, h in zip(lift.down(code, lattice), window, strict=False)
    ]
    return torch.stack(parts).mean(dim=(0, -2, -1))


def identity(net: SagesNet[Any], level: int, weighting: Weighting | None = None) -> str:
    """What tells a training from others: the net, and the weights it rests on."""
    after = ("confidence", "feedback", "fluxes")
    own = (f"predictors.{level}.", f"lifts.{level - 1}.", *(f"{name}." for name in after))
    rest = {k: v for k, v in net.state_dict().items() if not k.startswith(own)}
    weighted = " weighted" if weighting is not None else ""
    told = {name: part for name, part in net.description().items() if name not in after}
    return f"{told} level {level} {_digest(rest) if level else ''}{weighted}"


def _data(objective: _Steps[Any] | _Lifted[Any]) -> str:
    """What tells the runs learned from and held out from others."""
    samples, held_out = objective.samples, objective.held_out
    return f"{fingerprint(samples.runs)} {fingerprint(held_out.runs)}"


def _digest(tensors: dict[str, Tensor]) -> str:
    weights = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        weights.update(tensor.detach().cpu().numpy().tobytes())
    return weights.hexdigest()
