"""What frames of carbon tell, be they of molecular dynamics or decoded from cells.

Lengths in A, velocities in A/fs; open space, as the sheets stand in. Frames (t, n, 3) keep the
order of the atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

import mlcore
from mlcore.errors import InvalidArgument
from mlcore.sagesnet.carbon.labels import Yield

if TYPE_CHECKING:
    from mlcore.sagesnet.carbon.stretch import Pull

__all__ = [
    "BONDED",
    "Damage",
    "bond_lengths",
    "bonds",
    "coordination",
    "damage",
    "kinetic_temperature",
    "pair_density",
    "stresses",
    "tear",
]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

BONDED = {("C", "C"): 1.95, ("C", "H"): 1.5, ("H", "H"): 1.0}
"""A: atoms closer than that are bonded."""


def bonds(positions: ArrayLike, numbers: ArrayLike | None = None) -> Ints:
    """(b, 2) atoms that are bonded, the lower first, sorted.

    Args:
        positions: (n, 3).
        numbers: (n,) atomic numbers; carbon by default.
    """
    x = _frame(positions)
    if numbers is None:
        i, j = mlcore.neighbor_list("ij", x, BONDED["C", "C"], half=True)
    else:
        kinds = np.asarray(numbers)
        i, j = mlcore.neighbor_list("ij", x, BONDED, half=True, types=kinds)  # type: ignore[arg-type]
    found = np.sort(np.column_stack([i, j]).astype(np.int64), axis=1)
    return found[np.lexsort(found.T[::-1])]


def coordination(positions: ArrayLike, numbers: ArrayLike | None = None) -> Ints:
    """(n,) number of atoms bonded to each."""
    found = bonds(positions, numbers)
    return np.bincount(found.ravel(), minlength=len(_frame(positions))).astype(np.int64)


def bond_lengths(
    frames: ArrayLike, edges: ArrayLike | None = None, numbers: ArrayLike | None = None
) -> tuple[Array, Array]:
    """Histogram of the lengths of bonds.

    Args:
        frames: (t, n, 3) or (n, 3).
        edges: (k + 1,) of the bins; by default 0.9 to 2.0 by 0.01.
        numbers: (n,) atomic numbers; carbon by default.

    Returns:
        The edges, and the density (k,), 1/A, whose area is 1 where every bond is in a bin.
    """
    edges = np.linspace(0.9, 2.0, 111) if edges is None else np.asarray(edges, np.float64)
    counts, total = np.zeros(len(edges) - 1), 0
    for x in _frames(frames):
        i, j = bonds(x, numbers).T
        counts += np.histogram(np.linalg.norm(x[i] - x[j], axis=1), edges)[0]
        total += len(i)
    return edges, counts / max(total, 1) / np.diff(edges)


def pair_density(
    frames: ArrayLike, cutoff: float = 6.0, bins: int = 120, density: float = 1.0
) -> tuple[Array, Array]:
    """Radial distribution: atoms per volume at a distance from an atom.

    A sheet has no density of its own, so 1/A^3 is what comes out by default; divided by
    ``density`` it is the g(r) of that fluid.

    Returns:
        The middles of the bins (k,), and the distribution (k,).
    """
    edges = np.linspace(0.0, cutoff, bins + 1)
    counts, atoms = np.zeros(bins), 0
    for x in _frames(frames):
        d = mlcore.neighbor_list("d", x, cutoff)
        counts += np.histogram(d, edges)[0]
        atoms += len(x)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    return (edges[1:] + edges[:-1]) / 2, counts / shells / max(atoms, 1) / density


def kinetic_temperature(
    velocities: ArrayLike, masses: ArrayLike = 12.011, mobile: ArrayLike | None = None
) -> Array:
    """(t,) temperatures, K, of the motion as a whole, flow along the pull included.

    Args:
        velocities: (t, n, 3) or (n, 3), A/fs.
        masses: (n,) or one, u.
        mobile: (n,) which atoms move freely; all by default.
    """
    v = _frames(velocities)
    chosen = np.ones(v.shape[1], bool) if mobile is None else np.asarray(mobile, bool)
    if not chosen.any():
        raise InvalidArgument("mobile must name an atom")
    v = v[:, chosen] / units.fs  # in the units of ase
    m = np.broadcast_to(np.asarray(masses, np.float64), chosen.shape)[chosen]
    return np.asarray((m[:, None] * v**2).sum((1, 2)) / (3 * len(m) * units.kB))


@dataclass(frozen=True, eq=False)
class Damage:
    """What became of the bonds of a body.

    Attributes:
        broken: (t,) bonds of the first state that are longer than a bond.
        hanging: (t,) whether a path of bonds still joins the grips.
    """

    broken: Ints
    hanging: NDArray[np.bool_]


def damage(
    frames: ArrayLike,
    grip: ArrayLike,
    start: ArrayLike | None = None,
    numbers: ArrayLike | None = None,
) -> Damage:
    """Follows the bonds of a body through its frames.

    Args:
        frames: (t, n, 3).
        grip: (n,) -1, 0 or 1.
        start: (n, 3) state whose bonds are counted; the first frame by default.
        numbers: (n,) atomic numbers; carbon by default.
    """
    x, held = _frames(frames), np.asarray(grip)
    first = bonds(x[0] if start is None else start, numbers)
    limits = np.full(len(first), BONDED["C", "C"])
    if numbers is not None:
        ordered = np.sort(np.asarray(numbers)[first], axis=1)
        for (a, b), limit in BONDED.items():
            pair = sorted((atomic_numbers[a], atomic_numbers[b]))
            limits[(ordered == pair).all(1)] = limit
    broken = np.zeros(len(x), np.int64)
    hanging = np.zeros(len(x), bool)
    for k, frame in enumerate(x):
        lengths = np.linalg.norm(frame[first[:, 0]] - frame[first[:, 1]], axis=1)
        broken[k] = (lengths > limits).sum()
        hanging[k] = True if broken[k] == 0 else _hangs(bonds(frame, numbers), held)
    return Damage(broken, hanging)


def tear(strains: ArrayLike, found: Damage, least: int = 4) -> Yield:
    """Where a body yields, by its bonds alone, without any stress.

    It yields at the last frame before ``least`` bonds are broken for good, or before the grips
    hang together no more, whichever is earlier. ``stress`` is nan; ``fallen`` tells whether it
    came to that.

    Args:
        strains: (t,) of the frames.
        found: their damage.
        least: bonds; a crack that runs breaks more, a single bond may break and heal.
    """
    x = np.asarray(strains, np.float64)
    if x.shape != found.broken.shape or len(x) == 0:
        raise InvalidArgument(f"strains must be of {len(found.broken)} frames, got {x.shape}")
    for_good = np.minimum.accumulate(found.broken[::-1])[::-1] >= least
    gone = np.flatnonzero(for_good | ~found.hanging)
    if len(gone) == 0:
        return Yield(float(x[-1]), float("nan"), False)
    return Yield(float(x[max(gone[0] - 1, 0)]), float("nan"), True)


def stresses(frames: Sequence[Atoms], section: float, pull: Pull | None = None) -> Array:
    """(t,) GPa: what AIREBO says of frames, each with the array ``grip``: the pull at its grips.

    Raises:
        InvalidArgument: a frame has no grips, or cannot be given to LAMMPS.
        Error: LAMMPS stopped, with its words.
    """
    import tempfile
    from pathlib import Path

    from mlcore.lammps import label
    from mlcore.sagesnet.carbon.stretch import GPA, Pull, potential

    pull = pull or Pull()
    if any("grip" not in atoms.arrays for atoms in frames):
        raise InvalidArgument("frames must have the array grip: see sheets.body")
    kinds = sorted({symbol for atoms in frames for symbol in atoms.symbols})
    with tempfile.TemporaryDirectory(prefix="mlcore-stresses-") as name:
        file = potential(Path(name), pull.rcmin)
        words = f"* * {file.name} {' '.join(kinds)}"
        told = label(
            frames, f"airebo 3.0 {int(pull.lj)} 1", words, units="metal", species=kinds, folder=name
        )
    pulls = [atoms.get_forces()[:, 0] @ -atoms.arrays["grip"] / 2 for atoms in told]
    return np.array(pulls) * GPA / section


def _hangs(found: Ints, grip: NDArray[Any]) -> bool:
    n = len(grip)
    links = coo_matrix((np.ones(len(found), bool), (found[:, 0], found[:, 1])), shape=(n, n))
    piece = connected_components(links, directed=False)[1]
    return bool(np.isin(piece[grip < 0], piece[grip > 0]).any())


def _frame(positions: ArrayLike) -> Array:
    x = np.asarray(positions, np.float64)
    if x.ndim != 2 or x.shape[1] != 3:
        raise InvalidArgument(f"positions must be (n, 3), got {x.shape}")
    return x


def _frames(frames: ArrayLike) -> Array:
    x = np.asarray(frames, np.float64)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[2] != 3 or 0 in x.shape:
        raise InvalidArgument(f"frames must be (t, n, 3), got {np.shape(frames)}")
    return x
