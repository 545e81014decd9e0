"""Many candidates of a classical potential at once: energies, forces, stress and their derivatives.

The forms are those of LAMMPS' pair styles ``lj/cut``, ``morse``, ``buck``, ``sw``, ``tersoff`` and
``eam`` with LAMMPS' parameters, and their results agree to rounding. All candidates are evaluated
on one neighbor list, candidates side by side in vector registers.

    structures = Structures(list_of_atoms, ["Si"], cutoff=3.2)
    results = evaluate("tersoff", structures, parameters)  # (C, 14)
    results.energies, results.forces, results.stress

Units are those of the parameters; for LAMMPS' ``metal`` eV and angstrom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlcore import _core
from mlcore.arrays import Kind, box, flag, host, is_atoms, number, one_of, positive, thread_count
from mlcore.errors import BackendUnavailable, FileFormatError, InvalidArgument
from mlcore.neighbors import neighbor_batch

if TYPE_CHECKING:
    import ase

    Structure = ase.Atoms | tuple[Any, Any, Any, Any]

__all__ = ["COLUMNS", "Results", "Structures", "Tables", "evaluate", "parameter_count"]

Array = npt.NDArray[np.float64]

COLUMNS: dict[str, tuple[str, ...]] = {
    "lj/cut": ("epsilon", "sigma", "cutoff"),
    "morse": ("D0", "alpha", "r0", "cutoff"),
    "buck": ("A", "rho", "C", "cutoff"),
    "sw": ("epsilon", "sigma", "a", "lambda", "gamma", "cos0", "A", "B", "p", "q"),
    "tersoff": (
        *("m", "gamma", "lam3", "c", "d", "cos0", "n", "beta", "lam2", "B"),
        *("R", "D", "lam1", "A"),
    ),
}
"""Parameters of a row, in the order of LAMMPS' files (pair forms: its ``pair_coeff``)."""

_FORMS = (*COLUMNS, "eam")  # numbered as PotentialForm in mlcore/potentials.hpp


def parameter_count(form: str, species: int) -> int:
    """P, the parameters of a candidate: rows times `COLUMNS`, flattened.

    Rows of ``sw`` and ``tersoff`` are the ordered triplets of species, (0, 0, 0), (0, 0, 1), ..;
    those of the pair forms the pairs (0, 0), (0, 1), .., (1, 1), ..
    """
    return int(_model(form, species, False).parameters)


