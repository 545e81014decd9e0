"""Pair energies that are linear in their weights, found by least squares in one go."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcore.forces.graph import Graph, Learner, NeighborLoss
from mlcore.networks.pair import PairEnergy
from mlcore.networks.radial import length, pair_index

__all__ = ["fit_splines", "innermost", "unexplained"]

_SMOOTHNESS = 1e-8
_BEYOND = 0.9
_EDGES = 50_000
_RIDGE = 1e-12


def innermost(graph: Graph, types: int, cutoff: float) -> Tensor:
    """(P,) where the splines of every pair of types begin: a tenth below the closest approach seen,
    so that repulsion goes on growing there; a quarter of the cutoff where there are no pairs."""
    pair = pair_index(graph.types[graph.i], graph.types[graph.j], types)
    start = torch.full((types * (types + 1) // 2,), torch.inf, dtype=torch.float64)
    found = start.scatter_reduce(0, pair, length(graph.D).double(), "amin")
    return torch.where(
        torch.isfinite(found), _BEYOND * found.clamp(min=1e-3 * cutoff), 0.25 * cutoff
    )


def _columns(network: PairEnergy, graph: Graph) -> tuple[Tensor, Tensor]:
    """Energies (1, P K) and forces (3 N, P K) of one frame for unit weights of every spline."""
    pair = pair_index(graph.types[graph.i], graph.types[graph.j], network.types)
    kinds, size = len(network.inner), network.intervals + 3
    energies = torch.zeros(kinds, size, dtype=torch.float64)
    forces = torch.zeros(kinds, len(graph.types), 3, size, dtype=torch.float64)
    for part in torch.split(torch.arange(len(pair)), _EDGES):
        for kind in torch.unique(pair[part]).tolist():
            mine = part[pair[part] == kind]
            value, slope = _splines(network, length(graph.D[mine]), pair[mine])
            energies[kind] += 0.5 * value.sum(0)
            # i and j swap in the full list, so the force on i is the whole slope once
            direction = graph.D[mine] / length(graph.D[mine])[:, None]
            push = direction[:, :, None] * slope[:, None, :]
            forces[kind].index_add_(0, graph.i[mine], push)
    return energies.reshape(1, -1), forces.permute(1, 2, 0, 3).reshape(-1, kinds * size)


def _splines(network: PairEnergy, r: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Faded splines (E, K) at distances and their slopes."""

    def of(distance: Tensor) -> Tensor:
        return network.fade(distance)[:, None] * network.features(distance, pair)

    found: Any = torch.func.jvp(of, (r,), (torch.ones_like(r),))
    value, slope = found
    return value, slope


def _normal(network: PairEnergy, loss: NeighborLoss) -> tuple[Tensor, Tensor]:
    """Normal equations of the loss; the last columns are the energies of single atoms."""
    energy_weight, force_weight = loss.weights
    size = len(network.inner) * (network.intervals + 3)
    whole = size + network.types
    matrix = torch.zeros(whole, whole, dtype=torch.float64)
    right = torch.zeros(whole, dtype=torch.float64)
    components = max(int(torch.isfinite(loss.whole.forces).sum()), 1)
    measured = max(int(torch.isfinite(loss.whole.energy).sum()), 1)
    for graph in loss.exact:
        energy, forces = _columns(network, graph)
        known = torch.isfinite(graph.forces).flatten()
        rows = forces[known] * (force_weight / components) ** 0.5 / loss.spread.force
        target = graph.forces.flatten()[known] * (force_weight / components) ** 0.5
        matrix[:size, :size] += rows.T @ rows
        right[:size] += rows.T @ (target / loss.spread.force)
        if bool(torch.isfinite(graph.energy).all()):
            scale = (energy_weight / measured) ** 0.5 / (loss.spread.energy * graph.sizes)
            row = torch.cat([energy, graph.composition * loss.spread.energy], 1)[0] * scale
            rest = (graph.energy - graph.composition @ loss.reference)[0] * scale
            matrix += row[:, None] * row
            right += row * rest
    return matrix, right


def _penalty(network: PairEnergy, scale: float) -> Tensor:
    """Third differences of neighboring weights: splines without data go on as parabolas in 1/r."""
    count = network.intervals + 3
    third = torch.diff(torch.eye(count, dtype=torch.float64), n=3, dim=0) / scale
    blocks: list[Any] = [third.T @ third] * len(network.inner)
    found: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return found


def fit_splines(learner: Learner, network: PairEnergy, loss: NeighborLoss) -> None:
    """Set the innermost distances and the spline of a pair network.

    Args:
        learner: takes the energies of single atoms.
        network: its pair energies.
        loss: what is minimised, with a slight preference for smooth splines.
    """
    with torch.no_grad():
        network.inner.copy_(innermost(loss.whole, network.types, network.cutoff))
        network.scale.fill_(0.1 * loss.spread.force * network.cutoff)
    exact = copy.deepcopy(network).double()
    matrix, right = _normal(exact, loss)
    size = len(right) - network.types
    scale = loss.spread.force * network.cutoff / network.intervals
    matrix[:size, :size] += _SMOOTHNESS * _penalty(network, scale)
    diagonal = matrix.diagonal().sqrt()
    diagonal = torch.where(diagonal > 0, diagonal, torch.ones_like(diagonal))
    scaled = matrix / (diagonal[:, None] * diagonal) + _RIDGE * torch.eye(len(right))
    solution = np.linalg.lstsq(scaled.numpy(), (right / diagonal).numpy(), rcond=1e-15)[0]
    found = torch.from_numpy(solution) / diagonal
    with torch.no_grad():
        network.spline.weight.copy_(found[:size].reshape(network.spline.weight.shape) / exact.scale)
        learner.own.copy_(found[size:])


def unexplained(learner: Learner, loss: NeighborLoss) -> float:
    """Root mean square of the force components a learner does not explain."""
    errors = torch.cat([loss.errors(learner, g, create_graph=False)[1] for g in loss.graphs])
    found = float(errors.detach().double().square().mean().sqrt()) if len(errors) else 0.0
    return max(found, 1e-4 * loss.spread.force)
