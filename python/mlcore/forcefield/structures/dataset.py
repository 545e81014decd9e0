"""Training data: structures with energies, forces and stresses, in groups, with their provenance."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from mlcore.errors import FileFormatError, InvalidArgument
from mlcore.forcefield.structures.extxyz import frame_text, read_frames
from mlcore.forcefield.structures.labels import LABELS, labels, take_labels
from mlcore.forcefield.structures.manifest import (
    GROUP_NAME,
    NOWHERE,
    Counts,
    GroupRecord,
    Manifest,
    Provenance,
)
from mlcore.io.atomic import atomic_directory
from mlcore.io.tensors import parse_json, read_bytes
from mlcore.io.toml import wrong_fields

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["MANIFEST", "Dataset", "Group", "species"]

MANIFEST = "manifest.json"
_MANIFEST_BYTES = 64 << 20


@dataclass(frozen=True)
class Group:
    """Structures of one kind or origin; what a fit gives weights to.

    Attributes:
        structures: `ase.Atoms`, labelled (see `mlcore.forcefield.structures.labels`).
        provenance: where they come from.
    """

    structures: tuple[Atoms, ...]
    provenance: Provenance = NOWHERE

    def text(self) -> tuple[str, list[str]]:
        """The group as extxyz, and what that cannot hold."""
        texts, lost = [], []
        for k, atoms in enumerate(self.structures):
            text, missing = frame_text(atoms)
            texts.append(text)
            lost += [f"structure {k}: {what} left behind" for what in missing]
        return "".join(texts), lost


def species(atoms: Atoms) -> list[str]:
    """What each atom is: the array `species` where there is one (names of beads), else its symbol."""
    if "species" in atoms.arrays:
        return [str(name) for name in atoms.arrays["species"]]
    return list(atoms.symbols)


class Dataset:
    """Labelled structures in named groups.

    Args:
        groups: structures (or a `Group`) by name of the group. Structures are copied; labels are
            taken from their calculators or from `energy`, `forces`, `stress`, `virial` and `REF_*`
            in info and arrays.
        name, description: for people.

    Raises:
        InvalidArgument: a bad name of a group, an empty group, something that is no structure, or
            labels that cannot be told (two names with different values) or have a wrong shape.
    """

    def __init__(
        self,
        groups: Mapping[str, Group | Iterable[Atoms]] | None = None,
        *,
        name: str = "",
        description: str = "",
    ) -> None:
        self.name = name
        self.description = description
        self.groups: dict[str, Group] = {}
        for key, group in (groups or {}).items():
            self.groups[_checked_name(key, self.groups)] = _normal(key, group)

    # ------------------------------------------------------------------------------- looking
    def __len__(self) -> int:
        return sum(len(g.structures) for g in self.groups.values())

    def __iter__(self) -> Iterator[Atoms]:
        for group in self.groups.values():
            yield from group.structures

    def __getitem__(self, name: str) -> list[Atoms]:
        """The structures of a group."""
        if name not in self.groups:
            raise InvalidArgument(f"group: no {name!r}; there are {', '.join(self.groups)}")
        return list(self.groups[name].structures)

    @property
    def structures(self) -> list[Atoms]:
        """All structures, group by group."""
        return list(self)

    @property
    def group_of(self) -> list[str]:
        """Name of the group of each structure."""
        return [name for name, group in self.groups.items() for _ in group.structures]

    @property
    def species(self) -> tuple[str, ...]:
        """Elements and beads, sorted."""
        return tuple(sorted({s for atoms in self for s in species(atoms)}))

    @property
    def hash(self) -> str:
        """SHA-256 of the names and structures of the groups; their order does not matter."""
        return _whole({name: _sha256(g.text()[0]) for name, g in self.groups.items()})

    def __repr__(self) -> str:
        return (
            f"Dataset({len(self)} structures in {len(self.groups)} groups, "
            f"{sum(map(len, self))} atoms of {' '.join(self.species)})"
        )

    def table(self) -> str:
        """One line per group: structures, atoms, labels, source."""
        rows: list[tuple[str, ...]] = [("group", "structures", "atoms", *LABELS, "source")]
        for name, group in self.groups.items():
            counts = _counts(group.structures)
            told = (str(getattr(counts, label)) for label in LABELS)
            sizes = (str(len(group.structures)), str(sum(map(len, group.structures))))
            rows.append((name, *sizes, *told, group.provenance.source))
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        lines = ("  ".join(w.ljust(n) for w, n in zip(r, widths, strict=True)) for r in rows)
        return "\n".join(line.rstrip() for line in lines)

    # ------------------------------------------------------------------------------- choosing
    def filter(self, keep: Callable[[Atoms], bool]) -> Dataset:
        """Those structures that `keep` is true of; groups left empty are gone."""
        return self._chosen([bool(keep(atoms)) for atoms in self])

    def only(self, *names: str) -> Dataset:
        """These groups."""
        for name in names:
            self[name]
        return self._chosen([name in names for name in self.group_of])

    def merge(self, other: Dataset) -> Dataset:
        """Both together.

        Raises:
            InvalidArgument: a group of one name is in both with different provenance.
        """
        groups = dict(self.groups)
        for name, group in other.groups.items():
            mine = groups.get(name)
            if mine is not None and mine.provenance != group.provenance:
                raise InvalidArgument(
                    f"other: group {name!r} is here with another provenance; rename one of them"
                )
            before = () if mine is None else mine.structures
            groups[name] = Group((*before, *group.structures), group.provenance)
        return Dataset(groups, name=self.name, description=self.description)

    def joined(self, name: str, group: Group) -> Dataset:
        """With the structures of `group` added to the group `name`, and where they come from."""
        mine = self.groups[name] if name in self.groups else Group(())
        both = Group(
            (*mine.structures, *group.structures), mine.provenance.joined(group.provenance)
        )
        return Dataset({**self.groups, name: both}, name=self.name, description=self.description)

    def renamed(self, names: Mapping[str, str]) -> Dataset:
        """With groups called `names[old]`."""
        for old in names:
            self[old]
        new = [names.get(old, old) for old in self.groups]
        if len(set(new)) < len(new):
            raise InvalidArgument("names: two groups would have one name; merge them")
        groups = dict(zip(new, self.groups.values(), strict=True))
        return Dataset(groups, name=self.name, description=self.description)

    def split(
        self, fraction: float = 0.2, *, by: str = "structure", seed: int = 0
    ) -> tuple[Dataset, Dataset]:
        """Two parts: the larger one and `fraction` of the whole, chosen by chance.

        Args:
            fraction: in (0, 1).
            by: "structure": of each group this fraction, to the nearest whole number (at least
                one, where a group has two or more); "group": whole groups.
            seed: the same seed gives the same parts, whatever the order of the groups.
        """
        if not 0 < fraction < 1:
            raise InvalidArgument(f"fraction must lie between 0 and 1, not {fraction}")
        if by == "group":
            names = sorted(self.groups)
            if len(names) < 2:
                raise InvalidArgument("by: 'group' needs at least two groups")
            count = min(max(1, round(fraction * len(names))), len(names) - 1)
            picks = np.random.default_rng(seed).permutation(len(names))[:count]
            held = {names[k] for k in picks}
            mask = [name in held for name in self.group_of]
        elif by == "structure":
            mask = self._fractions(fraction, seed)
        else:
            raise InvalidArgument(f"by must be 'structure' or 'group', not {by!r}")
        return self._chosen([not m for m in mask]), self._chosen(mask)

    def folds(self, k: int = 5, *, seed: int = 0) -> list[tuple[Dataset, Dataset]]:
        """k pairs (all others, one k-th) for cross-validation; each structure is held out once."""
        if not 2 <= k <= len(self):
            raise InvalidArgument(f"k must lie in 2..{len(self)}, the structures, not {k}")
        fold = np.zeros(len(self), dtype=int)
        fold[np.random.default_rng(seed).permutation(len(self))] = np.arange(len(self)) % k
        return [(self._chosen(fold != f), self._chosen(fold == f)) for f in range(k)]

    def _fractions(self, fraction: float, seed: int) -> list[bool]:
        masks = (
            fraction_of(name, len(group.structures), fraction, seed).tolist()
            for name, group in self.groups.items()
        )
        return [held for mask in masks for held in mask]

    def _chosen(self, mask: Iterable[bool]) -> Dataset:
        marks = iter(mask)
        groups: dict[str, Group | Iterable[Atoms]] = {}
        for name, group in self.groups.items():
            kept = tuple(atoms for atoms in group.structures if next(marks))
            if kept:
                groups[name] = Group(kept, group.provenance)
        return Dataset(groups, name=self.name, description=self.description)

    # ------------------------------------------------------------------------------- on disk
    def save(self, folder: str | os.PathLike[str]) -> list[str]:
        """Writes the folder, whole or not at all; replaces a data set that is there.

        Returns:
            what the files cannot hold (such as objects in info), in words; these words are also
            kept in the provenance of the group.

        Raises:
            InvalidArgument: no structures, or the folder holds something else.
            Error: it cannot be written.
        """
        target = Path(folder)
        if not len(self):
            raise InvalidArgument("a data set without structures cannot be saved")
        if target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file():
            raise InvalidArgument(f"folder: {target} holds files, but no data set")
        lost: list[str] = []
        records: list[GroupRecord] = []
        with atomic_directory(target) as temporary:
            for name, group in self.groups.items():
                text, missing = group.text()
                lost += [f"group {name}, {what}" for what in missing]
                record = _record(name, group, text, missing, [r.file for r in records])
                records.append(record)
                (temporary / record.file).write_bytes(text.encode())
            manifest = Manifest(
                name=self.name,
                description=self.description,
                groups=tuple(records),
                hash=_whole({r.name: r.sha256 for r in records}),
            )
            written = json.dumps(manifest.model_dump(mode="json"), indent=1, allow_nan=False)
            (temporary / MANIFEST).write_text(written + "\n", encoding="utf-8")
        return lost

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Reads a folder written by `save`; every hash and count is checked.

        Raises:
            FileFormatError: no manifest, a wrong field, a file that is absent, changed or cut;
                the message names it.
        """
        manifest = read_manifest(folder)
        groups: dict[str, Group | Iterable[Atoms]] = {}
        for record in manifest.groups:
            groups[record.name] = _load_group(Path(folder) / record.file, record)
        return cls(groups, name=manifest.name, description=manifest.description)


