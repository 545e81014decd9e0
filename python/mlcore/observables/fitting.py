"""Fitting observables: samples of frames, their loss, and how a fit went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.export import ModelBundle
from mlcore.networks import arguments_of
from mlcore.networks.rows import AtomRows
from mlcore.networks.values import ConfigurationValues, NeighborValues
from mlcore.observables.base import Reduce
from mlcore.training import TrainingResult, checked_seed

__all__ = [
    "Network",
    "ObservableFit",
    "Samples",
    "ValuesLoss",
    "held_out",
    "mean_squares",
    "reduced",
    "ridge",
    "start",
    "told_seed",
]

Array = NDArray[np.float64]
Network = NeighborValues | AtomRows | ConfigurationValues

_EDGES, _ATOMS, _FRAMES = 100_000, 4096, 256
_LEAST = 1e-10


@dataclass(frozen=True)
class ObservableFit:
    """Outcome of a fit; errors are root mean squares of each value, in the unit of the labels.

    Args:
        training: of the training loop; None where least squares were enough.
        error: (K,) over the frames learned from.
        held_out_error: (K,) over the frames held out; nan without any.
        seconds: wall time.
    """

    training: TrainingResult | None
    error: Array
    held_out_error: Array
    seconds: float


@dataclass(frozen=True)
class Samples:
    """What a network is given of each frame, and what it should give.

    Args:
        given: of each frame: D, i, j, types of neighbors, or its rows.
        counts: atoms of each frame.
        labels: (1, K) of each frame, or (n, K).
    """

    given: list[tuple[Tensor, ...]]
    counts: list[int]
    labels: list[Tensor]

    def batch(self, chosen: Sequence[int]) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Joined inputs, frame of every row of the result, and labels."""
        parts = [self.given[k] for k in chosen]
        counts = [self.counts[k] for k in chosen]
        if len(parts[0]) > 1:
            starts = np.cumsum([0, *counts]).tolist()
            shifted = [(D, i + s, j + s, t) for (D, i, j, t), s in zip(parts, starts, strict=False)]
            joined = tuple(torch.cat([p[k] for p in shifted]) for k in range(4))
        else:
            joined = (torch.cat([p[0] for p in parts]),)
        return joined, _owners(counts), torch.cat([self.labels[k] for k in chosen])

    def rows(self, network: Network) -> tuple[Tensor, Tensor, Tensor]:
        """As `batch` of all frames, the rows of the linear map for inputs."""
        of_neighbors = isinstance(network, NeighborValues)
        rows = [network.rows(*g) if of_neighbors else g[0] for g in self.given]  # type: ignore[operator]
        return torch.cat(rows), _owners(self.counts), torch.cat(self.labels)