@dataclass(frozen=True)
class Tables:
    """Tables of embedded-atom candidates, as ``setfl`` files hold them.

    Attributes:
        embedding: (C, S, nrho) or (S, nrho) energies F at the densities 0, drho, 2 drho, ..
        density: (C, S, nr) or (S, nr) density rho that an atom gives at the distances 0, dr, ..;
            or (C, S, S, nr), that the first species gives at the second (``eam/fs``).
        product: (C, pairs, nr) or (pairs, nr) r phi(r) of the pairs (0, 0), (0, 1), .., (1, 1), ..
        density_spacing, radial_spacing: drho, dr.
        cutoff: of the file.
        largest_density: beyond it energies follow the line of the last knot; 0: that of this knot.
    """

    embedding: Any
    density: Any
    product: Any
    density_spacing: float
    radial_spacing: float
    cutoff: float
    largest_density: float = 0.0

    def flat(self) -> Array:
        """(C, P) F, rho and r phi, each row one candidate."""
        embedding = _table("embedding", self.embedding, 2)
        product = _table("product", self.product, 2)
        species = embedding.shape[1]
        density = np.asarray(self.density, dtype=np.float64)
        if density.ndim < 2 or density.shape[-2] != species:
            raise InvalidArgument(
                f"density must have the shape (C, {species}, nr) or (C, {species}, {species}, nr), "
                f"got {density.shape}"
            )
        if density.ndim == 2:
            density = density[None]
        if density.ndim == 3:
            density = np.repeat(density[:, :, None], species, axis=2)
        count = max(len(embedding), len(density), len(product))
        parts = []
        for name, table in (("embedding", embedding), ("density", density), ("product", product)):
            if len(table) not in (1, count):
                raise InvalidArgument(f"{name} must hold 1 or {count} candidates, got {len(table)}")
            rows = table.reshape(len(table), -1)
            parts.append(np.broadcast_to(rows, (count, rows.shape[1])))
        return np.concatenate(parts, axis=1)

    @classmethod
    def read(cls, path: str | Path, form: str, species: Sequence[str] = ()) -> Tables:
        """One candidate from a file of LAMMPS.

        Args:
            path: the file.
            form: "eam" (funcfl, one element), "eam/alloy" or "eam/fs" (setfl).
            species: elements to take, in the order wanted; none: all of the file.

        Raises:
            FileFormatError: it holds something else, or lacks an element.
        """
        one_of("form", form, "eam", "eam/alloy", "eam/fs")
        lines = Path(path).read_text().splitlines()
        try:
            return _read_funcfl(lines) if form == "eam" else _read_setfl(lines, form, species)
        except (IndexError, ValueError) as error:
            raise FileFormatError(f"{path}: no {form} tables: {error}") from None

    def model(self, species: int) -> Any:
        """The core's record of the form."""
        shapes = [np.shape(table) for table in (self.embedding, self.density, self.product)]
        if any(len(shape) < 2 for shape in shapes):
            raise InvalidArgument("tables must have two dimensions at least")
        return _core.PotentialModel(
            _FORMS.index("eam"),
            species,
            embedding_knots=shapes[0][-1],
            radial_knots=shapes[1][-1],
            density_spacing=positive("density_spacing", self.density_spacing),
            radial_spacing=positive("radial_spacing", self.radial_spacing),
            cutoff=positive("cutoff", self.cutoff),
            largest_density=number("largest_density", self.largest_density),
        )