def fraction_of(group: str, count: int, fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """(count,) which structures of a group `Dataset.split` puts into the smaller part."""
    most = min(max(1, round(fraction * count)), count - 1)
    key = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "big")
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[np.random.default_rng([seed, key]).permutation(count)[:most]] = True
    return chosen


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """The manifest of a data set on disk, checked; the files are not read.

    Raises:
        FileFormatError: naming the field.
    """
    path = Path(folder) / MANIFEST
    table = parse_json(read_bytes(path, _MANIFEST_BYTES, "manifest"), str(path))
    version = table.get("schema_version") if isinstance(table, dict) else None
    if isinstance(version, int) and version > 1:
        raise FileFormatError(f"{path}: schema_version {version} is newer than this program's, 1")
    try:
        manifest = Manifest.model_validate(table)
    except ValidationError as error:
        raise FileFormatError(f"{path}: {wrong_fields(error)}") from None
    if manifest.hash != _whole({g.name: g.sha256 for g in manifest.groups}):
        raise FileFormatError(f"{path}: hash is not that of the groups; the manifest was changed")
    return manifest


def _load_group(path: Path, record: GroupRecord) -> Group:
    found = _file_sha256(path)
    if found != record.sha256:
        raise FileFormatError(
            f"{path}: the file was changed: its SHA-256 is {found[:12]}..., "
            f"the manifest tells {record.sha256[:12]}..."
        )
    try:
        structures = tuple(take_labels(atoms)[0] for atoms in read_frames(path))
    except InvalidArgument as error:
        raise FileFormatError(f"{path}: {error}") from error
    atoms = sum(map(len, structures))
    if (len(structures), atoms) != (record.structures, record.atoms):
        raise FileFormatError(
            f"{path}: {len(structures)} structures of {atoms} atoms, the manifest tells "
            f"{record.structures} of {record.atoms}"
        )
    return Group(structures, record.provenance)