def _owners(counts: Sequence[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


class ValuesLoss:
    """Mean squared error of the values, each in units of its spread.

    Args:
        network: that learns; its settings are part of the identity.
        reduce: how values of atoms become those of a frame.
        learned, held: samples to learn from and those held out.
        frames: digest of both, which a resumed run must have.
    """

    def __init__(
        self,
        network: Network,
        reduce: Reduce | None,
        learned: Samples,
        held: Samples | None,
        frames: str,
    ) -> None:
        self.reduce, self.learned, self.held = reduce, learned, held
        labels = torch.cat(learned.labels).double()
        spread = labels.std(0, correction=0)
        tiny = 1e-12 * labels.abs().amax(0)
        self.spread = torch.where(spread > tiny, spread, 1.0)
        told = json.dumps([type(network).__name__, reduce, arguments_of(network)], sort_keys=True)
        self._identity = hashlib.sha256(f"{told} {frames}".encode()).hexdigest()
        self._whole: tuple[tuple[Tensor, ...], Tensor, Tensor] | None = None

    @property
    def at_once(self) -> int:
        """Frames a step: neither too large for the memory nor too small for the machine."""
        if self.reduce is None:
            return _FRAMES
        given = self.learned.given
        rows = sum(len(g[0]) for g in given)
        most = _EDGES if len(given[0]) > 1 else _ATOMS
        return max(1, min(self.size, int(most * self.size / max(rows, 1))))

    @property
    def size(self) -> int:
        return len(self.learned.given)

    def identity(self) -> str:
        return self._identity

    def away(
        self, network: torch.nn.Module, batch: tuple[tuple[Tensor, ...], Tensor, Tensor]
    ) -> Any:
        """Differences from the labels."""
        given, owner, labels = batch
        return reduced(_values(network, given), owner, self.reduce) - labels

    def loss(self, module: torch.nn.Module, samples: Tensor) -> Tensor:
        if len(samples) == self.size:
            batch = self._whole = self._whole or self.learned.batch(range(self.size))
        else:
            batch = self.learned.batch(samples.tolist())
        away: Tensor = self.away(module, batch) / self.spread.to(batch[2].dtype)
        return away.square().mean()

    def validation(self, module: torch.nn.Module) -> float | None:
        if self.held is None:
            return None
        squares = mean_squares(self, module, self.held) / self.spread.numpy() ** 2
        return float(squares.mean())


def _values(network: torch.nn.Module, given: tuple[Tensor, ...]) -> Tensor:
    """Values of every atom, or of every configuration."""
    found: Tensor
    if isinstance(network, AtomRows):
        found = network.apply_layers(given[0])
    elif isinstance(network, ConfigurationValues):
        found = network.mapped(given[0])
    else:
        found = network(*given)
    return found


def reduced(values: Tensor, owner: Tensor, reduce: Reduce | None) -> Tensor:
    """Values of frames from those of atoms, whose frame is `owner`."""
    if reduce not in ("mean", "sum"):
        return values
    frames = int(owner[-1]) + 1
    sums = values.new_zeros(frames, values.shape[1]).index_add(0, owner, values)
    return sums / torch.bincount(owner)[:, None] if reduce == "mean" else sums


def mean_squares(loss: ValuesLoss, network: torch.nn.Module, samples: Samples) -> Array:
    """(K,) mean squared errors, a few frames at a time."""
    total = torch.zeros(loss.spread.shape, dtype=torch.float64)
    rows = 0
    with torch.no_grad():
        for chosen in torch.split(torch.arange(len(samples.given)), loss.at_once):
            batch = samples.batch(chosen.tolist())
            away = loss.away(network, batch).double()
            total, rows = total + away.square().sum(0), rows + len(away)
    return np.asarray((total / rows).numpy())


def held_out(part: Any, count: int, seed: int) -> NDArray[np.bool_]:
    """(count,) which frames are held out: a part of them, chosen by seed.

    Raises:
        InvalidArgument: naming validation, also where it leaves no frame to learn from.
    """
    number = isinstance(part, (int, float)) and not isinstance(part, bool)
    if part is not None and not (number and 0 <= part < 1):
        raise InvalidArgument(f"validation must be a part in [0, 1) or held-out data, not {part!r}")
    held = round((part or 0) * count)
    if held == count:
        raise InvalidArgument(
            f"validation must leave frames to learn from: {part!r} holds out all {held}"
        )
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[:held]] = True
    return chosen


def told_seed(bundle: ModelBundle) -> int:
    """The seed in the notes of a bundle, 0 where there is none."""
    try:
        return checked_seed(bundle.manifest.get("training", {}).get("seed"))
    except InvalidArgument:
        return 0


def start(network: Network, loss: ValuesLoss) -> None:
    """Scales of what goes in and comes out, and the linear map by least squares. Layers, where there
    are any, learn what it leaves."""
    with torch.no_grad():
        if isinstance(network, NeighborValues) and network.moments is not None:
            pairs = sum(len(given[0]) for given in loss.learned.given)
            network.moments.neighbors.fill_(max(pairs / sum(loss.learned.counts), 1.0))
        rows, owner, labels = loss.learned.rows(network)
        _scale_inputs(network, rows)
        if isinstance(network, NeighborValues) and not network.hidden:
            network.shift.zero_()
            network.out_scale.copy_(loss.spread)
            columns = network.types * network.intervals
            inside = _reduced_rows(network, rows[:, :columns], owner, loss.reduce)
            target = labels.double() / loss.spread
            network.linear[:, :columns] = ridge(inside, target, _LEAST).T
            return
        _scale_outputs(network, loss, owner, labels)
        if isinstance(network, AtomRows) and network.hidden:
            return
        columns = network.fixed if isinstance(network, NeighborValues) else rows.shape[1]
        inside = _reduced_rows(network, rows[:, :columns], owner, loss.reduce)
        one = reduced(torch.ones(len(rows), 1, dtype=torch.float64), owner, loss.reduce)
        target = (labels - one * network.out_shift) / network.out_scale
        # the constant is solved for beside, and left out of the penalty
        away, rest = inside - one * (inside / one).mean(0), target - one * (target / one).mean(0)
        answer = ridge(away, rest, _LEAST if isinstance(network, NeighborValues) else 1e-28)
        network.out_shift += ((target - inside @ answer) / one).mean(0) * network.out_scale
        if isinstance(network, AtomRows):
            layer = network.layers[0]
            assert isinstance(layer, torch.nn.Linear)
            layer.weight.copy_(answer.T)
        else:
            network.linear[:, :columns] = answer.T


def _reduced_rows(network: Network, rows: Tensor, owner: Tensor, reduce: Reduce | None) -> Tensor:
    shift, scale = _scales(network)
    size = rows.shape[1]
    return reduced(((rows - shift[:size]) / scale[:size]).double(), owner, reduce)


def _scales(network: Network) -> tuple[Tensor, Tensor]:
    if isinstance(network, AtomRows):
        return network.in_shift, network.in_scale
    return network.shift, network.scale


def _scale_inputs(network: Network, rows: Tensor) -> None:
    shift, scale = rows.mean(0), rows.std(0, correction=0)
    if isinstance(network, ConfigurationValues):
        # one length for all coordinates: what is large there counts more
        scale = scale.square().mean().sqrt().expand_as(shift)
    elif isinstance(network, NeighborValues):
        # one scale for all Gaussians: those at distances hardly ever seen must not count more
        columns = network.types * network.intervals
        scale[:columns] = scale[:columns].amax()
    scale = torch.where(scale > 1e-6 * rows.abs().amax(0) + 1e-30, scale, 1.0)
    for held, value in zip(_scales(network), (shift, scale), strict=True):
        held.copy_(value)


def _scale_outputs(network: Network, loss: ValuesLoss, owner: Tensor, labels: Tensor) -> None:
    """Those of the values of one atom, or of a configuration."""
    scale = loss.spread.to(labels.dtype)
    if loss.reduce in ("mean", "sum"):
        atoms = torch.bincount(owner).to(labels.dtype)
        scale = scale * atoms.mean() ** (0.5 if loss.reduce == "mean" else -0.5)
        if loss.reduce == "sum":
            labels = labels / atoms[:, None]
    network.out_shift.copy_(labels.mean(0))
    network.out_scale.copy_(scale)


def ridge(design: Tensor, target: Tensor, least: float) -> Tensor:
    """(columns, K) least squares with the penalty on the weights, at least `least` of the largest
    singular value squared, that generalised cross-validation chooses. Golub, Heath, Wahba,
    Technometrics 21, 215 (1979)."""
    u, s, v = torch.linalg.svd(design, full_matrices=False)
    known = u.T @ target
    beyond = float((target - u @ known).square().sum())
    best, answer = torch.inf, torch.zeros(design.shape[1], target.shape[1], dtype=design.dtype)
    for penalty in least * 10 ** np.arange(0.0, 4 - np.log10(least), 0.5):
        kept = s * s / (s * s + s.max().square() * penalty + 1e-300)
        left = len(design) - float(kept.sum())
        if left < 0.05 * len(design):
            continue
        wrong = beyond + float(((1 - kept)[:, None] * known).square().sum())
        if wrong / left**2 < best:
            best = wrong / left**2
            answer = v.T @ ((kept / s.clamp(min=1e-300))[:, None] * known)
    return answer
