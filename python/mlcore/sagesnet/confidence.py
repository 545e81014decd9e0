"""How wrong every cell is expected to be, told while a net runs.

A head looks at what a predictor looks at, a cell's vector and what arrives there, and at what came of
it; of cells whose steps look at no vectors, at what these tell of themselves (`Cells.signs`). It tells
the mean and the spread of the logarithm of the cell's loss (Gaussian likelihood, after
D. A. Nix, A. S. Weigend, ICNN 1994). Nothing flows back from it into the net. Runs held out then set
how many spreads make a band (split conformal prediction, V. Vovk et al., 2005), so that a band of 90 %
holds 90 % of losses of runs like those. Cells of one run are alike, so it is whole runs that must be
like those: several, none of which the net or the head has learned from, seen from begin to end.

    fit_confidence(net, runs, calibration)                      # of predictions of level 0
    fit_confidence(net, runs, calibration, level=1, of="lift")  # of what a code holds of its block
    told = confidence(net, before, after, state=state)
    told.expected, told.low, told.high                          # (...) of every cell
    net.rollout(start, until=50, confidence="predictor").told   # for every recorded state
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.feedback import carried
from mlcore.sagesnet.grid import Environment, Grid

if TYPE_CHECKING:
    from mlcore.sagesnet.fit import Run
    from mlcore.sagesnet.net import SagesNet
    from mlcore.training.options import TrainingOptions, TrainingResult

__all__ = [
    "CellLosses",
    "ConfidenceHead",
    "Of",
    "Told",
    "cell_losses",
    "confidence",
    "fit_confidence",
    "judged",
]

Of = Literal["predictor", "lift"]
_FLOOR = 1e-8
"""Added to losses before their logarithm is taken."""
_ROUNDING = 1e-4
_MOST = 200_000
"""Cells that a head is trained on."""


@dataclass(frozen=True)
class Told:
    """What is expected of every cell, (...) as the cells lie.

    Attributes:
        expected: loss.
        low, high: ends of the band.
        grid: the vectors before the step, or the codes, of the same cells.
        rows: (m,) of the cells (flattened) in which anything can go wrong, where cells tell; of all
            others 0 is told.
    """

    expected: Tensor
    low: Tensor
    high: Tensor
    grid: Grid | None = None
    rows: Tensor | None = None


class CellLosses(NamedTuple):
    """A step beside what truly happened.

    Attributes:
        before, after: vectors; after is None for a lift.
        loss: (...) of every cell.
        state: from which the step was made; None above level 0.
    """

    before: Grid
    after: Grid | None
    loss: Tensor
    state: Any | None = None


class ConfidenceHead(nn.Module):
    """The same small network for every cell.

    Args:
        inputs: length of what it sees of a cell.
        width: of the hidden layer.
    """

    def __init__(self, inputs: int, width: int = 32) -> None:
        super().__init__()
        self.arguments = {"inputs": inputs, "width": width}
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.outputs = nn.Linear(width, 2)
        for name, value in (
            ("middle", torch.zeros(inputs)),
            ("spread", torch.ones(inputs)),
            ("level", torch.zeros(())),
            ("scale", torch.ones(())),
            ("band", torch.tensor([-1.6449, 1.6449])),
        ):
            self.register_buffer(name, value)

    middle: Tensor
    spread: Tensor
    level: Tensor
    scale: Tensor
    band: Tensor

    def forward(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the logarithm of the loss, (...) each."""
        seen = (seen.detach() - self.middle) / self.spread
        mean, log = self.outputs(self.layers(seen)).unbind(dim=-1)
        return self.level + self.scale * mean, self.scale * torch.exp(4 * torch.tanh(log / 4))

    def told(self, seen: Tensor) -> Told:
        """Expected loss and band."""
        with torch.no_grad():
            mean, deviation = self(seen)
            # the spread of rare, badly known cells must not make their mean infinite
            expected = torch.exp(mean + deviation.clamp(max=3).square() / 2)
            low, high = (torch.exp(mean + end * deviation) for end in self.band)
            # losses that calibrated the ends lie on them, and rounding must not put them outside
            low, high = low * (1 - _ROUNDING), high * (1 + _ROUNDING)
            return Told(_clear(expected), _clear(low), _clear(high))

    def normalise(self, seen: Tensor, logs: Tensor) -> None:
        """Take scales from data."""
        self.middle.copy_(seen.mean(dim=0))
        self.spread.copy_(seen.std(dim=0).clamp(min=1e-6))
        self.level.copy_(logs.mean())
        self.scale.copy_(logs.std().clamp(min=1e-6))

    def calibrate(self, seen: Tensor, losses: Tensor, part: float = 0.9) -> None:
        """Make the band hold this part of losses."""
        with torch.no_grad():
            mean, deviation = self(seen)
            off = ((_log(losses) - mean) / deviation).double().flatten().sort().values
            ends = torch.tensor([(1 - part) / 2, (1 + part) / 2], dtype=torch.float64)
            places = (ends * (len(off) - 1)).round().long()
            self.band.copy_(off[places])


