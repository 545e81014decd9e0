"""Losses in torch: chi^2 of binned estimates and likelihood of increments, with gradients.

The numbers are those of `regression.Regression` and `likelihood.Likelihood`, which also serve the models
that need no torch; what is here adds derivatives by the parameters of a network.
"""

from __future__ import annotations

import hashlib
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.arrays import positive
from mlcore.mobility.background import overlap_correction
from mlcore.mobility.forces import RadialForce
from mlcore.mobility.likelihood import Images, Likelihood
from mlcore.mobility.networks import perceptron
from mlcore.mobility.regression import Regression

__all__ = [
    "LikelihoodLoss",
    "NeuralForce",
    "PairNetwork",
    "ParametricForce",
    "RegressionLoss",
]


class PairNetwork(Protocol):
    """What a module must give: every number of a pair mobility, and its prior."""

    def weights(self) -> torch.Tensor: ...
    def radius(self) -> torch.Tensor: ...
    def viscosity(self) -> torch.Tensor: ...
    def local(self) -> torch.Tensor: ...
    def noise_local(self) -> torch.Tensor: ...
    def radial_force(self, r: torch.Tensor) -> torch.Tensor | None: ...
    def prior(self, width: float, ridge: float) -> torch.Tensor: ...


class ParametricForce(torch.nn.Module):
    """A RadialForce with its parameters made trainable."""

    def __init__(self, force: RadialForce, start: NDArray[np.float64] | None = None) -> None:
        super().__init__()
        self.force = force
        self.cutoff = force.cutoff
        values = force.start if start is None else start
        self.values = torch.nn.Parameter(torch.from_numpy(values.copy()))

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        """f(r)."""
        f: torch.Tensor = self.force.radial(r, self.values)  # type: ignore[arg-type, assignment]
        return f


class NeuralForce(torch.nn.Module):
    """f(r) = scale (1 - r/cutoff)^2 network(r), zero at and beyond the cutoff.

    Args:
        cutoff: end of the force.
        scale: size of the force the network's outputs are measured in.
        hidden: widths of the hidden layers.
        seed: of the initial weights.
    """

    def __init__(
        self, cutoff: float, scale: float, hidden: tuple[int, ...] = (16, 16), seed: int = 0
    ) -> None:
        super().__init__()
        self.cutoff, self.scale = positive("cutoff", cutoff), positive("scale", scale)
        self.network = perceptron(hidden, 1, torch.nn.Tanh, seed)

    def forward(self, r: torch.Tensor) -> torch.Tensor:
        """f(r)."""
        u = r / self.cutoff
        rest = (1 - u).clamp(min=0.0)
        value: torch.Tensor = self.network((4 * u - 2)[:, None])[:, 0]
        return self.scale * rest**2 * value


