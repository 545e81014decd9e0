"""Coarse fields: how much of each kind is in a block of cells, its momentum, its kinetic energy.

What is right on a large scale is told by these, not by where each atom is:

    found = coarse_fields(net.rollout(start, until=64).states, space=4, time=8)
    true = coarse_fields(frames, space=4, time=8)
    compared(found[-1], true[-1])["density"].relative

Sums over blocks are those over their cells, exactly for counts; in time they are means over windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from ase.data import atomic_masses
from ase.units import fs
from torch import Tensor

from mlcore.errors import InvalidArgument
from mlcore.sagesnet.atoms.state import AtomState
from mlcore.sagesnet.lattice import DenseLattice, Triple, triple

__all__ = ["Agreement", "Fields", "coarse_fields", "compared", "fields_of", "mean_fields"]

_EV = 1 / fs**2
"""eV of u A^2/fs^2."""


@dataclass(frozen=True)
class Fields:
    """What is in every cell of a grid, fine or coarse.

    Attributes:
        kinds: that are counted: atomic numbers, or states of an automaton.
        masses: u of one of each; 1 for automata.
        counts: (B, X, Y, Z, S), int64 of a moment, float64 of a mean over moments.
        momentum: (B, X, Y, Z, 3) float64, u A/fs; zeros for automata.
        kinetic: (B, X, Y, Z) float64, eV; zeros for automata.
    """

    kinds: tuple[int, ...]
    masses: tuple[float, ...]
    counts: Tensor
    momentum: Tensor
    kinetic: Tensor

    @property
    def mass(self) -> Tensor:
        """(B, X, Y, Z) float64, u."""
        return self.counts.double() @ self.counts.new_tensor(self.masses, dtype=torch.float64)

    @property
    def extents(self) -> Triple:
        """Cells along the axes."""
        x, y, z = self.kinetic.shape[1:]
        return x, y, z

    def pooled(self, space: int | Sequence[int]) -> Fields:
        """Sums over blocks of cells, each cell in exactly one.

        Raises:
            InvalidArgument: extents are no multiples of ``space``.
        """
        wanted, lattice = triple("space", space), DenseLattice(self.extents)
        counts, momentum, kinetic = (
            lattice.blocks(values, wanted).sum(dim=-2)
            for values in (self.counts, self.momentum, self.kinetic[..., None])
        )
        return replace(self, counts=counts, momentum=momentum, kinetic=kinetic[..., 0])

    def totals(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of every system: counts (B, S), momentum (B, 3), kinetic energy (B,)."""
        axes = (1, 2, 3)
        return self.counts.sum(axes), self.momentum.sum(axes), self.kinetic.sum(axes)


@dataclass(frozen=True)
class Agreement:
    """How near a field is to the true one, over all blocks and systems.

    Attributes:
        rms: root of the mean squared error of a block, in the field's unit.
        relative: the same, of the true field's deviation from its mean: 1 is as bad as the mean; inf
            where that does not vary and the other is wrong.
        correlation: Pearson's; nan where one does not vary.
    """

    rms: float
    relative: float
    correlation: float


@singledispatch
def fields_of(
    state: Any, kinds: Sequence[int] | None = None, extents: Triple | None = None
) -> Fields:
    """Fields of the cells of level 0.

    Args:
        state: an `AtomState`, or of an automaton; one's own kinds with ``fields_of.register``.
        kinds: to count; None: those of atoms that are there, all states of an automaton but 0.
        extents: of the result, where more than the state's: the rest is empty.

    Raises:
        InvalidArgument: something else is in the state than ``kinds``, or nothing that counts.
    """
    raise InvalidArgument(f"state: nothing is counted in a {type(state).__name__}")


@fields_of.register
def _of_atoms(
    state: AtomState, kinds: Sequence[int] | None = None, extents: Triple | None = None
) -> Fields:
    kinds = sorted(set(state.numbers.tolist())) if kinds is None else list(kinds)
    known = torch.full((119,), -1)
    known[kinds] = torch.arange(len(kinds))
    kind = known.to(state.numbers.device)[state.numbers]
    if bool((kind < 0).any()):
        odd = sorted(set(state.numbers[kind < 0].tolist()))
        raise InvalidArgument(f"kinds {kinds} must hold all elements of the state, also {odd}")
    shape = (state.batch, *(extents or state.grid.extents))
    place = torch.stack([state.system, *state.cell.unbind(dim=1)])
    cells = math.prod(shape)
    row = _rows(place, shape)
    mass = torch.as_tensor(atomic_masses, device=row.device)[state.numbers]
    velocity = state.velocity.detach().double()
    momentum = velocity.new_zeros((cells, 3)).index_add(0, row, mass[:, None] * velocity)
    energy = 0.5 * _EV * mass * velocity.square().sum(dim=1)
    kinetic = velocity.new_zeros(cells).index_add(0, row, energy)
    counts = torch.bincount(row * len(kinds) + kind, minlength=cells * len(kinds))
    return Fields(
        tuple(kinds),
        tuple(float(atomic_masses[z]) for z in kinds),
        counts.reshape(*shape, len(kinds)),
        momentum.reshape(*shape, 3),
        kinetic.reshape(shape),
    )


