"""Forces that are minus the gradient of an energy of neighbors."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from mlcore.errors import Error
from mlcore.export import Contract
from mlcore.forces.frames import finite, read_frames, split
from mlcore.forces.graph import EDGES, Learner, NeighborLoss
from mlcore.forces.model import Dtype, ForceFit, ForceModel
from mlcore.training import TrainingOptions, TrainingResult, checked_seed

__all__ = ["NeighborForce"]

_STEPS = 16


class NeighborForce(ForceModel):
    """What pair and many-body forces share.

    Args:
        cutoff: beyond which atoms do not see each other, in the unit of the frames.
        types: number of atom types, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        seed: of the weights, the batches and the frames held out.
        options: further arguments of the network.
    """

    def __init__(
        self,
        cutoff: float,
        types: int | str | Sequence[str],
        seed: int,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(types)
        self.cutoff = finite("cutoff", cutoff)
        self.seed = checked_seed(seed)
        self.options = dict(options)
        self.network = self._network()
        self.result: ForceFit | None = None

    @abstractmethod
    def _network(self) -> torch.nn.Module:
        """A new, untrained network."""

    @abstractmethod
    def _start(self, learner: Learner, loss: NeighborLoss) -> None:
        """Set what is known before training begins."""

    @property
    def _trains(self) -> bool:
        """Whether there is anything left to train after the start."""
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """What the class is called with to make an equal, unfitted model."""
        told = {"cutoff": self.cutoff, "types": self.kinds.given, "seed": self.seed}
        return {**told, **self.options}

    def renewed(self, seed: int) -> Self:
        """An unfitted model of the same settings and another seed."""
        return type(self)(**{**self.settings, "seed": seed})

    def networks(self) -> list[torch.nn.Module]:
        if self.result is None:
            raise Error(f"{type(self).__name__} has not been fitted: call fit() first")
        return [self.network]

    def contract(self, dtype: Dtype = "float64") -> Contract:
        return Contract(
            "force", "neighbors", "energy", dtype=dtype, cutoff=self.cutoff, types=self.kinds.count
        )

    def notes(self) -> dict[str, Any]:
        told = {**super().notes(), "seed": self.seed}
        if self.result is not None:
            errors = {
                "force_error": self.result.force_error,
                "energy_error": self.result.energy_error,
            }
            told |= {name: value for name, value in errors.items() if math.isfinite(value)}
        return told

    def fit(
        self,
        frames: Any,
        *,
        energy_weight: float = 1.0,
        force_weight: float = 1.0,
        validation: Any = 0.1,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        epochs: int = 300,
        learning_rate: float = 1e-2,
        batch_size: int | None = None,
        training: TrainingOptions | None = None,
    ) -> ForceFit:
        """Learn from configurations with known forces and energies; what was learned before is lost,
        but kept where an error is raised.

        Args:
            frames: `ase.Atoms`, `mlcore.data.Trajectory`, or a sequence of them. Energies may differ
                by a constant for every type of atom, which is learned and left out of the model.
            energy_weight, force_weight: of the mean squared errors, each in units of its spread.
            validation: part of the frames to hold out, or other frames, or None. The parameters of
                the best epoch (by the frames held out) are kept. A part is chosen at random: frames
                of a run hardly differ from those just before and after, so give frames of another
                run to know the error on what was never seen.
            checkpoint: folder for checkpoints, metrics and the learning curve. A run that was killed
                goes on from there when called again alike.
            progress: show a bar.
            epochs, learning_rate, batch_size: of the training; batch_size counts frames, by default
                few enough for 16 steps an epoch.
            training: all its settings at once; the line above is then not read.

        Raises:
            InvalidArgument: naming the argument.
            Error: the loss is not finite, or the checkpoint is of another run.
        """
        begin = time.perf_counter()
        found = read_frames(frames, self.kinds)
        learned, held_out = split(found, validation, self.kinds, self.seed)
        network = self._network()
        dtype = next(network.parameters()).dtype
        weights = (energy_weight, force_weight)
        data = (learned, held_out, self.cutoff, self.kinds.count)
        loss = NeighborLoss(network, *data, dtype, *weights)
        learner = Learner(network, self.kinds.count)
        self._start(learner, loss)
        outcome = None
        if self._trains:
            settings = TrainingOptions.of_fit(
                training,
                checkpoint=checkpoint,
                progress=progress,
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=_batch(loss) if batch_size is None else batch_size,
                seed=self.seed,
            )
            outcome = self._train(learner, loss, settings)
        result = _errors(learner, loss, outcome, time.perf_counter() - begin)
        self.network, self.result, self._cached = network, result, None
        return result

    def _train(
        self, learner: Learner, loss: NeighborLoss, settings: TrainingOptions
    ) -> TrainingResult:
        from mlcore.training.loop import train

        return train(learner, loss, settings, type(self).__name__)


def _batch(loss: NeighborLoss) -> int:
    """Frames a step: few enough for many steps an epoch, and for the memory."""
    return max(1, min(-(-loss.size // _STEPS), int(EDGES * loss.size / len(loss.whole.D))))


def _errors(
    learner: Learner, loss: NeighborLoss, outcome: TrainingResult | None, seconds: float
) -> ForceFit:
    def rms(values: torch.Tensor) -> float:
        return float(values.detach().double().square().mean().sqrt()) if len(values) else math.nan

    learned = [loss.errors(learner, graph, create_graph=False) for graph in loss.graphs]
    energy, force = (rms(torch.cat([e[k] for e in learned])) for k in (0, 1))
    held_out = loss.held_out_errors(learner)
    held = (math.nan, math.nan) if held_out is None else tuple(map(rms, held_out))
    return ForceFit(outcome, force, energy, held[1], held[0], seconds)
