"""Which environment an atom of a sheet is in: by the lattice, and by clusters of what its bonds see.

Labels know the pattern of cuts and the lattice alone; clusters know what bonds see alone. They are made
in two steps, since nine atoms of ten are in the bulk, and bonds that are stretched differ there more
than kinds of edges do: first two groups by the atom's own bonds, told by their steepest weights, which
feel whether there is a neighbour but hardly how far; then the smaller one in five by the means over what
the atoms one, two and three bonds away see. That is one cluster more than there are labels: it takes
atoms whose bonds are about to break.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from mlcore.sagesnet import AtomCells, AtomState
from mlcore.sagesnet.carbon import Design, cut
from mlcore.sagesnet.carbon.observables import BONDED, bonds
from mlcore.sagesnet.patterns import adjusted_rand, cluster
from numpy.typing import NDArray
from scipy.sparse import coo_matrix, diags
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
NAMES = ("bulk", "zigzag edge", "armchair edge", "corner or end of a cut", "broken")
KINDS = len(NAMES)
CLUSTERS = 6
NEAR = 0.705
"""In parts of a unit cell along the pull, more than the third neighbours of a lattice are away."""
HOPS = 3
_SOME = 5


# -- labels ----------------------------------------------------------------------------------------
def at_rest(pattern: str, design: Design) -> Ints:
    """(n,) label of each atom of a cut sheet by who is missing around it in the endless lattice.

    An atom that misses one neighbour, that along the pull, is on a zigzag edge, one that misses an
    aslant one on an armchair edge; one that misses two, or has one of the other edge no farther than
    third neighbours are, is at a corner or the end of a cut.
    """
    sheet, _ = design.sheet()
    x = cut(pattern, design).positions[:, :2]
    edges = np.array(design.shape) * design.period
    turns = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    sites = np.concatenate([sheet.positions[:, :2] + edges * turn for turn in turns])
    filled = cKDTree(x).query(sites)[0] < 1e-6
    near = cKDTree(sites).query_ball_point(x, 0.4 * design.period[0])
    labels = np.zeros(len(x), np.int64)
    missing = np.zeros(len(x), np.int64)
    for atom, around in enumerate(near):
        ways = sites[[site for site in around if not filled[site]]] - x[atom]
        missing[atom] = len(ways)
        if len(ways) == 1:
            labels[atom] = 1 if abs(ways[0, 0]) > abs(ways[0, 1]) else 2
    both = cKDTree(x).query_pairs(NEAR * design.period[0], output_type="ndarray")
    both = both[(labels[both] > 0).all(axis=1)]
    unlike = both[labels[both[:, 0]] != labels[both[:, 1]]]
    labels[unlike.ravel()] = 3
    labels[missing > 1] = 3
    return labels


def labelled(rest: Ints, first: Array, frame: Array) -> Ints:
    """(n,) labels in a frame: those at rest, but broken where a bond of the first frame is longer than
    a bond."""
    pairs = bonds(first)
    far = np.linalg.norm(frame[pairs[:, 0]] - frame[pairs[:, 1]], axis=1) > BONDED["C", "C"]
    labels = rest.copy()
    labels[pairs[far].ravel()] = KINDS - 1
    return labels


# -- clusters --------------------------------------------------------------------------------------
def seen(cells: AtomCells, state: AtomState) -> tuple[Array, Array]:
    """(n, a) what the bonds of each atom see, but how many are beyond; (n, b) the means of all that is
    seen by those one, two and three bonds away. Of carbon alone."""
    assert cells.bonds is not None
    first = cells.bonds.shape[0]
    # counts and the cosines to them: higher powers tell of strain as much as of who is missing
    told = cells.around(state)[:, first : first + 3].double().cpu().numpy()
    pairs = bonds(state.positions().cpu().numpy())
    n = len(state)
    links = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(n, n)).tocsr()
    links = links + links.T
    mean = diags(1 / np.maximum(np.asarray(links.sum(axis=1)).ravel(), 1)) @ links
    around = [told]
    for _ in range(HOPS):
        around.append(mean @ around[-1])
    return np.delete(told, 1, axis=1), np.concatenate(around[1:], axis=1)


def clustered(frames: Sequence[tuple[Array, Array]]) -> list[Ints]:
    """(n,) clusters of the atoms of each frame, of one choice for all of them; 0 holds the most."""
    own, around = (_alike(np.concatenate(part)) for part in zip(*frames, strict=True))
    groups = cluster(own[::_SOME], 2).assign(own)
    few = groups == 1
    found = np.zeros(len(own), np.int64)
    found[few] = 1 + cluster(_alike(around[few]), CLUSTERS - 1).labels
    ends = np.cumsum([len(part) for part, _ in frames])
    return np.split(found, ends[:-1])


def agreement(found: Sequence[Ints], labels: Sequence[Ints]) -> dict[str, object]:
    """Adjusted Rand index of clusters and labels, of all atoms and of those that are not in the bulk;
    table, (CLUSTERS, KINDS) how many atoms of each cluster have each label."""
    mine, true = np.concatenate(found), np.concatenate(labels)
    table = np.zeros((CLUSTERS, KINDS), np.int64)
    np.add.at(table, (mine, true), 1)
    edge = true > 0
    return {
        "adjusted_rand": adjusted_rand(mine, true),
        "without_bulk": adjusted_rand(mine[edge], true[edge]),
        "table": table.tolist(),
        "atoms": len(true),
    }


def _alike(rows: Array) -> Array:
    """Columns with mean 0 and deviation 1."""
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
