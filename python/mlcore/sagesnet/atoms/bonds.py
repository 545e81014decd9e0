"""A learned energy of bonds among the bonds around them, and the forces that follow from it.

    E = sum_ij t(r_ij) . C . m(s_ij, s_ji),  F = -dE/dx

The functions t and m are those of `mlcore.BondBasis`; energies and forces are made by the core. It is
linear in C, which is all there is to learn, and made of numbers that no turn or mirror changes: forces
add up to nothing, exert no torque and do no work on a closed path whatever C is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mlcore.bonds import BondBasis
from mlcore.errors import InvalidArgument
from mlcore.neighbors import neighbor_batch
from mlcore.ops import bond_energies, bond_forces
from mlcore.sagesnet.atoms.state import AtomState

__all__ = ["Bonds", "Neighbours", "Rows", "neighbours"]

_MOST = 4096  # functions of a basis that is whitened
_PROBES = 6  # for each function of a basis, by which its forces are told from the others'


@dataclass(frozen=True)
class Neighbours:
    """Who is near whom.

    Attributes:
        offsets: (n + 1,) int64, where each atom's begin.
        atoms: (p,) int32, who they are.
        ways: (p, 3) float64 A, to them.
        reach: A, up to which there are all.
    """

    offsets: Tensor
    atoms: Tensor
    ways: Tensor
    reach: float

    def rows(self, dtype: torch.dtype) -> Rows:
        """The same in rows of one length."""
        offsets, atoms = self.offsets.cpu().numpy(), self.atoms.cpu().numpy()
        count = np.diff(offsets)
        n, most = len(count), max(int(count.max(initial=0)), 1)
        i = np.repeat(np.arange(n), count)
        place = i * most + np.arange(len(i)) - offsets[i]
        index = np.repeat(np.arange(n), most)
        index[place] = atoms
        ways = np.full((n * most, 3), 4 * self.reach)
        ways[place] = self.ways.cpu().numpy()
        back = np.arange(n * most)
        back[place] = place[_opposite(i, atoms, ways[place])]
        device = self.offsets.device
        return Rows(
            torch.as_tensor(index.reshape(n, most), device=device),
            torch.as_tensor(ways.reshape(n, most, 3), device=device, dtype=dtype),
            torch.as_tensor(back, device=device),
        )


@dataclass(frozen=True)
class Rows:
    """Who is near whom, in rows of one length.

    Attributes:
        index: (n, k) int64, atoms near each; in what is left of a row, the atom itself.
        way: (n, k, 3) A, vectors to them; beyond every reach in what is left of a row.
        back: (n * k,) int64, where the same bond stands seen from its other end.
    """

    index: Tensor
    way: Tensor
    back: Tensor

    def facing(self, values: Tensor) -> Tensor:
        """(n, k, ..) of the same bonds, seen from their other ends."""
        return values.flatten(0, 1)[self.back].view_as(values)


def neighbours(state: AtomState, reach: float) -> Neighbours:
    """All atoms within ``reach`` A of each of the atoms, systems apart."""
    device, system = state.offset.device, state.system.cpu().numpy()
    order = np.argsort(system, kind="stable")
    first = np.concatenate([[0], np.cumsum(np.bincount(system, minlength=state.batch))])
    i, j, way = neighbor_batch(
        "ijD",
        state.positions().cpu().numpy()[order],
        reach,
        state.grid.matrix,
        state.grid.pbc,
        batch_offsets=first,
        index_dtype=np.int64,
    ).arrays
    if (np.diff(order) < 0).any():
        i, j = order[i], order[j]
        sort = np.argsort(i, kind="stable")
        i, j, way = i[sort], j[sort], way[sort]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=len(state)))])
    return Neighbours(
        torch.as_tensor(offsets, device=device),
        torch.as_tensor(j.astype(np.int32), device=device),
        torch.as_tensor(way, device=device),
        reach,
    )


def _opposite(
    i: npt.NDArray[np.int64], j: npt.NDArray[np.int32], ways: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Where among pairs each one is seen from its other end."""
    # images differ by a vector of the lattice, rounding by 1e-15 of it
    whole = np.round(ways * 1e5).astype(np.int64).T[::-1]
    found = np.empty(len(i), np.int64)
    found[np.lexsort((*whole, j, i))] = np.lexsort((*-whole, i, j))
    return found


