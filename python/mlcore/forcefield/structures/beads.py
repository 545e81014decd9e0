"""From atoms to beads: positions, forces and energies of coarse-grained structures.

A bead stands for a set of atoms, each of which belongs to one bead at most. Its position is a mean of
theirs (by mass, or one of them), its force is the sum of theirs: with weights that sum to one over
atoms of a single bead this is a force map consistent with the position map, so that its mean is the
force of the potential of mean force (W. G. Noid et al., J. Chem. Phys. 128, 244114 (2008), eq. 16;
A. Kramer et al., J. Phys. Chem. Lett. 14, 3970 (2023), eq. 5). Molecules cut by the boundary are put
together along their bonds first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mlcore.errors import InvalidArgument
from mlcore.forcefield.structures.dataset import Dataset, Group, species
from mlcore.forcefield.structures.labels import full_stress, labelled, labels

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "Beads",
    "ByFormula",
    "ByIndex",
    "ByMolecule",
    "Rule",
    "coarse_grained",
    "fitted_references",
    "mapped",
]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}")


class Rule(Protocol):
    """How beads are found in a structure."""

    def find(self, atoms: Atoms) -> Beads:
        """The beads of this structure; they hold for all frames of its atoms."""
        ...


@dataclass(frozen=True)
class ByFormula:
    """Every molecule of a formula is a bead; molecules are what bonds hold together.

    Attributes:
        beads: formula by name of bead, such as {"W": "H2O"}.
        center: "mass", or the symbol of the one atom that the bead sits on, such as "O".
        bond: atoms are bonded when nearer than this times the sum of their covalent radii.
        rest: what to do with other molecules: "error" or "drop".
    """

    beads: Mapping[str, str]
    center: str = "mass"
    bond: float = 1.25
    rest: str = "error"

    def find(self, atoms: Atoms) -> Beads:
        """See `Rule`.

        Raises:
            InvalidArgument: a molecule of another formula, one that has no end (it is bonded to its
                own image), or no molecule at all.
        """
        from ase.formula import Formula

        if self.rest not in ("error", "drop"):
            raise InvalidArgument(f"rest must be 'error' or 'drop', not {self.rest!r}")
        wanted = {}
        for name, formula in self.beads.items():
            try:
                wanted[_hill(Formula(formula).count())] = name
            except ValueError as error:
                raise InvalidArgument(f"beads: {formula!r} is no formula") from error
        i, j, vectors = _bonds(atoms, self.bond)
        label = _components(len(atoms), i, j)
        members = _groups(label)
        names, kept = [], []
        for indices in members:
            formula = _formula(atoms, indices)
            if formula in wanted:
                names.append(wanted[formula])
                kept.append(indices)
            elif self.rest == "error":
                known = ", ".join(wanted)
                raise InvalidArgument(
                    f"atoms: a molecule of {formula} (atom {indices[0]}), the beads are {known}"
                )
        found = _beads(atoms, names, kept, self.center, (i, j, np.linalg.norm(vectors, axis=1)))
        _no_endless(atoms, found, i, j, vectors)
        return found


@dataclass(frozen=True)
class ByMolecule:
    """Atoms of one molecule or residue id are a bead.

    Attributes:
        ids: name of the array of ids, such as "mol" or "residuenumbers".
        names: the bead's name; or name of bead by name of residue, which are in the array
            `residues`.
        residues: name of the array of names of residues.
        center: "mass" or a chemical symbol.
    """

    ids: str
    names: str | Mapping[str, str]
    residues: str = "residuenames"
    center: str = "mass"

    def find(self, atoms: Atoms) -> Beads:
        """See `Rule`.

        Raises:
            InvalidArgument: an array is missing, or a residue has no bead or several names.
        """
        for array in [self.ids] + ([] if isinstance(self.names, str) else [self.residues]):
            if array not in atoms.arrays:
                raise InvalidArgument(f"atoms: no array {array!r}")
        _, label = np.unique(atoms.arrays[self.ids], return_inverse=True)
        members = _groups(label.astype(np.int64))
        return _beads(atoms, [self._name(atoms, m) for m in members], members, self.center)

    def _name(self, atoms: Atoms, indices: IntArray) -> str:
        if isinstance(self.names, str):
            return self.names
        told = {str(r).strip() for r in atoms.arrays[self.residues][indices]}
        if len(told) > 1:
            raise InvalidArgument(f"atoms: one id, but residues {', '.join(sorted(told))}")
        (residue,) = told
        if residue not in self.names:
            raise InvalidArgument(f"names: no bead for residue {residue!r}")
        return self.names[residue]


@dataclass(frozen=True)
class ByIndex:
    """Beads of given atoms.

    Attributes:
        groups: by name of bead, the indices of the atoms of each such bead.
        center: "mass" or a chemical symbol.
    """

    groups: Mapping[str, Sequence[Sequence[int]]]
    center: str = "mass"

    def find(self, atoms: Atoms) -> Beads:
        """See `Rule`.

        Raises:
            InvalidArgument: an index that is not there, or in two beads.
        """
        names = [name for name, beads in self.groups.items() for _ in beads]
        members = [np.asarray(m) for beads in self.groups.values() for m in beads]
        for m in members:
            if m.dtype.kind not in "iu" or m.ndim != 1 or not len(m):
                raise InvalidArgument(
                    f"groups: a bead needs indices of atoms, not {m.tolist()!r:.60}"
                )
            if m.min() < 0 or m.max() >= len(atoms):
                raise InvalidArgument(f"groups: atom {m.max()} of {len(atoms)} atoms")
        return _beads(atoms, names, [m.astype(np.int64) for m in members], self.center)


@dataclass(frozen=True)
class Beads:
    """Beads of one set of atoms.

    Attributes:
        names: of the beads, (b,).
        members: indices of the atoms of each bead.
        numbers: (n,) atomic numbers of the atoms they hold for.
        weights: (n,) share of each atom in the position of its bead.
        masses: (b,) g/mol.
    """

    names: tuple[str, ...]
    members: tuple[IntArray, ...]
    numbers: IntArray
    weights: FloatArray
    masses: FloatArray
    _steps: tuple[tuple[IntArray, IntArray], ...] = field(repr=False, default=())

    def __len__(self) -> int:
        return len(self.names)

    @property
    def bead_of(self) -> IntArray:
        """(n,) bead of each atom, -1 of those without."""
        out = np.full(len(self.numbers), -1, dtype=np.int64)
        for k, indices in enumerate(self.members):
            out[indices] = k
        return out

    def matrix(self) -> FloatArray:
        """(b, n) M with positions of beads = M @ whole positions; each row sums to one."""
        out = np.zeros((len(self), len(self.numbers)))
        for k, indices in enumerate(self.members):
            out[k, indices] = self.weights[indices]
        return out

    def force_matrix(self) -> FloatArray:
        """(b, n) F with forces of beads = F @ forces; F @ M.T is the identity."""
        out = np.zeros((len(self), len(self.numbers)))
        for k, indices in enumerate(self.members):
            out[k, indices] = 1.0
        return out

    def whole(self, atoms: Atoms) -> FloatArray:
        """(n, 3) positions with the atoms of each bead on one side of the boundaries, Angstrom."""
        from ase.geometry import find_mic

        positions = np.array(atoms.positions)
        for parents, children in self._steps:
            step = atoms.positions[children] - atoms.positions[parents]
            near, _ = find_mic(step, atoms.cell, atoms.pbc)
            positions[children] = positions[parents] + near
        return positions

    def apply(self, atoms: Atoms, references: Mapping[str, float] | None = None) -> Atoms:
        """The structure of beads.

        Args:
            atoms: of the same atoms in the same order; cell and positions may differ.
            references: energy of each kind of bead that is taken off the energy, eV.

        Returns:
            one atom X per bead, with an array `species` of their names, their masses, and what is
            labelled: the energy less the references, forces summed, the stress of the beads (that
            of the atoms without what acts inside beads). Beads are wrapped into the cell.

        Raises:
            InvalidArgument: other atoms, or a bead without a reference.
        """
        from ase import Atoms

        if len(atoms) != len(self.numbers) or (atoms.numbers != self.numbers).any():
            raise InvalidArgument("atoms: not those the beads were found in")
        whole = self.whole(atoms)
        of = self.bead_of
        held = of >= 0
        centers = np.zeros((len(self), 3))
        np.add.at(centers, of[held], self.weights[held, None] * whole[held])
        beads = Atoms(numbers=np.zeros(len(self), int), positions=centers, cell=atoms.cell)
        beads.pbc = atoms.pbc
        beads.set_masses(self.masses)
        beads.set_array("species", np.array(self.names))
        beads.info.update(atoms.info)
        if "momenta" in atoms.arrays:
            momenta = np.zeros((len(self), 3))
            np.add.at(momenta, of[held], atoms.arrays["momenta"][held])
            beads.set_momenta(momenta)
        beads.wrap(eps=1e-12)
        return self._labelled(atoms, beads, whole - centers[of], of, references)

    def _labelled(
        self,
        atoms: Atoms,
        beads: Atoms,
        inner: FloatArray,
        of: IntArray,
        references: Mapping[str, float] | None,
    ) -> Atoms:
        known = labels(atoms)
        energy, forces, stress = known.energy, None, None
        if energy is not None and references is not None:
            energy -= _reference(self.names, references)
        held = of >= 0
        if known.forces is not None:
            forces = np.zeros((len(self), 3))
            np.add.at(forces, of[held], known.forces[held])
            volume = abs(float(np.linalg.det(np.asarray(atoms.cell))))
            if known.stress is not None and held.all() and volume > 0:
                inside = inner.T @ known.forces / volume
                stress = full_stress(known.stress) + (inside + inside.T) / 2
        return labelled(beads, energy, forces, stress)


def _reference(names: Iterable[str], references: Mapping[str, float]) -> float:
    missing = sorted(set(names) - set(references))
    if missing:
        raise InvalidArgument(f"references: no energy of bead {', '.join(missing)}")
    return float(sum(references[name] for name in names))


# ------------------------------------------------------------------------------- finding
def _bonds(atoms: Atoms, scale: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Bonded pairs (i, j) and the vectors between them; each pair once."""
    from ase.data import covalent_radii

    from mlcore.neighbors import neighbor_list

    if not 0.5 <= scale <= 3:
        raise InvalidArgument(f"bond must lie between 0.5 and 3, not {scale}")
    radii = scale * covalent_radii[atoms.numbers]
    i, j, vectors = neighbor_list("ijD", atoms, radii, half=True)
    return i.astype(np.int64), j.astype(np.int64), vectors


