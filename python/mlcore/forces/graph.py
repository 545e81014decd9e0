"""Neighbors of many frames as one graph, and the error of energies and forces on it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.forces.frames import Configuration, digest, finite
from mlcore.neighbors import neighbor_list
from mlcore.networks import arguments_of

__all__ = [
    "EDGES",
    "Graph",
    "Learner",
    "NeighborLoss",
    "Spread",
    "edges",
    "join",
    "reference_energies",
    "settings",
]


EDGES = 100_000
"""Pairs of atoms that are evaluated at once, so that the memory holds what is in between."""


@dataclass(frozen=True)
class Graph:
    """Frames side by side.

    Args:
        D, i, j: (E, 3) and (E,), all ordered pairs.
        types: (N,) from 0.
        owner: (N,) frame of every atom.
        composition: (F, T) atoms of each type in every frame.
        forces: (N, 3), NaN where not known.
        energy: (F,), NaN where not known.
    """

    D: Tensor
    i: Tensor
    j: Tensor
    types: Tensor
    owner: Tensor
    composition: Tensor
    forces: Tensor
    energy: Tensor

    @classmethod
    def of(cls, frame: Configuration, cutoff: float, types: int) -> Graph:
        """One frame, in double precision."""
        D, i, j = edges(frame, cutoff)
        n = len(frame.x)
        unknown = np.full((n, 3), np.nan)
        energy = np.nan if frame.energy is None else frame.energy
        return cls(
            D,
            i,
            j,
            torch.from_numpy(frame.types),
            torch.zeros(n, dtype=torch.int64),
            torch.from_numpy(np.bincount(frame.types, minlength=types)[None].astype(np.float64)),
            torch.from_numpy(unknown if frame.forces is None else np.array(frame.forces)),
            torch.tensor([energy], dtype=torch.float64),
        )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.energy)

    @property
    def sizes(self) -> Tensor:
        """(F,) atoms."""
        return self.composition.sum(1)

    def to(self, dtype: torch.dtype) -> Graph:
        """With vectors, forces and compositions of a dtype; energies stay double."""
        return Graph(
            self.D.to(dtype),
            self.i,
            self.j,
            self.types,
            self.owner,
            self.composition,
            self.forces.to(dtype),
            self.energy,
        )

    def evaluate(self, network: torch.nn.Module, create_graph: bool) -> tuple[Tensor, Tensor]:
        """Energies (F,) and forces (N, 3) of a network of neighbors."""
        D = self.D.detach().requires_grad_(True)
        atoms = network(D, self.i, self.j, self.types)
        (slope,) = torch.autograd.grad(atoms.sum(), D, create_graph=create_graph)
        nothing = torch.zeros_like(self.forces)
        forces = nothing.index_add(0, self.i, slope).index_add(0, self.j, -slope)
        total = torch.zeros_like(self.energy).index_add(0, self.owner, atoms.double())
        return total, forces


def edges(frame: Configuration, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    """D, i, j of all ordered pairs of a frame within a cutoff."""
    i, j, D = neighbor_list("ijD", frame.x, cutoff, frame.cell, frame.pbc, index_dtype="int64")
    return torch.from_numpy(D), torch.from_numpy(i), torch.from_numpy(j)


def join(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one."""
    atoms = np.cumsum([0, *(len(g.types) for g in graphs)])
    frames = np.cumsum([0, *(g.frames for g in graphs)])

    def together(name: str, shifts: Any = None) -> Tensor:
        parts = [getattr(g, name) for g in graphs]
        if shifts is not None:
            parts = [p + int(s) for p, s in zip(parts, shifts, strict=False)]
        return torch.cat(parts)

    return Graph(
        together("D"),
        together("i", atoms),
        together("j", atoms),
        together("types"),
        together("owner", frames),
        together("composition"),
        together("forces"),
        together("energy"),
    )


@dataclass(frozen=True)
class Spread:
    """What errors are measured in.

    Args:
        force: root mean square of a force component.
        energy: standard deviation of the energy an atom, the types' own energies taken out.
    """

    force: float
    energy: float

    @classmethod
    def of(cls, graph: Graph) -> Spread:
        """Of the frames to learn from; 1 where all are equal or unknown."""
        forces = graph.forces[torch.isfinite(graph.forces)]
        force = float((forces**2).mean().sqrt()) if len(forces) else 0.0
        rest = (graph.energy - graph.composition @ reference_energies(graph)) / graph.sizes
        rest = rest[torch.isfinite(rest)]
        energy = float((rest**2).mean().sqrt()) if len(rest) else 0.0
        return cls(force or 1.0, energy if energy > 1e-9 * (force or 1.0) else force or 1.0)


def settings(network: torch.nn.Module) -> str:
    """What tells a network from those of other settings, weights of equal shapes or not."""
    return f"{type(network).__name__} {json.dumps(arguments_of(network), sort_keys=True)}"


def reference_energies(graph: Graph) -> Tensor:
    """(T,) energies of single atoms of every type that leave least to explain, by least squares."""
    known = torch.isfinite(graph.energy)
    if not bool(known.any()):
        return graph.composition.new_zeros(graph.composition.shape[1])
    weight = 1 / graph.sizes[known]
    rows = graph.composition[known] * weight[:, None]
    found: Tensor = torch.linalg.pinv(rows, rtol=1e-9) @ (graph.energy[known] * weight)
    return found