class Bonds(nn.Module):
    """The energy.

    Args:
        elements: how many kinds of atoms.
        reach: A, beyond which there is no bond.
        inner: A, up to which a bond counts as a whole one; None: 0.85 of the reach.
        radial: functions of a bond's length.
        order: highest power of cosines.
        turns: highest power of the cosine by which bonds of both ends are turned.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    middle: Tensor
    mixing: Tensor

    def __init__(
        self,
        elements: int = 1,
        reach: float = 2.0,
        inner: float | None = None,
        radial: int = 5,
        order: int = 3,
        turns: int = 5,
    ) -> None:
        super().__init__()
        self.basis = BondBasis(reach, elements, inner, radial, order, turns)
        self.elements, self.reach = elements, self.basis.reach
        self.shape = self.basis.shape
        self.weight = nn.Parameter(torch.zeros(self.shape))
        size = self.weight.numel()
        # kept even where it does nothing: files hold tensors of known shapes. In double precision:
        # forces of single functions cancel
        self.register_buffer("mixing", torch.eye(size if size <= _MOST else 0).double())
        self.register_buffer("middle", torch.zeros(self.basis.seen))
        self._known: tuple[tuple[tuple[int, int], ...], Tensor] | None = None

    @property
    def coefficients(self) -> Tensor:
        """C, float64 eV."""
        if not len(self.mixing):
            return self.weight.double()
        if torch.is_grad_enabled():
            return (self.mixing @ self.weight.flatten().double()).reshape(self.shape)
        # made anew only where something has changed
        told = tuple((x.data_ptr(), x._version) for x in (self.mixing, self.weight))
        if self._known is None or self._known[0] != told:
            made = (self.mixing @ self.weight.flatten().double()).reshape(self.shape)
            self._known = told, made
        return self._known[1]

    def energies(
        self,
        near: Neighbours,
        species: Tensor,
        moved: Tensor | None = None,
        coefficients: Tensor | None = None,
    ) -> Tensor:
        """(n,) eV of the atoms.

        Args:
            near: see `neighbours`.
            species: (n,) from 0 on.
            moved: (n, 3) float64 A, ways of the atoms since; None: none.
            coefficients: those of these weights, where they are made already.
        """
        return bond_energies(*self._given(near, species, moved, coefficients))

    def forces(
        self,
        near: Neighbours,
        species: Tensor,
        moved: Tensor | None = None,
        coefficients: Tensor | None = None,
    ) -> Tensor:
        """(n, 3) eV/A, see `energies`; gradients by weights and ways flow through them."""
        return bond_forces(*self._given(near, species, moved, coefficients))

    def forces_of_weights(
        self, near: Neighbours, species: Tensor, moved: Tensor | None = None
    ) -> Tensor:
        """(c, n, 3) eV/A that each weight alone would make if it were 1; no gradients."""
        size, made = self.weight.numel(), []
        with torch.no_grad():
            for k in range(size):
                one = near.ways.new_zeros(size)
                one[k] = 1
                made.append(self.forces(near, species, moved, one.reshape(self.shape)))
        each = torch.stack(made)
        if not len(self.mixing):
            return each
        return (self.mixing.T @ each.flatten(1)).view_as(each)

    def _given(
        self, near: Neighbours, species: Tensor, moved: Tensor | None, coefficients: Tensor | None
    ) -> tuple[BondBasis, Tensor, Tensor, tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        return (
            self.basis,
            self.coefficients if coefficients is None else coefficients,
            near.ways.new_zeros((len(species), 3)) if moved is None else moved,
            (near.offsets, near.atoms, near.ways),
            self.middle.double(),
            species.int(),
        )

    def whiten(self, states: Iterable[AtomState], species: Tensor, floor: float = 1e-8) -> None:
        """Measures weights by the forces they make in these states, in eV/A, so that all are learned
        alike.

        Weights learned before keep their meaning only until then; call it before training.

        Args:
            states: some that are like those to come.
            species: (119,) of atomic numbers, from 0 on.
            floor: part of the strongest forces below which a combination is hardly learned.

        Raises:
            InvalidArgument: no states, or too many functions.
        """
        if self.weight.numel() > _MOST:
            raise InvalidArgument(
                f"the basis has {self.weight.numel()} functions, whitened are up to {_MOST}: take "
                "fewer elements, radial, order or turns"
            )
        chosen = list(states)
        if not chosen:
            raise InvalidArgument("states must be one or more, got none")
        self.middle.zero_()
        self.middle = torch.stack([self._middle(state, species) for state in chosen]).mean(dim=0)
        generator, size = torch.Generator().manual_seed(0), self.weight.numel()
        probes = -(-_PROBES * size // len(chosen))
        gram = torch.zeros(size, size, dtype=torch.float64)
        sizes = []
        for state in chosen:
            made = self._probed(state, species, probes, generator)
            gram += made.T @ made / made.square().sum()
            # a probe adds up the squares of all components
            components = max(3 * int(state.free.sum()), 1)
            sizes.append(float(made.square().sum(dim=1).mean()) / components)
        # functions differ by orders of magnitude
        own = torch.where(gram.diagonal() > 0, gram.diagonal(), torch.inf).rsqrt()
        values, vectors = torch.linalg.eigh(own[:, None] * gram * own)
        scale = (values.clamp(min=0) + floor * values.max()).rsqrt() * sum(sizes) ** -0.5
        self.mixing = (own[:, None] * vectors * scale).contiguous().to(self.weight.device)

    def _middle(self, state: AtomState, species: Tensor) -> Tensor:
        """(s,) means over all bonds of what is around them."""
        near = neighbours(state, self.reach).rows(torch.float64)
        _, seen, _, _ = self.parts(near.way, near, species[state.numbers])
        bonded = near.way.norm(dim=-1) < self.reach
        if not bool(bonded.any()):
            raise InvalidArgument(f"states: in one no atoms are within reach, {self.reach:g} A")
        return seen[bonded].mean(dim=0).to(self.middle.dtype)

    def _probed(
        self, state: AtomState, species: Tensor, probes: int, generator: torch.Generator
    ) -> Tensor:
        """(p, c) sums of the forces of each function of the basis alone, all atoms that are not driven
        weighted by +1 or -1 at random: their squares are in the mean those of the forces."""
        near = neighbours(state, self.reach)
        each = torch.zeros(self.shape, dtype=torch.float64, device=near.ways.device)
        with torch.enable_grad():
            forces = self.forces(near, species[state.numbers], coefficients=each.requires_grad_())
        made = []
        for _ in range(probes):
            sign = 2.0 * torch.randint(2, forces.shape, generator=generator) - 1
            weights = sign.to(forces) * state.free[:, None]
            (told,) = torch.autograd.grad(forces, each, weights, retain_graph=True)
            made.append(told.flatten().cpu())
        return torch.stack(made)

    def parts(
        self, ways: Tensor, near: Rows, species: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(n, k, t) functions of lengths; (n, k, s) what is around this end, and the other end, of a
        bond; (n, k, a) how both are turned against each other."""
        basis = self.basis
        squared = ways.square().sum(dim=-1, keepdim=True)
        inverse = squared.clamp(min=1e-4).rsqrt()
        length = squared * inverse
        fallen = ((length - basis.inner) / (basis.reach - basis.inner)).clamp(0, 1)
        weight = 0.5 + 0.5 * (math.pi * fallen).cos()
        powers = torch.arange(basis.radial, dtype=ways.dtype, device=ways.device)
        lengths = weight * (basis.decay * (1 - length / basis.reach) * powers).exp()
        kinds = nn.functional.one_hot(species, self.elements).to(ways.dtype)
        if self.elements > 1:
            pair = (kinds[:, None, :, None] * kinds[near.index][:, :, None]).flatten(2)
            lengths = (pair[..., None] * lengths[..., None, :]).flatten(2)
        sorted_ = weight * kinds[near.index]
        seen, across = self._around(ways * inverse, weight, sorted_, near)
        seen = seen - self.middle
        return lengths, seen, near.facing(seen), across

    def _around(
        self, unit: Tensor, weight: Tensor, sorted_: Tensor, near: Rows
    ) -> tuple[Tensor, Tensor]:
        """(n, k, s) sums over the other bonds of i; (n, k, a) over pairs of another one of i and one of
        j. Weights (n, k, 1) of bonds, and (n, k, S) in the columns of the kinds they lead to."""
        n, most = near.index.shape
        others = 1 - torch.eye(most, dtype=unit.dtype, device=unit.device)
        elsewhere = others[near.back.view(n, most) % most]  # (n, k, k), of the other end
        cosines = unit @ unit.transpose(1, 2)
        count = sorted_.sum(dim=1)
        # what the other end counts but this atom, of every bond
        past = weight * (elsewhere[:, :, None] @ sorted_[near.index]).squeeze(2)
        shapes = [cosines**power for power in range(1, self.basis.order + 1)]
        shapes.append((cosines - self.basis.knot).clamp(min=0) ** 3)
        seen = [count[:, None] - sorted_, past.sum(dim=1, keepdim=True) - past]
        seen += [(shape * others) @ sorted_ for shape in shapes]
        # by how much bonds of both ends are turned: (n, k, k here, k there)
        lean = 1 - cosines**2
        sine = torch.where(lean < 0.1, 0.05 + 5 * lean**2, lean).rsqrt()
        dots = torch.einsum("nax,nbcx->nbac", unit, unit[near.index])
        facing, far = near.facing(cosines), near.facing(sine)
        turn = (dots + cosines[..., None] * facing[:, :, None]) * sine[..., None] * far[:, :, None]
        here = others[None, :, :, None] * sorted_[:, None]
        there = elsewhere[..., None] * sorted_[near.index]
        across = [
            torch.einsum("nbac,nbas,nbcs->nbs", turn**power, here, there)
            for power in range(1, self.basis.turns + 1)
        ]
        return torch.cat(seen, dim=-1), torch.cat(across, dim=-1)