class Structures:
    """Structures with their neighbors within a cutoff, all in one list.

    Args:
        structures: ``ase.Atoms``, or tuples (positions (n, 3), cell or None, pbc, species (n,)); the
            species of a tuple are names or numbers 0..S-1.
        species: names of the S species, in the order of the parameters.
        cutoff: the largest cutoff a candidate may have.
        skin: how much farther neighbors are kept: as much as deformations and displacements bring
            them nearer.
        num_threads: CPU threads of the search; None takes the library-wide setting.

    Attributes:
        species: names.
        cutoff, skin: as given.
        atoms: (M + 1,) first atoms of the structures, and N.
        volumes: (M,) of the cells, 0 where there is none.
        offsets, columns, vectors: (N + 1,), (p,), (p, 3): the neighbors of atom i are
            ``columns[offsets[i]:offsets[i + 1]]``.
        kinds: (N,) numbers of the species of the atoms.

    Raises:
        InvalidArgument: as `mlcore.neighbor_list`; an atom's species is not among those named.
    """

    def __init__(
        self,
        structures: Sequence[Structure],
        species: Sequence[str],
        cutoff: float,
        skin: float = 0.0,
        *,
        num_threads: int | None = None,
    ) -> None:
        self.species = _names(species)
        self.cutoff = positive("cutoff", cutoff)
        self.skin = number("skin", skin)
        if not 0 <= self.skin < np.inf:
            raise InvalidArgument(f"skin must be finite and not negative, got {skin!r}")
        given = [self._read(structure, k) for k, structure in enumerate(structures)]
        self.atoms = np.cumsum([0, *(len(x) for x, _, _, _ in given)])
        positions = np.concatenate([np.zeros((0, 3)), *(x for x, _, _, _ in given)])
        self.kinds = np.concatenate([np.zeros(0, np.int32), *(kind for *_, kind in given)])
        cells = np.array([cell for _, cell, _, _ in given]).reshape(-1, 3, 3)
        self.volumes = np.abs(np.linalg.det(cells))
        found = neighbor_batch(
            "ijD",
            positions,
            self.cutoff + self.skin,
            cells,
            np.array([pbc for _, _, pbc, _ in given]).reshape(-1, 3),
            batch_offsets=self.atoms,
            num_threads=num_threads,
        )
        first, self.columns, self.vectors = found.arrays
        self.offsets = np.searchsorted(first, np.arange(len(positions) + 1))
        self._cores: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self.atoms) - 1

    def __repr__(self) -> str:
        return (
            f"Structures({len(self)} structures, {self.atoms[-1]} atoms, species={self.species}, "
            f"cutoff={self.cutoff}, skin={self.skin})"
        )

    def subset(self, which: Sequence[int]) -> Structures:
        """Some of the structures, by number, in that order."""
        numbers = np.asarray(which, dtype=np.int64).reshape(-1)
        if len(numbers) and not (numbers.min() >= 0 and numbers.max() < len(self)):
            raise InvalidArgument(f"structures must lie in 0..{len(self) - 1}, got {which}")
        part = object.__new__(Structures)
        part.species, part.cutoff, part.skin = self.species, self.cutoff, self.skin
        sizes = np.diff(self.atoms)[numbers]
        part.atoms = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        part.volumes = self.volumes[numbers]
        atoms = _ranges(self.atoms[numbers], sizes)
        counts = np.diff(self.offsets)[atoms]
        pairs = _ranges(self.offsets[atoms], counts)
        part.kinds = self.kinds[atoms]
        part.offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        part.vectors = self.vectors[pairs]
        shift = np.repeat(part.atoms[:-1] - self.atoms[numbers], sizes)
        part.columns = (self.columns[pairs] + np.repeat(shift, counts)).astype(np.int32)
        part._cores = {}
        return part

    def core(self, kind: Kind) -> Any:
        """The arrays as the core reads them, where arrays of this kind live; kept."""
        where = None if kind.on_cpu else (kind.name, str(kind.device))
        if where not in self._cores:
            arrays = (
                self.atoms,
                self.kinds,
                self.offsets,
                self.columns,
                self.vectors,
                self.volumes,
            )
            placed: Any = arrays if kind.on_cpu else map(kind.array, arrays)
            reach: Any = [self.cutoff + self.skin]
            self._cores[where] = _core.PotentialStructures(*placed, *reach)
        return self._cores[where]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_cores": {}}

    def _read(self, structure: Any, k: int) -> tuple[Array, Array, Any, Any]:
        """Positions, cell, flags and numbers of species."""
        if is_atoms(structure):
            symbols = structure.get_chemical_symbols()
            x, cell, pbc, names = structure.positions, structure.cell, structure.pbc, symbols
        elif isinstance(structure, tuple) and len(structure) == 4:
            x, cell, pbc, names = structure
        else:
            raise InvalidArgument(
                f"structures must be ase.Atoms or (positions, cell, pbc, species), but structure {k} "
                f"is {type(structure).__name__}"
            )
        positions: Array = host("positions", x, "structures are read")
        if positions.ndim != 2 or positions.shape[1] != 3:
            raise InvalidArgument(f"positions must have the shape (n, 3), got {positions.shape}")
        rows, flags = box(cell, pbc)
        return positions, rows, flags, self._numbers(names, len(positions), k)

    def _numbers(self, names: Any, n: int, k: int) -> npt.NDArray[np.int32]:
        if len(names) != n:
            raise InvalidArgument(f"structure {k} has {n} atoms, but {len(names)} species")
        known = {name: index for index, name in enumerate(self.species)}
        known |= {index: index for index in range(len(self.species))}  # type: ignore[misc]
        unknown = {name for name in np.unique(names).tolist() if name not in known}
        if unknown:
            raise InvalidArgument(
                f"structure {k} has the species {sorted(map(str, unknown))}, not among {self.species}"
            )
        return np.array([known[name] for name in np.asarray(names).tolist()], dtype=np.int32)


