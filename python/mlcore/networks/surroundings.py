"""Numbers that describe the surroundings of an atom: how many neighbors, in which order."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.networks.radial import length, switch

__all__ = ["BondOrder", "NeighborCount", "inner_of"]


def inner_of(inner: float | None, cutoff: float) -> float:
    """Where neighbors begin to count less, by default at 0.8 of the cutoff, checked."""
    if not (isinstance(cutoff, (int, float)) and 0 < cutoff < float("inf")):
        raise InvalidArgument(f"cutoff must be a positive length, not {cutoff!r}")
    found = 0.8 * cutoff if inner is None else inner
    _check_switch(found, cutoff)
    return found


def _check_switch(inner: float, cutoff: float) -> None:
    if not (isinstance(cutoff, (int, float)) and 0 < cutoff < float("inf")):
        raise InvalidArgument(f"cutoff must be a positive length, not {cutoff!r}")
    if not (isinstance(inner, (int, float)) and 0 <= inner < cutoff):
        raise InvalidArgument(f"inner must be from 0 to below cutoff {cutoff}, not {inner!r}")


class NeighborCount(torch.nn.Module):
    """forward(D, i, j, types) -> (N, 1) number of neighbors, each counting 1 up to `inner`, 0 from
    `cutoff` on, and a fifth-degree polynomial between."""

    def __init__(self, inner: float, cutoff: float) -> None:
        super().__init__()
        _check_switch(inner, cutoff)
        self.inner, self.cutoff = float(inner), float(cutoff)

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal network."""
        return {"inner": self.inner, "cutoff": self.cutoff}

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        terms = switch(length(D), self.cutoff, self.cutoff - self.inner)
        return torch.zeros_like(types, dtype=D.dtype).index_add(0, i, terms)[:, None]


def _exponents(degree: int) -> list[tuple[int, int, int]]:
    grid = itertools.product(range(degree + 1), repeat=3)
    return [(a, b, c) for a, b, c in grid if a + b + c == degree]


def _harmonics(degree: int) -> NDArray[np.float64]:
    """(2 degree + 1, monomials): real spherical harmonics, sum_m Y_m^2 = (2 degree + 1)/(4 pi), as
    homogeneous polynomials of a unit vector, by least squares on the sphere."""
    from scipy.special import sph_harm_y

    rng = np.random.default_rng(0)
    u = rng.normal(size=(6 * (degree + 1) * (degree + 2), 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    polar, azimuth = np.arccos(u[:, 2]), np.arctan2(u[:, 1], u[:, 0])
    columns = [sph_harm_y(degree, 0, polar, azimuth).real]
    for m in range(1, degree + 1):
        value = math.sqrt(2) * sph_harm_y(degree, m, polar, azimuth)
        columns += [value.real, value.imag]
    monomials = np.stack([np.prod(u**power, axis=1) for power in _exponents(degree)], 1)
    found: NDArray[np.float64] = np.linalg.lstsq(monomials, np.stack(columns, 1), rcond=None)[0].T
    return found


class BondOrder(torch.nn.Module):
    """forward(D, i, j, types) -> (N, 1) order q_l = sqrt(4 pi / (2l + 1) sum_m |<Y_lm>|^2), the mean
    over an atom's neighbors, each weighed as in NeighborCount; 0 without neighbors.

    Steinhardt, Nelson, Ronchetti, Phys. Rev. B 28, 784 (1983), Eq. 1.3.
    """

    def __init__(self, degree: int, inner: float, cutoff: float) -> None:
        super().__init__()
        _check_switch(inner, cutoff)
        if not isinstance(degree, int) or isinstance(degree, bool) or not 1 <= degree <= 12:
            raise InvalidArgument(f"degree must be a whole number from 1 to 12, not {degree!r}")
        self.degree, self.inner, self.cutoff = degree, float(inner), float(cutoff)
        self.scale = 4 * math.pi / (2 * degree + 1)
        self.powers: Tensor
        self.coefficients: Tensor
        self.register_buffer("powers", torch.tensor(_exponents(degree)), persistent=False)
        self.register_buffer("coefficients", torch.from_numpy(_harmonics(degree)), persistent=False)

    @property
    def arguments(self) -> dict[str, Any]:
        """What makes an equal network."""
        return {"degree": self.degree, "inner": self.inner, "cutoff": self.cutoff}

    def forward(self, D: Tensor, i: Tensor, j: Tensor, types: Tensor) -> Tensor:
        r = length(D)
        weight = switch(r, self.cutoff, self.cutoff - self.inner)
        harmonics = self._monomials(D / r[:, None]) @ self.coefficients.T
        nothing = torch.zeros_like(types, dtype=D.dtype)
        around = nothing[:, None].repeat(1, 2 * self.degree + 1)
        sums = around.index_add(0, i, weight[:, None] * harmonics)
        counts = nothing.index_add(0, i, weight)
        tiny = 1e-12
        size = torch.sqrt(self.scale * (sums * sums).sum(1) + tiny * tiny)
        return (size / (counts + tiny) * (counts > tiny).to(D.dtype))[:, None]

    def _monomials(self, u: Tensor) -> Tensor:
        ladder = [torch.ones_like(u)]
        for _ in range(self.degree):
            ladder.append(ladder[-1] * u)
        table = torch.stack(ladder, 1)
        parts = [table[:, :, k].index_select(1, self.powers[:, k]) for k in range(3)]
        return parts[0] * parts[1] * parts[2]
