"""Pattern -> strain by a scalar head on the coarse level of a net. It is not the simulator.

Nothing is simulated here: one number comes out, the strain at failure, and no trajectory. It is the
baseline that strains read from simulated trajectories are held against.

The sheet's cells (4 x 20) are lifted to cells as long as the places of cuts are apart (4 x 4). There
the coarse level's predictor works; mean and maximum of what its cells hold become a number. Rows are
periodic, so a cyclic shift of rows changes nothing, and a pattern is told in both orders of its
rows. So partners (`mlcore.sagesnet.kirigami.sheet.partners`) have the same strain by construction,
and labels of partners are merged before training: their mean, and how many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.kirigami.cells import SheetCells
from mlcore.sagesnet.kirigami.saved import load, save
from mlcore.sagesnet.kirigami.sheet import COLUMNS, PLACES, canonical, checked_cuts, coverage
from mlcore.sagesnet.net import Level, SagesNet
from mlcore.training.options import TrainingOptions, TrainingResult, checked_seed

__all__ = ["MANY", "OPTIONS", "Ensemble", "Scores", "StrainHead", "fit_strain", "scores"]

OPTIONS = TrainingOptions(epochs=40, learning_rate=3e-3, batch_size=32, patience=None)
"""Of a member's training, where nothing else is asked for."""
MANY = replace(OPTIONS, batch_size=64, schedule="warm-up", weight_decay=1e-3)
"""Better ones for tens of thousands of labels."""