def _components(n: int, i: IntArray, j: IntArray) -> IntArray:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _groups(label: IntArray) -> list[IntArray]:
    """Indices of each label, groups in the order of their first atoms."""
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return sorted((p.astype(np.int64) for p in parts), key=lambda p: int(p[0]))


def _hill(count: Mapping[str, int]) -> str:
    return "".join(f"{s}{count[s] if count[s] > 1 else ''}" for s in sorted(count))


def _formula(atoms: Atoms, indices: IntArray) -> str:
    symbols = [atoms.symbols[k] for k in indices]
    return _hill({s: symbols.count(s) for s in symbols})


def _beads(
    atoms: Atoms,
    names: Sequence[str],
    members: Sequence[IntArray],
    center: str,
    bonds: tuple[IntArray, IntArray, FloatArray] | None = None,
) -> Beads:
    if not names:
        raise InvalidArgument("atoms: no bead is found")
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidArgument(f"beads: name {name!r:.40} must be letters and digits")
    every = np.concatenate(members)
    if len(np.unique(every)) < len(every):
        twice = int(np.flatnonzero(np.bincount(every) > 1)[0])
        raise InvalidArgument(f"beads: atom {twice} is in two beads")
    mass = np.asarray(atoms.get_masses(), dtype=np.float64)
    weights = np.zeros(len(atoms))
    for indices in members:
        weights[indices] = _weights(atoms, indices, mass, center)
    i, j, distance = bonds if bonds is not None else _inner_pairs(atoms, members)
    inside = np.zeros(len(atoms), dtype=bool)
    inside[every] = True
    use = inside[i] & inside[j]
    steps = _steps(len(atoms), i[use], j[use], distance[use], [int(m[0]) for m in members])
    masses = np.array([mass[indices].sum() for indices in members])
    numbers = np.array(atoms.numbers, dtype=np.int64)
    return Beads(tuple(names), tuple(members), numbers, weights, masses, steps)