class Results(NamedTuple):
    """What C candidates say of M structures of N atoms; what was not asked for is None.

    Attributes:
        energies: (C, M).
        forces: (C, N, 3).
        stress: (C, M, 6) xx yy zz yz xz xy of dE/dstrain / volume, the sign and order of ASE; NaN
            without a cell.
        d_energies, d_forces, d_stress: (C, M, Q), (C, N, 3, Q), (C, M, 6, Q), their derivatives by
            the parameters, or along the directions asked for.
    """

    energies: Any
    forces: Any = None
    stress: Any = None
    d_energies: Any = None
    d_forces: Any = None
    d_stress: Any = None


def evaluate(
    form: str,
    structures: Structures,
    parameters: Any,
    *,
    deformation: Any = None,
    displacements: Any = None,
    forces: bool = True,
    stress: bool = True,
    wanted: npt.ArrayLike | None = None,
    gradient: Any = False,
    shift: bool = False,
    num_threads: int | None = None,
) -> Results:
    """Energies, forces and stress of all structures in all candidates.

    Two-body parameters of ``sw`` and ``tersoff`` are those of the rows (i, j, j); rows (i, j, k) and
    (i, k, j) of ``sw`` must say the same, that with j <= k is read. Where those of (i, j, j) and
    (j, i, i) differ, the energy of a pair is the mean. Candidates with parameters that LAMMPS would
    turn down (negative where it wants none, ``n`` or a cutoff of 0, D > R) have NaN in all their
    results, the others are not touched by it. What a candidate gives does not depend on the others.

    Args:
        form: a key of `COLUMNS`, or "eam".
        structures: with a cutoff + skin that holds all neighbors after F and u.
        parameters: (C, P) or (P,) as `parameter_count`; ``eam``: `Tables`. A NumPy array, torch
            tensor or CuPy array; on the GPU there are no derivatives.
        deformation: F, (C, M, 3, 3), (C, 3, 3) or (3, 3): positions and cells become F x.
        displacements: u, (C, N, 3) or (N, 3), added after that.
        forces, stress: whether they are made.
        wanted: numbers, or M flags, of the structures whose forces and stress are made; those of the
            others are NaN. None: all.
        gradient: True for derivatives by all P parameters, or directions (P, Q) or (C, P, Q): Q
            derivatives, those of parameters p + t v_q by t.
        shift: pair forms: energies vanish at the cutoff (``pair_modify shift yes``).
        num_threads: CPU threads; None takes the library-wide setting.

    Raises:
        InvalidArgument: a shape or value is wrong, a number is not finite, ``m`` is not 1 or 3; the
            cutoff of a candidate, named by its number, reaches beyond that of the structures.
        BackendUnavailable: derivatives on the GPU.
    """
    call = Call(form, structures, parameters, shift)
    return call.run(
        deformation=call.deformation(deformation),
        displacements=call.displacements(displacements),
        directions=call.directions(gradient),
        forces=flag("forces", forces),
        stress=flag("stress", stress),
        wanted=call.wanted(wanted),
        num_threads=thread_count(num_threads),
    )


