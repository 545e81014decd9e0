"""Learned dynamics with a memory: the next state as a function of all states so far."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from mlcore.data.trajectory import Trajectory
from mlcore.errors import Error, InvalidArgument
from mlcore.export import Contract, Lstm, ModelBundle, write_model
from mlcore.networks.recurrent import RecurrentNetwork
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

__all__ = ["RecurrentStep"]

Sees = Literal["atoms", "configuration"]
Forces = Callable[[Array], ArrayLike]
_INPUTS = ("x", "v", "f", "types", "time")
_CHUNK = 1024  # stretches of held-out data at once


class _Stretches:
    """Rows in the order of time and what came of each, cut into overlapping stretches of one length.

    Args:
        parts: (m, frames, width) rows and (m, frames, outputs) results; m ways run side by side.
        length: frames of a stretch.
        warm: frames at its beginning that only fill the memory.
    """

    def __init__(
        self, parts: list[tuple[torch.Tensor, torch.Tensor]], length: int, warm: int
    ) -> None:
        self.rows = torch.cat([rows.flatten(0, 1) for rows, _ in parts])
        self.results = torch.cat([results.flatten(0, 1) for _, results in parts])
        self.length, self.warm = length, warm
        starts, begin = [], 0
        for rows, _ in parts:
            ways, frames = rows.shape[:2]
            last = frames - length
            within = torch.tensor([*range(0, last, max(1, length - warm)), last])
            starts += [begin + way * frames + within for way in range(ways)]
            begin += ways * frames
        self.starts = torch.cat(starts)

    def __len__(self) -> int:
        return len(self.starts)

    def error(self, network: RecurrentNetwork, chosen: torch.Tensor) -> torch.Tensor:
        """Mean squared error in standard deviations of the outputs, after the warm frames."""
        places = self.starts[chosen][:, None] + torch.arange(self.length)
        found = network.stretch(self.rows[places])[:, self.warm :]
        away = (found - self.results[places[:, self.warm :]]) / network.out_scale
        return (away * away).mean()

    def digest(self) -> str:
        told = hashlib.sha256(f"{self.length} {self.warm}".encode())
        for part in (self.rows, self.results, self.starts):
            told.update(part.contiguous().numpy().tobytes())
        return told.hexdigest()


class _Squares:
    """Truncated back-propagation through time: a stretch is a sample, its end the reach."""

    def __init__(self, network: RecurrentNetwork, fitted: _Stretches, held_out: _Stretches) -> None:
        self._fitted, self._held_out = fitted, held_out
        settings = json.dumps(network.arguments, sort_keys=True)
        self._identity = settings + fitted.digest() + held_out.digest()

    @property
    def size(self) -> int:
        return len(self._fitted)

    def identity(self) -> str:
        return self._identity

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        assert isinstance(module, RecurrentNetwork)
        return self._fitted.error(module, samples)

    def validation(self, module: torch.nn.Module) -> float:
        assert isinstance(module, RecurrentNetwork)
        total = 0.0
        with torch.no_grad():
            for first in range(0, len(self._held_out), _CHUNK):
                chosen = torch.arange(first, min(first + _CHUNK, len(self._held_out)))
                total += float(self._held_out.error(module, chosen)) * len(chosen)
        return total / len(self._held_out)


class RecurrentStep:
    """(X, V, memory) -> (X + dx, V', memory) over a fixed time, learned from trajectories.

    LSTM layers and a linear head see the present state and what they kept of earlier ones: for
    motion whose next step does not follow from what is seen now, such as coarse or hidden
    variables, retarded friction, velocities that are not told. The memory starts with zeros.

    Args:
        sees: "atoms": every atom moves by its own state and has a memory of its own, any number of
            them; "configuration": the state of all atoms decides, whose number is then fixed, and
            there is one memory. As in `OneStep`, positions of a configuration enter relative to
            their mean, each atom at the nearest image of the one before it.
        inputs: ordered subset of x, v, f, types, time. Where the trajectories have no velocities
            and "v" is not seen, new velocities are dx/dt.
        hidden: units of a layer.
        layers: number of LSTM layers.
        relative: see `sees`; False takes the positions of a configuration as they are, which alone
            the core can evaluate without torch.
        seed: of the initial weights.

    Raises:
        InvalidArgument: naming the argument.

    The network is that of S. Hochreiter and J. Schmidhuber, Neural Computation 9, 1735 (1997).
    """

    def __init__(
        self,
        sees: Sees = "atoms",
        inputs: Sequence[str] = ("v",),
        hidden: int = 32,
        layers: int = 1,
        relative: bool = True,
        seed: int = 0,
    ) -> None:
        if not isinstance(inputs, Sequence) or any(name not in _INPUTS for name in inputs):
            raise InvalidArgument(f"inputs must be some of {', '.join(_INPUTS)}, not {inputs!r}")
        self.sees: Sees = sees
        self.inputs = tuple(inputs)
        self.hidden, self.layers = hidden, layers
        self.relative = bool(relative) and sees == "configuration" and "x" in self.inputs
        self.seed = checked_seed(seed)
        self._make(1, 1)
        self.dt = 0.0
        self.particles: int | None = None
        self._box = Box()
        self._network: RecurrentNetwork | None = None

    def _make(self, particles: int, types: int) -> RecurrentNetwork:
        return RecurrentNetwork(
            self.sees,
            (*self.inputs, "cell") if self.relative else self.inputs,
            particles,
            types,
            self.layers,
            self.hidden,
            self.relative,
            self.seed,
        )

    @property
    def network(self) -> RecurrentNetwork:
        """The fitted module; Error before `fit`."""
        if self._network is None:
            raise Error("RecurrentStep has not been fitted: call fit() first")
        return self._network

    def fit(
        self,
        data: Trajectory | Sequence[Trajectory],
        *,
        stretch: int = 40,
        warm: int = 10,
        validation: float = 0.1,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        training: TrainingOptions | None = None,
    ) -> TrainingResult:
        """Learns the steps along the frames by truncated back-propagation through time.

        Args:
            data: trajectories with what `inputs` names, all of the same atoms, cell and time
                between frames. The last part of each is held out.
            stretch: consecutive frames over which errors are followed back, shorter where the data
                are; every stretch starts without memory.
            warm: frames at its beginning that fill the memory and do not count.
            validation: part held out, above 0 and below 1.
            checkpoint: folder for checkpoints, metrics and the learning curve. A run that was killed
                goes on from there when called again alike.
            progress: show a bar.
            training: of the training loop; a sample of a batch is a stretch.

        Returns:
            How training went; losses are mean squared errors in standard deviations of the outputs.

        Raises:
            InvalidArgument: naming what is wrong with the data.
        """
        check_part(validation)
        _check_whole("warm", warm, 0)
        _check_whole("stretch", stretch, warm + 1)
        trajectories = trajectories_of(data)
        dt, box = time_step(trajectories), common_box(trajectories)
        trajectories = self._with_velocities(trajectories)
        count = trajectories[0].positions.shape[1]
        atoms = self.sees == "atoms"
        network = self._make(1 if atoms else count, self._types(trajectories))
        fitted, held_out = [], []
        for t in trajectories:
            rows, results = self._ways(network, t, box), _results(t, atoms)
            begin = round((1 - validation) * rows.shape[1])
            fitted.append((rows[:, :begin], results[:, :begin]))
            # the frames that fill the memory of held-out stretches may be those fitted to
            begin = max(0, begin - warm)
            held_out.append((rows[:, begin:], results[:, begin:]))
        samples = [_cut(parts, stretch, warm) for parts in (fitted, held_out)]
        network.normalise(samples[0].rows, samples[0].results)
        objective = _Squares(network, *samples)
        default = TrainingOptions(batch_size=64, epochs=200, patience=30)
        options = settings(training, default, checkpoint, progress)
        result = train(network, objective, options, label="recurrent step")
        self._network, self._box, self.dt = network.eval(), box, dt
        self.particles = None if atoms else count
        return result

    def _with_velocities(self, trajectories: list[Trajectory]) -> list[Trajectory]:
        if "v" not in self.inputs and any(t.velocities is None for t in trajectories):
            trajectories = [overdamped(t) for t in trajectories]
        check_velocities(trajectories)
        return trajectories

    def _types(self, trajectories: list[Trajectory]) -> int:
        if "types" not in self.inputs:
            return 1
        if any(t.types is None for t in trajectories):
            raise InvalidArgument("data holds trajectories without types, which are among inputs")
        return max(int(np.max(t.types)) for t in trajectories if t.types is not None)

    def _frames(self, t: Trajectory, box: Box) -> Iterator[tuple[torch.Tensor, ...]]:
        """What the network gets with each frame but the last."""
        if "f" in self.inputs and t.forces is None:
            raise InvalidArgument("data holds a trajectory without forces, which are among inputs")
        for k in range(len(t.times) - 1):
            yield self._given(
                box,
                t.positions[k],
                None if t.velocities is None else t.velocities[k],
                None if t.forces is None else t.forces[k],
                t.types,
                float(t.times[k]),
            )

    def _ways(self, network: RecurrentNetwork, t: Trajectory, box: Box) -> torch.Tensor:
        """(rows of a frame, frames, width) of the frames but the last."""
        if len(t.times) < 2:
            raise InvalidArgument("data: a trajectory of one frame holds no step")
        return torch.stack([network.rows(*given) for given in self._frames(t, box)], 1)

    def _given(
        self,
        box: Box,
        x: Array,
        v: Array | None,
        f: Array | None,
        types: NDArray[np.int64] | None,
        time: float,
    ) -> tuple[torch.Tensor, ...]:
        """Inputs in the order of bundles."""
        found = []
        for name, value in (("x", box.fold(x)), ("v", v), ("f", f), ("types", types)):
            if name not in self.inputs:
                continue
            if value is None:
                raise InvalidArgument(f"{name} must be given: it is among the inputs")
            found.append(torch.from_numpy(np.ascontiguousarray(value - (name == "types"))))
        if "time" in self.inputs:
            found.append(torch.tensor(time, dtype=torch.float64))
        if self.relative:
            found.append(torch.from_numpy(box.rows))
        return tuple(found)

    def _memory(self, memory: ArrayLike | None, count: int) -> torch.Tensor:
        shape = (count if self.sees == "atoms" else 1, self.network.memory)
        if memory is None:
            return torch.zeros(shape, dtype=torch.float64)
        try:
            found = np.array(memory, np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"memory must be numbers, not {memory!r:.60}") from error
        if found.shape != shape:
            raise InvalidArgument(f"memory must have shape {shape}, not {found.shape}")
        return torch.from_numpy(found)

    def step(
        self,
        x: ArrayLike,
        v: ArrayLike,
        memory: ArrayLike | None = None,
        *,
        f: ArrayLike | None = None,
        types: ArrayLike | None = None,
        time: float = 0.0,
    ) -> tuple[Array, Array, Array]:
        """Positions and velocities (n, 3) one step later, and the memory for the next step.

        Args:
            x, v: (n, 3); v does not matter where it is not among the inputs.
            memory: as an earlier step returned it, (n, M) of atoms or (1, M); None: zeros.
            f, types, time: where they are among the inputs; types from 1 on.

        Raises:
            InvalidArgument: shapes that differ, values that are not finite, an input is missing, or
                a number of atoms not fitted to.
        """
        places, speeds = state(x, v, self.particles)
        pushes = None if f is None else np.asarray(f, np.float64)
        kinds = None if types is None else self._kinds(types, len(places))
        if pushes is not None and pushes.shape != places.shape:
            raise InvalidArgument(f"f must have shape {places.shape}, not {pushes.shape}")
        kept = self._memory(memory, len(places))
        with torch.no_grad():
            given = self._given(self._box, places, speeds, pushes, kinds, time)
            dx, after, kept = self.network(*given, kept)
        return places + dx.numpy(), after.numpy(), kept.numpy()

    def _kinds(self, types: ArrayLike, count: int) -> NDArray[np.int64]:
        found = np.asarray(types)
        known = self.network.types if "types" in self.inputs else np.iinfo(np.int64).max
        whole = found.shape == (count,) and found.dtype.kind in "iu"
        if not whole or not ((found >= 1) & (found <= known)).all():
            raise InvalidArgument(f"types must be ({count},) whole numbers in 1..{known}")
        return found.astype(np.int64)

    def warm_up(self, frames: Trajectory, memory: ArrayLike | None = None) -> Array:
        """The memory after all frames but the last, from which a roll-out goes on.

        Raises:
            InvalidArgument: the frames lack what is among the inputs, or a shape is wrong.
        """
        (frames,) = trajectories_of(frames)
        kept = self._memory(memory, frames.particles)
        with torch.no_grad():
            for given in self._frames(frames, self._box):
                kept = self.network(*given, kept)[2]
        found: Array = kept.numpy()
        return found

    def rollout(
        self,
        x: ArrayLike,
        v: ArrayLike,
        steps: int,
        memory: ArrayLike | None = None,
        *,
        forces: Forces | None = None,
        types: ArrayLike | None = None,
        time: float = 0.0,
    ) -> Trajectory:
        """`steps` steps, the start included.

        Args:
            x, v, memory, types: as in `step`.
            forces: function of the positions (n, 3) that gives (n, 3), where f is among the inputs.
            time: of the start.

        Raises:
            InvalidArgument: as `step`.
            Error: the state is no longer finite; says after which step.
        """
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
            raise InvalidArgument(f"steps must be a whole number of at least 1, not {steps!r}")
        states = [(np.asarray(x, np.float64), np.asarray(v, np.float64))]
        times = time + self.dt * np.arange(steps + 1, dtype=np.float64)
        for k in range(steps):
            pushes = None if forces is None else forces(states[-1][0])
            *state, memory = self.step(
                *states[-1], memory, f=pushes, types=types, time=float(times[k])
            )
            states.append((state[0], state[1]))
            if not all(np.isfinite(part).all() for part in state):
                raise Error(f"the state is not finite after step {k + 1}")
        places, speeds = (np.stack(part) for part in zip(*states, strict=True))
        return Trajectory(times, places, velocities=speeds)

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

        The run must have the timestep `dt`. Unless positions are `relative`, the core evaluates it
        without torch.

        Raises:
            Error: not fitted, or the files do not agree with the model.
        """
        network = self.network
        contract = Contract(
            "dynamics",
            self.sees,
            "step",
            inputs=tuple(network.inputs),
            types=network.types,
            particles=self.particles,
            timestep=self.dt,
            memory=network.memory,
        )
        return write_model(
            path,
            contract,
            network,
            units=units,
            training=training,
            native=None if self.relative else Lstm(**network.native()),
            torchscript=torchscript,
            compiled=compiled,
        )


def _check_whole(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidArgument(f"{name} must be a whole number from {least} on, not {value!r}")


def _results(t: Trajectory, atoms: bool) -> torch.Tensor:
    """(rows of a frame, frames, outputs): dx and v after each frame but the last."""
    assert t.velocities is not None
    both = np.stack([np.diff(t.positions, axis=0), t.velocities[1:]], 1)  # (frames, 2, n, 3)
    frames, _, n, _ = both.shape
    if atoms:
        return torch.from_numpy(both.transpose(2, 0, 1, 3).reshape(n, frames, 6).copy())
    return torch.from_numpy(both.reshape(1, frames, 6 * n))


def _cut(parts: list[tuple[torch.Tensor, torch.Tensor]], stretch: int, warm: int) -> _Stretches:
    shortest = min(rows.shape[1] for rows, _ in parts)
    length = min(stretch, shortest)
    if length <= warm:
        raise InvalidArgument(
            f"data: a part of a trajectory that is fitted or held out has {shortest} steps, too few "
            f"for stretches whose first {warm} do not count; give longer ones or a smaller warm"
        )
    return _Stretches(parts, length, warm)
