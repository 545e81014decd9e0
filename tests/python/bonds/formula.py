"""The formula of ``mlcore/bonds.hpp`` bond by bond, in NumPy over neighbors that ASE finds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement
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
    names = list(products(basis))
    C = np.reshape(coefficients, (basis.species, basis.species, basis.radial, -1))
    found = np.zeros(len(atoms))
    for b, (i, j) in enumerate(zip(system.i, system.j, strict=True)):
        known = {"own": around[b], "other": around[system.back[b]], "d": system.turned(b)}
        m = [np.prod([known[who][k] for who, k in name]) for name in names]
        p = system.length[b] / basis.reach
        t = [system.weight[b] * np.exp(a * basis.decay * (1 - p)) for a in range(basis.radial)]
        found[i] += t @ C[system.species[i], system.species[j]] @ np.array(m)
    return found


def products(basis: Any) -> Iterator[tuple[tuple[str, int], ...]]:
    """What m is made of, in its order."""
    kinds = range(basis.species)
    beyond = range(basis.species, 2 * basis.species)
    angles = range(2 * basis.species, basis.seen)
    n, b, a = ([("own", k) for k in part] for part in (kinds, beyond, angles))
    theirs = [("other", k) for k in (*kinds, *beyond)]
    told = set()
    for size in range(basis.degree + 1):
        for name in combinations_with_replacement(n + a, size):
            told.add(name)
            yield name
    for size in range(4):
        for name in combinations_with_replacement(n + b + theirs, size):
            if name not in told and image(name) not in told:
                told.add(name)
                yield name
    for d in range(basis.turns * basis.species):
        told = set()
        for size in range(3):
            for name in combinations_with_replacement(n + theirs[: basis.species], size):
                if image(name) not in told:
                    told.add(name)
                    yield (*name, ("d", d))


def image(name: tuple[tuple[str, int], ...]) -> tuple[tuple[str, int], ...]:
    """The same of the bond from its other end."""
    changed = [({"own": "other", "other": "own"}[who], k) for who, k in name]
    return tuple(sorted(changed, key=lambda one: (one[0] == "other", one[1])))


class Surroundings:
    """Bonds of atoms and sums over those around them."""

    def __init__(self, basis: Any, atoms: Atoms, species: Any) -> None:
        self.i, self.j, shifts, vectors = neighbor_list("ijSD", atoms, basis.reach)
        self.basis = basis
        self.species = np.zeros(len(atoms), int) if species is None else np.asarray(species)
        self.length = np.linalg.norm(vectors, axis=1)
        self.unit = vectors / self.length[:, None]
        names = [(i, j, *S) for i, j, S in zip(self.i, self.j, shifts, strict=True)]
        place = {name: b for b, name in enumerate(names)}
        self.back = [place[j, i, -x, -y, -z] for i, j, x, y, z in names]
        self.of = [np.flatnonzero(self.i == atom) for atom in range(len(atoms))]
        fallen = (self.length - basis.inner) / (basis.reach - basis.inner)
        self.weight = 0.5 + 0.5 * np.cos(np.pi * fallen.clip(0, 1))
        # (bonds, S): w in the column of the kind that it leads to
        kinds = self.species[self.j][:, None] == np.arange(basis.species)
        self.sorted = self.weight[:, None] * kinds

    def others(self, b: int) -> np.ndarray:
        """Bonds of the atom that b begins at, but b."""
        bonds = self.of[self.i[b]]
        return bonds[bonds != b]

    def around(self, b: int) -> np.ndarray:
        others = self.others(b)
        beyond = sum(
            (self.weight[k] * self.sorted[self.others(self.back[k])].sum(0) for k in others),
            np.zeros(self.basis.species),
        )
        cosines = self.unit[others] @ self.unit[b]
        shapes = [cosines**power for power in range(1, self.basis.order + 1)]
        shapes.append((cosines - self.basis.knot).clip(0) ** 3)
        angles = [shape @ self.sorted[others] for shape in shapes]
        return np.concatenate([self.sorted[others].sum(0), beyond, *angles])

    def turned(self, b: int) -> np.ndarray:
        here, there = self.others(b), self.others(self.back[b])
        axis = self.unit[b]
        left, right = self.unit[here] @ axis, self.unit[there] @ -axis
        # parts at right angles to the axis
        a = self.unit[here] - left[:, None] * axis
        c = self.unit[there] + right[:, None] * axis
        turn = (a @ c.T) / np.sqrt(np.outer(raised(1 - left**2), raised(1 - right**2)))
        sums = [
            np.einsum("as,bs,ab->s", self.sorted[here], self.sorted[there], turn**power)
            for power in range(1, self.basis.turns + 1)
        ]
        return np.concatenate(sums)


def raised(square: np.ndarray) -> np.ndarray:
    return np.where(square < 0.1, 0.05 + 5 * square**2, square)
