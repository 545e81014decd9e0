"""The integrator of large steps by long short-term memory, as published, and what it is worth.

Source: J. C. S. Kadupitiya, G. C. Fox and V. Jadhao, arXiv:2004.06493: LSTM layers read a window of
frames and a linear layer predicts the next one; ranges of the training windows are mapped to [0, 1].
Rolled out on its own predictions it loses the orbit within some tens of time units: errors of one
step, made from true windows (`teacher_forced`), say nothing about that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from mlcore.arrays import integer, number, one_of
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.integrators import saved
from mlcore.integrators.face import Frames, checked_request, datasets
from mlcore.integrators.samples import MinMax, Windows, windows
from mlcore.integrators.seen import fingerprints
from mlcore.integrators.taught import Taught, of_runs
from mlcore.md import Dataset
from mlcore.recurrent import LSTM
from mlcore.training import TrainingOptions, TrainingResult, checked_seed

if TYPE_CHECKING:
    from mlcore.export import ModelBundle

__all__ = ["LSTMIntegrator"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]
PathLike = str | os.PathLike[str]
_QUANTITIES = ("positions", "velocities")
_UPDATES = 60_000  # of the weights, where epochs are not told


class LSTMIntegrator:
    """Frames after a window of frames, by LSTM layers whose state begins with zeros at each window.

    Args:
        hidden: units of each layer.
        window: S, frames that a prediction is made from.
        quantities: ("positions", "velocities"), or ("positions",), whose velocities are not predicted.
        condition: what else is told with every frame: "interval", "mass" and parameters of the system,
            as they are in the runs.
        dropout: part of the units left out behind each layer while training; 0.15 in the paper, which
            costs one dimension its accuracy.
        margin: how far a window may leave the ranges of the training windows, in parts of them;
            infinity takes all.
        dtype: "float32" or "float64", of the network. Frames are float64 either way.
        seed: of the first weights, batches and runs held out.

    Attributes:
        taught: systems, parameters and intervals it was taught; None before `fit`.
        training: how `fit` went; None in one that was loaded.
        trained_on: marks of the runs it was given, those held out included.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32, 32),
        window: int = 5,
        *,
        quantities: Sequence[str] = _QUANTITIES,
        condition: Sequence[str] = (),
        dropout: float = 0.0,
        margin: float = 0.1,
        dtype: str = "float32",
        seed: int = 0,
    ) -> None:
        self.hidden = _sizes("hidden", hidden)
        if integer("window", window) < 1:
            raise InvalidArgument(f"window must be at least 1, got {window}")
        self.window = int(window)
        if not _listed(quantities) or tuple(quantities) not in (_QUANTITIES, _QUANTITIES[:1]):
            raise InvalidArgument(
                f"quantities must be {_QUANTITIES} or {_QUANTITIES[:1]}, got {quantities!r}"
            )
        self.quantities = tuple(quantities)
        if not _listed(condition) or not all(isinstance(name, str) for name in condition):
            raise InvalidArgument(f"condition must be a list of names, got {condition!r}")
        self.condition = tuple(dict.fromkeys(condition))
        if not 0 <= number("dropout", dropout) < 1:
            raise InvalidArgument(f"dropout must lie in [0, 1), got {dropout}")
        self.dropout = float(dropout)
        if not (isinstance(margin, (int, float)) and margin >= 0):
            raise InvalidArgument(f"margin must not be negative, got {margin!r}")
        self.margin = float(margin)
        self.dtype = np.dtype(one_of("dtype", dtype, "float32", "float64"))
        self.seed = checked_seed(seed)
        self.taught: Taught | None = None
        self.training: TrainingResult | None = None
        self.trained_on: tuple[str, ...] = ()
        self._weights: Mapping[str, Rows] = {}
        self._scale = self._told = MinMax(np.zeros(0), np.zeros(0))
        self._networks: dict[bytes, LSTM] = {}

    # ---------------------------------------------------------------------------------- learning
    def fit(
        self,
        data: Dataset | Sequence[Dataset],
        *,
        validation: float = 0.1,
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 1e-2,
        seconds: float | None = None,
        training: TrainingOptions | None = None,
        checkpoint: str | Path | None = None,
        progress: bool = False,
    ) -> Self:
        """Learns the frame after each window by Adam on mean squared errors in units of the ranges.

        Args:
            data: runs, or several data sets at different intervals (`[data.stride(k) for k in ...]`),
                for all of which one model is learned.
            validation: part of the runs held out to choose the best epoch by, 0 for none. A run is on
                one side at all intervals.
            epochs: passes over the windows; by default as many as make 60,000 batches, or as the time
                allows.
            batch_size: windows of a step.
            learning_rate: of the beginning; it falls by a cosine to a thousandth.
            seconds: time that training may take.
            training: all settings of the training loop instead.
            checkpoint: folder for checkpoints, metrics and the learning curve; a fit that was killed
                goes on from there when called again alike.
            progress: show a bar.

        Raises:
            InvalidArgument: the data hold no window, are not alike, or lack what is a condition.
        """
        parts = datasets(data)
        taught = Taught.of(parts)
        fitted, held_out = _split(parts, validation, self.seed)
        seen = [self._samples(part) for part in fitted]
        scale, told = _common(MinMax.of(w) for w, _ in seen), _range([c for _, c in seen])
        rows = self._scaled(seen, scale, told)
        others = [self._samples(part) for part in held_out]
        unseen = self._scaled(others, scale, told) if others else None
        if training is None and epochs is None:
            batches = -(-len(rows[0]) // max(integer("batch_size", batch_size), 1))
            epochs = -(-_UPDATES // batches) if seconds is None else 10**9
        options = TrainingOptions.of_fit(
            training,
            checkpoint=checkpoint,
            progress=progress,
            epochs=1 if epochs is None else epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            seed=self.seed,
        )
        if training is None:
            options = replace(options, final_part=1e-3)
        if seconds is not None:
            options = replace(options, seconds=seconds)
        from mlcore.integrators.lstm_fit import learn

        weights, self.training = learn(rows, unseen, self.hidden, self.dropout, self.seed, options)
        self._keep(weights, scale, told, taught)
        self.trained_on = tuple(
            dict.fromkeys(mark for part in parts for mark in fingerprints(part))
        )
        return self

    def _samples(self, part: Dataset) -> tuple[Windows, Array]:
        """Windows of a data set and what is told with each."""
        found = windows(part, self.window, self.quantities)
        return found, self._conditions(part, part.interval, "data")[found.runs]

    def _scaled(
        self, parts: Sequence[tuple[Windows, Array]], scale: MinMax, told: MinMax
    ) -> tuple[Rows, Rows]:
        """Inputs (M, S, F + C) and targets (M, F) of the network."""
        rows = []
        for found, conditions in parts:
            own = np.repeat(told.scaled(conditions)[:, None], self.window, 1)
            rows.append(np.concatenate([scale.scaled(found.inputs), own], -1).astype(self.dtype))
        targets = [scale.scaled(found.targets).astype(self.dtype) for found, _ in parts]
        return np.concatenate(rows), np.concatenate(targets)

    def _conditions(self, data: Dataset, interval: float, argument: str) -> Array:
        """(R, C) what is told with the frames of each run."""
        values = of_runs(data) | {"interval": np.full(len(data), interval)}
        found = np.empty((len(data), len(self.condition)))
        for column, name in enumerate(self.condition):
            if name not in values or values[name].dtype.kind not in "iuf":
                numbers = ", ".join(k for k, v in values.items() if v.dtype.kind in "iuf")
                raise InvalidArgument(
                    f"condition holds {name!r}, but {argument} tells only the numbers {numbers}"
                )
            own = values[name].reshape(len(data), -1)
            if (own != own[:, :1]).any():
                raise InvalidArgument(f"condition {name!r} differs between the particles of a run")
            found[:, column] = own[:, 0]
        return found

    def _keep(
        self, weights: Mapping[str, Rows], scale: MinMax, told: MinMax, taught: Taught
    ) -> None:
        self._weights, self._scale, self._told, self.taught = weights, scale, told, taught
        self._networks = {}

    # -------------------------------------------------------------------------------- prediction
    def rollout(self, window: Dataset, n: int, interval: float | None = None) -> Frames:
        """n frames after a window, each predicted from the S frames before it, its own predictions.

        Args:
            window: (R, T) frames of which the last S are read, `interval` apart.
            n: frames.
            interval: time between them, one that was taught; that of the window by default.

        Returns:
            Frames; refused, with NaN, are runs of other masses, parameters or intervals than those
            taught, and windows beyond the ranges of the training (see `margin`). Velocities are NaN
            where positions alone were taught.

        Raises:
            InvalidArgument: the window is too short, of another system or number of particles.
            Error: nothing was learned yet.
        """
        n, interval = checked_request(window, n, interval)
        taught = self._checked(window)
        times = np.asarray(interval * np.arange(1, n + 1))
        refused = taught.refusals(window, interval)
        if all(refused):
            return self._frames(times, np.full((len(window), n, self._features), np.nan), refused)
        seen = self._scale.scaled(self._rows(_last(window, self.window, interval)))
        refused = [reason or self._beyond(seen[run], run) for run, reason in enumerate(refused)]
        found = np.full((len(window), n, self._features), np.nan)
        for runs, network in self._groups(window, interval, refused):
            made = network.rollout(np.ascontiguousarray(seen[runs], self.dtype), n)
            found[runs] = self._scale.restored(made.astype(np.float64))
        return self._frames(times, found, refused)

    def step(self, window: Dataset, interval: float | None = None) -> Frames:
        """The next frame: `rollout(window, 1)`."""
        return self.rollout(window, 1, interval)

    def teacher_forced(self, data: Dataset) -> Frames:
        """One-step predictions from all windows of true frames: no roll-out.

        Every prediction begins anew from the truth, so its error cannot grow; it is not the error of
        an integrator.

        Args:
            data: (R, T) frames at an interval that was taught.

        Returns:
            Frames (R, T - S), predictions of the frames S, S + 1, ... of the data; refused are runs as
            in `rollout`, windows by those of a run that is worst.
        """
        taught = self._checked(data)
        found = windows(data, self.window, self.quantities)
        count = data.positions.shape[1] - self.window
        refused = taught.refusals(data, data.interval)
        seen = self._scale.scaled(found.inputs).reshape(len(data), count, self.window, -1)
        refused = [
            reason or self._beyond(seen[run].reshape(-1, self._features), run)
            for run, reason in enumerate(refused)
        ]
        made = np.full((len(data), count, self._features), np.nan)
        for runs, network in self._groups(data, data.interval, refused):
            own = seen[runs].reshape(-1, self.window, self._features).astype(self.dtype)
            told = network.step(own).astype(np.float64).reshape(len(runs), count, -1)
            made[runs] = self._scale.restored(told)
        return self._frames(data.interval * np.arange(1, count + 1), made, refused)

    def _checked(self, window: Dataset) -> Taught:
        if self.taught is None:
            raise Error("the integrator has learned nothing yet: call fit first")
        self.taught.check(window)
        return self.taught

    @property
    def _features(self) -> int:
        return len(self._scale.low)

    def _rows(self, data: Dataset) -> Array:
        """(R, T, F) numbers of frames."""
        count, frames = data.positions.shape[:2]
        return np.concatenate(
            [getattr(data, name).reshape(count, frames, -1) for name in self.quantities], -1
        )

    def _beyond(self, seen: Array, run: int) -> str:
        """Why a window (S, F), in units of the ranges, is too far from those of the training."""
        away = np.maximum(-seen, seen - 1).max(0)
        worst = int(away.argmax())
        if away[worst] <= self.margin:
            return ""
        assert self.taught is not None
        kind, place = divmod(worst, self.taught.particles * self.taught.dim)
        name = f"{self.quantities[kind]} ({place // self.taught.dim}, {place % self.taught.dim})"
        low, high = self._scale.low[worst], self._scale.high[worst]
        return (
            f"the window of run {run} leaves the ranges of the training by {away[worst]:.0%} in "
            f"{name}, taught were {low:g} to {high:g}"
        )

    def _groups(
        self, data: Dataset, interval: float, refused: Sequence[str]
    ) -> list[tuple[npt.NDArray[np.intp], LSTM]]:
        """Runs that are not refused, by what is told with their frames, and the network of each."""
        runs = np.flatnonzero([not reason for reason in refused])
        if not len(runs):
            return []
        conditions = self._conditions(data, interval, "window")[runs]
        each, member = np.unique(conditions, axis=0, return_inverse=True)
        return [
            (runs[member.reshape(-1) == k], self._network(condition))
            for k, condition in enumerate(each)
        ]

    def _network(self, condition: Array) -> LSTM:
        """The core's network for frames with which this is told; it becomes part of the bias."""
        key = condition.tobytes()
        if key not in self._networks:
            if len(self._networks) >= 64:
                self._networks.clear()
            weights = self._for(condition)
            self._networks[key] = LSTM(_packed(weights, self.hidden))
        return self._networks[key]

    def _for(self, condition: Array) -> dict[str, Rows]:
        """Weights of a network on the F numbers of a frame alone."""
        first = self._weights["layer0.input"]
        own = first[:, self._features :].astype(np.float64) @ self._told.scaled(condition)
        bias = self._weights["layer0.bias"] + own
        return dict(self._weights) | {
            "layer0.input": first[:, : self._features],
            "layer0.bias": bias.astype(self.dtype),
        }

    def _frames(self, times: Array, rows: Array, refused: Sequence[str]) -> Frames:
        assert self.taught is not None
        lost = np.asarray(~np.isfinite(rows).all((1, 2)))
        rows[lost] = np.nan
        told = tuple(
            reason or (f"the prediction of run {run} is not finite" if lost[run] else "")
            for run, reason in enumerate(refused)
        )
        shape = (*rows.shape[:2], self.taught.particles, self.taught.dim)
        size = self.taught.particles * self.taught.dim
        x = rows[..., :size].reshape(shape)
        v = rows[..., size:].reshape(shape) if len(self.quantities) > 1 else np.full(shape, np.nan)
        return Frames(np.asarray(times), x.copy(), v.copy(), told)

    # --------------------------------------------------------------------------------- the model
    @property
    def parameter_count(self) -> int:
        """Numbers that were learned, one bias to each gate: 28,000 for 16 particles in the paper.

        Raises:
            Error: nothing was learned yet.
        """
        if self.taught is None:
            raise Error("the integrator has learned nothing yet: call fit first")
        return sum(value.size for value in self._weights.values())

    def save(self, path: PathLike) -> None:
        """One safetensors file, whole or not at all.

        Raises:
            Error: nothing was learned yet, or the file cannot be written.
        """
        if self.taught is None:
            raise Error("the integrator has learned nothing yet: call fit first")
        settings = {
            "hidden": list(self.hidden),
            "window": self.window,
            "quantities": list(self.quantities),
            "condition": list(self.condition),
            "dropout": self.dropout,
            "margin": None if np.isinf(self.margin) else self.margin,
            "dtype": self.dtype.name,
            "seed": self.seed,
            "trained_on": list(self.trained_on),
            "taught": self.taught.settings(),
        }
        ranges = {"low": self._scale.low, "high": self._scale.high}
        ranges |= {"condition.low": self._told.low, "condition.high": self._told.high}
        saved.write(path, "lstm", dict(self._weights) | ranges, settings)

    @classmethod
    def load(cls, path: PathLike) -> Self:
        """What `save` wrote.

        Raises:
            FileFormatError: the file is absent, none of those, or damaged; names what is wrong.
        """
        tensors, settings = saved.read(path, "lstm")
        hidden = settings.values.get("hidden")
        margin = np.inf if settings.values.get("margin") is None else settings.number("margin")
        try:
            made = cls(
                hidden,  # type: ignore[arg-type]
                settings.integer("window", 1),
                quantities=settings.texts("quantities"),
                condition=settings.texts("condition"),
                dropout=settings.number("dropout"),
                margin=margin,
                dtype=settings.text("dtype"),
                seed=settings.integer("seed"),
            )
        except InvalidArgument as error:
            raise FileFormatError(f"{settings.where}: {error}") from error
        taught = Taught.read(saved.Settings(f"{settings.where}: taught", settings.table("taught")))
        features = taught.particles * taught.dim * len(made.quantities)
        scale = _ranges(path, tensors, "", features)
        told = _ranges(path, tensors, "condition.", len(made.condition))
        weights = {
            name: _weight(path, tensors, name, shape, made.dtype)
            for name, shape in made._shapes(features).items()
        }
        if tensors:
            raise FileFormatError(f"{os.fspath(path)}: tensor {min(tensors)!r} is none of an LSTM")
        made._keep(weights, scale, told, taught)
        made.trained_on = settings.texts("trained_on")
        return made

    def _shapes(self, features: int) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        width = features + len(self.condition)
        for k, units in enumerate(self.hidden):
            found[f"layer{k}.input"] = (4 * units, width)
            found[f"layer{k}.state"] = (4 * units, units)
            found[f"layer{k}.bias"] = (4 * units,)
            width = units
        return found | {"dense.weight": (features, width), "dense.bias": (features,)}

    def export(
        self,
        path: PathLike,
        window: Dataset,
        *,
        units: Mapping[str, str] | str = "lj",
        training: Mapping[str, Any] | None = None,
    ) -> ModelBundle:
        """Writes a bundle for `fix ID group mlcore dynamics PATH` that goes on from a window.

        LAMMPS knows no frames before the first, so those of the window are part of the bundle: a run
        must begin where the window ends, with the timestep `window.interval`. The bundle then carries
        its own frames, through restart files too. It runs by TorchScript in double precision.
        Particles in one dimension move along x.

        Args:
            path: folder of the bundle.
            window: one run, of which the last S frames are taken.
            units: names of the units of length, energy and time, or one word for all.
            training: where it came from; anything JSON can hold.

        Raises:
            InvalidArgument: the window is not of one run, would be refused, or velocities are not
                predicted.
            Error: nothing was learned yet, or the file does not agree with the model.
        """
        from mlcore.integrators.lstm_export import write

        taught = self._checked(window)
        if len(window) != 1:
            raise InvalidArgument(f"window must be of one run, got {len(window)}")
        if len(self.quantities) < 2:
            raise InvalidArgument(
                "quantities must hold velocities: LAMMPS takes them from the model"
            )
        reason = self.rollout(window, 1).refused[0]
        if reason:
            raise InvalidArgument(f"window would be refused: {reason}")
        frames = self._rows(_last(window, self.window, window.interval))[0]
        weights = self._for(self._conditions(window, window.interval, "window")[0])
        sizes = taught.particles, taught.dim, self.window, self.hidden
        return write(path, sizes, weights, self._scale, frames, window.interval, units, training)

    def __repr__(self) -> str:
        if self.taught is None:
            return "LSTMIntegrator(not fitted)"
        steps = ", ".join(f"{interval:g}" for interval in self.taught.intervals)
        units = "/".join(map(str, self.hidden))
        return f"LSTMIntegrator({self.taught.system}: {units} units, steps {steps})"


# -------------------------------------------------------------------------------------------- data
def _listed(data: Any) -> bool:
    return isinstance(data, Sequence) and not isinstance(data, (str, bytes))


def _split(
    parts: Sequence[Dataset], validation: Any, seed: int
) -> tuple[list[Dataset], list[Dataset]]:
    """Runs to fit to and runs held out: the same ones of all data sets."""
    if not 0 <= number("validation", validation) < 1:
        raise InvalidArgument(f"validation must lie in [0, 1), got {validation}")
    if validation == 0:
        return list(parts), []
    keys = [fingerprints(part) for part in parts]
    runs = list(dict.fromkeys(key for own in keys for key in own))
    if len(runs) < 2:
        raise InvalidArgument("validation must be 0 where data hold one run: it cannot be split")
    order = np.random.default_rng(seed).permutation(len(runs))
    count = min(max(round(validation * len(runs)), 1), len(runs) - 1)
    chosen = {runs[k] for k in order[:count]}
    sides: tuple[list[Dataset], list[Dataset]] = ([], [])
    for part, own in zip(parts, keys, strict=True):
        out = np.array([key in chosen for key in own])
        for side, which in zip(sides, (~out, out), strict=True):
            if which.any():
                side.append(part[which])
    return sides


def _common(scales: Any) -> MinMax:
    """The range that holds all."""
    scales = list(scales)
    return MinMax(np.min([one.low for one in scales], 0), np.max([one.high for one in scales], 0))


def _range(rows: Sequence[Array]) -> MinMax:
    together = np.concatenate(rows)
    return MinMax(together.min(0), together.max(0))


def _last(window: Dataset, length: int, interval: float) -> Dataset:
    """The last frames of a window, an interval apart."""
    every = max(round(interval / window.interval), 1)
    if abs(every * window.interval - interval) > 1e-9 * interval:
        raise InvalidArgument(
            f"interval must be a whole number of the window's {window.interval:g}, got {interval:g}"
        )
    frames = window.positions.shape[1]
    first = frames - 1 - (length - 1) * every
    if first < 0:
        raise InvalidArgument(
            f"window must hold {length} frames {interval:g} apart, got {frames} frames "
            f"{window.interval:g} apart"
        )
    return window.frames(slice(first, None, every))


# ----------------------------------------------------------------------------------------- weights
def _sizes(name: str, values: Any) -> tuple[int, ...]:
    if not _listed(values) or not values:
        raise InvalidArgument(f"{name} must be a list of sizes, got {values!r}")
    sizes = tuple(integer(name, value) for value in values)
    if min(sizes) < 1:
        raise InvalidArgument(f"{name} must be at least 1, got {values!r}")
    return sizes


def _packed(weights: Mapping[str, Rows], hidden: Sequence[int]) -> dict[str, Rows]:
    """As the core takes them: layers of one size. Units that are added stay at zero."""
    size = max(hidden)

    def wider(rows: Rows, columns: int) -> Rows:
        """Gates (4 n, m) as (4 size, columns)."""
        gates = rows.reshape(4, -1, rows.shape[-1])
        return np.pad(
            gates, ((0, 0), (0, size - gates.shape[1]), (0, columns - gates.shape[2]))
        ).reshape(4 * size, columns)

    found: dict[str, Rows] = {}
    for k in range(len(hidden)):
        rows = weights[f"layer{k}.input"]
        found[f"weight_ih_l{k}"] = wider(rows, rows.shape[1] if k == 0 else size)
        found[f"weight_hh_l{k}"] = wider(weights[f"layer{k}.state"], size)
        found[f"bias_ih_l{k}"] = wider(weights[f"layer{k}.bias"][:, None], 1)[:, 0]
    dense = weights["dense.weight"]
    found["out.weight"] = np.pad(dense, ((0, 0), (0, size - dense.shape[1])))
    return found | {"out.bias": weights["dense.bias"]}


def _ranges(path: PathLike, tensors: dict[str, Rows], prefix: str, size: int) -> MinMax:
    low, high = (
        saved.tensor(path, tensors, f"{prefix}{name}", (size,)) for name in ("low", "high")
    )
    for name in ("low", "high"):
        del tensors[f"{prefix}{name}"]
    if (low > high).any():
        raise FileFormatError(f"{os.fspath(path)}: tensor '{prefix}low' is above '{prefix}high'")
    return MinMax(low, high)


def _weight(
    path: PathLike,
    tensors: dict[str, Rows],
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Rows:
    found = tensors.pop(name, None)
    if found is None or found.dtype != dtype or found.shape != shape:
        got = "none" if found is None else f"{found.dtype} {found.shape}"
        raise FileFormatError(
            f"{os.fspath(path)}: tensor {name!r} must be {dtype} {shape}, got {got}"
        )
    return found
