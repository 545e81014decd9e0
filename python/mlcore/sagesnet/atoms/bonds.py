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
        radial: functions of a bond's length.
        order: highest power of cosines.
        shells: how many weights, as functions of their lengths, the bonds around have.

    Raises:
        InvalidArgument: naming what is out of range.
    """

    middle: Tensor
    mixing: Tensor

    def __init__(
        self,
        elements: int = 1,
        reach: float = 2.1,
        radial: int = 10,
        order: int = 3,
        shells: int = 2,
    ) -> None:
        super().__init__()
        self.basis = BondBasis(reach, elements, radial, order, shells)
        self.elements, self.reach = elements, self.basis.reach
        self.monomials = [_monomials(total) for total in range(1, order + 1)]
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

    def whiten(self, states: Iterable[AtomState], species: Tensor, floor: float = 1e-6) -> None:
        """Measures weights by the forces they make in these states, so that all are learned alike.

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
                "fewer elements, radial, order or shells"
            )
        chosen = list(states)
        if not chosen:
            raise InvalidArgument("states must be one or more, got none")
        self.middle.zero_()
        self.middle = torch.stack([self._middle(state, species) for state in chosen]).mean(dim=0)
        generator, size = torch.Generator().manual_seed(0), self.weight.numel()
        probes = -(-_PROBES * size // len(chosen))
        gram = torch.zeros(size, size, dtype=torch.float64)
        for state in chosen:
            made = self._probed(state, species, probes, generator)
            gram += made.T @ made / made.square().sum()
        values, vectors = torch.linalg.eigh(gram)
        scale = (values.clamp(min=0) + floor * values.max()).rsqrt()
        self.mixing = (vectors * scale).contiguous().to(self.weight.device)

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
        squared = ways.square().sum(dim=-1, keepdim=True)
        inverse = squared.clamp(min=1e-4).rsqrt()
        part = squared * inverse / self.reach
        inside = (1 - part.square()).clamp(min=0)
        waves = math.pi * torch.arange(self.basis.radial, dtype=ways.dtype, device=ways.device)
        lengths = (part * waves).cos() * (inside * inside * inside)
        if self.elements > 1:
            pair = nn.functional.one_hot(
                species[:, None] * self.elements + species[near.index], self.elements**2
            )
            lengths = (pair.to(ways.dtype)[..., None] * lengths[..., None, :]).flatten(2)
        shells = self._shells(part, near, species)
        seen, across = self._around(ways * inverse, shells, near)
        seen = seen - self.middle
        return lengths, seen, seen.flatten(0, 1)[near.back].view_as(seen), across

    def _shells(self, part: Tensor, near: Rows, species: Tensor) -> Tensor:
        """(n, k, q) weights of bonds, (n, k, 1) parts of the reach long, in the sums around."""
        steps = torch.arange(self.basis.shells, dtype=part.dtype, device=part.device)
        shells = (1 - part.clamp(max=1) ** (4 * 3**steps)).square()
        if self.elements > 1:
            kind = nn.functional.one_hot(species, self.elements).to(part.dtype)
            shells = (kind[near.index][..., None] * shells[..., None, :]).flatten(2)
        return shells

    def _around(self, unit: Tensor, shells: Tensor, near: Rows) -> tuple[Tensor, Tensor]:
        """(n, k, s) sums over the other bonds of i of their weights and powers of the cosine; and
        (n, k, a) sums over pairs of another bond of i and one of j of powers of their cosine."""
        facing = shells.flatten(0, 1)[near.back].view_as(shells)
        count = shells.sum(dim=1)
        total = count[:, None] - shells
        alone = shells.view(*shells.shape[:2], self.elements, self.basis.shells).sum(dim=2)
        alone = alone.repeat(1, 1, self.elements)
        beyond = alone * (count[near.index] - facing)
        sums = [total, beyond.sum(dim=1, keepdim=True) - beyond]
        pairs, turned = [], shells.transpose(1, 2)
        made = {(0, 0, 0): torch.ones_like(unit[..., 0])}
        for block in self.monomials:
            for e, axis, less in block:
                made[e] = made[less] * unit[..., axis]
            tensor = torch.stack([made[e] for e, _, _ in block], dim=-1)
            weights = unit.new_tensor([_multinomial(e) for e, _, _ in block])
            moments = torch.matmul(turned, tensor)
            cosines = torch.matmul(tensor * weights, moments.transpose(1, 2))
            # of the bond itself the cosine is 1
            sums.append(cosines - shells)
            # all pairs without those of the bond itself, seen from the other end as -u
            back = cosines.flatten(0, 1)[near.back].view_as(cosines)
            every = ((moments * weights)[:, None] * moments[near.index]).sum(dim=-1)
            own = facing * (cosines - shells) + shells * back
            pairs.append(every - own if sum(block[0][0]) % 2 == 0 else every + own)
        return torch.cat(sums, dim=-1), torch.cat(pairs, dim=-1)


_Exponents = tuple[int, int, int]


def _monomials(total: int) -> list[tuple[_Exponents, int, _Exponents]]:
    """Exponents of x, y, z of a degree; an axis and the exponents without it once."""
    made = []
    for a in range(total, -1, -1):
        for b in range(total - a, -1, -1):
            e = [a, b, total - a - b]
            axis = next(k for k in range(3) if e[k])
            less = [n - (k == axis) for k, n in enumerate(e)]
            made.append(((e[0], e[1], e[2]), axis, (less[0], less[1], less[2])))
    return made


def _multinomial(e: _Exponents) -> float:
    a, b, c = e
    return math.factorial(a + b + c) / (math.factorial(a) * math.factorial(b) * math.factorial(c))