def _digest(*arrays: NDArray[np.float64], settings: object = None) -> str:
    h = hashlib.sha256(repr(settings).encode())
    for array in arrays:
        h.update(np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


class RegressionLoss:
    """chi^2/2 plus the prior; differentiable in the background too, overlaps included."""

    def __init__(self, terms: Regression, width: float, ridge: float) -> None:
        self.terms = terms
        self.width = width
        self.ridge = ridge
        tensor = torch.from_numpy
        self._target = tensor(terms.target)
        self._whitener = tensor(np.ascontiguousarray(terms.whitener))
        self._shells = tensor(np.ascontiguousarray(terms.shells))
        self._local = tensor(terms.local)

    @property
    def size(self) -> int:
        """One sample: the whole table."""
        return 1

    def identity(self) -> str:
        """Digest of data and settings."""
        t = self.terms
        return _digest(t.target, t.whitener, t.shells, t.a, settings=(self.width, self.ridge))

    def predict(self, module: PairNetwork) -> torch.Tensor:
        """(m,) theory of every row."""
        rows = self._shells @ module.weights() + module.local() * self._local
        if self.terms.background == "rpy":
            rows = rows + self._rpy(module.radius(), module.viscosity())
        return rows

    def _rpy(self, radius: torch.Tensor, viscosity: torch.Tensor) -> torch.Tensor:
        """Regression.rpy with its derivatives by radius and viscosity."""
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
        """Half the chi^2 minus the log prior."""
        network: PairNetwork = module  # type: ignore[assignment]
        rest = self._whitener @ (self._target - self.predict(network))
        return 0.5 * (rest**2).sum() + network.prior(self.width, self.ridge)

    def validation(self, module: torch.nn.Module) -> float | None:
        """No held-out part."""
        return None


class _Pairs:
    """Images as tensors."""

    def __init__(self, images: Images) -> None:
        tensor = torch.from_numpy
        self.b = tensor(np.ascontiguousarray(images.batch))
        self.i = tensor(np.ascontiguousarray(images.i))
        self.j = tensor(np.ascontiguousarray(images.j))
        self.r = tensor(np.ascontiguousarray(images.r))
        self.u = tensor(np.ascontiguousarray(images.u))
        self.other = torch.nonzero(self.i != self.j)[:, 0]

    def matrices(
        self, par: torch.Tensor, perp: torch.Tensor, batch: int, count: int
    ) -> torch.Tensor:
        """Symmetric (batch,3n,3n) from pair values (P,)."""
        dyad = self.u[:, :, None] * self.u[:, None, :]
        eye = torch.eye(3, dtype=torch.float64)
        blocks = par[:, None, None] * dyad + perp[:, None, None] * (eye - dyad)
        out = torch.zeros(batch, count, count, 3, 3, dtype=torch.float64)
        out = out.index_put((self.b, self.i, self.j), blocks, accumulate=True)
        o = self.other
        out = out.index_put((self.b[o], self.j[o], self.i[o]), blocks[o], accumulate=True)
        return out.permute(0, 1, 3, 2, 4).reshape(batch, 3 * count, 3 * count)

    def vectors(self, radial: torch.Tensor, batch: int, count: int) -> torch.Tensor:
        """(batch,3n): sum over pairs of radial * u, opposite on the partner."""
        o = self.other
        push = radial[o, None] * self.u[o]
        out = torch.zeros(batch, count, 3, dtype=torch.float64)
        out = out.index_put((self.b[o], self.i[o]), push, accumulate=True)
        out = out.index_put((self.b[o], self.j[o]), -push, accumulate=True)
        return out.reshape(batch, 3 * count)


class _Part:
    """Everything of some increments that does not change in a fit."""

    def __init__(self, terms: Likelihood, chosen: NDArray[np.int64] | None) -> None:
        tensor = torch.from_numpy
        inc = terms.increments
        index = np.arange(len(inc)) if chosen is None else chosen
        self.batch, self.count = len(index), inc.particles

        def cut(array: NDArray[np.float64]) -> torch.Tensor:
            rows = array if chosen is None or len(array) == 1 else array[index]
            return tensor(np.ascontiguousarray(rows))

        def images(found: Images) -> Images:
            return found if chosen is None else found.chosen(index)

        self.a, self.b = cut(terms.a), cut(terms.b)
        self.deficit, self.slope = cut(terms.deficit), cut(terms.deficit_slope)
        self.delta = cut(terms.delta)
        keep = slice(None)
        if chosen is not None:
            keep = np.isin(terms.images.batch, index)  # type: ignore[assignment]
        self.pairs = _Pairs(images(terms.images))
        self.par, self.perp = tensor(terms.par[keep]), tensor(terms.perp[keep])
        self.touching = None if terms.touching is None else images(terms.touching)
        self.pushing = None if terms.pushing is None else _Pairs(images(terms.pushing))
        self.known = None
        if inc.forces is not None:
            self.known = cut(inc.forces).reshape(self.batch, -1)
        self.drifts = None if terms.drifts is None else cut(terms.drifts)


class LikelihoodLoss:
    """Minus log-likelihood per increment, plus the prior spread over all increments.

    Args:
        terms: the data, prepared.
        width, ridge: of the prior.
        held_out: data to monitor.
    """

    def __init__(
        self, terms: Likelihood, width: float, ridge: float, held_out: Likelihood | None = None
    ) -> None:
        self.terms = terms
        self.width = width
        self.ridge = ridge
        self._whole = _Part(terms, None)
        self._held_out = None if held_out is None else (held_out, _Part(held_out, None))

    @property
    def size(self) -> int:
        """Number of increments."""
        return len(self.terms.increments)

    def identity(self) -> str:
        """Digest of data and settings."""
        t = self.terms
        held = None if self._held_out is None else self._held_out[0].delta
        settings = (self.width, self.ridge, t.finite_lag, t.separate_noise, t.basis.cutoff)
        extra = () if held is None else (held,)
        return _digest(t.delta, t.increments.positions, t.par, *extra, settings=settings)

    def matrices(
        self, terms: Likelihood, part: _Part, module: PairNetwork
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Steady and noise mobility (b,3n,3n)."""
        w = module.weights()
        eye = torch.eye(terms.size, dtype=torch.float64)
        own = torch.from_numpy(terms.basis.self_values) @ w + module.local()
        steady = part.pairs.matrices(part.par @ w, part.perp @ w, part.batch, part.count)
        steady = steady + own * eye
        noise = steady
        if terms.background == "rpy":
            radius, viscosity = module.radius(), module.viscosity()
            rpy = part.a + radius**2 * part.b + eye / (6 * np.pi * radius)
            steady = steady + rpy / viscosity + self._overlap(part, radius, viscosity)
            noise = steady
            if terms.finite_lag is not None:
                shift = torch.log(radius / terms.centre)
                noise = steady - (part.deficit + shift * part.slope) / viscosity
        if terms.separate_noise:
            noise = noise + (module.noise_local() - module.local()) * eye
        return steady, noise

    def _overlap(
        self, part: _Part, radius: torch.Tensor, viscosity: torch.Tensor
    ) -> torch.Tensor | float:
        near = part.touching
        if near is None:
            return 0.0
        inside = near.r < 2 * float(radius.detach())
        if not inside.any():
            return 0.0
        pairs = _Pairs(
            Images(
                near.batch[inside], near.i[inside], near.j[inside], near.r[inside], near.u[inside]
            )
        )
        par, perp = overlap_correction(pairs.r, radius, viscosity)
        return pairs.matrices(par, perp, part.batch, part.count)

    def log_likelihoods(self, terms: Likelihood, part: _Part, module: PairNetwork) -> torch.Tensor:
        """(b,) log density of every increment."""
        inc = terms.increments
        steady, noise = self.matrices(terms, part, module)
        force = torch.zeros(part.batch, terms.size, dtype=torch.float64)
        if part.known is not None:
            force = force + part.known
        if part.pushing is not None:
            radial = module.radial_force(part.pushing.r)
            assert radial is not None
            force = force + part.pushing.vectors(radial, part.batch, part.count)
        mean = inc.lag * (steady @ force[..., None])[..., 0]
        if part.drifts is not None:
            mean = mean + part.drifts @ module.weights()
        lower = torch.linalg.cholesky(2 * inc.kT * inc.lag * noise)
        rest = (part.delta - mean)[..., None]
        z = torch.linalg.solve_triangular(lower, rest, upper=False)[..., 0]
        logdet = 2 * torch.log(torch.diagonal(lower, dim1=1, dim2=2)).sum(1)
        total: torch.Tensor = -0.5 * ((z * z).sum(1) + logdet + terms.size * np.log(2 * np.pi))
        return total

    def loss(self, module: torch.nn.Module, samples: torch.Tensor) -> torch.Tensor:
        """Minus mean log-likelihood minus log prior over the number of increments."""
        network: PairNetwork = module  # type: ignore[assignment]
        part = self._whole
        if len(samples) < self.size:
            part = _Part(self.terms, np.sort(samples.numpy()))
        fit = -self.log_likelihoods(self.terms, part, network).mean()
        return fit + network.prior(self.width, self.ridge) / self.size

    def validation(self, module: torch.nn.Module) -> float | None:
        """Minus mean log-likelihood of the held-out increments."""
        if self._held_out is None:
            return None
        network: PairNetwork = module  # type: ignore[assignment]
        with torch.no_grad():
            return -float(self.log_likelihoods(*self._held_out, network).mean())
