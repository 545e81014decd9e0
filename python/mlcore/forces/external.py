"""Forces on single atoms: fields, walls, traps, drag."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import Error, InvalidArgument
from mlcore.export import Contract, Perceptron
from mlcore.export.contract import INPUTS
from mlcore.export.native import Native
from mlcore.forces.frames import Configuration, digest, read_frames, split
from mlcore.forces.graph import settings as settings_of
from mlcore.forces.model import Dtype, ForceFit, ForceModel, row_inputs
from mlcore.networks.layers import hidden_widths
from mlcore.networks.rows import AtomRows
from mlcore.training import TrainingOptions, checked_seed

__all__ = ["ExternalForce"]


class RowLoss:
    """Mean squared error of forces on atoms, in units of their spread.

    Args:
        network: gives rows their meaning; its scales are set here.
        frames, held_out: with forces.
        contract: of the network.
    """

    def __init__(
        self,
        network: AtomRows,
        frames: list[Configuration],
        held_out: list[Configuration],
        contract: Contract,
    ) -> None:
        self.rows, self.forces = _rows(network, frames, contract)
        self.held = _rows(network, held_out, contract) if held_out else None
        scale = float(self.forces.square().mean().sqrt()) or 1.0
        self.scale = scale
        self._identity = f"{digest(frames)} {digest(held_out)} {settings_of(network)}"

    @property
    def size(self) -> int:
        """Number of atoms, of all frames."""
        return len(self.rows)

    def identity(self) -> str:
        """What must be equal for a resumed run to be the same run."""
        return self._identity

    def error(self, network: torch.nn.Module, rows: Tensor, forces: Tensor) -> Tensor:
        """Mean squared error of a force component."""
        assert isinstance(network, AtomRows)
        if network.gives == "forces":
            return (network.apply_layers(rows) - forces).square().mean()
        rows = rows.detach().requires_grad_(True)
        energy = network.apply_layers(rows).sum()
        (slope,) = torch.autograd.grad(energy, rows, create_graph=True)
        return (-slope[:, :3] - forces).square().mean()

    def loss(self, module: torch.nn.Module, samples: Tensor) -> Tensor:
        """The loss on the atoms numbered."""
        return self.error(module, self.rows[samples], self.forces[samples]) / self.scale**2

    def validation(self, module: torch.nn.Module) -> float | None:
        """The loss on the frames held out, None without any."""
        if self.held is None:
            return None
        return float(self.error(module, *self.held).detach()) / self.scale**2


def _rows(
    network: AtomRows, frames: list[Configuration], contract: Contract
) -> tuple[Tensor, Tensor]:
    if any(frame.forces is None for frame in frames):
        raise InvalidArgument("frames must have forces")
    rows = [network.rows(*row_inputs(frame, contract)) for frame in frames]
    forces = [torch.from_numpy(np.array(frame.forces)).to(rows[0].dtype) for frame in frames]
    return torch.cat(rows), torch.cat(forces)


class ExternalForce(ForceModel):
    """A force on every atom by itself, of its position, velocity, type and the time.

    It need not be conservative: `inputs=("v",)` with `hidden=()` is linear drag, found by least
    squares. Positions are those inside the box.

    Args:
        inputs: some of x, v, types, time.
        types: number of atom types, or chemical symbols in the order of LAMMPS' types 1, 2, ..
        conservative: the force is minus the gradient of an energy of x.
        hidden, activation: layers of the network; () is linear.
        units: "metal", "real" or "lj" of LAMMPS: what velocities of `ase.Atoms` are converted to
            from ASE's own, Angstrom / (Angstrom sqrt(u/eV)): times 98.2269 in metal, 0.0982269
            in real, 1 in lj. All other numbers are taken as they are. Needed where momenta of
            Atoms are seen; the bundle then has these units.
        seed: of the weights, the batches and the frames held out.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        inputs: Sequence[str] = ("x", "v"),
        types: int | str | Sequence[str] = 1,
        *,
        conservative: bool = False,
        hidden: Sequence[int] = (32, 32),
        activation: str = "tanh",
        units: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(types, units)
        listed = isinstance(inputs, Sequence) and not isinstance(inputs, str)
        if not listed or not inputs or any(n not in ("x", "v", "types", "time") for n in inputs):
            raise InvalidArgument(f"inputs must be some of x, v, types, time, not {inputs!r}")
        if conservative and "v" in inputs:
            raise InvalidArgument("inputs must not name v: a potential does not depend on it")
        self.inputs = tuple(n for n in INPUTS if n in inputs)
        self.conservative = conservative
        self.hidden = hidden_widths(hidden)
        self.activation = activation
        self.seed = checked_seed(seed)
        self.network = self._network()
        self.contract()
        self.result: ForceFit | None = None

    def _network(self) -> AtomRows:
        gives = "energy" if self.conservative else "forces"
        made = AtomRows(
            self.inputs, gives, self.kinds.count, 1, self.hidden, self.activation, self.seed
        )
        return made if self.hidden else made.double()

    @property
    def settings(self) -> dict[str, Any]:
        """What the class is called with to make an equal, unfitted model."""
        return {
            "inputs": self.inputs,
            "types": self.kinds.given,
            "conservative": self.conservative,
            "hidden": self.hidden,
            "activation": self.activation,
            "units": self.kinds.units,
            "seed": self.seed,
        }

    def renewed(self, seed: int) -> Self:
        """An unfitted model of the same settings and another seed."""
        return type(self)(**{**self.settings, "seed": seed})

    def networks(self) -> list[torch.nn.Module]:
        if self.result is None:
            raise Error("ExternalForce has not been fitted: call fit() first")
        return [self.network]

    def contract(self, dtype: Dtype = "float64") -> Contract:
        gives: Any = "energy" if self.conservative else "forces"
        return Contract("force", "atoms", gives, self.inputs, dtype=dtype, types=self.kinds.count)

    def native(self) -> list[Native] | None:
        self.networks()
        return None if self.conservative else [Perceptron(**self.network.native())]

    def fit(
        self,
        frames: Any,
        *,
        validation: Any = 0.1,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        epochs: int = 300,
        learning_rate: float = 1e-2,
        batch_size: int | None = 4096,
        training: TrainingOptions | None = None,
    ) -> ForceFit:
        """Learn from configurations with known forces; what was learned before is lost, but kept
        where an error is raised.

        Args:
            frames: `ase.Atoms`, `mlcore.data.Trajectory`, or a sequence of them.
            validation: part of the frames to hold out, or other frames, or None. A part is chosen
                at random: frames of a run hardly differ from those just before and after, so give
                frames of another run to know the error on what was never seen.
            checkpoint: folder for checkpoints, metrics and the learning curve. A run that was killed
                goes on from there when called again alike.
            progress: show a bar.
            epochs, learning_rate, batch_size: of the training; batch_size counts atoms.
            training: all its settings at once; the line above is then not read.

        Raises:
            InvalidArgument: naming the argument.
            Error: the loss is not finite, or the checkpoint is of another run.
        """
        begin = clock.perf_counter()
        found = read_frames(frames, self.kinds)
        learned, held_out = split(found, validation, self.kinds, self.seed)
        network = self._network()
        dtype: Any = str(next(network.parameters()).dtype).removeprefix("torch.")
        loss = RowLoss(network, learned, held_out, self.contract(dtype))
        self._start(network, loss)
        outcome = None
        if self.hidden or self.conservative:
            from mlcore.training.loop import train

            settings = TrainingOptions.of_fit(
                training,
                checkpoint=checkpoint,
                progress=progress,
                epochs=epochs,
                learning_rate=learning_rate,
                batch_size=batch_size,
                seed=self.seed,
            )
            outcome = train(network, loss, settings, "ExternalForce")
        error = float(loss.error(network, loss.rows, loss.forces).detach()) ** 0.5
        held = math.nan
        if loss.held is not None:
            held = float(loss.error(network, *loss.held).detach()) ** 0.5
        seconds = clock.perf_counter() - begin
        result = ForceFit(outcome, error, math.nan, held, math.nan, seconds)
        self.network, self.result, self._cached = network, result, None
        return result

    def _start(self, network: AtomRows, loss: RowLoss) -> None:
        """Scales of rows and forces; the whole answer where it is linear."""
        rows, forces = loss.rows.double().numpy(), loss.forces.double().numpy()
        with torch.no_grad():
            network.normalise(rows, None if self.conservative else forces)
            if self.conservative:
                width = float(network.in_scale[:3].double().square().mean().sqrt())
                network.out_scale.fill_(loss.scale * width)
            elif not self.hidden:
                inside = (loss.rows - network.in_shift) / network.in_scale
                target = (loss.forces - network.out_shift) / network.out_scale
                design = torch.cat([inside, torch.ones_like(inside[:, :1])], 1)
                answer = torch.linalg.lstsq(design, target, driver="gelsd").solution
                layer = network.layers[0]
                assert isinstance(layer, torch.nn.Linear)
                layer.weight.copy_(answer[:-1].T)
                layer.bias.copy_(answer[-1])
