"""Learned dynamics: the state one step later as a function of the state now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import Error, InvalidArgument
from mlcore.export import Contract, ModelBundle, Perceptron, write_model
from mlcore.networks.layers import hidden_widths
from mlcore.networks.one_step import OneStepNetwork
from mlcore.steppers.frames import (
    Array,
    Box,
    check_part,
    check_velocities,
    common_box,
    overdamped,
    settings,
    state,
    time_step,
    trajectories_of,
)
from mlcore.training import TrainingOptions, TrainingResult, checked_seed, train

__all__ = ["OneStep"]

Sees = Literal["atoms", "configuration"]


@dataclass(frozen=True)
class _States:
    """Samples of x, v and what came of them: dx, new v; each (S, 3), or (S, n, 3) configurations."""

    x: torch.Tensor
    v: torch.Tensor
    dx: torch.Tensor
    after: torch.Tensor

    def part(self, chosen: NDArray[np.int64]) -> _States:
        rows = torch.from_numpy(chosen)
        return _States(self.x[rows], self.v[rows], self.dx[rows], self.after[rows])

    def outputs(self) -> torch.Tensor:
        return torch.cat([self.dx.flatten(1), self.after.flatten(1)], 1)

    def digest(self) -> str:
        told = hashlib.sha256()
        for part in (self.x, self.v, self.dx, self.after):
            told.update(part.contiguous().numpy().tobytes())
        return told.hexdigest()


class _Squares:
    """Mean squared error of the normalised outputs."""

    def __init__(self, network: OneStepNetwork, fitted: _States, held_out: _States) -> None:
        self._rows = [network.rows(s.x, s.v) for s in (fitted, held_out)]
        self._outputs = [s.outputs() for s in (fitted, held_out)]
        settings = json.dumps(network.arguments, sort_keys=True)
        self._identity = settings + fitted.digest() + held_out.digest()

    @property
    def size(self) -> int:
        return len(self._rows[0])

    def identity(self) -> str:
        return self._identity

    def _error(self, network: OneStepNetwork, part: int, samples: torch.Tensor) -> torch.Tensor:
        found = network.mapped(self._rows[part][samples])
        away = (found - self._outputs[part][samples]) / network.out_scale
        return (away * away).mean()

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        assert isinstance(module, OneStepNetwork)
        return self._error(module, 0, samples)

    def validation(self, module: torch.nn.Module) -> float:
        assert isinstance(module, OneStepNetwork)
        with torch.no_grad():
            return float(self._error(module, 1, torch.arange(len(self._rows[1]))))


class OneStep:
    """(X, V) -> (X + dx, V') over a fixed time, learned from trajectories.

    A linear map is fitted first, exactly, by least squares; a network learns what it leaves. With
    `hidden=()` the linear map is all: exact for harmonic systems and linear drag.

    Args:
        sees: "atoms": every atom moves by its own state, any number of them (positions in a periodic
            box are those in the cell that begins at 0); "configuration": the
            state of all atoms decides, whose number is then fixed. Positions of a configuration enter
            relative to their mean: the step moves with it. In a periodic box each atom is taken at
            the nearest image of the one before it, as in a chain.
        inputs: "x", "v", or both. Without "v" the motion is overdamped: new velocities are dx/dt, and
            the trajectories need none.
        hidden: widths of the network's layers.
        relative: see `sees`; False takes the positions of a configuration as they are.
        seed: of its initial weights.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        sees: Sees = "atoms",
        inputs: Sequence[str] = ("v",),
        hidden: Sequence[int] = (32, 32),
        relative: bool = True,
        seed: int = 0,
    ) -> None:
        OneStepNetwork(sees, inputs)
        self.sees: Sees = sees
        self.inputs = tuple(inputs)
        self.hidden = hidden_widths(hidden)
        self.relative = bool(relative)
        self.seed = checked_seed(seed)
        self.dt = 0.0
        self.particles: int | None = None
        self._box = Box()
        self._network: OneStepNetwork | None = None

    @property
    def network(self) -> OneStepNetwork:
        """The fitted module; Error before `fit`."""
        if self._network is None:
            raise Error("OneStep has not been fitted: call fit() first")
        return self._network

    def fit(
        self,
        data: Trajectory | Sequence[Trajectory],
        *,
        validation: float = 0.1,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        training: TrainingOptions | None = None,
    ) -> TrainingResult:
        """Learns the step between consecutive frames.

        Args:
            data: trajectories with velocities (unless overdamped), all of the same atoms, cell and
                time between frames. The last part of each is held out.
            validation: part held out, above 0 and below 1.
            checkpoint: folder for checkpoints, metrics and the learning curve. A run that was killed
                goes on from there when called again alike.
            progress: show a bar.
            training: of the training loop.

        Returns:
            How training went; losses are mean squared errors in standard deviations of the outputs.

        Raises:
            InvalidArgument: naming what is wrong with the data.
        """
        check_part(validation)
        trajectories = trajectories_of(data)
        dt, box = time_step(trajectories), common_box(trajectories)
        if "v" not in self.inputs:
            trajectories = [overdamped(t) for t in trajectories]
        check_velocities(trajectories)
        atoms = self.sees == "atoms"
        count = trajectories[0].positions.shape[1]
        fitted, held_out = (
            _joined([self._states(t, part, box) for t in trajectories])
            for part in (slice(0, 1 - validation), slice(1 - validation, 1))
        )
        network = OneStepNetwork(
            self.sees, self.inputs, 1 if atoms else count, self.hidden, self.relative, self.seed
        )
        _fit_linear(network, fitted)
        objective = _Squares(network, fitted, held_out)
        default = TrainingOptions(batch_size=256, epochs=200, patience=30)
        options = settings(training, default, checkpoint, progress)
        if self.hidden:
            result = train(network, objective, options, label="one step")
        else:
            loss = objective.validation(network)
            result = TrainingResult(loss, 0, 0, "least squares", 0.0)
        self._network, self._box, self.dt = network.eval(), box, dt
        self.particles = None if atoms else count
        return result

    def _seen(self, x: Array, box: Box) -> Array:
        """Positions as the network gets them in a run."""
        folded = box.fold(x)
        return box.whole(folded) if self.sees == "configuration" and self.relative else folded

    def _states(self, t: Trajectory, part: slice, box: Box) -> _States:
        assert t.velocities is not None
        steps = len(t.times) - 1
        begin, end = round(part.start * steps), round(part.stop * steps)
        if end - begin < 1:
            raise InvalidArgument(f"data: a trajectory of {steps + 1} frames is too short to split")
        x, v = t.positions, t.velocities
        seen = self._seen(x[begin:end], box) if "x" in self.inputs else x[begin:end]
        pieces = (seen, v[begin:end], np.diff(x[begin : end + 1], axis=0), v[begin + 1 : end + 1])
        shape = (-1, 3) if self.sees == "atoms" else (-1, x.shape[1], 3)
        arrays = (np.ascontiguousarray(piece).reshape(shape) for piece in pieces)
        return _States(*(torch.from_numpy(array) for array in arrays))

    def step(self, x: ArrayLike, v: ArrayLike) -> tuple[Array, Array]:
        """Positions and velocities (n, 3) one step later, in the periodic cell of the data.

        Raises:
            InvalidArgument: shapes that differ, values that are not finite, or a number of atoms not
                fitted to.
        """
        places, speeds = state(x, v, self.particles)
        with torch.no_grad():
            network = self.network
            seen = self._seen(places, self._box) if "x" in self.inputs else places
            rows = network.rows(torch.from_numpy(seen), torch.from_numpy(speeds))
            y = network.mapped(rows).numpy()
        half = y.shape[-1] // 2
        return places + y[..., :half].reshape(-1, 3), y[..., half:].reshape(-1, 3)

    def export(
        self,
        path: str | Path,
        *,
        units: Mapping[str, str] | str = "lj",
        training: Mapping[str, Any] | None = None,
        torchscript: bool = True,
        compiled: bool = False,
    ) -> ModelBundle:
        """Writes a bundle for `fix ID group mlcore dynamics PATH`, verified before it is in place.

        The run must have the timestep `dt`. Linear steps of atoms also run without torch.

        Raises:
            Error: not fitted, or the files do not agree with the model.
        """
        inputs = self.inputs
        if self.network.relative:
            inputs = (*inputs, "cell")
        contract = Contract(
            "dynamics",
            self.sees,
            "step",
            inputs=inputs,
            particles=self.particles,
            timestep=self.dt,
        )
        network = self.network
        native = _linear_layer(network) if self.sees == "atoms" and not self.hidden else None
        return write_model(
            path,
            contract,
            network,
            units=units,
            training=training,
            native=native,
            torchscript=torchscript,
            compiled=compiled,
        )

    def rollout(self, x: ArrayLike, v: ArrayLike, steps: int) -> Trajectory:
        """`steps` steps, the start included.

        Raises:
            InvalidArgument: as `step`.
            Error: the state is no longer finite; says after which step.
        """
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise InvalidArgument(f"steps must be a whole number of at least 1, not {steps!r}")
        states = [(np.asarray(x, np.float64), np.asarray(v, np.float64))]
        for k in range(steps):
            states.append(self.step(*states[-1]))
            if not all(np.isfinite(part).all() for part in states[-1]):
                raise Error(f"the state is not finite after step {k + 1}")
        places, speeds = (np.stack(part) for part in zip(*states, strict=True))
        times = self.dt * np.arange(steps + 1, dtype=np.float64)
        return Trajectory(times, places, velocities=speeds)


