"""Mobility of spheres above a no-slip wall at z = 0, in MLMOD's calling convention.

Lengths are in radii, mobilities in 1 / (6 pi viscosity radius).
"""

from __future__ import annotations

import torch
from torch import Tensor


def diagonal(along: Tensor, up: Tensor) -> Tensor:
    """(9, 1) block diag(along, along, up)."""
    return torch.diag(torch.stack([along, along, up])).reshape(9, 1)


class ExactSelf(torch.nn.Module):
    """M_ii of Swan and Brady (2007), eqs. (B1), (B2)."""

    def forward(self, x: Tensor) -> Tensor:
        s = 1 / x[2, 0].double().clamp(min=1.0)
        along = 1 - 9 / 16 * s + s**3 / 8 - s**5 / 16
        up = 1 - 9 / 8 * s + s**3 / 2 - s**5 / 8
        return diagonal(along, up).float()


class ExactPair(torch.nn.Module):
    """M_ij: Rotne-Prager-Yamakawa and its images by the wall, Swan and Brady (2007), appendix C."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.double().reshape(2, 3)
        return (open_space(first - second) + images(first, second)).reshape(9, 1).float()


def open_space(d: Tensor) -> Tensor:
    """(3, 3) of two spheres without a wall; overlapping ones too."""
    r = torch.sqrt((d * d).sum().clamp(min=1e-60))
    far = r.clamp(min=2.0)
    along = torch.where(r < 2, 1 - 3 / 16 * r, 1.5 / far - 1 / far**3)
    across = torch.where(r < 2, 1 - 9 / 32 * r, 0.75 / far + 0.5 / far**3)
    u = d / r
    return across * torch.eye(3, dtype=d.dtype) + (along - across) * torch.outer(u, u)


def images(first: Tensor, second: Tensor) -> Tensor:
    """(3, 3) that the wall adds."""
    height = first[2] + second[2]
    e = torch.stack([first[0] - second[0], first[1] - second[1], height])
    size = torch.sqrt((e * e).sum())
    e = e / size
    i1, h, z2 = 1 / size, second[2] / height, e[2] ** 2
    i3, i5 = i1**3, i1**5
    f1 = -(3 * (1 + 2 * h * (1 - h) * z2) * i1 + 2 * (1 - 3 * z2) * i3 - 2 * (1 - 5 * z2) * i5) / 3
    f2 = -(3 * (1 - 6 * h * (1 - h) * z2) * i1 - 6 * (1 - 5 * z2) * i3 + 10 * (1 - 7 * z2) * i5) / 3
    bracket = 3 * h * (1 - 6 * (1 - h) * z2) * i1 - 6 * (1 - 5 * z2) * i3 + 10 * (2 - 7 * z2) * i5
    f3 = e[2] * 2 / 3 * bracket
    f4 = e[2] * 2 / 3 * (3 * h * i1 - 10 * i5)
    f5 = -(3 * h * h * z2 * i1 + 3 * z2 * i3 + (2 - 15 * z2) * i5) * 4 / 3
    one = torch.eye(3, dtype=e.dtype)
    up = one[2]
    block = f1 * one + f2 * torch.outer(e, e) + f3 * torch.outer(e, up) + f4 * torch.outer(up, e)
    return 0.75 * (block + f5 * torch.outer(up, up))


class LearnedSelf(torch.nn.Module):
    """M_ii = diag(m_0, m_0, m_1), m = exp(sum_k c_k T_k(2 / z - 1)): smooth and positive.

    Heights from contact to infinity are the interval [-1, 1] of the Chebyshev polynomials T_k.

    Args:
        terms: polynomials for each of the two mobilities.
    """

    def __init__(self, terms: int = 5) -> None:
        super().__init__()
        self.coefficients = torch.nn.Parameter(torch.zeros(2, terms, dtype=torch.float64))

    def basis(self, z: Tensor) -> Tensor:
        """(..., terms) of heights."""
        s = 2 / z.clamp(min=1.0) - 1
        found = [torch.ones_like(s), s]
        while len(found) < self.coefficients.shape[1]:
            found.append(2 * s * found[-1] - found[-2])
        return torch.stack(found, -1)

    def mobility(self, z: Tensor) -> Tensor:
        """(..., 2) along the wall and towards it."""
        return torch.exp(self.basis(z) @ self.coefficients.T)

    def forward(self, x: Tensor) -> Tensor:
        m = self.mobility(x[2, 0].double())
        return diagonal(m[0], m[1]).float()