_SPACE = (1, COLUMNS // len(PLACES), 1)
_CHUNK = 512


class StrainHead(nn.Module):
    """(B, 4, 20), how much of every cell is cut -> (B,) strain, %.

    Args:
        channels: C of the net.
        layers: of the coarse level's predictor.
        width: of its messages and updates, and of the head.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int = 32, layers: int = 3, width: int = 32) -> None:
        super().__init__()
        self.arguments = {"channels": channels, "layers": layers, "width": width}
        levels = [Level(width=1), Level(layers=layers, width=width, space=_SPACE)]
        self.net: SagesNet[Tensor] = SagesNet(SheetCells(channels), levels)
        self.head = nn.Sequential(nn.Linear(2 * channels, width), nn.SiLU(), nn.Linear(width, 1))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, covered: Tensor) -> Tensor:
        both = torch.cat([covered, covered.flip(1)])
        grid = self.net.predict(self.net.encode([both[..., None]], level=1))
        h = grid.h.flatten(1, -2)
        pooled = torch.cat([h.mean(dim=1), h.amax(dim=1)], dim=-1)
        told = self.head(pooled).reshape(2, -1).mean(dim=0)
        return self.mean + self.scale * told  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Ensemble:
    """Heads of equal shape that learned from different parts of the labels.

    Attributes:
        heads: its members.
        results: of their trainings.
    """

    heads: list[StrainHead]
    results: list[TrainingResult] = field(default_factory=list)

    def members(self, cuts: ArrayLike) -> NDArray[np.float64]:
        """(members, n) strain that each foretells, %."""
        keys, first, inverse = np.unique(canonical(cuts), return_index=True, return_inverse=True)
        covered = torch.from_numpy(coverage(np.asarray(cuts)[first]))
        with torch.no_grad():
            told = [
                torch.cat([head(part) for part in torch.split(covered, _CHUNK)])
                if len(keys)
                else torch.zeros(0)
                for head in self.heads
            ]
        return torch.stack(told).double().numpy()[:, inverse.reshape(-1)]

    def predict(self, cuts: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean of the members, and how far they spread, % (0 for one member)."""
        told = self.members(cuts)
        return told.mean(axis=0), told.std(axis=0)

    def save(self, folder: str | Path, *, training: Mapping[str, Any] | None = None) -> None:
        """Write to a folder; see `mlcore.sagesnet.kirigami.saved.save`."""
        save(self, folder, training)

    @classmethod
    def load(cls, folder: str | Path) -> Ensemble:
        """The ensemble that `save` wrote; see `mlcore.sagesnet.kirigami.saved.load`."""
        return load(folder)


@dataclass(frozen=True)
class Scores:
    """How good predictions are.

    Attributes:
        rmse: root of the mean squared error, %.
        r2: part of the labels' variance that is explained.
    """

    rmse: float
    r2: float


def scores(predicted: ArrayLike, strain: ArrayLike) -> Scores:
    """Errors of predictions against labels."""
    told, true = np.asarray(predicted, dtype=float), np.asarray(strain, dtype=float)
    if told.shape != true.shape or true.ndim != 1 or len(true) < 2:
        raise InvalidArgument(
            f"predicted and strain must be (n,) alike, {told.shape}, {true.shape}"
        )
    squares = float(((told - true) ** 2).sum())
    spread = float(((true - true.mean()) ** 2).sum())
    r2 = 1.0 - squares / spread if spread else float("nan")
    return Scores((squares / len(true)) ** 0.5, r2)


def fit_strain(
    cuts: ArrayLike,
    strain: ArrayLike,
    *,
    members: int = 1,
    held_out: float = 0.1,
    head: dict[str, int] | None = None,
    options: TrainingOptions | None = None,
    seed: int = 0,
) -> Ensemble:
    """Train heads.

    Args:
        cuts: (n, 4) patterns.
        strain: (n,) their labels, %.
        members: heads of the ensemble.
        held_out: part of the labels that a member does not learn from, another one for each; its best
            epoch is told by them.
        head: arguments of `StrainHead`.
        options: of each member's training; None: `OPTIONS`.
        seed: of weights, order and what is held out.

    Raises:
        InvalidArgument: naming the argument.
    """
    given, labels = checked_cuts(cuts), _checked_strain(strain, len(np.asarray(cuts)))
    if not isinstance(members, int) or members < 1:
        raise InvalidArgument(f"members must be a whole number from 1 on, got {members!r}")
    if not 0 < held_out < 1 or not 1 <= round(held_out * len(given)) < len(given):
        raise InvalidArgument(f"held_out of {len(given)} labels must leave some: {held_out!r}")
    order = np.random.default_rng(checked_seed(seed)).permutation(len(given))
    made = Ensemble([])
    for member in range(members):
        size = round(held_out * len(given))
        turned = np.roll(order, -member * size)
        rows, kept = turned[size:], turned[:size]
        own = replace(options or OPTIONS, seed=1000 * seed + member)
        objective = _Merged(given[rows], labels[rows], given[kept], labels[kept])
        made.heads.append(_head(head or {}, labels[rows], own.seed))
        made.results.append(_trained(made.heads[-1], objective, own))
    return made


def _checked_strain(strain: ArrayLike, n: int) -> NDArray[np.float64]:
    labels = np.asarray(strain, dtype=np.float64)
    if labels.shape != (n,) or not np.isfinite(labels).all():
        raise InvalidArgument(f"strain must be ({n},) finite numbers, got {labels.shape}")
    return labels


def _head(arguments: dict[str, int], strain: NDArray[np.float64], seed: int) -> StrainHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = StrainHead(**arguments)
    head.mean.fill_(strain.mean())
    head.scale.fill_(strain.std() or 1.0)
    return head


def _trained(head: StrainHead, objective: _Merged, options: TrainingOptions) -> TrainingResult:
    from mlcore.training.loop import train

    result = train(head, objective, options, label="strain head")
    head.eval()
    return result


class _Merged:
    """Squared error, in units of the labels' variance, of labels of which partners are merged.

    The error of the mean of partners' labels, weighted by how many there are, differs from that of
    the single labels by a number that no head can change.
    """

    def __init__(
        self,
        cuts: NDArray[np.int64],
        strain: NDArray[np.float64],
        held_cuts: NDArray[np.int64],
        held_strain: NDArray[np.float64],
    ) -> None:
        self.learned = _merge(cuts, strain)
        self.held = _merge(held_cuts, held_strain)
        self.size = len(self.learned[0])
        self._told = hashlib.sha256(
            b"".join(part.numpy().tobytes() for part in (*self.learned, *self.held))
        ).hexdigest()

    def loss(self, module: nn.Module, samples: Tensor) -> Tensor:
        assert isinstance(module, StrainHead)
        covered, strain, weight = (part[samples] for part in self.learned)
        squares = ((module(covered) - strain) / module.scale).square()
        loss: Tensor = (weight * squares).mean() / self.learned[2].mean()
        return loss

    def validation(self, module: nn.Module) -> float:
        assert isinstance(module, StrainHead)
        covered, strain, weight = self.held
        with torch.no_grad():
            told = torch.cat([module(part) for part in torch.split(covered, _CHUNK)])
            squares = ((told - strain) / module.scale).square()
            return float((weight * squares).sum() / weight.sum())

    def identity(self) -> str:
        return f"strain head {self._told}"


def _merge(cuts: NDArray[np.int64], strain: NDArray[np.float64]) -> tuple[Tensor, Tensor, Tensor]:
    """Coverage, mean label and number of labels of each sheet."""
    _, first, inverse, counts = np.unique(
        canonical(cuts), return_index=True, return_inverse=True, return_counts=True
    )
    mean = np.bincount(inverse.reshape(-1), strain) / counts
    covered = torch.from_numpy(coverage(cuts[first]))
    return covered, torch.tensor(mean).float(), torch.tensor(counts).float()