def _weights(atoms: Atoms, indices: IntArray, mass: FloatArray, center: str) -> FloatArray:
    if center == "mass":
        shares: FloatArray = mass[indices] / mass[indices].sum()
        return shares
    on = np.array([atoms.symbols[k] == center for k in indices], dtype=np.float64)
    if on.sum() != 1:
        formula = _formula(atoms, indices)
        raise InvalidArgument(
            f"center: {formula} has {int(on.sum())} atoms {center}; one is needed, or 'mass'"
        )
    return on


def _inner_pairs(
    atoms: Atoms, members: Sequence[IntArray]
) -> tuple[IntArray, IntArray, FloatArray]:
    """All pairs of atoms inside beads, and their distances by the nearest image."""
    from ase.geometry import find_mic

    pairs = [np.array(np.triu_indices(len(m), 1)) for m in members]
    i = np.concatenate([m[p[0]] for m, p in zip(members, pairs, strict=True)])
    j = np.concatenate([m[p[1]] for m, p in zip(members, pairs, strict=True)])
    if not len(i):
        return i, j, np.zeros(0)
    _, distance = find_mic(atoms.positions[j] - atoms.positions[i], atoms.cell, atoms.pbc)
    return i, j, np.asarray(distance)


def _steps(
    n: int, i: IntArray, j: IntArray, distance: FloatArray, roots: Sequence[int]
) -> tuple[tuple[IntArray, IntArray], ...]:
    """(parents, children) of each level of the shortest trees that span the beads."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import minimum_spanning_tree

    best: dict[tuple[int, int], float] = {}
    for a, b, d in zip(i.tolist(), j.tolist(), distance.tolist(), strict=True):
        best[a, b] = min(d, best.get((a, b), np.inf))
    if not best:
        return ()
    rows, columns = np.array(list(best)).T
    values = np.array(list(best.values())) + 1e-9  # a zero would be no edge
    tree = minimum_spanning_tree(coo_matrix((values, (rows, columns)), shape=(n, n)).tocsr())
    joined = (tree + tree.T).tocsr()
    seen = np.zeros(n, dtype=bool)
    level = np.array(roots)
    seen[level] = True
    steps = []
    while len(level):
        parents, children = [], []
        for a in level.tolist():
            for b in joined.indices[joined.indptr[a] : joined.indptr[a + 1]].tolist():
                if not seen[b]:
                    seen[b] = True
                    parents.append(a)
                    children.append(b)
        level = np.array(children, dtype=np.int64)
        if children:
            steps.append((np.array(parents, dtype=np.int64), level))
    return tuple(steps)


def _no_endless(atoms: Atoms, beads: Beads, i: IntArray, j: IntArray, vectors: FloatArray) -> None:
    """A molecule bonded to its own image cannot be put together."""
    of = beads.bead_of
    use = of[i] >= 0
    whole = beads.whole(atoms)
    off = np.abs(whole[j[use]] - whole[i[use]] - vectors[use]).max(axis=1, initial=0.0)
    if (off > 1e-6).any():
        atom = int(i[use][int(np.argmax(off))])
        raise InvalidArgument(f"atoms: the molecule of atom {atom} is bonded to its own image")


# ------------------------------------------------------------------------------- many structures
def mapped(
    frames: Iterable[Atoms], rule: Rule, references: Mapping[str, float] | None = None
) -> Iterator[Atoms]:
    """Beads of each frame, one by one: a trajectory of any length.

    Beads are found in the first frame and anew whenever the atoms are others.

    Raises:
        InvalidArgument: as `Rule.find` and `Beads.apply`.
    """
    beads: Beads | None = None
    for atoms in frames:
        if beads is None or not np.array_equal(beads.numbers, atoms.numbers):
            beads = rule.find(atoms)
        yield beads.apply(atoms, references)


def fitted_references(structures: Iterable[Atoms]) -> dict[str, float]:
    """Energy of each kind of bead, eV, that explains the energies of structures of beads best.

    Least squares of energies over numbers of beads; what is left has the mean zero.

    Raises:
        InvalidArgument: no energies, or the numbers of beads cannot tell the kinds apart.
    """
    rows = [(species(atoms), labels(atoms).energy) for atoms in structures]
    known = [(kinds, energy) for kinds, energy in rows if energy is not None]
    names = sorted({name for kinds, _ in known for name in kinds})
    if not known:
        raise InvalidArgument("structures: none has an energy")
    counts = np.array([[kinds.count(name) for name in names] for kinds, _ in known], dtype=float)
    if np.linalg.matrix_rank(counts) < len(names):
        raise InvalidArgument(
            f"structures: the numbers of {', '.join(names)} are in one proportion everywhere; "
            "give references"
        )
    energies = np.array([energy for _, energy in known])
    per_bead = counts / counts.sum(axis=1, keepdims=True)
    found = np.linalg.lstsq(per_bead, energies / counts.sum(axis=1), rcond=None)[0]
    return {name: float(e) for name, e in zip(names, found, strict=True)}


def coarse_grained(
    dataset: Dataset, rule: Rule, references: Mapping[str, float] | str | None = None
) -> tuple[Dataset, dict[str, float]]:
    """A data set of beads.

    Args:
        dataset: of atoms.
        rule: how beads are found; in every structure anew.
        references: energy of each kind of bead (such as that of the molecule alone, so that beads
            far apart have the energy 0); "fit": those that explain the energies best; None: none.

    Returns:
        the data set, with the mapping in its provenance, and the references taken off.

    Raises:
        InvalidArgument: as `Rule.find` and `Beads.apply`.
    """
    plain = {
        name: [rule.find(atoms).apply(atoms) for atoms in group.structures]
        for name, group in dataset.groups.items()
    }
    if isinstance(references, str):
        if references != "fit":
            raise InvalidArgument(f"references must be energies, 'fit' or None, not {references!r}")
        taken = fitted_references(a for structures in plain.values() for a in structures)
    else:
        taken = dict(references or {})
    groups: dict[str, Group | Iterable[Atoms]] = {}
    for name, structures in plain.items():
        record = dataset.groups[name].provenance
        notes = (*record.notes, f"beads: {rule!r}", f"energies less {taken} eV")
        done = tuple(_less(atoms, taken) if taken else atoms for atoms in structures)
        groups[name] = Group(done, record.model_copy(update={"notes": notes}))
    return Dataset(groups, name=dataset.name, description=dataset.description), taken


def _less(atoms: Any, references: Mapping[str, float]) -> Atoms:
    known = labels(atoms)
    energy = known.energy
    if energy is not None:
        energy -= _reference(species(atoms), references)
    return labelled(atoms, energy, known.forces, known.stress)
