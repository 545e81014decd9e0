"""Pair mobility whose shell weights come from a neural network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.mobility.increments import Increments
from mlcore.mobility.likelihood import Likelihood
from mlcore.mobility.losses import LikelihoodLoss, NeuralForce, ParametricForce, RegressionLoss
from mlcore.mobility.models.base import LOCAL_FLOOR, FitResult, Loss, PairModel, PairParameters
from mlcore.mobility.networks import perceptron
from mlcore.mobility.regression import Regression
from mlcore.mobility.scoring import Prior, maximise_bare
from mlcore.training.loop import train
from mlcore.training.options import TrainingOptions, TrainingResult

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
        start: log of radius and viscosity to start from.
        centre: log of radius and viscosity about which the prior is centred.
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
        centre: tuple[float, float],
        local: float,
        noise_local: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = perceptron(hidden, outputs, torch.nn.SiLU, seed)
        with torch.no_grad():
            last = self.network[-1]
            assert isinstance(last, torch.nn.Linear)
            last.weight *= 0.1
            last.bias.fill_(-3.0)
        k = torch.from_numpy(wavenumbers)
        largest = float(k.max()) if len(wavenumbers) else 1.0
        envelope = torch.exp(-((2 * k / largest) ** 2))
        self.inputs: torch.Tensor
        self.envelope: torch.Tensor
        self.register_buffer("inputs", (4 * k / largest - 2)[:, None], persistent=False)
        envelope = envelope / envelope.sum().clamp(min=1e-300)
        self.register_buffer("envelope", envelope[:, None], persistent=False)
        self.scale = scale
        self.centre = centre
        self.force: torch.nn.Module | None = None
        self.background = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
        amounts = np.log(np.maximum([local, noise_local], 0.01))
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

    def radial_force(self, r: torch.Tensor) -> torch.Tensor | None:
        """Learned pair force at distances r; None when none is learned."""
        return None if self.force is None else self.force(r)

    def prior(self, width: float, ridge: float) -> torch.Tensor:
        """Minus log prior of background and remainder."""
        shift = (self.background - torch.tensor(self.centre, dtype=torch.float64)) / width
        return 0.5 * (shift**2).sum() + 0.5 * ridge * self.roughness()


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
        zero = (0.0, 0.0)
        expected = self._module(1.0, zero, zero, 1.0, 1.0).state_dict()
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
        self,
        scale: float,
        start: tuple[float, float],
        centre: tuple[float, float],
        local: float,
        noise: float,
    ) -> SpectralNetwork:
        outputs = 2 if self.basis.compressible else 1
        k = self.basis.wavenumbers
        return SpectralNetwork(
            k, outputs, self.hidden, scale, start, centre, local, noise, self.seed
        )

    def _warm(
        self, terms: Regression | Likelihood, scale: float, centre: tuple[float, float]
    ) -> SpectralNetwork:
        """A network that starts from the best fit without remainder (a few scoring steps)."""
        size = 4 + self.basis.size
        if isinstance(terms, Likelihood):
            size = terms.parameters
        spread, lower = np.zeros(size), np.full(size, -np.inf)
        spread[:2] = self.prior_width if self.fit_background else 0.0
        spread[2:4] = 10 * scale
        if isinstance(terms, Likelihood):
            spread[: len(spread)][~terms.free(self.fit_background)] = 0.0
            if terms.force is not None:
                spread[4 + self.basis.size :] = 1e3
        else:
            spread[3] = 0.0
        spread[4 : 4 + self.basis.size] = 0.0
        lower[2:4] = LOCAL_FLOOR * scale
        mean = np.zeros(size)
        mean[:2] = centre
        share = 0.9
        if self.background == "rpy":
            share = max(1 - 1 / (6 * np.pi * np.exp(sum(centre)) * scale), 0.05)
        mean[2:4] = share * scale
        if isinstance(terms, Likelihood) and terms.force is not None:
            mean[4 + self.basis.size :] = terms.force.start
        prior = Prior(mean, np.diag(spread**2), lower)
        found = maximise_bare(terms, prior, mean, self.basis.size, steps=15)
        if isinstance(terms, Likelihood) and terms.centre > 0:
            terms.recentre(float(np.exp(found[0])))
        start = (float(found[0]), float(found[1]))
        module = self._module(scale, start, centre, found[2] / scale, found[3] / scale)
        if isinstance(terms, Likelihood) and terms.force is not None:
            module.force = ParametricForce(terms.force, found[4 + self.basis.size :])
        return module

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
            epochs=epochs or (1500 if loss == "regression" else 80),
            learning_rate=learning_rate or (0.01 if loss == "regression" else 0.02),
            patience=200 if loss == "regression" else 30,
            min_improvement=1e-5,
            seed=self.seed,
            directory=directory,
            resume=resume,
            checkpoint_every=200 if loss == "regression" else 10,
            progress=progress,
        )
        begin = time.perf_counter()
        if loss == "regression":
            self.result = self._fit_regression(data, settings, options)
        elif loss == "likelihood":
            self.result = self._fit_likelihood(data, settings, options)
        else:
            raise InvalidArgument(f"loss must be 'regression' or 'likelihood', not {loss!r}")
        self.result.seconds = time.perf_counter() - begin
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
            self._network = {
                k: v.numpy().copy()
                for k, v in module.state_dict().items()
                if not k.startswith("force.")
            }
        self.set_parameters(parameters)

    def _fit_regression(
        self, data: Any, settings: TrainingOptions, options: dict[str, Any]
    ) -> FitResult:
        terms = Regression(data, self.basis, background=self.background, **options)
        scale = abs(float(data.self_mobility))
        centre = self._start(terms.guess()) if self.background == "rpy" else (0.0, 0.0)
        module = self._warm(terms, scale, centre)
        if not self.fit_background:
            module.background.requires_grad_(False)
        objective = RegressionLoss(terms, self.prior_width, self.ridge)
        outcome = train(module, objective, settings, "regression")
        self._adopt(module, noise=False)
        p = self.parameters
        value = terms.chi2(p.radius, p.viscosity, p.local, p.weights)
        return FitResult(
            "regression", value, outcome.epochs, outcome.seconds, outcome.reason, outcome.history
        )

    def _fit_likelihood(
        self, data: Any, settings: TrainingOptions, options: dict[str, Any]
    ) -> FitResult:
        held_out: Increments | None = options.pop("validation", None)
        force = options.pop("force", None)
        rpy = self.background == "rpy"
        if rpy and (self.start_radius is None or self.start_viscosity is None):
            raise InvalidArgument("radius and viscosity: loss='likelihood' needs start values")
        radius = self.start_radius if rpy and self.start_radius else 1.0
        # a neural force cannot be scored; the warm start is then found without any force
        scored = None if isinstance(force, NeuralForce) else force
        options |= {"background": self.background, "radius": radius, "force": scored}
        terms = Likelihood(data, self.basis, **options)
        watched = None if held_out is None else Likelihood(held_out, self.basis, **options)
        scale = terms.scale()
        module = self._warm(terms, scale, self._start((radius, 1.0)) if rpy else (0.0, 0.0))
        if watched is not None and terms.centre > 0:
            watched.recentre(terms.centre)
        if isinstance(force, NeuralForce):
            module.force = force
            for part in (terms, watched):
                if part is not None:
                    part.push(force.cutoff)
        if not self.fit_background:
            module.background.requires_grad_(False)
        outcome = train(
            module,
            LikelihoodLoss(terms, self.prior_width, self.ridge, watched),
            settings,
            "likelihood",
        )
        now = float(module.radius().detach())
        if terms.centre > 0 and abs(np.log(now / terms.centre)) > 0.02:
            outcome = self._polish(module, terms, watched, settings, now)
        if not terms.free(True)[2]:
            # without a mean the steady local part is known through the noise alone
            with torch.no_grad():
                module.locals[0] = module.locals[1]
        self._adopt(module, noise=terms.separate_noise)
        self.force = None if force is None else module.force
        value = -terms.value(self._vector(terms)) if force is None else outcome.best * len(data)
        return FitResult(
            "likelihood", value, outcome.epochs, outcome.seconds, outcome.reason, outcome.history
        )

    def _polish(
        self,
        module: SpectralNetwork,
        terms: Likelihood,
        watched: Likelihood | None,
        settings: TrainingOptions,
        radius: float,
    ) -> TrainingResult:
        """Expand the flow modes about the fitted radius and train on, in a folder of its own."""
        terms.recentre(radius)
        if watched is not None:
            watched.recentre(radius)
        folder = None if settings.directory is None else Path(settings.directory) / "recentred"
        loss = LikelihoodLoss(terms, self.prior_width, self.ridge, watched)
        rate = settings.learning_rate / 4
        return train(
            module, loss, replace(settings, directory=folder, learning_rate=rate), "recentred"
        )

    def _vector(self, terms: Likelihood) -> NDArray[np.float64]:
        p = self.parameters
        noise = p.local if p.noise_local is None else p.noise_local
        head = [np.log(p.radius), np.log(p.viscosity), p.local, noise]
        return np.concatenate([head, p.weights])