def confidence(
    net: SagesNet[Any],
    before: Grid,
    after: Grid | None = None,
    of: Of = "predictor",
    state: Any | None = None,
) -> Told:
    """How wrong the cells of a grid are expected to be.

    Args:
        net: with a head for this; see `fit_confidence`.
        before: a step's start, or with ``of="lift"`` the codes.
        after: what `SagesNet.predict` made of it; None: it is made here, without an environment.
        of: the prediction's loss, or that of a code's reconstruction.
        state: that ``before`` was encoded from; needed where cells tell signs of it, as `AtomCells`.

    Raises:
        InvalidArgument: there is no head for it, or it was fitted on other numbers of a cell.
    """
    name = f"{of}_{before.level}"
    if name not in net.confidence:
        raise InvalidArgument(
            f"net knows no confidence of the {of} of level {before.level}; fit it"
        )
    head = net.confidence[name]
    assert isinstance(head, ConfidenceHead)
    with torch.no_grad():
        if of == "predictor" and after is None and not _blind(net, before):
            after = net.predict(before)
        rows, seen = _seen(net, before, after, of, state)
        if seen.shape[-1] != head.arguments["inputs"]:
            raise InvalidArgument(
                f"state: the head of {name} was fitted on {head.arguments['inputs']} numbers of a "
                f"cell, here are {seen.shape[-1]}; give the state, or fit it again"
            )
        told = head.told(seen)
        if rows is None:
            return replace(told, grid=before)
        shape = before.h.shape[:-1]
        nothing = told.expected.new_zeros(shape.numel())
        expected, low, high = (
            nothing.index_copy(0, rows, part).reshape(shape)
            for part in (told.expected, told.low, told.high)
        )
        return Told(expected, low, high, before, rows)


def judged(
    net: SagesNet[Any],
    made: Iterable[tuple[int, Any, Grid | None]],
    of: Of,
    environment: Environment,
    told: list[Told],
) -> Iterator[tuple[int, Any, Grid | None]]:
    """Steps of a rollout as they are, while ``told`` grows by what is expected of those recorded."""
    for step, state, grid in made:
        if state is not None:
            before = net.encode([state]) if grid is None else grid
            alone = of == "lift" or _blind(net, before)
            after = None if alone else net.predict(before, environment, step)
            told.append(confidence(net, before, after, of, None if before.level else state))
        yield step, state, grid


def fit_confidence(
    net: SagesNet[Any],
    runs: Sequence[Run[Any]],
    calibration: Sequence[Run[Any]],
    *,
    level: int = 0,
    of: Of = "predictor",
    horizon: int = 1,
    part: float = 0.9,
    width: int = 32,
    options: TrainingOptions | None = None,
) -> TrainingResult:
    """Train a head on losses of a trained net, set its band, and keep it in ``net.confidence``.

    Args:
        net: trained; nothing in it changes.
        runs: to learn from, best others than the net has learned from.
        calibration: to set the band on; others again, several whole ones.
        level: whose predictor, or the lift to which.
        of: predictions or reconstructions.
        horizon: steps of the level that predictions run freely before they begin anew.
        part: of losses that the band is to hold.
        width: of the head.
        options: of the training.

    Raises:
        InvalidArgument: naming what is out of range; no run is long enough.
    """
    from mlcore.training.loop import train
    from mlcore.training.options import TrainingOptions

    if not 0 < part < 1:
        raise InvalidArgument(f"part must lie in (0, 1), got {part!r}")
    options = options or TrainingOptions(
        epochs=30, learning_rate=3e-3, batch_size=2048, patience=None
    )
    seen, losses = _gathered(net, runs, level, of, horizon, options.seed)
    held, held_losses = _gathered(net, calibration, level, of, horizon, options.seed)
    logs = _log(losses)
    head = ConfidenceHead(seen.shape[-1], width).to(seen)
    head.normalise(seen, logs)
    result = train(head, _Likelihood(seen, logs), options, label=f"confidence of {of} {level}")
    head.calibrate(held, held_losses, part)
    net.confidence[f"{of}_{level}"] = head
    return result


def cell_losses(
    net: SagesNet[Any],
    run: Run[Any],
    *,
    level: int = 0,
    of: Of = "predictor",
    horizon: int = 1,
) -> Iterator[CellLosses]:
    """Before, after and the true loss of every cell, along a run.

    Args:
        net: trained.
        run: with what truly happens.
        level, of, horizon: see `fit_confidence`.

    Raises:
        InvalidArgument: naming what is out of range.
    """
    if of not in ("predictor", "lift"):
        raise InvalidArgument(f"of must be 'predictor' or 'lift', got {of!r}")
    if of == "lift" and not 1 <= level < len(net.levels):
        raise InvalidArgument(f"level must be one with a lift, from 1 on, got {level!r}")
    if not isinstance(horizon, int) or horizon < 1:
        raise InvalidArgument(f"horizon must be a whole number from 1 on, got {horizon!r}")
    with torch.no_grad():
        make = _lifted if of == "lift" else _fine if level == 0 else _coarse
        yield from make(net, run, level, horizon)


