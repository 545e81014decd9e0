"""What every learned pair mobility shares: parameters, the exact guarantee, saving, evaluation."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import Error, FileFormatError, InvalidArgument
from mlcore.io.tensors import parse_json, read_tensors, write_tensors
from mlcore.mobility.models.shells import ShellBasis

if TYPE_CHECKING:
    from mlcore.mobility.tensors import PairMobility

__all__ = ["FitResult", "PairModel", "PairParameters"]

Array = NDArray[np.float64]
Loss = Literal["regression", "likelihood"]

LOCAL_FLOOR = 1e-6
_FILE_KIND = "mlcore-pair-model"


@dataclass(frozen=True)
class PairParameters:
    """Everything the mobility of a pair model depends on.

    Args:
        radius: hydrodynamic radius of the background (1 without background).
        viscosity: viscosity of the background (1 without background).
        local: local self mobility delta > 0, on top of background and remainder.
        weights: (size,) non-negative shell weights of the remainder.
        noise_local: the local part the noise of the training increments had; differs from `local`
            in data whose lag is not long against inertia. None unless a likelihood fitted it.
        errors: standard errors by name, where the fit gives them.
    """

    radius: float
    viscosity: float
    local: float
    weights: Array
    noise_local: float | None = None
    errors: dict[str, float] = field(default_factory=dict)


@dataclass
class FitResult:
    """How a fit went.

    Args:
        loss: "regression" or "likelihood".
        value: final objective: chi^2 (regression) or minus log-likelihood per increment set.
        steps: optimisation steps or epochs taken.
        seconds: wall time.
        reason: why it ended.
        history: one dictionary a recorded step.
    """

    loss: str
    value: float
    steps: int
    seconds: float
    reason: str
    history: list[dict[str, float]] = field(default_factory=list)


class PairModel(ABC):
    """A pair mobility M_ij = background + R(r_ij), M_ii = background + R(0) + delta.

    R is a windowed sum of spectral shells with weights >= 0 (`shells`), delta > 0 a local self
    mobility, the background none or Rotne-Prager-Yamakawa. Each of the three is positive
    semi-definite in any configuration and any periodic box, so their sum is, to the accuracy of the
    Ewald sum and of the interpolation, which delta >= 1e-6 of the self mobility covers. The functions
    depend on distance alone: rotations, permutations and transposition hold exactly.

    Args:
        background: "rpy" or "none".
        cutoff: length at which the remainder R ends.
        radius, viscosity: start values of the background (guessed from the data when None).
        fit_background: fit both; otherwise both are kept as given.
        shells: number of wavenumbers.
        largest_wavenumber: of the shells; default 3 pi/radius, or shells*pi/(2 cutoff) without one.
        compressible: allow longitudinal shells too. Off by default: flow of an incompressible solvent
            is transverse. (The window makes even transverse shells slightly compressible; the drift
            term uses the divergence of the actual table.)
        prior_width: standard deviation of log(radius) and log(viscosity) about their start values.
        seed: of everything random in the fit.

    Raises:
        InvalidArgument: naming the argument.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        background: Literal["rpy", "none"] = "rpy",
        cutoff: float | None = None,
        *,
        radius: float | None = None,
        viscosity: float | None = None,
        fit_background: bool = True,
        shells: int = 32,
        largest_wavenumber: float | None = None,
        compressible: bool = False,
        prior_width: float = 0.5,
        seed: int = 0,
    ) -> None:
        if background not in ("rpy", "none"):
            raise InvalidArgument(f"background must be 'rpy' or 'none', not {background!r}")
        if cutoff is None or not np.isfinite(cutoff) or cutoff <= 0:
            raise InvalidArgument(f"cutoff must be a positive length, not {cutoff!r}")
        named = (
            ("radius", radius),
            ("viscosity", viscosity),
            ("largest_wavenumber", largest_wavenumber),
            ("prior_width", prior_width),
        )
        for name, value in named:
            if value is not None and not (np.isfinite(value) and value > 0):
                raise InvalidArgument(f"{name} must be positive and finite, not {value!r}")
        if not 0 <= shells <= 512:
            raise InvalidArgument(f"shells must be between 0 and 512, not {shells}")
        if background == "rpy" and not fit_background and (radius is None or viscosity is None):
            raise InvalidArgument("fit_background=False needs radius and viscosity")
        self.background: Literal["rpy", "none"] = background
        self.cutoff = float(cutoff)
        self.start_radius = radius
        self.start_viscosity = viscosity
        self.fit_background = bool(fit_background) and background == "rpy"
        self.prior_width = float(prior_width)
        self.seed = int(seed)
        self._compressible = bool(compressible)
        self._shells = int(shells)
        self._largest = largest_wavenumber
        largest = largest_wavenumber
        if largest is None:
            spread = shells * np.pi / (2 * self.cutoff)
            largest = spread if radius is None else 3 * np.pi / radius
        nodes = (np.arange(shells) + 0.5) / max(shells, 1) * largest
        self.basis = ShellBasis(nodes, self.cutoff, bool(compressible))
        self._parameters: PairParameters | None = None
        self.result: FitResult | None = None

    # -- fitted state ---------------------------------------------------------------------------
    @property
    def parameters(self) -> PairParameters:
        """Fitted parameters; Error before `fit`."""
        if self._parameters is None:
            raise Error(f"{type(self).__name__} has not been fitted: call fit() or load() first")
        return self._parameters

    @property
    def fitted(self) -> bool:
        """Whether parameters are there."""
        return self._parameters is not None

    def set_parameters(self, parameters: PairParameters) -> None:
        """Adopt parameters, for instance of another model with the same basis.

        Raises:
            InvalidArgument: weights of the wrong length or negative, or a number not finite.
        """
        weights = np.asarray(parameters.weights, dtype=np.float64)
        if weights.shape != (self.basis.size,):
            raise InvalidArgument(
                f"weights must have shape ({self.basis.size},), not {weights.shape}"
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise InvalidArgument("weights must be finite and not negative")
        for name in ("radius", "viscosity"):
            value = getattr(parameters, name)
            if not (np.isfinite(value) and value > 0):
                raise InvalidArgument(f"{name} must be positive and finite, not {value!r}")
        if not (np.isfinite(parameters.local) and parameters.local >= 0):
            raise InvalidArgument(
                f"local must be finite and not negative, not {parameters.local!r}"
            )
        self._parameters = parameters

    @abstractmethod
    def fit(self, data: Any, loss: Loss = "regression", **options: Any) -> FitResult:
        """Learn from a MobilityEstimate (regression) or Increments (likelihood)."""

    # -- what was learned -----------------------------------------------------------------------
    @property
    def stokes(self) -> float:
        """Self mobility of the background in an open system."""
        if self.background == "none":
            return 0.0
        p = self.parameters
        return 1 / (6 * np.pi * p.viscosity * p.radius)

    @property
    def local_mobility(self) -> float:
        """delta, never below 1e-6 of the whole self mobility: covers interpolation and Ewald errors."""
        p = self.parameters
        rest = self.stokes + float(self.basis.self_values @ p.weights)
        return max(p.local, LOCAL_FLOOR * (rest + p.local))

    @property
    def self_mobility(self) -> float:
        """What stands on the diagonal besides the background: R(0) + delta."""
        return float(self.basis.self_values @ self.parameters.weights) + self.local_mobility

    @property
    def total_self_mobility(self) -> float:
        """Self mobility of one particle in an open system."""
        return self.stokes + self.self_mobility

    def remainder(self, r: Array) -> tuple[Array, Array, Array, Array]:
        """par, dpar, perp, dperp of R at distances r (any shape)."""
        values = self.basis.evaluate(np.asarray(r, dtype=np.float64))
        w = self.parameters.weights
        return values.par @ w, values.dpar @ w, values.perp @ w, values.dperp @ w

    def pair(self, r: Array) -> tuple[Array, Array]:
        """Free-space pair mobilities par(r), perp(r) for r > 0, background included."""
        r = np.asarray(r, dtype=np.float64)
        par, _, perp, _ = self.remainder(r)
        if self.background == "none":
            return par, perp
        # outside and inside each by its own formula: their difference cancels badly for small r
        a, inside = self.parameters.radius, r < 2 * self.parameters.radius
        q = np.where(inside, 2.0, r / a)
        far_par, far_perp = 1.5 / q - 1 / q**3, 0.75 / q + 0.5 / q**3
        near_par, near_perp = 1 - 6 * r / (32 * a), 1 - 9 * r / (32 * a)
        return (
            par + self.stokes * np.where(inside, near_par, far_par),
            perp + self.stokes * np.where(inside, near_perp, far_perp),
        )

    def knots(self, count: int = 2048) -> tuple[Array, tuple[Array, Array, Array, Array]]:
        """Table of R on uniform knots 0..cutoff with an interpolation error far below delta.

        The number of knots is doubled from `count` until a thousand interpolated blocks in a row of
        M could not outweigh half of delta, and none is off by more than 2e-9 of the self mobility.
        """
        allowed = min(self.local_mobility / 2000, 2e-9 * self.total_self_mobility)
        while True:
            r = np.linspace(0.0, self.cutoff, count)
            table = self.remainder(r)
            if count >= 1 << 16 or self._interpolation_error(r, table) <= allowed:
                return r, table
            count *= 2

    def _interpolation_error(self, r: Array, table: tuple[Array, ...]) -> float:
        h = r[1] - r[0]
        exact = self.remainder(r[:-1] + h / 2)
        worst = 0.0
        for value, slope, truth in ((*table[:2], exact[0]), (*table[2:], exact[2])):
            middle = (value[1:] + value[:-1]) / 2 - h * (slope[1:] - slope[:-1]) / 8
            worst = max(worst, float(np.abs(middle - truth).max()))
        return worst

    def mobility(self, knots: int = 2048) -> PairMobility:
        """The core's mobility: a cubic Hermite table of R over the background."""
        from mlcore.mobility.tensors import RPY, PairMobility

        p = self.parameters
        _, (par, dpar, perp, dperp) = self.knots(knots)
        background = RPY(p.radius, p.viscosity) if self.background == "rpy" else None
        return PairMobility(
            self.self_mobility, self.cutoff, par, dpar, perp, dperp, background=background
        )

    # -- saving ---------------------------------------------------------------------------------
    def options(self) -> dict[str, Any]:
        """Constructor arguments that make an equal, unfitted model."""
        return {
            "background": self.background,
            "cutoff": self.cutoff,
            "radius": self.start_radius,
            "viscosity": self.start_viscosity,
            "fit_background": self.fit_background,
            "shells": self._shells,
            "largest_wavenumber": self._largest,
            "compressible": self._compressible,
            "prior_width": self.prior_width,
            "seed": self.seed,
        }

    def extra_tensors(self) -> dict[str, NDArray[Any]]:
        """Further tensors a class needs to go on after loading."""
        return {}

    def load_extra(self, tensors: Mapping[str, NDArray[Any]], where: str) -> None:
        """Take back what extra_tensors gave."""
        return

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Tensors and JSON-able metadata from which `from_state` rebuilds the model."""
        p = self.parameters
        tensors: dict[str, NDArray[Any]] = {"weights": p.weights, **self.extra_tensors()}
        numbers = {"radius": p.radius, "viscosity": p.viscosity, "local": p.local}
        meta = {
            "kind": self.kind,
            "options": self.options(),
            "parameters": {**numbers, "noise_local": p.noise_local, "errors": p.errors},
        }
        return tensors, meta

    @staticmethod
    def from_state(
        tensors: Mapping[str, NDArray[Any]], meta: Any, where: str = "model"
    ) -> PairModel:
        """Rebuild a model from `state`.

        Raises:
            FileFormatError: naming the field that is missing or wrong.
        """
        from mlcore.mobility import models

        def need(table: Any, key: str, kinds: type | tuple[type, ...]) -> Any:
            if not isinstance(table, dict) or key not in table:
                raise FileFormatError(f"{where}: field {key!r} is missing")
            value = table[key]
            if not isinstance(value, kinds) or isinstance(value, bool):
                raise FileFormatError(f"{where}: field {key!r} has the wrong type: {value!r}")
            return value

        kind = need(meta, "kind", str)
        if kind not in models.KINDS:
            known = ", ".join(models.KINDS)
            raise FileFormatError(f"{where}: kind {kind!r} is not one of {known}")
        options = need(meta, "options", dict)
        numbers = need(meta, "parameters", dict)
        if "weights" not in tensors:
            raise FileFormatError(f"{where}: tensor 'weights' is missing")
        noise = numbers.get("noise_local")
        if noise is not None:
            noise = float(need(numbers, "noise_local", (int, float)))
        errors = {k: float(v) for k, v in need(numbers, "errors", dict).items()}
        try:
            model: PairModel = getattr(models, models.KINDS[kind])(**options)
            model.set_parameters(
                PairParameters(
                    float(need(numbers, "radius", (int, float))),
                    float(need(numbers, "viscosity", (int, float))),
                    float(need(numbers, "local", (int, float))),
                    np.asarray(tensors["weights"], dtype=np.float64),
                    noise,
                    errors,
                )
            )
        except (TypeError, InvalidArgument) as error:
            raise FileFormatError(f"{where}: {error}") from error
        model.load_extra(tensors, where)
        return model

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, whole or not at all."""
        tensors, meta = self.state()
        write_tensors(path, tensors, {_FILE_KIND: json.dumps(meta)})

    @staticmethod
    def load(path: str | Path) -> PairModel:
        """Read a file written by `save`; the class is the one that wrote it.

        Raises:
            FileFormatError: naming the file and the field.
        """
        tensors, metadata = read_tensors(path)
        if _FILE_KIND not in metadata:
            raise FileFormatError(f"{path}: field {_FILE_KIND!r} is missing: not a pair model")
        where = f"{path}: {_FILE_KIND}"
        meta = parse_json(metadata[_FILE_KIND].encode(), where)
        return PairModel.from_state(tensors, meta, where)
