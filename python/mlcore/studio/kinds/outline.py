"""What a data set of a user is like, from what was kept of it when it came: its structures are not read.

The folder ``data/`` of an upload has beside it ``frames/``, arrays that `mlcore.studio.frames` wrote in
the process that read the upload. They are opened, not loaded: an outline costs what it looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlcore.forcefield.structures.dataset import read_manifest
from mlcore.neighbors import neighbor_list
from mlcore.studio import frames

__all__ = ["LABELS", "Outline", "outline"]

LABELS: Mapping[str, int] = {"energy": 1, "forces": 2, "stress": 4}
_FAR = 6.0  # A
_STRUCTURES, _ATOMS = 40, 20_000  # whose distances are measured
_ZERO = 1e-3  # eV/A: of a perfect crystal all forces vanish and say nothing
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outline:
    """A data set of N structures.

    Attributes:
        folder: of its arrays.
        groups: name -> which of the structures.
        species: group -> names of its elements and beads, sorted.
        labels: (N,) sums of `LABELS`.
        periodic: (N,) whether in all directions.
    """

    folder: Path
    groups: Mapping[str, slice]
    species: Mapping[str, tuple[str, ...]]
    labels: npt.NDArray[np.uint8]
    periodic: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """All elements and beads, sorted."""
        return tuple(sorted({one for own in self.species.values() for one in own}))

    def has(self, group: str, label: str) -> bool:
        """Whether a structure of a group has a label that says something."""
        at = self.groups[group]
        if not (self.labels[at] & LABELS[label]).any():
            return False
        return label != "forces" or self._pulled(at)

    def _pulled(self, at: slice) -> bool:
        starts, forces = self._array("starts"), self._array("forces")
        first, last = int(starts[at.start]), int(starts[at.stop])
        step = 1 << 20
        parts = (forces[k : min(k + step, last)] for k in range(first, last, step))
        return any((np.abs(part) > _ZERO).any() for part in parts)

    def energies(self) -> npt.NDArray[np.float64]:
        """(N,) eV per atom, NaN where there is none."""
        return np.asarray(self._array("energies") / np.diff(self._array("starts")))

    def composition(self, k: int) -> dict[str, int]:
        """Name -> number of atoms of a structure."""
        starts, names = self._array("starts"), self._names()
        kinds = self._array("kinds")[int(starts[k]) : int(starts[k + 1])]
        counts = np.bincount(kinds, minlength=len(names)).tolist()
        return {name: count for name, count in zip(names, counts, strict=True) if count}

    def distances(self, order: Ints) -> dict[tuple[str, str], float]:
        """Pair of names -> nearest distance, A, in the first structures of an order that have one."""
        starts, names = self._array("starts"), self._names()
        found: dict[tuple[str, str], float] = {}
        seen = 0
        for k in order[:_STRUCTURES].tolist():
            at = slice(int(starts[k]), int(starts[k + 1]))
            seen += at.stop - at.start
            if found and seen > _ATOMS:
                break
            found = self._nearest(k, at, names) | found
        return found

    def _nearest(self, k: int, at: slice, names: list[str]) -> dict[tuple[str, str], float]:
        place = {name: np.array(self._array(name)[k]) for name in ("cells", "pbc")}
        positions, kinds = np.array(self._array("positions")[at]), self._array("kinds")[at]
        i, j, far = neighbor_list("ijd", positions, _FAR, cell=place["cells"], pbc=place["pbc"])
        pairs = np.sort(np.stack([kinds[i], kinds[j]], axis=1), axis=1)
        found: dict[tuple[str, str], float] = {}
        for a, b in np.unique(pairs, axis=0).tolist():
            own = (pairs == (a, b)).all(axis=1)
            first, second = sorted((names[a], names[b]))
            found[first, second] = float(far[own].min())
        return found

    def _names(self) -> list[str]:
        told: list[str] = json.loads((self.folder / "species.json").read_text(encoding="utf-8"))
        return told

    def _array(self, name: str) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = np.load(
            self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False
        )
        return found


def outline(data: Path) -> Outline | None:
    """Of the data set in a folder; None where nothing was kept of it."""
    folder = data.parent / frames.FOLDER
    if not (folder / "labels.npy").is_file():
        return None
    groups: dict[str, slice] = {}
    end = 0
    manifest = read_manifest(data)
    for one in manifest.groups:
        groups[one.name] = slice(end, end + one.structures)
        end += one.structures
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    pbc = np.load(folder / "pbc.npy", mmap_mode="r", allow_pickle=False)
    periodic: npt.NDArray[np.bool_] = np.all(pbc, axis=1)
    species = {one.name: one.species for one in manifest.groups}
    return Outline(folder, groups, species, labels, periodic)
