"""The formula of ``mlcore/bonds.hpp`` bond by bond, in NumPy over neighbors that ASE finds."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list


def energies(
    basis: Any, atoms: Atoms, coefficients: Any, middle: Any = None, species: Any = None
) -> np.ndarray:
    """Energies (n,) of the bonds that begin at each atom."""
    system = Surroundings(basis, atoms, species)
    middle = np.zeros(basis.seen) if middle is None else middle
    around = [system.around(b) - middle for b in range(len(system.i))]
    C = np.reshape(coefficients, (basis.species, basis.species, basis.radial, -1))
    found = np.zeros(len(atoms))
    for b, (i, j) in enumerate(zip(system.i, system.j, strict=True)):
        own, other = around[b], around[system.back[b]]
        m = [1.0, *own]
        for right in (own, other):
            m += [own[x] * right[y] for x in range(len(own)) for y in range(x, len(own))]
        m += list(system.across(b))
        p = system.part[b]
        t = [np.cos(a * np.pi * p) * (1 - p**2) ** 3 for a in range(basis.radial)]
        found[i] += t @ C[system.species[i], system.species[j]] @ np.array(m)
    return found


class Surroundings:
    """Bonds of atoms and sums over those around them."""

    def __init__(self, basis: Any, atoms: Atoms, species: Any) -> None:
        self.i, self.j, shifts, vectors = neighbor_list("ijSD", atoms, basis.reach)
        self.order, self.shells = basis.order, basis.shells
        self.species = np.zeros(len(atoms), int) if species is None else np.asarray(species)
        lengths = np.linalg.norm(vectors, axis=1)
        self.unit, self.part = vectors / lengths[:, None], lengths / basis.reach
        names = [(i, j, *S) for i, j, S in zip(self.i, self.j, shifts, strict=True)]
        place = {name: b for b, name in enumerate(names)}
        self.back = [place[j, i, -x, -y, -z] for i, j, x, y, z in names]
        self.of = [np.flatnonzero(self.i == atom) for atom in range(len(atoms))]
        shell = np.stack([(1 - self.part ** (4 * 3**q)) ** 2 for q in range(basis.shells)], 1)
        kinds = self.species[self.j][:, None] == np.arange(basis.species)
        self.shell = np.tile(shell, basis.species)  # (bonds, columns), whatever they lead to
        self.weight = self.shell * np.repeat(kinds, basis.shells, 1)

    def others(self, b: int) -> np.ndarray:
        """Bonds of the atom that b begins at, but b."""
        bonds = self.of[self.i[b]]
        return bonds[bonds != b]

    def around(self, b: int) -> np.ndarray:
        others = self.others(b)
        beyond = sum(
            (self.shell[k] * self.weight[self.others(self.back[k])].sum(0) for k in others),
            np.zeros(self.weight.shape[1]),
        )
        cosines = self.unit[others] @ self.unit[b]
        powers = [cosines**power @ self.weight[others] for power in range(1, self.order + 1)]
        return np.concatenate([self.weight[others].sum(0), beyond, *powers])

    def across(self, b: int) -> np.ndarray:
        here, there = self.others(b), self.others(self.back[b])
        cosines = self.unit[here] @ self.unit[there].T
        left, right = self.weight[here], self.weight[there]
        turned = [
            np.einsum("ac,bc,ab->c", left, right, cosines**power)
            for power in range(1, self.order + 1)
        ]
        left = left * (self.unit[here] @ self.unit[b])[:, None]
        right = right * (self.unit[there] @ self.unit[self.back[b]])[:, None]
        leaning = [
            np.einsum("ac,bc,ab->c", left, right, cosines**power) for power in range(1, self.order)
        ]
        return np.concatenate([*turned, *leaning])
