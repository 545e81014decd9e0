"""Learned coarse coordinates: a few numbers from which a configuration can be made again."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mlcore.data.kinds import Kinds
from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.export import Perceptron, load_model
from mlcore.networks.layers import hidden_widths
from mlcore.networks.values import AutoencoderNetwork
from mlcore.observables.base import ConfigurationObservable
from mlcore.observables.fitting import held_out, told_seed
from mlcore.observables.frames import Frame, digest, numbers, one_size, read_frames
from mlcore.observables.projection import LinearProjection
from mlcore.training import TrainingOptions, TrainingResult, checked_seed

__all__ = ["Autoencoder", "AutoencoderFit"]

Array = NDArray[np.float64]
Dtype = Literal["float32", "float64"]


@dataclass(frozen=True)
class AutoencoderFit:
    """Outcome of a fit. Errors are root mean square distances of an atom from its place in the
    configuration (centred and turned as the encoder sees it), made again from its coordinates.

    Args:
        training: of the training loop; None where the linear map is all.
        error: over the frames learned from.
        held_out_error: over the frames held out; nan without any.
        pca_error: of the best linear map to as many numbers, over the same frames as the error that
            is known last.
        projection_error: of `LinearProjection` with as many modes besides the centroid, each of three
            numbers, over the same frames; nan where the group has fewer atoms.
        seconds: wall time.
    """

    training: TrainingResult | None
    error: float
    held_out_error: float
    pca_error: float
    projection_error: float
    seconds: float


class _Reconstruction:
    """Mean squared distance of rows from those made again, in units of their variance."""

    def __init__(self, network: AutoencoderNetwork, learned: Tensor, held: Tensor, told: str):
        self.learned, self.held = learned, held
        self.variance = float((learned - learned.mean(0)).square().mean()) or 1.0
        self._identity = f"{network.arguments} {told}"

    @property
    def size(self) -> int:
        return len(self.learned)

    def identity(self) -> str:
        return self._identity

    def _error(self, module: torch.nn.Module, rows: Tensor) -> Tensor:
        assert isinstance(module, AutoencoderNetwork)
        return (module.decode(module.encode(rows)) - rows).square().mean() / self.variance

    def loss(self, module: torch.nn.Module, samples: Tensor) -> Tensor:
        return self._error(module, self.learned[samples])

    def validation(self, module: torch.nn.Module) -> float | None:
        if len(self.held) == 0:
            return None
        with torch.no_grad():
            return float(self._error(module, self.held))

    def distance(self, network: AutoencoderNetwork, rows: Tensor) -> float:
        """Root mean square distance of an atom."""
        if len(rows) == 0:
            return math.nan
        with torch.no_grad():
            return float((3 * self.variance * self._error(network, rows)).sqrt())


class Autoencoder(ConfigurationObservable):
    """K coarse coordinates of a configuration, and the way back from them.

    Linear principal components are found first; a network beside them, in the encoder and in the
    decoder, learns to leave less. Each coordinate has mean 0 and variance 1 over the frames learned
    from. Kramer, AIChE J. 37, 233 (1991).

    Args:
        size: K.
        invariance: "rotation" (and translation): the group is made whole as a chain, centred, and
            turned, never mirrored, onto the mean shape of the frames (Kabsch; differentiable where
            the best rotation is unique); "translation": it is not turned; "none": positions as they
            are, in a periodic cell those inside it.
        hidden, activation: layers of the encoder, and in reverse of the decoder; () is linear.
        seed: of the weights, the batches and the frames held out.

    Raises:
        InvalidArgument: naming the argument.
    """

    def __init__(
        self,
        size: int,
        invariance: Literal["none", "translation", "rotation"] = "rotation",
        *,
        hidden: tuple[int, ...] = (64, 64),
        activation: str = "silu",
        seed: int = 0,
    ) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InvalidArgument(f"size must be a whole number of at least 1, not {size!r}")
        self.size, self.shape, self.invariance = size, (size,), invariance
        self.hidden, self.activation = hidden_widths(hidden), activation
        self.seed = checked_seed(seed)
        self.result: AutoencoderFit | None = None
        self._network: AutoencoderNetwork | None = None
        self._made(1)

    def _made(self, particles: int) -> AutoencoderNetwork:
        return AutoencoderNetwork(
            particles, self.size, self.invariance, self.hidden, self.activation, self.seed
        ).double()

    def fit(
        self,
        frames: Any,
        *,
        validation: Any = 0.1,
        checkpoint: str | Path | None = None,
        progress: bool = False,
        epochs: int = 300,
        learning_rate: float = 3e-3,
        batch_size: int = 256,
        training: TrainingOptions | None = None,
    ) -> AutoencoderFit:
        """Learns from configurations; what was learned before is lost, but kept where an error is
        raised.

        Args:
            frames: `mlcore.data.Trajectory`, or a sequence of trajectories, `ase.Atoms`, or positions
                (n, 3), all of the same atoms.
            validation: part of the frames to hold out, or other frames, or None. The parameters of
                the best epoch (by the frames held out) are kept. A part is chosen at random: frames
                of a run hardly differ from those just before and after, so give frames of another
                run to know the error on what was never seen.
            checkpoint: folder for checkpoints, metrics and the learning curve. A run that was killed
                goes on from there when called again alike.
            progress: show a bar.
            epochs, learning_rate, batch_size: of the training; batch_size counts frames.
            training: all its settings at once; the line above is then not read.

        Raises:
            InvalidArgument: naming the argument.
            Error: the loss is not finite, or the checkpoint is of another run.
        """
        begin = time.perf_counter()
        learned, held = self._split(frames, validation)
        network = self._made(one_size([*learned, *held]))
        if 3 * len(learned[0].x) < self.size:
            raise InvalidArgument(
                f"frames hold {len(learned[0].x)} atoms: too few for {self.size} coordinates"
            )
        if self.invariance != "none":
            network.encoder.refer_to(torch.stack([frame.whole() for frame in learned]))
        rows, others = self._rows(network, learned), self._rows(network, held)
        told = f"{digest(learned)} {digest(held)}"
        loss = _Reconstruction(network, rows, others, told)
        with torch.no_grad():
            _principal(network, rows)
        last = others if len(others) else rows
        pca = loss.distance(_linear(network), last)
        outcome = None
        if self.hidden:
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
            outcome = train(network, loss, settings, "Autoencoder")
        with torch.no_grad():
            _standardise(network, rows)
        self._network = network.eval().requires_grad_(False)
        self.result = AutoencoderFit(
            outcome,
            loss.distance(network, rows),
            loss.distance(network, others),
            pca,
            _projection_error(rows, last, self.size),
            time.perf_counter() - begin,
        )
        return self.result

    def _split(self, frames: Any, validation: Any) -> tuple[list[Frame], list[Frame]]:
        found = read_frames(frames, Kinds(1))
        if len(found) < 2:
            raise InvalidArgument("frames must hold at least two configurations")
        if validation is not None and not isinstance(validation, (int, float)):
            return found, read_frames(validation, Kinds(1), "validation")
        held = held_out(validation, len(found), self.seed)
        return (
            [frame for frame, out in zip(found, held, strict=True) if not out],
            [frame for frame, out in zip(found, held, strict=True) if out],
        )

    @staticmethod
    def _rows(network: AutoencoderNetwork, frames: list[Frame]) -> Tensor:
        """(m, 3 n) configurations as the encoder sees them."""
        encoder = network.encoder
        if not frames:
            return torch.zeros(0, 3 * encoder.particles, dtype=torch.float64)
        if encoder.invariance == "none":
            x = torch.stack([torch.from_numpy(frame.folded()) for frame in frames])
        else:
            x = torch.stack([frame.whole() for frame in frames])
        return encoder.prepared(x).flatten(1)

    # -- evaluation -------------------------------------------------------------------------------
    def network(self) -> AutoencoderNetwork:
        """The fitted module; Error before `fit`."""
        if self._network is None:
            raise Error("Autoencoder has not been fitted: call fit() first")
        return self._network

    @property
    def particles(self) -> int:
        """Atoms of a configuration; Error before `fit`."""
        return self.network().encoder.particles

    @property
    def inputs(self) -> tuple[str, ...]:
        return ("x",) if self.invariance == "none" else ("x", "cell")

    def native(self) -> Perceptron | None:
        told = self.network().encoder.native()
        return None if told is None else Perceptron(**told)

    def notes(self) -> dict[str, Any]:
        told: dict[str, Any] = {"model": "Autoencoder", "seed": self.seed}
        if self.result is not None:
            names = ("error", "held_out_error", "pca_error", "projection_error")
            errors = {name: getattr(self.result, name) for name in names}
            told |= {name: value for name, value in errors.items() if math.isfinite(value)}
        return told

    def _checked(self, frames: Any) -> list[Frame]:
        found = read_frames(frames, Kinds(1))
        if one_size(found) != self.particles:
            raise InvalidArgument(f"frames hold {len(found[0].x)} atoms, made for {self.particles}")
        return found

    def encode(self, frames: Any, dtype: Dtype = "float64") -> Array:
        """(frames, K) coarse coordinates; the frames as for `fit`.

        Raises:
            InvalidArgument: naming what is wrong with the frames.
            Error: not fitted.
        """
        replace(self.contract(), dtype=dtype)  # checks it
        network = copy.deepcopy(self.network()).to(getattr(torch, dtype))
        found = []
        for frame in self._checked(frames):
            given = (frame.x, frame.cell) if "cell" in self.inputs else (frame.folded(),)
            found.append(network(*(torch.from_numpy(a).to(getattr(torch, dtype)) for a in given)))
        return np.asarray(torch.stack(found).double().numpy())

    def decode(self, z: ArrayLike) -> Array:
        """(frames, n, 3) configurations of coarse coordinates (frames, K): about the origin, and
        turned as the mean shape, as far as the invariance says so.

        Raises:
            InvalidArgument: z is not finite or not (frames, K).
            Error: not fitted.
        """
        values = numbers("z", z)
        if values.ndim != 2 or values.shape[1] != self.size or not np.isfinite(values).all():
            raise InvalidArgument(f"z must be finite, (frames, {self.size}), not {values.shape}")
        found = self.network().decode(torch.from_numpy(values))
        return np.asarray(found.reshape(len(values), -1, 3).numpy())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads one back from its bundle, the decoder with it. No code of it is run.

        Raises:
            FileFormatError: damaged, or not a bundle of an autoencoder.
        """
        bundle = load_model(path)
        told = bundle.manifest["network"]
        if told["class"] != "autoencoder":
            raise FileFormatError(f"{path}: holds no autoencoder, but {told['class']!r}")
        network, *others = bundle.networks("float64")
        assert isinstance(network, AutoencoderNetwork)
        a = network.arguments
        made = cls(
            a["values"],
            a["invariance"],
            hidden=tuple(a["hidden"]),
            activation=a["activation"],
            seed=told_seed(bundle),
        )
        made._network = network
        if others or made.contract() != replace(bundle.contract, dtype="float64"):
            raise FileFormatError(f"{path}: manifest.json: field model does not fit its network")
        return made


