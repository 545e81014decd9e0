"""Pair mobility whose shell weights come from a neural network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.mobility.background import overlap_correction
from mlcore.mobility.models.base import FitResult, Loss, PairModel, PairParameters
from mlcore.mobility.regression import Regression
from mlcore.training.loop import train
from mlcore.training.options import TrainingOptions

__all__ = ["NeuralPairModel", "SpectralNetwork"]

_LOWEST = -30.0


class SpectralNetwork(torch.nn.Module):
    """Shell weights, delta, radius and viscosity as differentiable functions of free parameters.

    s(k) = scale * w(k) * softplus(MLP(k)), one output for transverse and one for longitudinal
    shells; w(k) falls off towards the largest wavenumber and makes the sum of self parts one.

    Args:
        wavenumbers: (Q,) of the shells.
        outputs: 1, or 2 with longitudinal shells.
        hidden: widths of the hidden layers.
        scale: self mobility the weights are measured in.
        start: log of radius and viscosity.
        local, noise_local: start values of delta and of the noise's local part, in units of scale.
        seed: of the initial weights.
    """

    def __init__(
        self,
        wavenumbers: NDArray[np.float64],
        outputs: int,
        hidden: tuple[int, ...],
        scale: float,
        start: tuple[float, float],
        local: float,
        noise_local: float,
        seed: int,
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        widths = [1, *hidden, outputs]
        layers: list[torch.nn.Module] = []
        for inside, outside in zip(widths[:-1], widths[1:], strict=True):
            layer = torch.nn.Linear(inside, outside, dtype=torch.float64)
            with torch.no_grad():
                bound = (3.0 / inside) ** 0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-1, 1, generator=generator)
            layers += [layer, torch.nn.SiLU()]
        self.network = torch.nn.Sequential(*layers[:-1])
        with torch.no_grad():
            last = layers[-2]
            assert isinstance(last, torch.nn.Linear)
            last.weight *= 0.1
            last.bias.fill_(-3.0)
        k = torch.from_numpy(wavenumbers)
        largest = float(k.max()) if len(wavenumbers) else 1.0
        envelope = torch.exp(-((2 * k / largest) ** 2))
        self.register_buffer("inputs", (4 * k / largest - 2)[:, None], persistent=False)
        envelope = envelope / envelope.sum().clamp(min=1e-300)
        self.register_buffer("envelope", envelope[:, None], persistent=False)
        self.scale = scale
        self.start = start
        self.background = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        amounts = np.log(np.maximum([local, noise_local], 1e-8))
        self.locals = torch.nn.Parameter(torch.from_numpy(amounts))

    def density(self) -> torch.Tensor:
        """(Q, outputs) non-negative spectral density."""
        return torch.nn.functional.softplus(self.network(self.inputs))

    def weights(self) -> torch.Tensor:
        """(outputs*Q,) shell weights, transverse first."""
        return (self.scale * self.envelope * self.density()).T.reshape(-1)

    def roughness(self) -> torch.Tensor:
        """Mean square spectral density under the envelope: what the prior holds down."""
        return (self.envelope * self.density() ** 2).sum()

    def radius(self) -> torch.Tensor:
        """Hydrodynamic radius."""
        return torch.exp(self.background[0])

    def viscosity(self) -> torch.Tensor:
        """Viscosity."""
        return torch.exp(self.background[1])

    def local(self) -> torch.Tensor:
        """delta."""
        return self.scale * torch.exp(self.locals[0])

    def noise_local(self) -> torch.Tensor:
        """Local part of the noise."""
        return self.scale * torch.exp(self.locals[1])

    def prior(self, width: float, ridge: float) -> torch.Tensor:
        """Minus log prior of background and remainder."""
        shift = (self.background - torch.tensor(self.start, dtype=torch.float64)) / width
        return 0.5 * (shift**2).sum() + 0.5 * ridge * self.roughness()


class _RegressionObjective:
    """chi^2/2 plus the prior; differentiable in the background too, overlaps included."""

    def __init__(self, terms: Regression, width: float, ridge: float) -> None:
        self.terms = terms
        self.width = width
        self.ridge = ridge
        tensor = torch.from_numpy
        self.target = tensor(terms.target)
        self.whitener = tensor(np.ascontiguousarray(terms.whitener))
        self.shells = tensor(np.ascontiguousarray(terms.shells))
        self.local = tensor(terms.local)

    @property
    def size(self) -> int:
        return 1

    def identity(self) -> str:
        parts = (self.terms.target, self.terms.whitener, self.terms.shells, self.terms.a)
        joined = b"".join(np.ascontiguousarray(p).tobytes() for p in parts)
        return hashlib.sha256(joined + repr((self.width, self.ridge)).encode()).hexdigest()

    def predict(self, module: SpectralNetwork) -> torch.Tensor:
        rows = self.shells @ module.weights() + module.local() * self.local
        if self.terms.background == "rpy":
            rows = rows + self._rpy(module.radius(), module.viscosity())
        return rows

    def _rpy(self, radius: torch.Tensor, viscosity: torch.Tensor) -> torch.Tensor:
        """Regression.rpy with its exact derivatives by radius and viscosity."""
        terms, tensor = self.terms, torch.from_numpy
        rows = tensor(terms.a) + radius**2 * tensor(terms.b)
        rows = rows + tensor(terms.stokes) / (6 * np.pi * radius)
        if terms.modes is not None:
            k = tensor(terms.modes.wavenumbers)
            rows = rows - tensor(terms.modes.rows) @ torch.sinc(k * radius / np.pi) ** 2
        rows = rows / viscosity
        for par_row, perp_row, r in terms.near(2 * float(radius.detach())):
            par, perp = overlap_correction(tensor(r), radius, viscosity)
            for row, value in ((par_row, par), (perp_row, perp)):
                if row >= 0:
                    unit = torch.zeros_like(rows)
                    unit[row] = 1.0
                    rows = rows + unit * value.mean()
        return rows

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        assert isinstance(module, SpectralNetwork)
        rest = self.whitener @ (self.target - self.predict(module))
        return 0.5 * (rest**2).sum() + module.prior(self.width, self.ridge)

    def validation(self, module: torch.nn.Module) -> float | None:
        return None


class NeuralPairModel(PairModel):
    """Shell weights s(k) = softplus(network(k)): a smooth, non-negative spectrum.

    Args:
        hidden: widths of the hidden layers of the network.
        ridge: strength of the prior that keeps the remainder small where the data say nothing: a
            spectral density equal to the whole self mobility costs ridge/2 in log-probability.
        Others: see PairModel.
    """

    kind: ClassVar[str] = "neural"

    def __init__(
        self,
        background: Any = "rpy",
        cutoff: float | None = None,
        *,
        hidden: tuple[int, ...] = (24, 24),
        ridge: float = 100.0,
        **options: Any,
    ) -> None:
        super().__init__(background, cutoff, **options)
        if not hidden or any(not isinstance(w, int) or not 1 <= w <= 4096 for w in hidden):
            raise InvalidArgument(f"hidden must hold widths between 1 and 4096, not {hidden!r}")
        if not (np.isfinite(ridge) and ridge >= 0):
            raise InvalidArgument(f"ridge must be finite and not negative, not {ridge!r}")
        if self.basis.size == 0:
            raise InvalidArgument("shells must be at least 1 for a neural model")
        self.hidden = tuple(hidden)
        self.ridge = float(ridge)
        self._network: dict[str, NDArray[Any]] = {}

    def options(self) -> dict[str, Any]:
        return {**super().options(), "hidden": list(self.hidden), "ridge": self.ridge}

    def extra_tensors(self) -> dict[str, NDArray[Any]]:
        return {f"network.{k}": v for k, v in self._network.items()}

    def load_extra(self, tensors: Mapping[str, NDArray[Any]], where: str) -> None:
        found = {k[8:]: np.asarray(v) for k, v in tensors.items() if k.startswith("network.")}
        expected = self._module(1.0, (0.0, 0.0), 1.0, 1.0).state_dict()
        for name, value in expected.items():
            if name not in found:
                raise FileFormatError(f"{where}: tensor 'network.{name}' is missing")
            if found[name].shape != tuple(value.shape):
                shape = tuple(value.shape)
                raise FileFormatError(
                    f"{where}: tensor 'network.{name}' has shape {found[name].shape}, not {shape}"
                )
        self._network = found

    def _module(
        self, scale: float, start: tuple[float, float], local: float, noise: float
    ) -> SpectralNetwork:
        outputs = 2 if self.basis.compressible else 1
        k = self.basis.wavenumbers
        return SpectralNetwork(k, outputs, self.hidden, scale, start, local, noise, self.seed)

    def fit(
        self,
        data: Any,
        loss: Loss = "regression",
        *,
        epochs: int | None = None,
        learning_rate: float | None = None,
        directory: str | Path | None = None,
        resume: bool = False,
        progress: bool = False,
        training: TrainingOptions | None = None,
        **options: Any,
    ) -> FitResult:
        """Learn from data.

        Args:
            data: MobilityEstimate for "regression", Increments for "likelihood".
            loss: which of the two.
            epochs, learning_rate, directory, resume, progress: of the training run, or
            training: all its settings at once.
            options: of the loss: rmin, finite_lag, use_covariance (see Regression); finite_lag,
                force, validation (see likelihood).

        Raises:
            InvalidArgument: naming the argument.
        """
        settings = training or TrainingOptions(
            epochs=epochs or (3000 if loss == "regression" else 300),
            learning_rate=learning_rate or (0.01 if loss == "regression" else 0.02),
            patience=300 if loss == "regression" else 40,
            min_improvement=1e-6,
            seed=self.seed,
            directory=directory,
            resume=resume,
            checkpoint_every=200 if loss == "regression" else 10,
            progress=progress,
        )
        if loss == "regression":
            self.result = self._fit_regression(data, settings, options)
        elif loss == "likelihood":
            raise InvalidArgument("loss='likelihood' is not built yet")
        else:
            raise InvalidArgument(f"loss must be 'regression' or 'likelihood', not {loss!r}")
        return self.result

    def _start(self, guess: tuple[float, float]) -> tuple[float, float]:
        radius = self.start_radius or guess[0]
        viscosity = self.start_viscosity or guess[1]
        return float(np.log(radius)), float(np.log(viscosity))

    def _adopt(self, module: SpectralNetwork, noise: bool) -> None:
        with torch.no_grad():
            rpy = self.background == "rpy"
            parameters = PairParameters(
                float(module.radius()) if rpy else 1.0,
                float(module.viscosity()) if rpy else 1.0,
                float(module.local()),
                module.weights().numpy().copy(),
                float(module.noise_local()) if noise else None,
            )
            self._network = {k: v.numpy().copy() for k, v in module.state_dict().items()}
        self.set_parameters(parameters)

    def _fit_regression(
        self, data: Any, settings: TrainingOptions, options: dict[str, Any]
    ) -> FitResult:
        terms = Regression(data, self.basis, background=self.background, **options)
        scale = abs(float(data.self_mobility))
        start = (0.0, 0.0)
        share = 0.9
        if self.background == "rpy":
            start = self._start(terms.guess())
            stokes = 1 / (6 * np.pi * np.exp(start[0] + start[1]))
            share = max(1 - stokes / scale, 0.05)
        module = self._module(scale, start, share, share)
        if not self.fit_background:
            module.background.requires_grad_(False)
        objective = _RegressionObjective(terms, self.prior_width, self.ridge)
        outcome = train(module, objective, settings, "regression")
        self._adopt(module, noise=False)
        p = self.parameters
        value = terms.chi2(p.radius, p.viscosity, p.local, p.weights)
        return FitResult(
            "regression", value, outcome.epochs, outcome.seconds, outcome.reason, outcome.history
        )