class Learner(torch.nn.Module):
    """A network and the energies of single atoms, which no force knows, learned together.

    Args:
        network: of neighbors.
        types: number of atom types.

    Attributes:
        own: (types,) energies of single atoms beyond the loss's reference, in its spread.
    """

    def __init__(self, network: torch.nn.Module, types: int) -> None:
        super().__init__()
        self.network = network
        self.own = torch.nn.Parameter(torch.zeros(types, dtype=torch.float64))


class NeighborLoss:
    """Mean squared errors of forces and of energies an atom, in units of their spread.

    Args:
        network: that learns; its settings are part of the identity.
        frames, held_out: with forces or energies.
        energy_weight, force_weight: of the mean squared errors.

    Raises:
        InvalidArgument: there is nothing to learn from.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        frames: Sequence[Configuration],
        held_out: Sequence[Configuration],
        cutoff: float,
        types: int,
        dtype: torch.dtype,
        energy_weight: float,
        force_weight: float,
    ) -> None:
        for name, value in (("energy_weight", energy_weight), ("force_weight", force_weight)):
            if finite(name, value) < 0:
                raise InvalidArgument(f"{name} must not be negative: {value!r}")
        self.exact = [Graph.of(frame, cutoff, types) for frame in frames]
        self.whole = join(self.exact)
        self.weights = (energy_weight, force_weight)
        if not any(self.known(self.whole)):
            raise InvalidArgument("frames have no forces and no energies of any weight")
        if len(self.whole.D) == 0:
            raise InvalidArgument(f"frames have no two atoms within the cutoff {cutoff:g}")
        self.spread = Spread.of(self.whole)
        self.reference = reference_energies(self.whole)
        self.graphs = [g.to(dtype) for g in self.exact]
        held = [Graph.of(frame, cutoff, types).to(dtype) for frame in held_out]
        self.held = _lots(held)
        if held and not any(any(self.known(graph)) for graph in held):
            raise InvalidArgument(
                "validation: the frames held out have no forces and no energies of any weight"
            )
        told = (digest(frames), digest(held_out), repr(cutoff), repr(self.weights))
        self._identity = " ".join((*told, settings(network)))

    def known(self, graph: Graph) -> tuple[bool, bool]:
        """Whether energies, and forces, count on some frames."""
        return (
            self.weights[0] > 0 and bool(torch.isfinite(graph.energy).any()),
            self.weights[1] > 0 and bool(torch.isfinite(graph.forces).any()),
        )

    @property
    def size(self) -> int:
        """Number of frames."""
        return len(self.graphs)

    def identity(self) -> str:
        """What must be equal for a resumed run to be the same run."""
        return self._identity

    def errors(self, learner: Learner, graph: Graph, create_graph: bool) -> tuple[Tensor, Tensor]:
        """Errors of energies an atom and of force components, where they are known."""
        energy, forces = graph.evaluate(learner.network, create_graph)
        own = graph.composition @ (self.reference + self.spread.energy * learner.own)
        per_atom = (energy + own - graph.energy) / graph.sizes
        wrong = forces - graph.forces
        return per_atom[torch.isfinite(graph.energy)], wrong[torch.isfinite(graph.forces)]

    def of_errors(self, learner: Learner, energy: Tensor, forces: Tensor) -> Tensor:
        """The loss of errors as `errors` gives them."""
        loss = 0.0 * learner.own.sum()  # has a gradient on frames of which nothing is known, too
        if self.weights[0] > 0 and len(energy):
            loss = loss + self.weights[0] * (energy / self.spread.energy).square().mean()
        if self.weights[1] > 0 and len(forces):
            loss = loss + self.weights[1] * (forces / self.spread.force).square().mean().double()
        return loss

    def held_out_errors(self, learner: Learner) -> tuple[Tensor, Tensor] | None:
        """As `errors`, of the frames held out, a few at a time; None without any."""
        if not self.held:
            return None
        parts = [self.errors(learner, graph, create_graph=False) for graph in self.held]
        energies, forces = zip(*((e.detach(), f.detach()) for e, f in parts), strict=True)
        return torch.cat(energies), torch.cat(forces)

    def loss(self, module: torch.nn.Module, samples: Tensor) -> Tensor:
        """The loss on the frames numbered."""
        assert isinstance(module, Learner)
        everything = len(samples) == self.size
        chosen = self.graphs if everything else [self.graphs[int(k)] for k in samples]
        return self.of_errors(module, *self.errors(module, join(chosen), create_graph=True))

    def validation(self, module: torch.nn.Module) -> float | None:
        """The loss on the frames held out, None without any."""
        assert isinstance(module, Learner)
        found = self.held_out_errors(module)
        return None if found is None else float(self.of_errors(module, *found).detach())


def _lots(graphs: Sequence[Graph]) -> list[Graph]:
    """The graphs in their order, joined to a few of not too many edges each."""
    lots: list[list[Graph]] = []
    edges = 0
    for graph in graphs:
        if not lots or edges + len(graph.D) > EDGES:
            lots.append([])
            edges = 0
        lots[-1].append(graph)
        edges += len(graph.D)
    return [join(lot) for lot in lots]