def _record(
    name: str, group: Group, text: str, lost: list[str], files: Sequence[str]
) -> GroupRecord:
    notes = group.provenance.notes
    added = tuple(note for note in lost if note not in notes)
    return GroupRecord(
        name=name,
        file=_file_name(name, files),
        sha256=_sha256(text),
        structures=len(group.structures),
        atoms=sum(map(len, group.structures)),
        species=tuple(sorted({s for atoms in group.structures for s in species(atoms)})),
        labels=_counts(group.structures),
        provenance=group.provenance.model_copy(update={"notes": notes + added}),
    )


def _counts(structures: Iterable[Atoms]) -> Counts:
    known = [labels(atoms).known() for atoms in structures]
    return Counts(**{name: sum(name in k for k in known) for name in LABELS})


def _file_name(group: str, taken: Sequence[str]) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", group)
    used = {name.lower() for name in taken}
    k = 1
    while (name := f"{stem}{'' if k == 1 else f'-{k}'}.extxyz").lower() in used:
        k += 1
    return name


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise FileFormatError(f"{path}: {error.strerror or error}") from error


def _whole(hashes: Mapping[str, str]) -> str:
    return _sha256(json.dumps(sorted(hashes.items()), separators=(",", ":")))


def _checked_name(name: str, others: Mapping[str, object]) -> str:
    if not isinstance(name, str) or not GROUP_NAME.fullmatch(name):
        raise InvalidArgument(
            f"groups: name {name!r:.120} must be letters, digits, spaces and . _ + -, at most 100, "
            "with a letter or digit at the front"
        )
    if name.lower() in {other.lower() for other in others}:
        raise InvalidArgument(f"groups: name {name!r} occurs twice (capitals do not count)")
    return name


def _normal(name: str, group: Group | Iterable[Atoms]) -> Group:
    from ase import Atoms

    given = group if isinstance(group, Group) else Group(_listed(name, group))
    if not given.structures:
        raise InvalidArgument(f"group {name!r} has no structures")
    structures = []
    for k, atoms in enumerate(given.structures):
        if not isinstance(atoms, Atoms) or not len(atoms):
            raise InvalidArgument(
                f"group {name!r}, structure {k} must be ase.Atoms with atoms, not {atoms!r:.60}"
            )
        try:
            structures.append(take_labels(atoms)[0])
        except InvalidArgument as error:
            raise InvalidArgument(f"group {name!r}, structure {k}: {error}") from error
    return Group(tuple(structures), given.provenance)


def _listed(name: str, structures: Iterable[Atoms]) -> tuple[Atoms, ...]:
    from ase import Atoms

    if isinstance(structures, Atoms) or not isinstance(structures, Iterable):
        raise InvalidArgument(f"group {name!r} must be a list of ase.Atoms")
    return tuple(structures)