def _joined(parts: list[_States]) -> _States:
    names = ("x", "v", "dx", "after")
    return _States(*(torch.cat([getattr(p, name) for p in parts]) for name in names))


def _linear_layer(network: OneStepNetwork) -> Perceptron:
    return Perceptron(
        [network.linear.numpy()],
        [np.zeros(len(network.linear))],
        "linear",
        network.shift.numpy(),
        network.scale.numpy(),
        network.out_scale.numpy(),
        network.out_shift.numpy(),
    )


def _fit_linear(network: OneStepNetwork, states: _States) -> None:
    """Normalises inputs and outputs and sets the linear map by least squares."""
    rows, outputs = network.rows(states.x, states.v), states.outputs()
    shift, scale = rows.mean(0), rows.std(0, correction=0)
    scale = torch.where(scale > 1e-12 * rows.abs().amax(0), scale, 1.0)
    out_shift, out_scale = outputs.mean(0), outputs.std(0, correction=0)
    out_scale = torch.where(out_scale > 1e-12 * outputs.abs().amax(0), out_scale, 1.0)
    u, y = (rows - shift) / scale, (outputs - out_shift) / out_scale
    linear = torch.linalg.lstsq(u, y, driver="gelsd").solution.T
    for name, value in (
        ("shift", shift),
        ("scale", scale),
        ("out_shift", out_shift),
        ("out_scale", out_scale),
        ("linear", linear),
    ):
        getattr(network, name).copy_(value)