def _principal(network: AutoencoderNetwork, rows: Tensor) -> None:
    """The linear maps: principal components with variance 1, one length for all coordinates."""
    encoder, decoder = network.encoder, network.decoder
    mean = rows.mean(0)
    scale = (rows - mean).square().mean().sqrt()
    scale = scale if float(scale) > 1e-12 * float(rows.abs().max()) else torch.ones_like(scale)
    _, s, v = torch.linalg.svd((rows - mean) / scale, full_matrices=False)
    size = encoder.values
    spread = torch.ones(size, dtype=rows.dtype)
    vectors = torch.zeros(size, rows.shape[1], dtype=rows.dtype)
    known = min(size, len(s))
    vectors[:known] = v[:known]
    spread[:known] = (s[:known] / len(rows) ** 0.5).clamp(min=1e-9)
    encoder.shift.copy_(mean)
    encoder.scale.copy_(scale.expand_as(mean))
    encoder.linear.copy_(vectors / spread[:, None])
    decoder.linear.copy_((vectors * spread[:, None]).T)
    decoder.out_shift.copy_(mean)
    decoder.out_scale.copy_(scale.expand_as(mean))


def _linear(network: AutoencoderNetwork) -> AutoencoderNetwork:
    """The linear maps alone."""
    plain = copy.deepcopy(network)
    plain.encoder.layers = plain.decoder.layers = None
    return plain


def _standardise(network: AutoencoderNetwork, rows: Tensor) -> None:
    """Let coordinates have mean 0 and variance 1, and nothing else change."""
    z = network.encode(rows)
    mean, spread = z.mean(0), z.std(0, correction=0)
    spread = torch.where(spread > 1e-9, spread, 1.0)
    encoder, decoder = network.encoder, network.decoder
    encoder.out_shift.copy_((encoder.out_shift - mean) / spread)
    encoder.out_scale.div_(spread)
    decoder.shift.copy_(-mean / spread)
    decoder.scale.copy_(1 / spread)


def _projection_error(rows: Tensor, last: Tensor, size: int) -> float:
    """Of LinearProjection, fitted to rows, on the last ones."""
    x = rows.reshape(len(rows), -1, 3).numpy()
    if x.shape[1] < size + 1 or len(x) < 2:
        return math.nan
    modes = LinearProjection(size + 1).fit(x)
    y = last.reshape(len(last), -1, 3).numpy()
    return float(np.sqrt(((modes.lift(modes.project(y)) - y) ** 2).sum(-1).mean()))