class Call:
    """Arguments of `evaluate` as the core reads them."""

    def __init__(self, form: str, structures: Structures, parameters: Any, shift: bool) -> None:
        if not isinstance(structures, Structures):
            raise InvalidArgument(
                f"structures must be mlcore.potentials.Structures, got {type(structures).__name__}"
            )
        self.structures = structures
        if isinstance(parameters, Tables):
            one_of("form", form, "eam")
            self.model, given = parameters.model(len(structures.species)), parameters.flat()
        else:
            self.model, given = _model(form, len(structures.species), shift), parameters
        self.kind = Kind.of(given)
        values = self.kind.take("parameters", given)
        self.parameters = values[None] if values.ndim == 1 else values
        want = self.model.parameters
        if self.parameters.ndim != 2 or self.parameters.shape[1] != want:
            raise InvalidArgument(
                f"parameters must have the shape (C, {want}) for {form} of "
                f"{len(structures.species)} species, got {tuple(values.shape)}"
            )
        self.count = len(self.parameters)

    def run(
        self,
        *,
        deformation: Any = None,
        displacements: Any = None,
        directions: Any = None,
        forces: bool = True,
        stress: bool = True,
        wanted: Any = None,
        num_threads: int = 0,
        reference: bool = False,
    ) -> Results:
        """What `evaluate` returns, of arguments that the other methods made."""
        M, N, C = len(self.structures), int(self.structures.atoms[-1]), self.count
        shapes: dict[str, tuple[int, ...]] = {"energies": (C, M)}
        if forces:
            shapes["forces"] = (C, N, 3)
        if stress:
            shapes["stress"] = (C, M, 6)
        if directions is not None:
            Q = directions.shape[2]
            shapes |= {f"d_{name}": (*shape, Q) for name, shape in shapes.items()}
        outputs = {name: self.kind.output(None, shape) for name, shape in shapes.items()}
        filled = {name: array for name, (array, _) in outputs.items()}
        if wanted is not None:
            filled["wanted"] = wanted
        core, moved = self.structures.core(self.kind), (deformation, displacements)
        if reference:
            self.model.evaluate_reference(core, self.parameters, filled, *moved)
        else:
            threads, stream = num_threads, self.kind.stream()
            self.model.evaluate(core, self.parameters, filled, directions, *moved, threads, stream)
        return Results(**{name: result for name, (_, result) in outputs.items()})

    def deformation(self, given: Any) -> Any:
        """(1 or C, 1 or M, 3, 3) or None."""
        if given is None:
            return None
        F = self._take("deformation", given)
        M = len(self.structures)
        if F.ndim == 4 and F.shape == (self.count, M, 3, 3):
            return F
        if F.ndim == 3 and F.shape == (self.count, 3, 3):
            return F[:, None]
        if F.ndim == 2 and F.shape == (3, 3):
            return F[None, None]
        raise InvalidArgument(
            f"deformation must have the shape (C, M, 3, 3), (C, 3, 3) or (3, 3) with C = "
            f"{self.count} candidates and M = {M} structures, got {tuple(F.shape)}"
        )

    def displacements(self, given: Any) -> Any:
        """(C, N, 3) or None."""
        if given is None:
            return None
        u = self._take("displacements", given)
        full = (self.count, int(self.structures.atoms[-1]), 3)
        if tuple(u.shape) == full[1:]:
            u = u[None] + self.kind.output(None, (self.count, 1, 1))[0] * 0
        if tuple(u.shape) != full:
            raise InvalidArgument(
                f"displacements must have the shape {full} or {full[1:]}, got {tuple(u.shape)}"
            )
        return u

    def directions(self, gradient: Any) -> Any:
        """(1 or C, P, Q) or None."""
        if gradient is None or gradient is False:
            return None
        if not self.kind.on_cpu:
            raise BackendUnavailable("derivatives by parameters are made on the CPU alone")
        P = self.parameters.shape[1]
        if gradient is True:
            return np.eye(P)[None]
        values = self._take("gradient", gradient)
        if values.ndim == 2 and values.shape[0] == P:
            return values[None]
        if values.ndim == 3 and values.shape[:2] == (self.count, P):
            return values
        raise InvalidArgument(
            f"gradient must be True, False or directions of the shape ({P}, Q) or ({self.count}, "
            f"{P}, Q), got {tuple(values.shape)}"
        )

    def wanted(self, given: Any) -> Any:
        """(M,) flags or None."""
        if given is None:
            return None
        M = len(self.structures)
        which = np.asarray(given)
        flags = np.zeros(M, np.uint8)
        numbered = which.dtype.kind in "iu" and which.ndim == 1
        if (which.dtype == bool and which.shape == (M,)) or (
            numbered and ((which >= 0) & (which < M)).all()
        ):
            flags[which] = 1
        elif which.size:
            raise InvalidArgument(
                f"wanted must be {M} flags or numbers in 0..{M - 1} of structures, got {given!r}"
            )
        return flags if self.kind.on_cpu else self.kind.array(flags)

    def _take(self, name: str, values: Any) -> Any:
        kind = Kind.of(values)
        if kind.on_cpu and not self.kind.on_cpu:
            return self.kind.array(kind.take(name, values))
        kind.require_device_of(self.kind, name, "parameters")
        return kind.take(name, values)