@fields_of.register
def _of_automata(
    state: Tensor, kinds: Sequence[int] | None = None, extents: Triple | None = None
) -> Fields:
    if state.dim() != 4 or state.is_floating_point() or state.is_complex():
        told = f"{state.dtype} {tuple(state.shape)}"
        raise InvalidArgument(f"state must be whole numbers (B, X, Y, Z), got {told}")
    highest = int(state.max()) if state.numel() else 0
    kinds = list(range(1, highest + 1)) if kinds is None else list(kinds)
    if extents is not None and tuple(state.shape[1:]) != extents:
        raise InvalidArgument(f"extents {extents} must be those of the state, {state.shape[1:]}")
    if not bool(torch.isin(state, state.new_tensor([0, *kinds])).all()):
        raise InvalidArgument(
            f"kinds {kinds} must hold all states but 0, there are up to {highest}"
        )
    counts = (state[..., None] == state.new_tensor(kinds)).long()
    nothing = torch.zeros(state.shape, dtype=torch.float64, device=state.device)
    momentum = nothing[..., None].expand(*state.shape, 3)
    return Fields(tuple(kinds), (1.0,) * len(kinds), counts, momentum, nothing)


def _rows(place: Tensor, shape: Sequence[int]) -> Tensor:
    """Row-major numbers of cells, (4, n) system, x, y, z."""
    row = place[0]
    for index, extent in zip(place[1:], shape[1:], strict=True):
        row = row * extent + index
    return row


def mean_fields(moments: Sequence[Fields], first: bool = False) -> Fields:
    """Means over moments of the same cells.

    Args:
        moments: one or more.
        first: counts are those of the first moment, whole numbers, instead.
    """
    if not moments:
        raise InvalidArgument("moments must be one or more, got none")
    momentum = torch.stack([one.momentum for one in moments]).mean(dim=0)
    kinetic = torch.stack([one.kinetic for one in moments]).mean(dim=0)
    counts = moments[0].counts
    if not first:
        counts = torch.stack([one.counts.double() for one in moments]).mean(dim=0)
    return replace(moments[0], counts=counts, momentum=momentum, kinetic=kinetic)


def coarse_fields(
    states: Sequence[Any],
    space: int | Sequence[int],
    time: int = 1,
    kinds: Sequence[int] | None = None,
) -> list[Fields]:
    """Fields of blocks, a mean over each window of so many states; a rest of states is left out.

    Args:
        states: consecutive, of a rollout or of the reference.
        space: cells of a block along each axis, or three numbers of them.
        time: states of a window.
        kinds: see `fields_of`; None: those of the first state.

    Raises:
        InvalidArgument: there is no whole window; see `fields_of` and `Fields.pooled`.
    """
    if not isinstance(time, int) or not 1 <= time <= len(states):
        raise InvalidArgument(f"time must be from 1 to {len(states)}, as states are, got {time!r}")
    kinds = fields_of(states[0]).kinds if kinds is None else kinds
    return [
        mean_fields([fields_of(state, kinds).pooled(space) for state in states[k : k + time]])
        for k in range(0, len(states) - time + 1, time)
    ]


def compared(found: Fields, true: Fields) -> dict[str, Agreement]:
    """How near fields are: "density" of mass, "momentum", "kinetic", and "count Z" of each kind.

    Raises:
        InvalidArgument: they are not of the same blocks and kinds.
    """
    if found.kinds != true.kinds or found.kinetic.shape != true.kinetic.shape:
        told = (
            f"{found.kinds} {tuple(found.kinetic.shape)}, {true.kinds} {tuple(true.kinetic.shape)}"
        )
        raise InvalidArgument(f"found and true must be of the same blocks and kinds: {told}")
    pairs = {
        "density": (found.mass, true.mass),
        "momentum": (found.momentum, true.momentum),
        "kinetic": (found.kinetic, true.kinetic),
    }
    for k, kind in enumerate(true.kinds):
        pairs[f"count {kind}"] = (found.counts[..., k].double(), true.counts[..., k].double())
    return {name: _agreement(*pair) for name, pair in pairs.items()}


def _agreement(found: Tensor, true: Tensor) -> Agreement:
    # means of each component on their own: a drift of the whole is nothing to be proud of
    axes = (0, 1, 2, 3)
    off = float((found - true).square().mean().sqrt())
    a, b = (x - x.mean(dim=axes, keepdim=True) for x in (found, true))
    spread, own = (float(x.square().mean().sqrt()) for x in (b, a))
    relative = off / spread if spread > 0 else math.inf if off > 0 else 0.0
    both = float((a * b).mean())
    return Agreement(off, relative, both / (own * spread) if own * spread > 0 else math.nan)
