"""Mobility of spheres with a near field of many bodies, positive definite by construction.

    M = (M_RPY^-1 + R)^-1,    R = sum over pairs of B^T D B,    D >= 0

B takes the velocity of one sphere relative to the other; D resists approach and sliding, and
depends on the surroundings of the pair. With M_RPY = L L^T this is

    M = Y^T Y,    Y = C^-1 L^T,    C C^T = I + L^T R L,

which is positive, rounding included, and needs no inverse of M_RPY. Lengths are in radii,
mobilities in 1 / (6 pi viscosity radius). All of it is TorchScript, for any number of spheres.
"""

from __future__ import annotations

import torch
from torch import Tensor

CUTOFF = 3.5


def separations(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, n, n), infinite from a sphere to itself, and directions (B, n, n, 3)."""
    d = x.unsqueeze(2) - x.unsqueeze(1)
    one = torch.eye(x.shape[1], dtype=x.dtype)
    r = torch.sqrt((d * d).sum(-1) + one)
    return r + 1e30 * one, d / r.unsqueeze(-1)


def blocks(along: Tensor, across: Tensor, u: Tensor) -> Tensor:
    """(B, n, n, 3, 3) tensors along u u^T + across (I - u u^T)."""
    uu = u.unsqueeze(-1) * u.unsqueeze(-2)
    one = torch.eye(3, dtype=u.dtype)
    return across[..., None, None] * (one - uu) + along[..., None, None] * uu


def as_matrix(blocks: Tensor) -> Tensor:
    """(B, 3n, 3n) of (B, n, n, 3, 3)."""
    batch, n = blocks.shape[0], blocks.shape[1]
    return blocks.permute(0, 1, 3, 2, 4).reshape(batch, 3 * n, 3 * n)


def rpy(x: Tensor) -> Tensor:
    """(B, 3n, 3n) Rotne-Prager-Yamakawa mobility, overlapping spheres included."""
    r, u = separations(x)
    far = r.clamp(min=2.0)
    along = torch.where(r < 2, 1 - 3 / 16 * r, 1.5 / far - 1 / far**3)
    across = torch.where(r < 2, 1 - 9 / 32 * r, 0.75 / far + 0.5 / far**3)
    return as_matrix(blocks(along, across, u)) + torch.eye(3 * x.shape[1], dtype=x.dtype)


def taper(r: Tensor, power: int, cutoff: float = CUTOFF) -> Tensor:
    """1 at contact, smoothly 0 at the cutoff."""
    t = ((r.clamp(min=2.0) - 2.0) / (cutoff - 2.0)).clamp(max=1.0)
    return (1 - t * t) ** power


def crowding(r: Tensor, power: int) -> Tensor:
    """(B, n, n) weighted count of the neighbors of a pair, each other left out."""
    w = taper(r, power)
    count = w.sum(-1)
    return count.unsqueeze(-1) + count.unsqueeze(-2) - 2 * w


class TrueNearField(torch.nn.Module):
    """Lubrication-like: 1 / gap for approach, log(1 / gap) for sliding; more of both in a crowd."""

    def forward(self, r: Tensor) -> Tensor:
        gap = (r - 2.0).clamp(min=0.0) + 0.05
        strength = taper(r, 2) * (1 + 0.5 * crowding(r, 3))
        squeeze, shear = 0.25 / gap, torch.log(1 + 0.5 / gap) / 6
        return torch.stack([strength * squeeze, strength * shear], -1)


class LearnedNearField(torch.nn.Module):
    """A perceptron of gap and crowding; its crowding is not the true one.

    Args:
        width: of its two hidden layers.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3, width),
            torch.nn.Tanh(),
            torch.nn.Linear(width, width),
            torch.nn.Tanh(),
            torch.nn.Linear(width, 2),
            torch.nn.Softplus(),
        ).double()

    def forward(self, r: Tensor) -> Tensor:
        gap = (r - 2.0).clamp(min=0.0, max=2.0)
        seen = [torch.log(gap + 0.1), crowding(r, 2) / 2, crowding(r, 5) / 2]
        found: Tensor = self.layers(torch.stack(seen, -1))
        return found * taper(r, 2).unsqueeze(-1)


class Mobility(torch.nn.Module):
    """(3n, 1) positions -> (9 n^2, 1) mobility: a model of dX_MF_Q1_ML1_N2N.

    Args:
        near: (B, n, n) distances -> (B, n, n, 2) resistance of pairs to approach and sliding, >= 0
            and 0 beyond the cutoff.
    """

    def __init__(self, near: torch.nn.Module) -> None:
        super().__init__()
        self.near = near

    @torch.jit.export
    def resistance(self, x: Tensor) -> Tensor:
        """(B, 3n, 3n) near field R of positions (B, n, 3)."""
        r, u = separations(x)
        strength = self.near(r)
        pairs = blocks(strength[..., 0], strength[..., 1], u)
        own = torch.eye(x.shape[1], dtype=x.dtype)[None, :, :, None, None]
        return as_matrix(own * pairs.sum(2, keepdim=True) - pairs)

    @torch.jit.export
    def matrix(self, x: Tensor) -> Tensor:
        """(B, 3n, 3n) mobility of positions (B, n, 3)."""
        lower = torch.linalg.cholesky(rpy(x))
        upper = lower.transpose(1, 2)
        one = torch.eye(lower.shape[1], dtype=x.dtype)
        c = torch.linalg.cholesky(one + upper @ self.resistance(x) @ lower)
        y = torch.linalg.solve_triangular(c, upper, upper=False)
        return y.transpose(1, 2) @ y

    def forward(self, column: Tensor) -> Tensor:
        x = column.double().reshape(1, -1, 3)
        return self.matrix(x).reshape(-1, 1).float()


def scripted(near: torch.nn.Module) -> torch.jit.ScriptModule:
    """The mobility as TorchScript, `matrix` and `resistance` included."""
    model = Mobility(near).eval().requires_grad_(False)
    with torch.no_grad():
        found: torch.jit.ScriptModule = torch.jit.script(model)
    return found