_HARTREE_BOHR = 27.2 * 0.529  # eV A, as LAMMPS has it


def _read_funcfl(lines: list[str]) -> Tables:
    """LAMMPS leaves the last knot of each table out, and F flat where that was."""
    words = lines[2].split()
    nrho, nr, spacings = int(words[0]), int(words[2]), (float(words[1]), float(words[3]))
    numbers = np.array(" ".join(lines[3:]).split()[: nrho + 2 * nr], dtype=np.float64)
    embedding, charge, density = np.split(numbers, [nrho, nrho + nr])
    if len(density) != nr:
        raise ValueError(f"{nrho} + 2 x {nr} numbers wanted, {len(numbers)} found")
    product = _HARTREE_BOHR * charge * charge
    return Tables(
        embedding[None, :-1],
        density[None, :-1],
        product[None, :-1],
        *spacings,
        cutoff=float(words[4]),
        largest_density=(nrho - 1) * spacings[0],
    )


def _read_setfl(lines: list[str], form: str, species: Sequence[str]) -> Tables:
    count, *names = lines[3].split()
    n = int(count)
    words = lines[4].split()
    nrho, nr = int(words[0]), int(words[2])
    stream = iter(" ".join(lines[5:]).split())

    def take(length: int) -> Array:
        return np.array([next(stream) for _ in range(length)], dtype=np.float64)

    embedding, density = [], []
    try:
        for _ in range(n):
            for _ in range(4):  # number, mass, lattice constant and type
                next(stream)
            embedding.append(take(nrho))
            density.append([take(nr) for _ in range(n)] if form == "eam/fs" else [take(nr)] * n)
        product = {(a, b): take(nr) for a in range(n) for b in range(a + 1)}
    except (StopIteration, RuntimeError):
        raise ValueError("it ends too early") from None
    chosen = [names.index(name) for name in (species or names)]
    return Tables(
        np.array([embedding[a] for a in chosen]),
        np.array([[density[a][b] for b in chosen] for a in chosen])[None],
        np.array([product[max(a, b), min(a, b)] for k, a in enumerate(chosen) for b in chosen[k:]]),
        float(words[1]),
        float(words[3]),
        float(words[4]),
    )


def _model(form: str, species: int, shift: bool) -> Any:
    one_of("form", form, *_FORMS)
    if form == "eam":
        raise InvalidArgument("parameters of eam must be mlcore.potentials.Tables")
    return _core.PotentialModel(_FORMS.index(form), species, shift=flag("shift", shift))


def _names(species: Sequence[str]) -> list[str]:
    names = list(species)
    if isinstance(species, str) or not names or not all(isinstance(name, str) for name in names):
        raise InvalidArgument(f"species must be a sequence of names, got {species!r}")
    if len(set(names)) != len(names):
        raise InvalidArgument(f"species must differ, got {names}")
    return names


def _table(name: str, values: Any, rank: int) -> Array:
    """(C, ...) of a table that may lack the axis of candidates."""
    array: Array = host(name, values, "tables are read")
    if array.ndim == rank:
        array = array[None]
    if array.ndim != rank + 1:
        raise InvalidArgument(
            f"{name} must have {rank} or {rank + 1} dimensions, got {array.shape}"
        )
    return array


def _ranges(starts: Any, counts: Any) -> npt.NDArray[np.int64]:
    """start, start + 1, .. of every start, one after the other."""
    before = np.cumsum(counts) - counts
    numbers: npt.NDArray[np.int64] = np.arange(int(np.sum(counts))) + np.repeat(
        starts - before, counts
    )
    return numbers