def _fine(net: SagesNet[Any], run: Run[Any], level: int, horizon: int) -> Iterator[CellLosses]:
    for start in range(0, len(run.states) - 1, horizon):
        state = run.states[start]
        for truth in run.states[start + 1 : start + 1 + horizon]:
            before = net.encode([state])
            after = before if _blind(net, before) else net.predict(before, run.environment)
            loss = net.cells.errors(after.h, after.lattice, state, truth)
            yield CellLosses(before, after, loss, state)
            state = net.cells.advance(after.h, after.lattice, state)


def _coarse(net: SagesNet[Any], run: Run[Any], level: int, horizon: int) -> Iterator[CellLosses]:
    span = net.span(level)
    starts = range(0, len(run.states) - 2 * span + 1, span * horizon)
    for start in starts:
        before = net.encode(run.states[start : start + span], level)
        for step in range(1, horizon + 1):
            frames = run.states[start + step * span : start + (step + 1) * span]
            if len(frames) < span:
                return
            after = net.predict(before, run.environment)
            truth = net.encode(frames, level)
            right = carried(truth.h, truth.lattice, after.lattice)
            yield CellLosses(before, after, (after.h - right).square().mean(dim=-1))
            before = after


def _lifted(net: SagesNet[Any], run: Run[Any], level: int, horizon: int) -> Iterator[CellLosses]:
    span, fine, lift = net.span(level), net.span(level - 1), net.lift(level)
    for start in range(0, len(run.states) - span + 1, span):
        frames = run.states[start : start + span]
        code = net.encode(frames, level)
        below = code.lattices[-2]
        errors = []
        for k, found in enumerate(lift.down(code.h, below)):
            truth = net.encode(frames[k * fine : (k + 1) * fine], level - 1)
            right = carried(truth.h, truth.lattice, below)
            blocks = below.blocks((found - right).square(), lift.space)
            errors.append(blocks.mean(dim=(-1, -2)))
        yield CellLosses(code, None, torch.stack(errors).mean(dim=0))


class _Likelihood:
    """Gaussian likelihood of logarithms of losses."""

    def __init__(self, seen: Tensor, logs: Tensor) -> None:
        self.seen, self.logs = seen, logs
        self.size = len(seen)

    def loss(self, module: nn.Module, samples: Tensor) -> Tensor:
        mean, deviation = module(self.seen[samples])
        off = (self.logs[samples] - mean) / deviation
        likelihood: Tensor = torch.log(deviation) + off.square() / 2
        return likelihood.mean()

    def validation(self, module: nn.Module) -> float | None:
        return None

    def identity(self) -> str:
        told = hashlib.sha256(self.seen.cpu().numpy().tobytes())
        told.update(self.logs.cpu().numpy().tobytes())
        return told.hexdigest()


def _gathered(
    net: SagesNet[Any],
    runs: Sequence[Run[Any]],
    level: int,
    of: Of,
    horizon: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """What a head sees of (n, ..) cells, and their losses; not more than `_MOST`."""
    seen, losses = [], []
    for run in runs:
        for one in cell_losses(net, run, level=level, of=of, horizon=horizon):
            with torch.no_grad():
                rows, known = _seen(net, one.before, one.after, of, one.state)
            loss = one.loss.reshape(-1)
            seen.append(known.reshape(-1, known.shape[-1]))
            losses.append(loss if rows is None else loss[rows])
    if not seen:
        raise InvalidArgument(f"runs: none is long enough for level {level}")
    every, wrong = torch.cat(seen), torch.cat(losses)
    if len(every) > _MOST:
        kept = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:_MOST]
        every, wrong = every[kept], wrong[kept]
    return every, wrong


def _blind(net: SagesNet[Any], before: Grid) -> bool:
    """Whether the next step looks at no vectors."""
    return before.level == 0 and net.cells.blind


def _seen(
    net: SagesNet[Any], before: Grid, after: Grid | None, of: Of, state: Any | None
) -> tuple[Tensor | None, Tensor]:
    """What a head sees (..., F) of all cells, or (m, F) of those that rows (m,) tell."""
    signs = None
    if of == "predictor" and before.level == 0 and state is not None:
        signs = net.cells.signs(state, before.lattice)
    if _blind(net, before):
        if signs is None:
            raise InvalidArgument("state: these cells look at no vectors and tell no signs without")
        return signs[0], signs[1].to(before.h.dtype)
    told: Tensor = net.predictors[before.level].arrived(before.h, before.lattice)  # type: ignore[operator]
    parts = [before.h, told] if of == "lift" or after is None else [before.h, after.h, told]
    seen = torch.cat(parts, dim=-1)
    if signs is None:
        return None, seen
    rows, known = signs
    return rows, torch.cat([seen.flatten(0, -2)[rows], known.to(seen.dtype)], dim=-1)


def _clear(raised: Tensor) -> Tensor:
    """Without the floor; what rounding leaves of a loss of nothing is nothing."""
    loss = raised - _FLOOR
    return torch.where(loss > 10 * _ROUNDING * _FLOOR, loss, torch.zeros_like(loss))


def _log(losses: Tensor) -> Tensor:
    return torch.log(losses.clamp(min=0) + _FLOOR)
